"""Curves over the iterations: loss, signed mean and size of the gradients, updates."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

from labkit.plots.figure import (
    GREY,
    broken_from,
    caption_room,
    count_from,
    describe,
    frame,
    legend_below,
    legend_room,
    log_axis,
    tile_title,
    tiles,
    title,
    whole,
)
from labkit.plots.words import (
    COLOURS,
    FLOOR_UNITS,
    Network,
    Recordings,
    after_clipping,
    breakdown,
    broke_down,
    chosen,
    chosen_told,
    drawn,
    far_apart,
    finite,
    gaps,
    layer_lines,
    listed,
    networks,
    number,
    positive,
    ratio,
    rounding_floor,
    running_median,
    weights_of,
    window_of,
)
from labkit.recording import Array, Recording

LOSS = "Mean cross-entropy of the mini-batch (nats)"
MOST_TILES = 9  # layers with a tile of their own
NOISE = "rounding noise: share of iterations within the floor"
SMALL = 0.064  # inches that a small letter takes
NOISE_SHARE = 0.95  # a layer whose signed mean lies within the rounding floor this often is called noise
STANDS_OUT = 10  # times the median of its curve, from which the largest value is marked ...
ABOVE, NEIGHBOURS = 2, 20  # ... where it is also so many times the median of so many iterations on either side
SHORT = 400  # iterations up to which the faint line of each mini-batch is drawn stronger


def losses(recordings: Recordings, *, axes: Axes | None = None) -> Figure:
    """Loss of every mini-batch (faint) and its running median over about an epoch, against the iteration.

    The axis is logarithmic when the losses lie too far apart to be seen on one scale, as those of a run that explodes.
    """
    found = networks(recordings, layers=False)
    scale = "log" if far_apart([n.recording.loss for n in found]) else "linear"
    if axes is None:
        figure, grid = tiles(None, 1, 1, 8, 3.7, margins=(0.8, 0.25, 0.6, 0.75))
        axes = grid[0, 0]
        title(figure, "Losses", faint(found[0].recording))
    for network in found:
        recording = network.recording
        shown = finite(recording.loss) if scale == "linear" else positive(recording.loss)
        faint_and_median(axes, shown, window_of(recording), network.label, network.line)
        mark_largest(axes, shown, colour=network.colour)
    mark_breakdowns(axes, found, [n.recording.loss for n in found])
    frame(axes)
    count_from(axes.xaxis)
    axes.set(xlabel="Iteration", ylabel=LOSS)
    if scale == "log":
        log_axis(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return describe(axes, " ".join([f"Loss against iteration, {scale} scale.", *map(_loss_told, found)]))


def _loss_told(network: Network) -> str:
    loss, window = network.recording.loss, window_of(network.recording)
    told = f"{network.label}: {number(loss[0])} at iteration 1, {number(loss[-1])} at {len(loss):,}."
    if len(loss) >= window and np.isfinite(loss[-window:]).all():
        told += f" The median of the last {window} iterations is {number(float(np.median(loss[-window:])))}."
    if largest := _stands_out(finite(loss)):
        told += f" Largest: {number(float(loss[largest]))} at iteration {largest[0] + 1:,}."
    bad = int(np.sum(~np.isfinite(loss)))
    return told + broke_down(loss) + (f" Left out as gaps: {bad:,} values that are not finite." if bad else "")


def mean_gradients(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """MATLAB's last figure: the signed mean of each layer's weight gradients against the iteration.

    The band around 0 is the rounding floor (`words.rounding_floor`); a layer that stays inside shows nothing
    but rounding, and its tile says so.
    """
    found = networks(recordings)
    lines = [Line2D([], [], **n.line, label=n.label) for n in found]
    handles = [*lines, *(Patch(color=n.colour, alpha=0.3, label=f"{n.label}, rounding floor") for n in found)]
    room = max(1.0, legend_room(figure, handles))
    some = chosen_told(len(found[0].recording.layers), MOST_TILES)
    some += after_clipping(found)
    caption = f"signed mean of dloss/dW over a layer's weights{some}; band: {_floor(found)}"
    figure, grid = _per_layer(figure, found[0].recording.layers, "Mean gradient (signed)", room, caption)
    title(figure, "Mean Gradients", caption)
    for k, axes in grid.items():
        for network in found:
            _signed(axes, network, k)
        mark_breakdowns(axes, found, [n.recording.statistic("mean")[:, k] for n in found])
        tile_title(axes, weights_of(found[0].recording.layers[k]))
        axes.set_xlabel("Iteration")
        _say_noise(axes, found, k)
    legend_below(figure, handles)
    start = f"Signed mean gradient against iteration{after_clipping(found)}."
    return describe(figure, " ".join([start, *map(_signed_told, found)]))


def _signed(axes: Axes, network: Network, layer: int) -> None:
    recording = network.recording
    at = np.arange(1, recording.iterations + 1)
    floor = rounding_floor(recording)[:, layer]
    axes.fill_between(at, -floor, floor, color=network.colour, alpha=0.3, linewidth=0)
    mean = finite(recording.statistic("mean")[:, layer])
    axes.plot(at, mean, **network.line, linewidth=0.7, marker=_dots(mean), label=network.label)


def noise_share(recording: Recording) -> Array:
    """(L,) share of the iterations whose signed mean lies within the floor, of those with a gradient at all."""
    floor, mean = rounding_floor(recording), finite(recording.statistic("mean"))
    usable = floor > 0
    within = usable & (np.abs(mean) <= floor)
    return np.asarray(within.sum(axis=0) / np.maximum(usable.sum(axis=0), 1))


def _say_noise(axes: Axes, found: list[Network], layer: int) -> None:
    """Name a layer that shows rounding, with limits that leave out the floor's rare peaks, never the curves'."""
    shares = [noise_share(n.recording)[layer] for n in found]
    if max(shares) < NOISE_SHARE:
        return
    told = ", ".join(f"{n.label} {share:.1%}" for n, share in zip(found, shares, strict=True))
    wide = axes.get_window_extent().width / whole(axes).dpi
    text = "\n".join(fill(line, int(wide / SMALL)) for line in (NOISE, told))
    axes.text(0.02, 0.98, text, transform=axes.transAxes, va="top", fontsize=8, color=GREY)
    floors = [np.nanquantile(np.nan_to_num(rounding_floor(n.recording)[:, layer]), 0.95) for n in found]
    means = [np.nan_to_num(finite(n.recording.statistic("mean")[:, layer])) for n in found]
    limit = 1.1 * max(*floors, *(np.abs(mean).max() for mean in means))
    axes.set_ylim(-limit, 1.5 * limit)


def _floor(found: list[Network]) -> str:
    """The floor's formula, with the eps of each dtype."""
    dtypes = dict.fromkeys(n.recording.origin.dtype for n in found)
    eps = ", ".join(f"eps({dtype}) = {np.finfo(dtype).eps:.2g}" for dtype in dtypes)
    return f"rounding floor {FLOOR_UNITS} eps × mean |gradient|, {eps}"


def _signed_told(network: Network) -> str:
    recording = network.recording
    largest = np.abs(np.nan_to_num(finite(recording.statistic("mean")))).max(axis=0)
    shares = zip(recording.layers, noise_share(recording), strict=True)
    noisy = [f"{drawn(name)} ({share:.1%} of the iterations)" for name, share in shares if share >= NOISE_SHARE]
    noise = f" Within the rounding floor, so noise: {', '.join(noisy)}." if noisy else ""
    return (
        f"{network.label}, largest |mean|: {listed(recording.layers, largest)}.{noise}"
        f"{broke_down(recording.statistic('mean'))}"
    )


def gradient_sizes(recordings: Recordings, signed: bool = False, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Mean |gradient| of each layer against the iteration, on one log axis for all layers.

    `signed=True` draws beside it the size of the signed mean (dots) and the rounding floor (dotted line): a
    signed mean near the floor is rounding, whatever its curve looks like. A zero or a value that is not finite
    is a gap.
    """
    found = networks(recordings)
    words = "Gradient size" if signed else "Mean |gradient|"
    handles, columns = _size_handles(found, signed), 3 if signed else 4
    room = max(1.0, legend_room(figure, handles, columns))
    name, caption = _size_words(found, signed)
    figure, grid = _per_layer(figure, found[0].recording.layers, words, room, caption, sharey=True)
    title(figure, name, caption)
    for k, axes in grid.items():
        log_axis(axes)
        for network in found:
            size, window = network.recording.statistic("abs_mean")[:, k], window_of(network.recording)
            faint_and_median(axes, positive(size), window, network.label, network.line)
            if signed:
                _signed_size(axes, network, k)
        mark_breakdowns(axes, found, [n.recording.statistic("abs_mean")[:, k] for n in found])
        tile_title(axes, weights_of(found[0].recording.layers[k]))
        axes.set_xlabel("Iteration")
    legend_below(figure, handles, columns)
    start = f"Mean |gradient| against iteration, log scale{after_clipping(found)}."
    return describe(figure, " ".join([start, *map(_size_told, found)]))


def _size_words(found: list[Network], signed: bool) -> tuple[str, str]:
    some = chosen_told(len(found[0].recording.layers), MOST_TILES) + after_clipping(found)
    if signed:
        return "Gradient Sizes, Absolute and Signed", f"over a layer's weights{some}, every mini-batch; {_floor(found)}"
    floor = max(np.nan_to_num(rounding_floor(n.recording)).max() for n in found)
    caption = f"mean |dloss/dW| over a layer's weights{some}, {faint(found[0].recording)}"
    return "Gradient Sizes", f"{caption}\n{_floor(found)}: at most {number(floor)}, far below the curves"


def _signed_size(axes: Axes, network: Network, layer: int) -> None:
    recording = network.recording
    at = np.arange(1, recording.iterations + 1)
    mean = positive(np.abs(recording.statistic("mean")[:, layer]))
    axes.plot(at, mean, ".", color=network.colour, markersize=1.2, alpha=0.5, label=f"{network.label}, |mean|")
    floor = positive(rounding_floor(recording)[:, layer])
    axes.plot(at, floor, ":", color=network.colour, linewidth=0.8, label=f"{network.label}, floor")


def _size_handles(found: list[Network], signed: bool) -> list[Line2D]:
    handles = []
    for n in found:
        handles.append(Line2D([], [], **n.line, label=f"{n.label}, mean |gradient|"))
        if signed:
            dots: dict[str, Any] = {"marker": ".", "linestyle": "", "color": n.colour}
            handles.append(Line2D([], [], **dots, label=f"{n.label}, |mean gradient|"))
            handles.append(Line2D([], [], color=n.colour, linestyle=":", label=f"{n.label}, rounding floor"))
    # a legend fills column by column; each network is to have its row
    return [handles[k] for start in range(3) for k in range(start, len(handles), 3)] if signed else handles


def _size_told(network: Network) -> str:
    recording = network.recording
    size, names = recording.statistic("abs_mean"), recording.layers
    floor = np.nan_to_num(rounding_floor(recording)).max()
    return (
        f"{network.label}: at iteration 1 {listed(names, size[0])}, where {drawn(names[0])} is "
        f"{ratio(size[0, 0], size[0, -1])} {drawn(names[-1])}; at iteration {len(size):,} "
        f"{listed(names, size[-1])}. The rounding floor of a signed mean is at most {number(floor)}."
        f"{broke_down(size)}{gaps(size)}"
    )


def updates(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Gradient norm, update norm and update norm / weight norm of each layer against the iteration, log axes.

    A row of tiles for each recording. An adaptive optimiser takes steps whose size hardly depends on the gradient's:
    compare the first two, and a run by Adam with one by plain SGD.
    """
    found = networks(recordings)
    rows, layers = len(found), found[0].recording.layers
    margins = (0.75, 0.2, 0.95, 1.0 if rows == 1 else 1.15)
    figure, grid = tiles(figure, rows, 3, 4.1, 3.3, sharey="col", margins=margins, grid={"wspace": 0.24})
    whose = f" of the {found[0].label} Network" if rows == 1 else ""
    by = _optimizer(found[0].recording) if rows == 1 else ""  # of several, the labels say in what they differ
    caption = f"trained{by}; " if by else ""
    caption += f"per weight matrix, {faint(found[0].recording)}{after_clipping(found)}"
    title(figure, f"Gradients and Updates{whose}", caption)
    for row, network in zip(grid, found, strict=True):
        for axes, (name, values) in zip(row, _steps(network.recording).items(), strict=True):
            layer_curves(axes, network.recording, values)
            mark_breakdowns(axes, [network], [values])
            tile_title(axes, name if rows == 1 else f"{network.label}\n{name}", 11 if rows == 1 else 10)
    legend_below(figure, layer_handles(layers), 8)
    return describe(figure, " ".join(_updates_told(network, by) for network in found))


def _optimizer(recording: Recording) -> str:
    """What made the steps, to be said behind a name."""
    e = recording.origin.experiment
    return f" by {e.optimizer} with learning rate {e.learning_rate:g}" if e else ""


def mark_breakdowns(axes: Axes, found: Sequence[Network], values: Sequence[Array]) -> None:
    """Shade the iterations from which on a run's values (I, ...) are not finite."""
    # the largest value of all has its words on the first line
    place = int(any(isinstance(text, Annotation) for text in axes.texts))
    for network, some in zip(found, values, strict=True):
        first = breakdown(some)
        whose = f"{drawn(network.label, 24)}: " if len(found) > 1 else ""
        words = f"{whose}not finite\nfrom iteration {(first or 0) + 1:,} on"
        broken_from(axes, None if first is None else first + 1, len(some), words, place)
        place += first is not None


def mark_largest(axes: Axes, values: Array, names: Sequence[str] = (), colour: str = GREY) -> None:
    """A ring around the largest of values (I,) or (I, L), if it stands out, with its iteration, and layer, in words."""
    if (at := _stands_out(values)) is None:
        return
    layer = f"{drawn(names[at[1]], 20)}, " if names else ""
    axes.plot(at[0] + 1, values[at], "o", markersize=7, fillstyle="none", color=colour, label="_largest")
    words = f"largest: {number(float(values[at]))} ({layer}iteration {at[0] + 1:,})"
    side = -1 if 2 * at[0] > len(values) else 1
    below = sum(_near(text, at[0] + 1, float(values[at]), len(values)) for text in axes.texts)
    axes.annotate(
        words, (at[0] + 1, values[at]), (7 * side, -11 * below), textcoords="offset points", va="center",
        ha="right" if side < 0 else "left", fontsize=8, color=colour,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )  # fmt: skip


def _near(text: Text, iteration: int, value: float, iterations: int) -> bool:
    """Would words beside this point lie on those that are there?"""
    if not isinstance(text, Annotation):
        return False
    there, size = text.xy
    return abs(there - iteration) < iterations / 3 and max(size, value) < 2 * min(size, value)


def _stands_out(values: Array) -> tuple[int, ...] | None:
    """Where the largest of the finite values is, if it is far above the median of its curve, and above its neighbours:
    a loss that begins high and falls has no peak."""
    known = np.nan_to_num(values, nan=0.0)
    at = tuple(int(k) for k in np.unravel_index(int(np.argmax(known)), known.shape))
    curve = finite(values[:, at[1]] if values.ndim > 1 else values)
    if not np.isfinite(curve).any():
        return None
    beside = curve[max(0, at[0] - NEIGHBOURS) : at[0] + NEIGHBOURS + 1]
    usual, near = float(np.nanmedian(curve)), float(np.nanmedian(beside))
    return at if known[at] > STANDS_OUT * usual > 0 and known[at] > ABOVE * near else None


def layer_curves(axes: Axes, recording: Recording, values: Array) -> None:
    """A curve over the iterations for each layer, of values (I, L), on a log axis."""
    log_axis(axes)
    alpha = 0.25 if len(recording.layers) <= len(COLOURS) else 0.15
    for k, line in enumerate(layer_lines(len(recording.layers))):
        label = weights_of(recording.layers[k])
        faint_and_median(axes, positive(values[:, k]), window_of(recording), label, line, alpha)
    frame(axes)
    count_from(axes.xaxis)
    axes.set(xlabel="Iteration")


def layer_handles(layers: Sequence[str]) -> list[Line2D]:
    """A legend's lines for the layers; of a deep network for some, between which the colours go evenly."""
    lines, shown = layer_lines(len(layers)), chosen(len(layers), len(COLOURS))
    words = [drawn(layers[k], 24) if len(layers) > len(COLOURS) else weights_of(layers[k]) for k in shown]
    return [Line2D([], [], **lines[k], label=word) for k, word in zip(shown, words, strict=True)]


def _updates_told(network: Network, by: str) -> str:
    told = [_steps_told(network.recording, name, values) for name, values in _steps(network.recording).items()]
    return f"Updates of the {network.label} network{by}, log scales. {' '.join(told)}"


def _steps(recording: Recording) -> dict[str, Array]:
    """Each panel of `updates` (I, L) by its title."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = finite(recording.update_norm) / finite(recording.weight_norm)
    return {
        "Gradient norm  ‖dloss/dW‖": recording.statistic("norm"),
        "Update norm  ‖ΔW‖": recording.update_norm,
        "Update norm / weight norm": relative,
    }


def _steps_told(recording: Recording, name: str, values: Array) -> str:
    first, last = listed(recording.layers, values[0]), listed(recording.layers, values[-1])
    name = name.split("  ")[0]
    return f"{name}: at iteration 1 {first}; at {len(values):,} {last}.{broke_down(values)}{gaps(values)}"


def _per_layer(
    figure: Figure | SubFigure | None,
    layers: tuple[str, ...],
    words: str,
    room: float = 1.0,
    caption: str = "",
    **options: Any,
) -> tuple[Figure | SubFigure, dict[int, Axes]]:
    """A tile for every layer by its index, input side first; of a deep network for some. `words` say what is drawn."""
    shown = chosen(len(layers), MOST_TILES)
    columns = int(np.ceil(np.sqrt(len(shown))))
    rows = int(np.ceil(len(shown) / columns))
    width = min(5.0, 10.0 / columns)  # wide figures are shown smaller, and their letters with them
    head = caption_room(figure, caption, columns * width)
    high = 2.7 + (room + head - 1) / rows
    figure, grid = tiles(figure, rows, columns, width, high, margins=(0.9, 0.2, room, 1.05 + head), **options)
    for axes in grid.flat:
        frame(axes)
        count_from(axes.xaxis)
    for axes in grid.flat if columns < 3 else grid[:, 0]:  # narrow tiles have no room for it between them
        axes.set_ylabel(words)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    return figure, dict(zip(shown, grid.flat, strict=False))


def faint(recording: Recording) -> str:
    """What the two strengths of a line mean."""
    return f"faint: each mini-batch, strong: running median over up to {window_of(recording)} iterations"


def faint_and_median(
    axes: Axes, values: Array, window: int, label: str, line: dict[str, Any], alpha: float = 0.3
) -> None:
    """The values of every iteration, and their running median when there are enough for one.

    Of a run that broke down the median ends where the values do.
    """
    at, medians = running_median(values[: breakdown(values)], window)
    iterations = np.arange(1, len(values) + 1)
    if len(medians) == 0:
        axes.plot(iterations, values, **line, linewidth=1.2, marker=_dots(values), label=label)
        return
    short = len(values) <= SHORT
    alpha, thin = (max(alpha, 0.5), 0.8) if short else (alpha, 0.5)
    axes.plot(iterations, values, color=line["color"], linewidth=thin, alpha=alpha, label="_each")
    axes.plot(at, medians, **line, linewidth=1.6, label=label)


def _dots(values: Array) -> str:
    """A line through one point is invisible without it."""
    return "." if np.isfinite(values).sum() < 2 else ""
