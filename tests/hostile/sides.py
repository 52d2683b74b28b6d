"""The two graders that are compared: nbgrader's own autograde as it comes, and the grader of this package.

Each grades the same assignment with an honest student who was graded before (ada, whose essay a person has marked) and
one who is graded in the same run (zoe). Each runs in a process of its own, under a keeper.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

from hostile.lab import ASSIGNMENT, ESSAY, EXPECTED, SOURCE
from hostile.outside import VARIABLE, Outside
from hostile.work import NOTEBOOK, Work

TESTS = Path(__file__).parents[1]
EARLIER, NEIGHBOUR = "ada", "zoe"
ESSAY_MARK = 1.5
LIMITS = """
import sys
from pathlib import Path
sys.path.append({tests!r})
from hostile import lab
lab.register(Path({course!r}))
c.GradeFromEvidence.cell_seconds = 3
c.GradeFromEvidence.call_seconds = 1
c.GradeFromEvidence.cpu_seconds = 7
c.GradeFromEvidence.memory_gb = 1.5
"""

Name = Literal["ours", "nbgrader"]


@dataclass(frozen=True)
class Ended:
    """What a grading said of itself, and what it left running."""

    code: int | None  # None: it did not end in time
    survivors: tuple[str, ...]
    outcomes: Mapping[str, tuple[str, str, float]]  # status, reason and score by student, where the grader gives them
    terminal: str  # what the instructor reads there


# Courses


def make_course(side: Name, root: Path, canaries: Mapping[str, str]) -> Path:
    """A course in which the assignment is released, ada was graded, and zoe has handed in."""
    root.mkdir(parents=True)
    (root / f"{ASSIGNMENT}.py").write_text(Template(SOURCE).safe_substitute(canaries))
    (root / EXPECTED).write_text(json.dumps({"number": 338350, "note": canaries["checks"]}))
    _release_as_ours(root) if side == "ours" else _release_as_nbgrader(root)
    with Outside(root.parent / f"{side}-outside", root, canaries) as outside:
        for student in (EARLIER, NEIGHBOUR):
            work = Work(student, released(root), outside)
            work.answer(**{ESSAY: f"Because slopes are multiplied. {canaries['classmate']}"})
            work.files["notes.txt"] = canaries["classmate"].encode()
            work.write(root / "submitted" / student / ASSIGNMENT)
        grade(side, root, outside, [EARLIER])
    _mark_by_hand(root, canaries["gradebook"])
    return root


def copied(template: Path, course: Path) -> Path:
    """The same course at another place, whose settings know that place."""
    shutil.copytree(template, course)
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text().replace(str(template), str(course)))
    return course


def _release_as_ours(root: Path) -> None:
    from autograder import course as courses

    shutil.copy(courses.assignments_home() / "nbgrader_config.py", root)
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(LIMITS.format(tests=str(TESTS), course=str(root)))
    courses.release(root, ASSIGNMENT)


def _release_as_nbgrader(root: Path) -> None:
    from autograder.authoring import build

    build(root / f"{ASSIGNMENT}.py")
    # no setting but the defaults
    (root / "nbgrader_config.py").write_text("c = get_config()\n")
    command = ["nbgrader", "generate_assignment", ASSIGNMENT]
    subprocess.run(command, cwd=root, env=_environment(), check=True, capture_output=True)


def released(course: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((course / "release" / ASSIGNMENT / NOTEBOOK).read_text())
    return found


def _mark_by_hand(course: Path, canary: str) -> None:
    """ada's essay gets its mark and a comment, as in formgrader."""
    with closing(sqlite3.connect(course / "gradebook.db")) as book, book:
        book.execute("UPDATE student SET last_name = ?", (canary,))
        essay = "cell_id IN (SELECT id FROM base_cell WHERE name = ?)"
        book.execute(f"UPDATE grade SET manual_score = ?, needs_manual_grade = 0 WHERE {essay}", (ESSAY_MARK, ESSAY))
        book.execute(f"UPDATE comment SET manual_comment = ? WHERE {essay}", (canary, ESSAY))


# Grading


def grade(
    side: Name,
    course: Path,
    outside: Outside,
    students: Sequence[str] = (),
    pages: Sequence[str] = (),
    seconds: float = 400,
) -> Ended:
    """Grade what lies in submitted/, by default everybody's; for the students in `pages` make feedback and reports."""
    report, said = outside.root / "ended.json", outside.root / "outcomes.json"
    command = _ours(course, students, pages, said) if side == "ours" else _theirs(students, pages)
    environment = _environment() | {VARIABLE: outside.canaries["environment"]}
    with (outside.root / "terminal.txt").open("wb") as terminal:
        subprocess.run(
            [sys.executable, "-P", "-m", "hostile.keeper", str(report), str(seconds), *command],
            cwd=course, env=environment, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    ended = json.loads(report.read_text()) if report.is_file() else {"code": None, "survivors": []}
    told = json.loads(said.read_text()) if said.is_file() else {}
    outcomes = {student: (status, reason, score) for student, status, reason, score in told.get("outcomes", [])}
    return Ended(ended["code"], tuple(ended["survivors"]), outcomes, told.get("terminal", ""))


def _environment() -> dict[str, str]:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}


def _ours(course: Path, students: Sequence[str], pages: Sequence[str], said: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "hostile.ours", str(course), str(said), json.dumps(pages), *students]


def _theirs(students: Sequence[str], pages: Sequence[str]) -> list[str]:
    chosen = " --student " + " ".join(students) if students else ""
    further = f"; nbgrader generate_feedback {ASSIGNMENT}" if pages else ""
    return ["sh", "-c", f"nbgrader autograde {ASSIGNMENT}{chosen}; code=$?{further}; exit $code"]


# What is in the gradebook

MARKS = """
SELECT submitted_assignment.student_id, base_cell.name, coalesce(grade.manual_score, grade.auto_score),
       coalesce(grade_cells.max_score, 0), grade.extra_credit, comment.manual_comment
FROM grade
JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
JOIN base_cell ON base_cell.id = grade.cell_id
JOIN grade_cells ON grade_cells.id = base_cell.id
LEFT JOIN base_cell AS answer ON answer.name = base_cell.name AND answer.notebook_id = base_cell.notebook_id
    AND answer.type = 'SolutionCell'
LEFT JOIN comment ON comment.cell_id = answer.id AND comment.notebook_id = grade.notebook_id
"""


@dataclass(frozen=True)
class Mark:
    """One cell of one student in the gradebook. Read by SQL, not by what is examined here."""

    score: float | None  # a person's, else the grader's
    of: float
    extra: float | None
    comment: str | None


def marks(course: Path) -> dict[str, dict[str, Mark]]:
    """By student and grade id; nothing where the gradebook cannot be read."""
    found: dict[str, dict[str, Mark]] = {}
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(course / "gradebook.db", timeout=5)) as book:
        for student, cell, *rest in book.execute(MARKS):
            found.setdefault(student, {})[cell] = Mark(*rest)
    return found
