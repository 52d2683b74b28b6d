"""Why gradients shrink or grow: slopes of the activations, sizes over depth, factors of the last layer."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from labkit import theory
from labkit.plots.figure import (
    PlotError,
    at_least_a_decade,
    broken_from,
    count_from,
    describe,
    frame,
    log_axis,
    tile_title,
    tiles,
    title,
)
from labkit.plots.words import (
    ACTIVATIONS,
    COLOURS,
    DASHES,
    PROBE_ADVICE,
    Network,
    Recordings,
    abbreviated,
    after_clipping,
    breakdown,
    drawn,
    finite,
    gaps,
    listed,
    networks,
    number,
    observations,
    positive,
    ratio,
    weights_of,
)
from labkit.recording import Array, Recording

CANCELS = "the gradient lies below the product where the {}' parts cancel in the mean over the batch"
Size = Literal["abs_mean", "rms"]
SIZES = {"abs_mean": "mean |gradient|", "rms": "rms gradient"}
TICKS = 9  # layers of a deep network whose names fit under an axis ...
LETTERS = 60  # ... when they have no more letters than these, all together
NOT_DELTAS = "a weight's gradient also depends on its layer's inputs and width"
FITTING = 56  # letters of a legend below one of two panels
MATLAB_SPACING = 0.01  # what gradient(y, 0.01) divides by; the points lie 10/999 apart


def activations(
    names: Sequence[str] = ("relu", "sigmoid"),
    numerical: bool = False,
    *,
    leaky: float = theory.LEAKY_SLOPE,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Each activation and its gradient from -5 to 5; `leaky` is the slope of leaky_relu below 0.

    `numerical=True` draws MATLAB's gradient(y, 0.01) in place of the exact one: its points lie 10/999 apart,
    not 0.01, so its slopes are 1.001 times too steep.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise PlotError(f"there is no activation to plot: choose from {', '.join(ACTIVATIONS)}")
    for name in names:
        if name not in ACTIVATIONS:
            raise PlotError(f"there is no activation {name!r}: choose from {', '.join(ACTIVATIONS)}")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    margins = (0.6, 0.2, 0.6, 0.9)
    figure, grid = tiles(figure, rows, columns, min(4.8, 13.2 / columns), 3.2, margins=margins, grid={"wspace": 0.18})
    for axes in grid.flat[len(names) :]:
        axes.remove()
    how = "numerical gradient, spacing 0.01 (true spacing 10/999)" if numerical else "exact gradient"
    title(figure, "Activation Functions and Their Gradients", how)
    x, told = np.linspace(-5, 5, 1000), []
    for axes, name in zip(grid.flat, names, strict=False):
        y = theory.value(name, x, leaky)
        slope = np.gradient(y, MATLAB_SPACING) if numerical else theory.slope(name, x, leaky)
        shown = ACTIVATIONS[name]
        axes.plot(x, y, color=COLOURS[0], linewidth=1.8, label=shown)
        axes.plot(x, slope, color=COLOURS[1], linestyle=DASHES[1], linewidth=1.8, label=f"Gradient of {shown}")
        axes.set(xlabel="x", xlim=(-5, 5))
        axes.legend(frameon=False, loc="upper left")
        frame(axes)
        told.append(f"{shown}: gradient from {number(slope.min())} to {number(slope.max())}.")
    return describe(figure, " ".join([f"Activations from x = -5 to 5 with their {how}.", *told]))


def attenuation(
    recordings: Recordings,
    at: int = 0,
    statistic: Size = "abs_mean",
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """The gradients' size over depth, log axis: at iteration index `at`, and the median over the last epoch.

    `statistic` is `abs_mean`, the mean |gradient| over a layer's weights, or `rms`, the root of their mean square.
    A weight's gradient is a delta times an input: its size also follows how large a layer's inputs are and how wide the
    layer is. So the first layer is compared with the last one that has as many outputs, and `gain_per_layer` shows of
    plain networks whether the deltas themselves vanish or explode.
    """
    found = networks(recordings)
    if statistic not in SIZES:
        raise PlotError(f"statistic is {statistic!r}: choose from {', '.join(get_args(Size))}")
    shortest = min(n.recording.iterations for n in found)
    if not -shortest <= at < shortest:
        raise PlotError(f"at is {at}: choose an iteration index from 0 to {shortest - 1}")
    index = at % shortest
    panels = {
        f"iteration {index + 1:,}": [_size(n.recording, statistic)[index] for n in found],
        "median over the last epoch": [_last_epoch(n.recording, statistic) for n in found],
    }
    lines = [
        2 if len(n.label + _factor(n.recording, np.ones(len(n.recording.layers)))) + 8 > FITTING else 1 for n in found
    ]
    margins = (0.95, 0.2, 0.7 + 0.2 * sum(lines), 1.1)
    figure, grid = tiles(figure, 1, 2, 5.0, 3.4, sharey=True, margins=margins, grid={"wspace": 0.08})
    caption = f"{SIZES[statistic]} over a layer's weights, on the mini-batch{after_clipping(found)}; {NOT_DELTAS}"
    title(figure, "Gradient Size over Depth", caption)
    grid[0, 0].set_ylabel(SIZES[statistic].capitalize())
    told = [_depth(axes, found, sizes, when) for axes, (when, sizes) in zip(grid[0], panels.items(), strict=True)]
    at_least_a_decade(grid[0, 0])
    start = f"{SIZES[statistic].capitalize()} per layer, log scale{after_clipping(found)}; {NOT_DELTAS}."
    return describe(figure, " ".join([start, *told]))


def _depth(axes: Axes, found: list[Network], sizes: list[Array], when: str) -> str:
    """One panel of `attenuation`, and what it shows in words."""
    names, told = found[0].recording.layers, []
    log_axis(axes)
    for n, size in zip(found, sizes, strict=True):
        factor = _factor(n.recording, size)
        style = {**n.line, "marker": n.marker, "linewidth": 1.8}
        axes.plot(
            range(len(names)), positive(size), **style, label=fill(": ".join(filter(None, (n.label, factor))), FITTING)
        )
        told.append(f"{n.label} {listed(names, size)}{'; ' if factor else ''}{factor}.{gaps(size)}")
    layer_ticks(axes, names)
    tile_title(axes, when.capitalize())
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    frame(axes)
    return f"{when.capitalize()}: {' '.join(told)}"


def _factor(recording: Recording, size: Array) -> str:
    names, other = recording.layers, _comparable(recording)
    return f"{drawn(names[0])} is {ratio(size[0], size[other])} {drawn(names[other])}" if other else ""


def _comparable(recording: Recording) -> int:
    """The last layer with as many outputs as the first; the last of all when none has, 0 when there is but one."""
    outputs = [shape[0] for shape in recording.origin.shapes]
    same = [k for k, count in enumerate(outputs) if count == outputs[0]]
    return same[-1] or len(outputs) - 1


def layer_ticks(axes: Axes, names: Sequence[str], most: int = TICKS) -> None:
    """A tick for each layer, of a deep network for every second or third; names that are too long are abbreviated, or
    become numbers, and the axis says what the first stands for."""
    at, all_short = range(0, len(names), -(-len(names) // most)), abbreviated(names)
    short = [all_short[k] for k in at]
    axes.set_xlabel("Layer")
    changed = [k for k in at if all_short[k] != drawn(names[k]) and "…" not in all_short[k]]
    if changed:
        longest = max(changed, key=lambda k: len(names[k]))
        axes.set_xlabel(f"Layer ({all_short[longest]}: {drawn(names[longest], 30)})")
    if sum(map(len, short)) > LETTERS:
        axes.set_xlabel(f"Layer (1: {drawn(names[0], 20)}, {len(names)}: {drawn(names[-1], 20)})")
        short = [str(k + 1) for k in at]
    axes.set_xticks(at, short)


def _size(recording: Recording, statistic: str) -> Array:
    """(I, L)"""
    if statistic == "abs_mean":
        return finite(recording.statistic("abs_mean"))
    weights = np.array([np.prod(shape) for shape in recording.origin.shapes])
    return np.asarray(finite(recording.statistic("norm")) / np.sqrt(weights))


def _last_epoch(recording: Recording, statistic: str) -> Array:
    """(L,) the median over the iterations of the last epoch that ended, or over all when none did."""
    ends = [0, *recording.epoch_end.tolist()]
    rows = slice(ends[-2], ends[-1]) if recording.epochs else slice(None)
    median: Array = np.median(_size(recording, statistic)[rows], axis=0)
    return median


def growth(recording: Recording, *, axes: Axes | None = None) -> Figure:
    """Why the last layer's gradient grows: mean |gradient|, mean |p - y|, mean |h| and the product of the last two.

    On the fixed probe batch, each divided by its own value before training, log axis. dloss/dW of the last layer
    is the mean of (p - y) h^T over the batch; p is the softmax, y the label, h the last hidden activation.
    """
    network = networks(recording, iterations=False)[0]
    curves, broken = _factors(recording), breakdown(recording.probe_gradient[:, -1])
    clipped = ", not clipped" if after_clipping([network]) else ""
    if axes is None:
        figure, grid = tiles(None, 1, 1, 8, 3.9, margins=(0.8, 0.25, 0.6, 0.85))
        axes = grid[0, 0]
        caption = f"fixed probe batch{clipped}; each curve divided by its own value before training (epoch 0)"
        caption += f"\n{CANCELS.format(observations(recording))}"
        title(figure, f"What the Last Layer's Gradient Is Made Of, {network.label} Network", caption)
    axes.set_yscale("log")
    for k, (name, values) in enumerate(curves.items()):
        relative = positive(values) / positive(values)[0]
        style: dict[str, Any] = {"color": COLOURS[k], "linestyle": DASHES[k], "linewidth": 2.6 if k == 0 else 1.6}
        lone = np.isfinite(relative).sum() < 2
        marker: dict[str, Any] = {"marker": "osDv"[k] if lone else ("", "s", "D", "")[k], "markersize": 5}
        marker["markevery"] = 1 if lone else 0.1
        axes.plot(np.arange(len(values)), relative, **style, **marker, label=name)
    words = f"not finite\nfrom epoch {broken} on"
    broken_from(axes, broken, recording.epochs, words)
    frame(axes)
    axes.axhline(1, color="#999999", linewidth=0.8)
    axes.set(xlabel="Epoch", ylabel="Relative to epoch 0")
    count_from(axes.xaxis, 10)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 5 * low else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if broken is not None:
        axes.set_xlim(-0.5, recording.epochs + 0.5)
    axes.legend(frameon=False, fontsize=9)
    told = [_growth_told(name, values) for name, values in curves.items()]
    when = f"on the probe batch{clipped}, epoch 0 to {recording.epochs}, log scale"
    told += [f"Not finite from epoch {broken} on."] * (broken is not None)
    cancels = CANCELS.format(observations(recording))
    told = [f"Factors of the last gradient, {network.label} network, {when}; {cancels}.", *told]
    return describe(axes, " ".join(told))


def _growth_told(name: str, values: Array) -> str:
    with np.errstate(divide="ignore", invalid="ignore"):
        times = number(values[-1] / values[0])
    return f"{name}: {number(values[0])} to {number(values[-1])}, {times} times its start.{gaps(values)}"


def _factors(recording: Recording) -> dict[str, Array]:
    """Each curve of `growth` (E+1,) by its label."""
    experiment = recording.origin.experiment
    if experiment and (experiment.architecture != "mlp" or experiment.residual):
        raise PlotError(f"{recording.name} has more between its last activation and its outputs than one layer")
    if not recording.origin.activations:
        raise PlotError(f"{recording.name} has no hidden activation: its last gradient has no such factors")
    if np.isnan(recording.probe_gradient[0]).any():
        raise PlotError(f"{recording.name} was recorded without a probe batch: {PROBE_ADVICE}")
    hidden = drawn(recording.origin.activations[-1])
    gradient = finite(recording.probe_statistic("abs_mean")[:, -1])
    error, size = finite(recording.output_error), finite(recording.hidden_statistic("abs_mean")[:, -1])
    return {
        f"mean |gradient| of {weights_of(recording.layers[-1])}": gradient,
        "mean |p − y| of the outputs": error,
        f"mean |{hidden}|": size,
        f"product: mean |p − y| × mean |{hidden}|": error * size,
    }
