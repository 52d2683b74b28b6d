"""Re-run stretches of a recording from their checkpoints, side by side, in numpy: what should it hold?

A stretch is a run of consecutive iterations that begins at a checkpoint; from one to the next it is an epoch. K
stretches are K networks. Their gradients come from `labkit.propagation`; those of networks that are more than a plain
stack of layers are left to autograd (`labkit.rerun`), and share everything else. How far a recording is from its replay
is told in `labkit.deviations`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labkit import data, initialisations
from labkit.experiments import Experiment
from labkit.propagation import ByHand, Floats, Ints, Kink, Propagation, Sides, kinks_of, log_softmax, logits_of, split
from labkit.recording import PROBE, STATISTICS, Origin, Recording, RecordingError

_SD = STATISTICS.index("sd")
BLOCK_BYTES = 4 * 2**20  # of gradients and weights that wait for their statistics: these find them in the cache
FLAT = 0.05  # an activation is saturated within this share of its range from a bound
ZERO = 1e-5  # of a layer's sd, the largest so far: what is smaller may be 0 in float32
ROOM = 1e-4  # of the spread of what is compared with a bound: float32 may find it on the other side
STATE_BYTES = 32 * 2**20  # of states that a replay keeps, from which it can be gone on
# A gradient is a sum over images. Where they nearly cancel, its rounding is that of the images' own gradients: their
# sizes added up, times this share, stand for its own where that is smaller. In S1's networks they are 7 times it, at
# most 20; in those on circles up to 500.
LOUD = 0.05


@dataclass(frozen=True, eq=False)
class Replay:
    """K stretches of N iterations; meanings as in a Recording, with the stretch in front."""

    start: Ints  # (K,) iterations done before
    loss: Floats  # (K, N)
    gradient: Floats  # (K, N, L, S)
    update_norm: Floats  # (K, N, L)
    weight_norm: Floats  # (K, N, L)
    weight_dot_gradient: Floats  # (K, N, L)
    bias_dot_gradient: Floats  # (K, N, L)
    least: Floats  # (K, N, L) what ||dloss/dW|| is taken for, where it is less: see LOUD
    bias_size: Floats  # (K, N, L) ||b|| ||dloss/db||, the largest that bias_dot_gradient can be, or more: see LOUD
    zero_most: Floats  # (K, N, L) share of the gradient that float32 may find to be 0
    clip_factor: Floats  # (K, N, L)
    last_gradient: tuple[Floats, ...]  # L of (K, weights): dloss/dW at the last iteration
    parameters: Floats  # (K, P) after the last iteration, in a checkpoint's order
    moments: Floats  # (K, M, P)
    kinks: list[list[Kink]]  # K lists, in the order in which they were met
    turned: list[tuple[Kink, ...]]  # K times those of which it took the other side
    states: tuple["State", ...] = ()  # of a single stretch that was looked at closely, from where it can be gone on


# those of each iteration, (K, N, ...)
FIGURES = (
    "loss", "clip_factor", "gradient", "zero_most", "update_norm", "weight_norm", "weight_dot_gradient",
    "bias_dot_gradient", "least", "bias_size",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class State:
    """Where a stretch stood between two iterations."""

    done: int  # iterations within it
    parameters: Floats  # (1, P)
    moments: Floats  # (M, 1, P)


def replay(
    recording: Recording,
    checkpoints: Sequence[int],
    steps: int,
    experiment: Experiment | None = None,
    dtype: DTypeLike = np.float64,
    turned: Sequence[Sequence[Kink]] = (),
    shake: Sequence[float] = (),
    closely: bool = True,
    before: Replay | None = None,
    listed: bool = True,
) -> Replay:
    """Run `steps` iterations from each checkpoint.

    Data and settings are `experiment`'s, the file's own when it is None. Stretches end early where the first of them
    reaches the experiment's end. `turned` has, for each stretch, the kinks of which it takes the other side; `shake`
    has the share by which each of its parameters is moved beforehand, up or down by chance, and unless that is 0, it is
    moved so after every step, too, by half a rounding of the experiment's own kind of numbers; beside a kink all of
    these take the side of the first. Unless it looks `closely`, it lists no kinks and does not know the images' own
    gradients, so that its scales are smaller. Where all are the one stretch that was replayed `before`, what comes in
    front of the first kink whose side differs is taken from there. Nor are kinks listed where that is not asked for:
    there may be so many that it takes longer than the stretch itself. A recording without an experiment, of another
    network or without the optimiser's moments raises `RecordingError`, and so do stretches whose mini-batches differ in
    size: those cannot go side by side.
    """
    e = experiment or recording.origin.experiment
    if e is None:
        raise RecordingError("this recording follows no experiment: only a recording with one can be replayed")
    if not has_network_of(recording, e):
        raise RecordingError("the recorded network is not the experiment's: train it again as the assignment has it")
    if recording.origin.moments != moments_of(e):
        raise RecordingError(f"this recording holds no moments of {e.optimizer.capitalize()}: train it again")
    run = _Stretches(recording, checkpoints, e, dtype, turned)
    run.parameters, run.together, run.closely = _shaken(run.parameters, shake), bool(shake), closely
    run.listed = closely and listed and not shake
    run.rounded = np.array([float(np.finfo(e.dtype).eps) / 2 if share else 0.0 for share in shake])
    steps = min(steps, e.iterations - int(run.start.max()))
    rows = max(1, BLOCK_BYTES // (2 * run.parameters.nbytes))
    if run.listed and len(run.start) == 1:
        run.every = math.ceil(steps * (run.parameters.nbytes + run.moments.nbytes) / STATE_BYTES)
    blocks = [] if before is None else run.go_on(before, steps)
    # an experiment can explode, and then it does so in the replay, too
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        blocks += [run.block(min(rows, steps - first)) for first in range(run.done, steps, rows)]
    return Replay(
        start=run.start,
        **{name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]},
        last_gradient=tuple(w for w, _ in matrices_of(run.last_gradient, recording.origin)),
        parameters=run.parameters,
        moments=run.moments.swapaxes(0, 1),
        kinks=run.kinks,
        turned=[tuple(turned[k]) if turned else () for k in range(len(run.start))],
        states=tuple(run.states),
    )


def _propagation(e: Experiment, origin: Origin, dtype: DTypeLike) -> Propagation:
    if e.plain:
        return ByHand(e)
    from labkit.rerun import ByAutograd  # torch takes seconds to load

    return ByAutograd(e, origin, np.dtype(dtype))


class _Stretches:
    """K networks that train on from their checkpoints."""

    def __init__(
        self,
        recording: Recording,
        checkpoints: Sequence[int],
        e: Experiment,
        dtype: DTypeLike,
        turned: Sequence[Sequence[Kink]],
    ) -> None:
        chosen = list(checkpoints)
        self.e, self.origin = e, recording.origin
        self.start: Ints = recording.checkpoint_iteration[chosen].astype(np.int64)
        self.done = 0  # iterations since
        self.parameters: Floats = recording.checkpoint_parameters[chosen].astype(dtype)
        self.moments: Floats = np.ascontiguousarray(recording.checkpoint_moments[chosen].swapaxes(0, 1), dtype=dtype)
        self.last_gradient: Floats = np.zeros_like(self.parameters)
        self.turned = turned
        self.together = False  # do all take the side of the first beside a kink?
        self.rounded: Floats = np.zeros(0)  # (K,) the share by which parameters are moved after a step, if they are
        self.kinks: list[list[Kink]] = [[] for _ in chosen]
        self.closely = self.listed = True  # see `replay`
        self.propagate = _propagation(e, recording.origin, dtype)
        inputs, self.labels = _data(e)
        self.images = self.propagate.inputs(inputs)
        self.sizes: Floats = _sizes_of(e).astype(dtype)
        self.orders: dict[int, list[Ints]] = {}  # of each epoch, its mini-batches
        self.taken = self.cast = self.images[:0]  # room for a mini-batch, as it lies there and in the replay's numbers
        # sd of the gradients, the largest so far
        self.spread: Floats = np.zeros((len(chosen), len(self.origin.layers)))
        self.every = 0  # iterations after which the state is kept, if it is
        self.states: list[State] = []

    def go_on(self, before: Replay, steps: int) -> list[dict[str, Floats]]:
        """Stand where `before` stood last with these kinks on these sides; its figures up to there, as blocks."""
        theirs = set(before.turned[0])
        others = [kink.row for kinks in self.turned or [()] for kink in theirs.symmetric_difference(kinks)]
        shared = [state for state in before.states if state.done <= min([steps - 1, *others])]
        if not shared:
            return []
        count, last = len(self.start), shared[-1]
        self.done = last.done
        self.parameters, self.moments = last.parameters.repeat(count, axis=0), last.moments.repeat(count, axis=1)
        self.spread = before.gradient[:, : self.done, :, _SD].max(axis=1).repeat(count, axis=0)
        if self.listed:
            self.kinks = [[kink for kink in before.kinks[0] if kink.row < self.done] for _ in range(count)]
        if self.every:
            self.states = shared[:-1]  # the last is kept anew
        return [{name: getattr(before, name)[:, : self.done].repeat(count, axis=0) for name in FIGURES}]

    def block(self, steps: int) -> dict[str, Floats]:
        """The next iterations' figures, (K, steps, ...) each."""
        e, own = self.e, self.parameters
        parameters, gradients = (np.empty((n, *own.shape), own.dtype) for n in (steps + 1, steps))
        losses = np.empty((steps, len(own)), own.dtype)
        factors = np.ones((steps, len(own), len(self.origin.layers)), own.dtype)
        apart = np.empty((*factors.shape, 2), own.dtype)
        parameters[0] = own
        for row in range(steps):
            if self.every and self.done and self.done % self.every == 0:
                self.states.append(State(self.done, parameters[row].copy(), self.moments.copy()))
            images, labels, sizes = self._batch()
            turned = [(k, kink) for k, kinks in enumerate(self.turned) for kink in kinks if kink.row == self.done]
            sides = Sides(turned, self.together)
            seen = self.propagate(
                parameters[row], images, labels, gradients[row], sides, sizes if self.closely else None
            )
            losses[row] = seen.loss
            for k, kink in kinks_of(seen.before, e, self.done) if self.listed else ():
                self.kinks[k].append(kink)
            _clip(gradients[row], e, self.origin, factors[row])
            apart[row] = seen.apart * factors[row, ..., None]
            np.subtract(parameters[row], self._change(gradients[row]), out=parameters[row + 1])
            if self.rounded.any():
                parameters[row + 1] *= 1 + self.rounded[:, None] * _signs(1 + self.done, own.shape)
            self.done += 1
        self.parameters, self.last_gradient = parameters[-1], gradients[-1]
        figures = _figures(parameters, gradients, LOUD * apart, self.spread, self.origin)
        found = {"loss": losses, "clip_factor": factors, **figures}
        return {name: values.swapaxes(0, 1) for name, values in found.items()}

    def _batch(self) -> tuple[Floats, Ints, Floats]:
        """Images (K, batch, ...), labels and the images' norms (K, batch) of the next iteration; those of one stretch,
        (batch, ...) and (batch,), where all go side by side through the same. The next batch overwrites the images."""
        at = [divmod(start + self.done, self.e.iterations_per_epoch) for start in self.start.tolist()]
        chosen = [self._order(epoch)[batch] for epoch, batch in at]
        if len({len(indices) for indices in chosen}) > 1:
            raise RecordingError("these stretches have mini-batches of different sizes: replay them one by one")
        apart = any(one != at[0] for one in at)
        indices = np.concatenate(chosen).reshape(len(chosen), -1) if apart else chosen[0]
        shape = (*indices.shape, *self.images.shape[1:])
        if self.taken.shape != shape:
            self.taken = np.empty(shape, self.images.dtype)
            self.cast = self.taken.astype(self.parameters.dtype, copy=False)
        # in any mode but "raise" numpy needs no copy besides
        np.take(self.images, indices, axis=0, out=self.taken, mode="clip")
        if self.cast is not self.taken:
            self.cast[...] = self.taken
        return self.cast, self.labels[indices], self.sizes[indices]

    def _order(self, epoch: int) -> list[Ints]:
        if epoch not in self.orders:
            self.orders[epoch] = _order(self.e, epoch)
        return self.orders[epoch]

    def _change(self, g: Floats) -> Floats:
        """(K, P) what the optimiser's next step takes off the parameters; see `labkit.optimizers` for the sources."""
        e = self.e
        if e.optimizer == "sgd":
            return e.learning_rate * g
        if e.optimizer == "rmsprop":
            (square,) = self.moments
            square *= 0.9
            square += 0.1 * g * g
            step: Floats = e.learning_rate * g / (np.sqrt(square) + e.epsilon)
            return step
        mean, square = self.moments
        room = np.multiply(g, 0.1)
        mean *= 0.9
        mean += room
        np.multiply(g, g, out=room)
        room *= 0.001
        square *= 0.999
        square += room
        number = (self.start + self.done + 1.0)[:, None]
        m, v = ((1 - beta**number).astype(g.dtype) for beta in (0.9, 0.999))
        np.divide(square, v, out=room)
        np.sqrt(room, out=room)
        room += e.epsilon
        np.divide(mean, room, out=room)
        room *= g.dtype.type(e.learning_rate) / m
        return room


def _figures(parameters: Floats, gradients: Floats, least: Floats, spread: Floats, origin: Origin) -> dict[str, Floats]:
    """The figures of `steps` iterations, (steps, K, L, ...) each, from rows (steps + 1, K, P) and (steps, K, P), with
    the least sizes (steps, K, L, 2) for which the gradients of weights and biases are taken. `spread` (K, L), the
    largest sd of a gradient so far, is brought up to date."""
    columns: dict[str, list[Floats]] = {}
    pairs = zip(matrices_of(parameters, origin), matrices_of(gradients, origin), strict=True)
    for layer, ((w, b), (g, d)) in enumerate(pairs):
        size, none = np.abs(g), np.zeros(g.shape[:-1])
        taken = _statistics(g, size)
        largest = np.maximum.accumulate(np.maximum(taken[..., _SD], spread[:, layer]), axis=0)
        spread[:, layer] = largest[-1]
        found = {
            "gradient": taken,
            "zero_most": _nearly_zero(size, largest),
            "update_norm": _norm(w[1:] - w[:-1]),
            "weight_norm": _norm(w[:-1]),
            "weight_dot_gradient": _dot(w[:-1], g),
            "bias_dot_gradient": none if b is None or d is None else _dot(b[:-1], d),
            "least": least[..., layer, 0],
            "bias_size": none if b is None or d is None else _norm(b[:-1]) * np.maximum(_norm(d), least[..., layer, 1]),
        }
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    return {name: np.stack(values, axis=2) for name, values in columns.items()}


@dataclass(frozen=True, eq=False)
class Probes:
    """What the fixed probe batch shows at C checkpoints; meanings as in a Recording.

    A figure that counts has two bounds, least first: a value beside the bound of what is counted may be on either side.
    """

    loss: Floats  # (C,)
    accuracy: Floats  # (C, 2)
    output_error: Floats  # (C,)
    hidden: Floats  # (C, A, 3) mean, mean |.| and sd
    flat: Floats  # (C, A, 2, 2) saturated and dead
    gradient: Floats  # (C, L, S)
    zero_most: Floats  # (C, L) as in a Replay
    gradients: tuple[Floats, ...]  # L of (C, weights): the gradients themselves
    through_time: Floats  # (C, T)
    kinks: list[list[Kink]]  # C lists
    turned: list[tuple[Kink, ...]]  # as in a Replay


def probe(
    recording: Recording,
    checkpoints: Sequence[int],
    experiment: Experiment,
    turned: Sequence[Sequence[Kink]] = (),
    shake: Sequence[float] = (),
) -> Probes:
    """What the experiment's probe batch shows of the networks as they were at some checkpoints.

    `turned` has, for each checkpoint, the kinks of which it takes the other side; `shake` as in `replay`.
    """
    e, dtype = experiment, np.dtype(experiment.dtype)
    parameters = _shaken(recording.checkpoint_parameters[list(checkpoints)].astype(dtype), shake)
    propagate, (inputs, labels) = _propagation(e, recording.origin, dtype), _data(e)
    images, labels = propagate.inputs(inputs[:PROBE]).astype(dtype), labels[:PROBE]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        gradients = np.empty_like(parameters)
        sides = Sides([(k, kink) for k, kinks in enumerate(turned) for kink in kinks], bool(shake))
        seen = propagate(parameters, images, labels, gradients, sides, None)
        kinks: list[list[Kink]] = [[] for _ in checkpoints]
        for k, kink in kinks_of(seen.before, e, 0):
            kinks[k].append(kink)
        rows = tuple(w for w, _ in matrices_of(gradients, recording.origin))
        # where there is time, what stands behind its last step
        behind = len(seen.hidden) - len(recording.origin.activations)
        last = list(zip(seen.hidden, seen.before, strict=True))[max(0, behind) :]
        return Probes(
            loss=seen.loss,
            **_classified(logits_of(seen.outputs), labels),
            hidden=_stacked([_sizes(h) for h, _ in last], (len(parameters), 0, 3)),
            flat=_stacked([_flat(h, z, e.activation) for h, z in last], (len(parameters), 0, 2, 2)),
            gradient=(taken := np.stack([statistics(g) for g in rows], axis=1)),
            zero_most=np.stack([_nearly_zero(np.abs(g), taken[:, k, _SD]) for k, g in enumerate(rows)], axis=1),
            gradients=rows,
            through_time=seen.through_time,
            kinks=kinks,
            turned=[tuple(turned[k]) if turned else () for k in range(len(parameters))],
        )


def _stacked(found: list[Floats], none: tuple[int, ...]) -> Floats:
    return np.stack(found, axis=1) if found else np.zeros(none)


def _classified(logits: Floats, labels: Ints) -> dict[str, Floats]:
    """Accuracy (C, 2), least and most, and mean |p - y| (C,), of logits (C, classes, batch)."""
    right = np.take_along_axis(logits, labels[None, None], axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, np.broadcast_to(labels, right.shape)[:, None], -np.inf, axis=1)
    lead, room = right - others.max(axis=1), ROOM * logits.std(axis=(1, 2), dtype=np.float64)[:, None]
    p_right = np.take_along_axis(np.exp(log_softmax(logits)), labels[None, None], axis=1)[:, 0]
    return {
        "accuracy": np.stack([(lead > room).mean(axis=1), (lead >= -room).mean(axis=1)], axis=-1),
        "output_error": 2 * (1 - p_right).mean(axis=1) / logits.shape[1],
    }


def _sizes(h: Floats) -> Floats:
    """(C, 3) mean, mean |.| and sd of an activation (C, units, batch), in float64: float32 holds no squares of one that
    has exploded."""
    axes = (1, 2)
    mean, size = (values.mean(axis=axes, dtype=np.float64) for values in (h, np.abs(h)))
    return np.stack([mean, size, h.std(axis=axes, dtype=np.float64)], axis=-1)


def _flat(h: Floats, z: Floats, activation: str) -> Floats:
    """(C, 2, 2) saturated and dead share of h = a(z), (C, units, batch), and of each its bounds."""
    bounds = []
    for sign in (-1, 1):
        if activation == "relu":
            # a unit may be dead because float32 takes its z for minus infinity
            flat = z <= sign * ROOM * np.nan_to_num(z).std(axis=(1, 2), keepdims=True, dtype=np.float64)
        elif activation == "sigmoid":
            flat = np.abs(h - 0.5) > 0.5 - FLAT - sign * ROOM
        elif activation == "tanh":
            flat = np.abs(h) > 1 - 2 * FLAT - sign * ROOM
        else:
            flat = np.zeros(h.shape, dtype=bool)
        share = flat.mean(axis=2)
        bounds.append(np.stack([share.mean(axis=1), (share == 1).mean(axis=1)], axis=-1))
    return np.stack(bounds, axis=-1)


def statistics(values: Floats) -> Floats:
    """(..., n) to (..., S) statistics in STATISTICS order, in float64."""
    return _statistics(values, np.abs(values))


def _statistics(values: Floats, size: Floats) -> Floats:
    n = values.shape[-1]
    mean, norm = np.add.reduce(values, axis=-1) / n, _norm(values)
    found = {
        "mean": mean,
        "abs_mean": np.add.reduce(size, axis=-1) / n,
        "sd": _norm(np.subtract(values, mean[..., None])) / np.sqrt(n),
        "norm": norm,
        "abs_max": size.max(axis=-1),
        "zero_share": _counted(size == 0) / n,
        # a sum of squares is finite only where everything is
        "nonfinite": 0 if np.isfinite(norm).all() else _counted(~np.isfinite(values)),
    }
    columns = np.empty((*norm.shape, len(STATISTICS)))
    for column, name in enumerate(STATISTICS):
        columns[..., column] = found[name]
    return columns


def _nearly_zero(size: Floats, spread: Floats) -> Floats:
    """(...) share of values that rounding cannot tell from 0, from their sizes (..., n) and their spread (...)."""
    small: Floats = _counted(size <= (ZERO * spread[..., None]).astype(size.dtype)) / size.shape[-1]
    return small


def _counted(flags: NDArray[np.bool_]) -> Floats:
    """(...) how many of flags (..., n) are set."""
    found: Floats = np.add.reduce(flags.view(np.uint8), axis=-1, dtype=np.uint32)  # twice as fast as of flags
    return found


@lru_cache(maxsize=8)
def _named(e: Experiment) -> dict[str, Floats]:
    """The parameters that the experiment's seed gives, by name, in a checkpoint's order: weight matrices first."""
    drawn = initialisations.named(e)
    matrices = {name: values for name, values in drawn.items() if values.ndim > 1}
    return {**matrices, **drawn}


def start_of(e: Experiment) -> Floats:
    """(P,) all parameters as the experiment's seed gives them, in a checkpoint's order."""
    return np.concatenate([values.ravel() for values in _named(e).values()])


def has_network_of(recording: Recording, e: Experiment) -> bool:
    """Are the recorded layers and parameters, their names and shapes, those of the experiment's network?"""
    parameters = tuple((name, values.shape) for name, values in _named(e).items())
    matrices = [(name.removesuffix(".weight"), shape) for name, shape in parameters if len(shape) > 1]
    layers, shapes = tuple(name for name, _ in matrices), tuple(shape for _, shape in matrices)
    origin = recording.origin
    return (origin.layers, origin.shapes, origin.parameters) == (layers, shapes, parameters)


def matrices_of(flat: Floats, origin: Origin) -> list[tuple[Floats, Floats | None]]:
    """Weights (..., n) and biases (..., m) of each layer as views of rows (..., P) in a checkpoint's order."""
    found = split(flat, [math.prod(shape) for _, shape in origin.parameters])
    parts = dict(zip((name for name, _ in origin.parameters), found, strict=True))
    names = [name for name, _ in origin.parameters[: len(origin.layers)]]
    return [(parts[name], parts.get(name.removesuffix("weight") + "bias")) for name in names]


def moments_of(e: Experiment) -> tuple[str, ...]:
    """Names of the moments that the experiment's optimiser keeps."""
    return {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg",), "sgd": ()}[e.optimizer]


def _shaken(parameters: Floats, shake: Sequence[float]) -> Floats:
    """Rows (K, P), the values of each moved by a share of themselves, up or down."""
    if not shake:
        return parameters
    moved: Floats = (parameters * (1 + np.array(shake)[:, None] * _signs(0, parameters.shape))).astype(parameters.dtype)
    return moved


def _signs(seed: int, shape: tuple[int, ...]) -> Floats:
    """1 or -1 by chance, the same for the same seed."""
    count = math.prod(shape)
    drawn = np.frombuffer(np.random.RandomState(seed).bytes(count // 8 + 1), dtype=np.uint8)
    signs: Floats = 2.0 * np.unpackbits(drawn, count=count).reshape(shape) - 1
    return signs


def _norm(values: Floats) -> Floats:
    return np.sqrt(_dot(values, values))


def _dot(a: Floats, b: Floats) -> Floats:
    found: Floats = np.matmul(a[..., None, :], b[..., :, None])[..., 0, 0]
    return found


def _clip(gradients: Floats, e: Experiment, origin: Origin, factors: Floats) -> None:
    """Clip rows of gradients (K, P) as the experiment has it, in place; into factors (K, L), which are 1, goes what it
    made of each layer's norm."""
    if e.clip_norm is not None:
        factor: Floats = np.minimum(1, e.clip_norm / (_exact_norm(gradients) + 1e-6)).astype(gradients.dtype)
        gradients *= factor[:, None]
        factors *= factor[:, None]
    elif e.clip_each is not None:
        sizes = [math.prod(shape) for _, shape in origin.parameters]
        for number, part in enumerate(split(gradients, sizes)):
            factor = np.minimum(1, e.clip_each / (_exact_norm(part) + 1e-6)).astype(gradients.dtype)
            part *= factor[:, None]
            if number < len(origin.layers):
                factors[:, number] = factor
    elif e.clip_value is not None:
        layers = [w for w, _ in matrices_of(gradients, origin)]
        before = [_exact_norm(w) for w in layers]
        np.clip(gradients, -e.clip_value, e.clip_value, out=gradients)
        after = [_exact_norm(w) / n for w, n in zip(layers, before, strict=True)]
        factors[:] = np.nan_to_num(np.stack(after, axis=-1), nan=1.0)


def _exact_norm(values: Floats) -> Floats:
    """(...) L2 norms of values (..., n) in float64: of what is beyond 1e19 float32 holds no square."""
    norm = _norm(values).astype(np.float64)
    return norm if np.isfinite(norm).all() else np.where(np.isfinite(norm), norm, _norm(values.astype(np.float64)))


def _data(e: Experiment) -> tuple[Floats, Ints]:
    drawn = data.shared(data.which(e))
    return drawn.inputs, drawn.labels


@lru_cache(maxsize=8)
def _sizes_of(e: Experiment) -> Floats:
    """(N,) the norms of the data."""
    inputs, _ = _data(e)
    rows = inputs.reshape(len(inputs), -1)
    found: Floats = np.sqrt(np.einsum("iu,iu->i", rows, rows))
    return found


@lru_cache(maxsize=128)
def _order(e: Experiment, epoch: int) -> list[Ints]:
    return data.epoch_batches(e, epoch)
