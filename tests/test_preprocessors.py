"""What the steps that nbgrader runs make of cells."""

import re
from html.parser import HTMLParser

import nbformat
import pytest
from nbconvert.filters import markdown2html

from autograder.preprocessors import MOST_BLANKS, MOST_FORMULAS, MOST_REMARKS, _remarks, harmless
from autograder.results import Result


@pytest.mark.parametrize(
    "essay",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(2)> text",
        '<a href="javascript:alert(3)">x</a>',
        "<iframe src=file:///etc/passwd>",
        "<SCRIPT\n>alert(4)</SCRIPT\n>",
        "<!-- --><svg/onload=alert(5)>",
        "<?php ?><math><mi//xlink:href='data:x,<script>alert(6)</script>'>",
    ],
)
def test_no_tag_of_an_essay_is_obeyed(essay: str) -> None:
    """The pages of feedback and formgrader turn markdown into HTML as nbconvert does."""
    assert "<" in essay
    page = markdown2html(harmless(essay))
    for tag in ("<script", "<img", "<a ", "<iframe", "<svg", "<math", "<?php", "<!--"):
        assert tag not in page.lower()
    assert markdown2html(essay) != page, "nbconvert escapes tags by itself: this step may go"


@pytest.mark.parametrize(
    "essay",
    [
        "[a](javascript:alert(1))",
        "[a](  JaVaScRiPt:alert(1))",
        "[a](java&#115;cript:alert(1))",
        "[a](javascript&colon;alert(1))",
        "[a](\njavascript:alert(1))",
        "![a](data:text/html,x)",
        "[a][e]\n\n[e]: javascript:alert(1)",
        "[e]\n\n[e]:\n  javascript:alert(1)",
        "> [e]: vbscript:x\n\n[e]",
        "<javascript:alert(1)>",
    ],
)
def test_no_link_of_an_essay_leads_to_a_script(essay: str) -> None:
    page = Links(markdown2html(harmless(essay)))
    assert page.found == []
    assert Links(markdown2html(harmless("[a](https://a.b) [c][d]\n\n[d]: mailto:e@f.g"))).found == [
        "https://a.b",
        "mailto:e@f.g",
    ]


class Links(HTMLParser):
    """Where the links and pictures of a page lead, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src") and value != "#"]


def test_no_formula_is_a_link() -> None:
    assert "href" not in harmless(r"$$\href{javascript:alert(1)}{x}$$").replace(r"\text", "")
    assert harmless(r"$\hrefs$ and $\text{a}$") == r"$\hrefs$ and $\text{a}$"


def test_mathematics_and_comparisons_stay_as_they_are() -> None:
    for text in ("$a < b$ and 3 <4", "`x <- 1`, **bold**, [link](https://example.org)", "| a | b |\n|---|---|"):
        assert harmless(text) == text


def test_a_picture_that_is_not_attached_is_text() -> None:
    """nbconvert makes no page at all where one is missing."""
    assert harmless("![a](attachment:b.png)", ["b.png"]) == "![a](attachment:b.png)"
    for text in ("![a](attachment:b.png)", "![a][c]\n\n[c]: attachment:b.png", "![a](attachment:b.pngs)"):
        page = markdown2html(harmless(text, ["c.png", "b.png"] if "pngs" in text else ["c.png"]))
        assert Links(page).found == []


@pytest.mark.parametrize(
    "essay", ["\\begin{a}" * 20_000, "\\\\[" * 40_000, "\\\\(" * 40_000, "a" + " " * 100_000 + "b"]
)
def test_no_essay_has_what_a_page_takes_hours_for(essay: str) -> None:
    """Beginnings of formulas without an end, and endless blanks, take nbconvert the square of their number."""
    shown = harmless(essay)
    assert len(re.findall(r"\\(?:begin\{|\\[\[(])", shown)) <= MOST_FORMULAS
    assert not re.search(f" {{{MOST_BLANKS + 1}}}", shown)
    assert len(shown) > MOST_BLANKS
    few = essay[:50]
    assert harmless(few) == few


def test_a_student_reads_a_few_remarks_and_how_many_more_there_are() -> None:
    result = Result.__new__(Result)
    object.__setattr__(result, "remarks", tuple(f"remark {k}" for k in range(50)))
    object.__setattr__(result, "status", "graded")
    object.__setattr__(result, "ended", "")
    (cell,) = _remarks(result)
    assert cell["source"].count("<li>") == MOST_REMARKS + 1
    assert f"And {50 - MOST_REMARKS} more" in cell["source"]
    assert nbformat.from_dict(cell).cell_type == "markdown"
