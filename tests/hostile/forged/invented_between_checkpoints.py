"""True at every checkpoint and two steps after it, smoothed in between.

Tries: only what follows a checkpoint is replayed; the curves between may be as one wishes.
Must happen: any iteration can be replayed, and the student cannot know which.
"""

from dataclasses import replace

import numpy as np
from hostile.forging import AMPLITUDES
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    r = work.run
    size = r.gradient[:, :, [1]]
    smooth = np.stack([np.convolve(size[:, k, 0], np.ones(5) / 5, "same") for k in range(size.shape[1])], axis=1)
    gradient, loss = r.gradient.copy(), r.loss.copy()
    true = np.zeros(r.iterations, dtype=bool)
    for taken in r.checkpoint_iteration:
        true[taken : taken + 2] = True
    gradient[~true, :, AMPLITUDES] *= (smooth[:, :, None] / size)[~true]
    loss[~true] *= 0.97
    work.hand_in_run(replace(r, gradient=gradient, loss=loss))
