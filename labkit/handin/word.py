"""What a Word document needs beyond pandoc's: our paragraph styles, the page with its number, whose it is.

A package of Word is a ZIP file of XML; pandoc makes it, and a few of its parts are completed here.
"""

import io
import re
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time
from functools import cache
from xml.sax.saxutils import escape, quoteattr

DOUBLE = '<w:spacing w:line="480" w:lineRule="auto" w:before="0" w:after="160"/>'
SINGLE = '<w:spacing w:line="240" w:lineRule="auto" w:before="40" w:after="80"/>'
HEAD = '<w:spacing w:line="240" w:lineRule="auto" w:before="280" w:after="80"/>'
NARROW = '<w:spacing w:line="240" w:lineRule="auto" w:before="0" w:after="0"/>'
PAPERS = {"a4": (11906, 16838), "us-letter": (12240, 15840)}  # twentieths of a point
MARGIN = 1440  # 2.54 cm
MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
FOOTER, FOOTER_ID = "footer1.xml", "rIdFooter"
FOOTER_KIND = "application/vnd.openxmlformats-officedocument.wordprocessingml.footer+xml"
# the words for a picture stand in wp:docPr; here pandoc repeats its address, which is the whole image
ADDRESS = re.compile(r'(<pic:cNvPr\b[^>]*?\bdescr=")data:[^"]*(")')
SECTION = re.compile(r"<w:sectPr\b[^>]*>(.*?)</w:sectPr>(?=\s*</w:body>)", re.S)


def completed(content: bytes, title: str, author: str, day: date, paper: str) -> bytes:
    """The package `content` with all that a hand-in needs."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        changed: dict[str, Callable[[str], str]] = {
            "word/styles.xml": styled,
            "word/document.xml": lambda xml: ADDRESS.sub(r"\1\2", paged(xml, paper)),
            "word/_rels/document.xml.rels": _related,
            "[Content_Types].xml": _declared,
            "docProps/core.xml": lambda xml: signed(xml, title, author, day),
        }
        for item in old.infolist():
            part = old.read(item)
            change = changed.get(item.filename)
            new.writestr(item, change(part.decode()).encode() if change else part)
        new.writestr(f"word/{FOOTER}", _footer(author))
    return made.getvalue()


def signed(xml: str, title: str, author: str, day: date) -> str:
    """Title, author and date, as a file manager and a screen reader say them."""
    moment = datetime.combine(day, time(12)).isoformat() + "Z"
    xml = re.sub(r"<dc:title>.*?</dc:title>", lambda _: f"<dc:title>{escape(title)}</dc:title>", xml, flags=re.S)
    xml = re.sub(r"<dc:creator>.*?</dc:creator>", lambda _: f"<dc:creator>{escape(author)}</dc:creator>", xml,
                 flags=re.S)  # fmt: skip
    return re.sub(r"(<dcterms:(created|modified)\b[^>]*>)[^<]*", rf"\g<1>{moment}", xml)


def paged(xml: str, paper: str) -> str:
    """The body on that paper, its pages numbered."""
    width, height = PAPERS[paper]
    sides = " ".join(f'w:{side}="{MARGIN}"' for side in ("top", "right", "bottom", "left"))
    page = (f'<w:pgSz w:w="{width}" w:h="{height}"/>'
            f'<w:pgMar {sides} w:header="708" w:footer="708" w:gutter="0"/>')  # fmt: skip
    footer = f'<w:footerReference w:type="default" r:id="{FOOTER_ID}"/>'
    # the order of a section's parts is fixed: footers, notes, paper
    return SECTION.sub(lambda found: f"<w:sectPr>{footer}{found[1]}{page}</w:sectPr>", xml)


def _footer(author: str) -> str:
    def field(code: str) -> str:
        return f"<w:fldSimple w:instr={quoteattr(code)}><w:r><w:t>1</w:t></w:r></w:fldSimple>"

    def text(words: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{escape(words)}</w:t></w:r>'

    said = text(f"{author}, page " if author else "page ")
    return (f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><w:ftr xmlns:w="{MAIN}"><w:p><w:pPr>'
            f'<w:pStyle w:val="About"/><w:jc w:val="center"/></w:pPr>{said}{field("PAGE")}{text(" of ")}'
            f"{field('NUMPAGES')}</w:p></w:ftr>")  # fmt: skip


def _related(xml: str) -> str:
    entry = f'<Relationship Type="{OFFICE}/footer" Id="{FOOTER_ID}" Target="{FOOTER}"/>'
    return xml.replace("</Relationships>", f"{entry}</Relationships>")


def _declared(xml: str) -> str:
    return xml.replace("</Types>", f'<Override PartName="/word/{FOOTER}" ContentType="{FOOTER_KIND}"/></Types>')


def styled(xml: str) -> str:
    """Our paragraph styles in the place of pandoc's of the same names, and cells without its wide margins."""
    xml = re.sub(r'(<w:(left|right) w:type="dxa" w:w=")108"', r'\g<1>50"', xml)
    for name, format_ in _formats().items():
        xml = re.sub(rf'<w:style\b[^>]*w:styleId="{name}"[^>]*>.*?</w:style>', "", xml, flags=re.S)
        xml = xml.replace("</w:styles>", f"{format_}</w:styles>")
    return xml


@cache
def _formats() -> dict[str, str]:
    def style(
        id: str, spacing: str, size: float, keep: str = "", indent: str = "", run: str = "", name: str = ""
    ) -> str:
        half = round(2 * size)
        face = f'<w:rPr>{run}<w:sz w:val="{half}"/><w:szCs w:val="{half}"/></w:rPr>'
        around = f"<w:pPr>{keep}{spacing}{indent}</w:pPr>{face}"
        return (f'<w:style w:type="paragraph" w:customStyle="1" w:styleId="{id}"><w:name w:val="{name or id}"/>'
                f'<w:basedOn w:val="Normal"/><w:qFormat/>{around}</w:style>')  # fmt: skip

    typed = '<w:rFonts w:ascii="Consolas" w:hAnsi="Consolas" w:cs="Consolas"/>'
    return {
        "Title": style("Title", SINGLE, 18, run="<w:b/>"),
        "Heading1": style("Heading1", HEAD, 14, "<w:keepNext/>", '<w:outlineLvl w:val="0"/>', "<w:b/>", "heading 1"),
        "Answer": style("Answer", DOUBLE, 12),
        "Compact": style("Compact", DOUBLE, 12),
        "BlockText": style("BlockText", DOUBLE, 12, indent='<w:ind w:left="480"/>', name="Block Text"),
        "SourceCode": style("SourceCode", SINGLE, 10, run=typed, name="Source Code"),
        "Question": style("Question", SINGLE, 10, run="<w:i/>"),
        "About": style("About", SINGLE, 10),
        "Measured": style("Measured", NARROW, 8),
        "Digest": style("Digest", NARROW, 6, run=typed),
        "Caption": style("Caption", SINGLE, 9, "<w:keepNext/>"),
        # as large as the words around it
        "VerbatimChar": '<w:style w:type="character" w:customStyle="1" w:styleId="VerbatimChar">'
                        f'<w:name w:val="Verbatim Char"/><w:rPr>{typed}</w:rPr></w:style>',
    }  # fmt: skip
