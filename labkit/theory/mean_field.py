"""The gain per layer of wide random networks, and the scale of the weights that makes it what is wanted.

Below, q is the variance of the pre-activations, sigma_w^2 = width * variance of one weight, biases are 0, and E is the
expectation over a standard normal z. One layer turns q into sigma_w^2 E[phi(sqrt(q) z)^2] (Poole et al. 2016, eq. 3).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labkit.activations import HOMOGENEOUS, LEAKY_SLOPE, check, slope, value
from labkit.experiments import Activation, ExperimentError, Initialisation
from labkit.initialisations import variance

Floats = NDArray[np.float64]

LEAST, MOST = 1e-12, 1e12  # of q: what is smaller counts as 0, what is larger as this
_HALVINGS = 60


def _nodes() -> tuple[Floats, Floats]:
    """Points z and weights of E: Gauss-Legendre on panels that halve towards 0, up to |z| = 10.

    No point lies on a kink, all of which are at 0, and at any q some panels are as fine as the activation's bend there.
    """
    points, weights = np.polynomial.legendre.leggauss(16)
    edges = np.array([0.0, *(10 * 0.5 ** np.arange(24)[::-1])])
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half * (1 + points)).ravel()
    p = (half * weights).ravel() * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.concatenate([-z[::-1], z]), np.concatenate([p[::-1], p]) / (2 * p.sum())


_Z, _P = _nodes()


def mean_square(activation: str, q: float, leaky: float = LEAKY_SLOPE) -> float:
    """E[phi(sqrt(q) z)^2]."""
    return float(_P @ value(activation, math.sqrt(q) * _Z, leaky) ** 2)


def mean_value(activation: str, q: float, leaky: float = LEAKY_SLOPE) -> float:
    """E[phi(sqrt(q) z)]."""
    return float(_P @ value(activation, math.sqrt(q) * _Z, leaky))


def mean_slope(activation: str, q: float, leaky: float = LEAKY_SLOPE, power: int = 2) -> float:
    """E[phi'(sqrt(q) z)^power]; exact for activations that are straight on both sides of 0."""
    if activation in HOMOGENEOUS:
        below, above = slope(activation, [-1.0, 1.0], leaky)
        return float(below**power + above**power) / 2
    return float(_P @ slope(activation, math.sqrt(q) * _Z, leaky) ** power)


def weight_variance(initialisation: Initialisation, width: int, gain: float = 1.0) -> float:
    """sigma_w^2 = width * variance of one weight, for a layer of `width` inputs and outputs."""
    return width * variance(initialisation, width, width) * gain**2


def fixed_point(activation: Activation, sigma_w2: float, leaky: float = LEAKY_SLOPE) -> float:
    """q*: the variance of the pre-activations deep in a wide network whose first layer has a variance of 1.

    One layer's map grows with q, so that layer after layer q moves one way, to the first point that the map leaves
    where it is; 0 where there is none below, and 1e12 where there is none above.
    """
    check(activation)
    here = _growth(activation, 1.0, sigma_w2, leaky)
    if activation in HOMOGENEOUS:  # the growth is the same at every q
        return 1.0 if abs(here) < 1e-12 else MOST if here > 0 else 0.0
    if here == 0:
        return 1.0
    grid, ratio, _ = _table(activation, leaky)
    growth, way = np.log(sigma_w2 * ratio), math.copysign(1, here)
    ahead = np.flatnonzero((way * growth <= 0) & (way * np.log(grid) > 0))
    if not len(ahead):
        return MOST if way > 0 else 0.0
    stop = int(ahead[0] if way > 0 else ahead[-1])
    near, far = float(grid[stop - int(way)]), float(grid[stop])
    for _ in range(_HALVINGS):
        middle = math.sqrt(near * far)
        near, far = (middle, far) if way * _growth(activation, middle, sigma_w2, leaky) > 0 else (near, middle)
    return math.sqrt(near * far)


def _growth(activation: str, q: float, sigma_w2: float, leaky: float) -> float:
    """ln of the factor by which one layer multiplies q."""
    return math.log(sigma_w2 * mean_square(activation, q, leaky) / q)


@lru_cache(maxsize=32)
def _table(activation: Activation, leaky: float) -> tuple[Floats, Floats, Floats]:
    """(n,) each: values of q, E[phi^2] / q, and chi where q is the fixed point, so that sigma_w^2 = q / E[phi^2]."""
    q = np.logspace(math.log10(LEAST), math.log10(MOST), 24 * 16 + 1)
    ratio = np.array([mean_square(activation, at, leaky) / at for at in q])
    return q, ratio, np.array([mean_slope(activation, at, leaky) for at in q]) / ratio


def gain(
    activation: Activation,
    initialisation: Initialisation,
    width: int,
    scale: float = 1.0,
    leaky: float = LEAKY_SLOPE,
) -> float:
    """chi: the factor by which the mean squared back-propagated gradient dloss/dz changes from a layer to the one
    before it; the gradient of the biases shows it, that of the weights need not (see `weight_gain`).

    chi = sigma_w^2 E[phi'(sqrt(q*) z)^2] (Schoenholz et al. 2017, eq. 5), for wide networks at the start. Below 1
    gradients vanish towards the input, above 1 they explode. For relu, leaky_relu and linear the expectation is
    exact (1/2, (1 + slope^2)/2, 1). `scale` multiplies the initial weights.
    """
    return _gain(activation, weight_variance(initialisation, width, scale), leaky)


def _gain(activation: Activation, sigma_w2: float, leaky: float) -> float:
    q = 1.0 if activation in HOMOGENEOUS else fixed_point(activation, sigma_w2, leaky)
    return sigma_w2 * mean_slope(activation, q, leaky)


def weight_gain(
    activation: Activation,
    initialisation: Initialisation,
    width: int,
    scale: float = 1.0,
    leaky: float = LEAKY_SLOPE,
) -> float:
    """The same for the mean squared gradient of the weights, dloss/dW = dloss/dz h^T, deep in the network.

    It is chi where the size of the activations h has settled. Where h itself grows or shrinks from layer to layer,
    that makes up for it: with relu, leaky_relu and linear it is 1 for any scale, so that all layers' weights have
    gradients of one size, however small or large that is (Glorot & Bengio 2010, eq. 14).
    """
    sigma_w2 = weight_variance(initialisation, width, scale)
    q = 1.0 if activation in HOMOGENEOUS else fixed_point(activation, sigma_w2, leaky)
    if activation in HOMOGENEOUS or q in (0.0, MOST):
        return 1.0  # next to 0, and far from it, every activation is straight
    return sigma_w2 * mean_slope(activation, q, leaky)


def scale_for(
    activation: Activation,
    initialisation: Initialisation,
    width: int,
    k: float,
    leaky: float = LEAKY_SLOPE,
) -> float:
    """The number by which the initial weights are multiplied so that `gain` is k: the dial.

    For relu, leaky_relu and linear chi goes with its square, exactly. The others are solved: sigma_w^2 and chi are
    both known functions of q*, which is 0, very large, or between, where the smallest scale is taken. sigmoid, tanh
    and elu reach every k. What goes through gelu or silu dies out or grows without bound, nothing between, so that
    no scale of theirs has a gain near 1 (gelu: 0.59 to 1.18; silu: 0.70 to 1.41): that raises `ExperimentError`.
    """
    check(activation)
    if not (0 < k < math.inf):
        raise ExperimentError(f"the gain is {k}: choose a number above 0")
    base = weight_variance(initialisation, width)
    if activation in HOMOGENEOUS:
        return math.sqrt(k / (base * mean_slope(activation, 1.0, leaky)))
    for sigma_w2 in sorted(_candidates(activation, k, leaky)):
        if abs(_gain(activation, sigma_w2, leaky) - k) < 1e-6 * k:
            return math.sqrt(sigma_w2 / base)
    raise ExperimentError(_out_of_reach(activation, k, leaky))


def _candidates(activation: Activation, k: float, leaky: float) -> list[float]:
    """Values of sigma_w^2 that make chi = k where q* is what they are derived for."""
    ends = [mean_slope(activation, q, leaky) for q in (0.0, MOST)]
    found = [k / end for end in ends if end > 0]
    q, _, chi = _table(activation, leaky)
    for at in np.flatnonzero((chi[:-1] < k) != (chi[1:] < k)):
        low, high, rising = q[at], q[at + 1], chi[at] < k
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            of_middle = mean_slope(activation, middle, leaky) * middle / mean_square(activation, middle, leaky)
            low, high = (middle, high) if (of_middle < k) == rising else (low, middle)
        found.append(low / mean_square(activation, low, leaky))
    return found


def _out_of_reach(activation: Activation, k: float, leaky: float) -> str:
    low, high = 1e-6, 1e6
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _gain(activation, middle, leaky) < k else (low, middle)
    below, above = _gain(activation, low * (1 - 1e-6), leaky), _gain(activation, high * (1 + 1e-6), leaky)
    return (
        f"no scale of the weights gives {activation} a gain of {k:g}, it leaps from {below:.3g} to {above:.3g}: "
        f"choose a gain outside these, or relu or tanh, which have every one"
    )


def depth_scale(chi: float) -> float:
    """Layers over which the mean squared gradient changes by a factor e: 1/|ln chi|; infinite at chi = 1."""
    return math.inf if chi == 1 else 1 / abs(math.log(chi))


def size_ratio(chi: float, layers: int) -> float:
    """The expected last/first ratio of root-mean-square gradients that lie `layers` layers apart."""
    return float(chi ** (-layers / 2))
