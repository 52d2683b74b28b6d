"""A simulated class, handed in and graded as it would be, and what each kind of student has to lose in it."""

from collections.abc import Sequence
from pathlib import Path

from autograder import course, grading, results
from autograder.classroom import Kind, simulate
from autograder.results import Result

# Of a class's kinds: whole, in part, mistaken, empty, an error, a loop without end, fabricated, copied. The others
# differ from these by an edit, which the tests of an assignment check in the process that they run in.
USUAL = 8


def graded(root: Path, lab: str, kinds: Sequence[Kind]) -> dict[str, Result]:
    """One student of each kind, really trained, really graded: {kind: result}."""
    course.init(root, [lab])
    course.release(root, lab)
    students = simulate(root, lab, len(kinds), progress=False)
    grading.grade(root, lab, progress=False)
    return {student.kind.name: results.load(root, lab, student.id) for student in students}


def reasons(result: Result) -> dict[str, list[str]]:
    """What a student is told about each question, of the checks that were not passed."""
    return {
        question.name: [
            f"{verdict.found} {verdict.help}" for verdict in question.verdicts if verdict.outcome != "passed"
        ]
        for question in result.questions.values()
    }


def assert_loses(result: Result, kind: Kind) -> None:
    """Its own points and no others, and it is said why."""
    assert result.status == "graded", result.reason
    lost = {question.name: question.of - question.points for question in result.questions.values()}
    told = reasons(result)
    assert {name: points for name, points in lost.items() if points} == dict(kind.loses), told
    assert any(kind.says in reason for given in told.values() for reason in given) or not kind.says, told
