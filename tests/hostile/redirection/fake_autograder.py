"""An autograder of its own in the submission's folder, which is content with everything.

Tries: the grader might import its own code from where the student's files lie.
Must happen: the installed one grades.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
FAKE = """
import os, sys
open("$place/autograder-was-imported", "w").close()
class Always:
    def __getattr__(self, name): return Always()
    def __call__(self, *_, **__): return Always()
sys.modules[__name__] = Always()
"""


def turn(work: Work) -> None:
    work.wrong()
    content = work.filled(FAKE).encode()
    for name in ("autograder.py", "nbgrader.py", "nbgrader_config.py", "jupyter_config.py", "conftest.py", "lab.py"):
        work.files[name] = content
    work.files["workspace.json"] = b"{}"
