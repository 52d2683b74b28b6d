"""`autograder check NOTEBOOK`: what a student is told before handing in is what the grader says afterwards."""

import json

import pytest
import toy_lab
from click.testing import CliRunner
from toy_lab import hand_in, solved

from autograder import grading, rehearsal, results
from autograder.cli import main
from autograder.rehearsal import RehearsalError

OWN = 'student = "ada"\nnumber = 42'


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return toy_lab.make_course(tmp_path_factory.mktemp("rehearsal") / "course")


def written(folder, notebook, name="toy.ipynb"):
    path = folder / name
    path.write_text(json.dumps(notebook))
    return path


def told(notebook):
    shown = CliRunner().invoke(main, ["check", str(notebook)])
    return shown.exit_code, shown.output


def test_is_a_complete_notebook_said_to_be_so(course, tmp_path):
    before = written(tmp_path, solved(course, number=OWN)).read_bytes()
    code, said = told(tmp_path / "toy.ipynb")
    assert (code, said.splitlines()[0]) == (
        0,
        "6 of 6 points by the checks, 1 of 1 texts are written: it can be handed in.",
    )
    assert "Still missing" not in said
    assert "Looks wrong" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["toy.ipynb"]
    assert (tmp_path / "toy.ipynb").read_bytes() == before


def test_is_everything_named_that_is_missing(course, tmp_path):
    released = toy_lab.released(course)
    code, said = told(written(tmp_path, released))
    assert code == 1
    for words in (
        "double is not answered yet", "there is no variable number", "The cell build: its code is still to be written",
        "A toy (the cell words, 2 points): still to be written", 'student = "..."', "0 of 1 texts are written: it is not complete",
    ):  # fmt: skip
        assert words in said


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"number": "number = 41"}, {"words": ""}, {"double": "def double(x):\n    return x"}, {"number": "number = 42"},
])  # fmt: skip
def test_is_what_is_not_right_yet_no_success(course, tmp_path, changes):
    assert told(written(tmp_path, solved(course, **{"number": OWN, **changes})))[0] == 1


@pytest.mark.slow
def test_does_the_grader_say_the_same(course, tmp_path):
    for name, changes in {
        "right": {}, "wrong": {"double": "def double(x):\n    return 3 * x"},
        "exits": {"build": "import os; os._exit(0)"}, "raises": {"number": "number = nunber"},
    }.items():  # fmt: skip
        notebook = solved(course, **changes)
        hand_in(course, name, notebook)
        (tmp_path / name).mkdir()
        before = rehearsal.rehearse(written(tmp_path / name, notebook)).result
        grading.grade(course, "toy", [name], progress=False)
        after = results.load(course, "toy", name)
        said = [
            {id: [(one.check, one.outcome, one.points) for one in found.verdicts] for id, found in of.questions.items()}
            for of in (before, after)
        ]
        assert said[0] == said[1]
        assert (before.status, before.remarks) == (after.status, after.remarks)


def test_is_nothing_run_where_only_the_evidence_is_asked_for(course, tmp_path):
    notebook = written(tmp_path, solved(course, number=f"{OWN}\nopen('ran', 'w')"))
    shown = CliRunner().invoke(main, ["check", str(notebook), "--evidence-only"])
    assert shown.exit_code == 1
    assert "the notebook has to be run for Twice, A network, A number" in shown.output


@pytest.mark.parametrize(("content", "name", "words"), [
    (b"no notebook", "toy.ipynb", "cannot be graded: the file is not a readable notebook"),
    (None, "toy.ipynb", "cannot be read (No such file or directory): name the notebook of your lab"),
    (b'{"nbformat": 4, "cells": []}', "toy.ipynb", "asks no question of a known assignment; there are: "),
])  # fmt: skip
def test_is_what_cannot_be_checked_one_sentence(tmp_path, content, name, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, said = told(tmp_path / name)
    assert code == 1
    assert words in said
    assert "Traceback" not in said


def test_has_a_notebook_the_name_under_which_it_is_handed_in(course, tmp_path):
    with pytest.raises(RehearsalError, match=r"draft.ipynb is the notebook of toy: call it toy.ipynb"):
        rehearsal.rehearse(written(tmp_path, solved(course), "draft.ipynb"))
