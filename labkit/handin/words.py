"""What a student wrote, as pandoc's tree of blocks, without anything that a program would run, open or fetch.

Markdown is read as JupyterLab shows it (GitHub's kind, with formulas in dollars). Raw HTML is shown as it was typed,
and so is whatever stands between marks of another program: this tree holds words, formulas, lists, tables and the
images that were dropped into the cell. Addresses of images are never followed.
"""

import json
import re
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from labkit.handin.notebook import HandInError

Node = dict[str, Any]
Blocks = list[Node]

NOTHING = ["", [], []]  # pandoc's attributes, without any
READ = "commonmark+pipe_tables+strikeout+footnotes+task_lists+autolink_bare_uris+tex_math_dollars"
DEEPEST = 24  # levels of lists and quotations; what is deeper is shown as it was typed
SECONDS = 60
# tags that only dress the words between them, which stay; any other stands there as it was typed
DRESS = re.compile(r"</?(b|i|u|em|strong|span|font|center|small|big|div|p|sub|sup|mark|kbd|a)(\s[^<>]*)?/?>", re.I)
BREAK = re.compile(r"<br\s*/?>", re.I)
COMMENT = re.compile(r"<!--.*?-->", re.S)
FENCE = re.compile(
    r"(^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\2[^\n]*$|\Z)|(?<!`)(`+)(?!`).*?(?<!`)\3(?!`))", re.M | re.S
)
# formulas as a notebook's MathJax takes them and pandoc does not
ENVIRONMENT = re.compile(
    r"(\$\$.*?\$\$)|\\begin\{((?:align|equation|gather|multline|eqnarray)\*?)\}(.*?)\\end\{\2\}", re.S
)
DOLLARS = re.compile(r"(?<![\\$])\$(?!\$)([^$\n]+?)(?<!\\)\$(?!\$)(?=(\d?))")
BRACKETS = ((re.compile(r"\\\\\((.+?)\\\\\)", re.S), "$"), (re.compile(r"\\\\\[(.+?)\\\\\]", re.S), "$$"))
LINKS = ("https://", "http://", "mailto:")

Show = Callable[[str, Blocks], Node]  # (address, words beside the image) -> what stands in its place


def pandoc(arguments: list[str], given: bytes) -> bytes:
    """What pandoc makes of `given`; it opens no file that its arguments do not name, and reaches no network."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "+RTS", "-M2g", "-RTS", "--sandbox", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HandInError(f"pandoc could not be run ({error}): install pypandoc-binary again") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise HandInError(f"pandoc could not write the document: {said}")
    return done.stdout


def parsed(markdown: str, show: Show) -> Blocks:
    """The blocks of a text. What pandoc cannot read, or what is nested out of all reason, stands there as typed."""
    if not markdown.strip():
        return []
    try:
        found = json.loads(pandoc(["-f", READ, "-t", "json"], _math_marked(markdown).encode()))
        blocks: Blocks = _cleaned(found["blocks"], show, 0)
        return blocks
    except (HandInError, RecursionError, _TooDeepError):
        return [typed(markdown)]


def typed(text: str) -> Node:
    """A text as it was typed."""
    return {"t": "CodeBlock", "c": [NOTHING, text]}


def inlines(markdown: str, show: Show) -> Blocks:
    """The words of one line, such as a heading."""
    blocks = parsed(markdown, show)
    return blocks[0]["c"] if len(blocks) == 1 and blocks[0]["t"] in ("Para", "Plain") else string(markdown)


def string(text: str) -> Blocks:
    """Plain words."""
    parts = [[{"t": "Str", "c": word}, {"t": "Space"}] for word in text.split()]
    return [node for part in parts for node in part][:-1]


def paragraph(text: str, kind: str = "Para") -> Node:
    return {"t": kind, "c": string(text)}


class _TooDeepError(Exception):
    """More levels than any page has room for."""


def _math_marked(text: str) -> str:
    """Formulas in the one way in which pandoc knows them; code is left alone."""
    parts, place = [], 0
    for code in FENCE.finditer(text):
        parts += [_marked(text[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*parts, _marked(text[place:])])


def _marked(text: str) -> str:
    text = ENVIRONMENT.sub(lambda m: m[1] or f"$$\\begin{{{_inner(m[2])}}}{m[3]}\\end{{{_inner(m[2])}}}$$", text)
    # $5 and $6 are no formula
    text = DOLLARS.sub(lambda m: m[0] if m[2] and m[1][-1].isspace() else f"${m[1].strip()}$", text)
    for brackets, dollars in BRACKETS:
        text = brackets.sub(lambda m, d=dollars: f"{d}{m[1].strip()}{d}", text)  # type: ignore[misc]
    return text


def _inner(environment: str) -> str:
    """The environment that may stand inside a formula."""
    return "aligned" if environment.rstrip("*") in ("align", "eqnarray") else "gathered"


def _cleaned(node: Any, show: Show, depth: int) -> Any:
    if depth > 4 * DEEPEST:
        raise _TooDeepError
    if isinstance(node, list):
        if _is_attributes(node):
            return NOTHING
        return [made for one in node for made in _kept(one, show, depth + 1)]
    if isinstance(node, dict):
        return {key: _cleaned(value, show, depth + 1) for key, value in node.items()}
    return node


def _is_attributes(node: list[Any]) -> bool:
    match node:
        case [str(), [*classes], [*pairs]]:
            return all(isinstance(one, str) for one in classes) and all(isinstance(one, list) for one in pairs)
    return False


def _kept(node: Any, show: Show, depth: int) -> Iterator[Any]:
    """What stands in the place of a node: itself, cleaned; or what it is in words."""
    match node:
        case {"t": "RawInline", "c": [_, text]}:
            yield from _raw(text)
        case {"t": "RawBlock", "c": [_, text]}:
            if left := COMMENT.sub("", text).strip():
                yield typed(left)
        case {"t": "Image", "c": [_, words, [address, _]]}:
            yield show(address, _cleaned(words, show, depth))
        case {"t": "Link", "c": [_, words, [address, _]]}:
            words = _cleaned(words, show, depth)
            if address.lower().startswith(LINKS):
                yield {"t": "Link", "c": [NOTHING, words, [address, ""]]}
            else:
                yield from words
        case {"t": "Para" | "Plain", "c": words} if _from_the_right(words):
            yield {"t": "Div", "c": [["", [], [["dir", "rtl"]]], [_cleaned(node, show, depth)]]}
        case {"t": "Header", "c": [_, _, words]}:
            yield {"t": "Para", "c": [{"t": "Strong", "c": _cleaned(words, show, depth)}]}
        case _:
            yield _cleaned(node, show, depth)


def _from_the_right(words: Blocks) -> bool:
    """Is the first letter one of a script that is written from the right?"""
    text = "".join(node["c"] for node in words if node["t"] == "Str")
    first = next((kind for one in text if (kind := unicodedata.bidirectional(one)) in ("L", "R", "AL")), "L")
    return first != "L"


def _raw(text: str) -> Iterator[Node]:
    if BREAK.fullmatch(text):
        yield {"t": "LineBreak"}
    elif not DRESS.fullmatch(text) and not COMMENT.fullmatch(text):
        yield {"t": "Code", "c": [NOTHING, text]}
