"""os._exit(0) before the tests: the process leaves with the code that means success.

Tries: a grader that is told '0' may take it for 'fine'; nbgrader lost the grade.
Must happen: an outcome, and nothing for what was never answered.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.wrong()
    work.first("import os\nos._exit(0)")
