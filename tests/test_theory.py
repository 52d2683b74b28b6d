"""Do the closed forms hold: against Monte Carlo, against autograd, against recordings?"""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from labkit import networks, theory
from labkit.experiments import Experiment, ExperimentError
from labkit.recording import RecordingError
from labkit.theory import mean_field
from labkit.training import train


def monte_carlo(activation: str, sigma_w2: float, width: int = 1000, depth: int = 24, seed: int = 0) -> float:
    """The factor by which the mean squared gradient changes per layer, deep inside one wide random network."""
    random = np.random.RandomState(seed)
    weights = [random.standard_normal((width, width)) * math.sqrt(sigma_w2 / width) for _ in range(depth)]
    h, before = random.standard_normal(width), []
    for w in weights:
        before.append(w @ h)
        h = theory.value(activation, before[-1])
    d, sizes = random.standard_normal(width), []
    for w, z in zip(weights[::-1], before[::-1], strict=True):
        d = w.T @ (d * theory.slope(activation, z))
        sizes.append((d**2).mean())
    # the first layers still feel the input, whose variance is not the fixed point
    return float((sizes[depth // 2] / sizes[0]) ** (2 / depth))


@pytest.mark.parametrize(
    ("activation", "initialisation"),
    [
        ("sigmoid", "glorot_uniform"), ("sigmoid", "he_normal"), ("sigmoid", "pytorch"),
        ("tanh", "he_normal"), ("tanh", "pytorch"), ("relu", "he_uniform"), ("relu", "glorot_normal"),
        ("leaky_relu", "he_normal"), ("linear", "lecun_normal"),
    ],
)  # fmt: skip
def test_the_gain_per_layer_is_what_random_networks_show(activation: str, initialisation: str) -> None:
    sigma_w2 = theory.weight_variance(initialisation, 1000)
    shown = np.median([monte_carlo(activation, sigma_w2, seed=seed) for seed in range(5)])
    # one network of width 1000 scatters by 1-2 % per layer
    assert theory.gain(activation, initialisation, 1000) == pytest.approx(shown, rel=0.03)


@pytest.mark.parametrize(("scale", "expected"), [(0.5, 0.25), (1, 1), (2, 4)])
def test_a_gain_multiplies_he_networks_as_designed(scale: float, expected: float) -> None:
    assert theory.gain("relu", "he_normal", 77, scale) == pytest.approx(expected)


def test_the_kink_is_not_integrated() -> None:
    assert theory.gain("relu", "he_normal", 10) == 1
    assert theory.gain("linear", "lecun_normal", 10) == 1


def test_activations_and_slopes_are_autograds() -> None:
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)[torch.arange(81) != 40].requires_grad_(True)
    for name, module in (("relu", torch.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh),
                         ("leaky_relu", torch.nn.functional.leaky_relu), ("linear", lambda z: 1 * z)):  # fmt: skip
        y = module(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        np.testing.assert_allclose(theory.value(name, x.detach().numpy()), y.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(theory.slope(name, x.detach().numpy()), slope.numpy(), rtol=1e-12, atol=1e-15)


def test_slopes_have_their_bounds() -> None:
    """Pascanu et al. 2013: at most 1/4 for sigmoid and 1 for tanh."""
    z = np.linspace(-20, 20, 10_001)
    assert theory.slope("sigmoid", z).max() == pytest.approx(1 / 4)
    assert theory.slope("tanh", z).max() == pytest.approx(1)


def test_unknown_activations_list_the_choices() -> None:
    with pytest.raises(ExperimentError, match="choose from relu, sigmoid"):
        theory.gain("swish", "he_normal", 10)


def test_depth_scale() -> None:
    assert theory.depth_scale(1) == math.inf
    assert theory.depth_scale(math.exp(-0.25)) == pytest.approx(4)
    assert theory.size_ratio(0.25, 3) == pytest.approx(8)


@pytest.mark.parametrize(
    ("g", "step"), [(1.0, 1e-3), (1e-3, 1e-3), (1e-6, 9.9e-4), (1e-8, 5e-4), (1e-10, 9.9e-6), (-1.0, -1e-3)]
)
def test_adams_first_step_hides_the_gradients_size(g: float, step: float) -> None:
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    w.grad = torch.tensor([g], dtype=torch.float64)
    torch.optim.Adam([w], 1e-3).step()
    assert theory.adam_first_step(g) == pytest.approx(-step, rel=0.01)
    assert theory.adam_first_step(g) == pytest.approx(w.item(), rel=1e-9)


def test_columns_of_the_last_gradient_sum_to_zero() -> None:
    for activation in ("relu", "sigmoid", "tanh"):
        network = networks.mlp(activation=activation, seed=2, dtype=torch.float64)
        cross_entropy(network(torch.rand(32, 784, dtype=torch.float64)), torch.arange(32) % 10).backward()
        assert np.abs(theory.class_sums(network.fc_4.weight.grad)).max() <= 1e-15
        assert np.abs(theory.class_sums(network.fc_3.weight.grad)).max() > 1e-9


def test_identities_of_a_network_after_backward() -> None:
    found = {}
    for activation in ("relu", "leaky_relu", "sigmoid"):
        network = networks.mlp(activation=activation, seed=2, dtype=torch.float64)
        with pytest.raises(RecordingError, match=r"call loss.backward\(\) first"):
            theory.network_identities(network)
        torch.manual_seed(0)
        cross_entropy(network(torch.rand(32, 784, dtype=torch.float64)), torch.arange(32) % 10).backward()
        found[activation] = theory.network_identities(network)
        assert found[activation]["softmax"].shape == (10,)
        assert found[activation]["softmax"].max() < 1e-13
        assert found[activation]["homogeneity"].shape == (3,)
    assert found["relu"]["homogeneity"].max() < 1e-13
    assert found["leaky_relu"]["homogeneity"].max() < 1e-13
    assert found["sigmoid"]["homogeneity"].max() > 1e-3
    network.fc_4.weight.grad[0] *= 2  # a planted mistake
    assert theory.network_identities(network)["softmax"].max() > 1e-3


def test_identities_hold_at_every_iteration_of_a_recording(runs) -> None:
    for recording in runs.values():
        assert theory.softmax_residual(recording).max() < 1e-5
        assert theory.first_step_residual(recording) < 1e-3
    assert theory.homogeneity_residual(runs["relu"]).max() < 1e-5
    assert theory.homogeneity_residual(runs["sigmoid"]).max() > 0.1, "sigmoid has no such identity"
    assert set(theory.identities(runs["relu"])) == {"softmax", "homogeneity", "adam_first_step"}
    assert set(theory.identities(runs["sigmoid"])) == {"softmax", "adam_first_step"}


def test_in_float64_the_identities_hold_to_its_rounding(short) -> None:
    recording = train(short.replace(dtype="float64"), device="cpu", progress=False)
    assert theory.softmax_residual(recording).max() < 1e-13
    assert theory.homogeneity_residual(recording).max() < 1e-13
    assert theory.first_step_residual(recording) < 1e-7


def test_planted_mistakes_break_the_identities(runs) -> None:
    relu = runs["relu"]
    signed_is_absolute = relu.gradient.copy()
    signed_is_absolute[:, :, 0] = signed_is_absolute[:, :, 1]
    assert theory.softmax_residual(replace(relu, gradient=signed_is_absolute)).min() > 0.5
    later = np.roll(relu.weight_dot_gradient[:, :2], 1, axis=0)
    mixed = np.concatenate([later, relu.weight_dot_gradient[:, 2:]], axis=1)
    assert np.median(theory.homogeneity_residual(replace(relu, weight_dot_gradient=mixed))[:, 1]) > 1e-3
    moments = relu.checkpoint_moments.copy()
    moments[1, 0] *= -1
    assert theory.first_step_residual(replace(relu, checkpoint_moments=moments)) > 1


def test_adams_step_needs_adam(short) -> None:
    recording = train(short.replace(optimizer="sgd"), device="cpu", progress=False)
    with pytest.raises(RecordingError, match="needs a recording by Adam"):
        theory.first_step_residual(recording)
    assert set(theory.identities(recording)) == {"softmax", "homogeneity"}


def test_pytorchs_biases_count_in_the_size_of_what_a_layer_passes_on() -> None:
    """In a linear network the mean squares are exact at any width; torch itself draws 20,000 narrow ones."""
    e = Experiment(
        data="circles", widths=(2, 5, 4, 3, 1), observations=1000, activation="linear", initialisation="pytorch"
    )
    torch.manual_seed(0)
    draws, shown = 20_000, []
    h = torch.full((draws, 2), 0.7)
    for inputs, outputs in pairwise(e.widths[:-1]):
        layers = torch.nn.Linear(inputs, draws * outputs)
        weights = layers.weight.detach().reshape(draws, outputs, inputs)
        h = (weights @ h[:, :, None])[:, :, 0] + layers.bias.detach().reshape(draws, outputs)
        shown.append(float((h**2).mean()))
    # so many draws scatter by 1 %; without biases the first layer would be at half, the others below
    assert theory.layers._forward(e, 0.7**2) == pytest.approx(shown, rel=0.05)


@pytest.mark.parametrize("q", [1e-6, 0.3, 1.3, 50, 1e8])
def test_quadrature_has_the_closed_forms(q: float) -> None:
    """E[relu^2] = q / 2 and E[elu'^2] = 1/2 + exp(2 q) Phi(-2 sqrt(q)); where that overflows, its asymptote."""
    assert mean_field.mean_square("relu", q) == pytest.approx(q / 2, rel=1e-12)
    assert mean_field.mean_square("linear", q) == pytest.approx(q, rel=1e-12)
    tail = math.exp(2 * q) * math.erfc(math.sqrt(2 * q)) / 2 if q < 100 else 1 / math.sqrt(8 * math.pi * q)
    assert mean_field.mean_slope("elu", q) == pytest.approx(0.5 + tail, rel=1e-9)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "gelu", "silu"])
@pytest.mark.parametrize("q", [0.2, 1.0, 30.0])
def test_quadrature_is_monte_carlos(activation: str, q: float) -> None:
    z = math.sqrt(q) * np.random.RandomState(0).standard_normal(400_000)
    assert mean_field.mean_square(activation, q) == pytest.approx((theory.value(activation, z) ** 2).mean(), rel=0.01)
    assert mean_field.mean_slope(activation, q) == pytest.approx((theory.slope(activation, z) ** 2).mean(), rel=0.01)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "gelu", "silu"])
@pytest.mark.parametrize("sigma_w2", [0.4, 1.5, 2.2, 3.5])
def test_the_fixed_point_is_where_iterating_leads(activation: str, sigma_w2: float) -> None:
    q = 1.0
    for _ in range(3000):
        q = min(sigma_w2 * mean_field.mean_square(activation, q), mean_field.MOST)
    expected = 0 if q < mean_field.LEAST else q
    assert theory.fixed_point(activation, sigma_w2) == pytest.approx(expected, rel=1e-9)


def test_at_the_critical_point_the_limit_is_exact() -> None:
    """tanh at sigma_w^2 = 1: iterating q takes for ever, chi is 1."""
    assert theory.fixed_point("tanh", 1.0) == 0
    assert theory.gain("tanh", "lecun_normal", 100) == 1


@pytest.mark.parametrize(("activation", "leaky"), [("leaky_relu", 0.2), ("elu", 0.01)])
def test_slopes_below_0_count(activation: str, leaky: float) -> None:
    if activation == "leaky_relu":
        assert theory.gain("leaky_relu", "he_normal", 50, leaky=leaky) == pytest.approx(1.04)
        assert theory.gain("leaky_relu", "he_normal", 50) == pytest.approx(1.0001)
    else:
        assert theory.gain("elu", "lecun_normal", 50, 1.2, leaky=leaky) == theory.gain("elu", "lecun_normal", 50, 1.2)


def test_identities_are_told_only_where_they_hold(runs) -> None:
    relu = runs["relu"]
    origin = relu.origin
    for changes, expected in [
        ({"normalisation": "batch"}, {"softmax", "adam_first_step"}),
        ({"residual": True}, {"softmax", "adam_first_step"}),
        ({"optimizer": "sgd"}, {"softmax", "homogeneity"}),
    ]:
        other = replace(relu, origin=replace(origin, experiment=origin.experiment.replace(**changes)))
        assert set(theory.identities(other)) == expected
    one = origin.experiment.replace(data="circles", widths=(2, 5, 1), observations=1000, optimizer="sgd")
    assert set(theory.identities(replace(relu, origin=replace(origin, experiment=one)))) == {"homogeneity"}
