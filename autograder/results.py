"""What came of one submission, as files: verdicts and remarks, the cells' outputs, and what the checks went by.

    <course>/results/<assignment>/<student>.json
    <course>/results/<assignment>/outputs/<student>.json
    <course>/results/<assignment>/evidence/<student>.json     requests, replies, cells, the files' digests
    <course>/results/<assignment>/made/<student>/             files that the grader's run made and nobody handed in
    <course>/results/<assignment>/answers/<student>.json      digests of the answers that a person marks

Each appears whole or not at all, the result last; a result whose outputs or evidence are not the ones that it names is
none.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from autograder import scratch
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
    evidence: str = ""  # digest of the evidence's file; empty where nothing was run
    submission: str = ""  # digest of what was handed in
    execution: str = ""  # stands for what decides what the student's process did: all of the key but the checks
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


@dataclass(frozen=True)
class Exchange:
    """A request to the student's process, and its reply."""

    request: dict[str, Any]
    reply: str  # JSON as text: a student may have nested it as deep as a reader can take
    left_out: int = 0  # characters of a reply that was too long to keep


@dataclass(frozen=True)
class File:
    """A file that the checks could look at."""

    name: str
    size: int  # bytes
    digest: str  # SHA-256
    made: bool  # by the grader's run of the notebook, not handed in


@dataclass(frozen=True)
class Kept:
    """What the checks went by, so that they can be run again, and explained, without the student's code."""

    cells: Sequence[dict[str, str]]  # {"id", "source"} of what was run, in order
    exchanges: Mapping[str, Sequence[Exchange]]  # in the order asked, by grade id of the test cell
    looked_at: Mapping[str, Sequence[str]]  # names of files, by grade id
    files: Sequence[File]


def path_of(course: Path, assignment: str, student: str) -> Path:
    return course / "results" / assignment / f"{student}.json"


def save(course: Path, result: Result, outputs: Outputs) -> Result:
    """Write the result and its outputs; the result as it now stands in its file."""
    path = path_of(course, result.assignment, result.student)
    _beside(path, "outputs").parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(asdict(outputs), sort_keys=True).encode()
    result = replace(result, outputs=hashlib.sha256(content).hexdigest())
    write_whole(_beside(path, "outputs"), content)
    write_whole(path, json.dumps(asdict(result), indent=1).encode())
    return result


def keep(course: Path, assignment: str, student: str, kept: Kept, made: Path) -> str:
    """Write what the checks went by, with the files of the folder `made` that it names; the digest for the result."""
    path = path_of(course, assignment, student)
    _replace_folder(course, _made(path), made, [file.name for file in kept.files if file.made])
    values = {
        "cells": list(kept.cells),
        "exchanges": {id: [vars(one) for one in asked] for id, asked in kept.exchanges.items()},
        "looked_at": dict(kept.looked_at),
        "files": [vars(file) for file in kept.files],
    }
    content = json.dumps(values, sort_keys=True).encode()
    _beside(path, "evidence").parent.mkdir(parents=True, exist_ok=True)
    write_whole(_beside(path, "evidence"), content)
    return hashlib.sha256(content).hexdigest()


def _replace_folder(course: Path, target: Path, source: Path, names: Sequence[str]) -> None:
    """`target` with these files and no others; killed half-way it is gone, never half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch.folder_in(course) as room:
        new = Path(room) / "new"
        new.mkdir()
        for name in names:
            shutil.copyfile(source / name, new / name)
        if target.exists():
            target.rename(Path(room) / "old")
        if names:
            os.replace(new, target)  # noqa: PTH105


def save_answers(course: Path, assignment: str, student: str, digests: Mapping[str, str]) -> None:
    """Note which answers a person finds in the gradebook, by grade id."""
    path = _beside(path_of(course, assignment, student), "answers")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(digests).encode())


def load_answers(course: Path, assignment: str, student: str) -> dict[str, str]:
    """What was noted last; nothing when it cannot be read."""
    try:
        found = json.loads(_beside(path_of(course, assignment, student), "answers").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
        content = _content(course, result, "outputs", result.outputs)
        return None if content is None else Outputs(**json.loads(content))
    except (ValueError, TypeError):
        return None


def has_evidence(course: Path, result: Result) -> bool:
    """Is the evidence there that the result names?"""
    return not result.evidence or _content(course, result, "evidence", result.evidence) is not None


def load_evidence(course: Path, result: Result) -> Kept | None:
    """What the checks went by, or None when there was nothing, or when it is gone or another's."""
    try:
        content = _content(course, result, "evidence", result.evidence)
        return None if content is None else _kept(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def made_folder(course: Path, result: Result) -> Path:
    """Where the files lie that the grader's run made; there is no such folder when it made none."""
    return _made(path_of(course, result.assignment, result.student))


def load_all(course: Path, assignment: str) -> list[Result]:
    """Every stored result of an assignment, by student; for the class report."""
    paths = sorted((course / "results" / assignment).glob("*.json"))
    found = [load(course, assignment, path.name.removesuffix(".json")) for path in paths]
    return [result for result in found if result is not None]


def _beside(path: Path, folder: str) -> Path:
    return path.parent / folder / path.name


def _made(path: Path) -> Path:
    return path.parent / "made" / path.name.removesuffix(".json")


def _content(course: Path, result: Result, folder: str, digest: str) -> bytes | None:
    """What stands beside the result under this digest; None when it is gone or another."""
    try:
        content = _beside(path_of(course, result.assignment, result.student), folder).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _kept(values: dict[str, Any]) -> Kept:
    exchanges = {id: [Exchange(**one) for one in asked] for id, asked in values["exchanges"].items()}
    return Kept(values["cells"], exchanges, values["looked_at"], [File(**file) for file in values["files"]])


def _question(values: dict[str, Any]) -> QuestionResult:
    names = {f.name for f in fields(Verdict)}
    verdicts = tuple(Verdict(**{k: v for k, v in verdict.items() if k in names}) for verdict in values["verdicts"])
    return QuestionResult(**{**values, "verdicts": verdicts})
