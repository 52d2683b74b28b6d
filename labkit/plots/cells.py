"""The workspace's timeline as a figure: which variable appeared, changed, grew, shrank or went in which cell."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D

from labkit.counts import counted
from labkit.plots.figure import LabFigure, PlotError, describe, frame, legend_below, legend_room, title
from labkit.plots.words import COLOURS
from labkit.timeline import Step, Timeline, TimelineError

# a shape as well as a colour for each word
MARKS = {
    "new": ("o", COLOURS[2]),
    "changed": (".", COLOURS[0]),
    "grew": ("^", COLOURS[1]),
    "shrank": ("v", COLOURS[3]),
    "gone": ("X", COLOURS[4]),
}
STEPS = 120  # that one figure shows
VARIABLES = 60
ROW, COLUMN = 0.2, 0.16  # inches of a variable, of a step
NAME = 24  # characters of a name that are shown


def timeline(source: Timeline | str | Path, figure: LabFigure | None = None) -> LabFigure:
    """A row for each variable, a column for each step: a cell, or a stretch of a loop that was observed by hand.

    `source` is `desk.timeline` or the path of its file. Of a long one the last STEPS are drawn, of many variables the
    VARIABLES that changed most often; the caption says so.
    """
    whole = _loaded(source)
    steps = whole.steps[-STEPS:]
    names, left_out = _names(steps)
    if not names:
        raise PlotError("no variable is in this timeline yet: run a cell that makes one, then plot it")
    wide = max(6.0, 2.6 + COLUMN * len(steps))
    below = legend_room(figure, _handles(), 5, wide)
    high = 1.0 + below + ROW * (len(names) + 1)
    figure = figure or LabFigure(wide, high)
    axes = figure.add_axes((2.1 / wide, below / high, 1 - 2.3 / wide, 1 - (1.0 + below) / high))
    _draw(axes, steps, names)
    title(figure, "What Each Cell Changed", _caption(whole, steps, left_out))
    legend_below(figure, _handles(), 5)
    describe(figure, _words(steps, names))
    return figure


def _loaded(source: Timeline | str | Path) -> Timeline:
    if isinstance(source, Timeline):
        return source
    if not isinstance(source, str | Path):
        raise PlotError(f"{type(source).__name__} is no timeline: pass desk.timeline, or the path of workspace.json")
    try:
        return Timeline.load(source)
    except TimelineError as error:
        raise PlotError(str(error)) from None


def _names(steps: Sequence[Step]) -> tuple[list[str], int]:
    """The variables, those that were there first at the top; how many there was no room for."""
    counts: dict[str, int] = {}
    for change in (change for step in steps for change in step.all):
        counts[change.name] = counts.get(change.name, 0) + 1
    kept = set(sorted(counts, key=lambda name: -counts[name])[:VARIABLES])
    return [name for name in counts if name in kept], len(counts) - len(kept)


def _draw(axes: Any, steps: Sequence[Step], names: list[str]) -> None:
    rows = {name: row for row, name in enumerate(names)}
    places: dict[str, list[tuple[int, int]]] = {word: [] for word in MARKS}
    alive: dict[str, int] = {}
    for column, step in enumerate(steps):
        for change in (found for found in step.all if found.name in rows):
            places[change.word].append((column, rows[change.name]))
            began = alive.setdefault(change.name, 0 if change.size_before else column)
            if change.word == "gone":
                _lives(axes, rows[change.name], began, column)
                del alive[change.name]
    for name, began in alive.items():
        _lives(axes, rows[name], began, len(steps) - 1)
    for word, (marker, colour) in MARKS.items():
        at = places[word]
        axes.plot(*(zip(*at, strict=True) if at else ([], [])), marker, color=colour, markersize=6, label=word)
    frame(axes)
    axes.set(xlim=(-0.7, len(steps) - 0.3), ylim=(len(names) - 0.3, -0.7), xlabel="cell")
    axes.set_yticks(range(len(names)), [n if len(n) <= NAME else n[: NAME - 1] + "…" for n in names])
    ticks = _cells(steps)
    axes.set_xticks(list(ticks), list(ticks.values()))


def _lives(axes: Any, row: int, first: int, last: int) -> None:
    axes.plot([first, last], [row, row], color="#C8C8C8", linewidth=2, solid_capstyle="butt", zorder=1)


def _cells(steps: Sequence[Step]) -> dict[int, str]:
    """The number of each cell, at its first step; where they would touch, of some."""
    starts = [(k, step.cell) for k, step in enumerate(steps) if not k or step.cell != steps[k - 1].cell]
    every = 1 + len(starts) // 30
    return {k: "" if cell is None else str(cell) for k, cell in starts[::every]}


def _handles() -> list[Line2D]:
    return [Line2D([], [], linestyle="", marker=m, color=c, label=word) for word, (m, c) in MARKS.items()]


def _caption(whole: Timeline, steps: Sequence[Step], left_out: int) -> str:
    later = len(whole.steps) - len(steps)
    said = ["A row for each variable, a column for each look; the line shows how long it was there."]
    said += [f"The last {len(steps)} of {len(whole.steps):,} steps."] * bool(later)
    said += [f"Left out: {counted(left_out, 'variable')} that changed less often."] * bool(left_out)
    said += [f"{whole.dropped:,} later steps did not fit into the timeline."] * bool(whole.dropped)
    return " ".join(said)


def _words(steps: Sequence[Step], names: list[str]) -> str:
    """What the figure shows, variable by variable, for who cannot see it."""
    told = []
    for name in names:
        words = [(change.word, step.cell) for step in steps for change in step.all if change.name == name]
        runs = [(word, [cell for _, cell in run]) for word, run in groupby(words, key=lambda found: found[0])]
        told.append(f"{name} " + ", ".join(_run(word, cells) for word, cells in runs))
    first = f"Timeline of {counted(len(names), 'variable')} over {counted(len(steps), 'step')}."
    return " ".join([first, "; ".join(told) + "."])


def _run(word: str, cells: list[int | None]) -> str:
    times = f" {len(cells)} times" if len(cells) > 1 else ""
    known = sorted({cell for cell in cells if cell is not None})
    if not known:
        return f"{word}{times}"
    return (
        f"{word}{times} in cell {known[0]}" if len(known) == 1 else f"{word}{times} in cells {known[0]} to {known[-1]}"
    )
