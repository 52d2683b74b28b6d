"""The gain per layer of plain networks: what their weights and data give, beside what the mean field says."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from labkit import backward, theory
from labkit.activations import HOMOGENEOUS
from labkit.experiments import Experiment
from labkit.initialisations import variance
from labkit.plots.depth import layer_ticks
from labkit.plots.figure import GREY, PlotError, describe, frame, legend_below, legend_room, tile_title, tiles, title
from labkit.plots.runs import seed_groups
from labkit.plots.words import COLOURS, Network, Recordings, listed, networks, number, observations
from labkit.recording import Array, Recording
from labkit.theory.mean_field import mean_slope

SHARE = 0.95  # of the seeds, inside the band
TICKS = 5
TITLE, AXIS, ACROSS = "Gain per Layer", "Gain (ratio of mean squares)", "Layer that the gradient reaches"
FACTOR = "factor on the mean square of dloss/dz from a layer to the one before it"
MEANING = "below 1 gradients vanish towards the input, above 1 they explode"
THEORY, BAND = "theory, wide layers", "95 % of seeds at this width, one {}"
NEITHER = "neither vanishes nor explodes"


def gain_per_layer(recordings: Recordings, *, figure: Figure | SubFigure | None = None) -> Figure:
    """The gain from each layer to the one before it at the start, log axis, with theory's line and its 95 % band.

    The gain is the factor by which the mean square of dloss/dz, over a layer's units and the images of the probe
    batch, changes from a layer to the one before it (Schoenholz et al. 2017): below 1 gradients vanish, above 1 they
    explode. The weights' own gradients do not show it: in ReLU networks activations that shrink make up for gradients
    that grow (Glorot & Bengio 2010). So it is computed, from the recorded weights and the experiment's data, one image
    at a time. A tile for each experiment; runs that differ in their seeds alone share one.
    """
    groups = seed_groups(recordings)
    found = networks([group[0] for group in groups], iterations=False, layers=False)
    measured = [np.array([measured_gains(r) for r in group]) for group in groups]
    expected = [expected_gains(_plain(n.recording)) for n in found]
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    one = observations(found[0].recording).removesuffix("s")
    handles, wide = _handles(max(map(len, measured)), one), 8.0 if columns == 1 else 10.2
    room = legend_room(figure, handles, wide=wide)
    figure, grid = tiles(
        figure, rows, columns, wide / columns, 3.0 + (room - 1) / rows, sharey=True,
        margins=(1.0, 0.2, room, 1.15), grid={"wspace": 0.08, "hspace": 0.5},
    )  # fmt: skip
    title(figure, TITLE, f"{FACTOR}, at the start, probe batch\n{MEANING}")
    for axes, network, gains, wanted in zip(grid.flat, found, measured, expected, strict=False):
        _tile(axes, network, gains, wanted)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(AXIS, fontsize=9)
    _limits(grid, measured, expected)
    legend_below(figure, handles)
    told = [_told(n, g, e) for n, g, e in zip(found, measured, expected, strict=True)]
    return describe(figure, " ".join(["Gain per layer at the start, log scale.", *told]))


def measured_gains(recording: Recording, checkpoint: int = 0) -> Array:
    """(L-1,) mean |dloss/dz_l|^2 over that of layer l + 1, at a checkpoint, over the probe batch's images.

    From the recorded weights and the experiment's data, one image at a time: the gradient of a mini-batch is a mean
    in which the images' gradients partly cancel, more so in some layers than in others.
    """
    e = _plain(recording)
    if not backward.fits(recording, e):
        raise PlotError(f"{recording.name} has no checkpoint of its experiment's fc_1, fc_2, ...: train it again")
    deltas, _ = backward.back_propagated(e, recording.checkpoint(checkpoint), *backward.probe_batch(e))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([first / second for first, second in pairwise(map(backward.mean_square, deltas))])


def expected_gains(e: Experiment) -> Array:
    """(L-1,) what `theory.gain` says, for each layer with its own widths; with equal widths it is `theory.gain`.

    A layer of n inputs and m outputs multiplies the mean square by m Var(w) E[phi'(sqrt(q) z)^2]: the sum over its
    outputs, with q settled as it is deep in a wide network of the hidden layers' width.
    """
    factor = mean_slope(e.activation, _settled(e), e.slope)
    fans = pairwise(e.widths[1:])
    return np.array([m * variance(e.initialisation, n, m) * e.gain**2 * factor for n, m in fans])


def expected_bands(e: Experiment) -> Array:
    """(L-1, 2) between which the gain of one image lies in 95 % of the seeds.

    Measured gains are means over the probe batch's images, whose scatter is smaller where their activations differ: of
    30 seeds of the dial (256 units) and 100 of vanishing/relu and vanishing/sigmoid (10 units) all lay inside, of 200
    of layers/relu and layers/sigmoid (5 units) 90 to 98 %.
    """
    bands = [theory.size_band((1, n, 1), e.activation, _settled(e), e.slope, SHARE) for n in e.widths[1:-1]]
    return np.asarray(expected_gains(e)[:, None] * np.array(bands) ** 2)


def _settled(e: Experiment) -> float:
    if e.activation in HOMOGENEOUS:
        return 1.0
    hidden = e.widths[len(e.widths) // 2]
    return theory.fixed_point(e.activation, theory.weight_variance(e.initialisation, hidden, e.gain), e.slope)


def _plain(recording: Recording) -> Experiment:
    """The experiment of a plain network with two layers or more."""
    e = recording.origin.experiment
    if e is None:
        raise PlotError(f"{recording.name} follows no experiment, so theory has no line for it: plot attenuation")
    if not e.plain:
        raise PlotError(f"{recording.name} is no plain network, so theory has no line for it: plot attenuation")
    if len(recording.layers) < 2:
        raise PlotError(f"{recording.name} has one layer: a gain is between two")
    return e


def _tile(axes: Axes, network: Network, gains: Array, expected: Array) -> None:
    """One experiment: band and line of theory, a faint curve for each run, the median of several."""
    e, layers, at = _plain(network.recording), network.recording.layers, np.arange(len(expected))
    low, high = expected_bands(e).T
    edges = np.append(at - 0.5, at[-1] + 0.5)
    axes.stairs(high, edges, baseline=low, fill=True, color=COLOURS[5], alpha=0.35)
    axes.hlines(expected, edges[:-1], edges[1:], color=COLOURS[1], linewidth=1.8, linestyle=(0, (4, 1.5)))
    axes.axhline(1, color="#999999", linewidth=0.8)
    style: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "linestyle": "", "markersize": 4}
    if len(gains) > 1:
        axes.plot(at, gains.T, **{**style, "markersize": 2.5, "alpha": 0.45}, label="_each")
    axes.plot(at, np.nanmedian(gains, axis=0), **{**style, "markersize": 5.5}, label=network.label)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    layer_ticks(axes, layers[:-1], TICKS)
    tile_title(axes, network.label)
    axes.set_xlabel(axes.get_xlabel().replace("Layer", ACROSS), fontsize=9)
    frame(axes)
    axes.tick_params(axis="x", labelsize=8)


def _limits(grid: Array, measured: Sequence[Array], expected: Sequence[Array]) -> None:
    """All measured gains and the lines in sight, and of the bands no more than a little beyond."""
    every = np.concatenate([np.ravel(gains) for gains in (*measured, *expected)])
    every = every[np.isfinite(every) & (every > 0)]
    low, high = (float(every.min()), float(every.max())) if every.size else (1.0, 1.0)
    grid[0, 0].set_ylim(min(low / 2, 0.5), max(2 * high, 2.0))
    if high / low < 1e3:
        grid[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        grid[0, 0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _handles(runs: int, one: str) -> list[Line2D | Patch]:
    dots: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "linestyle": ""}
    found: list[Line2D | Patch] = [Line2D([], [], **dots, label="measured" if runs == 1 else "measured, median")]
    if runs > 1:
        found.append(Line2D([], [], **dots, markersize=3, alpha=0.45, label="each run"))
    found.append(Line2D([], [], color=COLOURS[1], linewidth=1.8, linestyle=(0, (4, 1.5)), label=THEORY))
    found.append(Patch(color=COLOURS[5], alpha=0.35, label=BAND.format(one)))
    found.append(Line2D([], [], color=GREY, linewidth=0.8, label=NEITHER))
    return found


def _told(network: Network, gains: Array, expected: Array) -> str:
    """All layers, and the mean over the hidden ones, which has a band of its own."""
    layers = network.recording.layers[:-1]
    middle = np.nanmedian(gains, axis=0)
    runs = "1 run" if len(gains) == 1 else f"median of {len(gains)} runs"
    bands = expected_bands(_plain(network.recording))
    inside = float(np.mean((gains >= bands[:, 0]) & (gains <= bands[:, 1])))
    with np.errstate(divide="ignore"):
        mean = number(float(np.exp(np.mean(np.log(middle)))))
    return (
        f"{network.label}, {runs}: into {listed(layers, middle)}; theory {listed(layers, expected)}. Geometric mean "
        f"{mean}, theory {number(float(np.exp(np.mean(np.log(expected)))))}; {inside:.0%} lie within the bands."
    )
