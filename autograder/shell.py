"""A notebook's cells run without a kernel: IPython's shell, with what each cell puts out kept as nbformat has it."""

import base64
import builtins
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from autograder.answering import TimeUp
from autograder.outputs import MIMES, MOST_IN_ALL, MOST_OUTPUTS, MOST_RICH, MOST_TEXT

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
ASKED = "the notebook asked for input: in the grader there is nobody to type it"
CUT = "\n[more output than the grader keeps: cut off here]\n"
LEFT = "exit() does nothing here: the cells below still run"


class Refused(Exception):
    """What a notebook cannot have in the grader."""


class Outputs:
    """What one cell puts out, in nbformat's terms, up to a limit."""

    def __init__(self, most_in_all: int = MOST_IN_ALL) -> None:
        self.kept: list[dict[str, Any]] = []
        self.names: list[str | None] = []  # display ids, for those that can be changed later
        self.left = {"text": MOST_TEXT, "rich": MOST_RICH}
        self.left_in_all = most_in_all
        self.full = False
        self.clear_first = False

    def text(self, name: str, text: str) -> None:
        """More of stdout or stderr."""
        self._clear_if_asked()
        fits = self._fit(text, "text")
        if not fits:
            return
        if self.kept and self.kept[-1]["output_type"] == "stream" and self.kept[-1]["name"] == name:
            self.kept[-1]["text"] += fits
        else:
            self._keep({"output_type": "stream", "name": name, "text": fits})

    def rich(self, kind: str, data: dict[str, Any], metadata: dict[str, Any] | None, name: str | None = None) -> None:
        self._clear_if_asked()
        bundle = {mime: _written(data[mime]) for mime in MIMES if mime in data}
        if bundle and self._room("rich", sum(map(len, map(str, bundle.values())))):
            count = {"execution_count": None} if kind == "execute_result" else {}
            self._keep({"output_type": kind, "data": bundle, "metadata": _known(metadata, bundle), **count}, name)

    def change(self, name: str | None, data: dict[str, Any]) -> None:
        """A display with an id shows something new, as a live figure does."""
        bundle = {mime: _written(data[mime]) for mime in MIMES if mime in data}
        for output, known in zip(self.kept, self.names, strict=True):
            if name is not None and known == name and self._room("rich", 0):
                self.left["rich"] += sum(map(len, map(str, output["data"].values())))
                output["data"] = bundle if self._room("rich", sum(map(len, map(str, bundle.values())))) else {}

    def error(self, name: str, message: str, lines: list[str]) -> None:
        trace = [self._fit(ANSI.sub("", line), "text") for line in lines[:200]]
        self._keep({"output_type": "error", "ename": name, "evalue": ANSI.sub("", message)[:2000], "traceback": trace})

    def clear(self, wait: bool) -> None:
        self.clear_first = True
        if not wait:
            self._clear_if_asked()

    def _clear_if_asked(self) -> None:
        if self.clear_first:
            self.kept, self.names, self.clear_first = [], [], False

    def _keep(self, output: dict[str, Any], name: str | None = None) -> None:
        if len(self.kept) < MOST_OUTPUTS:
            self.kept.append(output)
            self.names.append(name)

    def _fit(self, text: str, purse: str) -> str:
        room = min(self.left[purse], self.left_in_all)
        if len(text) > room:
            self.full, text = True, text[:room]
        self.left[purse] -= len(text)
        self.left_in_all -= len(text)
        return text

    def _room(self, purse: str, size: int) -> bool:
        """A half figure is none: it fits or it is left out."""
        if size > min(self.left[purse], self.left_in_all):
            self.full = True
            return False
        self.left[purse] -= size
        self.left_in_all -= size
        return True

    def finished(self, count: int) -> list[dict[str, Any]]:
        """The outputs, with a word about what was left out."""
        for output in self.kept:
            if output["output_type"] == "execute_result":
                output["execution_count"] = count
        return [*self.kept, {"output_type": "stream", "name": "stderr", "text": CUT}] if self.full else self.kept


def _written(value: Any) -> Any:
    """Pictures come as bytes, and are base64 in a notebook."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value if isinstance(value, str) else _plain_json(value)


def _plain_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _plain_json(one) for key, one in list(value.items())[:1000]}
    if isinstance(value, list | tuple):
        return [_plain_json(one) for one in value[:1000]]
    return str(value)


def _known(metadata: dict[str, Any] | None, bundle: dict[str, Any]) -> dict[str, Any]:
    """A figure's alternative text and size; nothing else of what the student's code says about its outputs."""
    kept = {mime: _plain_json(note) for mime, note in (metadata or {}).items() if mime in bundle}
    return {mime: note for mime, note in kept.items() if isinstance(note, dict)}


class _Stream(io.TextIOBase):
    def __init__(self, name: str, shell: "Desk") -> None:
        self.name, self.shell = name, shell

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.shell.outputs.text(self.name, str(text))
        return len(text)


class _Hook(DisplayHook):
    shell: Any

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        self.shell.outputs.rich("execute_result", format_dict, md_dict)

    def finish_displayhook(self) -> None:
        self._is_active = False


class _Publisher(DisplayPublisher):
    def publish(
        self, data: Any, metadata: Any = None, *_: Any, transient: Any = None, update: bool = False, **__: Any
    ) -> None:
        if not isinstance(data, dict):
            raise TypeError("data must be a dictionary of media types")
        name = (transient or {}).get("display_id")
        if update:
            self.shell.outputs.change(name, data)
        else:
            self.shell.outputs.rich("display_data", data, metadata, name)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear(wait)


class Desk(InteractiveShell):
    """IPython's shell as the grader uses it: no terminal, no history, no end before the last cell."""

    def __init__(self, **kwargs: Any) -> None:
        self.outputs, self.number = Outputs(), 0
        start: Any = super().__init__
        start(config=_settings(), displayhook_class=_Hook, display_pub_class=_Publisher, **kwargs)

    def init_readline(self) -> None:
        pass

    def move_in(self) -> None:
        """Take the home and the folder that this process has now: it may have been forked since the desk was opened."""
        shell: Any = self
        shell.init_ipython_dir(None)
        shell.init_profile_dir(None)
        if "db" in vars(shell):  # before version 9.18 IPython opened it at its start
            shell.db = type(shell.db)(Path(shell.profile_dir.location) / "db")
        shell.init_pushd_popd_magic()
        shell.history_manager.dir_hist[:] = [Path.cwd()]

    def enable_gui(self, gui: str | None = None) -> None:
        """`%matplotlib notebook` and the like: there is no window to open."""

    def ask_exit(self) -> NoReturn:
        raise Refused(LEFT)

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        # what the grader itself raises needs no way through the grader's code
        lines = [_said(evalue)] if isinstance(evalue, TimeUp | Refused) else "\n".join(map(str, stb)).split("\n")
        self.outputs.error(getattr(etype, "__name__", "Error"), _said(evalue), lines)

    def run(self, source: str, left_in_all: int = MOST_IN_ALL) -> None:
        """Run one cell; `outputs` and `number` are then its own. Whatever it raises is among the outputs."""
        self.outputs, self.number = Outputs(left_in_all), self.execution_count
        run: Any = self.run_cell
        run(source, store_history=True)


def _said(error: Any) -> str:
    try:
        return str(error)
    except BaseException:
        return ""


def _settings() -> Config:
    settings = Config()
    settings.InteractiveShell.colors = "nocolor"
    # a thread of its own would be a thread before a fork
    settings.HistoryManager.enabled = False
    settings.HistoryAccessor.enabled = False
    settings.InteractiveShell.cache_size = 1000
    return settings


def open_desk() -> Desk:
    """The one shell of this process, with figures shown in line as in a notebook.

    It may be opened before a fork: then the child's `move_in` makes it its own.
    """
    desk: Desk = Desk.instance()
    from IPython.core import pylabtools
    from matplotlib_inline import backend_inline

    tools: Any = pylabtools
    inline: Any = backend_inline
    # interactive: a figure is shown at the end of its cell also without plt.show()
    tools.activate_matplotlib("module://matplotlib_inline.backend_inline")
    inline.configure_inline_support(desk, "inline")
    return desk


def take_over_streams(desk: Desk) -> None:
    """From now on what is printed belongs to the cell that runs."""
    sys.stdout, sys.stderr = _Stream("stdout", desk), _Stream("stderr", desk)
    refuse: Callable[..., NoReturn] = _refuse_input
    builtins.input = refuse


def _refuse_input(*_: Any) -> NoReturn:
    raise Refused(ASKED)
