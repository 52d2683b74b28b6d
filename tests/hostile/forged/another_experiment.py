"""A run of another experiment: a shorter, wider network that learns faster.

Tries: a run of the own seed that is easier to get.
Must happen: the assignment's experiment counts, not the file's.
"""

from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(trained(work.student, widths=(784, 4, 10), learning_rate=0.01))
