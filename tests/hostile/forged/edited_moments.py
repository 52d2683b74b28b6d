"""The optimiser's state at the checkpoints doubled, with digests that fit.

Tries: the weights are held against the figures; are the moments?
Must happen: the next steps do not follow from them.
"""

from dataclasses import replace

from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(replace(work.run, checkpoint_moments=2 * work.run.checkpoint_moments))
