"""A student's process: runs a notebook's cells in order, then answers the grader's questions about what they left.

    grader  -> {"cells": [{"id", "source"}, ...], "limits": {...}}
    student -> {"running": id} and {"ran": id, "outputs": [...], "number": 3} for each cell, then {"ready": true}
    grader  -> requests of `autograder.answers`, each with one reply

Nothing here is trusted by the grader: the code of the notebook shares this process and may change all of it.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from autograder import answering
from autograder.answering import TimeUp
from autograder.channel import Channel, Gone
from autograder.limits import Limits
from autograder.outputs import MOST_IN_ALL, size
from autograder.shell import Desk, open_desk, take_over_streams

WORK, HOME = "submission", "home"  # folders of a submission's private place
BUSY = 0.05  # share of the time that something must compute, or it only waits
AGAIN = 2.0  # seconds after which a limit strikes again where code caught the first blow


def live(end: socket.socket, place: Path, limits: Limits) -> None:
    """The whole life of a student's process in its private place; returns when the grader hangs up."""
    _settle(place, limits, keep=end.fileno())
    desk, channel = open_desk(), Channel(end)
    desk.move_in()
    take_over_streams(desk)
    with contextlib.suppress(Gone):
        _run_cells(desk, channel, channel.receive()["cells"], limits)
        _answer(desk, channel, limits)


def _settle(place: Path, limits: Limits, keep: int) -> None:
    """In its own folder, within its limits, with no descriptor but the grader's."""
    _close_all_but(keep)
    home = str(place / HOME)
    os.environ.update(HOME=home, TMPDIR=home, LABKIT_CACHE=home, MPLCONFIGDIR=home, IPYTHONDIR=home)
    os.chdir(place / WORK)
    # behind everything installed, so that a student's labkit.py hides nothing of ours
    sys.path[:] = [*(path for path in sys.path if path), str(place / WORK)]
    # a grading in the background of a shell ignores it, and so would all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _limit(limits)
    _seed()


def _seed() -> None:
    """The same submission does the same when it is graded again."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)


def _close_all_but(keep: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, 65_536)


def _limit(limits: Limits) -> None:
    cpu = int(limits.cpu_seconds)
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 5),
        (resource.RLIMIT_DATA, limits.data_bytes, limits.data_bytes),
        (resource.RLIMIT_AS, limits.address_bytes, limits.address_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        # macOS knows some of these only by name
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, hard))


def _run_cells(desk: Desk, channel: Channel, cells: list[dict[str, str]], limits: Limits) -> None:
    left = MOST_IN_ALL
    for cell in cells:
        channel.send({"running": cell["id"]})
        outputs, number, stopped = _run(desk, cell["source"], left, limits)
        left -= sum(map(size, outputs))
        channel.send({"ran": cell["id"], "outputs": outputs, "number": number, "stopped": stopped})
    channel.send({"ready": True})


def _run(desk: Desk, source: str, left: int, limits: Limits) -> tuple[list[dict[str, Any]], int, bool]:
    clock = _Clock(limits.cell_seconds, limits.patience)
    try:
        with clock:
            desk.run(source, left)
    except BaseException as error:  # a limit that struck between the cell's end and ours
        desk.outputs.error(type(error).__name__, str(error), [])
    return desk.outputs.finished(desk.number), desk.number, clock.struck


class _Clock:
    """Raises `TimeUp` in what runs within it, again and again, once its time is over."""

    def __init__(self, seconds: float, patience: float) -> None:
        self.seconds, self.patience = seconds, patience
        self.struck = False
        self.started = 0.0, 0.0  # wall and processor time

    def __enter__(self) -> None:
        self.started = time.monotonic(), time.process_time()
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, self._strike)
        signal.setitimer(signal.ITIMER_PROF, self.seconds, AGAIN)
        signal.setitimer(signal.ITIMER_REAL, self.seconds * self.patience, AGAIN)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _strike(self, number: int, _: FrameType | None) -> None:
        waited = time.monotonic() - self.started[0]
        if number == signal.SIGALRM and time.process_time() - self.started[1] > BUSY * waited:
            return  # at work on a busy machine: its processor time is what counts
        self.struck = True
        raise TimeUp(self.seconds if number == signal.SIGPROF else self.seconds * self.patience)


def _answer(desk: Desk, channel: Channel, limits: Limits) -> None:
    while True:
        request = channel.receive()
        try:
            with _Clock(limits.call_seconds, limits.patience):
                reply = answering.respond(desk.user_ns, request)
        except BaseException as error:
            reply = {"error": type(error).__name__}
        channel.send(reply)
