"""The second half of another run, its checkpoints and epochs included.

Tries: as before, by someone who has understood what is replayed.
Must happen: one step leads from one half into the other, and it is no step of the optimiser.
"""

from dataclasses import replace

from hostile.forging import rows_of
from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    mine, other = work.run, trained("zoe")
    half = mine.epochs // 2
    mixed = rows_of(mine, other, int(mine.epoch_end[half - 1]))
    arrays = {}
    for name in ("batch_counts", "batch_range"):
        arrays[name] = getattr(mine, name).copy()
        arrays[name][half:] = getattr(other, name)[half:]
    for name in ("probe_gradient", "probe_counts", "probe_loss", "accuracy", "output_error", "hidden", "weight",
                 "weight_counts"):  # fmt: skip
        arrays[name] = getattr(mine, name).copy()
        arrays[name][half + 1 :] = getattr(other, name)[half + 1 :]
    later = mine.checkpoint_iteration > mine.epoch_end[half - 1]
    for name in ("checkpoint_parameters", "checkpoint_moments"):
        arrays[name] = getattr(mine, name).copy()
        arrays[name][later] = getattr(other, name)[later]
    work.hand_in_run(replace(mixed, **arrays))
