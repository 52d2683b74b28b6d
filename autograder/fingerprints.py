"""What two texts or two runs have in common: tokens, words and figures as fingerprints, and the passages behind them.

Fingerprints are hashes of k tokens in a row, thinned by winnowing: of any run of k + w - 1 equal tokens at least one
fingerprint is kept on both sides (Schleimer, Wilkerson and Aiken 2003). Nothing is parsed and nothing is run, so
broken code is compared like any other.
"""

import hashlib
import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

CODE = 12  # tokens of a fingerprint: of shorter ones honest solutions share twice as many (tests/test_similarity.py)
PROSE = 8  # words of a fingerprint
WINDOW = 5  # of these many fingerprints in a row one is kept, so no copied run of 16 tokens escapes
BLOCK = 4096  # fingerprints that are counted at once
MOST_PLACES = 20  # at which one fingerprint is looked up; more are a table of numbers or the like

# Not Python's tokenize: it gives up at the first broken line, and a copy may be broken on purpose.
LEXER = re.compile(
    r"""
      (?P<comment>\#[^\n]*)
    | (?P<text>[rbuf]{0,2}(?:\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)
                            |"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))
    | (?P<number>0[xob][0-9a-f_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?j?)
    | (?P<name>[^\W\d]\w*)
    | (?P<newline>\n)
    | (?P<space>[^\S\n]+|\\\n)
    | (?P<operator>[*/<>]{2}=|\.\.\.|:=|->|[=!<>+\-*/%&|^@]=|\*\*|//|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
WORD = re.compile(r"\w+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Token:
    """A piece of a text, as it counts and where it stands."""

    word: str
    start: int  # characters
    stop: int


def code_tokens(source: str) -> list[Token]:
    """Python as it counts: every name and every text alike, numbers by their value, no comment, docstring or space."""
    found = [match for match in LEXER.finditer(source) if match.lastgroup not in ("comment", "space")]
    kept, depth, starts_line = [], 0, True
    for place, match in enumerate(found):
        if match.lastgroup == "newline":
            starts_line = starts_line or depth == 0
            continue
        depth = max(0, depth + (match[0] in "([{") - (match[0] in ")]}"))
        ends_line = place + 1 == len(found) or found[place + 1].lastgroup == "newline"
        # a text that is a whole line is a docstring
        if not (match.lastgroup == "text" and starts_line and ends_line):
            kept.append(Token(_counts_as(match), match.start(), match.end()))
        starts_line = False
    return kept


def _counts_as(match: re.Match[str]) -> str:
    if match.lastgroup == "text":
        return "text"
    if match.lastgroup == "name":
        return match[0] if keyword.iskeyword(match[0]) else "name"
    return _value(match[0].lower().replace("_", "")) if match.lastgroup == "number" else match[0]


def _value(number: str) -> str:
    """1e3, 1_000 and 0x3e8 are one number."""
    try:
        return repr(float(int(number, 0) if number[:2] in ("0x", "0o", "0b") else float(number)))
    except (ValueError, OverflowError):
        return number


def word_tokens(text: str) -> list[Token]:
    """The words of an essay, in one case; all numbers alike, since everybody quotes their own."""
    return [
        Token("number" if match[0][0].isdigit() else match[0].casefold(), match.start(), match.end())
        for match in WORD.finditer(text)
    ]


# Fingerprints


def hashes(tokens: Sequence[Token], length: int) -> Hashes:
    """A hash of every `length` tokens in a row; (N - length + 1,), equal in every process."""
    if len(tokens) < length:
        return np.zeros(0, np.uint64)
    words = np.array([_hash(token.word) for token in tokens], np.uint64)
    rows = np.lib.stride_tricks.sliding_window_view(words, length)
    return row_hashes(rows)


def row_hashes(rows: NDArray[np.uint64]) -> Hashes:
    """One hash for each row (N, k): k odd multipliers, modulo 2**64."""
    multipliers = np.array([_hash(f"column {k}") | 1 for k in range(rows.shape[1])], np.uint64)
    mixed: Hashes = (rows * multipliers).sum(axis=1, dtype=np.uint64)
    return mixed ^ (mixed >> np.uint64(29))


@lru_cache(maxsize=100_000)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def winnowed(every: Hashes, window: int = WINDOW) -> Hashes:
    """The fingerprints that stay: the smallest hash of every window of hashes, each once."""
    if len(every) < window:
        return np.unique(every)
    return np.unique(np.lib.stride_tricks.sliding_window_view(every, window).min(axis=1))


def shared(prints: Sequence[Hashes], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many fingerprints each two of S sets share, (S, S); on the diagonal how many each has.

    Those that more than `most` have are common property and count for nobody; of these each has (S,).
    """
    owner = np.repeat(np.arange(len(prints)), [len(one) for one in prints])
    every = np.concatenate([np.zeros(0, np.uint64), *prints])
    _, column, count = np.unique(every, return_inverse=True, return_counts=True)
    common = np.bincount(owner[count[column] > most], minlength=len(prints))
    counts = np.diag([len(one) for one in prints]).astype(np.int64) - np.diag(common)
    several = (count > 1) & (count <= most)
    kept = several[column]
    _add_blocks(counts, owner[kept], (np.cumsum(several) - 1)[column[kept]])
    return counts, common


def _add_blocks(counts: NDArray[np.int64], owner: NDArray[np.int64], column: NDArray[np.int64]) -> None:
    """Matrix products over blocks of columns: 125,000 pairs at once, and no memory to speak of."""
    order = np.argsort(column, kind="stable")
    owner, column = owner[order], column[order]
    for start in range(0, int(column[-1]) + 1 if len(column) else 0, BLOCK):
        first, last = np.searchsorted(column, [start, start + BLOCK])
        block = np.zeros((len(counts), BLOCK), np.float32)
        block[owner[first:last], column[first:last] - start] = 1
        product = block @ block.T
        np.fill_diagonal(product, 0)
        counts += product.astype(np.int64)


# Passages


@dataclass(frozen=True)
class Passage:
    """What stands in both, token for token."""

    tokens: int
    first: str  # as the one wrote it, whole lines
    second: str


def passages(
    first: Sequence[tuple[str, Sequence[Token]]],
    second: Sequence[tuple[str, Sequence[Token]]],
    length: int,
    left_out: Hashes,
) -> list[Passage]:
    """The longest runs of `length` tokens and more that stand in both, longest first; not those that begin with what
    is in `left_out`. Each side is texts with their tokens."""
    places: dict[int, list[tuple[int, int]]] = {}
    for text, (_, tokens) in enumerate(second):
        for position, hash_ in enumerate(hashes(tokens, length).tolist()):
            places.setdefault(hash_, []).append((text, position))
    known = set(left_out.tolist())
    found = [passage for one in first for passage in _runs(one, second, length, places, known)]
    return sorted(found, key=lambda passage: -passage.tokens)


def _runs(
    text: tuple[str, Sequence[Token]],
    others: Sequence[tuple[str, Sequence[Token]]],
    length: int,
    places: dict[int, list[tuple[int, int]]],
    known: set[int],
) -> Iterator[Passage]:
    source, tokens = text
    free = 0
    for position, hash_ in enumerate(hashes(tokens, length).tolist()):
        if position < free or hash_ in known or hash_ not in places:
            continue
        size, other, at = max(
            (_reach(tokens, position, others[other][1], at), other, at) for other, at in places[hash_][:MOST_PLACES]
        )
        if size >= length:
            free = position + size
            theirs, their_tokens = others[other]
            yield Passage(
                size,
                _lines(source, tokens[position : position + size]),
                _lines(theirs, their_tokens[at : at + size]),
            )


def _reach(first: Sequence[Token], i: int, second: Sequence[Token], j: int) -> int:
    """How many tokens from here on are equal."""
    most = min(len(first) - i, len(second) - j)
    return next((n for n in range(most) if first[i + n].word != second[j + n].word), most)


def _lines(source: str, tokens: Sequence[Token]) -> str:
    """The whole lines in which these tokens stand."""
    start = source.rfind("\n", 0, tokens[0].start) + 1
    stop = source.find("\n", tokens[-1].stop)
    return source[start : stop if stop >= 0 else len(source)]
