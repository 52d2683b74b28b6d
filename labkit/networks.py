"""Networks whose layers are named as the plots name them: fc_1, relu_1, fc_2, ..."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import get_args

import torch
from torch import nn

from labkit import initialisations
from labkit.experiments import Activation, Experiment, ExperimentError, Initialisation

_MODULES: dict[str, type[nn.Module] | None] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "linear": nn.Identity,
}
LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default


def activation_module(activation: Activation) -> nn.Module:
    """The module of that name; an unknown name lists the choices."""
    module = _MODULES.get(activation)
    if module is None:
        raise ExperimentError(f"activation is {activation!r}: choose from {', '.join(get_args(Activation))}")
    return module()


def mlp(
    widths: Sequence[int] = (784, 10, 10, 10, 10),
    activation: Activation = "relu",
    initialisation: Initialisation = "glorot_uniform",
    gain: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Fully connected layers fc_1 ... fc_n with the activation between them; its output are the logits.

    Takes images (batch, 1, 28, 28) or rows (batch, widths[0]). The weights come from `seed` alone: torch's own
    random state is neither read nor moved.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    start = initialisations.draw(widths, initialisation, gain, seed)
    for index, (weights, biases) in enumerate(start, start=1):
        layers[f"fc_{index}"] = _linear(torch.from_numpy(weights).to(dtype), torch.from_numpy(biases).to(dtype))
        if index < len(start):
            layers[f"{activation}_{index}"] = activation_module(activation)
    return nn.Sequential(layers)


def of_experiment(experiment: Experiment) -> nn.Sequential:
    """The experiment's network at its start."""
    e = experiment
    return mlp(e.widths, e.activation, e.initialisation, e.gain, e.seed, getattr(torch, e.dtype))


def _linear(weights: torch.Tensor, biases: torch.Tensor) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, weights.shape[1], weights.shape[0], dtype=weights.dtype)
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(biases)
    return layer
