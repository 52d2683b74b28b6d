"""The folder of a grading on a cluster: what is asked of its job arrays, and what their processes say.

    <course>/results/<assignment>/cluster/<run>/
        order.json              what is graded, and how
        array-K.json, .sh       the K-th job array: the students of each of its tasks, and Slurm's number
        processes/K-A-*.json    one process of the array's task A: what it is at, how much it marked, what went wrong
        done/STUDENT            the result stands in results/
        locks/STUDENT           held by the process that marks it
        logs/K-A.txt            what the program wrote

Files appear whole. Slurm starts a task again when its node failed, and the first process may still be running: so each
process has a file of its own, and a submission is marked by one process at a time.
"""

import contextlib
import fcntl
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autograder.marking import How
from labkit.files import write_whole

FORMAT = 1
TRIES = 3  # processes that may end, or fail, while they mark the same submission
FOLDERS = ("processes", "done", "locks", "logs")
END = 4000  # characters of a log's end


@dataclass(frozen=True)
class Order:
    """What a run grades: the same for all its tasks."""

    assignment: str
    how: How
    force: bool
    limits: Mapping[str, Any]
    base: str  # which release, checks and versions it is graded by


@dataclass(frozen=True)
class Array:
    """One job array."""

    number: int  # within the run
    name: str  # of no other job
    chunks: tuple[tuple[str, ...], ...]  # students, by task
    slurm: str = ""  # Slurm's number, once it has given one


@dataclass(frozen=True)
class Process:
    """What one process of a task said of itself."""

    array: int
    task: int
    node: str
    marked: tuple[str, ...] = ()  # students
    found: tuple[str, ...] = ()  # whose results a process had stored that was killed before it could say so
    doing: str = ""  # the student whose submission it marks, or marked when it ended
    errors: Mapping[str, str] = field(default_factory=dict)  # by student: why the grader could not mark it


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def course(self) -> Path:
        return self.path.parents[3]

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def make(self, order: Order) -> None:
        for name in FOLDERS:
            (self.path / name).mkdir(parents=True)
        self._write(self.path / "order.json", {"format": FORMAT, **asdict(order)})

    def order(self) -> Order | None:
        """What is graded; None where that was never written, or by another version."""
        said = self._read(self.path / "order.json")
        if said is None or said.pop("format", None) != FORMAT:
            return None
        return Order(**said)

    def write_array(self, array: Array) -> None:
        self._write(self.path / f"array-{array.number}.json", asdict(array))

    def array(self, number: int) -> Array | None:
        said = self._read(self.path / f"array-{number}.json")
        return None if said is None else Array(**{**said, "chunks": tuple(map(tuple, said["chunks"]))})

    def arrays(self) -> list[Array]:
        """In the order in which they were submitted."""
        found: list[Array] = []
        while (array := self.array(len(found))) is not None:
            found.append(array)
        return found

    def script(self, number: int) -> Path:
        return self.path / f"array-{number}.sh"

    def processes(self, array: int | None = None, task: int | None = None) -> list[Process]:
        """What the processes said, of one array or of one of its tasks where that is given."""
        which = f"{'*' if array is None else array}-{'*' if task is None else task}-*.json"
        said = [self._read(path) for path in (self.path / "processes").glob(which)]
        lists = ("marked", "found")
        return [Process(**one | {name: tuple(one[name]) for name in lists}) for one in said if one is not None]

    def log(self, array: int, task: int) -> str:
        """The end of what a task's program wrote."""
        try:
            return (self.logs / f"{array}-{task}.txt").read_text(errors="replace")[-END:]
        except OSError:
            return ""

    def done(self) -> set[str]:
        with contextlib.suppress(OSError):
            # a file that is being written has a leading dot
            return {path.name for path in (self.path / "done").iterdir() if not path.name.startswith(".")}
        return set()

    def is_done(self, student: str) -> bool:
        return (self.path / "done" / student).exists()

    def note_done(self, student: str) -> None:
        write_whole(self.path / "done" / student, b"")

    def take_back(self, student: str) -> None:
        (self.path / "done" / student).unlink(missing_ok=True)

    @contextlib.contextmanager
    def claimed(self, student: str) -> Iterator[bool]:
        """True for one process at a time; the system takes it back from one that is gone. Where the file system has no
        locks it is always true: two may then mark the same, and the files of a result fit together or are none."""
        with (self.path / "locks" / student).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:
                pass
            yield True

    def note_end(self, quiet: bool) -> None:
        """The grading that followed the jobs is over; when it is `quiet`, none of them is left."""
        self._write(self.path / "end.json", {"quiet": quiet})

    def ended(self) -> bool | None:
        """What `note_end` was told; None while a grading follows the jobs, or after it was killed."""
        said = self._read(self.path / "end.json")
        return None if said is None else said.get("quiet") is True

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def note(self, process: Process, file: str) -> None:
        self._write(self.path / "processes" / file, asdict(process))

    @staticmethod
    def _write(path: Path, values: Mapping[str, Any]) -> None:
        write_whole(path, json.dumps(values, indent=1).encode())

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def struck(processes: Collection[Process]) -> Counter[str]:
    """How many processes ended, or failed, at each student's submission; of those that are not done."""
    found: Counter[str] = Counter()
    for process in processes:
        found.update({process.doing, *process.errors} - {""})
    return found


def place_of(course: Path, assignment: str) -> Path:
    return course / "results" / assignment / "cluster"


def new_run(course: Path, order: Order) -> RunFolder:
    found = RunFolder(place_of(course, order.assignment) / secrets.token_hex(4))
    found.make(order)
    return found


def runs(course: Path, assignment: str) -> list[RunFolder]:
    """Those that were not removed: of gradings that were killed, or in which something failed."""
    return [RunFolder(path) for path in sorted(place_of(course, assignment).glob("*")) if path.is_dir()]


def array_name(run: RunFolder, number: int) -> str:
    """By which Slurm knows it. It says no student's name, for everybody on the cluster can read it."""
    return f"grade-{run.path.name}-{number}"
