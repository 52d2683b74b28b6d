"""Statistics of weights and gradients per layer, over the epochs."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from labkit.histogram import centres
from labkit.plots.curves import layer_handles
from labkit.plots.figure import (
    PlotError,
    broken_from,
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
    chosen,
    chosen_told,
    far_apart,
    finite,
    gaps,
    layer_lines,
    listed,
    networks,
    number,
    positive,
    weights_of,
)
from labkit.recording import STATISTICS, Array, Recording

When = Literal["probe", "first_batch"]
WHEN = {
    "probe": "on the fixed probe batch, before training and after each epoch",
    "first_batch": "on the first mini-batch of each epoch",
}
MOST_TILES = 9  # layers of a deep network with a tile of their own
BEFORE, AFTER = COLOURS[6], COLOURS[0]


def weight_statistics(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Mean (above) and standard deviation (below) of each layer's weights, before training and after each epoch.

    A column for each network, the rows' axes shared: "weight captures" as Machine Learning Mastery draws them.
    """
    found = networks(recordings, iterations=False)
    figure, grid = _columns(figure, found, 2)
    title(figure, "Weights per Layer", "all weights of a layer; epoch 0 is before training")
    for column, network in zip(grid.T, found, strict=True):
        weight = finite(network.recording.weight)
        for k, axes in enumerate(column):
            _by_layer(axes, np.arange(len(weight)), weight[:, :, k])
            _shade(axes, np.arange(len(weight)), weight[:, :, k])
        tile_title(column[0], network.label)
    grid[0, 0].set_ylabel("Mean weight")
    grid[1, 0].set_ylabel("S.D. of the weights")
    legend_below(figure, layer_handles(found[0].recording.layers), 8)
    return describe(figure, " ".join(["Weights per layer and epoch.", *map(_weights_told, found)]))


def _weights_told(network: Network) -> str:
    recording, (first, last) = network.recording, network.recording.weight[[0, -1]].astype(np.float64)
    return (
        f"{network.label}: before training mean {listed(recording.layers, first[:, 0])}, S.D. "
        f"{listed(recording.layers, first[:, 1])}; after epoch {recording.epochs} mean "
        f"{listed(recording.layers, last[:, 0])}, S.D. {listed(recording.layers, last[:, 1])}."
    )


def gradient_statistics(
    recordings: Recordings, source: When = "probe", *, figure: Figure | SubFigure | None = None
) -> Figure:
    """Mean (signed, linear axis) and standard deviation (log axis) of each layer's gradients, and the loss, by epoch.

    `probe` takes the fixed probe batch before training and after each epoch; `first_batch` the first mini-batch of
    each epoch, which is how Machine Learning Mastery takes them, so that images and gradients both change.
    """
    found = networks(recordings)
    if source not in WHEN:
        raise PlotError(f"source is {source!r}: choose from {', '.join(get_args(When))}")
    rows = [_epoch_rows(n.recording, source) for n in found]
    figure, grid = _columns(figure, found, 3)
    clipped = after_clipping(found) if source == "first_batch" else ""
    title(figure, "Gradients per Layer", f"dloss/dW over a layer's weights, {WHEN[source]}{clipped}")
    loud = far_apart([loss for _, _, loss in rows])
    for column, network, (at, gradient, loss) in zip(grid.T, found, rows, strict=True):
        log_axis(column[1])
        for axes, name, kept in zip(column, ("mean", "sd"), (finite, positive), strict=False):
            _by_layer(axes, at, kept(gradient[:, :, STATISTICS.index(name)]))
        _by_layer(column[2], at, (positive if loud else finite)(loss)[:, None], [{"color": COLOURS[4]}])
        if loud:
            log_axis(column[2])
        for axes, values in zip(column, (gradient[:, :, 0], gradient[:, :, 2], loss), strict=True):
            _shade(axes, at, values)
        column[2].set_xlabel("Epoch (0: before training)" if source == "probe" else "Epoch, its first mini-batch")
        tile_title(column[0], network.label)
    for axes, words in zip(grid[:, 0], ("Mean gradient (signed)", "S.D. of the gradients", "Loss (nats)"), strict=True):
        axes.set_ylabel(words)
    legend_below(figure, layer_handles(found[0].recording.layers), 8)
    told = [_gradients_told(n, gradient, loss) for n, (_, gradient, loss) in zip(found, rows, strict=True)]
    start = f"Gradients per layer and epoch, {WHEN[source]}{clipped}, S.D. on a log scale."
    return describe(figure, " ".join([start, *told]))


def _epoch_rows(recording: Recording, source: When) -> tuple[Array, Array, Array]:
    """Epochs (R,), gradient statistics (R, L, S) and losses (R,)."""
    if source == "probe":
        if np.isnan(recording.probe_gradient[0]).any():
            advice = f"{PROBE_ADVICE}, or plot source='first_batch'"
            raise PlotError(f"{recording.name} was recorded without a probe batch: {advice}")
        return np.arange(recording.epochs + 1), recording.probe_gradient, recording.probe_loss
    starts = [0, *recording.epoch_end.tolist()]
    first = [start for start in starts if start < recording.iterations]
    return np.arange(1, len(first) + 1), recording.gradient[first], recording.loss[first]


def _gradients_told(network: Network, gradient: Array, loss: Array) -> str:
    layers, sd = network.recording.layers, gradient[:, :, STATISTICS.index("sd")]
    return (
        f"{network.label}: S.D. at the first {listed(layers, sd[0])}, at the last {listed(layers, sd[-1])}; "
        f"loss {number(float(loss[0]))} to {number(float(loss[-1]))}.{_broken_told(sd)}{gaps(sd)}"
    )


def _broken_told(values: Array) -> str:
    first = breakdown(values)
    return "" if first is None else f" Not finite in the last {len(values) - first} of {len(values)}."


def _shade(axes: Axes, at: Array, values: Array) -> None:
    """Where the values (R, ...) at the epochs (R,) are not finite, up to the end."""
    first = breakdown(values)
    if first is not None:
        broken_from(axes, int(at[first]), int(at[-1]), f"not finite\nfrom epoch {at[first]} on")
        axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)


def _columns(figure: Figure | SubFigure | None, found: list[Network], rows: int) -> tuple[Figure | SubFigure, Array]:
    """A column for each network; the tiles of a row share their axes."""
    width = 8.0 if len(found) == 1 else 4.2 if len(found) == 2 else 3.4
    room = legend_room(figure, layer_handles(found[0].recording.layers), 8, wide=len(found) * width)
    figure, grid = tiles(
        figure, rows, len(found), width, 2.3 + (room - 0.85) / rows, sharex="col", sharey="row",
        margins=(1.05, 0.2, room, 0.95), grid={"wspace": 0.08, "hspace": 0.14},
    )  # fmt: skip
    for axes in grid.flat:
        frame(axes)
    for axes in grid[-1]:
        axes.set_xlabel("Epoch")
        count_from(axes.xaxis)
    return figure, grid


def _by_layer(axes: Axes, at: Array, values: Array, lines: Sequence[dict[str, Any]] | None = None) -> None:
    """A line for each layer of values (R, L); one point alone is drawn as a dot."""
    for line, curve in zip(lines or layer_lines(values.shape[1]), values.T, strict=True):
        axes.plot(at, curve, **line, linewidth=1.4, marker="." if np.isfinite(curve).sum() < 2 else "")


def weight_histograms(recording: Recording, *, figure: Figure | SubFigure | None = None) -> Figure:
    """A tile per layer: the histogram of the weights before training and after the last epoch, on the same bins."""
    network = networks(recording, iterations=False)[0]
    layers, last = recording.layers, recording.epochs
    shown = chosen(len(layers), MOST_TILES)
    columns = min(4, int(np.ceil(np.sqrt(len(shown)))))
    rows = int(np.ceil(len(shown) / columns))
    room = {"margins": (0.8, 0.2, 0.95, 0.95), "grid": {"hspace": 0.6}}
    figure, grid = tiles(figure, rows, columns, min(5.0, 10.0 / columns), 2.4, **room)
    bins = f"{recording.weight_counts.shape[2]} bins of one width, the same before and after"
    caption = f"the weights themselves, not their gradients; {bins}{chosen_told(len(layers), MOST_TILES)}"
    title(figure, f"Weights of the {network.label} Network", caption)
    for axes, k in zip(grid.flat, shown, strict=False):
        _before_and_after(axes, recording, k)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("Number of weights", fontsize=9)
    handles = [Patch(color=BEFORE, alpha=0.55, label="before training")]
    handles.append(Patch(fill=False, edgecolor=AFTER, linewidth=1.6, label=f"after epoch {last}"))
    legend_below(figure, handles)
    return describe(figure, f"Weight histograms. {_weights_told(network)}")


def _before_and_after(axes: Axes, recording: Recording, layer: int) -> None:
    reach, counts = float(recording.weight_range[layer]), recording.weight_counts[[0, -1], layer]
    edges = np.linspace(-reach, reach, counts.shape[1] + 1)
    axes.stairs(counts[0], edges, fill=True, color=BEFORE, alpha=0.55)
    axes.stairs(counts[1], edges, color=AFTER, linewidth=1.6)
    filled = np.abs(centres(-reach, reach, counts.shape[1]))[counts.any(axis=0)]
    limit = float(filled.max()) + reach / counts.shape[1] if filled.size else 1.0
    axes.set(xlim=(-1.05 * limit, 1.05 * limit), xlabel="Weight")
    tile_title(axes, weights_of(recording.layers[layer]))
    frame(axes)
