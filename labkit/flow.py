"""How a recorded gradient changes from layer to layer on its way to the input, and from time step to time step.

Two estimates, from what was recorded on the way; where the experiment is known, `labkit.backward` measures it.

For a weight matrix W_l behind activations h, dloss/dW_l = dloss/dz_l h^T, so that rms(dloss/dW_l) / rms(h) is the size
of dloss/dz_l, up to how alike the images of a batch are. Its slope over the hidden layers, on a logarithmic scale,
gives the gain per layer of `labkit.theory.gain`.

A batch's gradient is a mean in which single images' gradients cancel, and not alike in all layers: in networks of five
units that reaches a factor of ten. So a second look, `passed_on`, goes from the outputs to the first layer by the
recorded weights and the mean slopes of the activations, where nothing can cancel. Its own fault is that it takes all
units of a layer for alike.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.experiments import RECURRENT, Activation
from labkit.recording import Recording

Floats = NDArray[np.float64]

# Root mean square of the inputs, which a recording does not hold: 5,000 of our digits, MNIST's mean 0.1307 and sd
# 0.3081, 1,000 points on circles. Where the data are none of these, the first step's bias gradients tell.
INPUT_SIZE = {"digits": 0.269, "mnist": 0.335, "circles": 0.567}


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
