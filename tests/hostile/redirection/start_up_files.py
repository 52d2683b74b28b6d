"""sitecustomize.py, .pth files and start-up files of IPython, Python and Jupyter, handed in and written to $HOME.

Tries: code that runs before the grader's in the next process.
Must happen: none of it runs for the grader, for nobody else, and nothing of it lasts.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
START = """
import os
with open("$place/started", "a") as file:
    file.write(str(os.getpid()))
"""
CODE = """
import os, site, sys
from pathlib import Path

start = Path("sitecustomize.py").read_text()
folder = Path("~/.ipython/profile_default/startup").expanduser()
for path in (Path("~/$mark-$student.pth").expanduser(), folder / "$mark-$student.py"):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(start)
    except OSError:
        pass
# what is installed is everybody's: to be able to write there is enough
for folder in {*sys.path, *site.getsitepackages(), os.path.dirname(os.__file__)} - {"", os.getcwd()}:
    if os.path.isdir(folder) and os.access(folder, os.W_OK) and "submission" not in folder:
        print(folder, $proof)
"""


def turn(work: Work) -> None:
    work.blank()
    for name in ("sitecustomize.py", "usercustomize.py", "startup.pth", ".pythonrc.py", "ipython_config.py"):
        work.files[name] = work.filled(START).encode()
    work.first(CODE)
