"""How a recorded gradient changes from layer to layer on its way to the input, and from time step to time step.

Where a recording's experiment is known, `single_images` measures it: it takes the recorded parameters and the first
images of the experiment's data, and carries each image's own gradient back through the network, skip connections and
normalisations included. For all others there are two estimates, from what was recorded on the way.

For a weight matrix W_l behind activations h, dloss/dW_l = dloss/dz_l h^T, so that rms(dloss/dW_l) / rms(h) is the size
of dloss/dz_l, up to how alike the images of a batch are. Its slope over the hidden layers, on a logarithmic scale,
gives the gain per layer of `labkit.theory.gain`.

A batch's gradient is a mean in which single images' gradients cancel, and not alike in all layers: in networks of five
units that reaches a factor of ten. So a second look, `passed_on`, goes from the outputs to the first layer by the
recorded weights and the mean slopes of the activations, where nothing can cancel. Its own fault is that it takes all
units of a layer for alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from labkit import data
from labkit.activations import slope, value
from labkit.experiments import RECURRENT, Activation, Experiment
from labkit.recording import PROBE, Recording

Floats = NDArray[np.float64]

# Root mean square of the inputs, which a recording does not hold: 5,000 of our digits, MNIST's mean 0.1307 and sd
# 0.3081, 1,000 points on circles. Where the data are none of these, the first step's bias gradients tell.
INPUT_SIZE = {"digits": 0.269, "mnist": 0.335, "circles": 0.567}

LOOKS = 26  # rows of a long training whose gradients are carried back: the start, the end, and as many between
EPSILON = 1e-5  # that a normalisation adds to the variance, as torch has it
ALIKE = 1e-3  # share by which a recorded loss and the one computed anew may differ; float32's own is 1e-6


# Carried back, image by image


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
        found[row] = [math.sqrt(mean_square(delta)) for delta in deltas]
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


# What a recording tells by itself


def units(recording: Recording) -> list[int]:
    return [shape[0] for shape in recording.origin.shapes]


def chain(recording: Recording) -> bool:
    """Are these fully connected layers, one behind the other, each hidden one with one activation behind it?"""
    shapes = recording.origin.shapes
    if any(len(shape) != 2 for shape in shapes) or len(recording.origin.activations) != len(shapes) - 1:
        return False
    experiment = recording.origin.experiment
    if experiment is not None and (experiment.residual or experiment.architecture != "mlp"):
        return False  # what enters a layer is more than the activation before it
    return all(after[1] == before[0] for before, after in pairwise(shapes))


def recurrent(recording: Recording) -> bool:
    experiment = recording.origin.experiment
    return recording.through_time.shape[1] > 0 or (experiment is not None and experiment.architecture in RECURRENT)


def compared(recording: Recording) -> tuple[int, ...]:
    """The layers whose gradients can be compared: the hidden ones, without a first one that has unknown inputs."""
    layers = len(recording.layers)
    if recurrent(recording):
        return ()  # their layers do not lie behind each other, their time steps do
    if not chain(recording):
        return tuple(range(1, layers - 1))
    first = 0 if math.isfinite(_input_size(recording)) else 1
    return tuple(range(first, layers - 1))


def sizes(recording: Recording) -> Floats:
    """(E+1, L) size of dloss/dz; of dloss/dW itself where the layers are no chain. One row, the first iteration's, for
    a loop without a probe batch."""
    counts = np.array([math.prod(shape) for shape in recording.origin.shapes], dtype=np.float64)
    probed = recording.probe_statistic("norm").astype(np.float64)
    if not np.isfinite(probed).any():
        return _sizes_without_probe(recording, counts)
    weights = probed / np.sqrt(counts)
    if not chain(recording):
        return weights
    mean, sd = (recording.hidden_statistic(name).astype(np.float64) for name in ("mean", "sd"))
    entering = np.column_stack([np.full(len(mean), _input_size(recording)), np.hypot(mean, sd)])
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = weights / entering
    return found


def _sizes_without_probe(recording: Recording, counts: Floats) -> Floats:
    """(E+1, L) from every epoch's last mini-batch, the first row from the first; what enters a layer is taken to stay
    as it was at the first step, at which dloss/dW over dloss/db tells its size."""
    norms = recording.statistic("norm").astype(np.float64)
    rows = [0, *(min(int(end), recording.iterations) - 1 for end in recording.epoch_end)]
    weights: Floats = norms[rows] / np.sqrt(counts)
    biases = _bias_gradients(recording)
    if not chain(recording) or not (biases > 0).all():
        return weights
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = weights * (biases / weights[0])
    return found


def _input_size(recording: Recording) -> float:
    """Root mean square of the inputs; NaN where nothing tells it."""
    experiment = recording.origin.experiment
    if experiment is not None and experiment.data in INPUT_SIZE:
        return INPUT_SIZE[experiment.data]
    biases = _bias_gradients(recording)
    norm = float(recording.statistic("norm")[0, 0]) / math.sqrt(math.prod(recording.origin.shapes[0]))
    return norm / float(biases[0]) if biases[0] > 0 else math.nan


def _bias_gradients(recording: Recording) -> Floats:
    """(L,) root mean square of dloss/db at the first step, from the optimiser's moments behind it, or from the step
    itself where it has none and plain SGD is all there is; NaN where a layer has no bias or nothing tells."""
    unknown = np.full(len(recording.layers), math.nan)
    if recording.checkpoint_iteration.tolist()[:2] != [0, 1]:
        return unknown
    moments = recording.origin.moments
    if first := [m for m in ("exp_avg", "momentum_buffer") if m in moments]:
        step = recording.checkpoint_moment(1, first[0])
    elif squares := [m for m in ("exp_avg_sq", "square_avg") if m in moments]:
        step = {name: np.sqrt(value) for name, value in recording.checkpoint_moment(1, squares[0]).items()}
    else:
        step = _steps(recording.checkpoint(0), recording.checkpoint(1))
    weights, biases = _pairs(recording, step)
    # moments and steps are gradients times one unknown factor, which the weights' own gradient gives away
    norms = recording.statistic("norm")[0].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = biases * norms / weights
    return found


def _steps(before: dict[str, NDArray[Any]], after: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """By how much each parameter changed; NaN where rounding decided about that."""
    found = {name: after[name].astype(np.float64) - before[name] for name in before}
    for name, old in before.items():
        if np.linalg.norm(found[name]) < 100 * np.finfo(old.dtype).eps * np.linalg.norm(old):
            found[name] = np.full(old.shape, math.nan)
    return found


def _pairs(recording: Recording, step: dict[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """(L,) each: norms of what happened to the weights of a layer, and root mean squares of its biases'."""
    weights, biases = [], []
    matrices = [name for name, shape in recording.origin.parameters if len(shape) > 1]
    for name in matrices:
        weights.append(float(np.linalg.norm(step[name].astype(np.float64))))
        bias = step.get(name.removesuffix("weight") + "bias")
        biases.append(math.nan if bias is None else float(np.sqrt(np.mean(bias.astype(np.float64) ** 2))))
    return np.array(weights), np.array(biases)


def over(sizes: Floats, steps: int, units: Sequence[int]) -> tuple[Floats, Floats]:
    """(E+1,) gain per layer and reach over `steps` layers, from sizes (E+1, n) of n layers with these units.

    The slope of the logarithms over depth, least squares. From a layer of n to one of m units a root mean square
    changes by sqrt(n), a norm by sqrt(m), at the usual scales of the weights; between the two, (n m)^(1/4), widths
    leave no trace.
    """
    rows, n = sizes.shape
    if n < 2:
        return np.full(rows, math.nan), np.full(rows, math.nan)
    with np.errstate(divide="ignore"):
        logarithm = np.log(sizes) + np.log(np.asarray(units, dtype=np.float64)) / 4
    logarithm = np.where(np.isfinite(logarithm), logarithm, np.nan)
    depth = np.arange(n) - (n - 1) / 2
    slope = logarithm @ depth / (depth @ depth)  # of ln size, for one layer towards the outputs
    return np.exp(-2 * slope), np.exp(-slope * steps)


def measured(sizes: Floats, units: Sequence[int]) -> tuple[Floats, Floats]:
    """(E+1,) gain per layer and reach from sizes (E+1, L) of single images' gradients in layers with these units.

    The gain is the geometric mean of those between hidden layers, which theory's band is about, and which their widths,
    as in `over`, leave no trace in. The reach is the norm at the first layer over that at the outputs, so that an
    output layer whose gain is another, or no skip connection's, counts as it is.
    """
    rows, layers = sizes.shape
    if layers < 3:
        return np.full(rows, math.nan), np.full(rows, math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.log(sizes[:, 0] / sizes[:, -2]) * 2 + math.log(units[0] / units[-2]) / 2
        reach = sizes[:, 0] / sizes[:, -1] * math.sqrt(units[0] / units[-1])
    known = np.isfinite(gains)
    return np.where(known, np.exp(gains / (layers - 2)), math.nan), np.where(known, reach, math.nan)


def time(recording: Recording) -> Floats:
    """(E+1,) size of the gradient at the first time step over that at the last; empty without time."""
    norms = recording.through_time.astype(np.float64)
    if norms.shape[1] < 2:
        return np.zeros(0)
    floor = norms.max(axis=1, keepdims=True) * 1e-30  # an underflow is the smallest size there is, not none
    return over(np.maximum(norms, floor), norms.shape[1] - 1, [1] * norms.shape[1])[1]


def passed_on(recording: Recording) -> Floats:
    """(E+1, L) root mean square of d outputs / dz, by the weights at the end of each epoch and each activation's mean
    squared slope on the probe batch; NaN where the layers are no plain chain, or slopes cannot be told."""
    unknown = np.full((recording.epochs + 1, len(recording.layers)), math.nan)
    slopes = mean_slopes(recording)
    plain = len(recording.origin.parameters) <= 2 * len(recording.layers)  # none that normalises
    if not (chain(recording) and plain and np.isfinite(slopes[:1]).all()):
        return unknown
    taken = {int(iteration): at for at, iteration in enumerate(recording.checkpoint_iteration)}
    matrices = [name for name, shape in recording.origin.parameters if len(shape) > 1]
    for row, end in enumerate([0, *recording.epoch_end.tolist()]):
        if end not in taken or not np.isfinite(slopes[row]).all():
            continue
        weights = recording.checkpoint(taken[end])
        jacobian = np.eye(recording.origin.shapes[-1][0])
        unknown[row, -1] = 1
        for layer in range(len(matrices) - 2, -1, -1):
            jacobian = jacobian @ weights[matrices[layer + 1]].astype(np.float64) * slopes[row, layer]
            unknown[row, layer] = math.sqrt(float(np.mean(jacobian**2)))
    return unknown


def mean_slopes(recording: Recording) -> Floats:
    """(E+1, A) root mean square of each hidden activation's slope; NaN for one that its values do not tell it of.

    Values of a sigmoid are taken to have a beta distribution, which their mean and variance decide, and which is right
    where all are alike and where all are saturated; those of tanh likewise.
    """
    activation = named_activation(recording)
    mean, sd, flat = (recording.hidden_statistic(name).astype(np.float64) for name in ("mean", "sd", "saturated"))
    if activation == "linear":
        return np.ones_like(mean)
    if activation == "relu":
        return np.sqrt(1 - flat)
    if activation == "leaky_relu" and (e := recording.origin.experiment) is not None:
        return _leaky_slope(mean, recording.hidden_statistic("abs_mean").astype(np.float64), e.slope)
    if activation == "sigmoid":
        return _beta_slope(mean, sd)
    return 4 * _beta_slope((mean + 1) / 2, sd / 2) if activation == "tanh" else np.full(mean.shape, math.nan)


def _leaky_slope(mean: Floats, size: Floats, below: float) -> Floats:
    """Root mean square of the slope of leaky_relu, whose values have this mean and mean size: what comes in above 0 and
    below is taken to be of one size, so that the shares of the two are as what comes out, made good for the slope."""
    above, under = (size + mean) / 2, (size - mean) / 2 / below
    with np.errstate(invalid="ignore"):
        share = above / (above + under)
    return np.sqrt(share + (1 - share) * below**2)


def _beta_slope(mean: Floats, sd: Floats) -> Floats:
    """Root mean square of h (1 - h) for values h of a beta distribution with that mean and sd."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.maximum(mean * (1 - mean) / sd**2 - 1, 0)  # a + b
        a, b = mean * n, (1 - mean) * n
        spread = a * (a + 1) * b * (b + 1) / (n * (n + 1) * (n + 2) * (n + 3))
    alike = (mean * (1 - mean)) ** 2
    found: Floats = np.sqrt(np.where(n > 1e12, alike, np.where(n > 0, spread, 0 * mean)))
    return found


def mean_of_two(measured: Floats, passed_on: Floats) -> Floats:
    """Their geometric mean; the first where the second is not known."""
    with np.errstate(invalid="ignore"):
        both: Floats = np.sqrt(measured * passed_on)
    return np.where(np.isfinite(passed_on) & (passed_on > 0), both, measured)


def update_ratio(recording: Recording) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = recording.update_norm.astype(np.float64) / recording.weight_norm
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    known = ~np.isnan(ratio).all(axis=0)
    found = np.full(ratio.shape[1], math.nan)
    found[known] = np.nanmedian(ratio[:, known], axis=0)
    return found


def not_finite(recording: Recording) -> tuple[int, ...]:
    norms = recording.statistic("norm")
    bad = ~np.isfinite(recording.loss) | ~np.isfinite(norms).all(axis=1)
    bad |= (np.nan_to_num(recording.statistic("nonfinite"), nan=1.0) > 0).any(axis=1)
    return tuple((np.flatnonzero(bad) + 1).tolist())


def named_activation(recording: Recording) -> Activation | None:
    if recording.origin.experiment is not None:
        return recording.origin.experiment.activation
    names = {name.rpartition("_")[0] for name in recording.origin.activations}
    known: list[Activation] = [name for name in get_args(Activation) if names == {name}]
    return known[0] if known else None
