"""The recurrent-gradients lab: does the solution pass every check, does each mistake lose exactly its own points?"""

import contextlib
import re
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
from autograder.classes import recurrent_gradients as simulated
from autograder.classes.recurrent_gradients import ALL, RECURRENT, evened
from autograder.classes.vanishing_gradients import scaled, shuffled, sign_flipped, zeroed
from autograder.classroom import MARKS, Lab
from autograder.questions import recurrent_gradients as asked
from labkit import data, initialisations
from labkit.recording import Recording

LAB = "recurrent_gradients"
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
    assert {kind: runs[kind] for kind in asked.KINDS} == namespace["experiments"]
    assert runs["loud"] == runs["clipped"] == namespace["loud_experiment"]
    assert {name: asked.dial("ada", name) for name in asked.FACTORS} == namespace["tanh_dial"]
    assert {name: asked.dial("ada", name, "linear") for name in asked.FACTORS} == namespace["linear_dial"]
    assert namespace["factors"] == asked.FACTORS
    assert list(asked.BIASES) == namespace["biases"].tolist()


# gradients through time by another way


def flow_of_autograd(network, sequences, labels, of):
    loss = nn.functional.cross_entropy(network(torch.from_numpy(sequences).double()), torch.from_numpy(labels))
    return [float(g.norm()) for g in torch.autograd.grad(loss, getattr(network, of))]


@pytest.mark.parametrize("activation", ["tanh", "linear", "sigmoid"])
def test_an_rnns_flow_is_that_of_autograd(activation):
    e = asked.of_kind("ada", "rnn").replace(activation=activation)
    dataset, network = data.of_experiment(e), labkit.networks.of_experiment(e)
    expected = flow_of_autograd(network, dataset.inputs[:20], dataset.labels[:20], "states")
    found = asked.rnn_flow(initialisations.named(e), dataset.inputs[:20], dataset.labels[:20], activation)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 3.0])
def test_an_lstms_flow_is_that_of_autograd(bias):
    e = asked.of_kind("ada", "lstm").replace(gain=3.0)  # so large that hidden states and gates count
    dataset, network, parameters = data.of_experiment(e), labkit.networks.of_experiment(e), initialisations.named(e)
    parameters["input.bias"][asked.FORGET] = bias
    network.load_state_dict({name: torch.from_numpy(values) for name, values in parameters.items()})
    expected = flow_of_autograd(network, dataset.inputs[:20], dataset.labels[:20], "memory")
    found = asked.lstm_flow(parameters, dataset.inputs[:20], dataset.labels[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_flows_are_those_of_recordings(solved):
    for kind, flow in (("rnn", asked.rnn_flow), ("lstm", asked.lstm_flow)):
        e = asked.of_kind("ada", kind)
        dataset = data.of_experiment(e)
        found = flow(initialisations.named(e), dataset.inputs[:250], dataset.labels[:250])
        np.testing.assert_allclose(found, solved[1][kind].through_time[0], rtol=1e-6)


def test_the_students_function_gives_the_recordings_first_row(solved):
    """The text says so."""
    namespace, runs = solved
    network = labkit.networks.of_experiment(asked.of_kind("ada", "rnn"))
    found = namespace["gradients_through_time"](
        namespace["probe_sequences"], namespace["probe_labels"], list(network.parameters())
    )
    np.testing.assert_allclose(found, runs["rnn"].through_time[0], rtol=1e-6)


def test_a_product_of_jacobians_is_that_of_autograd(solved):
    namespace = solved[0]
    network = labkit.networks.of_experiment(asked.of_kind("ada", "rnn"))
    weights = [values.detach() for values in network.parameters()]
    sequence = namespace["probe_sequences"][:1]

    def last(first):
        h, states = first[None], [first]
        for x in sequence.unbind(1)[1:]:
            h = namespace["rnn_step"](x, h, weights)
            states.append(h[0])
        return h[0], torch.stack(states)

    first = torch.linspace(-0.5, 0.5, 16, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda h: last(h)[0], first)
    found = namespace["jacobian_product"](last(first)[1], weights[2])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_what_the_rubrics_say_of_ratios_holds():
    """Over many students: linear networks do what algebra says, tanh takes away, the LSTM holds best, the GRU less."""
    ratios = {kind: [] for kind in asked.KINDS}
    for student in ("ada", "bela", "chidi", "emeka", "hana", "ines"):
        for name, factor in asked.FACTORS.items():
            linear = asked.start_ratio(asked.dial(student, name, "linear"))
            assert linear == pytest.approx(factor**19, rel=1e-9)
            assert asked.start_ratio(asked.dial(student, name)) < 0.99 * linear
        for kind in asked.KINDS:
            e = asked.of_kind(student, kind)
            dataset, network = data.of_experiment(e), labkit.networks.of_experiment(e)
            norms = flow_of_autograd(network, dataset.inputs[:250], dataset.labels[:250], "memory")
            ratios[kind].append(asked.first_over_last(norms) ** (1 / 19))
    assert 0.4 < min(ratios["rnn"]) < max(ratios["rnn"]) < 0.75
    assert 0.75 < min(ratios["lstm"]) < max(ratios["lstm"]) < 0.9
    assert 0.55 < min(ratios["gru"]) < max(ratios["gru"]) < 0.72


# planted mistakes: question, checks that are lost, what is written instead, words of the reason

STEP = "def rnn_step(x, h, weights):\n    w, b, u, v, c = weights\n    return "
FLOW = """
def gradients_through_time(sequences, labels, weights):
    h = torch.zeros(len(sequences), len(weights[2]), dtype=sequences.dtype, requires_grad=True)
    states = []
    for x in sequences.unbind(1):
        h = torch.tanh(x @ weights[0].T + weights[1] + h @ weights[2].T)
        states.append(h)
    loss = nn.functional.cross_entropy(h @ weights[3].T + weights[4], labels, reduction="REDUCTION")
    g = torch.autograd.grad(loss, states)
    return """


def flow_by(result, reduction="mean"):
    return FLOW.replace("REDUCTION", reduction) + result


PRODUCT = """
def jacobian_product(states, u):
    p = torch.eye(len(u), dtype=u.dtype)
    for h in states[FROM:]:
        p = FACTOR
    return p
"""


def product_by(factor, start="1"):
    return PRODUCT.replace("FROM", start).replace("FACTOR", factor)


SPECTRUM = "def spectrum(m):\n    v, s = torch.linalg.eigvals(m), torch.linalg.svdvals(m)\n    return "
FLOWS = {"norm_for_each_step", "norms_through_time"}
MISTAKES = [
    ("chance", {"entropy_of_shares"},
     "def entropy(p):\n    with np.errstate(all='ignore'):\n        return -(p * np.log(p)).sum()", "0 ln 0"),
    ("chance", {"entropy_of_shares"}, "def entropy(p): return -(p[p > 0] * np.log2(p[p > 0])).sum()", "natural log"),
    ("chance", {"entropy_of_shares"}, "def entropy(p): return np.log(len(p))", "sum of p ln p"),
    ("chance", {"chance_level"}, "chance = {'loss': 2.0, 'accuracy': 0.25}", "in nats"),
    ("chance", {"chance_level"}, "chance = {**chance, 'accuracy': 25}", "most frequent"),
    ("rnn_step", {"one_step"}, STEP + "x @ w.T + b + h @ u.T", "rnn_step(x, h, weights)"),
    ("rnn_step", {"one_step"}, STEP + "torch.tanh(x @ w.T + b + h @ u)", "x @ W.T"),
    ("rnn_step", {"one_step"}, STEP + "torch.tanh(x @ w.T + b)", "x @ W.T"),
    ("rnn_step", {"one_step"}, STEP + "torch.tanh(x @ w.T + b + h @ u.T)[0]", "the shape"),
    ("gradients_through_time", FLOWS, flow_by("[float(s.norm()) for s in g][:-1]"), "the shape"),
    ("gradients_through_time", FLOWS, flow_by("[float(s.mean()) for s in g]"), "above 0"),
    ("gradients_through_time", {"norms_through_time"}, flow_by("[float(s.norm()) for s in g[::-1]]"), "first step"),
    ("gradients_through_time", {"norms_through_time"}, flow_by("[float(s.norm()) for s in g]", "sum"), "mean"),
    ("gradients_through_time", {"norms_through_time"}, flow_by("[float(s.abs().mean()) for s in g]"), "L2 norm"),
    ("gradients_through_time", {"norms_through_time"}, flow_by("[float(s.norm(dim=1).mean()) for s in g]"),
     "together"),
    ("jacobians", {"product_of_jacobians"}, product_by("p @ torch.diag(1 - h**2) @ u"), "on the left"),
    ("jacobians", {"product_of_jacobians"}, product_by("torch.diag(1 - h**2) @ u @ p", "0"), "make 1 factors"),
    ("jacobians", {"product_of_jacobians"}, product_by("u @ torch.diag(1 - h**2) @ p"), "diag(1 - h_t^2) U"),
    ("jacobians", {"product_of_jacobians"}, product_by("u @ p"), "diag"),
    ("jacobians", {"spectral_radius"}, SPECTRUM + "float(v.real.max()), float(s.max())", "|eigenvalue|"),
    ("jacobians", {"spectral_radius"}, SPECTRUM + "float(v.real.abs().max()), float(s.max())", "|eigenvalue|"),
    ("jacobians", {"largest_singular_value"}, SPECTRUM + "float(v.abs().max()), float(v.abs().max())", "no eigenvalue"),
    ("jacobians", {"largest_singular_value"}, SPECTRUM + "float(v.abs().max()), float(m.norm())", "second"),
    ("jacobians", {"spectral_radius", "largest_singular_value"}, "def spectrum(m): return 1.0", "two things"),
    ("dial", {"foreseen"}, "foreseen = {n: f**20 for n, f in factors.items()}", "how many steps"),
    ("dial", {"foreseen"}, "foreseen = of_tanh", "algebra"),
    ("dial", {"of_linear"}, "of_linear = {n: 1 / r for n, r in of_linear.items()}", "over norm of gradients[-1]"),
    ("dial", {"of_tanh"}, "of_tanh = of_linear", "of_tanh['low']"),
    ("dial", {"of_tanh"}, "of_tanh = {'low': 1}", "'low', 'one' and 'high'"),
    ("time_ratios", {"ratios_at_start"}, "at_start = {n: 1 / r for n, r in at_start.items()}", "over its last"),
    ("time_ratios", {"ratios_at_start"},
     "at_start = {n: r.through_time[-1, 0] / r.through_time[-1, -1] for n, r in runs.items()}", "Row 0"),
    ("time_ratios", {"factor_per_step"}, "per_step = {n: r ** (1 / 20) for n, r in at_start.items()}", "19th root"),
    ("time_ratios", {"nats_learnt"}, "nats_learnt = {n: chance['loss'] - r.loss[-1] for n, r in runs.items()}",
     "probe_loss"),
    ("time_ratios", {"nats_learnt"}, "nats_learnt = {n: -v for n, v in nats_learnt.items()}", "nats_learnt['rnn']"),
    ("time_ratios", {"nats_learnt"}, "nats_learnt = {n: v / np.log(2) for n, v in nats_learnt.items()}", "in nats"),
    ("forget_gate", {"memory_alone"}, "memory_alone = 1 / (1 + np.exp(-biases))", "power of 19"),
    ("forget_gate", {"memory_measured"}, "memory_measured = memory_alone", "bias of -2"),
    ("forget_gate", {"memory_measured"}, "memory_measured = memory_measured[::-1]", "A new network"),
    ("forget_gate", {"memory_alone", "memory_measured"}, "memory_alone = memory_measured = 0.5", "the shape"),
    ("clipped_recurrence", {"norm_before"}, "norm_before = np.minimum(norm_before, 1)", "clip_factor"),
    ("clipped_recurrence", {"norm_before"}, "norm_before = norm_before.max()", "the shape"),
    ("clipped_recurrence", {"share_clipped"}, "share_clipped = 1 - share_clipped", "below 1"),
    ("clipped_recurrence", {"ratio_through_time"},
     "ratio_through_time = {**ratio_through_time, 'end': ratio_through_time['start']}", "['end']"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "loses", "written", "words"), MISTAKES)
def test_does_a_planted_mistake_lose_its_own_checks(solved, name, loses, written, words):
    namespace = dict(solved[0])
    exec(written, namespace)
    found = lost(name, namespace, solved[1])
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


RATIOS = {"ratios_at_start", "factor_per_step", "nats_learnt"}


@pytest.mark.parametrize(("name", "loses", "forged", "words"), [
    ("runs", {"rnn_recorded"}, {"rnn": zeroed}, "exactly 0"),
    ("runs", {"lstm_recorded"}, {"lstm": scaled}, "scaled"),
    ("runs", {"gru_recorded"}, {"gru": shuffled}, "order"),
    ("runs", {"gru_recorded"}, {"gru": sign_flipped}, "signs"),
    ("time_ratios", RATIOS, {"lstm": evened}, "replay"),
    ("time_ratios", RATIOS, {"rnn": lambda r: replace(r, through_time=r.through_time[:, ::-1])}, "replay"),
    ("exploding_recurrence", {"clipped_is_finite"}, {"clipped": zeroed}, "exactly 0"),
    ("clipped_recurrence", {"norm_before", "share_clipped", "ratio_through_time"},
     {"clipped": lambda r: replace(r, clip_factor=r.clip_factor * 0 + 1)}, "replay"),
])  # fmt: skip
def test_does_a_forged_recording_lose_what_rests_on_it(solved, name, loses, forged, words):
    namespace, runs = solved
    found = lost(name, namespace, runs | {one: forge(runs[one]) for one, forge in forged.items()})
    assert set(found) == loses
    assert any(words in reason for _, reason in found.values()), found


LOUD = asked.loudest("ada")


@pytest.mark.parametrize(("name", "loses", "file", "experiment", "words"), [
    ("runs", {"rnn_recorded"}, "rnn", asked.dial("ada", "one"), "its gain is|its initialisation is"),
    ("runs", {"rnn_recorded"}, "rnn", asked.of_kind("bela", "rnn"), "another student's"),
    ("exploding_recurrence", {"loud_explodes", "clipped_is_finite"}, "loud", LOUD, "more than 1"),
    ("exploding_recurrence", {"loud_explodes", "clipped_is_finite"}, "loud", LOUD.replace(gain=1.5), "at most 1.4"),
    ("exploding_recurrence", {"loud_explodes", "clipped_is_finite"}, "loud", LOUD.replace(gain=1.3, clip_norm=1.0),
     "were clipped"),
    ("exploding_recurrence", {"clipped_is_finite"}, "clipped", LOUD.replace(gain=1.2, clip_norm=1.0),
     "factor included"),
    ("exploding_recurrence", {"clipped_is_finite"}, "clipped", LOUD.replace(gain=1.3, clip_norm=2.0), "clip_norm=1.0"),
])  # fmt: skip
def test_does_another_run_lose_what_it_was_asked_for(solved, name, loses, file, experiment, words):
    found = lost(name, solved[0], solved[1] | {file: labkit.train(experiment, progress=False)})
    assert set(found) == loses
    assert any(word in reason for word in words.split("|") for _, reason in found.values()), found


def test_does_a_loud_run_that_does_not_explode_say_so(solved):
    quiet = labkit.train(LOUD.replace(gain=1.0001), progress=False)
    assert "stays below" in lost("exploding_recurrence", solved[0], solved[1] | {"loud": quiet})["loud_explodes"][1]


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"kind": "network"}, float("nan"), np.ones(3)])
def test_is_a_value_of_another_kind_a_failure_and_never_a_crash(solved, value):
    variables = ("chance", "foreseen", "of_linear", "of_tanh", "at_start", "per_step", "nats_learnt", "memory_alone",
                 "memory_measured", "norm_before", "share_clipped", "ratio_through_time")  # fmt: skip
    functions = ("entropy", "rnn_step", "gradients_through_time", "jacobian_product", "spectrum")
    namespace = solved[0] | dict.fromkeys(variables, value) | dict.fromkeys(functions, lambda *_: value)
    runs = {"rnn_recorded", "lstm_recorded", "gru_recorded", "loud_explodes", "clipped_is_finite"}
    for name in POINTS:
        assert set(lost(name, namespace, solved[1])) == {one.name for one in questionnaire.of(LAB)[name].checks} - runs


# the simulated class


def test_is_each_kinds_edit_in_the_solution(tmp_path):
    course.init(tmp_path, [LAB])
    (tmp_path / "release" / LAB).mkdir(parents=True)
    shutil.copy(NOTEBOOK.path, tmp_path / "release" / LAB / NOTEBOOK.path.name)
    lab = Lab.read(tmp_path, LAB)
    whole = lab.cells(RECURRENT[0])
    for kind in RECURRENT:
        assert all(0 < points <= POINTS[name] for name, points in kind.loses.items())
        if not kind.copies:
            cells = lab.cells(kind)
            assert {id for id in cells if cells[id] != whole[id]} == {edit.cell for edit in kind.edits}


@pytest.mark.parametrize(
    "kind",
    [kind for kind in RECURRENT if kind.edits and not kind.copies and not kind.skips],
    ids=lambda kind: kind.name,
)
def test_does_each_mistaken_notebook_lose_exactly_its_own_points(solved, kind, tmp_path, monkeypatch):
    """The edited notebook runs on from the edited cell; what was trained before is taken as it is."""
    (edit,), (namespace, runs) = kind.edits, solved
    names, cell_runs, cells = dict(namespace), dict(runs), dict(NOTEBOOK.code_cells())
    monkeypatch.chdir(tmp_path)
    for id in list(cells)[list(cells).index(edit.cell) :]:
        if id == edit.cell or id not in ("runs", "exploding_recurrence"):
            names = ran(MARKS.sub("", edit.apply(cells)[id]), id, names)
    cell_runs |= {path.stem: Recording.load(path) for path in tmp_path.glob("*.safetensors")}
    found, said = {}, ""
    for name in POINTS:
        missing = lost(name, names, cell_runs)
        said += " ".join(reason for _, reason in missing.values())
        if points := sum(points for points, _ in missing.values()):
            found[name] = points
    assert found == dict(kind.loses), said
    assert kind.says in said


def ran(text, id, names):
    """The variables afterwards; those that a cell was to make are gone when it raises."""
    made = re.findall(r"^(\w+) = ", text, re.MULTILINE)
    names = {name: value for name, value in names.items() if name not in made}
    with contextlib.suppress(NameError):
        exec(compile(text, id, "exec"), names)
    return names


def test_do_essays_quote_the_own_numbers(solved, tmp_path):
    for name, run in solved[1].items():
        run.save(tmp_path / f"{name}.safetensors")
    numbers = simulated.own_numbers(tmp_path)
    assert all("{" not in essay.format(**numbers) for essay in simulated.ESSAYS.values())


@pytest.fixture(scope="module")
def graded(tmp_path_factory, warm):
    return simulated_class.graded(tmp_path_factory.mktemp("recurrent"), LAB, simulated_class.usual(RECURRENT))


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulated_class.usual(RECURRENT), ids=lambda kind: kind.name)
def test_does_each_kind_lose_exactly_its_own_points(graded, kind):
    simulated_class.assert_loses(graded[kind.name], kind)


def test_experiments_stay_small():
    for entry in asked.recordings("ada").values():
        e = entry.experiment
        assert (e.observations, e.steps, e.widths) == (1000, asked.STEPS, (5, asked.UNITS, 4))
        assert e.iterations <= 100
