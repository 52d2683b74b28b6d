"""Do changed checks change the marks that they should, and nothing else, without a line of a student's code?"""

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import toy_lab
from nbgrader.api import Gradebook
from toy_lab import hand_in, solved

from autograder import answers, gradebook, grading, markers, marking, questionnaire, regrading, results
from autograder.checks import Failed, Question, check
from autograder.evidence import Evidence
from autograder.marking import NotedEvidence
from autograder.regrading import Change, NotAsked, StoredReplies, regrade
from autograder.results import Exchange, Kept, QuestionResult

LATE = """
from nbgrader.plugins import LateSubmissionPlugin


class HalfAPoint(LateSubmissionPlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return 0.5


c.AssignLatePenalties.plugin_class = HalfAPoint
"""
TRAINS = """
import labkit
from labkit.experiments import Experiment
labkit.train(Experiment.from_json({!r}), save="run.safetensors")
number = 42
"""
VALUE_OF_NUMBER = {"do": "value", "name": "number"}
STUDENTS = ("right", "off-by-one", "endless", "trains", "breaks")


# checks as an instructor might change them; each has the name and the points of the one that it takes the place of


@check(points=1)
def number_is_42(evidence: Evidence) -> None:
    """number is 41 or 42."""
    if evidence.value("number") not in (41, 42):
        raise Failed(f"number is {evidence.value('number')!r}, expected is 41 or 42")


@check(points=2)
def double_values(evidence: Evidence) -> None:
    """double(x) is two times x, also for another x."""
    if evidence.call("double", 21) != 42:
        raise Failed("double(21) is not 42")


@check(points=1)
def epochs_are_3(evidence: Evidence) -> None:
    """run.safetensors has three epochs."""
    if evidence.recording("run").epochs != 3:
        raise Failed(f"it has {evidence.recording('run').epochs} epochs")


@pytest.fixture(scope="module")
def graded(tmp_path_factory, short, warm):
    """A course with five students, graded; a person gave a mark and a comment, and one is late."""
    course = toy_lab.make_course(tmp_path_factory.mktemp("regraded") / "course")
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(LATE)
    hand_in(course, "right", solved(course))
    late = hand_in(course, "off-by-one", solved(course, number="number = 41"))
    (late / "timestamp.txt").write_text("2026-03-02 09:00:00.000000 UTC\n")
    hand_in(course, "endless", solved(course, double="def double(x):\n    while True: pass"))
    hand_in(course, "trains", solved(course, number=TRAINS.format(short.to_json())))
    hand_in(course, "breaks", solved(course, number="number = 'break the check'"))
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.update_or_create_assignment("toy", duedate="2026-03-01 09:00:00.000000 UTC")
    assert len(grading.grade(course, "toy", jobs=1, progress=False)) == 5
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.find_grade("words", "toy", "toy", "off-by-one").manual_score = 1.5
        book.find_grade("test_double", "toy", "toy", "off-by-one").manual_score = 2.5
        book.find_comment("double", "toy", "toy", "off-by-one").manual_comment = "Well done."
        book.db.commit()
    return course


@pytest.fixture
def course(graded, tmp_path, monkeypatch):
    """A copy of it, in which nobody can run a student's code."""

    def refused(*_):
        raise AssertionError("a process for a student was started")

    for kind in (markers.Apart, markers.Here):
        monkeypatch.setattr(kind, "mark", refused)
    return Path(shutil.copytree(graded, tmp_path / "course", copy_function=shutil.copy2))


def ask(monkeypatch, **checks):
    """Let the toy ask these checks in the place of those of the same question."""
    asked = {name: Question(name, question.title, checks.get(name, question.checks))
             for name, question in toy_lab.QUESTIONS.items()}  # fmt: skip
    monkeypatch.setitem(questionnaire._REGISTERED, "toy", asked)


def regraded(course, *students, **options):
    return {one.student: one for one in regrade(course, "toy", list(students) or None, progress=False, **options)}


def scores_of(course, student):
    return next(one for one in gradebook.scores(course, "toy") if one.student == student)


def files_of(course):
    return {path: path.read_bytes() for path in course.rglob("*") if path.is_file() and path.name != ".grading-lock"}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_is_what_the_checks_went_by_kept_as_plain_json(course):
    folder, results_ = course / "submitted" / "trains" / "toy", course / "results" / "toy"
    stored = json.loads((results_ / "evidence" / "trains.json").read_text())
    [first, second] = stored["exchanges"]["test_double"]
    assert first["request"]["function"] == "double"
    asked = answers.decode(first["request"]["arguments"][0])
    assert np.array_equal(answers.decode(json.loads(first["reply"])["value"]), 2 * asked)
    assert list(second["request"]["arguments"][0]) == ["tensor"]
    assert stored["exchanges"]["test_number"] == [{"request": VALUE_OF_NUMBER, "reply": '{"value":42}', "left_out": 0}]
    assert {(file["name"], file["digest"], file["size"], file["made"]) for file in stored["files"]} == {
        (path.name, sha256(path), path.stat().st_size, made)
        for path, made in ((folder / "toy.ipynb", False), (results_ / "made/trains/run.safetensors", True))
    }
    assert [cell["id"] for cell in stored["cells"]][:2] == ["setup", "double"]
    assert json.loads((results_ / "trains.json").read_text())["evidence"] == sha256(results_ / "evidence/trains.json")


@pytest.mark.slow
def test_do_the_same_checks_find_the_same_without_running_anything(course):
    before = files_of(course)
    found = regraded(course)
    assert {one.status for one in found.values()} == {"same"}
    assert not any(one.needs_execution for one in found.values())
    assert set(found) == set(STUDENTS)
    assert files_of(course) == before


@pytest.mark.slow
def test_does_a_changed_check_change_the_mark_and_say_why(course, monkeypatch):
    ask(monkeypatch, number=(number_is_42,))
    found = regraded(course)
    assert found["off-by-one"].changes == (Change("A number", 0.0, 1.0, ("number_is_42: ✗ → ✓ number is 41 or 42.",)),)
    assert found["right"].status == "same"
    assert scores_of(course, "off-by-one").cells["test_number"].score == 1.0
    notebook = nbformat.read(course / "autograded" / "off-by-one" / "toy" / "toy.ipynb", as_version=4)
    shown, number = next(cell for cell in notebook.cells if cell.id == "test_number").outputs
    assert "number is 41 or 42." in shown.data["text/plain"]
    assert number.data["text/plain"] == "1.0"


@pytest.mark.slow
def test_do_a_persons_marks_and_comments_and_the_late_penalty_stay(course, monkeypatch):
    before = scores_of(course, "off-by-one")
    assert (before.late_penalty, before.comments) == (0.5, {"double": "Well done."})
    ask(monkeypatch, number=(number_is_42,))
    regraded(course, "off-by-one")
    after = scores_of(course, "off-by-one")
    assert (after.late_penalty, after.comments) == (0.5, {"double": "Well done."})
    assert {id: (cell.manual, cell.score) for id, cell in after.cells.items()} == {
        "test_double": (2.5, 2.5), "test_build": (None, 2.0), "test_number": (None, 1.0), "words": (1.5, 1.5),
    }  # fmt: skip


@pytest.mark.slow
def test_does_a_dry_run_write_nothing(course, monkeypatch):
    ask(monkeypatch, number=(number_is_42,))
    before = files_of(course)
    assert regraded(course, dry_run=True)["off-by-one"].status == "changed"
    assert files_of(course) == before


@pytest.mark.slow
def test_is_what_was_regraded_not_graded_again(course, monkeypatch):
    ask(monkeypatch, number=(number_is_42,))
    regraded(course, "off-by-one", "right")
    outcomes = grading.grade(course, "toy", ["off-by-one", "right"], progress=False)
    assert [(outcome.cached, outcome.score) for outcome in outcomes] == [(True, 6.0), (True, 6.0)]


@pytest.mark.slow
def test_does_a_question_that_asks_something_new_keep_its_mark(course, monkeypatch):
    ask(monkeypatch, double=(double_values, toy_lab.double_tensor), number=(number_is_42,))
    found = regraded(course)["off-by-one"]
    assert found.needs_execution == ("Twice",)
    assert [change.title for change in found.changes] == ["A number"]
    result = results.load(course, "toy", "off-by-one")
    assert {id: question.points for id, question in result.questions.items()} == {
        "test_double": 3.0, "test_build": 2.0, "test_number": 1.0,
    }  # fmt: skip
    # and grading will execute it
    task = marking.prepare(course, "toy")
    assert marking.stored_result(task, "off-by-one", task.submitted("off-by-one")) is None


@pytest.mark.parametrize(("of", "points"), [(2.0, 2.0), (3.0, 2.5), (4.0, 2.5)])
def test_is_a_mark_that_is_kept_never_above_what_the_question_gives_now(of, points):
    before = QuestionResult("double", "Twice", 2.5, 3.0, ())
    assert regrading._kept_mark(before, of) == QuestionResult("double", "Twice", points, of, ())


@pytest.mark.slow
def test_does_another_grader_than_the_one_that_executed_it_leave_it_to_grading(course, monkeypatch):
    ask(monkeypatch, number=(number_is_42,))
    task = marking.prepare(course, "toy")
    monkeypatch.setattr(marking, "prepare", lambda *_: replace(task, execution="another"))
    before = results.load(course, "toy", "off-by-one")
    assert regraded(course, "off-by-one")["off-by-one"].status == "changed"
    assert results.load(course, "toy", "off-by-one").key == before.key


@pytest.mark.slow
def test_does_a_mended_check_take_the_question_from_the_person(course, monkeypatch):
    assert scores_of(course, "breaks").cells["test_number"].needs_person
    ask(monkeypatch, number=(number_is_42,))
    [change] = regraded(course, "breaks")["breaks"].changes
    assert change.reasons == ("number_is_42: ! → ✗ number is 'break the check', expected is 41 or 42",)
    assert results.load(course, "toy", "breaks").status == "graded"
    assert not scores_of(course, "breaks").cells["test_number"].needs_person


@pytest.mark.slow
def test_are_recordings_that_the_run_made_looked_at_again(course, monkeypatch):
    ask(monkeypatch, number=(epochs_are_3,))
    found = regraded(course, "trains", "right")
    assert found["trains"].status == "same"
    assert "there is no recording run.safetensors" in found["right"].changes[0].reasons[0]


@pytest.mark.slow
def test_does_a_link_in_the_submission_lead_nowhere(course, monkeypatch):
    (marking.prepare(course, "toy").submitted("right") / "run.safetensors").symlink_to(
        course / "results/toy/made/trains/run.safetensors"
    )
    ask(monkeypatch, number=(epochs_are_3,))
    assert "there is no recording" in regraded(course, "right")["right"].changes[0].reasons[0]


def submission(course):
    with (course / "submitted/trains/toy/toy.ipynb").open("a") as notebook:
        notebook.write(" ")


def evidence(course):
    path = course / "results/toy/evidence/trains.json"
    path.write_bytes(path.read_bytes().replace(b"42", b"43"))


def made(course):
    with (course / "results/toy/made/trains/run.safetensors").open("ab") as recording:
        recording.write(b"!")


def every_made(course):
    shutil.rmtree(course / "results/toy/made")


def outputs(course):
    (course / "results/toy/outputs/trains.json").unlink()


def result(course):
    (course / "results/toy/trains.json").unlink()


def notebook(course):
    (course / "submitted/trains/toy/toy.ipynb").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("change", "words"), [
    (submission, "changed since it was graded: run `autograder grade toy trains`"),
    (notebook, "changed since it was graded"),
    (evidence, "stored evidence is not there"),
    (made, "stored evidence is not there"),
    (every_made, "stored evidence is not there"),
    (outputs, "stored outputs are not there"),
    (result, "it was not graded yet: run `autograder grade toy trains`"),
], ids=lambda one: getattr(one, "__name__", ""))  # fmt: skip
def test_is_what_does_not_belong_together_left_alone(course, monkeypatch, change, words):
    ask(monkeypatch, number=(epochs_are_3,), build=(replace(toy_lab.build_outputs, sentence="Other words."),))
    change(course)
    before = files_of(course)
    left = regraded(course, "trains")["trains"]
    assert left.status == "left"
    assert words in left.reason
    assert files_of(course) == before


# The replies, without a course


def asked(*pairs, question="q"):
    exchanges = [Exchange(request, json.dumps(reply)) for request, reply in pairs]
    return StoredReplies(Kept([], {question: exchanges, "another": []}, {}, []))


CALL = answers.call_request("f", [1, 2.5])
VALUE = answers.value_request("x")


def test_are_equal_requests_answered_in_the_order_in_which_they_were():
    replies = asked((CALL, {"value": 1}), (VALUE, {"value": 7}), (CALL, {"value": 2}))
    replies.turn_to("q")
    assert [replies.ask(CALL), replies.ask(CALL), replies.ask(VALUE)] == [{"value": 1}, {"value": 2}, {"value": 7}]
    assert not replies.asked_anew
    with pytest.raises(NotAsked):
        replies.ask(CALL)
    assert replies.asked_anew


def test_is_a_variable_known_to_every_question_but_a_call_to_its_own():
    replies = asked((CALL, {"value": 1}), (VALUE, {"value": 7}))
    replies.turn_to("another")
    assert [replies.ask(VALUE), replies.ask(VALUE)] == [{"value": 7}, {"value": 7}]
    with pytest.raises(NotAsked):
        replies.ask(CALL)


@pytest.mark.parametrize("request_", [
    answers.call_request("f", [1, 2.25]), answers.call_request("f", [1]), answers.call_request("g", [1, 2.5]),
    answers.call_request("f", [1, 2.5], inputs=np.zeros(2)), answers.value_request("f"),
])  # fmt: skip
def test_is_another_request_not_answered_by_a_similar_one(request_):
    replies = asked((CALL, {"value": 1}))
    replies.turn_to("q")
    with pytest.raises(NotAsked):
        replies.ask(request_)


def nested(depth):
    reply = []
    for _ in range(depth):
        reply = [reply]
    return reply


@pytest.mark.parametrize("reply", [{"value": "x" * 5000}, nested(100_000)], ids=["large", "deep"])
def test_is_a_reply_that_cannot_be_kept_no_reply(tmp_path, monkeypatch, reply):
    monkeypatch.setattr(marking, "LONGEST_REPLY", 1000)
    evidence = NotedEvidence([tmp_path], "ada", lambda _: reply)
    evidence.turn_to("q")
    with pytest.raises(Failed) if isinstance(reply, list) else nullcontext():
        evidence.value("x")
    [kept] = evidence.exchanges["q"]
    assert (kept.reply, bool(kept.left_out)) == ("", True)
    replies = StoredReplies(Kept([], evidence.exchanges, {}, []))
    replies.turn_to("q")
    with pytest.raises(NotAsked):
        replies.ask(VALUE)


def test_have_all_replies_together_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(marking, "MOST_KEPT", 250)
    evidence = NotedEvidence([tmp_path], "ada", lambda _: {"value": "x" * 100})
    evidence.turn_to("q")
    for _ in range(3):
        evidence.value("x")
    assert [bool(one.left_out) for one in evidence.exchanges["q"]] == [False, False, True]


def test_is_a_check_that_came_or_went_named():
    passed = regrading.Verdict("a", "passed", 1, 1, "A holds.")
    failed = regrading.Verdict("b", "failed", 0, 1, "B holds.", "B is 3")
    assert list(regrading._reasons([passed], [failed])) == ["b: is new → ✗ B is 3", "a is no longer asked"]
    assert list(regrading._reasons([passed, failed], [passed, failed])) == []
