"""The data that the labs train on: digits, MNIST, circles and sequences by name, a sample per student, the batches.

`of_experiment` is the one door. Where the data come from: `labkit.digits`, `labkit.mnist`, `labkit.circles` and
`labkit.sequences` give plain arrays; here they become datasets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit import digits as drawn
from labkit.cache import cache_folder
from labkit.digits import DIGITS, SIDE, as_bytes
from labkit.streams import DataError, stream, whole

if TYPE_CHECKING:
    from labkit.experiments import Experiment

__all__ = [
    "DIGITS",
    "SIDE",
    "DataError",
    "Dataset",
    "batches",
    "cache_folder",
    "circles",
    "contact_sheet",
    "digits",
    "epoch_batches",
    "long_lag",
    "mnist",
    "of_experiment",
    "sample",
    "samples",
    "stream",
    "student_digits",
]

_KINDS = {2: "points", 3: "sequences", 4: "images"}  # what inputs of so many dimensions are


@dataclass(frozen=True, eq=False)
class Dataset:
    """Observations and what they are. N observations, C classes.

    Inputs are images (N, 1, 28, 28) of ink, 0 = none, 1 = full, in steps of 1/255; points (N, 2); or sequences
    (N, steps, channels).
    """

    inputs: NDArray[np.float32]  # (N, ...)
    labels: NDArray[np.int64]  # (N,) positions in classes
    classes: tuple[str, ...]  # C names
    name: str
    digest: str = field(init=False)  # sha256, hexadecimal, of inputs (images as bytes 0..255), labels, their shapes

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self.inputs, self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self):,} {self.kind}, {len(self.classes)} classes, {self.digest[:12]}>"

    @property
    def kind(self) -> str:
        """What the inputs are: images, points, sequences, or just observations."""
        return _KINDS.get(self.inputs.ndim, "observations")

    @property
    def images(self) -> NDArray[np.float32]:
        """The inputs (N, 1, 28, 28), where they are images; anything else raises DataError."""
        if self.kind != "images":
            raise DataError(f"{self.name} holds {self.kind}, no images: use inputs")
        return self.inputs

    def subset(self, indices: ArrayLike, name: str | None = None) -> Dataset:
        """The observations at `indices` (whole numbers, any order), copied, under a digest of their own.

        Raises DataError when there are none, when they are no whole numbers, or when one lies outside.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
            raise DataError(
                f"indices of shape {chosen.shape} and type {chosen.dtype} choose no {self.kind}: "
                "give a list of at least one whole number (numpy.flatnonzero turns a mask into one)"
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            outside = chosen[(chosen < 0) | (chosen >= len(self))][0]
            raise DataError(f"there is none of number {outside}: {self.name} holds {self.kind} 0 to {len(self) - 1}")
        return Dataset(self.inputs[chosen], self.labels[chosen], self.classes, name or self.name)


def of_experiment(experiment: Experiment) -> Dataset:
    """The data that an experiment trains on: the same for everyone who knows the experiment.

    Raises DataError when MNIST cannot be had.
    """
    return _drawn(*which(experiment))


def which(experiment: Experiment) -> tuple[str, int, int, int, int, int]:
    """All that decides about an experiment's data: name, observations, seed, pool, steps and classes."""
    e = experiment
    return e.data, e.observations, e.seed, e.pool, e.steps, e.classes


@lru_cache(maxsize=2)
def shared(chosen: tuple[str, int, int, int, int, int]) -> Dataset:
    """The same data as `of_experiment`'s, for those who only read them: a grader meets them in each recording."""
    found = _drawn(*chosen)
    for values in (found.inputs, found.labels):
        values.flags.writeable = False
    return found


@dataclass(frozen=True, eq=False)
class Samples:
    """What experiments that differ in their seeds train on; what their samples share is there once. S seeds, N
    observations in all, n in a sample."""

    inputs: NDArray[np.float32]  # (N, ...)
    labels: NDArray[np.int64]  # (N,)
    places: NDArray[np.int64]  # (S, n) where among these each seed's observations are, in its own order
    digests: tuple[str, ...]  # S, as each seed's own Dataset has them


def samples(experiment: Experiment, seeds: Sequence[int]) -> Samples:
    """The samples that `of_experiment` gives the experiment with each of the seeds, without a copy for each."""
    e, distinct = experiment, list(dict.fromkeys(seeds))
    if e.data in ("digits", "mnist") and len(distinct) > 1 and e.pool < len(distinct) * e.observations:
        pixels, numbers = _pool(e.pool) if e.data == "digits" else _mnist(e.pool, 0, e.pool)
        found = [_chosen(e, numbers, seed) for seed in distinct]
        pool = _images(pixels, numbers, e.data)
        inputs, labels = pool.inputs, pool.labels
        digests = [_digest(pixels[chosen], labels[chosen]) for chosen in found]
    else:
        sets = [of_experiment(e.replace(seed=seed)) for seed in distinct]
        found = [np.arange(len(one)) + start * len(one) for start, one in enumerate(sets)]
        digests = [one.digest for one in sets]
        inputs, labels = (np.concatenate([getattr(one, name) for one in sets]) for name in ("inputs", "labels"))
    at = [distinct.index(seed) for seed in seeds]
    return Samples(inputs, labels, np.stack(found)[at], tuple(digests[k] for k in at))


def _chosen(e: Experiment, labels: NDArray[np.uint8], seed: int) -> NDArray[np.int64]:
    """Which images of the pool a seed's are."""
    if e.data == "digits":
        return _dealt(labels, e.observations, seed)
    from labkit.mnist import chosen_of

    return chosen_of(e.observations, seed, e.pool)


def _drawn(name: str, observations: int, seed: int, pool: int, steps: int, classes: int) -> Dataset:
    if name == "digits":
        return student_digits(observations, seed=seed, pool=pool)
    if name == "mnist":
        return mnist(observations, seed, pool)
    if name == "circles":
        return circles(observations, seed)
    return long_lag(observations, steps, classes, seed)


def digits(n: int = 5000, seed: int = 0) -> Dataset:
    """`n` handwritten-like digits in a shuffled order, balanced: class counts differ by at most one.

    The images are drawn in order, so `digits(1000, seed)` are the first 1,000 of `digits(5000, seed)`. They
    are kept in the user's cache folder (LABKIT_CACHE names another); a damaged cache is drawn anew and a
    folder that cannot be written is done without. Raises DataError when n is no whole number from 1 on.
    """
    n, seed = whole(n, "n", least=1), whole(seed, "seed")
    return _images(*drawn.digits(n, seed), f"digits({n}, seed={seed})")


def sample(pool: Dataset, n: int, seed: int) -> Dataset:
    """`n` different images of `pool`, shuffled, as balanced as the pool allows.

    Raises DataError when n is below 1 or larger than the pool.
    """
    return pool.subset(_dealt(pool.labels, n, seed), f"sample({n}, seed={seed}) of {pool.name}")


def student_digits(n: int = 5000, *, seed: int, pool: int = 10_000) -> Dataset:
    """The digits of one student: a sample, by `seed`, of the pool that the whole class shares.

    Drawing anew for each student would cost a grader seconds per submission; the pool is drawn once.
    """
    pixels, labels = _pool(whole(pool, "pool", least=1))
    chosen = _dealt(labels, n, seed)
    return _images(pixels[chosen], labels[chosen], f"sample({n}, seed={seed}) of digits({pool}, seed=0)")


@lru_cache(maxsize=2)
def _pool(n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return drawn.digits(n, seed=0)


def _dealt(labels: NDArray[np.int64] | NDArray[np.uint8], n: int, seed: int) -> NDArray[np.int64]:
    """The places of `n` different ones of a pool with these labels, shuffled, as balanced as the pool allows."""
    n = whole(n, "n", least=1)
    if n > len(labels):
        raise DataError(
            f"{n} images were asked of a pool of {len(labels)}: "
            "ask for fewer or draw a larger pool, no image is given twice"
        )
    draw = stream(seed, "sample")
    order = draw.permutation(len(labels)).astype(np.int64)
    # Dealt like cards: one image of every class, then a second of every class, ... until there are n.
    turn = np.empty(len(labels), dtype=np.int64)
    for number in np.unique(labels):
        mine = np.flatnonzero(labels[order] == number)
        turn[mine] = np.arange(len(mine))
    dealt = order[np.argsort(turn, kind="stable")[:n]]
    return dealt[draw.permutation(n)]


def mnist(n: int = 60_000, seed: int = 0, pool: int = 60_000) -> Dataset:
    """`n` of the first `pool` training images of MNIST: all of them in the file's order, or by chance, none twice.

    They are downloaded at the first call; without a network, DataError says which files to place where.
    """
    return _images(*_mnist(n, seed, pool), "mnist" if n == pool == 60_000 else f"mnist({n}, seed={seed}, pool={pool})")


def _mnist(n: int, seed: int, pool: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from labkit.mnist import mnist as read

    return read(n, seed, pool)


def circles(n: int = 1000, seed: int = 0) -> Dataset:
    """`n` points around circles of radius 1 (class 0) and 0.5 (class 1), as scikit-learn makes them."""
    from labkit.circles import CIRCLES, circles

    return Dataset(*circles(n, seed), CIRCLES, f"circles({n}, seed={seed})")


def long_lag(n: int = 2000, steps: int = 60, classes: int = 4, seed: int = 0) -> Dataset:
    """`n` sequences that show their class at the first of `steps` steps, then noise: see `labkit.sequences`."""
    from labkit.sequences import long_lag

    arrays = long_lag(n, steps, classes, seed)
    return Dataset(*arrays, tuple(map(str, range(classes))), f"long_lag({n}, {steps}, {classes}, seed={seed})")


def batches(n: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The mini-batches of epoch `epoch` (from 0): arrays of indices that cover 0..n-1 once, shuffled.

    The last one holds what is left: 5,000 images in batches of 128 are 39 of 128 and one of 8. The order
    depends on seed, epoch and n alone, so any epoch can be rebuilt without those before it.
    Raises DataError when batch_size is below 1 or larger than n, or epoch is negative.
    """
    n, batch_size = whole(n, "n", least=1), whole(batch_size, "batch_size", least=1)
    if batch_size > n:
        raise DataError(f"batch_size {batch_size} is larger than the {n} images: choose at most {n}")
    order = stream(seed, "batches", whole(epoch, "epoch", least=0)).permutation(n).astype(np.int64)
    return [order[first : first + batch_size] for first in range(0, n, batch_size)]


def epoch_batches(experiment: Experiment, epoch: int) -> list[NDArray[np.int64]]:
    """The mini-batches of an experiment's epoch, counted from 0, in the order in which it is trained.

    Where the experiment's `batches` cuts its epochs short, these are the first so many of the shuffled observations.
    """
    e = experiment
    return batches(e.observations, e.batch_size, e.seed, epoch)[: e.batches]


def contact_sheet(dataset: Dataset, per_class: int = 10) -> NDArray[np.uint8]:
    """A picture to look at: one row per class, its first `per_class` images, in a grey grid.

    Returns (30 C, 30 per_class) grey levels, 0 = black. A class with fewer images leaves its places grey.
    """
    per_class = whole(per_class, "per_class", least=1)
    sheet = np.full((len(dataset.classes), SIDE + 2, per_class, SIDE + 2), 96, dtype=np.uint8)
    for row in range(len(dataset.classes)):
        for column, image in enumerate(np.flatnonzero(dataset.labels == row)[:per_class]):
            sheet[row, 1:-1, column, 1:-1] = as_bytes(dataset.images[image, 0])
    return sheet.reshape(len(dataset.classes) * (SIDE + 2), per_class * (SIDE + 2))


def _images(pixels: NDArray[np.uint8], labels: NDArray[np.uint8], name: str) -> Dataset:
    """The caller's own floats of pixels (N, 1, 28, 28): whoever writes to them changes nobody else's."""
    images = pixels.astype(np.float32)
    images /= 255.0
    return Dataset(images, labels.astype(np.int64), DIGITS, name)


def _bytes_of(images: NDArray[np.float32] | NDArray[np.uint8]) -> bytes:
    return images.tobytes() if images.dtype == np.uint8 else as_bytes(images.astype(np.float32, copy=False)).tobytes()


def _digest(inputs: NDArray[np.float32] | NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(json.dumps([inputs.shape, labels.shape]).encode())
    for first in range(0, len(inputs), 1000):  # in parts: the memory of all pixels once more is a lot
        part = inputs[first : first + 1000]
        digest.update(_bytes_of(part) if part.ndim == 4 else part.astype("<f4").tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
