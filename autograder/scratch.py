"""Folders that a grading needs while it runs. What a killed grading left behind is cleared away by the next one."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOCK = ".grading-lock"
IN_COURSE = ".grading-scratch-"  # a leading dot: nbgrader looks at no such folder
IN_TEMP = re.compile(r"gradient-lab-(\d+)-")


class BusyError(Exception):
    """The course is being graded already, or cannot be graded where it lies."""


def folder() -> "tempfile.TemporaryDirectory[str]":
    """Outside the course, where students' processes may see it."""
    return tempfile.TemporaryDirectory(prefix=f"gradient-lab-{os.getpid()}-", ignore_cleanup_errors=True)


def folder_in(course: Path) -> "tempfile.TemporaryDirectory[str]":
    """In the course, where nbgrader can find it."""
    return tempfile.TemporaryDirectory(prefix=IN_COURSE, dir=course, ignore_cleanup_errors=True)


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
    for left in course.glob(f"{IN_COURSE}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in Path(tempfile.gettempdir()).glob("gradient-lab-*"):
        match = IN_TEMP.match(left.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True
