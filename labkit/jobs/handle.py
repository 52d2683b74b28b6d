"""submit(experiment) -> Job: the same call here, on a GPU, or on Slurm."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labkit.experiments import Experiment, ExperimentError
from labkit.files import write_whole
from labkit.jobs import batch, scheduler
from labkit.jobs.folder import Asked, Backend, JobError, JobFolder, Progress, State, latest_folder, new_folder
from labkit.jobs.profiles import Site, site
from labkit.maps import Map
from labkit.recording import Recording, RecordingError, ended

GRACE = 10.0  # seconds for a shared file system to show what a job that ended has written
GO_ON = "resume() goes on where it was cut off"
ANEW = "resume(), or the same call again, trains this row again: give it more minutes if they ran out"
UNHEARD = 300.0  # seconds after which a job without Slurm's number is taken for one that was never queued
POLL = 2.0  # seconds between two questions to Slurm, whose controller serves everybody


def submit(
    experiment: Experiment | Sequence[Experiment],
    *,
    backend: Literal["auto", "inline", "slurm", "script"] = "auto",
    profile: str | Path = "generic",
    gpus: int | None = None,
    minutes: int | None = None,
    device: str | None = None,
    folder: Path | str = "jobs",
    resume: bool = False,
) -> "Job":
    """Train one experiment, or several side by side, here or on a cluster; the handle says where it is.

    `inline` trains in this process and returns when it is done. `slurm` queues a job that asks for what the profile
    says, `gpus` and `minutes` instead of its own where they are given. `script` writes the job's file for somebody who
    has sbatch where this machine has none. `auto` is inline where a GPU is visible or there is no sbatch, else slurm.
    Each job has a folder of its own below `folder`, which the cluster's nodes must see, too.

    With `resume`, the latest job there of these very experiments goes on where it was cut off, asking for what is said
    now; one that waits, runs or has finished is left as it is. Raises JobError.
    """
    experiments = [experiment] if isinstance(experiment, Experiment) else list(experiment)
    if not experiments or not all(isinstance(e, Experiment) for e in experiments):
        raise ExperimentError(f"{experiment!r} is no experiment: give what labkit.experiment(name) returns")
    return _submitted(_asked(experiments, backend, profile, gpus, minutes, device), folder, resume)


def submit_row(
    cells: Sequence[Experiment],
    variances: Sequence[float],
    *,
    backend: str,
    profile: str | Path = "generic",
    minutes: int | None = None,
    device: str | None = None,
    folder: Path | str = "jobs",
) -> "Job":
    """The same for a row of a map (see `labkit.maps.row`), which is what comes home: `fetch_row()` gives it. The latest
    job of this very row that waits, runs or has finished is taken for it. Raises JobError."""
    asked = replace(_asked(cells, backend, profile, None, minutes, device), row=tuple(variances))
    return _submitted(asked, folder, resume=True)


def _asked(
    experiments: Sequence[Experiment], backend: str, profile: str | Path, gpus: int | None, minutes: int | None,
    device: str | None,
) -> Asked:  # fmt: skip
    chosen, where = chosen_backend(backend), site(profile)
    said = str(Path(profile).absolute()) if str(profile).endswith(".toml") else str(profile)
    return Asked(tuple(experiments), chosen, device or "", where.name, said, gpus, minutes, submitted=time.time())


def _submitted(asked: Asked, folder: Path | str, resume: bool) -> "Job":
    if resume and (earlier := latest_folder(folder, asked)) is not None:
        return open_job(earlier.path)._again(asked)
    job = Job(new_folder(folder, asked.experiments), asked)
    try:
        job._start()
    except scheduler.NotWithdrawn:
        raise
    except JobError:
        _forget(job.folder)
        raise
    return job


def open_job(folder: Path | str) -> "Job":
    """The handle of a job that was submitted earlier, from its folder. Raises JobError."""
    found = JobFolder(folder)
    return Job(found, found.read())


def chosen_backend(wanted: str) -> Backend:
    """What `auto` means here, or what was said. Raises JobError."""
    if wanted == "auto":
        return "slurm" if scheduler.is_there() and not _sees_a_gpu() else "inline"
    for known in _START:
        if wanted == known:
            return known
    raise JobError(f"there is no backend {wanted!r}: choose auto, {', '.join(_START)}")


def _sees_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _inline(job: "Job", _site: Site, _gpus: int, _minutes: int) -> None:
    from labkit.jobs.work import work

    job.folder.write(job.asked)
    work(job.folder, job.asked)


def _script(job: "Job", site: Site, gpus: int, minutes: int) -> None:
    text = batch.script(job.folder, site, gpus, minutes)
    job.folder.write(job.asked)
    write_whole(job.folder.script, text.encode())


def _slurm(job: "Job", site: Site, gpus: int, minutes: int) -> None:
    _script(job, site, gpus, minutes)
    number = scheduler.queue(job.folder.script)
    job.asked = replace(job.asked, slurm=number)
    try:
        job.folder.write(job.asked)
    except OSError as error:  # nobody would find it again
        scheduler.withdraw(number, job._unwritten(error))
        raise
    # after its number is written down: what comes in between, Ctrl-C or a silent controller, loses no job
    scheduler.withdraw_if_for_ever(number)


_START: dict[Backend, Callable[["Job", Site, int, int], None]] = {
    "inline": _inline, "slurm": _slurm, "script": _script,
}  # fmt: skip


def _forget(folder: JobFolder) -> None:
    """A refused job leaves no folder behind, unless something else was put there."""
    for path in (folder.path / "job.json", folder.script):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.path.rmdir()


class Job:
    """A training that was submitted: where it is, what it says, what came of it."""

    def __init__(self, folder: JobFolder, asked: Asked) -> None:
        self.folder, self.asked = folder, asked
        self._ended = 0.0  # when Slurm was first seen to have ended it, on time.monotonic's clock
        self._why = ""

    def __repr__(self) -> str:
        number = f", Slurm's job {self.asked.slurm}" if self.asked.slurm else ""
        return f"Job in {self.folder.path}{number}: {self.state}{f', {self.why}' if self.why else ''}"

    def _start(self) -> None:
        asked, where = self.asked, site(self.asked.profile)
        gpus = where.gpus if asked.gpus is None else asked.gpus
        try:
            _START[asked.backend](self, where, gpus, where.minutes if asked.minutes is None else asked.minutes)
        except OSError as error:
            raise JobError(self._unwritten(error)) from error

    def _unwritten(self, error: OSError) -> str:
        return f"{self.folder.path} cannot be written ({error.strerror}): make room there, or choose another folder="

    @property
    def state(self) -> State:
        """queued, running, finished, failed or cancelled; see `why`."""
        told = self.folder.progress()
        if told is not None and told.state == "finished" and self._there():
            self._why = told.why
            return "finished"
        if self.asked.slurm:
            return self._slurms(told)
        return self._own(told)

    @property
    def why(self) -> str:
        """Why it waits, failed or stopped, as of the last look at `state`; empty when there is nothing to say."""
        return self._why

    def _own(self, told: Progress | None) -> State:
        """Of a job whose folder alone speaks."""
        if told is None and self.asked.backend == "slurm" and time.time() - self.asked.submitted > UNHEARD:
            self._why = "it never reached Slurm, as far as its folder says: resume() submits it"
            return "failed"
        if told is None:
            self._why = f"submit {self.folder.script} with sbatch" if self.asked.backend == "script" else ""
            return "queued"
        self._why = self._of_a_stop(told)
        if told.state != "running":
            return "failed"
        if told.node == platform.node() and told.process and not _runs(told.process):
            self._why = f"its process ended without a word; {self._go_on}"
            return "failed"
        return "running"

    def _slurms(self, told: Progress | None) -> State:
        if self.folder.ended.exists():
            self._why = "you cancelled it"
            return "cancelled"
        try:
            said, state, self._why = scheduler.state(self.asked.slurm)
        except scheduler.NoAnswer as error:
            return self._unasked(told, str(error))
        if state in ("queued", "running"):
            self._ended = 0.0
            return state
        # what it wrote may come later than its end, and a job whose node failed is queued again a little later
        self._ended = self._ended or time.monotonic()
        if time.monotonic() - self._ended < GRACE * (6 if said in scheduler.AGAIN else 1):
            return "running"
        if state == "cancelled":
            return state
        if told is not None and told.state in ("failed", "stopped"):
            self._why = f"{self._why}; {self._of_a_stop(told)}" if self._why else self._of_a_stop(told)
        elif hint := scheduler.hint(self.log()):
            self._why = hint
        elif not self._why or said == "FAILED":
            self._why = "it ended without a result: its log() may say why"
        return "failed"

    def _unasked(self, told: Progress | None, why: str) -> State:
        """While Slurm cannot be asked its silence says nothing of the job: the folder alone speaks."""
        self._ended, self._why = 0.0, why
        if told is not None and told.state in ("failed", "stopped"):
            self._why = f"{self._of_a_stop(told)} ({why})"
            return "failed"
        return "queued" if told is None else "running"

    def _there(self) -> bool:
        return all(path.exists() for path in self.folder.results(self.asked))

    def progress(self) -> Progress:
        """How far the training is, as of its last report."""
        found = self.folder.progress()
        return found or Progress("running", iterations=self.asked.experiments[0].iterations)

    def log(self) -> str:
        """What the program wrote, with Slurm's own remarks."""
        return self.folder.said()

    def cancel(self) -> None:
        """Take it out of the queue or end it; what it recorded so far stays in its folder."""
        if self.asked.backend != "slurm":
            raise JobError(f"a job of the backend {self.asked.backend} is not ended from here: there is nothing to ask")
        if self.state in ("queued", "running"):
            scheduler.cancel(self.asked.slurm)
            with contextlib.suppress(OSError):  # a full disk: Slurm says so, too
                write_whole(self.folder.ended, b"")

    def resume(self, *, minutes: int | None = None, gpus: int | None = None) -> "Job":
        """Go on from the latest epoch that it saved, as it was submitted, but for what is said here.

        One that waits, runs or has finished is left as it is. Raises JobError.
        """
        asked = self.asked
        return self._again(replace(
            asked,
            minutes=asked.minutes if minutes is None else minutes,
            gpus=asked.gpus if gpus is None else gpus,
        ))  # fmt: skip

    def _again(self, asked: Asked) -> "Job":
        with self.folder.alone():
            self._look_again()
            return self if self.state in ("queued", "running", "finished") else self._restart(asked)

    def _look_again(self) -> None:
        """Another program may have gone on with it since."""
        if (now := self.folder.read()) != self.asked:
            self.asked, self._ended, self._why = now, 0.0, ""

    def _restart(self, asked: Asked) -> "Job":
        before, put_back = self.asked, self.folder.reopen()
        self.asked, self._ended, self._why = replace(asked, slurm="", submitted=time.time()), 0.0, ""
        try:
            self._start()
        except scheduler.NotWithdrawn:
            raise
        except JobError:
            self.asked = before
            with contextlib.suppress(OSError):  # a full disk refused it: then it is there still
                self.folder.write(before)
                put_back()
            raise
        return self

    def wait(self, seconds: float | None = None, *, progress: bool = True) -> "Job":
        """Follow it to its end, with a bar; after `seconds` go on without it. The job goes on in any case."""
        from labkit.progress import bar

        end = None if seconds is None else time.monotonic() + seconds
        total = self.asked.experiments[0].iterations
        with bar(total, self.folder.path.name, progress) as shown:
            while (state := self.state) in ("queued", "running"):
                told = self.progress()
                shown.set_postfix_str(f"{state}{f', {self.why}' if self.why else ''}", refresh=False)
                shown.update(told.iteration - shown.n)
                if end is not None and time.monotonic() >= end:
                    return self
                time.sleep(POLL)
            shown.set_postfix_str(state, refresh=False)
            shown.update(self.progress().iteration - shown.n)
        return self

    def fetch(self) -> list[Recording]:
        """The recordings, one for each experiment, after every byte was checked. Raises JobError."""
        if self.asked.row:
            raise JobError(f"{self.folder.path} makes a row of a map: fetch_row() gives it")
        if self.state != "finished":
            raise JobError(f"{self!r}: there is no whole recording to fetch")
        try:
            found = [Recording.load(path) for path in self.folder.recordings(self.asked)]
        except RecordingError as error:
            raise JobError(f"{self.folder.path}: {error}") from error
        for recording, experiment in zip(found, self.asked.experiments, strict=True):
            if recording.origin.experiment != experiment:
                raise JobError(f"{self.folder.path} holds a recording of another experiment: submit it again")
            if not ended(recording):
                raise JobError(f"{self.folder.path} holds a recording that was {recording.origin.stopped}: {GO_ON}")
        return found

    def fetch_row(self) -> Map:
        """The row of a map that `submit_row` asked for. Raises JobError."""
        if self.state != "finished":
            raise JobError(f"{self!r}: there is no row to fetch")
        if (found := self.folder.made_row(self.asked)) is None:
            raise JobError(
                f"{self.folder.row} is not the row that was asked for: delete {self.folder.path}, make it again"
            )
        return found

    def _of_a_stop(self, told: Progress) -> str:
        """Why it stopped, with what to do."""
        return f"{told.why}; {self._go_on}" if told.state == "stopped" else told.why

    @property
    def _go_on(self) -> str:
        return ANEW if self.asked.row else GO_ON


def _runs(process: int) -> bool:
    """Is there a process of this number here?"""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
