"""The four kinds of damage, measured on what a grading left: wrong marks, leaks, lost grades, survivors."""

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hostile.catalogue import Submission
from hostile.lab import ASSIGNMENT, ESSAY, POINTS
from hostile.outside import Outside
from hostile.sides import EARLIER, ESSAY_MARK, NEIGHBOUR, Ended, Mark, Name, marks

KINDS = ("wrong marks", "leaks", "lost grades", "survivors")
OF = {**POINTS, ESSAY: 2.0}
ACTIVE = {"script", "iframe", "object", "embed", "link", "meta", "form", "base", "svg", "math", "style"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Damage:
    """What one submission did; a sentence for each thing."""

    wrong_marks: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    lost_grades: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """In KINDS' order."""
        return self.wrong_marks, self.leaks, self.lost_grades, self.survivors

    @property
    def counts(self) -> tuple[int, ...]:
        """1 for each kind of which there was any."""
        return tuple(int(bool(part)) for part in self.parts)

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(sentence for part in self.parts for sentence in part)


MOST_STORED = 100_000_000  # bytes: outputs have a limit of 30 MB, and stand in a file as JSON


@dataclass(frozen=True)
class Scene:
    """One grading, before and after."""

    side: Name
    course: Path
    outside: Outside
    ended: Ended
    before: Mapping[str, str]  # what `fingerprints` gave before the grading
    pages: tuple[str, ...] = ()  # students for whom a feedback page was asked for

    def of(self, one: Submission) -> Damage:
        """What this submission did."""
        found = marks(self.course).get(one.student, {})
        return Damage(
            tuple(_wrong(found, one.deserves, self.ended.outcomes.get(one.student))),
            tuple(_leaks(self, one)),
            tuple(_lost(self, one.student, found)),
            tuple(_survivors(self, one.student)),
        )

    def of_neighbours(self, everybody: Sequence[Submission]) -> Damage:
        """What happened to those who were honest, and what nobody's name stands on."""
        found, students = marks(self.course), [one.student for one in everybody]
        return Damage(
            (),
            tuple(_unclaimed([repr(heard[:80]) for heard in self.outside.heard], students)),
            tuple(_neighbours(self, found)),
            tuple(_unclaimed(self.ended.survivors, students)),
        )


# Wrong marks


def _wrong(
    found: Mapping[str, Mark], deserves: Mapping[str, float], outcome: tuple[str, str, float] | None
) -> Iterator[str]:
    for cell, mark in found.items():
        score, most = mark.score or 0.0, deserves.get(cell, 0.0)
        if not score + (mark.extra or 0.0) <= most + 1e-9:
            yield f"{cell} has {score:g}, deserved are {most:g}"
        if mark.of != OF.get(cell):
            yield f"{cell} counts {mark.of:g}"
    if outcome is not None and not outcome[2] <= math.fsum(deserves.values()) + 1e-9:
        yield f"the grader says {outcome[2]:g}"


def earned(found: Mapping[str, Mark]) -> float:
    """Points of the questions that are not for a person."""
    return math.fsum(mark.score or 0.0 for cell, mark in found.items() if cell in POINTS)


# Leaks


def _leaks(scene: Scene, one: Submission) -> Iterator[str]:
    produced = b"\n".join(_produced(scene, one.student))
    for where, text in scene.outside.secrets.items():
        if text.encode() in produced:
            yield f"{where} stands in what it put out"
    for heard in scene.outside.heard:
        if one.student.encode() in heard:
            yield f"reached a socket with {heard[:40]!r}"
    for path in _pages(scene, one.student):
        yield from (f"{tag} in {path.name}" for tag in active(path.read_text("utf-8"), scene.outside.mark))
    yield from _controls(scene, one.student)


def _produced(scene: Scene, student: str) -> Iterator[bytes]:
    """Whatever the submission could put out: its cells' outputs, its files, what is said about it."""
    results = scene.course / "results" / ASSIGNMENT
    for path in (results / f"{student}.json", results / "outputs" / f"{student}.json"):
        if path.is_file():
            yield path.read_bytes()
    for path in sorted((scene.course / "autograded" / student).rglob("*")):
        if path.suffix == ".ipynb" and path.is_file():
            yield json.dumps([output for cell in _cells(path) for output in _outputs(cell)]).encode()
        elif path.is_file():
            yield path.read_bytes()
    status = scene.ended.outcomes.get(student)
    yield status[1].encode() if status else b""


def _outputs(cell: dict[str, Any]) -> list[Any]:
    """Not the sources: nbgrader puts the hidden tests there. Nor its quotation of them where a test failed."""
    outputs = [output for output in cell.get("outputs", []) if isinstance(output, dict)]
    test = str(cell.get("id")).startswith("test_")
    return [output for output in outputs if not (test and output.get("output_type") == "error")]


def _cells(notebook: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(notebook.read_bytes())["cells"]
    except (OSError, ValueError, KeyError, RecursionError):
        return []
    return [cell for cell in found if isinstance(cell, dict)]


def _pages(scene: Scene, student: str) -> list[Path]:
    """What a person will open in a browser."""
    pages = [*(scene.course / "feedback" / student).rglob("*.html"), scene.course / "reports" / f"{ASSIGNMENT}.html"]
    return [path for path in pages if path.is_file()]


def active(page: str, mark: str) -> list[str]:
    """Tags that a browser would obey and that hold the mark."""
    reader = _Reader(mark)
    reader.feed(page)
    return reader.found


class _Reader(HTMLParser):
    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark, self.found = mark, []
        self._inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attributes:
            # browsers skip white space and control characters in an address
            address = "".join(c for c in (value or "").lower() if c > " ")
            live = tag in ACTIVE or name.startswith("on") or address.startswith(("javascript:", "vbscript:"))
            if live and self.mark in (value or ""):
                self.found.append(f"<{tag} {name}>")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, text: str) -> None:
        # nothing else is code; a page's own scripts hold no mark
        if self._inside in ("script", "style") and self.mark in text:
            self.found.append(f"<{self._inside}>")


def _controls(scene: Scene, student: str) -> Iterator[str]:
    """What would move a cursor on a terminal, or calculate in a spreadsheet."""
    for line in scene.ended.terminal.split("\n"):
        if student in line and not line.isprintable():
            yield f"the terminal is sent {line[:60]!r}"
    table = scene.course / "reports" / f"{ASSIGNMENT}.csv"
    if table.is_file():
        for row in csv.reader(table.read_text("utf-8").splitlines()):
            if student in row[0] and any(cell.startswith(FORMULA) for cell in row):
                yield f"the table holds a formula: {row[:2]}"


# Lost grades


def _lost(scene: Scene, student: str, found: Mapping[str, Mark]) -> Iterator[str]:
    if scene.side == "nbgrader":
        if not (scene.course / "autograded" / student / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").is_file() or not found:
            yield "it has no grade"
        return
    status, reason, _ = scene.ended.outcomes.get(student, ("no outcome", "", 0.0))
    if status not in ("graded", "refused", "person"):
        yield f"{status}: {reason}"
    if status == "graded" and not found:
        yield "it is not in the gradebook"
    if status in ("refused", "person") and not reason:
        yield f"{status}, and no reason is said"
    if status == "graded" and student in scene.pages and not [*(scene.course / "feedback" / student).rglob("*.html")]:
        yield "its feedback page was not made"
    stored = sum(len(part) for part in _produced(scene, student))
    if stored > MOST_STORED:
        yield f"what is stored of it takes {stored / 1e6:,.0f} MB"


def _neighbours(scene: Scene, found: Mapping[str, Mapping[str, Mark]]) -> Iterator[str]:
    for student in (EARLIER, NEIGHBOUR):
        kept = {cell: mark.score for cell, mark in found.get(student, {}).items() if cell in POINTS}
        if kept != POINTS:
            yield f"{student} has {math.fsum(score or 0 for score in kept.values()):g} points, earned were 11"
    essay = found.get(EARLIER, {}).get(ESSAY)
    if essay is None or (essay.score, essay.comment) != (ESSAY_MARK, scene.outside.canaries["gradebook"]):
        yield f"{EARLIER}'s essay has lost its mark or its comment"
    if (scene.course / "gradebook.db").is_file() and found.get(NEIGHBOUR, {}).get(ESSAY, Mark(0, 0, 0, "")).score:
        yield f"{NEIGHBOUR}'s essay was marked by nobody"
    if scene.side == "ours" and _stored(scene.course) != math.fsum(POINTS.values()):
        yield f"the stored result of {EARLIER} was changed"
    if scene.outside.bystander.poll() is not None:
        yield "a process of the instructor's was ended"
    after = fingerprints(scene.course)
    for name in sorted(scene.before.keys() | after.keys()):
        if scene.before.get(name) != after.get(name):
            yield f"{name} was changed"


def _stored(course: Path) -> float:
    """The points in ada's result."""
    try:
        found = json.loads((course / "results" / ASSIGNMENT / f"{EARLIER}.json").read_bytes())["questions"]
        return math.fsum(float(question["points"]) for question in found.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return math.nan


def fingerprints(course: Path) -> dict[str, str]:
    """Of every file that a grading only reads."""
    roots = [course / name for name in ("source", "release", "submitted", "nbgrader_config.py", "expected.json")]
    paths = [path for root in roots for path in (root, *root.rglob("*"))]
    return {
        str(path.relative_to(course)): _fingerprint(path) for path in paths if not path.is_dir() or path.is_symlink()
    }


def _fingerprint(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Survivors


def _survivors(scene: Scene, student: str) -> Iterator[str]:
    yield from (f"still alive: {one}" for one in scene.ended.survivors if student in one)
    yield from (f"left behind: {path}" for path in scene.outside.left_behind(student))


def _unclaimed(found: Sequence[str], students: Sequence[str]) -> list[str]:
    return [one for one in found if not any(student in one for student in students)]
