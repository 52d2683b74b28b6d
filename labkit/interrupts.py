"""An interrupt (Ctrl-C, a notebook's stop button) that leaves everything whole."""

import re
import signal
from collections.abc import Sequence
from itertools import chain, count
from types import FrameType, TracebackType

from labkit.recording import Recording


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the message says where what was recorded so far is."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: whoever stops a training knows where, so the sentence is enough."""
        told = str(self)
        return [told[:1].upper() + told[1:]]


class undisturbed:
    """Within it an interrupt waits until the end; with `drop` it is forgotten there.

    What it holds together must be short. It does nothing in other threads than the main one, where no interrupt comes.
    """

    __slots__ = ("_before", "_came", "_drop")

    def __init__(self, drop: bool = False) -> None:
        self._drop = drop
        self._came: list[tuple[int, FrameType | None]] = []

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._came.append((number, frame))

    def __enter__(self) -> None:
        try:
            self._before = signal.signal(signal.SIGINT, self._wait)
        except ValueError:  # another thread
            self._before = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        if self._came and not self._drop and callable(self._before):
            self._before(*self._came[-1])


def kept_sentence(stopped: str, paths: list[str]) -> str:
    """What was kept where, and how it is read; of many files, the first ones."""
    named, more = paths[:3], f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
    read = ", ".join(f"labkit.Recording.load({path!r})" for path in named)
    return f"{stopped}: what was recorded so far is in {' and '.join(named)}{more}; read it with {read}"


def file_of(recording: Recording, taken: Sequence[str] = ()) -> str:
    """Where an interrupted run without a file of its own is kept: none that was just `taken`."""
    words = re.sub(r"[^\w.]+", "-", recording.name)[:80].strip("-.") or "recording"
    names = (f"{words}-interrupted{number}.safetensors" for number in chain([""], (f"-{n}" for n in count(2))))
    return next(name for name in names if name not in taken)
