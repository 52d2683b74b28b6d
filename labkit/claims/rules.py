"""Claims, and the rules by which a claim holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from labkit.claims.figures import Figure, Runs, TooLittle
from labkit.ensembles import Band, band

# A new run lies between the extremes of n runs with a chance of (n - 1) / (n + 1): 1/2 for 3 of them, 2/3 for 5. With
# fewer than this, a published figure outside the band says nothing.
FEWEST = 5
Source = Literal["S1", "S3", "S4", "S5"]
Remark = Callable[[Runs], str]


@dataclass(frozen=True)
class Rule:
    """When a claim holds."""

    words: str  # as the table shows them
    test: Callable[[Band, Runs], bool]
    fewest: int = 1  # seeds; with fewer, there is no verdict


@dataclass(frozen=True)
class Claim:
    """One figure or sentence of a tutorial."""

    source: Source
    sentence: str
    published: str
    needs: tuple[str, ...]  # names of experiments
    figure: Figure
    rule: Rule
    remark: Remark  # what our runs say where the claim does not hold, with figures of theirs


@dataclass(frozen=True)
class Row:
    """A claim beside our runs."""

    claim: Claim
    ours: str  # median and band
    verdict: str  # yes, no, or why there is none
    remark: str = ""


def judge(claim: Claim, runs: Runs) -> Row:
    """Does the claim hold for these runs? They hold all that it needs."""
    try:
        values = claim.figure(runs)
    except TooLittle as reason:
        return Row(claim, "", str(reason))
    found = band(values)
    if 0 < found.runs < claim.rule.fewest:  # where none has the figure, no rule holds
        return Row(claim, shown(found), f"too few seeds to say ({found.runs} of {claim.rule.fewest})")
    if claim.rule.test(found, runs):
        return Row(claim, shown(found), "yes")
    return Row(claim, shown(found), "no", claim.remark(runs))


def shown(found: Band) -> str:
    """Median and band with four digits; of one run there is no band."""
    median, low, high = (digits(float(value)) for value in (found.median, found.low, found.high))
    return f"{median} (one run)" if found.runs == 1 else f"{median} ({low} to {high})"


def digits(value: float) -> str:
    """A number with four digits."""
    return f"{value:.4g}"


def between(low: float, high: float) -> Rule:
    """The median lies between two figures."""
    return Rule(f"between {low:g} and {high:g}", lambda found, _: bool(low <= float(found.median) <= high))


def at_least(low: float) -> Rule:
    """The median reaches a figure."""
    return Rule(f"at least {low:g}", lambda found, _: bool(float(found.median) >= low))


def at_most(high: float) -> Rule:
    """The median does not pass a figure."""
    return Rule(f"at most {high:g}", lambda found, _: bool(float(found.median) <= high))


def holds(value: float) -> Rule:
    """The band over seeds holds a figure; it takes `FEWEST` seeds to say so."""
    return Rule(f"band holds {value:g}", lambda found, _: bool(float(found.low) <= value <= float(found.high)), FEWEST)


def not_above(value: float) -> Rule:
    """The band over seeds reaches down to a figure; it takes `FEWEST` seeds to say so."""
    return Rule(f"band reaches down to {value:g}", lambda found, _: bool(float(found.low) <= value), FEWEST)


def below(others: Sequence[Figure], words: str, by: float = 0.0) -> Rule:
    """The median lies below those of other figures, by a margin."""

    def test(found: Band, runs: Runs) -> bool:
        return all(bool(float(found.median) < _median(figure, runs) - by) for figure in others)

    return Rule(f"at least {by:g} below {words}", test)


def above(others: Sequence[Figure], words: str, by: float = 0.0) -> Rule:
    """The median lies above those of other figures, by a margin."""

    def test(found: Band, runs: Runs) -> bool:
        return all(bool(float(found.median) > _median(figure, runs) + by) for figure in others)

    return Rule(f"at least {by:g} above {words}", test)


def _median(figure: Figure, runs: Runs) -> float:
    values = np.asarray(figure(runs), dtype=np.float64)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan
