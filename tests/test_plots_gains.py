"""Is the gain per layer what autograd and the mean field say?"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_plots import recorded

from labkit import data, plots, theory
from labkit.ensembles import seeds_of
from labkit.experiments import Experiment, experiment
from labkit.plots.gains import expected_bands, expected_gains, measured_gains

pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning")
TINY = Experiment(observations=120, pool=200, epochs=1, batches=1, batch_size=60)
WIDE = TINY.replace(widths=(784, *(96,) * 6, 10), initialisation="he_normal", optimizer="sgd", learning_rate=0.01)


def trained(*experiments):
    from labkit.training import train_many

    return train_many(list(experiments), device="cpu", progress=False)


@pytest.fixture(scope="module")
def dial():
    """Three seeds each of a network that halves and of one that doubles."""
    wanted = [WIDE.replace(gain=k**0.5, name=f"dial/{k}") for k in (0.5, 2.0)]
    return trained(*(one for e in wanted for one in seeds_of(e, 3)))


@pytest.mark.parametrize(
    "e",
    [
        TINY.replace(activation="sigmoid", dtype="float64"),
        TINY.replace(activation="leaky_relu", slope=0.2, dtype="float64"),
        experiment("layers/tanh").replace(epochs=1, dtype="float64"),
    ],
    ids=["sigmoid", "leaky", "one output"],
)
@pytest.mark.parametrize("checkpoint", [0, -1])
def test_measured_gains_are_autograds(e, checkpoint):
    from labkit.networks import of_experiment

    (recording,) = trained(e)
    drawn = data.of_experiment(e)
    inputs, labels = torch.from_numpy(drawn.inputs[:250]).double(), torch.from_numpy(drawn.labels[:250])
    net = of_experiment(e).double()
    net.load_state_dict({k: torch.from_numpy(v) for k, v in recording.checkpoint(checkpoint).items()})
    seen = {}
    for name in recording.layers:

        def keep(module, inputs, output, name=name):
            output.retain_grad()
            seen[name] = output

        net.get_submodule(name).register_forward_hook(keep)
    out = net(inputs)
    if out.shape[1] == 1:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out[:, 0], labels.double())
    else:
        loss = torch.nn.functional.cross_entropy(out, labels)
    loss.backward()
    squares = [float(seen[name].grad.square().mean()) for name in recording.layers]
    expected = [a / b for a, b in pairwise(squares)]
    np.testing.assert_allclose(measured_gains(recording, checkpoint), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "e",
    [
        Experiment(activation="sigmoid"),
        Experiment(activation="tanh", initialisation="pytorch"),
        WIDE.replace(gain=2.0),
    ],
)
def test_between_equal_widths_the_expected_gain_is_the_theorys(e):
    gains = expected_gains(e)
    wanted = theory.gain(e.activation, e.initialisation, e.widths[1], e.gain, e.slope)
    np.testing.assert_allclose(gains[:2], wanted, rtol=1e-9)


def test_linear_layers_of_other_widths_have_the_sum_over_their_outputs():
    e = Experiment(widths=(784, 30, 20, 10), activation="linear", initialisation="lecun_normal")
    np.testing.assert_allclose(expected_gains(e), [20 / 30, 10 / 20])


@pytest.mark.parametrize("start", [0, 3])
def test_the_dial_turns_the_gain_as_far_as_theory_says(dial, start):
    """Averaged over three seeds and five layers of 96 units: sd of the mean of ln is sqrt(5 / 96 / 15) = 6 %."""
    k = (0.5, 2.0)[start // 3]
    gains = np.array([measured_gains(r) for r in dial[start : start + 3]])
    mean = np.exp(np.log(gains[:, :-1]).mean())
    assert abs(np.log(mean / k)) < 0.2


def test_bands_hold_the_single_gains_of_most_seeds(dial):
    inside = []
    for r in dial:
        low, high = expected_bands(r.origin.experiment).T
        inside.append((measured_gains(r) >= low) & (measured_gains(r) <= high))
    assert np.mean(inside) > 0.9


def test_figure_has_points_of_all_runs_their_median_and_theorys_line(dial):
    figure = plots.gain_per_layer(dial)
    assert len(figure.axes) == 2
    for axes, runs in zip(figure.axes, (dial[:3], dial[3:]), strict=True):
        gains = np.array([measured_gains(r) for r in runs])
        each = np.array([line.get_ydata() for line in axes.lines if line.get_label() == "_each"])
        np.testing.assert_allclose(each, gains)
        (median,) = [line for line in axes.lines if line.get_label().startswith("ReLU")]
        np.testing.assert_allclose(median.get_ydata(), np.median(gains, axis=0))
        expected = expected_gains(runs[0].origin.experiment)
        lines = [c for c in axes.collections if hasattr(c, "get_segments")]
        np.testing.assert_allclose([s[0, 1] for s in lines[0].get_segments()], expected)
        np.testing.assert_allclose(expected[:-1], (0.5, 2.0)[figure.axes.index(axes)])
        assert axes.get_yscale() == "log"
        low, high = axes.get_ylim()
        assert low < gains.min()
        assert gains.max() < high
    assert [axes.get_title() for axes in figure.axes] == ["ReLU, weights × 0.7071", "ReLU, weights × 1.414"]
    assert "median of 3 runs: into fc_1" in figure.alt_text


def test_a_planted_mistake_in_the_weights_leaves_the_band(dial):
    """A layer whose weights are twice as large as the experiment says."""
    recording = dial[0]
    parameters = recording.checkpoint_parameters.copy()
    names = [name for name, _ in recording.origin.parameters]
    sizes = [int(np.prod(shape)) for _, shape in recording.origin.parameters]
    start = sum(sizes[: names.index("fc_3.weight")])
    parameters[:, start : start + sizes[names.index("fc_3.weight")]] *= 2
    gains = measured_gains(replace(recording, checkpoint_parameters=parameters))
    assert gains[1] > expected_bands(recording.origin.experiment)[1, 1]


def without_experiment():
    recording = recorded()
    return replace(recording, origin=replace(recording.origin, experiment=None))


def of(**changes):
    recording = recorded()
    e = recording.origin.experiment.replace(**changes)
    return replace(recording, origin=replace(recording.origin, experiment=e))


BAD = [
    (lambda: plots.gain_per_layer([]), "there is no recording to plot"),
    (lambda: plots.gain_per_layer(without_experiment()), "follows no experiment, so theory has no line"),
    (lambda: plots.gain_per_layer(of(normalisation="batch")), "is no plain network, so theory has no line"),
    (lambda: plots.gain_per_layer(of(residual=True)), "is no plain network"),
    (lambda: plots.gain_per_layer(recorded()), "has no checkpoint of"),
    (lambda: plots.gain_per_layer(recorded(layers=("fc_1",))), "has one layer: a gain is between two"),
]


@pytest.mark.parametrize(("draw", "words"), BAD)
def test_bad_input_is_one_sentence(draw, words):
    with pytest.raises(plots.PlotError) as error:
        draw()
    assert words in str(error.value)
    assert "\n" not in str(error.value)
