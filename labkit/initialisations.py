"""The start of a network, drawn by numpy: the same numbers on every machine, and for the grader without torch."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labkit.data import stream
from labkit.experiments import Experiment, ExperimentError, Initialisation

Floats = NDArray[np.float64]


def variance(initialisation: Initialisation, fan_in: int, fan_out: int) -> float:
    """Variance of one weight. Glorot & Bengio 2010 (eq. 16), He et al. 2015 (eq. 10), LeCun et al. 1998 (sec. 4.6);
    `pytorch` is the default of `torch.nn.Linear`: uniform within 1/sqrt(fan_in), so 1/(3 fan_in)."""
    known = {
        "glorot_uniform": 2 / (fan_in + fan_out),
        "glorot_normal": 2 / (fan_in + fan_out),
        "he_uniform": 2 / fan_in,
        "he_normal": 2 / fan_in,
        "lecun_normal": 1 / fan_in,
        "pytorch": 1 / (3 * fan_in),
    }
    if initialisation not in known:
        raise ExperimentError(f"initialisation is {initialisation!r}: choose from {', '.join(known)}")
    return known[initialisation]


def draw(
    widths: Sequence[int], initialisation: Initialisation = "glorot_uniform", gain: float = 1.0, seed: int = 0
) -> list[tuple[Floats, Floats]]:
    """Weights (outputs, inputs) and biases (outputs,) of each layer, input side first, in float64.

    Biases are zero, except that `pytorch` draws them as `torch.nn.Linear` does. `gain` multiplies the weights.
    """
    layers = []
    for index, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        sd = math.sqrt(variance(initialisation, fan_in, fan_out))
        random = stream(seed, "weights", f"fc_{index}")
        if initialisation.endswith("normal"):
            weights = random.standard_normal((fan_out, fan_in)) * sd
        else:
            weights = random.uniform(-1, 1, (fan_out, fan_in)) * (sd * math.sqrt(3))
        biases = np.zeros(fan_out)
        if initialisation == "pytorch":
            biases = random.uniform(-1, 1, fan_out) / math.sqrt(fan_in)
        layers.append((weights * gain, biases))
    return layers


def of_experiment(experiment: Experiment) -> list[tuple[Floats, Floats]]:
    """The start that the experiment's seed gives."""
    return draw(experiment.widths, experiment.initialisation, experiment.gain, experiment.seed)
