"""Are cells that only draw left out of a grading, and is what the student saw shown in their place?"""

import json
from dataclasses import replace

import pytest
import toy_lab
from toy_lab import solved

from autograder import figures, marking

PICTURE = {"output_type": "display_data", "data": {"image/png": "aVZCT1I=", "text/plain": ["<Figure ", "1>"]},
           "metadata": {"image/png": {"alt": "a curve"}}}  # fmt: skip
DRAWS = "plots.losses([number])"
# a figure that would say so if it were drawn
SETUP = "number = 42\nclass plots:\n    @staticmethod\n    def losses(_): print('drawn')"


def code(source, **rest):
    return {"cell_type": "code", "source": source, "metadata": {}, "id": "drawn", **rest}


@pytest.mark.parametrize(("source", "draws"), [
    ("plots.losses([relu])", True),
    ("# a comment\nplots.losses([relu])\nplots.gains(relu, axes=None)\n", True),
    ("plots.losses(relu).savefig('x.png')", False),
    ("figure = plots.losses(relu)", False),
    ("plots.losses(relu)\nnumber = 1", False),
    ("other.plots.losses(relu)", False),
    ("plots", False),
    ("print(1)", False),
    ("%matplotlib inline", False),
    ("", False),
    ("(" * 100_000, False),
    ("plots.losses('\0')", False),
])  # fmt: skip
def test_is_what_only_draws_told_from_what_does_more(source, draws):
    assert figures.drawing([code(source)]) == ({source.strip()} if draws else set())
    assert not figures.drawing([code(source) | {"cell_type": "markdown"}])


@pytest.mark.parametrize("content", [
    b"", b"\xff", b"[]", b"{}", b'{"cells": 3}', b'{"cells": [3, {"source": 3}]}', b"[" * 100_000,
    json.dumps({"cells": [code(DRAWS, outputs="all")]}).encode(),
    json.dumps({"cells": [code(DRAWS + " ", outputs=[PICTURE])]}).replace(DRAWS, "others()").encode(),
])  # fmt: skip
def test_is_nothing_shown_of_what_cannot_be_read(content):
    assert figures.handed_in(content, frozenset([DRAWS])) == {}


def test_is_what_was_handed_in_rebuilt_and_no_script_in_it():
    evil = {"output_type": "display_data", "data": {"text/html": "<script>1</script>", "text/plain": "harmless",
                                                    "application/javascript": "1"}, "metadata": {"x": 1}}  # fmt: skip
    outputs = [PICTURE, evil, 3, {"output_type": "stream", "name": "stdout", "text": ["a", "b"]}]
    notebook = json.dumps({"cells": [code([DRAWS[:3], DRAWS[3:]], outputs=outputs)]}).encode()
    shown = figures.handed_in(notebook, frozenset([DRAWS]))[DRAWS]
    assert [output.get("data", output.get("text")) for output in shown] == [
        {"image/png": "aVZCT1I=", "text/plain": "<Figure 1>"}, {"text/plain": "harmless"}, "ab"]  # fmt: skip
    assert shown[0]["metadata"] == {"image/png": {"alt": "a curve"}}
    assert "script" not in json.dumps(shown)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("run", "<Figure 1>"), ("execute", "drawn\n")])
def test_are_figures_shown_as_handed_in_unless_everything_is_run_anew(nursery, tmp_path, how, said):
    course = toy_lab.make_course(tmp_path / "course")
    task = marking.prepare(course, "toy")
    released = {**task.released, "cells": [*task.released["cells"], code(DRAWS, outputs=[], execution_count=None)]}
    task = replace(task, released=released).graded_by(how)
    notebook = solved(course, number=SETUP)
    notebook["cells"].append(code(DRAWS, outputs=[PICTURE], execution_count=7))
    (tmp_path / "toy.ipynb").write_text(json.dumps(notebook))
    result, outputs = marking.mark(task, "ada", tmp_path, lambda: nursery)
    assert result.score == 6
    [shown] = outputs.cells["drawn"]
    assert shown.get("text", shown.get("data", {}).get("text/plain")) == said
