"""What a page of feedback says while answers still wait for a person, where nbgrader writes 0.0 or the sum so far, and
what it calls each answer, where nbgrader writes "Test cell" or "Written response" of all of them.

A step of the pages that `GenerateFeedback` makes, in the place of nbgrader's GetGrades. It reads the gradebook and
writes nothing to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.ext import Extension
from jinja2.filters import do_float
from nbgrader.preprocessors import GetGrades

from autograder import marking, questionnaire
from labkit.counts import counted

GRADE_CELL = "Grade cell: <code>{{ cell.metadata.nbgrader.grade_id }}</code>"
# in the list at the top, and at the cell itself
NAMELESS = ("Test cell</a>", "Coding free-response</a>", "Written response</a>", GRADE_CELL)


@dataclass(frozen=True)
class InWords:
    """A number of points that stands on the page as words. The template says `| float | round(2)` of all points."""

    points: float
    words: str  # our own: the page escapes nothing of them

    def __float__(self) -> float:
        return self.points

    def __round__(self, digits: int = 0) -> str:
        return self.words


class Named(Extension):
    """nbgrader's template, in which a cell that has a name is called by it; the words of others stay nbgrader's."""

    def preprocess(self, source: str, *_: Any, **__: Any) -> str:
        for words in NAMELESS:
            source = source.replace(words, _by_name(words))
        return source


def _by_name(words: str) -> str:
    of_cell, end = "cell.metadata.nbgrader.named", "</a>" if words.endswith("</a>") else ""
    return f"{{% if {of_cell} %}}{{{{ {of_cell} | e }}}}{end}{{% else %}}{words}{{% endif %}}"


class GetGradesSoFar(GetGrades):  # type: ignore[misc]
    """nbgrader's own step, but for what is not marked yet, for the sum of all points, and for the names."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        self.waiting: set[str] = set()
        self.names = names(Path(self.parent.parent.coursedir.root), resources["nbgrader"]["assignment"])
        # the exporter's own: no other page knows of them
        self.parent.register_filter("float", _float)
        self.parent.environment.add_extension(Named)
        nb, resources = super().preprocess(nb, resources)
        if self.waiting:
            points = resources["nbgrader"]
            points["score"] = _so_far(points["score"])
            points["max_score"] = InWords(points["max_score"], _not_final(points["max_score"], len(self.waiting)))
        return nb, resources

    def _get_score(self, cell: Any, resources: Any) -> None:
        super()._get_score(cell, resources)
        about = cell.metadata.nbgrader
        about["named"] = self.names.get(about["grade_id"], "")
        grade = self.gradebook.find_grade(about["grade_id"], self.notebook_id, self.assignment_id, self.student_id)
        nobody = grade.manual_score is None and grade.auto_score is None
        if nobody or grade.needs_manual_grade:
            self.waiting.add(about["grade_id"])
            about["score"] = InWords(0.0, "not marked yet") if nobody else _so_far(grade.score)


def names(course: Path, assignment: str) -> dict[str, str]:
    """What each answer is called, by the grade id of the cell that has its points."""
    texts = marking.named_texts(course, assignment)
    if assignment not in questionnaire.assignments():  # its tests are its own
        return texts
    return {**texts, **{f"test_{name}": asked.title for name, asked in questionnaire.of(assignment).items()}}


def _float(value: Any, default: float = 0.0) -> float | InWords:
    """Jinja's filter, which leaves alone what stands there as words."""
    return value if isinstance(value, InWords) else do_float(value, default)


def _so_far(points: float) -> InWords:
    return InWords(float(points), f"{round(float(points), 2)} so far")


def _not_final(points: float, waiting: int) -> str:
    be = "is" if waiting == 1 else "are"
    return f"{round(float(points), 2)}; not final, {counted(waiting, 'answer')} {be} still to be marked"
