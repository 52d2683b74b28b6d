"""The rubric beside the answer in formgrader: what the instructor's own notebook has where the student's words stand.

nbgrader shows whoever marks an essay the student's text alone. This is a step of the pages that formgrader makes, named
in nbgrader_config.py; feedback and every other page that is made of a notebook pass through it unchanged.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat
import nbformat.v4
from nbconvert.preprocessors import Preprocessor
from nbgrader.coursedir import CourseDirectory

PAGE = "formgrade"  # the template of formgrader's page of a submission, and of nothing that a student sees
REGION = re.compile(r"^[^\n]*BEGIN SOLUTION[^\n]*\n(.*?)^[^\n]*END SOLUTION[^\n]*$", re.MULTILINE | re.DOTALL)
HEADING = "**For the answer below, the instructor's notebook has:**"

_markdown: Any = nbformat.v4.new_markdown_cell  # typed by its package, but not its functions


class ShowRubrics(Preprocessor):
    """Puts the rubric in front of each answer that a person marks, on formgrader's page of a submission."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook with one more cell for each rubric; `resources` are formgrader's."""
        if getattr(self.parent, "template_name", "") == PAGE and "submission_id" in resources:
            found = self._rubrics(resources)
            nb.cells = [shown for cell in nb.cells for shown in (*_before(cell, found), cell)]
        return nb, resources

    def _rubrics(self, resources: Any) -> dict[str, str]:
        source = self._source(resources)
        try:
            return rubrics(nbformat.read(source, as_version=4))
        except Exception as error:  # whatever is wrong with that notebook: the answer is to be marked all the same
            self.log.warning("no rubric is shown: %s could not be read (%s)", source, error)
            return {}

    def _source(self, resources: Any) -> Path:
        """The instructor's notebook: in the course that holds the page's, wherever formgrader's server began."""
        assignment, graded = resources["assignment_id"], Path(resources["metadata"]["path"])
        directory = CourseDirectory(config=self.config)
        which = {"student_id": resources["student"], "assignment_id": assignment}
        inside = Path(directory.directory_structure.format(nbgrader_step=directory.autograded_directory, **which))
        directory.root = str(graded.parents[len(inside.parts) - 1])
        folder = directory.format_path(directory.source_directory, ".", assignment)
        return Path(folder) / f"{resources['notebook_id']}.ipynb"


def rubrics(source: Any) -> dict[str, str]:
    """What stands between the marks of a solution, by grade id, for each cell that a person marks."""
    found = {}
    for cell in source.cells:
        if (name := _marked_by_hand(cell)) and (text := "\n".join(map(dedent, REGION.findall(cell.source))).strip()):
            found[name] = text if cell.cell_type == "markdown" else f"```python\n{text}\n```"
    return found


def _marked_by_hand(cell: Any) -> str:
    """The grade id of an answer that a person marks; empty for every other cell, whatever its metadata are."""
    about = cell.metadata.get("nbgrader")
    by_hand = isinstance(about, dict) and about.get("solution") and about.get("grade")
    return str(about.get("grade_id", "")) if by_hand else ""


def _before(cell: Any, found: dict[str, str]) -> list[Any]:
    text = found.get(_marked_by_hand(cell))
    return [] if text is None else [_markdown("\n".join(f"> {line}" for line in f"{HEADING}\n\n{text}".split("\n")))]
