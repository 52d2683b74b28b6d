"""Several runs beside each other: accuracy, first and last layer, clipping, time steps, and bands over seeds."""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from labkit import ensembles
from labkit.counts import counted
from labkit.ensembles import Band
from labkit.plots.curves import faint, faint_and_median, layer_curves, layer_handles, mark_breakdowns, mark_largest
from labkit.plots.depth import layer_ticks
from labkit.plots.figure import (
    GREY,
    PlotError,
    at_least_a_decade,
    count_from,
    describe,
    frame,
    legend_below,
    legend_room,
    log_axis,
    tile_title,
    tiles,
    title,
)
from labkit.plots.words import (
    COLOURS,
    PROBE_ADVICE,
    Network,
    Recordings,
    after_clipping,
    breakdown,
    broke_down,
    drawn,
    finite,
    gaps,
    layer_lines,
    listed,
    networks,
    number,
    positive,
    ratio,
    window_of,
)
from labkit.recording import Array, Recording

LIMIT: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": ":"}
ROWS_APART = 1e6  # between the largest norms of two runs, from which one axis would show the smaller ones as flat lines
FEW = 20  # runs below which a percentile of 2.5 lies between the two smallest
By = Literal["iteration", "epoch"]


def accuracy(recordings: Recordings, *, axes: Axes | None = None) -> Figure:
    """Share of the fixed probe batch that is classified right, before training and after each epoch."""
    found = networks(recordings, iterations=False, layers=False)
    for network in found:
        if np.isnan(network.recording.accuracy).all():
            raise PlotError(f"{network.recording.name} was recorded without a probe batch of classes: {PROBE_ADVICE}")
    styles = [{**n.line, "marker": n.marker, "markersize": 4, "label": n.label} for n in found]
    handles = [Line2D([], [], **style) for style in styles]
    own = axes is None
    if axes is None:
        room = legend_room(None, handles, wide=8.0)
        figure, grid = tiles(None, 1, 1, 8, 3.1 + room, margins=(0.8, 0.25, room, 0.75))
        axes = grid[0, 0]
        title(figure, "Accuracy", "on the fixed probe batch, the first of the training sample")
        legend_below(figure, handles)  # several accuracies leave no corner free
    for network, style in zip(found, styles, strict=True):
        share = finite(network.recording.accuracy)
        axes.plot(np.arange(len(share)), share, **style, markevery=0.1)
    frame(axes)
    count_from(axes.xaxis)
    axes.set(xlabel="Epoch (0: before training)", ylabel="Share classified right", ylim=(0, 1.02))
    if not own:
        axes.legend(framealpha=0.85, edgecolor="none")
    told = [_accuracy_told(network) for network in found]
    return describe(axes, " ".join(["Accuracy on the probe batch by epoch.", *told]))


def _accuracy_told(network: Network) -> str:
    share = network.recording.accuracy
    return f"{network.label}: {share[0]:.1%} before training, {share[-1]:.1%} after epoch {len(share) - 1}."


def first_and_last(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Mean |gradient| of the first and of the last layer against the iteration, one log axis for both."""
    found = networks(recordings, layers=False)
    handles = [Line2D([], [], **n.line, label=n.label) for n in found]
    room = legend_room(figure, handles)
    figure, grid = tiles(
        figure, 1, 2, 5.0, 2.7 + room, sharey=True, margins=(0.95, 0.2, room, 1.1), grid={"wspace": 0.08}
    )
    caption = f"mean |dloss/dW| over a layer's weights, {faint(found[0].recording)}{after_clipping(found)}"
    title(figure, "Gradients of the First and of the Last Layer", caption)
    for axes, layer, which in zip(grid[0], (0, -1), ("First layer", "Last layer"), strict=True):
        log_axis(axes)
        for n in found:
            size = positive(n.recording.statistic("abs_mean")[:, layer])
            faint_and_median(axes, size, window_of(n.recording), n.label, n.line)
            mark_largest(axes, size, colour=n.colour)
        mark_breakdowns(axes, found, [n.recording.statistic("abs_mean")[:, layer] for n in found])
        frame(axes)
        count_from(axes.xaxis)
        names = dict.fromkeys(drawn(n.recording.layers[layer]) for n in found)
        tile_title(axes, f"{which}: {', '.join(names)} Weights")
        axes.set(xlabel="Iteration")
    grid[0, 0].set_ylabel("Mean |gradient|")
    legend_below(figure, handles)
    start = f"Mean |gradient|, log scale{after_clipping(found)}."
    return describe(figure, " ".join([start, *map(_first_and_last_told, found)]))


def _first_and_last_told(network: Network) -> str:
    size = finite(network.recording.statistic("abs_mean"))[:, [0, -1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = finite(size[:, 1] / size[:, 0])
    mean = number(float(np.nanmean(factor))) if np.isfinite(factor).any() else "unknown"
    return (
        f"{network.label}: at iteration 1 the last layer's is {ratio(size[0, 1], size[0, 0])} the first's; "
        f"last / first averaged over all iterations: {mean}.{broke_down(size)}{gaps(size)}"
    )


def gradient_norms(recordings: Recordings, by: By = "iteration", *, figure: Figure | SubFigure | None = None) -> Figure:
    """L2 norm of each layer's gradient before (left) and after (right) clipping, log axes; a row for each recording,
    and one panel for both where nothing was clipped.

    What is recorded is what the optimiser used, with the factor that clipping left of it: the norm before is the
    recorded one over that factor. `epoch` draws the median over the mini-batches of each epoch.
    """
    found = networks(recordings)
    if by not in get_args(By):
        raise PlotError(f"by is {by!r}: choose from {', '.join(get_args(By))}")
    if by == "epoch" and any(n.recording.epochs == 0 for n in found):
        raise PlotError("a recording has no finished epoch: train for at least one, or plot by='iteration'")
    handles = [*layer_handles(found[0].recording.layers), *_limits(found)]
    columns, width = (2, 5.0) if any(_clipped(n.recording) for n in found) else (1, 8.0)
    room = legend_room(figure, handles, 8, columns * width)
    largest = [max(np.nan_to_num(norms).max() for norms in _panels(n).values()) for n in found]
    apart = max(largest) > ROWS_APART * min(largest) > 0
    figure, grid = tiles(
        figure, len(found), columns, width, 2.7 + (room - 1) / len(found), sharex=True,
        sharey="row" if apart else "all", margins=(1.0, 0.2, room, 1.0), grid={"wspace": 0.06, "hspace": 0.3},
    )  # fmt: skip
    how = faint(found[0].recording) if by == "iteration" else "median over the mini-batches of each epoch"
    how += "; a scale for each row" if apart else ""
    words = "Gradient Norms before and after Clipping" if columns == 2 else "Gradient Norms"
    drawn_as = words.capitalize() if columns == 2 else "Gradient norms, nothing clipped"
    title(figure, words, f"‖dloss/dW‖ per weight matrix, {how}")
    for row, network in zip(grid, found, strict=True):
        _norms_row(row, network, by)
    _label_lowest(grid, "Iteration" if by == "iteration" else "Epoch")
    legend_below(figure, handles, 8)
    told = map(_norms_told, found)
    return describe(figure, " ".join([f"{drawn_as}, log scale.", *told]))


def _norms_row(row: Array, network: Network, by: By) -> None:
    """The panels of one recording."""
    recording = network.recording
    panels = _panels(network)
    for axes, (words, norms) in zip(row, panels.items(), strict=False):
        _norms(axes, recording, norms, by)
        if limit := _limit(recording):
            axes.axhline(limit[0], **LIMIT, zorder=5)
        tile_title(axes, words, 10)
    for axes in row[len(panels) :]:
        axes.remove()
    row[0].set_ylabel("Gradient norm")


def _panels(network: Network) -> dict[str, Array]:
    """(I, L) norms by the titles of their panels."""
    recording, label = network.recording, network.label
    if _clipped(recording):
        return {f"{label}: {name}": norms for name, norms in before_and_after(recording).items()}
    words = label if "not clipped" in label else f"{label}: nothing clipped"
    return {words: finite(recording.statistic("norm"))}


def _label_lowest(grid: Any, words: str) -> None:
    """The x axis of each column has its numbers and its name below the lowest panel alone."""
    for column in grid.T:
        *others, lowest = [axes for axes in column if axes.figure is not None]
        for axes in others:
            axes.set_xlabel("")
        lowest.set_xlabel(words)
        lowest.tick_params(labelbottom=True)


def _clipped(recording: Recording) -> bool:
    """Did clipping shorten a gradient anywhere?"""
    return bool((finite(recording.clip_factor) < 1).any())


def before_and_after(recording: Recording) -> dict[str, Array]:
    """(I, L) norms before and after clipping; NaN where clipping left nothing to divide by."""
    after, factor = finite(recording.statistic("norm")), finite(recording.clip_factor)
    before = np.divide(after, factor, out=np.full_like(after, np.nan), where=factor > 0)
    return {"before the clip": before, "after the clip": after}


def _norms(axes: Axes, recording: Recording, norms: Array, by: By) -> None:
    if by == "iteration":
        layer_curves(axes, recording, norms)
        mark_largest(axes, norms, recording.layers)
        mark_breakdowns(axes, networks(recording), [recording.statistic("norm")])
        return
    ends = [0, *recording.epoch_end.tolist()]
    medians = np.array([np.median(norms[a:b], axis=0) for a, b in pairwise(ends)])
    log_axis(axes)
    for line, values in zip(layer_lines(norms.shape[1]), positive(medians).T, strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, **line, marker=".", linewidth=1.4)
    frame(axes)
    count_from(axes.xaxis)
    axes.set(xlabel="Epoch")


def _limit(recording: Recording) -> tuple[float, str] | None:
    """The norm that clipping allows, where it is one for each matrix or for all parameters together, and its words."""
    e = recording.origin.experiment
    if e and e.clip_each is not None:
        return e.clip_each, "limit of each matrix"
    return (e.clip_norm, "limit of all parameters together") if e and e.clip_norm is not None else None


def _limits(found: Sequence[Network]) -> list[Line2D]:
    """A legend's line for each kind of limit."""
    words = dict.fromkeys(limit[1] for n in found if (limit := _limit(n.recording)))
    return [Line2D([], [], **LIMIT, label=word) for word in words]


def _norms_told(network: Network) -> str:
    recording = network.recording
    layers, factor = recording.layers, finite(recording.clip_factor)
    before, after = before_and_after(recording).values()
    share = float(np.mean((factor < 1).any(axis=1)))
    largest = [listed(layers, np.nan_to_num(norms).max(axis=0)) for norms in (before, after)]
    sizes = f"before the clip {largest[0]}, after it {largest[1]}" if _clipped(recording) else largest[1]
    return (
        f"{network.label}: clipped in {share:.1%} of the iterations; largest norm {sizes}."
        f"{broke_down(recording.statistic('norm'))}{gaps(after)}"
    )


def through_time(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Norm of the memory's gradient for each time step t on the fixed probe batch, log axis, before and after training:
    dloss/dh_t, and dloss/dc_t of an LSTM, whose cells hand the memory on.

    A tile for each recurrent network. The class was shown at the first step and is named at the last: a curve that
    falls to the left says that the first step hardly counts.
    """
    found = networks(recordings, iterations=False, layers=False)
    for network in found:
        if not network.recording.through_time.shape[1] or np.isnan(network.recording.through_time).all():
            raise PlotError(f"{network.recording.name} has no time steps: plot recordings of recurrent networks")
    width = 6.5 if len(found) == 1 else 3.6
    margins = (1.0, 0.2, 0.8, 0.95)
    figure, grid = tiles(figure, 1, len(found), width, 3.2, sharey=True, margins=margins, grid={"wspace": 0.08})
    title(figure, "Gradients through Time", "L2 norm of dloss/dh_t (of an LSTM: dloss/dc_t) over the fixed probe batch")
    ended: list[Line2D] = []
    for axes, network in zip(grid[0], found, strict=True):
        norms = positive(network.recording.through_time)
        at = np.arange(1, norms.shape[1] + 1)
        log_axis(axes)
        start = axes.plot(at, norms[0], color=COLOURS[1], linestyle=(0, (4, 1.5)), label="before training")
        end = axes.plot(at, norms[-1], color=COLOURS[0], linewidth=1.8, label="after the last epoch")
        if missing := _no_end(network.recording):
            _say_above(axes, missing, norms[0])
        else:
            ended = end
        handles = [*start, *ended]
        frame(axes)
        count_from(axes.xaxis)
        tile_title(axes, network.label)
        axes.set(xlabel="Time step t")
    grid[0, 0].set_ylabel("‖gradient of the memory‖")
    legend_below(figure, handles)
    return describe(figure, " ".join(["Gradient norm by time step, log scale.", *map(_time_told, found)]))


def _no_end(recording: Recording) -> str:
    """Why there is no curve of the end; empty where there is one."""
    end, first = recording.through_time[-1], breakdown(recording.loss)
    if np.isfinite(positive(end)).any():
        return ""
    if (end == 0).all():
        return "no end: all its gradients are 0"
    return "no end: not finite" if first is None else f"no end: the loss is not finite\nfrom iteration {first + 1:,} on"


def _say_above(axes: Axes, words: str, curve: Array) -> None:
    """Words in the upper corner that a curve over the time steps leaves free."""
    at, side = (0.97, "right") if curve[0] > curve[-1] else (0.03, "left")
    axes.text(at, 0.96, words, transform=axes.transAxes, ha=side, va="top", fontsize=8, color=GREY)


def _time_told(network: Network) -> str:
    norms, missing = network.recording.through_time, _no_end(network.recording)
    whens = ["before training", *([] if missing else [f"after epoch {network.recording.epochs}"])]
    rows = zip(whens, norms[[0, -1]].tolist(), strict=False)
    parts = [f"{when} step 1's is {ratio(row[0], row[-1])} step {len(row)}'s" for when, row in rows]
    parts += [missing.replace("\n", " ")] * bool(missing)
    return f"{network.label}: {', '.join(parts)}.{gaps(norms)}"


def seed_groups(recordings: Recordings) -> list[list[Recording]]:
    """Recordings that differ in their seeds alone, together; a loop of one's own stands by itself."""
    found, groups = (
        [n.recording for n in networks(recordings, iterations=False, layers=False)],
        dict[object, list[Recording]](),
    )
    for recording in found:
        e = recording.origin.experiment
        key: object = id(recording) if e is None else e.replace(seed=0, student="", name="").digest
        groups.setdefault(key, []).append(recording)
    return list(groups.values())


def bands(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Mean |gradient| of each layer over runs that differ in their seeds alone: median and 95 % band, log axis. The
    band of fewer than 20 runs is about their range, and is called so.

    On the left before training, on the probe batch; on the right averaged over all iterations. Runs of different
    experiments become bands of their own. One run is one draw: a lone run is drawn as a line without a band.
    """
    groups = seed_groups(recordings)
    found = networks([group[0] for group in groups])  # also says whether their layers fit into one figure
    panels: dict[str, Callable[[Recording], Array]] = {
        "Before training, probe batch": ensembles.sizes_at_start,
        f"Averaged over the iterations{after_clipping(found).replace(';', ',')}": ensembles.sizes_over_training,
    }
    margins = (1.0, 0.2, 0.85 + 0.2 * ((len(found) - 1) // 2), 0.95)
    figure, grid = tiles(figure, 1, 2, 5.0, 3.4, sharey=True, margins=margins, grid={"wspace": 0.08})
    words = _band_words(groups)
    title(figure, "Gradient Size over Seeds", f"mean |gradient| over a layer's weights: median{words}")
    layers, told = found[0].recording.layers, []
    for axes, (name, sizes) in zip(grid[0], panels.items(), strict=True):
        over = [_band(group, sizes) for group in groups]
        for network, band in zip(found, over, strict=True):
            _draw_band(axes, network, band)
        log_axis(axes)
        tile_title(axes, name)
        layer_ticks(axes, layers)
        frame(axes)
        told.append(f"{name}: {' '.join(_band_told(n, b, layers) for n, b in zip(found, over, strict=True))}")
    grid[0, 0].set_ylabel("Mean |gradient|")
    at_least_a_decade(grid[0, 0])
    counted = [f"{n.label}, {_runs(group)}" for n, group in zip(found, groups, strict=True)]
    handles = [Line2D([], [], **n.line, marker=n.marker, label=w) for n, w in zip(found, counted, strict=True)]
    legend_below(figure, handles, 2)
    return describe(figure, " ".join([f"Mean |gradient| per layer over seeds, log scale: median{words}.", *told]))


def _band_words(groups: Sequence[Sequence[Recording]]) -> str:
    """What the band is, which depends on how many runs the smallest group has; empty when all runs are alone."""
    counts = [len(group) for group in groups if len(group) > 1]
    if not counts:
        return ""
    if min(counts) >= FEW:
        return f", and the band that holds {ensembles.COVERED} % of the runs"
    return f", and about the range of only {min(counts)} runs (percentiles 2.5 and 97.5, interpolated)"


def _runs(group: Sequence[Recording]) -> str:
    return counted(len(group), "run")


def _band(group: Sequence[Recording], sizes: Callable[[Recording], Array]) -> Band:
    """NaN for a layer of which no run has a finite figure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN|Mean of empty", RuntimeWarning)
        return ensembles.over(group, lambda recording: finite(sizes(recording)))


def _draw_band(axes: Axes, network: Network, band: Band) -> None:
    at = np.arange(len(band.median))
    axes.plot(at, positive(band.median), **network.line, marker=network.marker, label=network.label)
    if band.runs > 1:
        low, high = positive(band.low), positive(band.high)
        axes.fill_between(at, low, high, color=network.colour, alpha=0.2, linewidth=0)


def _band_told(network: Network, band: Band, layers: Sequence[str]) -> str:
    each = [
        f"{drawn(layer)} {number(float(median))} ({number(float(low))} to {number(float(high))})"
        for layer, median, low, high in zip(layers, band.median, band.low, band.high, strict=True)
    ]
    return f"{network.label}, {counted(band.runs, 'run')}: {', '.join(each)}."
