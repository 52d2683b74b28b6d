"""check, Failed, Verdict, run: what a check is and how checks are run.

Knows no gradient, no torch, no nbgrader. A check is a function of the evidence; its docstring is the sentence that
the student reads; it fails by raising `Failed`. Whatever else it raises is the grader's own fault.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped", "broken", "unexecuted"]
OPEN: tuple[Outcome, ...] = ("broken", "unexecuted")  # nothing is known yet: no marks are given, and none are lost


class Failed(Exception):
    """The student's answer does not hold: what was found and expected, and where to look."""

    def __init__(self, found: str, help: str = "") -> None:
        super().__init__(found)
        self.found, self.help = found, help


class Missing(Failed):
    """What the check looks at is not there: no recording, no function, no value."""


class NeedsExecution(Exception):
    """The check looks at what only the student's code can tell, and that is not run."""


@dataclass(frozen=True)
class Check:
    """One condition of a question."""

    name: str
    points: float
    sentence: str  # what holds when it passes, in the student's words
    examine: Callable[[Any], None]
    needs: tuple[str, ...] = ()  # names of checks of the same question that must pass before


@dataclass(frozen=True)
class Verdict:
    """What came of one check. `broken` goes to the staff, `unexecuted` waits for a grading that runs the notebook."""

    check: str
    outcome: Outcome
    points: float  # earned
    of: float  # to be earned
    sentence: str
    found: str = ""  # what was found and what was expected
    help: str = ""  # where to look
    trace: str = ""  # for the staff, when the check itself broke
    missing: bool = False  # there is nothing to look at yet


@dataclass(frozen=True)
class Question:
    """The checks behind one test cell."""

    name: str
    title: str
    checks: tuple[Check, ...]

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)


def check(points: float, needs: "Sequence[Check | str]" = ()) -> Callable[[Callable[[Any], None]], Check]:
    """Make a check of a function. `needs` names checks that must have passed before this one is worth looking at."""
    if not (0 <= points < math.inf):
        raise ValueError(f"a check has {points} points: give a number of 0 or more")

    def make(examine: Callable[[Any], None]) -> Check:
        sentence = " ".join((examine.__doc__ or "").split())
        if not sentence:
            raise ValueError(f"the check {examine.__name__} has no docstring: it is the sentence that students read")
        before = tuple(need if isinstance(need, str) else need.name for need in needs)
        return Check(examine.__name__, points, sentence, examine, before)

    return make


def run(question: Question, evidence: Any) -> list[Verdict]:
    """Examine every check of a question; one verdict each, in order. Never raises for what a submission holds."""
    verdicts: dict[str, Verdict] = {}
    for one in question.checks:
        blocked = next((need for need in one.needs if verdicts[need].outcome != "passed"), None)
        verdicts[one.name] = _skipped(one, verdicts[blocked]) if blocked else _examine(one, evidence)
    return list(verdicts.values())


def _examine(one: Check, evidence: Any) -> Verdict:
    def verdict(outcome: Outcome, **rest: Any) -> Verdict:
        earned = one.points if outcome == "passed" else 0.0
        return Verdict(one.name, outcome, earned, one.points, one.sentence, **rest)

    try:
        one.examine(evidence)
    except Failed as failure:
        return verdict("failed", found=failure.found, help=failure.help, missing=isinstance(failure, Missing))
    except NeedsExecution:
        return verdict("unexecuted", found="the notebook was not run; only what was recorded has been looked at")
    except Exception as error:
        return verdict("broken", found=f"the check stopped with {type(error).__name__}", trace=traceback.format_exc())
    return verdict("passed")


def _skipped(one: Check, blocking: Verdict) -> Verdict:
    outcome: Outcome = blocking.outcome if blocking.outcome in OPEN else "skipped"
    found = f"not looked at, because this has to hold first: {blocking.sentence}"
    return Verdict(one.name, outcome, 0.0, one.points, one.sentence, found=found)


def earned(verdicts: Iterable[Verdict]) -> float:
    """Points of all verdicts together, finite and never more than there are to earn."""
    total = math.fsum(v.points for v in verdicts)
    if not math.isfinite(total):
        raise ValueError("a verdict has points that are not finite")
    return total


def needs_person(verdicts: Iterable[Verdict]) -> bool:
    """Did a check break, or was one not run, so that a person has to see to it?"""
    return any(v.outcome in OPEN for v in verdicts)
