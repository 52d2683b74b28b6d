"""What a page of feedback says while answers still wait for a person, where nbgrader writes 0.0 or the sum so far.

A step of the pages that `GenerateFeedback` makes, in the place of nbgrader's GetGrades. It reads the gradebook and
writes nothing to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2.filters import do_float
from nbgrader.preprocessors import GetGrades

from labkit.counts import counted


@dataclass(frozen=True)
class InWords:
    """A number of points that stands on the page as words. The template says `| float | round(2)` of all points."""

    points: float
    words: str  # our own: the page escapes nothing of them

    def __float__(self) -> float:
        return self.points

    def __round__(self, digits: int = 0) -> str:
        return self.words


class GetGradesSoFar(GetGrades):  # type: ignore[misc]
    """nbgrader's own step, but for what is not marked yet and for the sum of all points."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        self.waiting: set[str] = set()
        # the exporter's own: no other page knows of it
        self.parent.register_filter("float", _float)
        nb, resources = super().preprocess(nb, resources)
        if self.waiting:
            points = resources["nbgrader"]
            points["score"] = _so_far(points["score"])
            points["max_score"] = InWords(points["max_score"], _not_final(points["max_score"], len(self.waiting)))
        return nb, resources

    def _get_score(self, cell: Any, resources: Any) -> None:
        super()._get_score(cell, resources)
        about = cell.metadata.nbgrader
        grade = self.gradebook.find_grade(about["grade_id"], self.notebook_id, self.assignment_id, self.student_id)
        nobody = grade.manual_score is None and grade.auto_score is None
        if nobody or grade.needs_manual_grade:
            self.waiting.add(about["grade_id"])
            about["score"] = InWords(0.0, "not marked yet") if nobody else _so_far(grade.score)


def _float(value: Any, default: float = 0.0) -> float | InWords:
    """Jinja's filter, which leaves alone what stands there as words."""
    return value if isinstance(value, InWords) else do_float(value, default)


def _so_far(points: float) -> InWords:
    return InWords(float(points), f"{round(float(points), 2)} so far")


def _not_final(points: float, waiting: int) -> str:
    be = "is" if waiting == 1 else "are"
    return f"{round(float(points), 2)}; not final, {counted(waiting, 'answer')} {be} still to be marked"
