"""What the figures say: names of networks and layers, numbers, line styles; which recordings fit together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.experiments import Experiment
from labkit.plots.figure import PlotError
from labkit.recording import Array, Recording

Recordings = Recording | Sequence[Recording]

ACTIVATIONS = {
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "tanh": "tanh",
    "leaky_relu": "Leaky ReLU",
    "linear": "Linear",
}
# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
MARKERS = "osD^vPX"
# What tells two networks of one activation apart.
_TELLING = (
    "optimizer",
    "initialisation",
    "gain",
    "learning_rate",
    "clip_norm",
    "dtype",
    "batch_size",
    "epochs",
)
# The signed mean of a last layer under softmax and cross-entropy is 0 by algebra, so what is recorded of it is
# rounding alone. Over 18 runs (three activations, float32 and float64) 99.4 % of its values or more lay within
# 2 eps mean |g|, and 99.9 % or more within 4.
FLOOR_UNITS = 4
PROBE_ADVICE = "pass probe=(images, labels) to the Recorder"


@dataclass(frozen=True)
class Network:
    """A recording with the label and the style by which every figure knows it."""

    recording: Recording
    label: str
    colour: str
    dashes: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        return {"color": self.colour, "linestyle": self.dashes}


def networks(recordings: Recordings, iterations: bool = True) -> list[Network]:
    """The recordings with their labels, if one figure can hold them."""
    found = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not found:
        raise PlotError("there is no recording to plot: pass one, or a list of them")
    for recording in found:
        if not isinstance(recording, Recording):
            raise PlotError(f"{type(recording).__name__} is not a recording: read it with Recording.load(path)")
        if iterations and recording.iterations == 0:
            raise PlotError(f"{recording.name} has no iteration: run the training cell")
    first = found[0]
    for recording in found[1:]:
        if recording.layers != first.layers:
            raise PlotError(
                f"{first.name} has layers {', '.join(first.layers)}, {recording.name} has "
                f"{', '.join(recording.layers)}: plot them in separate figures"
            )
    return [
        Network(r, label, COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)], MARKERS[k % len(MARKERS)])
        for k, (r, label) in enumerate(zip(found, labels(found), strict=True))
    ]


def labels(recordings: Sequence[Recording]) -> list[str]:
    """A label for each: the activation, and where that is not enough what else tells the networks apart."""
    names = [label(recording) for recording in recordings]
    experiments = [r.origin.experiment for r in recordings if r.origin.experiment]
    if len(set(names)) < len(names) == len(experiments):
        differing = [field for field in _TELLING if len({getattr(e, field) for e in experiments}) > 1]
        names = [
            ", ".join([name, *(_told(e, field) for field in differing)])
            for name, e in zip(names, experiments, strict=True)
        ]
    return [f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names, start=1)]


def label(recording: Recording) -> str:
    experiment = recording.origin.experiment
    return ACTIVATIONS[experiment.activation] if experiment else recording.name


def _told(experiment: Experiment, field: str) -> str:
    value = getattr(experiment, field)
    if field == "clip_norm" and value is None:
        return "not clipped"
    return value if isinstance(value, str) else f"{field.replace('_', ' ')} {value}"


def drawn(text: str, longest: int = 40) -> str:
    """A text from outside, to be drawn letter by letter: no mathtext, no line breaks, no missing glyph."""
    known = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in " ".join(text.split()))
    short = known if len(known) <= longest else known[: longest - 3] + "..."
    # a legend leaves out what begins with an underscore
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def weights_of(layer: str) -> str:
    return f"{drawn(layer)} Weights"


def number(value: float) -> str:
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(value: float, to: float) -> str:
    """How many times larger or smaller one size is than another."""
    if not (0 < value < math.inf and 0 < to < math.inf):
        return "not comparable with"
    return f"{number(value / to)} times larger than" if value >= to else f"{number(to / value)} times smaller than"


def listed(names: Sequence[str], values: Sequence[float] | Array) -> str:
    """`fc_1 0.002, fc_2 0.005`."""
    return ", ".join(f"{drawn(name)} {number(float(value))}" for name, value in zip(names, values, strict=True))


def finite(values: Array) -> Array:
    """float64, with a gap (NaN) where a value is infinite."""
    wide = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(wide), wide, np.nan)


def positive(values: Array) -> Array:
    """float64, with a gap where a value has no place on a log axis."""
    wide = finite(values)
    return np.where(wide > 0, wide, np.nan)


def gaps(values: Array) -> str:
    """A sentence about what a log axis cannot show; empty when there is nothing to say."""
    zeros, bad = int(np.sum(np.asarray(values) == 0)), int(np.sum(~np.isfinite(values)))
    parts = [f"{zeros:,} zeros"] * bool(zeros) + [f"{bad:,} values that are not finite"] * bool(bad)
    return f" Left out as gaps: {' and '.join(parts)}." if parts else ""


def rounding_floor(recording: Recording) -> Array:
    """(I, L) below what size a signed mean cannot be told from rounding: 4 eps mean |g|.

    Each of a layer's gradients carries an error of a few eps |g| from the products and sums behind it, so their
    mean carries up to a few eps mean |g|, however much the gradients themselves cancel. eps is the spacing of
    the recording's dtype at 1.
    """
    return FLOOR_UNITS * float(np.finfo(recording.origin.dtype).eps) * finite(recording.statistic("abs_mean"))


def running_median(values: Array, window: int) -> tuple[Array, Array]:
    """Iterations (n,) and medians (n, ...) over `window` iterations around each; none if there are fewer."""
    if len(values) < window:
        return np.zeros(0), np.zeros((0, *values.shape[1:]))
    stretches = np.lib.stride_tricks.sliding_window_view(np.asarray(values, dtype=np.float64), window, axis=0)
    return np.arange(len(stretches)) + 1 + window // 2, np.median(stretches, axis=-1)


def window_of(recording: Recording) -> int:
    """An odd number of iterations near an epoch's, so that each window holds one small last mini-batch."""
    experiment = recording.origin.experiment
    return (experiment.iterations_per_epoch if experiment else 40) // 2 * 2 + 1
