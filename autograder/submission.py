"""What was handed in: which files count, and copies of them in which no link leads anywhere."""

import contextlib
import difflib
import functools
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 500
MOST_BYTES = 600 * 2**20
DEEPEST = 6
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
# nbgrader looks for students by a pattern, and names files after them
NAME = re.compile(r"[\w@.,' -]+")
LEFT_OUT = {"timestamp.txt", "submission_secret.txt", "feedback"}  # nbgrader's own, not the student's


class SubmissionError(ValueError):
    """A submission that cannot be graded; one sentence that says why and what to do."""


@dataclass(frozen=True)
class Submission:
    """The files of a student, read once and checked."""

    student: str
    assignment: str
    folder: Path
    files: tuple[str, ...]  # relative to the folder, sorted
    remarks: tuple[str, ...]  # what was found odd, for the feedback

    @property
    def notebook(self) -> str:
        """The notebook among the files; raises `SubmissionError` when none or too many could be meant."""
        return _notebook(self)[0]

    @property
    def notebook_remarks(self) -> tuple[str, ...]:
        return _notebook(self)[1]

    def read(self, name: str) -> bytes:
        return _read(self.folder / name)

    @functools.cached_property
    def digest(self) -> str:
        """Stands for the names and contents of all files, as they were when it was first asked for."""
        sha = hashlib.sha256()
        for name in self.files:
            content = self.read(name)
            sha.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
            sha.update(content)
        return sha.hexdigest()

    def copy(self, target: Path) -> None:
        """The same files under `target`, as ordinary files."""
        target.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(name))


def check_name(student: str) -> None:
    """Raises `SubmissionError` for an id that nbgrader could not grade."""
    if not NAME.fullmatch(student) or student.startswith("."):
        raise SubmissionError(f"nbgrader cannot grade a student called {student!r}: rename the folder in submitted/")


def find(folder: Path, student: str, assignment: str) -> Submission:
    """Look through what a student handed in; links and what is no file are left out and named."""
    if folder.is_symlink() or not folder.is_dir():
        raise SubmissionError(f"{student} has handed in nothing that is a folder: collect the submission again")
    files, remarks = [], []
    total = 0
    for name, size in _walk(folder, "", 0):
        if size is None:
            remarks.append(f"{name!r} is a link or no ordinary file and was left out.")
            continue
        files.append(name)
        total += size
        if len(files) > MOST_FILES or total > MOST_BYTES:
            raise SubmissionError(
                f"the submission has more than {MOST_FILES} files or {MOST_BYTES / 1e6:,.0f} MB: "
                "hand in the notebook and its recordings only"
            )
    return Submission(student, assignment, folder, tuple(sorted(files)), tuple(remarks[:20]))


def misplaced(submitted: Path, assignment: str, known: Collection[str]) -> dict[str, list[str]]:
    """Students without a folder of the assignment, and what they have instead, the name most like it first.

    Folders of the other `known` assignments are in their place, and what is empty is nothing.
    """
    found = {}
    for folder in sorted(submitted.glob("[!.]*")):
        with contextlib.suppress(OSError):  # no folder, or none of ours to read
            names = list(_other_files(folder, {assignment, *known}))
            if names and not os.path.lexists(folder / assignment):
                found[folder.name] = difflib.get_close_matches(assignment, names, len(names), cutoff=0)
    return found


def _other_files(folder: Path, known: Collection[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in LEFT_OUT or entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield entry.name
            elif entry.name not in known and any(_walk(Path(entry.path), "", 1)):
                yield f"{entry.name}/"


def take_files(folder: Path, target: Path, suffixes: tuple[str, ...], most_bytes: int) -> None:
    """Copy ordinary files out of a folder in which a student's process may still write or have left traps."""
    target.mkdir(parents=True, exist_ok=True)
    left = most_bytes
    # a link may have taken the folder's place, and whatever is listed may be gone when it is opened
    with contextlib.suppress(OSError), _opened(folder) as place:
        for name in sorted(name for name in os.listdir(place) if name.endswith(suffixes))[: 4 * MOST_FILES]:  # noqa: PTH208
            with contextlib.suppress(OSError):
                # one more than fits shows that it does not
                content = _read(Path(name), left + 1, place)
                if len(content) <= left:
                    (target / name).write_bytes(content)
                    left -= len(content)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def beginning(path: Path, most: int) -> bytes:
    """The first bytes of an ordinary file; `OSError` for a link, a pipe or nothing."""
    return _read(path, most)


def _walk(folder: Path, before: str, depth: int) -> Iterator[tuple[str, int | None]]:
    """Names relative to the start and sizes; None for what is neither an ordinary file nor a folder."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found[: 4 * MOST_FILES]:
        name = f"{before}{entry.name}"
        if entry.name in LEFT_OUT or entry.name == ".ipynb_checkpoints":
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < DEEPEST:
                yield from _walk(Path(entry.path), f"{name}/", depth + 1)
        else:
            yield name, entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else None


def _read(path: Path, most: int = MOST_BYTES, folder: int | None = None) -> bytes:
    """An ordinary file's bytes; a link that took its place meanwhile is not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is no ordinary file")
        return file.read(most)


def _notebook(submission: Submission) -> tuple[str, tuple[str, ...]]:
    wanted = f"{submission.assignment}.ipynb"
    found = [name for name in submission.files if name.lower().endswith(".ipynb") and "/" not in name]
    if wanted in found:
        others = [name for name in found if name != wanted]
        return wanted, (f"Only {wanted} was graded, not {', '.join(map(repr, others))}.",) if others else ()
    alike = [name for name in found if name.lower() == wanted.lower()]
    chosen = alike if len(alike) == 1 else found
    if not chosen:
        packed = [name for name in submission.files if name.lower().endswith(ARCHIVES)]
        instead = f", but an archive, {packed[0]!r}, that has to be unpacked" if packed else ""
        raise SubmissionError(f"there is no notebook{instead}: hand in {wanted}")
    if len(chosen) > 1:
        names = ", ".join(map(repr, chosen[:5]))
        raise SubmissionError(
            f"there are {len(chosen)} notebooks ({names}), none is {wanted}: hand in one of that name"
        )
    return chosen[0], (f"The notebook was handed in as {chosen[0]!r} and was taken for {wanted}.",)
