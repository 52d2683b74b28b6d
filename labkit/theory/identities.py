"""Identities need no second run to check a recording against: they hold at every iteration, for every seed, on every
machine, up to rounding. Residuals are relative, so that they mean the same for a gradient of 1e-2 and of 1e-9.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.activations import HOMOGENEOUS
from labkit.experiments import Experiment
from labkit.recording import Recording, RecordingError

Floats = NDArray[np.float64]


def softmax_residual(recording: Recording) -> Floats:
    """(I,) |sum| / sum |.| of the last layer's weight gradient: 0 up to rounding for every softmax loss.

    A loss that sees the logits only through softmax does not change when a constant is added to them all, so each
    column of dloss/dW of the last layer sums to 0 over the classes, and with them its signed mean.
    """
    mean, size = recording.statistic("mean")[:, -1], recording.statistic("abs_mean")[:, -1]
    residual: Floats = np.abs(mean.astype(np.float64)) / np.maximum(size, np.finfo(np.float64).tiny)
    return residual


def class_sums(gradient: ArrayLike) -> Floats:
    """(inputs,) the same of a gradient (classes, inputs) itself: each column's sum over the classes."""
    sums: Floats = np.asarray(gradient, dtype=np.float64).sum(axis=0)
    return sums


def is_homogeneous(experiment: Experiment) -> bool:
    """Are these plain layers whose activation is its slope times its input, so that the residual below is 0?"""
    plain = experiment.architecture == "mlp" and experiment.normalisation == "none" and not experiment.residual
    return plain and experiment.activation in HOMOGENEOUS


def homogeneity_residual(recording: Recording, least: float = 0.0) -> Floats:
    """(I, L-1) relative residual of <W_{l+1}, G_{l+1}> = <W_l, G_l> + <b_l, g_l>, exact where `is_homogeneous`.

    Such an activation is its slope times its input, so the derivative of the loss along a layer's output is the
    same whether the layer's own parameters or the next layer's weights are scaled. Relative to ||W|| ||G||, where a
    ||G|| below `least` is taken for that: the squares of very small gradients are 0, and so is what is recorded for it.
    """
    weights, biases = recording.weight_dot_gradient, recording.bias_dot_gradient
    difference = weights[:, 1:] - weights[:, :-1] - biases[:, :-1]
    size = recording.weight_norm.astype(np.float64) * np.maximum(recording.statistic("norm"), least)
    larger = np.maximum(np.maximum(size[:, 1:], size[:, :-1]), np.finfo(np.float64).tiny)
    residual: Floats = np.abs(difference) / larger
    return residual


def adam_first_step(gradient: ArrayLike, learning_rate: float = 1e-3, epsilon: float = 1e-8) -> Floats:
    """The change that Adam's first step makes: -lr g / (|g| + epsilon), any shape (Kingma & Ba 2015, Alg. 1).

    So a gradient of 1 and one of 1e-6 make nearly the same step: Adam hides vanishing gradients.
    """
    g = np.asarray(gradient, dtype=np.float64)
    return -learning_rate * g / (np.abs(g) + epsilon)


def first_step_residual(recording: Recording) -> float:
    """Largest |change - Adam's first step| / learning rate over all parameters, from the first two checkpoints."""
    experiment, taken = recording.origin.experiment, recording.checkpoint_iteration.tolist()
    if experiment is None or experiment.optimizer != "adam" or taken[:2] != [0, 1]:
        raise RecordingError("Adam's first step needs a recording by Adam with checkpoints before and after it")
    change = recording.checkpoint_parameters[1].astype(np.float64) - recording.checkpoint_parameters[0]
    mean = recording.checkpoint_moments[1, recording.origin.moments.index("exp_avg")].astype(np.float64)
    expected = adam_first_step(mean / (1 - 0.9), experiment.learning_rate, experiment.epsilon)
    return float(np.max(np.abs(change - expected)) / experiment.learning_rate)


def network_identities(network: Any) -> dict[str, Floats]:
    """The same for a torch network as it stands after `loss.backward()`: what should be 0 up to rounding, by name.

    `softmax` (inputs,) are the sums of the last layer's weight gradient over the classes, relative to its largest
    gradient; a network of one output has no softmax and no such sums. `homogeneity` (L-1,) is <W_{l+1}, G_{l+1}> -
    <W_l, G_l> - <b_l, g_l> relative to ||W|| ||G||; it is 0 for fully connected layers with nothing but relu,
    leaky_relu or linear between them, and not for others. For Adam's first step pass a gradient to `adam_first_step`.
    """
    grads = {name: p.grad for name, p in network.named_parameters()}
    if missing := [name for name, grad in grads.items() if grad is None]:
        raise RecordingError(f"{missing[0]} has no gradient: call loss.backward() first")
    values = {name: p.detach().cpu().double().numpy() for name, p in network.named_parameters()}
    slopes = {name: grad.detach().cpu().double().numpy() for name, grad in grads.items()}
    layers = [name.removesuffix("weight") for name, value in values.items() if value.ndim > 1]
    dots = {name: float((values[name] * slopes[name]).sum()) for name in values}
    sizes = [np.linalg.norm(values[f"{at}weight"]) * np.linalg.norm(slopes[f"{at}weight"]) for at in layers]
    off = [
        abs(dots[f"{later}weight"] - dots[f"{at}weight"] - dots.get(f"{at}bias", 0.0)) for at, later in pairwise(layers)
    ]
    last = slopes[f"{layers[-1]}weight"]
    tiny = np.finfo(np.float64).tiny
    return {
        "softmax": np.abs(class_sums(last)) / max(float(np.abs(last).max()), tiny),
        "homogeneity": np.array([o / max(*pair, tiny) for o, pair in zip(off, pairwise(sizes), strict=True)]),
    }


def identities(recording: Recording) -> dict[str, Any]:
    """The residuals of every identity that applies to this recording, by name; each is 0 up to rounding."""
    experiment = recording.origin.experiment
    found: dict[str, Any] = {}
    if experiment is None or experiment.widths[-1] > 1:  # one output unit goes through a sigmoid, not a softmax
        found["softmax"] = softmax_residual(recording)
    if experiment is not None and is_homogeneous(experiment):
        found["homogeneity"] = homogeneity_residual(recording)
    if experiment is not None and experiment.optimizer == "adam":
        found["adam_first_step"] = first_step_residual(recording)
    return found
