"""diagnose(recording): do the gradients vanish or explode on their way to the first layer? Verdict, why, next.

No size of a gradient is large or small by itself: multiply a loss by a thousand and all of them grow alike. What counts
is what one layer makes of the gradient that reaches it. Where the experiment is known, `labkit.flow` measures that: it
carries the gradients of the probe batch's images back through the recorded parameters, and the gain is the one that
`labkit.plots.gain_per_layer` draws. Elsewhere it has two estimates; where both are known, a gain is their geometric
mean, and that over all layers gives the reach: by what the size changes from the outputs to the first layer. Weight
gradients by themselves do not show it: with relu their sizes are equal at any gain (see `labkit.theory.weight_gain`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import numpy as np

from labkit import backward, flow
from labkit.counts import counted
from labkit.experiments import Activation, Experiment, ExperimentError
from labkit.flow import Floats
from labkit.initialisations import variance
from labkit.recording import Recording, RecordingError
from labkit.theory import HOMOGENEOUS, fixed_point, gain, gain_band, log_size_variance, weight_variance

Verdict = Literal["healthy", "vanishing", "exploding", "dead", "not finite", "nothing to compare"]

VANISHED = 1 / 10  # of its size is left of a gradient on its way to the first layer: an order of magnitude
RECOVERED = 1 / 2  # is left on average over training: the network grew out of a start at which gradients vanished
EXPLODED = 4.0  # times its size has a gradient become; estimated from relu's, which lose their likeness, up to half
EARLY = 0.05  # of the training counts as its start, one probe row at least
CERTAIN = 0.9995  # of the networks with a gain of 1 are below what one that explodes has to exceed
LIKELY = 0.9  # of them are above what one that vanishes at the start has to fall short of
NARROW = 10  # units and fewer scatter by more than theory's band says; see `labkit.theory.bands`
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
    size: Floats  # (E+1, L) of dloss/dz in every layer, in any unit; NaN where it is not known or was not looked at
    gain: Floats  # (E+1,) by what a hidden layer multiplies the mean squared gradient, towards the input
    reach: Floats  # (E+1,) norm of the gradient at the first layer over that at the outputs
    through_time: Floats  # (E+1,) the same from the last time step to the first; empty without time
    theory: float  # the gain of the mean field at the start; NaN where it has none to say
    band: tuple[float, float]  # in which 95 % of wide networks' gains lie over seeds, for single images
    exact: bool  # are gains those of single images, and no estimates?
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
    if not isinstance(recording, Recording):
        raise RecordingError(f"{recording!r} is no recording: read its file with labkit.Recording.load")
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
        exact=evidence.exact,
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
    exact: bool
    update_ratio: Floats
    not_finite: tuple[int, ...]

    @classmethod
    def of(cls, recording: Recording) -> "_Evidence":
        size = backward.single_images(recording)
        exact, steps = bool(np.isfinite(size[0]).all()), len(recording.layers) - 1
        hidden = tuple(range(steps)) if exact else flow.compared(recording)
        if exact:
            per_layer, reach = flow.measured(size, flow.units(recording))
        else:
            size, units = flow.sizes(recording), [flow.units(recording)[k] for k in hidden]
            looks = [flow.over(seen[:, list(hidden)], steps, units) for seen in (size, flow.passed_on(recording))]
            per_layer, reach = (flow.mean_of_two(*two) for two in zip(*looks, strict=True))
        chi, band = _theory(recording.origin.experiment)
        return cls(
            recording, hidden, size, per_layer, reach, flow.time(recording), chi, band, exact,
            flow.update_ratio(recording), flow.not_finite(recording),
        )  # fmt: skip

    @property
    def layered(self) -> bool:
        """Are the gradients those of fully connected layers' outputs, and not of their weights?"""
        return self.exact or flow.chain(self.recording)

    @property
    def experiment(self) -> Experiment | None:
        return self.recording.origin.experiment


def _judge(evidence: _Evidence) -> tuple[Verdict, tuple[str, ...]]:
    if dead := _dead(evidence):
        return "dead", dead
    early, overall = _early(evidence.reach), _overall(evidence.reach)
    if _first(evidence.reach) > max(EXPLODED, _chance(evidence, CERTAIN)) and not _tamed(evidence.experiment):
        return "exploding", (_sentence(evidence, _first), *_finite_words(evidence.not_finite))
    if evidence.not_finite:
        return "not finite", _finite_words(evidence.not_finite)
    small = min(VANISHED, _chance(evidence, 1 - LIKELY))
    if overall < VANISHED or (early < small and overall < RECOVERED):
        return "vanishing", (_sentence(evidence, _early), _over_training(overall))
    if (in_time := _through_time(evidence.time)) is not None:
        return in_time
    if not _known(evidence.reach) and not _known(evidence.time):
        return "nothing to compare", (_nothing(evidence),)
    if _known(evidence.reach):
        return "healthy", (_sentence(evidence, _early), _over_training(overall))
    return "healthy", (_time_sentence(_early(evidence.time), _overall(evidence.time)),)


def _tamed(e: Experiment | None) -> bool:
    """Can gradients of this network grow as a power of its depth at most?

    A skip connection adds each layer's output to its input, so that behind l layers their variance is about l. Where
    the layer normalises what it gets, it divides by the root of that, and its share of the gradient is 1 / l of what
    the skip passes on: the product of 1 + c / l over the layers is a power of their number.
    """
    return e is not None and e.residual and e.normalisation != "none"


# Against theory and chance


def _theory(experiment: Experiment | None) -> tuple[float, tuple[float, float]]:
    """The mean field's gain per hidden layer and its 95 % band; NaN for what is no plain network with hidden layers.

    From the last of H hidden layers to the first the gradient passes H - 1 of them, those that have one behind.
    """
    e, unknown = experiment, math.nan
    if e is None or not e.plain or len(e.widths) < 3:
        return unknown, (unknown, unknown)
    width = round(float(np.median(e.widths[1:-1])))
    try:
        chi = gain(e.activation, e.initialisation, width, e.gain, e.slope) * _unequal(e, width)
        if len(e.widths) == 3:
            return chi, (unknown, unknown)
        return chi, gain_band(chi, e.widths[:-1], e.activation, _variance(e), e.slope)
    except (ExperimentError, OverflowError, ZeroDivisionError):
        return unknown, (unknown, unknown)


def _unequal(e: Experiment, width: int) -> float:
    """What widths that differ make of the gain, in the unit of `flow.between`; 1 where all are `width`."""
    hidden, kind = e.widths[1:-1], e.initialisation
    each = [m * variance(kind, n, m) / (width * variance(kind, width, width)) for n, m in pairwise(hidden)]
    return (math.prod(each) * math.sqrt(hidden[0] / hidden[-1])) ** (1 / len(each)) if each else 1.0


def _variance(e: Experiment) -> float:
    """q*, kept where the slopes of an activation are more than rounding."""
    width = round(float(np.median(e.widths[1:-1])))
    q = fixed_point(e.activation, weight_variance(e.initialisation, width, e.gain), e.slope)
    return min(max(q, 1e-6), 1e4)


def _chance(evidence: _Evidence, share: float) -> float:
    """The reach that this share of networks with a gain of 1 and these widths stay below.

    Theory's variance of ln size^2 is that of wide layers. Measured for relu it is 1.04, 1.6 and 2.3 times as large for
    100, 10 and 5 units, which 1 + 6.4 / units fits. What skips layers scatters less: for it this asks for more.
    """
    units = flow.units(evidence.recording)[:-1]
    if not evidence.layered or not units:
        return 1 / VANISHED if share > 0.5 else VANISHED  # no theory for these: an order of magnitude
    kind = _activation(evidence.recording)
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
    start = values[: _rows_of_start(values)]
    return _overall(start) if _known(start) else _first(values)


def _rows_of_start(values: Floats) -> int:
    return max(1, round(EARLY * (len(values) - 1)))


def _overall(values: Floats) -> float:
    finite = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(finite).mean())) if len(finite) else math.nan


def _dead(evidence: _Evidence) -> tuple[str, ...]:
    """Sentences about layers that get no gradient at all; empty where each gets one.

    An exact 0 beside gradients that are small, but far from the smallest number, is no matter of their size. Nor is one
    where float64 finds that a gradient arrives with next to nothing of its size, which float32 has no room for.
    """
    recording = evidence.recording
    if evidence.exact and _first(evidence.reach) < _TINY:
        return ()
    norms = recording.statistic("norm").astype(np.float64)
    norms = norms[np.isfinite(norms).all(axis=1)]
    if not len(norms):
        return ()
    silent = (norms == 0).mean(axis=0) > 0.5
    if recording.through_time.shape[1] == 1 and not silent.all():
        return ()  # of a single time step, recurrent weights get nothing to work on, and no gradient
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


def _part(reach: float) -> str:
    """Of the gradient's size at the outputs, as words: "1/130 of its size", "16 times its size"."""
    shown = _number(max(reach, 1 / reach))
    if shown == "1":
        return "all of its size"
    return f"{shown} times its size" if reach > 1 else f"1/{shown} of its size"


def _number(value: float) -> str:
    """Two digits; of a million and more the power of ten."""
    rounded = float(f"{value:.2g}")
    if rounded >= 1e6:
        return f"10^{math.log10(rounded):.0f}"
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _sentence(evidence: _Evidence, start: Callable[[Floats], float]) -> str:
    layers, per_layer, reach = len(evidence.recording.layers), start(evidence.gain), start(evidence.reach)
    what = "the gradient" if evidence.layered else "the weight gradient"
    # measured, the two are of different layers; estimated, the second follows from the first
    joined = "; from the outputs on, their own layer included," if evidence.exact else ":"
    arrives = f"{_part(reach)} arrives at" if evidence.exact else f"{_part(reach)} at the outputs reaches"
    return (
        f"{_when(evidence, start)} the mean square of {what} is multiplied by {per_layer:.2g} from each hidden layer "
        f"to the one before it{joined} {arrives} the first of {layers} layers, {evidence.recording.layers[0]}."
    )


def _when(evidence: _Evidence, start: Callable[[Floats], float]) -> str:
    """Which part of the training `start` looks at, in words."""
    looked_at = np.flatnonzero(np.isfinite(evidence.reach[: _rows_of_start(evidence.reach)]))
    if start is not _first and len(looked_at) and (epochs := int(looked_at[-1])):
        return "Over the first epoch" if epochs == 1 else f"Over the first {epochs:,} epochs"
    probed = bool(np.isfinite(evidence.recording.probe_loss).any())
    return "Before the first step" if probed else "At the first step"


def _over_training(overall: float) -> str:
    return f"On average over the training {_part(overall)} arrives."


def _finite_words(iterations: tuple[int, ...]) -> tuple[str, ...]:
    if not iterations:
        return ()
    named = ", ".join(f"{i:,}" for i in iterations[:NAMED])
    more = f" and {len(iterations) - NAMED:,} more" if len(iterations) > NAMED else ""
    which = "iteration" if len(iterations) == 1 else "iterations"
    return (f"The loss or a gradient is not finite at {which} {named}{more}.",)


def _nothing(evidence: _Evidence) -> str:
    layers = len(evidence.recording.layers)
    if evidence.recording.through_time.shape[1] == 1:
        return "The recording has 1 time step: with fewer than two there is nothing to compare."
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
        f"From the last time step to the first a gradient arrives with {_part(early)} at the start of the training, "
        f"with {_part(overall)} on average over it."
    )


def _notes(evidence: _Evidence, verdict: Verdict) -> tuple[str, ...]:
    notes = (_trend(evidence), _grown(evidence, verdict), _place(evidence), _updates(evidence, verdict))
    return tuple(note for note in notes if note)


def _grown(evidence: _Evidence, verdict: Verdict) -> str:
    if verdict != "healthy" or not _overall(evidence.reach) > EXPLODED:
        return ""
    if _tamed(evidence.experiment):
        return (
            "Around layers that normalise, skip connections let a gradient grow as a power of the depth, and not with "
            "every layer by the same factor: that is not counted as exploding."
        )
    return "A gain that grows as a network learns is not counted as exploding: what explodes does so at the start."


def _trend(evidence: _Evidence) -> str:
    known = np.flatnonzero(np.isfinite(evidence.gain))
    if len(known) < 2 or evidence.not_finite:
        return ""
    before, after = (f"{evidence.gain[row]:.2g}" for row in known[[0, -1]])
    epochs = counted(int(known[-1] - known[0]), "epoch")
    if before == after:
        return f"The gain per layer is {before} before and after {epochs}."
    return f"The gain per layer goes from {before} to {after} in {epochs}."


def _place(evidence: _Evidence) -> str:
    measured, (low, high), e = evidence.gain[:1], evidence.band, evidence.experiment
    if not (_known(measured) and math.isfinite(evidence.theory)) or e is None:
        return ""
    theory = f"Theory has {evidence.theory:.3g} for {e.activation} with {e.initialisation} weights{_times(e.gain)}; "
    found = f"{measured[0]:.3g}"
    if not evidence.exact:
        return f"{theory}the {found} before the first step is an estimate, too rough for its band over seeds."
    if (width := min(e.widths[1:-1])) <= NARROW:
        return (
            f"{theory}before the first step it is {found}. Layers of {counted(width, 'unit')} scatter over seeds by "
            "more than its band for wide layers."
        )
    where = "inside" if low <= measured[0] <= high else "below" if measured[0] < low else "above"
    return f"{theory}the {found} before the first step is {where} its band of 95 % of seeds, {low:.3g} to {high:.3g}."


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
    if verdict == "nothing to compare":
        return (_missing(evidence.recording),)
    if kind == "vanishing":
        return _against_vanishing(evidence)
    e = evidence.experiment
    if kind == "vanishing through time" and e is not None and e.architecture == "lstm":
        return _ADVICE["forgetting"]
    advice = _ADVICE[kind] if kind in _ADVICE else _ADVICE[verdict]
    if kind == "exploding" and e is not None and not e.plain:  # theory is for plain ones
        advice = _ADVICE["exploding unnormalised" if e.normalisation == "none" else "exploding normalised"]
    if bool((evidence.recording.clip_factor != 1).any()):
        return tuple(_CLIPPED.get(line, line) for line in advice)
    return advice


def _against_vanishing(evidence: _Evidence) -> tuple[str, ...]:
    """Of layers, for which it depends on the activation, and on what there is already."""
    e = evidence.experiment
    straight = _activation(evidence.recording) in HOMOGENEOUS and evidence.layered
    weights = "Start from larger weights: he_normal, or what `labkit.theory.scale_for` gives for a gain of 1."
    first = weights if straight else "Try relu or leaky_relu with he_normal weights, whose gain is 1."
    lacking = [] if e is not None and e.residual else ["residual connections"]
    lacking += [] if e is not None and e.normalisation != "none" else ["batch normalisation"]
    second = f"Or add {' or '.join(lacking)}, or take layers away." if lacking else "Or take layers away."
    return (first, second, *(_ADVICE["hidden"] if _divides(evidence.recording) else ()))


def _missing(recording: Recording) -> str:
    """What a recording would need to be compared."""
    if recording.through_time.shape[1] == 1:
        return "Train on sequences of two time steps or more, and record again."
    probed = bool(np.isfinite(recording.probe_loss).any())
    if flow.recurrent(recording) and not probed:
        return "Give the recorder a probe batch, and record again."
    return f"Add hidden layers{'' if probed else ', or a probe batch to the recorder'}, and record again."


def _divides(recording: Recording) -> bool:
    """Does the optimiser divide gradients by their size, as adam and rmsprop do?"""
    return any("sq" in moment for moment in recording.origin.moments)


_ADVICE: dict[str, tuple[str, ...]] = {
    "healthy": (),
    "vanishing through time": ("Try an lstm, whose cell hands its memory on unchanged, or fewer time steps.",),
    "forgetting": ("Start its forget gates wider open, from a bias above 1, or take fewer time steps.",),
    "hidden": ("Compare with plain SGD: adam and rmsprop make equal steps of small gradients and of large ones.",),
    "exploding": (
        "Start from smaller weights: `labkit.theory.scale_for` gives the factor for a gain of 1.",
        "Or clip the gradient's norm, or add normalisation.",
    ),
    "exploding unnormalised": ("Start from smaller weights, or clip the gradient's norm.",),
    "exploding normalised": (
        "Take layers away, or clip the gradient's norm: what is normalised takes no notice of its weights' scale.",
    ),
    "exploding through time": ("Clip the gradient's norm, or start from orthogonal recurrent weights.",),
    "dead": ("Look at the share of dead units; try a smaller learning rate, leaky_relu, or other initial weights.",),
    "not finite": ("Try a learning rate ten times smaller, or clip the gradient's norm; look for log(0) in the loss.",),
}
_BOUNDED = "Clipping, which was on, bounds the steps and leaves the gain as it is."
_CLIPPED = {  # what is said in the place of an advice to clip, where gradients were clipped
    "Or clip the gradient's norm, or add normalisation.": f"Or add normalisation. {_BOUNDED}",
    _ADVICE["exploding unnormalised"][0]: f"Start from smaller weights. {_BOUNDED}",
    _ADVICE["exploding normalised"][0]: f"Take layers away. {_BOUNDED}",
    _ADVICE["exploding through time"][0]: f"Start from orthogonal recurrent weights. {_BOUNDED}",
    _ADVICE["not finite"][0]: "Try a learning rate ten times smaller, or clip to less; look for log(0) in the loss.",
}
