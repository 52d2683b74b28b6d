"""Which fonts a PDF needs for the characters in it, and what is to be said of a character that none of them has.

Typst brings a serif for Latin, Greek and Cyrillic, matplotlib brings DejaVu: signs, arrows, Arabic, the usual faces.
Other scripts come from the fonts of the machine, and from two packages of Noto fonts where they are installed.
"""

import struct
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from labkit.handin.notebook import HandInError

SERIF = "Libertinus Serif"  # in Typst itself
BROAD = "DejaVu Sans"  # comes with matplotlib
# blocks of which it has every character: punctuation, Greek, Cyrillic, arrows, operators. They need no look at the file
HAS = ((0x20, 0x24F), (0x391, 0x3C9), (0x400, 0x4FF), (0x2010, 0x2027), (0x2030, 0x205E), (0x2190, 0x22FF))
JOINERS = "\u200b\u200c\u200d\ufe0e\ufe0f"  # they say how their neighbours are drawn, and have no picture of their own
# the extra `fonts` in pyproject.toml: emoji and twenty scripts; Chinese, Japanese and Korean
SCRIPTS, EAST_ASIAN = "manimgx-fonts", "manimgx-fonts-cjk"
EAST_ASIAN_NAMES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPH", "FULLWIDTH", "HALFWIDTH")
# fonts that have a frame or nothing for every character; one comes with matplotlib, one with macOS
NO_FONTS = ("lastresort", "adobeblank")
MOST_NAMED = 12  # characters that a note names


def folders() -> list[Path]:
    """Where there are fonts besides those of the machine."""
    return [_fonts_of_matplotlib(), *_packs()]


def _packs() -> list[Path]:
    return [folder for pack in (SCRIPTS, EAST_ASIAN) if (folder := _folder(pack))]


def covering(text: set[str]) -> tuple[list[str], list[str]]:
    """Further font families that the text needs, and the characters that no font here has."""
    open_ = {one for one in text if one.isprintable() and one not in JOINERS}
    open_ = {one for one in open_ if not any(low <= ord(one) <= high for low, high in HAS)}
    if open_:
        open_ -= _characters(str(_fonts_of_matplotlib() / "DejaVuSans.ttf"))
    families = list[str]()
    for family, path in _installed(_region(open_)) if open_ else ():
        if found := open_ & _characters(path):
            families.append(family)
            open_ -= found
    return list(dict.fromkeys(families)), sorted(open_)


def said(missing: Sequence[str], drawn: bool) -> Iterator[str]:
    """A sentence on characters without a font; `drawn` where it is shown by something that has them all."""
    if not missing:
        return
    named = ", ".join(f"{one} (U+{ord(one):04X})" if drawn else f"U+{ord(one):04X}" for one in missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED:,} more" if len(missing) > MOST_NAMED else ""
    packs = sorted({pack for pack in map(_pack, missing) if _folder(pack) is None})
    cure = f"the Python package{'s' * (len(packs) > 1)} {' and '.join(packs)}" if packs else "a font that has them"
    yield (f"no font here has {named}{more}: the PDF names them in square brackets; install {cure}, "
           "or hand in the .docx or .html")  # fmt: skip


def word(one: str) -> str:
    """What stands in a PDF for a character that no font has: its name, or its number where the name only says that."""
    name = unicodedata.name(one, "")
    known = name and not any(sign.isdigit() for sign in name) and "IDEOGRAPH" not in name
    return f"[{name.lower()}]" if known else f"[U+{ord(one):04X}]"


def _pack(one: str) -> str:
    return EAST_ASIAN if any(part in unicodedata.name(one, "") for part in EAST_ASIAN_NAMES) else SCRIPTS


def _region(text: set[str]) -> str:
    """Whose forms of Chinese characters these texts want, as Noto's collection names them."""
    names = [unicodedata.name(one, "") for one in text]
    if any(name.startswith(("HIRAGANA", "KATAKANA")) for name in names):
        return " JP"
    return " KR" if any(name.startswith("HANGUL") for name in names) else " SC"


def _fonts_of_matplotlib() -> Path:
    """Without importing matplotlib, which takes as long as all the rest."""
    folder = _folder("matplotlib")
    if folder is None:
        raise HandInError("matplotlib, whose fonts a PDF needs, is not installed: install gradient-lab again")
    return folder / "mpl-data" / "fonts" / "ttf"


def _folder(package: str) -> Path | None:
    found = find_spec(package.replace("-", "_"))
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def _installed(region: str) -> Iterator[tuple[str, str]]:
    """(family, file) of each upright font, the regular ones first; of a collection the family for that region."""
    import typst

    fonts = typst.Fonts(include_embedded_fonts=False, font_paths=list(_packs())).fonts()
    families: dict[str, list[str]] = {}
    for font in sorted(fonts, key=lambda one: (one.weight != 400, "Mono" in one.family)):
        plain = font.family.replace(" ", "").lower()
        if font.path and font.style == "normal" and not any(name in plain for name in NO_FONTS):
            families.setdefault(font.path, []).append(font.family)
    for path, names in families.items():
        yield next((name for name in names if name.endswith(region)), names[0]), path


@cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return _characters_by_table(path)


def _characters_by_table(path: str) -> frozenset[str]:
    """The same of a font that matplotlib before 3.11 cannot load, such as Noto's collection for East Asia."""
    from fontTools.ttLib import TTFont, TTLibError  # matplotlib's own dependency

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(map(chr, font.getBestCmap() or ()))
    except (OSError, ValueError, AssertionError, KeyError, struct.error, TTLibError):  # as damaged fonts give them
        return frozenset()
