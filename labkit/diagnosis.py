"""diagnose(recording): do the gradients vanish or explode on their way to the first layer? Verdict, why, next.

No size of a gradient is large or small by itself: multiply a loss by a thousand and all of them grow alike. What counts
is what one layer makes of the gradient that reaches it, which `labkit.flow` measures in two ways; where both are known,
a gain is their geometric mean. That gain over all layers gives the reach: by what the size changes from the outputs to
the first layer. Weight gradients by themselves do not show it: with relu their sizes are equal at any gain (see
`labkit.theory.weight_gain`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from labkit import flow
from labkit.experiments import Activation, Experiment, ExperimentError
from labkit.flow import Floats
from labkit.recording import Recording, RecordingError
from labkit.theory import HOMOGENEOUS, fixed_point, gain, gain_band, log_size_variance, weight_variance

Verdict = Literal["healthy", "vanishing", "exploding", "dead", "not finite", "nothing to compare"]

VANISHED = 1 / 10  # of its size is left of a gradient on its way to the first layer: an order of magnitude
RECOVERED = 1 / 2  # is left on average over training: the network grew out of a start at which gradients vanished
EXPLODED = 4.0  # times its size has a gradient become; relu's gradients lose their likeness, and up to half of it
EARLY = 0.05  # of the training counts as its start, one probe row at least
CERTAIN = 0.9995  # of the networks with a gain of 1 are below what one that explodes has to exceed
LIKELY = 0.9  # of them are above what one that vanishes at the start has to fall short of
NAMED = 5  # iterations that a sentence lists
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
        hidden = flow.compared(recording)
        size = flow.sizes(recording)
        units, steps = [flow.units(recording)[k] for k in hidden], len(recording.layers) - 1
        looks = [flow.over(seen[:, list(hidden)], steps, units) for seen in (size, flow.passed_on(recording))]
        per_layer, reach = (flow.mean_of_two(*two) for two in zip(*looks, strict=True))
        chi, band = _theory(recording.origin.experiment)
        return cls(
            recording, hidden, size, per_layer, reach, flow.time(recording), chi, band, flow.update_ratio(recording),
            flow.not_finite(recording),
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
    units = flow.units(recording)[:-1]
    if not flow.chain(recording) or not units:
        return 1 / VANISHED if share > 0.5 else VANISHED  # no theory for these: an order of magnitude
    kind = _activation(recording)
    beta = sum(log_size_variance((1, n, 1), kind) * (1 + 6.4 / n) for n in units)
    return math.exp(NormalDist().inv_cdf(share) * math.sqrt(beta) / 2 - beta / 4)


def _activation(recording: Recording) -> Activation:
    """The experiment's; of a loop the one that its modules are named after; relu, which scatters most, otherwise."""
    return flow.named_activation(recording) or "relu"


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
    what = "the gradient" if flow.chain(evidence.recording) else "the weight gradient"
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
    kind = f"{verdict} through time" if flow.recurrent(evidence.recording) else verdict
    if kind != "vanishing":  # of layers, for which it depends on the activation
        return _ADVICE[kind] if kind in _ADVICE else _ADVICE[verdict]
    straight = _activation(evidence.recording) in HOMOGENEOUS and flow.chain(evidence.recording)
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
