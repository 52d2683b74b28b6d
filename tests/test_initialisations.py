"""Do all architectures start from numbers that numpy drew, in the right sizes, the same as ever?"""

import hashlib
import math
from typing import get_args

import numpy as np
import pytest
import torch

from labkit import initialisations, networks
from labkit.catalogue import EXPERIMENTS
from labkit.experiments import Experiment, ExperimentError, Initialisation, experiment
from labkit.streams import stream

LAG = experiment("recurrent/lstm").replace(widths=(5, 40, 4))
CONV = experiment("exploding/residual_conv").replace(widths=(1, 16, 16, 24, 10))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_torch_network_is_filled_from_exactly_these(name: str) -> None:
    e = EXPERIMENTS[name].replace(seed=3, dtype="float64")
    parameters, named = dict(networks.of_experiment(e).named_parameters()), initialisations.named(e)
    assert list(parameters) == list(named)
    for key, value in named.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(parameters[key].detach().numpy(), value)


# Digests of what the first release drew, but for last digits, which are the C library's: recordings of old are
# replayed from these.
KNOWN = {
    "glorot_uniform": "df3ef70ebcc35445",
    "glorot_normal": "35d4769df91eac0a",
    "he_uniform": "d01578b7813ba9b6",
    "he_normal": "13e6c2dd81ba46e9",
    "lecun_normal": "7d9b3edcc16c0b43",
    "pytorch": "bbcfd2c97982fdf1",
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_was_drawn_before_is_drawn_again(name: Initialisation) -> None:
    layers = initialisations.draw((12, 6, 5, 4), name, 1.5, seed=7)
    digest = hashlib.sha256(b"".join(np.round(values, 9).tobytes() for layer in layers for values in layer)).hexdigest()
    assert digest[:16] == KNOWN[name]


def test_named_has_the_list_of_a_plain_mlp() -> None:
    e = Experiment(seed=5, initialisation="pytorch")
    flat = [values for layer in initialisations.of_experiment(e) for values in layer]
    for ours, theirs in zip(initialisations.named(e).values(), flat, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_only_an_mlp_is_a_list_of_layers() -> None:
    with pytest.raises(ExperimentError, match=r"a lstm is no list of layers: take initialisations\.named"):
        initialisations.of_experiment(LAG)


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9)])
def test_orthogonal_matrices_keep_lengths(shape: tuple[int, int]) -> None:
    (weights, biases), *_ = initialisations.draw(shape[::-1], "orthogonal", gain=3.0, seed=1)
    assert weights.shape == shape
    assert not biases.any()
    gram = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(gram, 9 * np.eye(min(shape)), atol=1e-13)
    assert initialisations.variance("orthogonal", *shape) == pytest.approx((weights**2).mean() / 9, rel=1e-12)


def test_orthogonal_is_gram_schmidt_of_the_same_normal_matrix() -> None:
    """The factor with a positive diagonal is unique, so another way of computing it gives the same."""
    (weights, _), *_ = initialisations.draw((6, 8), "orthogonal", seed=4)
    columns: list[np.ndarray] = []
    for a in stream(4, "weights", "fc_1").standard_normal((8, 6)).T:
        for q in columns:
            a = a - (q @ a) * q
        columns.append(a / np.linalg.norm(a))
    np.testing.assert_allclose(weights, np.stack(columns, axis=1), atol=1e-12)


def test_orthogonal_matrices_are_uniformly_distributed() -> None:
    """E[trace] = 0 and E[trace^2] = 1 over the orthogonal group; without the sign fix the trace is far off 0."""
    traces = [np.trace(initialisations.draw((3, 3), "orthogonal", seed=seed)[0][0]) for seed in range(2000)]
    assert abs(np.mean(traces)) < 0.1  # four standard errors
    assert np.mean(np.square(traces)) == pytest.approx(1, rel=0.2)
    unfixed = [np.trace(np.linalg.qr(np.random.RandomState(seed).standard_normal((3, 3)))[0]) for seed in range(500)]
    assert abs(np.mean(unfixed)) > 0.3


def test_normal_weights_have_the_gain_as_their_sd() -> None:
    (weights, _), *_ = initialisations.draw((300, 400), "normal", gain=0.5, seed=2)
    assert weights.std() == pytest.approx(0.5, rel=0.01)
    assert initialisations.variance("normal", 300, 400) == 1


@pytest.mark.parametrize("name", get_args(Initialisation))
def test_each_gate_of_a_recurrent_layer_has_a_fan_out_of_its_units(name: Initialisation) -> None:
    e = LAG.replace(initialisation=name, widths=(5, 100, 4))
    weights = initialisations.named(e)["recurrent.weight"].reshape(4, 100, 100)
    for gate in weights:
        assert gate.var() == pytest.approx(initialisations.variance(name, 100, 100), rel=0.07)
    together = initialisations.variance(name, 100, 400)
    if name.startswith("glorot"):  # the planted mistake: all gates counted as one layer's outputs
        assert weights.var() / together > 2
    assert not np.array_equal(weights[0], weights[1])
    if name == "orthogonal":
        np.testing.assert_allclose(weights[2] @ weights[2].T, np.eye(100), atol=1e-12)


def test_forget_gates_start_open() -> None:
    plain, normed = initialisations.named(LAG), initialisations.named(LAG.replace(normalisation="layer"))
    forget = np.repeat([0.0, 1.0, 0.0, 0.0], 40)
    np.testing.assert_array_equal(plain["input.bias"], forget)
    np.testing.assert_array_equal(normed["norm.bias"], forget)
    assert not normed["input.bias"].any()
    assert not initialisations.named(LAG.replace(architecture="gru"))["input.bias"].any()


def test_filters_count_each_of_their_weights_as_an_input() -> None:
    """He et al. 2015: sd sqrt(2 / (9 * 64)) = 0.0589 for 3x3 filters on 64 channels."""
    named = initialisations.named(experiment("exploding/residual_conv").replace(widths=(1, 64, 64, 128, 10)))
    assert named["block_1.conv_1.weight"].std() == pytest.approx(0.0589, rel=0.02)
    assert named["block_2.conv_2.weight"].std() == pytest.approx(0.0417, rel=0.02)
    assert named["conv_1.weight"].std() == pytest.approx(math.sqrt(2 / 49), rel=0.05)
    assert named["block_2.shortcut.weight"].std() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    theirs = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(64, 64, 3, 3))
    assert theirs == (576, 576)


def test_orthogonal_filters_are_orthogonal_rows() -> None:
    weights = initialisations.named(CONV.replace(initialisation="orthogonal"))["block_2.conv_2.weight"]
    rows = weights.reshape(24, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(24), atol=1e-12)


@pytest.mark.parametrize("e", [LAG, CONV, Experiment(normalisation="layer")], ids=["lstm", "conv", "mlp"])
def test_the_seed_decides_and_gain_multiplies_weights_alone(e: Experiment) -> None:
    one, same, loud, other = (initialisations.named(e.replace(**c)) for c in ({}, {}, {"gain": 2.0}, {"seed": 1}))
    for name, values in one.items():
        np.testing.assert_array_equal(values, same[name])
        drawn = values.ndim > 1
        np.testing.assert_array_equal(loud[name], 2 * values if drawn else values)
        assert np.array_equal(values, other[name]) != drawn


def test_a_residual_conv_has_as_many_features_as_torch_finds() -> None:
    for widths in [(1, 4, 4, 10), (1, 4, 8, 10), (1, 4, 8, 16, 32, 10), (1, 8, 4, 6, 10)]:
        network = networks.of_experiment(CONV.replace(widths=widths))
        assert network[:-1](torch.rand(2, 1, 28, 28)).shape[1] == initialisations.features(widths)
