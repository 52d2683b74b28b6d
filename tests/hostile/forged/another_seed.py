"""The own run from the best of several seeds.

Tries: a seed that looks better.
Must happen: the seed follows from the student; no marks for the run.
"""

from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(min((trained(work.student, seed=seed) for seed in range(3)), key=lambda run: run.loss[-1]))
