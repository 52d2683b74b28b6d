"""While it runs, puts a link to what the grader keeps of a classmate in the place of its own folder.

Tries: what the run made is read where the link leads, and a classmate's timeline counts.
Must happen: no link is followed; nothing is earned by it.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import os

os.chdir("..")
os.rename("submission", "elsewhere")
os.symlink("$course/results/trial/made/ada", "submission")
"""


def turn(work: Work) -> None:
    work.last_after_wrong(CODE)
