"""Another student's run, as it is.

Tries: a training is a training.
Must happen: the seed is not this student's; no marks for the run.
"""

from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(trained("zoe"))
