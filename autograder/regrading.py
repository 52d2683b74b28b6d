"""Checks run again over what was stored: recordings, and the replies that the student's process gave. Nothing is run.

A check that changed may ask what was not asked before. Then its question needs an execution: it keeps the mark it had
until `autograder grade`. Marks go into the gradebook by grading's own road, so what a person gave there stays.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from autograder import answers, gradebook, grading, marking, results, scratch, submission
from autograder.checks import Verdict
from autograder.evidence import TIMELINE
from autograder.gradebook import GradebookError, Writer
from autograder.marking import GradingError, NotedEvidence, Task
from autograder.results import Exchange, Kept, QuestionResult, Result
from autograder.showing import WORDS
from autograder.submission import Submission, SubmissionError

Status = Literal["same", "changed", "left", "failed"]


@dataclass(frozen=True)
class Change:
    """One question whose mark is another now."""

    title: str
    before: float
    after: float
    reasons: tuple[str, ...]  # which check has another outcome, and what it says now


@dataclass(frozen=True)
class Regraded:
    """What came of one student. `left`: nothing was touched, `reason` says why; `failed`: the grader's own fault."""

    student: str
    status: Status
    reason: str = ""
    changes: tuple[Change, ...] = ()
    needs_execution: tuple[str, ...] = ()  # titles of questions that asked something new, and keep their mark


class LeftAlone(Exception):
    """This submission cannot be looked at again from what was stored; one sentence with what to do."""


class NotAsked(Exception):
    """A check wants to know of the student's process what nobody asked it before."""


def regrade(
    course: Path,
    assignment: str,
    students: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    progress: bool = True,
) -> list[Regraded]:
    """Run the checks of every student again, by default of all who handed in; with `dry_run` nothing is written.

    Raises `GradingError` or `GradebookError` when the course or the assignment cannot be graded at all.
    """
    from autograder.preprocessors import limits_of

    course = course.absolute()
    task = marking.prepare(course, assignment, limits_of(gradebook.settings(course)))
    who = grading.chosen(course, assignment, students)
    try:
        with scratch.alone(course), grading.bar_over(len(who), progress, "regrading") as bar:
            writer = None if dry_run else gradebook.Writer(course)
            return [_settled(task, writer, student, bar) for student in who]
    except scratch.BusyError as error:
        raise GradingError(str(error)) from error


def _settled(task: Task, writer: Writer | None, student: str, bar: Any) -> Regraded:
    """A student's outcome. Whatever goes wrong here stops nobody else. Without a writer nothing is written."""
    try:
        before, handed_in = _stored(task, student)
        after, needing = _again(task, before, handed_in)
        if writer is not None:
            _write(task, writer, before, after)
    except LeftAlone as left:
        return Regraded(student, "left", str(left))
    except GradebookError as error:
        return Regraded(student, "failed", str(error))
    except Exception as error:
        return Regraded(student, "failed", f"the grader stopped with {type(error).__name__}: {error}")
    finally:
        bar.update()
    changes = tuple(_changes(before, after))
    titles = tuple(before.questions[id].title for id in needing)
    return Regraded(student, "changed" if changes else "same", "", changes, titles)


# One submission


def _stored(task: Task, student: str) -> tuple[Result, Submission]:
    """The result that stands, and the submission that it is of, if that lies in the student's folder still."""
    grade = f"run `autograder grade {task.assignment} {student}`"
    result = results.load(task.course, task.assignment, student)
    if result is None:
        raise LeftAlone(f"it was not graded yet: {grade}")
    if result.status == "refused":
        raise LeftAlone(f"it could not be graded, so there is nothing to look at again: {result.reason}")
    try:
        handed_in = submission.find(task.submitted(student), student, task.assignment)
    except SubmissionError as error:
        raise LeftAlone(f"what was handed in changed since it was graded, and now {error}") from error
    if handed_in.digest != result.submission:
        raise LeftAlone(f"what was handed in changed since it was graded: {grade}")
    if set(result.questions) != set(task.questions):
        raise LeftAlone(f"the assignment was released with other questions since: {grade}")
    return result, handed_in


def _again(task: Task, before: Result, handed_in: Submission) -> tuple[Result, list[str]]:
    """The result as the checks would have it now, and the ids of the questions that need an execution."""
    kept = results.load_evidence(task.course, before)
    made = results.made_folder(task.course, before)
    if kept is None or not _is_whole(kept, made):
        raise LeftAlone(f"its stored evidence is not there: run `autograder grade {task.assignment} {before.student}`")
    with scratch.folder() as room:
        # a copy, in which no link leads anywhere
        handed_in.copy(Path(room))
        for file in kept.files:
            if file.made and file.name != TIMELINE:  # it was looked at in the place of the one that was handed in
                (Path(room) / file.name).unlink(missing_ok=True)
        stored = StoredReplies(kept)
        evidence = NotedEvidence([Path(room), made], before.student, stored.ask)
        found = {id: _examined(task, id, before, evidence, stored) for id in before.questions}
    needing = [id for id, question in found.items() if question is None]
    questions = {id: found[id] or _kept_mark(known, task.points[id]) for id, known in before.questions.items()}
    reason = marking.reason_for_person(questions.values())
    # what grading would execute anew keeps the key of the old execution
    current = not needing and before.execution == task.execution
    after = replace(
        before,
        questions=questions,
        key=task.key(handed_in) if current else before.key,
        status="person" if reason else "graded",
        reason=reason,
    )
    return after, needing


def _examined(
    task: Task, id: str, before: Result, evidence: NotedEvidence, stored: "StoredReplies"
) -> QuestionResult | None:
    """What comes of a question now; None when it asked something new."""
    stored.turn_to(id)
    found = marking.examine(task, id, evidence, before.ended)
    return None if stored.asked_anew else found


def _is_whole(kept: Kept, made: Path) -> bool:
    """Are the files that the grader's run made still what they were? What was handed in has a digest of its own."""
    try:
        return all(_sha256(made / file.name) == file.digest for file in kept.files if file.made)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _kept_mark(known: QuestionResult, of: float) -> QuestionResult:
    """The points it had, as far as the question still gives as many."""
    return replace(known, points=min(known.points, of), of=of)


def _write(task: Task, writer: Writer, before: Result, after: Result) -> None:
    """Store the result and let nbgrader have it, where it is another."""
    was_recorded = grading.is_recorded(task, before)
    if after == before and was_recorded:
        return
    outputs = results.load_outputs(task.course, before)
    if outputs is None:
        raise LeftAlone(f"its stored outputs are not there: run `autograder grade {task.assignment} {before.student}`")
    after = results.save(task.course, after, outputs)
    if was_recorded and after.questions == before.questions:
        grading.note_recorded(task, after)
    else:
        grading.record(task, writer, after, outputs)


class StoredReplies:
    """Answers the checks' requests from what was kept: each reply once, in the order in which it was given.

    A variable's value may be asked again, and by another question: looking at it changes nothing.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._values = {_spelt(one.request): one for one in _all(kept) if one.request.get("do") == "value"}
        self._left: dict[str, list[Exchange]] = {}
        self.asked_anew = False  # did this question ask what was not asked before?

    def turn_to(self, question: str) -> None:
        self._left, self.asked_anew = {}, False
        for one in self._kept.exchanges.get(question, ()):
            self._left.setdefault(_spelt(one.request), []).append(one)

    def ask(self, request: dict[str, Any]) -> Any:
        spelt = _spelt(request)
        waiting = self._left.get(spelt)
        found = waiting.pop(0) if waiting else self._values.get(spelt)
        # what was not kept is no different from what was not asked
        self.asked_anew |= found is None or bool(found.left_out)
        if found is None or found.left_out:
            raise NotAsked
        return answers.from_bytes(found.reply.encode())


def _all(kept: Kept) -> Iterator[Exchange]:
    for asked in kept.exchanges.values():
        yield from asked


def _spelt(request: dict[str, Any]) -> str:
    # as it was stored: with sorted keys
    return json.dumps(request, sort_keys=True)


# What changed


def _changes(before: Result, after: Result) -> Iterator[Change]:
    for id, now in after.questions.items():
        then = before.questions[id]
        if (then.points, then.needs_person) != (now.points, now.needs_person):
            yield Change(now.title, then.points, now.points, tuple(_reasons(then.verdicts, now.verdicts)))


def _reasons(before: Iterable[Verdict], after: Iterable[Verdict]) -> Iterator[str]:
    """A sentence for each check whose outcome or points are others, or which is new or gone."""
    then = {verdict.check: verdict for verdict in before}
    for now in after:
        known = then.pop(now.check, None)
        if known is None or (known.outcome, known.points, known.of) != (now.outcome, now.points, now.of):
            was = "is new" if known is None else WORDS[known.outcome][0]
            yield f"{now.check}: {was} → {WORDS[now.outcome][0]} {now.found or now.sentence}"
    for gone in then.values():
        yield f"{gone.check} is no longer asked"
