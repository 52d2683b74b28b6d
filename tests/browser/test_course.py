"""A lab from its release to the feedback: what a student and an instructor see and do in JupyterLab and formgrader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from autograder import gradebook, results
from autograder.cells import CODE_STUB
from autograder.classroom import Lab, class_of
from autograder.results import Result
from autograder.rubrics import HEADING
from browser.notebook import Cell, Notebook
from browser.people import Instructor, Shoot, Student
from browser.served import LAB, NOTEBOOK, Place, Server, me
from browser.watch import Watch

pytestmark = pytest.mark.slow
Open = Callable[..., Page]

# what a cell raises in which nothing was written
BLANK = CODE_STUB.split()[-1].removesuffix("()")
RECORDINGS = ("own", "relu", "sigmoid", "exploding", "clipped", "float32", "float64")
ACTIVATION_GRADIENTS = """\
    x = x.detach().clone().requires_grad_(True)
    y = {"relu": torch.relu, "sigmoid": torch.sigmoid}[name](x)

    y.sum().backward()
    return y.detach(), x.grad"""
# the distance between the points is 10/999 and not 10/1000
MISTAKEN_BIAS = "numerical_bias = 1.0"
BIAS = """\
estimated = np.gradient(np.maximum(0, x), 0.01)
slope = activation_gradients("relu", torch.from_numpy(x))[1]
numerical_bias = estimated[900] / slope[900].item()"""
ESSAY = """\
In *my* run the sigmoid's gradients stay within ±0.01 – a spike, thinnest in `fc_1`:

- each layer multiplies by a slope $\\sigma'(x) \\le \\frac{1}{4}$;
- "signed" means cancel, and so hide it."""
POINTS, COMMENT = "2.5", "Which of the two *losses* is it? Say more about σ′ ≤ 1/4 & the signs <b>that cancel</b>."


@pytest.fixture(scope="module")
def instructor(pages: Open, served: Server, shoot: Shoot) -> Instructor:
    return Instructor(pages("instructor"), served, shoot)


@pytest.fixture(scope="module")
def student(pages: Open, served: Server, shoot: Shoot) -> Student:
    return Student(pages("student"), served, shoot)


@pytest.fixture(scope="module")
def place(served: Server) -> Place:
    return served.place


# Stations: each stands on the one before, and gives what was seen there.


@pytest.fixture(scope="module")
def released(instructor: Instructor) -> str:
    """Formgrader's words when the lab was released."""
    said = instructor.press("release")
    instructor.shoot(instructor.page, "10-formgrader-released")
    return said


@pytest.fixture(scope="module")
def fetched(released: str, student: Student) -> Notebook:
    """The lab fetched by Assignment List, and opened."""
    student.start("student")
    student.open_list()
    student.shoot(student.page, "20-assignment-list")
    student.fetch()
    notebook = student.open_notebook()
    student.shoot(student.page, "21-released-notebook")
    return notebook


@pytest.fixture(scope="module")
def untouched(fetched: Notebook, student: Student) -> Mapping[str, Cell]:
    """Every cell as it ended when nothing was answered, run one after the other by the keyboard alone."""
    fetched.page.keyboard.press("Escape")
    ran = [fetched.run() for _ in fetched.cells()]
    fetched.on_page("test_build_network").scroll_into_view_if_needed()
    student.shoot(student.page, "22-untouched-run-by-keyboard")
    return {cell.id: cell for cell in ran}


@pytest.fixture(scope="module")
def typed(untouched: Mapping[str, Cell], fetched: Notebook, student: Student) -> Mapping[str, str]:
    """What the checks said to a mistake and to answers that were typed key by key."""
    fetched.answer("student_id", f'student = "{me()}"')
    fetched.answer("activation_gradients", ACTIVATION_GRADIENTS)
    fetched.answer("numerical_bias", MISTAKEN_BIAS)
    for id in ("student_id", "experiments", "activation_gradients", "numerical_bias"):
        fetched.select(id)
        fetched.run()
    said = {}
    for name in ("activation_gradients", "numerical_bias"):
        fetched.select(f"test_{name}")
        fetched.run()
        said[name] = fetched.outputs(f"test_{name}").inner_text()
    fetched.on_page("numerical_bias").scroll_into_view_if_needed()
    student.shoot(student.page, "23-typed-answers-checked")
    return said


@pytest.fixture(scope="module")
def watched(typed: Mapping[str, str], fetched: Notebook, student: Student) -> list[str]:
    """Every picture that was seen below the training cell while it ran, after all answers but one were there."""
    answers = Lab.read(student.server.place.course, LAB).solutions
    there = {*class_of(LAB).essays, "student_id", "activation_gradients", "numerical_bias"}
    for id, text in answers.items():
        if id not in there:
            fetched.paste(id, text.rstrip("\n"))
    fetched.command_mode()
    fetched.restart_and_run_all()
    seen: list[str] = []
    for picture in fetched.pictures_while_running("train_both"):
        if picture not in seen:
            seen.append(picture)
            fetched.outputs("train_both").locator("img, canvas").last.scroll_into_view_if_needed()
            student.shoot(student.page, f"24-distributions-growing-{min(len(seen), 2)}")
    fetched.wait_until_all_ran()
    return seen


@pytest.fixture(scope="module")
def ran(watched: list[str], fetched: Notebook, student: Student) -> Mapping[str, Cell]:
    """Every cell after the kernel was restarted and all of them had run."""
    for number, id in enumerate(("train_both", "test_recordings", "test_exploding")):
        fetched.on_page(id).scroll_into_view_if_needed()
        student.shoot(student.page, f"25-run-{number}-{id}")
    return {cell.id: cell for cell in fetched.cells()}


@pytest.fixture(scope="module")
def invalid(ran: Mapping[str, Cell], fetched: Notebook, student: Student) -> str:
    """What Validate said, by mouse, while an answer was wrong and the essays were not written."""
    fetched.save()
    return student.validate()


@pytest.fixture(scope="module")
def answered(invalid: str, fetched: Notebook, student: Student) -> Notebook:
    """The notebook with every answer, and saved."""
    fetched.paste("numerical_bias", f"x = np.linspace(-5, 5, 1000)\n{BIAS}")
    fetched.command_mode()
    for _ in range(2):
        fetched.run()
    lab = class_of(LAB)
    numbers = lab.numbers(student.server.place.fetched)
    fetched.write("figures", ESSAY)
    for id, words in lab.essays.items():
        if id != "figures":
            fetched.paste(id, words.format(**numbers))
    for id in lab.essays:
        fetched.select(id)
        fetched.run()
    fetched.on_page("figures").scroll_into_view_if_needed()
    student.shoot(student.page, "26-essay-typed")
    fetched.save()
    return fetched


@pytest.fixture(scope="module")
def valid(answered: Notebook, student: Student) -> str:
    """What Validate said at last, reached and pressed by the keyboard alone."""
    answered.select("figures")
    return student.validate_by_keyboard()


@pytest.fixture(scope="module")
def submitted(valid: str, student: Student) -> Path:
    """The folder in the exchange that came of the button Submit."""
    student.submit()
    student.shoot(student.page, "28-submitted")
    [folder] = student.server.place.exchange.glob("*/inbound/*")
    return folder


@pytest.fixture(scope="module")
def graded(submitted: Path, instructor: Instructor) -> Result:
    """What the grader found in what formgrader collected."""
    assert "1 submission" in instructor.press("collect")
    instructor.shoot(instructor.page, "30-formgrader-collected")
    place = instructor.server.place
    place.run("autograder", "grade", LAB)
    found = results.load(place.course, LAB, me())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def rubric(graded: Result, instructor: Instructor) -> str:
    """What formgrader shows above the essay's answer."""
    instructor.open_submission()
    shown = instructor.page.locator(".cell").filter(has_text=HEADING.strip("*")).first
    shown.scroll_into_view_if_needed()
    instructor.shoot(instructor.page, "31-rubric")
    return shown.inner_text()


@pytest.fixture(scope="module")
def marked(rubric: str, instructor: Instructor) -> gradebook.StudentScore:
    """The gradebook after a person marked an essay in formgrader, by the rubric."""
    instructor.mark("figures", POINTS, COMMENT)
    instructor.page.locator("#figures").scroll_into_view_if_needed()
    instructor.shoot(instructor.page, "32-formgrader-essay-marked")
    [score] = gradebook.scores(instructor.server.place.course, LAB)
    return score


# What they saw.


def test_formgrader_releases(released: str, place: Place) -> None:
    assert f"Successfully released '{LAB}'" in released
    out = list(place.exchange.glob(f"*/outbound/{LAB}/*"))
    assert [path.name for path in out] == [NOTEBOOK]


def test_assignment_list_fetches_what_was_released(fetched: Notebook, place: Place) -> None:
    release = json.loads((place.course / "release" / LAB / NOTEBOOK).read_text())
    assert [cell["id"] for cell in release["cells"]] == [cell.id for cell in fetched.cells()]
    expect(fetched.on_page("title")).to_contain_text("watch them happen")


def test_an_untouched_notebook_stops_only_where_an_answer_is_missing(untouched: Mapping[str, Cell]) -> None:
    """Does every cell run by Shift+Enter, and is each check a sentence and no error?"""
    code = [cell for cell in untouched.values() if cell.type == "code"]
    assert {cell.error for cell in code} == {"", BLANK, "NameError"}
    assert untouched["student_id"].error == BLANK
    checks = [cell for cell in code if cell.is_check]
    assert len(checks) == 15
    for cell in checks:
        assert not cell.error
        assert re.search(r": 0 of \d+ points", cell.text), cell.text


def test_a_check_answers_what_was_typed(typed: Mapping[str, str], fetched: Notebook) -> None:
    """Is a mistake told from an answer, at once, below the cell?"""
    assert "2 of 2 points" in typed["activation_gradients"]
    assert "0 of 1 points" in typed["numerical_bias"]
    assert fetched.now("activation_gradients").source.endswith(ACTIVATION_GRADIENTS)


def test_the_distributions_grow_while_the_networks_train(watched: list[str], fetched: Notebook) -> None:
    assert watched, "no picture was there before the training ended"
    last = fetched.outputs("train_both").locator("img").last.get_attribute("src")
    assert last not in watched[:1]


def test_every_figure_is_there(ran: Mapping[str, Cell], fetched: Notebook) -> None:
    """Does every cell that draws show a picture, which the browser could read and which says what it shows?"""
    draws = [cell.id for cell in ran.values() if cell.source.startswith("plots.")]
    assert len(draws) == 14
    for id in draws:
        picture = fetched.outputs(id).locator("img")
        assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 300, id


def test_all_checks_hold_but_that_of_the_mistake(ran: Mapping[str, Cell]) -> None:
    assert {cell.id for cell in ran.values() if cell.error} == set()
    assert {cell.id for cell in ran.values() if cell.is_check and not _whole(cell)} == {"test_numerical_bias"}


def test_validate_says_what_is_missing(invalid: str) -> None:
    assert "The following cell failed" in invalid


def test_validate_is_content_in_the_end(valid: str) -> None:
    """Is the button reached and pressed by the keyboard, and is all well then?"""
    assert "Success! Your notebook passes all the tests." in valid


def test_submit_hands_in_the_notebook_and_its_files(submitted: Path, place: Place) -> None:
    for name in (NOTEBOOK, "workspace.json", "answers.json", *(f"{name}.safetensors" for name in RECORDINGS)):
        assert (submitted / name).read_bytes() == (place.fetched / name).read_bytes(), name


def test_the_mark_is_what_the_checks_had_shown(graded: Result, answered: Notebook) -> None:
    assert graded.status == "graded", graded.reason
    shown = {cell.id.removeprefix("test_"): _points(cell) for cell in answered.cells() if cell.is_check}
    found = {name.removeprefix("test_"): (one.points, one.of) for name, one in graded.questions.items()}
    assert shown == found
    assert graded.score == graded.max_score


def test_the_rubric_stands_above_the_answer_and_nowhere_with_the_student(
    rubric: str, instructor: Instructor, fetched: Notebook
) -> None:
    assert "Rubric (1 point each)." in rubric
    assert "Signed against absolute" in rubric
    below = instructor.page.locator(".cell", has_text=HEADING.strip("*")).first.locator("xpath=following-sibling::*[1]")
    expect(below.locator("#figures")).to_be_visible()
    assert not any("Rubric" in cell.source for cell in fetched.cells())


def test_formgrader_keeps_points_and_comment(marked: gradebook.StudentScore, instructor: Instructor) -> None:
    cell = marked.cells["figures"]
    assert (cell.manual, cell.score, cell.needs_person) == (2.5, 2.5, False)
    assert marked.comments["figures"] == COMMENT
    assert marked.score == 34 + 2.5
    expect(instructor.page.locator("#figures")).to_have_value(POINTS)


def test_the_student_reads_points_and_comment(
    marked: gradebook.StudentScore, instructor: Instructor, student: Student, place: Place
) -> None:
    place.run("autograder", "feedback", LAB)
    assert "Successfully released feedback" in instructor.press("release-feedback")
    page = student.feedback()
    expect(page.locator("body")).to_contain_text("36.5 so far / 48.0; not final, 3 answers are still to be marked")
    expect(page.locator("body")).to_contain_text("Which of the two losses is it?")
    assert HEADING.strip("*") not in page.locator("body").inner_text()
    student.shoot(student.page, "40-feedback")


def test_every_known_complaint_is_still_made(marked: gradebook.StudentScore, watch: Watch) -> None:
    """Is the list of what is not ours no longer than it has to be?"""
    assert watch.new() == []
    assert [one for one in watch.known if one not in watch.met] == []


def _whole(cell: Cell) -> bool:
    points, of = _points(cell)
    return points == of


def _points(cell: Cell) -> tuple[float, float]:
    found = re.search(r": ([\d.]+) of ([\d.]+) points", cell.text)
    assert found, cell.text
    return float(found[1]), float(found[2])
