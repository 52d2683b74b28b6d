"""The activation study: does the solution pass every check, does each mistake lose exactly its own points?"""

import contextlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import simulated_class
import torch
from lab_notebook import LabNotebook
from torch import nn

import labkit
from autograder import authoring, course, questionnaire
from autograder.classes import activation_study as simulated
from autograder.classes.activation_study import ACTIVATIONS, ALL
from autograder.classes.vanishing_gradients import scaled, shuffled, sign_flipped, zeroed
from autograder.classroom import MARKS, Lab
from autograder.questions import activation_study as asked
from labkit import data, ensembles

LAB = "activation_study"
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


def test_are_the_runs_the_tutorials_but_for_the_images():
    for name, e in asked.experiments("ada").items():
        published = labkit.experiment(f"activations/{name}", "ada")
        assert e == published.replace(data="digits", observations=3000, pool=10_000, seed=e.seed)
        assert (e.iterations, e.batch_size, e.slope, e.widths) == (2500, 30, asked.SLOPE, asked.WIDTHS)
        assert len(range(0, e.iterations, asked.LOOKS)) == 13


def test_has_a_student_whose_relu_network_is_dead_the_next_seed(monkeypatch):
    first = asked.experiments("nobody yet")["relu"].seed
    real = asked._start_gradients
    monkeypatch.setattr(asked, "_start_gradients",
                        lambda e: [np.zeros(3)] if e.seed == first else real(e))  # fmt: skip
    asked.experiments.cache_clear()
    try:
        assert {e.seed for e in asked.experiments("nobody yet").values()} == {first + 1}
    finally:
        asked.experiments.cache_clear()


# what is asked for, by another way


@pytest.mark.parametrize("name", asked.ACTIVATIONS)
def test_start_ratios_are_those_of_autograd(name):
    e = asked.experiments("ada")[name].replace(seed=5)
    drawn, network = data.of_experiment(e), labkit.networks.of_experiment(e.replace(dtype="float64"))
    logits = network(torch.from_numpy(drawn.inputs[:250]).double())
    nn.functional.cross_entropy(logits, torch.from_numpy(drawn.labels[:250])).backward()
    sizes = [p.grad.abs().mean().item() for p in network.parameters() if p.ndim == 2]
    assert asked.start_ratio(e) == pytest.approx(sizes[-1] / sizes[0], rel=1e-9)


def test_ratios_are_those_of_the_ensembles(solved):
    for run in (solved[1][name] for name in asked.ACTIVATIONS):
        found = asked.ratios_of(run.statistic("abs_mean"))
        sizes = ensembles.sizes_over_training(run)
        assert found["ratio_of_means"] == pytest.approx(sizes[-1] / sizes[0], rel=1e-5)
    constant = asked.ratios_of(np.tile([0.5, 1.0, 2.0], (4, 1)))
    assert constant == {"start": 4, "mean_of_ratios": 4, "ratio_of_means": 4}


@pytest.mark.parametrize("name", asked.REMEDIES)
def test_gradients_with_a_remedy_are_those_of_autograd(name):
    e = asked.experiments("ada")["sigmoid"].replace(**asked.REMEDIES[name])
    drawn, network = data.of_experiment(e), labkit.networks.of_experiment(e.replace(dtype="float64"))
    logits = network(torch.from_numpy(drawn.inputs[:250]).double())
    nn.functional.cross_entropy(logits, torch.from_numpy(drawn.labels[:250])).backward()
    expected = [p.grad.numpy() for p in network.parameters() if p.ndim == 2]
    for found, known in zip(asked.weight_gradients(e), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-15)


def test_does_plain_sgd_show_what_adam_hides(solved):
    """Vanished gradients make short steps by SGD, and none by Adam."""
    sgd, adam = (solved[1][name] for name in ("sigmoid_sgd", "sigmoid_adam"))
    for run in (sgd, adam):
        assert asked.first_over_last(run.statistic("abs_mean")) < 0.1
    steps = [asked.first_over_last(run.update_norm / run.weight_norm) for run in (sgd, adam)]
    assert steps[0] < 0.3
    assert steps[1] > 0.5
    arrives = solved[0]["arrives"]
    assert arrives["relu"] > 0.3
    for remedy in ("relu", "residual", "hierarchy"):
        assert arrives[remedy] > 20 * arrives["nothing"]


@pytest.mark.parametrize("name", asked.ACTIVATIONS)
def test_flat_and_dead_are_what_a_recording_has(solved, name):
    namespace, runs = solved
    for k, h in enumerate(namespace["hidden_after_training"](runs[name])):
        flat = asked.flat_values(h, name)
        found = [flat.mean(), flat.all(axis=0).mean()]
        expected = [runs[name].hidden_statistic(what)[-1, k] for what in ("saturated", "dead")]
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_chains_slope_is_that_of_autograd_and_of_finite_differences(seed):
    weights = np.random.default_rng(seed).uniform(0.3, 2, 7) * np.random.default_rng(seed).choice([-1, 1], 7)

    def output(start):
        h = start
        for weight in weights:
            h = nn.functional.leaky_relu(h * weight, 0.2)
        return h

    start = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    output(start).backward()
    found = asked.chain_slope(weights, 0.2)
    assert found == pytest.approx(start.grad.item(), rel=1e-12)
    with torch.no_grad():
        assert found == pytest.approx(float(output(start + 1e-6) - output(start - 1e-6)) / 2e-6, rel=1e-6)


def test_negative_share_is_that_of_the_weights(solved):
    run = solved[1]["leaky_relu"]
    for k, name in enumerate(run.layers):
        weights = run.checkpoint(-1)[f"{name}.weight"]
        assert asked.negative_share(run.weight_counts[-1, k]) == pytest.approx((weights < 0).mean(), abs=1e-3)


def test_does_what_the_tutorial_publishes_follow_from_the_ratio_of_means_alone(solved):
    """30 against 6: as a ratio of means. The start and the mean of the ratios are other numbers altogether."""
    found = {name: asked.ratios_of(run.statistic("abs_mean")) for name, run in solved[1].items()}
    assert 10 < found["sigmoid"]["ratio_of_means"] < 100
    assert found["sigmoid"]["mean_of_ratios"] > 3 * found["sigmoid"]["ratio_of_means"]
    assert found["sigmoid"]["start"] > 300
    for name in ("relu", "leaky_relu"):
        assert 0.3 < found[name]["start"] < 3 < found[name]["ratio_of_means"] < 20
        assert found[name]["mean_of_ratios"] == pytest.approx(found[name]["ratio_of_means"], rel=0.2)


def test_does_the_notebook_work_without_tensorboard(solved, monkeypatch, capsys):
    namespace, _ = solved
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.backend.event_processing.event_accumulator", None)
    curves, histograms = namespace["read_back"](namespace["three_epochs"])
    assert "no event file" in capsys.readouterr().out
    for tag, values in namespace["curves"].items():
        np.testing.assert_allclose(values, curves[tag], rtol=1e-6)
    assert histograms.keys() == namespace["histograms"].keys()
    for tag, entries in namespace["histograms"].items():
        for (counts, edges), (same_counts, same_edges) in zip(entries, histograms[tag], strict=True):
            np.testing.assert_array_equal(counts, same_counts)
            np.testing.assert_allclose(edges, same_edges, atol=1e-12)


# planted mistakes: question, checks that are lost, what is written instead, words of the reason

BUILD = """
def six_layers(activation):
    kind = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "leaky_relu": LEAKY}[activation]
    parts = [nn.Flatten()]
    for n_in, n_out in WIDTHS:
        linear = nn.Linear(n_in, n_out)
        nn.init.INIT(linear.weight)
        nn.init.zeros_(linear.bias)
        parts += [linear, kind()]
    return nn.Sequential(*parts[:-1])
"""
SIX = "[(784, 10)] + [(10, 10)] * 5"


def built(leaky="LeakyReLU", widths=SIX, init="xavier_uniform_"):
    return BUILD.replace("LEAKY", leaky).replace("WIDTHS", widths).replace("INIT", init)


ACCURACY = (
    "def accuracy(logits, labels):\n    p, n = (logits.argmax(1) == labels).double().mean().item(), len(labels)\n"
)
RATIO = """
def last_over_first(s):
    a, b = s[:, 0], s[:, -1]
    t = a > 0
    return {"start": b[0] / a[0], "mean_of_ratios": (b[t] / a[t]).mean(), "ratio_of_means": b.mean() / a.mean()}
"""
LOG = """
def log_values(network, images, labels):
    ZERO
    nn.functional.cross_entropy(network(images), labels, reduction="REDUCED").backward()
    found = {}
    for k, w in enumerate((p for p in network.parameters() if p.ndim == 2), start=1):
        found |= {f"mean_{k}": MEAN, f"histogram_{k}": w.grad, f"hist_weights_{k}": WEIGHTS}
    return found
"""


def log(mean="w.grad.abs().mean()", weights="w.detach()", reduced="mean"):
    text = LOG.replace("ZERO", "network.zero_grad()").replace("REDUCED", reduced)
    return text.replace("MEAN", mean).replace("WEIGHTS", weights)


TELL = "def what_is_logged(v, w, g):\n    for name, x in (('weights', w), ('gradients', g)):\n        if {}:\n" \
    "            return name\n    return 'neither'"  # fmt: skip
RATIO_KEYS = {"ratio_at_start", "mean_of_ratios", "ratio_of_means"}
MISTAKES = [
    ("six_layers", {"leaky_by_hand"}, "def leaky(z): return torch.maximum(z, 0.01 * z)", "0.2 z elsewhere"),
    ("six_layers", {"leaky_by_hand"}, "def leaky(z): return torch.relu(z)", "0.2 z elsewhere"),
    ("six_layers", {"leaky_by_hand"}, "def leaky(z): return z.sum()", "shape"),
    ("six_layers", {"six_layers_in_order"}, built("nn.LeakyReLU"), "six_layers('leaky_relu')"),
    ("six_layers", {"six_layers_in_order", "six_layers_start"}, built(widths=SIX.replace("5", "4")), "Six nn.Linear"),
    ("six_layers", {"six_layers_start"}, built(init="xavier_normal_"), "Glorot's uniform"),
    ("six_layers", {"six_layers_start"}, built(init="kaiming_uniform_"), "Glorot's uniform"),
    ("accuracy", {"accuracy_error"}, ACCURACY + "    return p, p * (1 - p) / n", "The root of"),
    ("accuracy", {"accuracy_error"}, ACCURACY + "    return p, (p * (1 - p)) ** 0.5", "The root of"),
    ("accuracy", {"accuracy_share"}, ACCURACY + "    return 100 * p, (p * (1 - p) / n) ** 0.5", "argmax"),
    ("accuracy", {"accuracy_share", "accuracy_error"}, ACCURACY + "    return p", "two things"),
    ("last_over_first", RATIO_KEYS, RATIO.replace("a, b", "b, a", 1), "expected"),
    ("last_over_first", {"ratio_at_start"}, RATIO.replace("b[0] / a[0]", "b[-1] / a[-1]"), "Row 0"),
    ("last_over_first", {"mean_of_ratios"}, RATIO.replace("a > 0", "a >= 0"), "without rows"),
    ("last_over_first", {"mean_of_ratios"}, RATIO.replace("(b[t] / a[t]).mean()", "b.mean() / a.mean()"),
     "ratio for each row"),
    ("last_over_first", {"ratio_of_means"}, RATIO.replace("b.mean() / a.mean()", "b[t].mean() / a[t].mean()"),
     "all rows"),
    ("last_over_first", RATIO_KEYS, "def last_over_first(s): return s[:, -1] / s[:, 0]", "'start'"),
    ("ratios", {"ratios_of_runs"}, "ratios = tutorial_ratios", "all 2,500 rows"),
    ("ratios", {"ratios_of_records"}, "tutorial_ratios = ratios", "13 rows"),
    ("ratios", {"ratios_of_runs"}, "ratios = {n: r['start'] for n, r in ratios.items()}", "'mean_of_ratios'"),
    ("ratios", {"early_shares"}, "early_share = dict.fromkeys(early_share, 0.04)", "100 iterations"),
    ("flat_units", {"dead_share_of"}, "def flat_and_dead(h, a, f=flat_and_dead): return f(h, a)[0], f(h.T, a)[1]",
     "a column"),
    ("flat_units", {"flat_share_of", "dead_share_of"},
     "def flat_and_dead(h, a): return (h <= 0).mean(), (h <= 0).all(axis=0).mean()", "sigmoid"),
    ("flat_units", {"flat_share_of"}, "def flat_and_dead(h, a, f=flat_and_dead): return 1 - f(h, a)[0], f(h, a)[1]",
     "below 0.05"),
    ("flat_units", {"flat_at_end"}, "flat_share = {n: np.mean(s) for n, s in flat_share.items()}", "the shape"),
    ("flat_units", {"flat_at_end"}, "flat_share = flat_share | {'sigmoid': flat_share['sigmoid'][::-1]}", "fc_1"),
    ("flat_units", {"dead_at_end"}, "dead_units = {n: d + 1 for n, d in dead_units.items()}", "its 10 units"),
    ("seeds", {"wins_function"}, "def wins(a, b): return (a[:, None] > b).mean()", "1/2 for a tie"),
    ("seeds", {"wins_function"}, "def wins(a, b): return (a[:, None] < b).mean() + (a[:, None] == b).mean() / 2",
     "1 for a win"),
    ("seeds", {"start_ratios", "ratio_bands"}, "start_ratios = {n: [r[0]] * 12 for n, r in start_ratios.items()}",
     "the seed plus 1"),
    ("seeds", {"start_ratios", "ratio_bands"}, "start_ratios = {n: r[:5] for n, r in start_ratios.items()}", "shape"),
    ("seeds", {"ratio_bands"}, "ratio_band = {n: (min(r), np.median(r), max(r)) for n, r in start_ratios.items()}",
     ".low, .median"),
    ("log_values", {"logged_means"}, log(mean="w.grad.mean().abs()"), "absolute values"),
    ("log_values", {"logged_means", "logged_gradients"}, log().replace("network.zero_grad()", "pass"), "zero_grad()"),
    ("log_values", {"logged_weights"}, log(weights="w.grad"), "not its gradient"),
    ("log_values", {"logged_means", "logged_gradients"}, log(reduced="sum"), "mean cross-entropy"),
    ("log_values", {"logged_means", "logged_gradients", "logged_weights"}, log().replace("start=1", "start=0"), "keys"),
    ("events", {"event_ratio"}, "event_ratio = ratios['leaky_relu']['ratio_of_means']", "300 values"),
    ("events", {"event_ratio"}, "event_ratio = 1 / event_ratio", "fc_6"),
    ("events", {"event_negative"}, "event_negative = [1.0] * 6", "bins below 0"),
    ("events", {"event_negative"}, "event_negative = event_negative[3]", "the shape"),
    ("tutorial_log", {"small_is_told"}, TELL.format("np.allclose(v, x)"), "beside 1e-9"),
    ("tutorial_log", {"logged_is_told", "small_is_told"}, TELL.format("np.allclose(abs(v), abs(x))"), "'neither'"),
    ("tutorial_log", {"logged_is_told", "small_is_told"},
     TELL.format("np.isclose(np.linalg.norm(v), np.linalg.norm(x), rtol=1e-4, atol=0)"), "something else"),
    ("tutorial_log", {"logged_is_told", "small_is_told"}, TELL.format("np.array_equal(v, x)"), "value by value"),
    ("tutorial_log", {"tutorial_logged"}, "tutorial_logged = dict.fromkeys(tutorial_logged, 'weights')",
     "not what it logs"),
    ("tutorial_log", {"tutorial_logged"}, "tutorial_logged = dict.fromkeys(tutorial_logged, 'grads')", "One of"),
    ("tutorial_log", {"largest_values"}, "largest = {**largest, 'gradients': largest['weights']}", "column 3"),
    ("signs", {"chain_function"}, "def chain_slope(w, s): return np.prod([x if x > 0 else s * x for x in w])",
     "Go along the chain"),
    ("signs", {"chain_function"}, "def chain_slope(w, s): return np.prod(w)", "Go along the chain"),
    ("signs", {"signs_do_not_matter"}, "negative_but_grows = [-3.0] * 6", "100 or more"),
    ("signs", {"signs_do_not_matter"}, "negative_but_grows = [-60.0] * 6", "from -10 to 10"),
    ("signs", {"signs_do_not_matter"}, "negative_but_grows = [6.0] * 6", "not below 0"),
    ("signs", {"signs_do_not_matter"}, "positive_but_vanishes = [-0.1] * 6", "not above 0"),
    ("signs", {"signs_do_not_matter"}, "positive_but_vanishes = [0.9] * 6", "0.01 or less"),
    ("signs", {"signs_do_not_matter"}, "positive_but_vanishes = [0.0] * 6", "not above 0"),
    ("signs", {"signs_do_not_matter"}, "negative_but_grows = [float('nan')] * 6", "expected are weights"),
    ("moved", {"moved_function"}, "def moved(a, b): return np.array([np.linalg.norm(y - x) for x, y in zip(a, b)])",
     "that of the layer before"),
    ("moved", {"moved_function"}, "def moved(a, b, f=moved): return f(a, b).mean()", "shape"),
    ("moved", {"moved_by_training"}, "moved_by = {n: m[::-1] for n, m in moved_by.items()}", "checkpoint(-1)"),
    ("moved", {"gradients_of_plain"}, "gradient_ratio = {n: 1 / r for n, r in gradient_ratio.items()}", "first column"),
    ("moved", {"steps_of_plain"}, "step_ratio = gradient_ratio", "update_norm / weight_norm"),
    ("remedy_list", {"remedies_at_start"}, "arrives = arrives | {'residual': 1.0}", "arrives['residual']"),
    ("remedy_list", {"remedies_at_start"}, "arrives = arrives | {'hierarchy': arrives['nothing']}",
     "arrives['hierarchy']"),
    ("remedy_list", {"more_iterations"}, "arrives = arrives | {'hardware': arrives['nothing']}", "last 100 rows"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:divide by zero")  # some mistakes do
@pytest.mark.parametrize(("name", "loses", "written", "words"), MISTAKES)
def test_does_a_planted_mistake_lose_its_own_checks(solved, name, loses, written, words):
    namespace = dict(solved[0])
    exec(written, namespace)
    found = lost(name, namespace, solved[1])
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


def weights_as_gradients(run):
    """The tutorial's mistake the other way round: what is kept as the gradients' norm are the weights'."""
    gradient = run.gradient.copy()
    gradient[:, :, 3] = run.weight_norm
    return replace(run, gradient=gradient)


def without_hidden(run):
    """As of a network that has no activations: nothing hidden is compared then."""
    return replace(run, origin=replace(run.origin, activations=()), hidden=run.hidden[:, :0])


@pytest.mark.parametrize(("name", "loses", "forged", "words"), [
    ("activation_runs", {"sigmoid_recorded"}, {"sigmoid": zeroed}, "exactly 0"),
    ("activation_runs", {"relu_recorded"}, {"relu": shuffled}, "order"),
    ("activation_runs", {"leaky_recorded"}, {"leaky_relu": scaled}, "scaled"),
    ("activation_runs", {"leaky_recorded"}, {"leaky_relu": weights_as_gradients}, "are its weights"),
    ("ratios", {"ratios_of_runs", "ratios_of_records", "early_shares"}, {"relu": scaled}, "scaled"),
    ("ratios", {"ratios_of_runs", "ratios_of_records", "early_shares"}, {"sigmoid": sign_flipped}, "flipped"),
    ("flat_units", {"flat_at_end", "dead_at_end"},
     {"relu": lambda r: replace(r, hidden=r.hidden * 0)}, "replay"),
    ("flat_units", {"flat_at_end", "dead_at_end"}, {"relu": without_hidden}, "0 hidden activations, the network has 5"),
    ("events", {"event_ratio", "event_negative"}, {"leaky_relu": zeroed}, "exactly 0"),
    ("tutorial_log", {"largest_values"}, {"leaky_relu": scaled}, "scaled"),
    ("plain_runs", {"relu_sgd_recorded"}, {"relu_sgd": zeroed}, "exactly 0"),
    ("plain_runs", {"sigmoid_sgd_recorded"}, {"sigmoid_sgd": scaled}, "scaled"),
    ("plain_runs", {"sigmoid_adam_recorded"}, {"sigmoid_adam": shuffled}, "order"),
    ("moved", {"moved_by_training", "gradients_of_plain", "steps_of_plain"}, {"sigmoid_sgd": scaled}, "scaled"),
    ("remedy_list", {"more_iterations"}, {"sigmoid": scaled}, "scaled"),
])  # fmt: skip
def test_does_a_forged_recording_lose_what_rests_on_it(solved, name, loses, forged, words):
    namespace, runs = solved
    found = lost(name, namespace, runs | {one: forge(runs[one]) for one, forge in forged.items()})
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


def test_is_a_classmates_run_refused(solved):
    others = asked.experiments("bela")["sigmoid"]
    stamped = replace(solved[1]["sigmoid"].origin, experiment=others)
    found = lost("activation_runs", solved[0], solved[1] | {"sigmoid": replace(solved[1]["sigmoid"], origin=stamped)})
    assert "another student's" in found["sigmoid_recorded"][1]


@pytest.mark.parametrize("other", ["relu", "leaky_relu"])
def test_is_another_activation_refused(solved, other):
    found = lost("activation_runs", solved[0], solved[1] | {"sigmoid": solved[1][other]})
    assert "its activation is" in found["sigmoid_recorded"][1]


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"kind": "network"}, float("nan"), np.ones(3)])
def test_is_a_value_of_another_kind_a_failure_and_never_a_crash(solved, value):
    variables = ("ratios", "tutorial_ratios", "early_share", "flat_share", "dead_units", "start_ratios",
                 "ratio_band", "event_ratio", "event_negative", "tutorial_logged", "largest", "negative_but_grows",
                 "positive_but_vanishes", "moved_by", "gradient_ratio", "step_ratio", "arrives")  # fmt: skip
    functions = ("leaky", "six_layers", "accuracy", "last_over_first", "flat_and_dead", "wins", "log_values",
                 "what_is_logged", "chain_slope", "moved")  # fmt: skip
    namespace = solved[0] | dict.fromkeys(variables, value) | dict.fromkeys(functions, lambda *_: value)
    for name in POINTS:
        runs = {"sigmoid_recorded", "relu_recorded", "leaky_recorded", "relu_sgd_recorded", "sigmoid_sgd_recorded",
                "sigmoid_adam_recorded"}  # fmt: skip
        assert set(lost(name, namespace, solved[1])) == {one.name for one in questionnaire.of(LAB)[name].checks} - runs


@pytest.mark.parametrize("value", [None, 3, "text", {}, [[1.0]]])
def test_is_a_value_of_another_kind_within_a_dictionary_a_failure(solved, value):
    names = ("ratios", "tutorial_ratios", "flat_share", "dead_units", "start_ratios", "ratio_band", "tutorial_logged",
             "largest", "moved_by", "arrives")  # fmt: skip
    namespace = solved[0] | {name: dict.fromkeys(solved[0][name], value) for name in names}
    assert "start_ratios" in lost("seeds", namespace, solved[1])
    for name in ("ratios", "flat_units", "tutorial_log", "remedy_list"):
        assert len(lost(name, namespace, solved[1])) >= 2


# the simulated class


def test_is_each_kinds_edit_in_the_solution(tmp_path):
    course.init(tmp_path, [LAB])
    (tmp_path / "release" / LAB).mkdir(parents=True)
    shutil.copy(NOTEBOOK.path, tmp_path / "release" / LAB / NOTEBOOK.path.name)
    lab = Lab.read(tmp_path, LAB)
    whole = lab.cells(ACTIVATIONS[0])
    for kind in ACTIVATIONS:
        assert all(0 < points <= POINTS[name] for name, points in kind.loses.items())
        if not kind.copies:
            cells = lab.cells(kind)
            assert {id for id in cells if cells[id] != whole[id]} == {edit.cell for edit in kind.edits}


EDITED = [kind for kind in ACTIVATIONS if kind.edits and not (kind.copies or kind.skips)]
TAKE_LONG = ("activation_runs", "plain_runs", "start_ratios", "trained_seeds", "read_back")


@pytest.mark.filterwarnings("ignore:divide by zero")  # some mistakes do
@pytest.mark.parametrize("kind", EDITED, ids=lambda kind: kind.name)
def test_does_each_edit_lose_what_the_class_says(solved, kind):
    """The cells behind the edited one are run again, but for the trainings."""
    solutions = {id: MARKS.sub("", text) for id, text in NOTEBOOK.code_cells()}
    namespace = {name: value for name, value in solved[0].items() if name not in ("event_ratio", "event_negative")}
    for edit in kind.edits:
        solutions = edit.apply(solutions)
    start = min(map(list(solutions).index, (kind.edits[0].cell, "events")))
    for id, text in list(solutions.items())[start:]:
        if id == kind.edits[0].cell or id not in TAKE_LONG:
            with contextlib.suppress(Exception):
                exec(compile(text, id, "exec"), namespace)
    found = {name: sum(of for of, _ in lost(name, namespace, solved[1]).values()) for name in POINTS}
    assert {name: points for name, points in found.items() if points} == dict(kind.loses)


@pytest.mark.parametrize("kind", [kind for kind in ACTIVATIONS if kind.forge], ids=lambda kind: kind.name)
def test_does_each_forgery_lose_what_the_class_says(solved, kind):
    namespace, runs = solved
    forged = runs | {name: kind.forge(runs[name]) for name in kind.forged}
    found = {name: lost(name, namespace, forged) for name in POINTS}
    assert {name: sum(of for of, _ in each.values()) for name, each in found.items() if each} == dict(kind.loses)
    assert any(kind.says in words for each in found.values() for _, words in each.values())


def test_does_a_copy_lose_what_the_class_says(solved):
    namespace, runs = solved
    found = {name: sum(of for of, _ in lost(name, namespace | {"student": "bela"}, runs).values()) for name in POINTS}
    assert {name: points for name, points in found.items() if points} == simulated.SEED


def test_do_essays_quote_the_own_numbers(solved, tmp_path):
    for name, run in solved[1].items():
        run.save(tmp_path / f"{name}.safetensors")
    numbers = simulated.own_numbers(tmp_path)
    assert all("{" not in essay.format(**numbers) for essay in simulated.ESSAYS.values())


@pytest.fixture(scope="module")
def graded(tmp_path_factory, warm):
    return simulated_class.graded(tmp_path_factory.mktemp("activation"), LAB, simulated_class.usual(ACTIVATIONS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulated_class.usual(ACTIVATIONS), ids=lambda kind: kind.name)
def test_does_each_kind_lose_exactly_its_own_points(graded, kind):
    simulated_class.assert_loses(graded[kind.name], kind)
