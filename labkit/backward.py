"""dloss/dz of single images, carried back through a recorded network: skip connections and normalisations included.

Where a recording's experiment is known, this measures what `labkit.flow` can only estimate. numpy in float64.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit import data
from labkit.activations import slope, value
from labkit.experiments import Experiment
from labkit.recording import PROBE, Recording

Floats = NDArray[np.float64]

LOOKS = 26  # rows of a long training whose gradients are carried back: the start, the end, and as many between
EPSILON = 1e-5  # that a normalisation adds to the variance, as torch has it
ALIKE = 1e-3  # share by which a recorded loss and the one computed anew may differ; float32's own is 1e-6


def single_images(recording: Recording) -> Floats:
    """(E+1, L) root mean square of single images' dloss/dz, over the units of a layer and the images of the probe
    batch, at the recorded checkpoints; NaN in rows without one, and between the rows that are looked at in a long run.

    All are NaN where it cannot be told: without an experiment, without its data, where it is no stack of fully
    connected layers, and where its data and the recorded parameters do not give the recorded loss.
    """
    unknown = np.full((recording.epochs + 1, len(recording.layers)), math.nan)
    e = recording.origin.experiment
    if e is None or not fits(recording, e):
        return unknown
    try:
        inputs, labels, digest = _probe(e)
    except data.DataError:
        return unknown
    if recording.origin.data_digest not in ("", digest):
        return unknown
    found = unknown.copy()
    for row, checkpoint in _looks(recording):
        deltas, loss = back_propagated(e, recording.checkpoint(checkpoint), inputs, labels)
        told = float(recording.probe_loss[row])
        if math.isfinite(told) and not abs(loss - told) <= ALIKE * max(abs(told), 0.1):
            return unknown  # a loop of one's own that follows the experiment's name alone
        found[row] = [_root_mean_square(delta) for delta in deltas]
    return found


def probe_batch(e: Experiment) -> tuple[Floats, NDArray[np.int64]]:
    """Inputs (images, values) and labels of the experiment's probe batch; `DataError` where its data cannot be had."""
    return _probe(e)[:2]


def _probe(e: Experiment) -> tuple[Floats, NDArray[np.int64], str]:
    drawn = data.of_experiment(e)
    inputs = drawn.inputs[:PROBE]
    return inputs.reshape(len(inputs), -1).astype(np.float64), drawn.labels[:PROBE], drawn.digest


def fits(recording: Recording, e: Experiment) -> bool:
    """Are the recorded parameters those of the experiment's stack of fully connected layers?"""
    shapes = tuple((after, before) for before, after in pairwise(e.widths))
    names = {name for name, _ in recording.origin.parameters}
    norms = {f"norm_{k}.weight" for k in range(1, len(shapes))} if e.normalisation != "none" else set()
    weights = {f"fc_{k}.weight" for k in range(1, len(shapes) + 1)} | norms
    biases = {name.replace("weight", "bias") for name in weights}
    unbiased = {f"fc_{k}.bias" for k in range(1, len(shapes))} if e.normalisation == "batch" else set()
    return e.architecture == "mlp" and recording.origin.shapes == shapes and names == weights | (biases - unbiased)


def _looks(recording: Recording) -> list[tuple[int, int]]:
    """Rows that have a checkpoint, with its number; of many the first, the last and some between."""
    taken = {int(iteration): at for at, iteration in enumerate(recording.checkpoint_iteration)}
    ends = [0, *recording.epoch_end.tolist()]
    rows = [(row, taken[end]) for row, end in enumerate(ends) if end in taken]
    if len(rows) <= LOOKS:
        return rows
    return [rows[round(at)] for at in np.linspace(0, len(rows) - 1, LOOKS)]


def mean_square(delta: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(delta**2))


def _root_mean_square(delta: Floats) -> float:
    """Also of what is so small, or so large, that its square is no number any more."""
    largest = float(np.abs(delta).max(initial=0))
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(mean_square(delta / largest))


def back_propagated(
    e: Experiment, parameters: Mapping[str, NDArray[Any]], inputs: Floats, labels: NDArray[np.int64]
) -> tuple[list[Floats], float]:
    """dloss/dz (images, units) of each fully connected layer, input side first, where every image has the loss of its
    own, and the mean of these losses, nats. z is what a layer gives, before a normalisation; in float64.

    A batch normalisation takes these images as its batch, so that an image's z has a part in the losses of all.
    """
    hidden: list[_Hidden] = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        x, last = inputs, len(e.widths) - 1
        for k in range(1, last):
            hidden.append(_Hidden.of(e, parameters, k, x))
            x = hidden[-1].leaving
        weights, z = _linear(parameters, last, x)
        delta, loss = _at_outputs(z, labels)
        found, back = [delta], delta @ weights
        for layer in reversed(hidden):
            found.append(delta := layer.delta(back))
            back = delta @ layer.weights + (back if layer.skipped else 0)
    return found[::-1], loss


@dataclass(frozen=True, eq=False)
class _Hidden:
    """A hidden layer on its way forward. N images, n units."""

    weights: Floats  # (n, inputs)
    leaving: Floats  # (N, n) what the next layer gets
    slope: Floats  # (N, n) of the activation
    skipped: bool  # is what enters added to what leaves?
    scale: Floats | None  # (n,) of a normalisation
    normed: Floats  # (N, n) z less its mean, over its standard deviation; z itself without a normalisation
    spread: Floats  # that standard deviation, (1, n) over a batch, (N, 1) over a layer
    axis: int  # 0 for a batch normalisation, 1 for one over a layer

    @classmethod
    def of(cls, e: Experiment, parameters: Mapping[str, NDArray[Any]], k: int, x: Floats) -> "_Hidden":
        weights, z = _linear(parameters, k, x)
        scale, normed, spread, axis = None, z, np.ones((1, 1)), 0 if e.normalisation == "batch" else 1
        if e.normalisation != "none":
            scale = parameters[f"norm_{k}.weight"].astype(np.float64)
            spread = np.sqrt(z.var(axis, keepdims=True) + EPSILON)
            normed = (z - z.mean(axis, keepdims=True)) / spread
            z = normed * scale + parameters[f"norm_{k}.bias"]
        skipped = e.residual and x.shape[1] == z.shape[1]
        leaving = value(e.activation, z, e.slope) + (x if skipped else 0)
        return cls(weights, leaving, slope(e.activation, z, e.slope), skipped, scale, normed, spread, axis)

    def delta(self, back: Floats) -> Floats:
        """dloss/dz from the loss's gradient with respect to what leaves; both (N, n)."""
        d: Floats = back * self.slope
        if self.scale is None:
            return d
        d = d * self.scale
        along, mean = (d * self.normed).mean(self.axis, keepdims=True), d.mean(self.axis, keepdims=True)
        found: Floats = (d - mean - self.normed * along) / self.spread
        return found


def _linear(parameters: Mapping[str, NDArray[Any]], k: int, x: Floats) -> tuple[Floats, Floats]:
    """Weights of layer k and its z; in front of a batch normalisation it has no biases."""
    weights = parameters[f"fc_{k}.weight"].astype(np.float64)
    return weights, x @ weights.T + parameters.get(f"fc_{k}.bias", 0)


def _at_outputs(z: Floats, labels: NDArray[np.int64]) -> tuple[Floats, float]:
    """p - y, the cross-entropy's gradient at the outputs (N, classes), and its mean; a single output z is 0 and z."""
    logits = z if z.shape[1] > 1 else np.column_stack([np.zeros(len(z)), z])
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    images = np.arange(len(z))
    delta = np.exp(log_p)
    delta[images, labels] -= 1
    return delta[:, -z.shape[1] :], float(-log_p[images, labels].mean())
