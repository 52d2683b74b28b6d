"""Mean cross-entropy, of many classes and of two told apart by one output."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def logits_of_classes(outputs: Tensor, dim: int = -1) -> Tensor:
    """Outputs with one logit for each class along `dim`; a single output z is that of 0 and z.

    sigmoid(z) is the second value of softmax(0, z), so binary cross-entropy is the cross-entropy of these two.
    """
    return outputs if outputs.shape[dim] > 1 else torch.cat([torch.zeros_like(outputs), outputs], dim)


def mean_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of a network's outputs (batch, classes) or (batch, 1), labels (batch,) from 0."""
    return cross_entropy(logits_of_classes(outputs), labels)
