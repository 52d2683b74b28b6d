"""What the panels share: where their scripts and styles lie, where they are drawn, and when they are heard."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython

from labkit.desk import browser_looks
from labkit.kinds import attempt

STATIC = Path(__file__).parent / "static"


class Panel(anywidget.AnyWidget):
    """A widget whose script is `static/panel.js` and `NAME.js`; its style `panel.css` and, if there, `NAME.css`.

    Traits that are tagged `sync` are what the browser sees; what the browser sends arrives by `on_msg`, as plain JSON,
    and only while no cell runs.
    """

    place = traitlets.Unicode().tag(sync=True)  # the class of the elements that it is drawn in, if there are any

    def __init_subclass__(cls, script: str = "", **others: Any) -> None:
        if script:  # traitlets makes a class without one below each panel's own, which inherits them
            cls._esm = "\n".join((STATIC / f"{name}.js").read_text() for name in ("panel", script))
            styles = [STATIC / "panel.css", STATIC / f"{script}.css"]
            cls._css = "\n".join(style.read_text() for style in styles if style.exists())
        super().__init_subclass__(**others)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**{"place": f"labkit-place-{secrets.token_hex(4)}"} | traits)

    def bundle(self, otherwise: str) -> dict[str, Any]:
        """An output in which the panel is drawn; where it cannot be, as in a saved notebook, it says `otherwise`.

        For JupyterLab it is no widget's output: of such a one a saved notebook says that its model was not found.
        """
        if browser_looks():
            return {"text/html": f'<div class="{self.place}">{otherwise}</div>', "text/plain": otherwise}
        found = self._repr_mimebundle_()
        data = found[0] if isinstance(found, tuple) else found
        return (data or {}) | {"text/plain": otherwise}

    def _handle_custom_msg(self, content: Any, buffers: Any) -> None:
        in_turn(lambda: super(Panel, self)._handle_custom_msg(content, buffers))


def in_turn(answer: Callable[[], None]) -> None:
    """Call it between two cells, in the thread in which they run, as one that an interrupt can reach.

    From JupyterLab 4.4 and ipykernel 7 on, what a widget's browser says arrives in a thread beside the cells. There
    variables would change while they are looked at, nothing could be stopped that takes too long, and a training's
    interrupt would never come.
    """
    loop = getattr(getattr(get_ipython(), "kernel", None), "io_loop", None)
    if loop is None or threading.current_thread() is threading.main_thread():
        answer()
    else:
        loop.add_callback(_interruptible, answer)


def _interruptible(answer: Callable[[], None]) -> None:
    """Between two cells a kernel is deaf to interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            attempt(answer, None)
    finally:
        signal.signal(signal.SIGINT, before)
