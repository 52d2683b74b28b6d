"""What is said of a claim that does not hold: sentences around figures of the same runs."""

from collections.abc import Callable

import numpy as np

from labkit.claims import figures
from labkit.claims.figures import Figure, Floats, Runs
from labkit.claims.rules import Remark, digits
from labkit.recording import Recording


def together(*remarks: Remark) -> Remark:
    """One remark after another."""
    return lambda runs: "; ".join(remark(runs) for remark in remarks)


def also(words: str, figure: Figure) -> Remark:
    """The median of another figure behind some words."""
    return lambda runs: f"{words} {digits(float(np.nanmedian(figure(runs))))}"


def every_run(figure: Figure, published: float) -> Remark:
    """How many of our runs reach the figure of the one run that was published, and which comes nearest."""

    def remark(runs: Runs) -> str:
        values = np.asarray(figure(runs), dtype=np.float64)
        nearest = values[np.nanargmin(np.abs(values - published))] if np.isfinite(values).any() else np.nan
        above = int((values >= published).sum())
        return (
            f"one run was published; {above} of our {len(values)} lie at {published:g} or above, the nearest at "
            f"{digits(float(nearest))}; a new run lies outside all of ours with a chance of "
            f"{digits(2 / (len(values) + 1))}"
        )

    return remark


def still_moving(name: str) -> Remark:
    """How far the training is from its end, in accuracy."""
    return also(
        "the last tenth of the epochs changes the probe batch's accuracy by", figures.each(figures.late_change, name)
    )


def by_layer(of: Callable[[Recording], Floats], name: str, words: str) -> Remark:
    """A figure of each layer, median over runs, first layer first."""

    def remark(runs: Runs) -> str:
        medians = np.median([of(recording) for recording in runs[name]], axis=0)
        return f"{words}, from the first layer to the last: {', '.join(f'{value:.2g}' for value in medians)}"

    return remark


def seeds_above(figure: Figure, value: float) -> Remark:
    """In how many runs the figure lies above a value."""

    def remark(runs: Runs) -> str:
        values = figure(runs)
        return f"above {value:g} in {sum(one > value for one in values)} of {len(values)} runs"

    return remark


def rounding(name: str) -> Remark:
    """What a mean that is 0 by algebra has left."""

    def remark(runs: Runs) -> str:
        kind = runs[name][0].origin.dtype
        unit, median = (
            float(np.finfo(kind).eps),
            float(np.median(figures.each(figures.signed_mean_of_last, name)(runs))),
        )
        return (
            f"the signed mean is {digits(median)} of mean absolute gradient: over the classes a softmax's gradients "
            f"sum to 0, and {kind} resolves {unit:.1g}, so what the plot shows is rounding"
        )

    return remark


def no_jump(name: str) -> Remark:
    """Where the plotted norm and those of the mini-batches grow most."""
    return together(_largest_growth(name), _largest_step(name))


def _largest_growth(name: str) -> Remark:
    def largest(r: Recording) -> float:
        norms = figures.plotted_norms(r)
        return float((norms[1:] / norms[:-1]).max()) if len(norms) > 1 else np.nan

    return also(
        "from one epoch's end to the next the plotted norm grows at most by a factor", figures.each(largest, name)
    )


def _largest_step(name: str) -> Remark:
    def over_median(r: Recording) -> float:
        norms = r.statistic("norm").astype(np.float64).max(axis=1)
        return float(np.nanmax(norms) / np.nanmedian(norms))

    def epoch(r: Recording) -> float:
        norms = r.statistic("norm").astype(np.float64).max(axis=1)
        return float(np.searchsorted(r.epoch_end, np.nanargmax(norms), side="right") + 1)

    return together(
        also("the largest norm of a mini-batch is over the median one by a factor", figures.each(over_median, name)),
        also("and falls into epoch", figures.each(epoch, name)),
    )


def unclipped(name: str) -> Remark:
    """What the plotted norms leave out."""
    return together(
        also(
            "the norms were taken before clipping; those that the optimiser used reach",
            figures.each(figures.largest_used, name),
        ),
        also("share of the layers' gradients that were clipped:", figures.each(figures.clipped_share, name)),
    )
