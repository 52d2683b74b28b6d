"""Where can deep networks be trained? A map: depth by weight variance, a network for each pair, trained equally long.

A map keeps of each network what a grader can compute again: the gradients at its start, the loss of every iteration,
the accuracy at the end. The recordings themselves, of a deep network in a fine map 100 MB with all their checkpoints,
are made without these and let go row by row.

All networks of a map have one seed. So two of a row start from the same matrices, each times its own sigma_w, and two
of one column share the first layers.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise
from tqdm import tqdm

from labkit import backward, initialisations
from labkit.counts import counted
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.files import write_whole
from labkit.interrupts import Interrupted
from labkit.recording import RecordingError

Floats = NDArray[Any]
Size = Literal["tiny", "coarse", "fine"]

FORMAT = 1
FAMILY = "trainability"
PREFIX = "map_"  # of a map's file, before its activation
LARGEST_FILE = 64 * 2**20  # bytes; a coarse map has 150 thousand, a fine one 2 million
# What a row costs besides its hidden layers, in layers: fitted to the rows of coarse maps.
BESIDE = 6
WAIT = 5.0  # seconds until the bar tells anew where a job is
ROUNDED = 4e-16  # two units in the last place of float64
INSTEAD = "LABKIT_MAPS"  # an environment variable: the size that stands for `coarse`, to try a whole course out
_ADVICE = "run the cell that makes it"


@dataclass(frozen=True)
class Grid:
    """Which networks a map has, and how long each is trained."""

    depths: tuple[int, ...]  # D numbers of hidden layers
    variances: tuple[float, ...]  # V values of sigma_w^2
    epochs: int
    batches: int | None = None  # of each epoch; all when it is None


def _steps(first: float, last: float, count: int, digits: int) -> tuple[float, ...]:
    return tuple(round(float(s), digits) for s in np.geomspace(first, last, count))


_DEPTHS, _SHALLOW = (5, 10, 20, 40, 80, 140, 200), (1, 2, 4, 8, 16, 32)
_MANY = (3, 5, 8, 10, 14, 20, 26, 32, 40, 50, 60, 70, 80, 95, 110, 125, 140, 160, 180, 200)
# Around the critical points: 1 for tanh, 2 for relu, 103 for sigmoid, which is trained at no great depth.
GRIDS: dict[str, dict[str, Grid]] = {
    "tiny": {
        "tanh": Grid((2, 5, 10), (0.5, 1.0, 2.0, 4.0), 1, 20),
        "relu": Grid((2, 5, 10), (1.0, 2.0, 3.0), 1, 20),
        "sigmoid": Grid((1, 2, 5), (1.0, 30.0, 100.0, 250.0), 1, 20),
    },
    "coarse": {
        "tanh": Grid(_DEPTHS, (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0), 2),
        "relu": Grid(_DEPTHS, (1.0, 1.4, 1.7, 2.0, 2.3, 2.6, 3.0), 2),
        "sigmoid": Grid(_SHALLOW, (1.0, 10.0, 30.0, 60.0, 100.0, 150.0, 250.0), 2),
    },
    "fine": {
        "tanh": Grid(_MANY, _steps(0.4, 4.0, 25, 3), 8),
        "relu": Grid(_MANY, _steps(0.8, 4.0, 25, 3), 8),
        "sigmoid": Grid((1, 2, 3, *_MANY[1:9]), _steps(1.0, 300.0, 25, 2), 8),
    },
}
ACTIVATIONS = tuple(GRIDS["coarse"])


def grid_of(e: Experiment, size: str = "coarse") -> Grid:
    """The grid of that size for an experiment of the family; LABKIT_MAPS may say which size stands for `coarse`."""
    if size == "coarse":
        size = os.environ.get(INSTEAD) or size
    if size not in GRIDS:
        raise ExperimentError(f"there is no map of size {size!r}: choose from {', '.join(GRIDS)}")
    if e.activation not in GRIDS[size]:
        raise ExperimentError(f"there is no map for {e.activation}: choose from {', '.join(GRIDS[size])}")
    return GRIDS[size][e.activation]


def of_student(activation: str, student: str = "", size: str = "coarse") -> tuple[Experiment, Grid]:
    """What all networks of a map share, its budget included, and the grid."""
    if activation not in ACTIVATIONS:
        raise ExperimentError(f"there is no map for {activation!r}: choose from {', '.join(ACTIVATIONS)}")
    base = experiment(f"{FAMILY}/{activation}", student)
    grid = grid_of(base, size)
    return base.replace(epochs=grid.epochs, batches=grid.batches), grid


def cell(base: Experiment, depth: int, variance: float) -> Experiment:
    """One network of a map: so many hidden layers, weights of variance sigma_w^2 / inputs."""
    n = base.widths[1]
    return base.replace(widths=(base.widths[0], *(n,) * depth, base.widths[-1]), gain=math.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Map:
    """D depths by V variances of networks of one kind, each trained for I iterations. `Map.load(path)` checks it."""

    base: Experiment  # of every network, but for its depth and its gain
    depths: tuple[int, ...]  # D numbers of hidden layers, rising
    variances: tuple[float, ...]  # V values of sigma_w^2, rising
    accuracy: Floats  # (D, V) share of all training images classified right at the end; NaN where the loss broke down
    loss: Floats  # (D, V, I) mean cross-entropy of the mini-batch, nats; not finite from where it broke down
    start: Floats  # (D, V, layers) root mean square of single images' dloss/dz before the first step; NaN beyond depth
    device: str = "cpu"
    seconds: float = 0.0  # that all trainings took

    def __repr__(self) -> str:
        known = self.accuracy[np.isfinite(self.accuracy)]
        best = f", accuracy {known.min():.2f} to {known.max():.2f}" if known.size else ""
        return (
            f"Map of {self.base.activation}: {counted(len(self.depths), 'depth')} to {max(self.depths, default=0)} by "
            f"{counted(len(self.variances), 'variance')}, {counted(self.base.iterations, 'iteration')} each{best}"
        )

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that stand for the whole map."""
        sha = hashlib.sha256(self._header().encode())
        for name in ARRAYS:
            values = np.ascontiguousarray(getattr(self, name))
            sha.update(f"{name}{values.dtype.str}{values.shape}".encode() + values.tobytes())
        return sha.hexdigest()

    def cell(self, depth: int, variance: int) -> Experiment:
        """The network in that row and that column."""
        return cell(self.base, self.depths[depth], self.variances[variance])

    def start_of(self, depth: int, variance: int) -> Floats:
        """(depth + 1,) root mean square of dloss/dz of each layer at the start, input side first."""
        found: Floats = self.start[depth, variance, : self.depths[depth] + 1]
        return found

    def _header(self) -> str:
        about = {"base": json.loads(self.base.to_json()), "depths": self.depths, "variances": self.variances}
        return json.dumps({"format": FORMAT, **about, "device": self.device, "seconds": self.seconds}, sort_keys=True)

    def save(self, path: Path | str) -> Path:
        """Write the map whole or not at all."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        # one entry: safetensors writes several in another order each time, and a map has one file
        about = json.dumps({**json.loads(self._header()), "digest": self.digest}, sort_keys=True)
        try:
            return write_whole(path, serialise(arrays, metadata={"labkit_map": about}))
        except OSError as error:
            raise RecordingError(f"{path} could not be written ({error.strerror}): choose another folder") from error

    @classmethod
    def load(cls, path: Path | str) -> "Map":
        """Read a map and check it; a missing, cut-off, altered or foreign file raises `RecordingError`."""
        path = Path(path)
        if not path.is_file():
            raise RecordingError(f"there is no map {path}: {_ADVICE}")
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise RecordingError(f"{path} is larger than any map: {_ADVICE}")
            return cls.from_bytes(path.read_bytes(), str(path))
        except OSError as error:
            raise RecordingError(f"{path} could not be read ({error.strerror})") from error

    @classmethod
    def from_bytes(cls, content: bytes, path: str = "the map") -> "Map":
        """The map in `content`; nothing in it is run, whoever made it."""
        header, digest = _header(content, path)
        try:
            arrays = parse(content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(f"{path} is cut off or damaged: {_ADVICE} again") from error
        known: dict[str, Any] = {name: arrays.get(name, np.zeros(0)) for name in ARRAYS}
        found = cls(**_described(header, path), **known)
        _check_shapes(found, path)
        if found.digest != digest:
            raise RecordingError(f"{path} was altered: its digest does not fit; {_ADVICE} again")
        return found


ARRAYS = tuple(f.name for f in fields(Map) if f.name in ("accuracy", "loss", "start"))


def _header(content: bytes, path: str) -> tuple[dict[str, Any], str]:
    """What `save` wrote beside the arrays; read without them."""
    foreign = RecordingError(f"{path} is no map of labkit: hand in the file that the cell saved")
    try:
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + min(length, 10 * 2**20)])["__metadata__"]
        header = json.loads(metadata["labkit_map"])
        digest = str(header["digest"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict):
        raise foreign
    if header.get("format") != FORMAT:
        raise RecordingError(f"{path} has another format: make it again with this version of labkit")
    return header, digest


def _described(header: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        return {
            "base": Experiment.from_json(json.dumps(header["base"])),
            "depths": tuple(_whole(depth) for depth in header["depths"]),
            "variances": tuple(float(variance) for variance in header["variances"]),
            "device": str(header["device"])[:40],
            "seconds": float(header["seconds"]),
        }
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RecordingError(f"{path} was altered: its description cannot be read; {_ADVICE} again") from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 10_000:
        raise ValueError(f"{value!r} is no depth")
    return value


def _check_shapes(found: Map, path: str) -> None:
    d, v = len(found.depths), len(found.variances)
    layers = max(found.depths, default=0) + 1
    expected = {"accuracy": (d, v), "loss": (d, v, found.base.iterations), "start": (d, v, layers)}
    for name, shape in expected.items():
        values = getattr(found, name)
        if values.shape != shape or values.dtype.kind != "f":
            raise RecordingError(f"{path} was altered: {name} is not {shape} numbers; {_ADVICE} again")
    for name, said in (("depths", found.depths), ("variances", found.variances)):
        if list(said) != sorted(set(said)) or not all(0 < one < math.inf for one in said):
            raise RecordingError(f"{path} was altered: its {name} are not in order; {_ADVICE} again")


# how a map is made


def trainability(
    activation: str,
    student: str = "",
    size: Size = "coarse",
    save: Path | str | None = None,
    *,
    device: str | None = None,
    backend: Literal["here", "auto", "inline", "slurm", "script"] = "here",
    profile: str | Path = "generic",
    minutes: int | None = None,
    progress: bool = True,
) -> Map:
    """Train the networks of a map, row by row, and keep what came of them.

    `coarse` takes a laptop about a minute for each activation; `fine` has ten times as many networks, each trained
    four times as long: for a GPU, or with `backend="slurm"` (see `labkit.submit`) for a cluster, a job for each row.
    With `save`, rows that the file has are not trained again, so an interrupted map goes on where it was; so it does
    with its jobs, of which those that wait, run or have finished are found again in the folder `jobs`. Another map that
    the file holds is kept beside it.
    """
    base, grid = of_student(activation, student, size)
    if save is not None and not student:
        tqdm.write(f"no student is given: {save} will be nobody's map, and count for nobody")
    found = _begun(base, grid, save)
    rest = [depth for depth in grid.depths if depth not in found.depths]
    if rest and backend == "here":
        import_module("labkit.training")  # its seconds are none of the first row's
    from labkit.progress import SHARE, bar

    with bar(_cost(grid.depths), f"map of {activation}", progress, done=_cost(found.depths), form=SHARE) as shown:
        jobs = _queued(base, grid, rest, backend, profile, minutes, device)
        for depth in rest:
            cells = [cell(base, depth, v) for v in grid.variances]
            shown.set_postfix_str(f"{depth} hidden layers, {len(cells)} networks")
            try:
                one = _fetched(jobs[depth], shown) if depth in jobs else row(cells, grid.variances, device)
            except KeyboardInterrupt:
                raise Interrupted(_interrupted(found, grid, save, bool(jobs))) from None
            if save is not None and not found.depths:
                _put_aside(Path(save))
            found = _with(found, one)
            if save is not None:
                found.save(save)
            shown.update(_cost([depth]))
    return found


def _cost(depths: Sequence[int]) -> int:
    """How long rows take, in layers of one: all have as many networks and iterations."""
    return sum(depth + BESIDE for depth in depths)


def _interrupted(found: Map, grid: Grid, save: Path | str | None, waited: bool) -> str:
    """What a map that was stopped keeps, and how it goes on; `waited` for jobs, which nobody stopped."""
    rows = f"{len(found.depths)} of {len(grid.depths)} depths"
    if waited:
        return f"stopped waiting with {rows} fetched: the jobs go on; do the same again, and it finds them"
    if save is None:
        return f"interrupted after {rows}: without save= nothing of them was kept"
    if not found.depths:
        return f"interrupted before the first of {len(grid.depths)} depths was done: nothing was kept"
    return f"interrupted after {rows}: {save} keeps them; do the same again, and it goes on where it was"


def _begun(base: Experiment, grid: Grid, save: Path | str | None) -> Map:
    """What the file has of this very map."""
    if save is not None and Path(save).exists():
        try:
            found = Map.load(save)
        except RecordingError:
            pass
        else:
            if (found.base, found.variances) == (base, grid.variances) and set(found.depths) <= set(grid.depths):
                return found
    v = len(grid.variances)
    loss = np.zeros((0, v, base.iterations), np.float32)
    return Map(base, (), grid.variances, np.zeros((0, v)), loss, np.zeros((0, v, 1)))


def _put_aside(path: Path) -> None:
    """Keep another map that lies there under a further name: it took minutes, or hours."""
    try:
        other = Map.load(path)
    except RecordingError:
        return
    if other.depths:
        names = (path.with_name(f"{path.stem}-earlier{number}{path.suffix}") for number in chain([""], count(2)))
        kept = next(name for name in names if not name.exists())
        path.replace(kept)
        tqdm.write(f"{path} held another map, of {other.base.student or 'nobody'}: it is kept as {kept.name}")


def row(cells: Sequence[Experiment], variances: Sequence[float], device: str | None = None, watch: Any = None) -> Map:
    """Train the networks of one depth, a cell for each variance: a map of one row, whose base is the first of them.
    `watch` is one of `labkit.train_many`'s."""
    from labkit.training import train_lightly

    runs = train_lightly(cells, device=device, watch=watch)
    with np.errstate(over="ignore"):  # a loss may be finite in the cells' own numbers alone
        losses = [r.loss.astype(np.float32) for r in runs]
    accuracy = [
        r.origin.final_accuracy if np.isfinite(x).all() else math.nan for r, x in zip(runs, losses, strict=True)
    ]
    loss = np.stack([_padded(x, e.iterations) for x, e in zip(losses, cells, strict=True)]).astype(np.float32)
    return Map(
        cells[0],
        (len(cells[0].widths) - 2,),
        tuple(variances),
        np.array([accuracy]),
        loss[None],
        np.stack([at_start(e) for e in cells])[None],
        runs[0].origin.device,
        max(r.origin.wall_time for r in runs),
    )


def _queued(
    base: Experiment, grid: Grid, depths: Sequence[int], backend: str, profile: str | Path, minutes: int | None,
    device: str | None,
) -> dict[int, Any]:  # fmt: skip
    """For each depth its job, all in the queue at once; none where this process trains them one after another."""
    if backend == "here":
        return {}
    from labkit.jobs.handle import chosen_backend, submit_row

    if chosen_backend(backend) == "inline":
        return {}
    jobs = {}
    for depth in depths:
        cells = [cell(base, depth, v) for v in grid.variances]
        jobs[depth] = submit_row(
            cells, grid.variances, backend=backend, profile=profile, minutes=minutes, device=device
        )
    return jobs


def _fetched(job: Any, shown: Any) -> Map:
    """What a job made, once it is there."""
    words = shown.postfix
    while (state := job.state) in ("queued", "running"):
        shown.set_postfix_str(f"{words}: {state}{f', {job.why}' if job.why else ''}")
        job.wait(WAIT, progress=False)
    found: Map = job.fetch_row()
    return found


def at_start(e: Experiment, shake: float = 0.0) -> Floats:
    """(L,) root mean square of dloss/dz of each layer at the start, over its units and the images of the probe batch,
    each of which has the loss of its own; input side first, in float64. With `shake` all weights are that much larger.

    A mini-batch's gradient is a mean in which images cancel, more so in some layers than in others; the mean field
    speaks of single images.
    """
    parameters = {name: values * (1 + shake) for name, values in initialisations.named(e).items()}
    deltas, _ = backward.back_propagated(e, parameters, *backward.probe_batch(e))
    return np.array([math.sqrt(backward.mean_square(delta)) for delta in deltas])


def _padded(values: Floats, length: int) -> Floats:
    found = np.full(length, np.nan)
    found[: len(values)] = values
    return found


def _with(found: Map, one: Map) -> Map:
    """The map with one more row, in its place."""
    (depth,) = one.depths
    depths = sorted([*found.depths, depth])
    at, layers = depths.index(depth), depths[-1] + 1
    start = np.full((len(found.depths), len(found.variances), layers), np.nan)
    start[..., : found.start.shape[2]] = found.start
    more = np.stack([_padded(values, layers) for values in one.start[0]])
    return replace(
        found,
        depths=tuple(depths),
        accuracy=np.insert(found.accuracy, at, one.accuracy, axis=0),
        loss=np.insert(found.loss, at, one.loss, axis=0),
        start=np.insert(start, at, more, axis=0),
        device=one.device,
        seconds=found.seconds + one.seconds,
    )
