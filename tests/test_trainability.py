"""The lab on trainability: does the solution pass every check, does each mistake and each forgery lose its own points?

All on the small maps that are there to try things out (LABKIT_MAPS=tiny).
"""

import contextlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_class
from lab_notebook import LabNotebook

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


def test_is_an_invented_accuracy_seen_where_rounding_could_have_led_elsewhere_and_did_not(honest, monkeypatch):
    """A storm is an excuse for who was led elsewhere: not where the losses are the retraining's to the end."""
    storm = np.where(np.arange(20) < 5, 1e-9, 2e-3)
    monkeypatch.setattr(retraining, "spread", lambda e, again: retraining.Spread(storm, 0.004))

    def handed_in(lie, away=0.0):
        loss = honest.loss.copy()
        loss[..., 5:] += away
        mapping.trained(replace(honest, accuracy=honest.accuracy + lie, loss=loss), [0])

    handed_in(2 / 2500)
    handed_in(0.05, away=1e-3)
    for lie, away in ((0.05, 0.0), (-0.05, 0.0), (0.16, 1e-3)):
        with pytest.raises(Failed, match="the accuracy is recorded as"):
            handed_in(lie, away)
    with pytest.raises(Failed, match="the loss of iteration"):
        handed_in(0.0, away=0.1)


def test_is_nothing_excused_by_a_storm_that_no_training_comes_to(honest, monkeypatch):
    """A loss that is no number, or beyond all bounds, and with it no accuracy: the retraining has both."""
    monkeypatch.setattr(retraining, "spread", lambda e, again: retraining.Spread(np.full(20, 1.0), 0.1))
    for at, value in ((-1, np.nan), (0, np.nan), (3, np.inf), (10, 1e5)):
        loss, accuracy = honest.loss.copy(), honest.accuracy.copy()
        loss[0, 0, at:] = value
        accuracy[0, 0] = np.nan if not np.isfinite(value) else accuracy[0, 0]
        forged = replace(honest, loss=loss, accuracy=accuracy)
        mapping.holds_together(forged)
        with pytest.raises(Failed, match=re.escape(f"is recorded as {value:.4g}")):
            mapping.trained(forged, [0])


def test_is_a_relu_map_seen_that_was_trained_for_a_while_only():
    """Deep ReLU networks, too, follow from their seed to the last iteration. Each last loss is repeated."""
    base = maps.of_student("relu", "ada")[0].replace(epochs=1, batches=50)
    variances = (1.4, 2.0, 2.6)
    for depth in (5, 40):
        row = maps.row([maps.cell(base, depth, v) for v in variances], variances, "cpu")
        mapping.trained(row, range(3))
        for stop in (1, 10, 40):
            loss = row.loss.copy()
            loss[..., stop:] = loss[..., stop - 1 : stop]
            for field in range(3):
                with pytest.raises(Failed, match=f"the loss of iteration {stop + 1} is recorded"):
                    mapping.trained(replace(row, loss=loss), [field])


def test_is_no_gradient_at_the_start_taken_that_is_nothing_or_beyond_numbers(honest, monkeypatch):
    real = maps.at_start
    # of a network so deep in chaos that nothing can be compared
    monkeypatch.setattr(maps, "at_start", lambda e, shake=0.0: real(e) * (100 if shake else 1))
    start = honest.start.copy()
    for value in (0.0, np.inf):
        start[0, 0, 1] = value
        with pytest.raises(Failed, match="the gradient of layer 2 at the start"):
            mapping.starts_from_seed(replace(honest, start=start), [0])
    start[0, 0, 1] = 7.0
    mapping.starts_from_seed(replace(honest, start=start), [0])


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
