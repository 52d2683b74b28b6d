"""The audit: secret stretches of a recording are run again, and everything that was recorded in them is compared.

A stretch is an epoch: from one checkpoint to the next. Which are drawn follows from a salt that no student knows and
from the recording's digest, so a regrade draws the same, and whoever changes a recording has others drawn. Data and
hyper-parameters are the grader's, never the file's. What an audit proves, and what it cannot, is in docs/audit.md.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labkit import deviations
from labkit.deviations import OF_ITERATIONS, QUANTITIES, SOON, Deviations, Quantity
from labkit.experiments import Experiment
from labkit.propagation import Floats
from labkit.recording import Recording
from labkit.replay import Replay, replay

STRETCHES = 8  # of S1's 50: a recording with a share f of forged epochs passes with a probability of (1 - f)^8
TOGETHER = 8  # networks side by side: their parameters stay in the processor's cache


@dataclass(frozen=True)
class Finding:
    """One figure that is not what the replay gives; `sentence` is for the student."""

    iteration: int  # from 1
    layer: str  # "" for what is one figure for the whole network
    quantity: Quantity
    deviation: float  # in the quantity's own scale
    recorded: float | None  # None for what is more than one figure
    replayed: float | None

    @property
    def sentence(self) -> str:
        what = f"{self.quantity.words} of {self.layer}" if self.layer else self.quantity.words
        if self.recorded is None:
            return f"{what} after iteration {self.iteration} is not what a replay of your run gives"
        return (
            f"{what} at iteration {self.iteration} is recorded as {self.recorded:.4g}, "
            f"a replay of your run gives {self.replayed:.4g}"
        )


@dataclass(frozen=True, eq=False)
class Audit:
    """What was looked at, and what was found."""

    stretches: tuple[int, ...]  # epochs, from 0
    findings: tuple[Finding, ...]  # the first of each stretch that has one


def draw(salt: bytes, digest: str, stretches: Sequence[int], count: int = STRETCHES) -> tuple[int, ...]:
    """`count` of a recording's stretches, or all when there are no more, in order.

    Only who knows the salt knows which. The recording's digest is part of the draw: it changes with every byte.
    """

    def lot(stretch: int) -> bytes:
        return hmac.new(salt, f"{digest}\0{stretch}".encode(), "sha256").digest()

    return tuple(sorted(sorted(stretches, key=lot)[:count]))


def stretches_of(recording: Recording) -> range:
    """The epochs that begin at a checkpoint, with an iteration whose figures are finite."""
    ends = [0, *recording.epoch_end.tolist()]
    finite = deviations.finite_iterations(recording)
    taken = set(recording.checkpoint_iteration.tolist())
    begun = [end in taken and end < finite for end in ends]
    return range(begun.index(False) if False in begun else len(begun))


def audit(recording: Recording, experiment: Experiment, stretches: Sequence[int]) -> Audit:
    """Replay these epochs of a recording as the grader's experiment has them, in its own kind of numbers.

    Where rounding decides how a stretch goes on, nothing can be compared. An honest run of most experiments has no
    such stretch: so when one turns up, every other stretch is looked at, too, the one that led there among them.
    """
    findings, stormy = _look(recording, experiment, stretches)
    if findings or not stormy:
        return Audit(tuple(stretches), findings)
    rest = [epoch for epoch in stretches_of(recording) if epoch not in stretches]
    findings, _ = _look(recording, experiment, rest)
    return Audit(tuple(sorted([*stretches, *rest])), findings)


def _look(recording: Recording, e: Experiment, stretches: Sequence[int]) -> tuple[tuple[Finding, ...], bool]:
    """The first finding of each stretch, and whether rounding decided how one goes on."""
    at = {int(done): index for index, done in enumerate(recording.checkpoint_iteration)}
    findings, stormy = [], False
    # beyond the first figures that are not finite nothing can be compared
    steps = min(e.iterations_per_epoch, deviations.finite_iterations(recording))
    for first in range(0, len(stretches), TOGETHER):
        chosen = [at[epoch * e.iterations_per_epoch] for epoch in stretches[first : first + TOGETHER]]
        found, open_ended = mismatches(recording, e, chosen, steps)
        findings += [mismatch.finding for mismatch in found]
        stormy = stormy or open_ended
    return tuple(findings), stormy


@dataclass(frozen=True, eq=False)
class Mismatch:
    """A stretch that is not what was recorded."""

    finding: Finding
    again: Replay  # of this stretch alone


def mismatches(
    recording: Recording, e: Experiment, checkpoints: Sequence[int], steps: int
) -> tuple[list[Mismatch], bool]:
    """The stretches of `steps` iterations from these checkpoints that have a first figure that is off, and whether
    rounding decided how one of them goes on.

    They are replayed in the experiment's own kind of numbers. What is off there is looked at again in float64, which
    adds no rounding of its own to the recording's, on the sides of its kinks that the recording took, as far as
    rounding does not decide. What is off even so counts, unless rounding decides on one of those sides.
    """
    first = replay(recording, checkpoints, steps, e, e.dtype, closely=False)
    mismatched, stormy = [], deviations.leaps(recording, first)
    off = deviations.compare(recording, first)
    for k, finding in enumerate(_firsts(recording, first, off)):
        if finding is None:
            continue
        calm = deviations.calm(recording, checkpoints[k], min(SOON, steps), e)
        if not calm.all():
            calm = np.append(calm, np.zeros(steps - len(calm), dtype=bool))
        elif _mended(recording, checkpoints[k], steps, e, off.suspicion()[k]):
            continue
        else:
            calm = deviations.calm(recording, checkpoints[k], steps, e)
        rows = int(calm.sum())
        stormy = stormy or rows < len(calm)
        if deviations.first_suspicious(off.suspicion()[k]) >= rows < len(calm):
            continue
        again = deviations.follow(recording, [checkpoints[k]], rows, e)
        # behind a step that is a leap in float64 alone, nothing was compared either
        stormy = stormy or deviations.leaps(recording, again)
        (finding,) = _firsts(recording, again, deviations.compare(recording, again))
        if finding is None:
            continue
        if again.turned[0]:
            calm = deviations.calm(recording, checkpoints[k], rows, e, again.turned[0])
            stormy = stormy or not calm.all()
        if calm[finding.iteration - int(again.start[0]) - 1]:
            mismatched.append(Mismatch(finding, again))
    return mismatched, stormy


def _mended(recording: Recording, checkpoint: int, steps: int, e: Experiment, suspicion: Floats) -> bool:
    """Is it a kink that is near, and nothing else? That is found sooner than a storm is ruled out; but where rounding
    swelled beforehand, there is more than one kink to try."""
    if deviations.first_suspicious(suspicion) != deviations.first_suspicious(suspicion, deviations.CERTAIN):
        return False
    again = deviations.follow(recording, [checkpoint], steps, e, far=False)
    (finding,) = _firsts(recording, again, deviations.compare(recording, again))
    return finding is None and not deviations.leaps(recording, again)


def _firsts(recording: Recording, again: Replay, off: Deviations) -> list[Finding | None]:
    """The first figure of each of K stretches that is off; what stands at its end comes last."""
    wrong = {
        name: ~(off.iterations[name] <= QUANTITIES[name].tolerance) & off.shared[..., None] for name in OF_ITERATIONS
    }
    found: list[Finding | None] = []
    for k in range(len(again.start)):
        rows = np.stack([values[k].any(axis=-1) for values in wrong.values()])
        if rows.any():
            row = int(rows.any(axis=0).argmax())
            name = list(wrong)[int(rows[:, row].argmax())]
            where = k, row, int(wrong[name][k, row].argmax())
            found.append(_finding(recording, again, name, where, off.iterations[name]))
        else:
            found.append(_at_end(recording, again, k, off.ends) if off.shared[k].all() else None)
    return found


def _finding(recording: Recording, again: Replay, name: str, where: tuple[int, int, int], off: Floats) -> Finding:
    k, row, layer = where
    number = int(again.start[k]) + row
    found = deviations.recorded(recording, name, number)
    true = deviations.replayed(again, name)
    return Finding(
        number + 1,
        recording.layers[layer] if true.shape[-1] > 1 else "",
        QUANTITIES[name],
        float(off[where]),
        float(found[layer]),
        float(true[where]),
    )


def _at_end(recording: Recording, again: Replay, k: int, ends: Mapping[str, Floats]) -> Finding | None:
    """What stands at the end of a stretch and does not follow from it; nothing where no epoch ended."""
    for name, off in ends.items():
        wrong = off[k] > QUANTITIES[name].tolerance
        if wrong.any():
            layer, end = int(wrong.argmax()), int(again.start[k]) + again.loss.shape[1]
            return Finding(end, recording.layers[layer], QUANTITIES[name], float(off[k, layer]), None, None)
    return None
