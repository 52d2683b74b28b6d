"""`labkit report`: is everything that belongs to a hand-in in it, in each of its forms, and nothing that does not?

What each kind of document needs besides is in test_handin_word.py and test_handin_fonts.py.
"""

import base64
import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from handin_notebook import CELLS, LONG, Page, code_cell, drawn, png, printed, read_back, words_cell, written
from PIL import Image

from labkit import handin
from labkit.cli import main
from labkit.handin import document, fonts, measurements, notebook, pdf, pictures, words
from labkit.handin.notebook import Drawn
from labkit.recording import Recording
from labkit.training import train

FORMS = ("pdf", "docx", "html")
TODAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
def recording(short) -> Recording:
    return train(short, device="cpu", progress=False)


@pytest.fixture(scope="module")
def lab(recording, tmp_path_factory):
    """A solved notebook with two recordings beside it."""
    folder = tmp_path_factory.mktemp("hand-in")
    recording.save(folder / "relu.safetensors")
    return written(folder, *CELLS)


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    """All three documents, by suffix."""
    folder = tmp_path_factory.mktemp("documents")
    options = handin.Options(figures=1)
    return {form: handin.report(lab, folder / f"lab.{form}", options, TODAY).path for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_is_every_answer_under_its_question(made, form):
    said = read_back(made[form])
    expected = [
        "Vanishing gradients", "ada", "2 March 2026", "Look at it", "What do they show?", "Describe it",
        "are smaller: größer wäre schön, naïve façade, αβγ ∂Ω → ⇒ ≤ ∞ Градиент.",
        "$5 and $6 are prices", "def halve(x): # no $formula$ here", 'return {"a": x ** 2}',
        "Question 1: exploding", "Why does clipping help?", "Clipping shortens a gradient that is too long.",
    ]  # fmt: skip
    places = [said.find(text) for text in expected]
    assert -1 not in places, expected[places.index(-1)]
    assert places == sorted(places)
    for text in ("relurow", "firstly", "secondly", "quotedly", "Noted below."):
        assert text in said
    assert "2000/2000" not in said
    assert "codeword" not in said


@pytest.mark.parametrize("form", FORMS)
def test_are_the_numbers_those_of_the_recording(made, recording, form):
    said = read_back(made[form])
    size = np.abs(recording.gradient[:, :, 1].astype(float))
    ends = recording.epoch_end.tolist()
    numbers = [
        recording.loss[ends[-2] : ends[-1]].mean(), size[0, -1] / size[0, 0], size[-1, -1] / size[-1, 0],
        *size[0], *size[-1],
    ]  # fmt: skip
    for value in numbers:
        assert f"{value:.3g}" in said
    assert f"{recording.origin.final_accuracy:.1%}" in said
    assert recording.digest in said.replace(" ", "")
    assert "relu.safetensors" in said


def test_has_each_layer_room_at_the_head_of_its_column(lab):
    pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")
    layers = ["conv_1", *(f"block_{k}.{part}" for k in range(1, 5) for part in ("conv_1", "shortcut")), "fc"]
    sizes = np.ones((2, len(layers)))
    run = SimpleNamespace(statistic=lambda _: sizes, clip_factor=sizes)
    table = measurements.sizes({"conv.safetensors": run}, layers)
    assert [name.replace(measurements.BREAK, "") for name in table.head[1:]] == layers
    found = replace(document.document(lab, handin.Options()), tables=(table,), sections=())
    content, _ = pdf.write(found)
    lines = {}

    def look(text, place, _, __, size):
        """Where the words of each line of the head begin and, at the least, end."""
        if words := text.strip(f" \n{measurements.BREAK}"):
            lines.setdefault(round(place[5]), []).append((place[4], place[4] + 0.45 * size * len(words)))

    pypdf.PdfReader(io.BytesIO(content)).pages[0].extract_text(visitor_text=look)
    assert sum(len(line) > 5 for line in lines.values()) == 4  # two of the head, two of numbers
    for line in lines.values():
        assert all(end < begin for (_, end), (begin, _) in pairwise(sorted(line)))


def test_is_it_said_of_sizes_that_clipping_came_before(recording):
    clipped = replace(recording, clip_factor=np.full_like(recording.clip_factor, 0.5))
    told = [measurements.sizes({"relu": run}, run.layers).caption for run in (recording, clipped)]
    assert ["clipp" in caption for caption in told] == [False, True]


def test_would_another_recording_be_noticed(made, recording):
    other = replace(recording, loss=recording.loss * 1.5)
    assert measurements.number(measurements.final_loss(other)) not in read_back(made["html"])
    assert other.digest not in read_back(made["html"])


def test_are_figures_of_the_answers_there_with_their_alt_text(made):
    page = Page(made["html"].read_text("utf-8"))
    assert page.images == [LONG, "mine"]
    assert "Figure 1. Loss against iteration, linear scale." in " ".join(page.words.split())
    with zipfile.ZipFile(made["docx"]) as package:
        drawn_in_word = package.read("word/document.xml").decode()
        assert len([name for name in package.namelist() if name.startswith("word/media/")]) == 2
    assert f'descr="{LONG}"' in drawn_in_word
    pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")
    pages = pypdf.PdfReader(made["pdf"]).pages
    assert sum(len(page.images) for page in pages) == 2


@pytest.mark.parametrize("sizes", [[1500, 300], [300, 1500, 300], [300, 300, 300, 1500], [1500], [1500, 1500]])
def test_has_a_figure_with_panels_the_whole_width(sizes, tmp_path):
    figures = [code_cell("x", drawn(png(wide, 300), f"Picture {k}.")) for k, wide in enumerate(sizes)]
    path = written(tmp_path, *figures, words_cell("words", "essay"))
    found = document.document(path, handin.Options())
    pages, _ = pdf.compiled(found, "svg")
    widths = [float(wide) for page in pages for wide in re.findall(r'<image[^>]* width="([\d.]+)"', page.decode())]
    text = (21 - 2 * 2.54) / 2.54 * 72
    assert [round(wide / text, 1) == 1 for wide in widths] == [wide == 1500 for wide in sizes]
    page = handin.report(path, tmp_path / "lab.html").path.read_text("utf-8")
    assert page.count('<figure class="across">') == sizes.count(1500)
    with zipfile.ZipFile(handin.report(path, tmp_path / "lab.docx").path) as package:
        extents = re.findall(r'<wp:extent cx="(\d+)"', package.read("word/document.xml").decode())
    assert [int(one) > 5 * 914_400 for one in extents] == [wide == 1500 for wide in sizes]


@pytest.mark.parametrize(("wide", "dpi", "across"), [
    (1500, None, True), (1200, None, False), (1500, (300, 300), False), (700, (72, 72), True),
    (1500, (1, 1), True), (1200, (10_000, 10_000), False),
])  # fmt: skip
def test_is_it_inches_that_make_a_figure_wide(wide, dpi, across):
    made = io.BytesIO()
    Image.new("RGB", (wide, 300)).save(made, "PNG", **({"dpi": dpi} if dpi else {}))
    assert pictures.opened(base64.b64encode(made.getvalue()).decode()).across is across


def test_is_math_a_formula_everywhere(made, lab):
    page = made["html"].read_text("utf-8")
    assert page.count("<math") == 4
    assert "<mfrac>" in page
    with zipfile.ZipFile(made["docx"]) as package:
        assert package.read("word/document.xml").decode().count("<m:oMath>") == 4
    data, notes = pdf._data(document.document(lab, handin.Options()), lab.parent)
    assert len(data["formulas"]) == 4
    assert not notes


def test_are_answers_double_spaced_in_word(made):
    with zipfile.ZipFile(made["docx"]) as package:
        styles, body = (package.read(f"word/{name}.xml").decode() for name in ("styles", "document"))
    for name in ("Answer", "Compact", "BlockText"):
        style = re.search(rf'<w:style [^>]*w:styleId="{name}".*?</w:style>', styles, re.S)
        assert 'w:line="480" w:lineRule="auto"' in style[0]
    for text, style in (("Clipping shortens", "Answer"), ("firstly", "Compact"), ("quotedly", "BlockText")):
        paragraph = next(part for part in body.split("<w:p>") if text in part)
        assert f'<w:pStyle w:val="{style}"' in paragraph
    assert 'w:val="Question"' in next(part for part in body.split("<w:p>") if "Why does clipping" in part)


def test_are_answers_double_spaced_on_paper(made):
    pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")
    lines = {}

    def visit(text, page, line, _font, size):
        if text.strip():
            height = round(page[5] + page[3] * line[5], 1)
            lines[height] = lines.get(height, "") + text

    reader = pypdf.PdfReader(made["pdf"])
    reader.pages[0].extract_text(visitor_text=visit)
    first = next(height for height, text in lines.items() if "are smaller" in text)
    second = next(height for height, text in lines.items() if "Градиент" in text)
    # twice the 13.8 pt that a line of 12 pt takes in a word processor
    assert abs(first - second) == pytest.approx(27.6, abs=0.2)
    assert len(reader.pages) <= 4
    assert (reader.metadata.title, reader.metadata.author) == ("Vanishing gradients", "ada")


def elements(node):
    """Every element of a PDF's tree of tags: (kind, the words for what is no text)."""
    node = node.get_object()
    if isinstance(node, dict):
        if "/S" in node:
            yield str(node["/S"]), str(node.get("/Alt", ""))
        node = node.get("/K", [])
        node = node.get_object() if hasattr(node, "get_object") else node
        yield from elements(node) if isinstance(node, dict) else ()
    for one in node if isinstance(node, list) else ():
        yield from elements(one) if hasattr(one, "get_object") and not isinstance(one, int) else ()


def test_can_a_screen_reader_follow_the_pdf(made):
    pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")
    root = pypdf.PdfReader(made["pdf"]).trailer["/Root"]
    assert root["/Lang"] == "en-GB"
    assert root["/MarkInfo"]["/Marked"]
    assert b"<pdfuaid:part>1<" in root["/Metadata"].get_data()
    found = list(elements(root["/StructTreeRoot"]))
    said = [words for kind, words in found if kind == "/Figure"]
    assert {LONG, "mine"} <= set(said)
    assert all(said)
    assert sum(kind == "/Formula" for kind, _ in found) == 4
    assert r"x^2 + \frac{a}{b}" in [words for kind, words in found if kind == "/Formula"]
    assert [kind for kind, _ in found].count("/H1") == 4
    assert {"/TH", "/TD", "/Table", "/L"} <= {kind for kind, _ in found}


def test_has_a_page_no_address_but_its_own_images(made):
    page = Page(made["html"].read_text("utf-8"))
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not {"script", "iframe", "object", "link", "form"} & set(page.tags)


def test_is_code_appended_when_it_is_asked_for(lab, tmp_path):
    path = handin.report(lab, tmp_path / "lab.html", handin.Options(code=True, name="Ada Lovelace")).path
    said = read_back(path)
    assert "return 'codeword'" in said
    assert "Ada Lovelace (id ada)" in said


HOSTILE = (
    '#read("{file}") #include("{file}") #import "@preview/cetz:0.4.0"', '*a*(read("{file}"))',
    '`#read("{file}")`{{=typst}}',
    '```{{=typst}}\n#read("{file}")\n```', '```{{=html}}\n<script>alert(1)</script>\n```',
    "<script>alert(1)</script> <b>x</b>", '<img src="{web}" onerror="alert(1)">', "![a]({file}) ![b]({web})",
    "![c](file://{file}) ![d](../{name}) ![e](attachment:no.png)", "[run](javascript:alert(1)) [f](file://{file})",
    "\\input{{{file}}} $\\input{{{file}}}$ $\\text{{#read(\"{file}\")}}$ $#read(\"{file}\")$",
    '$#import "@preview/cetz:0.4.0"$ $\\text{{"); read("{file}")}}$ $x" + read("{file}") + "$',
    "#[ ] @ref <label> */ // /*",
    "<style>@import url({web});</style>", "> " * 400 + "deep", "- " * 200 + "deep", "$" * 501, "[" * 3000, "`" * 999,
    "\x00\x1b[31m \u202e turned \ud800 half", "<!-- gone -->", "a[^1]\n\n[^1]: ![n]({file})", "x" * 150_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def web():
    """(address, what was asked for there)."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x.png", asked
    server.shutdown()
    server.server_close()


def test_is_nothing_run_opened_or_fetched(web, tmp_path):
    """All of it in one notebook: each answer has to be there, and the ones after it too."""
    address, asked = web
    secret = tmp_path / "secret.txt"
    secret.write_text("TOKEN-OF-THE-FILE")
    cells = [words_cell("# A lab <script>alert(1)</script> $x$"), code_cell('student = "<b>#read(1)</b>"')]
    for number, text in enumerate(HOSTILE):
        typed = text.format(file=secret, web=address, name=secret.name)
        cells += [
            words_cell(f"## Heading {number}\n\n{typed}"),
            words_cell(f"{typed}\n\nend{number}", f"cell_{number}"),
        ]
    path = written(tmp_path / "lab", *cells)
    for form in FORMS:
        out = handin.report(path, tmp_path / f"lab.{form}").path
        assert b"TOKEN-OF-THE-FILE" not in out.read_bytes()
        if form == "html":
            page = Page(out.read_text("utf-8"))
            assert not {"script", "iframe", "object", "link", "img"} & set(page.tags)
            assert all(link.startswith(("#", address)) for link in page.links)
            for number, text in enumerate(HOSTILE):
                if len(text) < 1000:
                    assert f"end{number}" in page.words, text[:60]
    assert asked == []


@pytest.mark.parametrize(("tex", "sets"), [
    (r"\frac{a}{b}", True), (r"\text{#read(\"a\")}", True), (r"\mathbb{E}[x]", True),
    (r"c_t = f_t \odot c_{t-1}, \qquad h_t = o_t \odot \tanh(c_t)", True), (r"\mathrm{E}\!\left[x\right]\; y", True),
    (r"\bigl[ x \bigr] \bigl( x \bigr) \big\{ x \big\} \big| x \big|", True), (r"A \cap B \otimes C \ominus D", True),
    (r"\text{dot.circle, sect and \#h(2em)} \qquad x", True),
    (r"\unknown{x}", False), ('#read("/etc/hostname")', False), ("", False), (r"\input{a}", False),
])  # fmt: skip
def test_is_a_formula_set_or_shown_as_it_was_typed(tex, sets):
    spelt, strange = pdf.formulas([tex])
    assert (tex in spelt, tex in strange) == (sets, not sets)


def test_does_one_strange_formula_leave_the_others_as_they_are():
    spelt, strange = pdf.formulas(["a^2", r"\nothing", "b_1", "a^2"])
    assert (list(spelt), strange) == (["a^2", "b_1"], [r"\nothing"])


def test_is_a_character_without_a_font_named(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda _region: iter(()))
    path = written(tmp_path, words_cell("Why? 漢", "essay"), words_cell("字 and 🎉, äαЖ→∞", "words"))
    data, notes = pdf._data(document.document(path, handin.Options(name="李")), tmp_path)
    text = json.dumps(data, ensure_ascii=False)
    assert "[U+5B57]" in text
    assert "[party popper]" in text
    assert "äαЖ→∞" in text
    assert "字" not in text
    assert re.match(r"no font here has .*字 \(U\+5B57\).*🎉 \(U\+1F389\): .*; install ", notes[0])
    assert "字" not in " ".join(data["notes"])
    assert data["properties"]["author"] == "李"
    assert "[U+674E]" in data["name"]
    said = handin.report(path, tmp_path / "lab.pdf", handin.Options(name="李")).notes
    assert any("install" in note and "or hand in the .docx or .html" in note for note in said)
    assert "字 and 🎉" in read_back(handin.report(path, tmp_path / "lab.docx").path)
    assert "字 and 🎉" in read_back(handin.report(path, tmp_path / "lab.html").path)


@pytest.mark.parametrize(("content", "words_of"), [
    (b"no notebook", "is not a notebook, or is cut off"), (b"[" * 100_000, "is not a notebook"),
    (b'{"nbformat": 3, "worksheets": []}', "is not a notebook of format 4"),
    (b'{"nbformat": 4, "cells": {}}', "is not a notebook of format 4"),
    (b'{"nbformat": 4, "cells": [7, {"cell_type": 3}, {"source": [1, null]}]}', "has no cell for an answer in words"),
    (None, "cannot be read (No such file or directory)"),
])  # fmt: skip
def test_is_what_is_no_notebook_one_sentence(tmp_path, content, words_of):
    path = tmp_path / "lab.ipynb"
    if content is not None:
        path.write_bytes(content)
    shown = CliRunner().invoke(main, ["report", str(path), "-o", str(tmp_path / "lab.pdf")])
    assert shown.exit_code == 1
    assert words_of in shown.output
    assert "Traceback" not in shown.output
    assert not (tmp_path / "lab.pdf").exists()


@pytest.mark.parametrize(("arguments", "words_of"), [
    (["-o", "lab.tex"], "files of the kind .tex cannot be written here: choose from .pdf (PDF), .docx (Word document)"),
    (["-o", "lab"], "which has no suffix"), (["--html", "-o", "lab.pdf"], "name a file that ends in .html"),
    (["-o", "nowhere/lab.docx"], "cannot be written"), (["--figures", "-1"], "not in the range"),
    (["--paper", "a3"], "is not one of"),
])  # fmt: skip
def test_is_what_cannot_be_written_one_sentence(lab, tmp_path, arguments, words_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["report", str(lab), *arguments])
    assert shown.exit_code != 0
    assert words_of in " ".join(shown.output.split())
    assert list(tmp_path.iterdir()) == []


def test_does_the_command_write_beside_the_notebook(lab, tmp_path):
    path = written(tmp_path, *CELLS)
    shown = CliRunner().invoke(main, ["report", str(path), "--html"])
    assert shown.exit_code == 0
    assert (tmp_path / "lab.html").is_file()
    assert "note: there is no recording beside the notebook" in shown.output


def test_is_broken_content_left_out_and_named(recording, tmp_path):
    (tmp_path / "outside").mkdir()
    recording.save(tmp_path / "outside" / "relu.safetensors")
    broken = {"output_type": "display_data", "data": {"image/png": "AAAA"}, "metadata": {"image/png": "none"}}
    path = written(
        tmp_path / "lab", code_cell("x", broken, drawn(png(20_000, 10)), {"output_type": "error"}, "no output"),
        code_cell("y", printed("x" * 10_000_000), {"output_type": "display_data", "data": None}),
        words_cell("YOUR ANSWER HERE", "blank"), {"cell_type": "markdown", "metadata": 3, "source": None}, 7,
        words_cell("written ![i](attachment:i.png)", "essay", attachments={"i.png": {"image/png": "%%%"}, "j": None}),
    )  # fmt: skip
    folder = path.parent
    (folder / "damaged.safetensors").write_bytes(b"junk")
    (folder / "linked.safetensors").symlink_to(tmp_path / "outside" / "relu.safetensors")
    (folder / "folder.safetensors").mkdir()
    notes = "\n".join(handin.report(path, tmp_path / "lab.html").notes)
    for text in (
        "does not say whose it is", "still to be written: blank", "damaged.safetensors is cut off", "no PNG or JPEG",
        "20,000 by 10 pixels", "the image i.png in essay is left out", "there is no recording",
    ):  # fmt: skip
        assert text in notes
    said = read_back(tmp_path / "lab.html")
    assert "No answer yet." in said
    assert recording.digest not in said


def test_is_a_recording_of_another_student_named(recording, tmp_path):
    recording.save(tmp_path / "relu.safetensors")
    path = written(tmp_path, code_cell('student = "ada"'), words_cell("words", "essay"))
    notes = handin.report(path, tmp_path / "lab.html").notes
    assert any("the notebook is ada's, but there are recordings of short" in note for note in notes)


def test_are_the_last_figures_chosen_and_no_kind_twice_before_all_are_there():
    figures = [Drawn(kind, str(k), "") for k, kind in enumerate("aabcb")]
    assert [one.content for one in document.chosen(figures, 3)] == ["1", "3", "4"]
    assert [one.content for one in document.chosen(figures, 4)] == ["1", "2", "3", "4"]
    assert len(document.chosen(figures, 99)) == 5
    assert document.chosen(figures, 0) == []


@pytest.mark.parametrize(("alt", "caption"), [
    (LONG, "Loss against iteration, linear scale."), ("Short. A. The next sentence is there, too. No.",
     "Short. A. The next sentence is there, too."), ("", ""), ("x" * 300, f"{'x' * 240} …"),
])  # fmt: skip
def test_is_a_caption_what_is_drawn(alt, caption):
    assert pictures.caption(alt) == caption


def test_does_a_caption_name_whose_figure_it_is_and_leave_its_numbers_to_the_figure():
    begins = "Mean |gradient| against iteration, log scale."
    plain, conv = f"{begins} ReLU, weights × 0.5: at iteration 1 fc_1 3.", f"{begins} Conv: at iteration 1 conv_1 4."
    assert pictures.caption(plain, [conv]) == f"{begins} ReLU, weights × 0.5 …"
    assert pictures.caption(conv, [plain]) == f"{begins} Conv …"
    assert pictures.caption(plain) == begins
    assert pictures.caption("Weight histograms. Tanh: before training mean 1, S.D. 2.") == "Weight histograms. Tanh …"


def test_do_captions_tell_figures_apart_wherever_they_stand(tmp_path):
    clipped = "Gradient norms by iteration, log scale. RNN: clipped in {} of the iterations; largest 3. More."
    told = [clipped.format("none"), "Loss against iteration, linear scale. ReLU.", clipped.format("all"), "Short.", ""]
    cells = [part for k, alt in enumerate(told)
             for part in (code_cell("x", drawn(png(), alt)), words_cell("words", f"essay_{k}"))]  # fmt: skip
    found = document.document(written(tmp_path, *cells), handin.Options())
    captions = [figure.caption for section in found.sections for figure in section.figures]
    assert captions == [
        "Gradient norms by iteration, log scale. RNN: clipped in none of the iterations; largest 3.",
        "Loss against iteration, linear scale.",
        "Gradient norms by iteration, log scale. RNN: clipped in all of the iterations; largest 3.", "Short.", "",
    ]  # fmt: skip


def test_is_a_large_image_made_fit_for_print():
    picture = pictures.opened(png(4000, 2000))
    assert (picture.width, picture.height) == (1600, 800)
    with pytest.raises(pictures.PictureError, match=r"8,000 by 8,000 pixels"):
        pictures.opened(png(8000, 8000))


@pytest.mark.parametrize(("typed", "kinds"), [
    ("$x$", ["Math"]), ("$ x $", ["Math"]), (r"\\(x\\)", ["Math"]), ("`$x$`", ["Code"]), ("costs $5, not $6", []),
    (r"\$x\$", []), ("$$x$$", ["Math"]), ("\\begin{equation}x\\end{equation}", ["Math"]),
])  # fmt: skip
def test_is_a_formula_what_jupyter_takes_for_one(typed, kinds):
    blocks = words.parsed(typed, lambda *_: {})
    assert [node["t"] for node in blocks[0]["c"] if node["t"] in ("Math", "Code")] == kinds


def test_does_importing_the_notebook_reader_load_no_torch(lab):
    found = notebook.read(lab)
    assert (found.title, found.student) == ("Vanishing *gradients*", "ada")
    assert [answer.name for answer in found.answers] == ["figures", "question_1"]
    assert [name for name, _ in found.code] == ["student_id", "answer_f"]
