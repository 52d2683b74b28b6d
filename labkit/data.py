"""The data that the labs train on: handwritten-like digits, a sample of them per student, and the batches.

The digits are drawn here, by numpy, from strokes of our own, so that nothing is downloaded and a grader can
rebuild every image of every student. A recording is replayed on other machines than the student's, so a seed
has to give the same bytes everywhere. Three rules keep that, and every change of this module must keep them:

- Randomness is ``RandomState``, whose streams NEP 19 froze, and of it only ``random_sample`` and
  ``permutation``. ``normal`` goes through libm; ``uniform`` multiplies and adds in one C expression, which a
  compiler for ARM may fuse; the width of ``randint`` is the platform's. ``random_sample`` is exact.
- Arithmetic is + - * / sqrt, floor, minimum, maximum and comparisons, one ufunc each: IEEE 754 rounds these
  exactly, so SIMD width and thread count cannot show. No sin or exp (libm), no dot or einsum (BLAS, fused
  operations), no sum or mean of floats (their order varies). Rotations use the rational form of the circle.
- Scalars are Python floats: numpy 1 and 2 disagree on what a numpy scalar does to a float32 array.

A pixel's centre lies at whole coordinates, x to the right and y down, in pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import operator
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
from numpy.typing import ArrayLike, NDArray

from labkit.files import write_whole

if TYPE_CHECKING:
    from labkit.experiments import Experiment

SIDE = 28  # pixels, of the square images
DIGITS = tuple("0123456789")

# Raise it when the code below draws anything differently: it is part of the cache's file names, as the tables
# that follow are, so that a changed drawing never meets the files of an older one.
DRAWING = 1

# Per digit the ways in which people write it, each as likely as the others. A box of 100 x 100, x to the
# right, y down; " / " lifts the pen. The points steer a quadratic B-spline that starts at the first and ends
# at the last; a point given twice is a corner; equal points of one way move together.
STROKES: tuple[tuple[str, ...], ...] = (
    (
        "58,0 20,-6 0,25 0,75 22,105 78,105 100,75 100,25 80,-5 50,0",
        "80,10 40,-12 -5,20 0,80 30,110 80,104 102,70 100,25 75,-6 42,8",
        "55,0 30,0 16,30 16,75 35,102 65,102 84,75 84,28 70,0 48,0",
    ),
    (
        "50,0 50,100",
        "22,24 55,0 55,0 55,100",
        "22,22 52,0 52,0 52,100 / 20,100 84,100",
    ),
    (
        "5,25 10,-2 55,-8 98,12 88,45 40,75 2,100 2,100 98,98",
        "8,22 20,-5 70,-8 95,18 80,55 40,92 8,100 5,82 25,78 55,98 100,96",
        "6,18 45,-10 100,8 90,42 5,100 5,100 100,100",
    ),
    (
        "5,12 40,-8 95,2 92,38 40,48 40,48 98,50 102,95 50,110 2,90",
        "8,2 90,2 90,2 42,40 42,40 90,40 104,80 70,106 20,104 0,88",
        "8,10 45,-10 95,5 85,40 45,52 38,44 55,40 100,55 100,95 50,110 0,92",
    ),
    (
        "20,0 5,60 5,60 98,60 / 72,30 68,100",
        "75,100 75,0 75,0 0,68 0,68 100,68",
        "15,0 8,30 5,58 30,60 85,55 / 88,0 80,100",
    ),
    (
        "20,2 14,44 14,44 60,30 102,50 100,92 55,108 2,94 / 20,2 92,2",
        "92,2 22,4 22,4 12,46 12,46 70,28 108,62 85,104 35,106 2,92",
        "95,4 40,-6 8,20 30,44 80,48 104,75 75,106 30,106 0,92",
    ),
    (
        "75,0 30,12 2,55 5,90 40,108 85,100 98,72 70,50 30,56 8,80",
        "60,0 25,40 0,70 18,104 70,106 100,85 80,55 40,52 5,76",
        "85,12 60,-8 15,10 0,60 10,98 50,108 95,98 98,62 55,48 6,72",
    ),
    (
        "4,4 96,4 96,4 40,100",
        "4,4 96,4 96,4 42,100 / 35,52 88,50",
        "6,20 8,4 8,4 94,2 94,2 58,50 50,100",
    ),
    (
        "82,14 50,-12 8,4 14,36 55,50 98,68 92,102 45,112 4,98 6,68 50,50 90,32 92,12 78,4",
        "50,47 8,44 4,4 50,-6 96,4 92,44 50,47 / 50,47 -4,52 -6,100 50,108 106,100 104,52 50,47",
        "90,8 40,-14 0,14 40,44 95,66 90,108 40,112 0,100 8,64 60,46 98,20 84,4",
    ),
    (
        "92,14 60,-8 12,2 2,30 20,56 70,52 92,18 92,18 88,60 80,100",
        "90,20 70,-8 20,-4 0,28 20,58 75,50 92,12 100,60 85,104 45,108 15,96",
        "94,8 40,-14 0,15 8,55 60,60 94,8 94,8 70,100",
    ),
)

# What differs from hand to hand: (smallest, largest), every value between as likely.
HAND: dict[str, tuple[float, float]] = {
    "width": (9.5, 15.0),  # pixels, of the box of strokes
    "height": (14.5, 19.0),  # pixels
    "slant": (-0.15, 0.35),  # pixels to the right per pixel up
    "turn": (-0.15, 0.15),  # tangent of half the angle of rotation: 0.15 is 17 degrees
    "right": (-3.0, 3.0),  # pixels that the middle of the box is off the middle of the image
    "down": (-2.5, 2.5),
    "pen": (0.65, 1.45),  # pixels, half the width of the line
    "edge": (0.8, 1.6),  # pixels over which the ink fades out
    "ink": (0.65, 1.0),  # of white
    "grain": (0.0, 0.14),  # of white, from the lowest to the highest noise
}
WOBBLE = 18.0  # hundredths of the box that a point of a stroke moves at most, each way
PIECE = 3  # straight segments for one piece of a curve: its error is far below a pixel
TOGETHER = 32  # images drawn in one go: their pixels stay in the processor's cache
MOST_POINTS = 20  # every image draws the wobble of so many points, whatever its digit


class DataError(ValueError):
    """Data that cannot be drawn, chosen or dealt out as asked; the message is one sentence."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and what they show. N images, C classes."""

    images: NDArray[np.float32]  # (N, 1, 28, 28) ink, 0 = none, 1 = full, in steps of 1/255
    labels: NDArray[np.int64]  # (N,) positions in classes
    classes: tuple[str, ...]  # C names
    name: str
    digest: str = field(init=False)  # sha256, hexadecimal, of images (as bytes 0..255), labels, their shapes

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self.images, self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self):,} images, {len(self.classes)} classes, {self.digest[:12]}>"

    def subset(self, indices: ArrayLike, name: str | None = None) -> Dataset:
        """The images at `indices` (whole numbers, any order), copied, under a digest of their own.

        Raises DataError when there are none, when they are no whole numbers, or when one lies outside.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
            raise DataError(
                f"indices of shape {chosen.shape} and type {chosen.dtype} choose no images: "
                "give a list of at least one whole number (numpy.flatnonzero turns a mask into one)"
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            outside = chosen[(chosen < 0) | (chosen >= len(self))][0]
            raise DataError(f"there is no image {outside}: {self.name} holds images 0 to {len(self) - 1}")
        return Dataset(self.images[chosen], self.labels[chosen], self.classes, name or self.name)


def stream(seed: int, *names: str | int) -> np.random.RandomState:
    """The random numbers that belong to `seed` and `names`, the same on every machine.

    Each use has a name of its own, so that drawing more for one leaves the others as they were. The seed may
    be any whole number, negative or large. Raises DataError when it is not a whole number.
    """
    words = [name if isinstance(name, str) else _whole(name, "a stream's name") for name in names]
    text = json.dumps([_whole(seed, "seed"), *words])
    key = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")
    return np.random.RandomState(key.astype(np.uint32))


def digits(n: int = 5000, seed: int = 0) -> Dataset:
    """`n` handwritten-like digits in a shuffled order, balanced: class counts differ by at most one.

    The images are drawn in order, so `digits(1000, seed)` are the first 1,000 of `digits(5000, seed)`. They
    are kept in the user's cache folder (LABKIT_CACHE names another); a damaged cache is drawn anew and a
    folder that cannot be written is done without. Raises DataError when n is no whole number from 1 on.
    """
    n, seed = _whole(n, "n", least=1), _whole(seed, "seed")
    key = f"digits-{_edition()}-n{n}-seed{seed}"
    kept = _load(key)
    if kept is None:
        kept = _draw(n, seed)
        _keep(key, *kept)
    pixels, labels = kept
    images = pixels.astype(np.float32)
    images /= 255.0
    return Dataset(images, labels.astype(np.int64), DIGITS, f"digits({n}, seed={seed})")


def sample(pool: Dataset, n: int, seed: int) -> Dataset:
    """`n` different images of `pool`, shuffled, as balanced as the pool allows.

    Raises DataError when n is below 1 or larger than the pool.
    """
    n = _whole(n, "n", least=1)
    if n > len(pool):
        raise DataError(
            f"{n} images were asked of a pool of {len(pool)}: "
            "ask for fewer or draw a larger pool, no image is given twice"
        )
    draw = stream(seed, "sample")
    order = draw.permutation(len(pool)).astype(np.int64)
    # Dealt like cards: one image of every class, then a second of every class, ... until there are n.
    turn = np.empty(len(pool), dtype=np.int64)
    for number in range(len(pool.classes)):
        mine = np.flatnonzero(pool.labels[order] == number)
        turn[mine] = np.arange(len(mine))
    dealt = order[np.argsort(turn, kind="stable")[:n]]
    return pool.subset(dealt[draw.permutation(n)], f"sample({n}, seed={seed}) of {pool.name}")


def student_digits(n: int = 5000, *, seed: int, pool: int = 10_000) -> Dataset:
    """The digits of one student: a sample, by `seed`, of the pool that the whole class shares.

    Drawing anew for each student would cost a grader seconds per submission; the pool is drawn once.
    """
    return sample(_pool(_whole(pool, "pool", least=1)), n, seed)


@lru_cache(maxsize=2)
def _pool(n: int) -> Dataset:
    return digits(n, seed=0)


def batches(n: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The mini-batches of epoch `epoch` (from 0): arrays of indices that cover 0..n-1 once, shuffled.

    The last one holds what is left: 5,000 images in batches of 128 are 39 of 128 and one of 8. The order
    depends on seed, epoch and n alone, so any epoch can be rebuilt without those before it.
    Raises DataError when batch_size is below 1 or larger than n, or epoch is negative.
    """
    n, batch_size = _whole(n, "n", least=1), _whole(batch_size, "batch_size", least=1)
    if batch_size > n:
        raise DataError(f"batch_size {batch_size} is larger than the {n} images: choose at most {n}")
    order = stream(seed, "batches", _whole(epoch, "epoch", least=0)).permutation(n).astype(np.int64)
    return [order[first : first + batch_size] for first in range(0, n, batch_size)]


def epoch_batches(experiment: Experiment, epoch: int) -> list[NDArray[np.int64]]:
    """The mini-batches of an experiment's epoch, counted from 0, in the order in which it is trained."""
    return batches(experiment.observations, experiment.batch_size, experiment.seed, epoch)


def contact_sheet(dataset: Dataset, per_class: int = 10) -> NDArray[np.uint8]:
    """A picture to look at: one row per class, its first `per_class` images, in a grey grid.

    Returns (30 C, 30 per_class) grey levels, 0 = black. A class with fewer images leaves its places grey.
    """
    per_class = _whole(per_class, "per_class", least=1)
    sheet = np.full((len(dataset.classes), SIDE + 2, per_class, SIDE + 2), 96, dtype=np.uint8)
    for row in range(len(dataset.classes)):
        for column, image in enumerate(np.flatnonzero(dataset.labels == row)[:per_class]):
            sheet[row, 1:-1, column, 1:-1] = _bytes(dataset.images[image, 0])
    return sheet.reshape(len(dataset.classes) * (SIDE + 2), per_class * (SIDE + 2))


def _whole(value: Any, name: str, least: int | None = None) -> int:
    """`value` as int, if it is a whole number and not below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name} is {value!r}: give a whole number") from None
    if least is not None and number < least:
        raise DataError(f"{name} is {number}: give a whole number of at least {least}")
    return number


def _bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Ink 0..1 to the nearest of 0..255; the inverse of the division by 255."""
    pixels: NDArray[np.uint8] = np.floor(images * 255.0 + 0.5).astype(np.uint8)
    return pixels


def _digest(images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(json.dumps([images.shape, labels.shape]).encode())
    for first in range(0, len(images), 1000):  # in parts: the memory of all pixels once more is a lot
        digest.update(_bytes(images[first : first + 1000]).tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


# Drawing


@dataclass(frozen=True, eq=False)
class _Way:
    """One way of writing a digit, ready to be drawn. K points, M places on its curves, S segments."""

    points: NDArray[np.float64]  # (K, 2) right and down, hundredths of the box, its middle at 0
    shares: NDArray[np.float64]  # (M, K) how much of each point is in a place; rows add up to 1
    starts: NDArray[np.int64]  # (S,) the place where a segment starts; it ends at the next place


@lru_cache(maxsize=64)
def _way(text: str) -> _Way:
    """Read one entry of STROKES."""
    strokes = [stroke.split() for stroke in text.split(" / ")]
    names = list(dict.fromkeys(name for stroke in strokes for name in stroke))
    share = dict(zip(names, np.eye(len(names)), strict=True))
    places: list[NDArray[np.float64]] = []
    starts: list[int] = []
    for stroke in strokes:
        curve = _curve([share[name] for name in stroke])
        starts += range(len(places), len(places) + len(curve) - 1)
        places += curve
    points = np.array([[float(number) for number in name.split(",")] for name in names]) - 50.0
    return _Way(points, np.array(places), np.array(starts))


def _curve(points: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Places along the quadratic B-spline that starts and ends at the ends of `points`."""
    places = [points[0]]
    for number, steer in enumerate(points[1:-1], start=1):
        begin = places[-1]
        end = points[-1] if number == len(points) - 2 else (steer + points[number + 1]) / 2.0
        straight = np.array_equal(begin, steer) or np.array_equal(steer, end)
        pieces = 1 if straight else PIECE  # beside a corner the curve is a line
        for step in range(1, pieces + 1):
            t = step / pieces
            places.append((1.0 - t) * (1.0 - t) * begin + 2.0 * t * (1.0 - t) * steer + t * t * end)
    return places if len(points) > 2 else points


def _draw(n: int, seed: int, chunk: int = 1000) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (n, 1, 28, 28) and labels (n,). `chunk` bounds the memory and changes no byte."""
    tens = stream(seed, "digits", "order").random_sample((n // 10 + 1, 10))
    labels = np.argsort(tens, axis=1, kind="stable").reshape(-1)[:n].astype(np.uint8)
    hands, grains = stream(seed, "digits", "hand"), stream(seed, "digits", "grain")
    pixels = np.empty((n, 1, SIDE, SIDE), dtype=np.uint8)
    for first in range(0, n, chunk):
        part = labels[first : first + chunk]
        draws = hands.random_sample((len(part), 1 + len(HAND) + 4 * MOST_POINTS))
        grain = grains.random_sample((len(part), SIDE, SIDE)).astype(np.float32)
        pixels[first : first + chunk, 0] = _images(part, draws, grain)
    return pixels, labels


def _images(labels: NDArray[np.uint8], draws: NDArray[np.float64], grain: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels (N, 28, 28) from random numbers 0..1: draws (N, one per choice) and grain (N, 28, 28)."""
    hand = {
        name: low + (high - low) * draws[:, column] for column, (name, (low, high)) in enumerate(HAND.items(), start=1)
    }
    loose = draws[:, 1 + len(HAND) :].reshape(len(labels), 2, 2, MOST_POINTS)
    wobble = WOBBLE * (loose[:, 0] + loose[:, 1] - 1.0)  # (N, 2, points): mostly small
    ink = np.empty((len(labels), SIDE, SIDE), dtype=np.float32)
    for digit, ways in enumerate(STROKES):
        choice = np.floor(draws[:, 0] * len(ways))
        for number, text in enumerate(ways):
            rows = np.flatnonzero((labels == digit) & (choice == number))
            for few in (rows[first : first + TOGETHER] for first in range(0, len(rows), TOGETHER)):
                mine = {name: values[few] for name, values in hand.items()}
                ink[few] = _ink(_way(text), wobble[few], mine)
    ink += hand["grain"].astype(np.float32)[:, None, None] * (grain - 0.5)
    return _bytes(np.minimum(np.maximum(ink, 0.0), 1.0))


def _ink(way: _Way, wobble: NDArray[np.float64], hand: dict[str, NDArray[np.float64]]) -> NDArray[np.float32]:
    """Ink 0..1 (B, 28, 28) of B images written in one way, each by its own hand."""
    distance = _distance(*_places(way, wobble, hand), way.starts)
    pen, edge, ink = (hand[name].astype(np.float32)[:, None, None] for name in ("pen", "edge", "ink"))
    depth = np.minimum(np.maximum((pen - distance) / edge + 0.5, 0.0), 1.0)
    written: NDArray[np.float32] = ink * (depth * depth * (3.0 - 2.0 * depth))
    return written


def _places(
    way: _Way, wobble: NDArray[np.float64], hand: dict[str, NDArray[np.float64]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the strokes pass, right and down in pixels: two arrays (M, B)."""
    places = []
    for axis in range(2):
        total = np.zeros((len(way.shares), len(wobble)))
        for point, share in enumerate(way.shares.T):  # a product of matrices, in a fixed order
            total = total + share[:, None] * (way.points[point, axis] + wobble[:, axis, point])
        places.append(total / 100.0)
    down = places[1] * hand["height"]
    right = places[0] * hand["width"] - hand["slant"] * down
    t = hand["turn"]
    cosine, sine = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    middle = (SIDE - 1) / 2.0
    turned = cosine * right - sine * down, sine * right + cosine * down
    return (
        (turned[0] + (middle + hand["right"])).astype(np.float32),
        (turned[1] + (middle + hand["down"])).astype(np.float32),
    )


def _distance(right: NDArray[np.float32], down: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels from each pixel's centre to the nearest segment, (B, 28, 28), for places (M, B)."""
    count = right.shape[1]
    column = np.arange(SIDE, dtype=np.float32)[None, None, :]
    row = np.arange(SIDE, dtype=np.float32)[None, :, None]
    nearest = np.full((count, SIDE, SIDE), float(SIDE * SIDE), dtype=np.float32)
    along, off, gap = (np.empty_like(nearest) for _ in range(3))
    for start in starts:
        x, y = right[start][:, None, None], down[start][:, None, None]
        dx, dy = right[start + 1][:, None, None] - x, down[start + 1][:, None, None] - y
        length = np.maximum(dx * dx + dy * dy, 1e-6)  # squared; two places may fall together
        # along: 0 where the segment's start is the nearest, 1 where its end is
        np.add((column - x) * (dx / length), (row - y) * (dy / length), out=along)
        np.minimum(np.maximum(along, 0.0, out=along), 1.0, out=along)
        np.subtract(column - x, np.multiply(along, dx, out=off), out=off)
        np.multiply(off, off, out=gap)
        np.subtract(row - y, np.multiply(along, dy, out=off), out=off)
        np.add(gap, np.multiply(off, off, out=off), out=gap)
        np.minimum(nearest, gap, out=nearest)
    return np.sqrt(nearest)


# The cache: a file holds the seal of all that follows it, then two arrays as np.save writes them


def _edition() -> str:
    tables = repr((DRAWING, STROKES, HAND, WOBBLE, PIECE, MOST_POINTS))
    return hashlib.sha256(tables.encode()).hexdigest()[:12]


def cache_folder() -> Path:
    """Where drawn digits are kept; the environment variable LABKIT_CACHE names another folder."""
    return Path(os.environ.get("LABKIT_CACHE") or platformdirs.user_cache_dir("gradient-lab"))


def _path(key: str) -> Path:
    return cache_folder() / f"{key}.bin"


def _seal(key: str, body: bytes) -> bytes:
    """32 bytes; the key is sealed too, so that a file under another file's name is found out."""
    seal = hashlib.sha256(key.encode())
    seal.update(body)
    return seal.digest()


def _load(key: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Pixels and labels as they were kept, or None when there is no file, or not the one that was written."""
    try:
        content = _path(key).read_bytes()
    except OSError:
        return None
    body = content[32:]
    if content[:32] != _seal(key, body):
        return None
    file = io.BytesIO(body)
    return np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)


def _keep(key: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Keep them for the next call; where nothing can be written the digits are drawn each time."""
    file = io.BytesIO()
    np.save(file, pixels, allow_pickle=False)
    np.save(file, labels, allow_pickle=False)
    body = file.getvalue()
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _seal(key, body) + body)
