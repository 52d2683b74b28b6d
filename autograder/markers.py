"""Processes that mark, each with an interpreter of its own, so that a class is marked on every core.

    python -P -m autograder.markers DESCRIPTOR

    grading -> {"course", "assignment", "how", "limits"}
    marker  -> {"base": "..."}      which checks and versions it has; or {"error": "..."}
    grading -> {"mark": "ada"}
    marker  -> {}                   the result stands in results/; or {"error": "OSError: ..."}

Only names cross: what came of a submission is read from the files that the marker wrote whole. A marker whose grading
is gone ends itself and its students' processes.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from autograder import marking
from autograder.channel import Channel, ChannelError, Gone
from autograder.limits import Limits
from autograder.marking import Task
from autograder.results import Outputs, Result
from autograder.workers import Nursery, open_workers

PATIENCE = 10.0  # seconds that an idle marker may take to end


class MarkerError(Exception):
    """A submission could not be marked, through no fault of its own."""


class Markers(Protocol):
    """Whatever marks submissions, asked by several threads at once."""

    def mark(self, student: str) -> tuple[Result, Outputs]:
        """Mark what a student handed in, and store it."""

    def close(self) -> None:
        """End every process of it, at once."""


def open_markers(task: Task, jobs: int) -> Markers:
    """What marks `jobs` submissions at the same time: this process, or as many others."""
    return Apart(task) if jobs > 1 else Here(task)


class Warm:
    """The warm parent, started when the first notebook is to be run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nursery: Nursery | None = None

    def __call__(self) -> Nursery:
        with self._lock:
            self._nursery = self._nursery or open_workers()
            return self._nursery

    def close(self) -> None:
        with self._lock:
            if self._nursery is not None:
                self._nursery.close()


class Here:
    """This process marks, one submission after the other."""

    def __init__(self, task: Task) -> None:
        self._task, self._warm = task, Warm()

    def mark(self, student: str) -> tuple[Result, Outputs]:
        return marking.fetch(self._task, student, self._task.submitted(student), self._warm, force=True)

    def close(self) -> None:
        self._warm.close()


class Apart:
    """Processes that mark; as many as are asked at the same time."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._idle: list[_Marker] = []
        self._all: list[_Marker] = []
        self._closed = False

    def mark(self, student: str) -> tuple[Result, Outputs]:
        with self._taken() as marker:
            marker.ask({"mark": student})
        stored = marking.stored_result(self._task, student, self._task.submitted(student))
        if stored is None:
            raise MarkerError("its files changed while it was marked")
        return stored

    @contextlib.contextmanager
    def _taken(self) -> "Iterator[_Marker]":
        """A marker for as long as it takes; one that is gone is not given to the next submission."""
        with self._lock:
            if self._closed:
                raise MarkerError("the grading was stopped")
            if not self._idle:
                self._idle.append(_Marker(self._task))
                self._all.append(self._idle[-1])
            marker = self._idle.pop()
        try:
            yield marker
        finally:
            with self._lock:
                if marker.alive:
                    self._idle.append(marker)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for marker in self._all:
                marker.end()
            for marker in self._all:
                marker.wait()


class _Marker:
    """The grading's side of one process."""

    def __init__(self, task: Task) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "autograder.markers", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt is for the grading, which ends its markers
            )
        self._channel, self._task, self.alive, self._ready = Channel(ours), task, True, False

    def ask(self, request: dict[str, Any]) -> None:
        """Let it do what is asked; `MarkerError` when it could not."""
        if not self._ready:
            self._begin()
        self._send(request)

    def _begin(self) -> None:
        task = self._task
        order = {"course": str(task.course), "assignment": task.assignment, "how": task.how}
        if self._send({**order, "limits": task.limits.to_json()}).get("base") != task.base:
            raise MarkerError("the release, the checks or the grader changed while it graded: grade again")
        self._ready = True

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._channel.send(request)
            reply: dict[str, Any] = self._channel.receive()
        except ChannelError as error:
            self.alive = False
            raise MarkerError("the process that marked it was ended, by somebody or for want of memory") from error
        if "error" in reply:
            raise MarkerError(f"the grader stopped with {reply['error']}")
        return reply

    def end(self) -> None:
        self.alive = False
        with contextlib.suppress(OSError):  # also while a thread waits for its reply
            self._channel.end.shutdown(socket.SHUT_RDWR)
        self._channel.close()

    def wait(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """With the modules that the grading has found, a course's own among them; replays are many small products, where a
    second thread waits more than it computes."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}


# The marker's side


def main(descriptor: str) -> None:
    control, warm = Channel(socket.socket(fileno=int(descriptor))), Warm()
    threading.Thread(target=_end_with, args=(control.end.fileno(), warm), daemon=True).start()
    with contextlib.suppress(Gone):
        _serve(control, warm)
    warm.close()


def _end_with(grading: int, warm: Warm) -> None:
    """Wait until the grading hung up, and leave then, whatever is under way: it is marked again."""
    poll = select.poll()
    poll.register(grading, 0)  # hanging up is told without being asked for
    poll.poll()
    warm.close()
    os._exit(1)


def _serve(control: Channel, warm: Warm) -> None:
    from autograder import gradebook

    task: Task | None = None
    while True:
        order = control.receive()
        reply: dict[str, Any] = {}
        try:
            if task is None:
                course = Path(order["course"])
                gradebook.settings(course)  # it may register questions of its own
                limits = Limits.from_json(order["limits"])
                task = marking.prepare(course, order["assignment"], limits).graded_by(order["how"])
                reply = {"base": task.base}
            else:
                student = order["mark"]
                marking.fetch(task, student, task.submitted(student), warm, force=True)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        control.send(reply)


if __name__ == "__main__":
    main(sys.argv[1])
