"""Sequences in which what decides lies far back."""

import numpy as np
from numpy.typing import NDArray

from labkit.streams import stream, whole


def long_lag(n: int, steps: int, classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sequences (n, steps, classes + 1) that show their class at the first step and noise ever after; labels (n,).

    The last channel is the noise, between -1 and 1, every value as likely; before it there is one for each class. The
    class has to be remembered over all the other steps: the latching task of Bengio, Simard & Frasconi 1994. Class
    counts differ by at most one. The rules of `labkit.streams` hold: the same bytes on every machine.
    """
    n, steps = whole(n, "n", least=1), whole(steps, "steps", least=1)
    classes = whole(classes, "classes", least=2)
    labels = stream(seed, "long_lag", "labels").permutation(n).astype(np.int64) % classes
    sequences = np.zeros((n, steps, classes + 1), dtype=np.float32)
    sequences[np.arange(n), 0, labels] = 1.0
    sequences[:, 1:, classes] = 2.0 * stream(seed, "long_lag", "noise").random_sample((n, steps - 1)) - 1.0
    return sequences, labels
