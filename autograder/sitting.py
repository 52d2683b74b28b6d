"""A notebook at the grader's desk: run in a process of its own, and in another one where it ended the first.

A cell that ends its process (os._exit, a crash, a limit that it would not heed) is left out the next time, and so is
a function that did: what the student did right elsewhere still counts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autograder.limits import Limits
from autograder.workers import Ending, Nursery, Student

MOST_PROCESSES = 3


class Sitting:
    """`run` holds what the cells did in the first process that got through them, or in the last one there was."""

    def __init__(
        self, nursery: Nursery, new_place: Callable[[], Path], cells: Sequence[dict[str, str]], limits: Limits
    ) -> None:
        self._nursery, self._new_place, self._limits = nursery, new_place, limits
        self._cells = list(cells)
        self._left = MOST_PROCESSES
        self._stuck: set[str] = set()  # functions that ended the process or did not come back
        self.left_out: dict[str, str] = {}  # cells that ended the process, and how
        self.endings: list[Ending] = []
        self.walls: tuple[str, ...] = ()  # around the process
        self._process: Student | None = None
        self.place = self._sit_down()
        self.run = self._running.run
        self.ended = self.run.ended  # why not all cells had their turn; empty when they had

    def __enter__(self) -> "Sitting":
        return self

    def __exit__(self, *_: object) -> None:
        self._stand_up()

    @property
    def _running(self) -> Student:
        assert self._process is not None
        return self._process

    def _sit_down(self) -> Path:
        """Run the cells, without those that ended a process before; the place of the process."""
        while True:
            self._left -= 1
            place = self._new_place()
            self._process = Student(self._nursery, place, self._limits)
            self.walls = self._process.walls
            run = self._process.run_cells([cell for cell in self._cells if cell["id"] not in self.left_out])
            if not run.ended or not run.last or self._left <= 0:
                return place
            self.left_out[run.last] = run.ended
            self._stand_up()

    def _stand_up(self) -> None:
        self._running.end()
        if self._running.ending is not None:
            self.endings.append(self._running.ending)

    def ask(self, request: dict[str, Any]) -> Any:
        """The reply to a request of `autograder.answers`, or one that says why there is none."""
        function = str(request.get("function", ""))
        if function in self._stuck:
            return {"unfit": "was not called again: it did not come back before"}
        if self._running.run.ended and self._left > 0 and self._stuck:
            self._stand_up()
            self._sit_down()
        before = self._running.run.ended
        reply = self._running.ask(request)
        if function and (self._running.run.ended != before or _was_stopped(reply)):
            self._stuck.add(function)
        return reply


def _was_stopped(reply: Any) -> bool:
    return isinstance(reply, dict) and "stopped" in reply
