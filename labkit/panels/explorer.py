"""The gradient explorer in a notebook: the controls, the drawing and the code of an `Explorer`, in its browser.

The browser sends the newest state and waits for its answer before it sends another, so that nothing queues up while a
slider is dragged; the first answer has as many seeds as there is time for, and the others follow when nobody asks.
Below the panel lies the same as a picture: it is hidden as long as the panel lives, and is what a saved notebook shows.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import traitlets
from IPython import get_ipython
from IPython.display import display

from labkit import theory
from labkit.experiments import Activation, ExperimentError, Initialisation, Normalisation
from labkit.explained import view
from labkit.explorer import Explorer
from labkit.panels.panel import Panel
from labkit.streams import DataError

SECONDS = 0.04  # that measuring may take; with what is said of it and the way there and back an answer stays below 0.1
WIDEST, DEEPEST, LARGEST_BATCH, MOST_EPOCHS = 100, 30, 512, 50

WORDS = {
    "none": "none",
    "clip_norm": "all to a norm of",
    "clip_each": "each to a norm of",
    "clip_value": "each value at",
    "batch": "batch normalisation",
    "layer": "layer normalisation",
}


def show(explorer: Explorer) -> None:
    """Display the panel and the picture below it in the cell that runs."""
    ExplorerPanel(explorer).show()


class ExplorerPanel(Panel, script="explorer"):
    """The widget. `answer` is what the browser draws; what it asks arrives by messages."""

    controls: Any = traitlets.List().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    training = traitlets.Bool(False).tag(sync=True)
    still = traitlets.Unicode().tag(sync=True)  # the class of the picture below

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self._picture: Any = None
        self._cell: Any = None
        super().__init__(controls=controls(explorer), still=f"labkit-still-{secrets.token_hex(4)}")
        self.on_msg(self._heard)
        self._answer("")

    def show(self) -> None:
        self._cell = _parent()
        display(self.bundle(""), raw=True)
        self._picture = display(self._still(), metadata=self.metadata, raw=True, display_id=True)

    def _heard(self, _: Any, message: dict[str, Any], __: Any) -> None:
        """One message of the browser's; whatever cannot be is answered with one sentence."""
        kind, asked = message.get("kind"), str(message.get("id", ""))
        try:
            if kind in ("ask", "train", "hold"):
                self.explorer.change(**message.get("settings", {}))
            if kind == "hold":
                self._hold()
            if kind == "train":
                self._train()
            if kind == "rest":
                self._rest()
            else:
                self._answer(asked)
        except (ExperimentError, DataError, MemoryError) as error:
            self.answer = {"id": asked, "problem": str(error) or "This network is too large for the memory."}
        except KeyboardInterrupt:
            self.answer = {"id": asked, "problem": "This was interrupted before it was measured."}
        except Exception as error:
            self.answer = {"id": asked, "problem": f"This state could not be measured: {error}"}

    def _answer(self, asked: str) -> None:
        self.explorer.look(SECONDS)
        self.answer = {"id": asked, "problem": "", **view(self.explorer)}

    def _hold(self) -> None:
        """The gain of the weights at which theory says that deep in the network gradients hold."""
        e = self.explorer.experiment
        if not e.plain:
            raise ExperimentError("theory knows such a gain for plain layers: without normalisation and skips")
        scale = theory.scale_for(e.activation, e.initialisation, e.widths[1], 1.0, e.slope)
        self.explorer.change(gain=float(f"{scale:.4g}"))

    def _train(self) -> None:
        from labkit.live import LiveDistributions

        self.training = True
        try:
            with _outputs_of(self._cell):
                self.explorer.train(watch=LiveDistributions())
        finally:
            self.training = False

    def _rest(self) -> None:
        """Nobody has asked for a while: time to draw the picture anew."""
        if self._picture is not None:
            self._picture.update(self._still(), metadata=self.metadata, raw=True)

    def _still(self) -> dict[str, str]:
        figure = self.explorer.figure()
        self.metadata = figure.metadata()
        bundle = figure.bundle()
        shown = f'<div class="{html.escape(self.still)}">{bundle["text/html"]}</div>'
        return {**bundle, "text/html": shown, "text/plain": str(self.explorer)}


def controls(explorer: Explorer) -> list[dict[str, Any]]:
    """What can be set, in the order in which it is shown; ranges reach as far as the state that it began with."""
    s = explorer.settings
    data = {"digits": "digits", "circles": "points on circles"} | {s.data: s.data}
    return [
        _choice("data", "Data", data),
        _range("batch_size", "Mini-batch", 2, max(LARGEST_BATCH, s.batch_size)),
        _range("depth", "Hidden layers", 1, max(DEEPEST, s.depth)),
        _range("width", "Units in each", 1, max(WIDEST, s.width)),
        _choice("activation", "Activation", {name: name for name in get_args(Activation)}),
        _choice("initialisation", "Initial weights", {name: name for name in get_args(Initialisation)}),
        _range("gain", "times a gain of", 0.1, 10, logarithmic=True),
        _choice("normalisation", "Normalisation", {name: WORDS[name] for name in get_args(Normalisation)}),
        {"name": "residual", "label": "Residual connections", "kind": "check"},
        _choice("clip", "Clip gradients", {name: WORDS[name] for name in ("none", *list(WORDS)[1:4])}),
        _range("clip_size", "Clip at", 0.001, 10, logarithmic=True),
        _range("epochs", "Epochs to train", 1, max(MOST_EPOCHS, s.epochs)),
    ]


def _choice(name: str, label: str, options: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "label": label, "kind": "choice", "options": list(options.items())}


def _range(name: str, label: str, low: float, high: float, logarithmic: bool = False) -> dict[str, Any]:
    return {"name": name, "label": label, "kind": "range", "low": low, "high": high, "logarithmic": logarithmic}


def _parent() -> Any:
    """The header of the cell that runs; None without a kernel."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel.get_parent("shell") if kernel is not None else None


@contextmanager
def _outputs_of(cell: Any) -> Iterator[None]:
    """What is displayed goes into that cell's output, below the panel: as an output that is saved and can be updated,
    which those of an Output widget are not."""
    shell: Any = get_ipython()
    if cell is None or shell is None:
        yield
        return
    before = _parent()
    shell.set_parent(cell)
    try:
        yield
    finally:
        shell.set_parent(before)
