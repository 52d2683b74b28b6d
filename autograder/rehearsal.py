"""What grading will say of a notebook, before it is handed in: `autograder check NOTEBOOK`.

The notebook is marked as a grader marks it: run in a process of its own, beside the recordings in its folder, examined
by the same checks. Only the inputs that the checks draw are others, and nobody's gradebook is written.
"""

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import marking, mending, questionnaire, scratch, showing
from autograder.cells import CODE_STUB
from autograder.limits import Limits
from autograder.markers import Warm
from autograder.marking import How, Task
from autograder.mending import MendingError, Notebook
from autograder.results import Result
from autograder.selfcheck import STUDENT

TEXT_STUB = "YOUR ANSWER HERE"
PUBLIC = b"anybody may know it: the grader's own secret is another"


class RehearsalError(Exception):
    """What cannot be checked at all; one sentence with what to do."""


@dataclass(frozen=True)
class Blank:
    """An answer that is still to be written."""

    cell: str  # its grade id
    points: float | None  # of an essay, which a person marks


@dataclass(frozen=True)
class Rehearsal:
    """What the grader will see of a notebook as it lies there now."""

    student: str  # the id that the notebook says; empty where it says none
    result: Result
    blanks: tuple[Blank, ...]
    texts: int  # essays, written or not

    @property
    def complete(self) -> bool:
        """Does every check hold, and is every answer written?"""
        checked = self.result.status == "graded" and self.result.score >= self.result.max_score
        return checked and not self.blanks and bool(self.student)


def rehearse(notebook: Path, how: How = "run") -> Rehearsal:
    """Mark a notebook with the files beside it; `RehearsalError` says what is no notebook of a known assignment."""
    try:
        found = mending.read(notebook.read_bytes())
    except OSError as error:
        raise RehearsalError(f"{notebook} cannot be read ({error.strerror}): name the notebook of your lab") from error
    except MendingError as error:
        raise RehearsalError(f"{notebook} cannot be graded: {error}") from error
    assignment, student = _assignment(notebook, found), _student(found)
    with scratch.folder() as course, contextlib.closing(Warm()) as warm:
        task = _task(Path(course), assignment, found).graded_by(how)
        result, _ = marking.mark(task, student, notebook.absolute().parent, warm)
    essays = [cell for cell in found["cells"] if _has(cell, "solution") and _has(cell, "grade")]
    return Rehearsal(student, result, tuple(_blanks(found)), len(essays))


def lines(found: Rehearsal) -> Iterator[str]:
    """What a student reads: every question, what is still to be written, and all of it in one sentence."""
    result = found.result
    for question in result.questions.values():
        yield showing.as_text(question.title, question.verdicts, question.of, question.note)
    yield ""
    yield from (f"! {showing.one_line(remark)}" for remark in result.remarks)
    if not found.student:
        yield f'! The notebook does not say whose it is: give the id under which you hand in, {STUDENT} = "..."'
    for blank in found.blanks:
        points = f", {showing.points(blank.points)} points" if blank.points else ""
        yield f"… still to be written: {showing.one_line(blank.cell)}{points}"
    if result.reason:
        yield f"! {showing.one_line(result.reason)}"
    written = found.texts - sum(blank.points is not None for blank in found.blanks)
    yield (
        f"{showing.points(result.score)} of {showing.points(result.max_score)} points by the checks, "
        f"{written} of {found.texts} texts are written"
        + (": it can be handed in." if found.complete else ": it is not complete.")
    )


def _assignment(notebook: Path, found: Notebook) -> str:
    """The assignment whose questions the notebook asks; it has to be handed in under that name."""
    tests = {mending.grade_id(cell).removeprefix("test_") for cell in found["cells"] if mending.is_test(cell)}
    shared = {name: len(tests & set(questionnaire.of(name))) for name in questionnaire.assignments()}
    best = max(shared, key=lambda name: shared[name], default="")
    if not best or not shared[best]:
        known = ", ".join(questionnaire.assignments())
        raise RehearsalError(f"{notebook} asks no question of a known assignment; there are: {known}")
    if notebook.name != f"{best}.ipynb":
        raise RehearsalError(f"{notebook.name} is the notebook of {best}: call it {best}.ipynb, for so it is handed in")
    return best


def _student(found: Notebook) -> str:
    """The text that the notebook's cells give the variable `student` last; empty where there is none."""
    said = [text for cell in found["cells"] if cell["cell_type"] == "code" for text in _given(cell["source"])]
    return said[-1] if said else ""


def _given(source: str) -> Iterator[str]:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for line in ast.parse(source).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))) if name == STUDENT:
                    yield text


def _task(course: Path, assignment: str, found: Notebook) -> Task:
    questions = {f"test_{name}": question for name, question in questionnaire.of(assignment).items()}
    points = {id: question.points for id, question in questions.items()}
    return Task(course, assignment, found, questions, points, Limits(), PUBLIC, "rehearsal", "rehearsal")


def _blanks(found: Notebook) -> Iterator[Blank]:
    for cell in found["cells"]:
        if not _has(cell, "solution"):
            continue
        source = cell["source"]
        if not source.strip() or CODE_STUB.splitlines()[-1] in source or source.strip() == TEXT_STUB:
            points = cell["metadata"]["nbgrader"].get("points") if _has(cell, "grade") else None
            yield Blank(mending.grade_id(cell), points)


def _has(cell: dict[str, Any], flag: str) -> bool:
    return bool(mending.grade_id(cell)) and cell["metadata"]["nbgrader"].get(flag) is True
