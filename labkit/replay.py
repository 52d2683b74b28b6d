"""Re-run stretches of a recording from their checkpoints, side by side, in numpy: what should it hold?

A stretch is a run of consecutive iterations that begins at a checkpoint; from one to the next it is an epoch. The
back-propagation here is written once more and apart from the one that trains, so that neither can hide the other's
fault, and so that a grader needs no torch; networks that are more than a plain stack of layers are left to autograd
(`labkit.rerun`), and share everything else. K stretches are K networks, multiplied along a leading axis, with a column
for each image: see `labkit.dense`. How far a recording is from its replay is told in `labkit.deviations`.

Where an activation has a kink, rounding decides on which side of it a value beside it falls, and with it whether an
image counts in a unit's gradient. Both sides are honest, so a replay lists these values, and takes the other side of
those that it is told to turn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labkit import data, initialisations, theory
from labkit.experiments import Experiment
from labkit.recording import PROBE, STATISTICS, Origin, Recording, RecordingError

Floats = NDArray[Any]  # float64, or float32 where a replay is asked to run in it
Ints = NDArray[np.int64]
Layers = list[tuple[Floats, Floats]]  # weights (..., outputs, inputs) and biases (..., outputs), input side first

_SD = STATISTICS.index("sd")
BLOCK_BYTES = 4 * 2**20  # of gradients and weights that wait for their statistics: these find them in the cache
# Up to so many multiplications OpenBLAS multiplies matrices where they lie (its small matrix optimization); beyond, it
# copies them beforehand, which takes longer than the product itself where one of them is as narrow as a layer of S1.
SMALL, MOST_PIECES = 10**6, 8
FLAT = 0.05  # an activation is saturated within this share of its range from a bound
ZERO = 1e-5  # of a layer's sd, the largest so far: what is smaller may be 0 in float32
ROOM = 1e-4  # of the spread of what is compared with a bound: float32 may find it on the other side
KINKED = ("relu", "leaky_relu")
BESIDE = 2e-5  # of a unit's mean |z|: after an epoch in float32, values are within 1e-6 (benchmarks/tolerance.py)
# A gradient is a sum over images. Where they nearly cancel, its rounding is that of the images' own gradients: their
# sizes added up, times this share, stand for its own where that is smaller. In S1's networks they are 7 times it, at
# most 20; in those on circles up to 500.
LOUD = 0.05
# Where an image is classified without doubt, p - y is a small difference of large numbers: its rounding is that of p,
# for which this share of 1 is added to its size, and to what comes of it in every layer.
UNSURE, _LEAST_ERROR = 0.2, 1e-30
MOST_BESIDE = 100  # listed for one layer at one iteration; where there are more, a network is dying


@dataclass(frozen=True)
class Kink:
    """One value before an activation, so near 0 that rounding decides about its sign."""

    row: int  # iteration within the stretch, from 0
    layer: int  # from 0, input side first
    unit: int
    image: int  # in the mini-batch


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


def replay(
    recording: Recording,
    checkpoints: Sequence[int],
    steps: int,
    experiment: Experiment | None = None,
    dtype: DTypeLike = np.float64,
    turned: Sequence[Sequence[Kink]] = (),
    shake: Sequence[float] = (),
    listed: bool = True,
) -> Replay:
    """Run `steps` iterations from each checkpoint.

    Data and settings are `experiment`'s, the file's own when it is None. Stretches end early where the first of them
    reaches the experiment's end. `turned` has, for each stretch, the kinks of which it takes the other side; `shake`
    has the share by which all its parameters are moved beforehand, up or down; beside a kink all of these take the side
    of the first. Kinks are not looked for unless they are to be `listed`. A recording without an experiment, of another network or without the optimiser's moments raises
    `RecordingError`, and so do stretches whose mini-batches differ in size: those cannot go side by side.
    """
    e = experiment or recording.origin.experiment
    if e is None:
        raise RecordingError("this recording follows no experiment: only a recording with one can be replayed")
    if not has_network_of(recording, e):
        raise RecordingError("the recorded network is not the experiment's: train it again as the assignment has it")
    if recording.origin.moments != moments_of(e):
        raise RecordingError(f"this recording holds no moments of {e.optimizer.capitalize()}: train it again")
    run = _Stretches(recording, checkpoints, e, dtype, turned)
    run.parameters, run.together, run.listed = _shaken(run.parameters, shake), bool(shake), listed
    steps = min(steps, e.iterations - int(run.start.max()))
    rows = max(1, BLOCK_BYTES // (2 * run.parameters.nbytes))
    # an experiment can explode, and then it does so in the replay, too
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        blocks = [run.block(min(rows, steps - first)) for first in range(0, steps, rows)]
    return Replay(
        start=run.start,
        **{name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]},
        last_gradient=tuple(w for w, _ in matrices_of(run.last_gradient, recording.origin)),
        parameters=run.parameters,
        moments=run.moments.swapaxes(0, 1),
        kinks=run.kinks,
    )


@dataclass(frozen=True)
class Sides:
    """On which sides of the kinks K networks are taken."""

    turned: Sequence[tuple[int, Kink]] = ()  # a network, and a kink of which it takes the other side
    together: bool = False  # beside a kink all take the side of the first


SIDES = Sides()  # each its own


@dataclass(frozen=True, eq=False)
class Pass:
    """What a mini-batch shows of K networks; a column for each of its images."""

    loss: Floats  # (K,)
    outputs: Floats  # (K, outputs, batch)
    before: list[Floats]  # (K, units, batch) in front of each activation, at each time step
    hidden: list[Floats]  # (K, units, batch) behind each of these
    through_time: Floats  # (K, T) as in a Recording
    apart: Floats  # (K, L, 2) norms of the images' own gradients of W and of b, added up; 0 where nobody knows


class Propagation(Protocol):
    """Computes losses and gradients of an experiment's network."""

    def inputs(self, images: Floats) -> Floats:
        """The data (N, ...) in the shape in which they are taken."""

    def __call__(
        self, parameters: Floats, images: Floats, labels: Ints, gradients: Floats, sides: Sides, sizes: Floats | None, /
    ) -> Pass:
        """Write the gradients of parameters (K, P); images (K, batch, ...) or, for all the same, (batch, ...), and
        their norms (..., batch), where these are known."""


class _ByHand:
    """Back-propagation through a plain stack of layers."""

    def __init__(self, e: Experiment) -> None:
        self.e = e

    def inputs(self, images: Floats) -> Floats:
        return images.reshape(len(images), -1)

    def __call__(
        self, parameters: Floats, images: Floats, labels: Ints, gradients: Floats, sides: Sides, sizes: Floats | None
    ) -> Pass:
        layers, slopes = (layers_of(flat, self.e.widths) for flat in (parameters, gradients))
        loss, before, hidden, apart = _backpropagate(layers, images, labels, self.e, slopes, sides, sizes)
        return Pass(loss, before[-1], before[:-1], hidden, np.zeros((len(parameters), 0)), apart)


def _propagation(e: Experiment, origin: Origin, dtype: DTypeLike) -> Propagation:
    if e.plain:
        return _ByHand(e)
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
        self.kinks: list[list[Kink]] = [[] for _ in chosen]
        self.listed = True
        self.propagate = _propagation(e, recording.origin, dtype)
        inputs, self.labels = _data(e)
        self.images = self.propagate.inputs(inputs)
        self.sizes: Floats = _sizes_of(e).astype(dtype)
        self.orders: dict[int, list[Ints]] = {}  # of each epoch, its mini-batches
        self.taken = self.cast = self.images[:0]  # room for a mini-batch's images, as they lie and in the replay's numbers
        # sd of the gradients, the largest so far
        self.spread: Floats = np.zeros((len(chosen), len(self.origin.layers)))

    def block(self, steps: int) -> dict[str, Floats]:
        """The next iterations' figures, (K, steps, ...) each."""
        e, own = self.e, self.parameters
        parameters, gradients = (np.empty((n, *own.shape), own.dtype) for n in (steps + 1, steps))
        losses = np.empty((steps, len(own)), own.dtype)
        factors = np.empty((steps, len(own), len(self.origin.layers)), own.dtype)
        apart = np.empty((*factors.shape, 2), own.dtype)
        parameters[0] = own
        for row in range(steps):
            images, labels, sizes = self._batch()
            turned = [(k, kink) for k, kinks in enumerate(self.turned) for kink in kinks if kink.row == self.done]
            sides = Sides(turned, self.together)
            seen = self.propagate(parameters[row], images, labels, gradients[row], sides, sizes)
            losses[row] = seen.loss
            for k, kink in _kinks(seen.before, e, self.done) if self.listed else ():
                self.kinks[k].append(kink)
            factors[row] = _clip(gradients[row], e, self.origin)
            apart[row] = seen.apart * factors[row, ..., None]
            np.subtract(parameters[row], self._change(gradients[row]), out=parameters[row + 1])
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
        for k, kink in _kinks(seen.before, e, 0):
            kinks[k].append(kink)
        rows = tuple(w for w, _ in matrices_of(gradients, recording.origin))
        # where there is time, what stands behind its last step
        behind = len(seen.hidden) - len(recording.origin.activations)
        last = list(zip(seen.hidden, seen.before, strict=True))[max(0, behind) :]
        return Probes(
            loss=seen.loss,
            **_classified(_logits(seen.outputs), labels),
            hidden=_stacked([_sizes(h) for h, _ in last], (len(parameters), 0, 3)),
            flat=_stacked([_flat(h, z, e.activation) for h, z in last], (len(parameters), 0, 2, 2)),
            gradient=(taken := np.stack([statistics(g) for g in rows], axis=1)),
            zero_most=np.stack([_nearly_zero(np.abs(g), taken[:, k, _SD]) for k, g in enumerate(rows)], axis=1),
            gradients=rows,
            through_time=seen.through_time,
            kinks=kinks,
        )


def _stacked(found: list[Floats], none: tuple[int, ...]) -> Floats:
    return np.stack(found, axis=1) if found else np.zeros(none)


def _logits(outputs: Floats) -> Floats:
    """Outputs (..., outputs, batch) with a logit for each class: a single one is the logit against 0."""
    if outputs.shape[-2] > 1:
        return outputs
    return np.concatenate([np.zeros_like(outputs), outputs], axis=-2)


def _log_softmax(logits: Floats) -> Floats:
    """Along the classes of logits (..., classes, batch)."""
    z = logits - logits.max(axis=-2, keepdims=True)
    found: Floats = z - np.log(np.exp(z).sum(axis=-2, keepdims=True))
    return found


def _classified(logits: Floats, labels: Ints) -> dict[str, Floats]:
    """Accuracy (C, 2), least and most, and mean |p - y| (C,), of logits (C, classes, batch)."""
    right = np.take_along_axis(logits, labels[None, None], axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, np.broadcast_to(labels, right.shape)[:, None], -np.inf, axis=1)
    lead, room = right - others.max(axis=1), ROOM * logits.std(axis=(1, 2), dtype=np.float64)[:, None]
    p_right = np.take_along_axis(np.exp(_log_softmax(logits)), labels[None, None], axis=1)[:, 0]
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


def forward(
    layers: Layers, images: Floats, e: Experiment, sides: Sides = SIDES
) -> tuple[list[Floats], list[Floats], Floats]:
    """What goes into each layer (..., inputs, batch), what comes out of it before the activation (..., outputs,
    batch), and the logarithms of the classes' probabilities (..., classes, batch), for images (..., batch, inputs)."""
    inputs, before = [images.swapaxes(-1, -2)], []
    for index, (weights, biases) in enumerate(layers):
        z = weights @ inputs[-1] if index else _of_images(weights, images)
        before.append(np.add(z, biases[..., None], order="C"))
        for k, kink in sides.turned:
            if kink.layer == index:
                before[-1][k, kink.unit, kink.image] *= -1
        if sides.together and e.activation in KINKED and index < len(layers) - 1:
            before[-1] = on_side_of(before[-1][:1], before[-1])
        inputs.append(_activated(before[-1], e))
    return inputs[:-1], before, _log_softmax(_logits(before[-1]))


def _of_images(weights: Floats, images: Floats) -> Floats:
    """Weights (..., outputs, inputs) times images (..., batch, inputs), (..., outputs, batch).

    Images lie in rows, and it is they that should come first in the product; where all networks see the same ones,
    it is one product.
    """
    if images.ndim < weights.ndim:
        together: Floats = weights.reshape(-1, weights.shape[-1]) @ images.T
        return together.reshape(*weights.shape[:-1], len(images))
    *networks, batch, inputs = images.shape
    pieces = _pieces(batch, inputs * weights.shape[-2])
    parts = images.reshape(*networks, pieces, batch // pieces, inputs) @ weights[..., None, :, :].swapaxes(-1, -2)
    return parts.reshape(*networks, batch, -1).swapaxes(-1, -2)


def _by_images(d: Floats, images: Floats, into: Floats) -> None:
    """What comes back (..., outputs, batch) times images (..., batch, inputs)."""
    if images.ndim < d.ndim:
        into[...] = (d.reshape(-1, len(images)) @ images).reshape(into.shape)
        return
    *networks, batch, inputs = images.shape
    pieces = _pieces(inputs, batch * d.shape[-2])
    parts = (values.reshape(*values.shape[:-1], pieces, -1).swapaxes(-2, -3) for values in (images, into))
    np.matmul(d[..., None, :, :], *parts)


def _pieces(count: int, each: int) -> int:
    """Into how many equal parts a product is cut, of `count` rows or columns with `each` multiplications: the fewest of
    at most SMALL, or one where that takes too many."""
    few = (pieces for pieces in range(1, MOST_PIECES + 1) if count % pieces == 0 and count * each <= SMALL * pieces)
    return next(few, 1)


def _activated(z: Floats, e: Experiment) -> Floats:
    if e.activation == "relu":  # these as below, without a detour through float64
        return np.maximum(z, 0)
    if e.activation == "sigmoid":
        return 1 / (1 + np.exp(-z))
    found: Floats = theory.value(e.activation, z, e.slope).astype(z.dtype, copy=False)
    return found


def _slope(z: Floats, h: Floats, e: Experiment) -> Floats:
    """The activation's slope at z, where its value is h."""
    if e.activation == "relu":
        return z > 0
    if e.activation == "sigmoid":
        return h * (1 - h)
    if e.activation == "tanh":
        return 1 - h * h
    found: Floats = theory.slope(e.activation, z, e.slope).astype(z.dtype, copy=False)
    return found


def backpropagate(
    layers: Layers, images: Floats, labels: Ints, e: Experiment, into: Layers | None = None
) -> tuple[Floats, Layers]:
    """Mean cross-entropy in nats (...) of images (..., batch, inputs) with labels (..., batch), and its gradients in
    the layers' shapes, in new arrays or `into` these."""
    gradients = into if into is not None else [(np.empty_like(w), np.empty_like(b)) for w, b in layers]
    loss, *_ = _backpropagate(layers, images, labels, e, gradients)
    return loss, gradients


def _backpropagate(
    layers: Layers,
    images: Floats,
    labels: Ints,
    e: Experiment,
    gradients: Layers,
    sides: Sides = SIDES,
    sizes: Floats | None = None,
) -> tuple[Floats, list[Floats], list[Floats], Floats]:
    """Write the gradients; give the loss, what comes out of each layer before the activation, and behind it, and the
    sizes (..., L, 2) of the images' own gradients. `sizes` are the images' norms, where they are known."""
    inputs, before, log_p = forward(layers, images, e, sides)
    right = np.broadcast_to(labels[..., None, :] == np.arange(log_p.shape[-2])[:, None], log_p.shape)
    loss = -log_p[right].reshape(*log_p.shape[:-2], -1).mean(axis=-1)  # one class for each image
    d = np.exp(log_p)
    d -= right
    d = d[..., -before[-1].shape[-2] :, :] / log_p.shape[-1]
    apart = np.empty((*d.shape[:-2], len(layers), 2), d.dtype)
    share = 1 + UNSURE / (d.shape[-1] * np.maximum(_norms(d), _LEAST_ERROR))
    for index in reversed(range(len(layers))):
        one = share * _norms(d)
        entering = sizes if index == 0 and sizes is not None else _norms(inputs[index])
        apart[..., index, 0] = (one * entering).sum(axis=-1)
        apart[..., index, 1] = one.sum(axis=-1)
        if index:
            np.matmul(d, inputs[index].swapaxes(-1, -2), out=gradients[index][0])
        else:
            _by_images(d, images, gradients[0][0])
        np.add.reduce(d, axis=-1, out=gradients[index][1])
        if index:
            d = (layers[index][0].swapaxes(-1, -2) @ d) * _slope(before[index - 1], inputs[index], e)
    return loss, before, inputs[1:], apart


def on_side_of(first: Floats, z: Floats) -> Floats:
    """Values (..., units, batch), those beside the kink on the side of the first's."""
    size = np.abs(z)
    beside = size < BESIDE * size.mean(axis=-1, keepdims=True)
    sided = np.where(first > 0, np.maximum(size, np.finfo(z.dtype).tiny), -size)
    found: Floats = np.where(beside, sided, z)
    return found


def _kinks(before: list[Floats], e: Experiment, row: int) -> list[tuple[int, Kink]]:
    """The values (K, units, batch) of each layer that lie beside the activation's kink, and whose they are.

    What is exactly 0 is so in every kind of numbers: units without any input.
    """
    if e.activation not in KINKED:
        return []
    found = []
    for layer, z in enumerate(before):
        size = np.abs(z)
        scale = size.mean(axis=-1, keepdims=True)
        beside = size < BESIDE * scale
        if not beside.any():
            continue
        near = np.argwhere(beside & (size > 0) & (scale < np.inf))
        found += [(k, Kink(row, layer, unit, image)) for k, unit, image in near[:MOST_BESIDE].tolist()]
    return found


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
    return _counted(size <= (ZERO * spread[..., None]).astype(size.dtype)) / size.shape[-1]


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
    found = _split(flat, [math.prod(shape) for _, shape in origin.parameters])
    parts = dict(zip((name for name, _ in origin.parameters), found, strict=True))
    names = [name for name, _ in origin.parameters[: len(origin.layers)]]
    return [(parts[name], parts.get(name.removesuffix("weight") + "bias")) for name in names]


def layers_of(flat: Floats, widths: Sequence[int]) -> Layers:
    """Weights and biases of each layer as views of rows (..., P) in a checkpoint's order."""
    shapes = [(fan_out, fan_in) for fan_in, fan_out in pairwise(widths)]
    sizes = [a * b for a, b in shapes] + [a for a, _ in shapes]
    parts = _split(flat, sizes)
    matrices = [part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=False)]
    return list(zip(matrices, parts[len(shapes) :], strict=True))


def _split(flat: Floats, sizes: Sequence[int]) -> list[Floats]:
    """Views of rows (..., P), so many columns each."""
    ends = list(accumulate(sizes, initial=0))
    return [flat[..., start:end] for start, end in pairwise(ends)]


def moments_of(e: Experiment) -> tuple[str, ...]:
    """Names of the moments that the experiment's optimiser keeps."""
    return {"adam": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg",), "sgd": ()}[e.optimizer]


def _shaken(parameters: Floats, shake: Sequence[float]) -> Floats:
    """Rows (K, P), the values of each moved by a share of themselves, up or down."""
    if not shake:
        return parameters
    signs = np.where(np.arange(parameters.shape[1]) % 3, 1, -1)
    moved: Floats = (parameters * (1 + np.outer(shake, signs))).astype(parameters.dtype)
    return moved


def _norms(columns: Floats) -> Floats:
    """(..., batch) the norm of each column of (..., units, batch)."""
    found: Floats = np.sqrt(np.einsum("...ui,...ui->...i", columns, columns))
    return found


def _norm(values: Floats) -> Floats:
    return np.sqrt(_dot(values, values))


def _dot(a: Floats, b: Floats) -> Floats:
    found: Floats = np.matmul(a[..., None, :], b[..., :, None])[..., 0, 0]
    return found


def _clip(gradients: Floats, e: Experiment, origin: Origin) -> Floats:
    """Clip rows of gradients (K, P) as the experiment has it, in place; (K, L) what it made of each layer's norm."""
    ones = np.ones((len(gradients), len(origin.layers)), gradients.dtype)
    if e.clip_norm is not None:
        factor: Floats = np.minimum(1, e.clip_norm / (_norm(gradients) + 1e-6)).astype(gradients.dtype)
        gradients *= factor[:, None]
        return ones * factor[:, None]
    if e.clip_each is not None:
        sizes = [math.prod(shape) for _, shape in origin.parameters]
        parts = _split(gradients, sizes)
        factors = [np.minimum(1, e.clip_each / (_norm(part) + 1e-6)).astype(gradients.dtype) for part in parts]
        for part, factor in zip(parts, factors, strict=True):
            part *= factor[:, None]
        return np.stack(factors[: len(origin.layers)], axis=-1)
    if e.clip_value is not None:
        layers = [w for w, _ in matrices_of(gradients, origin)]
        before = [_norm(w) for w in layers]
        np.clip(gradients, -e.clip_value, e.clip_value, out=gradients)
        return np.nan_to_num(np.stack([_norm(w) / n for w, n in zip(layers, before, strict=True)], axis=-1), nan=1.0)
    return ones


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
