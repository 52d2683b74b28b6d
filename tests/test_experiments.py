"""Are descriptions of runs checked at the door, and the same for the same student?"""

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.experiments import EXPERIMENTS, Experiment, ExperimentError, experiment, seed_of


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "rellu"}, "choose from relu, sigmoid, tanh, leaky_relu, linear"),
        ({"initialisation": "xavier"}, "choose from glorot_uniform"),
        ({"optimizer": "adamw"}, "choose from adam, sgd"),
        ({"dtype": "float16"}, "choose from float32, float64"),
        ({"data": "mnist"}, "choose from digits"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"batch_size": 5001}, "larger than the 5000 images: choose at most 5000"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"observations": 20_000}, "the pool holds 10000"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "must be a number"),
        ({"gain": float("inf")}, "gain is inf"),
        ({"clip_norm": 0.0}, "None for no clipping"),
        ({"widths": (784,)}, "at least an input and an output width"),
        ({"widths": (784, 0, 10)}, "each 1 or more"),
        ({"widths": (100, 10)}, "need 784 inputs and 10 outputs"),
        ({"widths": (784, 2.5, 10)}, "whole number"),
        ({"student": 7}, "must be a text"),
        ({"depth": 3}, "has no 'depth': choose from activation"),
    ],
)
def test_bad_descriptions_say_what_to_change(changes: dict, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        Experiment().replace(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ExperimentError, match="vanishing/relu, vanishing/sigmoid, vanishing/exploding"):
        experiment("vanishing/tanh")


def test_s1_has_2000_iterations() -> None:
    assert (EXPERIMENTS["vanishing/relu"].iterations_per_epoch, EXPERIMENTS["vanishing/relu"].iterations) == (40, 2000)


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
               "learning_rate": 0.5, "clip_norm": 1.0, "epochs": 2, "batch_size": 9, "dtype": "float64"}  # fmt: skip
    digests = {Experiment().digest} | {Experiment().replace(**{name: value}).digest for name, value in changed.items()}
    assert len(digests) == len(changed) + 1
    assert set(changed) | {"data"} == set(json.loads(Experiment().to_json()))


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
