"""The gradients that a network starts with, over seeds, beside what the mean field says: the explorer's figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from labkit.counts import counted
from labkit.plots.depth import layer_ticks
from labkit.plots.figure import (
    GREY,
    LabFigure,
    at_least_a_decade,
    describe,
    frame,
    legend_below,
    tile_title,
    tiles,
    title,
)
from labkit.plots.words import COLOURS, DASHES, positive

if TYPE_CHECKING:
    from labkit.explorer import Told
    from labkit.recording import Array

THEORY: dict[str, Any] = {"color": COLOURS[1], "linewidth": 1.8, "linestyle": DASHES[1]}


def starts(told: Told, each: Array, layers: Sequence[str], name: str, summary: str) -> LabFigure:
    """Left the size of dloss/dz in each layer, log axis; right the gain from each layer to the one before it.

    `each` (S, L) are the seeds' own, `name` says what network it is, `summary` what is to be seen.
    """
    figure = LabFigure(10.2, 4.9)
    margins = (0.95, 0.25, 1.15, 1.1)
    _, grid = tiles(figure, 1, 2, 5.1, 3.4, margins=margins, grid={"wspace": 0.32})
    title(figure, "Gradients at the Start of Training", name)
    sizes, gains = grid[0]
    sizes.plot(range(len(layers)), positive(each).T, color=COLOURS[0], alpha=0.25, linewidth=0.8)
    _band(sizes, told.deltas.low, told.deltas.high)
    sizes.plot(range(len(layers)), told.deltas.median, color=COLOURS[0], marker="o", markersize=4)
    if told.expected is not None:
        sizes.plot(range(len(layers)), positive(told.expected), **THEORY)
    if told.reach is not None:
        sizes.plot(range(len(layers)), positive(told.reach), **{**THEORY, "linewidth": 0.8, "linestyle": DASHES[2]})
    _axes(sizes, layers, "Root mean square of dloss/dz")
    at_least_a_decade(sizes)
    _gains(gains, told, layers)
    handles = _handles(told, len(each))
    legend_below(figure, handles, 5)
    describe(figure, f"Gradients at the start of training, {name}. Median of {counted(len(each), 'seed')}. {summary}")
    return figure


def _gains(axes: Axes, told: Told, layers: Sequence[str]) -> None:
    at = np.arange(len(told.gains.median))
    _band(axes, told.gains.low, told.gains.high)
    axes.plot(at, told.gains.median, color=COLOURS[0], marker="o", markersize=4)
    if told.expected_gains is not None:
        axes.plot(at, positive(told.expected_gains), **THEORY)
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.axhspan(*told.holds, color=COLOURS[2], alpha=0.12, linewidth=0)
    _axes(axes, layers[:-1], "Gain (ratio of mean squares)")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, told.holds[0] / 1.5), max(high, told.holds[1] * 1.5))
    tile_title(axes, "from each layer to the one before it", 9, color=GREY)


def _band(axes: Axes, low: Array, high: Array) -> None:
    axes.fill_between(range(len(low)), positive(low), positive(high), color=COLOURS[5], alpha=0.35, linewidth=0)


def _axes(axes: Axes, layers: Sequence[str], label: str) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(label)
    layer_ticks(axes, layers, 7)
    frame(axes)


def _handles(told: Told, seeds: int) -> list[Line2D | Patch]:
    found: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS[0], marker="o", markersize=4, label=f"median of {counted(seeds, 'seed')}"),
        Line2D([], [], color=COLOURS[0], alpha=0.4, linewidth=0.8, label="each seed"),
        Patch(color=COLOURS[5], alpha=0.35, label="95 % of the seeds"),
        Patch(color=COLOURS[2], alpha=0.2, label="holds at this depth"),
    ]
    if told.expected is not None:
        found.append(Line2D([], [], **THEORY, label="theory"))
    if told.reach is not None:
        thin = {**THEORY, "linewidth": 0.8, "linestyle": DASHES[2]}
        found.append(Line2D([], [], **thin, label="theory, 95 % of seeds"))
    return found
