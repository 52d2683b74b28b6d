"""The hand-in as PDF, set by Typst. The words go to it as data; formulas, made from TeX by pandoc, are tried out first.

Typst sees one private folder and nothing else: no package, no other file.
"""

import contextlib
import json
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from labkit.handin import fonts, words
from labkit.handin.document import Document
from labkit.handin.notebook import HandInError

QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
# what pandoc writes for \qquad, \;, \!, \big, \odot and \cap: code, which is refused, or names that Typst 0.15 has not
RENAMED = (
    (re.compile(r"#h\(2em\)"), "wide"),
    (re.compile(r"#h\(0em\)"), "thick"),
    (re.compile(r"#h\(-1em\)"), ""),
    (re.compile(r"#scale\(x: \d+%, y: \d+%\)\[(\\?[^\]])\]"), r"\1"),
    (re.compile(r"(?<![\w.])(dot|minus|times)\.circle\b"), r"\1.o"),
    (re.compile(r"(?<![\w.])sect\b"), "inter"),
)


def write(document: Document) -> tuple[bytes, tuple[str, ...]]:
    """(the PDF, notes on what could not be shown as it was written)."""
    pages, notes = compiled(document, "pdf")
    return pages[0], notes


def compiled(document: Document, form: str, ppi: float = 144) -> tuple[list[bytes], tuple[str, ...]]:
    """The document in one of Typst's formats: one file, or one for each page; and notes."""
    import typst

    with tempfile.TemporaryDirectory(prefix="hand-in-") as folder:
        root = Path(folder)
        data, notes = _data(document, root)
        (root / "document.json").write_text(json.dumps(data), "utf-8")
        (root / "main.typ").write_bytes((resources.files("labkit.handin") / "handin.typ").read_bytes())
        try:
            found: Any = _set(root, form, ppi)
        except typst.TypstError as error:
            raise HandInError(
                f"Typst could not set the document ({' '.join(str(error).split())[:200]}): "
                "write it as .docx or .html instead"
            ) from error
    return (found if isinstance(found, list) else [found]), notes


def _set(root: Path, form: str, ppi: float) -> Any:
    """The pages; a PDF as PDF/UA-1 (ISO 14289-1), which a screen reader can follow, where its content allows that."""
    import typst

    compiler = _compiler(root)
    with contextlib.suppress(typst.TypstError):
        if form == "pdf":
            return compiler.compile(root / "main.typ", format=form, pdf_standards="ua-1")
    return compiler.compile(root / "main.typ", format=form, ppi=ppi)


def _compiler(root: Path) -> Any:
    import typst

    nowhere = root / "packages"
    return typst.Compiler(root=root, font_paths=list(fonts.folders()), package_path=nowhere,
                          package_cache_path=nowhere)  # fmt: skip


def _data(document: Document, root: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The document as Typst's template reads it, its images beside it."""
    for name, picture in document.images.items():
        (root / name).write_bytes(picture.content)
    sections = [
        {"heading": one.heading, "question": one.question, "figures": list(_placed(one.figures, root)),
         "answer": one.answer or [{"t": "Para", "c": [{"t": "Emph", "c": words.string("No answer yet.")}]}]}
        for one in document.sections
    ]  # fmt: skip
    data = {
        "title": document.title, "name": document.name, "paper": document.paper, "wide": document.wide,
        "about": list(document.about),
        "sections": sections, "tables": [asdict(table) for table in document.tables], "code": document.code,
        "images": {name: {"width": picture.width, "alt": name} for name, picture in document.images.items()},
    }  # fmt: skip
    text = {*json.dumps([data, document.notes], ensure_ascii=False)}
    families, missing = fonts.covering(text)
    data["formulas"], strange = formulas(_tex(sections))
    typed = [f"the formula {tex[:60]} is shown as it was typed: its TeX is not known here" for tex in strange]
    data["notes"] = [*document.notes, *fonts.said(missing, drawn=False), *typed]
    found: dict[str, Any] = _spelt(data, {ord(one): fonts.word(one) for one in missing})
    # a reader's window has the machine's own fonts: what it shows of a file needs no spelling
    found["properties"] = {"title": document.title, "author": document.name}
    return found | {"fonts": [fonts.SERIF, fonts.BROAD, *families]}, (*fonts.said(missing, drawn=True), *typed)


def _placed(figures: Iterable[Any], root: Path) -> Iterator[dict[str, Any]]:
    for figure in figures:
        name = f"{figure.label.lower().replace(' ', '-')}.png"
        (root / name).write_bytes(figure.picture.content)
        yield {"file": name, "label": figure.label, "caption": figure.caption, "alt": figure.alt,
               "pixels": figure.picture.width, "across": figure.picture.across}  # fmt: skip


# formulas


def _tex(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("t") == "Math":
            yield node["c"][1]
        for value in node.values():
            yield from _tex(value)
    elif isinstance(node, list):
        for one in node:
            yield from _tex(one)


def formulas(tex: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Typst's spelling of each formula that can be set, and those that cannot."""
    wanted = list(dict.fromkeys(tex))
    made = {one: text for one, text in zip(wanted, _converted(wanted), strict=True) if text}
    made = made if _sets(made.values()) else {one: text for one, text in made.items() if _sets([text])}
    return made, [one for one in wanted if one not in made]


def _converted(tex: list[str]) -> list[str]:
    """By pandoc, all of them in one go; empty where it has no spelling."""
    if not tex:
        return []
    mark = f"between{secrets.token_hex(8)}"
    blocks: list[Any] = []
    for one in tex:
        math = {"t": "Math", "c": [{"t": "InlineMath"}, one]}
        blocks += [{"t": "Para", "c": [math]}, {"t": "Para", "c": words.string(mark)}]
    tree = {"pandoc-api-version": [1, 23, 1], "meta": {}, "blocks": blocks}
    made = words.pandoc(["-f", "json", "-t", "typst", "--wrap=none"], json.dumps(tree).encode()).decode()
    return [_inside(part.strip()) for part in made.split(mark)[:-1]]


def _inside(made: str) -> str:
    """What stands between the dollars of a formula; nothing of what pandoc could not convert, or that would be code."""
    inner = _renamed(made[1:-1]) if len(made) > 2 and made[0] == made[-1] == "$" else ""
    bare = QUOTED.sub("", inner)
    return "" if re.search(r"(?<!\\)[#$]", bare) else inner.strip()


def _renamed(made: str) -> str:
    """In Typst's own names, but for quoted words."""
    quoted = QUOTED.findall(made)
    parts = QUOTED.split(made)
    for old, new in RENAMED:
        parts = [old.sub(new, part) for part in parts]
    return "".join(part + word for part, word in zip(parts, [*quoted, ""], strict=True))


def _sets(sources: Iterable[str]) -> bool:
    """Can Typst set these formulas?"""
    import typst

    listed = list(sources)
    with tempfile.TemporaryDirectory(prefix="hand-in-") as folder:
        root = Path(folder)
        (root / "formulas.json").write_text(json.dumps(listed), "utf-8")
        main = root / "main.typ"
        main.write_text('#for one in json("formulas.json") { math.equation(block: true, eval(one, mode: "math")) }\n')
        try:
            _compiler(root).compile(main, format="svg")
        except typst.TypstError:
            return False
    return True


def _spelt(node: Any, names: dict[int, str]) -> Any:
    """Every text with names in the place of these characters."""
    if not names or not isinstance(node, dict | list | tuple | str):
        return node
    if isinstance(node, str):
        return node.translate(names)
    if isinstance(node, dict):
        return {_spelt(key, names): _spelt(value, names) for key, value in node.items()}
    return [_spelt(one, names) for one in node]
