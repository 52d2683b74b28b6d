"""Are students' numbers held against expected ones by a measure that neither forgives all nor refuses rounding?"""

from typing import Any

import numpy as np
import pytest
import torch

from autograder.answers import Network, Tensor
from autograder.checks import Failed
from autograder.questions.shared import alike, close, near
from autograder.questions.vanishing_gradients import loss_gradients, loss_value
from labkit import networks


@pytest.mark.parametrize("found", [5.0, -np.inf, np.nan])
def test_nothing_is_within_a_share_of_infinity(found: float) -> None:
    with pytest.raises(Failed):
        near(found, np.inf, "x")
    with pytest.raises(Failed):
        alike([1.0, found], [1.0, np.inf], "x", "")
    with pytest.raises(Failed):
        close([found, 1.0], [np.inf, 1.0], "x", 1e-4)
    with pytest.raises(Failed):
        close([np.inf, 7.0], [np.inf, 1.0], "x", 1e-4)


def test_infinity_is_infinity() -> None:
    near(np.inf, np.inf, "x")
    alike([1.0, np.inf], [1.0, np.inf], "x", "")
    close([np.inf, 1.0], [np.inf, 1.0], "x", 1e-4)
    close(3.0, 3.0001, "x", 1e-4)


def test_what_is_left_of_larger_values_is_rounded_as_they_are() -> None:
    want = np.array([9.22008e-06, 0.0])
    found = want * (1 - 1.9e-4)
    with pytest.raises(Failed):
        close(found, want, "x", 1e-4)
    close(found, want, "x", 1e-4, least=1e-4)
    with pytest.raises(Failed):
        close(want * 1.1, want, "x", 1e-4, least=1e-4)


def test_a_network_with_hardly_any_unit_left_is_no_mistake() -> None:
    """The drawn case of this seed has one hidden value, 8e-5 of terms of 0.1: float32 has it to a thousandth."""
    honest, mistaken = Answering(4011443400), Answering(4011443400, mistake=1.001)
    for evidence in (honest, mistaken):
        loss_value.examine(evidence)
    loss_gradients.examine(honest)
    assert honest.least < 1e-5
    with pytest.raises(Failed, match="the gradient of"):
        loss_gradients.examine(mistaken)


class Answering:
    """Evidence of a student whose model_loss is right, in float32, or off by a factor."""

    def __init__(self, seed: int, mistake: float = 1.0) -> None:
        self.random, self.mistake, self.least = np.random.RandomState(seed), mistake, np.inf

    def call(self, name: str, described: Network, images: Tensor, labels: Tensor) -> tuple[float, dict[str, Any]]:
        assert name == "model_loss"
        network = networks.mlp(described.widths, described.activation, seed=described.seed)
        output = network(torch.from_numpy(images.values))
        loss = torch.nn.functional.cross_entropy(output, torch.from_numpy(labels.values))
        loss.backward()
        gradients = {name: p.grad.numpy() * self.mistake for name, p in network.named_parameters()}
        self.least = min(self.least, *(float(np.abs(values).max()) for values in gradients.values()))
        return loss.item(), gradients
