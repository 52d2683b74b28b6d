"""Grades a course as an instructor would have it, in a process of its own.

    python -m hostile.ours COURSE REPORT PAGES [STUDENT...]

PAGES is a list of students as JSON: those whose feedback is looked at.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

from autograder import gradebook, grading
from autograder.cli import main as autograder
from autograder.gradebook import GradebookError
from hostile.lab import ASSIGNMENT, register


def main(course: str, report: str, pages: str, *students: str) -> None:
    place = Path(course)
    register(place)
    outcomes = grading.grade(place, ASSIGNMENT, list(students) or None, jobs=2, progress=False)
    terminal = _pages(place, json.loads(pages))
    told = [(one.student, one.status, one.reason, one.score) for one in outcomes]
    Path(report).write_text(json.dumps({"outcomes": told, "terminal": terminal}))


def _pages(course: Path, students: Sequence[str]) -> str:
    """What an instructor makes afterwards; what stands on the terminal meanwhile."""
    if not students:
        return ""
    for student in students:
        with contextlib.suppress(GradebookError):  # of whom nbgrader cannot even store a name
            gradebook.feedback(course, ASSIGNMENT, student)
    commands = ([name, ASSIGNMENT, "--course", str(course)] for name in ("grade", "report", "export"))
    return "".join(CliRunner().invoke(autograder, command).output for command in commands)


if __name__ == "__main__":
    main(*sys.argv[1:])
