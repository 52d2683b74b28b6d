"""A small assignment whose test cells hold ordinary asserts, hidden ones included, and whose questions are checks.

So the very same notebook can be graded by nbgrader in its own way and by the checks. One question for every kind of
evidence: a value, a function, a network, a recording, a timeline, an essay.
"""

import json
from pathlib import Path

import numpy as np

from autograder import questionnaire
from autograder.answers import Tensor
from autograder.authenticity import examine
from autograder.checks import Failed, Question, check
from autograder.evidence import Evidence
from labkit.experiments import Experiment, seed_of

ASSIGNMENT = "trial"
POINTS = {"test_number": 1.0, "test_softsign": 3.0, "test_build": 2.0, "test_run": 4.0, "test_timeline": 1.0}
ESSAY = "words"

SOURCE = '''# %% [markdown] fixed="title"
# # A trial

# %% fixed="setup"
import math

import numpy as np
from torch import nn

import labkit
from labkit.experiments import Experiment, seed_of

desk = labkit.workspace(path="workspace.json")

# %% answer="student_id"
# student = "the id under which you hand in"
### BEGIN SOLUTION
student = "solution"
### END SOLUTION

# %% fixed="experiment"
experiment = Experiment(
    name="trial", student=student, seed=seed_of(student, "trial"), observations=512, pool=1000,
    widths=(784, 8, 10), batch_size=64, epochs=6,
)

# %% answer="number"
# number = the sum of the squares of 1 to 100
### BEGIN SOLUTION
number = sum(k * k for k in range(101))  # $in_solution
### END SOLUTION

# %% test="number" points=1
assert isinstance(number, int)
### BEGIN HIDDEN TESTS
# $in_hidden_tests
assert math.isclose(number, 338350)
### END HIDDEN TESTS

# %% answer="softsign"
def softsign(x):
    """x / (1 + |x|), in the shape of x."""
    ### BEGIN SOLUTION
    return x / (1 + abs(x))
    ### END SOLUTION

# %% test="softsign" points=3
assert np.allclose(softsign(np.array([0.0, 1.0, -3.0])), [0.0, 0.5, -0.75])
### BEGIN HIDDEN TESTS
x = np.linspace(-4, 4, 9).reshape(3, 3)
expected = np.array([[-0.8, -0.75, -2 / 3], [-0.5, 0.0, 0.5], [2 / 3, 0.75, 0.8]])
assert np.allclose(softsign(x), expected)
### END HIDDEN TESTS

# %% answer="build"
def build(width):
    """A network of one linear layer from 4 to `width` units."""
    ### BEGIN SOLUTION
    return nn.Sequential(nn.Linear(4, width))
    ### END SOLUTION

# %% test="build" points=2
import torch

assert build(3)(torch.ones(2, 4)).shape == (2, 3)
### BEGIN HIDDEN TESTS
assert build(7)(torch.ones(2, 4)).shape == (2, 7)
### END HIDDEN TESTS

# %% answer="run"
# train your experiment and save the recording as run.safetensors
### BEGIN SOLUTION
recording = labkit.train(experiment, save="run.safetensors", device="cpu", progress=False)
### END SOLUTION

# %% test="run" points=4
found = labkit.Recording.load("run.safetensors")
assert found.origin.experiment == experiment
### BEGIN HIDDEN TESTS
assert (found.iterations, found.epochs) == (48, 6)
assert np.isfinite(found.loss).all() and found.loss[-8:].mean() < found.loss[:8].mean()
### END HIDDEN TESTS

# %% answer="timeline"
# fill a list named history in three iterations; call desk.observe("iteration 1") and so on within the loop
### BEGIN SOLUTION
history = []
for i in range(1, 4):
    history.append(float(i))
    desk.observe(f"iteration {i}")
### END SOLUTION

# %% test="timeline" points=1
seen = [step.source for step in desk.timeline.steps if step.source.startswith("iteration ")]
assert seen == ["iteration 1", "iteration 2", "iteration 3"]

# %% [markdown] fixed="words_text"
# Why do gradients vanish?

# %% [markdown] essay="words" points=2
# ### BEGIN SOLUTION
# Because slopes below 1 are multiplied.
# ### END SOLUTION
'''

# what a student writes who knows it, and what one writes who does not
RIGHT = {
    "student_id": 'student = "$student"',
    "number": "number = 338350",
    "softsign": "def softsign(x):\n    return x / (1 + abs(x))",
    "build": "def build(width):\n    return nn.Sequential(nn.Linear(4, width))",
    "run": 'recording = labkit.train(experiment, save="run.safetensors", device="cpu", progress=False)',
    "timeline": 'history = []\nfor i in range(1, 4):\n    history.append(float(i))\n    desk.observe(f"iteration {i}")',
    ESSAY: "Because slopes below 1 are multiplied, layer by layer.",
}
WRONG = {
    **RIGHT,
    "number": "number = 5",
    "softsign": "def softsign(x):\n    return x",
    "build": "def build(width):\n    return nn.Sequential(nn.Linear(4, 1))",
    "run": 'labkit.train(experiment.replace(epochs=1), save="run.safetensors", device="cpu", progress=False)',
    "timeline": "history = []",
}


def own(student: str) -> Experiment:
    """The run that this student has to hand in."""
    return Experiment(
        name=ASSIGNMENT, student=student, seed=seed_of(student, ASSIGNMENT), observations=512, pool=1000,
        widths=(784, 8, 10), batch_size=64, epochs=6,
    )  # fmt: skip


# The expected number lies in the course, where a submission could find it if it saw the course.
EXPECTED = "expected.json"
_courses: list[Path] = []


def register(course: Path) -> None:
    """Ask these questions in this course; its nbgrader_config.py calls it."""
    _courses[:] = [course]
    questionnaire.register(ASSIGNMENT, QUESTIONS)


@check(points=1)
def number_is_right(evidence: Evidence) -> None:
    """number is the sum of the squares of 1 to 100."""
    expected = json.loads((_courses[0] / EXPECTED).read_text())["number"]
    found = evidence.value("number")
    if not isinstance(found, int) or found != expected:
        raise Failed("number is another number", help="Add up 1, 4, 9 and so on to 10,000.")


@check(points=2)
def softsign_values(evidence: Evidence) -> None:
    """softsign(x) is x / (1 + |x|)."""
    for _ in range(3):
        _compare(evidence, evidence.random.normal(0, 3, size=5))


@check(points=1)
def softsign_shapes(evidence: Evidence) -> None:
    """softsign keeps the shape, of arrays and of tensors."""
    for shape in ((2, 3), (1, 1, 4)):
        x = evidence.random.normal(0, 3, size=shape)
        _compare(evidence, x)
        _compare(evidence, Tensor(x))


def _compare(evidence: Evidence, x: "np.ndarray | Tensor") -> None:
    values = x.values if isinstance(x, Tensor) else x
    found = evidence.call("softsign", x)
    if not isinstance(found, np.ndarray) or found.shape != values.shape:
        raise Failed("softsign(x) is no array of the shape of x")
    if not np.allclose(found, values / (1 + np.abs(values))):
        raise Failed("softsign(x) has other values than x / (1 + |x|)")


@check(points=2)
def build_outputs(evidence: Evidence) -> None:
    """build(width) gives a linear layer with that many outputs."""
    width, inputs = int(evidence.random.randint(2, 9)), evidence.random.normal(size=(5, 4))
    network = evidence.network("build", width, inputs=inputs)
    weights, biases = (network["parameters"].get(f"0.{name}") for name in ("weight", "bias"))
    if weights is None or biases is None or weights.shape != (width, 4):
        raise Failed(f"build({width}) has no linear layer with {width} outputs")
    if not np.allclose(network["outputs"], inputs @ weights.T + biases, rtol=1e-4, atol=1e-4):
        raise Failed("the outputs are not those of its layer")


@check(points=4)
def run_is_own(evidence: Evidence) -> None:
    """run.safetensors is the whole training of your own network."""
    examine(evidence.recording("run"), own(evidence.student))


@check(points=1)
def three_iterations(evidence: Evidence) -> None:
    """The timeline shows three iterations in which history grew."""
    failure = Failed("no timeline shows iteration 1 to iteration 3 with a history that grew")
    for timeline in evidence.timelines():
        steps = [step for step in timeline.steps if step.source.startswith("iteration ")]
        grew = [{change.name for change in (*step.appeared, *step.changed)} for step in steps]
        if [step.source for step in steps] == [f"iteration {k}" for k in (1, 2, 3)] and all(
            "history" in n for n in grew
        ):
            return
    raise failure


QUESTIONS = {
    "number": Question("number", "A number", (number_is_right,)),
    "softsign": Question("softsign", "A function", (softsign_values, softsign_shapes)),
    "build": Question("build", "A network", (build_outputs,)),
    "run": Question("run", "A training", (run_is_own,)),
    "timeline": Question("timeline", "A timeline", (three_iterations,)),
}
