"""A class: every submission marked by workers in parallel, and written into nbgrader's gradebook by one writer.

Stage 1 makes results/<assignment>/<student>.json, several submissions at once, here or on a cluster; stage 2 lets
nbgrader store them, one after another. Either can be killed at any point: what is done is not done again.
"""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from autograder import cluster, gradebook, logs, markers, marking, results, scratch, showing, submission
from autograder.course import assignments
from autograder.gradebook import GradebookError, UnusableError, Writer
from autograder.markers import Coming, Marked, MarkerError, Markers, Pages, open_markers
from autograder.marking import GradingError, How, Task
from autograder.mending import MendingError
from autograder.results import Outputs, Result
from autograder.submission import SubmissionError
from labkit.counts import counted
from labkit.files import write_whole
from labkit.jobs import Site

__all__ = ["GradingError", "Outcome", "feedback", "grade"]

TIMESTAMP = "timestamp.txt"
SECRET = "submission_secret.txt"  # nbgrader asks for it when feedback is given back
MOST_NAMED = 10  # students in a sentence
WORDS = {"graded": "graded", "refused": "refused", "person": "for a person", "failed": "failed"}

Backend = Literal["local", "slurm"]


@dataclass(frozen=True)
class Outcome:
    """What came of one student's submission. `failed`: the grader itself could not do its work."""

    student: str
    status: Literal["graded", "refused", "person", "failed"]
    reason: str = ""
    score: float = 0.0  # of the checks; essays are for a person
    max_score: float = 0.0
    seconds: float = 0.0
    cached: bool = False  # nothing had changed, so nothing was graded


def grade(
    course: Path,
    assignment: str,
    students: Sequence[str] | None = None,
    *,
    jobs: int | None = None,
    force: bool = False,
    how: How = "run",
    progress: bool = True,
    backend: Backend = "local",
    profile: str | Path = "generic",
) -> list[Outcome]:
    """Grade what was handed in, by default by everybody; one outcome for each student, in the order of their names.

    `how` says what is run: the notebook beside the recordings that were handed in ("run"), nothing ("evidence"), or the
    notebook alone, with every training ("execute"). What did not change since it was graded is not graded again, unless
    `force`, nor by its evidence what was run before. Each student's log is in results/. `jobs` submissions are marked
    at the same time, by default 2; with `backend="slurm"`, on a cluster that is asked as the `profile` says, as many
    as it takes. Raises `GradingError`, `GradebookError` or `JobError` when the course or the assignment cannot be
    graded at all; a bad submission raises nothing.
    """
    site = cluster.door(profile) if backend == "slurm" else None
    from autograder.preprocessors import limits_of

    course = course.absolute()
    plain = marking.prepare(course, assignment, limits_of(gradebook.settings(course)))
    task, instead = plain.graded_by(how), (plain,) if how == "evidence" else ()
    who = chosen(course, assignment, students)
    known, late = gradebook.recorded(course, assignment), gradebook.late(course, assignment)
    try:
        with (
            scratch.alone(course),
            bar_over(len(who), progress) as bar,
            _class(task, instead, who, jobs, force, site, (table := RunningTable(bar)).say) as class_,
        ):
            settled = partial(_settled, task, gradebook.Writer(course), late)
            found = [table.add(settled(one, marked, force or one not in known)) for one, marked in class_]
            return sorted(found, key=lambda outcome: outcome.student)
    except scratch.BusyError as error:
        raise GradingError(str(error)) from error


def feedback(course: Path, assignment: str, *, jobs: int = 2, progress: bool = True) -> list[Path]:
    """nbgrader's feedback page of every student who was graded; one that fails is named once all are written."""
    course = course.absolute()
    graded = sorted(gradebook.recorded(course, assignment))
    graded = [student for student in graded if gradebook.autograded(course, assignment, student).is_file()]
    if not graded:
        raise GradebookError(f"nobody was graded in {assignment} yet: run `autograder grade {assignment}` first")
    pages, troubles = [], []
    writers = Pages()
    with bar_over(len(graded), progress, "feedback") as bar, _threads(max(1, jobs), writers) as pool:
        for written in [pool.submit(writers.feedback, course, assignment, student) for student in graded]:
            try:
                pages.append(written.result())
            except (GradebookError, MarkerError) as error:
                troubles.append(str(error))
            bar.update()
    if troubles:
        raise GradebookError(f"{len(pages)} pages were written, {len(troubles)} were not: {'; '.join(troubles[:5])}")
    return pages


def chosen(course: Path, assignment: str, students: Sequence[str] | None) -> list[str]:
    """These students, by default all who handed in; `GradingError` names one who did not, or says that nobody did."""
    there = [path.parent.name for path in (course / "submitted").glob(f"*/{assignment}")]
    for student in students or ():
        if student not in there:
            known = ", ".join(sorted(there)[:20]) or "nobody"
            hint = _elsewhere(course, assignment, student)
            raise GradingError(
                f"{student} has handed in nothing for {assignment}; there are submissions of {known}{hint}"
            )
    if students is None and not there:
        elsewhere = misplaced(course, assignment)
        hint = f"; {elsewhere}" if elsewhere else ""
        raise GradingError(f"nobody has handed in {assignment}: collect the submissions first{hint}")
    return sorted(set(there if students is None else students))


def misplaced(course: Path, assignment: str) -> str:
    """Whose files below submitted/ are not looked at, for no folder there has the assignment's name; empty for none."""
    found = _misplaced(course, assignment)
    if not found:
        return ""
    shown = "; ".join(f"{student} has {_first(names)}" for student, names in list(found.items())[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (
        f"{counted(len(found), 'student')} with files in submitted/, but without a folder {assignment}: {shown}{more}; "
        f"what is of {assignment} has to be in submitted/STUDENT/{assignment}/"
    )


def _elsewhere(course: Path, assignment: str, student: str) -> str:
    names = _misplaced(course, assignment).get(student)
    return f"; submitted/{student}/ has {_first(names)}, but no folder {assignment}" if names else ""


def _misplaced(course: Path, assignment: str) -> dict[str, list[str]]:
    return submission.misplaced(course / "submitted", assignment, assignments(course))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# Stage 1


@contextlib.contextmanager
def _class(
    task: Task, instead: Sequence[Task], students: Sequence[str], jobs: int | None, force: bool, site: Site | None,
    say: Callable[[str], None],
) -> Iterator[Iterator[tuple[str, Coming]]]:  # fmt: skip
    """Every student with the submission on its way; what has not begun when we leave early never begins."""
    cluster.end_left(task, going_on=site is not None and not force)
    if site is not None:
        known = () if force else (*instead, task)
        with cluster.class_on(site, task, known, students, jobs, force, say) as coming:
            yield coming
        return
    jobs = max(1, min(jobs or 2, len(students)))
    marks = open_markers(task, jobs)
    with _threads(jobs, marks) as pool:
        yield iter([(one, pool.submit(_mark, task, instead, one, marks, force)) for one in students])


@contextlib.contextmanager
def _threads(jobs: int, asked: Markers | Pages) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for what is asked; where we leave early, that ends, and what has not begun never begins."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="grading")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        asked.close()
        pool.shutdown(wait=True)


def _mark(task: Task, instead: Sequence[Task], student: str, marks: Markers, force: bool) -> Marked:
    submission.check_name(student)
    if not force and (there := markers.stored(task, instead, student)) is not None:
        return (*there, True)
    return (*marks.mark(student), False)


# Stage 2


class RunningTable:
    """How many came to which end so far, beside the bar; above it, who needs somebody, and why."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.counts: Counter[str] = Counter()
        self.words = ""

    def say(self, words: str) -> None:
        """What the cluster is at, beside the counts."""
        if words != self.words:
            self.words = words
            self._show(refresh=True)

    def _show(self, refresh: bool = False) -> None:
        counts: dict[str, Any] = {WORDS[status]: number for status, number in self.counts.items()}
        self.bar.set_postfix({**counts, **({"cluster": self.words} if self.words else {})}, refresh=refresh)

    def add(self, outcome: Outcome) -> Outcome:
        self.counts[outcome.status] += 1
        if outcome.status != "graded" and not (outcome.cached or self.bar.disable):
            self.bar.write(f"{WORDS[outcome.status]}: {showing.one_line(f'{outcome.student}: {outcome.reason}')[:300]}")
        self._show()
        self.bar.update()
        return outcome


def _settled(task: Task, writer: Writer, late: Set[str], student: str, marked: Coming, anew: bool) -> Outcome:
    """A student's outcome, written down. Whatever goes wrong here stops nobody else."""
    outcome, result = _stored(task, writer, late, student, marked, anew)
    if not outcome.cached:
        with contextlib.suppress(OSError):  # a full disk was said already, by what is more than a log
            logs.write(task.course, task.assignment, student, outcome.status, outcome.reason, result)
    return outcome


def _stored(
    task: Task, writer: Writer, late: Set[str], student: str, marked: Coming, anew: bool
) -> tuple[Outcome, Result | None]:
    """A student's outcome, once nbgrader has it too, and the result if there is one."""
    result: Result | None = None
    try:
        result, outputs, stored = marked.result()
        cached = stored and not anew and is_recorded(task, result)
        if not cached:
            record(task, writer, result, outputs)
        elif student in late:  # a person may have marked since
            writer.penalise(task.assignment, student)
    except (MarkerError, UnusableError) as error:
        return Outcome(student, "failed", str(error)), result
    except (SubmissionError, GradebookError) as error:
        return Outcome(student, "refused", str(error)), result
    except Exception as error:
        return Outcome(student, "failed", f"the grader stopped with {type(error).__name__}: {error}"), result
    found = (result.status, result.reason, result.score, result.max_score, result.seconds, cached)
    return Outcome(student, *found), result


def record(task: Task, writer: Writer, result: Result, outputs: Outputs) -> None:
    """Let nbgrader store a result: in the gradebook, and as a notebook in autograded/."""
    from autograder.preprocessors import given

    _mark_of(task, result.student).unlink(missing_ok=True)
    with scratch.folder_in(task.course) as room:
        _lay_out(task, result, Path(room) / result.student / task.assignment)
        with given(result, outputs):
            writer.autograde(task.assignment, result.student, Path(room).name)
    note_recorded(task, result)


def note_recorded(task: Task, result: Result) -> None:
    """Note that nbgrader has this result."""
    write_whole(_mark_of(task, result.student), json.dumps(_state(task, result)).encode())


def _lay_out(task: Task, result: Result, target: Path) -> None:
    """What nbgrader finds in place of the raw submission: ordinary files and a notebook in order.

    For what cannot be graded it is the assignment as released, so that the student still gets a page with the reason.
    """
    target.mkdir(parents=True)
    notebook = task.released
    with contextlib.suppress(SubmissionError, MendingError, OSError):
        handed_in = submission.find(task.submitted(result.student), result.student, task.assignment)
        handed_in.copy(target)
        if result.status != "refused":
            notebook, _ = marking.mended(task, handed_in)
    for path in target.glob("*.ipynb"):
        # nbgrader would take a folder of such a name for a notebook, too
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (target / f"{task.assignment}.ipynb").write_text(json.dumps(notebook), "utf-8")
    if stamp := _timestamp(task, result.student):
        (target / TIMESTAMP).write_text(stamp, "utf-8")
    with contextlib.suppress(OSError):
        (target / SECRET).write_bytes(submission.beginning(task.submitted(result.student) / SECRET, 1000))


def _timestamp(task: Task, student: str) -> str:
    """When it was handed in, as nbgrader noted it; nothing when nbgrader could not read it."""
    from nbgrader.utils import parse_utc

    try:
        # where nobody collected, it is whatever was handed in under that name
        stamp = submission.beginning(task.submitted(student) / TIMESTAMP, 100).decode().strip()
        parse_utc(stamp)
    except (OSError, ValueError, OverflowError):
        return ""
    return stamp


def _mark_of(task: Task, student: str) -> Path:
    return results.path_of(task.course, task.assignment, student).with_suffix(".recorded")


def _state(task: Task, result: Result) -> dict[str, Any]:
    """What the gradebook was last told: another result or another time of handing in is news."""
    questions = json.dumps({id: asdict(question) for id, question in result.questions.items()}, sort_keys=True)
    return {
        "key": result.key,
        "questions": hashlib.sha256(questions.encode()).hexdigest(),
        "outputs": result.outputs,
        "timestamp": _timestamp(task, result.student),
    }


def is_recorded(task: Task, result: Result) -> bool:
    """Does nbgrader have this very result?"""
    try:
        noted = json.loads(_mark_of(task, result.student).read_bytes())
    except (OSError, ValueError):
        return False
    notebook = gradebook.autograded(task.course, task.assignment, result.student)
    return bool(noted == _state(task, result)) and notebook.is_file()


def bar_over(total: int, progress: bool, words: str = "grading") -> Any:
    from tqdm import tqdm

    # None: silent when not a terminal
    return tqdm(total=total, desc=words, unit="submission", disable=None if progress else True)
