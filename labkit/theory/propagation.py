"""How deep a signal gets in a wide random network: the depth scales of Schoenholz et al. 2017 ("Deep Information
Propagation").

q is the variance of the pre-activations z of one image, c the correlation of those of two images; sigma_w^2 = width *
variance of one weight, sigma_b^2 the variance of one bias, z and z' are independent standard normals and u = sqrt(q) z.
One layer makes of q and c (Poole et al. 2016, eq. 3 and 5)

    q -> sigma_w^2 E[phi(u)^2] + sigma_b^2
    c -> (sigma_w^2 E[phi(u) phi(u')] + sigma_b^2) / q,     u' = sqrt(q) (c z + sqrt(1 - c^2) z')

with q at its fixed point q*, and c on its way to c*. What is left of a difference after L layers goes as chi^L:

    chi_1 = sigma_w^2 E[phi'(u)^2]                          its own image a little moved; a mean squared gradient, on
                                                            its way back: xi_gradient = 1 / |ln chi_1|
    chi_c = sigma_w^2 E[phi'(u) phi'(u')] at c = c*         two images: xi_c = 1 / |ln chi_c|

c* is 1 where chi_1 <= 1 (order: all images end up as one) and below 1 where it is above (chaos: all become unlike).

Two cases have q* = 0 or none at all: tanh without biases below its critical point, and relu, whose variance is only
multiplied, by sigma_w^2 / 2. There the *correlation* of two images lives on, but their covariance is multiplied by
chi_1 in each layer, and that is what the same formulas say: signals and gradients shrink to nothing or grow beyond all
bounds together.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labkit.activations import HOMOGENEOUS, LEAKY_SLOPE, check, slope, value
from labkit.experiments import Activation, ExperimentError
from labkit.theory.mean_field import LEAST, MOST, depth_scale, fixed_point, mean_slope, mean_square

Floats = NDArray[np.float64]

REACH = 6  # times xi_c: about as deep as networks were trained (Schoenholz et al. 2017, their figure of accuracies)
_HALVINGS = 40
# Evenly spaced points: for what is analytic the trapezoid rule errs by exp(-2 pi d / step), where d = pi / (2 sqrt(q))
# is how far off the real axis tanh(sqrt(q) z) has its first pole: 2e-6 at q = 50. Points of Gauss-Hermite lie too far
# apart for that.
_STEP, _END = 0.1, 9.0
_Z = np.arange(-_END, _END + _STEP / 2, _STEP)
_P = np.exp(-(_Z**2) / 2) / np.exp(-(_Z**2) / 2).sum()


@dataclass(frozen=True)
class DepthScales:
    """What theory says of one pair (sigma_w^2, sigma_b^2). Lengths are in layers; infinite at the critical point."""

    q: float  # q*; 0 or 1e12 where the variance dies out or grows without bound
    c: float  # c*
    chi_1: float
    chi_c: float
    xi_c: float
    xi_gradient: float

    @property
    def reach(self) -> float:
        """Layers to which networks are expected to train: 6 xi_c."""
        return REACH * self.xi_c


@lru_cache(maxsize=4096)
def depth_scales(
    activation: Activation, sigma_w2: float, sigma_b2: float = 0.0, leaky: float = LEAKY_SLOPE
) -> DepthScales:
    """q*, c*, chi_1, chi_c and the depth scales that follow from them."""
    _check(activation, sigma_w2, sigma_b2)
    q = settled_variance(activation, sigma_w2, sigma_b2, leaky)
    if activation in HOMOGENEOUS or q <= LEAST:
        chi = sigma_w2 * mean_slope(activation, 0.0, leaky)
        return DepthScales(q, 1.0, chi, chi, depth_scale(chi), depth_scale(chi))
    chi_1 = sigma_w2 * mean_slope(activation, q, leaky)
    c = settled_correlation(activation, sigma_w2, sigma_b2, leaky) if chi_1 > 1 else 1.0
    chi_c = chi_1 if c == 1 else sigma_w2 * _pair(activation, q, c, leaky, slopes=True)
    return DepthScales(q, c, chi_1, chi_c, depth_scale(chi_c), depth_scale(chi_1))


def settled_variance(
    activation: Activation, sigma_w2: float, sigma_b2: float = 0.0, leaky: float = LEAKY_SLOPE
) -> float:
    """q*, to which the variance of the pre-activations goes from 1; 0 or 1e12 where it dies out or knows no bound."""
    _check(activation, sigma_w2, sigma_b2)
    if sigma_b2 == 0:
        return fixed_point(activation, sigma_w2, leaky)
    if activation in HOMOGENEOUS:
        growth = sigma_w2 * mean_slope(activation, 1.0, leaky)
        return min(sigma_b2 / (1 - growth), MOST) if growth < 1 else MOST
    grid = np.logspace(math.log10(LEAST), math.log10(MOST), 24 * 8 + 1)
    up = _change(activation, 1.0, sigma_w2, sigma_b2, leaky) > 0
    way = grid[grid >= 1] if up else grid[grid <= 1][::-1]
    turned = [(_change(activation, q, sigma_w2, sigma_b2, leaky) > 0) != up for q in way]
    if True not in turned:  # with biases the variance cannot die out
        return MOST
    stop = turned.index(True)
    near, far = float(way[max(0, stop - 1)]), float(way[stop])
    for _ in range(_HALVINGS):
        middle = math.sqrt(near * far)
        same = (_change(activation, middle, sigma_w2, sigma_b2, leaky) > 0) == up
        near, far = (middle, far) if same else (near, middle)
    return math.sqrt(near * far)


def settled_correlation(
    activation: Activation, sigma_w2: float, sigma_b2: float = 0.0, leaky: float = LEAKY_SLOPE
) -> float:
    """c*, to which the correlation of two unlike images goes; 1 in the ordered phase."""
    q = settled_variance(activation, sigma_w2, sigma_b2, leaky)
    if activation in HOMOGENEOUS or q <= LEAST or sigma_w2 * mean_slope(activation, q, leaky) <= 1:
        return 1.0
    if sigma_w2 * _pair(activation, q, 0.0, leaky) + sigma_b2 <= 1e-12 * q:  # odd, without biases
        return 0.0
    low, high = 0.0, 1.0  # the map is convex between, begins at or above 0 and arrives at 1 with a slope above 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        ahead = sigma_w2 * _pair(activation, q, middle, leaky) + sigma_b2 > q * middle * (1 + 1e-13)
        low, high = (middle, high) if ahead else (low, middle)
    return low


@lru_cache(maxsize=64)
def critical_variance(activation: Activation, sigma_b2: float = 0.0, leaky: float = LEAKY_SLOPE) -> float:
    """The sigma_w^2 at which chi_1 is 1: the border of order and chaos.

    relu 2 and linear 1, for any sigma_b^2 (with biases their variance then grows for ever); tanh 1 without biases.
    Activations that leap over 1, such as gelu and silu without biases, raise `ExperimentError`.
    """
    _check(activation, 1.0, sigma_b2)
    if activation in HOMOGENEOUS:
        return 1 / mean_slope(activation, 1.0, leaky)
    low, high = 1e-3, 1e6
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        q = settled_variance(activation, middle, sigma_b2, leaky)
        low, high = (middle, high) if middle * mean_slope(activation, q, leaky) <= 1 else (low, middle)
    q = settled_variance(activation, low, sigma_b2, leaky)
    if not abs(low * mean_slope(activation, q, leaky) - 1) < 1e-3:
        raise ExperimentError(f"{activation} has no critical point with sigma_b^2 = {sigma_b2:g}: chi_1 leaps over 1")
    return low


def _change(activation: Activation, q: float, sigma_w2: float, sigma_b2: float, leaky: float) -> float:
    return sigma_w2 * mean_square(activation, q, leaky) + sigma_b2 - q


def _pair(activation: Activation, q: float, c: float, leaky: float, slopes: bool = False) -> float:
    """E[phi(u) phi(u')], or of the slopes."""
    of = slope if slopes else value
    first = of(activation, math.sqrt(q) * _Z, leaky)
    second = of(activation, math.sqrt(q) * (c * _Z[:, None] + math.sqrt(1 - c * c) * _Z), leaky)
    return float((_P * first) @ second @ _P)


def _check(activation: str, sigma_w2: float, sigma_b2: float) -> None:
    check(activation)
    for name, found, least in (("sigma_w2", sigma_w2, "above 0"), ("sigma_b2", sigma_b2, "of 0 or more")):
        if not (0 <= found < math.inf) or (found == 0 and name == "sigma_w2"):
            raise ExperimentError(f"{name} is {found}: give a variance {least}")
