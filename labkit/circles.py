"""Points on two circles, one in the other."""

import numpy as np
from numpy.typing import NDArray

from labkit.streams import stream, whole

CIRCLES = ("outer", "inner")


def circles(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points (n, 2) around circles of radius 1 and 0.5 and labels (n,), 0 outside: scikit-learn's `make_circles`.

    Its noise of 0.1 is the sd of what is added to each coordinate. It computes in double precision with functions
    whose last bit differs between machines; single precision does not see that bit, but for one in a million draws.
    """
    from sklearn.datasets import make_circles  # takes a second to load

    n = whole(n, "n", least=2)
    points, labels = make_circles(n, factor=0.5, noise=0.1, random_state=stream(seed, "circles"))
    return points.astype(np.float32), labels.astype(np.int64)
