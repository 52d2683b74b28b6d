"""Processes that mark: the same marks as in one process, and nobody else's loss when one of them is gone."""

import os
import signal
import threading
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import toy_lab
from toy_lab import hand_in, solved

from autograder import gradebook, grading, markers, marking, results
from autograder.gradebook import GradebookError
from autograder.markers import Apart, MarkerError, open_markers

MEASURED = {"seconds", "cpu", "memory"}


@pytest.fixture(scope="module")
def course(tmp_path_factory, warm):
    made = toy_lab.make_course(tmp_path_factory.mktemp("markers") / "course")
    hand_in(made, "ada", solved(made))
    hand_in(made, "bob", solved(made, number="number = 41"))
    hand_in(made, "cora", b"no notebook")
    return made


@pytest.fixture
def task(course):
    return marking.prepare(course, "toy")


@pytest.fixture
def apart(task):
    markers = open_markers(task, 2)
    yield markers
    markers.close()


def without_measures(course, student):
    found = asdict(results.load(course, "toy", student))
    return {name: value for name, value in found.items() if name not in MEASURED}


@pytest.mark.slow
def test_are_the_results_those_of_one_process(course):
    who = ["ada", "bob", "cora"]
    alone = grading.grade(course, "toy", jobs=1, progress=False)
    before = [without_measures(course, student) for student in who]
    together = grading.grade(course, "toy", jobs=2, force=True, progress=False)
    assert [without_measures(course, student) for student in who] == before
    told = [(one.student, one.status, one.score) for one in alone]
    assert told == [("ada", "graded", 6), ("bob", "graded", 5), ("cora", "refused", 0)]
    assert [(one.student, one.status, one.score) for one in together] == told


def test_does_an_interrupt_not_wait_for_what_is_being_opened(monkeypatch):
    begun, opened = threading.Event(), threading.Event()

    def slow():
        begun.set()
        opened.wait(60)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(markers, "open_workers", slow)
    warm = markers.Warm()
    opening = threading.Thread(target=warm, daemon=True)
    closing = threading.Thread(target=warm.close, args=(markers.OPENING,), daemon=True)
    opening.start()
    assert begun.wait(60)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert opening.is_alive()
    opened.set()
    opening.join(60)
    with pytest.raises(MarkerError, match="stopped"):
        warm()


@pytest.mark.slow
def test_is_a_marker_that_was_killed_one_students_loss(apart):
    assert isinstance(apart, Apart)
    apart.mark("ada")
    [marker] = apart._all
    os.kill(marker._process.pid, signal.SIGKILL)
    with pytest.raises(MarkerError, match="was ended, by somebody or for want of memory"):
        apart.mark("bob")
    result, _ = apart.mark("bob")
    assert result.score == 5


@pytest.mark.slow
def test_is_an_error_in_a_marker_told_and_the_next_one_marked(course, apart):
    folder = course / "results" / "toy" / "ada.json"
    folder.unlink(missing_ok=True)
    folder.mkdir()
    with pytest.raises(MarkerError, match="IsADirectoryError"):
        apart.mark("ada")
    assert apart.mark("bob")[0].score == 5
    folder.rmdir()
    assert apart.mark("ada")[0].score == 6
    assert len(apart._all) == 1


def test_does_nobody_mark_by_other_checks_than_the_grading(task):
    markers = Apart(replace(task, base="other checks"))
    with pytest.raises(MarkerError, match="changed while it graded: grade again"):
        markers.mark("ada")
    markers.close()


def test_does_what_was_closed_before_the_first_notebook_run_none(course, task, monkeypatch):
    monkeypatch.setattr("autograder.markers.open_workers", lambda: pytest.fail("a warm parent was started"))
    here = open_markers(task, 1)
    here.close()
    with pytest.raises(MarkerError, match="the grading was stopped"):
        here.mark("ada")


@pytest.mark.slow
def test_do_markers_end_with_their_grading_also_in_the_middle(course, task):
    hand_in(course, "slow", solved(course, number="import time; time.sleep(600)"))
    markers, said = Apart(task), []

    def mark():
        try:
            markers.mark("slow")
        except MarkerError as error:
            said.append(str(error))

    thread = threading.Thread(target=mark)
    thread.start()
    while not markers._begun:
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(1)
    markers.close()
    thread.join(30)
    assert not thread.is_alive()
    assert said
    assert markers._all[0]._process.poll() is not None
    with pytest.raises(MarkerError, match="the grading was stopped"):
        markers.mark("ada")


def test_does_a_failing_marker_stop_nobody(course, monkeypatch):
    def lost(self, student):
        raise MarkerError("it was lost")

    monkeypatch.setattr(Apart, "mark", lost)
    outcomes = grading.grade(course, "toy", ["ada", "bob"], jobs=2, force=True, progress=False)
    assert [(one.status, one.reason) for one in outcomes] == [("failed", "it was lost")] * 2


@pytest.mark.slow
def test_are_pages_of_feedback_those_of_one_process(course):
    grading.grade(course, "toy", ["ada", "bob"], jobs=1, progress=False)
    alone = {student: gradebook.feedback(course, "toy", student).read_text() for student in ("ada", "bob")}
    pages = grading.feedback(course, "toy", jobs=2, progress=False)
    assert {page.parent.parent.name: page.read_text() for page in pages if page.parent.parent.name in alone} == alone


@pytest.mark.slow
def test_is_a_page_that_cannot_be_written_named_once_the_others_are(course):
    grading.grade(course, "toy", ["ada", "bob"], jobs=1, progress=False)
    notebook = gradebook.autograded(course, "toy", "ada")
    notebook.write_text("no notebook")
    with pytest.raises(GradebookError, match=r"1 were not: nbgrader stopped at ada: "):
        grading.feedback(course, "toy", progress=False)
    assert (course / "feedback" / "bob" / "toy" / "toy.html").is_file()


SLOW = """
import os, pathlib, time
with pathlib.Path(__file__).with_name("begun").open("a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(5)
pathlib.Path(__file__).with_name("ended").touch()
"""


def test_does_an_interrupt_end_the_pages_that_are_begun_and_begin_no_others(tmp_path, monkeypatch):
    (tmp_path / "nbgrader_config.py").write_text(SLOW)  # read for every page
    monkeypatch.setattr(gradebook, "recorded", lambda *_: {f"s{k}" for k in range(6)})
    monkeypatch.setattr(gradebook, "autograded", lambda *_: tmp_path / "nbgrader_config.py")
    begun = tmp_path / "begun"

    def interrupts():
        while not begun.exists() or len(begun.read_text().split()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # also in a shell's background
    threading.Thread(target=interrupts, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            grading.feedback(tmp_path, "toy", jobs=2, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "ended").exists()
    for process in map(int, begun.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
