"""What the figures say: names of networks and layers, numbers, line styles; which recordings fit together."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from labkit.experiments import Experiment
from labkit.plots.figure import PlotError
from labkit.recording import Array, Recording

Recordings = Recording | Sequence[Recording]

ACTIVATIONS = {
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "tanh": "tanh",
    "leaky_relu": "Leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "linear": "Linear",
}
# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
MARKERS = "osD^vPX"
LIGHTEST = 0.9  # of viridis: what is lighter is faint on white
ARCHITECTURES = {"residual_conv": "Residual conv", "rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
CLIPS = ("clip_norm", "clip_each", "clip_value")
# What tells two networks of one activation apart.
_TELLING = (
    "data",
    "widths",
    "slope",
    "normalisation",
    "residual",
    "optimizer",
    "initialisation",
    "gain",
    "learning_rate",
    "epsilon",
    "clip_norm",
    "clip_each",
    "clip_value",
    "dtype",
    "batch_size",
    "observations",
    "epochs",
    "seed",
)
# The signed mean of a last layer under softmax and cross-entropy is 0 by algebra, so what is recorded of it is
# rounding alone. Over 18 runs (three activations, float32 and float64) 99.4 % of its values or more lay within
# 2 eps mean |g|, and 99.9 % or more within 4.
FLOOR_UNITS = 4
FAR_APART = 100  # the largest loss over a usual one, from which a linear axis shows the largest alone
MEDIANS = 2000  # of a running median are drawn, up to twice as many
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


def observations(recording: Recording) -> str:
    """What the experiment's data are, for captions: images, unless they are points or sequences."""
    e = recording.origin.experiment
    return {"circles": "points", "long_lag": "sequences"}.get(e.data, "images") if e else "images"


def networks(recordings: Recordings, iterations: bool = True, layers: bool = True) -> list[Network]:
    """The recordings with their labels, if one figure can hold them; with `layers`, theirs have to be the same."""
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
        if layers and recording.layers != first.layers:
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
    if len(names) == len(experiments):
        names = [_told_apart(name, k, names, experiments) for k, name in enumerate(names)]
    return [f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names, start=1)]


def _told_apart(name: str, k: int, names: list[str], experiments: list[Experiment]) -> str:
    """The name, and in what its network differs from others of that name."""
    same = [e for e, other in zip(experiments, names, strict=True) if other == name]
    differing = [field for field in _TELLING if len({getattr(e, field) for e in same}) > 1]
    clips = [field for field in differing if field in CLIPS]
    told = [_told(experiments[k], field) for field in differing if field not in CLIPS]
    if clips:
        used = [_told(experiments[k], field) for field in clips if getattr(experiments[k], field) is not None]
        told.append(used[0] if used else "not clipped")
    return ", ".join([name, *told])


def label(recording: Recording) -> str:
    """The activation of plain layers; other networks are known by what they are."""
    experiment = recording.origin.experiment
    if experiment is None:
        return recording.name
    activation = ACTIVATIONS[experiment.activation]
    if experiment.architecture == "mlp":
        return activation
    kind = ARCHITECTURES[experiment.architecture]
    return kind if experiment.activation == "tanh" else f"{kind}, {activation}"


def _told(experiment: Experiment, field: str) -> str:
    value = getattr(experiment, field)
    if field == "widths":
        return "-".join(map(str, runs_of(value)))
    if field == "residual":
        return "residual" if value else "not residual"
    if field == "normalisation":
        return f"{value} normalisation" if value != "none" else "not normalised"
    if field == "gain":
        return f"weights × {value:.4g}"
    if isinstance(value, float):
        return f"{field.replace('_', ' ')} {value:.4g}"
    return value if isinstance(value, str) else f"{field.replace('_', ' ')} {value}"


def runs_of(widths: Sequence[int]) -> list[str]:
    """Widths with neighbours of one size taken together: 784, 256 x 11, 10."""
    groups = [(width, len(list(same))) for width, same in groupby(widths)]
    return [f"{width}" if count == 1 else f"{width} × {count}" for width, count in groups]


def chosen(count: int, most: int) -> list[int]:
    """At most so many of `count` layers, evenly spread, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, most)).tolist()})


def chosen_told(count: int, most: int) -> str:
    """A caption's end that says that not all layers are drawn; empty when they are."""
    return f"; {most} of {count} layers" if count > most else ""


def layer_lines(count: int) -> list[dict[str, Any]]:
    """A colour and dashes for each layer; those of a deep network go from dark at the input to light at the output."""
    if count <= len(COLOURS):
        return [{"color": COLOURS[k], "linestyle": DASHES[k % len(DASHES)]} for k in range(count)]
    shades = colormaps["viridis"](np.linspace(0, LIGHTEST, count))
    return [{"color": to_hex(shade), "linestyle": DASHES[k % 2]} for k, shade in enumerate(shades)]


def drawn(text: str, longest: int = 40) -> str:
    """A text from outside, to be drawn letter by letter: no mathtext, no line breaks, no missing glyph."""
    known = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in " ".join(text.split()))
    short = known if len(known) <= longest else known[: longest - 3] + "..."
    # a legend leaves out what begins with an underscore
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def abbreviated(names: Sequence[str], longest: int = 12) -> list[str]:
    """Names for an axis: long ones with each word's first letter, block_1.conv_2 as b1.c2, if they stay apart."""
    known = [drawn(name) for name in names]
    if max(map(len, known), default=0) <= longest:
        return known
    short = [re.sub(r"([^\W\d_])[^\W\d_]{2,}_?", r"\1", name) for name in known]
    if len(set(short)) == len(short) and max(map(len, short)) <= longest:
        return short
    return [name if len(name) <= longest else f"{name[: longest // 2]}…{name[-(longest // 2 - 1) :]}" for name in known]


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
    """Iterations (n,) and medians (n, ...) over `window` iterations around each; none if there are fewer.

    Towards the start the window shrinks and stays centred, so that a peak there is not left out. At the end it keeps
    what lies before: the last mini-batch of an epoch may have a few images, and a median that ended in it alone would
    draw a jump. Of long runs every k-th, the first and the last included: no figure shows thousands of points, and each
    median has its price.
    """
    values, last, half = np.asarray(values, dtype=np.float64), len(values) - 1, window // 2
    if len(values) < window:
        return np.zeros(0), np.zeros((0, *values.shape[1:]))
    stretches = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
    every = max(1, len(stretches) // MEDIANS)
    at = np.unique(np.append(0, np.arange(last % every, last + 1, every)))
    back = np.minimum(at, half)
    ahead = np.minimum(back, last - at)
    medians = np.empty((len(at), *values.shape[1:]))
    medians[ahead == half] = np.median(stretches[at[ahead == half] - half], axis=-1)
    for k in np.flatnonzero(ahead < half):
        medians[k] = np.median(values[at[k] - back[k] : at[k] + ahead[k] + 1], axis=0)
    return at + 1, medians


def breakdown(values: Array) -> int | None:
    """The first row of values (R, ...) from which on, to the end, none is wholly finite; None when the last one is."""
    good = np.flatnonzero(np.isfinite(np.asarray(values)).reshape(len(values), -1).all(axis=1))
    first = int(good[-1]) + 1 if len(good) else 0
    return first if first < len(values) else None


def broke_down(values: Array) -> str:
    """A sentence about the iteration from which on values (I, ...) are not finite; empty when they end finite."""
    first = breakdown(values)
    return "" if first is None else f" Not finite from iteration {first + 1:,} on."


def far_apart(losses: Sequence[Array]) -> bool:
    """Would a linear axis show the largest loss alone? It stands far above the usual one, or above a start."""
    kept = [loss[~np.isnan(loss)] for loss in map(positive, losses)]
    kept = [loss for loss in kept if loss.size]
    usual = [float(np.median(np.concatenate(kept))), *(float(loss[0]) for loss in kept)] if kept else []
    return bool(kept) and max(float(loss.max()) for loss in kept) > FAR_APART * min(usual)


def after_clipping(found: Sequence[Network]) -> str:
    """A caption's end: what is recorded of a mini-batch is what clipping left of it; empty when none was clipped."""
    clipped = [bool((n.recording.clip_factor != 1).any()) for n in found]
    if not any(clipped):
        return ""
    return "; after clipping" if all(clipped) else "; of clipped runs after clipping"


def window_of(recording: Recording) -> int:
    """An odd number of iterations near an epoch's, so that each window holds one small last mini-batch."""
    experiment = recording.origin.experiment
    return (experiment.iterations_per_epoch if experiment else 40) // 2 * 2 + 1
