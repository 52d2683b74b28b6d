"""Does the PDF of a hand-in show every character, or say which it cannot show?"""

import unicodedata
from pathlib import Path

import pytest
from handin_notebook import read_back, words_cell, written
from matplotlib.ft2font import FT2Font

from labkit import handin
from labkit.handin import fonts


def test_has_the_font_at_hand_what_it_is_said_to_have():
    known = fonts._characters(str(fonts._fonts_of_matplotlib() / "DejaVuSans.ttf"))
    said = {chr(number) for low, high in fonts.HAS for number in range(low, high + 1)}
    assert {one for one in said if unicodedata.category(one)[0] != "C"} <= known
    assert "漢" not in known


@pytest.mark.parametrize(("missing", "there", "cure"), [
    ("字", (), "install the Python package manimgx-fonts-cjk, or"), ("字한の，", (), "package manimgx-fonts-cjk, or"),
    ("🎉", (), "install the Python package manimgx-fonts, or"),
    ("字ह", (), "install the Python packages manimgx-fonts and manimgx-fonts-cjk, or"),
    ("字", ("manimgx-fonts-cjk",), "install a font that has them, or"),
    ("字ह", ("manimgx-fonts-cjk",), "install the Python package manimgx-fonts, or"),
])  # fmt: skip
def test_is_said_what_to_install_for_a_character_without_a_font(missing, there, cure, monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "_folder", lambda pack: tmp_path if pack in there else None)
    (note,) = fonts.said(missing, drawn=True)
    assert cure in note
    assert f"{missing[0]} (U+{ord(missing[0]):04X})" in note
    assert list(fonts.said("", drawn=True)) == []


def test_are_many_characters_without_a_font_counted():
    (note,) = fonts.said([chr(0x5000 + k) for k in range(15)], drawn=False)
    assert note.count("U+50") == 12
    assert "and 3 more" in note


def test_is_a_frame_for_every_character_no_font(monkeypatch):
    """matplotlib brings such a font: with it nothing is missing, and all of it is frames."""
    frames = str(fonts._fonts_of_matplotlib() / "LastResortHE-Regular.ttf")
    if not Path(frames).is_file():
        pytest.skip("matplotlib before 3.11 brings no such font")
    assert {"漢", "ह"} <= fonts._characters(frames)
    monkeypatch.setattr(fonts, "_packs", lambda: [fonts._fonts_of_matplotlib()])
    assert frames not in [path for _, path in fonts._installed(" SC")]
    assert any(path.endswith("DejaVuSans.ttf") for _, path in fonts._installed(" SC"))


def test_has_a_font_by_its_table_the_characters_that_matplotlib_finds(tmp_path):
    for path in fonts._fonts_of_matplotlib().glob("DejaVuSans*.ttf"):
        assert fonts._characters_by_table(str(path)) == frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    damaged = tmp_path / "damaged.ttf"
    whole = path.read_bytes()
    for content in (b"", b"no font", whole[:8], whole[:1000], whole[:20_000]):
        damaged.write_bytes(content)
        assert fonts._characters_by_table(str(damaged)) == frozenset()


@pytest.mark.parametrize(("text", "region"), [("漢字かな", " JP"), ("漢字 한국", " KR"), ("汉字", " SC"), ("ह", " SC")])
def test_are_chinese_characters_drawn_as_their_neighbours_want_them(text, region):
    assert fonts._region(set(text)) == region


def test_are_the_packages_of_fonts_found_and_enough(tmp_path):
    for pack in (fonts.SCRIPTS, fonts.EAST_ASIAN):
        pytest.importorskip(pack.replace("-", "_"), reason="the extra `fonts` is not installed")
    text = "李小龙 勾配 기울기 मान קורס ไทย 🎉 👩‍🔬"
    assert fonts.covering(set(text))[1] == []
    path = written(tmp_path, words_cell("Why?"), words_cell(text, "words"))
    made = handin.report(path, tmp_path / "lab.pdf", handin.Options(name="李小龙"))
    assert not any("no font" in note for note in made.notes)
    for part in ("李小龙", "勾配", "기울기", "ไทย", "🎉"):
        assert part in read_back(made.path)
