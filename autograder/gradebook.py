"""The one door to nbgrader: its database, its converters, its settings. nbgrader takes seconds to import: only here.

Marks are written by nbgrader itself, from notebooks that `preprocessors` filled; manual marks and comments in the
gradebook stay what they are, and late penalties are nbgrader's own, computed anew where a person has marked since.
"""

import logging
import math
import os
import re
import sys
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

CONFIG = "nbgrader_config.py"
PATIENCE = 30  # seconds that another program, a formgrader, may keep SQLite's file locked
# twice a third of what nbgrader does to a notebook; whatever `grading` lays out was mended, and has valid metadata
CHECK = "nbgrader.preprocessors.CheckCellMetadata"
SO_FAR = "autograder.unmarked.GetGradesSoFar"  # in the place of nbgrader's GetGrades, whatever the settings say


class GradebookError(Exception):
    """The gradebook lacks something, or nbgrader refused; one sentence with what to do."""


class UnusableError(GradebookError):
    """The database itself cannot be read or written; no submission has part in that."""


@dataclass(frozen=True)
class CellScore:
    """One graded cell of one student, as the gradebook has it."""

    kind: Literal["test", "essay", "task"]
    score: float  # the one that counts: a person's, else the checks'
    max_score: float
    auto: float | None  # from the checks
    manual: float | None  # from a person
    needs_person: bool


@dataclass(frozen=True)
class StudentScore:
    """One student's submission, as the gradebook has it."""

    student: str
    score: float  # late penalty not taken off
    max_score: float
    late_penalty: float
    cells: dict[str, CellScore]  # by grade id
    comments: Mapping[str, str] = field(default_factory=dict)  # a person's, by grade id of the answer

    @property
    def needs_person(self) -> bool:
        return any(cell.needs_person for cell in self.cells.values())


def settings(course: Path) -> Any:
    """The course's nbgrader_config.py, as traitlets has it; what it names may be a module beside it."""
    from traitlets.config.loader import Config, PyFileConfigLoader

    if not (course / CONFIG).is_file():
        raise GradebookError(f"{course} is no course, {CONFIG} is missing: make one with `autograder init`")
    # nbgrader's commands do so with the folder they are started in; here nothing in it hides what is installed
    if str(course.absolute()) not in sys.path:
        sys.path.append(str(course.absolute()))
    loaded: Config = PyFileConfigLoader(CONFIG, path=str(course)).load_config()
    return loaded


def scores(course: Path, assignment: str) -> list[StudentScore]:
    """Every submission's marks, by student; `GradebookError` when the assignment is not in the gradebook.

    Asked for the whole class at once: nbgrader's own properties ask the database again for every figure of every
    student, and some of them look through everybody's.
    """
    from nbgrader import api

    with _open(course) as gradebook:
        which = _assignment(gradebook, assignment)
        of_class = gradebook.db.query(api.SubmittedAssignment.student_id).filter_by(assignment_id=which.id)
        notebooks = of_class.join(
            api.SubmittedNotebook, api.SubmittedNotebook.assignment_id == api.SubmittedAssignment.id
        )
        penalties: dict[str, float] = {}
        for student, penalty in notebooks.add_columns(api.SubmittedNotebook.late_submission_penalty):
            penalties[student] = penalties.get(student, 0.0) + float(penalty or 0)
        cells, comments = _cells_of(notebooks), _comments_of(notebooks)
        return [
            StudentScore(
                student,
                math.fsum(cell.score for cell in cells[student].values()),
                float(which.max_score),
                penalties.get(student, 0.0),
                cells[student],
                comments[student],
            )
            for (student,) in sorted(of_class)
        ]


def _cells_of(notebooks: Any) -> dict[str, dict[str, CellScore]]:
    """Every graded cell of the students of a query over submitted notebooks."""
    from nbgrader import api

    test = api.GradeCell.__table__
    rows = (
        notebooks.join(api.Grade, api.Grade.notebook_id == api.SubmittedNotebook.id)
        .join(api.BaseCell.__table__, api.BaseCell.__table__.c.id == api.Grade.cell_id)
        .outerjoin(test, test.c.id == api.Grade.cell_id)
        .add_columns(api.BaseCell.__table__.c.name, api.BaseCell.__table__.c.type, test.c.cell_type)
        .add_columns(api.Grade.score, api.Grade.max_score, api.Grade.auto_score, api.Grade.manual_score)
        .add_columns(api.Grade.needs_manual_grade)
    )
    found: dict[str, dict[str, CellScore]] = defaultdict(dict)
    for student, name, type_, cell_type, score, most, auto, manual, needs in rows:
        written: Literal["test", "essay"] = "essay" if cell_type == "markdown" else "test"
        kind: Literal["test", "essay", "task"] = "task" if type_ == "TaskCell" else written
        found[student][name] = CellScore(kind, float(score), float(most), auto, manual, bool(needs))
    return found


def _comments_of(notebooks: Any) -> dict[str, dict[str, str]]:
    """What persons wrote about each answer of these students."""
    from nbgrader import api

    cell = api.BaseCell.__table__
    rows = (
        notebooks.join(api.Comment, api.Comment.notebook_id == api.SubmittedNotebook.id)
        .join(cell, cell.c.id == api.Comment.cell_id)
        .add_columns(cell.c.name, api.Comment.manual_comment)
    )
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for student, name, said in rows:
        if said:
            found[student][name] = str(said)
    return found


def recorded(course: Path, assignment: str) -> set[str]:
    """The students whose submissions the gradebook has; `GradebookError` without the assignment."""
    from nbgrader.api import SubmittedAssignment

    with _open(course) as gradebook:
        found = gradebook.db.query(SubmittedAssignment.student_id).filter_by(
            assignment_id=_assignment(gradebook, assignment).id
        )
        return {student for (student,) in found}


def late(course: Path, assignment: str) -> set[str]:
    """Who handed in late or has a penalty: what is taken off follows from a score that a person may change."""
    from nbgrader.api import SubmittedAssignment, SubmittedNotebook

    with _open(course) as gradebook:
        which = _assignment(gradebook, assignment)
        of_class = gradebook.db.query(SubmittedAssignment.student_id).filter_by(assignment_id=which.id)
        notebooks = of_class.join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        found = {student for (student,) in notebooks.filter(SubmittedNotebook.late_submission_penalty > 0)}
        handed_in = of_class.add_columns(SubmittedAssignment.timestamp, SubmittedAssignment.extension)
        return found | {
            student
            for student, when, extension in handed_in
            if which.duedate and when and when > which.duedate + (extension or timedelta())
        }


def max_scores(course: Path, assignment: str) -> dict[str, float]:
    """The points of every graded cell, by grade id."""
    with _open(course) as gradebook:
        cells = [cell for notebook in _assignment(gradebook, assignment).notebooks for cell in _graded(notebook)]
        return {cell.name: float(cell.max_score) for cell in cells}


def _graded(notebook: Any) -> list[Any]:
    return [*notebook.grade_cells, *notebook.task_cells]


def _assignment(gradebook: Any, assignment: str) -> Any:
    from nbgrader.api import MissingEntry

    try:
        return gradebook.find_assignment(assignment)
    except MissingEntry:
        known = ", ".join(sorted(one.name for one in gradebook.assignments)) or "none"
        raise GradebookError(
            f"the gradebook has no assignment {assignment} (it has: {known}): release it "
            f"first with `autograder release {assignment}`"
        ) from None


@contextmanager
def _open(course: Path) -> Iterator[Any]:
    from nbgrader.api import Gradebook

    directory = _directory(course.absolute())
    with _usable(directory), environment_on_path(), Gradebook(directory.db_url, directory.course_id) as gradebook:
        yield gradebook


@contextmanager
def _usable(directory: Any) -> Iterator[None]:
    """Within this, what the database refuses is an `UnusableError`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        raise UnusableError(_unusable(directory.db_url, str(error).split("\n", 1)[0])) from error


def _unusable(url: str, said: str) -> str:
    """Why a database refused, and what to do; the password in its address is nobody's to read."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return f"CourseDirectory.db_url in {CONFIG} is no address of a database: sqlite:///gradebook.db is one"
    if "locked" in said:
        return f"the gradebook {url} is locked by another program: end that (a formgrader, a backup?), then grade again"
    if re.search(r"no such (table|column)|has no column|does not exist", said):
        return (
            f"the gradebook {url} was made by an older nbgrader ({said[:100]}): run `nbgrader db upgrade` in the "
            "course directory, which copies it first"
        )
    if "readonly" in said or "unable to open" in said:
        return f"the gradebook {url} cannot be written ({said[:100]}): see to the rights of it and of its folder"
    return f"the gradebook {url} cannot be used: {said[:200]}"


@contextmanager
def _quietly() -> Iterator[None]:
    """nbgrader makes SQLAlchemy warn at every new submission, of nothing that an instructor could change."""
    from sqlalchemy.exc import SAWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=SAWarning, module="nbgrader")
        yield


def _directory(course: Path, **which: str) -> Any:
    from nbgrader.coursedir import CourseDirectory

    directory: Any = CourseDirectory(config=settings(course), root=str(course), **which)
    if directory.db_url.startswith("sqlite:///") and "?" not in directory.db_url:
        directory.db_url += f"?timeout={PATIENCE}"
    return directory


class Writer:
    """Writes one student after another into a course's gradebook; what all of them need is made once."""

    def __init__(self, course: Path) -> None:
        from autograder.keeping import Keeper

        self._course, self._config, self._keeper = course, settings(course), Keeper()
        for phase in ("sanitize_preprocessors", "autograde_preprocessors"):
            if isinstance(steps := self._config.Autograde.get(phase), list):
                self._config.Autograde[phase] = [step for step in steps if step != CHECK]

    def autograde(self, assignment: str, student: str, submitted: str) -> None:
        """nbgrader's own autograde of a student, over the course's folder `submitted`: gradebook and autograded/."""
        from nbgrader.converters import Autograde

        from autograder.keeping import PlainExporter

        which = {"assignment_id": assignment, "student_id": student, "submitted_directory": submitted}
        with self._keeper.student():
            _convert(partial(Autograde, exporter_class=PlainExporter), self._course, self._config, **which)

    def penalise(self, assignment: str, student: str) -> None:
        """nbgrader's late penalty anew, of the score as it is now; nothing where the course has no such step."""
        from nbformat.v4 import new_notebook
        from nbgrader.preprocessors import AssignLatePenalties

        steps = self._config.Autograde.get("autograde_preprocessors")
        if isinstance(steps, list) and not any(AssignLatePenalties.__name__ in str(step) for step in steps):
            return
        directory = _directory(self._course)
        which = {"assignment": assignment, "notebook": assignment, "student": student, "db_url": directory.db_url}
        # it warns of everybody who is late
        step = AssignLatePenalties(config=self._config, log=logging.Logger("penalties", logging.CRITICAL))
        with _usable(directory), environment_on_path(), _quietly(), self._keeper.student():
            step(new_notebook(), {"nbgrader": which})


def feedback(course: Path, assignment: str, student: str) -> Path:
    """nbgrader's feedback page of one student, which says what is not marked yet."""
    directory = _convert(_pages_so_far, course, settings(course), assignment_id=assignment, student_id=student)
    return Path(directory.format_path(directory.feedback_directory, student, assignment)) / f"{assignment}.html"


def _pages_so_far(**which: Any) -> Any:
    """nbgrader's converter with our step in it, also in a course whose settings are older than that."""
    from nbgrader.converters import GenerateFeedback

    converter = GenerateFeedback(**which)
    names = [getattr(step, "__name__", str(step)).rpartition(".")[-1] for step in converter.preprocessors]
    steps = zip(names, converter.preprocessors, strict=True)
    converter.preprocessors = [SO_FAR if name == "GetGrades" else step for name, step in steps]
    return converter


def autograded(course: Path, assignment: str, student: str) -> Path:
    """Where nbgrader keeps a student's graded notebook."""
    directory = _directory(course)
    return Path(directory.format_path(directory.autograded_directory, student, assignment)) / f"{assignment}.ipynb"


def _convert(converter: Any, course: Path, config: Any, **which: str) -> Any:
    from nbgrader.utils import capture_log

    directory = _directory(course.absolute(), **which)
    with environment_on_path(), _quietly():
        # the settings once more: the converter's own, its preprocessors' and its exporter's
        result = capture_log(converter(coursedir=directory, config=config, force=True))
    if not result["success"]:
        if "KeyboardInterrupt" in result["error"]:
            raise KeyboardInterrupt
        cause = first_cause(result)
        if "OperationalError" in result.get("log", "") + result["error"]:
            raise UnusableError(_unusable(directory.db_url, cause))
        if cause.startswith("No student with ID"):
            cause += f": `nbgrader db student add {which['student_id']}` puts them on the roster"
        raise GradebookError(f"nbgrader stopped at {which['student_id']}: {cause}")
    return directory


def first_cause(result: dict[str, Any]) -> str:
    """Why a converter of nbgrader failed: nbgrader logs its traceback, then raises another error that points to it."""
    raised = re.findall(r"^\s*[\w.]*(?:Error|Exception|Exit): (.+)$", result.get("log", ""), re.MULTILINE)
    return str(raised[-1] if raised else result["error"].strip().rsplit("\n", 1)[-1])[:500]


@contextmanager
def environment_on_path() -> Iterator[None]:
    """nbgrader starts `alembic` by its name, also where the environment was not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
