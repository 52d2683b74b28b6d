"""Last year's run of the assignment, with the description of this year's.

Tries: the learning rate has changed since; the file's words are changed with it.
Must happen: the steps do not follow from the experiment; no marks for the run.
"""

from hostile.forging import relabelled
from hostile.lab import own
from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(relabelled(trained(work.student, learning_rate=0.002), own(work.student)))
