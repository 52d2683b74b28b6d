"""A cell of an assignment, what it is for nbgrader, and what holds for it wherever it was written."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME_RULE = "letters, digits and _, no digit first"
# nbformat 4.5 allows no longer cell id
LONGEST_ID = 64
# nbgrader's own words; the simulated class and the checks know an untouched answer by them
CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
STUB_RAISES = re.findall(r"raise (\w+)", CODE_STUB)[0]  # where an untouched answer is called


class AuthoringError(ValueError):
    """A source or a notebook that cannot be carried over; one sentence that names the cell."""


@dataclass(frozen=True)
class Kind:
    """What a key of the header means to nbgrader."""

    types: tuple[str, ...]  # of the cell
    grade: bool = False
    solution: bool = False
    locked: bool = False
    task: bool = False
    prefix: str = ""  # of the grade id

    @property
    def has_points(self) -> bool:
        return self.grade or self.task


KINDS = {
    "fixed": Kind(("code", "markdown"), locked=True),
    "answer": Kind(("code",), solution=True),
    "test": Kind(("code",), grade=True, locked=True, prefix="test_"),
    "essay": Kind(("markdown",), grade=True, solution=True),
    "task": Kind(("markdown",), locked=True, task=True),
}
# nbgrader's regions and the only kinds in which it allows them
REGIONS = {"SOLUTION": ("answer", "essay"), "HIDDEN TESTS": ("test",), "MARK SCHEME": ("task",)}


@dataclass(frozen=True)
class Cell:
    """One cell without its spelling: the same from the text and from the notebook."""

    type: str  # code or markdown
    source: str
    key: str | None = None  # a key of KINDS, "id", or None for a cell without a name
    name: str = ""
    points: float | None = None

    @property
    def kind(self) -> Kind | None:
        return KINDS.get(self.key or "")

    @property
    def id(self) -> str:
        """The grade id or the name that the author gave; empty for a cell without a name."""
        return (self.kind.prefix if self.kind else "") + self.name


def checked(cell: Cell, place: str) -> Cell:
    """The cell, its points spelt in one way; AuthoringError for what may not be in a cell."""
    for complaint in _complaints(cell):
        raise AuthoringError(f"{place}: {complaint}")
    # 2 and 2.0 are the same points, and are written alike
    whole = cell.points is not None and cell.points == int(cell.points)
    return replace(cell, points=int(cell.points or 0)) if whole else cell


def _complaints(cell: Cell) -> Iterator[str]:
    if cell.type not in ("code", "markdown"):
        yield f"a cell is code or [markdown], not {cell.type}"
    if cell.kind and cell.type not in cell.kind.types:
        yield f"{cell.key} belongs to a {cell.kind.types[0]} cell, not to {cell.type}"
    if cell.key and not (isinstance(cell.name, str) and NAME.fullmatch(cell.name)):
        yield f"{cell.key} needs a name of {NAME_RULE}, found {cell.name!r}"
    if len(cell.id) > LONGEST_ID:
        yield f"{cell.id} is longer than the {LONGEST_ID} characters of a cell id"
    yield from _complaints_on_points(cell.points, cell)
    for region, kinds in REGIONS.items():
        yield from _complaints_on_region(cell, region, kinds)
    if cell.type == "code":
        yield from _complaints_on_code(cell)


def _complaints_on_points(points: object, cell: Cell) -> Iterator[str]:
    wanted = cell.kind is not None and cell.kind.has_points
    if not wanted and points is not None:
        yield f"points belong to essay, task and test cells, not to {cell.key or 'plain'} ones"
    number = isinstance(points, int | float) and not isinstance(points, bool) and 0 <= points < math.inf
    if wanted and not number:
        yield f"needs points, a number of 0 or more as in points=2, not {points}"


def _complaints_on_region(cell: Cell, region: str, kinds: tuple[str, ...]) -> Iterator[str]:
    # nbgrader looks for these words anywhere in a line
    marks = re.findall(rf"^.*?(BEGIN|END) {region}", cell.source, re.MULTILINE)
    if marks and cell.key not in kinds:
        yield f"nbgrader allows {region} lines only in cells of kind {' and '.join(kinds)}"
    if marks != ["BEGIN", "END"] * (len(marks) // 2):
        yield f"each BEGIN {region} needs one END {region} after it"
    if not marks and region == "SOLUTION" and cell.key in kinds:
        yield "needs ### BEGIN SOLUTION and ### END SOLUTION around what the student is to write"


def _complaints_on_code(cell: Cell) -> Iterator[str]:
    if (error := _syntax_error(cell.source)) is not None:
        line = (error.text or "").strip()
        magic = re.match(r"[%!?]|\w+ *= *[%!]", line) or line.endswith("?")
        yield f"no magics, so that ruff can lint: {line}" if magic else f"not Python, {error.msg}: {line}"
    elif (error := _syntax_error(without_solutions(cell.source))) is not None:
        # a student could not even run such a cell
        yield f"not Python without the solution ({error.msg}): indent SOLUTION lines like what is between"


def _syntax_error(code: str) -> SyntaxError | None:
    try:
        ast.parse(code)
    except SyntaxError as error:
        return error
    return None


def without_solutions(code: str) -> str:
    """`code` as nbgrader releases it, a stub for each solution."""
    region = re.compile(r"^([ \t]*)[^\n]*BEGIN SOLUTION.*?END SOLUTION[^\n]*$", re.MULTILINE | re.DOTALL)
    return region.sub(lambda match: "\n".join(match[1] + line for line in CODE_STUB.split("\n")), code)


def unique(cells: Iterable[tuple[Cell, str]]) -> list[Cell]:
    """The cells of these places; AuthoringError where two have the same id."""
    first: dict[str, str] = {}
    for cell, place in cells:
        if cell.id and first.setdefault(cell.id, place) != place:
            raise AuthoringError(f"{place}: the id {cell.id} is already that of {first[cell.id]}")
    return [cell for cell, _ in cells]
