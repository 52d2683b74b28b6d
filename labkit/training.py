"""train(experiment) -> Recording."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from labkit import data
from labkit.dense import Stack
from labkit.experiments import Experiment, ExperimentError
from labkit.progress import bar
from labkit.recorder import BLOCK_BYTES, origin, tensors
from labkit.recording import PROBE, Recording, RecordingError, checkpoint_iterations
from labkit.tape import Tape

BLOCK_ROWS = 40  # iterations whose rows wait for their statistics: few enough to stay in the processor's cache
SMALL = 2**24  # multiplications of the largest layer in one mini-batch, below which one thread is faster
Watch = Callable[[list[Recording]], None]
# What networks that are trained side by side may differ in: they share data, mini-batches and steps.
_OWN = {"name": "", "student": "", "activation": "relu", "initialisation": "glorot_uniform", "gain": 1.0}


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the message says where what was recorded so far is."""


def train(
    experiment: Experiment,
    save: Path | str | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
) -> Recording:
    """Train the experiment's network and record everything.

    With `save`, the recording is written there; when that file already holds this very experiment, run to its end,
    it is read instead of trained again. `device` is a GPU where there is one, else the CPU. `watch` is called with
    the recordings so far at the end of every epoch; one that has a method `due` only when that says so, and at the
    last epoch. An interrupt keeps what was recorded so far in a file that says so. A loss that is not finite ends the
    run; the recording keeps it and says so.
    """
    return train_many([experiment], None if save is None else [save], device=device, watch=watch, progress=progress)[0]


def train_many(
    experiments: Sequence[Experiment],
    save: Sequence[Path | str] | None = None,
    *,
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
) -> list[Recording]:
    """Train several experiments, side by side where they share their data and mini-batches. See `train`."""
    paths = [Path(path) for path in save] if save is not None else [None] * len(experiments)
    if len(paths) != len(experiments):
        raise ExperimentError(f"{len(experiments)} experiments, {len(paths)} files: give each its file")
    done = {k: found for k, path in enumerate(paths) if (found := _already(path, experiments[k]))}
    groups: dict[Experiment, list[int]] = {}
    for k, experiment in enumerate(experiments):
        if k not in done:
            groups.setdefault(experiment.replace(**_OWN), []).append(k)
    for members in groups.values():
        members.sort(key=lambda k: experiments[k].activation)
        run = _Run([experiments[k] for k in members], _device(device), watch, progress)
        recordings = run.to_the_end([paths[k] for k in members])
        done.update(zip(members, recordings, strict=True))
    return [done[k] for k in range(len(experiments))]


def _already(path: Path | None, experiment: Experiment) -> Recording | None:
    """The recording of this very experiment at that path, if it is there, whole and ran to its end."""
    if path is None or not path.exists():
        return None
    try:
        found = Recording.load(path)
    except RecordingError:
        return None
    same = found.origin.experiment == experiment and (found.complete or "not finite" in found.origin.stopped)
    return found if same else None


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ExperimentError(f"there is no device {name!r}: choose cpu or cuda") from error


@contextmanager
def _one_thread(experiment: Experiment) -> Iterator[None]:
    """Keep small networks on one thread: on a busy machine, waiting for a second one costs 40 times what it saves.

    It also makes a run the same whatever the number of cores.
    """
    largest = max(fan_in * fan_out for fan_in, fan_out in pairwise(experiment.widths)) * experiment.batch_size
    before = torch.get_num_threads()
    try:
        if largest < SMALL:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One stack of networks on its way through the epochs."""

    def __init__(
        self, experiments: Sequence[Experiment], device: torch.device, watch: Watch | None, progress: bool
    ) -> None:
        self.experiments, self.watch, self.progress = experiments, watch, progress
        self.first = e = experiments[0]
        self.images, self.labels, self.digest = tensors(e, device)
        self.images = self.images.flatten(1)
        self.one_hot = torch.nn.functional.one_hot(self.labels, e.widths[-1]).to(self.images.dtype)
        row = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(e.widths))
        fits = BLOCK_BYTES // (2 * row * len(experiments) * self.images.element_size())
        self.rows = max(1, min(BLOCK_ROWS, fits))
        self.stack = Stack(experiments, device, self.rows)
        self.tape = Tape(self.stack.layout, [[one.activation] * (self.stack.layers - 1) for one in experiments])
        self.schedule = set(checkpoint_iterations(e))
        self.filled = 0  # rows of the stack that the tape has not taken yet
        self.finite = True  # every loss that it took
        self.stopped = ""
        self.started = time.perf_counter()

    def to_the_end(self, paths: Sequence[Path | None]) -> list[Recording]:
        try:
            with torch.no_grad(), _one_thread(self.first):
                self._train()
        except KeyboardInterrupt:
            raise Interrupted(self._keep(paths)) from None
        self._last_checkpoint()
        recordings = self.recordings(self.stopped, finished=True)
        for recording, path in zip(recordings, paths, strict=True):
            if path is not None:
                recording.save(path)
        if self.stopped:
            tqdm.write(f"{self.first.name}: training stopped, {self.stopped}; the recording keeps what happened")
        return recordings

    def _keep(self, paths: Sequence[Path | None]) -> str:
        self.stopped = f"interrupted after {self._done} of {self.first.iterations} iterations"
        kept = []
        self._last_checkpoint()
        for recording, path in zip(self.recordings(self.stopped), paths, strict=True):
            fallback = Path(f"{recording.name.replace('/', '-')}-interrupted.safetensors")
            kept.append(str(recording.save(path or fallback)))
        return f"{self.stopped}: what was recorded so far is in {' and '.join(kept)}"

    def recordings(self, stopped: str = "", finished: bool = False) -> list[Recording]:
        """What the tape holds now, one recording for each network."""
        self._flush()
        accuracy = self.stack.accuracy(self.images, self.labels, 0) if finished else None
        return [
            self.tape.recording(
                k,
                origin(
                    self.stack.layout,
                    experiment,
                    tuple(f"{experiment.activation}_{i}" for i in range(1, self.stack.layers)),
                    self.stack.moment_names,
                    experiment.dtype,
                    self.stack.device,
                    wall_time=time.perf_counter() - self.started,
                    data_digest=self.digest,
                    stopped=stopped,
                    **({"final_accuracy": accuracy[k]} if accuracy else {}),
                ),
            )
            for k, experiment in enumerate(self.experiments)
        ]

    def _train(self) -> None:
        self._probe()
        self._checkpoint()
        names = " + ".join(e.name.rpartition("/")[2] for e in self.experiments)
        with bar(self.first.iterations, names, self.progress) as shown:
            for epoch in range(self.first.epochs):
                self._epoch(epoch)
                if shown.due() or epoch + 1 == self.first.epochs:
                    shown.set_postfix_str(self._postfix(epoch), refresh=False)
                shown.update(self.first.iterations_per_epoch)
                if not self._still_finite():
                    self.stopped = f"the loss is not finite since epoch {epoch + 1}"
                if self.watch and self._due(epoch):
                    self.watch(self.recordings("still running"))
                if self.stopped:
                    return

    def _due(self, epoch: int) -> bool:
        """Does the watch want to see this epoch? The last one is shown in any case."""
        last = self.stopped or epoch + 1 == self.first.epochs
        asks = getattr(self.watch, "due", None)
        return bool(last or asks is None or asks())

    @property
    def _done(self) -> int:
        """Iterations that were trained."""
        return self.tape.iterations + self.filled

    def _epoch(self, epoch: int) -> None:
        e, stack, row = self.first, self.stack, 0
        for indices in data.epoch_batches(e, epoch):
            if self.filled == self.rows:
                self._flush()
            row = self.filled
            chosen = torch.from_numpy(indices).to(stack.device)
            stack.gradient(self.images.index_select(0, chosen), self.one_hot.index_select(0, chosen), row)
            if e.clip_norm is not None:
                stack.clip(row, e.clip_norm)
            stack.step(row, self._done + 1)
            self.filled += 1
            if self._done in self.schedule:
                self._checkpoint()
        self.tape.epoch(self._done, stack.gradients[row])
        self._probe()

    def _probe(self) -> None:
        probe = self.stack.probe(self.images[:PROBE], self.labels[:PROBE], self.filled)
        self.tape.probe(probe, self.stack.parameters[self.filled])

    def _checkpoint(self) -> None:
        self.tape.checkpoint(self._done, self.stack.parameters[self.filled], self.stack.moments)

    def _last_checkpoint(self) -> None:
        """The end of a run that stopped early has a checkpoint, too."""
        if self.tape.last_checkpoint != self._done:
            self._checkpoint()

    def _still_finite(self) -> bool:
        self.finite = self.finite and bool(self.stack.losses[: self.filled].isfinite().all())
        return self.finite

    def _flush(self) -> None:
        n, stack = self.filled, self.stack
        if n:
            self._still_finite()
            self.tape.block(stack.losses[:n], stack.gradients[:n], stack.parameters[: n + 1], stack.clips[:n])
            stack.carry(n)
            self.filled = 0

    def _postfix(self, epoch: int) -> str:
        row, losses, ratios = self.filled - 1, [], []
        for k in range(len(self.experiments)):
            first, last = self.stack.first_and_last_size(row, k)
            losses.append(f"{self.stack.losses[row, k]:.2g}")
            ratios.append(f"{last / first if first else float('inf'):.2g}")
        done = f"epoch {epoch + 1}/{self.first.epochs}"
        return f"{done}, loss {' and '.join(losses)}, last/first {' and '.join(ratios)}"
