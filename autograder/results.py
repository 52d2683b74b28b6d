"""What came of one submission, as a file: verdicts and remarks in one, the cells' outputs in another beside it.

    <course>/results/<assignment>/<student>.json
    <course>/results/<assignment>/outputs/<student>.json

Both appear whole or not at all, the outputs first; a result whose outputs are not the ones that it names is none.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from autograder.checks import Verdict
from autograder.outputs import Output
from labkit.files import write_whole

FORMAT = 1
Status = Literal["graded", "refused", "person"]


@dataclass(frozen=True)
class QuestionResult:
    """What came of one test cell."""

    name: str
    title: str
    points: float  # earned
    of: float  # to be earned
    verdicts: tuple[Verdict, ...]
    needs_person: bool = False
    note: str = ""  # why it could not be graded, if so


@dataclass(frozen=True)
class Result:
    """What came of one submission."""

    student: str
    assignment: str
    key: str  # stands for the submission, the checks and the versions that it was graded with
    status: Status
    questions: dict[str, QuestionResult]  # by grade id of the test cell
    reason: str = ""  # why it was refused or needs a person
    remarks: tuple[str, ...] = ()  # what was mended or found odd
    ended: str = ""  # why the notebook's process ended early, if it did
    stopped: tuple[str, ...] = ()  # cells that ran into a limit
    seconds: float = 0.0  # wall time
    cpu: float = 0.0  # processor time of the student's process
    memory: int = 0  # its most memory, kilobytes
    protection: str = ""  # what the student's process was held by
    outputs: str = ""  # digest of the outputs' file
    format: int = FORMAT

    @property
    def score(self) -> float:
        return sum(question.points for question in self.questions.values())

    @property
    def max_score(self) -> float:
        return sum(question.of for question in self.questions.values())


@dataclass(frozen=True)
class Outputs:
    """What a notebook's code cells put out in the grader, by cell id."""

    cells: dict[str, list[Output]]
    numbers: dict[str, int]  # execution counts


def path_of(course: Path, assignment: str, student: str) -> Path:
    return course / "results" / assignment / f"{student}.json"


def save(course: Path, result: Result, outputs: Outputs) -> Result:
    """Write both files; the result as it now stands in its file."""
    path = path_of(course, result.assignment, result.student)
    _beside(path).parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(asdict(outputs), sort_keys=True).encode()
    result = replace(result, outputs=hashlib.sha256(content).hexdigest())
    write_whole(_beside(path), content)
    write_whole(path, json.dumps(asdict(result), indent=1).encode())
    return result


def load(course: Path, assignment: str, student: str) -> Result | None:
    """The stored result, or None when there is none that can be read."""
    try:
        values = json.loads(path_of(course, assignment, student).read_bytes())
        if values["format"] != FORMAT or values["status"] not in get_args(Status):
            return None
        questions = {id: _question(question) for id, question in values["questions"].items()}
        lists = {name: tuple(values[name]) for name in ("remarks", "stopped")}
        return Result(**{**values, **lists, "questions": questions})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def load_outputs(course: Path, result: Result) -> Outputs | None:
    """The outputs that belong to a result, or None when they are gone or others."""
    try:
        content = _beside(path_of(course, result.assignment, result.student)).read_bytes()
        if hashlib.sha256(content).hexdigest() != result.outputs:
            return None
        return Outputs(**json.loads(content))
    except (OSError, ValueError, TypeError):
        return None


def load_all(course: Path, assignment: str) -> list[Result]:
    """Every stored result of an assignment, by student; for the class report."""
    paths = sorted((course / "results" / assignment).glob("*.json"))
    found = [load(course, assignment, path.name.removesuffix(".json")) for path in paths]
    return [result for result in found if result is not None]


def _beside(path: Path) -> Path:
    return path.parent / "outputs" / path.name


def _question(values: dict[str, Any]) -> QuestionResult:
    names = {f.name for f in fields(Verdict)}
    verdicts = tuple(Verdict(**{k: v for k, v in verdict.items() if k in names}) for verdict in values["verdicts"])
    return QuestionResult(**{**values, "verdicts": verdicts})
