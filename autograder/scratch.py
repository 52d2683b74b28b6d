"""Folders that a grading needs while it runs. What a killed grading left behind is cleared away by the next one."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = ".grading-lock"
IN_COURSE = ".grading-scratch-"  # a leading dot: nbgrader looks at no such folder
IN_TEMP = "gradient-lab-"
# nodes of a cluster may share either place, and a process's number means something on its own machine alone
OWNER = re.compile(r"(?P<host>[\w.-]+)@(?P<pid>\d+)-")
OLD = 24 * 3600  # seconds after which another machine's folder is nobody's any more


class BusyError(Exception):
    """The course is being graded already, or cannot be graded where it lies."""


def folder() -> "tempfile.TemporaryDirectory[str]":
    """Outside the course, where students' processes may see it."""
    return tempfile.TemporaryDirectory(prefix=f"{IN_TEMP}{_owner()}", ignore_cleanup_errors=True)


def folder_in(course: Path) -> "tempfile.TemporaryDirectory[str]":
    """In the course, where nbgrader can find it."""
    return tempfile.TemporaryDirectory(prefix=f"{IN_COURSE}{_owner()}", dir=course, ignore_cleanup_errors=True)


def _owner() -> str:
    return f"{socket.gethostname()}@{os.getpid()}-"


@contextlib.contextmanager
def alone(course: Path) -> Iterator[None]:
    """One grading of a course at a time; a killed one leaves no lock, for the system takes it back."""
    try:
        opened = (course / LOCK).open("w")
    except OSError as error:
        raise BusyError(f"{course} cannot be written to ({error.strerror}): grading needs to") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(f"{course} is being graded already: wait for that to end, or stop it") from error
        _clear(course)
        yield


def _clear(course: Path) -> None:
    _clear_in(course, IN_COURSE)
    clear()


def clear() -> None:
    """Remove what killed gradings left outside the course, on this machine."""
    _clear_in(Path(tempfile.gettempdir()), IN_TEMP)


def _clear_in(place: Path, prefix: str) -> None:
    for left in place.glob(f"{prefix}*"):
        owner = OWNER.match(left.name.removeprefix(prefix))
        if owner and not _is_in_use(left, owner):
            shutil.rmtree(left, ignore_errors=True)


def _is_in_use(folder: Path, owner: re.Match[str]) -> bool:
    if owner["host"] == socket.gethostname():
        return _is_alive(int(owner["pid"]))
    try:
        return time.time() - folder.stat().st_mtime < OLD
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True
