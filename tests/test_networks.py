"""Do networks start as their initialisation says, from the seed alone?"""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from labkit import initialisations, networks, theory
from labkit.experiments import Activation, Experiment, ExperimentError


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


EQUAL = Experiment(widths=(784, 12, 12, 9, 9, 10), dtype="float64", seed=3)


def batch(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.random.RandomState(0).uniform(size=(n, 1, 28, 28))), torch.arange(n) % 10


@pytest.mark.parametrize("activation", get_args(Activation))
def test_an_experiments_network_is_the_layers_in_numpy(activation: Activation) -> None:
    e, (images, _) = EQUAL.replace(activation=activation, slope=0.2), batch()
    h = images.numpy().reshape(20, 784)
    layers = initialisations.of_experiment(e)
    for weights, biases in layers[:-1]:
        h = theory.value(activation, h @ weights.T + biases, 0.2)
    expected = h @ layers[-1][0].T + layers[-1][1]
    np.testing.assert_allclose(networks.of_experiment(e)(images).detach().numpy(), expected, rtol=1e-10, atol=1e-13)


def test_a_plain_mlp_is_a_sequential_as_ever() -> None:
    network = networks.of_experiment(Experiment())
    assert type(network) is nn.Sequential
    assert type(network.fc_1) is nn.Linear
    assert list(network.state_dict()) == [f"fc_{i}.{kind}" for i in range(1, 5) for kind in ("weight", "bias")]
    assert [p.dtype for p in networks.of_experiment(Experiment(dtype="float64")).parameters()] == [torch.float64] * 8


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("normalisation", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_normalisations_stand_before_the_activations(normalisation: str, kind: type, residual: bool) -> None:
    network = networks.of_experiment(EQUAL.replace(normalisation=normalisation, residual=residual))
    names = [name for name, _ in network.named_children()]
    assert names[:5] == ["flatten", "fc_1", "norm_1", "relu_1", "fc_2"]
    assert names[-2:] == ["relu_4", "fc_5"]
    assert isinstance(network.norm_2, kind)
    assert {name for name in network.state_dict() if name.startswith("norm_1")} == {"norm_1.weight", "norm_1.bias"}
    z = network.norm_1(network.fc_1(network.flatten(batch()[0])))
    axis = 0 if normalisation == "batch" else 1
    torch.testing.assert_close(z.mean(axis), torch.zeros_like(z.mean(axis)), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.var(axis, correction=0), torch.ones_like(z.mean(axis)), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("normalisation", "biased"), [("none", True), ("layer", True), ("batch", False)])
def test_no_layer_in_front_of_a_batch_norm_has_biases(normalisation: str, biased: bool) -> None:
    """Their gradient would be 0 but for rounding, and Adam makes full steps of rounding."""
    network = networks.of_experiment(EQUAL.replace(normalisation=normalisation))
    layers = [module for name, module in network.named_children() if name.startswith("fc_")]
    assert [layer.bias is not None for layer in layers] == [biased] * (len(layers) - 1) + [True]


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
@pytest.mark.parametrize("architecture", ["mlp", "residual_conv"])
def test_a_network_is_a_function_of_parameters_and_batch(architecture: str, normalisation: str) -> None:
    widths = EQUAL.widths if architecture == "mlp" else (1, 4, 6, 10)
    e = EQUAL.replace(architecture=architecture, widths=widths, normalisation=normalisation)
    network, images = networks.of_experiment(e), batch(20)[0]
    first = network(images[:10])
    network(images[10:])
    assert not list(network.buffers())
    for mode in (True, False):
        assert torch.equal(network.train(mode)(images[:10]), first)


def test_equal_widths_are_skipped_and_others_are_not() -> None:
    e, (images, _) = EQUAL.replace(residual=True, activation="tanh"), batch()
    network, plain = networks.of_experiment(e), networks.of_experiment(e.replace(residual=False))
    assert list(network.state_dict()) == list(plain.state_dict())
    n = network
    h_1 = torch.tanh(n.fc_1(images.flatten(1)))
    h_2 = torch.tanh(n.fc_2(h_1)) + h_1
    h_3 = torch.tanh(n.fc_3(h_2))
    h_4 = torch.tanh(n.fc_4(h_3)) + h_3
    torch.testing.assert_close(network(images), n.fc_5(h_4), rtol=1e-12, atol=1e-14)
    assert (network(images) - plain(images)).abs().max() > 1e-2


def test_layers_of_zeros_leave_a_residual_network_the_identity() -> None:
    network, (images, _) = networks.of_experiment(EQUAL.replace(residual=True, activation="linear")), batch()
    with torch.no_grad():
        for layer in (network.fc_2, network.fc_4):
            layer.weight.zero_()
    expected = network.fc_5(network.fc_3(network.fc_1(images.flatten(1))))
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-14)
    network(images).sum().backward()
    assert network.fc_1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_weights_before_a_batch_norm_feel_no_pull_along_themselves(activation: Activation) -> None:
    """The loss does not change with their size, so <W, G> = 0 but for epsilon."""
    sizes = {}
    for normalisation in ("batch", "none"):
        e = EQUAL.replace(normalisation=normalisation, activation=activation)
        network, (images, labels) = networks.of_experiment(e), batch()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eps = 1e-13
        cross_entropy(network(images), labels).backward()
        sizes[normalisation] = [
            abs(
                float(
                    (layer.weight.detach() * layer.weight.grad).sum()
                    / (layer.weight.norm() * layer.weight.grad.norm()).detach()
                )
            )
            for layer in (network.fc_1, network.fc_2, network.fc_3, network.fc_4)
        ]
    assert max(sizes["batch"]) < 1e-10
    assert min(sizes["none"]) > 1e-4


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear"])
def test_homogeneity_holds_for_plain_layers_alone(activation: Activation) -> None:
    residuals = {}
    for name, changes in {"plain": {}, "residual": {"residual": True}, "normed": {"normalisation": "layer"}}.items():
        e = EQUAL.replace(activation=activation, slope=0.3, **changes)
        network, (images, labels) = networks.of_experiment(e), batch()
        cross_entropy(network(images), labels).backward()
        residuals[name] = theory.network_identities(network)["homogeneity"].max()
        assert theory.is_homogeneous(e) == (name == "plain")
    assert residuals["plain"] < 1e-13
    assert min(residuals["residual"], residuals["normed"]) > 1e-3


def test_a_batch_norm_needs_more_than_one_image() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        networks.of_experiment(EQUAL.replace(normalisation="batch"))(batch(1)[0])


def test_parameters_of_another_network_do_not_fit() -> None:
    from labkit.networks.parts import fill

    with pytest.raises(RuntimeError, match=r"norm_1\.weight"):
        fill(networks.of_experiment(EQUAL), initialisations.named(EQUAL.replace(normalisation="layer")), torch.float64)


def test_points_on_circles_go_in_as_rows() -> None:
    e = Experiment(data="circles", observations=1000, widths=(2, 5, 1), initialisation="normal")
    assert networks.of_experiment(e)(torch.zeros(3, 2)).shape == (3, 1)
