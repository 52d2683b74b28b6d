"""Handwritten-like digits, drawn by numpy from strokes of our own.

Nothing is downloaded, and a grader can rebuild every image of every student: the rules of `labkit.streams` hold here.
A pixel's centre lies at whole coordinates, x to the right and y down, in pixels.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labkit import cache
from labkit.streams import stream

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


def digits(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (n, 1, 28, 28) of 0..255 and labels (n,), from the cache or drawn and kept there."""
    key = f"digits-{edition()}-n{n}-seed{seed}"
    kept = cache.load(key)
    if kept is None:
        kept = draw(n, seed)
        cache.keep(key, *kept)
    return kept


def edition() -> str:
    """Twelve hexadecimal digits that change with the drawing."""
    tables = repr((DRAWING, STROKES, HAND, WOBBLE, PIECE, MOST_POINTS))
    return hashlib.sha256(tables.encode()).hexdigest()[:12]


def as_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Ink 0..1 to the nearest of 0..255; the inverse of the division by 255."""
    pixels: NDArray[np.uint8] = np.floor(images * 255.0 + 0.5).astype(np.uint8)
    return pixels


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


def draw(n: int, seed: int, chunk: int = 1000) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
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
    return as_bytes(np.minimum(np.maximum(ink, 0.0), 1.0))


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
