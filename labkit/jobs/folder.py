"""A job's folder: the one place that names its files, and that writes and reads them.

`job.json` is what was asked for, `status.json` where the training is, `recording-K.safetensors` the K-th network's
result or `map.safetensors` what came of all of them, `log.txt` what the program said. Files appear whole, and every
file may be written twice: Slurm starts a job again when its node failed, and the first one may still be running.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from labkit.experiments import Experiment, ExperimentError
from labkit.files import write_whole
from labkit.maps import Map
from labkit.recording import RecordingError

FORMAT, VERSION = "labkit job", 1
LOG = 200_000  # characters of a log's end that are shown

State = Literal["queued", "running", "finished", "failed", "cancelled"]
Backend = Literal["inline", "slurm", "script"]


class JobError(ValueError):
    """A job that cannot be submitted, read or fetched: one sentence with what to do."""


@dataclass(frozen=True)
class Asked:
    """What was submitted."""

    experiments: tuple[Experiment, ...]
    backend: Backend
    device: str = ""  # empty for a GPU where the job sees one
    site: str = ""
    profile: str = "generic"  # the site's name, or its file
    gpus: int | None = None  # None for the site's number, as for the minutes
    minutes: int | None = None
    slurm: str = ""  # Slurm's number, once it has given one
    submitted: float = 0.0  # seconds since 1970
    row: tuple[float, ...] = ()  # sigma_w^2 of each, where a row of a map is to come home, and no recordings


@dataclass(frozen=True)
class Progress:
    """Where a training is: as of its last report, about two a second."""

    state: Literal["running", "finished", "stopped", "failed"]
    iteration: int = 0
    iterations: int = 0
    loss: tuple[float, ...] = ()  # of each network, at its latest iteration
    seconds: float = 0.0  # since the training began
    why: str = ""  # it stopped or failed
    node: str = ""
    process: int = 0  # its number there
    updated: float = 0.0  # seconds since 1970

    @property
    def share(self) -> float:
        return self.iteration / self.iterations if self.iterations else 0.0


class JobFolder:
    """The files of one job."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.log, self.script = self.path / "log.txt", self.path / "job.sh"
        self._asked, self._status = self.path / "job.json", self.path / "status.json"
        self.ended = self.path / "cancelled"
        self.row = self.path / "map.safetensors"

    def recording(self, k: int) -> Path:
        return self.path / f"recording-{k}.safetensors"

    def recordings(self, asked: Asked) -> list[Path]:
        return [self.recording(k) for k in range(len(asked.experiments))]

    def results(self, asked: Asked) -> list[Path]:
        """The files that come home."""
        return [self.row] if asked.row else self.recordings(asked)

    def made_row(self, asked: Asked) -> Map | None:
        """The row of a map that was asked for, if it is there, whole, and of these very networks."""
        try:
            found = Map.load(self.row)
        except RecordingError:
            return None
        cells = [found.cell(0, v) for v in range(len(found.variances))] if len(found.depths) == 1 else []
        return found if (tuple(cells), found.variances) == (asked.experiments, asked.row) else None

    def write(self, asked: Asked) -> None:
        said = asdict(asked) | {"experiments": [json.loads(e.to_json()) for e in asked.experiments]}
        self._write(self._asked, {"format": FORMAT, "version": VERSION, **said})

    def read(self) -> Asked:
        """What was asked for. Raises JobError."""
        said = self._read(self._asked)
        if said is None:
            raise JobError(f"{self.path} is no job's folder: name the one that submit gave, it has a job.json")
        try:
            if (said.pop("format"), said.pop("version")) != (FORMAT, VERSION):
                raise JobError(f"{self._asked} was written by another version of labkit: submit the experiment again")
            experiments = tuple(Experiment.from_json(json.dumps(e)) for e in said.pop("experiments"))
            asked = Asked(experiments, **said | {"row": tuple(said.get("row", ()))})
            _check(asked)
            return asked
        except (KeyError, TypeError, AttributeError, ExperimentError) as error:
            raise JobError(f"{self._asked} is damaged ({error}): submit the experiment again") from error

    def report(self, progress: Progress) -> None:
        """Say where the training is. A report never takes back that it is finished."""
        before = self.progress()
        if before is None or before.state != "finished":
            self._write(self._status, asdict(replace(progress, updated=time.time())))

    def progress(self) -> Progress | None:
        said = self._read(self._status)
        try:
            found = None if said is None else Progress(**said | {"loss": tuple(said["loss"])})
            _check(found or Progress("running"))
            return found
        except (KeyError, TypeError):
            return None

    def reopen(self) -> Callable[[], None]:
        """Make room for another attempt: put the end of the one before away. Gives what puts it back."""
        kept = {path: path.read_bytes() for path in (self._status, self.ended) if path.exists()}
        for path in kept:
            path.unlink(missing_ok=True)
        attempt = 1 + len(list(self.path.glob("log-*.txt")))
        earlier = self.path / f"log-{attempt}.txt"
        if self.log.exists():
            self.log.replace(earlier)

        def put_back() -> None:
            for path, content in kept.items():
                write_whole(path, content)
            if earlier.exists():
                earlier.replace(self.log)

        return put_back

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """For one program at a time, else JobError; the system takes it back from one that is gone. Where there are no
        such locks (Windows, some shared file systems) everybody is let in."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                lock = stack.enter_context((self.path / "lock").open("w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise JobError(f"another program goes on with {self.path} just now: look at it again") from None
            yield

    def said(self) -> str:
        """What the program wrote, its end where that is long."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return text[-LOG:]

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        write_whole(path, json.dumps(content, indent=1).encode())

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def _check(said: Asked | Progress) -> None:
    """TypeError where a value is of another kind, or none of the choices: somebody may have edited it."""
    for name, kind in get_type_hints(type(said)).items():
        value = getattr(said, name)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        fits = value in choices if choices else get_origin(kind) is tuple or _is(value, kind)
        if not fits:
            raise TypeError(f"{name} is {value!r}")
    if isinstance(said, Asked) and not (said.experiments and re.fullmatch(r"\d*", said.slurm)):
        raise TypeError("it names no experiment" if not said.experiments else f"slurm is {said.slurm!r}")
    if isinstance(said, Asked) and not (
        len(said.row) in (0, len(said.experiments)) and all(_is(v, float) for v in said.row)
    ):
        raise TypeError(f"row is {said.row!r}")


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)


def latest_folder(root: Path | str, wanted: Asked) -> JobFolder | None:
    """The folder below `root` of the latest job with exactly these experiments, and the same to come of them."""
    found: list[tuple[float, JobFolder]] = []
    for path in Path(root).glob(f"{_stem(wanted.experiments)}-*"):
        folder = JobFolder(path)
        with contextlib.suppress(JobError):
            asked = folder.read()
            if (asked.experiments, asked.row) == (wanted.experiments, wanted.row):
                found.append((asked.submitted, folder))
    return max(found, key=lambda one: one[0])[1] if found else None


def _stem(experiments: Sequence[Experiment]) -> str:
    return re.sub(r"[^\w.-]+", "-", experiments[0].name) or "job"


def new_folder(root: Path | str, experiments: Sequence[Experiment]) -> JobFolder:
    """A folder below `root` that no job had before: numbers of Slurm's jobs may come again. Raises JobError."""
    stem = _stem(experiments)
    for number in range(1, 10_000):
        path = Path(root) / f"{stem}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise JobError(
                f"the job's folder {path} cannot be made ({error.strerror}): choose another folder="
            ) from error
        return JobFolder(path)
    raise JobError(f"{root} has 9,999 jobs of {stem}: remove some, or choose another folder=")
