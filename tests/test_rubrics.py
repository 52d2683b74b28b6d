"""Does whoever marks an essay in formgrader see its rubric, and nobody else?"""

import copy
import json
import shutil

import nbformat
import pytest
import toy_lab
from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader import handlers
from traitlets.config import Config

from autograder import gradebook
from autograder.rubrics import HEADING, ShowRubrics, rubrics

RUBRIC = "Because."
ANSWER = "Because it is so."
SHOWN = HEADING.strip("*")
BOX = '<input class="score tabbable" id="words"'  # nbgrader's field for the essay's points


@pytest.fixture
def course(tmp_path):
    root = toy_lab.make_course(tmp_path / "course")
    graded(root, "autograded/ada/toy")
    return root


def graded(root, folder):
    (root / folder).mkdir(parents=True)
    (root / folder / "toy.ipynb").write_text(json.dumps(toy_lab.solved(root)))


RESOURCES = {
    "assignment_id": "toy", "notebook_id": "toy", "submission_id": "1", "index": 0, "total": 1, "base_url": "",
    "student": "ada", "last_name": None, "first_name": None, "notebook_path": "",
}  # fmt: skip


def exporter(root, template):
    """What makes a page of a notebook, with the course's own settings and as formgrader sets it up besides."""
    config = Config(gradebook.settings(root))
    config.HTMLExporter.template_name = template
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    return HTMLExporter(config=config)


def page(root, folder="autograded/ada/toy", template="formgrade"):
    html, _ = exporter(root, template).from_filename(str(root / folder / "toy.ipynb"), resources=RESOURCES)
    return html


def test_does_formgrader_show_the_rubric_above_the_answer_it_is_for(course):
    html = page(course)
    assert html.count(SHOWN) == 1
    places = [html.index(words) for words in (">Why?<", SHOWN, RUBRIC, BOX, ANSWER)]
    assert places == sorted(places)


def test_does_no_other_page_show_it(course):
    html = page(course, template="lab")
    assert ANSWER in html
    assert SHOWN not in html
    # feedback needs marks from a gradebook, so only the step itself; tests/test_grading.py reads whole pages
    notebook = nbformat.from_dict(toy_lab.solved(course))
    resources = {**RESOURCES, "metadata": {"path": str(course / "autograded/ada/toy")}}
    for template, more in (("formgrade", 1), ("feedback", 0)):
        shown, _ = ShowRubrics(parent=exporter(course, template)).preprocess(copy.deepcopy(notebook), resources)
        assert len(shown.cells) == len(notebook.cells) + more


def test_is_it_found_in_a_course_of_another_order(course):
    graded(course, "toy/autograded/ada")
    shutil.move(course / "source" / "toy", course / "toy" / "source")
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.CourseDirectory.directory_structure = '{assignment_id}/{nbgrader_step}/{student_id}'\n")
    assert SHOWN in page(course, "toy/autograded/ada")


@pytest.mark.parametrize("content", [None, b"no notebook", b'{"cells": 3}', b"[" * 100_000])
def test_does_the_page_appear_without_it_where_the_notebook_cannot_be_read(course, content):
    source = course / "source" / "toy" / "toy.ipynb"
    source.unlink()
    if content is not None:
        source.write_bytes(content)
    html = page(course)
    assert ANSWER in html
    assert SHOWN not in html


def test_is_a_rubric_what_stands_between_the_marks():
    about = {"nbgrader": {"grade_id": "q", "solution": True, "grade": True}}
    words = nbformat.v4.new_markdown_cell("Q\n### BEGIN SOLUTION\n1. One\n2. Two\n### END SOLUTION", metadata=about)
    code = nbformat.v4.new_code_cell("if f:\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION", metadata=about)
    for cell, text in ((words, "1. One\n2. Two"), (code, "```python\nx = 1\n```")):
        assert rubrics(nbformat.v4.new_notebook(cells=[cell])) == {"q": text}
    for other in ({**about["nbgrader"], "grade": False}, {**about["nbgrader"], "solution": False}, [], "x", None, {}):
        words.metadata["nbgrader"] = other
        assert rubrics(nbformat.v4.new_notebook(cells=[words])) == {}
