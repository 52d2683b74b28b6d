"""Is every released cell found again, whatever was done to the notebook?"""

import copy
import json
import random

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_lab import SOLUTION, SOURCE

from autograder import authoring, mending
from autograder.cells import without_solutions
from autograder.mending import MendingError


@pytest.fixture(scope="module")
def released():
    """The toy's release without nbgrader: the stub in place of each solution, checksums left out."""
    notebook = json.loads(nbformat.writes(authoring.expand(SOURCE, "toy")))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["source"] = without_solutions(cell["source"])
        elif "BEGIN SOLUTION" in cell["source"]:
            cell["source"] = "YOUR ANSWER HERE"
    return mending.normal(notebook)


@pytest.fixture
def solved(released):
    notebook = copy.deepcopy(released)
    for cell in notebook["cells"]:
        cell["source"] = SOLUTION.get(cell["id"], cell["source"])
    return notebook


def cell_of(notebook, name):
    return next(cell for cell in notebook["cells"] if cell.get("id") == name)


def ids(notebook):
    return [cell["id"] for cell in notebook["cells"]]


def test_is_an_honest_notebook_left_alone(solved, released):
    assert mending.mend(solved, released) == (solved, [])


def test_is_the_submission_itself_not_changed(solved, released):
    del solved["cells"][3]
    before = copy.deepcopy(solved)
    mending.mend(solved, released)
    assert solved == before


def lose_nbgrader(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] = {}


def lose_everything(notebook):
    lose_nbgrader(notebook)
    for cell in notebook["cells"]:
        del cell["id"]


@pytest.mark.parametrize("lose", [lose_nbgrader, lose_everything])
def test_are_cells_found_again_when_an_editor_dropped_their_metadata(solved, released, lose):
    before = copy.deepcopy(solved)
    lose(solved)
    found, remarks = mending.mend(solved, released)
    named = {cell["id"]: cell for cell in before["cells"] if mending.grade_id(cell)}
    assert {cell["id"]: cell for cell in found["cells"] if mending.grade_id(cell)} == named
    assert len(found["cells"]) == len(before["cells"])
    assert any("double had lost its metadata" in remark for remark in remarks)


def test_is_a_deleted_cell_put_back_where_it_was(solved, released):
    solved["cells"] = [cell for cell in solved["cells"] if cell["id"] not in ("build", "test_build", "title")]
    found, remarks = mending.mend(solved, released)
    assert ids(found) == ids(released)
    assert cell_of(found, "build")["source"] == cell_of(released, "build")["source"]
    assert "The cell test_build was deleted: it is back as released." in remarks


def test_does_an_empty_notebook_become_the_release(released):
    found, _ = mending.mend({**released, "cells": []}, released)
    back = copy.deepcopy([cell for cell in released["cells"] if mending.grade_id(cell)])
    for cell in back:
        if cell["metadata"]["nbgrader"]["solution"]:
            cell["metadata"][mending.PUT_BACK] = True
    assert list(found["cells"]) == back


def test_is_the_blank_of_an_answer_that_was_moved_left_out(solved, released):
    """Does an answer count that stands in a cell of the student's own, when its own cell was deleted?"""
    answers = [cell for cell in solved["cells"] if cell["metadata"].get("nbgrader", {}).get("solution")]
    other = next(cell for cell in answers if cell["cell_type"] == "code" and mending.grade_id(cell) != "double")
    other["source"] += "\n\n\n" + SOLUTION["double"]
    del solved["cells"][ids(solved).index("double")]
    found, _ = mending.mend(solved, released)
    assert [mending.grade_id(cell) for cell in found["cells"] if mending.is_blank_put_back(cell)] == ["double"]
    assert other["source"] in [cell["source"] for cell in found["cells"]]


@pytest.mark.parametrize(("first", "second"), [("worked on", "stub"), ("stub", "worked on")])
def test_does_the_copy_count_that_was_worked_on(solved, released, first, second):
    sources = {"worked on": SOLUTION["double"], "stub": cell_of(released, "double")["source"]}
    place = ids(solved).index("double")
    solved["cells"].insert(place, copy.deepcopy(solved["cells"][place]))
    for k, word in enumerate((first, second)):
        solved["cells"][place + k]["source"] = sources[word]
    found, remarks = mending.mend(solved, released)
    assert cell_of(found, "double")["source"] == SOLUTION["double"]
    assert [mending.grade_id(cell) for cell in found["cells"]].count("double") == 1
    assert any("double is there 2 times" in remark for remark in remarks)


def test_does_the_first_of_two_answers_count(solved, released):
    other = {**copy.deepcopy(cell_of(solved, "double")), "source": "def double(x): return 3 * x"}
    solved["cells"].append(other)
    found, _ = mending.mend(solved, released)
    assert cell_of(found, "double")["source"] == SOLUTION["double"]


def test_are_tests_and_fixed_cells_as_released_again(solved, released):
    cell_of(solved, "test_double")["source"] = "3.0"
    cell_of(solved, "setup")["source"] = ""
    cell_of(solved, "test_double")["metadata"]["nbgrader"]["points"] = 100
    found, remarks = mending.mend(solved, released)
    for name in ("test_double", "setup"):
        assert cell_of(found, name) == cell_of(released, name)
        assert any(f"The cell {name} was changed" in remark for remark in remarks)


@pytest.mark.parametrize(
    ("name", "kind"), [("double", "markdown"), ("double", "raw"), ("words", "code"), ("test_build", "raw")]
)
def test_is_a_retyped_cell_what_it_was(solved, released, name, kind):
    cell = cell_of(solved, name)
    cell["cell_type"] = kind
    found, remarks = mending.mend(mending.normal(solved), released)
    assert cell_of(found, name)["cell_type"] == cell_of(released, name)["cell_type"]
    assert cell_of(found, name)["source"] == {**SOLUTION, "test_build": 'autograder.check("build")'}[name]
    assert any(f"{name} was turned into {kind}" in remark for remark in remarks)


def test_does_the_order_stay_the_students(solved, released):
    solved["cells"].reverse()
    found, remarks = mending.mend(solved, released)
    assert ids(found) == ids(solved)
    assert any("another order" in remark for remark in remarks)


def test_do_added_cells_stay_under_ids_of_their_own(solved, released):
    new = {"cell_type": "code", "source": "1 + 1", "metadata": {}, "outputs": [], "execution_count": None}
    solved["cells"] = [{**new, "id": "double"}, {**new, "id": "x y"}, {**new}, *solved["cells"], {**new, "id": "mine"}]
    found, _ = mending.mend(solved, released)
    assert sum(cell["source"] == "1 + 1" for cell in found["cells"]) == 4
    assert len(set(ids(found))) == len(found["cells"])
    assert ids(found)[-1] == "mine"
    assert cell_of(found, "double")["source"] == SOLUTION["double"]


def test_does_a_cell_that_calls_itself_graded_become_an_added_one(solved, released):
    made_up = copy.deepcopy(cell_of(solved, "test_double"))
    made_up["metadata"]["nbgrader"]["grade_id"] = "test_bonus"
    solved["cells"].append({**made_up, "id": "bonus"})
    found, remarks = mending.mend(solved, released)
    assert "nbgrader" not in found["cells"][-1]["metadata"]
    assert any("test_bonus" in remark for remark in remarks)


@given(seed=st.integers(0, 10**6))
def test_is_any_muddle_put_in_order(released, seed):
    draw = random.Random(seed)
    cells = [copy.deepcopy(draw.choice(released["cells"])) for _ in range(draw.randrange(25))]
    for cell in cells:
        for damage in draw.sample(["metadata", "id", "source", "type", "none"], k=2):
            if damage == "metadata":
                cell["metadata"] = draw.choice([{}, {"nbgrader": 3}, {"nbgrader": {"grade_id": ["x"], "grade": True}}])
            elif damage == "id":
                cell["id"] = draw.choice(["double", "words", "new", ""])
            elif damage == "source":
                cell["source"] = draw.choice(["", "x = 1", cell["source"] + "\nx = 1"])
            elif damage == "type":
                mending._as_kind(cell, draw.choice(["code", "markdown", "raw"]))
    found, _ = mending.mend({**released, "cells": cells}, released)
    nbformat.validate(nbformat.from_dict(found))
    named = [mending.grade_id(cell) for cell in found["cells"] if mending.grade_id(cell)]
    assert sorted(named) == sorted(mending.grade_id(cell) for cell in released["cells"] if mending.grade_id(cell))
    assert len(found["cells"]) >= len(cells)
    assert mending.mend(found, released)[0] == found


# What is no notebook

NOTEBOOK = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []}


@pytest.mark.parametrize(("content", "words"), [
    (b"", "no JSON"),
    (b'{"cells": [', "cut off"),
    (b"\xff\xfe", "no JSON"),
    (b'{"cells": "\0"}', "null bytes"),
    (b"[" * 100_000, "nested too deep"),
    (b"3", "not a notebook"),
    (b"{}", "not a notebook"),
    (json.dumps({**NOTEBOOK, "cells": {}}).encode(), "not a notebook"),
    (json.dumps({**NOTEBOOK, "nbformat": 3}).encode(), "format 3"),
    (json.dumps({**NOTEBOOK, "nbformat": 5}).encode(), "format 5"),
    (json.dumps({**NOTEBOOK, "cells": [{}] * 3000}).encode(), "3,000 cells"),
])  # fmt: skip
def test_does_what_is_no_notebook_have_one_sentence(content, words):
    with pytest.raises(MendingError) as raised:
        mending.read(content)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_is_a_huge_notebook_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(mending, "LARGEST", 10)
    with pytest.raises(MendingError, match="MB"):
        mending.read(b'{"cells": []}')


def test_is_another_assignments_notebook_refused(solved, released):
    other = json.loads(json.dumps(solved).replace("test_", "test_other_"))
    with pytest.raises(MendingError, match=r"another assignment's: it tests test_other_build, .* this one test_build"):
        mending.mend(other, released)
    half = json.loads(json.dumps(solved).replace("test_double", "test_other_double"))
    assert mending.mend(half, released)[0]["cells"]


@pytest.mark.parametrize("minor", [0, 4, 5, 9])
def test_is_every_notebook_of_format_4_read(minor):
    code = {"cell_type": "code", "source": ["a\n", "b"], "metadata": None, "outputs": [{"output_type": "x" * 10}]}
    cells = [code, {"cell_type": "heading", "source": 3}, 7, {"cell_type": "markdown", "attachments": {"a": {"b": 3}}}]
    found = mending.read(json.dumps({**NOTEBOOK, "nbformat_minor": minor, "cells": cells}).encode())
    assert [cell["cell_type"] for cell in found["cells"]] == ["code", "raw", "markdown"]
    assert found["cells"][0]["source"] == "a\nb"
    assert found["cells"][0]["outputs"] == []


def test_is_half_a_character_no_obstacle():
    found = mending.read(json.dumps({**NOTEBOOK, "cells": [{"cell_type": "code", "source": "\ud800"}]}).encode())
    json.dumps(found, ensure_ascii=False).encode()
