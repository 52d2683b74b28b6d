"""Recordings for other programs: TensorBoard's event files."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.recording import Array, Recording

MOST = 2500  # iterations of a curve that are written: TensorBoard shows 1,000 of them
EVENTS = "events.out.tfevents.*"

Scalar = tuple[str, Array, Array]  # tag, iterations done (n,), values (n,)
Histogram = tuple[str, int, Array, Array, tuple[float, float]]  # tag, iterations done, counts, edges, mean and sd


class ExportError(ValueError):
    """An export that cannot be made; the message is one sentence that says what to do."""


def to_tensorboard(recording: Recording, folder: Path | str) -> Path:
    """Write a recording as an event file for `tensorboard --logdir FOLDER` and give the file.

    Scalars by iteration: `loss`, and for each layer `gradient_abs_mean`, `gradient_norm`, `update_norm`,
    `weight_norm`, `clip_factor`; of a long run every k-th iteration and the last, so that a curve has about 2,500. By
    epoch, at the iteration that ended it: `accuracy`, `probe_loss`, `probe_gradient_abs_mean`. Histograms by epoch,
    from the recorded bins: `gradients_batch` of the epoch's last mini-batch, `gradients_probe` of the probe batch,
    `weights` of the weights themselves. The folder may be there, if it holds no other run: TensorBoard would draw both
    as one.
    """
    folder = Path(folder)
    made = _prepared(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as beside:
            _write(recording, beside)
            (written,) = Path(beside).glob(EVENTS)
            return written.rename(folder / written.name)
    except BaseException as error:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritable(folder, error) from error
        raise


def folders(files: Sequence[Path], recordings: Sequence[Recording], out: Path) -> list[Path]:
    """A folder for each file's events: its stem, and where several files have that stem whose run it is.

    That is the student, if that tells them apart, or else the first 8 digits of the recording's digest; of one
    recording given twice the second has a number besides.
    """
    names = [file.stem for file in files]
    students = [r.origin.experiment.student if r.origin.experiment else "" for r in recordings]
    for stem in {name for name in names if names.count(name) > 1}:
        same = [k for k, file in enumerate(files) if file.stem == stem]
        whose = [re.sub(r"[^\w.-]+", "-", students[k]).strip("-.") for k in same]
        telling = all(whose) and len(set(whose)) == len(whose)
        for k, student in zip(same, whose, strict=True):
            names[k] = f"{stem}-{student if telling else recordings[k].digest[:8]}"
    taken = [names[:k].count(name) for k, name in enumerate(names)]
    return [out / (f"{name}-{before + 1}" if before else name) for name, before in zip(names, taken, strict=True)]


def _prepared(folder: Path) -> bool:
    """Make the folder, unless it is there and free; give whether it was made."""
    try:
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        found = next(folder.glob(EVENTS), None)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if found:
        raise ExportError(f"{folder} holds another run's events ({found.name}): choose another folder, or empty it")
    return not there


def _unwritable(folder: Path, error: OSError) -> ExportError:
    return ExportError(f"{folder} cannot be written ({error.strerror}): choose another folder")


def _write(recording: Recording, folder: str) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ExportError("TensorBoard is not installed: run `pip install tensorboard`, then export again") from error
    writer: Any = SummaryWriter(folder)
    try:
        writer.add_text("recording", _about(recording))
        for tag, steps, values in scalars(recording):
            for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                writer.add_scalar(tag, value, step)
        for tag, step, counts, edges, (mean, sd) in histograms(recording):
            n = int(counts.sum())
            writer.add_histogram_raw(
                tag,
                min=float(edges[0]),
                max=float(edges[-1]),
                num=n,
                sum=n * mean,
                sum_squares=n * (mean**2 + sd**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=step,
            )
    finally:
        writer.close()


def _about(recording: Recording) -> str:
    experiment = recording.origin.experiment
    return f"{experiment or recording.name}  \ndigest {recording.digest}"


def scalars(recording: Recording) -> Iterator[Scalar]:
    """Every curve that is exported."""
    every = -(-recording.iterations // MOST) or 1
    rows = np.unique(np.append(np.arange(0, recording.iterations, every), max(recording.iterations - 1, 0)))
    rows = rows[rows < recording.iterations]
    by_iteration = {
        "gradient_abs_mean": recording.statistic("abs_mean"),
        "gradient_norm": recording.statistic("norm"),
        "update_norm": recording.update_norm,
        "weight_norm": recording.weight_norm,
        "clip_factor": recording.clip_factor,
    }
    yield "loss", rows + 1, recording.loss[rows]
    for name, values in by_iteration.items():
        for k, layer in enumerate(recording.layers):
            yield f"{name}/{layer}", rows + 1, values[rows, k]
    ends = _ends(recording)
    if np.isnan(recording.probe_loss).all():
        return
    yield "accuracy", ends, recording.accuracy
    yield "probe_loss", ends, recording.probe_loss
    for k, layer in enumerate(recording.layers):
        yield f"probe_gradient_abs_mean/{layer}", ends, recording.probe_statistic("abs_mean")[:, k]


def histograms(recording: Recording) -> Iterator[Histogram]:
    """Every histogram that is exported, with the bins that hold something, and empty ones between them."""
    ends = _ends(recording).tolist()
    batch = recording.gradient[recording.epoch_end - 1]  # (E, L, S) the epoch's last mini-batch
    for k, layer in enumerate(recording.layers):
        for epoch, (counts, edges) in enumerate(zip(recording.batch_counts, recording.batch_range, strict=True)):
            moments = float(batch[epoch, k, 0]), float(batch[epoch, k, 2])
            low, high = edges[k].tolist()
            yield from _trimmed(f"gradients_batch/{layer}", ends[epoch + 1], counts[k], low, high, moments)
        common = {
            "gradients_probe": (recording.probe_counts, recording.probe_range, recording.probe_gradient[:, :, [0, 2]]),
            "weights": (recording.weight_counts, recording.weight_range, recording.weight),
        }
        for name, (every, ranges, both) in common.items():
            reach = float(ranges[k])
            for step, counts, (mean, sd) in zip(ends, every[:, k], both[:, k].tolist(), strict=True):
                yield from _trimmed(f"{name}/{layer}", step, counts, -reach, reach, (mean, sd))


def _ends(recording: Recording) -> Array:
    """(E+1,) iterations that were done before the first epoch and after each."""
    return np.array([0, *recording.epoch_end.tolist()])


def _trimmed(
    tag: str, step: int, counts: Array, low: float, high: float, moments: tuple[float, float]
) -> Iterator[Histogram]:
    """The bins from the first to the last in which something was counted; nothing when there are none."""
    filled = np.flatnonzero(counts)
    if len(filled):
        part = slice(filled[0], filled[-1] + 1)
        edges = np.linspace(low, high, len(counts) + 1)[filled[0] : filled[-1] + 2]
        yield tag, step, counts[part], edges, moments
