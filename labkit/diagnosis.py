"""diagnose(recording): do the gradients vanish or explode on their way to the first layer? Verdict, why, next.

No size of a gradient is large or small by itself: multiply a loss by a thousand and all of them grow alike. What counts
is what one layer makes of the gradient that reaches it. For a weight matrix W_l behind activations h, dloss/dW_l =
dloss/dz_l h^T, so that rms(dloss/dW_l) / rms(h) is the size of dloss/dz_l, up to how alike the images of a batch are.
Its slope over the hidden layers, on a logarithmic scale, gives the gain per layer of `labkit.theory.gain`; that gain
over all layers gives the reach: by what the size changes from the outputs to the first layer. Weight gradients by
themselves do not show it: with relu their sizes are equal at any gain (see `labkit.theory.weight_gain`).

A batch's gradient is a mean in which single images' gradients cancel, and not alike in all layers: in networks of five
units that reaches a factor of ten. So a second look goes from the outputs to the first layer by the recorded weights
and the mean slopes of the activations, where nothing can cancel. Its own fault is that it takes all units of a layer
for alike. Where both are known, a gain is the geometric mean of the two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.experiments import RECURRENT, Activation, Experiment, ExperimentError
from labkit.recording import Recording, RecordingError
from labkit.theory import HOMOGENEOUS, fixed_point, gain, gain_band, log_size_variance, weight_variance

Floats = NDArray[np.float64]
Verdict = Literal["healthy", "vanishing", "exploding", "dead", "not finite", "nothing to compare"]

VANISHED = 1 / 10  # of its size is left of a gradient on its way to the first layer: an order of magnitude
RECOVERED = 1 / 2  # is left on average over training: the network grew out of a start at which gradients vanished
EXPLODED = 4.0  # times its size has a gradient become; relu's gradients lose their likeness, and up to half of it
EARLY = 0.05  # of the training counts as its start, one probe row at least
CERTAIN = 0.9995  # of the networks with a gain of 1 are below what one that explodes has to exceed
LIKELY = 0.9  # of them are above what one that vanishes at the start has to fall short of
NAMED = 5  # iterations that a sentence lists
# Root mean square of the inputs, which a recording does not hold: 5,000 of our digits, MNIST's mean 0.1307 and sd
# 0.3081, 1,000 points on circles. Where the data are none of these, the first step's bias gradients tell.
_INPUT_SIZE = {"digits": 0.269, "mnist": 0.335, "circles": 0.567}
_TINY = 1e-30  # a product of sizes below this is a matter of float32's range, not of a unit that is dead


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a recording says about its gradients. E epochs, L layers."""

    name: str  # of the experiment
    verdict: Verdict
    why: tuple[str, ...]  # sentences with the figures
    next: tuple[str, ...]  # what to try
    layers: tuple[str, ...]  # L names
    size: Floats  # (E+1, L) of dloss/dz in every layer, in any unit; NaN where it is not known
    gain: Floats  # (E+1,) by what a layer multiplies the mean squared gradient, towards the input
    reach: Floats  # (E+1,) size of the gradient at the first layer over that at the outputs, by that gain
    through_time: Floats  # (E+1,) the same from the last time step to the first; empty without time
    theory: float  # the gain of the mean field at the start; NaN where it has none to say
    band: tuple[float, float]  # in which 95 % of such networks' gains lie over seeds, for wide layers
    update_ratio: Floats  # (L,) ||change of W|| / ||W|| of an iteration, the median over the training
    not_finite: tuple[int, ...]  # iterations, from 1, with a loss or a gradient that is not finite

    @property
    def fires(self) -> bool:
        """Is anything wrong?"""
        return self.verdict not in ("healthy", "nothing to compare")

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.verdict}", *(f"  why   {line}" for line in self.why)]
        return "\n".join([*lines, *(f"  next  {line}" for line in self.next)])


def diagnose(recording: Recording) -> Diagnosis:
    """Look at how the recorded gradients change from layer to layer, and from time step to time step.

    Vanishing: on average over the training less than 1/10 of a gradient's size reaches the first layer; or so it is at
    the start, where it is also less than 90 % of networks of these widths whose gain is 1 would show, and less than 1/2
    on average. Exploding: at the start it becomes more than 4 times as large, and more than 99.95 % of networks of
    these widths whose gain is 1 would show. A start decides alone about exploding because what explodes wrecks the
    training at once, and because gradients of a network that has learned cancel in the outputs while they remain below.
    """
    if recording.iterations == 0:
        raise RecordingError("the recording has no iterations: train at least one mini-batch, then diagnose it")
    evidence = _Evidence.of(recording)
    verdict, reasons = _judge(evidence)
    return Diagnosis(
        name=recording.name,
        verdict=verdict,
        why=(*reasons, *_notes(evidence, verdict)),
        next=_advice(evidence, verdict),
        layers=recording.layers,
        size=evidence.size,
        gain=evidence.gain,
        reach=evidence.reach,
        through_time=evidence.time,
        theory=evidence.theory,
        band=evidence.band,
        update_ratio=evidence.update_ratio,
        not_finite=evidence.not_finite,
    )


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The figures that the verdict is drawn from; see `Diagnosis` for those of the same name."""

    recording: Recording
    hidden: tuple[int, ...]  # the layers that are compared
    size: Floats
    gain: Floats
    reach: Floats
    time: Floats
    theory: float
    band: tuple[float, float]
    update_ratio: Floats
    not_finite: tuple[int, ...]

    @classmethod
    def of(cls, recording: Recording) -> "_Evidence":
        hidden = _compared(recording)
        size = _sizes(recording)
        units, steps = [_units(recording)[k] for k in hidden], len(recording.layers) - 1
        looks = [_over(seen[:, list(hidden)], steps, units) for seen in (size, _passed_on(recording))]
        per_layer, reach = (_mean_of_two(*two) for two in zip(*looks, strict=True))
        chi, band = _theory(recording.origin.experiment)
        return cls(
            recording, hidden, size, per_layer, reach, _time(recording), chi, band, _update_ratio(recording),
            _not_finite(recording),
        )  # fmt: skip

    @property
    def experiment(self) -> Experiment | None:
        return self.recording.origin.experiment


def _judge(evidence: _Evidence) -> tuple[Verdict, tuple[str, ...]]:
    if dead := _dead(evidence.recording):
        return "dead", dead
    early, overall = _early(evidence.reach), _overall(evidence.reach)
    if (first := _first(evidence.reach)) > max(EXPLODED, _chance(evidence.recording, CERTAIN)):
        return "exploding", (_sentence(evidence, first), *_finite_words(evidence.not_finite))
    if evidence.not_finite:
        return "not finite", _finite_words(evidence.not_finite)
    small = min(VANISHED, _chance(evidence.recording, 1 - LIKELY))
    if overall < VANISHED or (early < small and overall < RECOVERED):
        return "vanishing", (_sentence(evidence, early), _over_training(overall))
    if (in_time := _through_time(evidence.time)) is not None:
        return in_time
    if not _known(evidence.reach) and not _known(evidence.time):
        return "nothing to compare", (_nothing(evidence),)
    if _known(evidence.reach):
        return "healthy", (_sentence(evidence, early), _over_training(overall))
    return "healthy", (_time_sentence(_early(evidence.time), _overall(evidence.time)),)


# What is measured


def _units(recording: Recording) -> list[int]:
    return [shape[0] for shape in recording.origin.shapes]


def _chain(recording: Recording) -> bool:
    """Are these fully connected layers, one behind the other, each hidden one with one activation behind it?"""
    shapes = recording.origin.shapes
    if any(len(shape) != 2 for shape in shapes) or len(recording.origin.activations) != len(shapes) - 1:
        return False
    experiment = recording.origin.experiment
    if experiment is not None and (experiment.residual or experiment.architecture != "mlp"):
        return False  # what enters a layer is more than the activation before it
    return all(after[1] == before[0] for before, after in pairwise(shapes))


def _recurrent(recording: Recording) -> bool:
    experiment = recording.origin.experiment
    return recording.through_time.shape[1] > 1 or (experiment is not None and experiment.architecture in RECURRENT)


def _compared(recording: Recording) -> tuple[int, ...]:
    """The layers whose gradients can be compared: the hidden ones, without a first one that has unknown inputs."""
    layers = len(recording.layers)
    if _recurrent(recording):
        return ()  # their layers do not lie behind each other, their time steps do
    if not _chain(recording):
        return tuple(range(1, layers - 1))
    first = 0 if math.isfinite(_input_size(recording)) else 1
    return tuple(range(first, layers - 1))


def _sizes(recording: Recording) -> Floats:
    """(E+1, L) size of dloss/dz; of dloss/dW itself where the layers are no chain. One row, the first iteration's, for
    a loop without a probe batch."""
    counts = np.array([math.prod(shape) for shape in recording.origin.shapes], dtype=np.float64)
    probed = recording.probe_statistic("norm").astype(np.float64)
    if not np.isfinite(probed).any():
        return _sizes_without_probe(recording, counts)
    weights = probed / np.sqrt(counts)
    if not _chain(recording):
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
    if not _chain(recording) or not (biases > 0).all():
        return weights
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = weights * (biases / weights[0])
    return found


def _input_size(recording: Recording) -> float:
    """Root mean square of the inputs; NaN where nothing tells it."""
    experiment = recording.origin.experiment
    if experiment is not None and experiment.data in _INPUT_SIZE:
        return _INPUT_SIZE[experiment.data]
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
    for name, value in before.items():
        if np.linalg.norm(found[name]) < 100 * np.finfo(value.dtype).eps * np.linalg.norm(value):
            found[name] = np.full(value.shape, math.nan)
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


def _over(sizes: Floats, steps: int, units: Sequence[int]) -> tuple[Floats, Floats]:
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


def _time(recording: Recording) -> Floats:
    """(E+1,) size of the gradient at the first time step over that at the last; empty without time."""
    norms = recording.through_time.astype(np.float64)
    if norms.shape[1] < 2:
        return np.zeros(0)
    floor = norms.max(axis=1, keepdims=True) * 1e-30  # an underflow is the smallest size there is, not none
    return _over(np.maximum(norms, floor), norms.shape[1] - 1, [1] * norms.shape[1])[1]


def _passed_on(recording: Recording) -> Floats:
    """(E+1, L) root mean square of d outputs / dz, by the weights at the end of each epoch and each activation's mean
    squared slope on the probe batch; NaN where the layers are no plain chain, or slopes cannot be told."""
    unknown = np.full((recording.epochs + 1, len(recording.layers)), math.nan)
    slopes = _mean_slopes(recording)
    plain = len(recording.origin.parameters) <= 2 * len(recording.layers)  # none that normalises
    if not (_chain(recording) and plain and np.isfinite(slopes[:1]).all()):
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


def _mean_slopes(recording: Recording) -> Floats:
    """(E+1, A) root mean square of each hidden activation's slope; NaN for one that its values do not tell it of.

    Values of a sigmoid are taken to have a beta distribution, which their mean and variance decide, and which is right
    where all are alike and where all are saturated; those of tanh likewise.
    """
    activation = _named_activation(recording)
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


def _mean_of_two(measured: Floats, passed_on: Floats) -> Floats:
    """Their geometric mean; the first where the second is not known."""
    with np.errstate(invalid="ignore"):
        both: Floats = np.sqrt(measured * passed_on)
    return np.where(np.isfinite(passed_on) & (passed_on > 0), both, measured)


def _update_ratio(recording: Recording) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = recording.update_norm.astype(np.float64) / recording.weight_norm
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    known = ~np.isnan(ratio).all(axis=0)
    found = np.full(ratio.shape[1], math.nan)
    found[known] = np.nanmedian(ratio[:, known], axis=0)
    return found


def _not_finite(recording: Recording) -> tuple[int, ...]:
    norms = recording.statistic("norm")
    bad = ~np.isfinite(recording.loss) | ~np.isfinite(norms).all(axis=1)
    bad |= (np.nan_to_num(recording.statistic("nonfinite"), nan=1.0) > 0).any(axis=1)
    return tuple((np.flatnonzero(bad) + 1).tolist())


# Against theory and chance


def _theory(experiment: Experiment | None) -> tuple[float, tuple[float, float]]:
    """The mean field's gain and its 95 % band; NaN for what is no plain network with hidden layers."""
    e, unknown = experiment, math.nan
    if e is None or not e.plain or len(e.widths) < 3:
        return unknown, (unknown, unknown)
    width = round(float(np.median(e.widths[1:-1])))
    try:
        chi = gain(e.activation, e.initialisation, width, e.gain, e.slope)
        return chi, gain_band(chi, e.widths, e.activation, _variance(e), e.slope)
    except (ExperimentError, OverflowError, ZeroDivisionError):
        return unknown, (unknown, unknown)


def _variance(e: Experiment) -> float:
    """q*, kept where the slopes of an activation are more than rounding."""
    width = round(float(np.median(e.widths[1:-1])))
    q = fixed_point(e.activation, weight_variance(e.initialisation, width, e.gain), e.slope)
    return min(max(q, 1e-6), 1e4)


def _chance(recording: Recording, share: float) -> float:
    """The reach that this share of networks with a gain of 1 and these widths stay below.

    Theory's variance of ln size^2 is that of wide layers. Measured for relu it is 1.04, 1.6 and 2.3 times as large for
    100, 10 and 5 units, which 1 + 6.4 / units fits.
    """
    units = _units(recording)[:-1]
    if not _chain(recording) or not units:
        return 1 / VANISHED if share > 0.5 else VANISHED  # no theory for these: an order of magnitude
    kind = _activation(recording)
    beta = sum(log_size_variance((1, n, 1), kind) * (1 + 6.4 / n) for n in units)
    return math.exp(NormalDist().inv_cdf(share) * math.sqrt(beta) / 2 - beta / 4)


def _activation(recording: Recording) -> Activation:
    """The experiment's; of a loop the one that its modules are named after; relu, which scatters most, otherwise."""
    return _named_activation(recording) or "relu"


def _named_activation(recording: Recording) -> Activation | None:
    if recording.origin.experiment is not None:
        return recording.origin.experiment.activation
    names = {name.rpartition("_")[0] for name in recording.origin.activations}
    known: list[Activation] = [name for name in get_args(Activation) if names == {name}]
    return known[0] if known else None


def _known(values: Floats) -> bool:
    return bool(np.isfinite(values).any())


def _first(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[0]) if len(finite) else math.nan


def _early(values: Floats) -> float:
    """The geometric mean over the start of the training; NaN where nothing is known."""
    rows = max(1, round(EARLY * (len(values) - 1)))
    return _overall(values[np.isfinite(values)][:rows])


def _overall(values: Floats) -> float:
    finite = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(finite).mean())) if len(finite) else math.nan


def _dead(recording: Recording) -> tuple[str, ...]:
    """Sentences about layers that get no gradient at all; empty where each gets one.

    An exact 0 beside gradients that are small, but far from the smallest number, is no matter of their size.
    """
    norms = recording.statistic("norm").astype(np.float64)
    norms = norms[np.isfinite(norms).all(axis=1)]
    if not len(norms):
        return ()
    silent = (norms == 0).mean(axis=0) > 0.5
    alive = norms.max(axis=0)[~silent]
    if not silent.any() or (len(alive) and alive.min() < _TINY):
        return ()
    names = [layer for layer, none in zip(recording.layers, silent, strict=True) if none]
    if len(names) == len(silent):
        return ("Every weight gradient is exactly 0 in most iterations: nothing is learned, and nothing vanishes.",)
    return (
        f"The gradients of {_list(names)} are exactly 0 in most iterations, while {recording.layers[-1]} has some: "
        "behind them a layer passes nothing on.",
    )


# Sentences


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _factor(reach: float) -> str:
    return f"{_number(reach)} times" if reach >= 1 else f"1/{_number(1 / reach)} of"


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 or value >= 1e6 else f"{float(f'{value:.2g}'):,.0f}"


def _sentence(evidence: _Evidence, reach: float) -> str:
    layers = len(evidence.recording.layers)
    per_layer = reach ** (2 / (layers - 1))
    what = "the gradient" if _chain(evidence.recording) else "the weight gradient"
    return (
        f"At the start each layer multiplies the mean square of {what} by {per_layer:.2g}: over "
        f"{layers - 1} layers, {_factor(reach)} its size reaches the first, {evidence.recording.layers[0]}."
    )


def _over_training(overall: float) -> str:
    return f"On average over the training it is {_factor(overall)} its size."


def _finite_words(iterations: tuple[int, ...]) -> tuple[str, ...]:
    if not iterations:
        return ()
    named = ", ".join(f"{i:,}" for i in iterations[:NAMED])
    more = f" and {len(iterations) - NAMED:,} more" if len(iterations) > NAMED else ""
    which = "iteration" if len(iterations) == 1 else "iterations"
    return (f"The loss or a gradient is not finite at {which} {named}{more}.",)


def _nothing(evidence: _Evidence) -> str:
    layers = len(evidence.recording.layers)
    if layers < 3:
        count = "one layer" if layers == 1 else f"{layers} layers"
        return f"The network has {count}: with fewer than two hidden layers there is nothing to compare."
    return "The recording has no gradients of two hidden layers that can be compared."


def _through_time(reach: Floats) -> tuple[Verdict, tuple[str, ...]] | None:
    """The verdict on time steps where it is not healthy."""
    if not _known(reach):
        return None
    early, overall = _early(reach), _overall(reach)
    words = (_time_sentence(early, overall),)
    if overall < VANISHED or (early < VANISHED and overall < RECOVERED):
        return "vanishing", words
    if early > 1 / VANISHED:
        return "exploding", words
    return None


def _time_sentence(early: float, overall: float) -> str:
    return (
        f"From the last time step to the first, {_factor(early)} the gradient's size arrives at the start, "
        f"{_factor(overall)} it on average over the training."
    )


def _notes(evidence: _Evidence, verdict: Verdict) -> tuple[str, ...]:
    return tuple(note for note in (_trend(evidence), _place(evidence), _updates(evidence, verdict)) if note)


def _trend(evidence: _Evidence) -> str:
    known = evidence.gain[np.isfinite(evidence.gain)]
    if len(known) < 2 or evidence.not_finite:
        return ""
    return f"The gain per layer goes from {known[0]:.2g} to {known[-1]:.2g} in {len(known) - 1} epochs."


def _place(evidence: _Evidence) -> str:
    measured, (low, high) = evidence.gain[:1], evidence.band
    if not (_known(measured) and math.isfinite(evidence.theory) and evidence.experiment):
        return ""
    where = "inside" if low <= measured[0] <= high else "below" if measured[0] < low else "above"
    e = evidence.experiment
    narrow = " (which is too narrow for layers this narrow)" if min(e.widths[1:-1]) <= 10 else ""
    return (
        f"Theory has {evidence.theory:.2g} for {e.activation} with {e.initialisation} weights{_times(e.gain)}; the "
        f"{measured[0]:.2g} before the first step is {where} the band of 95 % of seeds, {low:.2g} to {high:.2g}"
        f"{narrow}. "
        "Theory is about single images; the mean over a batch lies up to a quarter below."
    )


def _times(scale: float) -> str:
    return "" if scale == 1 else f" times {scale:.3g}"


def _updates(evidence: _Evidence, verdict: Verdict) -> str:
    ratio = evidence.update_ratio
    if verdict != "vanishing" or not len(evidence.hidden) or not (ratio[0] > 0 and ratio[-1] > 0):
        return ""
    divides = _divides(evidence.recording)
    hides = " The optimiser divides by the gradient's size, which hides that they vanish." if divides else ""
    return (
        f"An iteration changes {evidence.recording.layers[0]} by {ratio[0]:.1g} of its size, "
        f"{evidence.recording.layers[-1]} by {ratio[-1]:.1g}.{hides}"
    )


def _advice(evidence: _Evidence, verdict: Verdict) -> tuple[str, ...]:
    kind = f"{verdict} through time" if _recurrent(evidence.recording) else verdict
    if kind != "vanishing":  # of layers, for which it depends on the activation
        return _ADVICE[kind] if kind in _ADVICE else _ADVICE[verdict]
    straight = _activation(evidence.recording) in HOMOGENEOUS and _chain(evidence.recording)
    weights = "Start from larger weights: he_normal, or what `labkit.theory.scale_for` gives for a gain of 1."
    first = weights if straight else "Try relu or leaky_relu with he_normal weights, whose gain is 1."
    hidden = _ADVICE["hidden"] if _divides(evidence.recording) else ()
    return (first, "Or add residual connections or batch normalisation, or take layers away.", *hidden)


def _divides(recording: Recording) -> bool:
    """Does the optimiser divide gradients by their size, as adam and rmsprop do?"""
    return any("sq" in moment for moment in recording.origin.moments)


_ADVICE: dict[str, tuple[str, ...]] = {
    "healthy": (),
    "vanishing through time": ("Try an lstm, whose cell hands its memory on unchanged, or fewer time steps.",),
    "hidden": ("Compare with plain SGD: adam and rmsprop make equal steps of small gradients and of large ones.",),
    "exploding": (
        "Start from smaller weights: `labkit.theory.scale_for` gives the factor for a gain of 1.",
        "Or clip the gradient's norm, or add normalisation.",
    ),
    "exploding through time": ("Clip the gradient's norm, or start from orthogonal recurrent weights.",),
    "dead": ("Look at the share of dead units; try a smaller learning rate, leaky_relu, or other initial weights.",),
    "not finite": ("Try a learning rate ten times smaller, or clip the gradient's norm; look for log(0) in the loss.",),
    "nothing to compare": ("Add hidden layers, or a probe batch to the recorder, and record again.",),
}
