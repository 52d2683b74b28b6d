"""What grading will say of a notebook, before it is handed in: `autograder check NOTEBOOK`.

The notebook is marked as a grader marks it: run in a process of its own, beside the recordings in its folder, examined
by the same checks. Only the inputs that the checks draw are others, and nobody's gradebook is written.
"""

import ast
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from autograder import answers, marking, mending, questionnaire, readiness, results, scratch, showing, submission
from autograder.answers import AnswerError
from autograder.limits import Limits
from autograder.markers import Warm
from autograder.marking import How, Task
from autograder.mending import MendingError, Notebook
from autograder.readiness import Asked, Readiness
from autograder.results import Outputs, Result
from autograder.selfcheck import STUDENT, saved_at
from autograder.submission import SubmissionError

PUBLIC = b"anybody may know it: the grader's own secret is another"


class RehearsalError(Exception):
    """What cannot be checked at all; one sentence with what to do."""


@dataclass(frozen=True)
class Rehearsal:
    """What the grader will see of a notebook as it lies there now."""

    result: Result
    readiness: Readiness

    @property
    def complete(self) -> bool:
        """Does every check hold, is every answer written, is every file there?"""
        return self.result.status == "graded" and self.readiness.complete


def rehearse(notebook: Path, how: How = "run") -> Rehearsal:
    """Mark a notebook with the files beside it; `RehearsalError` says what is no notebook of a known assignment."""
    try:
        found = mending.read(notebook.read_bytes())
    except OSError as error:
        raise RehearsalError(f"{notebook} cannot be read ({error.strerror}): name the notebook of your lab") from error
    except MendingError as error:
        raise RehearsalError(f"{notebook} cannot be graded: {error}") from error
    assignment, student = _assignment(notebook, found), _student(found)
    with scratch.folder() as course, contextlib.closing(Warm()) as warm, _named(notebook, assignment) as folder:
        task = _task(Path(course), assignment, found).graded_by(how)
        result, outputs = marking.mark(task, student, folder, warm)
        said = dict(_said(Path(course), result))
    return Rehearsal(result, _readiness(notebook, found, result, outputs, said))


def lines(found: Rehearsal) -> Iterator[str]:
    """What a student reads: all of it in one sentence, then what is complete, missing and wrong."""
    yield showing.readiness_text(found.readiness)


def _said(course: Path, result: Result) -> Iterator[tuple[str, Any]]:
    """The notebook's variables, as the checks saw them: replies by name, those that hold a plain value."""
    kept = results.load_evidence(course, result)
    asked = chain.from_iterable(kept.exchanges.values()) if kept else ()
    for exchange in (one for one in asked if one.request["do"] == "value"):
        with contextlib.suppress(AnswerError, KeyError, TypeError):
            reply = answers.from_bytes(exchange.reply.encode())
            answers.decode(reply["value"])
            yield exchange.request["name"], reply


def _readiness(notebook: Path, found: Notebook, result: Result, outputs: Outputs, said: Mapping[str, Any]) -> Readiness:
    folder, student = notebook.absolute().parent, _student(found)
    asked = tuple(Asked(q.title, q.of, q.verdicts, q.points, q.note) for q in result.questions.values())
    reasons = [result.reason] if result.status == "refused" else []
    return Readiness(
        assignment=result.assignment,
        student=student,
        asked=asked,
        texts=tuple(readiness.texts(found)),
        files=tuple(readiness.files(result.assignment, student, folder, found, said)),
        blanks=tuple(readiness.blanks(found)),
        remarks=(*_misnamed(notebook, result.assignment), *reasons, *readiness.deleted(result.assignment, found)),
        stopped=tuple(readiness.raised(outputs.cells, found)),
        looked_at=f"{notebook.name} as it was saved {saved_at(notebook)}, and the files beside it",
        mended=(*result.remarks, *([result.reason] if result.status == "person" else [])),
    )


def _assignment(notebook: Path, found: Notebook) -> str:
    """The assignment whose questions the notebook asks, whatever its file is called."""
    best = readiness.assignment_of(found)
    if not best:
        known = ", ".join(questionnaire.assignments())
        raise RehearsalError(f"{notebook} asks no question of a known assignment; there are: {known}")
    return best


@contextlib.contextmanager
def _named(notebook: Path, assignment: str) -> Iterator[Path]:
    """The folder in which the notebook lies under the name that it is handed in by: its own, or a copy."""
    folder = notebook.absolute().parent
    if notebook.name == f"{assignment}.ipynb":
        yield folder
        return
    try:
        around = submission.find(folder, "", assignment)
    except SubmissionError as error:
        raise RehearsalError(
            f"{notebook.name} is the notebook of {assignment}: call it {assignment}.ipynb, and put it into a folder "
            "of its own, with its recordings"
        ) from error
    others = tuple(name for name in around.files if not name.lower().endswith(".ipynb"))
    with scratch.folder() as copied:
        replace(around, files=others).copy(Path(copied))
        (Path(copied) / f"{assignment}.ipynb").write_bytes(notebook.read_bytes())
        yield Path(copied)


def _misnamed(notebook: Path, assignment: str) -> Iterator[str]:
    wanted = f"{assignment}.ipynb"
    if notebook.name == wanted:
        return
    if (notebook.absolute().parent / wanted).exists():
        yield f"{notebook.name} would not be graded, for {wanted} lies beside it: keep the right one, as {wanted}"
    else:
        yield f"{notebook.name} has to be handed in as {wanted}: rename it"


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
