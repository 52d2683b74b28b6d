"""The hand-in as Word document and as one web page that needs nothing else, both by pandoc."""

import json
from collections.abc import Iterator
from html import escape
from importlib import resources
from itertools import groupby
from typing import Any

from labkit.handin import word, words
from labkit.handin.document import Document, Figure, Section
from labkit.handin.measurements import Table
from labkit.handin.words import NOTHING, paragraph, string

Blocks = list[dict[str, Any]]

# nothing from elsewhere, no script, whatever the words hold
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PRINTED = "2.95in"  # of a figure: two stand beside each other on A4
ACROSS = "6.2in"


def docx(document: Document) -> tuple[bytes, tuple[str, ...]]:
    """(the Word document, no notes): answers double-spaced, formulas as Word's own, alt text on every figure."""
    # so the first heading becomes the title, and those below it chapters
    shape = ["--shift-heading-level-by=-1", "--syntax-highlighting=none"]
    tree = _tree(document, _body(document, _stacked if document.wide else _arranged))
    made = words.pandoc(["-f", "json", "-t", "docx", "-o", "-", *shape], tree)
    return word.completed(made, document.title, document.name, document.day, document.paper), ()


def html(document: Document) -> tuple[bytes, tuple[str, ...]]:
    """(one page, no notes): images inside it, formulas as MathML, no script."""
    arguments = ["-f", "json", "-t", "html5", "--mathml", "--syntax-highlighting=none", "--wrap=none"]
    body = words.pandoc(arguments, _tree(document, _body(document, _figures_of))).decode()
    style = (resources.files("labkit.handin") / "handin.css").read_text("utf-8")
    head = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(document.title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="author" content="{escape(document.name)}">\n<style>\n{style}</style>\n</head>\n'
    )
    return f"{head}<body>\n<main>\n{body}</main>\n</body>\n</html>\n".encode(), ()


def _tree(document: Document, blocks: Blocks) -> bytes:
    """The whole as pandoc reads it, with images as addresses that hold them."""
    addresses = {name: picture.address for name, picture in document.images.items()}
    meta = {} if not document.title else {"lang": {"t": "MetaString", "c": "en-GB"}}
    tree = {"pandoc-api-version": [1, 23, 1], "meta": meta, "blocks": _addressed(blocks, addresses)}
    return json.dumps(tree).encode()


def _addressed(node: Any, addresses: dict[str, str]) -> Any:
    match node:
        case {"t": "Image", "c": [attributes, beside, [address, title]]}:
            known = addresses.get(address, address)
            return {"t": "Image", "c": [attributes, _addressed(beside, addresses), [known, title]]}
        case dict():
            return {key: _addressed(value, addresses) for key, value in node.items()}
        case list():
            return [_addressed(one, addresses) for one in node]
    return node


def _body(document: Document, drawn: Any) -> Blocks:
    blocks: Blocks = [_heading(1, string(document.title))]
    blocks += [_styled("About", [paragraph(line)]) for line in document.about]
    for section in document.sections:
        blocks += _section(section, drawn)
    if document.tables:
        blocks.append(_heading(2, string("Measured numbers")))
        for number, table in enumerate(document.tables, 1):
            blocks += _table(table, number)
    if document.code:
        blocks.append(_heading(2, string("Answers in code")))
        for name, source in document.code:
            blocks += [_heading(3, string(name)), words.typed(source)]
    if document.notes:
        blocks.append(_heading(2, string("Notes")))
        blocks += [_styled("About", [paragraph(note)]) for note in document.notes]
    return blocks


def _section(section: Section, drawn: Any) -> Iterator[dict[str, Any]]:
    if section.heading:
        yield _heading(2, section.heading)
    if section.question:
        yield _styled("Question", section.question)
    yield _styled("Answer", section.answer or [{"t": "Para", "c": [{"t": "Emph", "c": string("No answer yet.")}]}])
    if section.figures:
        yield from drawn(section.figures)


def _heading(level: int, inlines: Blocks) -> dict[str, Any]:
    return {"t": "Header", "c": [level, NOTHING, inlines]}


def _styled(name: str, blocks: Blocks) -> dict[str, Any]:
    """Blocks in a style of their own: a class of the page, a paragraph style of Word."""
    return {"t": "Div", "c": [["", [name.lower()], [["custom-style", name]]], blocks]}


def _image(figure: Figure, width: str) -> dict[str, Any]:
    # pandoc takes the words beside an image for its alt text
    size = [["width", width]] if width else []
    return {"t": "Image", "c": [["", [], size], [{"t": "Str", "c": figure.alt}], [figure.picture.address, ""]]}


def _caption(figure: Figure) -> Blocks:
    return [{"t": "Strong", "c": string(f"{figure.label}.")}, {"t": "Space"}, *string(figure.caption)]


def _figures_of(figures: tuple[Figure, ...]) -> Blocks:
    made = [
        {"t": "Figure", "c": [["", ["across"] * one.picture.across, []], [None, [{"t": "Plain", "c": _caption(one)}]],
                              [{"t": "Plain", "c": [_image(one, "")]}]]}
        for one in figures
    ]  # fmt: skip
    return [{"t": "Div", "c": [["", ["figures"], []], made]}]


def _stacked(figures: tuple[Figure, ...]) -> Blocks:
    return [block for one in figures for block in _printed(one, ACROSS)]


def _arranged(figures: tuple[Figure, ...]) -> Iterator[dict[str, Any]]:
    """Wide figures across the page, the others between them two by two."""
    for across, some in groupby(figures, lambda one: one.picture.across):
        yield from (_stacked if across else _rows_of_two)(tuple(some))


def _printed(figure: Figure, width: str) -> Blocks:
    return [{"t": "Para", "c": [_image(figure, width)]}, _styled("Caption", [{"t": "Para", "c": _caption(figure)}])]


def _rows_of_two(figures: tuple[Figure, ...]) -> Blocks:
    """Word has no grid but a table."""
    cells = [_printed(one, PRINTED) for one in figures]
    cells += [[]] * (len(cells) % 2)
    rows = [_row(cells[k : k + 2]) for k in range(0, len(cells), 2)]
    return [_grid([], rows, [0.5, 0.5])]


def _table(table: Table, number: int) -> Blocks:
    said = [{"t": "Strong", "c": string(f"Table {number}.")}, {"t": "Space"}, *string(table.caption)]
    rows = [_row([_cell(text, table, column) for column, text in enumerate(row)]) for row in table.rows]
    head = _row([_cell(text) for text in table.head])
    widths: list[float | None] = [0.17, *[0.83 / (len(table.head) - 1)] * (len(table.head) - 1)]
    if table.kind == "digests":
        widths = [0.22, 0.1, 0.16, 0.52]
    block = _grid([head], rows, widths, table.kind == "numbers")
    return [_styled("Caption", [{"t": "Para", "c": said}]),
            {"t": "Div", "c": [["", ["scroll", table.kind], []], [block]]}]  # fmt: skip


def _cell(text: str, table: Table | None = None, column: int = -1) -> Blocks:
    if table is not None and table.kind == "digests" and column == len(table.head) - 1:
        return [_styled("Digest", [{"t": "Para", "c": [{"t": "Code", "c": [NOTHING, text]}]}])]
    return [_styled("Measured", [paragraph(text)])]


def _row(cells: list[Blocks]) -> list[Any]:
    return [NOTHING, [[NOTHING, {"t": "AlignDefault"}, 1, 1, blocks] for blocks in cells]]


def _grid(head: list[Any], rows: list[Any], widths: list[float | None], right: bool = False) -> dict[str, Any]:
    columns = [
        [{"t": "AlignRight" if right and k else "AlignLeft"},
         {"t": "ColWidthDefault"} if width is None else {"t": "ColWidth", "c": width}]
        for k, width in enumerate(widths)
    ]  # fmt: skip
    return {"t": "Table", "c": [NOTHING, [None, []], columns, [NOTHING, head], [[NOTHING, 0, [], rows]], [NOTHING, []]]}
