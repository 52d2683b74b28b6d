"""How far is a recording from its replay? Each figure's difference in units of its own scale, and what is tolerated.

Scales are a layer's own, because gradients of a vanishing network differ by powers of ten from layer to layer, and the
largest that it had so far in the stretch: rounding of one iteration is carried into those that follow. Counts have no
scale: a histogram is held between those of bins that are a little wider and a little narrower.

Where a figure is further off than rounding explains, the kinks beside which rounding had to choose are tried on their
other side (see `labkit.replay`); the side that the recording took is kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labkit.experiments import Experiment
from labkit.propagation import Floats, Kink
from labkit.recording import HIDDEN_STATISTICS, STATISTICS, Origin, Recording, RecordingError
from labkit.replay import Probes, Replay, matrices_of, probe, replay

_SD, _NORM, _MAX = (STATISTICS.index(name) for name in ("sd", "norm", "abs_max"))
_TINY = float(np.finfo(np.float32).tiny)  # a network that died has gradients and updates of exactly 0
# A step that throws weights further than this share of a layer's own norm makes the rounding of float32 as large, and
# what follows another run; a training that learns moves its weights by a hundredth of it and less.
LEAP = 0.5
CERTAIN = 1.0  # times the tolerance: beyond it, a stretch has its kinks tried on their other side,
SUSPICIOUS = 0.1  # beginning with those before the first iteration that is beyond this
MOST_KINKS = 24  # that are tried, the latest before the mismatch,
AT_A_TIME = 6  # until one of them mends it
ROUNDS = 8  # kinks that may lie on another side in one stretch
SHAKE = float(np.finfo(np.float32).eps)
TWINS = (0.0, *[SHAKE] * 3)  # a replay and its twins: in some directions rounding grows that it does not in others
PROBE_TWINS = (0.0, *[4 * SHAKE] * 3)  # of the probe batch, where no step follows that is rounded, too
STORMY = 0.25  # of the tolerance: twice what so many roundings make of S1's networks within an epoch
LOUD = 100.0  # nats: float32 tells the differences of such logits, and with them the softmax, no finer than 1e-5
# iterations that are looked at first: where a run explodes, it does so within them, and mostly at once
AT_ONCE, SOON = 2, 5
AHEAD = 3  # iterations before that count as stormy, too: a kink may be passed that no twin passed
ROUNDED = 1e-4  # of a layer's norm: where a step is shorter, what is left of it beside the weights is rounding
STAY = 1e-3  # of a layer's norm, added to the way it went: a network that hardly moves is rounded as coarsely


@dataclass(frozen=True)
class Quantity:
    """Something recorded that a replay gives again."""

    words: str  # as a sentence names it
    scale: str  # what its deviation is measured in
    tolerance: float  # the largest deviation of an honest recording, with room: benchmarks/tolerance.py measures both


# In the order in which a mismatch is looked for: what comes first says most about its cause.
OF_ITERATIONS: Mapping[str, Quantity] = {
    "abs_mean": Quantity("mean |gradient|", "its sd", 1e-4),
    "mean": Quantity("the mean gradient", "its sd", 5e-5),
    "sd": Quantity("the sd of the gradient", "itself", 2e-4),
    "norm": Quantity("the norm of the gradient", "itself", 2e-4),
    "abs_max": Quantity("max |gradient|", "itself", 2e-4),
    "zero_share": Quantity("the share of zeros", "all values", 3e-4),
    "nonfinite": Quantity("the count of not finite values", "one value", 0.5),
    "weight_norm": Quantity("the norm of the weights", "itself", 1e-4),
    "update_norm": Quantity("the norm of the update", "itself", 5e-4),
    "weight_dot_gradient": Quantity("sum w * gradient", "|w| |gradient| / sqrt(n)", 4e-4),
    "bias_dot_gradient": Quantity("sum b * gradient", "|b| |gradient|", 3e-4),
    "clip_factor": Quantity("the clip factor", "itself", 1e-4),
    "loss": Quantity("the loss", "itself", 2e-4),
}
OF_ENDS: Mapping[str, Quantity] = {
    "parameters": Quantity("the next checkpoint's parameters", "the way they went", 5e-4),
    "moments": Quantity("the next checkpoint's moments", "their norm", 3e-4),
    "batch_range": Quantity("the range of the last mini-batch's histogram", "its width", 2e-4),
    "batch_counts": Quantity("the last mini-batch's histogram", "all values", 5e-3),
}
OF_PROBES: Mapping[str, Quantity] = {
    "probe_loss": Quantity("the probe's loss", "itself", 4e-5),
    "accuracy": Quantity("the probe's accuracy", "all images", 3e-4),
    "output_error": Quantity("mean |p - y|", "itself", 1e-4),
    "hidden_abs_mean": Quantity("mean |h|", "the root mean square", 1e-4),
    "hidden_mean": Quantity("mean h", "the root mean square", 1e-4),
    "hidden_sd": Quantity("the sd of h", "the root mean square", 1e-4),
    "hidden_saturated": Quantity("the saturated share of h", "all values", 3e-4),
    "hidden_dead": Quantity("the share of dead units", "all units", 3e-4),
    "probe_abs_mean": Quantity("the probe's mean |gradient|", "its sd", 1e-4),
    "probe_mean": Quantity("the probe's mean gradient", "its sd", 5e-5),
    "probe_sd": Quantity("the probe's sd of the gradient", "itself", 2e-4),
    "probe_norm": Quantity("the probe's norm of the gradient", "itself", 2e-4),
    "probe_abs_max": Quantity("the probe's max |gradient|", "itself", 2e-4),
    "probe_zero_share": Quantity("the probe's share of zeros", "all values", 3e-4),
    "probe_nonfinite": Quantity("the probe's count of not finite values", "one value", 0.5),
    "through_time": Quantity("the gradient of what is carried through time", "itself", 1e-4),
    "weight": Quantity("mean or sd of the weights", "their sd", 1e-5),
    "probe_counts": Quantity("the histogram of the probe's gradient", "all values", 5e-3),
    "weight_counts": Quantity("the histogram of the weights", "all values", 5e-3),
}
QUANTITIES = {**OF_ITERATIONS, **OF_ENDS, **OF_PROBES}


def recorded(recording: Recording, name: str, at: Any) -> Floats:
    """What was recorded of a quantity of iterations, (..., L) or (..., 1), at iterations (...) from 0."""
    if name in STATISTICS:
        column: Floats = recording.gradient[at][..., STATISTICS.index(name)].astype(np.float64)
        return column
    values: Floats = getattr(recording, name)[at].astype(np.float64)
    return values if getattr(recording, name).ndim > 1 else values[..., None]


def replayed(again: Replay, name: str) -> Floats:
    """(K, N, L) or (K, N, 1) the same quantity of a replay."""
    if name in STATISTICS:
        return again.gradient[..., STATISTICS.index(name)]
    values: Floats = getattr(again, name)
    return values if values.ndim > 2 else values[..., None]


def of_iterations(recording: Recording, again: Replay) -> dict[str, Floats]:
    """(K, N, L) deviations by quantity, or (K, N, 1) of what is one for the whole network; see `comparable`."""
    at = np.minimum(again.start[:, None] + np.arange(again.loss.shape[1]), recording.iterations - 1)
    found = {name: recorded(recording, name, at) for name in OF_ITERATIONS}
    off = _in_scales(again, found)
    zeros = _zeros_off(found["zero_share"], replayed(again, "zero_share"), again.zero_most, again.last_gradient)
    return off | {"zero_share": zeros}


def _zeros_off(found: Floats, share: Floats, most: Floats, gradients: Sequence[Floats]) -> Floats:
    """How far shares of zeros (..., L) are below a replay's, or above the most that there can be in float32. Of a
    replay in float32, too, one value may be 0 by chance."""
    least = share - 1 / np.array([values.shape[-1] for values in gradients])
    return _outside(found, np.stack([least, most], axis=-1))


def _in_scales(again: Replay, found: Mapping[str, Floats]) -> dict[str, Floats]:
    with np.errstate(over="ignore", invalid="ignore"):
        scales = _scales(again)
        return {name: np.abs(found[name] - replayed(again, name)) / (scales[name] + _TINY) for name in OF_ITERATIONS}


def _scales(again: Replay) -> dict[str, Any]:
    found: dict[str, Any] = {name: _so_far(replayed(again, name)) for name in OF_ITERATIONS}
    norm, value = _so_far(again.least), _so_far(_least_value(again))
    spread = np.maximum(found["sd"], value)
    return found | {
        "update_norm": found["update_norm"] + ROUNDED * again.weight_norm,
        "abs_mean": spread,
        "mean": spread,
        "sd": spread,
        "norm": np.maximum(found["norm"], norm),
        "abs_max": np.maximum(found["abs_max"], value),
        "zero_share": 1.0,
        "nonfinite": 1.0,
        # n products of weights with what has nothing to do with them add up to about this
        "weight_dot_gradient": _so_far(again.weight_norm * np.maximum(again.gradient[..., _NORM], again.least))
        / _roots(again),
        "bias_dot_gradient": _so_far(again.bias_size),
    }


def _least_value(again: Replay) -> Floats:
    """(K, N, L) what the root mean square of dloss/dW is taken for, where it is less."""
    found: Floats = again.least / _roots(again)
    return found


def _roots(again: Replay) -> Floats:
    """(L,) the root of the number of weights of each layer."""
    found: Floats = np.sqrt([values.shape[-1] for values in again.last_gradient])
    return found


def _so_far(values: Floats) -> Floats:
    """The largest of values (K, N, ...) up to each iteration."""
    return np.maximum.accumulate(values, axis=1)


def comparable(recording: Recording, again: Replay) -> NDArray[np.bool_]:
    """(K, N) the iterations that an honest recording shares with its replay: those that it has, before its figures
    stop being finite, and before a leap in the same stretch."""
    return _before_it_breaks(recording, again) & ~_behind_a_leap(again)


def leaps(recording: Recording, again: Replay) -> bool:
    """Is there an iteration that cannot be compared because a leap came before it?"""
    return bool((_before_it_breaks(recording, again) & _behind_a_leap(again)).any())


def _before_it_breaks(recording: Recording, again: Replay) -> NDArray[np.bool_]:
    number = again.start[:, None] + np.arange(again.loss.shape[1])
    finite: NDArray[np.bool_] = number < finite_iterations(recording)
    return finite


def _behind_a_leap(again: Replay) -> NDArray[np.bool_]:
    leaps = ~(again.update_norm <= LEAP * again.weight_norm).all(axis=-1)
    behind = np.zeros_like(leaps)
    behind[:, 1:] = np.logical_or.accumulate(leaps, axis=1)[:, :-1]
    return behind


def calm(
    recording: Recording, checkpoint: int, steps: int, e: Experiment, turned: Sequence[Kink] = ()
) -> NDArray[np.bool_]:
    """(N,) the iterations of a stretch that rounding does not decide: a run that explodes magnifies it beyond bounds.

    Twins of the replay, moved by a rounding of float32 at first and by half a rounding of their own kind of numbers
    after every step, each in a direction of its own, tell: from where one of them is far from it, nothing can be said
    of a recording. (What is moved at first alone, or by a pattern whose sums cancel, stays near where an honest run
    does not.) Beside a kink they take its side: `follow` looks for the recording's, and whoever puts one value on a
    kink would have a storm otherwise. All have `turned` on the other side, for what is calm on one side of a kink may
    be a storm on the other.
    """
    steps = min(steps, e.iterations - int(recording.checkpoint_iteration[checkpoint]))
    quiet = 0
    for until in sorted({min(AT_ONCE, steps), min(SOON, steps), steps}):
        quiet = _quiet(recording, checkpoint, until, e, turned)
        if quiet < until:
            break
    return np.arange(steps) < quiet


def _quiet(recording: Recording, checkpoint: int, steps: int, e: Experiment, turned: Sequence[Kink]) -> int:
    """How many iterations of a stretch come before rounding decides."""
    count = len(TWINS)
    twins = replay(recording, [checkpoint] * count, steps, e, turned=[turned] * count, shake=TWINS)
    off = _in_scales(twins, {name: replayed(twins, name)[:1] for name in OF_ITERATIONS})
    # what they are moved by after a step stands in its norm: beside the step of a network that stands still, it is all
    with np.errstate(over="ignore", invalid="ignore"):
        moved = float(np.finfo(e.dtype).eps) / 2 * (twins.weight_norm + twins.update_norm)
        off["update_norm"] = np.maximum(0, off["update_norm"] - moved / (_scales(twins)["update_norm"] + _TINY))
    stormy = np.logical_or((worst(off) > STORMY).any(axis=0), ~(twins.loss <= LOUD).all(axis=0))
    return len(stormy) if not stormy.any() else max(0, int(stormy.argmax()) - AHEAD)


def finite_iterations(recording: Recording) -> int:
    """Iterations before the first that is not finite."""
    finite = np.isfinite(recording.gradient).all(axis=(1, 2)) & np.isfinite(recording.loss)
    return len(finite) if finite.all() else int(finite.argmin())


def of_ends(recording: Recording, again: Replay) -> dict[str, Floats]:
    """(K, L) deviations of what stands at the stretches' ends: the next checkpoints and the last mini-batches.

    They are NaN where there is no such checkpoint, or no epoch that was recorded ended. A checkpoint within an epoch,
    behind its first iteration, has its moments compared, and its parameters where there are none: a single step of
    Adam's or RMSprop's goes with a gradient's sign, which may be rounding (how Adam's follows from its moments is among
    `autograder.identities`).
    """
    ends = again.start + again.loss.shape[1]
    there = np.isin(ends, recording.checkpoint_iteration)
    closed = there & np.isin(ends, recording.epoch_end)
    if not there.any():
        return {name: np.full((len(ends), len(recording.layers)), np.nan) for name in OF_ENDS}
    began = np.searchsorted(recording.checkpoint_iteration, again.start)
    taken = np.minimum(np.searchsorted(recording.checkpoint_iteration, ends), len(recording.checkpoint_iteration) - 1)
    epochs = np.minimum(np.searchsorted(recording.epoch_end, ends), recording.epochs - 1)
    after = recording.checkpoint_parameters[taken].astype(np.float64)
    origin = recording.origin
    moments = recording.checkpoint_moments[taken].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        way = _by_layer(again.parameters - recording.checkpoint_parameters[began], origin)
        way = np.hypot(way, STAY * _by_layer(again.parameters, origin))
        moved = _by_layer(moments - again.moments, origin) / (_by_layer(again.moments, origin) + _TINY)
        off = {
            "parameters": (
                there if not origin.moments else closed,
                _by_layer(after - again.parameters, origin) / (way + _TINY),
            ),
            "moments": (there, moved.max(axis=1, initial=0.0)),
        }
        if closed.any():
            off |= {name: (closed, values) for name, values in _last_batch(recording, again, epochs).items()}
    found = {name: np.full((len(ends), len(recording.layers)), np.nan) for name in OF_ENDS}
    for name, (at, values) in off.items():
        found[name][at] = np.nan_to_num(values, nan=np.inf)[at]
    return found


def _by_layer(flat: Floats, origin: Origin) -> Floats:
    """(..., L) norm of all parameters that belong to each layer, in rows (..., P)."""
    ends = np.cumsum([math.prod(shape) for _, shape in origin.parameters])[:-1]
    owners = np.array(_owners(origin))
    squares = np.stack([_length(part) ** 2 for part in np.split(flat, ends, axis=-1)], axis=-1)
    return np.stack([np.sqrt(squares[..., owners == k].sum(axis=-1)) for k in range(len(origin.layers))], axis=-1)


def _owners(origin: Origin) -> list[int]:
    """The layer of each parameter. What follows a layer's bias and is no layer's own, as a normalisation's scale and
    shift, goes with that layer."""
    owners = list(range(len(origin.layers)))
    for name, _ in origin.parameters[len(owners) :]:
        layer = name.rpartition(".")[0]
        before = owners[-1] if len(owners) > len(origin.layers) else 0
        owners.append(origin.layers.index(layer) if layer in origin.layers else before)
    return owners


def _length(x: Floats) -> Floats:
    norm: Floats = np.linalg.norm(x, axis=-1)
    return norm


def _last_batch(recording: Recording, again: Replay, epochs: NDArray[np.int64]) -> dict[str, Floats]:
    edges = recording.batch_range[epochs].astype(np.float64)  # (K, L, 2)
    off, misplaced, floors = [], [], _least_value(again)[:, -1]
    for layer, values in enumerate(again.last_gradient):
        low, high = edges[:, layer].T
        least, most = values.min(axis=-1), values.max(axis=-1)
        flat = least == most  # bins around values that are all equal reach half a unit to each side
        wide = np.where(flat, 1.0, np.maximum(most - least, floors[:, layer]))
        off.append(np.maximum(np.abs(low - least + flat / 2), np.abs(high - most - flat / 2)) / wide)
        room = _room(values, OF_ENDS["batch_range"], floors[:, layer])
        misplaced.append(misplaced_share(recording.batch_counts[epochs, layer], low, high, values, room))
    return {"batch_range": np.stack(off, axis=-1), "batch_counts": np.stack(misplaced, axis=-1)}


def _room(values: Floats, quantity: Quantity, floor: Any = 0.0) -> Floats:
    """(K,) how far a value may be off where the quantity is tolerated; the spread is `floor` at least."""
    room: Floats = quantity.tolerance * np.maximum(values.std(axis=-1), floor)
    return room


def misplaced_share(counts: NDArray[Any], low: Floats, high: Floats, values: Floats, room: Floats) -> Floats:
    """(R,) share of values (R, n) that stand in another one of equal bins, counts (R, B), than they can.

    The bins reach from low (R,) to high (R,); each value may be off by room (R,).
    """
    bins, ordered = counts.shape[1], np.sort(values, axis=-1)
    below = np.cumsum(counts, axis=-1)
    found: Floats = np.abs(below[:, -1] - ordered.shape[1]) / ordered.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, bins + 1, axis=-1)[:, 1:-1]
        lower, upper = edges - room[:, None], edges + room[:, None]
    for row, mine in enumerate(ordered):
        if not -np.inf < low[row] <= high[row] < np.inf:
            found[row] = np.inf  # numbers have no place among edges that are none
            continue
        least, most = mine.searchsorted(lower[row]), mine.searchsorted(upper[row], side="right")
        wrong = np.maximum(least - below[row, :-1], below[row, :-1] - most).max() / len(mine)
        found[row] = max(found[row], wrong)
    return found


def of_probes(recording: Recording, again: Probes, checkpoints: Sequence[int]) -> dict[str, Floats]:
    """(C, ...) deviations of the probe rows that stand beside some checkpoints, with a last axis of layers,
    activations or 1. A recording with other activations than the experiment's deviates without bound."""
    rows = probe_rows(recording, checkpoints)
    hidden = recording.hidden[rows].astype(np.float64)
    if hidden.shape[1] != again.hidden.shape[1]:
        hidden = np.full((*again.hidden.shape[:2], hidden.shape[2]), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        root = np.hypot(again.hidden[..., 0], again.hidden[..., 2])[..., None]
        sizes = np.abs(hidden[..., :3] - again.hidden) / (root + _TINY)
        off = np.concatenate([sizes, _outside(hidden[..., 3:], again.flat)], axis=-1)
        return {
            "probe_loss": _share_off(recording.probe_loss[rows], again.loss)[:, None],
            "accuracy": _outside(recording.accuracy[rows], again.accuracy)[:, None],
            "output_error": _share_off(recording.output_error[rows], again.output_error)[:, None],
            **{f"hidden_{name}": off[..., column] for column, name in enumerate(HIDDEN_STATISTICS)},
            **_probe_gradient(recording.probe_gradient[rows].astype(np.float64), again),
            **_probe_weights(recording, rows, checkpoints),
            "through_time": _through_time(recording.through_time[rows], again.through_time),
            "probe_counts": _common(recording.probe_counts[rows], recording.probe_range, again.gradients),
        }


def _through_time(found: Floats, true: Floats) -> Floats:
    """(C, T); of other time steps than the experiment's without bound."""
    return _share_off(found, true) if found.shape == true.shape else np.full((len(true), 1), np.inf)


def probe_rows(recording: Recording, checkpoints: Sequence[int]) -> NDArray[np.int64]:
    """The probe rows that were taken together with these checkpoints."""
    return np.searchsorted([0, *recording.epoch_end], recording.checkpoint_iteration[list(checkpoints)])


def _share_off(found: Floats, true: Floats) -> Floats:
    return np.abs(found.astype(np.float64) - true) / (np.abs(true) + _TINY)


def _outside(found: Floats, bounds: Floats) -> Floats:
    """How far a share is outside of its bounds (..., 2)."""
    off: Floats = np.maximum(0, np.maximum(bounds[..., 0] - found, found - bounds[..., 1]))
    return off


def _probe_gradient(found: Floats, again: Probes) -> dict[str, Floats]:
    true, spread = again.gradient, again.gradient[..., _SD]
    scales: dict[str, Any] = {"zero_share": 1.0, "nonfinite": 1.0, "abs_mean": spread, "mean": spread}
    off = {}
    with np.errstate(over="ignore", invalid="ignore"):  # of a network that exploded
        for column, name in enumerate(STATISTICS):
            off[f"probe_{name}"] = np.abs(found[..., column] - true[..., column]) / (
                scales.get(name, true[..., column]) + _TINY
            )
    column = STATISTICS.index("zero_share")
    zeros = _zeros_off(found[..., column], true[..., column], again.zero_most, again.gradients)
    return off | {"probe_zero_share": zeros}


def _probe_weights(recording: Recording, rows: NDArray[np.int64], checkpoints: Sequence[int]) -> dict[str, Floats]:
    weights = [w for w, _ in matrices_of(recording.checkpoint_parameters[list(checkpoints)], recording.origin)]
    true = np.stack(
        [np.stack([of(w, axis=-1, dtype=np.float64) for of in (np.mean, np.std)], axis=-1) for w in weights], axis=1
    )
    off = np.abs(recording.weight[rows] - true) / (true[..., 1:] + _TINY)
    return {
        "weight": off.max(axis=-1),
        "weight_counts": _common(recording.weight_counts[rows], recording.weight_range, weights),
    }


def _common(counts: NDArray[Any], ranges: Floats, values: Sequence[Floats]) -> Floats:
    """(C, L) misplaced shares on common bins: counts (C, L, B), ranges (L,), values L of (C, n)."""
    off = []
    for layer, mine in enumerate(values):
        reach = np.full(len(mine), ranges[layer], dtype=np.float64)
        # float32 computes the place in units of the range
        room = np.maximum(_room(mine, OF_PROBES["probe_abs_mean"]), 1e-6 * reach)
        off.append(misplaced_share(counts[:, layer], -reach, reach, mine, room))
    return np.stack(off, axis=-1)


def worst(off: Mapping[str, Floats]) -> Floats:
    """The largest deviation over quantities and layers, in units of the tolerance; infinite where it is no number."""
    shares = [(values / QUANTITIES[name].tolerance).max(axis=-1) for name, values in off.items()]
    largest: Floats = np.nan_to_num(np.max(shares, axis=0), nan=np.inf, posinf=np.inf)
    return largest


_Found = TypeVar("_Found", Replay, Probes)
# from checkpoints, each with its turned kinks, so many iterations; one of them as it was found before; are its kinks
# asked for?
_Again = Callable[[Sequence[int], Sequence[Sequence[Kink]], int, _Found | None, bool], _Found]
_Off = Callable[[Sequence[int], _Found], Floats]  # (K, N) deviations of what was found from these checkpoints


def follow(
    recording: Recording,
    checkpoints: Sequence[int],
    steps: int,
    e: Experiment,
    dtype: DTypeLike = np.float64,
    asked: float = CERTAIN,
    far: bool = True,
) -> Replay:
    """A replay on those sides of its kinks that the recording took, where it deviates by more than `asked`; see
    `labkit.replay.replay`. Unless `far`, only kinks that are near are tried."""

    def again(
        chosen: Sequence[int], turned: Sequence[Sequence[Kink]], rows: int, before: Replay | None, listed: bool
    ) -> Replay:
        return replay(recording, chosen, rows, e, dtype, turned, before=before, listed=listed)

    def off(_: Sequence[int], found: Replay) -> Floats:
        return compare(recording, found).suspicion()

    return _on_its_sides(checkpoints, again, off, steps, asked, far)


@dataclass(frozen=True, eq=False)
class Deviations:
    """How far K stretches of N iterations are from their replay."""

    iterations: dict[str, Floats]  # see of_iterations
    ends: dict[str, Floats]  # see of_ends
    shared: NDArray[np.bool_]  # see comparable

    def suspicion(self) -> Floats:
        """(K, N + 1) the largest deviations of each iteration that can be compared, and of what stands at the end, in
        units of the tolerances."""
        rows = np.where(self.shared, worst(self.iterations), 0)
        shares = [off / QUANTITIES[name].tolerance for name, off in self.ends.items()]
        ends = np.stack(shares).max(axis=(0, -1))
        # there is no end within an epoch, nor one to compare behind a leap
        return np.column_stack([rows, np.where(self.shared.all(axis=1), np.nan_to_num(ends, nan=0, posinf=np.inf), 0)])


def compare(recording: Recording, again: Replay) -> Deviations:
    """Everything that was recorded of these stretches against their replay."""
    return Deviations(of_iterations(recording, again), of_ends(recording, again), comparable(recording, again))


def calm_probe(recording: Recording, checkpoint: int, e: Experiment) -> bool:
    """Does rounding leave what the probe batch shows as it is? See `calm`."""
    twins = probe(recording, [checkpoint] * len(PROBE_TWINS), e, shake=PROBE_TWINS)
    off = worst(_probe_gradient(twins.gradient[:1], twins))
    return bool((off <= STORMY).all() and (twins.loss <= LOUD).all())


def follow_probes(recording: Recording, checkpoints: Sequence[int], e: Experiment) -> Probes:
    """What the probe batch shows, on those sides of its kinks that the recording took; see `labkit.replay.probe`."""

    def again(chosen: Sequence[int], turned: Sequence[Sequence[Kink]], *_: object) -> Probes:
        return probe(recording, chosen, e, turned)

    def off(chosen: Sequence[int], found: Probes) -> Floats:
        recorded = recording.probe_gradient[probe_rows(recording, chosen)].astype(np.float64)
        return worst(_probe_gradient(recorded, found))[:, None]

    return _on_its_sides(checkpoints, again, off, 1, SUSPICIOUS)


def _on_its_sides(
    checkpoints: Sequence[int], again: _Again[_Found], off: _Off[_Found], rows: int, asked: float, far: bool = True
) -> _Found:
    """What `again` gives, those that deviate by more than `asked` with their kinks on the recording's sides."""
    found = again(checkpoints, (), rows, None, True)
    deviations = off(checkpoints, found)
    alone = found if len(checkpoints) == 1 else None
    for k in np.flatnonzero((deviations > asked).any(axis=1)).tolist():
        stretch = _Stretch(checkpoints[k], again, off, rows)
        better = _other_sides(stretch, asked, far, found.kinks[k], deviations[k], alone)
        if better is None:
            continue
        if alone is not None:
            return better
        _put(found, k, better, 0)
    return found


@dataclass(frozen=True)
class _Stretch(Generic[_Found]):
    """What `_on_its_sides` is asked, of one stretch."""

    checkpoint: int
    again: _Again[_Found]
    off: _Off[_Found]
    rows: int

    def on(
        self, sides: Sequence[Sequence[Kink]], rows: int, before: _Found | None, listed: bool
    ) -> tuple[_Found, Floats]:
        """It on each of these sides, and how far it is off there."""
        checkpoints = [self.checkpoint] * len(sides)
        found = self.again(checkpoints, sides, rows, before, listed)
        return found, self.off(checkpoints, found)


def _other_sides(
    stretch: _Stretch[_Found],
    asked: float,
    far: bool,
    kinks: Sequence[Kink],
    deviations: Floats,
    before: _Found | None,
) -> _Found | None:
    """One stretch once more, with kinks turned for as long as it deviates by more than `asked` and that mends its first
    suspicious iteration, or the first that is certainly wrong: rounding may swell a while before, for which there is no
    kink, and sink again."""
    best: _Found | None = None
    turned: tuple[Kink, ...] = ()
    for _ in range(ROUNDS):
        if not (deviations > asked).any():
            break
        ats = sorted({first_suspicious(deviations), first_suspicious(deviations, CERTAIN)})
        reach = (True, False) if far else (True,)
        tries = ((at, some) for near in reach for at in ats if (some := _candidates(kinks, turned, at, near)))
        better = (_better_side(stretch, at, some, turned, deviations, before) for at, some in tries)
        sides = next((found for found in better if found is not None), None)
        if sides is None:
            break
        best, (deviations,) = stretch.on([sides], stretch.rows, before, True)
        turned, kinks, before = sides, best.kinks[0], best
    return best


def _candidates(kinks: Sequence[Kink], turned: tuple[Kink, ...], at: int, near: bool) -> list[tuple[Kink, ...]]:
    """What is tried on its other side to mend iteration `at`, the latest last, and the nearest of one iteration: kinks
    that are near, and units whose input died, which put out the same for many images; or kinks to which only rounding
    that has swollen comes, just before."""
    left = [kink for kink in kinks if kink.row <= at and kink not in turned]
    found: list[tuple[Kink, ...]] = [(kink,) for kink in left if kink.near == near]
    if not near:
        return [some for some in found if some[0].row >= at - AHEAD][-MOST_KINKS:]
    alike: dict[Any, list[Kink]] = {}
    for kink in left:
        alike.setdefault((kink.row, kink.layer, kink.unit, float(f"{kink.distance:.6g}")), []).append(kink)
    groups = [tuple(same) for same in alike.values() if len(same) > 1]
    members = {kink for same in groups for kink in same}
    found += groups
    # one of a group by itself is the least likely
    found.sort(key=lambda some: (some[0].row, len(some) > 1 or some[0] not in members, -some[0].distance))
    return found[-MOST_KINKS:]


def _better_side(
    stretch: _Stretch[_Found],
    at: int,
    candidates: Sequence[tuple[Kink, ...]],
    turned: tuple[Kink, ...],
    deviations: Floats,
    before: _Found | None,
) -> tuple[Kink, ...] | None:
    """`turned` and that one of the candidates that mends iteration `at` best, if there is one."""
    if at == len(deviations):
        return None
    found: list[tuple[int, float, tuple[Kink, ...]]] = []
    left_over = list(candidates)
    while left_over:
        # together those of one iteration, from which they start; what comes after `at` does not tell them apart
        some = [one for one in left_over[-AT_A_TIME:] if one[0].row == left_over[-1][0].row]
        del left_over[-len(some) :]
        _, off = stretch.on([turned + one for one in some], min(at + 1, stretch.rows), before, False)
        found += [(-first_suspicious(mine[: at + 1]), mine[at], one) for mine, one in zip(off, some, strict=True)]
        first, left, winner = min(found, key=lambda one: one[:2])
        if first < -at:
            break
    better = first < -at or left < deviations[at] / 2 or left <= CERTAIN < deviations[at]
    return turned + winner if better else None


def first_suspicious(deviations: Floats, beyond: float = SUSPICIOUS) -> int:
    """The first iteration that rounding alone does not explain; the number of iterations when there is none."""
    wrong = deviations > beyond
    return int(wrong.argmax()) if wrong.any() else len(wrong)


def _put(into: _Found, k: int, source: _Found, j: int) -> None:
    for field in fields(into):
        if field.name == "states":  # of what was replayed alone
            continue
        here, there = getattr(into, field.name), getattr(source, field.name)
        for values, new in zip(here, there, strict=True) if isinstance(here, tuple) else [(here, there)]:
            values[k] = new[j]


@dataclass(frozen=True)
class Figure:
    """One figure of one iteration, recorded and replayed."""

    quantity: Quantity
    layer: str  # "" for what is one figure for the whole network
    recorded: float
    replayed: float
    deviation: float  # in the quantity's own scale

    @property
    def off(self) -> bool:
        return not self.deviation <= self.quantity.tolerance


@dataclass(frozen=True)
class Iteration:
    """All figures of one iteration."""

    start: int  # iterations done at the checkpoint from which it was replayed
    figures: tuple[Figure, ...]
    calm: bool  # False where rounding decides, and nothing can be compared


def at_iteration(recording: Recording, iteration: int) -> Iteration:
    """Iteration `iteration` (from 1) of a recording and of its replay, as its own experiment has it.

    An iteration that was not recorded, and a recording that cannot be replayed, raise `RecordingError`.
    """
    e = recording.origin.experiment
    if e is None:
        raise RecordingError("this recording follows no experiment: only a recording with one can be replayed")
    done = min(recording.iterations, e.iterations)
    if not 1 <= iteration <= done:
        raise RecordingError(f"there is no iteration {iteration}: the recording has 1 to {done:,}")
    before = np.flatnonzero(recording.checkpoint_iteration < iteration)
    if not before.size:
        raise RecordingError("it has no checkpoint of the network before its first iteration: train it again")
    checkpoint = int(before[-1])
    steps = iteration - int(recording.checkpoint_iteration[checkpoint])
    again = follow(recording, [checkpoint], steps, e)
    off = of_iterations(recording, again)
    figures = []
    for name, quantity in OF_ITERATIONS.items():
        values, true = recorded(recording, name, iteration - 1), replayed(again, name)[0, -1]
        for layer, (found, want) in enumerate(zip(values, true, strict=True)):
            label = recording.layers[layer] if len(true) > 1 else ""
            figures.append(Figure(quantity, label, float(found), float(want), float(off[name][0, -1, layer])))
    shared = comparable(recording, again)[0, -1]
    calm_here = not any(figure.off for figure in figures) or bool(shared and calm(recording, checkpoint, steps, e)[-1])
    return Iteration(iteration - steps, tuple(figures), calm_here)
