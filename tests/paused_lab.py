"""The toy of `toy_lab` graded by recorded answers alone, at a pace that leaves time to break something meanwhile."""

import json
import os
import signal
import time
from pathlib import Path

import toy_lab

from autograder import journal, questionnaire
from autograder.checks import Failed, Question, check
from autograder.evidence import Evidence

PAUSE = "PAUSED_LAB_SECONDS"  # environment variable: how long the check takes
DEADLY = "end the grader"


@check(points=1)
def number_is_42(evidence: Evidence) -> None:
    """number is 42."""
    time.sleep(float(os.environ.get(PAUSE, "0")))
    found = evidence.value("number")
    if found == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    if found == "break the check":
        raise TypeError("a mistake in the check")
    if found != 42:
        raise Failed(f"number is {found!r}, expected is 42")


def register() -> None:
    """Ask this in place of what `toy_lab` asks; until the end of the module of tests that calls it."""
    questionnaire.register("toy", {**toy_lab.QUESTIONS, "number": Question("number", "A number", (number_is_42,))})


def make_course(root: Path) -> Path:
    """A course of this process and of all that read its settings."""
    course = toy_lab.make_course(root)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("import paused_lab\npaused_lab.register()\n")
    register()
    return course


def hand_in(course: Path, student: str, number: object) -> None:
    """Solved, and noted what the number was."""
    folder = toy_lab.hand_in(course, student, toy_lab.solved(course))
    said = {"format": journal.FORMAT, "answers": {"number": {"value": number}}}
    (folder / journal.FILE).write_text(json.dumps(said))


def hand_in_all(course: Path, students: int) -> list[str]:
    """A class in which some are right, some wrong, one broke the check, one handed in no notebook."""
    names = [f"s{k:02}" for k in range(students)]
    for k, name in enumerate(names):
        hand_in(course, name, 42 if k % 3 else k)
    hand_in(course, names[1], "break the check")
    (course / "submitted" / names[2] / "toy" / "toy.ipynb").unlink()
    return names
