"""Who shares code, words or recordings with whom: a table of pairs to look at, never a mark and never a verdict.

Code and essays are compared by fingerprints, without what the released notebook holds; recordings by what happened at
their iterations, so that another name, another header or rounded figures hide nothing. No student's code is run.
"""

import csv
import hashlib
import io
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder import fingerprints, grading, marking, mending, results, submission
from autograder.fingerprints import CODE, PROSE, Hashes, Passage, Token, code_tokens, word_tokens
from autograder.grading import GradingError
from autograder.mending import MendingError, Notebook
from autograder.report import cell as safe_cell
from autograder.report import template
from autograder.submission import SubmissionError
from labkit.files import write_whole
from labkit.recording import STATISTICS

# Of really different solutions of the lab's exercises no two share more than 0.08 (tests/test_similarity.py), and
# who copied two exercises of six was found to share 0.5
THRESHOLD = 0.25
LEAST = {"code": 10, "essays": 8, "recordings": 2}  # fingerprints; fewer are a line, a phrase or chance
FEWEST_COMMON = 10  # what more students have, and more than a fifth of the class, comes from a book or from the task
COMMON = 0.2
MOST_TEXT = 500_000  # characters of one notebook
MOST_PASSAGES = 12  # of a pair
MOST_PAIRS = 1000  # of a class; more are counted, not listed
MOST_SHOWN = 40  # pairs with their passages
LARGEST_HEADER = 10 * 2**20
MOST_ITERATIONS = 1_000_000
MOST_NUMBERS = 20_000_000  # of one array; of what is larger the first rows are compared
WIDEST = 100_000  # numbers of one row: seven for each layer, or in a map a loss for each iteration of its networks
TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
COLUMNS = [STATISTICS.index("abs_mean"), STATISTICS.index("abs_max")]
# Losses that must agree one after another. On the sigmoid's plateau a single one agrees in 1 of 170 cases, so 6 do in
# 2e-14; in a class of 500 with 2,000 iterations each that is expected once in a hundred classes.
IN_A_ROW = 6
DIGITS = {"loss": 5, "gradient": 4}  # that must agree; float32 has 7, and what a machine does to them is the last two

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Run:
    """A recording, or a map of trainability, as far as it could be read."""

    path: Path
    name: str  # file, for the reader
    seed: object  # as it says itself; None where it does not
    keys: Hashes  # (I, 2) of each iteration: its gradient, and the losses from it on; 0 where it says nothing
    parts: str = "iterations"  # what the rows of `keys` stand for; of a map of trainability, its networks


@dataclass(frozen=True, eq=False)
class Work:
    """What one student handed in, ready to be compared."""

    student: str
    code: Sequence[tuple[str, Sequence[Token]]]  # cells, with their tokens
    essays: Sequence[tuple[str, Sequence[Token]]]
    runs: Sequence[Run]
    trouble: str = ""  # why it could not be compared as a whole


@dataclass(frozen=True)
class Pair:
    """What two students share; shares from 0 to 1, of the smaller one's, None where one of them has nothing of it."""

    first: str
    second: str
    code: float | None
    essays: float | None
    recordings: float | None
    said: tuple[str, ...]  # about their recordings, in sentences
    code_passages: tuple[Passage, ...] = ()
    essay_passages: tuple[Passage, ...] = ()

    @property
    def shares(self) -> tuple[float | None, ...]:
        return self.code, self.essays, self.recordings

    @property
    def telling(self) -> tuple[float, ...]:
        """Larger for what an instructor should see earlier: a copy of code and words comes before one of code alone."""
        return _telling([share or 0.0 for share in self.shares])


def _telling(shares: Sequence[float]) -> tuple[float, ...]:
    """The shares, largest first. Before that to tenths: all of a few lines is no more telling than nearly all of two
    notebooks."""
    ranked = sorted(shares, reverse=True)
    return *(round(share, 1) for share in ranked), *ranked


@dataclass(frozen=True)
class Similarities:
    """The pairs of a class that share most, the most telling first."""

    assignment: str
    students: int
    threshold: float
    pairs: tuple[Pair, ...]
    further: int  # pairs that share less than these and were not looked at any closer
    common: int  # students with code or words that so many have that they were not counted
    troubles: tuple[tuple[str, str], ...]  # who could not be compared, and why
    empty: tuple[str, ...] = ()  # who has nothing beside what was released


def similarity(course: Path, assignment: str, threshold: float = THRESHOLD, *, progress: bool = True) -> Similarities:
    """Compare everybody's work with everybody's. `GradingError` without a release to subtract, or without anybody."""
    course = course.absolute()
    released = _released(course, assignment)
    who = grading.chosen(course, assignment, None)
    with grading.bar_over(len(who), progress, "reading") as bar:
        works = [_read(course, assignment, student, bar) for student in who]
    return compare(assignment, works, released, threshold)


def compare(assignment: str, works: Sequence[Work], released: Notebook, threshold: float) -> Similarities:
    """The pairs of these works."""
    most = max(FEWEST_COMMON, int(COMMON * len(works)))
    template_code = _every([code_tokens(text) for text in _sources(released, "code")], CODE)
    template_words = _every([word_tokens(text) for text in _sources(released, "markdown")], PROSE)
    own_code = [_prints(work.code, CODE, template_code, fingerprints.WINDOW) for work in works]
    own_words = [_prints(work.essays, PROSE, template_words, 1) for work in works]
    own_rows = [_rows(work.runs) for work in works]
    rows = _shares(fingerprints.shared(own_rows, len(works))[0], LEAST["recordings"])
    code, common_code = _listing(own_code, most, LEAST["code"])
    words, common_words = _listing(own_words, most, LEAST["essays"])
    found = _ranked([code, words, rows], _same_seeds(works, most), threshold)
    # who is listed is shown with all that is shared
    shares = [_comparable(_listing(own, len(works), 1)[0], own) for own in (own_code, own_words)]
    shares.append(_comparable(np.zeros_like(rows), own_rows))
    pairs = sorted(
        (_pair(works, i, j, shares) for i, j in found[:MOST_PAIRS]), key=lambda pair: pair.telling, reverse=True
    )
    by_name = {work.student: work for work in works}
    shown = [_with_passages(one, by_name, template_code, template_words, threshold) for one in pairs[:MOST_SHOWN]]
    return Similarities(
        assignment,
        len(works),
        threshold,
        (*shown, *pairs[MOST_SHOWN:]),
        max(0, len(found) - MOST_PAIRS),
        int((common_code | common_words).sum()),
        tuple((work.student, work.trouble) for work in works if work.trouble),
        tuple(_empty(works, [own_code, own_words, own_rows])),
    )


def _empty(works: Sequence[Work], own: Sequence[Sequence[Hashes]]) -> Iterator[str]:
    """Who has nothing of any kind, though it could be read."""
    for work, *kinds in zip(works, *own, strict=True):
        if not work.trouble and not any(map(len, kinds)):
            yield work.student


# Reading


def _released(course: Path, assignment: str) -> Notebook:
    path = marking.released_notebook(course, assignment)
    try:
        return mending.read(path.read_bytes())
    except (OSError, MendingError) as error:
        raise GradingError(f"{path} cannot be read: run `autograder release {assignment}` first") from error


def _read(course: Path, assignment: str, student: str, bar: Any) -> Work:
    """A student's work; what cannot be read is named and stops nobody."""
    code: list[str] = []
    essays: list[str] = []
    runs: list[Run] = []
    trouble = ""
    try:
        handed_in = submission.find(course / "submitted" / student / assignment, student, assignment)
        runs = list(_runs(handed_in.folder, handed_in.files))
        made = results.path_of(course, assignment, student).parent / "made" / student
        runs += _runs(made, sorted(path.name for path in made.glob("*")))
        notebook = mending.read(handed_in.read(handed_in.notebook))
        code, essays = _sources(notebook, "code"), _sources(notebook, "markdown")
    except (SubmissionError, MendingError, OSError) as error:
        trouble = str(error)
    bar.update()
    return Work(
        student,
        [(text, code_tokens(text)) for text in code],
        [(text, word_tokens(text)) for text in essays],
        runs,
        trouble,
    )


def _sources(notebook: Notebook, kind: str) -> list[str]:
    """Its cells of a kind, no more than a notebook of this lab could have."""
    found, left = [], MOST_TEXT
    for cell in notebook["cells"]:
        if cell["cell_type"] == kind:
            found.append(cell["source"][:left])
            left -= len(found[-1])
    return found


def _runs(folder: Path, names: Iterable[str]) -> Iterator[Run]:
    """Whatever among these files is a recording or a map, under any name."""
    for name in names:
        if name.lower().endswith((".ipynb", ".json")):
            continue
        if (run := _run(folder / name, name)) is not None:
            yield run


def _run(path: Path, name: str) -> Run | None:
    """A recording's iterations. Its digests are not looked at: what was altered is to be recognised all the same."""
    try:
        with _opened(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                return None
            header = json.loads(file.read(length))
            sizes = "start" if "start" in header else "gradient"
            loss, gradient = (_array(file, 8 + length, header[part]) for part in ("loss", sizes))
    except (OSError, ValueError, LookupError, TypeError, RecursionError, struct.error):
        return None
    if sizes == "start":
        return _map(path, name, header, loss, gradient)
    if loss.ndim != 1 or gradient.ndim != 3 or gradient.shape[2] <= max(COLUMNS):
        return None
    return Run(path, name, _seed(header), _keys(loss, gradient))


def _map(path: Path, name: str, header: Mapping[str, Any], loss: Array, start: Array) -> Run | None:
    """A map's networks, by their gradients at the start (D, V, layers) and the first of their losses (D, V, I)."""
    if loss.ndim != 3 or start.ndim != 3 or loss.shape[:2] != start.shape[:2] or loss.shape[2] < IN_A_ROW:
        return None
    # what is behind a network's last layer is no number
    losses = loss.reshape(-1, loss.shape[2])[:, :IN_A_ROW]
    sizes = np.nan_to_num(start.reshape(-1, start.shape[2]), posinf=0, neginf=0)
    return Run(path, name, _seed(header), _keys_of(sizes, losses, len(losses)), "networks")


def _opened(path: Path) -> io.BufferedReader:
    # a link would lead to another student's file
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _array(file: io.BufferedReader, start: int, about: Mapping[str, Any]) -> Array:
    """As many whole rows of an array as the file holds."""
    dtype, shape = np.dtype(TYPES[about["dtype"]]).newbyteorder("<"), [int(size) for size in about["shape"]]
    offset = int(about["data_offsets"][0])
    row = math.prod(shape[1:])
    if min([offset, *shape]) < 0 or not 0 < row <= WIDEST or shape[0] > MOST_ITERATIONS:
        raise ValueError("no array of a recording")
    file.seek(start + offset)
    # read() makes room for what it is asked for before it looks whether there is so much
    content = file.read(min(shape[0], MOST_NUMBERS // row) * row * dtype.itemsize)
    rows = len(content) // (row * dtype.itemsize)
    return np.frombuffer(content, dtype, rows * row).reshape(rows, *shape[1:]).astype(np.float64)


def _seed(header: Mapping[str, Any]) -> object:
    try:
        about = header["__metadata__"]
        seed = (
            json.loads(about["labkit_map"])["base"]["seed"]
            if "labkit_map" in about
            else json.loads(about["labkit"])["origin"]["seed"]
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return seed if type(seed) is int else None


# Iterations as fingerprints


def _keys(loss: Array, gradient: Array) -> Hashes:
    """(I, 2) what happened at each iteration, rounded: 0 where it is not finite, all zero, or does not change."""
    sizes = gradient[:, :, COLUMNS].reshape(len(gradient), gradient.shape[1] * len(COLUMNS))
    stretches = np.zeros((0, IN_A_ROW))
    if len(loss) >= IN_A_ROW:
        stretches = np.lib.stride_tricks.sliding_window_view(loss, IN_A_ROW)
    return _keys_of(sizes, stretches, max(len(loss), len(gradient)))


def _keys_of(sizes: Array, losses: Array, rows: int) -> Hashes:
    """(rows, 2) of sizes (R, n) and of losses in a row (R', IN_A_ROW), each rounded."""
    keys = np.zeros((rows, 2), np.uint64)
    told = np.isfinite(sizes).all(axis=1) & (np.abs(sizes).max(axis=1, initial=0) > 0)
    keys[: len(sizes), 0][told] = fingerprints.row_hashes(_rounded(sizes[told], DIGITS["gradient"]))
    rounded = _rounded(losses, DIGITS["loss"])
    told = np.isfinite(losses).all(axis=1) & (rounded != rounded[:, :1]).any(axis=1)
    keys[: len(losses), 1][told] = fingerprints.row_hashes(rounded[told])
    return keys


def _rounded(values: Array, digits: int) -> NDArray[np.uint64]:
    """To so many significant digits, as whole numbers that stand for them."""
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(values)))
        mantissa = np.rint(values / 10.0 ** (exponent - digits + 1))
        # 9.9996 and 10.000 are one number
        number = mantissa * 10.0 ** (exponent - digits + 1)
        return np.nan_to_num(number).astype(np.float32).view(np.uint32).astype(np.uint64)


def _rows(runs: Sequence[Run]) -> Hashes:
    every = np.concatenate([np.zeros(0, np.uint64), *(run.keys.ravel() for run in runs)])
    return np.unique(every[every != 0])


def _alike(first: Run, second: Run) -> float:
    """The share of the shorter one's iterations that happened in the other, too, by their loss or their gradients."""
    short, long = sorted((first, second), key=lambda run: len(run.keys))
    told = (short.keys != 0).any(axis=1)
    same = np.isin(short.keys, long.keys[long.keys != 0]).any(axis=1)
    return float(same.sum() / told.sum()) if told.any() else 0.0


# Pairs


def _every(texts: Iterable[Sequence[Token]], length: int) -> Hashes:
    """All fingerprints of these, none thinned out."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(fingerprints.hashes(one, length) for one in texts)]))


def _prints(texts: Sequence[tuple[str, Sequence[Token]]], length: int, template: Hashes, window: int) -> Hashes:
    """A student's own fingerprints, text by text, so that their order does not matter."""
    kept = [fingerprints.winnowed(fingerprints.hashes(tokens, length), window) for _, tokens in texts]
    return np.setdiff1d(np.concatenate([np.zeros(0, np.uint64), *kept]), template)


def _listing(own: Sequence[Hashes], most: int, least: int) -> tuple[Array, Array]:
    """(S, S) shares of fingerprints that no more than `most` students have; (S,) who has such that more have."""
    counts, common = fingerprints.shared(own, most)
    return _shares(counts, least), common > 0


def _shares(counts: NDArray[np.int64], least: int) -> Array:
    """(S, S) shared fingerprints of the smaller one's; 0 where they are too few to mean anything."""
    own = np.diag(counts)
    smaller = np.maximum(np.minimum(own[:, None], own[None, :]), 1)
    return np.where(counts >= least, counts / smaller, 0.0)


def _comparable(shares: Array, own: Sequence[Hashes]) -> Array:
    """The (S, S) shares, NaN where one of the two has nothing of its own."""
    some = np.array([len(one) > 0 for one in own])
    return np.where(some[:, None] & some[None, :], shares, np.nan)


def _ranked(shares: Sequence[Array], same_seeds: set[tuple[int, int]], threshold: float) -> list[tuple[int, int]]:
    """Who shares enough code or words, any recorded iterations or a seed; the most telling first."""
    code, essays, rows = shares
    chosen = (code >= threshold) | (essays >= threshold) | (rows > 0)
    found = {(i, j) for i, j in np.argwhere(np.triu(chosen, 1)).tolist()} | same_seeds
    return sorted(sorted(found), key=lambda pair: _telling([float(one[pair]) for one in shares]), reverse=True)


def _same_seeds(works: Sequence[Work], most: int) -> set[tuple[int, int]]:
    """Pairs with a recording of the same seed; a seed that many have is the assignment's."""
    owners: dict[object, set[int]] = {}
    for number, work in enumerate(works):
        for run in work.runs:
            if run.seed is not None:
                owners.setdefault(run.seed, set()).add(number)
    return {pair for who in owners.values() if len(who) <= most for pair in combinations(sorted(who), 2)}


def _pair(works: Sequence[Work], i: int, j: int, shares: Sequence[Array]) -> Pair:
    first, second = works[i], works[j]
    matches = [match for run in first.runs if (match := _match(run, second.runs)) is not None]
    said: dict[str, list[str]] = {}
    for one, other, share in matches:
        said.setdefault(_likeness(one, other, share), []).append(
            one.name if one.name == other.name else f"{one.name} and {other.name}"
        )
    seeds = {run.seed for run in first.runs} & {run.seed for run in second.runs} - {None}
    if seeds:
        said["recordings of both have the same seed"] = list(map(str, seeds))
    return Pair(
        first.student,
        second.student,
        _share(shares[0][i, j]),
        _share(shares[1][i, j]),
        max((share for _, _, share in matches), default=_share(shares[2][i, j])),
        tuple(f"{words}: {', '.join(names)}" for words, names in said.items()),
    )


def _share(found: float) -> float | None:
    return None if math.isnan(found) else float(found)


def _match(run: Run, others: Sequence[Run]) -> tuple[Run, Run, float] | None:
    """The one of these recordings that is most like this one, if any is."""
    shares = [(_alike(run, other), other.name == run.name, k) for k, other in enumerate(others)]
    share, _, k = max(shares, default=(0.0, False, 0))
    return (run, others[k], share) if share > 0 else None


def _likeness(first: Run, second: Run, share: float) -> str:
    same = _digest(first.path) == _digest(second.path)
    return "the same file, byte for byte" if same else f"{share:.0%} of the {first.parts} are the same"


def _digest(path: Path) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_passages(pair: Pair, works: Mapping[str, Work], code: Hashes, words: Hashes, threshold: float) -> Pair:
    """The pair with the passages of what it is listed for; what is shared below the threshold says nothing."""
    a, b = works[pair.first], works[pair.second]
    of_code = fingerprints.passages(a.code, b.code, CODE, code) if (pair.code or 0) >= threshold else []
    of_essays = fingerprints.passages(a.essays, b.essays, PROSE, words) if (pair.essays or 0) >= threshold else []
    return replace(pair, code_passages=tuple(of_code[:MOST_PASSAGES]), essay_passages=tuple(of_essays[:MOST_PASSAGES]))


# Output


def export_csv(found: Similarities, path: Path) -> Path:
    """All pairs, one row each."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["first", "second", "code", "essays", "recordings", "what"])
    for pair in found.pairs:
        shares = ("" if share is None else f"{share:.3f}" for share in pair.shares)
        table.writerow([safe_cell(pair.first), safe_cell(pair.second), *shares, safe_cell("; ".join(pair.said))])
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, text.getvalue().encode())


def export_html(found: Similarities, path: Path) -> Path:
    """One page that needs nothing else: the pairs, and of the first ones the shared passages side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page: str = template("similarity.html").render(found=found, shown=found.pairs[:MOST_SHOWN], lines=_printable)
    return write_whole(path, page.encode())


def _printable(text: str) -> str:
    """Several lines, with nothing in them that turns the direction of writing."""
    kept = text.expandtabs(4)[:10_000]
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in kept)
