"""How the gradients of each layer are spread, epoch by epoch: the waterfall and its flat twin."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from labkit.data import epoch_batches
from labkit.histogram import centres
from labkit.plots.figure import GREY, LabFigure, PlotError, count_from, describe, tile_title, tiles, title
from labkit.plots.words import (
    PROBE_ADVICE,
    Network,
    Recordings,
    after_clipping,
    chosen,
    chosen_told,
    listed,
    networks,
    number,
    observations,
    ratio,
    weights_of,
)
from labkit.recording import Array, Recording

Source = Literal["batch", "probe"]
Histogram = Source | Literal["weights"]
MOST_TILES, MOST_ROWS = 9, 8  # layers of a deep network that are drawn
MATLAB_XLIM = (-0.5, 0.5)
MATLAB_VIEW = (-130, 50)  # azimuth and elevation of view([-130, 50])
EDGE = "#D9D9D9"
THIN = 0.02  # bins narrower than this share of the axis are drawn without that edge


def gradient_distributions(
    recording: Recording,
    source: Source = "batch",
    *,
    xlim: tuple[float, float] | Literal["default"] | None = "default",
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Waterfalls, one tile per layer: the histogram of dloss/dW of every epoch, one behind the other.

    `batch` is MATLAB's figure: the epoch's last mini-batch, each epoch with bins of its own, gradients from
    -0.5 to 0.5. `probe` is the fixed probe batch before training and after every epoch, common bins, log counts.
    `xlim=None` fits the gradients. What lies beyond the limits is cut off and named in the tile.
    """
    network = _ready([recording], source, get_args(Source))[0]
    if xlim == "default":
        xlim = MATLAB_XLIM if source == "batch" else None
    return _waterfalls(network, source, xlim, figure, heading(network))


def heading(network: Network) -> str:
    return f"Gradient Distributions with {network.label} Layers"


def weight_distributions(recording: Recording, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Waterfalls, one tile per layer: the histogram of the weights before training and after every epoch, on common
    bins with log counts. It is what TensorBoard's histograms are for, with the weights themselves in them.
    """
    network = _ready([recording], "weights")[0]
    return _waterfalls(network, "weights", None, figure, f"Weight Distributions with {network.label} Layers")


def _waterfalls(
    network: Network,
    source: Histogram,
    xlim: tuple[float, float] | None,
    figure: Figure | SubFigure | None,
    words: str,
) -> Figure:
    recording = network.recording
    shown = chosen(len(recording.layers), MOST_TILES)
    rows, columns = _rows_and_columns(recording)
    figure = LabFigure(*waterfall_size(recording)) if figure is None else figure
    title(figure, words, what_is_counted([network], source) + chosen_told(len(recording.layers), MOST_TILES))
    for place, k in enumerate(shown):
        axes = _tile(figure, place, rows, columns)
        axes.set_title(weights_of(recording.layers[k]), y=1.06, fontsize=11)
        _waterfall(axes, recording, source, k, xlim)
    return describe(figure, spread(network, source))


def waterfall_size(recording: Recording) -> tuple[float, float]:
    """Width and height in inches of its waterfalls."""
    rows, columns = _rows_and_columns(recording)
    scale = min(1.0, 12.0 / (4.9 * columns))  # wide figures are shown smaller, and their letters with them
    return 4.9 * scale * columns, 3.75 * scale * rows + 0.7


def _rows_and_columns(recording: Recording) -> tuple[int, int]:
    """Of its tiles."""
    shown = len(chosen(len(recording.layers), MOST_TILES))
    columns = int(np.ceil(np.sqrt(shown)))
    return int(np.ceil(shown / columns)), columns


def _ready(
    recordings: Recordings, source: str, choices: Sequence[str] = (*get_args(Source), "weights")
) -> list[Network]:
    if source not in choices:
        raise PlotError(f"source is {source!r}: choose from {', '.join(choices)}")
    found = networks(recordings, iterations=False)
    for network in found:
        if network.recording.epochs == 0:
            raise PlotError(f"{network.recording.name} has no finished epoch: train for at least one")
        if source == "probe" and not network.recording.probe_counts.any():
            name = network.recording.name
            raise PlotError(f"{name} was recorded without a probe batch: {PROBE_ADVICE}, or plot source='batch'")
    return found


def what_is_counted(found: Sequence[Network], source: Histogram) -> str:
    """Which images and which bins the histograms have, and whether their gradients are what clipping left."""
    recording = found[0].recording
    if source == "weights":
        return "W before training and after each epoch, common bins, log counts"
    if source == "probe":
        return "dloss/dW on the fixed probe batch, before training and after each epoch, common bins, log counts"
    experiment = recording.origin.experiment
    images = "the epoch's last mini-batch"
    if experiment:
        images += f" of {len(epoch_batches(experiment, 0)[-1])} {observations(recording)}"
    bins = f"each epoch in {recording.batch_counts.shape[2]} bins of its own"
    return f"dloss/dW on {images}, {bins}{after_clipping(found)}"


def histograms(recording: Recording, source: Histogram, layer: int) -> tuple[Array, Array, Array]:
    """Epochs (R,), outer edges (R, 2) and counts (R, B) of one layer."""
    if source == "batch":
        epochs, edges = np.arange(1, recording.epochs + 1), recording.batch_range[:, layer]
        return epochs, edges.astype(np.float64), recording.batch_counts[:, layer]
    ranges, counts = (
        (recording.weight_range, recording.weight_counts)
        if source == "weights"
        else (recording.probe_range, recording.probe_counts)
    )
    epochs, reach = np.arange(recording.epochs + 1), float(ranges[layer])
    return epochs, np.tile([-reach, reach], (len(epochs), 1)), counts[:, layer]


def _tile(figure: Figure | SubFigure, k: int, rows: int, columns: int) -> Any:
    """Axes with MATLAB's view; mplot3d measures the azimuth from +x, MATLAB from -y."""
    width, height = 1 / columns, 0.885 / rows  # what is left of the height is for the title
    # below the box its numbers have to clear the title of the tile below
    place = (k % columns * width, 0.02 + (rows - 0.95 - k // columns) * height, width * 0.95, height * 0.84)
    axes: Any = figure.add_axes(place, projection="3d")
    axes.view_init(elev=MATLAB_VIEW[1], azim=MATLAB_VIEW[0] - 90)
    axes.set_proj_type("ortho")
    axes.set_box_aspect((4.2, 4.6, 3), zoom=0.95)
    return axes


def _waterfall(
    axes: Any, recording: Recording, source: Histogram, layer: int, xlim: tuple[float, float] | None
) -> None:
    epochs, edges, counts = histograms(recording, source, layer)
    heights = np.log10(1 + counts) if source != "batch" else counts.astype(np.float64)
    middles = [centres(low, high, counts.shape[1]) for low, high in edges]
    low, high = xlim or _fit(middles, counts)
    planes = np.array([_plane(x, epoch, z, low, high) for x, epoch, z in zip(middles, epochs, heights, strict=True)])
    experiment = recording.origin.experiment
    colours = colormaps["viridis"](epochs / max(experiment.epochs if experiment else 0, epochs[-1]))
    # an edge would hide the peaks that are hardly wider than itself
    thin = np.diff(edges) / counts.shape[1] < THIN * (high - low)
    outlines = np.where(thin, colours, to_rgba(EDGE))
    # Every plane has the same two corners on the floor, so the farthest corner orders the planes by epoch alone;
    # mplot3d's mean depth would mix up neighbours of different heights.
    axes.add_collection3d(
        Poly3DCollection(planes, zsort="max", facecolors=colours, edgecolors=outlines, linewidths=0.5)
    )
    axes.set(xlim=(low, high), ylim=(epochs[0], max(epochs[-1], epochs[0] + 1)), zlim=(0, max(heights.max(), 1)))
    _dress(axes, source, int(counts.max()))
    outside = _outside(middles, counts, low, high)
    if outside:
        text = f"{outside:.2g} % lie beyond\nthe limits"
        axes.text2D(0.02, 0.9, text, transform=axes.transAxes, va="top", fontsize=8, color=GREY)


def _plane(x: Array, epoch: int, z: Array, low: float, high: float) -> Array:
    """(B + 4, 3) one histogram as a polygon on the floor from `low` to `high`.

    Bins beyond a limit become the point where the outline crosses it, so that all planes have as many corners:
    mplot3d fills what is missing with whatever the memory holds.
    """
    at = np.clip(x, low, high)
    up = np.interp(at, x, z, left=0, right=0)
    along = np.concatenate([[low, at[0]], at, [at[-1], high]])
    return np.column_stack([along, np.full(len(along), epoch), np.concatenate([[0, 0], up, [0, 0]])])


def _fit(middles: list[Array], counts: Array) -> tuple[float, float]:
    """Limits, as far to the left as to the right, that hold every bin in which something was counted."""
    filled = [np.abs(x[n > 0]).max() for x, n in zip(middles, counts, strict=True) if n.any()]
    reach = float(max(filled, default=0.5))
    return -reach, reach


def _outside(middles: list[Array], counts: Array, low: float, high: float) -> float:
    """Per cent of what was counted that lies beyond the limits."""
    beyond = sum(int(n[(x < low) | (x > high)].sum()) for x, n in zip(middles, counts, strict=True))
    return 100 * beyond / max(int(counts.sum()), 1)


def _dress(axes: Any, source: Histogram, largest: int) -> None:
    axes.set_xlabel("Weights" if source == "weights" else "Gradients", fontsize=9, labelpad=4)
    axes.set_ylabel("Epochs", fontsize=9, labelpad=4)
    axes.set_zlabel("Counts (log)" if source != "batch" else "Counts", fontsize=9, labelpad=4)
    axes.tick_params(labelsize=8, pad=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], symmetric=True))
    count_from(axes.yaxis, 5)
    axes.zaxis.set_major_locator(MaxNLocator(4, integer=True))
    if source != "batch":
        marks = [0, *(10**k for k in range(1 if largest >= 100 else 0, 6) if 10**k <= largest)]
        axes.set_zticks(np.log10(1 + np.array(marks)), [f"{mark:,}" for mark in marks])
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_color("#999999")


def spread(network: Network, source: Histogram) -> str:
    """The description: how wide the gradients lie in the first and in the last epoch."""
    recording = network.recording
    sizes = []
    for layer in range(len(recording.layers)):
        _, edges, counts = histograms(recording, source, layer)
        sizes.append([_widest(edges[row], counts[row]) for row in (0, -1)])
    first, last = np.array(sizes).T
    start = "after epoch 1" if source == "batch" else "before training"
    name, value = ("Weight", "weight") if source == "weights" else ("Gradient", "gradient")
    return (
        f"{name} distributions of the {network.label} network per layer, {what_is_counted([network], source)}. "
        f"Largest |{value}| (bin edge) {start}: {listed(recording.layers, first)}; "
        f"after epoch {recording.epochs}: {listed(recording.layers, last)}. "
        f"{start.capitalize()} that of {recording.layers[0]} is {ratio(first[0], first[-1])} "
        f"that of {recording.layers[-1]}."
    )


def _widest(edges: Array, counts: Array) -> float:
    """The outer edge of the outermost bin in which something was counted."""
    filled = np.flatnonzero(counts)
    if len(filled) == 0:
        return float("nan")
    bounds = np.linspace(edges[0], edges[1], len(counts) + 1)
    return float(max(abs(bounds[filled[0]]), abs(bounds[filled[-1] + 1])))


def distribution_heatmap(
    recordings: Recordings, source: Histogram = "probe", *, figure: Figure | SubFigure | None = None
) -> Figure:
    """The waterfalls seen from above: rows are layers, columns networks, colour the number of weights (log scale).
    `weights` counts them by their own size.

    Networks share a row's axes and colours. Their bins differ in width, so that colours would not compare: a
    count is given per the width of the row's widest bins, which the colour bar names.
    """
    found = _ready(recordings, source)
    layers = found[0].recording.layers
    shown, name = chosen(len(layers), MOST_ROWS), "Weight" if source == "weights" else "Gradient"
    figure, grid = tiles(
        figure, len(shown), len(found), 4.6, 1.75,
        sharex=True, sharey="row", margins=(0.95, 1.1, 0.6, 0.95), grid={"wspace": 0.06, "hspace": 0.28},
    )  # fmt: skip
    title(figure, f"{name} Distributions", what_is_counted(found, source) + chosen_told(len(layers), MOST_ROWS))
    for row, layer in zip(grid, shown, strict=True):
        _heat_row(figure, row, found, source, layer, layers[layer])
    for axes, network in zip(grid[0], found, strict=True):
        tile_title(axes, network.label)
    for axes in grid[-1]:
        axes.set_xlabel("Epoch", fontsize=9)
        count_from(axes.xaxis)
    words = f"Heat maps, a column for each network: {', '.join(network.label for network in found)}."
    return describe(figure, " ".join([words, *(spread(network, source) for network in found)]))


def _heat_row(
    figure: Figure | SubFigure, row: Any, found: list[Network], source: Histogram, layer: int, name: str
) -> None:
    data = [histograms(n.recording, source, layer) for n in found]
    unit = max(float(np.diff(edges).max()) / counts.shape[1] for _, edges, counts in data)
    dense = [counts * unit * counts.shape[1] / np.diff(edges) for _, edges, counts in data]
    norm = LogNorm(1, max(2.0, *(d.max() for d in dense)))
    for axes, (epochs, edges, _), density in zip(row, data, dense, strict=True):
        mesh = _mesh(axes, epochs, edges, density, norm)
        axes.tick_params(labelsize=8)
    filled = [_widest(e, n) for _, edges, counts in data for e, n in zip(edges, counts, strict=True) if n.any()]
    limit = 1.05 * max(filled, default=0.5)
    row[0].set_ylim(-limit, limit)
    weights = source == "weights"
    row[0].set_ylabel(f"{weights_of(name)}\n{'Weight' if weights else 'Gradient'}", fontsize=9)
    place = row[-1].get_position()
    bar = figure.add_axes((place.x1 + 0.012, place.y0, 0.013, place.height))
    figure.colorbar(mesh, cax=bar).set_label(
        f"Weights per {number(unit)}\nof {'weight' if weights else 'gradient'}", fontsize=8
    )
    bar.tick_params(labelsize=8)
    bar.minorticks_off()


def _mesh(axes: Any, epochs: Array, edges: Array, density: Array, norm: LogNorm) -> Any:
    """One mesh in which every epoch is a column with its own bin edges; nothing counted is left white."""
    sides = np.stack([epochs - 0.5, epochs + 0.5], axis=1).ravel()
    bounds = np.linspace(edges[:, 0], edges[:, 1], density.shape[1] + 1)
    shade = np.zeros((density.shape[1], 2 * len(epochs) - 1))
    shade[:, ::2] = density.T  # the columns between two epochs have no width
    return axes.pcolormesh(
        np.broadcast_to(sides, (len(bounds), len(sides))),
        np.repeat(bounds, 2, axis=1),
        np.ma.masked_equal(shade, 0),
        norm=norm,
        cmap="viridis_r",
        edgecolors="face",
        linewidth=0.3,  # bins that are thinner than a pixel stay in sight
    )
