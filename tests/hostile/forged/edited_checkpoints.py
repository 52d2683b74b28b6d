"""Checkpoints changed by a thousandth, with digests that fit.

Tries: whoever only compares digests finds nothing.
Must happen: what is recorded after a checkpoint does not follow from it.
"""

from dataclasses import replace

from hostile.forging import noisy
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    checkpoints = noisy(work.run.checkpoint_parameters, 0.001)
    checkpoints[0] = work.run.checkpoint_parameters[0]
    work.hand_in_run(replace(work.run, checkpoint_parameters=checkpoints))
