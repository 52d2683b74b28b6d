"""Processes that mark and write pages, each with an interpreter of its own, so that a class has every core.

    python -P -m autograder.markers DESCRIPTOR

    grading -> {"course", "assignment", "how", "limits"}
    marker  -> {"base": "..."}      which checks and versions it has
    grading -> {"mark": "ada"}
    marker  -> {}                   the result stands in results/
    grading -> {"feedback": "ada", "course", "assignment"}
    marker  -> {"page": "/..."} or {"trouble": "..."}

or, whatever was asked, {"error": "OSError: ..."}. Only names cross: what came of a submission is read from the files
that the marker wrote whole. A marker whose grading is gone ends itself and its students' processes.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from autograder import gradebook, marking, submission
from autograder.channel import Channel, ChannelError, Gone
from autograder.gradebook import GradebookError
from autograder.lean import without_grammars
from autograder.limits import Limits
from autograder.marking import Task
from autograder.results import Outputs, Result
from autograder.workers import Nursery, open_workers

PATIENCE = 10.0  # seconds that an idle marker may take to end
OPENING = 0.1  # seconds to wait for a warm parent that loads torch still: no student is in it, and it ends with us
STOPPED = "the grading was stopped"

Marked = tuple[Result, Outputs, bool]  # the last one: was it there already?


class MarkerError(Exception):
    """A submission could not be marked, through no fault of its own."""


class Coming(Protocol):
    """A submission on its way to a result."""

    def result(self) -> Marked:
        """Its result, waiting for it where that takes time; raises what went wrong."""


class Markers(Protocol):
    """Whatever marks submissions, asked by several threads at once."""

    def mark(self, student: str) -> tuple[Result, Outputs]:
        """Mark what a student handed in, and store it."""

    def close(self) -> None:
        """End every process of it, at once."""


def stored(task: Task, instead: Sequence[Task], student: str) -> tuple[Result, Outputs] | None:
    """What stands in results/ of this very submission, by this task or by one that is as good; `SubmissionError` where
    there is nothing that could be graded."""
    submission.check_name(student)
    folder = task.submitted(student)
    found = (marking.stored_result(known, student, folder) for known in (*instead, task))
    return next((one for one in found if one is not None), None)


def open_markers(task: Task, jobs: int) -> Markers:
    """What marks `jobs` submissions at the same time: this process, or as many others."""
    return Apart(task) if jobs > 1 else Here(task)


class Warm:
    """The warm parent, started when the first notebook is to be run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nursery: Nursery | None = None
        self._closed = False

    def __call__(self) -> Nursery:
        with self._lock:
            if self._closed:
                raise MarkerError(STOPPED)
            self._nursery = self._nursery or open_workers()
            return self._nursery

    def close(self, patience: float = -1) -> None:
        """End it. While it is being opened, wait for `patience` seconds, by default to the end of that."""
        self._closed = True
        if self._lock.acquire(timeout=patience):
            try:
                if self._nursery is not None:
                    self._nursery.close()
            finally:
                self._lock.release()


class Here:
    """This process marks, one submission after the other."""

    def __init__(self, task: Task) -> None:
        self.task, self._warm = task, Warm()

    def mark(self, student: str) -> tuple[Result, Outputs]:
        return marking.fetch(self.task, student, self.task.submitted(student), self._warm, force=True)

    def close(self) -> None:
        self._warm.close()


class Processes:
    """As many processes as are asked at the same time; each is used again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._all: list[_Process] = []
        self._closed = False

    @contextlib.contextmanager
    def taken(self) -> "Iterator[_Process]":
        """A process for as long as it takes; one that is gone is not given to the next."""
        with self._lock:
            if self._closed:
                raise MarkerError(STOPPED)
            if not self._idle:
                self._idle.append(_Process())
                self._all.append(self._idle[-1])
            process = self._idle.pop()
        try:
            yield process
        finally:
            with self._lock:
                if process.alive:
                    self._idle.append(process)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._all:
                process.end()
            for process in self._all:
                process.wait()


class Apart(Processes):
    """Other processes mark."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task
        self._begun: set[_Process] = set()

    def mark(self, student: str) -> tuple[Result, Outputs]:
        with self.taken() as process:
            self._begin(process)
            process.ask({"mark": student})
        stored = marking.stored_result(self._task, student, self._task.submitted(student))
        if stored is None:
            raise MarkerError("its files changed while it was marked")
        return stored

    def _begin(self, process: "_Process") -> None:
        if process in self._begun:
            return
        task = self._task
        order = {"course": str(task.course), "assignment": task.assignment, "how": task.how}
        if process.ask({**order, "limits": task.limits.to_json()})["base"] != task.base:
            raise MarkerError("the release, the checks or the grader changed while it graded: grade again")
        self._begun.add(process)


class Pages(Processes):
    """Other processes write nbgrader's pages of feedback."""

    def feedback(self, course: Path, assignment: str, student: str) -> Path:
        """One student's page; `GradebookError` where nbgrader could not write it."""
        with self.taken() as process:
            reply = process.ask({"feedback": student, "course": str(course), "assignment": assignment})
        if "trouble" in reply:
            raise GradebookError(reply["trouble"])
        return Path(reply["page"])


class _Process:
    """The grading's side of one process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "autograder.markers", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables()},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt is for the grading, which ends its markers
            )
        self._channel, self.alive = Channel(ours), True

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let it do what is asked; `MarkerError` when it could not."""
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


def variables() -> dict[str, str]:
    """With the modules that the grading has found, a course's own among them; replays are many small products, where a
    second thread waits more than it computes."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}


# The marker's side


def main(descriptor: str) -> None:
    without_grammars()
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
    warm.close(OPENING)
    os._exit(1)


def _serve(control: Channel, warm: Warm) -> None:
    task: Task | None = None
    while True:
        order = control.receive()
        reply: dict[str, Any] = {}
        try:
            if "feedback" in order:
                reply = _page(Path(order["course"]), order["assignment"], order["feedback"])
            elif "mark" in order and task is not None:
                student = order["mark"]
                marking.fetch(task, student, task.submitted(student), warm, force=True)
            else:
                course = Path(order["course"])
                gradebook.settings(course)  # it may register questions of its own
                limits = Limits.from_json(order["limits"])
                task = marking.prepare(course, order["assignment"], limits).graded_by(order["how"])
                reply = {"base": task.base}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        control.send(reply)


def _page(course: Path, assignment: str, student: str) -> dict[str, str]:
    try:
        return {"page": str(gradebook.feedback(course, assignment, student))}
    except GradebookError as error:
        return {"trouble": str(error)}


if __name__ == "__main__":
    main(sys.argv[1])
