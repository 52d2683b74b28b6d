"""Recording: what a training run left behind, and its file. numpy and safetensors only; torch never.

Legend for every shape in this package: I iterations, E epochs, L layers that have a weight matrix (input side
first), S statistics, A hidden activations, T time steps, B bins, C checkpoints, P parameters, M moments of the
optimiser.
Rows of a probe array are E + 1: row 0 is the network before its first step, row e the network after epoch e.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from labkit.counts import counted
from labkit.experiments import Experiment, ExperimentError
from labkit.files import write_whole

FORMAT = 2
STATISTICS = ("mean", "abs_mean", "sd", "norm", "abs_max", "zero_share", "nonfinite")
HIDDEN_STATISTICS = ("mean", "abs_mean", "sd", "saturated", "dead")
PROBE = 250  # images of the fixed probe batch: the first of the sample
CHECKPOINT_EPOCHS = 1  # epochs from one checkpoint to the next; the start, the first step and the end have their own
MOST_EPOCHS = 10_000  # each has a digest of its own, which takes a tenth of a millisecond and more
LARGEST_FILE = 512 * 2**20  # bytes; a recording of this package's labs has 1 to 11 million

Array = NDArray[Any]


def checkpoint_iterations(experiment: Experiment) -> list[int]:
    """Numbers of iterations after which a run of this experiment leaves a checkpoint."""
    every = CHECKPOINT_EPOCHS * experiment.iterations_per_epoch
    return sorted({0, 1, *range(every, experiment.iterations, every), experiment.iterations})


class RecordingError(ValueError):
    """A recording that cannot be made, read or trusted; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Origin:
    """Where a recording comes from: everything that is not an array."""

    layers: tuple[str, ...]  # L names
    shapes: tuple[tuple[int, ...], ...]  # L shapes of the weight matrices, (outputs, inputs)
    parameters: tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each, in the order of a checkpoint
    activations: tuple[str, ...]  # A names of the hidden activations
    moments: tuple[str, ...]  # M names of the optimiser's moments, such as exp_avg
    experiment: Experiment | None = None  # None for a loop that follows no named experiment
    student: str = ""
    seed: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    data_digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    wall_time: float = 0.0  # seconds
    stopped: str = ""  # why the run ended early; empty when it ran to its end
    final_accuracy: float = math.nan  # share of all training images classified right at the end


@dataclass(frozen=True, eq=False)
class Recording:
    """What one training run left behind. `Recording.load(path)` checks every byte of it."""

    origin: Origin
    loss: Array  # (I,) mean cross-entropy of the mini-batch, nats
    gradient: Array  # (I, L, S) statistics of dloss/dW as the optimiser used it, in STATISTICS order
    update_norm: Array  # (I, L) L2 norm of the change that the iteration made to W
    weight_norm: Array  # (I, L) L2 norm of W before the update
    weight_dot_gradient: Array  # (I, L) sum over W * dloss/dW, before the update
    bias_dot_gradient: Array  # (I, L) sum over b * dloss/db, before the update; 0 without a bias
    clip_factor: Array  # (I, L) norm of dloss/dW after clipping over that before; 1 where it was not clipped
    epoch_end: Array  # (E,) number of iterations that were done when the epoch ended
    batch_counts: Array  # (E, L, B) histogram of dloss/dW on the epoch's last mini-batch
    batch_range: Array  # (E, L, 2) the outer edges of those bins, which have equal widths
    probe_gradient: Array  # (E+1, L, S) statistics of dloss/dW on the fixed probe batch
    probe_counts: Array  # (E+1, L, B) histogram of dloss/dW on the probe batch, common bins
    probe_range: Array  # (L,) those bins reach from -range to +range in every epoch
    probe_loss: Array  # (E+1,) mean cross-entropy of the probe batch, nats
    accuracy: Array  # (E+1,) share of the probe batch classified right
    output_error: Array  # (E+1,) mean |p - y| over the probe batch and the classes; p from the softmax
    hidden: Array  # (E+1, A, len(HIDDEN_STATISTICS)) of each hidden activation on the probe batch
    # (E+1, T) on the probe batch, L2 norm of the loss's gradient with respect to what each time step hands on: the
    # hidden state h_t, of an lstm the cell state c_t; T is 0 without time
    through_time: Array
    weight: Array  # (E+1, L, 2) mean and sd of W
    weight_counts: Array  # (E+1, L, B) histogram of W, common bins
    weight_range: Array  # (L,) those bins reach from -range to +range in every epoch
    checkpoint_iteration: Array  # (C,) iterations done when the checkpoint was taken, 0 first
    checkpoint_parameters: Array  # (C, P) all parameters, one after another
    checkpoint_moments: Array  # (C, M, P) the optimiser's moments, in the same order

    def __repr__(self) -> str:
        last = f", loss {self.loss[-1]:.4g}" if len(self.loss) else ""
        size = f"{counted(self.iterations, 'iteration')}, {counted(len(self.layers), 'layer')}"
        return f"Recording of {self.name}: {size}{last}"

    @property
    def iterations(self) -> int:
        return len(self.loss)

    @property
    def epochs(self) -> int:
        return len(self.epoch_end)

    @property
    def layers(self) -> tuple[str, ...]:
        return self.origin.layers

    @property
    def complete(self) -> bool:
        """Did the run reach its end?"""
        return not self.origin.stopped

    @property
    def name(self) -> str:
        return self.origin.experiment.name if self.origin.experiment else "a loop of your own"

    @property
    def digest(self) -> str:
        """The last link of the chain: 64 hexadecimal digits that stand for the whole recording."""
        return self.chain()[-1]

    def statistic(self, name: str) -> Array:
        """(I, L) one statistic of the weight gradients at every iteration; an unknown name lists the choices."""
        return self.gradient[:, :, _column(name, STATISTICS)]

    def probe_statistic(self, name: str) -> Array:
        """(E+1, L) one statistic of the weight gradients on the probe batch."""
        return self.probe_gradient[:, :, _column(name, STATISTICS)]

    def hidden_statistic(self, name: str) -> Array:
        """(E+1, A) one statistic of the hidden activations on the probe batch."""
        return self.hidden[:, :, _column(name, HIDDEN_STATISTICS)]

    def checkpoint(self, index: int) -> dict[str, Array]:
        """The parameters of one checkpoint by name, in their shapes."""
        return self._split(self.checkpoint_parameters[index])

    def checkpoint_moment(self, index: int, moment: str) -> dict[str, Array]:
        """One of the optimiser's moments at a checkpoint, by parameter name."""
        return self._split(self.checkpoint_moments[index, _column(moment, self.origin.moments)])

    def _split(self, flat: Array) -> dict[str, Array]:
        parts, start = {}, 0
        for name, shape in self.origin.parameters:
            stop = start + math.prod(shape)
            parts[name] = flat[start:stop].reshape(shape)
            start = stop
        return parts

    def chain(self) -> list[str]:
        """One digest for the start, one for each epoch (each over the one before), one for the whole."""
        ends = [0, *self.epoch_end.tolist()]
        links = [_digest("", _origin_text(self.origin), *self._stretch(0, 0, 0))]
        for epoch in range(1, self.epochs + 1):
            links.append(_digest(links[-1], *self._stretch(ends[epoch - 1], ends[epoch], epoch)))
        tail = (getattr(self, name) for name in (*_WHOLE, *_BY_ITERATION))
        return [*links, _digest(links[-1], *tail)]

    def _stretch(self, start: int, stop: int, epoch: int) -> list[Array]:
        """The rows that belong to one epoch: its iterations, its probe row, its checkpoints."""
        rows = [getattr(self, name)[start:stop] for name in _BY_ITERATION]
        rows += [getattr(self, name)[epoch : epoch + 1] for name in _BY_PROBE]
        rows += [getattr(self, name)[max(epoch - 1, 0) : epoch] for name in _BY_EPOCH]
        taken = self.checkpoint_iteration
        inside = (taken > start) & (taken <= stop) if epoch else taken == 0
        return rows + [getattr(self, name)[inside] for name in _BY_CHECKPOINT]

    def save(self, path: Path | str) -> Path:
        """Write the recording whole or not at all; a full disk raises and loses nothing that was there."""
        if self.epochs > MOST_EPOCHS:
            raise RecordingError(
                f"there are {self.epochs:,} epochs, a file holds {MOST_EPOCHS:,}: call end_epoch less often"
            )
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        header = {"format": FORMAT, "origin": json.loads(_origin_text(self.origin)), "chain": self.chain()}
        content = serialise(arrays, metadata={"labkit": json.dumps(header, sort_keys=True)})
        try:
            return write_whole(path, content)
        except OSError as error:
            raise RecordingError(
                f"{path} could not be written ({error.strerror}): nothing was changed and the recording is still in "
                f"memory; make room for {len(content) / 1e6:.1f} MB or choose another folder, then save it again"
            ) from error

    @classmethod
    def load(cls, path: Path | str) -> "Recording":
        """Read a recording and check it; a missing, cut-off, altered or foreign file raises `RecordingError`."""
        return cls.from_bytes(_read(Path(path)), str(path))

    @classmethod
    def from_bytes(cls, content: bytes, path: str = "the recording") -> "Recording":
        """The recording in `content`; nothing in it is run, whoever made it."""
        header = _header(content, path)
        try:
            arrays = parse(content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"{path} is cut off or damaged: run the training cell again, or copy it anew"
            ) from error
        if header.get("format") != FORMAT:
            raise RecordingError(
                f"{path} has format {str(header.get('format'))[:20]}, this version reads {FORMAT}: "
                "use the version of labkit that wrote it, or train again"
            )
        if missing := sorted(set(ARRAYS) - set(arrays)):
            raise RecordingError(f"{path} lacks {', '.join(missing)}: run the training cell again")
        recording = cls(_origin(header.get("origin"), path), **{name: arrays[name] for name in ARRAYS})
        _check_shapes(recording, path)
        _check_chain(recording, header.get("chain"), path)
        return recording


def ended(recording: Recording) -> bool:
    """Is there nothing to go on with: did the run reach its end, or a loss that is not finite?"""
    return recording.complete or "not finite" in recording.origin.stopped


ARRAYS = tuple(f.name for f in fields(Recording) if f.name != "origin")
_BY_ITERATION = (
    "loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient", "clip_factor",
)  # fmt: skip
_BY_EPOCH = ("epoch_end", "batch_counts", "batch_range")
_BY_PROBE = (
    "probe_gradient", "probe_counts", "probe_loss", "accuracy", "output_error", "hidden", "through_time",
    "weight", "weight_counts",
)  # fmt: skip
_BY_CHECKPOINT = ("checkpoint_iteration", "checkpoint_parameters", "checkpoint_moments")
_WHOLE = ("probe_range", "weight_range")
_NUMBERED = ("epoch_end", "checkpoint_iteration")  # numbers of iterations


def _column(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise RecordingError(f"there is no statistic {name!r}: choose from {', '.join(names)}")
    return names.index(name)


def _digest(before: str, *parts: str | Array) -> str:
    sha = hashlib.sha256(before.encode())
    for part in parts:
        if isinstance(part, str):
            sha.update(part.encode())
        else:
            sha.update(f"{part.dtype.str}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).reshape(-1).data)
    return sha.hexdigest()


def _origin_text(origin: Origin) -> str:
    values = {f.name: getattr(origin, f.name) for f in fields(Origin)}
    values["experiment"] = json.loads(origin.experiment.to_json()) if origin.experiment else None
    values["versions"] = dict(origin.versions)
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            if path.with_suffix("").is_file():
                raise RecordingError(
                    f"there is no recording {path}, but a file {path.stem}: run the training again with "
                    f"save={path.name!r}, ending and all"
                )
            raise RecordingError(f"there is no recording {path}: run the training cell that saves it")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise RecordingError(f"{path} has {size / 1e6:,.0f} MB, a recording has at most {LARGEST_FILE / 1e6:,.0f}")
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path} could not be read ({error.strerror})") from error


def _header(content: bytes, path: str) -> dict[str, Any]:
    """The metadata that `save` wrote: safetensors keeps it as JSON behind an 8-byte length."""
    foreign = RecordingError(f"{path} is not a recording of labkit: hand in the file that the training cell saved")
    if len(content) < 8:
        raise RecordingError(f"{path} is cut off after {len(content)} bytes: run the training cell again")
    (length,) = struct.unpack("<Q", content[:8])
    if length > 10 * 2**20:
        raise foreign
    if len(content) < 8 + length:
        raise RecordingError(f"{path} is cut off after {len(content):,} bytes: run the training cell again")
    try:
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["labkit"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict):
        raise foreign
    return header


def _origin(values: object, path: str) -> Origin:
    try:
        if not isinstance(values, dict):
            raise TypeError("no origin")
        known = dict(values)
        if known["experiment"] is not None:
            known["experiment"] = Experiment.from_json(json.dumps(known["experiment"]))
        for name in ("layers", "activations", "moments"):
            known[name] = tuple(map(str, known[name]))
        known["shapes"] = tuple(tuple(map(int, shape)) for shape in known["shapes"])
        known["parameters"] = tuple((str(name), tuple(map(int, shape))) for name, shape in known["parameters"])
        known["versions"] = {str(key): str(value) for key, value in known["versions"].items()}
        for name in ("student", "dtype", "device", "data_digest", "stopped"):
            known[name] = str(known[name])
        for name in ("wall_time", "final_accuracy"):
            known[name] = float(known[name])
        return Origin(**known)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError, ExperimentError) as error:
        raise RecordingError(f"{path} was altered: its description cannot be read ({error}); train again") from error


def _check_shapes(r: Recording, path: str) -> None:
    """Does every array have the shape that the legend gives it?"""
    for name in ARRAYS:
        if getattr(r, name).dtype.kind not in ("i" if name in _NUMBERED else "fi"):
            raise RecordingError(f"{path} was altered: {name} does not hold numbers; run the training cell again")
    if r.loss.ndim != 1 or r.epoch_end.ndim != 1 or r.batch_counts.ndim != 3 or r.checkpoint_iteration.ndim != 1:
        raise RecordingError(f"{path} was altered: its arrays have wrong shapes; run the training cell again")
    # beyond these numbers, checking the digests of a small file would take hours
    if max(len(r.epoch_end), len(r.checkpoint_iteration) - 3) > MOST_EPOCHS:
        raise RecordingError(
            f"{path} was altered: it has more than {MOST_EPOCHS:,} epochs; run the training cell again"
        )
    i, e, c, b = len(r.loss), len(r.epoch_end), len(r.checkpoint_iteration), r.batch_counts.shape[2]
    t = r.through_time.shape[1] if r.through_time.ndim == 2 else 0
    layers, a, s = len(r.origin.layers), len(r.origin.activations), len(STATISTICS)
    p, m = sum(math.prod(shape) for _, shape in r.origin.parameters), len(r.origin.moments)
    expected = {
        "loss": (i,), "gradient": (i, layers, s), "update_norm": (i, layers), "weight_norm": (i, layers),
        "weight_dot_gradient": (i, layers), "bias_dot_gradient": (i, layers), "clip_factor": (i, layers),
        "epoch_end": (e,), "batch_counts": (e, layers, b), "batch_range": (e, layers, 2),
        "probe_gradient": (e + 1, layers, s), "probe_counts": (e + 1, layers, b), "probe_range": (layers,),
        "probe_loss": (e + 1,), "accuracy": (e + 1,), "output_error": (e + 1,),
        "hidden": (e + 1, a, len(HIDDEN_STATISTICS)), "through_time": (e + 1, t), "weight": (e + 1, layers, 2),
        "weight_counts": (e + 1, layers, b), "weight_range": (layers,),
        "checkpoint_iteration": (c,), "checkpoint_parameters": (c, p), "checkpoint_moments": (c, m, p),
    }  # fmt: skip
    for name, shape in expected.items():
        if getattr(r, name).shape != shape:
            found = getattr(r, name).shape
            raise RecordingError(f"{path} was altered: {name} has shape {found} instead of {shape}; train again")
    ends = r.epoch_end.tolist()
    if ends != sorted(set(ends)) or (ends and not 0 < ends[0] <= ends[-1] <= i):
        raise RecordingError(f"{path} was altered: its epochs are out of order; run the training cell again")
    if len(r.origin.shapes) != layers:
        raise RecordingError(f"{path} was altered: its layers and their shapes differ in number; train again")


def _check_chain(recording: Recording, stored: object, path: str) -> None:
    chain = recording.chain()
    if stored == chain:
        return
    known = stored if isinstance(stored, list) else []
    first = next((k for k, link in enumerate(chain) if k >= len(known) or known[k] != link), len(chain) - 1)
    where = (
        "before the first epoch" if first == 0 else f"in epoch {first}" if first <= recording.epochs else "at its end"
    )
    raise RecordingError(f"{path} was altered {where}: its digests do not fit; run the training cell again")
