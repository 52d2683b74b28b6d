"""The recordings beside a notebook, as tables: what was measured, and which files it was measured in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from labkit.recording import Recording, RecordingError

MOST_FILES = 30
MOST_LAYERS = 10  # columns of a table that fits a page
BREAK = "\u200b"  # where a long name of a layer may go on in the next line

Kind = Literal["numbers", "digests"]


@dataclass(frozen=True)
class Table:
    """Plain texts in rows; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: Kind = "numbers"


def recordings(folder: Path, mentioned: str) -> tuple[dict[str, Recording], list[str]]:
    """The recordings in a folder by file name, in the order in which the notebook's code mentions them, and a sentence
    for each file that is none. A link is not followed."""
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.is_file() and not path.is_symlink()]
    files.sort(key=lambda path: _place(path.name, mentioned))
    found, troubles = dict[str, Recording](), list[str]()
    for path in files[:MOST_FILES]:
        try:
            found[path.name] = Recording.load(path)
        except RecordingError as error:
            troubles.append(str(error).replace(f"{folder}/", ""))
    if len(files) > MOST_FILES:
        troubles.append(f"{len(files) - MOST_FILES} further recordings lie in the folder and are left out here")
    return found, troubles


def _place(name: str, mentioned: str) -> float:
    place = mentioned.find(name)
    return place if place >= 0 else math.inf


def tables(found: dict[str, Recording]) -> Iterator[Table]:
    """All tables of these recordings."""
    measured = {name: recording for name, recording in found.items() if recording.iterations}
    if measured:
        yield outcomes(measured)
    for layers in dict.fromkeys(run.layers for run in measured.values()):
        yield sizes({name: run for name, run in measured.items() if run.layers == layers}, layers)
    if found:
        yield digests(found)


def outcomes(runs: dict[str, Recording]) -> Table:
    """How each training ended, and how many times larger the last layer's gradient was than the first's."""
    head = (
        "run", "iterations", "loss, mean of the last epoch", "accuracy on the training data",
        "last / first at the start", "last / first at the end",
    )  # fmt: skip
    rows = []
    for file, run in runs.items():
        ratio = last_over_first(run)
        accuracy = run.origin.final_accuracy
        ended = "" if run.complete else ", stopped"
        share = f"{accuracy:.1%}" if math.isfinite(accuracy) else "–"
        rows.append((_stem(file), f"{run.iterations:,}{ended}", number(final_loss(run)), share,
                     number(ratio[0]), number(ratio[-1])))  # fmt: skip
    return Table("How each training ended. last / first: mean |gradient| of the last layer over that of the first, "
                 "at the first and at the last iteration.", head, tuple(rows))  # fmt: skip


def sizes(runs: dict[str, Recording], layers: Sequence[str]) -> Table:
    """mean |gradient| of each layer at the first and at the last iteration of runs that have the same layers."""
    shown = sorted({round(k) for k in np.linspace(0, len(layers) - 1, min(len(layers), MOST_LAYERS))})
    rows = []
    for file, run in runs.items():
        size = run.statistic("abs_mean")
        for words, iteration in (("start", 0), ("end", -1)):
            rows.append((f"{_stem(file)}, {words}", *(number(size[iteration, k]) for k in shown)))
    remarks = f" {len(shown)} of {len(layers)} layers are shown." if len(shown) < len(layers) else ""
    if any((run.clip_factor < 1).any() for run in runs.values()):
        remarks += " Of runs whose gradients were clipped, what the clipping left."
    return Table(f"Mean |gradient| of each layer at the first (start) and at the last iteration (end).{remarks}",
                 ("run", *(layers[k][:24].replace(".", f".{BREAK}") for k in shown)), tuple(rows))  # fmt: skip


def digests(found: dict[str, Recording]) -> Table:
    """Which files these numbers are from: the last link of each recording's chain, as `labkit show` names it."""
    rows = tuple((file, r.origin.student or "–", str(r.origin.seed), r.digest) for file, r in found.items())
    return Table("The recordings that were handed in, and the digest of each, as labkit show says it.",
                 ("file", "student", "seed", "digest"), rows, "digests")  # fmt: skip


def final_loss(run: Recording) -> float:
    """The mean loss over the iterations of the last epoch, whole or not, nats."""
    ends = [0, *(end for end in run.epoch_end.tolist() if end < run.iterations)]
    return float(np.mean(run.loss[ends[-1] :]))


def last_over_first(run: Recording) -> list[float]:
    """(I,) mean |gradient| of the last layer over that of the first."""
    size = run.statistic("abs_mean").astype(np.float64)
    with np.errstate(all="ignore"):
        return [float(ratio) for ratio in size[:, -1] / size[:, 0]]


def number(value: float) -> str:
    """Three digits, or that it is none."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 and abs(value) < 1e6 else f"{value:.3g}"


def _stem(file: str) -> str:
    return file.removesuffix(".safetensors")
