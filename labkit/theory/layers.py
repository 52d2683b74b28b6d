"""The mean field layer by layer: the size of dloss/dz in every layer of a wide network, skip connections included.

`mean_field` says what holds deep in a network, where the variance q of the pre-activations has settled. Here q starts
with the data and goes its way, so that the line also holds where q is still on it, or never settles. Var w is the
variance of one weight, n the inputs of a layer, phi_l = phi(sqrt(q_l) z) with a standard normal z:

    v_l = n_l Var w_l p_{l-1} + Var b_l             q_l = v_l; 1 behind a layer normalisation
    p_l = E[phi_l^2]                                Poole et al. 2016, eq. 3; with a skip connection
    p_l = E[phi_l^2] + 2 E[phi_l] m_{l-1} + p_{l-1}, m_l = E[phi_l] + m_{l-1}: Yang & Schoenholz 2017

    D_l = g_l E[phi_l'^2], over v_l behind a layer normalisation, whose derivative is 1 / sqrt(v_l) in a wide layer
    g_{l-1} = n_out,l Var w_l D_l, and + g_l with a skip connection     Schoenholz et al. 2017, eq. 5

p is the mean square of what a layer passes on, m its mean, D the mean square of dloss/dz, g that of dloss/dh. Behind a
batch normalisation an image's gradient depends on the others of its batch: there is no such line for it here (Yang et
al. 2019 derive one; gradients explode in deep plain networks that have it).
"""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labkit.activations import HOMOGENEOUS
from labkit.experiments import Activation, Experiment, ExperimentError
from labkit.initialisations import variance
from labkit.theory.bands import factors
from labkit.theory.mean_field import LEAST, MOST, mean_slope, mean_square, mean_value

Floats = NDArray[np.float64]


def applies(e: Experiment) -> bool:
    """Are these fully connected layers without a batch normalisation?"""
    return e.architecture == "mlp" and e.normalisation != "batch"


def layer_sizes(e: Experiment, entering: float, last: float) -> Floats:
    """(L,) root mean square of dloss/dz in each layer, where `entering` is the mean square of the network's inputs and
    `last` the root mean square of dloss/dz in the last layer."""
    if not applies(e):
        raise ExperimentError(f"{e.name} has no mean field here: take fully connected layers without batch norm")
    variances = _forward(e, entering)
    weights = [variance(e.initialisation, n, m) * e.gain**2 for n, m in pairwise(e.widths)]
    squares = [last**2]
    behind = e.widths[-1] * weights[-1] * squares[0]  # g of the last hidden layer
    for k in range(len(weights) - 1, 0, -1):
        v = variances[k - 1]
        q = 1.0 if e.normalisation == "layer" else v
        square = behind * _slope(e.activation, q, e.slope) / (v if e.normalisation == "layer" else 1.0)
        behind = e.widths[k] * weights[k - 1] * square + (behind if _skips(e, k) else 0.0)
        squares.append(square)
    return np.sqrt(squares[::-1])


def layer_bands(e: Experiment, entering: float) -> Floats:
    """(L, 2) factors on `layer_sizes` between which 95 % of the seeds of a plain network lie, one image (see `bands`).

    The last layer, from which the line starts, has none: 1 and 1.
    """
    if not e.plain:
        raise ExperimentError(f"{e.name} is no plain network: the law of finite width is known for these alone")
    rows, beta = [(1.0, 1.0)], 0.0
    for q, width in zip(_forward(e, entering)[::-1], e.widths[-2:0:-1], strict=True):
        beta += (3 * _slope(e.activation, q, e.slope, 4) / _slope(e.activation, q, e.slope) ** 2 - 1) / width
        rows.append(factors(beta))
    return np.array(rows[::-1])


def _forward(e: Experiment, entering: float) -> list[float]:
    """v of each hidden layer."""
    p, m, found = entering, 0.0, []
    for k, (inputs, outputs) in enumerate(pairwise(e.widths[:-1]), start=1):
        v = inputs * variance(e.initialisation, inputs, outputs) * e.gain**2 * p
        v += 1 / (3 * inputs) if e.initialisation == "pytorch" and e.normalisation != "batch" else 0.0
        v = min(max(v, LEAST), MOST)
        square, mean = _value(e.activation, 1.0 if e.normalisation == "layer" else v, e.slope)
        skips = _skips(e, k)
        p, m = square + (2 * mean * m + p if skips else 0.0), mean + (m if skips else 0.0)
        found.append(v)
    return found


def _skips(e: Experiment, k: int) -> bool:
    """Does layer k add what enters it to what it passes on?"""
    return e.residual and e.widths[k - 1] == e.widths[k]


@lru_cache(maxsize=4096)
def _slope(activation: Activation, q: float, leaky: float, power: int = 2) -> float:
    return mean_slope(activation, q, leaky, power)


@lru_cache(maxsize=4096)
def _value(activation: Activation, q: float, leaky: float) -> tuple[float, float]:
    """E[phi^2] and E[phi]."""
    if activation in HOMOGENEOUS:  # exact, and at any scale
        square, mean = _value_at_one(activation, leaky)
        return q * square, math.sqrt(q) * mean
    return mean_square(activation, q, leaky), mean_value(activation, q, leaky)


@lru_cache(maxsize=64)
def _value_at_one(activation: Activation, leaky: float) -> tuple[float, float]:
    return mean_square(activation, 1.0, leaky), mean_value(activation, 1.0, leaky)
