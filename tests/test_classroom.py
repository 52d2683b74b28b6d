"""The simulated class: is each student what the kind says, and does each planted mistake cost exactly its points?"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import simulated_class

import labkit
from autograder import classroom, course, marking, mending, questionnaire, rehearsal, selfcheck, showing, submission
from autograder.cells import CODE_STUB, without_solutions
from autograder.classes.vanishing_gradients import ALL, VANISHING
from autograder.classroom import ClassroomError, Edit, Kind, Lab, roster, simulate
from autograder.workers import Run
from labkit.recording import Recording

LAB = "vanishing_gradients"
POINTS = {name: question.points for name, question in questionnaire.of(LAB).items()}
KINDS = {kind.name: kind for kind in VANISHING}
# questions about what was defined, which no file says
FUNCTIONS = ["activation_gradients", "build_network", "model_loss", "gradient_distributions", "attenuation"]


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A course with a release as nbgrader makes it, without waiting for nbgrader."""
    root = tmp_path_factory.mktemp("course")
    course.init(root, [LAB])
    notebook = json.loads((root / "source" / LAB / f"{LAB}.ipynb").read_bytes())
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            code = cell["cell_type"] == "code"
            cell["source"] = without_solutions("".join(cell["source"])) if code else "YOUR ANSWER HERE"
    (root / "release" / LAB).mkdir(parents=True)
    (root / "release" / LAB / f"{LAB}.ipynb").write_text(json.dumps(notebook), "utf-8")
    return root


@pytest.fixture(scope="session")
def tiny():
    """A real recording, short."""
    experiment = labkit.experiment("vanishing/relu").replace(observations=160, pool=160, batch_size=4, epochs=3)
    return labkit.train(experiment, progress=False)


@pytest.fixture
def workers(monkeypatch, tiny):
    """Instead of a process that runs the notebook: every cell ran, and two recordings were saved."""

    class Workers:
        def close(self):
            pass

        def room(self):
            return tempfile.TemporaryDirectory()

    def run(cells, place, *_):
        for number, cell in enumerate(cells, 1):
            cell["outputs"], cell["execution_count"] = [], number
        for name in ("relu", "sigmoid"):
            tiny.save(place / "submission" / f"{name}.safetensors")

    monkeypatch.setattr("autograder.workers.open_workers", Workers)
    monkeypatch.setattr(classroom, "_run", run)


@pytest.fixture
def at(bare, tmp_path, workers):
    """A course of one's own."""
    for name in ("source", "release"):
        (tmp_path / name).symlink_to(bare / name)
    return tmp_path


def cells_of(student):
    notebook = json.loads((student.folder / f"{LAB}.ipynb").read_bytes())
    return {cell["id"]: cell for cell in notebook["cells"]}


def by_kind(students):
    return {student.kind.name: student for student in students}


# kinds


@pytest.mark.parametrize("kind", [kind for kind in VANISHING if not kind.copies], ids=lambda kind: kind.name)
def test_does_each_edit_change_its_cell_and_no_other(bare, kind):
    lab = Lab.read(bare, LAB)
    whole, cells = lab.cells(KINDS["complete"]), lab.cells(kind)
    assert {id for id in cells if cells[id] != whole[id]} == {edit.cell for edit in kind.edits}
    for edit in kind.edits:
        compile(cells[edit.cell], edit.cell, "exec")


@pytest.mark.parametrize(("cell", "old"), [("growth", "no such text"), ("no_such_cell", "x")])
def test_is_an_edit_refused_whose_text_is_not_there(bare, cell, old):
    with pytest.raises(ClassroomError, match=cell):
        Lab.read(bare, LAB).cells(Kind("stale", {}, (Edit(cell, old, "y"),)))


def test_is_a_stop_refused_at_a_cell_that_is_not_there(bare):
    with pytest.raises(ClassroomError, match="no_such_cell"):
        Lab.read(bare, LAB).cells(Kind("stale", {}, stops_after="no_such_cell"))


@pytest.mark.parametrize("kind", VANISHING, ids=lambda kind: kind.name)
def test_does_a_kind_lose_points_that_there_are(kind):
    assert all(0 < lost <= POINTS[name] for name, lost in kind.loses.items())


def test_is_everything_lost_by_who_hands_in_nothing():
    assert dict(ALL) == POINTS == dict(KINDS["empty"].loses)
    assert sum(POINTS.values()) == 34


def test_are_no_marks_of_nbgrader_left_in_a_solution(bare):
    for text in Lab.read(bare, LAB).solutions.values():
        assert "SOLUTION" not in text


@pytest.mark.parametrize("forge", [kind.forge for kind in VANISHING if kind.forge], ids=lambda forge: forge.__name__)
def test_does_a_forged_recording_load_like_an_honest_one(forge, tiny, tmp_path):
    found = Recording.load(forge(tiny).save(tmp_path / "forged.safetensors"))
    assert found.digest != tiny.digest
    assert not np.array_equal(found.gradient, tiny.gradient)


# the class


def test_is_the_class_the_same_for_the_same_seed():
    assert roster(LAB, 12, seed=3) == roster(LAB, 12, seed=3)
    assert [name for name, _ in roster(LAB, 12, seed=3)] != [name for name, _ in roster(LAB, 12, seed=4)]


def test_does_a_larger_class_hold_the_smaller_one():
    assert roster(LAB, 90, seed=1)[:8] == roster(LAB, 8, seed=1)


def test_has_everybody_a_name_of_their_own():
    names = [name for name, _ in roster(LAB, 120, seed=0)]
    assert len(set(names)) == 120
    assert all(name.isidentifier() for name in names)


def test_are_the_kinds_that_the_course_speaks_of_among_the_first_eight():
    kinds = [kind for _, kind in roster(LAB, 8, seed=0)]
    assert {"complete", "partly done", "signed for absolute", "empty", "error-raising", "infinite loop",
            "fabricated numbers", "copied, own id typed in"} == {kind.name for kind in kinds}  # fmt: skip


def test_are_most_of_a_large_class_honest():
    kinds = [kind for _, kind in roster(LAB, 200, seed=0)]
    assert sum(not (kind.forge or kind.needs_classmate) for kind in kinds) > 150


@pytest.mark.parametrize(("assignment", "students", "words"), [
    ("no_such_lab", 8, "vanishing_gradients"),
    (LAB, 0, "1 student or more"),
])  # fmt: skip
def test_is_an_impossible_class_refused(assignment, students, words):
    with pytest.raises(ClassroomError, match=words):
        roster(assignment, students, seed=0)


# what is handed in


def test_is_the_empty_submission_the_release_and_nothing_else(at):
    student = by_kind(simulate(at, LAB, 4, progress=False))["empty"]
    assert sorted(path.name for path in student.folder.iterdir()) == [
        "submission_secret.txt",  # without which nbgrader releases no feedback
        "timestamp.txt",
        f"{LAB}.ipynb",
    ]
    assert submission.find(student.folder, student.id, LAB).files == (
        f"{LAB}.ipynb",
    )  # what is nbgrader's is not theirs
    released = json.loads((at / "release" / LAB / f"{LAB}.ipynb").read_bytes())
    handed_in = json.loads((student.folder / f"{LAB}.ipynb").read_bytes())
    assert ["".join(cell["source"]) for cell in handed_in["cells"]] == ["".join(c["source"]) for c in released["cells"]]


def test_does_a_student_type_the_own_id_and_write_with_the_own_numbers(at):
    student = by_kind(simulate(at, LAB, 1, progress=False))["complete"]
    cells = cells_of(student)
    assert f'student = "{student.id}"' in cells["student_id"]["source"]
    assert not any(CODE_STUB in cell["source"] for cell in cells.values())
    assert "{" not in cells["figures"]["source"]
    assert "YOUR ANSWER HERE" not in cells["question_3_answer"]["source"]


def test_does_a_student_who_stops_leave_the_rest_as_it_was(at):
    cells = cells_of(by_kind(simulate(at, LAB, 2, progress=False))["partly done"])
    assert CODE_STUB.split("\n")[0] not in cells["model_loss"]["source"]
    assert CODE_STUB.split("\n")[0] in cells["gradient_distributions"]["source"]
    assert cells["figures"]["source"] == "YOUR ANSWER HERE"


def test_is_the_endless_cell_handed_in_but_not_run_here(at):
    cell = cells_of(by_kind(simulate(at, LAB, 6, progress=False))["infinite loop"])["growth"]
    assert "while" in cell["source"]
    assert cell["execution_count"] is None


def test_does_a_copy_hold_a_classmates_recordings_with_the_id_that_the_kind_says(at):
    students = by_kind(simulate(at, LAB, 20, progress=False))
    classmate = students["complete"]
    for kind, id in (("copied, own id typed in", students["copied, own id typed in"].id),
                     ("copied, classmate's id", classmate.id)):  # fmt: skip
        assert f'student = "{id}"' in cells_of(students[kind])["student_id"]["source"]
        name = "relu.safetensors"
        assert (students[kind].folder / name).read_bytes() == (classmate.folder / name).read_bytes()


def test_can_nbgrader_read_when_it_was_handed_in(at):
    from nbgrader.utils import parse_utc

    for student in simulate(at, LAB, 3, progress=False):
        assert parse_utc((student.folder / "timestamp.txt").read_text().strip()).year == 2026


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(folder).rglob("*") if path.is_file()}


def test_is_nothing_written_again_that_did_not_change(at):
    simulate(at, LAB, 8, progress=False)
    before = contents(at / "submitted")
    simulate(at, LAB, 8, progress=False)
    assert contents(at / "submitted") == before


def test_is_a_simulated_submission_that_was_edited_made_anew(at):
    student = simulate(at, LAB, 1, progress=False)[0]
    (student.folder / f"{LAB}.ipynb").write_text("edited")
    simulate(at, LAB, 1, progress=False)
    assert "student_id" in cells_of(student)


def test_is_a_real_submission_never_touched(at):
    mine = at / "submitted" / roster(LAB, 3, 0)[2][0] / LAB
    mine.mkdir(parents=True)
    (mine / "work.txt").write_text("mine")
    with pytest.raises(ClassroomError, match="nothing was written"):
        simulate(at, LAB, 3, progress=False)
    assert [path.name for path in (at / "submitted").rglob("*") if path.is_file()] == ["work.txt"]
    assert classroom.others(at, LAB) == [mine.parent.name]


def test_is_it_known_who_is_simulated_and_who_is_not(at):
    (at / "submitted" / "a real student" / LAB).mkdir(parents=True)
    made = simulate(at, LAB, 5, progress=False)
    assert classroom.simulated(at, LAB) == {student.id: student.kind.name for student in made}
    assert classroom.others(at, LAB) == ["a real student"]


def test_is_a_solution_that_raises_refused_before_anything_is_handed_in(at, monkeypatch):
    def run(cells, *_):
        for cell in cells:
            cell["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "no"}]

    monkeypatch.setattr(classroom, "_run", run)
    with pytest.raises(ClassroomError, match="ValueError: no"):
        simulate(at, LAB, 1, progress=False)
    assert not list(at.glob("submitted/*"))
    assert not list(at.glob(".simulating*"))


@pytest.mark.parametrize(("edits", "seconds"), [((), 900), ((Edit("a", "1", "2"),), 30)])
def test_has_a_whole_solution_time_on_a_slow_machine_and_an_endless_loop_none(monkeypatch, tmp_path, edits, seconds):
    given = []

    class Process:
        def __init__(self, _workers, _place, limits):
            given.append(limits)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run_cells(self, cells):
            self.run = Run(outputs={cell["id"]: [] for cell in cells}, numbers={cell["id"]: 1 for cell in cells})
            return self.run

        def ask(self, request):
            return {"error": "NameError"}

    monkeypatch.setattr("autograder.workers.Student", Process)
    cell = {"id": "a", "source": "1"}
    (tmp_path / "submission").mkdir()
    student = classroom.Student("ada", Kind("some", {}, edits), tmp_path)
    classroom._run([cell], tmp_path, None, student, LAB)
    assert cell["execution_count"] == 1
    assert [limits.cell_seconds for limits in given] == [seconds]
    assert given[0].cpu_seconds > seconds


@pytest.mark.parametrize(("missing", "words"), [("source", "build"), ("release", "autograder release")])
def test_is_a_course_without_a_release_told_what_to_run(at, missing, words):
    (at / missing).unlink()
    with pytest.raises(ClassroomError, match=words):
        simulate(at, LAB, 1, progress=False)


def test_is_a_damaged_record_named(at):
    (at / classroom.RECORD).write_text("{")
    with pytest.raises(ClassroomError, match="damaged"):
        simulate(at, LAB, 1, progress=False)


# the whole: each kind handed in, graded, and its loss


@pytest.fixture(scope="module")
def whole(tmp_path_factory, warm):
    """({kind: student's folder}, {kind: result})."""
    root = tmp_path_factory.mktemp("class")
    graded = simulated_class.graded(root, LAB, VANISHING)
    who = classroom.simulated(root, LAB)
    return {kind: root / "submitted" / student / LAB for student, kind in who.items()}, graded


@pytest.fixture(scope="module")
def graded(whole):
    return whole[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", VANISHING, ids=lambda kind: kind.name)
def test_does_each_planted_mistake_lose_exactly_its_own_points(graded, kind):
    simulated_class.assert_loses(graded[kind.name], kind)


@pytest.mark.slow
def test_does_the_untouched_release_score_nothing_and_the_solution_everything(graded):
    assert graded["empty"].score == 0
    assert graded["complete"].score == graded["complete"].max_score == 34


# those who hand in what their own notebook made and said
OWN = [kind.name for kind in VANISHING if kind.runs and not (kind.needs_classmate or kind.forge or kind.skips)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OWN)
def test_does_the_evidence_alone_say_what_a_run_says_where_it_can_say_anything(whole, kind):
    """The recordings, and the answers that the student's own checks saw."""
    folders, graded = whole
    folder = folders[kind]
    task = marking.prepare(folder.parents[2], LAB).graded_by("evidence")
    alone, _ = marking.mark(task, folder.parent.name, folder, never)
    said = {id: said_by({id: question.verdicts}) for id, question in alone.questions.items()}
    settled = {id: words for id, words in said.items() if all(outcome != "unexecuted" for _, outcome, _ in words[id])}
    assert settled == {id: said_by({id: graded[kind].questions[id].verdicts}) for id in settled}
    if kind == "complete":
        left = [alone.questions[id].name for id in said if id not in settled]
        assert sorted(left) == sorted(FUNCTIONS)
        assert alone.score == 34 - sum(POINTS[name] for name in FUNCTIONS)


def never():
    raise AssertionError("a process was started")


@pytest.mark.slow
def test_is_only_the_endless_cell_stopped(graded):
    assert {name: result.stopped for name, result in graded.items() if result.stopped} == {"infinite loop": ("growth",)}


# what they are told before they hand in: `autograder check` and `autograder.check()`


def said_by(questions):
    return {name: [(one.check, one.outcome, one.points) for one in verdicts] for name, verdicts in questions.items()}


# whose work is whole, has gaps, or rests on another's recordings
REHEARSED = ["complete", "partly done", "copied, own id typed in"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", REHEARSED)
def test_do_command_session_and_grader_agree_on_every_kind_of_student(whole, ipython, tmp_path, kind, monkeypatch):
    folders, graded = whole
    folder = shutil.copytree(folders[kind], tmp_path / "work")
    path, result = folder / f"{LAB}.ipynb", graded[kind]
    by_grader = said_by({question.title: question.verdicts for question in result.questions.values()})
    rehearsed = rehearsal.rehearse(path)
    assert said_by({one.title: one.verdicts for one in rehearsed.readiness.asked}) == by_grader
    assert rehearsed.complete == (kind == "complete")
    found = mending.read(path.read_bytes())
    monkeypatch.chdir(folder)
    namespace = session(found, ipython())
    # a session trains anew what another's recording does not show: the files are to be those that were handed in
    shutil.copytree(folders[kind], folder, dirs_exist_ok=True)
    state = selfcheck.ready(LAB, namespace, folder, path, found)
    assert said_by({one.title: one.verdicts for one in state.asked}) == by_grader
    assert state.complete == (kind == "complete")
    assert showing.summary(state) == showing.summary(rehearsed.readiness)


def session(found, shell):
    """The variables after every cell was run in turn, as a student leaves them; what never ends was interrupted."""
    for cell in found["cells"]:
        source = cell["source"]
        drawn = source.startswith(("plots.", "autograder.check("))
        if cell["cell_type"] == "code" and not drawn and "while epoch < 10" not in source:
            shell.run_cell(source, store_history=True)
    return shell.user_ns
