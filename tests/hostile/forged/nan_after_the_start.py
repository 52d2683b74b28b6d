"""True for five iterations, NaN from then on: nothing is left that could be replayed.

Tries: a run that breaks down has fewer checkpoints and fewer figures to hold it against.
Must happen: a replay goes on where the recording says that it broke down.
"""

from dataclasses import replace

import numpy as np
from hostile.forging import BY_ITERATION
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    arrays = {name: getattr(work.run, name).copy() for name in BY_ITERATION}
    for values in arrays.values():
        values[5:] = np.nan
    origin = replace(work.run.origin, stopped="the loss is not finite since epoch 1")
    work.hand_in_run(replace(work.run, origin=origin, **arrays))
