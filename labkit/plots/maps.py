"""Maps of where deep networks can be trained: the accuracies with theory's depth scales over them, and the gradients at
the start beside theory."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from labkit import backward, theory
from labkit.maps import Map
from labkit.plots.figure import GREY, PlotError, count_from, describe, frame, legend_below, legend_room, tiles, title
from labkit.plots.words import ACTIVATIONS, COLOURS, number
from labkit.recording import Array

POINTS = 80  # of a line of theory
SPELT = 90  # networks, up to which each has its number
LEARNT = 0.25  # of the images right; guessing has a tenth
LINES: tuple[tuple[str, str, Any], ...] = (
    ("xi_c", r"theory, $6\,\xi_c$", (0, (5, 2))),
    ("xi_gradient", r"theory, $6\,\xi_\nabla$", (0, (1, 1.2))),
)
CRITICAL: dict[str, Any] = {"color": COLOURS[6], "linewidth": 1.6, "label": "critical point"}  # in every figure
HALO = (patheffects.Stroke(linewidth=3.2, foreground="black", alpha=0.75), patheffects.Normal())  # on the map's colours
_AXIS = r"$\sigma_w^2$, width times the variance of a weight"


def trainability(found: Map, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Accuracy after the training over sigma_w^2 and depth, both log axes, with 6 xi_c, 6 xi_gradient and the critical
    point (Schoenholz et al. 2017) drawn over it.

    xi_c is how deep a difference of two images gets, xi_gradient how deep a gradient gets on its way back. Grey are
    networks whose loss left the finite numbers.
    """
    _rows(found)
    name = ACTIVATIONS[found.base.activation]
    shades, broken = colormaps["cividis"], bool(np.isnan(found.accuracy).any())
    handles = _handles(broken)
    caption = (
        f"share of the {found.base.observations:,} training images classified right after {found.base.iterations} "
        f"iterations, {found.base.widths[1]} units in each hidden layer\none network, one seed, in each field"
    )
    room = legend_room(figure, handles, wide=8.4)
    figure, grid = tiles(figure, 1, 1, 8.4, 4.9, margins=(0.85, 1.35, room, 0.95))
    axes: Axes = grid[0, 0]
    title(figure, f"Where {name} Networks Train", caption)
    x, y = _edges(found.variances), _edges(found.depths)
    axes.set_facecolor("#B0B0B0")  # what shows where there is no number
    drawn = axes.pcolormesh(x, y, np.ma.masked_invalid(found.accuracy), cmap=shades, vmin=0, vmax=1, rasterized=True)
    _scales(axes, found, x, y)
    if found.accuracy.size <= SPELT:
        _spell(axes, found, shades)
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.02, box.y0, 0.022, box.height))
    whole: Any = figure
    whole.colorbar(drawn, cax=bar, label="Accuracy")
    axes.set_xlabel(_AXIS)
    axes.set_ylabel("Hidden layers")
    legend_below(figure, handles)
    return describe(figure, _told(found, name))


def starting_gradients(found: Map, depth: int | None = None, *, figure: Figure | SubFigure | None = None) -> Figure:
    """The gradients of the networks of one depth before their first step, beside theory. By default the deepest row.

    Left the root mean square of single images' dloss/dz in each layer, log axis, with theory's line for wide networks
    layer by layer (`theory.layer_sizes`). Right the factor per layer of its square, from the last hidden layer to the
    first, beside chi_1.
    """
    _rows(found)
    depth = found.depths[-1] if depth is None else depth
    if depth not in found.depths or depth < 2:
        choice = ", ".join(str(one) for one in found.depths if one > 1)
        raise PlotError(f"the map has no gradients over {depth} hidden layers: choose from {choice}")
    row, name = found.depths.index(depth), ACTIVATIONS[found.base.activation]
    handles = [
        Line2D([], [], color=GREY, linewidth=1.6, marker="o", label="measured, one seed"),
        Line2D([], [], color=GREY, linewidth=1.2, linestyle=(0, (1, 1.2)), label="theory, wide networks"),
        Line2D([], [], **CRITICAL),
    ]
    room = legend_room(figure, handles, wide=10.2)
    figure, grid = tiles(figure, 1, 2, 5.1, 4.2, margins=(0.95, 0.25, room, 0.95), grid={"wspace": 0.34})
    title(figure, f"Gradients of {name} Networks at the Start", f"{depth} hidden layers, images one by one")
    sizes, gains = grid[0]
    measured = [found.start_of(row, k) for k in range(len(found.variances))]
    expected = _expected(found, row, measured)
    _sizes(sizes, found, measured, expected)
    _gains(gains, found, row)
    legend_below(figure, handles)
    factors = measured_gains(found)[row]
    fields = ", ".join(
        f"{number(chi)} at {variance:g} (theory {number(_scale(found, variance).chi_1)})"
        for chi, variance in zip(factors, found.variances, strict=True)
    )
    return describe(
        figure,
        f"Gradients of {name} networks with {depth} hidden layers at the start, log scale. Factor on the mean square "
        f"of dloss/dz from a layer to the one before it, by sigma_w squared: {fields}.",
    )


def measured_gains(found: Map) -> Array:
    """(D, V) factor per layer on the mean square of dloss/dz at the start, from the last hidden layer to the first: a
    geometric mean; NaN with one hidden layer."""
    gains = np.full(found.accuracy.shape, np.nan)
    for row, depth in enumerate(found.depths):
        if depth > 1:
            first, last = found.start[row, :, 0], found.start[row, :, depth - 1]
            with np.errstate(divide="ignore", invalid="ignore"):
                gains[row] = (first / last) ** (2 / (depth - 1))
    return gains


def trained_depths(found: Map, least: float = LEARNT) -> list[int]:
    """V depths: the deepest network of each sigma_w^2 that reached this accuracy; 0 where none did."""
    right = np.nan_to_num(found.accuracy) >= least
    return [max((d for d, learnt in zip(found.depths, right[:, k], strict=True) if learnt), default=0)
            for k in range(len(found.variances))]  # fmt: skip


def _rows(found: Map) -> None:
    if not found.depths:
        raise PlotError("the map has no networks yet: make it with labkit.trainability")


def _scale(found: Map, variance: float) -> theory.DepthScales:
    return theory.depth_scales(found.base.activation, float(variance))


def _edges(centres: Any) -> Array:
    """Of fields around these centres, on a log axis."""
    logs = np.log(np.asarray(centres, dtype=np.float64))
    middle = (logs[1:] + logs[:-1]) / 2 if len(logs) > 1 else logs - 0.3
    edges: Array = np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))
    return edges


def _scales(axes: Axes, found: Map, x: Array, y: Array) -> None:
    """Axes and lines of theory."""
    at = np.geomspace(x[0], x[-1], POINTS)
    scales = [_scale(found, one) for one in at]
    for field, label, dashes in LINES:
        reach = np.array([theory.REACH * min(getattr(one, field), 1e6) for one in scales])
        axes.plot(at, reach, color="white", linewidth=1.8, linestyle=dashes, path_effects=HALO, label=label)
    axes.axvline(_critical(found), **CRITICAL, path_effects=HALO)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    _ticks(axes.xaxis, found.variances)
    _ticks(axes.yaxis, found.depths)


def _ticks(axis: Any, values: Any) -> None:
    """At the networks themselves; of many, some."""
    some = values[:: math.ceil(len(values) / 10)]
    axis.set_major_locator(FixedLocator([float(one) for one in some]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_ticklabels([f"{one:g}" for one in some])


def _critical(found: Map) -> float:
    return theory.critical_variance(found.base.activation)


def _spell(axes: Axes, found: Map, shades: Colormap) -> None:
    """Each network's accuracy, on its field's own colour where a line would run through it."""
    for row, depth in enumerate(found.depths):
        for column, variance in enumerate(found.variances):
            value = float(found.accuracy[row, column])
            shown = "" if math.isnan(value) else f"{value:.2f}".lstrip("0") if value < 1 else "1"
            behind = {"facecolor": shades(value), "edgecolor": "none", "pad": 1.5}
            at: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "bbox": behind, "zorder": 5}
            axes.text(variance, depth, shown, color="black" if value > 0.5 else "white", **at)


def _handles(broken: bool) -> list[Line2D | Patch]:
    found: list[Line2D | Patch] = [
        Line2D([], [], color="white", linewidth=1.8, linestyle=dashes, path_effects=HALO, label=label)
        for _, label, dashes in LINES
    ]
    found.append(Line2D([], [], **CRITICAL, path_effects=HALO))
    if broken:
        found.append(Patch(color="#B0B0B0", label="the loss is no number"))
    return found


def _told(found: Map, name: str) -> str:
    """For each sigma_w^2 how deep networks learnt, and how deep theory says."""
    fields = []
    for variance, depth in zip(found.variances, trained_depths(found), strict=True):
        scale = _scale(found, variance)
        fields.append(
            f"{variance:g}: {f'to {depth}' if depth else 'none'}, 6 xi_c {_layers(scale.xi_c)}, "
            f"6 xi_gradient {_layers(scale.xi_gradient)}"
        )
    broken = int(np.isnan(found.accuracy).sum())
    lost = f" In {broken} networks the loss left the finite numbers." if broken else ""
    return (
        f"Where {name} networks train: accuracy after {found.base.iterations} iterations over sigma_w squared and "
        f"depth, {min(found.depths)} to {max(found.depths)} hidden layers; critical point at {_critical(found):.4g}. "
        f"Depth to which at least {LEARNT:.0%} of the images were classified right, by sigma_w squared: "
        f"{'; '.join(fields)}.{lost}"
    )


def _layers(scale: float) -> str:
    return "without bound" if theory.REACH * scale > 10_000 else f"{theory.REACH * scale:.0f}"


def _expected(found: Map, row: int, measured: list[Array]) -> list[Array]:
    """What theory says of each network's layers, where the last layer has what was measured."""
    inputs, _ = backward.probe_batch(found.base)
    entering = float(np.mean(inputs**2))
    return [theory.layer_sizes(found.cell(row, k), entering, float(one[-1])) for k, one in enumerate(measured)]


def _sizes(axes: Axes, found: Map, measured: list[Array], expected: list[Array]) -> None:
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(measured)))
    for shade, variance, sizes, wanted in zip(shades, found.variances, measured, expected, strict=True):
        at = np.arange(1, len(sizes) + 1)
        axes.plot(at, np.where(sizes > 0, sizes, np.nan), color=shade, linewidth=1.6, label=f"{variance:g}")
        axes.plot(at, np.where(wanted > 0, wanted, np.nan), color=shade, linewidth=1.2, linestyle=(0, (1, 1.2)))
    axes.set_yscale("log")
    count_from(axes.xaxis)
    axes.set_xlabel("Layer, from the input")
    axes.set_ylabel("Root mean square of dloss/dz")
    frame(axes)
    axes.legend(title=r"$\sigma_w^2$", fontsize=7.5, title_fontsize=8, frameon=False, ncols=2, loc="best")


def _gains(axes: Axes, found: Map, row: int) -> None:
    x = _edges(found.variances)
    at = np.geomspace(x[0], x[-1], POINTS)
    axes.plot(at, [_scale(found, one).chi_1 for one in at], color=COLOURS[1], linewidth=1.2, linestyle=(0, (1, 1.2)))
    gains = measured_gains(found)[row]
    axes.plot(found.variances, gains, color=COLOURS[0], marker="o", linestyle="")
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.axvline(_critical(found), **CRITICAL, zorder=1.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _ticks(axes.xaxis, found.variances)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(gains) > 5 * min(gains) else (1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(_AXIS)
    axes.set_ylabel(r"Factor per layer on the mean square, and $\chi_1$")
    frame(axes)
