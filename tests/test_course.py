"""A course directory, and nbgrader's own commands in it, as an instructor and a student would type them."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from autograder import course as room
from autograder.authoring import CONFIG
from autograder.cells import AuthoringError
from autograder.course import CourseError, assignments_home, init, release

LAB = """# %% fixed="imports"
import math

# %% answer="double"
def double(x):
    ### BEGIN SOLUTION
    return 2 * x  # the secret way
    ### END SOLUTION


# %% test="double" points=2
assert double(2) == 4
### BEGIN HIDDEN TESTS
assert double(3) == 6
### END HIDDEN TESTS

# %% [markdown] essay="why" points=3
# ### BEGIN SOLUTION
# the secret reason
# ### END SOLUTION

# %% [markdown] task="table" points=1
# Draw it.
# ### BEGIN MARK SCHEME
# the secret rubric
# ### END MARK SCHEME
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A package that comes with one small assignment, the real settings, and a picture."""
    home = tmp_path / "home"
    (home / "source" / "lab").mkdir(parents=True)
    (home / "lab.py").write_text(LAB)
    (home / CONFIG).write_text((assignments_home() / CONFIG).read_text())
    (home / "source" / "lab" / "curve.png").write_bytes(b"picture")
    monkeypatch.setattr(room, "assignments_home", lambda: home)
    return home


@pytest.fixture
def course(home, tmp_path):
    return init(tmp_path / "course").root


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FILES = ["lab.py", CONFIG, "source/lab/curve.png", "source/lab/lab.ipynb"]


def test_the_assignments_of_this_clone_are_found():
    """Does a clone find its own assignments/, with settings that hold no path of this machine?"""
    home = assignments_home()
    assert home == Path(room.__file__).parents[1] / "assignments"
    assert not any(path in (home / CONFIG).read_text() for path in (str(home), str(Path.home()), "/home/"))


def test_the_assignments_of_an_installed_wheel_are_found(tmp_path, monkeypatch):
    """Does a wheel look inside the package?"""
    inside = tmp_path / "autograder" / "_assignments"
    inside.mkdir(parents=True)
    monkeypatch.setattr(room, "__file__", str(inside.parent / "course.py"))
    with pytest.raises(CourseError, match="install"):
        assignments_home()
    (inside / CONFIG).write_text("")
    assert assignments_home() == inside


@pytest.mark.parametrize("exists", [True, False])
def test_a_course_is_made_in_a_new_or_an_empty_directory(home, tmp_path, exists):
    """Does a course hold settings, source, notebook and pictures, and nothing else?"""
    root = tmp_path / "course"
    if exists:
        root.mkdir()
    made = init(root)
    assert files(root) == FILES == sorted(made.added)
    assert made.kept == ()
    assert nbformat.read(root / "source/lab/lab.ipynb", 4).cells[1].id == "double"


def test_a_second_init_adds_what_is_missing_and_changes_nothing(course):
    """Is an instructor's own work kept, and the notebook built from the instructor's source?"""
    (course / CONFIG).write_text("c = get_config()\n")
    (course / "lab.py").write_text("# %%\nmine = 1\n")
    (course / "source/lab/lab.ipynb").unlink()
    again = init(course)
    assert again.added == ("source/lab/lab.ipynb",)
    assert sorted(again.kept) == sorted({*FILES} - {"source/lab/lab.ipynb"})
    assert (course / CONFIG).read_text() == "c = get_config()\n"
    assert "mine = 1" in (course / "source/lab/lab.ipynb").read_text()
    assert "kept" in str(again)


def test_a_failed_init_takes_away_what_it_added(home, tmp_path):
    """Is no half of a course left behind when a source cannot be built?"""
    (home / "lab.py").write_text("# %%\n%matplotlib\n")
    with pytest.raises(CourseError, match="no magics"):
        init(tmp_path / "course")
    assert files(tmp_path / "course") == []


def test_a_failed_init_leaves_what_was_there(home, course):
    """Is a course that was there before still whole after an init that failed?"""
    (home / "second.py").write_text("# %%\nx = = 1\n")
    with pytest.raises(CourseError, match="not Python"):
        init(course)
    assert files(course) == FILES


def put_notes(root):
    root.mkdir()
    (root / "notes.txt").write_text("mine")


REFUSED = [
    (put_notes, None, ["not empty", CONFIG]),
    (lambda root: root.write_text("x"), None, ["is a file"]),
    (lambda root: None, ["lap"], ["lap", "there are: lab"]),
]


@pytest.mark.parametrize(("prepare", "assignments", "words"), REFUSED)
def test_a_place_or_name_that_cannot_be_used_is_refused(home, tmp_path, prepare, assignments, words):
    """Does init stop in one sentence before it writes anything?"""
    root = tmp_path / "course"
    prepare(root)
    before = files(tmp_path)
    with pytest.raises(CourseError) as error:
        init(root, assignments)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert files(tmp_path) == before


def test_a_release_holds_no_solution(course, monkeypatch):
    """Are solutions, hidden tests and mark schemes gone, without the environment on PATH, and in the next
    release, too, which follows the source?"""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    folder = release(course, "lab")
    assert files(folder) == ["curve.png", "lab.ipynb"]
    text = (folder / "lab.ipynb").read_text()
    assert "raise NotImplementedError" in text
    assert "YOUR ANSWER HERE" in text
    assert not any(word in text for word in ("secret", "BEGIN", "double(3)"))
    assert not list(course.glob(".release-*"))
    assert os.environ["PATH"] == "/usr/bin:/bin"

    (course / "lab.py").write_text(LAB.replace("import math", "import cmath"))
    assert "cmath" in (release(course, "lab") / "lab.ipynb").read_text()


def no_course(course):
    (course / CONFIG).unlink()


def recording_beside(course):
    (course / "source/lab/sigmoid.safetensors").write_bytes(b"numbers")


def wrong_source(course):
    (course / "lab.py").write_text("# %%\n%matplotlib\n")


def solutions_kept(course):
    with (course / CONFIG).open("a") as config:
        config.write('\nc.GenerateAssignment.preprocessors = ["nbgrader.preprocessors.LockCells"]\n')


def damaged_gradebook(course):
    (course / "gradebook.db").write_text("no database" * 100)


def other_points(course):
    (course / "vanishing_gradients.py").write_text('# %% test="numerical_bias" points=3\n')


def unknown_question(course):
    (course / "vanishing_gradients.py").write_text('# %% test="analytical" points=1\n')


UNRELEASED = [
    (no_course, "lab", ["no course", "autograder init"]),
    (lambda course: None, "lap", ["no assignment lap", "there are: lab"]),
    (recording_beside, "lab", ["sigmoid.safetensors", "move it"]),
    (wrong_source, "lab", ["no magics"]),
    (solutions_kept, "lab", ["double", "ClearSolutions"]),
    (damaged_gradebook, "lab", ["could not release lab", "not a database"]),
    (other_points, "vanishing_gradients", [
        "the test cell test_numerical_bias has 3 points, its checks have 1: change points= in vanishing_gradients.py",
        "or the checks' points in autograder/questions/vanishing_gradients.py so that they agree",
    ]),
    (unknown_question, "vanishing_gradients", ["test_analytical asks no known question", "numerical_bias"]),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "name", "words"), UNRELEASED)
def test_a_release_that_cannot_be_made_leaves_the_one_before(course, spoil, name, words):
    """Does a failed release say why in one sentence, with the folder for students as it was?"""
    before = course / "release" / name / f"{name}.ipynb"
    before.parent.mkdir(parents=True)
    before.write_text("the release before")
    spoil(course)
    with pytest.raises((CourseError, AuthoringError)) as error:
        release(course, name)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert before.read_text() == "the release before"
    assert not list(course.glob(".release-*"))


class Desk:
    """A terminal in one directory, with the environment activated as the documentation says."""

    def __init__(self, directory, exchange, student_data):
        self.directory = directory
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        self.environment = os.environ | {
            "PATH": path,
            "NBGRADER_EXCHANGE_ROOT": str(exchange),
            "JUPYTER_DATA_DIR": str(student_data),
            "HOME": str(student_data),
        }

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "nbgrader", *words],
            cwd=self.directory,
            text=True,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def type(self, *words):
        return finished(self.start(*words))


def finished(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_a_term_with_nbgrader_s_own_commands(course, tmp_path):
    """Can a lab go to a student and come back with marks and feedback, by nbgrader's commands alone?"""
    exchange, student = tmp_path / "exchange", tmp_path / "student"
    student.mkdir()
    desk, pupil = Desk(course, exchange, student), Desk(student, exchange, student)
    (student / CONFIG).write_text((course / CONFIG).read_text())

    validation = desk.start("validate", "source/lab/lab.ipynb")
    desk.type("generate_assignment", "lab")
    desk.type("release_assignment", "lab")
    pupil.type("fetch_assignment", "lab")
    hand_in(student / "lab" / "lab.ipynb")
    (student / "lab" / "sigmoid.safetensors").write_bytes(b"\0" * 3_000_000)
    (student / "lab" / "timeline.json").write_text("{}")
    pupil.type("submit", "lab")
    assert "passes all the tests" in finished(validation)

    desk.type("collect", "lab")
    (name,) = [path.name for path in (course / "submitted").iterdir()]
    collected = files(course / "submitted" / name / "lab")
    assert {"lab.ipynb", "sigmoid.safetensors", "timeline.json"} <= {*collected}
    log = desk.type("autograde", "lab")
    assert "without encryption" not in log
    export = desk.start("export")
    desk.type("generate_feedback", "lab")
    finished(export)

    marks = (course / "grades.csv").read_text().splitlines()
    row = dict(zip(marks[0].split(","), marks[1].split(","), strict=True))
    assert (row["student_id"], float(row["score"]), float(row["max_score"])) == (name, 2, 6)
    feedback = (course / "feedback" / name / "lab" / "lab.html").read_text()
    assert "my own words" in feedback
    assert '<script>alert("output")' not in feedback


def hand_in(notebook):
    """What a student writes; the output is one that would run in the instructor's browser."""
    cells = json.loads(notebook.read_text())
    text = {
        "double": "def double(x):\n    return x + x\n\nfrom IPython.display import HTML\n"
        "HTML('<script>alert(\"output\")</script>')",
        "why": "my own words",
    }
    for cell in cells["cells"]:
        cell["source"] = text.get(cell["id"], cell["source"])
    notebook.write_text(json.dumps(cells))
