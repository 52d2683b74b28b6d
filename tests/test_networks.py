"""Do networks start as their initialisation says, from the seed alone?"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from labkit import initialisations, networks
from labkit.experiments import ExperimentError


def test_layers_have_the_names_of_the_plots() -> None:
    network = networks.mlp(activation="sigmoid")
    names = [name for name, _ in network.named_children()]
    assert names == ["flatten", "fc_1", "sigmoid_1", "fc_2", "sigmoid_2", "fc_3", "sigmoid_3", "fc_4"]
    assert [tuple(p.shape) for p in network.parameters() if p.ndim == 2] == [(10, 784), (10, 10), (10, 10), (10, 10)]


def test_glorot_uniform_fills_its_range_and_biases_are_zero() -> None:
    for weights, biases in initialisations.draw((784, 300, 200, 10), seed=4):
        bound = math.sqrt(6 / sum(weights.shape))
        assert 0.99 * bound < np.abs(weights).max() <= bound
        assert not biases.any()


# torch's own initialisations are the other origin of each variance
TORCHS = {
    "glorot_uniform": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "he_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "lecun_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
    "pytorch": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
}


@pytest.mark.parametrize("name", TORCHS)
def test_variances_are_torchs(name: str) -> None:
    torch.manual_seed(0)
    theirs = float(TORCHS[name](torch.empty(500, 900, dtype=torch.float64)).var())
    (ours, biases), *_ = initialisations.draw((900, 500), name, seed=1)
    # 450,000 draws: the sample variance is within 1 % by more than four of its standard errors
    assert ours.var() == pytest.approx(theirs, rel=0.02)
    assert initialisations.variance(name, 900, 500) == pytest.approx(theirs, rel=0.01)
    assert biases.any() == (name == "pytorch")


def test_the_seed_decides_and_torchs_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = networks.mlp(seed=1), networks.mlp(seed=1), networks.mlp(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.fc_1.weight, b.fc_1.weight)
    assert not torch.equal(a.fc_1.weight, c.fc_1.weight)


def test_gain_multiplies_the_weights() -> None:
    (plain, _), *_ = initialisations.draw((784, 10), seed=1)
    (loud, _), *_ = initialisations.draw((784, 10), gain=3.0, seed=1)
    np.testing.assert_allclose(loud, 3 * plain)


@pytest.mark.parametrize("call", [lambda: networks.mlp(activation="swish"), lambda: networks.mlp(initialisation="x")])
def test_unknown_names_list_the_choices(call) -> None:
    with pytest.raises(ExperimentError, match="choose from"):
        call()


def test_forward_is_the_product_of_the_layers() -> None:
    network = networks.mlp((784, 5, 10), "tanh", seed=3, dtype=torch.float64)
    images = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    x = images.numpy().reshape(4, 784)
    (w1, b1), (w2, b2) = initialisations.draw((784, 5, 10), seed=3)
    np.testing.assert_allclose(network(images).detach().numpy(), np.tanh(x @ w1.T + b1) @ w2.T + b2, rtol=1e-12)
