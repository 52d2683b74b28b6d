"""Values to bin centres and counts."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 30
LEAST_REACH = 2.0**-40  # to each side of 0, of the bins that all epochs share (see `labkit.tape.CommonBins`)


def histogram(values: ArrayLike, bins: int = BINS) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bin centres (bins,) and counts (bins,) of the finite `values`, in equal bins from the smallest to the largest.

    When all values are equal the bins cover half a unit to each side, as `numpy.histogram` has it.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    counts, edges = np.histogram(flat[np.isfinite(flat)], bins=bins)
    return centres(edges[0], edges[-1], bins), counts


def centres(low: float, high: float, bins: int = BINS) -> NDArray[np.float64]:
    """(bins,) midpoints of equal bins between two outer edges."""
    edges = np.linspace(low, high, bins + 1)
    return (edges[:-1] + edges[1:]) / 2
