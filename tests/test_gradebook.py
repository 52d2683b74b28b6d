"""A gradebook that cannot be used: one sentence, nobody's loss, and the class goes on."""

import shutil
import sqlite3
import subprocess
import sys

import pytest
import toy_lab
from nbgrader.api import Gradebook
from toy_lab import hand_in, solved

from autograder import gradebook, grading, journal, results, scratch
from autograder.gradebook import GradebookError, UnusableError
from autograder.marking import GradingError


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A course of two, marked from their recordings, so that no process is started."""
    made = toy_lab.make_course(tmp_path_factory.mktemp("gradebook") / "course")
    for student in ("ada", "bob"):
        hand_in(made, student, solved(made))
    grade(made)
    return made


@pytest.fixture
def course(graded, tmp_path):
    return shutil.copytree(graded, tmp_path / "course")


def grade(course):
    return grading.grade(course, "toy", how="evidence", force=True, jobs=1, progress=False)


def test_is_a_lock_waited_for_and_then_named(course, monkeypatch):
    monkeypatch.setattr(gradebook, "PATIENCE", 1)
    lock = sqlite3.connect(course / "gradebook.db", isolation_level=None)
    lock.execute("begin exclusive")
    with pytest.raises(UnusableError, match="is locked by another program: end that"):
        grade(course)
    lock.close()
    assert [one.status for one in grade(course)] == ["person"] * 2


def test_is_a_lock_in_the_middle_the_graders_failure_and_not_a_refusal(course, monkeypatch):
    monkeypatch.setattr(gradebook, "PATIENCE", 1)
    lock = sqlite3.connect(course / "gradebook.db", isolation_level=None)
    record = grading.record

    def locked(task, writer, result, outputs):
        if result.student == "ada":
            lock.execute("begin exclusive")
        elif lock.in_transaction:
            lock.rollback()
        record(task, writer, result, outputs)

    monkeypatch.setattr(grading, "record", locked)
    first, second = grade(course)
    lock.close()
    assert (first.status, second.status) == ("failed", "person")
    assert "is locked by another program" in first.reason
    assert results.load(course, "toy", "ada") is not None
    monkeypatch.undo()
    again, _ = grading.grade(course, "toy", how="evidence", jobs=1, progress=False)
    assert again.status == "person"


def test_is_an_older_gradebook_named_with_the_way_to_a_new_one(course):
    with sqlite3.connect(course / "gradebook.db") as book:
        book.execute("alter table grade drop column extra_credit")
    with pytest.raises(UnusableError, match=r"older nbgrader .*run `nbgrader db upgrade`.*which copies it first"):
        gradebook.scores(course, "toy")


@pytest.mark.slow
def test_does_nbgraders_upgrade_copy_it_first(course):
    subprocess.run([sys.executable, "-m", "nbgrader", "db", "upgrade"], cwd=course, check=True, capture_output=True)
    assert len(list(course.glob("gradebook.db.*"))) == 1
    assert [one.status for one in grade(course)] == ["person"] * 2


def test_is_what_is_no_database_named(course):
    (course / "gradebook.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UnusableError, match=r"cannot be used: .*not a database"):
        grade(course)


@pytest.mark.parametrize("said", ["database is locked", "no such column: x", "readonly database", "it is down"])
def test_does_no_sentence_hold_the_password_of_a_server(said):
    sentence = gradebook._unusable("postgresql+psycopg://grader:hush-hush@host/book", said)
    assert "grader:***@host/book" in sentence
    assert "hush-hush" not in sentence


def test_is_an_address_that_is_none_one_sentence(course):
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.CourseDirectory.db_url = 'the server downstairs'\n")
    with pytest.raises(UnusableError, match="is no address of a database"):
        grade(course)


def test_is_a_course_that_cannot_be_written_refused_in_one_sentence(course):
    (course / scratch.LOCK).unlink(missing_ok=True)
    (course / scratch.LOCK).mkdir()
    with pytest.raises(GradingError, match=r"cannot be written to .*: grading needs to"):
        grade(course)


def test_is_who_is_not_on_the_roster_refused_where_the_course_has_one(course):
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.Autograde.create_student = False\n")
    hand_in(course, "stranger", solved(course))
    found = {one.student: (one.status, one.reason) for one in grade(course)}
    assert found["ada"][0] == found["bob"][0] == "person"
    assert found["stranger"][0] == "refused"
    assert "`nbgrader db student add stranger` puts them on the roster" in found["stranger"][1]


def test_does_a_clock_that_goes_back_change_nothing(course, monkeypatch):
    before = [(one.status, one.score) for one in grade(course)]
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert [(one.status, one.score) for one in grade(course)] == before
    cached = grading.grade(course, "toy", how="evidence", jobs=1, progress=False)
    assert all(one.cached for one in cached)


def test_does_an_answer_that_was_marked_wait_again_only_with_another_text(course):
    mark(course, "ada", 1.5)
    grade(course)
    ada, bob = (one.cells["words"] for one in gradebook.scores(course, "toy"))
    assert (ada.manual, ada.needs_person, bob.needs_person) == (1.5, False, True)
    hand_in(course, "ada", solved(course, words="Another reason."))
    for _ in range(2):  # what waits does so until somebody has looked at it
        grade(course)
        ada, _ = (one.cells["words"] for one in gradebook.scores(course, "toy"))
        assert (ada.manual, ada.needs_person) == (1.5, True)


def test_does_an_answer_wait_again_where_nobody_knows_what_was_marked(course):
    mark(course, "ada", 1.5)
    (course / "results/toy/answers/ada.json").write_text("[")
    grade(course)
    assert gradebook.scores(course, "toy")[0].cells["words"].needs_person


@pytest.mark.parametrize(("number", "value", "waits"), [("42", 42, False), ("6 * 7", 42, True), ("42", 41, True)])
def test_do_points_in_place_of_the_checks_wait_again_only_with_other_code_or_points(course, number, value, waits):
    answer(course, "42", 42)
    grade(course)
    mark(course, "ada", 0.5, "test_number")
    answer(course, number, value)
    for _ in range(2):
        grade(course)
        ada, _ = (one.cells["test_number"] for one in gradebook.scores(course, "toy"))
        assert (ada.auto, ada.manual, ada.needs_person) == (float(value == 42), 0.5, waits)


def answer(course, number, value):
    """Ada's notebook and what its variable was noted to be."""
    folder = hand_in(course, "ada", solved(course, number=f"number = {number}"))
    journal.note(folder, {"number": {"value": value}})


def mark(course, student, points, name="words"):
    """What formgrader does when a person gives points for an answer."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        found = book.find_grade(name, "toy", "toy", student)
        found.manual_score, found.needs_manual_grade = points, False
        book.db.commit()


def test_is_feedback_of_nobody_one_sentence(tmp_path):
    made = toy_lab.make_course(tmp_path / "course")
    with pytest.raises(GradebookError, match="nobody was graded in toy yet: run `autograder grade toy` first"):
        grading.feedback(made, "toy", progress=False)


PLUGIN = """
from pathlib import Path

from nbgrader.plugins import BasePlugin


class Half(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        Path(__file__).with_name(student_id).touch()
        return score / 2
"""


@pytest.fixture
def late(course):
    """Half of ada's points are taken off."""
    (course / "half_for_late.py").write_text(PLUGIN)
    with (course / gradebook.CONFIG).open("a") as settings:
        settings.write('c.AssignLatePenalties.plugin_class = "half_for_late.Half"\n')
    (course / "submitted/ada/toy/timestamp.txt").write_text("2026-03-04 12:00:00 UTC")
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.update_or_create_assignment("toy", duedate="2026-03-01 12:00:00 UTC")
    grade(course)
    return course


def test_does_a_penalty_count_that_stands_beside_the_settings(late):
    assert [student for student in ("ada", "bob") if (late / student).exists()] == ["ada"]
    ada, bob = gradebook.scores(late, "toy")
    assert (ada.late_penalty, bob.late_penalty) == (ada.score / 2, 0)


def grade_on(course):
    """Only what changed; the penalties of ada and bob, and half of their scores."""
    outcomes = grading.grade(course, "toy", how="evidence", jobs=1, progress=False)
    assert all(one.cached for one in outcomes)
    return [(one.late_penalty, one.score / 2) for one in gradebook.scores(course, "toy")]


def test_is_a_penalty_of_the_score_that_a_person_gave_since(late, capfd):
    mark(late, "ada", 2.0)
    mark(late, "bob", 2.0)
    capfd.readouterr()
    assert grade_on(late) == [(1.0, 1.0), (0.0, 1.0)]
    assert "late" not in capfd.readouterr().err


def test_is_a_penalty_gone_where_more_time_was_given_since(late):
    mark(late, "ada", 2.0)
    assert grade_on(late)[0][0] == 1
    with Gradebook(f"sqlite:///{late}/gradebook.db") as book:
        book.grant_extension("toy", "ada", days=7)
    assert grade_on(late)[0][0] == 0


def test_is_no_penalty_computed_where_the_course_has_no_such_step(late):
    with (late / gradebook.CONFIG).open("a") as settings:
        settings.write("c.Autograde.autograde_preprocessors = c.Autograde.autograde_preprocessors[:-2]\n")
    mark(late, "ada", 2.0)
    assert grade_on(late)[0] == (0.0, 1.0)
