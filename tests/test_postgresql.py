"""The gradebook on a PostgreSQL server that is started for the test, as a course of many graders has it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import toy_lab
from toy_lab import hand_in, solved

from autograder import gradebook, grading
from autograder.gradebook import UnusableError

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
FOUND = bool(BINARIES) or shutil.which("initdb") is not None

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FOUND, reason="needs PostgreSQL's initdb and pg_ctl")]


def program(name):
    return str(BINARIES[-1] / name) if BINARIES else name


@pytest.fixture(scope="module")
def server():
    """A server of our own: no port, only a socket, whose name may have no more than 107 characters."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        place, user = Path(name), []
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root, and its own user must reach the folder
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(place, "postgres", "postgres")

        def run(*command):
            subprocess.run([*user, *command], check=True, capture_output=True, cwd="/")

        run(program("initdb"), "-D", str(place / "data"), "-U", "grader", "--auth=trust", "-E", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{place}'"
        # -l: without a file the server would keep our pipe open
        run(program("pg_ctl"), "-D", str(place / "data"), "-o", options, "-l", str(place / "log"), "-w", "start")
        try:
            run(program("createdb"), "-h", str(place), "-U", "grader", "gradebook")
            yield f"postgresql+psycopg:///gradebook?host={place}&user=grader"
        finally:
            run(program("pg_ctl"), "-D", str(place / "data"), "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="module")
def course(server, tmp_path_factory, warm):
    root = tmp_path_factory.mktemp("server") / "course"
    root.mkdir()
    settings = toy_lab.CONFIG
    toy_lab.CONFIG = f"{settings}\nc.CourseDirectory.db_url = {server!r}\n"
    try:
        return toy_lab.make_course(root)
    finally:
        toy_lab.CONFIG = settings


def test_are_the_marks_in_the_server_and_nowhere_else(course):
    hand_in(course, "ada", solved(course))
    hand_in(course, "bob", solved(course, number="number = 41"))
    outcomes = grading.grade(course, "toy", jobs=2, progress=False)
    assert [(one.student, one.status, one.score) for one in outcomes] == [("ada", "graded", 6), ("bob", "graded", 5)]
    found = {one.student: sum(cell.auto or 0 for cell in one.cells.values()) for one in gradebook.scores(course, "toy")}
    assert found == {"ada": 6, "bob": 5}
    assert not list(course.glob("gradebook.db*"))
    assert all(one.cached for one in grading.grade(course, "toy", progress=False))


def test_is_a_server_that_is_not_there_one_sentence(course, tmp_path):
    other = shutil.copytree(course, tmp_path / "other")
    with (other / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.CourseDirectory.db_url = 'postgresql+psycopg:///gradebook?host={tmp_path}&user=grader'\n")
    with pytest.raises(UnusableError, match="cannot be used: "):
        grading.grade(other, "toy", progress=False)
