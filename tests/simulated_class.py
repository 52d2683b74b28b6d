"""A simulated class, handed in and graded as it would be, and what each kind of student has to lose in it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autograder import classroom, course, grading, results
from autograder.classroom import Kind
from autograder.results import Result

# a cell without end is stopped sooner than in a course, where slow machines have their time
SETTINGS = "\nc.GradeFromEvidence.cell_seconds = 10\n"


def usual(kinds: Sequence[Kind]) -> list[Kind]:
    """Of a class's kinds: whole, in part, fabricated, copied.

    Those who are mistaken differ from these by an edit, which the tests of an assignment check in the process that they
    run in; who hands in nothing, raises errors or never ends is graded in the class of the course lab, whatever is
    asked.
    """
    partly = next(kind for kind in kinds if kind.stops_after)
    forged = next(kind for kind in kinds if kind.forge)
    copied = next(kind for kind in kinds if kind.copies)
    return [kinds[0], partly, forged, copied]


def graded(root: Path, lab: str, kinds: Sequence[Kind]) -> dict[str, Result]:
    """One student of each kind, really trained, really graded: {kind: result}.

    Graded in this process: others would load torch anew, each for two students.
    """
    course.init(root, [lab])
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(SETTINGS)
    course.release(root, lab)
    these = replace(classroom.class_of(lab), kinds=tuple(kinds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classroom, "class_of", lambda _: these)
        students = classroom.simulate(root, lab, len(kinds), progress=False)
    grading.grade(root, lab, jobs=1, progress=False)
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
