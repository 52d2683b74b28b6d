"""The first half of the own run, the second half of another's.

Tries: the start is right, and so is the end of a run that went well.
Must happen: the halves do not fit together.
"""

from hostile.forging import rows_of
from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(rows_of(work.run, trained("zoe"), work.run.iterations // 2))
