"""The gradients of plain networks by the chain rule, written out in numpy, K networks side by side.

Written once more and apart from `labkit.dense`, which trains, so that neither can hide the other's fault, and so that a
grader needs no torch. K networks are multiplied along a leading axis, with a column for each image.

Where an activation has a kink, rounding decides on which side of it a value beside it falls, and with it whether an
image counts in a unit's gradient. Both sides are honest, so these values can be listed, and taken on their other side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labkit import activations
from labkit.experiments import Experiment

Floats = NDArray[Any]  # float64, or float32 where a replay is asked to run in it
Ints = NDArray[np.int64]
Layers = list[tuple[Floats, Floats]]  # weights (..., outputs, inputs) and biases (..., outputs), input side first
# Up to so many multiplications OpenBLAS multiplies matrices where they lie (its small matrix optimization); beyond, it
# copies them beforehand, which takes longer than the product itself where one of them is as narrow as a layer of S1.
SMALL, MOST_PIECES = 10**6, 8
KINKED = ("relu", "leaky_relu")
BESIDE = 2e-5  # of a unit's mean |z|: after an epoch in float32, values are within 1e-6 (benchmarks/tolerance.py)
# Where an image is classified without doubt, p - y is a small difference of large numbers: its rounding is that of p,
# for which this share of 1 is added to its size, and to what comes of it in every layer.
UNSURE, _LEAST_ERROR = 0.2, 1e-30
WIDE = 2e-4  # within which they are listed: an honest run's rounding may swell, and sink again
MOST_BESIDE = 1000  # listed for one layer at one iteration; where there are more, a network is dying


@dataclass(frozen=True)
class Kink:
    """One value before an activation, so near 0 that rounding decides about its sign."""

    row: int  # iteration within the stretch, from 0
    layer: int  # from 0, input side first
    unit: int
    image: int  # in the mini-batch
    distance: float = field(default=0.0, compare=False)  # |z| over the unit's mean |z|

    @property
    def near(self) -> bool:
        """Is it as near as rounding comes that has not swollen?"""
        return self.distance < BESIDE


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
    apart: Floats  # (K, L, 2) norms of the images' own gradients of W and of b, added up; 0 if unknown


class Propagation(Protocol):
    """Computes losses and gradients of an experiment's network."""

    def inputs(self, images: Floats) -> Floats:
        """The data (N, ...) in the shape in which they are taken."""

    def __call__(
        self, parameters: Floats, images: Floats, labels: Ints, gradients: Floats, sides: Sides, sizes: Floats | None, /
    ) -> Pass:
        """Write the gradients of parameters (K, P); images (K, batch, ...) or, for all the same, (batch, ...), and
        their norms (..., batch), where the norms of the images' own gradients are wanted."""


class ByHand:
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
    true = _at(labels, log_p.shape)
    loss = -log_p.ravel()[true].reshape(*log_p.shape[:-2], -1).mean(axis=-1)
    d = np.exp(log_p, order="C")  # in one row, too
    d.ravel()[true] -= 1
    d = d[..., -before[-1].shape[-2] :, :] / log_p.shape[-1]
    apart = np.zeros((*d.shape[:-2], len(layers), 2), d.dtype)
    if sizes is not None:
        share = 1 + UNSURE / (d.shape[-1] * np.maximum(_norms(d), _LEAST_ERROR))
    for index in reversed(range(len(layers))):
        if sizes is not None:
            one = share * _norms(d)
            apart[..., index, 0] = (one * (_norms(inputs[index]) if index else sizes)).sum(axis=-1)
            apart[..., index, 1] = one.sum(axis=-1)
        if index:
            np.matmul(d, inputs[index].swapaxes(-1, -2), out=gradients[index][0])
        else:
            _by_images(d, images, gradients[0][0])
        np.add.reduce(d, axis=-1, out=gradients[index][1])
        if index:
            d = (layers[index][0].swapaxes(-1, -2) @ d) * _slope(before[index - 1], inputs[index], e)
    return loss, before, inputs[1:], apart


def _at(labels: Ints, shape: tuple[int, ...]) -> Ints:
    """Where each image's class stands in values of that shape (..., classes, batch), laid out in one row."""
    *networks, classes, batch = shape
    first = np.arange(math.prod(networks)).reshape(*networks, 1) * (classes * batch)
    found: Ints = (first + labels * batch + np.arange(batch)).ravel()
    return found


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
    return inputs[:-1], before, log_softmax(logits_of(before[-1]))


def logits_of(outputs: Floats) -> Floats:
    """Outputs (..., outputs, batch) with a logit for each class: a single one is the logit against 0."""
    if outputs.shape[-2] > 1:
        return outputs
    return np.concatenate([np.zeros_like(outputs), outputs], axis=-2)


def log_softmax(logits: Floats) -> Floats:
    """Along the classes of logits (..., classes, batch)."""
    z = logits - logits.max(axis=-2, keepdims=True)
    found: Floats = z - np.log(np.exp(z).sum(axis=-2, keepdims=True))
    return found


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
    batch, inputs = images.shape[-2:]
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
    found: Floats = activations.value(e.activation, z, e.slope).astype(z.dtype, copy=False)
    return found


def _slope(z: Floats, h: Floats, e: Experiment) -> Floats:
    """The activation's slope at z, where its value is h."""
    if e.activation == "relu":
        return z > 0
    if e.activation in ("sigmoid", "tanh"):
        along: Floats = h * (1 - h) if e.activation == "sigmoid" else 1 - h * h
        return along
    found: Floats = activations.slope(e.activation, z, e.slope).astype(z.dtype, copy=False)
    return found


def _norms(columns: Floats) -> Floats:
    """(..., batch) the norm of each column of (..., units, batch)."""
    found: Floats = np.sqrt(np.einsum("...ui,...ui->...i", columns, columns))
    return found


def on_side_of(first: Floats, z: Floats) -> Floats:
    """Values (..., units, batch), those beside the kink on the side of the first's."""
    size = np.abs(z)
    beside = size < BESIDE * size.mean(axis=-1, keepdims=True)
    sided = np.where(first > 0, np.maximum(size, np.finfo(z.dtype).tiny), -size)
    found: Floats = np.where(beside, sided, z)
    return found


def kinks_of(before: list[Floats], e: Experiment, row: int) -> list[tuple[int, Kink]]:
    """The values (K, units, batch) of each layer that lie beside the activation's kink, and whose they are.

    What is exactly 0 is so in every kind of numbers: units without any input.
    """
    if e.activation not in KINKED:
        return []
    found = []
    for layer, z in enumerate(before):
        size = np.abs(z)
        scale = size.mean(axis=-1, keepdims=True)
        beside = size < WIDE * scale
        if not beside.any():
            continue
        near = np.argwhere(beside & (size > 0) & (scale < np.inf))[:MOST_BESIDE]
        distances = size[tuple(near.T)] / scale[tuple(near[:, :2].T)][:, 0]
        rows = zip(near.tolist(), distances.tolist(), strict=True)
        found += [(k, Kink(row, layer, unit, image, distance)) for (k, unit, image), distance in rows]
    return found


def layers_of(flat: Floats, widths: Sequence[int]) -> Layers:
    """Weights and biases of each layer as views of rows (..., P) in a checkpoint's order."""
    shapes = [(fan_out, fan_in) for fan_in, fan_out in pairwise(widths)]
    sizes = [a * b for a, b in shapes] + [a for a, _ in shapes]
    parts = split(flat, sizes)
    matrices = [part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=False)]
    return list(zip(matrices, parts[len(shapes) :], strict=True))


def split(flat: Floats, sizes: Sequence[int]) -> list[Floats]:
    """Views of rows (..., P), so many columns each."""
    ends = list(accumulate(sizes, initial=0))
    return [flat[..., start:end] for start, end in pairwise(ends)]
