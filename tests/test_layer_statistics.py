"""The layer-statistics lab: does the solution hold, and does each planted mistake lose exactly its own points?"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_class

from autograder import checks, questionnaire
from autograder.authoring import expand
from autograder.classes.layer_statistics import ALL, LAYERS, own_numbers
from autograder.classroom import MARKS, Kind
from autograder.questions import layer_statistics as asked
from autograder.results import Result
from autograder.selfcheck import evidence
from labkit import data, ensembles, initialisations, networks, theory
from labkit.recording import Recording
from labkit.training import train

LAB = "layer_statistics"
SOURCE = Path(__file__).parent.parent / "assignments" / f"{LAB}.py"
QUESTIONS = questionnaire.of(LAB)
KINDS = {kind.name: kind for kind in LAYERS}
EDITED = [kind for kind in LAYERS if kind.edits and not kind.copies and not kind.skips]
FORGED = [kind for kind in LAYERS if kind.forge]
RUN_CELLS = ("train_classifiers", "train_three", "train_glorot")
SHOWN = ("bands", "longer_steps")  # train, and decide nothing
# what running these cells anew depends on; the own loop takes a second
OWN_LOOP = {"weight_statistics", "gradient_statistics", "train_and_capture"}


def code() -> dict[str, str]:
    """The solution's cells that decide what is handed in, by id."""
    notebook = expand(SOURCE.read_text("utf-8"), LAB)
    named = [cell for cell in notebook.cells if cell.cell_type == "code" and "nbgrader" in cell.metadata]
    return {cell.id: MARKS.sub("", cell.source) for cell in named if not cell.metadata.nbgrader.grade}


@dataclass
class Work:
    """A notebook that ran in a folder."""

    cells: dict[str, str]
    folder: Path
    names: dict[str, Any]
    recordings: dict[str, Recording]

    def evidence(self, **others: Recording) -> Any:
        found = evidence(self.names, self.folder)
        # the same objects every time, so that what was examined is not examined again
        found._recordings, found.salt = {**self.recordings, **others}, b"salt"
        return found


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder, cells, names = tmp_path_factory.mktemp("solved"), code(), {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for id, text in cells.items():
            if id not in SHOWN:
                exec(compile(text, id, "exec"), names)
        found = {path.stem: Recording.load(path) for path in folder.glob("*.safetensors")}
        yield Work(cells, folder, names, found)


@dataclass
class Marked:
    """What the checks take off by question, and what they say."""

    lost: dict[str, float]
    said: str


def marked(work: Any, names: Any = QUESTIONS) -> Marked:
    """A check that breaks is an error."""
    lost, said = {}, []
    for name in names:
        verdicts = checks.run(QUESTIONS[name], work)
        assert not checks.needs_person(verdicts), [v.trace for v in verdicts]
        if missing := QUESTIONS[name].points - checks.earned(verdicts):
            lost[name] = missing
        said += [f"{verdict.found} {verdict.help}" for verdict in verdicts if verdict.outcome == "failed"]
    return Marked(lost, " ".join(said))


def again(solved: Work, kind: Kind, folder: Path, patch: pytest.MonkeyPatch) -> Work:
    """The notebook run anew with a student's edits; what was trained before is read."""
    cells, edited = solved.cells, {edit.cell for edit in kind.edits}
    for edit in kind.edits:
        cells = edit.apply(cells)
    patch.chdir(folder)
    names, own = dict(solved.names), bool(edited & OWN_LOOP)
    kept = {name: run for name, run in solved.recordings.items() if name != "own" or not own}
    if edited & {*RUN_CELLS}:
        for name in kept:
            shutil.copy(solved.folder / f"{name}.safetensors", folder)
    for id, text in cells.items():
        if id in ("setup", "experiments", "data", "look", *SHOWN) or (id in RUN_CELLS and id not in edited):
            continue
        if id == "capture" and not own:
            continue
        try:
            exec(compile(text, id, "exec"), names)
        except Exception:
            names = {name: value for name, value in names.items() if f"{name} = " not in text}
            if id not in edited:
                raise
    if own:
        kept["own"] = Recording.load(folder / "own.safetensors")
    return Work(cells, folder, names, kept)


def test_the_notebook_checks_each_question_for_all_its_points() -> None:
    cells = {cell.id: cell for cell in expand(SOURCE.read_text("utf-8"), LAB).cells}
    tests = {id.removeprefix("test_"): cell for id, cell in cells.items() if id.startswith("test_")}
    assert list(tests) == list(QUESTIONS)
    for name, cell in tests.items():
        assert cell.metadata.nbgrader.points == QUESTIONS[name].points
        assert f'autograder.check("{name}")' in cell.source
    assert dict(ALL) == {name: question.points for name, question in QUESTIONS.items()}


def test_the_solution_scores_everything(solved: Work) -> None:
    assert marked(solved.evidence()).lost == {}


def test_an_untouched_release_scores_nothing(tmp_path: Path) -> None:
    nothing = evidence({"student": "ada"}, tmp_path)
    assert marked(nothing).lost == {name: question.points for name, question in QUESTIONS.items()}


@pytest.mark.parametrize("kind", EDITED, ids=lambda kind: kind.name)
def test_each_planted_mistake_loses_its_own_points(
    solved: Work, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = again(solved, kind, tmp_path, monkeypatch)
    found = marked(work.evidence())
    assert found.lost == dict(kind.loses)
    assert kind.says in found.said


@pytest.mark.parametrize("kind", FORGED, ids=lambda kind: kind.name)
def test_each_forged_recording_loses_what_rests_on_it(solved: Work, kind: Kind, tmp_path: Path) -> None:
    forged = {
        name: Recording.load(kind.forge(solved.recordings[name]).save(tmp_path / name))  # type: ignore[misc]
        for name in kind.forged
    }
    found = marked(solved.evidence(**forged))
    assert found.lost == dict(kind.loses)
    assert kind.says in found.said


def test_a_copied_submission_loses_what_rests_on_the_seed(solved: Work) -> None:
    names = {**solved.names, "student": "somebody else"}
    copied = replace(solved, names=names).evidence()
    assert marked(copied).lost == dict(KINDS["copied, classmate's id"].loses)


def test_a_classmate_s_recording_loses_what_rests_on_it(solved: Work) -> None:
    kind = KINDS["classmate's recording"]
    borrowed = train(asked.experiments("ada")["tanh"], device="cpu", progress=False)
    found = marked(solved.evidence(tanh=borrowed))
    assert found.lost == dict(kind.loses)
    assert kind.says in found.said


# values of the wrong kind are the student's mistake and never the grader's
ODD = (None, "many", [], {}, {"sigmoid": None, "tanh": "x", "relu": []}, np.full((20, 5), np.nan), 1e400)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_values_of_the_wrong_kind_lose_their_points(solved: Work, value: Any) -> None:
    variables = {
        "scores": ("scores", 1), "last_over_first": ("scores", 1),
        "captured_weights": ("capture", 1), "captured_gradients": ("capture", 1),
        "median_sd": ("truthful_statistic", 1), "visible_share": ("truthful_statistic", 1),
        "hidden_from_mean": ("truthful_statistic", 1), "hidden_from_sd": ("truthful_statistic", 1),
        "late_over_early": ("truthful_statistic", 1), "start_sizes": ("seed_band", 2),
        "first_step": ("shared_optimizer", 1), "gains": ("layer_gains", 1),
        "theory_gain": ("layer_gains", 1), "prediction": ("glorot_runs", 1), "final_accuracy": ("glorot_runs", 1),
    }  # fmt: skip
    for name, (question, points) in variables.items():
        work = replace(solved, names={**solved.names, name: value}).evidence()
        assert marked(work, [question]).lost == {question: points}, name


def test_a_seed_that_gives_a_dead_network_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked.experiments("ada")["relu"].seed
    monkeypatch.setattr(asked, "_dead", lambda e: e.seed < first + 2)
    found = asked.experiments.__wrapped__("ada")
    assert {e.seed for e in found.values()} == {first + 2}


def test_dead_is_what_torch_finds() -> None:
    """Some seeds of a narrow ReLU network have no gradient at all; torch's back-propagation is another origin."""
    from labkit.losses import mean_cross_entropy
    from labkit.recorder import tensors

    base, known = asked.experiments("ada")["relu_glorot"], []
    for seed in range(30):
        # with two units a layer, many are dead
        e = base.replace(seed=seed, widths=(2, 2, 2, 2, 1), observations=100)
        points, labels, _ = tensors(e)
        network = networks.of_experiment(e)
        mean_cross_entropy(network(points), labels).backward()
        zero = [not p.grad.any() for name, p in network.named_parameters() if name.endswith("weight")]
        known.append(any(zero))
        assert asked._dead(e) == any(zero)
    assert 0 < sum(known) < 30


def test_gains_are_those_of_wide_networks(solved: Work) -> None:
    """Does the reference agree with the mean field, in a network as wide as that is for?"""
    widths, draw = (2, 400, 400, 400, 1), np.random.RandomState(0)
    points, labels = draw.standard_normal((50, 2)), draw.randint(0, 2, 50)
    layers = initialisations.draw(widths, "glorot_uniform", 1.0, 3)
    found = asked._gains(layers, points, labels, "relu")[:2]
    assert np.allclose(found, theory.gain("relu", "glorot_uniform", 400), rtol=0.25)


def test_the_start_sizes_are_those_of_the_recordings(solved: Work) -> None:
    """Are the gradients that the grader computes those that a recorder finds on its probe batch?"""
    e, size = asked.experiments("solution")["tanh"], ensembles.sizes_at_start(solved.recordings["tanh"])
    drawn = data.of_experiment(e).subset(range(250))
    gradients = asked._start_gradients(e, drawn.inputs.astype(np.float64), drawn.labels)
    assert np.allclose([np.abs(g).mean() for g in gradients], size, rtol=1e-4)


def test_a_simulated_student_quotes_numbers(solved: Work) -> None:
    assert all(np.isfinite(value) for value in own_numbers(solved.folder).values())


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, warm: None) -> dict[str, Result]:
    return simulated_class.graded(tmp_path_factory.mktemp("statistics"), LAB, simulated_class.usual(LAYERS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulated_class.usual(LAYERS), ids=lambda kind: kind.name)
def test_does_each_kind_lose_exactly_its_own_points(graded: dict[str, Result], kind: Kind) -> None:
    simulated_class.assert_loses(graded[kind.name], kind)
