"""`autograder check NOTEBOOK`: what a student is told before handing in is what the grader says afterwards."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import toy_lab
from click.testing import CliRunner
from toy_lab import hand_in, solved

from autograder import answers, grading, journal, mending, readiness, rehearsal, results, selfcheck, showing, submission
from autograder import course as courses
from autograder.cells import CODE_STUB
from autograder.checks import Verdict
from autograder.cli import main
from autograder.rehearsal import RehearsalError

SUMMARY = "6 of 6 points by the checks, 1 of 1 texts are written: it can be handed in."
OWN = 'student = "ada"\nnumber = 42'


@pytest.fixture(scope="module")
def course(tmp_path_factory, warm):
    return toy_lab.make_course(tmp_path_factory.mktemp("rehearsal") / "course")


def written(folder, notebook, name="toy.ipynb"):
    path = folder / name
    path.write_text(json.dumps(notebook))
    return path


def told(notebook):
    shown = CliRunner().invoke(main, ["check", str(notebook)])
    return shown.exit_code, shown.output


@pytest.mark.slow
def test_is_a_complete_notebook_said_to_be_so(course, tmp_path):
    before = written(tmp_path, solved(course, number=OWN)).read_bytes()
    code, said = told(tmp_path / "toy.ipynb")
    assert (code, said.splitlines()[0]) == (0, SUMMARY)
    assert "Still missing" not in said
    assert "Looks wrong" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["toy.ipynb"]
    assert (tmp_path / "toy.ipynb").read_bytes() == before


@pytest.mark.slow
def test_is_everything_named_that_is_missing(course, tmp_path):
    released = toy_lab.released(course)
    code, said = told(written(tmp_path, released))
    assert code == 1
    for words in (
        "double is not answered yet", "there is no variable number", "The cell build: its code is still to be written",
        "A toy (2 points): still to be written", 'student = "..."',
        "0 of 1 texts are written: it is not complete",
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


@pytest.mark.parametrize("name", ["toy (1).ipynb", "Ada-toy.ipynb", "Toy.ipynb"])
def test_is_a_notebook_of_another_name_checked_and_told_its_own(course, tmp_path, name):
    shutil.copy(written(tmp_path, solved(course, number=OWN), name), tmp_path / "unrelated.ipynb")
    journal.note(tmp_path, {"number": {"value": 42}})
    found = rehearsal.rehearse(tmp_path / name, "evidence")
    assert found.result.assignment == "toy"
    assert found.readiness.remarks == (f"{name} has to be handed in as toy.ipynb: rename it",)
    assert not found.complete
    written(tmp_path, solved(course))
    beside = rehearsal.rehearse(tmp_path / name, "evidence")
    assert beside.readiness.remarks[0] == f"{name} would not be graded, for toy.ipynb lies beside it: " + (
        "keep the right one, as toy.ipynb"
    )
    right = rehearsal.rehearse(tmp_path / "toy.ipynb", "evidence")
    assert right.readiness.remarks == ()
    assert right.result.questions == found.result.questions


def test_is_a_notebook_of_another_name_asked_out_of_a_folder_of_everything(course, tmp_path):
    path = written(tmp_path, solved(course), "toy (1).ipynb")
    for number in range(submission.MOST_FILES):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(RehearsalError, match=r"call it toy.ipynb, and put it into a folder of its own"):
        rehearsal.rehearse(path)


# `autograder.check()` without a name


def answered(**changed):
    """The variables of a session in which the toy was solved."""
    namespace = {"student": "ada", "_ih": [""]}
    for source in {**toy_lab.SOLUTION, "setup": "from torch import nn", **changed}.values():
        with contextlib.suppress(Exception):
            exec(source, namespace)
            namespace["_ih"].append(source)
    return namespace


def stated(namespace, folder, monkeypatch):
    """(points, what is shown) of the whole lab in a session with these variables."""
    shown = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr(selfcheck, "_show", lambda page, text: shown.append((page, text)))
    return selfcheck._check_all(namespace, folder), shown[0][1]


def test_is_a_finished_session_said_to_be_so(course, tmp_path, monkeypatch):
    written(tmp_path, solved(course, number=OWN))
    points, said = stated(answered(), tmp_path, monkeypatch)
    assert (points, said.splitlines()[0]) == (6, SUMMARY)
    assert "toy.ipynb as it was saved at" in said.splitlines()[-1]


def test_does_a_session_say_what_is_complete_missing_and_wrong(course, tmp_path, monkeypatch):
    written(tmp_path, solved(course, number="number = nunber", words="YOUR ANSWER HERE"))
    changed = {"double": "def double(x):\n    return 3 * x", "number": "number = nunber"}
    points, said = stated(answered(**changed), tmp_path, monkeypatch)
    parts = said.split("\n\n")
    assert points == 2
    assert parts[0] == "2 of 6 points by the checks, 0 of 1 texts are written: it is not complete."
    assert "✓ A network: 2 of 2 points" in parts[1]
    assert "there is no variable number" in parts[2]
    assert "A toy (2 points): still to be written" in parts[2]
    assert "✗ Twice: 0 of 3 points" in parts[3]
    assert "Multiply by two." in parts[3]


def test_is_it_said_when_no_saved_notebook_was_seen(course, tmp_path, monkeypatch):
    namespace = answered()
    namespace["_ih"].append("autograder.check('double')")
    points, said = stated(namespace, tmp_path, monkeypatch)
    assert points == 6
    assert said.startswith("6 of 6 points by the checks, the texts were not seen: it is not complete.")
    assert "No saved notebook was found beside this kernel: save it" in said


def test_is_a_session_of_no_lab_asked_which_it_is(tmp_path, monkeypatch):
    points, said = stated({}, tmp_path, monkeypatch)
    assert (points, said.split("?")[0]) == (0.0, "Which lab is this")


def test_is_the_notebook_looked_at_that_the_front_end_names(course, tmp_path, monkeypatch):
    written(tmp_path, solved(course, words=""), "mine.ipynb")
    written(tmp_path, solved(course), "older.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "mine.ipynb"))
    path, found = selfcheck.saved_notebook({}, tmp_path)
    assert (path.name, [text.written for text in readiness.texts(found)]) == ("mine.ipynb", [False])
    monkeypatch.setenv("JPY_SESSION_NAME", "gone.ipynb")
    assert selfcheck.saved_notebook({}, tmp_path)[0].name in ("mine.ipynb", "older.ipynb")
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert selfcheck.saved_notebook({"__vsc_ipynb_file__": "/elsewhere/mine.ipynb"}, tmp_path)[0].name == "mine.ipynb"


def test_is_an_answer_named_that_was_saved_otherwise_than_it_was_run(course, tmp_path, monkeypatch):
    written(tmp_path, solved(course, double="def double(x):\n    return x + x"))
    said = stated(answered(), tmp_path, monkeypatch)[1]
    assert "The cell double has not been run as it stands in the saved notebook" in said
    assert "The cell build" not in said


def test_is_what_a_notebook_holds_shown_and_never_read(course, tmp_path, monkeypatch):
    notebook = solved(course, words="")
    notebook["cells"][0]["source"] = "# <script>alert(1)</script> \x1b[31m"
    written(tmp_path, notebook)
    pages = []
    monkeypatch.setattr(selfcheck, "_show", lambda page, text: pages.append((page, text)))
    selfcheck._check_all(answered(), tmp_path)
    page, text = pages[0]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + text


# answers.json among the files to hand in


def naming_answers(notebook):
    """The notebook with a list of the files to hand in."""
    notebook["cells"][0]["source"] += "\n\nHand in this notebook and `answers.json`."
    return notebook


@pytest.mark.slow
def test_are_noted_answers_held_against_what_the_notebook_gives(course, tmp_path):
    path = written(tmp_path, naming_answers(solved(course, number=OWN)))
    code, said = told(path)
    assert code == 1
    assert "… answers.json is not there: autograder.check() in the notebook writes it" in said
    journal.note(tmp_path, {"number": {"value": 41}})
    code, said = told(path)
    assert code == 1
    assert "✗ answers.json is not in step with the notebook: it has another number; run autograder.check()" in said
    journal.note(tmp_path, {"number": {"value": 42}})
    code, said = told(path)
    assert (code, said.splitlines()[0]) == (0, SUMMARY)
    assert "✓ answers.json" in said


def test_does_a_session_list_the_answers_that_it_notes(course, tmp_path, monkeypatch):
    written(tmp_path, naming_answers(solved(course, number=OWN)))
    points, said = stated(answered(), tmp_path, monkeypatch)
    assert points == 6
    assert "… answers.json is not there" in said
    monkeypatch.setattr(selfcheck, "_shell", lambda: True)  # in a notebook's kernel answers are noted
    said = stated(answered(), tmp_path, monkeypatch)[1]
    assert said.splitlines()[0] == SUMMARY
    assert "✓ answers.json" in said
    monkeypatch.setattr(journal, "note", lambda *_: None)  # where the folder cannot be written
    assert "it has another number" in stated(answered(number="number = 43"), tmp_path, monkeypatch)[1]


def test_are_answers_not_mentioned_where_the_lab_asks_for_no_such_file(course, tmp_path, monkeypatch):
    written(tmp_path, solved(course, number=OWN))
    journal.note(tmp_path, {"number": {"value": 41}})
    assert "answers.json" not in stated(answered(), tmp_path, monkeypatch)[1]


A, LARGE = np.array([1.0, 2e-6, np.nan]), np.arange(3)
NAMED = [f"n{k}" for k in range(8)]


@pytest.mark.parametrize(("noted", "now", "state", "words"), [
    ({"a": 1.0, "b": 2}, {"a": 1.0}, "there", ""),
    ({"a": 1.0}, {"a": 1.00001}, "there", ""),
    ({"a": 1.0}, {"a": 1.01}, "stale", "it has another a; run autograder.check() in the notebook again"),
    ({"a": 1e-9}, {"a": 2e-9}, "stale", "another a"),
    ({"a": 0.0}, {"a": 0.0}, "there", ""),
    ({"a": 41}, {"a": 42}, "stale", "another a"),
    ({"a": 10**400}, {"a": 10**400}, "there", ""),
    ({"a": True}, {"a": 1}, "stale", "another a"),
    ({"a": "relu"}, {"a": "tanh"}, "stale", "another a"),
    ({"a": {"relu": (1.0, None)}}, {"a": {"relu": (1.0, None)}}, "there", ""),
    ({"a": {"relu": [1.0]}}, {"a": {"relu": [1.0, 2.0]}}, "stale", "another a"),
    ({"a": {"relu": 1.0}}, {"a": {"tanh": 1.0}}, "stale", "another a"),
    ({"a": A}, {"a": A * (1 + 1e-6)}, "there", ""),
    ({"a": A}, {"a": A[::-1].copy()}, "stale", "another a"),
    ({"a": LARGE}, {"a": LARGE[:2]}, "stale", "another a"),
    ({"a": float("inf")}, {"a": float("inf")}, "there", ""),
    ({"a": float("inf")}, {"a": 1.0}, "stale", "another a"),
    ({"b": 1}, {"a": 1, "b": 2}, "stale", "it lacks a and has another b; run"),
    ({"b": 1}, dict.fromkeys(NAMED, 1), "stale", "it lacks n0, n1, n2, n3, n4 and 3 more; run"),
    ({"b": 1}, {"a": "x" * journal.LONGEST}, "there", ""),
    ({}, {"a": 1}, "wrong", "no answers can be read from it"),
])  # fmt: skip
def test_are_noted_answers_there_stale_or_wrong(tmp_path, noted, now, state, words):
    said = {name: {"value": answers.encode(value)} for name, value in now.items()}
    known = {name: {"value": answers.encode(value)} for name, value in noted.items()}
    (tmp_path / journal.FILE).write_text(json.dumps({"format": journal.FORMAT, "answers": known}))
    notebook = {"cells": [{"cell_type": "markdown", "source": "`answers.json`", "metadata": {}}]}
    [found] = readiness.files("toy", "ada", tmp_path, notebook, said)
    assert (found.name, found.state) == ("answers.json", state)
    assert words in found.found


@pytest.mark.parametrize("noted", [None, [], 3, {}, {"value": {"x": 1}}, {"value": {"array": {}}}])
def test_is_a_noted_answer_that_cannot_be_read_another(noted):
    assert journal.unlike({"a": noted}, {"a": {"value": 1}}) == ["a"]


@pytest.mark.parametrize(("verdicts", "state"), [
    ([("passed", False)], "complete"), ([("failed", True)], "missing"), ([("failed", False)], "wrong"),
    ([("failed", True), ("failed", False)], "wrong"), ([("failed", True), ("skipped", False)], "missing"),
    ([("broken", False), ("passed", False)], "open"), ([("unexecuted", False)], "open"),
])  # fmt: skip
def test_is_a_question_complete_missing_wrong_or_open(verdicts, state):
    made = [
        Verdict("c", outcome, float(outcome == "passed"), 1.0, "s", missing=missing) for outcome, missing in verdicts
    ]
    asked = readiness.Asked("t", float(len(made)), tuple(made), sum(one.points for one in made))
    assert asked.state == state


def stopped_by(code: str) -> str:
    """The name of the error in which the code ends."""
    try:
        exec(code)
    except Exception as error:
        return type(error).__name__
    return ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (stopped_by(CODE_STUB), "", "it uses an answer that is still to be written"),
        (stopped_by(CODE_STUB), "not here", "Error: not here"),
        ("ValueError", "no luck", "ValueError: no luck"),
    ],
)
def test_is_it_said_what_stops_an_answer(name, value, words):
    told = {"grade": False, "grade_id": "use", "locked": False, "schema_version": 3, "solution": True, "task": False}
    cell = {"cell_type": "code", "id": "use", "metadata": {"nbgrader": told}, "outputs": [], "source": "he_sd(3)"}
    error = {"output_type": "error", "ename": name, "evalue": value, "traceback": []}
    (said,) = readiness.raised({"use": [error]}, {"cells": [cell]})
    assert said.startswith(f"The cell use stops with {name}: ")
    assert said.endswith(words)


def test_are_files_and_answers_that_are_not_there_named(short, tmp_path):
    from labkit.training import train

    train(short, device="cpu", progress=False).save(tmp_path / "relu.safetensors")
    (tmp_path / "own.safetensors").write_bytes(b"junk")
    lab = "vanishing_gradients"
    found = mending.read((courses.assignments_home() / "source" / lab / f"{lab}.ipynb").read_bytes())
    assert list(readiness.deleted(lab, found)) == []
    states = {file.name: (file.state, file.found) for file in readiness.files(lab, "ada", tmp_path, found)}
    assert states["relu.safetensors"][0] == "wrong"
    assert "another student's run" in states["relu.safetensors"][1]
    assert "cut off" in states["own.safetensors"][1]
    assert states["workspace.json"][0] == states["sigmoid.safetensors"][0] == states["answers.json"][0] == "missing"
    gone = {"question_1_answer", "build_network"}
    found["cells"] = [cell for cell in found["cells"] if mending.grade_id(cell) not in gone]
    assert [line.split(".")[0] for line in readiness.deleted(lab, found)] == [
        "The cell build_network is gone from the notebook",
        "Question 1: vanishing against exploding: the cell for this answer is gone from the notebook",
    ]


# how answers in words are named

TEXT = "answer in words"


def names_of(*sources):
    """The names of the answers in words of a notebook; each `TEXT` is one, its grade id its place."""
    cells = [{"cell_type": "markdown", "source": source, "metadata": {}} for source in sources]
    for place, cell in enumerate(cells):
        if cell["source"] == TEXT:
            cell["metadata"] = {"nbgrader": {"solution": True, "grade": True, "grade_id": f"id_{place}"}}
    return list(readiness.named_texts({"cells": cells}).values())


@pytest.mark.parametrize(("sources", "names"), [
    # one text under a heading
    (["# Depth\n\n**Six?** Why?", TEXT], ["Depth"]),
    (["# Lab", "## Depth", TEXT, "## Width ##", TEXT], ["Depth", "Width"]),
    # several
    (["# Depth", "**Two borders.** Where?", TEXT, "**Six?** Why?", TEXT], ["Depth “Two borders.”", "Depth “Six?”"]),
    (["# Depth\n**One.** Who?", TEXT, "Look.\n\n  **Two.** Who?\n\n**Hint.** You.", TEXT],
     ["Depth “One.”", "Depth “Two.”"]),
    (["**Lost.**\n# Depth", TEXT, "**Six?** Why?", "My own cell.", TEXT], ["Depth (the cell id_1)", "Depth “Six?”"]),
    (["# Depth", "**Six?** Why?", TEXT, TEXT], ["Depth “Six?”", "Depth (the cell id_3)"]),
    (["# Depth", "**Six?**", TEXT, "**Six?**", TEXT], ["Depth (the cell id_2)", "Depth (the cell id_4)"]),
    (["# Depth", "The\n**depth scale** is", TEXT, "Two **stars", TEXT],
     ["Depth (the cell id_2)", "Depth (the cell id_4)"]),
    (["# Depth", TEXT, "# Width", TEXT, "# Depth", "**Six?**", TEXT],
     ["Depth (the cell id_1)", "Width", "Depth “Six?”"]),
    # none above it
    (["**Six?**", TEXT], ["“Six?”"]),
    (["#", TEXT], ["The cell id_1"]),
])  # fmt: skip
def test_is_an_answer_in_words_named_as_a_student_sees_it(sources, names):
    assert names_of(*sources) == names


@pytest.mark.parametrize(
    "source", sorted(courses.assignments_home().glob("source/*/*.ipynb")), ids=lambda path: path.stem
)
def test_needs_no_answer_of_a_lab_its_grade_id(source):
    named = readiness.named_texts(mending.read(source.read_bytes()))
    assert named
    assert not any(cell in name for cell, name in named.items() if "_" in cell)


def test_are_files_named_together_that_are_wrong_for_one_reason():
    def state(title, *files):
        verdict = Verdict("x", "failed", 0, 1, "It is yours.", found="this is another student's run")
        asked = readiness.Asked(title, 1, (verdict,), 0)
        found = tuple(readiness.HandedIn(name, "wrong", why) for name, why in files)
        return readiness.Readiness("toy", "ada", (asked,), (), found, (), (), "a notebook")

    ours, others = "this is another student's run", "it cannot be read"
    text = showing.readiness_text(state("Loop", ("a.safetensors", ours), ("b.safetensors", others), ("c", ours)))
    assert text.count(ours) == 1
    assert "a.safetensors, c are not the files that are asked for: the same reason as at “Loop”" in text
    assert "b.safetensors is not the file that is asked for: it cannot be read" in text


def test_are_names_shown_with_their_points(course):
    found = mending.normal(toy_lab.released(course))
    assert [showing._text_line(text) for text in readiness.texts(found)] == ["A toy (2 points)"]
    found["cells"][-1]["metadata"]["nbgrader"]["points"] = 1
    assert [showing._text_line(text) for text in readiness.texts(found)] == ["A toy (1 point)"]
