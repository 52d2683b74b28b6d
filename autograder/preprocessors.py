"""The grader as nbgrader's own steps, so that `nbgrader autograde` and formgrader's button grade as `autograder grade`.

In nbgrader_config.py `MendCells` comes first of the sanitising steps, `GradeFromEvidence` takes the place of Execute
and `SaveEvidenceGrades` that of SaveAutoGrades. nbgrader writes the marks, from what these steps put in the test cells.
"""

import atexit
import functools
import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat.v4
from nbgrader.preprocessors import Execute, NbGraderPreprocessor, SaveAutoGrades
from nbgrader.utils import is_grade, is_solution
from traitlets import Float, Integer

from autograder import marking, mending, questionnaire, results, showing
from autograder.limits import Limits
from autograder.marking import Task
from autograder.outputs import Output
from autograder.results import Outputs, QuestionResult, Result
from autograder.workers import Nursery, open_workers

# typed by its package, but not its functions
_node: Any = nbformat.from_dict
_markdown: Any = nbformat.v4.new_markdown_cell

# what `grading` has already found out, by assignment and student
_GIVEN: dict[tuple[str, str], tuple[Result, Outputs]] = {}
MOST_REMARKS = 8  # that a student reads
TAG = re.compile(r"<(?=[A-Za-z/!?])")  # what HTML takes for the beginning of a tag
# [text](place), [name]: place; a place is written in many ways, so only these few count as pages
LINK = r"\]([(:])(?!\s*(?:%shttps?://|mailto:|#))"
FORMULA_LINK = re.compile(r"\\href(?![A-Za-z])")
# where a formula begins, and nbgrader's pages look for its end
FORMULA = re.compile(r"\\(?=begin\{|\\[\[(])")
MOST_FORMULAS = 300  # of one cell
MOST_BLANKS = 200  # side by side
BLANKS = re.compile(f"[^\\S\n]{{{MOST_BLANKS},}}")
REMARKS = "autograder-remarks"  # the id of the cell that names what was mended


@contextmanager
def given(result: Result, outputs: Outputs) -> Iterator[None]:
    """Within this, nbgrader writes down this result instead of grading anew."""
    which = (result.assignment, result.student)
    _GIVEN[which] = (result, outputs)
    try:
        yield
    finally:
        del _GIVEN[which]


class MendCells(NbGraderPreprocessor):  # type: ignore[misc]
    """Puts every released cell back in its place, so that no later step stops at a copied or deleted one."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        if not _has_questions(resources):
            return nb, resources
        mended = self._mended(nb, resources)
        for cell in mended["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = harmless(cell["source"], cell.get("attachments", ()))
        return _node(mended), resources

    def _mended(self, nb: Any, resources: Any) -> Any:
        if _which(resources) in _GIVEN:  # whoever gives a result has laid out the notebook in order
            return nb
        mended, remarks = mending.mend(mending.normal(nb), _task(self, resources).released)
        for remark in remarks:
            self.log.info("%s: %s", resources["nbgrader"]["student"], remark)
        return mended


class GradeFromEvidence(NbGraderPreprocessor):  # type: ignore[misc]
    """Fills the notebook with what it did in the grader, and each test cell with the grader's verdicts and points."""

    cell_seconds = Float(30, help="processor time of one cell; the cells below run all the same").tag(config=True)
    call_seconds = Float(10, help="processor time of one call of a student's function").tag(config=True)
    cpu_seconds = Float(240, help="processor time of one submission").tag(config=True)
    memory_gb = Float(3, help="memory of one submission; torch needs 1").tag(config=True)
    disk_gb = Float(2, help="all files that a submission writes").tag(config=True)
    file_gb = Float(0.5, help="the largest of them").tag(config=True)
    processes = Integer(64, help="processes of one submission at the same time").tag(config=True)
    open_files = Integer(256, help="open files of one process").tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        if not _has_questions(resources):
            return self._as_nbgrader_does(nb, resources)
        result, outputs = self._result(resources)
        shown = _as_shown(nb, result)
        for cell in nb.cells:
            if cell.cell_type == "code":
                _fill(cell, shown, outputs)
        nb.cells[:] = [*_remarks(result), *(cell for cell in nb.cells if cell.get("id") != REMARKS)]
        nb.metadata["autograder"] = {"key": result.key, "status": result.status}
        resources["autograder_person"] = {id for id, q in result.questions.items() if q.needs_person}
        return nb, resources

    def _as_nbgrader_does(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """An instructor's own assignment in the same course, whose notebook holds its own tests."""
        self.log.warning(
            "%s has no questions in autograder: its own test cells decide, in the student's process",
            resources["nbgrader"]["assignment"],
        )
        found: tuple[Any, Any] = Execute(parent=self.parent).preprocess(nb, resources)
        return found

    def _result(self, resources: Any) -> tuple[Result, Outputs]:
        which = _which(resources)
        if which in _GIVEN:
            return _GIVEN[which]
        directory = self.parent.parent.coursedir
        folder = Path(directory.format_path(directory.submitted_directory, which[1], which[0]))
        return marking.fetch(_task(self, resources), which[1], folder, _nursery)


class SaveEvidenceGrades(SaveAutoGrades):  # type: ignore[misc]
    """nbgrader's own step, but for the flag for a person: it is set where a check broke or a submission could not be
    graded, and stays what it was where a person marked the very answer that was graded, or gave other points than the
    checks for the same code and the same points of theirs."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        self.person = resources.get("autograder_person", set())
        self.before, self.now = dict[str, str](), dict[str, str]()
        self.code = "\0".join(cell.source for cell in nb.cells if cell.cell_type == "code" and not is_grade(cell))
        if not _has_questions(resources):
            return self._saved(nb, resources)
        which = (Path(self.parent.parent.coursedir.root), *_which(resources))
        self.before = results.load_answers(*which)
        found = self._saved(nb, resources)
        # only once the flags are in the gradebook: who is stopped before it marks an answer twice, and misses none
        results.save_answers(*which, self.now)
        return found

    def _saved(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        found: tuple[Any, Any] = super().preprocess(nb, resources)
        return found

    def _add_score(self, cell: Any, resources: Any) -> None:
        name = _grade_id(cell)
        grade = self.gradebook.find_grade(name, self.notebook_id, self.assignment_id, self.student_id)
        waited = grade.needs_manual_grade
        super()._add_score(cell, resources)
        self.now[name] = _digest(cell.source if _by_hand(cell) else f"{grade.auto_score} {self.code}")
        if name in self.person:
            grade.needs_manual_grade = True
        elif grade.manual_score is not None and self.before.get(name) == self.now[name]:
            grade.needs_manual_grade = waited
        self.gradebook.db.commit()


def limits_of(config: Any) -> Limits:
    """The limits in nbgrader_config.py."""
    chosen = GradeFromEvidence(config=config)
    return Limits(
        cell_seconds=chosen.cell_seconds,
        call_seconds=chosen.call_seconds,
        cpu_seconds=chosen.cpu_seconds,
        data_bytes=int(chosen.memory_gb * 2**30),
        disk_bytes=int(chosen.disk_gb * 2**30),
        file_bytes=int(chosen.file_gb * 2**30),
        processes=chosen.processes,
        open_files=chosen.open_files,
    )


def _which(resources: Any) -> tuple[str, str]:
    return (resources["nbgrader"]["assignment"], resources["nbgrader"]["student"])


def _grade_id(cell: Any) -> str:
    return str(cell.metadata["nbgrader"]["grade_id"])


def _by_hand(cell: Any) -> bool:
    """Is it an answer that a person marks?"""
    return bool(is_grade(cell) and is_solution(cell))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _has_questions(resources: Any) -> bool:
    return resources["nbgrader"]["assignment"] in questionnaire.assignments()


def _task(step: Any, resources: Any) -> Task:
    course, assignment = Path(step.parent.parent.coursedir.root), resources["nbgrader"]["assignment"]
    released = marking.released_notebook(course, assignment)
    # formgrader's server lives for weeks, in which an assignment may be released anew
    written = released.stat().st_mtime_ns if released.is_file() else 0
    return _prepared(course, assignment, limits_of(step.config), written)


@functools.lru_cache(maxsize=4)
def _prepared(course: Path, assignment: str, limits: Limits, _written: int) -> Task:
    return marking.prepare(course, assignment, limits)


@functools.cache
def _nursery() -> Nursery:
    """One warm parent for all submissions of an `nbgrader autograde`."""
    nursery = open_workers()
    atexit.register(nursery.close)
    return nursery


def _as_shown(nb: Any, result: Result) -> dict[str, QuestionResult]:
    """What came of each question, as the page says it from above to below."""
    asked = [id for cell in nb.cells if (id := mending.grade_id(cell)) in result.questions]
    said = showing.said_once((result.questions[id].title, result.questions[id].verdicts) for id in asked)
    return {id: replace(result.questions[id], verdicts=verdicts) for id, verdicts in zip(asked, said, strict=True)}


def _fill(cell: Any, questions: Mapping[str, QuestionResult], outputs: Outputs) -> None:
    id = mending.grade_id(cell)
    if id in questions:
        cell.outputs = [_node(output) for output in verdict_outputs(questions[id])]
        cell.execution_count = None
    else:
        cell.outputs = [_node(output) for output in outputs.cells.get(cell.get("id"), [])]
        cell.execution_count = outputs.numbers.get(cell.get("id"))


def harmless(source: str, attached: Iterable[str] = ()) -> str:
    """Markdown whose tags are shown, not obeyed, and whose links lead to pages: nbgrader's own pages would run a script
    in a student's essay, as a tag or as the place where a link or a formula leads. They would not be made at all where
    a picture is not `attached`, and not in hours where formulas without an end or endless blanks stand."""
    names = "|".join(map(re.escape, attached))
    link = re.compile(LINK % (rf"attachment:(?:{names})(?=[\s)]|$)|" if names else ""))
    source = FORMULA_LINK.sub(r"\\text", link.sub(r"]\\\1", TAG.sub("&lt;", BLANKS.sub(" " * MOST_BLANKS, source))))
    return FORMULA.sub("&#92;", source) if len(FORMULA.findall(source)) > MOST_FORMULAS else source


def verdict_outputs(result: QuestionResult) -> list[Output]:
    """What stands under a test cell: the verdicts to read, and the points as the number that nbgrader takes."""
    said = (result.title, result.verdicts, result.of, result.note)
    page, text = showing.as_html(*said), showing.as_text(*said)
    # nbgrader gives full marks for anything but a number from 0 to the cell's points
    number = repr(min(max(float(result.points), 0.0), float(result.of)))
    return [
        {"output_type": "display_data", "data": {"text/html": page, "text/plain": text}, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/plain": number}, "metadata": {}, "execution_count": None},
    ]


def _remarks(result: Result) -> list[Any]:
    """A cell at the top that names what was found odd; none when nothing was."""
    said = [*result.remarks, *([f"Not graded: {result.reason}."] if result.status == "refused" else [])]
    said += [f"The notebook did not run to its end: {result.ended}."] if result.ended else []
    if not said:
        return []
    if len(said) > MOST_REMARKS:
        said = [*said[:MOST_REMARKS], f"And {len(said) - MOST_REMARKS} more of this kind."]
    items = "".join(f"<li>{html.escape(showing.one_line(remark))}</li>" for remark in said)
    return [_markdown(f"<div><strong>Remarks of the grader</strong><ul>{items}</ul></div>", id=REMARKS)]
