"""Why a submission has the mark that it has: the evidence behind one question, as plain lines for an instructor.

Everything is read from what grading stored. A student's texts may hold whatever moves a cursor, so each line is made
of one_line's text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autograder import answers, gradebook, grading, marking, mending, results, scratch, submission
from autograder.answers import AnswerError, Network, Tensor
from autograder.checks import Failed, Verdict
from autograder.evidence import TIMELINE
from autograder.gradebook import GradebookError, StudentScore
from autograder.marking import Task
from autograder.results import Exchange, File, Kept, Outputs, QuestionResult, Result
from autograder.showing import UNKNOWN, WORDS, one_line, points
from autograder.submission import Submission, SubmissionError
from labkit.counts import counted
from labkit.maps import PREFIX, Map
from labkit.recording import Recording, RecordingError
from labkit.timeline import Timeline, TimelineError

LONGEST = 240  # characters of one line
MOST_EXCHANGES = 30
MOST_LINES = 60  # of one cell's source
MOST_NUMBERS = 3  # of one array
MOST_ITEMS = 6  # of one list or dictionary
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # the colours of IPython's tracebacks


class ExplanationError(ValueError):
    """There is no such question, or nothing to explain; one sentence with what there is."""


@dataclass(frozen=True)
class Explanation:
    """The evidence behind one mark."""

    title: str
    sections: Mapping[str, tuple[str, ...]]  # lines by heading; leading blanks are their indent

    def __str__(self) -> str:
        blocks = [self.title, *("\n".join([name, *lines]) for name, lines in self.sections.items())]
        return "\n\n".join(blocks) + "\n"


@dataclass(frozen=True)
class _Case:
    """What is known of one question of one submission."""

    task: Task
    id: str  # grade id of the test cell
    result: Result
    handed_in: Submission | None  # None where it cannot be read
    kept: Kept | None
    outputs: Outputs | None
    scores: StudentScore | None

    @property
    def question(self) -> QuestionResult:
        return self.result.questions[self.id]


def explain(course: Path, assignment: str, student: str, question: str) -> Explanation:
    """The evidence behind the mark of `question`, a name or a grade id; graded first where that is not done yet.

    Raises `ExplanationError` for an unknown question, `GradingError` for a student who handed in nothing.
    """
    from autograder.preprocessors import limits_of

    course = course.absolute()
    task = marking.prepare(course, assignment, limits_of(gradebook.settings(course)))
    id = _grade_id(task, question)
    result = _standing(task, student)
    if result is None:
        [outcome] = grading.grade(course, assignment, [student], jobs=1)
        result = results.load(course, assignment, student)
        if result is None:
            raise ExplanationError(f"{student} could not be graded: {outcome.reason}")
    if id not in result.questions:
        raise ExplanationError(f"{student} was graded before the question {question} was asked: grade again")
    return _explained(_case(task, id, result))


def _grade_id(task: Task, question: str) -> str:
    for id, asked in task.questions.items():
        if question in (id, asked.name):
            return id
    known = ", ".join(asked.name for asked in task.questions.values())
    raise ExplanationError(f"{task.assignment} has no question {question}: choose from {known}")


def _standing(task: Task, student: str) -> Result | None:
    """The stored result, if it is of what lies in the student's folder now."""
    [student] = grading.chosen(task.course, task.assignment, [student])
    result = results.load(task.course, task.assignment, student)
    handed_in = _handed_in(task, student)
    if result is None or handed_in is None or result.submission != handed_in.digest:
        return None
    return result


def _handed_in(task: Task, student: str) -> Submission | None:
    try:
        return submission.find(task.submitted(student), student, task.assignment)
    except SubmissionError:
        return None


def _case(task: Task, id: str, result: Result) -> _Case:
    kept, outputs = results.load_evidence(task.course, result), results.load_outputs(task.course, result)
    return _Case(task, id, result, _handed_in(task, result.student), kept, outputs, _scores(task, result.student))


def _scores(task: Task, student: str) -> StudentScore | None:
    try:
        return next((one for one in gradebook.scores(task.course, task.assignment) if one.student == student), None)
    except GradebookError:
        return None


def _explained(case: _Case) -> Explanation:
    question = case.question
    title = f"{question.title} ({case.id}) of {case.result.student}: {points(question.points)} of {points(question.of)}"
    sections = {
        "What the checks found": _verdicts(case),
        "What the student's process was asked": _exchanges(case),
        "Files the checks looked at": _files(case),
        "Cells": _cells(case),
        "How the notebook ran": _run(case),
        "In the gradebook": _book(case),
    }
    lines = {heading: tuple(map(_line, found)) for heading, found in sections.items()}
    return Explanation(_line(title + " points"), {heading: found for heading, found in lines.items() if found})


def _line(text: str) -> str:
    line = one_line(text[: LONGEST + 1])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


# The checks


def _verdicts(case: _Case) -> Iterator[str]:
    if case.question.note:
        yield f"  {case.question.note}"
    for verdict in case.question.verdicts:
        yield from _verdict(verdict)
    handed_in = case.handed_in
    if handed_in is not None and case.result.key != case.task.key(handed_in):
        yield "  The checks, the release or the grader changed since: `regrade --checks` or `grade` looks anew."


def _verdict(verdict: Verdict) -> Iterator[str]:
    sign, word = WORDS.get(verdict.outcome, UNKNOWN)
    yield f"  {sign} {verdict.sentence} [{word}] ({points(verdict.points)} of {points(verdict.of)}; {verdict.check})"
    yield from (f"      {text}" for text in (verdict.found, verdict.help) if text)
    yield from (f"      {line}" for line in verdict.trace.strip().splitlines()[-3:])


# Requests and replies


def _exchanges(case: _Case) -> Iterator[str]:
    asked = case.kept.exchanges.get(case.id, ()) if case.kept else ()
    for number, one in enumerate(asked[:MOST_EXCHANGES], start=1):
        yield f"  {number}. {_asked(one.request)}"
        yield f"     → {_replied(one)}"
    if len(asked) > MOST_EXCHANGES:
        yield f"  and {len(asked) - MOST_EXCHANGES} more, in results/{case.task.assignment}/evidence/"


def _asked(request: Mapping[str, Any]) -> str:
    if request["do"] == "value":
        return f"{request['name']}"
    call = f"{request['function']}({', '.join(_shown(answers.decode(one)) for one in request['arguments'])})"
    return f"{call}, and its outputs for {_shown(answers.decode(request['inputs']))}" if "inputs" in request else call


def _replied(one: Exchange) -> str:
    if one.left_out:
        return f"a reply too large to be kept ({one.left_out:,} characters)"
    try:
        return _shown(answers.value_of(one.request, answers.from_bytes(one.reply.encode())))
    except Failed as failure:
        return " ".join(filter(None, (failure.found, failure.help)))
    except AnswerError as error:
        return f"a reply that {error}"


def _shown(value: Any) -> str:
    """A plain value, short: arrays by shape, kind, first numbers and range."""
    if isinstance(value, Tensor):
        return f"tensor {_array(value.values)}"
    if isinstance(value, np.ndarray):
        return f"array {_array(value)}"
    if isinstance(value, Network):
        return f"a {value.activation} network of {'-'.join(map(str, value.widths))}, seed {value.seed}"
    if isinstance(value, dict):
        return "{" + _items(f"{key!r}: {_shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        return opening + _items(map(_shown, value)) + closing
    return _cut(repr(value), 80)


def _array(values: answers.Array) -> str:
    shape = "x".join(map(str, values.shape)) or "of one number"
    first = ", ".join(f"{number:.5g}" for number in values.ravel()[:MOST_NUMBERS].tolist())
    if values.size <= MOST_NUMBERS:
        return f"{shape} {values.dtype} [{first}]"
    with np.errstate(invalid="ignore"):
        return f"{shape} {values.dtype} [{first}, …] from {values.min():.5g} to {values.max():.5g}"


def _items(shown: Iterable[str]) -> str:
    found = list(shown)
    return ", ".join(found[:MOST_ITEMS]) + (f", … {len(found)} in all" if len(found) > MOST_ITEMS else "")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


# Files


def _files(case: _Case) -> Iterator[str]:
    if case.kept is None:
        return
    for name in case.kept.looked_at.get(case.id, ()):
        found = [file for file in case.kept.files if file.name == name]
        if not found:
            yield f"  {name}: nobody handed it in, and the notebook did not make it when it was run"
        for file in found:
            origin = "made when the notebook was run" if file.made else "handed in"
            yield f"  {name}: {origin}, {file.size:,} bytes, SHA-256 {file.digest[:16]}…"
            yield f"      {_described(case, file)}"


def _described(case: _Case, file: File) -> str:
    with scratch.folder() as room:
        path = Path(room) / file.name
        try:
            path.write_bytes(_content(case, file))
            if file.name == TIMELINE:
                return _timeline(Timeline.load(path))
            return _map(path) if file.name.startswith(PREFIX) else _recording(Recording.load(path))
        except (OSError, RecordingError, TimelineError) as error:
            return f"it cannot be read: {error}".replace(f"{room}/", "")


def _content(case: _Case, file: File) -> bytes:
    if file.made:
        return (results.made_folder(case.task.course, case.result) / file.name).read_bytes()
    if case.handed_in is None:
        raise FileNotFoundError("it is gone from the submission")
    return case.handed_in.read(file.name)


def _map(path: Path) -> str:
    found = Map.load(path)
    owner = found.base.student or "nobody named"
    return f"{found!r}; of {owner}, seed {found.base.seed}, {found.base.dtype} on {found.device}"


def _recording(recording: Recording) -> str:
    origin = recording.origin
    versions = ", ".join(f"{name} {number}" for name, number in sorted(origin.versions.items()))
    stopped = f"; stopped early: {origin.stopped}" if origin.stopped else ""
    return (
        f"{recording.name} of {origin.student or 'nobody named'}, seed {origin.seed}, "
        f"{counted(recording.iterations, 'iteration')} in {counted(recording.epochs, 'epoch')}, "
        f"{origin.dtype} on {origin.device}, {versions}{stopped}"
    )


def _timeline(timeline: Timeline) -> str:
    return f"a timeline of {counted(len(timeline.steps), 'step')}"


# Cells


def _cells(case: _Case) -> Iterator[str]:
    """The answer cells of this question, and others that set what was asked for; each as it was run."""
    ran = {cell["id"]: cell["source"] for cell in case.kept.cells} if case.kept else {}
    own = answers_to(case.task, case.id)
    setting = [id for id, source in ran.items() if id not in own and _sets(source, _names(case))]
    for id in [*own, *setting]:
        if id in ran:
            yield from _cell(case, id, ran[id])
        else:
            yield f"  {id} was not run: it was deleted, blank, or is no code"


def answers_to(task: Task, id: str) -> list[str]:
    """Ids of the code cells that students fill in between the test before and the test `id`."""
    found: list[str] = []
    for cell in task.released["cells"]:
        if mending.grade_id(cell) == id:
            return found
        if mending.is_test(cell):
            found = []
        elif mending.grade_id(cell) and cell["cell_type"] == "code" and cell["metadata"]["nbgrader"].get("solution"):
            found.append(mending.grade_id(cell))
    return found


def _names(case: _Case) -> set[str]:
    asked = case.kept.exchanges.get(case.id, ()) if case.kept else ()
    return {str(one.request.get("function") or one.request.get("name")) for one in asked}


def _sets(source: str, names: set[str]) -> bool:
    return any(re.search(rf"^(?:def {re.escape(name)}\b|{re.escape(name)}\b.*=)", source, re.M) for name in names)


def _cell(case: _Case, id: str, source: str) -> Iterator[str]:
    number = case.outputs.numbers.get(id) if case.outputs else None
    stopped = ", stopped at its limit of time" if id in case.result.stopped else ""
    yield f"  {id} [{number or 'did not end'}]{stopped}"
    lines = source.splitlines()
    yield from (f"  | {line}" for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"  | … {len(lines) - MOST_LINES} more lines"
    for output in case.outputs.cells.get(id, []) if case.outputs else []:
        if output["output_type"] == "error":
            said = ESCAPES.sub("", f"{output['ename']}: {output['evalue']}").removesuffix(": ")
            yield f"  raised {said}"


# The run, and what a person did


def _run(case: _Case) -> Iterator[str]:
    result = case.result
    if result.reason:
        yield f"  {result.reason}"
    if result.ended:
        yield f"  It did not run to its end: {result.ended}"
    if result.stopped:
        yield f"  Cells that ran into the limit of time: {', '.join(result.stopped)}"
    yield from (f"  Remark: {remark}" for remark in result.remarks)
    if result.protection:
        yield f"  Protection in force: {result.protection}"
        yield f"  {result.cpu:.1f} s of processor time, {result.memory / 1024:,.0f} MB of memory"


def _book(case: _Case) -> Iterator[str]:
    scores = case.scores
    if scores is None or case.id not in scores.cells:
        yield "  nbgrader has no marks of this submission yet"
        return
    cell = scores.cells[case.id]
    auto = "none" if cell.auto is None else points(cell.auto)
    manual = "" if cell.manual is None else f"; a person gave {points(cell.manual)}"
    waits = "; a person has to look at it" if cell.needs_person else ""
    yield f"  {points(cell.score)} of {points(cell.max_score)} count: the checks gave {auto}{manual}{waits}"
    for id in [*answers_to(case.task, case.id), case.id]:
        if id in scores.comments:
            yield f"  A person's comment at {id}: {scores.comments[id]}"
    if scores.late_penalty:
        yield f"  Late penalty of the whole submission: {points(scores.late_penalty)} of {points(scores.score)} points"
