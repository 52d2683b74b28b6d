"""What a grading runs: the notebook, nothing, or every training anew; and what `autograder.check` notes for that."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import toy_lab
from click.testing import CliRunner
from toy_lab import hand_in, solved

from autograder import answers, checks, cli, grading, journal, logs, marking, regrading, results, selfcheck, shell
from autograder.cells import CODE_STUB
from autograder.checks import Failed, NeedsExecution, Question, check

TRAINS = """
import labkit
from labkit.experiments import Experiment
labkit.train(Experiment.from_json({!r}), save="run.safetensors")
"""
NOT_RUN = "the notebook was not run"


def noted(**values):
    """answers.json, as a student's kernel writes it."""
    said = {name: {"value": answers.encode(value)} for name, value in values.items()}
    return json.dumps({"format": journal.FORMAT, "answers": said})


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return toy_lab.make_course(tmp_path_factory.mktemp("ways") / "course")


def never():
    raise AssertionError("a process was started")


@check(points=1)
def epochs_are_3(evidence):
    """run.safetensors has three epochs."""
    if evidence.recording("run").epochs != 3:
        raise Failed(f"it has {evidence.recording('run').epochs} epochs")


def by_evidence(course, folder, **changes):
    task = replace(marking.prepare(course, "toy"), **changes).graded_by("evidence")
    return marking.mark(task, "ada", folder, never)[0]


def outcomes(result, id):
    return [verdict.outcome for verdict in result.questions[id].verdicts]


# by evidence alone


@pytest.mark.parametrize(("content", "outcome", "points"), [
    (noted(number=42), "passed", 1),
    (noted(number=41), "failed", 0),
    (noted(number=[42]), "failed", 0),
    (noted(another=42), "unexecuted", 0),
    (json.dumps({"format": 1, "answers": {"number": {"missing": "variable"}}}), "failed", 0),
    (json.dumps({"format": 1, "answers": {"number": "42"}}), "failed", 0),
    (json.dumps({"format": 1, "answers": {"number": {"value": {"array": "no"}}}}), "failed", 0),
    (json.dumps({"format": 1, "answers": [42]}), "unexecuted", 0),
    (json.dumps({"format": 9, "answers": {"number": {"value": 42}}}), "unexecuted", 0),
    ("[" * 100_000, "unexecuted", 0),
    ("cut off", "unexecuted", 0),
    (None, "unexecuted", 0),
])  # fmt: skip
def test_are_recorded_answers_graded_and_functions_left(course, tmp_path, content, outcome, points):
    (tmp_path / "toy.ipynb").write_text(json.dumps(solved(course)))
    if content is not None:
        (tmp_path / journal.FILE).write_text(content)
    result = by_evidence(course, tmp_path)
    assert outcomes(result, "test_number") == [outcome]
    # the second is skipped because of the first, for the same reason
    assert outcomes(result, "test_double") == ["unexecuted", "unexecuted"]
    assert outcomes(result, "test_build") == ["unexecuted"]
    assert (result.score, result.status) == (points, "person")
    assert "the notebook has to be run for Twice, A network" in result.reason
    assert result.questions["test_double"].needs_person
    assert result.questions["test_number"].needs_person == (outcome == "unexecuted")
    assert NOT_RUN in result.questions["test_double"].verdicts[0].found


@pytest.mark.parametrize(("source", "points"), [
    ("number = 42", 1), ("number = 41", 1), ("%matplotlib inline\nnumber: int = 42", 1), ("a, number = 1, 42", 1),
    ("# number = 42", 0), ("other = 42", 0), ("number == 42", 0), ("number.real = 42", 0), ("number = ", 0), ("", 0),
    (CODE_STUB, 0), (f"number = 42\n{CODE_STUB}", 0), ("(" * 5000 + "number = 42", 0),
])  # fmt: skip
def test_is_a_noted_answer_worth_nothing_that_the_notebook_has_not(course, tmp_path, source, points):
    """Blank answers beside a classmate's answers.json: a run would find nothing, either."""
    notebook = solved(course)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "number =" in cell["source"]:
            cell["source"] = source
    (tmp_path / "toy.ipynb").write_text(json.dumps(notebook))
    (tmp_path / journal.FILE).write_text(noted(number=42))
    verdict = by_evidence(course, tmp_path).questions["test_number"].verdicts[0]
    assert (verdict.outcome, verdict.points) == ("passed" if points else "failed", points)
    if not points:
        assert "number is in answers.json, and no answer of the notebook assigns it" in verdict.found


def test_is_an_answer_beyond_all_bounds_not_read(course, tmp_path, monkeypatch):
    (tmp_path / journal.FILE).write_text(noted(number=42))
    assert "number" in journal.read(tmp_path)
    monkeypatch.setattr(journal, "LARGEST", 20)
    assert journal.read(tmp_path) == {}
    (tmp_path / "elsewhere").write_text(noted(number=42))
    (tmp_path / journal.FILE).unlink()
    (tmp_path / journal.FILE).symlink_to(tmp_path / "elsewhere")
    monkeypatch.undo()
    assert journal.read(tmp_path) == {}


def test_is_a_recording_graded_without_anything_run(course, tmp_path, runs):
    (tmp_path / "toy.ipynb").write_text(json.dumps(solved(course)))
    asked = {"test_number": Question("number", "A run", (epochs_are_3,))}
    assert outcomes(by_evidence(course, tmp_path, questions=asked), "test_number") == ["failed"]
    runs["relu"].save(tmp_path / "run.safetensors")
    found = by_evidence(course, tmp_path, questions=asked)
    assert (found.status, found.reason, found.protection) == ("graded", "", marking.NOT_RUN)
    assert found.questions["test_number"].verdicts[0].found == "it has 50 epochs"


def test_does_what_was_run_stand_above_evidence_and_evidence_give_way_to_it(course, warm):
    folder = hand_in(course, "bela", solved(course))
    (folder / journal.FILE).write_text(noted(number=42))
    [first] = grading.grade(course, "toy", ["bela"], how="evidence", progress=False)
    assert (first.status, first.score, first.cached) == ("person", 1.0, False)
    [again] = grading.grade(course, "toy", ["bela"], how="evidence", progress=False)
    assert again.cached
    [regraded] = regrading.regrade(course, "toy", ["bela"], progress=False)
    assert (regraded.status, regraded.needs_execution) == ("same", ("Twice", "A network"))
    [run] = grading.grade(course, "toy", ["bela"], progress=False)
    assert (run.status, run.score, run.cached) == ("graded", 6.0, False)
    [kept] = grading.grade(course, "toy", ["bela"], how="evidence", progress=False)
    assert (kept.score, kept.cached) == (6.0, True)


# everything anew


@pytest.mark.parametrize(("how", "outcome"), [("run", "failed"), ("execute", "passed")])
def test_does_execute_train_anew_what_was_handed_in(course, nursery, tmp_path, short, how, outcome):
    task = replace(
        marking.prepare(course, "toy"), questions={"test_number": Question("number", "A run", (epochs_are_3,))}
    )
    (tmp_path / "toy.ipynb").write_text(json.dumps(solved(course, number=TRAINS.format(short.to_json()))))
    (tmp_path / "run.safetensors").write_bytes(b"cut off")
    result, _ = marking.mark(task.graded_by(how), "ada", tmp_path, lambda: nursery)
    assert outcomes(result, "test_number") == [outcome]
    kept = results.load_evidence(course, result)
    assert [file.name for file in kept.files if file.made] == (["run.safetensors"] if how == "execute" else [])
    assert (tmp_path / "run.safetensors").read_bytes() == b"cut off"


def test_has_each_way_its_own_key(course):
    task = marking.prepare(course, "toy")
    ways = [task.graded_by(how) for how in ("run", "evidence", "execute")]
    assert len({way.base for way in ways}) == len({way.execution for way in ways}) == 3
    assert ways[0] == task


# the command line, the bar, the log


def test_are_two_ways_at_once_refused(course):
    said = CliRunner().invoke(cli.main, ["grade", "toy", "--evidence-only", "--execute", "--course", str(course)])
    assert said.exit_code == 2
    assert "say one of them" in said.output


def test_does_the_log_say_what_came_of_a_submission(course):
    folder = hand_in(course, "chidi", solved(course, double="def double(x):\n    return 3 * x"))
    (folder / journal.FILE).write_text(noted(number="break the check"))
    said = CliRunner().invoke(
        cli.main, ["grade", "toy", "--student", "chidi", "--evidence-only", "--course", str(course)]
    )
    assert said.exit_code == 0, said.output
    log = logs.path(course, "toy", "chidi").read_text()
    assert "chidi, toy: person" in log
    assert "0 of 3  Twice (double)" in log
    assert "TypeError: a mistake in the check" in log
    hand_in(course, "dana", b"no notebook\x1b[31m")
    grading.grade(course, "toy", ["dana"], how="evidence", progress=False)
    log = logs.path(course, "toy", "dana").read_text()
    assert "dana, toy: refused" in log
    assert "\x1b" not in log


def test_does_the_bar_count_what_came_of_them():
    class Bar:
        def __init__(self):
            self.seen, self.steps, self.said, self.disable = [], 0, [], False

        def write(self, line):
            self.said.append(line)

        def set_postfix(self, values, refresh):
            self.seen.append(dict(values))

        def update(self):
            self.steps += 1

    table = grading.RunningTable(Bar())
    for status in ("graded", "person", "graded"):
        table.add(grading.Outcome("ada\x1b", status, "a check broke" if status == "person" else ""))
    assert table.bar.said == ["for a person: ada : a check broke"]
    assert table.bar.seen[-1] == {"graded": 2, "for a person": 1}
    assert table.bar.steps == 3


# what a student's own kernel notes


def test_does_a_check_in_a_kernel_note_what_variables_were(ipython, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    desk = shell.open_desk()
    desk.user_ns.update(student="ada", number=42, toy_lab=toy_lab)
    monkeypatch.setattr(selfcheck, "_shell", lambda: desk)
    monkeypatch.setattr(selfcheck, "_show", lambda *_: None)
    assert selfcheck.check("number") == 1.0
    assert journal.read(tmp_path) == {"number": {"value": 42}}
    desk.user_ns["number"] = 41
    selfcheck.check("number")
    assert journal.read(tmp_path) == {"number": {"value": 41}}
    del desk.user_ns["number"]
    selfcheck.check("number")
    monkeypatch.setattr(selfcheck, "_shell", lambda: None)
    (tmp_path / "script").mkdir()
    monkeypatch.chdir(tmp_path / "script")
    selfcheck.check("number")
    assert not list(Path.cwd().iterdir())


def test_is_what_is_too_long_left_out_and_an_older_answer_with_it(tmp_path, monkeypatch):
    journal.note(tmp_path, {"number": {"value": 1}, "other": {"value": 2}})
    monkeypatch.setattr(journal, "LONGEST", 20)
    journal.note(tmp_path, {"number": {"value": "x" * 100}})
    assert journal.read(tmp_path) == {"other": {"value": 2}}


def test_is_a_folder_that_cannot_be_written_no_error(tmp_path):
    journal.note(tmp_path / "not there", {"number": {"value": 1}})
    assert not (tmp_path / "not there").exists()


def test_is_a_check_that_was_not_run_open_and_gives_nothing():
    def raises(evidence):
        """It holds."""
        raise NeedsExecution

    [verdict] = checks.run(Question("q", "Q", (check(points=2)(raises),)), None)
    assert (verdict.outcome, verdict.points) == ("unexecuted", 0.0)
    assert checks.needs_person([verdict])
