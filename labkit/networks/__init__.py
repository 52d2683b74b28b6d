"""The networks of the experiments, whose layers are named as the plots name them: fc_1, relu_1, fc_2, ...

Each is filled from `labkit.initialisations`, so that torch's own random state is neither read nor moved, and each is a
function of its parameters and the mini-batch alone: nothing else is kept from one forward pass for the next.
"""

import torch
from torch import nn

from labkit import initialisations
from labkit.activations import LEAKY_SLOPE
from labkit.experiments import RECURRENT, Experiment
from labkit.networks.convolutional import residual_conv
from labkit.networks.parts import activation_module, fill
from labkit.networks.perceptrons import mlp, perceptron
from labkit.networks.recurrent import GRU, LSTM, RNN, Recurrent, recurrent

__all__ = [
    "GRU",
    "LEAKY_SLOPE",
    "LSTM",
    "RNN",
    "Recurrent",
    "activation_module",
    "mlp",
    "of_experiment",
]


def of_experiment(experiment: Experiment) -> nn.Module:
    """The experiment's network at its start."""
    e, network = experiment, _empty(experiment)
    return fill(network, initialisations.named(e), getattr(torch, e.dtype))


def _empty(e: Experiment) -> nn.Module:
    if e.architecture in RECURRENT:
        return recurrent(e.architecture, e.widths, e.activation, e.slope, e.normalisation)
    if e.architecture == "residual_conv":
        return residual_conv(e.widths, e.activation, e.slope, e.normalisation)
    return perceptron(e.widths, e.activation, e.slope, e.normalisation, e.residual)
