"""One run is one draw: what many runs of an experiment have in common, as medians and 95 % bands over their seeds.

In narrow networks the size of a gradient varies over seeds by a factor of 20 each way (Hanin & Nica 2018 say why), so a
figure of one run proves nothing about another.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.counts import counted
from labkit.experiments import Experiment, ExperimentError
from labkit.recording import Recording

Floats = NDArray[np.float64]
COVERED = 95  # percent of the runs between low and high


@dataclass(frozen=True, eq=False)
class Band:
    """A figure over R runs."""

    median: Floats  # (...,) in the figure's own shape
    low: Floats  # (...,) 2.5 % of the runs are below
    high: Floats  # (...,) 2.5 % of the runs are above
    runs: int  # R, those that have the figure

    def __str__(self) -> str:
        if self.median.ndim == 0:
            return f"{float(self.median):.3g} ({float(self.low):.3g} to {float(self.high):.3g})"
        return f"Band over {counted(self.runs, 'run')}, shape {self.median.shape}"


def seeds_of(experiment: Experiment, count: int) -> list[Experiment]:
    """The same experiment with the seeds 0 ... count - 1; data, weights and order differ."""
    if count < 1:
        raise ExperimentError(f"{count} seeds: give 1 or more")
    return [experiment.replace(seed=seed) for seed in range(count)]


def band(values: Sequence[Any]) -> Band:
    """Median and band of one figure of each run, all of one shape; NaN of a run that broke down stays out."""
    rows = np.array([np.asarray(value, dtype=np.float64) for value in values])
    if rows.size == 0:
        raise ExperimentError("no runs: train the experiment with some seeds first")
    outside = (100 - COVERED) / 2
    low, median, high = _percentiles(rows, [outside, 50, 100 - outside])
    there = ~np.isnan(rows).reshape(len(rows), -1).all(axis=1)
    return Band(median, low, high, int(there.sum()))


def _percentiles(rows: Floats, percents: Sequence[float]) -> Floats:
    """`np.nanpercentile` over the runs, which makes NaN of what lies beside an infinite figure: infinite here."""
    with warnings.catch_warnings():  # a figure that no run has is NaN, and no news
        warnings.simplefilter("ignore", RuntimeWarning)
        below = np.nanpercentile(rows, percents, axis=0, method="lower")
        above = np.nanpercentile(rows, percents, axis=0, method="higher")
        between = np.nanpercentile(rows, percents, axis=0)
        finite = np.isfinite(below) & np.isfinite(above)
        found: Floats = np.where(below == above, below, np.where(finite, between, below + above))
    return found


def over(recordings: Sequence[Recording], figure: Callable[[Recording], Any]) -> Band:
    """The band of a figure that each recording gives."""
    return band([figure(recording) for recording in recordings])


def sizes_at_start(recording: Recording) -> Floats:
    """(L,) mean |gradient| of each layer on the probe batch, before the first step."""
    found: Floats = recording.probe_statistic("abs_mean")[0].astype(np.float64)
    return found


def sizes_over_training(recording: Recording) -> Floats:
    """(L,) mean |gradient| of each layer, averaged over all iterations with figures that are finite."""
    sizes = recording.statistic("abs_mean").astype(np.float64)
    found: Floats = np.nanmean(np.where(np.isfinite(sizes), sizes, np.nan), axis=0)
    return found


def last_over_first(recording: Recording) -> float:
    """Mean |gradient| of the last layer over that of the first, at the start: above 1 where gradients vanish."""
    sizes = sizes_at_start(recording)
    return float(sizes[-1] / sizes[0]) if sizes[0] else float("inf")
