"""The grader's side of students' processes: starts them, lets them run a notebook, asks, and ends them for good."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import autograder
import labkit
from autograder import sandbox, scratch
from autograder.channel import Channel, ChannelError, Gone, TooLate
from autograder.limits import Limits
from autograder.outputs import MOST_IN_ALL, Output, checked, size
from autograder.sandbox import Surroundings

WARM_UP = 120.0  # seconds that the imports of a cold machine may take
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
PASSED_ON = ("LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LABKIT_MAPS")


class WorkersError(Exception):
    """Students' processes cannot be started at all."""


@dataclass(frozen=True)
class Ending:
    """How a student's process ended."""

    status: int  # as os.wait4 gives it
    cpu: float = 0.0  # seconds
    memory: int = 0  # kilobytes at most
    why: str = ""  # what it had too much of, if the guard ended it


class Nursery:
    """The warm parent, one for all submissions; a student's process is forked from it and used once."""

    fresh = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._desk = scratch.folder()
        # where another user must reach its own place by name, and read no names
        Path(self._desk.name).chmod(0o711)
        self.around = sandbox.surroundings(Path(self._desk.name).resolve())
        self._spawn()

    def room(self) -> "tempfile.TemporaryDirectory[str]":
        """A folder for the places of one submission; a student's process sees only its place."""
        room = tempfile.TemporaryDirectory(dir=self.around.desk, ignore_cleanup_errors=True)
        Path(room.name).chmod(0o711)
        return room

    def _spawn(self) -> None:
        self.around = replace(self.around, outer=())
        if command := sandbox.bubblewrap(self.around):
            self.around = replace(self.around, outer=("bubblewrap",))
            # an environment that does not work in there is graded without it, and the report says so
            with contextlib.suppress(WorkersError):
                self.process, self._control = _launch(self.around, command)
                return
            self.around = replace(self.around, outer=())
        self.process, self._control = _launch(self.around)

    def start(self, place: Path, limits: Limits) -> "Started":
        """A student's process in its private place."""
        with self._lock:
            try:
                return self._start(place, limits)
            except ChannelError:
                # code with our rights may have killed the parent: one more, and then it is an error
                self._stop()
                self._spawn()
                return self._start(place, limits)

    def _start(self, place: Path, limits: Limits) -> "Started":
        channel, said = self._order(place, limits)
        _, descriptors, _, _ = socket.recv_fds(self._control.end, 1, 1)
        channel.watch(descriptors[0])
        if said["walls"] is None:
            self._end(int(said["pid"]))
            raise WorkersError("the walls around a submission could not be built, and nothing of it was run")
        return Started(channel, int(said["pid"]), (*self.around.outer, *said["walls"]))

    def _order(self, place: Path, limits: Limits) -> tuple[Channel, dict[str, Any]]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._control.send({"start": {"place": str(place), "limits": limits.to_json()}})
            socket.send_fds(self._control.end, [b"+"], [theirs.fileno()])
        return Channel(ours), self._control.receive(time.monotonic() + WARM_UP)

    def end(self, pid: int) -> Ending:
        with self._lock:
            return self._end(pid)

    def _end(self, pid: int) -> Ending:
        with contextlib.suppress(ChannelError):
            self._control.send({"end": pid})
            return Ending(**self._control.receive(time.monotonic() + WARM_UP))
        return Ending(signal.SIGKILL)  # the parent is gone, and its children with it

    def close(self) -> None:
        with self._lock:
            self._stop()
            self._desk.cleanup()

    def _stop(self) -> None:
        # it hears that we hung up, ends its students' processes and leaves
        self._control.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class FreshProcesses(Nursery):
    """Where forking a process with torch in it is not safe: each submission loads everything anew."""

    fresh = True

    def _spawn(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def _start(self, place: Path, limits: Limits) -> "Started":
        self.process, self._control = _launch(self.around, fresh=True)
        channel, said = self._order(place, limits)
        self._running[said["pid"]] = self.process
        self._control.close()
        return Started(channel, int(said["pid"]), ())

    def end(self, pid: int) -> Ending:
        process = self._running.pop(pid)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        code = process.wait()
        return Ending(-code if code < 0 else code << 8)

    def _stop(self) -> None:
        for pid in list(self._running):
            self.end(pid)


@dataclass(frozen=True)
class Started:
    """A student's process as it begins."""

    channel: Channel
    pid: int  # by which the nursery knows it
    walls: tuple[str, ...]


def _launch(
    around: Surroundings, outer: Sequence[str] = (), fresh: bool = False
) -> tuple[subprocess.Popen[bytes], Channel]:
    ours, theirs = socket.socketpair()
    # -P: the folder we stand in may hold a student's labkit.py
    module = [sys.executable, "-P", "-m", "autograder.nursery"]
    command = [*outer, *module, str(theirs.fileno()), around.to_json(), *(["--fresh"] if fresh else [])]
    # a file: a pipe that nobody reads would stop who writes to it
    with tempfile.TemporaryFile() as errors:
        with theirs:
            process = subprocess.Popen(
                command,
                cwd="/",
                env=_environment(around),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        control = Channel(ours)
        try:
            control.receive(time.monotonic() + WARM_UP)
        except ChannelError as error:
            process.kill()
            process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise WorkersError(f"students' processes cannot be started: {said or error}") from error
    return process, control


def _environment(around: Surroundings) -> dict[str, str]:
    """No word of the course, no key of the instructor's; one thread, which makes runs equal and forks safe."""
    ours = {str(Path(package.__path__[0]).parent) for package in (autograder, labkit)}
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
        "HOME": around.desk,
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), *SYSTEM_PATH]),
        "PYTHONPATH": os.pathsep.join(sorted(ours)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def open_workers() -> Nursery:
    """The way of starting students' processes that is safe on this machine."""
    if sys.platform == "win32":
        raise WorkersError("grading needs the process limits of Linux or macOS: on Windows run it in WSL")
    return Nursery() if sys.platform == "linux" else FreshProcesses()


@dataclass
class Run:
    """What came of a notebook's cells."""

    outputs: dict[str, list[Output]] = field(default_factory=dict)  # by cell id
    numbers: dict[str, int] = field(default_factory=dict)  # execution counts
    stopped: list[str] = field(default_factory=list)  # cells that ran into the limit of a cell
    last: str = ""  # the cell that ran last
    ended: str = ""  # why the process ended early; empty when all cells had their turn


class Student:
    """One submission's process, from start to end. Use as a context manager."""

    def __init__(self, nursery: Nursery, place: Path, limits: Limits) -> None:
        self.nursery, self.limits = nursery, limits
        started = nursery.start(place, limits)
        self.channel, self.pid, self.walls = started.channel, started.pid, started.walls
        self.deadline = time.monotonic() + limits.cpu_seconds * limits.patience
        self.ending: Ending | None = None
        self.run = Run()
        self._room = MOST_IN_ALL

    def __enter__(self) -> "Student":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run_cells(self, cells: Sequence[dict[str, str]]) -> Run:
        """Run code cells ({"id", "source"}) in order. Whatever they do, there is a `Run`."""
        try:
            self.channel.send({"cells": list(cells)}, self.deadline)
            self._collect({cell["id"] for cell in cells})
        except ChannelError as error:
            self._give_up(error)
            if isinstance(error, Gone) and cells and not self.run.last:
                # nothing of the student's had run by then
                raise WorkersError(f"a submission's process ended before its first cell: {self.run.ended}") from error
        return self.run

    def _collect(self, expected: set[str]) -> None:
        while True:
            message = self.channel.receive(self.deadline)
            if not isinstance(message, dict):
                raise ChannelError("the process sent a message that makes no sense")
            if "ready" in message:
                return
            if "running" in message and message["running"] in expected:
                self.run.last = message["running"]
            elif "ran" in message and message["ran"] in expected:
                expected.discard(message["ran"])
                self._keep(message)
            else:
                raise ChannelError("the process sent a message that makes no sense")

    def _keep(self, message: dict[str, Any]) -> None:
        cell, number = message["ran"], message.get("number")
        # the student's process keeps to this limit by itself, unless its code was changed
        self.run.outputs[cell] = checked(message.get("outputs"), self._room)
        self._room -= sum(map(size, self.run.outputs[cell]))
        self.run.numbers[cell] = number if type(number) is int and 0 <= number < 100_000 else 0
        if message.get("stopped") is True:
            self.run.stopped.append(cell)

    def ask(self, request: dict[str, Any]) -> Any:
        """The reply to a request of `autograder.answers`, or one that says why there is none."""
        if self.run.ended:
            return {"unfit": f"could not be looked at: {self.run.ended}"}
        # the process stops a call by itself; this is for one that no longer can
        patience = 4 * self.limits.call_seconds * self.limits.patience + 30
        deadline = min(time.monotonic() + patience, self.deadline)
        self.run.last = ""
        try:
            self.channel.send(request, deadline)
            return self.channel.receive(deadline)
        except ChannelError as error:
            self._give_up(error)
            return {"unfit": f"did not come back: {self.run.ended}"}

    def _give_up(self, error: ChannelError) -> None:
        self.end()
        where = f" while the cell {self.run.last} ran" if self.run.last and isinstance(error, Gone | TooLate) else ""
        why = _reason(self.ending) if isinstance(error, Gone) and self.ending else str(error)
        self.run.ended = f"{why}{where}"

    def end(self) -> None:
        """Kill the process and all it started; nothing of it runs after this."""
        if self.ending is None:
            self.channel.close()
            self.ending = self.nursery.end(self.pid)


def _reason(ending: Ending) -> str:
    """In a student's words."""
    if ending.why:
        return ending.why
    if not os.WIFSIGNALED(ending.status):
        return f"the notebook ended its own process (exit code {os.waitstatus_to_exitcode(ending.status)})"
    number = os.WTERMSIG(ending.status)
    if number == signal.SIGXCPU:
        return "the notebook used up its processor time"
    if number == signal.SIGKILL:
        return "the notebook's process was killed, by itself or for want of memory or time"
    return f"the notebook's process crashed ({signal.Signals(number).name})"
