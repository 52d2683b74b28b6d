"""train(experiment) -> Recording: the way through the epochs, whoever computes them (see `labkit.engines`)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from labkit import dense, memory, resuming
from labkit.engines import ByAutograd, Engine, SideBySide
from labkit.experiments import Experiment, ExperimentError
from labkit.interrupts import Interrupted, file_of, kept_sentence, undisturbed
from labkit.precision import exact
from labkit.progress import bar
from labkit.recording import Recording, RecordingError, ended
from labkit.shelf import Shelf
from labkit.watching import Watch, Watching

__all__ = ["Interrupted", "Watch", "train", "train_lightly", "train_many"]

SMALL = 2**24  # multiplications of the largest layer in one mini-batch, below which one thread is faster
# What networks that are trained side by side may differ in; they share shapes, optimiser and number of mini-batches.
_OWN = {
    "name": "", "student": "", "seed": 0, "activation": "relu", "initialisation": "glorot_uniform", "gain": 1.0,
    "learning_rate": 1e-3,
}  # fmt: skip
MOST = {"cpu": 64, "cuda": 4096}  # networks at once; on a CPU more are no faster, because they leave its caches
SHOWN = 3  # networks of which the bar says how they do
KEPT = 4  # recordings are given back in memory where they are less than this part of what is free


def train(
    experiment: Experiment,
    save: Path | str | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    resume: bool = False,
    tf32: bool = False,
) -> Recording:
    """Train the experiment's network and record everything.

    With `save`, the recording is written there; when that file already holds this very experiment, run to its end,
    it is read instead of trained again. `device` is a GPU where there is one, else the CPU. `watch` is called with
    the recordings so far at the end of every epoch (see `labkit.watching`); `LiveTraining()` is one that shows them
    while they grow. An interrupt keeps what was recorded so far in a file that says so. A loss that is not finite ends
    the run; the recording keeps it and says so. `tf32` lets a GPU round the factors of its products to 10 bits, which
    is faster for large networks: such a recording is far from its replay, and an audit refuses it.

    A long run is saved from time to time. With `resume`, one that was cut off goes on from the latest whole epoch in
    its file, to the recording that it would have left uninterrupted; where there is no file it begins. A file that is
    altered or another run's raises RecordingError.
    """
    paths = None if save is None else [save]
    return train_many([experiment], paths, device=device, watch=watch, progress=progress, resume=resume, tf32=tf32)[0]


def train_many(
    experiments: Sequence[Experiment],
    save: Sequence[Path | str] | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    resume: bool = False,
    tf32: bool = False,
) -> Sequence[Recording]:
    """Train several experiments; networks of one shape are trained at once. See `train`.

    Plain multilayer perceptrons may differ in their seeds, activations, initialisations, gains and learning rates. As
    many as fit into the free memory are trained at once, and written to their files before the next ones begin.
    Recordings that would not fit into memory together stay in their files, until one of them is asked for.
    """
    _check(experiments)
    paths = [Path(path) for path in save] if save is not None else [None] * len(experiments)
    if len(paths) != len(experiments):
        raise ExperimentError(f"{len(experiments)} experiments, {len(paths)} files: give each its file")
    where = _device(device)
    host = memory.free(torch.device("cpu"))
    in_memory = _fits_in_memory(experiments, paths, host)
    kept: dict[int, Recording | Path] = {}
    for k, path in enumerate(paths):
        if path is not None and (found := _already(path, experiments[k])):
            kept[k] = found if in_memory else path
    for group in _groups(experiments, [k for k in range(len(experiments)) if k not in kept], where, host):
        earlier = {k: found for k in group if resume and (found := resuming.begun(paths[k], experiments[k]))}
        for members in resuming.together(group, earlier):
            with exact(tf32):  # the probe batch of the start, too
                engine = _engine([experiments[k] for k in members], where)
                if members[0] in earlier:
                    resuming.take_up(engine, [earlier.pop(k) for k in members])
                run = _Run(engine, [paths[k] for k in members], watch, progress)
                made = run.to_the_end(in_memory)
            kept.update(zip(members, made, strict=True))
            del engine, run  # its memory is the next one's
    found_all = [kept[k] for k in range(len(experiments))]
    return [one for one in found_all if isinstance(one, Recording)] if in_memory else Shelf(found_all)


def train_lightly(
    experiments: Sequence[Experiment], *, device: str | None = None, watch: Watch | None = None
) -> Sequence[Recording]:
    """Train several plain multilayer perceptrons for their statistics alone.

    Their recordings have the first checkpoint and the last: too few for an audit, and a quarter of the memory where a
    deep network trains for eight epochs. An interrupt keeps nothing of them. See `train_many`.
    """
    _check(experiments)
    if not all(dense.fits(e) for e in experiments):
        raise ExperimentError("only plain multilayer perceptrons are trained lightly: train the others by train_many")
    where, host = _device(device), memory.free(torch.device("cpu"))
    _fits_in_memory(experiments, [None] * len(experiments), host, lightly=True)
    kept: dict[int, Recording | Path] = {}
    for members in _groups(experiments, range(len(experiments)), where, host, lightly=True):
        with exact():
            engine = SideBySide([experiments[k] for k in members], where, lightly=True)
            made = _Run(engine, [None] * len(members), watch, progress=False, lightly=True).to_the_end(True)
        kept.update(zip(members, made, strict=True))
        del engine  # its memory is the next one's
    return Shelf([kept[k] for k in range(len(experiments))])


def _check(experiments: Sequence[Experiment]) -> None:
    for e in experiments:
        if not isinstance(e, Experiment):
            raise ExperimentError(f"{e!r} is no experiment: give what labkit.experiment(name) returns")


def _fits_in_memory(
    experiments: Sequence[Experiment], paths: Sequence[Path | None], host: int, lightly: bool = False
) -> bool:
    """Can all recordings be given back in memory? Without files they have to."""
    needed = sum(memory.of_recording(e, lightly) for e in experiments if dense.fits(e))
    if None not in paths:
        return needed <= host // KEPT
    if needed > host // 2:
        raise ExperimentError(
            f"{len(experiments):,} recordings take {needed / 1e9:,.1f} GB, and {host / 1e9:,.1f} GB are free: "
            "give each its file by save=, then they need not be in memory together"
        )
    return True


def _groups(
    experiments: Sequence[Experiment], wanted: Sequence[int], device: torch.device, host: int, lightly: bool = False
) -> Iterator[list[int]]:
    """Which of them go together."""
    groups: dict[object, list[int]] = {}
    for k in wanted:
        together = dense.fits(experiments[k])
        groups.setdefault(experiments[k].replace(**_OWN) if together else k, []).append(k)
    for members in groups.values():
        if not dense.fits(experiments[members[0]]):
            yield members
            continue
        members = _neighbours(experiments, members, device)
        budget = memory.free(device) if device.type == "cuda" else host
        some = [experiments[k] for k in members]
        for part in memory.parts(some, MOST[device.type], device, budget, host, lightly):
            yield members[part]


def _neighbours(experiments: Sequence[Experiment], members: Sequence[int], device: torch.device) -> list[int]:
    """The same in order. Neighbours have one seed where several do, so that they share their mini-batches, and one
    activation; on a GPU the activation comes first, where many small launches cost more than a larger gather."""
    of_seed = Counter(experiments[k].seed for k in members)

    def place(k: int) -> tuple[str, int, str]:
        one = experiments[k]
        alone = device.type == "cuda" or of_seed[one.seed] == 1
        return one.activation if alone else "", one.seed, one.activation

    return sorted(members, key=place)


def _engine(experiments: Sequence[Experiment], device: torch.device) -> Engine:
    if dense.fits(experiments[0]):
        return SideBySide(experiments, device)
    return ByAutograd(experiments[0], device)


def _already(path: Path, experiment: Experiment) -> Recording | None:
    """The recording of this very experiment at that path, if it is there, whole and ran to its end."""
    if not path.exists():
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
    if device.type not in MOST:
        raise ExperimentError(f"nothing is trained on {name!r}: choose cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ExperimentError("torch finds no GPU here (`labkit doctor` says more): choose cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ExperimentError(f"there is no GPU {name!r}, torch finds {count} here and counts from cuda:0")
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

    def __init__(
        self,
        engine: Engine,
        paths: Sequence[Path | None],
        watch: Watch | None,
        progress: bool,
        lightly: bool = False,
    ) -> None:
        self.engine, self.paths, self.watching, self.lightly = engine, paths, Watching(watch), lightly
        self.progress = progress and not self.watching.live
        self.first = engine.experiments[0]
        self.in_memory = True
        self.ended: dict[int, Recording | Path] = {}  # of networks that need no more training

    @property
    def going(self) -> list[int]:
        return [k for k in range(len(self.paths)) if k not in self.ended]

    def to_the_end(self, in_memory: bool) -> list[Recording | Path]:
        """Train; each network's recording, or where `in_memory` is not asked for, its file."""
        self.in_memory = in_memory
        keeping = resuming.Keeping(self.paths)
        try:
            with _one_thread(self.first):
                self._train(keeping)
        except KeyboardInterrupt:
            with undisturbed(drop=True):  # who is impatient presses twice
                told = self._keep()
            raise Interrupted(told) from None
        except BaseException as error:
            with suppress(Exception):
                self._tell_end(f"broken off by {type(error).__name__}")
            raise
        with undisturbed(drop=True), _one_thread(self.first):  # all is done but to keep it
            self._end(self.going)
        self._tell_end()
        return [self.ended[k] for k in range(len(self.paths))]

    def _end(self, networks: Sequence[int], stopped: str = "") -> None:
        """These are done: write their recordings, one after another."""
        made = self.engine.recordings(networks, stopped, finished=True)
        for k, recording in zip(networks, made, strict=True):
            path = self.paths[k]
            if path is not None:
                recording.save(path)
            self.ended[k] = recording if path is None or self.in_memory else path
            if stopped:
                tqdm.write(f"{recording.name}: training stopped, {stopped}; the recording keeps what happened")

    def _tell_end(self, stopped: str = "") -> None:
        if self.watching.watch is not None:
            self.watching.end(self._so_far(stopped, latest=False))

    def _so_far(self, stopped: str, latest: bool) -> list[Recording]:
        going = self.going
        found: dict[int, Recording | Path] = dict(
            zip(going, self.engine.recordings(going, stopped, latest=latest) if going else [], strict=True)
        )
        return list(Shelf([(found | self.ended)[k] for k in range(len(self.paths))]))

    def _keep(self) -> str:
        stopped = f"interrupted after {self.engine.done} of {self.first.iterations} iterations"
        if self.lightly:
            self.watching.end(self._so_far(stopped, latest=True))
            return f"{stopped}; nothing of them was kept"
        kept: list[str] = []
        recordings = self._so_far(stopped, latest=False)
        for recording, path in zip(recordings, self.paths, strict=True):
            # a job may run twice at once, and the other one may be at its end
            if path is None or not resuming.holds_a_finished_one(path, recording.origin.experiment):
                path = recording.save(path or file_of(recording, kept))
            kept.append(str(path))
        self.watching.end(recordings)
        return kept_sentence(stopped, kept)

    def _train(self, keeping: resuming.Keeping) -> None:
        engine, e = self.engine, self.first
        with bar(e.iterations, _words([one.name.rpartition("/")[2] for one in engine.experiments], " + "),
                 self.progress) as shown:  # fmt: skip
            shown.update(engine.done)  # of a run that goes on
            for epoch in range(engine.done // e.iterations_per_epoch, e.epochs):
                engine.epoch(epoch)
                if shown.due() or epoch + 1 == e.epochs:
                    shown.set_postfix_str(self._postfix(epoch), refresh=False)
                shown.update(e.iterations_per_epoch)
                if broken := [k for k in engine.broken_down() if k not in self.ended]:
                    with undisturbed():
                        self._end(broken, f"the loss is not finite since epoch {epoch + 1}")
                        engine.retire(broken)
                last = not self.going or epoch + 1 == e.epochs
                self.watching.look(last, lambda latest: self._so_far("still running", latest))
                if not self.going:
                    return
                if not last:
                    keeping.look(engine, self.going)

    def _postfix(self, epoch: int) -> str:
        losses, ratios, going = [], [], self.going
        for loss, first, last in self.engine.latest(going[:SHOWN]):
            losses.append(f"{loss:.2g}")
            ratios.append(f"{last / first if first else float('inf'):.2g}")
        losses += [""] * (len(going) - len(losses))
        done = f"epoch {epoch + 1}/{self.first.epochs}"
        return f"{done}, loss {_words(losses, ' and ')}, last/first {_words(ratios, ' and ')}"


def _words(each: Sequence[str], between: str) -> str:
    """The first of them, and how many more there are."""
    more = [f"{len(each) - SHOWN:,} more"] if len(each) > SHOWN else []
    return between.join([*each[:SHOWN], *more])
