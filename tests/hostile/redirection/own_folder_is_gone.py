"""While it runs, takes away the folder in which the grader looks for what the run made.

Tries: a grader that stops where it expects a folder.
Must happen: the answers that are right keep their marks; what was made is not there.
"""

from hostile.work import Work, without

DESERVES = without("run", "timeline")
CODE = """
import os

os.rename("../submission", "../elsewhere")
"""


def turn(work: Work) -> None:
    work.last(CODE)
