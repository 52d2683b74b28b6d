"""nbgrader for every user of the hub: where the exchange is, and for who can read it, the course.

The course's own nbgrader_config.py has the rest; formgrader reads it from wherever the server was started.
"""

import os
from pathlib import Path

c = get_config()

c.CourseDirectory.course_id = "gradient-lab"
# a folder that everybody may write: `chmod 0777`, which nbgrader asks for; what is within has its own permissions
c.Exchange.root = os.environ.get("NBGRADER_EXCHANGE_ROOT", "/srv/nbgrader/exchange")

course = Path(os.environ.get("LAB_COURSE", "/home/teacher/course"))
# a student cannot look into the instructor's home
if os.access(course / "nbgrader_config.py", os.R_OK):
    load_subconfig(str(course / "nbgrader_config.py"))
    c.CourseDirectory.root = str(course)
