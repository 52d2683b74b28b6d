"""How far a lab is: what is complete, what is missing, what looks wrong, before it is handed in.

The same for the student's own kernel (`autograder.check()`) and for the command line (`autograder check NOTEBOOK`); the
verdicts are the grader's.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autograder import authenticity, journal, mapping, mending, questionnaire
from autograder.cells import CODE_STUB, STUB_RAISES
from autograder.checks import Failed, Verdict
from autograder.evidence import TIMELINE
from autograder.mending import Notebook
from labkit.maps import Map
from labkit.recording import Recording, RecordingError
from labkit.timeline import Timeline, TimelineError

TEXT_STUB = "YOUR ANSWER HERE"
MOST_NAMED = 5  # answers of those that are not in step
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
# the bold words with which a paragraph begins
QUESTION = re.compile(r"(?:\A\s*|\n[ \t]*\n) {0,3}\*\*([^*\n]+)\*\*")

State = Literal["complete", "missing", "wrong", "open"]


@dataclass(frozen=True)
class Asked:
    """One question that is checked, as it stands now."""

    title: str
    of: float
    verdicts: tuple[Verdict, ...]
    points: float
    note: str = ""

    @property
    def state(self) -> State:
        """`open` is what only a person or an execution can tell."""
        rest = [verdict for verdict in self.verdicts if verdict.outcome != "passed"]
        if not rest and self.points >= self.of:
            return "complete"
        if any(verdict.outcome in ("broken", "unexecuted") for verdict in rest):
            return "open"
        failed = [verdict for verdict in rest if verdict.outcome == "failed"]
        return "missing" if failed and all(verdict.missing for verdict in failed) else "wrong"


@dataclass(frozen=True)
class Text:
    """An answer in words, which a person reads."""

    cell: str  # its grade id
    name: str  # what a student sees above it, see `named_texts`
    points: float | None
    written: bool


@dataclass(frozen=True)
class HandedIn:
    """A file that belongs to the hand-in."""

    name: str
    state: Literal["there", "missing", "wrong", "stale"]  # stale is what does not say what the notebook gives
    found: str = ""


@dataclass(frozen=True)
class Readiness:
    """A lab as it lies there now."""

    assignment: str
    student: str  # the id that the notebook says; empty where it says none
    asked: tuple[Asked, ...]
    texts: tuple[Text, ...]
    files: tuple[HandedIn, ...]
    blanks: tuple[str, ...]  # grade ids of answers in code that are as they were released
    remarks: tuple[str, ...]  # further things that keep it from being complete
    looked_at: str  # where all this was seen
    stopped: tuple[str, ...] = ()  # answers whose cells stop with an error; what that costs, the verdicts say
    mended: tuple[str, ...] = ()  # what the grader puts right by itself
    saved: bool = True  # was the notebook's file found? Without it nobody knows the texts

    @property
    def points(self) -> float:
        return sum(one.points for one in self.asked)

    @property
    def of(self) -> float:
        return sum(one.of for one in self.asked)

    @property
    def written(self) -> int:
        return sum(text.written for text in self.texts)

    @property
    def complete(self) -> bool:
        """Does every check hold, is every answer written, is every file there?"""
        checked = bool(self.asked) and all(one.state == "complete" for one in self.asked)
        whole = all(text.written for text in self.texts) and all(file.state == "there" for file in self.files)
        return checked and whole and self.saved and bool(self.student) and not self.blanks and not self.remarks


def texts(found: Notebook) -> Iterator[Text]:
    """The answers in words of a notebook, each named as a student sees it."""
    names = named_texts(found)
    for cell in filter(_is_text, found["cells"]):
        points = cell["metadata"]["nbgrader"].get("points")
        number = points if isinstance(points, int | float) and not isinstance(points, bool) else None
        yield Text(mending.grade_id(cell), names[mending.grade_id(cell)], number, not is_blank(cell))


def named_texts(found: Notebook) -> dict[str, str]:
    """What a student sees above each answer in words, by its grade id: the heading and, where several answers stand
    under one, the bold first words of the question. Where that tells no two answers apart, the grade id has to."""
    above = dict(_above(found))
    times = Counter(heading for heading, _ in above.values())
    seen = {cell: _seen(heading, question, times[heading] == 1) for cell, (heading, question) in above.items()}
    known = Counter(seen.values())
    return {cell: name if name and known[name] == 1 else _by_id(cell, above[cell][0]) for cell, name in seen.items()}


def _seen(heading: str, question: str, alone: bool) -> str:
    """Empty where there is nothing to see."""
    if heading and alone:
        return heading
    return f"{heading} “{question}”".strip() if question else ""


def _by_id(cell: str, heading: str) -> str:
    return f"{heading} (the cell {cell})" if heading else f"The cell {cell}"


def _above(found: Notebook) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each answer in words by its grade id, with the heading above it and the first words of its question."""
    heading = question = ""
    for cell in found["cells"]:
        if _is_text(cell):
            yield mending.grade_id(cell), (heading, question)
            question = ""
        elif cell["cell_type"] == "markdown":
            headings = [match for match in HEADING.finditer(cell["source"]) if match[1]]
            if headings:
                heading, question = headings[-1][1], ""
            words = QUESTION.search(cell["source"][headings[-1].end() if headings else 0 :])
            question = words[1].strip() if words else question


def _is_text(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "markdown" and has(cell, "solution") and has(cell, "grade")


def blanks(found: Notebook) -> Iterator[str]:
    """Answers in code that are as they were released."""
    for cell in found["cells"]:
        if has(cell, "solution") and not has(cell, "grade") and is_blank(cell):
            yield mending.grade_id(cell)


def is_blank(cell: Mapping[str, Any]) -> bool:
    source = cell["source"].strip()
    return not source or CODE_STUB.splitlines()[-1] in source or source == TEXT_STUB


def has(cell: dict[str, Any], flag: str) -> bool:
    return bool(mending.grade_id(cell)) and cell["metadata"]["nbgrader"].get(flag) is True


def deleted(assignment: str, found: Notebook) -> Iterator[str]:
    """A sentence for each answer that the lab has and the notebook has not."""
    there = {mending.grade_id(cell) for cell in found["cells"]}
    source = _source(assignment)
    words = {cell: f"{name}: the cell for this answer" for cell, name in named_texts({"cells": source}).items()}
    for cell in source:
        if has(cell, "solution") and (name := mending.grade_id(cell)) not in there:
            gone = words.get(name, f"The cell {name}")
            yield f"{gone} is gone from the notebook. Copy it back from the notebook that was released."


def _source(assignment: str) -> list[dict[str, Any]]:
    """The cells of the lab as this package has it; none of a course's own."""
    from autograder.course import assignments_home

    path = assignments_home() / "source" / assignment / f"{assignment}.ipynb"
    try:
        cells: list[dict[str, Any]] = mending.read(path.read_bytes())["cells"]
    except (OSError, mending.MendingError):
        return []
    return cells


def files(
    assignment: str, student: str, folder: Path, found: Notebook | None, said: Mapping[str, Any] | None = None
) -> Iterator[HandedIn]:
    """The files that the lab asks for, as they lie in the folder; `said` is what the notebook's variables are, as far
    as anybody has looked: replies by name."""
    for name, asked in questionnaire.recordings(assignment, student).items():
        yield _recording(folder, f"{name}.safetensors", asked)
    for name, map_asked in questionnaire.maps(assignment, student).items():
        yield _map(folder, f"{name}.safetensors", map_asked)
    if found is not None and _names(found, TIMELINE):
        yield _timeline(folder)
    if found is not None and _names(found, journal.FILE):
        yield _answers(folder, said or {})


def _names(found: Notebook, file: str) -> bool:
    """Does the notebook say that this file belongs to the hand-in?"""
    return any(file in cell["source"] for cell in found["cells"])


def _recording(folder: Path, name: str, asked: authenticity.Asked) -> HandedIn:
    if not (folder / name).is_file():
        return HandedIn(name, "missing", "run the training cell that saves it")
    try:
        authenticity.same_experiment(Recording.load(folder / name), asked.experiment, asked.open_fields)
    except RecordingError as error:
        return HandedIn(name, "wrong", str(error).replace(f"{folder}/", ""))
    except Failed as failure:
        return HandedIn(name, "wrong", failure.found)
    return HandedIn(name, "there")


def _map(folder: Path, name: str, asked: mapping.AskedMap) -> HandedIn:
    if not (folder / name).is_file():
        return HandedIn(name, "missing", "run the cell that makes the map")
    try:
        mapping.is_asked_for(Map.load(folder / name), asked)
    except RecordingError as error:
        return HandedIn(name, "wrong", str(error).replace(f"{folder}/", ""))
    except Failed as failure:
        return HandedIn(name, "wrong", failure.found)
    return HandedIn(name, "there")


def _timeline(folder: Path) -> HandedIn:
    if not (folder / TIMELINE).is_file():
        return HandedIn(TIMELINE, "missing", "run the notebook's cells again, from the first on")
    try:
        Timeline.load(folder / TIMELINE)
    except TimelineError as error:
        return HandedIn(TIMELINE, "wrong", str(error).replace(f"{folder}/", ""))
    return HandedIn(TIMELINE, "there")


def _answers(folder: Path, said: Mapping[str, Any]) -> HandedIn:
    if not (folder / journal.FILE).is_file():
        return HandedIn(journal.FILE, "missing", "autograder.check() in the notebook writes it, once there are answers")
    if not (known := journal.read(folder)):
        return HandedIn(journal.FILE, "wrong", "no answers can be read from it; delete it, and run autograder.check()")
    behind = {"lacks": journal.lacking(known, said), "has another": journal.unlike(known, said)}
    if not any(behind.values()):
        return HandedIn(journal.FILE, "there")
    words = " and ".join(f"{verb} {_some(names)}" for verb, names in behind.items() if names)
    return HandedIn(journal.FILE, "stale", f"it {words}; run autograder.check() in the notebook again")


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


# which lab is it


def assignment_of(found: Notebook) -> str:
    """The assignment whose questions a notebook asks; empty for none."""
    tests = (mending.grade_id(cell).removeprefix("test_") for cell in found["cells"] if mending.is_test(cell))
    return asking(tests)


def asking(questions: Iterable[str]) -> str:
    """The assignment that asks most of these questions; empty for none."""
    named = set(questions)
    shared = {name: len(named & set(questionnaire.of(name))) for name in questionnaire.assignments()}
    best = max(shared, key=lambda name: shared[name], default="")
    return best if best and shared[best] else ""


def raised(outputs: Mapping[str, Sequence[Mapping[str, Any]]], found: Notebook) -> Iterator[str]:
    """A sentence for each answer whose cell stopped with an error when it was run; blanks are known already."""
    for cell in found["cells"]:
        if not has(cell, "solution") or is_blank(cell):
            continue
        for output in outputs.get(str(cell.get("id", "")), ()):
            if output.get("output_type") == "error":
                said = " ".join(str(output.get("evalue", "")).split())[:200]
                if output.get("ename") == STUB_RAISES and not said:
                    said = "it uses an answer that is still to be written"
                yield f"The cell {mending.grade_id(cell)} stops with {output.get('ename', 'an error')}: {said}"
