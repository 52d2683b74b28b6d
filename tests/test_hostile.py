"""Does any of the hostile submissions earn, learn, spoil or outlive anything? And would we notice?"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import damage
from hostile.catalogue import FAMILIES, Submission, submissions
from hostile.comparing import measured
from hostile.damage import Scene, active, fingerprints
from hostile.lab import ASSIGNMENT, POINTS
from hostile.outside import COMMON, Outside, canaries
from hostile.sides import EARLIER, NEIGHBOUR, TESTS, Ended, copied, make_course, marks, released
from hostile.work import ALL, NOTHING, Work

from autograder.submission import NAME

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls and what measures them are Linux's")

EVERY = submissions()


@pytest.fixture(scope="module")
def drawn():
    return canaries()


@pytest.fixture(scope="module")
def template(tmp_path_factory, drawn):
    """A course with the trial released, ada graded, zoe handed in."""
    return make_course("ours", tmp_path_factory.mktemp("template") / "course", drawn)


@pytest.fixture(scope="module")
def found(template, tmp_path_factory, drawn):
    """All of them in one class, graded once."""
    return measured("ours", template, tmp_path_factory.mktemp("hostile") / "run", drawn, EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.id)
def test_does_it_do_no_damage(found, one):
    assert found.damage[one.id].all == ()


@pytest.mark.slow
def test_do_the_honest_keep_everything_beside_them(found):
    assert found.neighbours.all == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "one", [one for one in EVERY if one.deserves == ALL and NAME.fullmatch(one.student)], ids=lambda one: one.id
)
def test_does_who_was_right_keep_every_mark(found, one):
    """Whose answers are all right, however odd the rest, loses nothing by it."""
    assert found.earned[one.id] == sum(POINTS.values())


# The catalogue


def test_is_every_family_there_and_every_student_another():
    assert {one.family for one in EVERY} == set(FAMILIES)
    assert len(EVERY) >= 45
    assert len({one.student for one in EVERY}) == len(EVERY)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.id)
def test_does_it_say_what_it_tries_and_what_must_happen(one):
    said = sys.modules[one.turn.__module__].__doc__
    assert one.tries.endswith(".")
    assert "\nTries: " in said
    assert "\nMust happen: " in said
    assert set(one.deserves) == set(POINTS)


@pytest.mark.slow
def test_is_each_another_than_an_honest_submission(template, tmp_path, drawn):
    with Outside(tmp_path / "outside", template, drawn) as outside:
        for one in EVERY:
            work = Work(one.student, released(template), outside)
            before = json.dumps(work.notebook)
            one.turn(work)
            # a name alone can be hostile, too
            assert (
                json.dumps(work.notebook) != before
                or work.files
                or work.lay
                or work.content
                or not one.student.isidentifier()
            )


def test_is_a_submission_that_is_not_there_named():
    with pytest.raises(LookupError, match="no submission evasion/nothing: give a family"):
        submissions(["evasion/nothing"])


# Is each kind of damage noticed? What an honest grading left, and one thing in it spoilt


@pytest.fixture
def scene(template, tmp_path, drawn):
    """ada's grading, as if ada were the hostile student."""
    course = copied(template, tmp_path / "course")
    with closing(sqlite3.connect(course / "gradebook.db")) as book, book:
        # zoe is graded as in the run itself
        _copy_marks(book, EARLIER, NEIGHBOUR)
    # ada's own, by which others are known who show it
    (course / "autograded" / EARLIER / ASSIGNMENT / "notes.txt").unlink()
    for folder in ("feedback", "reports"):
        (course / folder / EARLIER).mkdir(parents=True)
    with Outside(tmp_path / "outside", course, drawn) as outside:
        ended = Ended(0, (), {EARLIER: ("graded", "", 11.0)}, f"{EARLIER} 11 of 11\n")
        yield Scene("ours", course, outside, ended, fingerprints(course))
        outside.clear()


def _copy_marks(book, source, target):
    """The second student gets a submission with the first one's automatic marks."""
    book.execute("INSERT OR IGNORE INTO student (id) VALUES (?)", (target,))
    submitted = "SELECT id FROM submitted_assignment WHERE student_id = ?"
    for command, values in (
        ("submitted_assignment (id, assignment_id, student_id) SELECT 'a2', assignment_id, ? FROM submitted_assignment "
         "WHERE student_id = ?", (target, source)),
        ("submitted_notebook (id, assignment_id, notebook_id) SELECT 'n2', 'a2', notebook_id FROM submitted_notebook "
         f"WHERE assignment_id IN ({submitted})", (source,)),
        ("grade (id, notebook_id, cell_id, auto_score, needs_manual_grade) SELECT 'g2' || grade.id, 'n2', cell_id, "
         "auto_score, needs_manual_grade FROM grade JOIN submitted_notebook AS n ON n.id = grade.notebook_id "
         f"WHERE n.assignment_id IN ({submitted})", (source,)),
    ):  # fmt: skip
        book.execute(f"INSERT INTO {command}", values)


def planted(deserves=ALL):
    return Submission("planted", EARLIER, "Planted.", {**deserves, "words": 1.5}, lambda work: None, EARLIER)


def test_is_an_honest_grading_found_without_damage(scene):
    assert scene.of(planted()).all == ()
    assert scene.of_neighbours([planted()]).all == ()


def test_is_a_mark_above_what_was_deserved_noticed(scene):
    """As of a grader that believes the number that the notebook shows."""
    said = scene.of(planted(NOTHING)).wrong_marks
    assert "test_run has 4, deserved are 0" in said
    assert "the grader says 11" in said


@pytest.mark.parametrize(("change", "words"), [
    ("UPDATE grade SET extra_credit = 5", "test_number has 1, deserved are 1"),
    ("UPDATE grade SET manual_score = 2", "test_number has 2, deserved are 1"),
    ("UPDATE grade SET auto_score = 1e999", "test_number has inf"),
    ("UPDATE grade_cells SET max_score = 100", "test_number counts 100"),
])  # fmt: skip
def test_is_a_change_in_the_gradebook_noticed(scene, change, words):
    with closing(sqlite3.connect(scene.course / "gradebook.db")) as book, book:
        book.execute(change)
    assert any(said.startswith(words) for said in scene.of(planted()).wrong_marks)


def _output(course, text):
    path = course / "autograded" / EARLIER / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    path.chmod(0o644)
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    path.write_text(json.dumps(notebook))


def _verdict(course, text):
    path = course / "results" / ASSIGNMENT / f"{EARLIER}.json"
    path.write_text(path.read_text().replace('"remarks": [', f'"remarks": ["{text}", ', 1))


def _file(course, text):
    (course / "autograded" / EARLIER / ASSIGNMENT / "found.txt").write_text(f"see: {text}")


@pytest.mark.parametrize("leave", [_output, _verdict, _file])
@pytest.mark.parametrize("which", range(8))
def test_is_every_secret_noticed_wherever_it_shows(scene, leave, which):
    assert len(scene.outside.secrets) == 8
    where, text = list(scene.outside.secrets.items())[which]
    leave(scene.course, text)
    assert scene.of(planted()).leaks == (f"{where} stands in what it put out",)


SENDS = """
import socket, sys
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", $tcp)), (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", $udp)),
    (socket.AF_UNIX, socket.SOCK_STREAM, "$unix"), (socket.AF_UNIX, socket.SOCK_STREAM, "\\0$mark"),
):
    with socket.socket(family, kind) as out:
        out.connect(address)
        out.send(b"$student")
"""


def test_is_whoever_reaches_a_socket_heard(scene):
    work = Work(EARLIER, released(scene.course), scene.outside)
    subprocess.run([sys.executable, "-c", work.filled(SENDS)], check=True)
    for _ in range(100):
        if len(scene.outside.heard) == 4:
            break
        time.sleep(0.05)
    assert len(scene.of(planted()).leaks) == 4
    assert scene.of_neighbours([planted()]).leaks == ()
    assert len(scene.of_neighbours([]).leaks) == 4


@pytest.mark.parametrize(("page", "live"), [
    ("<p>{}</p>", False), ("<a href='x.html'>{}</a>", False), ("<a href='%20javascript:{}'>x</a>", False),
    ("&lt;script&gt;{}&lt;/script&gt;", False),
    ("<script>MathJax</script><p>{}</p>", False), ("<img alt='{}'>", False),
    ("<script>{}</script>", True), ("<b onclick='{}'>x</b>", True), ("<a href=' javascript:{}'>x</a>", True),
    ("<a href='java&#115;cript:{}'>x</a>", True), ("<a href='java&#9;script:{}'>x</a>", True),
    ("<iframe srcdoc='{}'>", True), ("<style>{}</style>", True), ("<svg onload={}>", True),
])  # fmt: skip
def test_is_what_a_browser_would_obey_told_from_text(scene, page, live):
    page = page.format(scene.outside.mark)
    assert bool(active(page, scene.outside.mark)) == live
    (scene.course / "reports" / f"{ASSIGNMENT}.html").write_text(page)
    assert bool(scene.of(planted()).leaks) == live


def test_are_escapes_and_formulas_noticed(scene):
    (scene.course / "reports" / f"{ASSIGNMENT}.csv").write_text(f"student,reason\n{EARLIER},=1+1\n")
    assert "a formula" in scene.of(planted()).leaks[0]
    ended = Ended(0, (), scene.ended.outcomes, f"{EARLIER} \x1b[2J\n")
    said = Scene("ours", scene.course, scene.outside, ended, scene.before).of(planted()).leaks
    assert any("the terminal is sent" in one for one in said)


@pytest.mark.parametrize(("outcome", "words"), [
    (None, "no outcome"), (("failed", "the grader stopped", 0.0), "failed: the grader stopped"),
    (("refused", "", 0.0), "no reason is said"), (("person", "", 0.0), "no reason is said"),
])  # fmt: skip
def test_is_a_grade_that_was_lost_noticed(scene, outcome, words):
    ended = Ended(0, (), {EARLIER: outcome} if outcome else {}, "")
    [said] = Scene("ours", scene.course, scene.outside, ended, scene.before).of(planted()).lost_grades
    assert words in said


def test_is_a_page_that_was_not_made_noticed(scene):
    asked = replace(scene, pages=(EARLIER,))
    page = scene.course / "feedback" / EARLIER / "lab" / "lab.html"
    assert asked.of(planted()).lost_grades == ("its feedback page was not made",)
    page.parent.mkdir(parents=True)
    page.write_text("<p>well done")
    assert asked.of(planted()).lost_grades == ()


def test_is_it_noticed_what_a_result_takes(scene, monkeypatch):
    taken = sum(map(len, damage._produced(scene, EARLIER)))
    monkeypatch.setattr(damage, "MOST_STORED", taken)
    assert scene.of(planted()).lost_grades == ()
    monkeypatch.setattr(damage, "MOST_STORED", taken - 1)
    assert "what is stored of it takes" in scene.of(planted()).lost_grades[0]


def _without_gradebook(scene):
    (scene.course / "gradebook.db").unlink()


def _other_marks(scene):
    with closing(sqlite3.connect(scene.course / "gradebook.db")) as book, book:
        book.execute("UPDATE grade SET auto_score = 0 WHERE notebook_id = 'n2'")


def _other_comment(scene):
    with closing(sqlite3.connect(scene.course / "gradebook.db")) as book, book:
        book.execute("UPDATE comment SET manual_comment = 'well done'")


def _other_file(scene):
    (scene.course / "submitted" / NEIGHBOUR / ASSIGNMENT / "notes.txt").write_text("mine")


def _other_result(scene):
    (scene.course / "results" / ASSIGNMENT / f"{EARLIER}.json").write_text("{}")


def _ended(scene):
    scene.outside.bystander.kill()
    scene.outside.bystander.wait()


@pytest.mark.parametrize(("spoil", "words"), [
    (_without_gradebook, "zoe has 0 points"), (_other_marks, "zoe has 0 points"), (_other_comment, "its comment"),
    (_other_file, "submitted/zoe/trial/notes.txt was changed"), (_other_result, "the stored result of ada was changed"),
    (_ended, "a process of the instructor's was ended"),
])  # fmt: skip
def test_is_harm_to_the_honest_noticed(scene, spoil, words):
    spoil(scene)
    assert any(words in said for said in scene.of_neighbours([planted()]).lost_grades)


LEAVES = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "planted"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/proc/self/comm", "w").write("planted")
        time.sleep(60)
    os._exit(0)
subprocess.run(["true"])
"""


def test_is_a_survivor_noticed_and_ended(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-P", "-m", "hostile.keeper", str(report), "30", sys.executable, "-c", LEAVES]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    subprocess.run(command, env=environment, check=True)
    told = json.loads(report.read_text())
    assert told["code"] == 0
    assert len(told["survivors"]) == 2
    assert all("planted" in one for one in told["survivors"])
    assert not _alive("planted", str(report))


def test_is_a_command_without_an_end_ended_and_nothing_else_said(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-P", "-m", "hostile.keeper", str(report), "0.5", "sh", "-c", "sleep 60 & sleep 60"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, check=True)
    assert json.loads(report.read_text()) == {"code": None, "survivors": []}


def _alive(*words):
    """Processes in whose command line all these words stand."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if all(word in line for word in words)]


def test_is_a_survivor_blamed_on_its_submission_and_a_file_outside_found(scene):
    ended = Ended(0, (f"python ({EARLIER})", "sleep (60)"), scene.ended.outcomes, "")
    left = Scene("ours", scene.course, scene.outside, ended, scene.before)
    assert left.of(planted()).survivors == (f"still alive: python ({EARLIER})",)
    assert left.of_neighbours([planted()]).survivors == ("sleep (60)",)
    (scene.outside.place(EARLIER) / "here").write_text("")
    for folder in COMMON[:3]:
        (Path(folder) / f"{scene.outside.mark}-{EARLIER}").write_text("")
    assert len(scene.of(planted()).survivors) == 4
    scene.outside.clear()
    assert len(scene.of(planted()).survivors) == 1


def test_does_the_gradebook_say_by_itself_what_was_earned(template):
    """Read by SQL here and by nbgrader's own classes in the grader."""
    from autograder import gradebook

    [ours] = gradebook.scores(template, ASSIGNMENT)
    assert {name: cell.score for name, cell in ours.cells.items()} == {
        name: mark.score for name, mark in marks(template)[EARLIER].items()
    }
