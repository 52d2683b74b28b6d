"""Do the depth scales hold: against closed forms, published values, Monte Carlo and finite differences?"""

import math

import numpy as np
import pytest

from labkit import theory
from labkit.experiments import ExperimentError
from labkit.theory import propagation


@pytest.mark.parametrize("s", [0.5, 1.5, 2.0, 3.0])
def test_relu_is_exact(s):
    found = theory.depth_scales("relu", s)
    assert found.chi_1 == found.chi_c == s / 2
    assert found.c == 1
    assert found.xi_c == found.xi_gradient == (math.inf if s == 2 else 1 / abs(math.log(s / 2)))
    assert found.reach == 6 * found.xi_c


@pytest.mark.parametrize(
    ("activation", "sigma_b2", "expected"),
    [
        ("relu", 0.0, 2.0), ("linear", 0.0, 1.0), ("tanh", 0.0, 1.0), ("relu", 0.3, 2.0),
        ("tanh", 0.05, 1.76),  # Schoenholz et al. 2017 train their tanh networks around this point
    ],
)  # fmt: skip
def test_critical_points_are_the_known_ones(activation, sigma_b2, expected):
    assert theory.critical_variance(activation, sigma_b2) == pytest.approx(expected, rel=5e-3)


def test_just_above_its_critical_point_tanhs_variance_follows_its_expansion():
    """tanh(x)^2 = x^2 - 2 x^4 / 3 + 17 x^6 / 45: so 1 / s = 1 - 2 q + 17 q^2 / 3 without biases."""
    for s in (1.002, 1.01):
        q = theory.settled_variance("tanh", s)
        assert 1 - 2 * q + 17 / 3 * q**2 == pytest.approx(1 / s, abs=30 * q**3)


@pytest.mark.parametrize(
    ("activation", "s", "b"), [("tanh", 5.0, 0.0), ("tanh", 5.0, 0.3), ("sigmoid", 200.0, 0.0), ("tanh", 0.8, 0.1)]
)
def test_two_images_in_a_wide_random_network_end_where_theory_says(activation, s, b):
    """q, and the correlation of two images, behind 30 layers of 600 units; the mean over eight networks."""
    random, n, q, c = np.random.default_rng(1), 600, [], []
    for _ in range(8):
        h = random.standard_normal((2, n))
        h[1] = 0.6 * h[0] + 0.8 * h[1]
        for _ in range(30):
            z = h @ (random.standard_normal((n, n)) * math.sqrt(s / n)) + random.standard_normal(n) * math.sqrt(b)
            h = theory.value(activation, z)
        q.append((z**2).mean())
        c.append((z[0] @ z[1]) / np.linalg.norm(z[0]) / np.linalg.norm(z[1]))
    found = theory.depth_scales(activation, s, b)
    assert found.chi_c**30 < 0.02  # so many layers are enough
    assert np.mean(q) == pytest.approx(found.q, rel=0.08)
    assert np.mean(c) == pytest.approx(found.c, abs=0.03)


@pytest.mark.parametrize(
    ("activation", "s", "b"), [("tanh", 2.0, 0.0), ("tanh", 3.0, 0.2), ("sigmoid", 200.0, 0.0), ("tanh", 0.7, 0.1)]
)
def test_chi_c_is_the_slope_of_the_map_of_correlations(activation, s, b):
    found, step = theory.depth_scales(activation, s, b), 1e-5

    def onwards(c):
        return (s * propagation._pair(activation, found.q, c, 0.01) + b) / found.q

    assert onwards(found.c) == pytest.approx(found.c, abs=1e-6)
    middle = min(found.c, 1 - step)
    slope = (onwards(middle + step) - onwards(middle - step)) / (2 * step)
    assert slope == pytest.approx(found.chi_c, rel=2e-4)


def test_the_pairs_expectation_is_a_closed_form_where_there_is_one():
    """E[relu(u) relu(u')] of correlation c (Cho & Saul 2009): q (sqrt(1 - c^2) + c (pi - arccos c)) / 2 pi."""
    for c in (0.0, 0.3, 0.9):
        want = 1.7 * (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)
        # at relu's kink the rule errs by the square of its step; where nothing bends it is exact
        assert propagation._pair("relu", 1.7, c, 0.01) == pytest.approx(want, rel=3e-3)
        assert propagation._pair("linear", 1.7, c, 0.01) == pytest.approx(1.7 * c, abs=1e-9)


def test_order_and_chaos_meet_without_a_leap():
    below, above = (theory.depth_scales("sigmoid", 103.0075 * f) for f in (0.999, 1.001))
    assert below.chi_c < 1 < above.chi_1
    assert above.chi_c == pytest.approx(below.chi_c, abs=5e-3)
    assert min(below.xi_c, above.xi_c) > 500


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: theory.depth_scales("tanh", 0.0), "sigma_w2 is 0.0"),
        (lambda: theory.depth_scales("tanh", math.nan), "sigma_w2 is nan"),
        (lambda: theory.depth_scales("tanh", 1.0, -0.1), "sigma_b2 is -0.1"),
        (lambda: theory.settled_variance("softplus", 1.0), "softplus"),
        (lambda: theory.critical_variance("gelu"), "leaps over 1"),
    ],
)
def test_bad_input_is_said_in_a_sentence(ask, words):
    with pytest.raises(ExperimentError, match=words):
        ask()
