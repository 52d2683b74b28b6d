"""The program that a task of a job array runs: `python -P -m autograder.node RUN K`. It marks its chunk of students.

One submission after the other, as a local grading does it, each result in its files. The gradebook is never opened
here: the command that submitted the job writes it. The program may be started twice, also at once, and may be killed
anywhere.
"""

import contextlib
import os
import platform
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from autograder import chunks, gradebook, markers, marking, scratch
from autograder.chunks import Array, Order, Process, RunFolder
from autograder.limits import Limits
from autograder.markers import Here
from autograder.marking import Task

# what Slurm sends before a time limit, and when it cancels or takes a node away
ENDINGS = (signal.SIGUSR2, signal.SIGTERM)
MOST_ERRORS = 3  # one after the other: then the node is at fault, and another one may have more luck
WAIT = 1.0  # seconds between two looks at what another process marks


def main(path: str, number: str) -> None:
    """Mark the students of this task; ends with one sentence where that cannot be."""
    run, index = RunFolder(Path(path)), int(os.environ["SLURM_ARRAY_TASK_ID"])
    order, array = run.order(), run.array(int(number))
    if order is None or array is None:
        sys.exit(f"{path} is no run of this version of the autograder: grade again")
    for one in ENDINGS:
        signal.signal(one, _end)
    scratch.clear()
    work(run, order, array, index)


def work(run: RunFolder, order: Order, array: Array, index: int) -> None:
    """The same in any process."""
    marks = Here(_task(run, order))
    try:
        _Chunk(run, order, marks, array, index).mark_all(array.chunks[index])
    finally:
        marks.close()


def _end(number: int, _frame: object) -> None:
    for one in ENDINGS:  # a second signal must not end the ending
        signal.signal(one, signal.SIG_IGN)
    sys.exit(f"ended by {signal.Signals(number).name}: what is not marked is marked by another job")


def _task(run: RunFolder, order: Order) -> Task:
    gradebook.settings(run.course)  # it may register questions of its own
    task = marking.prepare(run.course, order.assignment, Limits.from_json(dict(order.limits))).graded_by(order.how)
    if task.base != order.base:
        sys.exit(
            f"the grader on {platform.node()} is not the one that submitted the job: its code, its libraries or the "
            "release differ; grade from the environment that the profile's python and command stand for"
        )
    return task


class _Chunk:
    """One process at the students of one task."""

    def __init__(self, run: RunFolder, order: Order, marks: Here, array: Array, index: int) -> None:
        self._run, self._order, self._marks = run, order, marks
        self._said = Process(array.number, index, platform.node())
        self._file = f"{array.number}-{index}-{secrets.token_hex(4)}.json"
        self._errors_in_a_row = 0
        self._say()

    def mark_all(self, students: tuple[str, ...]) -> None:
        todo = deque(self._in_order(students))
        waited_for = 0
        while todo:
            student = todo.popleft()
            if self._mark(student):
                waited_for = 0
                continue
            todo.append(student)
            waited_for += 1
            if waited_for >= len(todo):
                time.sleep(WAIT)

    def _in_order(self, students: tuple[str, ...]) -> Iterator[str]:
        """Those at which other processes ended come last, and not at all after so many."""
        ended_at = chunks.struck(self._run.processes())
        yield from (one for one in students if not ended_at[one])
        yield from (one for one in students if 0 < ended_at[one] < chunks.TRIES)

    def _mark(self, student: str) -> bool:
        """Is it settled? False while another process marks it."""
        if self._run.is_done(student):
            return True
        with self._run.claimed(student) as free:
            if free and not self._run.is_done(student):
                self._marked(student)
            return free

    def _marked(self, student: str) -> None:
        self._say(doing=student)
        try:
            if not self._order.force and self._is_there(student):
                self._say(found=(*self._said.found, student))
            else:
                self._marks.mark(student)
                self._say(marked=(*self._said.marked, student))
            self._run.note_done(student)
            self._errors_in_a_row = 0
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            print(f"{student} could not be marked: {why}")
            self._say(errors={**self._said.errors, student: why})
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= MOST_ERRORS:
                sys.exit(f"the grader stopped with {why}")
        self._say(doing="")

    def _is_there(self, student: str) -> bool:
        """A process that was killed may have stored it, and not have said so."""
        return markers.stored(self._marks.task, (), student) is not None

    def _say(self, **news: object) -> None:
        self._said = replace(self._said, **news)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):  # a full disk, or a run that is over: the next step says so
            self._run.note(self._said, self._file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
