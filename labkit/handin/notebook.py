"""A notebook as its hand-in needs it: who wrote it, the answers under their questions, the figures before each."""

import ast
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20  # bytes of a notebook, figures included
MOST_CELLS = 2000
LONGEST = 100_000  # characters of one answer; three pages have 5,000
STUDENT = "student"  # the variable in which a notebook keeps whose it is
TEXT_STUB = "YOUR ANSWER HERE"  # nbgrader's word for an answer that is to be written
IMAGES = ("image/png", "image/jpeg")
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
# what is no text: a terminal's controls, and marks that turn the direction of writing around
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

Cell = dict[str, Any]


class HandInError(ValueError):
    """A hand-in that cannot be made; one sentence with what to do."""


@dataclass(frozen=True)
class Drawn:
    """A figure among the outputs of a cell."""

    kind: str  # which function drew it, such as plots.losses; the cell's own number where that is not known
    content: str  # base64
    alt: str


@dataclass(frozen=True)
class Answer:
    """One answer in words, and what stands before it."""

    name: str  # its grade id
    heading: str  # markdown; empty where there is none
    question: str  # markdown of the words before it
    text: str  # markdown; empty where nothing was written
    attachments: dict[str, str]  # base64 of the images that were dropped into the cell, by name
    figures: tuple[Drawn, ...]  # since the answer before


@dataclass(frozen=True)
class Notebook:
    """What a hand-in takes from a notebook."""

    title: str  # markdown
    student: str  # empty where the notebook does not say
    answers: tuple[Answer, ...]
    code: tuple[tuple[str, str], ...]  # (grade id, source) of each answer in code
    source: str  # all code, to see what it mentions
    vectors: int  # figures that are there as SVG alone


def read(path: Path) -> Notebook:
    """The notebook at `path`; `HandInError` says what is none, or holds no answer of a lab."""
    cells = _cells(path)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    answers = tuple(_answers(cells))
    if not answers:
        raise HandInError(
            f"{path} has no cell for an answer in words: name the notebook of your lab, as your course released it"
        )
    source = "\n\n".join(cell["source"] for cell in code)
    return Notebook(
        title=next(_headings(cells), path.stem),
        student=next(iter(reversed([text for cell in code for text in _given(cell["source"])])), ""),
        answers=answers,
        code=tuple((_name(cell), cell["source"]) for cell in code if _flag(cell, "solution")),
        source=source,
        vectors=sum(_is_vector(data) for cell in code for data, _ in _bundles(cell)),
    )


def _cells(path: Path) -> list[Cell]:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise HandInError(f"{path} cannot be read ({error.strerror}): name the notebook of your lab") from error
    if size > LARGEST:
        raise HandInError(
            f"{path} has {size / 1e6:,.0f} MB, a notebook has at most {LARGEST / 1e6:,.0f}: "
            "clear the output of the cell that printed so much, save it, and try again"
        )
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HandInError(f"{path} is not a notebook, or is cut off: save it in JupyterLab and try again") from error
    cells = found.get("cells") if isinstance(found, dict) and found.get("nbformat") == 4 else None
    if not isinstance(cells, list):
        raise HandInError(f"{path} is not a notebook of format 4: open it in JupyterLab, save it and try again")
    return [_normal(cell) for cell in cells[:MOST_CELLS] if isinstance(cell, dict)]


def _normal(cell: Cell) -> Cell:
    """What every cell has, whatever the file says."""
    kind, metadata, outputs = cell.get("cell_type"), cell.get("metadata"), cell.get("outputs")
    attachments = cell.get("attachments")
    return {
        "cell_type": kind if kind in ("code", "markdown") else "raw",
        "source": plain(joined(cell.get("source"))),
        "nbgrader": found if isinstance(metadata, dict) and isinstance(found := metadata.get("nbgrader"), dict) else {},
        "outputs": [one for one in outputs if isinstance(one, dict)] if isinstance(outputs, list) else [],
        "attachments": attachments if isinstance(attachments, dict) else {},
    }


def joined(text: object) -> str:
    """A text of a notebook is a text or a list of lines."""
    lines = text if isinstance(text, list) else [text]
    return "".join(line for line in lines if isinstance(line, str))


def plain(text: str) -> str:
    """Nothing but characters that can be written to any file, in the order in which they stand."""
    return UNSAFE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).encode("utf-8", "replace").decode()


def _flag(cell: Cell, name: str) -> bool:
    return cell["nbgrader"].get(name) is True


def _name(cell: Cell) -> str:
    found = cell["nbgrader"].get("grade_id")
    return plain(found)[:80] if isinstance(found, str) else ""


def _headings(cells: list[Cell]) -> Iterator[str]:
    for cell in cells:
        if cell["cell_type"] == "markdown" and not _flag(cell, "solution"):
            yield from (text for text in HEADING.findall(cell["source"]) if text)


def _answers(cells: list[Cell]) -> Iterator[Answer]:
    heading, asked, figures = "", "", list[Drawn]()
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            figures += _figures(cell, number)
        elif cell["cell_type"] == "markdown" and _flag(cell, "solution") and _flag(cell, "grade"):
            yield Answer(_name(cell), heading, asked, _written(cell), _attached(cell), tuple(figures))
            heading, asked, figures = "", "", []
        elif cell["cell_type"] == "markdown":
            heading = next(reversed([text for text in HEADING.findall(cell["source"]) if text]), heading)
            asked = HEADING.sub("", cell["source"]).strip()[:LONGEST] or asked


def _written(cell: Cell) -> str:
    text = str(cell["source"]).strip()
    if text == TEXT_STUB:
        return ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n\n(cut off here, after {LONGEST:,} characters)"


def _attached(cell: Cell) -> dict[str, str]:
    found = {}
    for name, bundle in cell["attachments"].items():
        content = next((bundle[kind] for kind in IMAGES if kind in bundle), None) if isinstance(bundle, dict) else None
        if content is not None:
            found[str(name)] = joined(content)
    return found


def _bundles(cell: Cell) -> Iterator[tuple[Cell, Cell]]:
    """(data, metadata) of each output that is shown."""
    for output in cell["outputs"]:
        if output.get("output_type") in ("display_data", "execute_result") and isinstance(output.get("data"), dict):
            metadata = output.get("metadata")
            yield output["data"], metadata if isinstance(metadata, dict) else {}


def _is_vector(data: Cell) -> bool:
    return "image/svg+xml" in data and not any(kind in data for kind in IMAGES)


def _figures(cell: Cell, number: int) -> Iterator[Drawn]:
    """The figures of a cell; what a training showed while it ran is none."""
    if "watch=" in cell["source"]:
        return
    kind = _drawn_by(cell["source"]) or f"cell {number}"
    for data, metadata in _bundles(cell):
        mime = next((mime for mime in IMAGES if mime in data), None)
        if mime is None:
            continue
        about = metadata.get(mime)
        alt = about.get("alt") if isinstance(about, dict) else None
        yield Drawn(kind, joined(data[mime]), plain(alt) if isinstance(alt, str) else "")


def _drawn_by(source: str) -> str:
    """The function of the cell's last line, as plots.losses; empty where that is no call of a module's function."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        match ast.parse(source).body[-1:]:
            case [ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="plots"), attr=name)))]:
                return f"plots.{name}"
    return ""


def _given(source: str) -> Iterator[str]:
    """What a cell gives the variable `student`."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for line in ast.parse(source).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))) if name == STUDENT:
                    yield plain(text).strip()[:200]
