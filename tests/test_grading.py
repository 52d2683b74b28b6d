"""Does a class get the marks that it earned, whatever it hands in?"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import toy_lab
from toy_lab import hand_in, solved

from autograder import gradebook, grading, marking, results, scratch, submission
from autograder.checks import Failed, Question, check
from autograder.gradebook import GradebookError
from autograder.grading import GradingError
from autograder.limits import Limits
from autograder.rubrics import HEADING
from autograder.submission import SubmissionError

ALL = {"test_double": 3.0, "test_build": 2.0, "test_number": 1.0}
NONE = dict.fromkeys(ALL, 0.0)
ENDLESS = "while True: pass"

# what a student's answers are, and what they earn
ANSWERS = {
    "complete": ({}, ALL),
    "only-arrays": ({"double": "def double(x):\n    return np.multiply(x, 2)"}, ALL),
    "in-place": ({"double": "def double(x):\n    x *= 2\n    return x"}, ALL),
    "wrong-values": ({"double": "def double(x):\n    return x + x.mean()"}, {**ALL, "test_double": 0.0}),
    "no-tensors": ({"double": "def double(x):\n    return 2 * x if type(x) is np.ndarray else x"},
                   {**ALL, "test_double": 2.0}),
    "wrong-network": ({"build": "def build(width):\n    return nn.Linear(4, 7)"}, {**ALL, "test_build": 0.0}),
    "wrong-type": ({"number": "number = nn.Linear(2, 2)"}, {**ALL, "test_number": 0.0}),
    "error": ({"double": "1 / 0"}, {**ALL, "test_double": 0.0}),
    "endless-cell": ({"number": ENDLESS}, {**ALL, "test_number": 0.0}),
    "endless-function": ({"double": f"def double(x):\n    {ENDLESS}"}, {**ALL, "test_double": 0.0}),
    "exit": ({"number": "import sys; sys.exit()"}, {**ALL, "test_number": 0.0}),
    "hard-exit": ({"number": "import os; os._exit(0)"}, {**ALL, "test_number": 0.0}),
    "hard-exit-in-function": ({"double": "import os\ndef double(x):\n    os._exit(0)"}, {**ALL, "test_double": 0.0}),
    "crash": ({"number": "import ctypes; ctypes.string_at(0)"}, {**ALL, "test_number": 0.0}),
    "recursion": ({"double": "def double(x):\n    return double(x)"}, {**ALL, "test_double": 0.0}),
    "memory": ({"number": "number = bytearray(50 * 2**30)"}, {**ALL, "test_number": 0.0}),
    "input": ({"number": "number = int(input())"}, {**ALL, "test_number": 0.0}),
    # what earned full marks where tests ran in the student's process
    "equals-all": ({"double": "class Any:\n    __array_priority__ = 99\n    def __eq__(self, other): return True\n"
                    "def double(x):\n    return Any()"}, {**ALL, "test_double": 0.0}),
    "patched": ({"number": "np.allclose = lambda *a, **k: True\nimport autograder.checks as c\nc.run = lambda *a: []\n"
                 "c.Failed = SyntaxError"}, {**ALL, "test_number": 0.0}),
    "forged-frames": ({"number": "import gc\nfrom autograder.channel import Channel\n"
                       "for c in gc.get_objects():\n    if type(c) is Channel: c.end.sendall(b'\\xff' * 64)"},
                      {**ALL, "test_number": 0.0}),
    "forged-replies": ({"number": "import gc\nfrom autograder.channel import Channel\n"
                        "for c in gc.get_objects():\n    if type(c) is Channel:\n"
                        "        [c.send({'value': 42}) for _ in range(9)]"}, {**ALL, "test_number": 0.0}),
    "own-verdict": ({"number": "print('6.0')\nfrom IPython.display import display\ndisplay(6.0)\n6.0"},
                    {**ALL, "test_number": 0.0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return toy_lab.make_course(tmp_path_factory.mktemp("toy") / "course")


def without(notebook, *names):
    return {**notebook, "cells": [cell for cell in notebook["cells"] if cell["id"] not in names]}


def with_changes(notebook, **sources):
    for cell in notebook["cells"]:
        cell["source"] = sources.get(cell["id"], cell["source"])
    return notebook


def doubled(notebook):
    return {**notebook, "cells": [*notebook["cells"], *notebook["cells"]]}


def bare(notebook):
    return {**notebook, "cells": [{**cell, "metadata": {}} for cell in notebook["cells"]]}


def of_another_kernel(notebook):
    gone = {"name": "julia-1.10", "display_name": "Julia 1.10", "language": "julia"}
    return {**notebook, "metadata": {**notebook["metadata"], "kernelspec": gone, "language_info": {"name": "julia"}}}


def oddities(course):
    """Students whose notebook or folder is odd, and what they earn."""
    link = hand_in(course, "linked", solved(course))
    (link / "secret.safetensors").symlink_to("/etc/passwd")
    (link / "pipe.json").unlink(missing_ok=True)
    os.mkfifo(link / "pipe.json")
    shadow = hand_in(course, "shadowing", solved(course))
    for name in ("labkit.py", "torch.py", "numpy.py", "json.py", "autograder.py", "sitecustomize.py"):
        (shadow / name).write_text("raise SystemExit('shadowed')")
    hand_in(course, "empty", toy_lab.released(course))
    hand_in(course, "deleted", without(solved(course), "test_double", "build"))
    hand_in(course, "copied", doubled(solved(course)))
    hand_in(course, "bare", bare(solved(course)))
    hand_in(course, "edited-tests", with_changes(toy_lab.released(course), test_double="3.0", test_number="import os"))
    hand_in(course, "other-kernel", of_another_kernel(solved(course)))
    hand_in(course, "other-name", solved(course), "Toy (1).ipynb")
    hand_in(course, "two-names", solved(course))
    hand_in(course, "two-names", toy_lab.released(course), "draft.ipynb")
    return {
        "linked": ALL, "shadowing": ALL, "empty": NONE, "deleted": {**ALL, "test_build": 0.0}, "copied": ALL,
        "bare": ALL, "edited-tests": NONE, "other-kernel": ALL, "other-name": ALL, "two-names": ALL,
    }  # fmt: skip


REFUSED = {
    "no-notebook": "there is no notebook",
    "two-notebooks": "2 notebooks",
    "not-json": "no readable notebook (no JSON",
    "old-format": "format 3",
    "st*r": "rename the folder",
    "new\nline": "rename the folder",
}


def hopeless(course):
    hand_in(course, "no-notebook", None)
    hand_in(course, "two-notebooks", solved(course), "a.ipynb")
    hand_in(course, "two-notebooks", solved(course), "b.ipynb")
    hand_in(course, "not-json", b'{"cells": [')
    hand_in(course, "old-format", {**solved(course), "nbformat": 3})
    hand_in(course, "st*r", solved(course))
    hand_in(course, "new\nline", solved(course))


@pytest.fixture(scope="module")
def graded(course, warm):
    """The class, graded once: expected points and outcomes by student."""
    expected = {student: earned for student, (answers, earned) in ANSWERS.items()}
    for student, (answers, _) in ANSWERS.items():
        hand_in(course, student, solved(course, **answers))
    hand_in(course, "mistaken-check", solved(course, number="number = 'break the check'"))
    expected |= oddities(course)
    hopeless(course)
    outcomes = grading.grade(course, "toy", jobs=2, progress=False)
    return expected, {outcome.student: outcome for outcome in outcomes}


def scores_of(course):
    return {one.student: one for one in gradebook.scores(course, "toy")}


@pytest.mark.slow
def test_does_everybody_get_the_marks_that_were_earned(course, graded):
    expected, outcomes = graded
    scores = scores_of(course)
    found = {name: {id: scores[name].cells[id].score for id in ALL} for name in expected}
    assert found == expected
    assert {name: outcomes[name].status for name in expected} == dict.fromkeys(expected, "graded")
    assert {name: outcomes[name].score for name in expected} == {
        name: sum(of.values()) for name, of in expected.items()
    }


@pytest.mark.slow
def test_is_what_cannot_be_graded_refused_with_its_reason_and_stops_nobody(course, graded):
    _, outcomes = graded
    for student, words in REFUSED.items():
        assert outcomes[student].status == "refused"
        assert words.replace("no readable", "not a readable") in outcomes[student].reason
        assert outcomes[student].score == 0
    scores = scores_of(course)
    assert all(scores[name].cells["test_double"].needs_person for name in ("no-notebook", "not-json"))


@pytest.mark.slow
def test_does_a_mistake_of_a_check_go_to_a_person(course, graded):
    outcome = graded[1]["mistaken-check"]
    assert (outcome.status, outcome.score) == ("person", 5.0)
    assert "A number" in outcome.reason
    cells = scores_of(course)["mistaken-check"].cells
    assert {id: cells[id].needs_person for id in ALL} == {
        "test_double": False,
        "test_build": False,
        "test_number": True,
    }


@pytest.mark.slow
def test_are_essays_left_to_a_person_and_untouched_ones_given_none(course, graded):
    scores = scores_of(course)
    assert scores["complete"].cells["words"].needs_person
    assert not scores["empty"].cells["words"].needs_person


@pytest.mark.slow
@pytest.mark.parametrize(("student", "words"), [
    ("linked", "secret.safetensors"), ("deleted", "test_double was deleted"), ("copied", "is there 2 times"),
    ("bare", "had lost its metadata"), ("edited-tests", "test_double was changed"), ("other-name", "Toy (1).ipynb"),
    ("two-names", "draft.ipynb"), ("hard-exit", "number (in A number) was left out"),
    ("endless-cell", "number (in A number) was stopped after 2 s"), ("no-notebook", "there is no notebook"),
])  # fmt: skip
def test_is_what_was_odd_named_in_the_feedback(course, graded, student, words):
    notebook = nbformat.read(course / "autograded" / student / "toy" / "toy.ipynb", as_version=4)
    assert notebook.cells[0].id == "autograder-remarks"
    assert words in notebook.cells[0].source


@pytest.mark.slow
def test_is_a_limit_said_to_the_student(course, graded):
    stopped = results.load(course, "toy", "endless-cell")
    assert stopped.stopped == ("number",)
    shown = results.load_outputs(course, stopped)
    assert shown.cells["number"][0]["evalue"].startswith("stopped after")
    called = results.load(course, "toy", "endless-function").questions["test_double"].verdicts[0]
    assert "was stopped after 1 seconds" in called.found


@pytest.mark.slow
def test_do_the_verdicts_stand_in_the_graded_notebook(course, graded):
    notebook = nbformat.read(course / "autograded" / "wrong-values" / "toy" / "toy.ipynb", as_version=4)
    shown, number = next(cell for cell in notebook.cells if cell.id == "test_double").outputs
    assert "does not hold yet" in shown.data["text/html"]
    assert "Multiply by two." in shown.data["text/plain"]
    assert (number.output_type, number.data["text/plain"]) == ("execute_result", "0.0")


@pytest.mark.slow
def test_does_every_page_of_feedback_appear(course, graded):
    pages = grading.feedback(course, "toy", progress=False)
    others = {"mistaken-check", "no-notebook", "two-notebooks", "not-json", "old-format"}
    assert {page.parent.parent.name for page in pages} == set(graded[0]) | others
    page = next(page for page in pages if page.parent.parent.name == "wrong-values").read_text()
    assert "does not hold yet" in page
    assert not any(HEADING.strip("*") in page.read_text() for page in pages)


@pytest.mark.slow
def test_is_what_did_not_change_not_graded_again(course, graded):
    again = grading.grade(course, "toy", ["complete", "empty", "no-notebook"], progress=False)
    assert all(outcome.cached for outcome in again)
    hand_in(course, "empty", solved(course))
    [outcome] = grading.grade(course, "toy", ["empty"], progress=False)
    assert (outcome.cached, outcome.score) == (False, 6.0)
    hand_in(course, "empty", toy_lab.released(course))
    [outcome] = grading.grade(course, "toy", ["empty"], progress=False)
    assert outcome.score == 0


@pytest.mark.slow
def test_do_a_persons_marks_survive_a_new_grading_and_are_the_verdicts_the_same(course, graded):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.find_grade("words", "toy", "toy", "complete").manual_score = 1.5
        book.db.commit()
    before = results.load(course, "toy", "complete").questions
    [outcome] = grading.grade(course, "toy", ["complete"], force=True, progress=False)
    assert not outcome.cached
    assert results.load(course, "toy", "complete").questions == before
    assert scores_of(course)["complete"].cells["words"].score == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["results", "outputs", "evidence", "recorded", "autograded", "cut off"])
def test_does_a_run_that_was_killed_continue(course, graded, lost):
    path = results.path_of(course, "toy", "only-arrays")
    files = {
        "results": path, "outputs": path.parent / "outputs" / path.name, "recorded": path.with_suffix(".recorded"),
        "evidence": path.parent / "evidence" / path.name,
    }  # fmt: skip
    if lost == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    elif lost == "autograded":
        shutil.rmtree(course / "autograded" / "only-arrays")
    else:
        files[lost].unlink()
    [outcome] = grading.grade(course, "toy", ["only-arrays"], progress=False)
    assert (outcome.cached, outcome.score) == (False, 6.0)
    [outcome] = grading.grade(course, "toy", ["only-arrays"], progress=False)
    assert outcome.cached


@pytest.mark.slow
def test_does_nbgraders_own_autograde_give_the_same_marks(course, graded):
    chosen = ["complete", "wrong-values", "hard-exit", "copied", "bare", "mistaken-check", "edited-tests"]
    before = {name: scores_of(course)[name].cells for name in chosen}
    shutil.rmtree(course / "results")
    # nbgrader itself stops at such a name
    shutil.rmtree(course / "submitted" / "new\nline")
    environment = {**os.environ, "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])}
    for name in chosen:
        shutil.rmtree(course / "autograded" / name)
    others = ",".join(sorted({path.name for path in (course / "submitted").iterdir()} - set(chosen)))
    said = subprocess.run(
        ["nbgrader", "autograde", "toy", f"--CourseDirectory.student_id_exclude={others}"],
        cwd=course, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    assert {name: scores_of(course)[name].cells for name in chosen} == before


# What cannot be graded at all


def test_is_an_assignment_that_was_not_released_refused(course):
    with pytest.raises(GradingError, match="no release of other"):
        marking.prepare(course, "other")


def test_are_points_that_differ_between_cell_and_checks_refused(course, tmp_path):
    shutil.copytree(course / "release", tmp_path / "release")
    path = tmp_path / "release/toy/toy.ipynb"
    path.write_text(path.read_text().replace('"points": 3', '"points": 4'))
    with pytest.raises(GradingError, match="test_double has 4 points, its checks have 3: change points="):
        marking.prepare(tmp_path, "toy")


def test_are_students_who_handed_in_nothing_named(course):
    with pytest.raises(GradingError, match="nobody-here has handed in nothing"):
        grading.grade(course, "toy", ["nobody-here"], progress=False)


@pytest.fixture
def misplaced(tmp_path):
    """A course of two labs: gus misspelt the folder, hana made none; the others have nothing for this lab, or it."""
    for name in ("lab", "second"):
        (tmp_path / "release" / name).mkdir(parents=True)
    for place in ("ada/lab/lab.ipynb", "ada/draft/lab.ipynb", "gus/second/second.ipynb", "gus/labb/lab.ipynb",
                  "gus/a/lab.ipynb", "hana/lab.ipynb", "hana/timestamp.txt", "ines/second/second.ipynb",
                  ".hidden/file", "class-list.csv"):  # fmt: skip
        (tmp_path / "submitted" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "submitted" / place).write_text("{}")
    for place in ("jon", "kim/labs/.ipynb_checkpoints"):
        (tmp_path / "submitted" / place).mkdir(parents=True)
    return tmp_path


def test_is_what_lies_in_a_wrong_place_named_and_nothing_else(misplaced):
    said = grading.misplaced(misplaced, "lab")
    assert "2 students with files in submitted/, but without a folder lab: " in said
    assert "gus has labb/, a/; hana has lab.ipynb; what" in said
    for student in ("gus", "hana"):
        (misplaced / "submitted" / student / "lab").mkdir()
    assert grading.misplaced(misplaced, "lab") == ""
    assert grading.misplaced(misplaced / "nowhere", "lab") == ""


def test_is_a_class_of_nobody_no_success(misplaced):
    nobody = "^nobody has handed in nothing-of-it: collect the submissions first; .*; hana has lab.ipynb; "
    with pytest.raises(GradingError, match=nobody):
        grading.chosen(misplaced, "nothing-of-it", None)
    shutil.rmtree(misplaced / "submitted")
    with pytest.raises(GradingError, match=r"nobody has handed in lab: collect the submissions first$"):
        grading.chosen(misplaced, "lab", None)
    assert grading.chosen(misplaced, "lab", []) == []


@pytest.mark.parametrize(("student", "end"), [
    ("gus", "submissions of ada; submitted/gus/ has labb/, a/, but no folder lab"),
    ("ines", "submissions of ada"), ("jon", "submissions of ada"), ("lea", "submissions of ada"),
])  # fmt: skip
def test_does_who_handed_in_nothing_learn_what_lies_there(misplaced, student, end):
    with pytest.raises(GradingError, match="has handed in nothing for lab") as error:
        grading.chosen(misplaced, "lab", [student])
    assert str(error.value).endswith(end)


def test_does_the_gradebook_name_what_it_has(course):
    with pytest.raises(GradebookError, match="no assignment other"):
        gradebook.scores(course, "other")
    assert gradebook.max_scores(course, "toy") == {**ALL, "words": 2.0}


def test_is_a_folder_without_settings_no_course(tmp_path):
    with pytest.raises(GradebookError, match="is no course"):
        gradebook.scores(tmp_path, "toy")


# Submissions


@pytest.mark.parametrize(("name", "words"), [
    ("hana.ZIP", "there is no notebook, but an archive, 'hana.ZIP', that has to be unpacked: hand in toy.ipynb"),
    ("work/hana.tar.gz", "there is no notebook, but an archive, 'work/hana.tar.gz', that has"),
    ("relu.safetensors", "there is no notebook: hand in toy.ipynb"),
])  # fmt: skip
def test_is_an_archive_in_place_of_the_notebook_named(tmp_path, name, words):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(SubmissionError, match=words):
        _ = submission.find(tmp_path, "hana", "toy").notebook


def test_do_links_lead_nowhere(tmp_path):
    folder, secret = tmp_path / "in", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("classmate")
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    found = submission.find(folder, "ada", "toy")
    assert found.files == ("file",)
    assert len(found.remarks) == 2
    found.copy(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    submission.take_files(folder, tmp_path / "taken", ("link", "file"), 1000)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]
    (tmp_path / "linked").symlink_to(folder)
    with pytest.raises(SubmissionError, match="nothing that is a folder"):
        submission.find(tmp_path / "linked", "ada", "toy")


def test_is_nothing_taken_where_a_link_stands_for_the_folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "file").write_text("classmate's")
    (tmp_path / "linked").symlink_to(folder)
    for name in ("linked", "gone"):
        submission.take_files(tmp_path / name, tmp_path / "taken", ("file",), 1000)
    assert list((tmp_path / "taken").iterdir()) == []


def test_are_too_many_files_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "MOST_FILES", 3)
    for k in range(5):
        (tmp_path / f"f{k}").write_text("")
    with pytest.raises(SubmissionError, match="more than 3 files"):
        submission.find(tmp_path, "ada", "toy")


def test_does_the_key_change_with_whatever_could_change_a_mark(course, tmp_path):
    task = marking.prepare(course, "toy")
    (tmp_path / "toy.ipynb").write_text("{}")
    key = marking.key_of(task, "ada", tmp_path)
    assert key == marking.key_of(marking.prepare(course, "toy"), "ada", tmp_path)
    assert key != marking.key_of(task, "bob", tmp_path)
    assert key != marking.key_of(marking.prepare(course, "toy", Limits(cell_seconds=1)), "ada", tmp_path)
    (tmp_path / "toy.ipynb").write_text("{ }")
    assert key != marking.key_of(task, "ada", tmp_path)
    assert ((course / marking.SECRET).stat().st_mode & 0o777) == 0o600


def test_are_the_drawn_inputs_secret_and_the_same_for_a_regrade(course):
    task = marking.prepare(course, "toy")
    assert task.seed("ada", "double") == marking.prepare(course, "toy").seed("ada", "double")
    assert len({task.seed(who, what) for who in ("ada", "bob") for what in ("double", "build")}) == 4


TRAINS = """
import labkit
from labkit.experiments import Experiment
labkit.train(Experiment.from_json({!r}), save="run.safetensors")
"""


@check(points=1)
def epochs_are_3(evidence):
    """run.safetensors has three epochs."""
    if evidence.recording("run").epochs != 3:
        raise Failed(f"it has {evidence.recording('run').epochs} epochs")


@pytest.mark.parametrize(("handed_in", "outcome"), [(None, "passed"), ("cut off", "failed")])
def test_does_a_recording_that_was_handed_in_come_before_one_that_the_run_makes(
    course, nursery, tmp_path, short, handed_in, outcome
):
    task = marking.prepare(course, "toy")
    task = replace(task, questions={"test_number": Question("number", "A run", (epochs_are_3,))})
    (tmp_path / "toy.ipynb").write_text(json.dumps(solved(course, number=TRAINS.format(short.to_json()))))
    if handed_in:
        (tmp_path / "run.safetensors").write_bytes(b"cut off")
    result, _ = marking.mark(task, "ada", tmp_path, lambda: nursery)
    assert [verdict.outcome for verdict in result.questions["test_number"].verdicts] == [outcome]
    assert (tmp_path / "run.safetensors").exists() == bool(handed_in)


def test_is_one_course_graded_by_one_grading_at_a_time(course):
    with scratch.alone(course), pytest.raises(GradingError, match="is being graded already"):
        grading.grade(course, "toy", [], progress=False)


GRADES = """
import sys
from pathlib import Path
from autograder import grading
for outcome in grading.grade(Path(sys.argv[1]), "toy", jobs=int(sys.argv[2]), progress=False):
    print(outcome.student, outcome.score)
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_does_a_grading_that_was_killed_leave_nothing_and_continue(tmp_path, jobs):
    course = toy_lab.make_course(tmp_path / "killed")
    for student in ("ada", "bob"):
        hand_in(course, student, solved(course))
    hand_in(course, "slow", solved(course, number="import time; time.sleep(600)"))
    command = [sys.executable, "-W", "ignore", "-c", GRADES, str(course), str(jobs)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as grader:
        mark = results.path_of(course, "toy", "bob").with_suffix(".recorded")
        wait_for(mark.exists)
        children = descendants(grader.pid)
        grader.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["ada 6.0", "bob 6.0", "slow 5.0"]
    assert not list(course.glob(".grading-scratch-*"))


def wait_for(condition):
    """Until it holds; three minutes are for machines that do much else."""
    for _ in range(1800):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def descendants(pid):
    direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [further for child in direct for further in descendants(child)]
