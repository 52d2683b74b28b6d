"""What the panels share: where their scripts and styles lie."""

from pathlib import Path
from typing import Any

import anywidget

STATIC = Path(__file__).parent / "static"


class Panel(anywidget.AnyWidget):
    """A widget whose script is `static/NAME.js`; its style is `static/panel.css` and, where there is one, `NAME.css`.

    Traits that are tagged `sync` are what the browser sees; what the browser sends arrives by `on_msg`, as plain JSON,
    and only while no cell runs.
    """

    def __init_subclass__(cls, script: str = "", **others: Any) -> None:
        if script:  # traitlets makes a class without one below each panel's own, which inherits them
            cls._esm = (STATIC / f"{script}.js").read_text()
            styles = [STATIC / "panel.css", STATIC / f"{script}.css"]
            cls._css = "\n".join(style.read_text() for style in styles if style.exists())
        super().__init_subclass__(**others)
