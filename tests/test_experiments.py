"""Are descriptions of runs checked at the door, and the same for the same student?"""

import json
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.catalogue import EXPERIMENTS
from labkit.experiments import Experiment, ExperimentError, experiment, seed_of


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "rellu"}, "choose from relu, sigmoid, tanh, leaky_relu, elu, gelu, silu, linear"),
        ({"initialisation": "xavier"}, "choose from glorot_uniform"),
        ({"optimizer": "adamw"}, "choose from adam, rmsprop, sgd"),
        ({"dtype": "float16"}, "choose from float32, float64"),
        ({"data": "cifar"}, "choose from digits, mnist, circles, long_lag"),
        ({"architecture": "transformer"}, "choose from mlp, residual_conv, rnn, lstm, gru"),
        ({"normalisation": "group"}, "choose from none, batch, layer"),
        ({"residual": 1}, "True or False"),
        ({"batches": 0}, "None for as many as the data give"),
        ({"batches": 2.0}, "whole number"),
        ({"slope": 0.0}, "slope is 0.0"),
        ({"epsilon": "small"}, "must be a number"),
        ({"steps": 0}, "steps is 0"),
        ({"clip_each": -1.0}, "clip_each is -1.0"),
        ({"clip_value": float("inf")}, "clip_value is inf"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "in two ways: choose one of"),
        ({"data": "circles"}, "circles need an mlp with 2 inputs and 1 output"),
        ({"data": "circles", "widths": (2, 5, 1), "observations": 1, "batch_size": 1}, "there are two circles, give 2"),
        ({"data": "long_lag"}, "long_lag goes with rnn, lstm, gru"),
        ({"architecture": "lstm"}, "long_lag goes with"),
        ({"architecture": "lstm", "data": "long_lag", "widths": (5, 9, 4)}, "has tanh"),
        ({"architecture": "rnn", "data": "long_lag", "widths": (5, 9, 9, 4)}, "three widths"),
        ({"architecture": "rnn", "data": "long_lag", "widths": (4, 9, 4)}, "one for the noise"),
        ({"architecture": "rnn", "data": "long_lag", "widths": (5, 9, 4), "normalisation": "batch"}, "none or layer"),
        ({"architecture": "rnn", "data": "long_lag", "widths": (5, 9, 4), "residual": True}, "residual is for an mlp"),
        ({"architecture": "residual_conv"}, "has 1 channel and 10 outputs"),
        ({"architecture": "residual_conv", "widths": (1, 8, 10)}, "of each block"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"batch_size": 5001}, "larger than the 5000 observations: choose at most 5000"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"observations": 20_000}, "the pool holds 10000"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "must be a number"),
        ({"gain": float("inf")}, "gain is inf"),
        ({"gain": 10**400}, "a number above 0"),
        ({"clip_norm": 10**400}, "None for no clipping"),
        ({"clip_norm": 0.0}, "None for no clipping"),
        ({"widths": ()}, "at least one layer"),
        ({"widths": (784,)}, "give an input and an output width"),
        ({"widths": (784, 0, 10)}, "each 1 or more"),
        ({"widths": (100, 10)}, "has 784 inputs and 10 outputs"),
        ({"widths": (784, 2.5, 10)}, "whole number"),
        ({"student": 7}, "must be a text"),
        ({"widths": 784}, "widths is 784: give a list"),
        ({"normalisation": "batch", "batch_size": 4999}, "leaves a mini-batch of 1 of the 5000 observations"),
        ({"normalisation": "batch", "batch_size": 1}, "needs 2 or more"),
        ({"depth": 3}, "has no 'depth': choose from activation"),
    ],
)
def test_bad_descriptions_say_what_to_change(changes: dict, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        Experiment().replace(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mini_batch_of_one_that_is_cut_off_is_none() -> None:
    assert Experiment().replace(normalisation="batch", batch_size=4999, batches=1).iterations_per_epoch == 1
    assert Experiment().replace(normalisation="layer", batch_size=4999).iterations_per_epoch == 2


def test_a_students_id_is_a_text() -> None:
    with pytest.raises(ExperimentError, match="give the id as a text"):
        experiment("vanishing/relu", 5)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ExperimentError, match="vanishing/relu, vanishing/sigmoid, vanishing/exploding"):
        experiment("vanishing/tanh")


@pytest.mark.parametrize(
    ("name", "an_epoch", "iterations", "parameters"),
    [
        # what each seed publishes, or what its own numbers give: ceil(images / batch), epochs, (inputs + 1) * outputs
        ("vanishing/relu", 40, 2000, 785 * 10 + 3 * 110),
        ("layers/sigmoid", 32, 3200, 15 + 3 * 30 + 6),
        ("layers/three_sigmoid", 32, 3200, 15 + 2 * 30 + 6),
        ("activations/leaky_relu", 100, 2500, 785 * 10 + 5 * 110),
        ("exploding/sigmoid", 1875, 18750, 785 * 256 + 10 * 257 * 256 + 257 * 10),
        ("exploding/linear_clipped", 1875, 18750, 785 * 256 + 20 * 257 * 256 + 257 * 10),
    ],
)
def test_the_seeds_experiments_have_their_sizes(name: str, an_epoch: int, iterations: int, parameters: int) -> None:
    e = EXPERIMENTS[name]
    assert (e.iterations_per_epoch, e.iterations) == (an_epoch, iterations)
    assert sum((a + 1) * b for a, b in pairwise(e.widths)) == parameters


def test_every_experiment_says_what_it_trains() -> None:
    for name, e in EXPERIMENTS.items():
        assert e.name == name
        assert e.activation in e.summary
        assert e.data in e.summary
        assert Experiment.from_json(e.to_json()) == e
    assert "slope 0.2" in EXPERIMENTS["activations/leaky_relu"].summary
    assert "each parameter's gradient clipped to a norm of 1" in EXPERIMENTS["exploding/linear_clipped"].summary
    assert "batch normalisation" in EXPERIMENTS["exploding/residual_conv"].summary


def test_mnist_experiments_run_on_digits_too() -> None:
    for e in EXPERIMENTS.values():
        if e.data == "mnist":
            assert e.replace(data="digits").observations == e.observations


@given(st.integers(1, 99), st.floats(1e-6, 10), st.sampled_from(["relu", "tanh"]), st.none() | st.floats(0.1, 9))
def test_json_is_the_identity(epochs: int, rate: float, activation: str, clip: float | None) -> None:
    e = Experiment().replace(epochs=epochs, learning_rate=rate, activation=activation, clip_norm=clip)
    assert Experiment.from_json(e.to_json()) == e
    assert Experiment.from_json(e.to_json()).digest == e.digest


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"epochs": "many"}', '{"widths": 7}', '{"x": 1}', "[" * 100_000])
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError):
        Experiment.from_json(text)


def test_the_digest_sees_every_field() -> None:
    changed = {"name": "x", "student": "x", "seed": 1, "observations": 4999, "pool": 9999, "widths": (784, 9, 10),
               "activation": "tanh", "initialisation": "he_normal", "gain": 2.0, "optimizer": "sgd",
               "learning_rate": 0.5, "clip_norm": 1.0, "clip_each": 1.0, "clip_value": 1.0, "epochs": 2, "batches": 3,
               "batch_size": 9, "dtype": "float64", "slope": 0.2, "epsilon": 1e-7, "normalisation": "batch",
               "residual": True, "steps": 2, "data": "mnist"}  # fmt: skip
    digests = {Experiment().digest} | {Experiment().replace(**{name: value}).digest for name, value in changed.items()}
    assert len(digests) == len(changed) + 1
    # an architecture needs other data, or other widths, too
    assert set(changed) | {"architecture"} == set(json.loads(Experiment().to_json()))


def test_a_student_has_one_seed_per_assignment() -> None:
    assert seed_of("ada", "vanishing") == seed_of(" Ada ", "vanishing")
    assert len({seed_of("ada", "vanishing"), seed_of("bela", "vanishing"), seed_of("ada", "study")}) == 3
    assert experiment("vanishing/relu", "ada").seed == experiment("vanishing/sigmoid", "ada").seed


def test_the_text_says_what_decides_the_run() -> None:
    text = str(experiment("vanishing/exploding", "ada").replace(clip_norm=1.0, gain=2.0))
    told = (
        "vanishing/exploding of ada", "784-32-32", "relu", "he_normal weights times 2", "sgd with learning rate 0.05",
        "clipped to a norm of 1", "3 epochs in mini-batches of 128, 120 iterations", str(seed_of("ada", "vanishing")),
    )  # fmt: skip
    for words in told:
        assert words in text


def test_descriptions_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Experiment().epochs = 3  # type: ignore[misc]


def test_lists_within_lists_are_no_value(monkeypatch) -> None:
    """They can be read, and yet be too deep to be shown in the sentence that refuses them."""
    for name in ("gain", "widths", "seed", "activation"):
        for deep in (900, 950, 980):
            text = json.dumps({name: "DEEP"}).replace('"DEEP"', "[" * deep + "]" * deep)
            with pytest.raises(ExperimentError):
                Experiment.from_json(text)
