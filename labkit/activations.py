"""The activations and their derivatives in numpy: what torch computes, known apart from it.

`leaky` is the slope of leaky_relu below 0; the others take no notice of it.
"""

import math
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.experiments import Activation, ExperimentError

Floats = NDArray[np.float64]

LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default
HOMOGENEOUS = ("relu", "leaky_relu", "linear")  # their slope times their input is their value


def check(activation: str) -> None:
    """An unknown name raises `ExperimentError` with the list of those there are."""
    if activation not in get_args(Activation):
        raise ExperimentError(f"activation is {activation!r}: choose from {', '.join(get_args(Activation))}")


def value(activation: str, z: ArrayLike, leaky: float = LEAKY_SLOPE) -> Floats:
    """The activation at z, any shape. elu is Clevert et al. 2016 with alpha 1; gelu is exact, z Phi(z), not its tanh
    approximation (Hendrycks & Gimpel 2016); silu is z times the logistic function (Elfwing et al. 2018)."""
    check(activation)
    x = np.asarray(z, dtype=np.float64)
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "sigmoid":
        return _logistic(x)
    if activation == "tanh":
        return np.tanh(x)
    if activation == "leaky_relu":
        return np.where(x > 0, x, leaky * x)
    if activation == "elu":
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    if activation == "gelu":
        return x * _normal(x)
    return x * _logistic(x) if activation == "silu" else x


def slope(activation: str, z: ArrayLike, leaky: float = LEAKY_SLOPE) -> Floats:
    """The activation's derivative at z, any shape; at the kinks of relu and leaky_relu the one from below, as torch
    has it."""
    check(activation)
    x = np.asarray(z, dtype=np.float64)
    if activation == "sigmoid":
        return _logistic(x) * (1 - _logistic(x))
    if activation == "tanh":
        return 1 - np.tanh(x) ** 2
    if activation == "elu":
        return np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))
    if activation == "gelu":
        return _normal(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    if activation == "silu":
        return _logistic(x) * (1 + x * (1 - _logistic(x)))
    return np.where(x > 0, 1.0, {"relu": 0.0, "leaky_relu": leaky, "linear": 1.0}[activation])


def _logistic(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # far below 0 it is 0
        found: Floats = 1 / (1 + np.exp(-x))
    return found


def _normal(x: Floats) -> Floats:
    """The normal distribution function; numpy has none, and erfc keeps its digits far below 0."""
    found = np.fromiter(map(math.erfc, (x / -math.sqrt(2)).ravel().tolist()), np.float64, x.size)
    return found.reshape(x.shape) / 2
