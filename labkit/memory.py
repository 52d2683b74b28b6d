"""How many networks fit: what one takes while it is trained, what its recording takes, what is free.

The figures are counted from the shapes, a little on the safe side, and never measured; tests hold them against what is
really allocated.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from labkit.experiments import Experiment, ExperimentError
from labkit.histogram import BINS
from labkit.optimizers import MOMENTS
from labkit.recording import HIDDEN_STATISTICS, PROBE, STATISTICS, checkpoint_iterations
from labkit.tape import PROBE_ROWS, WAITING_BYTES

SHARE = 0.7  # of what is free that a training takes: others live here, too
BLOCK_ROWS = 40  # iterations whose rows wait for their statistics, if there is room for them
RING_BYTES = {"cpu": 16 * 2**20, "cuda": 2**32}  # for these rows: in a CPU's cache, if it can be
RING_PART = 4  # on a GPU they take at most this part of what is free
CGROUPS = Path("/sys/fs/cgroup")


def free(device: torch.device) -> int:
    """Bytes that a training on this device may take: on a GPU its own, else the machine's or the job's, if less."""
    if device.type == "cuda":
        # what torch keeps of earlier trainings is free, too, though the driver does not say so
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((torch.cuda.mem_get_info(device)[0] + kept) * SHARE)
    return int(min(_available(), *_of_job(CGROUPS)) * SHARE)


def _available() -> int:
    """Bytes that the machine can still give; where nobody says so, all that it has."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        import os

        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_job(root: Path) -> Iterator[int]:
    """Bytes that are left of each limit over this process (cgroup v2, or v1 of a container): files in the cache do not
    count, the kernel drops them first."""
    yield 2**62
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    names = {line.split(":")[1]: line.split(":", 2)[2].strip("/") for line in own if line.count(":") >= 2}
    inside = root / names.get("", "")
    for folder in (inside, *inside.parents):
        yield from _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat", "inactive_file")
        if folder == root:
            break
    old = root / "memory"
    for folder in (old / names.get("memory", ""), old):
        yield from _left(
            folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", folder / "memory.stat",
            "total_inactive_file",
        )  # fmt: skip


def _left(limit: Path, usage: Path, statistics: Path, cached: str) -> Iterator[int]:
    try:
        most, used = int(limit.read_text()), int(usage.read_text())
        kept = dict(line.split() for line in statistics.read_text().splitlines())
        yield max(0, most - used + int(kept.get(cached, 0)))
    except (OSError, ValueError):  # no such limit, or "max"
        return


def parameters(e: Experiment) -> int:
    """Of a multilayer perceptron."""
    return sum((before + 1) * after for before, after in pairwise(e.widths))


def rows_that_fit(e: Experiment, device: torch.device, networks: int) -> int:
    """Iterations whose gradients and parameters can wait for their statistics, at least one."""
    room = _ring(device, free(device) if device.type == "cuda" else 0)
    return max(1, min(BLOCK_ROWS, room // (_row(e) * networks)))


def _ring(device: torch.device, budget: int) -> int:
    """Bytes that rows which wait for their statistics may take."""
    return min(RING_BYTES["cuda"], budget // RING_PART) if device.type == "cuda" else RING_BYTES["cpu"]


def _row(e: Experiment) -> int:
    """Bytes of one network's gradients and parameters."""
    return 2 * parameters(e) * _size(e)


def of_recording(e: Experiment, lightly: bool = False) -> int:
    """Bytes of the arrays of a whole recording of a plain multilayer perceptron; `lightly`, with two checkpoints."""
    size, layers, s = _size(e), len(e.widths) - 1, len(STATISTICS)
    iteration = 1 + layers * (s + 5)
    epoch = layers * (2 + BINS) * 4 if size == 4 else layers * (2 * 8 + BINS * 4)
    probe = layers * (s + 2) * size + 2 * layers * BINS * 4 + 3 * size + (layers - 1) * len(HIDDEN_STATISTICS) * size
    checkpoint = 8 + (1 + len(MOMENTS[e.optimizer])) * parameters(e) * size
    return (
        e.iterations * iteration * size
        + e.epochs * (8 + epoch)
        + (e.epochs + 1) * probe
        + 2 * layers * size
        + (2 if lightly else len(checkpoint_iterations(e))) * checkpoint
    )


def of_network(e: Experiment, own_data: bool) -> int:
    """Bytes that one network more takes on the device, where but one iteration at a time waits for its statistics."""
    p, moments, units, size = parameters(e), len(MOMENTS[e.optimizer]), sum(e.widths[1:]), _size(e)
    ring = (3 + moments) * p + p  # and each one's learning rate
    seen = (2 * p + 2 * PROBE * units) + (1 + moments) * p  # a probe row and a checkpoint that wait
    waiting = min(PROBE_ROWS, max(1, WAITING_BYTES // (8 * p * size)))
    step = 4 * e.batch_size * units + 3 * p
    data = (e.batch_size + 2 * PROBE) * e.widths[0] + e.observations * 4 if own_data else 0
    return size * (ring + 3 * waiting * seen + step + data)


def of_data(e: Experiment, seeds: int, networks: int, device: torch.device, budget: int) -> int:
    """Bytes of what networks of so many seeds share: data, while they are made ready, and rows that wait."""
    images = min(seeds * e.observations, e.pool) if e.data in ("digits", "mnist") else seeds * e.observations
    ring = min(_ring(device, budget), BLOCK_ROWS * _row(e) * networks)
    return 3 * max(images, e.observations) * e.widths[0] * _size(e) + ring


def _size(e: Experiment) -> int:
    return 8 if e.dtype == "float64" else 4


def parts(
    experiments: Sequence[Experiment], most: int, device: torch.device, budget: int, host: int, lightly: bool = False
) -> list[slice]:
    """Which of these networks, that have one shape, are trained at once: as few parts as fit, of about one size.

    `budget` is what they may take on the device, and `host` what their recordings may take beside the CPU until they
    are written; on a CPU both are one. `most` is how many are worth it at once.
    """
    e, count = experiments[0], len(experiments)
    seeds = len({one.seed for one in experiments})
    shared = of_data(e, min(seeds, most), min(count, most), device, budget)
    each, kept = of_network(e, seeds > 1), of_recording(e, lightly)
    if device.type == "cpu":  # what is on the tape, and one recording that is made of it
        fitting = (budget - shared - kept) // (each + kept)
    else:
        fitting = min((budget - shared) // each, host // kept - 1)
    needed = shared + each + 2 * kept
    there = min(budget, host) / SHARE
    if fitting < 1 and needed > there:
        raise ExperimentError(
            f"{e.name} takes about {needed / 1e6:,.0f} MB to train, and {there / 1e6:,.0f} MB are free: "
            "end other programs, or choose a smaller network, smaller mini-batches or fewer epochs"
        )
    number = -(-count // max(1, min(fitting, most)))
    ends = [count * part // number for part in range(number + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]
