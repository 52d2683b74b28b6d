"""The table of a notebook's variables, as MATLAB's Workspace pane shows it, and what each cell changed there.

`workspace()` is the table of the student's variables. From its first call on it also looks after every cell
and keeps the timeline, which question 2 of the lab is answered from. A training loop that runs inside one
cell is one change; to see each iteration, call `observe` in the loop:

    pane = workspace(path="workspace.json")
    for iteration in range(100):
        ...
        pane.observe(f"iteration {iteration}")

In JupyterLab the first call also opens a panel beside the notebook that follows every cell (`labkit.panels.workspace`).

What a look after a cell sees of a variable, and what it does not, is said in `labkit.changes`.
"""

from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.counts import counted
from labkit.kinds import attempt
from labkit.timeline import Step, Timeline, difference
from labkit.variables import Row, rows

if TYPE_CHECKING:
    from labkit.panels.workspace import WorkspacePanel

COLUMNS = ("Name", "Value", "Size", "Class", "Bytes", "Change")
ALIGN = (str.ljust, str.ljust, str.rjust, str.ljust, str.rjust, str.ljust)


class _Watcher:
    """Looks at one namespace: after each cell when a shell calls it, and when it is asked."""

    def __init__(self, namespace: Mapping[str, object], shell: Any = None) -> None:
        self.namespace = namespace
        self.shell = shell
        self.timeline = Timeline()
        self.path: Path | None = None
        self.problem = ""
        self.panel: WorkspacePanel | None = None

    def after_cell(self, result: Any) -> None:
        """IPython's post_run_cell. Whatever fails here is told in the table, never in the student's cell."""
        self.problem = ""
        begun, before, step = time.monotonic(), self.timeline.last, None
        try:
            step = self.timeline.observe(self.namespace, result.execution_count, str(result.info.raw_cell))
            self.save()
        except KeyboardInterrupt:  # it came too late for the cell, which has ended
            self.problem = "The look after the last cell was interrupted."
        except BaseException as error:
            self.problem = f"The last cell could not be looked at ({type(error).__name__})."
        if self.panel is not None and self.panel.opened:
            with suppress(BaseException):
                if step is None or before is not self.panel.before:  # the whole cell, whatever was observed within it
                    now, source = self.timeline.last, str(result.info.raw_cell)
                    step = difference(self.panel.before, now, result.execution_count, source)
                self.panel.after_cell(step, self.problem, time.monotonic() - begun)

    def open_panel(self) -> None:
        """Beside the notebook, where there is a JupyterLab to show it; elsewhere the table is all there is."""
        if not browser_looks():
            return
        if self.panel is None:
            from labkit.panels.workspace import WorkspacePanel

            self.panel = WorkspacePanel(self.namespace, self.timeline)
        self.panel.show_beside()

    def save(self) -> None:
        if self.path is None:
            return
        try:
            self.timeline.save(self.path)
            self.problem = ""
        except OSError as error:
            self.problem = f"{self.path.name} could not be written: {error.strerror}."

    def observe(self, label: str) -> Step:
        # while a cell runs, shell.execution_count is its number or the next, depending on IPython's version
        cell = attempt(lambda: len(self.shell.history_manager.input_hist_raw) - 1 or None, None)
        step = self.timeline.observe(self.namespace, cell, label)
        if (panel := self.panel) is not None and panel.opened:
            attempt(lambda: panel.observed(step), None)
        return step

    def pane(self) -> Workspace:
        steps, now = self.timeline.steps, self.timeline.look(self.namespace)
        since = "since the last look" if steps else "at the first look"
        if steps and not now.all:
            now = steps[-1]
            since = f"in cell {now.cell}" if now.cell is not None else since
            since += f" “{now.source}”" if now.source else ""
        return Workspace(rows(self.namespace), now, since, self)


class Workspace:
    """The variables when it was made, and what had changed. Its text and its HTML are the table."""

    def __init__(self, rows: list[Row], step: Step, since: str, watcher: _Watcher) -> None:
        self.rows = rows
        self.step = step
        self._since = since
        self._watcher = watcher

    @property
    def timeline(self) -> Timeline:
        return self._watcher.timeline

    def observe(self, label: str = "") -> Step:
        """Look now, for instance in each iteration of a loop; what changed since the last look."""
        return self._watcher.observe(label)

    def _cells(self) -> list[tuple[str, ...]]:
        words = {change.name: change.word for change in self.step.all}
        return [(r.name, r.value, r.size, r.class_, f"{r.bytes:,}", words.get(r.name, "")) for r in self.rows]

    def _sentences(self) -> list[str]:
        gone = ", ".join(change.name for change in self.step.gone)
        dropped = self.timeline.dropped
        found = [
            f"{counted(len(self.rows), 'variable')}; {len(self.step.all) or 'none'} changed {self._since}.",
            f"Gone: {gone}." if gone else "",
            f"The timeline is full: {dropped:,} later steps are not in it." if dropped else "",
            self._watcher.problem,
        ]
        return [sentence for sentence in found if sentence]

    def __str__(self) -> str:
        table = [COLUMNS, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(ALIGN[i](text, widths[i]) for i, text in enumerate(row)).rstrip() for row in table]
        return "\n".join(lines + self._sentences())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(_cell("th", i, text) for i, text in enumerate(COLUMNS))
        body = "".join(_html_row(row) for row in self._cells())
        below = "<br>".join(map(html.escape, self._sentences()))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div style="overflow-x:auto">{table}</div><p>{below}</p>'


def _html_row(row: tuple[str, ...]) -> str:
    weight = ' style="font-weight:bold"' if row[-1] else ""
    return f"<tr{weight}>{''.join(_cell('td', i, text) for i, text in enumerate(row))}</tr>"


def _cell(tag: str, column: int, text: str) -> str:
    """JupyterLab's own table style does the rest, on its light and its dark themes.

    No line wraps: the table's box scrolls, and a long value ends in an ellipsis, so that the columns after it show.
    """
    style = f"text-align:{'right' if ALIGN[column] is str.rjust else 'left'}; white-space:nowrap"
    if COLUMNS[column] == "Value":
        style += "; max-width:16em; overflow:hidden; text-overflow:ellipsis"
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'


def workspace(namespace: Mapping[str, object] | None = None, path: str | Path | None = None) -> Workspace:
    """The table of the variables, and what changed in the last cell.

    In IPython the first call also starts to look after every cell and, with a path, to write the timeline. In
    JupyterLab a call also opens the panel, or opens it again after it was closed.
    Elsewhere it is one look at the caller's globals, and with a namespace one look at that.
    """
    watcher = _attached() if namespace is None else None
    if watcher is None:
        watcher = _Watcher(sys._getframe(1).f_globals if namespace is None else namespace)
    watcher.path = watcher.path if path is None else Path(path).absolute()
    pane = watcher.pane()
    if watcher.shell is None:
        watcher.observe("")
        watcher.save()
    else:
        attempt(watcher.open_panel, None)
    return pane


def browser_looks() -> bool:
    """Was this cell run by a person in JupyterLab?

    A kernel alone is no sign of one: nbclient, nbgrader's Validate and papermill start kernels, too. A Jupyter server
    names a kernel's notebook in JPY_SESSION_NAME (jupyter_server 2), and JupyterLab names the cell in its request. VS
    Code does, too, but by an address.
    """
    if not os.environ.get("JPY_SESSION_NAME"):
        return False
    shell = attempt(lambda: sys.modules["IPython"].get_ipython(), None)
    # the shell's parent is the cell whose outputs are shown, also while a panel's button is answered
    cell = attempt(lambda: shell.get_parent()["metadata"]["cellId"], "")
    return bool(cell) and ":" not in str(cell)


def _attached() -> _Watcher | None:
    """The one watcher of the shell that runs here; it lives among the shell's own event handlers."""
    shell = attempt(lambda: sys.modules["IPython"].get_ipython(), None)
    if shell is None:
        return None
    for handler in shell.events.callbacks["post_run_cell"]:
        if isinstance(found := getattr(handler, "__self__", None), _Watcher):
            return found
    watcher = _Watcher(shell.user_ns, shell)
    shell.events.register("post_run_cell", watcher.after_cell)
    return watcher
