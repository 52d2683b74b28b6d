"""Assignments as reviewed text: ``<course>/<name>.py`` <-> ``<course>/source/<name>/<name>.ipynb``.

The text is jupytext's percent format, and the header of a cell says what the cell is for nbgrader:

    # %%                                          code, the student may edit it
    # %% [markdown]                               text
    # %% id="hint"                                either of them under a name that stays the same
    # %% fixed="imports"                          read-only, code or [markdown]
    # %% answer="build_network"                   code that the student completes
    # %% test="build_network" points=2            graded by running it, read-only
    # %% [markdown] essay="q1_words" points=3     graded by a person
    # %% [markdown] task="q2_table" points=1      graded by a person, answered in new cells below it

Every line that begins with ``# %%`` starts a cell, also inside a string. What stands above the first one
(comments, a docstring) stays in the text. No magics, so that ruff reads the file as Python.

The header's name is nbgrader's grade id and the notebook's cell id; a test's has ``test_`` in front, so an
answer and its test share a name. Grade ids are for ever once there are submissions. Cells without a name get
an id from their content: the same text gives the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.cells import KINDS, NAME, NAME_RULE, AuthoringError, Cell, checked, unique
from labkit.files import write_whole

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADER = re.compile(r"^# %%(?=\s|$)", re.MULTILINE)
# comment_magics would turn the comment "# %time" into a magic
PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
# what jupytext notes for itself while it reads
JUPYTEXT_NOTES = {"lines_to_next_cell", "cell_marker", "region_name"}
CONFIG = "nbgrader_config.py"
KEYS = sorted([*KINDS, "id", "points"])

NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    # no version: it would change with whoever builds
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


@dataclass(frozen=True)
class Block:
    """One cell as it stands in the text, header included."""

    text: str
    place: str  # for messages: file, line of the header, header
    blank: int = 1  # empty lines before the next cell


def expand(text: str, name: str) -> NotebookNode:
    """The notebook that the source of assignment `name` describes, without outputs."""
    cells = _read(_blocks(text, f"{name}.py")[1])
    nodes = [_node(cell, id) for cell, id in zip(cells, _ids(cells), strict=True)]
    metadata = NOTEBOOK_METADATA | {"gradient_lab": {"built_from": _digest(cells)}}
    notebook: NotebookNode = _nbformat().v4.new_notebook(cells=nodes, metadata=metadata)
    return notebook


def notebook_of(source: Path) -> Path:
    """Where nbgrader looks for the notebook of `source`."""
    return source.parent / "source" / source.stem / f"{source.stem}.ipynb"


def sources(course: Path) -> list[Path]:
    """The assignments' sources in a course directory: each .py with cells, but not nbgrader's settings."""
    files = sorted(path for path in course.glob("*.py") if path.name != CONFIG)
    return [path for path in files if HEADER.search(_text_of(path))]


def build(source: Path, target: Path | None = None) -> Path:
    """Write the notebook of one source, unless it already has the same bytes.

    A notebook whose cells were edited since it was built is not overwritten: AuthoringError.
    """
    target = target or notebook_of(source)
    content = rendered(source)
    _refuse_to_lose_edits(source, target)
    write_if_other(target, content)
    return target


def build_all(course: Path) -> list[Path]:
    """Build every source of a course; a mistake in one of them leaves every notebook as it was."""
    contents = {source: rendered(source) for source in sources(course)}
    for source in contents:
        _refuse_to_lose_edits(source, notebook_of(source))
    for source, content in contents.items():
        write_if_other(notebook_of(source), content)
    return [notebook_of(source) for source in contents]


def rendered(source: Path) -> bytes:
    """The file that the notebook of `source` is."""
    if not NAME.fullmatch(source.stem):
        raise AuthoringError(f"{source.name} cannot name an assignment: it takes {NAME_RULE}")
    text: str = _nbformat().writes(expand(_text_of(source), source.stem))
    return text.encode() + b"\n"


def back(notebook: Path, source: Path) -> Path:
    """Carry what was edited in JupyterLab home to the source; cells that did not change keep their lines.

    Outputs, ids of cells without a name, and what JupyterLab noted about the view stay behind.
    """
    cells = _cells_of(_opened(notebook), notebook.name)
    preamble, blocks = _blocks(_text_of(source), source.name) if source.exists() else ("", [])
    known: dict[Cell, list[Block]] = {}
    for cell, block in zip(_read(blocks), blocks, strict=True):
        known.setdefault(cell, []).append(block)
    written = [known[cell].pop(0) if known.get(cell) else _written(cell, place) for cell, place in cells]
    text = "".join(block.text + "\n" * (1 + block.blank) for block in written)
    write_if_other(source, (preamble + text.rstrip("\n") + "\n").encode())
    return source


def write_if_other(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and not when it already holds the same."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def _nbformat() -> Any:
    """nbformat, when it is needed, and as Any: it says that it is typed, but its functions are not."""
    import nbformat

    return nbformat


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthoringError(f"{path} cannot be read: {error}") from error


def _refuse_to_lose_edits(source: Path, target: Path) -> None:
    """Outputs may go, cells that were changed in JupyterLab not. Times are not compared: git sets them."""
    if not target.exists():
        return
    notebook = _opened(target)
    found = _digest(cell for cell, _ in _cells_of(notebook, target.name))
    wanted = _digest(_read(_blocks(_text_of(source), source.name)[1]))
    if found not in (wanted, notebook.metadata.get("gradient_lab", {}).get("built_from")):
        raise AuthoringError(
            f"{target.name} was edited since it was built: carry the edits home with "
            "`autograder build --back`, or delete the notebook to build it afresh"
        )


def _digest(cells: Iterable[Cell]) -> str:
    return hashlib.sha256(json.dumps([astuple(cell) for cell in cells]).encode()).hexdigest()[:16]


# The text


def _blocks(text: str, file: str) -> tuple[str, list[Block]]:
    """What stands above the first cell, and the cells."""
    starts = [match.start() for match in HEADER.finditer(text)]
    if not starts:
        raise AuthoringError(f"{file} has no cell: a cell begins with a line `# %%`")
    preamble = text[: starts[0]]
    _check_preamble(preamble, file)
    ends = [*starts[1:], len(text)]
    return preamble, [_block(text, start, end, file) for start, end in zip(starts, ends, strict=True)]


def _block(text: str, start: int, end: int, file: str) -> Block:
    body = text[start:end].rstrip("\n")
    line, header = text.count("\n", 0, start) + 1, body.split("\n", 1)[0]
    # the last cell has none after it; should it move up, it gets the usual one
    blank = end - start - len(body) - 1 if end < len(text) else 1
    return Block(body, f"{file} line {line} ({header})", blank)


def _check_preamble(preamble: str, file: str) -> None:
    try:
        statements = ast.parse(preamble).body
    except SyntaxError as error:
        raise AuthoringError(f"{file} line {error.lineno} is not Python: {error.msg}") from error
    for statement in statements:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise AuthoringError(f"{file} line {statement.lineno} is code above the first `# %%`, in no cell")


def _read(blocks: Iterable[Block]) -> list[Cell]:
    """The cells of one source, each checked, no two of the same id."""
    return unique([(_cell(block), block.place) for block in blocks])


def _cell(block: Block) -> Cell:
    import jupytext

    nodes = jupytext.reads(block.text + "\n", fmt=PERCENT).cells
    if len(nodes) != 1:
        raise AuthoringError(
            f"{block.place}: a comment in the cell would start another one for jupytext, "
            "an indented `# %%` or `# In[1]`"
        )
    if nodes[0].cell_type == "markdown":
        _check_commented(block)
    options = _options(nodes[0].metadata, block.place)
    points = options.pop("points", None)
    if len(options) > 1:
        raise AuthoringError(f"{block.place}: a cell is one thing, not {' and '.join(options)}")
    key, name = next(iter(options.items()), (None, ""))
    return checked(Cell(nodes[0].cell_type, nodes[0].source.rstrip(), key, name, points), block.place)


def _options(metadata: dict[str, Any], place: str) -> dict[str, Any]:
    # jupytext files the words that it cannot read under these two
    unread = [str(metadata[key]) for key in ("title", "incorrectly_encoded_metadata") if key in metadata]
    options = {key: value for key, value in metadata.items() if key not in JUPYTEXT_NOTES}
    for word in unread or options.keys() - KEYS:
        raise AuthoringError(
            f'{place}: cannot use {word}; the keys of a header are {", ".join(KEYS)}, as in test="name" points=2'
        )
    return options


def _check_commented(block: Block) -> None:
    for line in block.text.split("\n"):
        if line.strip() and not line.startswith("#"):
            raise AuthoringError(f"{block.place}: in a markdown cell each line begins with #, not {line!r}")


def _written(cell: Cell, place: str) -> Block:
    """A cell that the source does not have yet, in our spelling."""
    lines, header = cell.source.split("\n") if cell.source else [], "# %%"
    if cell.type == "markdown":
        lines, header = [f"# {line}" if line else "#" for line in lines], "# %% [markdown]"
    header += f' {cell.key}="{cell.name}"' if cell.key else ""
    header += "" if cell.points is None else f" points={cell.points}"
    block = Block("\n".join([header, *lines]), place)
    if len(HEADER.findall(block.text)) != 1 or _cell(block) != cell:
        raise AuthoringError(f"{place}: a line of it would start another cell in the source, as `# %%` does")
    return block


# The notebook


def _ids(cells: Iterable[Cell]) -> Iterator[str]:
    """One id for each cell. A name has no hyphen, an id made from content has one: they never meet."""
    count: Counter[str] = Counter()
    for cell in cells:
        made = f"{cell.type}-{hashlib.sha256(cell.source.encode()).hexdigest()[:8]}"
        count[made] += not cell.id
        yield cell.id or (made if count[made] == 1 else f"{made}-{count[made]}")


def _node(cell: Cell, id: str) -> NotebookNode:
    v4 = _nbformat().v4
    new = v4.new_code_cell if cell.type == "code" else v4.new_markdown_cell
    node: NotebookNode = new(cell.source, id=id, metadata=_metadata(cell))
    return node


def _metadata(cell: Cell) -> dict[str, Any]:
    if cell.kind is None:
        # Jupyter's own key; without it `back` could not tell a given name from an id made up
        return {"name": cell.name} if cell.name else {}
    flags = {flag: getattr(cell.kind, flag) for flag in ("grade", "solution", "locked", "task")}
    points = {} if cell.points is None else {"points": cell.points}
    return {"nbgrader": {"schema_version": 3, "grade_id": cell.id, **flags, **points}}


def _opened(path: Path) -> NotebookNode:
    text = _text_of(path)
    try:
        notebook: NotebookNode = _nbformat().reads(text, as_version=4)
        notebook.cells  # noqa: B018  {} passes nbformat, too
    except Exception as error:  # nbformat names no common class for what it meets in a damaged file
        raise AuthoringError(f"{path} is not a notebook: {str(error)[:80]}") from error
    return notebook


def _cells_of(notebook: NotebookNode, file: str) -> list[tuple[Cell, str]]:
    """The cells of a notebook with their places, checked like those of a source."""
    places = [f"{file} cell {number} ({node.cell_type})" for number, node in enumerate(notebook.cells, 1)]
    cells = [(_recognised(node, place), place) for node, place in zip(notebook.cells, places, strict=True)]
    unique(cells)
    return cells


def _recognised(node: NotebookNode, place: str) -> Cell:
    """The inverse of `_node`."""
    meta = node.metadata.get("nbgrader", {})
    if node.get("attachments"):
        raise AuthoringError(f"{place}: the source cannot hold an attached picture, put it in a file")
    if "checksum" in meta:
        raise AuthoringError(f"{place}: a released or submitted notebook has no solutions to carry home")
    key = _key_of(node, meta, place)
    if key not in KINDS:
        return checked(Cell(node.cell_type, node.source.rstrip(), key, node.metadata.get("name", "")), place)
    kind, grade_id = KINDS[key], str(meta.get("grade_id", ""))
    if not grade_id.startswith(kind.prefix):
        raise AuthoringError(f"{place}: the id of a {key} begins with {kind.prefix}, found {grade_id}")
    name, points = grade_id.removeprefix(kind.prefix), meta.get("points") if kind.has_points else None
    return checked(Cell(node.cell_type, node.source.rstrip(), key, name, points), place)


def _key_of(node: NotebookNode, meta: dict[str, Any], place: str) -> str | None:
    flags = [bool(meta.get(flag)) for flag in ("grade", "solution", "task")]
    if not any(flags) and not meta.get("locked"):
        return "id" if "name" in node.metadata else None
    for key, kind in KINDS.items():
        if flags == [kind.grade, kind.solution, kind.task] and node.cell_type in kind.types:
            return key
    raise AuthoringError(
        f"{place}: no header says how {meta.get('grade_id')} is graded; choose autograder "
        "tests for code, a manually graded answer or task for markdown"
    )
