"""Where a question is found by its name: the modules of autograder/questions, and what a course registers."""

import difflib
import math
import pkgutil
from collections.abc import Mapping
from importlib import import_module

from autograder import questions
from autograder.authenticity import Asked
from autograder.checks import Question
from autograder.mapping import AskedMap

SHARED = "shared"  # the module of what they have in common

_REGISTERED: dict[str, Mapping[str, Question]] = {}


class QuestionnaireError(LookupError):
    """There are no such questions, or they give other points; the message says which there are."""


def register(assignment: str, asked: Mapping[str, Question]) -> None:
    """Make questions known that stand elsewhere: a course of its own does it in its nbgrader_config.py."""
    _REGISTERED[assignment] = asked


def assignments() -> list[str]:
    """Every assignment that has questions."""
    found = {module.name for module in pkgutil.iter_modules(questions.__path__)} - {SHARED}
    return sorted(found | set(_REGISTERED))


def of(assignment: str) -> Mapping[str, Question]:
    """The questions of one assignment, by name."""
    if assignment in _REGISTERED:
        return _REGISTERED[assignment]
    if assignment not in assignments():
        known = ", ".join(assignments()) or "none"
        raise QuestionnaireError(f"no questions are known for the assignment {assignment!r}: choose from {known}")
    found: Mapping[str, Question] = import_module(f"{questions.__name__}.{assignment}").QUESTIONS
    return found


def behind(assignment: str, points: Mapping[str, float]) -> dict[str, Question]:
    """The question behind each test cell; a test cell and its checks agree on the points."""
    known = of(assignment)
    found = {}
    for name, cell in points.items():
        question = known.get(name.removeprefix("test_"))
        if question is None:
            choice = ", ".join(sorted(known))
            raise QuestionnaireError(f"the test cell {name} asks no known question: choose from {choice}")
        if not math.isclose(question.points, cell, abs_tol=1e-9):
            raise QuestionnaireError(
                f"the test cell {name} has {cell:g} point{'s' * (cell != 1)}, its checks have {question.points:g}: "
                f"change points= in {assignment}.py or the checks' points in {_where(assignment)} so that they agree"
            )
        found[name] = question
    return found


def _where(assignment: str) -> str:
    registered = assignment in _REGISTERED
    return "the questions that the course registers" if registered else f"autograder/questions/{assignment}.py"


def recordings(assignment: str, student: str) -> Mapping[str, Asked]:
    """The recordings that a student hands in, by name, and which runs they have to be; none where nobody says."""
    if assignment in _REGISTERED:
        return {}
    of(assignment)
    asked = getattr(import_module(f"{questions.__name__}.{assignment}"), "recordings", None)
    found: Mapping[str, Asked] = {} if asked is None else asked(student)
    return found


def maps(assignment: str, student: str) -> Mapping[str, AskedMap]:
    """The maps that a student hands in, by name, and which they have to be; none where nobody says."""
    if assignment in _REGISTERED:
        return {}
    of(assignment)
    asked = getattr(import_module(f"{questions.__name__}.{assignment}"), "asked_maps", None)
    found: Mapping[str, AskedMap] = {} if asked is None else asked(student)
    return found


def find(name: str) -> Question:
    """The question of that name, whichever assignment asks it."""
    if not isinstance(name, str):
        raise QuestionnaireError(
            'a question is named by a text: put its name in quotation marks, as in check("chance")'
        )
    if name.endswith(".ipynb"):
        raise QuestionnaireError(
            f"{name!r} is a notebook and no question: check() without a name says how far the open one is, and "
            "autograder check NOTEBOOK in a terminal how far any saved one is"
        )
    asked = {assignment: of(assignment) for assignment in assignments()}
    found = [assignment for assignment, known in asked.items() if name in known]
    if not found:
        known = sorted({question for questions in asked.values() for question in questions})
        # all labs together have too many to read
        near = difflib.get_close_matches(name, known, n=3)
        choice = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(known) or 'none'}."
        raise QuestionnaireError(
            f"there is no question {name!r} in autograder: {choice} A question of a course's own is checked when it is "
            "graded, not in the notebook."
        )
    if len(found) > 1:
        raise QuestionnaireError(f"the question {name!r} is asked by {' and by '.join(found)}: give one another name")
    return asked[found[0]][name]
