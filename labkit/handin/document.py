"""The hand-in put in order: who, what was answered, what was drawn, what was measured, from which files."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from labkit.counts import counted
from labkit.files import write_whole
from labkit.handin import measurements, notebook, pictures, words
from labkit.handin.measurements import Table
from labkit.handin.notebook import Answer, Drawn, HandInError
from labkit.handin.pictures import Picture, PictureError

Blocks = list[dict[str, Any]]

SUFFIXES = {".pdf": "PDF", ".docx": "Word document", ".html": "web page"}
FIGURES = 4  # of each answer: two rows of two
PAPERS = ("a4", "us-letter")


@dataclass(frozen=True)
class Figure:
    """A figure with its number in the document."""

    label: str  # Figure 3
    caption: str
    alt: str
    picture: Picture


@dataclass(frozen=True)
class Section:
    """One answer under the question's own words."""

    name: str
    heading: Blocks  # inlines
    question: Blocks
    answer: Blocks
    written: bool
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Document:
    """Everything that a hand-in shows, in order. Words are pandoc's trees, texts are plain."""

    title: str
    name: str  # empty where nobody said
    day: date
    about: tuple[str, ...]  # lines below the title
    sections: tuple[Section, ...]
    tables: tuple[Table, ...]
    code: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    images: dict[str, Picture] = field(repr=False)  # by the address that the trees have for them
    paper: str = "a4"
    wide: bool = False  # is each figure as wide as the page, or only those that were drawn wide?


@dataclass(frozen=True)
class Options:
    """How a hand-in is to look."""

    name: str = ""  # of the student, where another than the notebook says
    figures: int = FIGURES  # the last so many before each answer
    wide: bool = False  # each as wide as the page
    code: bool = False  # the answers in code as well
    paper: str = "a4"


@dataclass(frozen=True)
class Made:
    """A document that was written, and what its maker should know of it."""

    path: Path
    notes: tuple[str, ...]


def report(path: Path, out: Path, options: Options | None = None, today: date | None = None) -> Made:
    """Write the hand-in of the notebook at `path` to `out`, whose suffix says what it becomes.

    Whatever the notebook holds, nothing of it is run, no other file than the recordings beside it is read, and nothing
    is fetched. `HandInError` is one sentence with what to do.
    """
    write = writer(out)
    made = document(path, options or Options(), today)
    content, further = write(made)
    try:
        write_whole(out, content)
    except OSError as error:
        raise HandInError(f"{out} cannot be written ({error.strerror}): name a file in a folder of yours") from error
    return Made(out, (*made.notes, *further))


def writer(out: Path) -> Any:
    """What writes a document of that suffix: Document -> (content, further notes)."""
    if out.suffix.lower() == ".pdf":
        from labkit.handin import pdf

        return pdf.write
    from labkit.handin import pages

    if out.suffix.lower() not in SUFFIXES:
        known = ", ".join(f"{suffix} ({kind})" for suffix, kind in SUFFIXES.items())
        found = f"files of the kind {out.suffix}" if out.suffix else f"{out}, which has no suffix,"
        raise HandInError(f"{found} cannot be written here: choose from {known}")
    return pages.docx if out.suffix.lower() == ".docx" else pages.html


def document(path: Path, options: Options, today: date | None = None) -> Document:
    """The hand-in of a notebook with the recordings in its folder."""
    if options.figures < 0:
        raise HandInError(f"{options.figures} figures for each answer: give 0 or more")
    if options.paper not in PAPERS:
        raise HandInError(f"there is no paper {options.paper!r}: choose from {', '.join(PAPERS)}")
    found = notebook.read(path)
    known, troubles = measurements.recordings(path.parent, found.source)
    desk = _Desk()
    sections = _told_apart([desk.section(answer, options.figures) for answer in found.answers])
    named = notebook.plain(options.name).strip()[:200] or found.student
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    saved = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    day = today or date.today()
    about = (
        _whose(named, found.student),
        _day(day),
        f"from {path.name}, saved on {_day(saved.date())} at {saved:%H:%M}, SHA-256 {digest}",
    )
    return Document(
        title=" ".join(found.title.replace("$", "").replace("*", "").replace("`", "").split())[:300],
        name=named,
        day=day,
        about=about,
        sections=sections,
        tables=tuple(measurements.tables(known)),
        code=found.code if options.code else (),
        notes=(*_said(found, sections, known, named), *troubles, *desk.troubles),
        images=desk.images,
        paper=options.paper,
        wide=options.wide,
    )


def _told_apart(sections: Sequence[Section]) -> tuple[Section, ...]:
    """With captions that differ where the figures' descriptions do."""
    every = {figure.alt for section in sections for figure in section.figures}
    return tuple(
        replace(section, figures=tuple(replace(one, caption=_captioned(one, every)) for one in section.figures))
        for section in sections
    )


def _captioned(figure: Figure, every: set[str]) -> str:
    return pictures.caption(figure.alt, every - {figure.alt}) if figure.caption else ""


def _whose(name: str, student: str) -> str:
    if not name:
        return "Name: not given"
    return f"{name} (id {student})" if student and student != name else name


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _said(found: notebook.Notebook, sections: Sequence[Section], known: Any, name: str) -> Iterator[str]:
    """What a student should know before handing this in."""
    if not name:
        yield 'the notebook does not say whose it is: type student = "..." in it, or give --name'
    if blank := [section.name or "an answer" for section in sections if not section.written]:
        yield f"still to be written: {', '.join(blank)}"
    if not known:
        yield "there is no recording beside the notebook that can be read, so there are no measured numbers"
    others = sorted({r.origin.student for r in known.values() if r.origin.student} - {found.student})
    if found.student and others:
        yield f"the notebook is {found.student}'s, but there are recordings of {', '.join(others)[:200]}"
    if found.vectors:
        yield f"left out: {counted(found.vectors, 'figure')} of SVG alone; draw as PNG, which is Jupyter's own setting"


class _Desk:
    """The state of putting a document together: which figure is the next, which images the words need."""

    def __init__(self) -> None:
        self.count = 0
        self.images: dict[str, Picture] = {}
        self.troubles: list[str] = []

    def section(self, answer: Answer, figures: int) -> Section:
        question = words.parsed(answer.question, self._refused)
        return Section(
            answer.name,
            words.inlines(answer.heading, self._refused),
            question,
            words.parsed(answer.text, lambda address, beside: self._attached(answer, address, beside)),
            bool(answer.text),
            tuple(self._drawn(chosen(answer.figures, figures), answer.name)),
        )

    def _drawn(self, figures: Sequence[Drawn], name: str) -> Iterator[Figure]:
        for drawn in figures:
            try:
                picture = pictures.opened(drawn.content)
            except PictureError as error:
                self.troubles.append(f"a figure before {name or 'an answer'} is left out: {error}")
                continue
            self.count += 1
            alt = (drawn.alt or notebook.plain(picture.description)).strip()[: pictures.LONGEST_ALT]
            yield Figure(
                f"Figure {self.count}", pictures.caption(alt), alt or "A figure without a description", picture
            )

    def _attached(self, answer: Answer, address: str, beside: Blocks) -> dict[str, Any]:
        """An image that was dropped into the cell; any other is named and left out."""
        name = address.removeprefix("attachment:")
        if name == address or name not in answer.attachments:
            return self._refused(address, beside)
        try:
            picture = pictures.opened(answer.attachments[name])
        except PictureError as error:
            self.troubles.append(f"the image {name[:80]} in {answer.name or 'an answer'} is left out: {error}")
            return self._left_out(beside)
        own = f"image-{len(self.images) + 1}.png"
        self.images[own] = picture
        return {"t": "Image", "c": [words.NOTHING, beside, [own, ""]]}

    def _refused(self, address: str, beside: Blocks) -> dict[str, Any]:
        shown = " ".join(notebook.plain(address).split())[:80]
        self.troubles.append(f"the image {shown} is left out: drop the image itself into the cell of your answer")
        return self._left_out(beside)

    def _left_out(self, beside: Blocks) -> dict[str, Any]:
        named = [{"t": "Str", "c": ": "}, *beside] if beside else []
        said = words.string("[an image that is not part of the notebook")
        return {"t": "Emph", "c": [*said, *named, {"t": "Str", "c": "]"}]}


def chosen(figures: Sequence[Drawn], most: int) -> list[Drawn]:
    """The last figures before an answer, of each kind the last one before a second of the same; in their order."""
    order, seen, again = list[int](), set[str](), list[int]()
    for place in reversed(range(len(figures))):
        (again if figures[place].kind in seen else order).append(place)
        seen.add(figures[place].kind)
    return [figures[place] for place in sorted([*order, *again][:most])]
