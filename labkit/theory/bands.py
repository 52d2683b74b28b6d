"""How far the gradients of a network of finite width lie from the mean field's, over seeds, at the start.

A unit's share of the back-propagated squared gradient is (phi'(z) g)^2 with a normal g, so that a layer of n units
multiplies it by a factor whose variance, relative to its mean, is (3 E[phi'^4] / E[phi'^2]^2 - 1) / n: 5 / n for relu,
2 / n for linear. Over many wide layers the logarithm of their product is normal; its variance is the sum beta, its mean
-beta / 2 (Hanin 2018; Hanin & Nica 2020, "Products of many large random matrices and gradients in deep neural
networks"). So the mean over seeds is what the mean field says, and most single networks are below it.

That is the law of wide layers. Measured over seeds with relu (tests/test_dial.py), the variance of the logarithm is
0.49 for ten layers of 100 (beta 0.50), and the 95 % band holds 96 % of the networks; but it is 2.6 for three layers of
10 (beta 1.5, the band holds 89 %) and 9.6 for four of 5 (beta 4, 73 %), where one network in eight is dead besides. So
for layers of some ten units and fewer the band is too narrow: replay the seed, or compare with `labkit.ensembles`.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from labkit.activations import LEAKY_SLOPE, check
from labkit.experiments import Activation, ExperimentError
from labkit.theory.mean_field import mean_slope


def log_size_variance(
    widths: Sequence[int], activation: Activation = "relu", q: float = 1.0, leaky: float = LEAKY_SLOPE
) -> float:
    """beta: the variance over seeds of ln ||dloss/dz_1||^2 given the gradient at the outputs; `widths` from inputs to
    outputs.

    For relu, leaky_relu and linear it holds for any scale; for others q is the variance of the pre-activations (see
    `fixed_point`), and that q itself scatters is left out.
    """
    check(activation)
    if len(widths) < 3 or min(widths) < 1:
        raise ExperimentError(f"widths is {tuple(widths)}: give inputs, one hidden layer or more, and outputs")
    spread = 3 * mean_slope(activation, q, leaky, 4) / mean_slope(activation, q, leaky) ** 2 - 1
    return spread * sum(1 / width for width in widths[1:-1])


def size_band(
    widths: Sequence[int],
    activation: Activation = "relu",
    q: float = 1.0,
    leaky: float = LEAKY_SLOPE,
    share: float = 0.95,
) -> tuple[float, float]:
    """The lower and upper factor between which ||dloss/dz_1|| lies, relative to the mean field's root mean square, in
    that share of seeds; too narrow for narrow networks (see above)."""
    return factors(log_size_variance(widths, activation, q, leaky), share)


def factors(beta: float, share: float = 0.95) -> tuple[float, float]:
    """The same from the variance beta of ln ||dloss/dz||^2 over seeds."""
    reach = _reach(share) * math.sqrt(beta)
    return math.exp((-beta / 2 - reach) / 2), math.exp((-beta / 2 + reach) / 2)


def gain_band(
    chi: float,
    widths: Sequence[int],
    activation: Activation = "relu",
    q: float = 1.0,
    leaky: float = LEAKY_SLOPE,
    share: float = 0.95,
) -> tuple[float, float]:
    """The gains per layer, averaged over the hidden layers, between which that share of seeds lies where theory says
    chi: the mean squared gradient's factor from the outputs to the first layer, to the power 1 / hidden layers."""
    low, high = size_band(widths, activation, q, leaky, share)
    layers = len(widths) - 2
    return chi * low ** (2 / layers), chi * high ** (2 / layers)


def _reach(share: float) -> float:
    if not (0 < share < 1):
        raise ExperimentError(f"share is {share}: give the part of the seeds that the band holds, between 0 and 1")
    return NormalDist().inv_cdf((1 + share) / 2)
