"""A class marked on a Slurm cluster: job arrays of chunks of submissions, followed until every one has an outcome.

The nodes write results/, as a local grading's processes do (`node`); only this side writes the gradebook. A task that
ends before its work is done leaves it to another: Slurm's, where a node failed, or one of ours. A command that was
killed is taken up again by the next: what its jobs have marked, or are at, is not marked twice.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from autograder import chunks, markers, marking, results, submission
from autograder.chunks import TRIES, Array, Order, Process, RunFolder
from autograder.markers import Coming, Marked, MarkerError
from autograder.marking import GradingError, Task
from autograder.results import Outputs, Result
from autograder.submission import SubmissionError
from labkit.counts import counted
from labkit.files import write_whole
from labkit.jobs import JobError, Site, batch, scheduler, site
from labkit.jobs.folder import State

POLL = 0.5  # seconds between two looks into the run's folder
LOOK = 5.0  # seconds between two questions to Slurm, whose controller serves everybody
GRACE = 10.0  # seconds for a shared file system to show what a task that ended has written
AGAIN = 6  # times as long for Slurm to queue a task again whose node failed
SILENCE = 900.0  # seconds without an answer of Slurm's after which we go
ENDING = 60.0  # seconds that cancelled tasks may take to end
# a task warms its worker up for some seconds, which a few submissions should share
SMALLEST, LARGEST, TASKS = 10, 100, 100
GRADER = 2 * 2**30  # bytes: the warm parent with torch in it, and the grader with the recordings that it replays
READERS = 4  # threads that look whether submissions have changed

EXITED = re.compile(r"srun: error: .*(Exited with|Killed|Terminated)")  # says of a task what its own words say better

Say = Callable[[str], None]


def door(profile: str | Path) -> Site:
    """The site that a grading asks; raises at once what would stop it: `GradingError` without Slurm, `JobError`."""
    if not scheduler.is_there():
        raise GradingError(
            "there is no sbatch here, so nothing can be graded on a cluster: run this where jobs are submitted, "
            "or leave out --backend slurm"
        )
    return site(profile, "grading")


def end_left(task: Task, *, going_on: bool) -> None:
    """End the jobs of gradings that were killed, so that nothing is marked twice; all but those of the same grading
    where it is `going_on`. Raises `GradingError` where they do not end."""
    for run in chunks.runs(task.course, task.assignment):
        if going_on and _is_of(run, task):
            continue
        try:
            alive = _alive(run)
            for array in alive:
                scheduler.cancel(array.slurm)
            end = time.monotonic() + ENDING
            while any(map(_is_alive, alive)) and time.monotonic() < end:
                time.sleep(POLL)
        except JobError as error:
            raise GradingError(
                f"jobs of an earlier grading may still be at work, and Slurm cannot be asked ({error}): end them where "
                f"it can, and remove {run.path}"
            ) from error
        if any(map(_is_alive, alive)):
            raise GradingError(f"job {alive[0].slurm} of an earlier grading does not end: wait, then grade again")
        run.remove()


def _is_of(run: RunFolder, task: Task) -> bool:
    """Does it grade the same by the same, and are its jobs still there?"""
    order = run.order()
    same = order is not None and (order.base, order.how, order.force) == (task.base, task.how, False)
    return same and run.ended() is None and bool(_alive(run))


def _alive(run: RunFolder) -> list[Array]:
    return [] if run.ended() else [array for array in _numbered(run) if _is_alive(array)]


def _numbered(run: RunFolder) -> list[Array]:
    """The arrays with Slurm's numbers, also where the command was killed before it could write one down; one that never
    came to be has none."""
    found = [array if array.slurm else replace(array, slurm=scheduler.find(array.name)) for array in run.arrays()]
    for array in found:
        run.write_array(array)
    return found


def _is_alive(array: Array) -> bool:
    seen = scheduler.tasks(array.slurm, array.name, len(array.chunks)) if array.slurm else {}
    return seen is None or any(state in ("queued", "running") for _, state, _ in seen.values())


@contextlib.contextmanager
def class_on(
    asked: Site, task: Task, known: Sequence[Task], students: Sequence[str], at_once: int | None, force: bool, say: Say
) -> Iterator[Iterator[tuple[str, Coming]]]:
    """Every student with the submission, as they come; what is not marked when we leave is not marked any more. Results
    by one of the tasks `known` are not made anew."""
    order = Order(task.assignment, task.how, force, task.limits.to_json(), task.base)
    left = chunks.runs(task.course, task.assignment)
    run = left[0] if left else chunks.new_run(task.course, order)
    asked = asked if asked.memory else replace(asked, memory=f"{_memory(task) // 2**20}M")
    class_ = _Class(run, asked, task, at_once, say)
    try:
        yield class_.coming(students, known)
    finally:
        class_.end()


def _memory(task: Task) -> int:
    """Bytes: a submission's own and the grader's; where nothing is run, the grader's alone."""
    return GRADER + (0 if task.how == "evidence" else task.limits.data_bytes)


@dataclass(frozen=True)
class Stored:
    """A result that stood in its file before."""

    task: Task
    found: Result

    def result(self) -> Marked:
        outputs = results.load_outputs(self.task.course, self.found)
        if outputs is None:
            raise MarkerError("its files changed while it was graded")
        return self.found, outputs, True


@dataclass(frozen=True)
class Done:
    """A result that a node wrote."""

    found: tuple[Result, Outputs]

    def result(self) -> Marked:
        return (*self.found, False)


@dataclass(frozen=True)
class Lost:
    """No result."""

    error: Exception

    def result(self) -> Marked:
        raise self.error


@dataclass
class Followed:
    """An array, and which of its tasks ended."""

    array: Array
    ended: dict[int, float] = field(default_factory=dict)  # when that was first seen, on time.monotonic's clock
    over: set[int] = field(default_factory=set)  # for good

    def close(self) -> None:
        """None of its tasks will mark anything."""
        self.over.update(range(len(self.array.chunks)))

    @property
    def closed(self) -> bool:
        return len(self.over) == len(self.array.chunks)


class _Class:
    """The submissions of a class, and the job arrays that mark them."""

    def __init__(self, run: RunFolder, asked: Site, task: Task, at_once: int | None, say: Say) -> None:
        self._run, self._site, self._task, self._at_once, self._say = run, asked, task, at_once, say
        self._open: set[str] = set()  # students without an outcome
        self._at: dict[str, int] = {}  # the array that is to mark them
        self._failed = False
        self._arrays: list[Followed] = []
        self._lost: dict[str, Exception] = {}
        self._unread: dict[str, float] = {}  # said to be done, without a result: since when
        self._blank: Counter[str] = Counter()  # tasks that ended before they began with this student
        self._next = self._heard = time.monotonic()

    # what comes

    def coming(self, students: Sequence[str], known: Sequence[Task]) -> Iterator[tuple[str, Coming]]:
        there = self._looked_up(students, known)
        self._open = {one for one in students if one not in there}
        self._begin()
        yield from there.items()
        while self._open:
            came = 0
            for student in sorted(self._run.done() & self._open):
                if (done := self._read(student)) is not None:
                    self._open.discard(student)
                    yield student, done
                    came += 1
                self._look()
            self._look()
            for student, error in self._taken():
                yield student, Lost(error)
            if self._open and not came:
                time.sleep(POLL)

    def _looked_up(self, students: Sequence[str], known: Sequence[Task]) -> dict[str, Coming]:
        """What needs no job: results that are there, and what cannot be graded at all."""

        def look(student: str) -> Coming | None:
            try:
                submission.check_name(student)
                found = (marking.known_result(one, student, one.submitted(student)) for one in known)
                return next((Stored(self._task, one) for one in found if one is not None), None)
            except (SubmissionError, OSError) as error:  # a file that cannot be read is nobody else's loss
                return Lost(error)

        with ThreadPoolExecutor(READERS) as pool:
            found = zip(students, pool.map(look, students), strict=True)
            return {student: coming for student, coming in found if coming is not None}

    def _read(self, student: str) -> Done | Lost | None:
        """What a node said to have stored; where that does not hold after a while, it is left to be marked again."""
        try:
            stored = marking.stored_result(self._task, student, self._task.submitted(student))
        except OSError as error:
            return Lost(error)
        if stored is not None:
            return Done(stored)
        if time.monotonic() - self._unread.setdefault(student, time.monotonic()) > GRACE:
            self._blank[student] += 1
            self._take_back(student)
        return None

    def _take_back(self, student: str) -> None:
        self._unread.pop(student, None)
        self._run.take_back(student)
        if student in self._at:
            one = self._arrays[self._at[student]]
            one.over -= {index for index, chunk in enumerate(one.array.chunks) if student in chunk}

    def _taken(self) -> list[tuple[str, Exception]]:
        taken, self._lost = self._lost, {}
        self._failed |= bool(taken)
        self._open -= taken.keys()
        return list(taken.items())

    # what is asked

    def _begin(self) -> None:
        """Take over the arrays that are there, and ask for the rest."""
        self._arrays = [Followed(array) for array in _numbered(self._run)]
        for one in self._arrays:
            if one.array.slurm:
                self._at |= {student: one.array.number for chunk in one.array.chunks for student in chunk}
            else:
                one.close()  # it never came to be
        for student in self._open & self._run.done():
            if self._read(student) is None:  # handed in anew since then
                self._take_back(student)
        if rest := sorted(self._open - self._at.keys()):
            self._submit(_chunked(rest, _size(len(rest))))

    def _submit(self, wanted: Sequence[Sequence[str]]) -> None:
        """Ask for an array; raises JobError. What it is for stands in the run's folder before Slurm hears of it."""
        number = len(self._arrays)
        array = Array(number, chunks.array_name(self._run, number), tuple(map(tuple, wanted)))
        log, script = self._run.logs / str(number), self._run.script(number)
        program = ["-P", "-m", "autograder.node", str(self._run.path), str(number)]
        # another interpreter has other modules
        known = {} if self._site.python else markers.variables()
        text = batch.array(array.name, log, self._site, program, len(wanted), self._at_once, known)
        write_whole(script, text.encode())
        self._run.write_array(array)
        followed = Followed(array)
        self._arrays.append(followed)
        self._at |= {student: number for chunk in wanted for student in chunk}
        try:
            followed.array = replace(array, slurm=scheduler.submit(script))
        except JobError:
            followed.close()
            raise
        self._run.write_array(followed.array)

    # what is seen

    def _look(self) -> None:
        """Ask Slurm where the tasks are, now and then."""
        if time.monotonic() < self._next:
            return
        running, queued, why, lost = 0, 0, "", []
        for one in self._arrays:
            seen = None if one.closed else self._asked(one.array)
            if seen is None:
                continue
            done = self._run.done()  # afterwards: what ended has written by now
            states = [state for _, state, _ in seen.values()]
            running, queued = running + states.count("running"), queued + states.count("queued")
            why = next((reason for _, state, reason in seen.values() if state == "queued" and reason), why)
            for index, chunk in enumerate(one.array.chunks):
                own = (student for student in chunk if self._at[student] == one.array.number)
                left = [student for student in own if student in self._open and student not in done]
                if index not in one.over and self._is_over(one, index, seen.get(index), bool(left)):
                    one.over.add(index)
                    lost.append((one.array, index, left, seen.get(index)))
        self._told(running, queued, why)
        self._again(lost)
        self._next = time.monotonic() + LOOK

    def _asked(self, array: Array) -> dict[int, tuple[str, State, str]] | None:
        try:
            seen = scheduler.tasks(array.slurm, array.name, len(array.chunks)) if array.slurm else {}
        except JobError:
            seen = None
        if seen is not None:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENCE:
            raise GradingError(f"Slurm has given no answer for {SILENCE / 60:.0f} minutes: grade again when it does")
        return seen

    def _is_over(self, one: Followed, index: int, seen: tuple[str, State, str] | None, left: bool) -> bool:
        """Has the task ended for good? What it wrote may come later than its end."""
        if seen is not None and seen[1] in ("queued", "running"):
            one.ended.pop(index, None)
            return False
        since = one.ended.setdefault(index, time.monotonic())
        patience = GRACE * (AGAIN if seen is not None and seen[0] in scheduler.AGAIN else 1)
        return not left or time.monotonic() - since > patience

    def _told(self, running: int, queued: int, why: str) -> None:
        waits = f"{queued} wait{f' ({why})' if why and not running else ''}" if queued else ""
        runs = f"{counted(running, 'job')} run{'s' * (running == 1)}" if running else ""
        self._say(", ".join(filter(None, [runs, waits])))

    def _again(self, lost: "Sequence[tuple[Array, int, list[str], tuple[str, State, str] | None]]") -> None:
        """What ended tasks have left goes to others; not what was at fault too often, or was cancelled."""
        if not any(left for _, _, left, _ in lost):
            return
        said = self._run.processes()
        self._stop_if_in_vain(said)
        struck, alone, together = chunks.struck(said), [], []
        for array, index, left, seen in lost:
            own = [one for one in said if (one.array, one.task) == (array.number, index)]
            why = self._why(array, index, seen, own)
            progress = any(one.marked or one.doing or one.errors for one in own)
            for student in left:
                self._blank[student] += not progress
                tries = struck[student] + self._blank[student]
                if seen is not None and seen[1] == "cancelled":
                    self._lost[student] = MarkerError(f"Slurm's job {array.slurm} was cancelled: grade again to go on")
                elif tries >= TRIES:
                    error = next((one.errors[student] for one in own if student in one.errors), why)
                    self._lost[student] = MarkerError(f"{tries} jobs could not mark it: {error}")
                elif struck[student]:
                    alone.append(student)
                else:
                    together.append(student)
        self._resubmit([*_chunked(sorted(together), _size(len(together))), *([one] for one in sorted(alone))])

    def _resubmit(self, wanted: Sequence[Sequence[str]]) -> None:
        if not wanted:
            return
        try:
            self._submit(wanted)
        except JobError as error:
            self._lost |= {student: MarkerError(str(error)) for chunk in wanted for student in chunk}

    def _why(self, array: Array, index: int, seen: tuple[str, State, str] | None, own: Sequence[Process]) -> str:
        """Why a task ended, as far as anybody said."""
        log = self._run.log(array.number, index)
        if errors := [error for one in own for error in one.errors.values()]:
            return errors[-1]
        if hint := scheduler.hint(log):
            return hint
        if seen is not None and seen[1] == "failed" and not seen[0].startswith("FAILED"):
            return seen[2]
        lines = [line for line in log.splitlines() if line.strip() and not EXITED.match(line)]
        return lines[-1].strip()[:300] if lines else f"it ended without a word; see {self._run.logs}"

    def _stop_if_in_vain(self, said: Sequence[Process]) -> None:
        """Where nothing at all was marked, or could even be begun, more jobs would do no better."""
        begun = any(one.doing or one.errors for one in said)
        if not all(one.closed for one in self._arrays) or (begun and len(self._arrays) < TRIES):
            return
        if self._run.done() or any(one.marked for one in said) or len(self._open) < 2:
            return
        array = self._arrays[-1].array
        seen = (self._asked(array) or {}).get(0)
        if seen is not None and seen[1] == "cancelled":
            raise GradingError(f"Slurm's job {array.slurm} was cancelled before it marked anything: grade again")
        self._failed = True
        raise GradingError(
            f"no task of Slurm's job {array.slurm} could mark anything: {self._why(array, 0, seen, said)}"
        )

    def end(self) -> None:
        """End what is still there; a task that has marked its last submission ends by itself. The folder stays for a
        while where it says why something has no result."""
        with contextlib.suppress(JobError, OSError):  # the next grading asks after them again
            alive = _alive(self._run)
            patience = time.monotonic() + GRACE
            while alive and not self._open and time.monotonic() < patience:
                time.sleep(POLL)
                alive = [array for array in alive if _is_alive(array)]
            self._run.note_end(not alive)
            for array in alive:
                scheduler.cancel(array.slurm)
            if not (alive or self._failed):
                self._run.remove()


def _size(students: int) -> int:
    """How many submissions a chunk has: the site bounds how many tasks an array may have."""
    size = min(max(SMALLEST, -(-students // TASKS)), LARGEST)
    return max(size, -(-students // scheduler.most_tasks()))


def _chunked(students: Sequence[str], size: int) -> list[list[str]]:
    """Dealt out like cards, so that what comes first by name is marked first everywhere."""
    count = -(-len(students) // size)
    return [list(students[k::count]) for k in range(count)]
