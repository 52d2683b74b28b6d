"""NaN at every place, and a remark that the loss was not finite.

Tries: comparisons with NaN are neither true nor false; a run may break down honestly.
Must happen: refused; this experiment does not break down.
"""

from dataclasses import replace

import numpy as np
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    arrays = {name: np.full_like(getattr(work.run, name), np.nan) for name in ("loss", "gradient", "update_norm",
              "weight_norm", "weight_dot_gradient", "bias_dot_gradient", "probe_loss", "accuracy")}  # fmt: skip
    origin = replace(work.run.origin, stopped="the loss is not finite since epoch 1")
    work.hand_in_run(replace(work.run, origin=origin, **arrays))
