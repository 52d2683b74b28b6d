"""A simulated class: honest, mistaken, lazy, stuck, forging and copying students hand in an assignment.

    <course>/submitted/<student>/<assignment>/      the notebook and the files that running it saved
    <course>/simulated.json                         which submissions are simulated, and what each student did

A kind of student is data: what is changed in the complete solution before the notebook runs, what is done to its
recordings afterwards, and which points that costs. The notebook runs in the grader's own workers, so a submission
holds what a student's machine would have saved.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import labkit
from autograder.authoring import notebook_of, write_if_other
from labkit.recording import Recording

if TYPE_CHECKING:
    from autograder.workers import Nursery

RECORD = "simulated.json"
MARKS = re.compile(r"^.*(?:BEGIN|END) SOLUTION.*\n?", re.MULTILINE)
# a Monday; nbgrader shows it as the time of handing in
MONDAY = datetime(2026, 3, 2, 9, 0)
NAMES = (  # noqa: SIM905  a list of words reads worse
    "ada bela chidi dilnoza emeka farah goran hana ines jomo kaveh leilani mateo nadia olu priya quang rosa sven tala "
    "ulla viktor wanjiru xochitl yuki zeynep amara bjorn carmen dmitri esra finn giulia hamid"
).split()

Forge = Callable[[Recording], Recording]
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
    # copies need the classmate's folder
    for group in ([s for s in todo if not s.kind.needs_classmate], [s for s in todo if s.kind.needs_classmate]):
        _write_all(group, made[0], lab, record, jobs, progress)
    return sorted(made, key=lambda student: student.id)


def simulated(course: Path, assignment: str) -> dict[str, str]:
    """The kind of each simulated student by id."""
    return {name: str(entry.get("kind")) for name, entry in Record.read(course, assignment).entries.items()}


def others(course: Path, assignment: str) -> list[str]:
    """Who handed in without being simulated."""
    known = simulated(course, assignment)
    return sorted(p.parent.name for p in course.glob(f"submitted/*/{assignment}") if p.parent.name not in known)


def roster(assignment: str, students: int, seed: int) -> list[tuple[str, Kind]]:
    """Who is in the class. A larger class holds the smaller one of the same seed; the first student's work is whole."""
    if assignment not in CLASSES:
        raise ClassroomError(f"there is no simulated class for {assignment}; there is one for: {', '.join(CLASSES)}")
    if students < 1:
        raise ClassroomError(f"a class of {students} has nobody in it: simulate 1 student or more")
    kinds = CLASSES[assignment]
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
        code = [Path(__file__), *sorted(Path(labkit.__path__[0]).rglob("*.py"))]
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
        usual = [edit for edit in USUAL[self.assignment] if edit.cell in cells]
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


def _write_all(students: Sequence[Student], classmate: Student, lab: Lab, record: Record, jobs: int,
               progress: bool) -> None:  # fmt: skip
    if not students:
        return
    from tqdm import tqdm

    from autograder.workers import open_workers

    with closing(open_workers()) as workers, ThreadPoolExecutor(max(1, jobs)) as pool:
        writing = {pool.submit(_write, one, classmate, lab, workers): one for one in students}
        # disable=None: silent where nobody watches
        for done in tqdm(as_completed(writing), "simulating", len(writing), disable=None if progress else True):
            done.result()
            record.add(writing[done], lab)


def _write(student: Student, classmate: Student, lab: Lab, workers: Nursery) -> None:
    with _place(student) as place:
        work = place / "submission"
        if student.kind.copies:
            _copy(student, classmate, work, lab)
        else:
            _work(student, place, lab, workers)
        for name in student.kind.borrows:
            shutil.copy2(classmate.folder / f"{name}.safetensors", work)
        if student.kind.forge is not None:
            for name in student.kind.forged:
                student.kind.forge(Recording.load(work / f"{name}.safetensors")).save(work / f"{name}.safetensors")
        (work / "timestamp.txt").write_text(_handed_in(student.id))
        _swap(work, student.folder)


@contextmanager
def _place(student: Student) -> Iterator[Path]:
    """A private place in the course, with the folders that a worker expects."""
    course = student.folder.parents[2]
    with tempfile.TemporaryDirectory(prefix=".simulating-", dir=course) as name:
        for part in ("submission", "home"):
            (Path(name) / part).mkdir()
        yield Path(name)


def _work(student: Student, place: Path, lab: Lab, workers: Nursery) -> None:
    """Fill in the answers, run the notebook, keep what it saved."""
    notebook, kind, work = json.loads(lab.released), student.kind, place / "submission"
    answers = lab.cells(kind) if kind.runs else {}
    answers = {id: text.replace('"solution"', f'"{student.id}"') for id, text in answers.items()}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = answers.get(cell["id"], _text(cell))
    if kind.runs:
        ran = [cell for cell in notebook["cells"] if _decides(cell) and cell["id"] not in kind.skips]
        _run(ran, place, workers)
        if not (kind.edits or kind.stops_after):
            _refuse_errors(ran)
        _write_essays(notebook, answers, work)
    (work / f"{lab.assignment}.ipynb").write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _run(cells: Sequence[Cell], place: Path, workers: Nursery) -> None:
    """Run the cells in their order; each keeps what it put out, as in a notebook that was saved."""
    from autograder import workers as processes
    from autograder.limits import Limits

    with processes.Student(workers, place, Limits()) as process:
        run = process.run_cells([{"id": cell["id"], "source": cell["source"]} for cell in cells])
    if run.ended:
        raise ClassroomError(f"a simulated student's notebook could not be run: {run.ended}")
    for cell in cells:
        cell["outputs"], cell["execution_count"] = run.outputs[cell["id"]], run.numbers[cell["id"]]


def _refuse_errors(cells: Sequence[Cell]) -> None:
    """A solution that raises would make every planted mistake look like another."""
    for cell in cells:
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                said = f"{output['ename']}: {output['evalue'][:200]}"
                raise ClassroomError(f"the solution's cell {cell['id']} raised {said}")


def _write_essays(notebook: Cell, answers: Mapping[str, str], work: Path) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and cell["id"] in answers:
            cell["source"] = ESSAYS.get(cell["id"], "I ran out of time here.").format_map(_own_numbers(work))


def _own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings."""
    found: dict[str, float] = {}
    for name in ("relu", "sigmoid"):
        run = Recording.load(work / f"{name}.safetensors")
        size, hidden = run.statistic("abs_mean"), run.hidden_statistic("abs_mean")[:, -1]
        found |= {
            f"{name}_loss": run.loss[-40:].mean(),
            f"{name}_start": size[0, -1] / size[0, 0],
            f"{name}_error": run.output_error[-1] / run.output_error[0],
            f"{name}_hidden": hidden[-1] / hidden[0],
        }
    return found


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
    """The old submission goes only once the new one is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.replace(made.with_name("before"))
    made.replace(folder)


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


# what is done to recordings. The digests fit again afterwards: whoever forges can save, too

_MEAN, _SIZE, _SD, _NORM, _MAX = range(5)
_AMPLITUDES = slice(0, 5)  # the statistics that grow with the gradient
_BY_ITERATION = ("loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient")


def zeroed(r: Recording) -> Recording:
    return replace(r, gradient=np.zeros_like(r.gradient))


def shuffled(r: Recording) -> Recording:
    order = np.random.default_rng(0).permutation(r.iterations)
    return replace(r, **{name: getattr(r, name)[order] for name in _BY_ITERATION})


def sign_flipped(r: Recording) -> Recording:
    gradient = r.gradient.copy()
    gradient[:, :, _MEAN] *= -1
    return replace(r, gradient=gradient)


def scaled(r: Recording) -> Recording:
    gradient = r.gradient.copy()
    gradient[:, :, _AMPLITUDES] *= 3
    return replace(r, gradient=gradient)


def weights_for_gradients(r: Recording) -> Recording:
    return replace(r, gradient=_like_noise(r, r.weight_norm))


def smoothed(r: Recording) -> Recording:
    """The curves as one would wish them: each point the mean of its surroundings."""
    size = np.maximum(r.gradient[:, :, [_SIZE]], np.finfo(np.float32).tiny)
    window = np.ones(101) / 101
    smooth = np.apply_along_axis(lambda curve: np.convolve(curve, window, "same"), 0, size)
    gradient = r.gradient.copy()
    gradient[:, :, _AMPLITUDES] *= smooth / size
    return replace(r, gradient=gradient)


def invented(r: Recording) -> Recording:
    """Made up from what the lecture says: the loss falls, gradients shrink towards the input."""
    progress = np.linspace(0, 1, r.iterations)[:, None]
    noise = np.random.default_rng(1).normal(1, 0.05, (r.iterations, len(r.layers)))
    depth = np.arange(len(r.layers))[::-1]
    return replace(r, loss=(2.3 * np.exp(-4 * progress[:, 0])).astype(r.loss.dtype),
                   gradient=_like_noise(r, np.exp(-depth - 2 * progress) * noise))  # fmt: skip


def _like_noise(r: Recording, norm: Any) -> Any:
    """(I, L, S) statistics that uniform numbers of this norm (I, L) would have; they contradict each other nowhere."""
    rms = norm / np.sqrt([np.prod(shape) for shape in r.origin.shapes])
    gradient = np.zeros_like(r.gradient)
    for column, share in ((_SIZE, np.sqrt(3) / 2), (_SD, 1), (_MAX, np.sqrt(3))):
        gradient[:, :, column] = rms * share
    gradient[:, :, _NORM] = norm
    return gradient


# the class of the vanishing-gradients lab

ESSAYS = {
    "figures": "The sigmoid's gradients are a thin spike around 0, thinnest in fc_1, so it ends at a loss of "
    "{sigmoid_loss:.2f} and the ReLU at {relu_loss:.2f}. The signed mean hides this: its signs cancel.",
    "question_1_answer": "Each layer multiplies the gradient by a factor: in my sigmoid network that of fc_4 is "
    "{sigmoid_start:.0f} times that of fc_1 at the start, in my ReLU network {relu_start:.1f} times, with a gain of "
    "2 it explodes. Clipping shortens a gradient that is too long; one that is too short stays so.",
    "question_2_answer": "images and labels stay as they are, the recordings come with the trainings. A network "
    "changes at every iteration and keeps its size, which surprised me: learning needs no memory.",
    "question_3_answer": "The error fell to {relu_error:.2f} of its start, but h3 grew {relu_hidden:.1f} times, and "
    "the gradient is their product. p and y both sum to 1, so the columns of the gradient sum to 0.",
}
# nobody watches a simulated student's training
USUAL = {"vanishing_gradients": (Edit("train_both", "    watch=labkit.LiveDistributions(),\n", ""),)}
ALL = {"activation_gradients": 2, "numerical_bias": 1, "build_network": 3, "model_loss": 3, "gradient_distributions": 2,
       "own_loop": 4, "recordings": 4, "final_loss": 1, "attenuation": 1, "attenuation_values": 2, "exploding": 3,
       "workspace": 3, "growth": 1, "precision": 2, "factors": 2}  # fmt: skip
# what rests on relu.safetensors, and on any recording
RELU = {"recordings": 2, "final_loss": 1, "attenuation_values": 2, "growth": 1, "factors": 2}
RUNS = RELU | {"recordings": 4, "own_loop": 4, "exploding": 3, "precision": 2}
RATIO = {"attenuation": 1, "attenuation_values": 2}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


def _forged(name: str, forge: Forge, says: str) -> Kind:
    return Kind(name, RELU, forge=forge, says=says)


_ANOTHERS = "another student's"
# the first eight are the class of the demonstration
VANISHING = (
    Kind("complete", {}),
    Kind("partly done", _without("activation_gradients", "numerical_bias", "build_network", "model_loss"),
         stops_after="model_loss"),
    _mistake("signed for absolute", {"attenuation_values": 2}, "attenuation_values", ('"abs_mean"', '"mean"')),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"final_loss": 1}, "final_loss", ("sigmoid.loss[-40:]", "sigmoyd.loss[-40:]")),
    Kind("infinite loop", {"growth": 1}, skips=("growth",), edits=(Edit("growth", "growth_of_layer_4 = s",
        "epoch = 0\nwhile epoch < 10:\n    epoch + 1\ngrowth_of_layer_4 = s"),)),
    Kind("fabricated numbers", RELU | {"recordings": 4}, forge=smoothed, forged=("relu", "sigmoid"), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says=_ANOTHERS, edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("no zero_grad", {"own_loop": 3}, "train_loop", ("            optimizer.zero_grad()\n", ""),
             says="zero_grad"),
    _mistake("wrong axis", RATIO, "attenuation",
             ("np.asarray(sizes)[:, -1] / np.asarray(sizes)[:, 0]", "np.asarray(sizes)[-1] / np.asarray(sizes)[0]")),
    Kind("half done", {"workspace": 3, "growth": 1, "precision": 2, "factors": 2}, stops_after="question_1_answer"),
    _mistake("first over last", RATIO, "attenuation",
             ("[:, -1] / np.asarray(sizes)[:, 0]", "[:, 0] / np.asarray(sizes)[:, -1]")),
    _mistake("edges for centres", {"gradient_distributions": 1}, "gradient_distributions",
             ("(edges[:-1] + edges[1:]) / 2", "edges[:-1]")),
    _mistake("sum for mean", {"model_loss": 3}, "model_loss",
             ("cross_entropy(network(images), labels)", 'cross_entropy(network(images), labels, reduction="sum")')),
    _mistake("PyTorch's own start", {"build_network": 1}, "build_network",
             ("        nn.init.xavier_uniform_(linear.weight)\n        nn.init.zeros_(linear.bias)\n", ""),
             says="not zero"),
    _mistake("softmax at the end", {"build_network": 1}, "build_network",
             ("    return nn.Sequential", '    layers["softmax"] = nn.Softmax(dim=1)\n    return nn.Sequential')),
    _mistake("gain too low", {"exploding": 3}, "exploding", ("gain=2.0", "gain=1.0"), says="stays finite"),
    _mistake("wrong variable", {"workspace": 1}, "workspace_report",
             ("desk.timeline.largest_growth()[0]", '"images"'), says="images"),
    Kind("copied, classmate's id", RUNS, copies=True, says=_ANOTHERS),
    Kind("classmate's recording", RELU, borrows=("relu",), says=_ANOTHERS),
    Kind("invented numbers", RELU, forge=invented, says="replay"),
    _forged("zeros", zeroed, "exactly 0"),
    _forged("shuffled in time", shuffled, "not in the order"),
    _forged("signs flipped", sign_flipped, "signs are flipped"),
    _forged("scaled", scaled, "scaled"),
    _forged("weights for gradients", weights_for_gradients, "are its weights"),
)  # fmt: skip
CLASSES = {"vanishing_gradients": VANISHING}
