"""The gradebook that nbgrader's steps share: what they see of it, and what a step that fails leaves behind."""

import pytest
import toy_lab
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import autograde
from toy_lab import hand_in, solved

from autograder import grading, keeping
from autograder.keeping import Keeper, KeptGradebook


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The gradebook of a course of two, marked from their recordings."""
    made = toy_lab.make_course(tmp_path_factory.mktemp("keeping") / "course")
    for student in ("ada", "bob"):
        hand_in(made, student, solved(made))
    grading.grade(made, "toy", how="evidence", jobs=1, progress=False)
    return f"sqlite:///{made}/gradebook.db"


def seen(gradebook, student):
    """What the four finds give for every name there is, and for one that there is not."""
    names = ("double", "test_double", "test_number", "words", "words_text", "no such cell")
    found = {}
    for name in names:
        for find in (gradebook.find_source_cell, gradebook.find_graded_cell):
            found[find.__name__, name] = of(find, name, "toy", "toy")
        for find in (gradebook.find_grade, gradebook.find_comment):
            found[find.__name__, name] = of(find, name, "toy", "toy", student)
    return found


def of(find, *names):
    try:
        found = find(*names)
    except MissingEntry as error:
        return str(error)
    return type(found).__name__, found.id, found.name


def test_does_it_find_what_nbgrader_finds(url):
    with Gradebook(url) as plain, KeptGradebook(url, "gradient-lab") as kept:
        for student in ("ada", "bob", "nobody"):
            assert seen(kept, student) == seen(plain, student)


def fail_midway(kept):
    kept.find_grade("test_number", "toy", "toy", "ada").auto_score = 0.25
    kept.db.commit()
    kept.add_student("cora")
    _ = 1 / 0


def test_is_what_a_failing_step_wrote_not_there(url):
    kept = KeptGradebook(url, "gradient-lab")
    with pytest.raises(ZeroDivisionError), kept:
        fail_midway(kept)
    with kept, Gradebook(url) as plain:
        assert kept.find_grade("test_number", "toy", "toy", "ada").auto_score != 0.25
        with pytest.raises(MissingEntry):
            plain.find_student("cora")


def test_is_what_a_step_wrote_there_at_its_end_and_not_before(url):
    with KeptGradebook(url, "gradient-lab") as kept, Gradebook(url) as plain:
        kept.find_grade("test_number", "toy", "toy", "bob").auto_score = 0.5
        kept.db.commit()
        assert plain.find_grade("test_number", "toy", "toy", "bob").auto_score != 0.5
        plain.db.rollback()
        kept.__exit__(None, None, None)
        assert plain.find_grade("test_number", "toy", "toy", "bob").auto_score == 0.5


def test_is_the_gradebook_opened_once_and_anew_after_a_failure(url, monkeypatch):
    opened = []
    monkeypatch.setattr(keeping, "KeptGradebook", lambda *which: opened.append(which) or KeptGradebook(*which))
    keeper = Keeper()
    for _ in range(2):
        with keeper.student(), autograde.Gradebook(url) as first:
            pass
        with keeper.student(), autograde.Gradebook(url, "gradient-lab") as second:
            assert first is second
    assert len(opened) == 1
    with pytest.raises(RuntimeError), keeper.student():
        raise RuntimeError
    with keeper.student(), autograde.Gradebook(url):
        assert len(opened) == 2
    assert autograde.Gradebook is Gradebook
