"""The lab on trainability: does the solution pass every check, does each mistake and each forgery lose its own points?

All on the small maps that are there to try things out (LABKIT_MAPS=tiny).
"""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_class
from lab_notebook import LabNotebook

import labkit
from autograder import authoring, checks, mapping, questionnaire, readiness
from autograder.checks import Failed
from autograder.classes import trainability as simulated
from autograder.classes.trainability import ALL, TRAINABILITY
from autograder.classroom import MARKS
from autograder.questions import trainability as asked
from autograder.selfcheck import evidence as live_evidence
from labkit import maps, retraining
from labkit.maps import ACTIVATIONS, Map

LAB = "trainability"
NOTEBOOK = LabNotebook(LAB)
POINTS = NOTEBOOK.points
EDITED = [kind for kind in TRAINABILITY if kind.edits and not (kind.copies or kind.skips)]
FORGED = [kind for kind in TRAINABILITY if kind.forge]


@pytest.fixture(scope="module", autouse=True)
def small_maps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(maps.INSTEAD, "tiny")
        yield


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """The solution's variables, and the folder with its maps."""
    folder = tmp_path_factory.mktemp("solved")
    return NOTEBOOK.solved(folder)[0], folder


def lost(namespace, folder):
    """Points by question, and what was said."""
    evidence = live_evidence(dict(namespace), folder)
    evidence.salt = b"salt"
    points, said = {}, ""
    for name, question in questionnaire.of(LAB).items():
        verdicts = checks.run(question, evidence)
        assert not checks.needs_person(verdicts), [verdict.trace for verdict in verdicts]
        if missing := POINTS[name] - checks.earned(verdicts):
            points[name] = missing
        said += " ".join(f"{v.found} {v.help}" for v in verdicts if v.outcome != "passed")
    return points, said


def ran(folder, edits):
    """The variables of the solution with these edits, run beside maps that are there already."""
    cells, namespace = {name: MARKS.sub("", text) for name, text in NOTEBOOK.code_cells()}, {}
    for edit in edits:
        cells = edit.apply(cells)
    with contextlib.chdir(folder):
        for name, text in cells.items():
            with contextlib.suppress(AttributeError):  # of the one who raises an error
                exec(compile(text.replace('student = "solution"', 'student = "ada"'), name, "exec"), namespace)
    return namespace


def test_is_the_built_notebook_that_of_the_source():
    assert NOTEBOOK.path.read_bytes() == authoring.rendered(NOTEBOOK.source)


def test_does_the_solution_pass(solved):
    assert lost(*solved) == ({}, "")


def test_does_an_untouched_release_earn_nothing(tmp_path):
    untouched = NOTEBOOK.untouched()
    assert all(NOTEBOOK.earned_by(name, untouched, tmp_path) == 0 for name in POINTS)


def test_do_points_and_names_of_cells_fit_the_questions():
    assert NOTEBOOK.points_of_cells() == POINTS == ALL


@pytest.mark.parametrize("kind", EDITED, ids=lambda kind: kind.name)
def test_does_a_mistake_lose_its_own_points(solved, kind):
    points, said = lost(ran(solved[1], kind.edits), solved[1])
    assert points == dict(kind.loses), said
    assert kind.says in said


@pytest.mark.parametrize("kind", FORGED, ids=lambda kind: kind.name)
def test_does_a_forged_map_lose_what_rests_on_it(solved, kind, tmp_path):
    for activation in ACTIVATIONS:
        shutil.copy(solved[1] / f"map_{activation}.safetensors", tmp_path)
    (name,) = kind.forged
    kind.forge(Map.load(tmp_path / f"{name}.safetensors")).save(tmp_path / f"{name}.safetensors")
    points, said = lost(solved[0], tmp_path)
    assert points == dict(kind.loses), said
    assert kind.says in said


# the grader's look at a map


@pytest.fixture(scope="module")
def honest(solved):
    return Map.load(solved[1] / "map_tanh.safetensors")


def other_student(m):
    return replace(m, base=maps.of_student("tanh", "bela")[0])


def own_seed_typed_in(m):
    """A classmate's figures under one's own name."""
    return replace(maps.trainability("tanh", "bela", "tiny", progress=False), base=m.base)


def one_start(m):
    start = m.start.copy()
    start[:, :, 1] *= 1.01
    return replace(m, start=start)


def late(m):
    """Honest but for the last few iterations and the accuracy."""
    loss = m.loss.copy()
    loss[..., -3:] -= 0.05
    return replace(m, loss=loss)


FORGERIES = [
    (other_student, "another student's map: it was trained with the seed"),
    (own_seed_typed_in, "your seed gives"),
    (one_start, "the gradient of layer 2 at the start"),
    (late, "training it again gives"),
    (lambda m: replace(m, loss=m.loss * np.inf), "an accuracy, and yet its loss is no number"),
    (lambda m: replace(m, loss=-m.loss), "a loss is below 0"),
    (lambda m: replace(m, accuracy=m.accuracy * np.nan), "its loss is one to the end"),
    (lambda m: replace(m, accuracy=m.accuracy + 1), "no share of the training images"),
    (lambda m: replace(m, accuracy=m.accuracy + 1e-4), "no share of the training images"),
    (lambda m: replace(m, start=m.start * np.nan), "a gradient at the start is missing"),
    (lambda m: replace(m, start=np.nan_to_num(m.start)), "gradients of layers that it has not"),
    (lambda m: replace(m, loss=m.loss * np.nan, accuracy=m.accuracy * np.nan), "recorded as nan"),
    (lambda m: replace(m, loss=m.loss * 0 + np.inf, accuracy=m.accuracy * np.nan), "recorded as inf"),
    (lambda m: replace(m, base=m.base.replace(learning_rate=0.01)), "its learning_rate is 0.01"),
    (lambda m: replace(m, base=m.base.replace(epochs=3)), "its epochs is 3"),
    (lambda m: replace(m, depths=(2, 5, 9)), "it has the depths 2, 5, 9; the assignment has 2, 5, 10"),
    (lambda m: replace(m, variances=(0.5, 0.9, 2.0, 4.0)), "it has the variances"),
    (lambda m: replace(m, depths=m.depths[:2], loss=m.loss[:2]), "not finished: it lacks the networks with 10"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "words"), FORGERIES)
def test_is_a_forged_map_refused_with_its_reason(honest, forge, words):
    with pytest.raises(Failed, match=words):
        mapping.examine(forge(honest), asked.asked_maps("ada")["map_tanh"], b"salt")


def test_is_an_honest_map_taken_whatever_is_drawn(solved):
    for activation in ("tanh", "relu"):
        found = Map.load(solved[1] / f"map_{activation}.safetensors")
        every = range(0, found.accuracy.size, 2)
        mapping.starts_from_seed(found, every)
        mapping.trained(found, every)


def test_are_the_deepest_networks_trained_again_to_their_end(honest, monkeypatch):
    """An accuracy can be compared where the retraining is whole."""
    for grid in maps.GRIDS["coarse"].values():
        base = maps.of_student("tanh", "ada")[0].replace(epochs=grid.epochs, batches=grid.batches)
        assert max(grid.depths) * base.iterations <= mapping.LAYERS
    accuracy = honest.accuracy.copy()
    accuracy[-1] = 1 - accuracy[-1]
    lied = replace(honest, accuracy=accuracy)
    last = [honest.accuracy.size - len(honest.variances)]
    monkeypatch.setattr(mapping, "LAYERS", honest.depths[-1] * honest.base.iterations)
    with pytest.raises(Failed, match="the accuracy is recorded as"):
        mapping.trained(lied, last)
    monkeypatch.setattr(mapping, "LAYERS", mapping.LAYERS - 1)
    mapping.trained(lied, last)  # an iteration less, and nobody sees it


def test_is_an_invented_accuracy_seen_of_a_training_that_rounding_could_have_led_elsewhere():
    """It was not: its losses are the retraining's to the end."""
    base = maps.of_student("relu", "ada")[0].replace(epochs=2, batches=None)
    e = maps.cell(base, 5, 2.0)
    (run,) = labkit.train_many([e], device="cpu", progress=False)
    field = {"loss": run.loss[None, None], "start": maps.at_start(e)[None, None]}
    found = Map(base, (5,), (2.0,), np.array([[run.origin.final_accuracy]]), **field)
    apart = retraining.spread(e, retraining.retrain(e))
    assert apart.loss[-1] > mapping.LOST / 10
    mapping.trained(found, [0])
    mapping.trained(replace(found, accuracy=found.accuracy + mapping.VOTES / base.observations), [0])
    for lie in (-0.05, 0.05):
        with pytest.raises(Failed, match="the accuracy is recorded as"):
            mapping.trained(replace(found, accuracy=found.accuracy + lie), [0])


def test_what_is_drawn_follows_from_salt_and_map(honest):
    every = range(honest.accuracy.size)
    draws = [mapping.draw(salt, text, every, 4) for salt in (b"a", b"b") for text in ("one", "two")]
    assert len(set(draws)) == 4


def test_are_the_files_named_that_are_missing_or_wrong(solved, tmp_path):
    shutil.copy(solved[1] / "map_tanh.safetensors", tmp_path / "map_relu.safetensors")
    shutil.copy(solved[1] / "map_sigmoid.safetensors", tmp_path)
    states = {one.name: one for one in readiness.files(LAB, "ada", tmp_path, None)}
    assert [states[f"map_{a}.safetensors"].state for a in ACTIVATIONS] == ["missing", "wrong", "there"]
    assert "activation" in states["map_relu.safetensors"].found


def test_the_asked_for_maps_are_those_of_the_notebook(solved):
    for activation in ACTIVATIONS:
        one = asked.asked_maps("ada")[f"map_{activation}"]
        made = solved[0][f"map_{activation}"]
        assert (one.base, one.grid.depths, one.grid.variances) == (made.base, made.depths, made.variances)


def test_essays_quote_the_own_map(solved):
    numbers = simulated.own_numbers(solved[1])
    assert all("{" not in text.format_map(numbers) for text in simulated.ESSAYS.values())


@pytest.mark.slow
def test_a_class_is_graded_as_its_kinds_say(tmp_path: Path):
    kinds = simulated_class.usual(TRAINABILITY)
    results = simulated_class.graded(tmp_path, LAB, kinds)
    for kind in kinds:
        simulated_class.assert_loses(results[kind.name], kind)
