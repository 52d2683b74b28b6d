"""The progress bar of a training: tqdm's in a terminal, and in a notebook one that stays in the saved file.

In a notebook tqdm.auto shows a widget, which lives in the kernel alone: when the notebook is opened again there is
an error in its place. So here the bar's line is a display that is updated, and the notebook keeps its last state.
"""

import io
import sys
from typing import Any

from tqdm import tqdm

SECONDS = 0.25  # between two updates
# of two networks in 100 columns; tqdm puts a comma before the postfix
FORMAT = "{desc} |{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}]"
SHARE = "{desc} |{bar}| {percentage:.0f} %{postfix} [{elapsed}<{remaining}]"


def bar(total: int, words: str, shown: bool = True, *, done: int = 0, form: str = FORMAT) -> "_Bar":
    """tqdm's bar over `total` iterations, silent where nobody looks: in a file, a pipe or the grader. `done` of them
    were there before and say nothing of how long the others take."""
    asked: dict[str, Any] = {"total": total, "desc": words, "initial": done, "bar_format": form}
    rate = {"mininterval": SECONDS, "miniters": 1}
    if shown and kernel_looks():
        return _Line(**asked, **rate, file=io.StringIO(), ascii=False)
    return _Bar(**asked, **rate, disable=None if shown else True)


def kernel_looks() -> bool:
    """Is this a notebook's kernel? The grader's own shell and a terminal are not."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def somebody_could_press() -> bool:
    """Is there a front end behind the kernel? nbclient, nbconvert and nbgrader run a notebook without one, and say so:
    nobody can be asked anything."""
    if not kernel_looks():
        return False
    kernel: Any = sys.modules["IPython"].get_ipython().kernel
    return bool(getattr(kernel, "_allow_stdin", True))


class _Bar(tqdm):  # type: ignore[misc]
    def due(self) -> bool:
        """Would an update be displayed now? Only then are its words worth their time."""
        return not self.disable and self._time() - self.last_print_t >= self.mininterval


class _Line(_Bar):
    """A bar whose display is one output of the cell."""

    monitor_interval = 0  # no thread that displays

    _handle: Any = None

    def display(self, *_: Any, **__: Any) -> bool:
        from IPython.display import display

        show: Any = display
        shown = {"text/plain": str(self)}
        if self._handle is None:
            self._handle = show(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
        return True
