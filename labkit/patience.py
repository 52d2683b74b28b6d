"""Code of a student's that may never return is given a moment, and no more."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Impatient(BaseException):
    """The time was over. No Exception, so that a student's `except Exception` does not swallow it."""


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns; Impatient when it takes longer, where the system has a timer that can stop it.

    Windows has none, threads have none, and one that runs already is somebody else's: there it takes as long as it
    takes.
    """
    if not _can_be_stopped():
        return ask()
    with _timer(seconds):
        return ask()


def _can_be_stopped() -> bool:
    has_timer = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    return has_timer and signal.getitimer(signal.ITIMER_REAL)[0] == 0


@contextlib.contextmanager
def _timer(seconds: float) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _stop)
    # again and again: the first might be swallowed
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise Impatient
