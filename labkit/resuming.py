"""Going on with a training that was cut off, from its recording to the one that an uninterrupted run gives.

A recording has a checkpoint with the optimiser's moments at the end of every epoch, and an epoch's mini-batches follow
from the seed and its number. So the latest whole epoch is where a run goes on; what was trained of the next one is
dropped and trained again. The statistics of the iterations before are taken over as they are.
"""

import time
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from labkit.engines import ByAutograd, Engine, SideBySide
from labkit.experiments import Experiment
from labkit.recorder import Recorder
from labkit.recording import Array, Recording, RecordingError, checkpoint_iterations, ended
from labkit.tape import Layout, Tape

FIRST = 20.0  # seconds of a training before what it recorded is saved for the first time
SHARE = 0.02  # of the time, at most, goes into saving

_BY_PROBE = ("weight", "probe_gradient", "probe_loss", "hidden", "through_time", "accuracy", "output_error")
_BY_ITERATION = (
    "loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient", "clip_factor",
)  # fmt: skip


def begun(path: Path | None, experiment: Experiment) -> Recording | None:
    """The whole epochs of this very experiment that the file holds; None where there is nothing to go on from.

    Raises RecordingError for a file that is damaged or altered, and for another run's.
    """
    if path is None or not path.exists():
        return None
    try:
        found = Recording.load(path)
    except RecordingError as error:
        raise RecordingError(f"{error}; nothing can go on from it: to begin anew, leave resume out") from error
    if found.origin.experiment != experiment:
        raise RecordingError(
            f"{path} holds {_difference(found.origin.experiment, experiment)}, which cannot go on as this one: "
            "name its own file, or leave resume out"
        )
    return _whole_epochs(found, path)


def _difference(found: Experiment | None, wanted: Experiment) -> str:
    """What another run is, in words: the first few fields in which it differs."""
    if found is None:
        return "a loop that follows no experiment"
    names = [f.name for f in fields(Experiment) if getattr(found, f.name) != getattr(wanted, f.name)]
    said = [f"{name} {getattr(found, name)!r} instead of {getattr(wanted, name)!r}" for name in names[:3]]
    return f"another experiment ({', '.join(said)}{', ...' if len(names) > 3 else ''})"


def _whole_epochs(r: Recording, path: Path) -> Recording | None:
    """The recording without what came after its latest whole epoch."""
    e = r.origin.experiment
    epochs = min(r.epochs, e.epochs) if e is not None else 0
    if e is None or epochs == 0:
        return None
    done = epochs * e.iterations_per_epoch
    ends = list(range(e.iterations_per_epoch, done + 1, e.iterations_per_epoch))
    due = [at for at in checkpoint_iterations(e) if at <= done]
    kept = np.isin(r.checkpoint_iteration, due)
    if r.epoch_end[:epochs].tolist() != ends or r.checkpoint_iteration[kept].tolist() != due:
        raise RecordingError(
            f"{path} has not the checkpoints of its experiment, so nothing can go on from it: leave resume out"
        )
    by_epoch = {name: getattr(r, name)[:epochs] for name in ("epoch_end", "batch_counts", "batch_range")}
    by_probe = {name: getattr(r, name)[: epochs + 1] for name in (*_BY_PROBE, "probe_counts", "weight_counts")}
    return replace(
        r,
        **{name: getattr(r, name)[:done] for name in _BY_ITERATION},
        **by_epoch,
        **by_probe,
        **{f"checkpoint_{of}": getattr(r, f"checkpoint_{of}")[kept] for of in ("iteration", "parameters", "moments")},
    )


def together(members: Sequence[int], earlier: dict[int, Recording]) -> list[list[int]]:
    """Those of a group that go on from the same epoch."""

    def epoch(k: int) -> int:
        return earlier[k].epochs if k in earlier else 0

    return [list(same) for _, same in groupby(sorted(members, key=epoch), key=epoch)]


@torch.no_grad()
def take_up(engine: Engine, earlier: Sequence[Recording]) -> None:
    """Bring a new engine to where these recordings end, one for each of its networks. Raises RecordingError."""
    if isinstance(engine, SideBySide):
        digests = [engine.batches.digests[share] for share in engine.stack.share_of]
        _check(engine.stack.layout, engine.stack.moment_names, digests, earlier)
        _side_by_side(engine, earlier)
    elif isinstance(engine, ByAutograd):
        _check(engine.recorder.layout, engine.recorder._moments(), [engine.digest], earlier)
        _by_autograd(engine, earlier[0])
    else:
        raise TypeError(f"{type(engine).__name__} is no engine that can be taken up")


def _check(layout: Layout, moments: tuple[str, ...], digests: Sequence[str], earlier: Sequence[Recording]) -> None:
    """What the experiment's name does not settle: would the numbers fall into their places?"""
    for r, digest in zip(earlier, digests, strict=True):
        same = r.origin.parameters == tuple(zip(layout.names, layout.shapes, strict=True))
        if not same or r.origin.moments != moments or r.origin.data_digest != digest:
            raise RecordingError(
                f"the recording of {r.name} has other parameters or data than its experiment gives here, "
                "so nothing can go on from it: leave resume out"
            )


def _side_by_side(engine: SideBySide, earlier: Sequence[Recording]) -> None:
    stack, layout = engine.stack, engine.stack.layout
    rows = [stack.parameters[0], *stack.moments]
    for number, row in enumerate(rows):
        for view, parts in zip(layout.views(row, stack.count), _latest(layout, earlier, number), strict=True):
            view.copy_(parts)
    stack.steps.fill_(earlier[0].iterations)
    _fill(engine.tape, earlier)
    engine.started -= earlier[0].origin.wall_time


def _latest(layout: Layout, earlier: Sequence[Recording], number: int) -> tuple[torch.Tensor, ...]:
    """Of the latest checkpoints the parameters (0) or a moment (from 1), as the layout's tensors (K, size)."""
    flat = np.stack([r.checkpoint_parameters[-1] if number == 0 else r.checkpoint_moments[-1, number - 1]
                     for r in earlier])  # fmt: skip
    parts: tuple[torch.Tensor, ...] = torch.from_numpy(flat).split(layout.sizes, dim=1)
    return parts


def _by_autograd(engine: ByAutograd, earlier: Recording) -> None:
    recorder: Recorder = engine.recorder
    layout, state = recorder.layout, engine.optimizer.state
    for number, name in enumerate(("", *recorder._moments())):
        for parameter, part in zip(recorder.parameters, _latest(layout, [earlier], number), strict=True):
            (state[parameter][name] if name else parameter).copy_(part.view(parameter.shape))
    engine.done = engine.optimizer.steps = earlier.iterations
    recorder._weights[0] = recorder._flat(recorder.parameters)
    _fill(recorder.tape, [earlier])
    recorder._started -= earlier.origin.wall_time


def _fill(tape: Tape, earlier: Sequence[Recording]) -> None:
    """Let the tape hold what these recordings hold, as if it had taken it itself."""
    first = earlier[0]

    def of(name: str, axis: int) -> Array:
        return np.stack([getattr(r, name) for r in earlier], axis)

    def by_layer(name: str, axis: int) -> Array:
        """(..., L K, ...): layer by layer, network by network."""
        both = of(name, axis + 1)
        return both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])

    tape.iterations = first.iterations
    tape.rows.extend({name: of(name, 2 if name == "gradient" else getattr(first, name).ndim) for name in _BY_ITERATION})
    tape.epoch_end = first.epoch_end.tolist()
    counts, ranges = by_layer("batch_counts", 1), by_layer("batch_range", 1)
    tape.epochs = [{"batch_counts": a, "batch_range": b} for a, b in zip(counts, ranges, strict=True)]
    # of a layer's values the network comes behind the layer, of the rest behind the row
    tape.probes = [{name: of(name, 2 if name in ("weight", "probe_gradient") else 1) for name in _BY_PROBE}]
    for bins, name in ((tape.gradient_bins, "probe"), (tape.weight_bins, "weight")):
        bins.range = by_layer(f"{name}_range", 0).astype(np.float64)
        bins.counts = list(by_layer(f"{name}_counts", 1).astype(np.float64))
    rows = np.concatenate([of("checkpoint_parameters", 1)[:, :, None], of("checkpoint_moments", 1)], axis=2)
    tape.checkpoints = list(zip(first.checkpoint_iteration.tolist(), rows, strict=True))
    tape._copied.clear()
    tape._waiting.clear()
    tape._last_gradients.clear()


class Keeping:
    """Saves what was recorded so far from time to time, so that a killed training has something to go on from.

    A finished recording at the same place is left alone: another process may have finished this very run, or this run
    is about to replace another, whole.
    """

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self.paths = paths
        self._next = time.monotonic() + FIRST if any(paths) else float("inf")

    def look(self, engine: Engine, going: Sequence[int]) -> None:
        """The end of an epoch, after which these networks go on."""
        began = time.monotonic()
        if began < self._next:
            return
        cut = f"cut off after {engine.done} of {engine.experiments[0].iterations} iterations"
        for k, recording in zip(going, engine.recordings(going, cut), strict=True):
            path = self.paths[k]
            if path is not None and not holds_a_finished_one(path):
                _save_meanwhile(recording, path)
        now = time.monotonic()
        self._next = now + max(FIRST, (now - began) / SHARE)


def _save_meanwhile(recording: Recording, path: Path) -> None:
    """A disk that is full for a while costs no training: the end is saved, or says so."""
    try:
        recording.save(path)
    except RecordingError as error:
        tqdm.write(f"not saved meanwhile, the training goes on: {error}")


def holds_a_finished_one(path: Path, experiment: Any = None) -> bool:
    """Is there a recording that nobody may overwrite with an unfinished one? With an experiment: one of that."""
    try:
        found = Recording.load(path)
    except RecordingError:
        return False
    return ended(found) and experiment in (None, found.origin.experiment)
