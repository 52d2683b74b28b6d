"""What networks are put together from: activations, normalisations, and parameters from numpy."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn

from labkit import activations
from labkit.activations import LEAKY_SLOPE
from labkit.experiments import Activation, Normalisation
from labkit.initialisations import Floats

_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,  # by erf, exactly
    "silu": nn.SiLU,
    "linear": nn.Identity,
}
Network = TypeVar("Network", bound=nn.Module)


def activation_module(activation: Activation, leaky: float = LEAKY_SLOPE) -> nn.Module:
    """The module of that name, with the slope of leaky_relu below 0; an unknown name lists the choices."""
    activations.check(activation)
    return nn.LeakyReLU(leaky) if activation == "leaky_relu" else _MODULES[activation]()


def normalisation_module(normalisation: Normalisation, channels: int, image: bool = False) -> nn.Module | None:
    """Of rows (batch, channels), or of images (batch, channels, height, width), of which layer normalisation takes all
    values of one together. Epsilon is torch's 1e-5, where Keras has 1e-3.

    Batch normalisation keeps no running statistics: it takes those of the batch at hand also in evaluation, so that a
    network is a function of its parameters and the batch, and a replay from a checkpoint is exact.
    """
    if normalisation == "batch":
        return (nn.BatchNorm2d if image else nn.BatchNorm1d)(channels, track_running_stats=False)
    if normalisation == "layer":
        return nn.GroupNorm(1, channels) if image else nn.LayerNorm(channels)
    return None


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Leave the parameters as they are: torch would draw them from its own random state."""


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A layer whose parameters hold nothing yet. `torch.nn.utils.skip_init` gives the same, and takes seconds in a
    process that has not made one before."""
    layer: nn.Linear = _Linear(inputs, outputs, bias)
    layer.__class__ = nn.Linear
    return layer


def fill(network: Network, parameters: Mapping[str, Floats], dtype: torch.dtype) -> Network:
    """The network itself, with these values in that dtype; names and shapes must be all of its own."""
    network.to(dtype).load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()})
    return network
