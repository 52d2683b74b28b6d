"""nbgrader's gradebook, opened once for a class.

Each of nbgrader's steps opens the gradebook for itself, nine times for every student: an engine that has compiled no
statement yet, every table looked for, a query for every cell and a commit after it. Here they are all given the same
one. Its engine keeps what it compiled, a notebook's cells are asked for together, and what a step writes is committed
at the step's end: whole, or not at all. Between two steps no connection is held.

nbconvert copies the notebook before the steps and validates it after every one; here it is validated where it becomes
what it is to be, and at the end.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader import api
from nbgrader.api import Gradebook
from nbgrader.converters import autograde
from nbgrader.preprocessors import latesubmissions, overwritecells, overwritekernelspec, saveautogrades
from sqlalchemy.orm import Session, scoped_session, sessionmaker

# whatever of nbgrader's autograde opens a gradebook, under this name
STEPS = (autograde, overwritekernelspec, overwritecells, saveautogrades, latesubmissions)


class _Step(Session):
    """Commits once: what nbgrader asks of it in between is seen by its own queries alone."""

    def commit(self) -> None:
        pass

    def end(self) -> None:
        super().commit()


class KeptGradebook(Gradebook):  # type: ignore[misc]
    """A gradebook that many steps use, one after another, each as if it alone had opened it."""

    def __init__(self, url: str, course_id: str) -> None:
        super().__init__(url, course_id)
        self.close()
        self.db = scoped_session(sessionmaker(self.engine, class_=_Step, autoflush=True, future=True))
        self._courses = {course_id}

    def for_step(self, course_id: str) -> "KeptGradebook":
        """As `Gradebook(url, course_id)` is, which sees to it that there is such a course."""
        if course_id not in self._courses:
            self.check_course(course_id)
            self._courses.add(course_id)
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: Any) -> None:
        try:
            if raised is None:
                self.db().end()
        finally:
            self.close()

    def find_source_cell(self, name: str, notebook: str, assignment: str) -> Any:
        found = self._cells(api.SourceCell, notebook, assignment)
        return found[name] if name in found else super().find_source_cell(name, notebook, assignment)

    def find_graded_cell(self, name: str, notebook: str, assignment: str) -> Any:
        found = self._cells(api.GradeCell, notebook, assignment)
        return found[name] if name in found else super().find_graded_cell(name, notebook, assignment)

    def find_grade(self, grade_cell: str, notebook: str, assignment: str, student: str) -> Any:
        found = self._of_student(api.Grade, notebook, assignment, student)
        return (
            found[grade_cell] if grade_cell in found else super().find_grade(grade_cell, notebook, assignment, student)
        )

    def find_comment(self, solution_cell: str, notebook: str, assignment: str, student: str) -> Any:
        found = self._of_student(api.Comment, notebook, assignment, student)
        return (
            found[solution_cell]
            if solution_cell in found
            else super().find_comment(solution_cell, notebook, assignment, student)
        )

    def _cells(self, kind: Any, notebook: str, assignment: str) -> Any:
        """A notebook's cells of a kind, by name, for as long as the step's session lasts."""
        asked = self.db().info
        if (kind, notebook, assignment) not in asked:
            found = (
                self.db.query(kind.name, kind)
                .join(api.Notebook, api.Notebook.id == kind.notebook_id)
                .join(api.Assignment, api.Assignment.id == api.Notebook.assignment_id)
                .filter(api.Notebook.name == notebook, api.Assignment.name == assignment)
            )
            asked[kind, notebook, assignment] = dict(map(tuple, found))
        return asked[kind, notebook, assignment]

    def _of_student(self, kind: Any, notebook: str, assignment: str, student: str) -> Any:
        """A student's grades or comments in a notebook, by their cells' names, for as long as the session lasts."""
        asked = self.db().info
        if (kind, notebook, assignment, student) not in asked:
            asked[kind, notebook, assignment, student] = self._rows(kind, notebook, assignment, student)
        return asked[kind, notebook, assignment, student]

    def _rows(self, kind: Any, notebook: str, assignment: str, student: str) -> dict[str, Any]:
        try:
            mine = self.find_submission_notebook(notebook, assignment, student)
        except api.MissingEntry:
            return {}
        cells = self.db.query(api.BaseCell.id, api.BaseCell.name).filter_by(notebook_id=mine.notebook_id)
        names = dict(map(tuple, cells))
        # the only index over these tables begins with the cell: without it the whole class's rows would be read
        found = self.db.query(kind).filter(kind.cell_id.in_(names), kind.notebook_id == mine.id)
        return {names[one.cell_id]: one for one in found}


class PlainExporter(NotebookExporter):
    """Takes a notebook that was just read, and belongs to nobody else, through the steps."""

    def _preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        # the first step puts cells in order or fills them, and marks are stored only after it
        for number, step in enumerate(self._preprocessors):
            nb, resources = step(nb, resources)
            if number in (0, len(self._preprocessors) - 1):
                nbformat.validate(nb, relax_add_props=True)
        return nb, resources


class Keeper:
    """Opens a class's gradebook when the first step asks for it, and anew after something went wrong."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptGradebook] = {}

    @contextlib.contextmanager
    def student(self) -> Iterator[None]:
        """Within this, nbgrader's steps are given the kept gradebook."""
        try:
            with contextlib.ExitStack() as names:
                for step in STEPS:
                    names.enter_context(mock.patch.object(step, "Gradebook", self._open))
                yield
        except BaseException:
            self._kept.clear()
            raise

    def _open(self, url: str, course_id: str = "default_course") -> KeptGradebook:
        if url not in self._kept:
            self._kept[url] = KeptGradebook(url, course_id)
        return self._kept[url].for_step(course_id)
