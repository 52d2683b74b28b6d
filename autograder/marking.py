"""One submission: mended, run in a process of its own, examined in ours. The result is data; nbgrader gets it later.

Fail closed: whatever a submission does, the result is a score, or that it cannot be graded because ..., or that it
needs a person because ... Nothing that is missing ever gives marks.
"""

import functools
import hashlib
import hmac
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

import autograder
import labkit
from autograder import (
    answers,
    checks,
    figures,
    journal,
    mending,
    questionnaire,
    readiness,
    results,
    sandbox,
    scratch,
    submission,
    worker,
)
from autograder.checks import Missing, NeedsExecution, Question
from autograder.evidence import TIMELINE, AnsweredEvidence
from autograder.limits import Limits
from autograder.mending import MendingError, Notebook
from autograder.outputs import Output
from autograder.readiness import is_blank
from autograder.results import Exchange, File, Kept, Outputs, QuestionResult, Result
from autograder.sitting import Sitting
from autograder.submission import Submission, SubmissionError
from autograder.workers import Nursery
from labkit.files import write_whole
from labkit.maps import Map
from labkit.recording import Recording
from labkit.timeline import Timeline

SECRET = ".grading-secret"
# what a run may leave behind as evidence, where it was not handed in
MADE = (".safetensors", TIMELINE)
MOST_MADE = 600 * 2**20  # bytes
VERSIONS = ("torch", "numpy", "matplotlib", "ipython")
# of the JSON of replies: a whole submission of the labs has 1 to 2 million
LONGEST_REPLY = 8 * 2**20
MOST_KEPT = 32 * 2**20
NOT_RUN = "nothing was run"
QUESTIONS = "questions"  # the folder of the modules that only checks stand in


# what a grading runs: the notebook beside the recordings that were handed in, which its training cells find; nothing,
# for recordings and answers.json alone; or the notebook without those recordings, every training anew
How = Literal["run", "evidence", "execute"]


class GradingError(Exception):
    """A course or an assignment that cannot be graded as it stands; one sentence with what to do."""


@dataclass(frozen=True)
class Task:
    """An assignment as the grader needs it, the same for the whole class."""

    course: Path  # absolute
    assignment: str
    released: Notebook
    questions: Mapping[str, Question]  # by grade id of their test cell
    points: Mapping[str, float]  # by grade id, as nbgrader has them
    limits: Limits
    secret: bytes
    execution: str  # stands for what decides what a student's process does: the release, the limits, our code
    base: str  # stands for all of the above and for the checks
    how: How = "run"

    def graded_by(self, how: How) -> "Task":
        """The same, graded in that way; `evidence` and `execute` have keys of their own."""
        execution, base = (digest if how == "run" else _digest(digest.encode(), how.encode())
                           for digest in (self.execution, self.base))  # fmt: skip
        return replace(self, how=how, execution=execution, base=base)

    def submitted(self, student: str) -> Path:
        """The folder of what a student handed in."""
        return self.course / "submitted" / student / self.assignment

    def key(self, handed_in: Submission) -> str:
        """Changes with anything that could change a mark."""
        return hashlib.sha256(f"{self.base}\0{handed_in.student}\0{handed_in.digest}".encode()).hexdigest()

    def seed(self, student: str, question: str) -> int:
        """Of the inputs that a question draws: no student knows it, and it stays the same for a regrade."""
        drawn = hmac.new(self.secret, f"{student}\0{question}".encode(), "sha256").digest()
        return int.from_bytes(drawn[:4], "big")

    def salt(self, student: str) -> bytes:
        """Decides which stretches of the student's recordings are audited, as secret and as lasting as `seed`."""
        return hmac.new(self.secret, f"{student}\0audit".encode(), "sha256").digest()


def prepare(course: Path, assignment: str, limits: Limits | None = None) -> Task:
    """Read what the whole class is graded by; `GradingError` says what is missing or does not fit."""
    course = course.absolute()
    content = _released(course, assignment)
    released = mending.read(content)
    points = mending.points_of(released)
    questions = _questions(assignment, points)
    limits, secret = limits or Limits(), _secret(course)
    of_task = json.dumps([_code(), repr(limits), assignment, sorted(points.items())]).encode()
    execution = _digest(of_task, content, secret)
    base = _digest(execution.encode(), _source_of(questions))
    return Task(course, assignment, released, questions, points, limits, secret, execution, base)


def _digest(*parts: bytes) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(hashlib.sha256(part).digest())
    return sha.hexdigest()


def released_notebook(course: Path, assignment: str) -> Path:
    """What every submission is compared with."""
    return course / "release" / assignment / f"{assignment}.ipynb"


def named_texts(course: Path, assignment: str) -> dict[str, str]:
    """What students see above each answer in words, by its grade id; empty where no release can be read."""
    try:
        return readiness.named_texts(mending.read(released_notebook(course, assignment).read_bytes()))
    except (OSError, MendingError):
        return {}


def _released(course: Path, assignment: str) -> bytes:
    path = released_notebook(course, assignment)
    try:
        return path.read_bytes()
    except OSError as error:
        raise GradingError(
            f"there is no release of {assignment} in {course}: release it first, "
            f"then grade what was handed in ({path.name} is needed)"
        ) from error


def _questions(assignment: str, points: Mapping[str, float]) -> dict[str, Question]:
    try:
        questionnaire.of(assignment)
    except questionnaire.QuestionnaireError as error:
        raise GradingError(f"{error}; `nbgrader autograde` grades a notebook that holds its own tests") from error
    try:
        return questionnaire.behind(assignment, points)
    except questionnaire.QuestionnaireError as error:
        raise GradingError(str(error)) from error


def _secret(course: Path) -> bytes:
    """The course's own, made when it is first needed. Whoever knows it knows the inputs of the tests."""
    path = course / SECRET
    try:
        if not path.exists():
            write_whole(path, secrets.token_hex(32).encode(), mode=0o600)
        return path.read_bytes()
    except OSError as error:
        raise GradingError(f"{path} cannot be read or made ({error.strerror}): grading needs to write there") from error


@functools.cache
def _code() -> str:
    """Stands for the code and the libraries that decide about marks, without the modules of questions."""
    sha = hashlib.sha256()
    for package in (autograder, labkit):
        root = Path(package.__path__[0])
        for path in sorted(set(root.rglob("*.py")) - set(_question_modules())):
            sha.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for name in VERSIONS:
        try:
            sha.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            sha.update(name.encode())
    return sha.hexdigest()


def _question_modules() -> list[Path]:
    return sorted((Path(autograder.__path__[0]) / QUESTIONS).rglob("*.py"))


def _source_of(questions: Mapping[str, Question]) -> bytes:
    """The text of the modules that checks stand in: ours, and those of these questions, wherever they are."""
    files = {check.examine.__code__.co_filename for question in questions.values() for check in question.checks}
    paths = {*_question_modules(), *(Path(name) for name in files if Path(name).is_file())}
    return b"".join(path.read_bytes() for path in sorted(paths))


def fetch(
    task: Task, student: str, folder: Path, nursery: Callable[[], Nursery], force: bool = False
) -> tuple[Result, Outputs]:
    """The stored result of this very submission, or a new one, which is then stored."""
    stored = None if force else stored_result(task, student, folder)
    if stored is not None:
        return stored
    result, outputs = mark(task, student, folder, nursery)
    return results.save(task.course, result, outputs), outputs


def stored_result(task: Task, student: str, folder: Path) -> tuple[Result, Outputs] | None:
    """The result in the file, if it was made of this very submission by these very checks."""
    result = known_result(task, student, folder)
    outputs = None if result is None else results.load_outputs(task.course, result)
    return None if result is None or outputs is None else (result, outputs)


def known_result(task: Task, student: str, folder: Path) -> Result | None:
    """The same without its outputs, which may be large."""
    result = results.load(task.course, task.assignment, student)
    if result is None or result.key != key_of(task, student, folder):
        return None
    return result if results.has_evidence(task.course, result) else None


def key_of(task: Task, student: str, folder: Path) -> str:
    """The key of what lies in the folder now; also of what cannot be graded."""
    try:
        return task.key(submission.find(folder, student, task.assignment))
    except SubmissionError as error:
        return _key_of_none(task, student, error)


def _key_of_none(task: Task, student: str, error: SubmissionError) -> str:
    return hashlib.sha256(f"{task.base}\0{student}\0{error}".encode()).hexdigest()


def mark(task: Task, student: str, folder: Path, nursery: Callable[[], Nursery]) -> tuple[Result, Outputs]:
    """Grade one submission and store what the checks went by. `nursery` is called only when the notebook is run."""
    try:
        handed_in = submission.find(folder, student, task.assignment)
        key = task.key(handed_in)
    except SubmissionError as error:
        return refusal(task, student, _key_of_none(task, student, error), str(error)), Outputs({}, {})
    try:
        notebook, remarks = mended(task, handed_in)
    except (SubmissionError, MendingError) as error:
        return refusal(task, student, key, str(error)), Outputs({}, {})
    if task.how == "evidence":
        result, outputs = _marked_unrun(task, handed_in, notebook), Outputs({}, {})
    else:
        result, outputs = _marked(task, handed_in, notebook, nursery())
    drawn = figures.handed_in(handed_in.read(handed_in.notebook), figures.drawing(task.released["cells"]))
    shown = {cell["id"]: drawn[source] for cell in notebook["cells"]
             if (source := cell["source"].strip()) in drawn and cell["id"] not in outputs.cells}  # fmt: skip
    outputs = replace(outputs, cells={**shown, **outputs.cells})
    return replace(result, key=key, remarks=(*handed_in.remarks, *remarks, *result.remarks)), outputs


def refusal(task: Task, student: str, key: str, reason: str) -> Result:
    """The result of what cannot be graded: no marks, and the reason at every question."""
    note = f"This could not be graded: {reason}."
    questions = {
        id: QuestionResult(q.name, q.title, 0.0, task.points[id], (), needs_person=True, note=note)
        for id, q in task.questions.items()
    }
    return Result(student, task.assignment, key, "refused", questions, reason)


def mended(task: Task, handed_in: Submission) -> tuple[Notebook, list[str]]:
    """The submission's notebook in order, with a remark for everything that was put right."""
    notebook, remarks = mending.mend(mending.read(handed_in.read(handed_in.notebook)), task.released)
    return notebook, [*handed_in.notebook_remarks, *remarks]


def _marked(task: Task, handed_in: Submission, notebook: Notebook, nursery: Nursery) -> tuple[Result, Outputs]:
    started = time.perf_counter()
    # the student's process never sees the first folder; what it changes lies in the other
    with scratch.folder() as files, nursery.room() as room:
        given, made = Path(files) / "given", Path(files) / "made"
        handed_in.copy(given)
        cells = code_cells(notebook, task)
        anew = task.how == "execute"
        with Sitting(nursery, partial(_place, room, handed_in, anew), cells, task.limits) as sitting:
            submission.take_files(sitting.place / worker.WORK, made, MADE, MOST_MADE)
            if anew:
                _put_away(given, made)
            evidence = NotedEvidence([given, made], handed_in.student, sitting.ask)
            ended = f"{sitting.ended}{_within(task, sitting.run.last)}" if sitting.ended else ""
            questions = {id: examine(task, id, evidence, ended) for id in task.questions}
        kept = Kept(cells, evidence.exchanges, evidence.looked_at, _files(given, made))
        digest = results.keep(task.course, task.assignment, handed_in.student, kept, made)
    result = replace(
        _summary(task, handed_in.student, questions, sitting, ended),
        seconds=time.perf_counter() - started,
        evidence=digest,
        submission=handed_in.digest,
        execution=task.execution,
    )
    last_words = {id: [_word(why)] for id, why in sitting.left_out.items()}
    return result, Outputs({**sitting.run.outputs, **last_words}, sitting.run.numbers)


def _marked_unrun(task: Task, handed_in: Submission, notebook: Notebook) -> Result:
    """What the recordings and answers.json say by themselves; no code of the student's is run."""
    started = time.perf_counter(), time.process_time()
    with scratch.folder() as files:
        given, made = Path(files) / "given", Path(files) / "made"
        handed_in.copy(given)
        made.mkdir()
        said = journal.read(given)
        written = journal.assigned(cell["source"] for cell in code_cells(notebook, task) if not is_blank(cell))

        def ask(request: dict[str, Any]) -> Any:
            if request["do"] != "value" or (name := request["name"]) not in said:
                raise NeedsExecution
            if name not in written:
                raise Missing(f"{name} is in {journal.FILE}, and no answer of the notebook assigns it")
            return said[name]

        evidence = NotedEvidence([given], handed_in.student, ask)
        questions = {id: examine(task, id, evidence, "") for id in task.questions}
        kept = Kept([], evidence.exchanges, evidence.looked_at, _files(given, made))
        digest = results.keep(task.course, task.assignment, handed_in.student, kept, made)
    return Result(
        handed_in.student,
        task.assignment,
        "",
        "person" if (reason := reason_for_person(questions.values())) else "graded",
        questions,
        reason=reason,
        protection=NOT_RUN,
        seconds=time.perf_counter() - started[0],
        cpu=time.process_time() - started[1],
        evidence=digest,
        submission=handed_in.digest,
        execution=task.execution,
    )


def _put_away(given: Path, made: Path) -> None:
    """Where everything is run anew, a recording that the run makes takes the place of the one that was handed in."""
    for path in made.glob("*.safetensors"):
        (given / path.name).unlink(missing_ok=True)


def _files(given: Path, made: Path) -> list[File]:
    """What was handed in, and what the run made where that was looked at: where nothing of the name was handed in, and
    the timeline, of which both count."""
    theirs = {str(path.relative_to(given)): path for path in sorted(given.rglob("*")) if path.is_file()}
    ours = {path.name: path for path in sorted(made.iterdir()) if path.name not in theirs or path.name == TIMELINE}
    # a name may hold bytes that no text has; no check asks for such a file
    found = [(name, path, False) for name, path in theirs.items()] + [(name, path, True) for name, path in ours.items()]
    return [_file(*one) for one in found if one[0].isprintable()]


def _file(name: str, path: Path, made: bool) -> File:
    with path.open("rb") as content:
        return File(name, path.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest(), made)


def _word(why: str) -> Output:
    """Stands under a cell that ended its process."""
    return {"output_type": "error", "ename": "Ended", "evalue": why, "traceback": [why]}


def _place(room: str, handed_in: Submission, anew: bool) -> Path:
    """A private place for one process: the submission's files to work on, its recordings only where they are not made
    anew, and a home."""
    place = Path(tempfile.mkdtemp(prefix="place-", dir=room))
    handed_in.copy(place / worker.WORK)
    if anew:
        for path in (place / worker.WORK).rglob("*.safetensors"):
            path.unlink()
    (place / worker.HOME).mkdir()
    return place


def _summary(task: Task, student: str, questions: dict[str, QuestionResult], sitting: Sitting, ended: str) -> Result:
    reason = reason_for_person(questions.values())
    limit = f"{task.limits.cell_seconds:g} s"
    stopped = [f"The cell {cell}{_within(task, cell)} was stopped after {limit}." for cell in sitting.run.stopped]
    left_out = [f"The cell {cell}{_within(task, cell)} was left out: {why}." for cell, why in sitting.left_out.items()]
    return Result(
        student,
        task.assignment,
        "",
        "person" if reason else "graded",
        questions,
        reason=reason,
        remarks=(*stopped, *left_out),
        ended=ended,
        stopped=tuple(sitting.run.stopped),
        protection=", ".join(sitting.walls) or sandbox.NONE,
        cpu=sum(ending.cpu for ending in sitting.endings),
        memory=max(ending.memory for ending in sitting.endings),
    )


def _within(task: Task, cell: str) -> str:
    """In brackets, the question that a cell of the release leads to: the next one that is tested."""
    found = ""
    for one in reversed(task.released["cells"]):
        id = mending.grade_id(one)
        found = f" (in {task.questions[id].title})" if id in task.questions else found
        if cell in (id, one.get("id")):
            return found
    return ""


def reason_for_person(questions: Collection[QuestionResult]) -> str:
    """Why a person has to see to some of these questions; empty without any."""
    found = []
    for outcome, words in (
        ("broken", "a check went wrong by itself in"),
        ("unexecuted", "the notebook has to be run for"),
    ):
        if titles := [q.title for q in questions if any(verdict.outcome == outcome for verdict in q.verdicts)]:
            found.append(f"{words} {', '.join(titles)}")
    return "; ".join(found)


def code_cells(notebook: Notebook, task: Task) -> list[dict[str, str]]:
    """What is run: every code cell but the tests, whose outputs are the grader's, copies of them, and blanks that
    were put back: they would take the place of an answer that the student moved into another cell.
    Figures are drawn only where everything is run anew."""
    drawing: Collection[str] = () if task.how == "execute" else figures.drawing(task.released["cells"])
    tests = {cell["source"].strip() for cell in task.released["cells"] if mending.is_test(cell)}
    return [
        {"id": cell["id"], "source": cell["source"]}
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and cell["source"].strip() and cell["source"].strip() not in {*tests, *drawing}
        if not mending.is_blank_put_back(cell)
    ]


def examine(task: Task, id: str, evidence: "NotedEvidence", ended: str) -> QuestionResult:
    """What came of one question. `ended` says why the notebook did not run to its end, if so."""
    question = task.questions[id]
    evidence.turn_to(id)
    evidence.random = np.random.RandomState(task.seed(evidence.student, question.name))
    evidence.salt = task.salt(evidence.student)
    verdicts = checks.run(question, evidence)
    earned = min(max(checks.earned(verdicts), 0.0), task.points[id])
    note = f"The notebook did not run to its end: {ended}." if ended else ""
    return QuestionResult(
        question.name, question.title, earned, task.points[id], tuple(verdicts), checks.needs_person(verdicts), note
    )


class NotedEvidence(AnsweredEvidence):
    """Evidence that notes what each question asked of the student's process, what came back, and the files it saw."""

    def __init__(self, folders: Sequence[Path], student: str, ask: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(folders, student, 0, ask)
        self._left = MOST_KEPT
        self._question = ""
        self.exchanges: dict[str, list[Exchange]] = {}
        self.looked_at: dict[str, list[str]] = {}

    def turn_to(self, question: str) -> None:
        """What is noted from now on belongs to this question."""
        self._question = question
        self.exchanges[question], self.looked_at[question] = [], []

    def recording(self, name: str) -> Recording:
        self._look_at(f"{name}.safetensors")
        return super().recording(name)

    def map(self, name: str) -> Map:
        self._look_at(f"{name}.safetensors")
        return super().map(name)

    def timelines(self) -> list[Timeline]:
        self._look_at(TIMELINE)
        return super().timelines()

    def _look_at(self, file: str) -> None:
        if file not in self.looked_at[self._question]:
            self.looked_at[self._question].append(file)

    def _answer(self, request: dict[str, Any]) -> Any:
        reply = self.ask(request)
        self.exchanges[self._question].append(self._exchange(request, reply))
        return answers.value_of(request, reply)

    def _exchange(self, request: dict[str, Any], reply: Any) -> Exchange:
        try:
            text = json.dumps(reply, separators=(",", ":"))
        except RecursionError:  # it was read at a place with fewer calls around it
            return Exchange(request, "", left_out=1)
        if len(text) > min(LONGEST_REPLY, self._left):
            return Exchange(request, "", left_out=len(text))
        self._left -= len(text)
        return Exchange(request, text)
