"""Are the explorer's gradients those of labkit's networks, is its theory right, and does its code make its state?"""

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch

import labkit
from labkit import data, initialisations, networks, starts, theory
from labkit.ensembles import seeds_of
from labkit.experiments import Activation, Experiment, ExperimentError, Initialisation, Normalisation, experiment
from labkit.explained import notes, number, summary, table, view
from labkit.explorer import Explorer, code, explore, told
from labkit.losses import mean_cross_entropy

SMALL = Experiment(observations=60, pool=200, widths=(784, 9, 9, 9, 10), batch_size=20, dtype="float64")
POINTS = Experiment(data="circles", observations=60, widths=(2, 6, 6, 1), batch_size=20, dtype="float64")
EVERY = list(product(get_args(Activation), get_args(Initialisation), get_args(Normalisation), (False, True)))


def by_autograd(e):
    """Loss, root mean square of each layer's dloss/dz (of single images) and dloss/dW, by labkit's own network, data
    and loss on the first mini-batch that `train` takes; and the gradients of all parameters."""
    drawn, chosen = data.of_experiment(e), data.epoch_batches(e, 0)[0]
    inputs = torch.from_numpy(drawn.inputs[chosen]).to(getattr(torch, e.dtype))
    labels = torch.from_numpy(drawn.labels[chosen])
    network, seen = networks.of_experiment(e), []
    for k in range(1, len(e.widths)):

        def keep(module, entered, left):
            left.retain_grad()
            seen.append(left)

        network.get_submodule(f"fc_{k}").register_forward_hook(keep)
    loss = mean_cross_entropy(network(inputs), labels)
    loss.backward()
    deltas = [float(z.grad.double().square().mean().sqrt()) * len(chosen) for z in seen]
    matrices = [network.get_submodule(f"fc_{k}").weight.grad for k in range(1, len(e.widths))]
    return float(loss.detach()), deltas, [float(g.double().square().mean().sqrt()) for g in matrices], network


@pytest.mark.parametrize(("activation", "initialisation", "normalisation", "residual"), EVERY)
def test_gradients_are_those_of_labkits_network(activation, initialisation, normalisation, residual):
    choice = {"activation": activation, "initialisation": initialisation, "normalisation": normalisation}
    e = SMALL.replace(**choice, residual=residual, gain=1.3, seed=2)
    found = starts.at_start(e, [7, 2])
    assert found.seeds == (7, 2)
    loss, deltas, weights, _ = by_autograd(e)
    # float64: products are summed in another order, side by side; a wrong sign, layer or scale is no such small thing
    np.testing.assert_allclose(found.loss[1], loss, rtol=1e-12)
    np.testing.assert_allclose(found.deltas[1], deltas, rtol=1e-9)
    np.testing.assert_allclose(found.weights[1], weights, rtol=1e-9)


@pytest.mark.parametrize("e", [POINTS, POINTS.replace(normalisation="batch"), POINTS.replace(residual=True)])
def test_points_with_one_output_and_another_slope(e):
    e = e.replace(activation="leaky_relu", slope=0.2)
    loss, deltas, weights, _ = by_autograd(e)
    found = starts.at_start(e, [e.seed])
    np.testing.assert_allclose(found.loss[0], loss, rtol=1e-12)
    np.testing.assert_allclose(found.deltas[0], deltas, rtol=1e-9)
    np.testing.assert_allclose(found.weights[0], weights, rtol=1e-9)


def test_in_float32_they_are_the_same_up_to_rounding():
    e = SMALL.replace(dtype="float32", activation="gelu", normalisation="layer", initialisation="he_normal")
    _, deltas, weights, _ = by_autograd(e)
    found = starts.at_start(e, [0])
    # float32 keeps seven digits, of which sums over some hundred terms lose one or two
    np.testing.assert_allclose(found.deltas[0], deltas, rtol=1e-4)
    np.testing.assert_allclose(found.weights[0], weights, rtol=1e-4)


@pytest.mark.parametrize("normalisation", get_args(Normalisation))
def test_they_are_finite_differences_of_the_loss(normalisation):
    e = SMALL.replace(activation="tanh", normalisation=normalisation, residual=True)
    drawn, chosen = data.of_experiment(e), data.epoch_batches(e, 0)[0]
    inputs, labels = torch.from_numpy(drawn.inputs[chosen]).double(), torch.from_numpy(drawn.labels[chosen])
    network = networks.of_experiment(e)
    step, differences = 1e-5, []
    with torch.no_grad():
        weight = network.get_submodule("fc_3").weight
        for place in np.ndindex(*weight.shape):
            values = []
            for way in (step, -step):
                weight[place] += way
                values.append(float(mean_cross_entropy(network(inputs), labels)))
                weight[place] -= way
            differences.append((values[0] - values[1]) / (2 * step))
    # central differences are off by step^2, and by rounding over step
    np.testing.assert_allclose(starts.at_start(e, [0]).weights[0][2], np.sqrt(np.mean(np.square(differences))), 1e-6)


@pytest.mark.parametrize("planted", ["another seed", "another batch", "a mean too few"])
def test_planted_mistakes_show(planted):
    e = SMALL.replace(activation="tanh")
    _, deltas, _, _ = by_autograd(e)
    found = {
        "another seed": lambda: starts.at_start(e, [1]).deltas[0],
        "another batch": lambda: starts.at_start(e.replace(batch_size=19), [0]).deltas[0],
        "a mean too few": lambda: starts.at_start(e, [0]).deltas[0] / 20,
    }[planted]()
    assert not np.allclose(found, deltas, rtol=1e-3)


@pytest.mark.parametrize(
    "clip",
    [{}, {"clip_norm": 0.05}, {"clip_each": 0.02}, {"clip_value": 1e-3}, {"clip_norm": 0.05, "dtype": "float64"}],
)
@pytest.mark.parametrize("more", [{}, {"normalisation": "batch", "activation": "silu"}])
def test_the_first_recorded_step_has_these_gradients(clip, more):
    """A recording keeps what the optimiser gets, which is what clipping leaves."""
    e = SMALL.replace(**{"dtype": "float32", "epochs": 1, **clip, **more})
    recording = labkit.train(e, device="cpu", progress=False)
    found = starts.at_start(e, [e.seed])
    norms = found.clipped * np.sqrt([np.prod(shape) for shape in recording.origin.shapes])
    np.testing.assert_allclose(norms, recording.statistic("norm")[0], rtol=1e-4)  # recorded in float32
    np.testing.assert_allclose(found.loss[0], recording.loss[0], rtol=1e-5)
    assert bool((found.clipped < found.weights[0] * (1 - 1e-6)).any()) == bool(clip)


def test_after_training_they_are_those_of_the_last_checkpoint():
    explorer = Explorer(SMALL.replace(epochs=2, normalisation="layer"))
    assert explorer.after is None
    recording = explorer.train()
    again = starts.at_parameters(explorer.experiment, recording.checkpoint(0))
    np.testing.assert_allclose(again.deltas[0], explorer.measured.deltas[0], rtol=1e-12)
    assert not np.allclose(explorer.after.deltas, again.deltas, rtol=1e-3)
    assert explorer.change(gain=2.0).after is None
    assert "another state" in " ".join(notes(explorer))


@pytest.mark.parametrize("initialisation", get_args(Initialisation))
def test_kept_numbers_are_the_ones_that_are_drawn(initialisation):
    """Whatever was drawn before: narrow networks, wide ones, other kinds."""
    for widths in [(784, 5, 5, 10), (784, 12, 12, 12, 10), (784, 7, 10), (2, 40, 1)]:
        for drawing in (starts._drawn, starts._drawn):
            found = initialisations.draw(widths, initialisation, 1.7, 3, drawing)
            for mine, other in zip(found, initialisations.draw(widths, initialisation, 1.7, 3), strict=True):
                for one, two in zip(mine, other, strict=True):
                    assert one.tobytes() == two.tobytes()


def test_kept_numbers_are_let_go_when_they_are_many(monkeypatch):
    monkeypatch.setattr(starts, "NUMBERS", 1000)
    before = starts.at_start(SMALL, [0, 1]).weights
    np.testing.assert_array_equal(starts.at_start(SMALL, [0, 1]).weights, before)
    assert starts._Kept.total < 784 * 9 + 2000


# ---- theory

WIDE = Experiment(observations=200, pool=300, widths=(784, *(160,) * 6, 10), batch_size=60)


@pytest.mark.parametrize("normalisation", ["none", "layer"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("start", [{"initialisation": "he_normal"}, {"initialisation": "pytorch", "gain": 2.0}])
def test_wide_networks_have_the_gradients_that_theory_says(activation, normalisation, residual, start):
    e = WIDE.replace(activation=activation, normalisation=normalisation, residual=residual, **start)
    found = starts.at_start(e, range(6))
    measured = np.sqrt(np.mean(found.deltas**2, axis=0))
    expected = theory.layer_sizes(e, float(found.entering[:, 0].mean()), measured[-1])
    # six seeds of 160 units scatter by some percent, and layers are correlated; images of different size give the first
    # layer behind a layer normalisation up to a fifth more
    np.testing.assert_allclose(measured[1:], expected[1:], rtol=0.2)
    np.testing.assert_allclose(measured[0], expected[0], rtol=0.35)


def test_deep_inside_the_line_falls_by_the_mean_fields_gain():
    e = WIDE.replace(widths=(784, *(100,) * 40, 10), activation="sigmoid", initialisation="he_normal")
    sizes = theory.layer_sizes(e, 0.1, 0.3)
    assert (sizes[9] / sizes[10]) ** 2 == pytest.approx(theory.gain("sigmoid", "he_normal", 100), rel=1e-6)
    linear = theory.layer_sizes(e.replace(activation="linear", initialisation="lecun_normal"), 0.1, 0.3)
    np.testing.assert_allclose(linear[:-1], linear[0], rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"gain": 1.15}, {"residual": True}, {"normalisation": "layer"}])
def test_the_line_of_another_network_is_not_this_ones(wrong):
    e = WIDE.replace(initialisation="he_normal")
    found = starts.at_start(e, range(4))
    measured = np.sqrt(np.mean(found.deltas**2, axis=0))
    expected = theory.layer_sizes(e.replace(**wrong), float(found.entering[:, 0].mean()), measured[-1])
    assert not np.allclose(measured, expected, rtol=0.35)


def test_seeds_lie_within_theorys_limits():
    e = WIDE.replace(initialisation="he_normal", widths=(784, *(60,) * 8, 10))
    explorer = Explorer(e.replace(batch_size=2), seeds=20)
    found = told(explorer)
    explorer.look()
    found = told(explorer)
    inside = (explorer.start.deltas >= found.reach[:, 0] * 0.95) & (explorer.start.deltas <= found.reach[:, 1] * 1.05)
    assert inside.mean() > 0.85
    assert found.reach[-1, 0] == found.reach[-1, 1]


def test_behind_a_batch_normalisation_there_is_no_line_but_a_sentence():
    explorer = Explorer(SMALL.replace(normalisation="batch"))
    found = told(explorer)
    assert (found.expected, found.reach, found.expected_gains) == (None, None, None)
    assert "no line" in " ".join(notes(explorer))
    assert "theory says" not in summary(explorer)
    assert view(explorer)["sizes"]["deltas"]["theory"] is None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: theory.layer_sizes(SMALL.replace(normalisation="batch"), 0.1, 0.3), "batch norm"),
        (lambda: theory.layer_sizes(experiment("recurrent/rnn"), 0.1, 0.3), "fully connected"),
        (lambda: theory.layer_bands(SMALL.replace(residual=True), 0.1), "plain network"),
        (lambda: starts.at_start(experiment("recurrent/lstm"), [0]), "an mlp"),
        (lambda: starts.at_start(SMALL, []), "one or more"),
    ],
)
def test_what_has_no_answer_is_refused(ask, words):
    with pytest.raises(ExperimentError, match=words):
        ask()


# ---- the state, its words and its code


def made_by(lines):
    """The experiment that the code makes, without the line that trains it."""
    names = {}
    exec(lines[: lines.index("recording = ")], names)
    return names["experiment"]


STATES = [
    {},
    {"depth": 30, "width": 100},
    {"depth": 1, "width": 3, "activation": "gelu"},
    {"initialisation": "orthogonal", "gain": 0.31, "residual": True},
    {"normalisation": "layer", "clip": "clip_value", "clip_size": 0.01},
    {"normalisation": "batch", "clip": "clip_each", "clip_size": 2.5, "batch_size": 30},
    {"clip": "clip_norm", "clip_size": 1, "epochs": 3},
    {"data": "circles", "activation": "tanh"},
]


@pytest.mark.parametrize(
    "name", ["vanishing/relu", "vanishing/exploding", "layers/tanh", "exploding/linear_clipped", ""]
)
@pytest.mark.parametrize("student", ["", "ada", 'o"neil\\'])
@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_code_makes_this_very_experiment(name, student, state):
    explorer = explore(experiment(name, student) if name else SMALL.replace(student=student))
    explorer.change(**state)
    assert made_by(explorer.code) == explorer.experiment
    for setting, value in state.items():
        assert getattr(explorer.settings, setting) == value
    compile(explorer.code, "code", "exec")


def test_the_code_trains_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer = Explorer(SMALL).change(epochs=1, width=4)
    names = {}
    exec(explorer.code.replace("labkit.train(", "labkit.train(progress=False, device='cpu', experiment="), names)
    recording = labkit.Recording.load(tmp_path / "explored.safetensors")
    assert recording.origin.experiment == explorer.experiment == names["experiment"]


def test_a_planted_difference_is_not_this_experiment():
    assert made_by(code(SMALL.replace(gain=1.25))) != SMALL
    assert made_by(code(SMALL.replace(gain=0.1 + 0.2))).gain == 0.1 + 0.2


def test_it_starts_from_a_given_state_cut_to_a_few_hundred_steps():
    given = experiment("vanishing/sigmoid", "ada")
    explorer = explore(given)
    assert explorer.experiment == given.replace(epochs=8)
    assert explorer.seeds[0] == given.seed
    assert len(set(explorer.seeds)) == len(explorer.seeds) == 20
    assert explore(given.replace(epochs=2)).experiment.epochs == 2
    assert explore().change(width=11).change(width=10).experiment.name == "vanishing/relu"


def test_a_look_goes_on_where_it_was():
    explorer = Explorer(SMALL.replace(widths=(784, *(100,) * 30, 10), batch_size=60), seeds=3)
    first = explorer.look(0)
    assert first.seeds == (0,)
    assert not explorer.complete
    view(explorer)  # looks at what there is
    assert explorer.measured is first
    while not explorer.complete:
        explorer.look(0)
    together = starts.at_start(explorer.experiment, [0, 1, 2])
    np.testing.assert_allclose(explorer.start.deltas, together.deltas, rtol=1e-9)
    np.testing.assert_array_equal(first.deltas[0], explorer.start.deltas[0])


def test_a_change_measures_anew_and_a_refused_one_leaves_all_as_it_was():
    explorer = Explorer(SMALL, seeds=2)
    before = explorer.start
    with pytest.raises(ExperimentError):
        explorer.change(gain=-1.0)
    assert explorer.start is before
    assert explorer.settings.gain == 1.0
    assert not np.allclose(explorer.change(gain=2.0).start.weights, before.weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation": "softmax"}, "choose from"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": 2.5}, "whole number"),
        ({"width": "9"}, "whole number"),
        ({"gain": 0}, "above 0"),
        ({"clip": "clip_norm", "clip_size": 0}, "above 0"),
        ({"clip": "hard"}, "choose from none, clip_norm"),
        ({"normalisation": "batch", "batch_size": 59}, "mini-batch of 1"),
        ({"batch_size": 61}, "larger than the 60 observations"),
        ({"data": "mnist"}, "digits or circles"),
        ({"layers": 3}, "has no 'layers'"),
        ({"residual": 1}, "True or False"),
    ],
)
def test_impossible_settings_are_one_sentence(change, words):
    with pytest.raises(ExperimentError, match=words) as caught:
        Explorer(SMALL).change(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (lambda: explore("vanishing/relu"), "no experiment"),
        (lambda: explore(experiment("recurrent/gru")), "an mlp"),
        (lambda: explore(SMALL.replace(widths=(784, 10))), "one hidden layer"),
        (lambda: explore(SMALL.replace(widths=(784, 9, 8, 10))), "one width"),
        (lambda: explore(SMALL, seeds=0), "1 or more"),
    ],
)
def test_what_cannot_be_explored_is_refused(begin, words):
    with pytest.raises(ExperimentError, match=words):
        begin()


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ({"activation": "sigmoid", "depth": 5}, "vanishes"),
        ({"initialisation": "he_normal", "gain": 2.0, "depth": 8, "width": 60}, "explodes"),
        ({"initialisation": "he_normal", "depth": 8, "width": 60}, "holds"),
    ],
)
def test_the_regimes_are_named(state, verdict):
    explorer = Explorer(SMALL, seeds=5).change(**state)
    found = told(explorer)
    assert found.verdict == verdict
    said = summary(explorer)
    assert said.endswith(f"it {verdict}.")
    first, last = found.deltas.median[[0, found.compared[1]]]
    assert f"from {number(last)} in fc_{found.compared[1] + 1} to {number(first)} in fc_1" in said
    assert ("shrinks" in said) == (first < last)


def test_gradients_that_are_gone_are_said_and_left_out():
    dead = Explorer(SMALL.replace(dtype="float32"), seeds=2).change(activation="sigmoid", depth=30, gain=0.0001)
    shown = view(dead)
    assert "exactly 0" in " ".join(shown["notes"])
    assert shown["sizes"]["deltas"]["median"][0] is None
    wild = Explorer(SMALL.replace(dtype="float32"), seeds=2).change(depth=30, gain=1000.0)
    assert "not finite" in " ".join(view(wild)["notes"])
    assert "No seed has a gradient" in summary(wild)
    assert "theory says" not in summary(wild)


def test_the_clipped_size_is_said():
    explorer = Explorer(SMALL, seeds=1).change(clip="clip_norm", clip_size=0.001)
    assert "not the gradient" in " ".join(notes(explorer))
    assert "leaves all as it is" in " ".join(notes(explorer.change(clip_size=1000.0)))


def test_the_text_is_the_table_of_the_layers():
    explorer = Explorer(SMALL, seeds=2)
    lines = table(explorer).splitlines()
    found = told(explorer)
    assert str(explorer) == "\n".join(lines)
    row = next(line for line in lines if line.startswith("fc_2"))
    assert number(found.deltas.median[1]) in row
    assert number(found.expected[1]) in row
    assert "2 seeds" in lines[1]


def test_the_figure_says_what_it_shows_and_draws_what_was_measured():
    explorer = Explorer(SMALL, seeds=3)
    figure, found = explorer.figure(), told(explorer)
    assert summary(explorer) in figure.alt_text
    sizes = [line.get_ydata() for line in figure.axes[0].lines]
    for wanted in (found.deltas.median, found.expected, *explorer.start.deltas):
        assert any(np.allclose(row, wanted) for row in sizes)


def test_seeds_are_those_of_the_ensembles():
    """The first seed's experiment is what `ensembles.seeds_of` gives."""
    e = seeds_of(SMALL, 3)[2]
    np.testing.assert_allclose(Explorer(SMALL, seeds=3).start.deltas[2], by_autograd(e)[1], rtol=1e-9)
