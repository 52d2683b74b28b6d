"""Does the dial set the gain per layer of real networks, and does the band hold what seeds make of it?"""

import math

import numpy as np
import pytest

from labkit import initialisations, theory
from labkit.experiments import Activation, ExperimentError

DIAL = (256,) * 11


def backward(layers: list[np.ndarray], activation: Activation, x: np.ndarray, d: np.ndarray) -> list[np.ndarray]:
    """dloss/dz (units, columns) of each layer, output side first, for columns x of inputs and d = dloss/dz_n."""
    before = []
    for weights in layers:
        before.append(weights @ x.astype(weights.dtype))
        x = theory.value(activation, before[-1])
    found = [d]
    for weights, z in zip(layers[:0:-1], before[-2::-1], strict=True):
        found.append((weights.T @ found[-1].astype(weights.dtype)) * theory.slope(activation, z))
    return found


def settled(activation: Activation, scale: float) -> float:
    """The sd of inputs whose layers all have the same variance; small where it is 0."""
    sigma_w2 = theory.weight_variance("he_normal", 256, scale)
    q = theory.fixed_point(activation, sigma_w2)
    return math.sqrt(q / sigma_w2) if 0 < q < 1e12 else 1e-3


@pytest.mark.parametrize(("activation", "ks"), [("relu", (0.5, 1, 2)), ("linear", (0.5, 1, 2)), ("tanh", (0.5, 1, 2))])
def test_scaled_networks_have_the_wanted_gain_per_layer(activation: Activation, ks: tuple[float, ...]) -> None:
    """Within 2 %, over seeds, where the activations have settled; so slowly does a tanh's at k = 1 that only inputs
    which begin there show it."""
    scales = {k: theory.scale_for(activation, "he_normal", 256, k) for k in ks}
    squares: dict[float, list[list[float]]] = {k: [] for k in ks}
    for seed in range(24):
        random = np.random.RandomState(seed)
        plain = [weights for weights, _ in initialisations.draw(DIAL, "he_normal", 1, seed)]
        x, d = random.standard_normal((256, 8)), random.standard_normal((256, 8))
        for k, scale in scales.items():
            layers = [weights * scale for weights in plain]
            found = backward(layers, activation, x * settled(activation, scale), d)
            squares[k].append([(g**2).mean() for g in found])
    for k in ks:
        sizes = np.mean(squares[k], axis=0)
        assert (sizes[-1] / sizes[0]) ** (1 / 9) == pytest.approx(k, rel=0.02)


def test_weights_of_homogeneous_networks_hide_what_the_dial_does() -> None:
    """The back-propagated gradient falls by k = 1/2 a layer, the activations do so forwards, and dloss/dW is their
    product: one size in all layers (Glorot & Bengio 2010, eq. 14)."""
    scale, squares = theory.scale_for("relu", "he_normal", 256, 0.5), []
    for seed in range(24):
        layers = [weights for weights, _ in initialisations.draw(DIAL, "he_normal", scale, seed)]
        random = np.random.RandomState(seed)
        x, d = random.standard_normal((256, 1)), random.standard_normal((256, 1))
        inputs = [x]
        for weights in layers[:-1]:
            inputs.append(theory.value("relu", weights @ inputs[-1]))
        back = backward(layers, "relu", x, d)[::-1]
        squares.append([(g**2).sum() * (h**2).sum() for g, h in zip(back, inputs, strict=True)])
    sizes = np.mean(squares, axis=0)
    assert theory.weight_gain("relu", "he_normal", 256, scale) == 1
    assert (sizes[1] / sizes[-1]) ** (1 / 8) == pytest.approx(1, rel=0.04)
    assert theory.gain("relu", "he_normal", 256, scale) == pytest.approx(0.5)


def test_weight_gains_follow_chi_where_the_activations_have_settled() -> None:
    assert theory.weight_gain("sigmoid", "glorot_uniform", 100) == theory.gain("sigmoid", "glorot_uniform", 100)
    assert theory.weight_gain("tanh", "he_normal", 100) == theory.gain("tanh", "he_normal", 100)
    assert theory.weight_gain("tanh", "pytorch", 100) == 1  # its activations die out at the pace of the gradients


REACHED = {
    "relu": (0.01, 0.5, 1, 2, 9),
    "linear": (0.01, 0.5, 1, 2, 9),
    "leaky_relu": (0.01, 0.5, 1, 2, 9),
    "sigmoid": (0.01, 0.05, 0.5, 1, 2, 9),
    "tanh": (0.01, 0.5, 1, 1.1, 2, 9),
    "elu": (0.01, 0.5, 1, 1.02, 1.06, 2, 9),
    "gelu": (0.01, 0.5, 1.2, 2, 9),
    "silu": (0.01, 0.5, 0.7, 1.45, 2, 9),
}


@pytest.mark.parametrize("activation", REACHED)
@pytest.mark.parametrize("initialisation", ["he_normal", "glorot_uniform", "orthogonal", "normal", "pytorch"])
def test_gain_undoes_scale_for(activation: Activation, initialisation) -> None:
    for k in REACHED[activation]:
        scale = theory.scale_for(activation, initialisation, 50, k, leaky=0.2)
        assert theory.gain(activation, initialisation, 50, scale, leaky=0.2) == pytest.approx(k, rel=1e-6)


def test_exact_scales_are_the_closed_forms() -> None:
    """sigma_w^2 = 2 k / n for relu and k / n for linear (truth T6)."""
    assert theory.scale_for("relu", "he_normal", 77, 3) == pytest.approx(math.sqrt(3))
    assert theory.scale_for("linear", "lecun_normal", 77, 3) == pytest.approx(math.sqrt(3))
    assert theory.scale_for("leaky_relu", "he_normal", 77, 3, leaky=0.5) == pytest.approx(math.sqrt(3 / 1.25))
    assert theory.scale_for("linear", "orthogonal", 77, 1) == pytest.approx(1)
    assert theory.scale_for("relu", "normal", 50, 1) == pytest.approx(math.sqrt(2 / 50))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.scale_for("gelu", "he_normal", 50, 1), "gelu a gain of 1, it leaps from 0.588 to 1.18: choose"),
        (lambda: theory.scale_for("silu", "he_normal", 50, 1.1), "silu a gain of 1.1, it leaps from 0.703 to 1.41"),
        (lambda: theory.scale_for("relu", "he_normal", 50, 0), "the gain is 0: choose a number above 0"),
        (lambda: theory.scale_for("relu", "he_normal", 50, math.nan), "the gain is nan"),
        (lambda: theory.scale_for("tanh", "he_normal", 50, math.inf), "the gain is inf"),
        (lambda: theory.scale_for("swish", "he_normal", 50, 1), "choose from relu, sigmoid"),
        (lambda: theory.scale_for("relu", "xavier", 50, 1), "choose from glorot_uniform"),
        (lambda: theory.size_band((784, 10)), "give inputs, one hidden layer or more, and outputs"),
        (lambda: theory.size_band((784, 0, 10)), "give inputs, one hidden layer or more, and outputs"),
        (lambda: theory.size_band((784, 9, 10), "swish"), "choose from relu, sigmoid"),
        (lambda: theory.size_band((784, 9, 10), share=1.0), "between 0 and 1"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(call, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def log_sizes(width: int, depth: int, activation: Activation, seeds: int, sigma_w2: float) -> np.ndarray:
    """(seeds,) ln of ||dloss/dz_1||^2 / ||dloss/dz_n||^2 relative to its mean field; -inf where a network is dead."""
    random, found = np.random.default_rng(width), []
    chi = sigma_w2 * (0.5 if activation == "relu" else 1)
    for _ in range(seeds):
        drawn = random.standard_normal((depth + 1, width, width), dtype=np.float32) * math.sqrt(sigma_w2 / width)
        x, d = random.standard_normal((width, 1)), random.standard_normal((width, 1))
        found.append((backward(list(drawn), activation, x, d)[-1] ** 2).sum() / (d**2).sum() / chi**depth)
    with np.errstate(divide="ignore"):
        return np.log(found)


@pytest.mark.parametrize(("width", "depth", "seeds"), [(256, 10, 120), (100, 10, 400)])
def test_the_band_holds_what_seeds_make_of_wide_networks(width: int, depth: int, seeds: int) -> None:
    logs, widths = log_sizes(width, depth, "relu", seeds, 2.0), (width, *(width,) * depth, width)
    beta = theory.log_size_variance(widths)
    assert beta == pytest.approx(5 * depth / width)
    # the variance of 120 draws is known within 13 %; at width 100 the law of wide layers is 10 % too large
    assert logs.var() == pytest.approx(beta, rel=0.3)
    assert logs.mean() == pytest.approx(-beta / 2, abs=4 * math.sqrt(beta / seeds))
    low, high = theory.size_band(widths)
    inside = np.mean((np.exp(logs / 2) > low) & (np.exp(logs / 2) < high))
    assert 0.91 < inside <= 0.99


def test_linear_layers_scatter_less() -> None:
    logs = log_sizes(100, 10, "linear", 300, 1.0)
    beta = theory.log_size_variance((100,) * 12, "linear")
    assert beta == pytest.approx(2 * 10 / 100)
    assert logs.var() == pytest.approx(beta, rel=0.3)


def test_the_band_is_too_narrow_for_narrow_networks_as_it_says() -> None:
    for width, depth in ((10, 3), (5, 4)):
        logs = log_sizes(width, depth, "relu", 2000, 2.0)
        alive = np.isfinite(logs)
        beta = theory.log_size_variance((width,) * (depth + 2))
        assert logs[alive].var() > 1.4 * beta
        low, high = theory.size_band((width,) * (depth + 2))
        assert np.mean((np.exp(logs / 2) > low) & (np.exp(logs / 2) < high)) < 0.93
    assert 0.08 < 1 - alive.mean() < 0.16


def test_the_band_of_the_gain_is_that_of_the_size_per_layer() -> None:
    widths = (784, *(256,) * 10, 10)
    low, high = theory.size_band(widths)
    below, above = theory.gain_band(2.0, widths)
    assert (below / 2) ** 5 == pytest.approx(low)
    assert (above / 2) ** 5 == pytest.approx(high)
    assert below < 2 < above
    assert theory.size_band(widths, share=0.5)[0] > low


def test_leaky_slopes_go_from_relu_to_linear() -> None:
    betas = [theory.log_size_variance((9, 100, 9), "leaky_relu", leaky=slope) for slope in (0, 0.01, 0.2, 1)]
    assert betas[0] == pytest.approx(5 / 100)
    assert betas[-1] == pytest.approx(2 / 100)
    assert betas == sorted(betas, reverse=True)
    assert theory.log_size_variance((9, 100, 9), "tanh", q=1e-6) == pytest.approx(2 / 100, rel=1e-4)
