"""The workspace panel: the table of variables beside the notebook, and a page of any of them.

It holds names and numbers, never a variable: what the browser asks for is looked up by its name when it asks, and
nothing of it is kept. After a cell only the rows that changed are sent. Rows for which there was no time in BUDGET and
in LOOK are sent when the browser asks for the rest, which it does while the kernel is idle.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from sidecar import Sidecar
from traitlets import Unicode

from labkit.changes import Seen
from labkit.kinds import array_of, attempt, base_of, class_name, dtype_of, is_here, is_network, learnables, one_line
from labkit.pages import Ask, Page, page
from labkit.panels.panel import Panel
from labkit.ranges import range_of
from labkit.timeline import Step, Timeline
from labkit.variables import NAME, WIDTH, variables, words

BUDGET = 0.006  # seconds of a cell's time in which rows are made ...
LOOK = 0.016  # ... which end when everything that is done after the cell has taken so long
AGAIN = 0.001  # seconds of it, at most, for rows whose variables seem to be as they were
IDLE = 0.05  # seconds at once for the rest, while no cell runs
UNSURE = 1_000  # elements from which on a change inside an array may stay unseen, so that its row is made again in turn
STEPS = 100  # of one page of the timeline
NAMED = 50  # variables of one step that are named
SECONDS = 0.25  # between two updates inside one cell
VIEW = "application/vnd.jupyter.widget-view+json"

Row = dict[str, Any]


class WorkspacePanel(Panel, script="workspace"):
    home = Unicode().tag(sync=True)  # the notebook that it stands beside
    life = Unicode().tag(sync=True)  # of the kernel: another one after a restart

    def __init__(self, namespace: Mapping[str, object], timeline: Timeline) -> None:
        super().__init__(place="", home=os.environ.get("JPY_SESSION_NAME", ""), life=f"{os.getpid()} {time.time()}")
        self._namespace = namespace
        self._timeline = timeline
        self._rows = _Rows()
        self._before: Mapping[str, Seen] = timeline.last  # which is made anew by each look
        self._step = Step(None, "")
        self._problem = ""
        self._beside: Sidecar | None = None
        self._sent = 0.0
        self.on_msg(self._asked)

    @property
    def opened(self) -> bool:
        return self._beside is not None

    def show_beside(self) -> None:
        """Show it beside the notebook, where it is not shown already."""
        if self._beside is None:
            self._before = self._timeline.last
            # not by `with sidecar: display(...)`: whoever runs the notebook without a browser would keep that display
            content = {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}, "text/plain": ""}
            shown = {"output_type": "display_data", "data": content, "metadata": {}}
            self._beside = Sidecar(title=self._title(), anchor="split-right", outputs=(shown,))

    def _title(self) -> str:
        """Two notebooks may be open, each with a panel."""
        return f"Workspace of {PurePath(self.home).stem}" if self.home else "Workspace"

    def after_cell(self, step: Step, problem: str, taken: float) -> None:
        """The timeline has looked, which took so many seconds: send what changed since the cell before, whatever was
        observed in between."""
        now = self._timeline.last
        self._step = step
        self._before, self._problem = now, problem
        self._send_rows(now, min(BUDGET, LOOK - taken))

    def observed(self, step: Step) -> None:
        """A look inside a cell, in a loop perhaps of thousands: most are not shown."""
        if time.monotonic() - self._sent > SECONDS:
            self._step = step
            self._send_rows(self._timeline.last, BUDGET)

    @property
    def before(self) -> Mapping[str, Seen]:
        """The variables as they were when the last cell ended."""
        return self._before

    def _send_rows(self, now: Mapping[str, Seen], budget: float, all_: bool = False, named: bool = True) -> None:
        self._sent = time.monotonic()
        changed = self._rows.update(self._namespace, now, budget)
        marks = {change.name: change.word for change in self._step.all if change.word != "gone"}
        marks |= {row["name"]: "changed" for row in changed if row.pop("unseen", False) and row["name"] not in marks}
        self.send(
            {
                "kind": "rows",
                "all": all_,
                "rows": list(self._rows.made.values()) if all_ else changed,
                "names": list(now) if named else None,
                "marks": marks,
                "gone": [[change.name, change.size_before] for change in self._step.gone],
                "cell": self._step.cell,
                "source": self._step.source,
                "rest": len(self._rows.owed),
                "problem": self._problem,
            }
        )

    def _asked(self, _widget: object, content: object, _buffers: object) -> None:
        """A message from the browser. Whatever happens here, the student's cells hear nothing of it."""
        ask = content if isinstance(content, dict) else {}
        try:
            self._answer(ask)
        except BaseException as error:  # an interrupt, too, which is meant for what is being read
            stopped = isinstance(error, KeyboardInterrupt)
            text = "The reading was interrupted." if stopped else "This could not be read."
            attempt(
                lambda: self._reply(ask, {"kind": "text", "title": "", "facts": [], "views": [], "text": text}), None
            )

    def _answer(self, ask: dict[str, Any]) -> None:
        match ask.get("ask"):
            case "all":
                self._send_rows(self._timeline.last, IDLE, all_=True)
            case "rest":  # the names are those of the message before
                self._send_rows(self._timeline.last, IDLE, named=False)
            case "page":
                self._reply(ask, self._page(ask))
            case "timeline":
                self._reply(ask, _timeline_page(self._timeline, ask.get("first")))
            case "closed":
                self._put_away()

    def _reply(self, ask: dict[str, Any], answer: Page) -> None:
        self.send(_clean(answer) | {"for": str(ask.get("for", ""))[:40], "page": True})

    def _page(self, ask: dict[str, Any]) -> Page:
        name = str(ask.get("name", ""))
        found = variables(self._namespace)
        if name not in found:
            return _sentence("It is gone: no variable has this name now.") | {"title": one_line(name, NAME)}
        return page(name, found[name], ask.get("path", []), Ask.of(ask))

    def _put_away(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.close()


def _sentence(text: str) -> Page:
    return {"kind": "text", "title": "", "facts": [], "views": [], "text": text}


class _Rows:
    """The rows that were made, each with what its variable looked like then. No variable is kept."""

    def __init__(self) -> None:
        self.made: dict[str, Row] = {}
        self.owed: dict[str, None] = {}  # names whose rows have to be made, the oldest first
        self._seen: dict[str, Seen] = {}
        self._unsure: dict[str, None] = {}  # names of large arrays, the one that waits longest first

    def update(self, namespace: Mapping[str, object], now: Mapping[str, Seen], budget: float) -> list[Row]:
        """The rows that are new or other than before, as many as the budget allows, at least one."""
        end = time.monotonic() + budget
        for gone in set(self._seen) - set(now):
            for kept in (self.made, self.owed, self._seen, self._unsure):
                kept.pop(gone, None)
        self.owed |= {name: None for name, seen in now.items() if self._seen.get(name) != seen}
        self._seen = dict(now)
        rows: list[Row] = []
        for name in list(self.owed):
            if rows and time.monotonic() > end:
                return rows
            self._make(name, namespace)
            self.owed.pop(name)  # only now: an interrupt leaves it to the next cell
            rows.append(self.made[name])
        end = min(end, time.monotonic() + AGAIN)
        return rows + self._again(namespace, {row["name"] for row in rows}, end)

    def _make(self, name: str, namespace: Mapping[str, object]) -> None:
        value = namespace.get(name)
        self.made[name] = row_of(name, value, self._seen[name])
        self._unsure.pop(name, None)
        if self.made[name]["count"] > UNSURE and self.made[name]["low"] is not None:
            self._unsure[name] = None

    def _again(self, namespace: Mapping[str, object], fresh: set[str], end: float) -> list[Row]:
        """Large arrays in turn: an element that was changed between those of the fingerprint shows in the row."""
        rows = []
        for name in [name for name in self._unsure if name not in fresh]:
            if time.monotonic() > end:
                break
            before = self.made[name]
            self._make(name, namespace)
            if self.made[name] != before:
                rows.append(self.made[name] | {"unseen": True})
        return rows


def row_of(name: str, value: object, seen: Seen) -> Row:
    """What the table shows of a variable, as plain data. An array on a GPU is described and not read."""
    found = attempt(lambda: range_of(value), None)
    shape, count = attempt(lambda: _shape(value), ("", 1))
    dtype, device = attempt(lambda: _where(value), ("", ""))
    row = {"name": name, "value": words(value), "shape": shape, "count": count, "dtype": dtype, "device": device}
    row |= {"bytes": seen.bytes, "class": class_name(value, WIDTH)}
    row |= {"low": found and found.low, "mean": found and found.mean, "high": found and found.high}
    return _clean(row | {"sampled": bool(found and found.sampled)})


def _shape(value: object) -> tuple[str, int]:
    """As torch and numpy write it; of lists and texts their length."""
    if (array := array_of(value)) is not None:
        shape = tuple(map(int, array.shape))
        return str(shape), math.prod(shape)
    base = base_of(value)
    if base is not None:
        length = base.__len__(value)
        return (
            f"{length:,} {'characters' if base is str else 'bytes' if base in (bytes, bytearray) else 'items'}",
            length,
        )
    return "", 1


def _where(value: object) -> tuple[str, str]:
    """dtype and device; of a network those of its learnables."""
    arrays = learnables(value) if is_network(value) else [array_of(value)]
    found = [array for array in arrays if array is not None]
    dtypes = {dtype_of(array) for array in found}
    devices = {"cpu" if is_here(array) else str(array.device) for array in found}
    return tuple("mixed" if len(kinds) > 1 else next(iter(kinds), "") for kinds in (dtypes, devices))  # type: ignore[return-value]


def _timeline_page(timeline: Timeline, first: object) -> Page:
    """The steps, the newest first."""
    total = len(timeline.steps)
    start = min(max(first, 0), max(total - 1, 0)) // STEPS * STEPS if type(first) is int else 0
    newest = timeline.steps[::-1][start : start + STEPS]
    return {
        "kind": "timeline",
        "steps": [[s.cell, s.source, [[c.name, c.word] for c in s.all[:NAMED]], len(s.all)] for s in newest],
        "first": start,
        "step": STEPS,
        "total": total,
        "dropped": timeline.dropped,
    }


def _clean(plain: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}
