"""train(experiment) -> Recording: the way through the epochs, whoever computes them (see `labkit.engines`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from labkit import dense, resuming
from labkit.engines import ByAutograd, Engine, SideBySide
from labkit.experiments import Experiment, ExperimentError
from labkit.interrupts import Interrupted, file_of, kept_sentence, undisturbed
from labkit.progress import bar
from labkit.recording import Recording, RecordingError, ended
from labkit.watching import Watch, Watching

__all__ = ["Interrupted", "Watch", "train", "train_many"]

SMALL = 2**24  # multiplications of the largest layer in one mini-batch, below which one thread is faster
# What networks that are trained side by side may differ in: they share data, mini-batches and steps.
_OWN = {"name": "", "student": "", "activation": "relu", "initialisation": "glorot_uniform", "gain": 1.0}


def train(
    experiment: Experiment,
    save: Path | str | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    resume: bool = False,
) -> Recording:
    """Train the experiment's network and record everything.

    With `save`, the recording is written there; when that file already holds this very experiment, run to its end,
    it is read instead of trained again. `device` is a GPU where there is one, else the CPU. `watch` is called with
    the recordings so far at the end of every epoch (see `labkit.watching`); `LiveTraining()` is one that shows them
    while they grow. An interrupt keeps what was recorded so far in a file that says so. A loss that is not finite ends
    the run; the recording keeps it and says so.

    A long run is saved from time to time. With `resume`, one that was cut off goes on from the latest whole epoch in
    its file, to the recording that it would have left uninterrupted; where there is no file it begins. A file that is
    altered or another run's raises RecordingError.
    """
    paths = None if save is None else [save]
    return train_many([experiment], paths, device=device, watch=watch, progress=progress, resume=resume)[0]


def train_many(
    experiments: Sequence[Experiment],
    save: Sequence[Path | str] | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    resume: bool = False,
) -> list[Recording]:
    """Train several experiments, side by side where they share their data and mini-batches. See `train`."""
    for e in experiments:
        if not isinstance(e, Experiment):
            raise ExperimentError(f"{e!r} is no experiment: give what labkit.experiment(name) returns")
    paths = [Path(path) for path in save] if save is not None else [None] * len(experiments)
    if len(paths) != len(experiments):
        raise ExperimentError(f"{len(experiments)} experiments, {len(paths)} files: give each its file")
    done = {k: found for k, path in enumerate(paths) if (found := _already(path, experiments[k]))}
    wanted = [k for k in range(len(experiments)) if k not in done]
    earlier = {k: found for k in wanted if resume and (found := resuming.begun(paths[k], experiments[k]))}
    for members in (same for group in _groups(experiments, wanted) for same in resuming.together(group, earlier)):
        engine = _engine([experiments[k] for k in members], _device(device))
        if members[0] in earlier:
            resuming.take_up(engine, [earlier[k] for k in members])
        recordings = _Run(engine, watch, progress).to_the_end([paths[k] for k in members])
        done.update(zip(members, recordings, strict=True))
    return [done[k] for k in range(len(experiments))]


def _groups(experiments: Sequence[Experiment], wanted: Sequence[int]) -> list[list[int]]:
    """Which of them go together; neighbours in a group have one activation where they can."""
    groups: dict[object, list[int]] = {}
    for k in wanted:
        together = dense.fits(experiments[k])
        groups.setdefault(experiments[k].replace(**_OWN) if together else k, []).append(k)
    return [sorted(members, key=lambda k: experiments[k].activation) for members in groups.values()]


def _engine(experiments: Sequence[Experiment], device: torch.device) -> Engine:
    if dense.fits(experiments[0]):
        return SideBySide(experiments, device)
    return ByAutograd(experiments[0], device)


def _already(path: Path | None, experiment: Experiment) -> Recording | None:
    """The recording of this very experiment at that path, if it is there, whole and ran to its end."""
    if path is None or not path.exists():
        return None
    try:
        found = Recording.load(path)
    except RecordingError:
        return None
    return found if found.origin.experiment == experiment and ended(found) else None


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ExperimentError(f"there is no device {name!r}: choose cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ExperimentError("torch finds no GPU here (`labkit doctor` says more): choose cpu")
    return device


@contextmanager
def _one_thread(e: Experiment) -> Iterator[None]:
    """Keep small networks on one thread: on a busy machine, waiting for a second one costs 40 times what it saves.

    It also makes a run the same whatever the number of cores.
    """
    largest = max(fan_in * fan_out for fan_in, fan_out in pairwise(e.widths)) * e.batch_size
    before = torch.get_num_threads()
    try:
        if largest < SMALL and e.architecture != "residual_conv":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """The way through the epochs: bar, watch, interrupt, files."""

    def __init__(self, engine: Engine, watch: Watch | None, progress: bool) -> None:
        self.engine, self.watching = engine, Watching(watch)
        self.progress = progress and not self.watching.live
        self.first = engine.experiments[0]
        self.stopped = ""

    def to_the_end(self, paths: Sequence[Path | None]) -> list[Recording]:
        keeping = resuming.Keeping(paths)
        try:
            with _one_thread(self.first):
                self._train(keeping)
        except KeyboardInterrupt:
            with undisturbed(drop=True):  # who is impatient presses twice
                told = self._keep(paths)
            raise Interrupted(told) from None
        except BaseException as error:
            with suppress(Exception):
                self.watching.end(self.engine.recordings(f"broken off by {type(error).__name__}"))
            raise
        with undisturbed(drop=True):  # all is done but to keep it
            return self._finish(paths)

    def _finish(self, paths: Sequence[Path | None]) -> list[Recording]:
        with _one_thread(self.first):
            recordings = self.engine.recordings(self.stopped, finished=True)
        for recording, path in zip(recordings, paths, strict=True):
            if path is not None:
                recording.save(path)
        self.watching.end(recordings)
        if self.stopped:
            tqdm.write(f"{self.first.name}: training stopped, {self.stopped}; the recording keeps what happened")
        return recordings

    def _keep(self, paths: Sequence[Path | None]) -> str:
        self.stopped = f"interrupted after {self.engine.done} of {self.first.iterations} iterations"
        recordings = self.engine.recordings(self.stopped)
        kept = []
        for recording, path in zip(recordings, paths, strict=True):
            # a job may run twice at once, and the other one may be at its end
            if path is None or not resuming.holds_a_finished_one(path, recording.origin.experiment):
                recording.save(path or file_of(recording))
            kept.append(str(path or file_of(recording)))
        self.watching.end(recordings)
        return kept_sentence(self.stopped, kept)

    def _train(self, keeping: resuming.Keeping) -> None:
        engine, e = self.engine, self.first
        names = " + ".join(one.name.rpartition("/")[2] for one in engine.experiments)
        with bar(e.iterations, names, self.progress) as shown:
            shown.update(engine.done)  # of a run that goes on
            for epoch in range(engine.done // e.iterations_per_epoch, e.epochs):
                engine.epoch(epoch)
                if shown.due() or epoch + 1 == e.epochs:
                    shown.set_postfix_str(self._postfix(epoch), refresh=False)
                shown.update(e.iterations_per_epoch)
                if not engine.still_finite():
                    self.stopped = f"the loss is not finite since epoch {epoch + 1}"
                last = bool(self.stopped) or epoch + 1 == e.epochs
                self.watching.look(last, lambda latest: engine.recordings("still running", latest=latest))
                if self.stopped:
                    return
                if not last:
                    keeping.look(engine)

    def _postfix(self, epoch: int) -> str:
        losses, ratios = [], []
        for loss, first, last in self.engine.latest():
            losses.append(f"{loss:.2g}")
            ratios.append(f"{last / first if first else float('inf'):.2g}")
        done = f"epoch {epoch + 1}/{self.first.epochs}"
        return f"{done}, loss {' and '.join(losses)}, last/first {' and '.join(ratios)}"
