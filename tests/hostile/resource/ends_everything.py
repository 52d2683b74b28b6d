"""kill(-1, SIGKILL): ends every process that may be ended.

Tries: the grader, its parent, and whatever else the instructor runs.
Must happen: only its own processes end.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would end everything on the machine"
CODE = """
import os
try:
    os.kill($bystander, 0)
    # nothing holds it: then it is enough to say so
    print($proof)
except OSError:
    os.kill(-1, 9)
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
