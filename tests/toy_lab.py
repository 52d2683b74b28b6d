"""A small assignment with its questions, for the tests of the grader."""

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from autograder import course as courses
from autograder import questionnaire
from autograder.answers import Tensor
from autograder.checks import Failed, Question, check
from autograder.evidence import Evidence

SOURCE = '''# %% [markdown] fixed="title"
# # A toy

# %% fixed="setup"
import numpy as np
import torch
from torch import nn

# %% [markdown] fixed="double_text"
# Write `double(x)`, which gives two times `x`.

# %% answer="double"
def double(x):
    """Two times x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% test="double" points=3
import autograder
autograder.check("double")

# %%
print("a cell without a name")

# %% answer="build"
def build(width):
    """A network of one layer, named fc_1."""
    ### BEGIN SOLUTION
    return nn.Sequential(nn.Linear(4, width))
    ### END SOLUTION

# %% test="build" points=2
autograder.check("build")

# %% answer="number"
# number = ...
### BEGIN SOLUTION
number = 42
### END SOLUTION

# %% test="number" points=1
autograder.check("number")

# %% [markdown] fixed="words_text"
# Why?

# %% [markdown] essay="words" points=2
# ### BEGIN SOLUTION
# Because.
# ### END SOLUTION
'''


@check(points=2)
def double_values(evidence: Evidence) -> None:
    """double(x) is two times x."""
    x = evidence.random.normal(size=5)
    found = evidence.call("double", x)
    if not isinstance(found, np.ndarray) or not np.allclose(found, 2 * x):
        raise Failed(f"double(x) is {found!r}, expected is {2 * x}", help="Multiply by two.")


@check(points=1, needs=[double_values])
def double_tensor(evidence: Evidence) -> None:
    """double works on tensors as well."""
    x = evidence.random.normal(size=(2, 3))
    if not np.allclose(evidence.call("double", Tensor(x)), 2 * x):
        raise Failed("double(tensor) is something else")


@check(points=2)
def build_outputs(evidence: Evidence) -> None:
    """build(width) gives a network with that many outputs."""
    network = evidence.network("build", 3, inputs=np.ones((5, 4)))
    if network["outputs"].shape != (5, 3):
        raise Failed(f"the outputs have the shape {network['outputs'].shape}, expected is (5, 3)")


@check(points=1)
def number_is_42(evidence: Evidence) -> None:
    """number is 42."""
    found = evidence.value("number")
    if found == "break the check":
        raise TypeError("a mistake in the check")
    if found != 42:
        raise Failed(f"number is {found!r}, expected is 42")


QUESTIONS = {
    "double": Question("double", "Twice", (double_values, double_tensor)),
    "build": Question("build", "A network", (build_outputs,)),
    "number": Question("number", "A number", (number_is_42,)),
}
questionnaire.register("toy", QUESTIONS)

CONFIG = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import toy_lab
c.GradeFromEvidence.cell_seconds = 2
c.GradeFromEvidence.call_seconds = 1
c.GradeFromEvidence.cpu_seconds = 20
"""


def make_course(root: Path) -> Path:
    """A course with the toy released."""
    for name, content in _released(CONFIG).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@functools.cache
def _released(settings: str) -> dict[str, bytes]:
    """The files of such a course by their place; nbgrader takes seconds to make them, the same ones every time."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        shutil.copy(courses.assignments_home() / "nbgrader_config.py", root)
        with (root / "nbgrader_config.py").open("a") as config:
            config.write(settings)
        (root / "toy.py").write_text(SOURCE)
        courses.release(root, "toy")
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def released(course: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((course / "release/toy/toy.ipynb").read_text())
    return found


SOLUTION = {
    "double": "def double(x):\n    return 2 * x",
    "build": "def build(width):\n    return nn.Sequential(nn.Linear(4, width))",
    "number": "number = 42",
    "words": "Because it is so.",
}


def solved(course: Path, **answers: str) -> dict[str, Any]:
    """The released notebook with every answer given, some of them otherwise."""
    notebook = released(course)
    for cell in notebook["cells"]:
        cell["source"] = {**SOLUTION, **answers}.get(cell["id"], cell["source"])
    return notebook


def hand_in(course: Path, student: str, notebook: dict[str, Any] | bytes | None, name: str = "toy.ipynb") -> Path:
    """What a student hands in, as it lies in submitted/ after collecting."""
    folder = course / "submitted" / student / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    if notebook is not None:
        content = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
        (folder / name).write_bytes(content)
    return folder
