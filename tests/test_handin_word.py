"""The Word document of a hand-in: is it one that Word, a screen reader and a printer get along with?

Read back as XML, by the names of the standard (ECMA-376).
"""

import zipfile
from datetime import date
from xml.etree import ElementTree

import pytest
from handin_notebook import CELLS, LONG, written

from labkit import handin
from labkit.training import train

NAMES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
    "rel": "http://schemas.openxmlformats.org/package/2006/relationships",
}
TODAY = date(2026, 3, 2)
EMU = 914_400  # English metric units of an inch
OPTIONS = handin.Options(name="Ada <Lovelace> & Co", paper="us-letter")


@pytest.fixture(scope="module")
def recording(short):
    return train(short, device="cpu", progress=False)


@pytest.fixture(scope="module")
def package(recording, tmp_path_factory):
    """The document's parts by their names."""
    folder = tmp_path_factory.mktemp("word")
    recording.save(folder / "relu.safetensors")
    path = handin.report(written(folder, *CELLS), folder / "lab.docx", OPTIONS, TODAY).path
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def body(package):
    return ElementTree.fromstring(package["word/document.xml"])


def every(node, path):
    return node.findall(path, NAMES)


def value(node, path, name="val", kind="w"):
    found = node.find(path, NAMES)
    return None if found is None else found.get(f"{{{NAMES[kind]}}}{name}")


def text(node):
    return "".join(one.text or "" for one in node.iter(f"{{{NAMES['w']}}}t"))


def styled(body, style):
    return [text(one) for one in every(body, ".//w:p") if value(one, "w:pPr/w:pStyle") == style]


def test_are_all_parts_whole(package):
    """Each part is XML, each relation leads to a part, and each part has its kind declared."""
    for name, content in package.items():
        if name.endswith((".xml", ".rels")):
            ElementTree.fromstring(content)
    relations = ElementTree.fromstring(package["word/_rels/document.xml.rels"])
    targets = {one.get("Id"): one.get("Target") for one in every(relations, "rel:Relationship")}
    assert {f"word/{target}" for target in targets.values()} <= set(package)
    declared = package["[Content_Types].xml"].decode()
    assert all(f'PartName="/word/{name}"' in declared for name in targets.values())


def test_is_whose_it_is_in_its_properties(package):
    about = ElementTree.fromstring(package["docProps/core.xml"])
    said = [about.find(name, NAMES).text for name in ("dc:title", "dc:creator", "dc:language", "dcterms:created")]
    assert said == ["Vanishing gradients", "Ada <Lovelace> & Co", "en-GB", "2026-03-02T12:00:00Z"]


def test_are_headings_those_of_word(body, package):
    assert styled(body, "Title") == ["Vanishing gradients"]
    assert styled(body, "Heading1") == ["Look at it", "Question 1: exploding", "Measured numbers", "Notes"]
    assert styled(body, "About")[:2] == ["Ada <Lovelace> & Co (id ada)", "2 March 2026"]
    styles = ElementTree.fromstring(package["word/styles.xml"])
    level = styles.find(".//w:style[@w:styleId='Heading1']/w:pPr/w:outlineLvl", NAMES)
    assert level.get(f"{{{NAMES['w']}}}val") == "0"
    used = {value(one, "w:pPr/w:pStyle") for one in every(body, ".//w:p")} - {None}
    assert used <= {one.get(f"{{{NAMES['w']}}}styleId") for one in every(styles, "w:style")}


def test_has_the_page_its_size_and_its_number(body, package):
    section = body.find("w:body/w:sectPr", NAMES)
    assert value(section, "w:pgSz", "w") == "12240"  # 8.5 by 11 inches, in twentieths of a point
    assert value(section, "w:pgSz", "h") == "15840"
    assert {value(section, "w:pgMar", side) for side in ("top", "right", "bottom", "left")} == {"1440"}
    relations = ElementTree.fromstring(package["word/_rels/document.xml.rels"])
    footer = value(section, "w:footerReference", "id", "r")
    (target,) = [one.get("Target") for one in every(relations, "rel:Relationship") if one.get("Id") == footer]
    shown = ElementTree.fromstring(package[f"word/{target}"])
    assert text(shown) == "Ada <Lovelace> & Co, page 1 of 1"
    fields = [one.get(f"{{{NAMES['w']}}}instr") for one in every(shown, ".//w:fldSimple")]
    assert fields == ["PAGE", "NUMPAGES"]


def test_are_figures_at_print_size_and_said_in_words(body, package):
    shown = every(body, ".//wp:inline")
    assert [one.find("wp:docPr", NAMES).get("descr") for one in shown] == [
        "An older drawing of the same kind, which is left out.", LONG, "mine",
    ]  # fmt: skip
    for one in shown[:2]:
        wide, high = (int(one.find("wp:extent", NAMES).get(side)) / EMU for side in ("cx", "cy"))
        assert wide == pytest.approx(2.95, abs=0.01)
        assert high == pytest.approx(2.95 * 200 / 300, abs=0.01)
    # two beside each other, within A4 and its margins: nothing of them is cut off
    styles = ElementTree.fromstring(package["word/styles.xml"])
    cell = styles.find(".//w:style[@w:styleId='Table']//w:tblCellMar", NAMES)
    sides = sum(int(value(cell, f"w:{side}", "w")) for side in ("left", "right")) / 1440
    assert 2 * (2.95 + sides) <= 210 / 25.4 - 2
    relations = ElementTree.fromstring(package["word/_rels/document.xml.rels"])
    targets = {one.get("Id"): one.get("Target") for one in every(relations, "rel:Relationship")}
    for one in shown:
        assert package[f"word/{targets[value(one, './/a:blip', 'embed', 'r')]}"].startswith(b"\x89PNG")


def test_is_no_image_there_a_second_time_as_its_address(body, package):
    assert {one.get("descr") for one in every(body, ".//pic:cNvPr")} == {""}
    assert b"base64" not in package["word/document.xml"]


def test_are_measured_numbers_tables_with_a_header(body, recording):
    numbers = [one for one in every(body, ".//w:tbl") if styled(one, "Measured")]
    head = ("run", "iterations", "loss, mean of the last epoch")
    assert [text(cell) for cell in every(numbers[0], "w:tr[1]/w:tc")][:3] == list(head)
    for table in numbers:
        assert table.find("w:tr[1]/w:trPr/w:tblHeader", NAMES) is not None
        assert table.find("w:tr[2]/w:trPr/w:tblHeader", NAMES) is None
    first = [text(cell) for cell in every(numbers[0], "w:tr[2]/w:tc")]
    assert first[:2] == ["relu", f"{recording.iterations:,}"]
    assert styled(numbers[-1], "Digest") == ["digest", recording.digest][1:]


def test_are_equations_those_of_word(body):
    assert len(every(body, ".//m:oMath")) == 4
    assert len(every(body, ".//m:oMathPara")) == 2
    assert len(every(body, ".//m:f")) >= 3
    assert not every(body, ".//m:oMath//w:t")


def test_is_what_is_written_from_the_right_set_so(tmp_path):
    cells = (*CELLS[:-1], {**CELLS[-1], "source": "في كل طبقة\n\nin each layer"})
    path = handin.report(written(tmp_path, *cells), tmp_path / "lab.docx").path
    with zipfile.ZipFile(path) as opened:
        body = ElementTree.fromstring(opened.read("word/document.xml"))
    right = [text(one) for one in every(body, ".//w:p") if one.find("w:pPr/w:bidi", NAMES) is not None]
    assert right == ["في كل طبقة"]
    assert "في كل طبقة" in styled(body, "Answer")
