"""A simulated class: honest, mistaken, lazy, stuck, forging and copying students hand in an assignment.

    <course>/submitted/<student>/<assignment>/      the notebook, what running it saved, nbgrader's own two
    <course>/simulated.json                         which submissions are simulated, and what each student did

A kind of student is data: what is changed in the complete solution before the notebook runs, what is done to its
recordings afterwards, and which points that costs. `autograder/classes` holds the kinds of each assignment. The
notebook runs in the grader's own workers, so a submission holds what a student's machine would have saved.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labkit
from autograder import checks, classes, journal, questionnaire, selfcheck, worker
from autograder.authoring import notebook_of, write_if_other
from labkit.recording import Recording

if TYPE_CHECKING:
    from autograder.workers import Nursery

RECORD = "simulated.json"
WHOLE = 900.0  # seconds of processor time for a cell of a student without a mistake
SECRET = "submission_secret.txt"  # by which nbgrader brings feedback to whom it belongs; here everybody may know it
MARKS = re.compile(r"^.*(?:BEGIN|END) SOLUTION.*\n?", re.MULTILINE)
# a Monday; nbgrader shows it as the time of handing in
MONDAY = datetime(2026, 3, 2, 9, 0)
NAMES = (  # noqa: SIM905  a list of words reads worse
    "ada bela chidi dilnoza emeka farah goran hana ines jomo kaveh leilani mateo nadia olu priya quang rosa sven tala "
    "ulla viktor wanjiru xochitl yuki zeynep amara bjorn carmen dmitri esra finn giulia hamid"
).split()

Forge = Callable[[Any], Any]  # of a recording, or of what else the lab asks for
Cell = dict[str, Any]


class ClassroomError(ValueError):
    """A class that cannot be simulated; one sentence with what to do."""


@dataclass(frozen=True)
class Edit:
    """One change of the solution's text, everywhere in a cell."""

    cell: str
    old: str
    new: str

    def apply(self, cells: Mapping[str, str]) -> dict[str, str]:
        """The cells by id, this one changed. A text that is not there is an error, never no change."""
        if self.old not in cells.get(self.cell, ""):
            raise ClassroomError(f"{self.cell} does not hold {self.old.strip()!r}: correct the simulated class")
        return {**cells, self.cell: cells[self.cell].replace(self.old, self.new)}


@dataclass(frozen=True)
class Kind:
    """One way to hand in the assignment."""

    name: str
    loses: Mapping[str, float]  # points by question
    edits: tuple[Edit, ...] = ()
    stops_after: str = ""  # the last cell that is answered; empty for all
    runs: bool = True
    skips: tuple[str, ...] = ()  # cells that are handed in without having been run
    forge: Forge | None = None
    forged: tuple[str, ...] = ("relu",)  # recordings
    borrows: tuple[str, ...] = ()  # recordings of a classmate
    copies: bool = False  # the whole submission of a classmate, before the edits
    says: str = ""  # words of a reason that the student must be given

    @property
    def needs_classmate(self) -> bool:
        return self.copies or bool(self.borrows)


@dataclass(frozen=True)
class Class:
    """Who is in the class of one assignment, and what all of them do alike."""

    kinds: Sequence[Kind]  # the first is the complete solution
    usual: Sequence[Edit]  # of everybody's solution
    essays: Mapping[str, str]  # by cell, with numbers in braces
    numbers: Callable[[Path], Mapping[str, float]]  # what an essay quotes from the recordings in a folder
    load: Callable[[Path], Any] = Recording.load  # what is forged


@dataclass(frozen=True)
class Student:
    """One simulated student and where the submission lies."""

    id: str
    kind: Kind
    folder: Path


def simulate(course: Path, assignment: str, students: int = 8, seed: int = 0, jobs: int = 2,
             progress: bool = True) -> list[Student]:  # fmt: skip
    """Write the submissions of a class; the same numbers give the same class.

    A submission that is unchanged since it was made here is kept as it is. One that was not made here is never
    touched: where a name is taken by it, nothing is written at all.
    """
    course = course.absolute()
    made = [Student(name, kind, course / "submitted" / name / assignment)
            for name, kind in roster(assignment, students, seed)]  # fmt: skip
    lab = Lab.read(course, assignment)
    record = Record.read(course, assignment)
    record.refuse_foreign(made)
    todo = [student for student in made if not record.holds(student, lab)]
    if todo:
        from autograder.workers import open_workers

        with closing(open_workers()) as workers:
            # copies need the classmate's folder
            for copies in (False, True):
                group = [student for student in todo if student.kind.needs_classmate is copies]
                _write_all(group, made[0], lab, record, workers, jobs, progress)
    return sorted(made, key=lambda student: student.id)


def simulated(course: Path, assignment: str) -> dict[str, str]:
    """The kind of each simulated student by id."""
    return {name: str(entry.get("kind")) for name, entry in Record.read(course, assignment).entries.items()}


def others(course: Path, assignment: str) -> list[str]:
    """Who handed in without being simulated."""
    known = simulated(course, assignment)
    return sorted(p.parent.name for p in course.glob(f"submitted/*/{assignment}") if p.parent.name not in known)


def class_of(assignment: str) -> Class:
    """The class that autograder/classes describes for an assignment."""
    known = sorted(module.name for module in pkgutil.iter_modules(classes.__path__))
    if assignment not in known:
        raise ClassroomError(f"there is no simulated class for {assignment}; there is one for: {', '.join(known)}")
    found: Class = import_module(f"{classes.__name__}.{assignment}").CLASS
    return found


def roster(assignment: str, students: int, seed: int) -> list[tuple[str, Kind]]:
    """Who is in the class. A larger class holds the smaller one of the same seed; the first student's work is whole."""
    kinds = class_of(assignment).kinds
    if students < 1:
        raise ClassroomError(f"a class of {students} has nobody in it: simulate 1 student or more")
    draw = random.Random(seed)
    names = draw.sample(NAMES, len(NAMES))
    # once every kind was there, most are as in a real class: done, partly done, mistaken
    usual = [kind for kind in kinds if kind.runs and not (kind.needs_classmate or kind.forge or kind.skips)]
    further = [draw.choice([kinds[0], *usual]) for _ in range(students - len(kinds))]
    return [(names[n % len(names)] + (str(n // len(names) + 1) if n >= len(names) else ""), kind)
            for n, kind in enumerate([*kinds, *further][:students])]  # fmt: skip


# the assignment as it was released, and what a complete student writes


@dataclass(frozen=True)
class Lab:
    """What a simulated student starts from."""

    assignment: str
    released: bytes
    solutions: Mapping[str, str]  # by cell, without nbgrader's marks
    digest: str = field(repr=False)

    @classmethod
    def read(cls, course: Path, assignment: str) -> Lab:
        source = notebook_of(course / f"{assignment}.py")
        release = course / "release" / assignment / source.name
        for path, command in ((source, "build"), (release, "release")):
            if not path.is_file():
                raise ClassroomError(f"{path} is missing: run `autograder {command}` for {assignment} first")
        released = release.read_bytes()
        solutions = {cell["id"]: MARKS.sub("", _text(cell)) for cell in json.loads(source.read_bytes())["cells"]
                     if _is_answer(cell)}  # fmt: skip
        kinds = Path(classes.__path__[0]) / f"{assignment}.py"
        code = [Path(__file__), kinds, *sorted(Path(labkit.__path__[0]).rglob("*.py"))]
        digest = _digest([released, source.read_bytes(), *(path.read_bytes() for path in code)])
        return cls(assignment, released, solutions, digest)

    def cells(self, kind: Kind) -> dict[str, str]:
        """What this kind of student has in the answer cells, by id, those alone that were answered."""
        if kind.stops_after and kind.stops_after not in self.solutions:
            raise ClassroomError(f"there is no answer {kind.stops_after} to stop after: correct the simulated class")
        answered = list(self.solutions)
        if kind.stops_after:
            answered = answered[: answered.index(kind.stops_after) + 1]
        cells = {id: self.solutions[id] for id in answered}
        usual = [edit for edit in class_of(self.assignment).usual if edit.cell in cells]
        for edit in (*usual, *kind.edits):
            cells = edit.apply(cells)
        return cells


def _is_answer(cell: Cell) -> bool:
    return bool(cell["metadata"].get("nbgrader", {}).get("solution"))


def _decides(cell: Cell) -> bool:
    """Does running it change what is handed in? Figures and checks change nothing, and grading makes them anew."""
    about = cell["metadata"].get("nbgrader")
    return cell["cell_type"] == "code" and about is not None and not about.get("grade")


def _text(cell: Cell) -> str:
    return "".join(cell["source"])


# the work of one student


def _write_all(students: Sequence[Student], classmate: Student, lab: Lab, record: Record, workers: Nursery, jobs: int,
               progress: bool) -> None:  # fmt: skip
    if not students:
        return
    from tqdm import tqdm

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        writing = {pool.submit(_write, one, classmate, lab, workers): one for one in students}
        # disable=None: silent where nobody watches
        for done in tqdm(as_completed(writing), "simulating", len(writing), disable=None if progress else True):
            done.result()
            record.add(writing[done], lab)


def _write(student: Student, classmate: Student, lab: Lab, workers: Nursery) -> None:
    with workers.room() as room:
        place = _place(Path(room))
        work = place / worker.WORK
        if student.kind.copies:
            _copy(student, classmate, work, lab)
        else:
            _work(student, place, lab, workers)
        for name in student.kind.borrows:
            shutil.copy2(classmate.folder / f"{name}.safetensors", work)
        if student.kind.forge is not None:
            load = class_of(lab.assignment).load
            for path in (work / f"{name}.safetensors" for name in student.kind.forged):
                student.kind.forge(load(path)).save(path)
        (work / "timestamp.txt").write_text(_handed_in(student.id))
        (work / SECRET).write_text(hashlib.sha512(student.id.encode()).hexdigest())
        _swap(work, student.folder)


def _place(room: Path) -> Path:
    """A private place with the folders that a worker expects."""
    place = Path(tempfile.mkdtemp(dir=room))
    for part in (worker.WORK, worker.HOME):
        (place / part).mkdir()
    return place


def _work(student: Student, place: Path, lab: Lab, workers: Nursery) -> None:
    """Fill in the answers, run the notebook, keep what it saved."""
    notebook, kind, work = json.loads(lab.released), student.kind, place / worker.WORK
    answers = lab.cells(kind) if kind.runs else {}
    answers = {id: text.replace('"solution"', f'"{student.id}"') for id, text in answers.items()}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = answers.get(cell["id"], _text(cell))
    if kind.runs:
        ran = [cell for cell in notebook["cells"] if _decides(cell) and cell["id"] not in kind.skips]
        _run(ran, place, workers, student, lab.assignment)
        if not (kind.edits or kind.stops_after):
            _refuse_errors(ran)
        _write_essays(notebook, answers, work, class_of(lab.assignment))
    (work / f"{lab.assignment}.ipynb").write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _run(cells: Sequence[Cell], place: Path, workers: Nursery, student: Student, assignment: str) -> None:
    """Run the cells in their order; each keeps what it put out, as in a notebook that was saved. Then the student runs
    every check. What is whole has the time that it takes on a slow machine; a mistake may be a loop without an end."""
    from autograder import workers as processes
    from autograder.limits import Limits

    limits = Limits() if student.kind.edits else Limits(cell_seconds=WHOLE, cpu_seconds=4 * WHOLE)
    with processes.Student(workers, place, limits) as process:
        run = process.run_cells([{"id": cell["id"], "source": cell["source"]} for cell in cells])
        if run.ended:
            raise ClassroomError(f"a simulated student's notebook could not be run: {run.ended}")
        _check(student, assignment, place / worker.WORK, process.ask)
    for cell in cells:
        cell["outputs"], cell["execution_count"] = run.outputs[cell["id"]], run.numbers[cell["id"]]


def _check(student: Student, assignment: str, work: Path, ask: Callable[[dict[str, Any]], Any]) -> None:
    """Leave what `autograder.check()` leaves: the answers that it saw."""
    live = selfcheck.looking_at(work, student.id, ask)
    for question in questionnaire.of(assignment).values():
        checks.run(question, live)
    journal.note(work, live.said)


def _refuse_errors(cells: Sequence[Cell]) -> None:
    """A solution that raises would make every planted mistake look like another."""
    for cell in cells:
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                said = f"{output['ename']}: {output['evalue'][:200]}"
                raise ClassroomError(f"the solution's cell {cell['id']} raised {said}")


def _write_essays(notebook: Cell, answers: Mapping[str, str], work: Path, about: Class) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and cell["id"] in answers:
            cell["source"] = about.essays.get(cell["id"], "I ran out of time here.").format_map(about.numbers(work))


def _copy(student: Student, classmate: Student, work: Path, lab: Lab) -> None:
    """A classmate's whole submission, with this student's edits; {me} and {classmate} stand for the two ids."""
    shutil.copytree(classmate.folder, work, dirs_exist_ok=True)
    path = work / f"{lab.assignment}.ipynb"
    notebook = json.loads(path.read_bytes())
    cells = {cell["id"]: _text(cell) for cell in notebook["cells"]}
    for edit in student.kind.edits:
        old, new = (text.format(me=student.id, classmate=classmate.id) for text in (edit.old, edit.new))
        cells = Edit(edit.cell, old, new).apply(cells)
    for cell in notebook["cells"]:
        cell["source"] = cells[cell["id"]]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _handed_in(student: str) -> str:
    """nbgrader's own format; the minute follows from the name."""
    minute = int.from_bytes(hashlib.sha256(student.encode()).digest()[:2], "big") % (4 * 24 * 60)
    return f"{MONDAY + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S.%f} UTC\n"


def _swap(made: Path, folder: Path) -> None:
    """The old submission goes only once the new one is whole, on the same disk and its owner's."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".simulating-", dir=folder.parents[2]) as beside:
        whole = Path(shutil.copytree(made, Path(beside) / "whole"))
        if folder.exists():
            folder.replace(whole.with_name("before"))
        whole.replace(folder)


# which submissions are ours


@dataclass
class Record:
    """The simulated submissions of one assignment, by student. It lies where no student can write."""

    path: Path
    assignment: str
    entries: dict[str, dict[str, str]]

    @classmethod
    def read(cls, course: Path, assignment: str) -> Record:
        path = course / RECORD
        return cls(path, assignment, _record(path).get(assignment, {}))

    def refuse_foreign(self, students: Sequence[Student]) -> None:
        for student in students:
            if student.folder.exists() and student.id not in self.entries:
                raise ClassroomError(f"{student.folder} was handed in and not simulated: nothing was written; "
                                     "choose another --seed, which gives other names")  # fmt: skip

    def holds(self, student: Student, lab: Lab) -> bool:
        """Is the submission there, by the same kind of student, from the same release, with every byte as it was?"""
        return student.folder.is_dir() and self.entries.get(student.id) == _entry(student, lab)

    def add(self, student: Student, lab: Lab) -> None:
        self.entries[student.id] = _entry(student, lab)
        content = _record(self.path) | {self.assignment: dict(sorted(self.entries.items()))}
        write_if_other(self.path, (json.dumps(content, indent=1) + "\n").encode())


def _record(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    try:
        content = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise ClassroomError(f"{path} is damaged: delete it, and the simulated submissions with it") from error
    return content if isinstance(content, dict) else {}


def _entry(student: Student, lab: Lab) -> dict[str, str]:
    files = sorted(path for path in student.folder.rglob("*") if path.is_file())
    content = [part for path in files for part in (path.name.encode(), path.read_bytes())]
    return {"kind": student.kind.name, "made_from": lab.digest, "content": _digest(content)}


def _digest(parts: Sequence[bytes]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()
