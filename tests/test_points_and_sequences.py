"""Are the circles scikit-learn's, the sequences as described, and does every named experiment have its data?"""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_circles
from sklearn.linear_model import LogisticRegression

from labkit import data
from labkit.catalogue import EXPERIMENTS

# Exact arithmetic on frozen streams: what every machine draws.
LONG_LAG_2000_60_4_SEED_0 = "33428c5dfc4edaee5f0acadb164815376f5efd4eacb0da4c87dfc2eec0f0385d"


# Circles


def test_the_circles_are_scikit_learns():
    points, labels = make_circles(1000, factor=0.5, noise=0.1, random_state=data.stream(7, "circles"))
    found = data.circles(1000, 7)
    assert np.array_equal(found.inputs, points.astype(np.float32))
    assert np.array_equal(found.labels, labels)
    assert found.inputs.dtype == np.float32
    assert found.labels.dtype == np.int64


def test_the_circles_have_radius_1_and_one_half():
    found = data.circles(20_000, 3)
    outer, inner = (found.inputs[found.labels == label].astype(float) for label in (0, 1))
    assert len(outer) == len(inner) == 10_000
    for points, radius in ((outer, 1.0), (inner, 0.5)):
        # E[x² + y²] = r² + 2 sd²; its standard error is 2 r sd / sqrt(n), at most 0.002, and four of them are allowed
        assert (points**2).sum(axis=1).mean() == pytest.approx(radius**2 + 2 * 0.1**2, abs=0.008)
        # no direction is preferred: the mean's standard error is r / sqrt(2 n) per axis at most, 0.007
        assert np.abs(points.mean(axis=0)).max() < 0.03
        # the distance from the circle is the noise's part along the radius: an sd of 0.1, to first order
        assert np.std(np.hypot(*points.T)) == pytest.approx(0.1, rel=0.05)
    assert found.classes == ("outer", "inner")


def test_no_line_parts_the_circles_and_the_radius_does():
    found = data.circles(2000, 1)
    line = LogisticRegression().fit(found.inputs, found.labels).score(found.inputs, found.labels)
    assert line < 0.6
    radius = np.hypot(*found.inputs.T)
    # both are 0.25 from the threshold, 2.5 sd: 0.6 % of the points are beyond
    assert np.mean((radius < 0.75) == found.labels) > 0.98


def test_seeds_of_48_bits_draw_different_circles():
    seeds = (0, 1, 2**32, 2**48 - 1)
    assert len({data.circles(40, seed).digest for seed in seeds}) == 4
    assert data.circles(40, 2**48 - 1).digest == data.circles(40, 2**48 - 1).digest


# Long lag


def test_the_sequences_are_the_bytes_that_every_machine_draws():
    assert data.long_lag(2000, 60, 4, seed=0).digest == LONG_LAG_2000_60_4_SEED_0


@given(n=st.integers(1, 60), steps=st.integers(1, 12), classes=st.integers(2, 6), seed=st.integers())
def test_a_sequence_shows_its_class_once_and_then_noise(n, steps, classes, seed):
    found = data.long_lag(n, steps, classes, seed)
    assert found.inputs.shape == (n, steps, classes + 1)
    assert found.inputs.dtype == np.float32
    assert np.array_equal(found.inputs[:, 0, :classes], np.eye(classes, dtype=np.float32)[found.labels])
    assert not found.inputs[:, 0, classes].any()
    assert not found.inputs[:, 1:, :classes].any()
    assert np.abs(found.inputs[:, 1:, classes]).max(initial=0.0) <= 1.0
    counts = np.bincount(found.labels, minlength=classes)
    assert counts.max() - counts.min() <= 1
    assert found.classes == tuple(str(number) for number in range(classes))


def test_the_noise_is_uniform_and_says_nothing_of_the_class():
    found = data.long_lag(4000, 30, 4, seed=5)
    noise = found.inputs[:, 1:, 4].astype(float)
    # of 116,000 values: mean 0 with a standard error of 0.0017, variance 1/3 with one of 0.0009; five of each
    assert noise.mean() == pytest.approx(0.0, abs=0.009)
    assert noise.var() == pytest.approx(1 / 3, abs=0.005)
    tenths = np.histogram(noise, bins=10, range=(-1, 1))[0] / noise.size
    np.testing.assert_allclose(tenths, 0.1, atol=5 * math.sqrt(0.09 / noise.size))
    for label in range(4):
        # 29,000 values of each class
        assert noise[found.labels == label].mean() == pytest.approx(0.0, abs=0.017)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
    assert neighbours == pytest.approx(0.0, abs=5 / 3 / math.sqrt(noise[:, 1:].size))


def test_the_classes_are_in_no_order():
    labels = data.long_lag(400, 3, 4, seed=1).labels
    assert not np.array_equal(labels[:4], labels[4:8])
    assert np.mean(labels[1:] == labels[:-1]) == pytest.approx(0.25, abs=0.1)


def test_seeds_draw_different_sequences():
    assert len({data.long_lag(20, 5, 3, seed).digest for seed in (-1, 0, 1, 2**70)}) == 4


# Datasets that are no images


def test_the_digest_of_floats_covers_every_bit_and_the_shape():
    found = data.circles(20, 0)
    moved = found.inputs.copy()
    moved[3, 1] = np.nextafter(moved[3, 1], np.float32(9))
    digests = {
        found.digest,
        data.Dataset(moved, found.labels, found.classes, "moved").digest,
        data.Dataset(found.inputs, 1 - found.labels, found.classes, "wrong").digest,
        data.Dataset(found.inputs[:, None], found.labels, found.classes, "shaped").digest,
    }
    assert len(digests) == 4
    assert data.Dataset(found.inputs.copy(), found.labels, found.classes, "same").digest == found.digest


def test_the_text_says_what_they_are():
    points, sequences = data.circles(20, 0), data.long_lag(10, 5, 3, 0)
    assert repr(points) == f"<Dataset circles(20, seed=0): 20 points, 2 classes, {points.digest[:12]}>"
    assert repr(sequences).startswith("<Dataset long_lag(10, 5, 3, seed=0): 10 sequences, 3 classes, ")


def test_a_subset_of_points_is_points():
    points = data.circles(20, 0)
    part = points.subset([4, 2])
    assert np.array_equal(part.inputs, points.inputs[[4, 2]])
    assert np.array_equal(data.sample(points, 20, 1).labels.sum(), 10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.circles(1), "n is 1: give a whole number of at least 2"),
        (lambda: data.circles(10, "x"), "seed is 'x': give a whole number"),
        (lambda: data.long_lag(0), "n is 0: give a whole number of at least 1"),
        (lambda: data.long_lag(5, 0), "steps is 0: give a whole number of at least 1"),
        (lambda: data.long_lag(5, 5, 1), "classes is 1: give a whole number of at least 2"),
        (lambda: data.long_lag(5, 5, 2, 0.5), "seed is 0.5: give a whole number"),
        (lambda: data.circles(10).images, "circles(10, seed=0) holds points, no images: use inputs"),
        (lambda: data.contact_sheet(data.long_lag(4, 3, 2)), "holds sequences, no images"),
        (lambda: data.circles(10).subset([10]), "none of number 10: circles(10, seed=0) holds points 0 to 9"),
        (lambda: data.circles(10).subset([]), "choose no points"),
    ],
)
def test_a_wrong_request_is_told_in_one_sentence(call, words):
    with pytest.raises(data.DataError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# The one door


@pytest.mark.parametrize("name", [name for name, e in EXPERIMENTS.items() if e.data != "mnist"])
def test_every_experiment_has_its_data(name):
    e = EXPERIMENTS[name].replace(seed=2**48 - 1)
    found = data.of_experiment(e)
    assert len(found) == e.observations
    assert len(found.classes) == e.classes
    assert found.inputs.dtype == np.float32
    features = found.inputs.shape[-1] if e.data == "long_lag" else found.inputs[0].size
    assert features == e.widths[0]
    assert found.digest == data.of_experiment(e).digest
    assert found.digest != data.of_experiment(e.replace(seed=1)).digest


@pytest.mark.parametrize("name", [name for name, e in EXPERIMENTS.items() if e.data == "mnist"])
def test_every_mnist_experiment_runs_on_digits_too(name, monkeypatch, tmp_path):
    e = EXPERIMENTS[name].replace(data="digits")
    small = e.replace(observations=e.observations // 1000, pool=e.pool // 1000, batch_size=20)
    found = data.of_experiment(small)
    assert found.images.shape == (small.observations, 1, 28, 28)
    assert len(found.classes) == e.classes


def test_the_batches_of_a_short_epoch_are_the_first_of_the_whole_ones():
    e = EXPERIMENTS["activations/relu"].replace(seed=4)
    short, whole = data.epoch_batches(e, 3), data.epoch_batches(e.replace(batches=None), 3)
    assert len(short) == e.iterations_per_epoch == 100
    assert len(whole) == 1834  # 55,000 / 30, the last with 10
    assert all(np.array_equal(one, other) for one, other in zip(short, whole, strict=False))
    assert len(np.unique(np.concatenate(short))) == 3000
    assert np.concatenate(short).max() > 50_000
    assert len(data.epoch_batches(e.replace(batches=5000), 3)) == 1834


def test_nothing_heavy_is_loaded_before_it_is_asked_for():
    code = """
import sys
from labkit import data
data.long_lag(4, 3, 2)
print([name for name in ("sklearn", "torch", "torchvision", "scipy") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
