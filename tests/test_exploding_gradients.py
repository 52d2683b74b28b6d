"""The exploding-gradients lab: does the solution pass every check, does each mistake lose exactly its own points?"""

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import simulated_class
import torch
from lab_notebook import LabNotebook
from torch import nn

import labkit
from autograder import authoring, course, questionnaire
from autograder.checks import Failed
from autograder.classes import exploding_gradients as simulated
from autograder.classes.exploding_gradients import ALL, EXPLODING
from autograder.classes.vanishing_gradients import scaled, shuffled, zeroed
from autograder.classroom import Lab
from autograder.questions import exploding_gradients as asked
from labkit import data, initialisations
from labkit.experiments import Experiment
from labkit.plots.gains import measured_gains

LAB = "exploding_gradients"
NOTEBOOK = LabNotebook(LAB)
POINTS, lost = NOTEBOOK.points, NOTEBOOK.lost


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    return NOTEBOOK.solved(tmp_path_factory.mktemp("solved"))


@pytest.fixture(scope="module")
def untouched():
    return NOTEBOOK.untouched()


# the whole


def test_is_the_built_notebook_that_of_the_source():
    assert NOTEBOOK.path.read_bytes() == authoring.rendered(NOTEBOOK.source)


@pytest.mark.parametrize("name", POINTS)
def test_does_the_solution_pass(solved, name):
    assert lost(name, *solved) == {}


@pytest.mark.parametrize("name", POINTS)
def test_does_an_untouched_release_earn_nothing(untouched, tmp_path, name):
    assert NOTEBOOK.earned_by(name, untouched, tmp_path) == 0


def test_do_points_and_names_of_cells_fit_the_questions():
    assert NOTEBOOK.points_of_cells() == POINTS == ALL


def test_are_the_runs_of_the_notebook_those_that_are_asked_for(solved):
    namespace, _ = solved
    runs = {name: entry.experiment for name, entry in asked.recordings("ada").items()}
    assert {name: runs[name] for name in asked.GAINS} == namespace["dial"]
    assert runs["linear"] == namespace["linear_experiment"]
    assert runs["linear_clipped"] == namespace["linear_clipped_experiment"]
    assert runs["stuck"] == namespace["stuck_experiment"]
    assert runs["conv"] == namespace["conv_experiment"]


# gains by another way


@pytest.mark.parametrize("changes", [
    {}, {"normalisation": "batch"}, {"normalisation": "layer"}, {"residual": True},
    {"residual": True, "normalisation": "batch"}, {"activation": "tanh", "normalisation": "layer"},
])  # fmt: skip
def test_gains_are_those_of_autograd(changes):
    e = asked.dial("ada", "two").replace(**changes)
    dataset, network, outputs = data.of_experiment(e), labkit.networks.of_experiment(e), []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    loss = nn.functional.cross_entropy(network(torch.from_numpy(dataset.inputs[:20]).double()),
                                       torch.from_numpy(dataset.labels[:20]))  # fmt: skip
    squares = [float(g.square().mean()) for g in torch.autograd.grad(loss, outputs)]
    expected = [a / b for a, b in pairwise(squares)]
    found = asked.gains_of(initialisations.named(e), dataset.inputs[:20], dataset.labels[:20], e)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_gains_are_those_of_the_figure(solved):
    np.testing.assert_allclose(asked.start_gains(asked.dial("ada", "two")), measured_gains(solved[1]["two"]), rtol=1e-6)


def test_first_gradients_are_those_of_autograd(solved):
    given = [gradient.numpy() for gradient in solved[0]["given_gradients"]]
    for found, expected in zip(asked.first_gradients(asked.dial("ada", "two")), given, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_clipping_is_torchs():
    gradients = [np.random.RandomState(0).standard_normal((5, 4)), np.random.RandomState(1).standard_normal(3)]
    for ours, theirs, limit in ((asked.by_norm, nn.utils.clip_grad_norm_, 0.5),
                                (asked.by_value, nn.utils.clip_grad_value_, 0.3)):  # fmt: skip
        parameters = [nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        theirs(parameters, limit)
        for found, parameter in zip(ours(gradients, limit), parameters, strict=True):
            np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=1e-5)
    assert [float(np.linalg.norm(g)) for g in asked.by_each(gradients, 0.5)] == pytest.approx([0.5, 0.5])


def test_normalisation_takes_the_dial_away_and_residual_connections_add_one():
    """Batch-normalised ReLU layers have a gain of pi / (pi - 1) (Yang et al. 2019, "A mean field theory of batch
    normalization")."""
    e = {name: asked.dial("ada", name) for name in ("half", "two")}
    batch = [asked.inner(asked.start_gains(one.replace(normalisation="batch"))) for one in e.values()]
    np.testing.assert_allclose(batch[0], batch[1], rtol=0.05)
    assert np.median(batch[0]) == pytest.approx(np.pi / (np.pi - 1), rel=0.1)
    for name, k in (("half", 0.5), ("two", 2.0)):
        assert asked.mean_gain(asked.start_gains(e[name].replace(residual=True))) == pytest.approx(1 + k, rel=0.15)


# planted mistakes: question, checks that are lost, what is written instead, words of the reason

GAIN = """
def backward_gain(network, images, labels):
    z, zs = images.flatten(1), []
    for module in network[1:]:
        z = module(z)
        if isinstance(module, nn.Linear):
            zs.append(z)
    gs = torch.autograd.grad(nn.functional.cross_entropy(z, labels), zs)
    s = [SIZE for g in gs]
    return RATIOS
"""


def gain_by(size, ratios="[a / b for a, b in zip(s, s[1:])]"):
    return GAIN.replace("SIZE", size).replace("RATIOS", ratios)


SQUARE = "float((g**2).mean())"
MAJORITY = """
def majority(labels):
    _, n = np.unique(labels, return_counts=True)
    p = n / n.sum()
    return """
CLIP = "def clip_by_norm(gradients, max_norm):\n    n = torch.sqrt(sum((g**2).sum() for g in gradients))\n"
MISTAKES = [
    ("weight_sd", {"weight_sd_of_relu"}, "def weight_sd(a, n, k): return (k / n) ** 0.5", "half of the units"),
    ("weight_sd", {"weight_sd_of_linear"}, "def weight_sd(a, n, k): return (2 * k / n) ** 0.5", "slope is 1"),
    ("weight_sd", {"weight_sd_of_linear", "weight_sd_of_relu"}, "def weight_sd(a, n, k): return k / n", "expected"),
    ("backward_gain", {"gain_for_each_layer", "gain_of_networks"},
     gain_by(SQUARE, "s"), "the shape"),
    ("backward_gain", {"gain_for_each_layer", "gain_of_networks"},
     gain_by("float(g.mean())"), "ratio of mean squares"),
    ("backward_gain", {"gain_of_networks"},
     gain_by(SQUARE, "[b / a for a, b in zip(s, s[1:])]"), "into fc_"),
    ("backward_gain", {"gain_of_networks"},
     gain_by(SQUARE, "[a / b for a, b in zip(s, s[1:])][::-1]"), "first layer"),
    ("backward_gain", {"gain_of_networks"},
     gain_by("float((g**2).sum())"), "over all units"),
    ("backward_gain", {"gain_of_networks"},
     gain_by("float(g.abs().mean())"), "mean of (dloss"),
    ("dial_gains", {"gain_of_z"}, "gain_of_z = gain_of_weights", "leave out its first"),
    ("dial_gains", {"gain_of_z"}, "gain_of_z = {n: np.sqrt(g) for n, g in gain_of_z.items()}", "gain_of_z['half']"),
    ("dial_gains", {"gain_of_weights"}, "gain_of_weights = {n: g**0.25 for n, g in gain_of_weights.items()}",
     "8 steps"),
    ("dial_gains", {"inside_band"}, "inside_band = {'half': 0, 'one': 0, 'two': 0}", "gain_band"),
    ("dial_gains", {"inside_band"}, "inside_band = {'half': True}", "'half', 'one' and 'two'"),
    ("clip_by_norm", {"long_gradients_are_shortened"},
     CLIP + "    return [g * min(1.0, max_norm / (float(g.norm()) + 1e-9)) for g in gradients]", "gradient 0"),
    ("clip_by_norm", {"short_gradients_are_left"},
     CLIP + "    return [g * max_norm / (n + 1e-12) for g in gradients]", "gradient"),
    ("clip_by_norm", {"short_gradients_are_left"},
     CLIP + "    return [g * min(1.0, max_norm / float(n)) if n else g / n for g in gradients]", "nan"),
    ("clip_by_norm", {"long_gradients_are_shortened", "short_gradients_are_left"}, CLIP, "expected is a list of 5"),
    ("clip_otherwise", {"each_is_clipped"}, "clip_each_by_norm = clip_by_norm", "clip_each_by_norm(gradients"),
    ("clip_otherwise", {"values_are_clipped"}, "def clip_by_value(gs, limit): return [g.clamp(max=limit) for g in gs]",
     "clip_by_value(gradients"),
    ("clipped_gradients", {"norm_after"}, "norm_after = {**norm_after, 'each': 1.0}", "all 22 gradients"),
    ("clipped_gradients", {"cosine_after"}, "cosine = {**cosine, 'value': 1.0}", "sum of products"),
    ("clipped_gradients", {"norm_after"}, "norm_after = dict.fromkeys(norm_after, 1.0)", "run their cell again"),
    ("clipped_norms", {"largest_norm"}, "largest_norm = {**largest_norm, 'before': largest_norm['after']}", "before"),
    ("clipped_norms", {"gain_of_clipped"}, "gain_of_clipped = {'start': 4.0, 'end': 1.0}", "load_state_dict"),
    ("remedies", {"remedies_for_half"}, "gain_with_half = gain_with_two", "gain_with_half['none']"),
    ("remedies", {"remedies_for_two"}, "gain_with_two = {**gain_with_two, 'residual': 2.0}", "two_experiment"),
    ("tutorial_norms", {"linear_gain"}, "linear_gain = 5.5", "before the training"),
    ("tutorial_norms", {"tutorial_norms"}, "matrix_norm = {**matrix_norm, 'tutorial': 1.0}", "matrix_norm['tutorial']"),
    ("majority", {"majority_accuracy"}, MAJORITY + "1 / len(n), -(p * np.log(p)).sum()", "most frequent"),
    ("majority", {"majority_loss"}, MAJORITY + "p.max(), np.log(len(n))", "in nats"),
    ("majority", {"majority_accuracy", "majority_loss"}, "def majority(x): return 0.1", "two things"),
    ("tutorial_histogram", {"keras_edge"}, "keras_edge = 0.1", "eq. 16"),
    ("tutorial_histogram", {"widest"}, "widest = {**widest, 'gradients': widest['weights']}", "widest['gradients']"),
    ("he_weights", {"he_of_filters"}, "def he_sd(c, s): return (2 / (c * s)) ** 0.5", "side squared"),
    ("he_weights", {"he_of_filters"}, "def he_sd(c, s): return 2 / (c * s**2)", "he_sd("),
    ("he_weights", {"shrinks_by"}, "shrinks = 1 / shrinks", "he_sd / 0.01"),
    ("he_weights", {"shrinks_by"}, "shrinks = shrinks * 0.0589 / 0.01", "nine factors"),
    ("conv_values", {"filters_over_he"}, "sd_over_he = sd_over_he[::-1]", "at (0,)"),
    ("conv_values", {"filters_over_he"}, "sd_over_he = [s**2 for s in sd_over_he]", "weights.std()"),
    ("conv_values", {"first_over_last"}, "first_over_last = {n: 1 / r for n, r in first_over_last.items()}", "row 0"),
    ("conv_values", {"accuracies"}, "reached = {n: 0.99 for n in reached}", "recording.accuracy"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "loses", "written", "words"), MISTAKES)
def test_does_a_planted_mistake_lose_its_own_checks(solved, name, loses, written, words):
    namespace = dict(solved[0])
    exec(written, namespace)
    found = lost(name, namespace, solved[1])
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


@pytest.mark.parametrize(("name", "loses", "forged", "words"), [
    ("dial_runs", {"half_recorded"}, {"half": zeroed}, "exactly 0"),
    ("dial_runs", {"one_recorded"}, {"one": scaled}, "scaled"),
    ("dial_runs", {"two_recorded"}, {"two": shuffled}, "order"),
    ("tutorial_runs", {"linear_recorded"}, {"linear": scaled}, "scaled"),
    ("tutorial_runs", {"linear_clipped_recorded"}, {"linear_clipped": zeroed}, "exactly 0"),
    ("tutorial_runs", {"stuck_recorded"}, {"stuck": zeroed}, "exactly 0"),
    ("loud_and_clipped", {"clipped_is_finite"}, {"clipped": scaled}, "no larger than the size"),
    ("tutorial_norms", {"tutorial_norms"}, {"linear_clipped": lambda r: replace(r, clip_factor=r.clip_factor * 0 + 1)},
     "replay"),
    ("tutorial_histogram", {"widest"}, {"stuck": zeroed}, "exactly 0"),
    ("conv_values", {"conv_recorded", "filters_over_he", "first_over_last", "accuracies"}, {"conv": scaled}, "scaled"),
])  # fmt: skip
def test_does_a_forged_recording_lose_what_rests_on_it(solved, name, loses, forged, words):
    namespace, runs = solved
    found = lost(name, namespace, runs | {one: forge(runs[one]) for one, forge in forged.items()})
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


TWO = asked.dial("ada", "two")


@pytest.mark.parametrize(("name", "loses", "file", "experiment", "words"), [
    ("dial_runs", {"half_recorded"}, "half", TWO, "its gain is"),
    ("dial_runs", {"half_recorded"}, "half", asked.dial("bela", "half"), "another student's"),
    ("loud_and_clipped", {"loud_explodes", "clipped_is_finite"}, "loud", TWO, "stays below"),
    ("loud_and_clipped", {"loud_explodes", "clipped_is_finite"}, "loud", TWO.replace(gain=2.0, clip_norm=1.0),
     "were clipped"),
    ("loud_and_clipped", {"loud_explodes", "clipped_is_finite"}, "loud", TWO.replace(gain=4.0), "allows 1 to 3"),
    ("loud_and_clipped", {"clipped_is_finite"}, "clipped", TWO.replace(gain=1.8, clip_norm=1.0), "k included"),
    ("loud_and_clipped", {"clipped_is_finite"}, "clipped", TWO.replace(gain=2.0, clip_norm=2.0), "clip_norm=1.0"),
    ("clipped_norms", {"largest_norm", "gain_of_clipped"}, "clipped", TWO.replace(gain=2.0), "nothing was clipped"),
    ("remedies", {"loud_is_mended"}, "mended", TWO.replace(gain=2.0, residual=True), "no longer a number"),
    ("remedies", {"loud_is_mended"}, "mended", TWO.replace(gain=1.0), "k stays as it is"),
    ("remedies", {"loud_is_mended"}, "mended", TWO.replace(gain=2.0), "as it was"),
    ("loud_and_clipped", {"loud_explodes", "clipped_is_finite"}, "loud", TWO.replace(gain=0.2),
     "with more than its own gain"),
    ("remedies", {"loud_is_mended"}, "mended", TWO.replace(gain=2.0, clip_norm=1.0), "nothing is clipped"),
])  # fmt: skip
def test_does_another_run_lose_what_it_was_asked_for(solved, name, loses, file, experiment, words):
    found = lost(name, solved[0], solved[1] | {file: labkit.train(experiment, progress=False)})
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


def invented(r, fill):
    """Numbers wherever there are none any more, and a loss that falls."""
    loss = np.linspace(3, 2, r.iterations)
    return replace(r, loss=np.concatenate([r.loss[:1], loss[1:]]), gradient=np.nan_to_num(r.gradient, True, *fill))


@pytest.mark.parametrize(("fill", "words"), [
    ((np.inf,) * 3, "gradients are no longer numbers"),
    ((1.0,) * 3, "a rounding at its start makes another training"),
])  # fmt: skip
def test_is_a_falling_loss_behind_an_explosion_no_remedy(solved, fill, words, monkeypatch):
    """Nothing is compared with a replay there, so it could be invented."""
    gain = solved[1]["loud"].origin.experiment.gain
    mended = invented(labkit.train(TWO.replace(gain=gain, residual=True), progress=False), fill)
    monkeypatch.setattr(asked, "run_of", lambda _, name: {**solved[1], "mended": mended}[name])
    with pytest.raises(Failed, match=words):
        asked.loud_is_mended.examine(None)


def test_tells_a_run_nothing_of_clipping_behind_its_last_number(solved, monkeypatch):
    clipped = solved[1]["clipped"]
    broken = replace(clipped, loss=np.append(clipped.loss[:-1], np.nan).astype(clipped.loss.dtype))
    monkeypatch.setattr(asked, "run_of", lambda _, name: broken)
    with pytest.raises(Failed, match="no longer a number"):
        asked._clipped(None)


def test_does_batch_normalisation_mend_it_as_well(solved):
    mended = labkit.train(TWO.replace(gain=2.0, normalisation="batch"), progress=False)
    assert lost("remedies", solved[0], solved[1] | {"mended": mended}) == {}


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"kind": "network"}, float("nan"), np.ones(3)])
def test_is_a_value_of_another_kind_a_failure_and_never_a_crash(solved, value):
    variables = ("gain_of_z", "gain_of_weights", "inside_band", "norm_after", "cosine", "largest_norm", "widest",
                 "gain_of_clipped", "gain_with_half", "gain_with_two", "matrix_norm", "keras_edge",
                 "linear_gain", "shrinks", "sd_over_he", "first_over_last", "reached")  # fmt: skip
    functions = ("weight_sd", "backward_gain", "clip_by_norm", "clip_each_by_norm", "clip_by_value", "majority",
                 "he_sd")  # fmt: skip
    namespace = solved[0] | dict.fromkeys(variables, value) | dict.fromkeys(functions, lambda *_: value)
    for name in POINTS:
        runs = {"half_recorded", "one_recorded", "two_recorded", "linear_recorded", "linear_clipped_recorded",
                "stuck_recorded", "conv_recorded", "loud_explodes", "clipped_is_finite", "loud_is_mended"}  # fmt: skip
        assert set(lost(name, namespace, solved[1])) == {one.name for one in questionnaire.of(LAB)[name].checks} - runs


# the simulated class


def test_is_each_kinds_edit_in_the_solution(tmp_path):
    course.init(tmp_path, [LAB])
    (tmp_path / "release" / LAB).mkdir(parents=True)
    shutil.copy(NOTEBOOK.path, tmp_path / "release" / LAB / NOTEBOOK.path.name)
    lab = Lab.read(tmp_path, LAB)
    whole = lab.cells(EXPLODING[0])
    for kind in EXPLODING:
        assert all(0 < points <= POINTS[name] for name, points in kind.loses.items())
        if not kind.copies:
            cells = lab.cells(kind)
            assert {id for id in cells if cells[id] != whole[id]} == {edit.cell for edit in kind.edits}


@pytest.mark.parametrize(
    "kind", [one for one in EXPLODING if one.edits and not (one.copies or one.skips)], ids=lambda kind: kind.name
)
def test_does_each_edit_lose_what_the_class_says(solved, kind, tmp_path):
    found, said = NOTEBOOK.lost_by(kind, solved, tmp_path)
    assert found == dict(kind.loses), said
    assert kind.says in said


def test_do_essays_quote_the_own_numbers(solved, tmp_path):
    for name, run in solved[1].items():
        run.save(tmp_path / f"{name}.safetensors")
    numbers = simulated.own_numbers(tmp_path)
    assert all("{" not in essay.format(**numbers) for essay in simulated.ESSAYS.values())


@pytest.fixture(scope="module")
def graded(tmp_path_factory, warm):
    return simulated_class.graded(tmp_path_factory.mktemp("exploding"), LAB, simulated_class.usual(EXPLODING))


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulated_class.usual(EXPLODING), ids=lambda kind: kind.name)
def test_does_each_kind_lose_exactly_its_own_points(graded, kind):
    simulated_class.assert_loses(graded[kind.name], kind)


def test_experiments_stay_small():
    for name, entry in asked.recordings("ada").items():
        e: Experiment = entry.experiment
        size = ("digits", 500, 32) if name == "conv" else ("digits", 2000, asked.UNITS)
        assert (e.data, e.observations, max(e.widths[1:])) == size


def test_he_weights_are_torchs():
    for channels, side in ((1, 7), (64, 3), (13, 5)):
        filters = torch.empty(400, channels, side, side)
        nn.init.kaiming_normal_(filters, generator=torch.Generator().manual_seed(0))
        assert asked.he_sd(channels, side) == pytest.approx(float(filters.std()), rel=0.03)
