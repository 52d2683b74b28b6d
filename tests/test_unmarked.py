"""Does a page of feedback say what nobody has marked yet, and nothing else of it?"""

import re
import shutil
import sqlite3
import subprocess
import sys

import pytest
import toy_lab
from nbgrader.api import Gradebook
from toy_lab import hand_in, solved

from autograder import gradebook, grading, unmarked
from autograder.checks import Question
from autograder.course import assignments_home

# the toy's answer in words is called by the heading above it
ESSAY = r">A toy</a> \(Score: (.*?)\)"
HEADING = r"<h4>toy \(Score: (.*)\)</h4>"
OPEN = "not final, {} still to be marked"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A course of one whose checks are all decided, and whose answer in words waits."""
    made = toy_lab.make_course(tmp_path_factory.mktemp("unmarked") / "course")
    hand_in(made, "ada", solved(made))
    grading.grade(made, "toy", how="evidence", jobs=1, progress=False)
    with book(made) as opened:
        for name, points in (("test_double", 3.0), ("test_build", 2.0), ("test_number", 0.0)):
            found = opened.find_grade(name, "toy", "toy", "ada")
            found.auto_score, found.needs_manual_grade = points, False
        opened.db.commit()
    return made


@pytest.fixture
def course(graded, tmp_path):
    return shutil.copytree(graded, tmp_path / "course")


def book(course):
    return Gradebook(f"sqlite:///{course}/gradebook.db")


def given(course, name, **fields):
    with book(course) as opened:
        found = opened.find_grade(name, "toy", "toy", "ada")
        for field, value in fields.items():
            setattr(found, field, value)
        opened.db.commit()


def shown(course):
    """What the page says of all points, and of the answer in words."""
    page = gradebook.feedback(course, "toy", "ada").read_text("utf-8")
    (above,), (essay,) = re.findall(HEADING, page), re.findall(ESSAY, page)
    assert page.count(f"Score: {essay} ") == 1, "beside the answer stands something else than in the list"
    return above, essay


def test_is_an_answer_not_marked_yet_no_zero_and_the_sum_not_final(course):
    assert shown(course) == ("5.0 so far / 8.0; " + OPEN.format("1 answer is"), "not marked yet / 2.0")


@pytest.mark.parametrize(("points", "above"), [(0.0, "5.0 / 8.0"), (1.5, "6.5 / 8.0")])
def test_are_points_that_a_person_gave_shown_as_they_are(course, points, above):
    given(course, "words", manual_score=points, needs_manual_grade=False)
    assert shown(course) == (above, f"{points} / 2.0")


def test_is_what_is_to_be_marked_again_not_final(course):
    given(course, "words", manual_score=1.5, needs_manual_grade=True)
    assert shown(course) == ("6.5 so far / 8.0; " + OPEN.format("1 answer is"), "1.5 so far / 2.0")


def test_is_an_answer_that_was_never_written_marked(course):
    given(course, "words", auto_score=0.0, needs_manual_grade=False)
    assert shown(course) == ("5.0 / 8.0", "0.0 / 2.0")


def test_does_a_check_that_needs_a_person_count_beside_them(course):
    given(course, "test_build", needs_manual_grade=True)
    assert shown(course)[0] == "5.0 so far / 8.0; " + OPEN.format("2 answers are")
    assert "A network</a> (Score: 2.0 so far / 2.0)" in gradebook.feedback(course, "toy", "ada").read_text("utf-8")


def test_is_each_answer_called_by_its_name(course):
    page = gradebook.feedback(course, "toy", "ada").read_text("utf-8")
    assert re.findall(r"<li><a href=.*?>(.*?)</a> \(Score", page) == ["Twice", "A network", "A number", "A toy"]
    assert re.findall(r"nbgrader-label.>(.*?)</span>", page).count("Student's answer") == 4
    assert not re.search("Test cell|Grade cell|Written response", page)


def test_keeps_a_page_nbgraders_words_for_what_has_no_name(course, monkeypatch):
    (course / "release/toy/toy.ipynb").unlink()
    monkeypatch.setattr(unmarked.questionnaire, "assignments", list)
    page = gradebook.feedback(course, "toy", "ada").read_text("utf-8")
    names = re.findall(r"<li><a href=.*?>(.*?)</a> \(Score", page)
    assert names == ["Test cell", "Test cell", "Test cell", "Written response"]
    assert "Grade cell: <code>test_double</code>" in page


def test_is_a_name_only_text(course, monkeypatch):
    named = Question("double", "<script>x</script>", toy_lab.QUESTIONS["double"].checks)
    monkeypatch.setitem(toy_lab.QUESTIONS, "double", named)
    page = gradebook.feedback(course, "toy", "ada").read_text("utf-8")
    assert "<script>x" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;") == 2


def test_does_the_gradebook_stay_as_it_is(course):
    def dump():
        with sqlite3.connect(course / "gradebook.db") as opened:
            return list(opened.iterdump())

    before = dump()
    shown(course)
    assert dump() == before


STEP = re.compile(r"^c\.GenerateFeedback\.preprocessors = \[.*?^\]\n", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("more", [
    "", 'c.GenerateFeedback.preprocessors = ["nbgrader.preprocessors.GetGrades"]\n',
    "from nbgrader.preprocessors import GetGrades\nc.GenerateFeedback.preprocessors = [GetGrades]\n",
    'c.GenerateFeedback.preprocessors.append("nbconvert.preprocessors.TagRemovePreprocessor")\n',
])  # fmt: skip
def test_does_a_course_with_settings_of_its_own_say_so_too(course, more):
    path = course / gradebook.CONFIG
    older, number = STEP.subn("", path.read_text())
    assert number == 1
    path.write_text(older + more)
    assert shown(course)[1] == "not marked yet / 2.0"


@pytest.mark.slow
def test_does_nbgraders_own_command_say_so(course):
    assert STEP.search((assignments_home() / gradebook.CONFIG).read_text())
    command = [sys.executable, "-m", "nbgrader", "generate_feedback", "toy"]
    subprocess.run(command, cwd=course, check=True, capture_output=True)
    page = (course / "feedback/ada/toy/toy.html").read_text("utf-8")
    assert re.findall(ESSAY, page) == ["not marked yet / 2.0"]
