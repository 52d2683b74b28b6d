"""Fully connected layers, with or without normalisation and connections that skip a layer."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from labkit import initialisations
from labkit.activations import LEAKY_SLOPE
from labkit.experiments import Activation, Initialisation, Normalisation
from labkit.networks.parts import activation_module, fill, linear, normalisation_module


class ResidualMLP(nn.Sequential):
    """Hidden layers whose input and output widths are equal add their input to the output of their activation."""

    def forward(self, input: Tensor) -> Tensor:
        flatten, *_ = self.children()
        *hidden, (last, _) = self._layers()
        x: Tensor = flatten(input)
        for layer, behind in hidden:
            entered, x = x, layer(x)
            for module in behind:
                x = module(x)
            if layer.in_features == layer.out_features:
                x = x + entered
        logits: Tensor = last(x)
        return logits

    def _layers(self) -> list[tuple[nn.Linear, list[nn.Module]]]:
        """Each fully connected layer with the modules behind it."""
        found: list[tuple[nn.Linear, list[nn.Module]]] = []
        for module in list(self.children())[1:]:
            if isinstance(module, nn.Linear):
                found.append((module, []))
            else:
                found[-1][1].append(module)
        return found


def perceptron(
    widths: Sequence[int],
    activation: Activation = "relu",
    leaky: float = LEAKY_SLOPE,
    normalisation: Normalisation = "none",
    residual: bool = False,
) -> nn.Sequential:
    """flatten, then fc_1, norm_1, relu_1, fc_2 ...: the normalisation stands between a layer and its activation, and
    is left out with "none". Parameters hold nothing yet.

    A layer in front of a batch normalisation has no biases: whatever they were, the normalisation would take them away,
    so that their gradient is rounding, which Adam would make full steps of.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        last = index == len(widths) - 1
        layers[f"fc_{index}"] = linear(inputs, outputs, bias=last or normalisation != "batch")
        if last:
            break
        if norm := normalisation_module(normalisation, outputs):
            layers[f"norm_{index}"] = norm
        layers[f"{activation}_{index}"] = activation_module(activation, leaky)
    return ResidualMLP(layers) if residual else nn.Sequential(layers)


def mlp(
    widths: Sequence[int] = (784, 10, 10, 10, 10),
    activation: Activation = "relu",
    initialisation: Initialisation = "glorot_uniform",
    gain: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    leaky: float = LEAKY_SLOPE,
) -> nn.Sequential:
    """Fully connected layers fc_1 ... fc_n with the activation between them; its output are the logits.

    Takes images (batch, 1, 28, 28) or rows (batch, widths[0]). The weights come from `seed` alone: torch's own
    random state is neither read nor moved. `leaky` is the slope of leaky_relu below 0.
    """
    parameters: dict[str, initialisations.Floats] = {}
    for index, (weights, biases) in enumerate(initialisations.draw(widths, initialisation, gain, seed), start=1):
        parameters |= {f"fc_{index}.weight": weights, f"fc_{index}.bias": biases}
    return fill(perceptron(widths, activation, leaky), parameters, dtype)
