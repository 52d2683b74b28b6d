"""What a cell put out, as the grader takes it from a student's process: rebuilt piece by piece, and never too much."""

import re
from typing import Any

MOST_TEXT = 1_000_000  # characters that one cell may print
MOST_RICH = 3_000_000  # characters of figures and pages that one cell may show
MOST_IN_ALL = 30_000_000  # characters of all cells together
MOST_OUTPUTS = 500  # outputs of one cell
# widgets and scripts mean nothing in a page that is read later
MIMES = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml")

# what nbgrader's feedback shows of HTML when it is told to be careful; it prints any other tag as text
TAGS = {"a", "abbr", "acronym", "b", "blockquote", "code", "div", "em", "i", "li", "ol", "pre", "span", "strong",
        "table", "td", "tr", "ul"}  # fmt: skip
TAG = re.compile(r"</?([a-zA-Z][^\s/>]*)")

Output = dict[str, Any]


def checked(outputs: object, most: int = MOST_IN_ALL) -> list[Output]:
    """The outputs that have nbformat's form, with nothing else in them; what has not, or is too much, is left out."""
    kept: list[Output] = []
    left = min(MOST_TEXT + MOST_RICH + 1000, most)
    for output in outputs[: MOST_OUTPUTS + 1] if isinstance(outputs, list) else []:
        made = _checked(output) if isinstance(output, dict) else None
        left -= 0 if made is None else size(made)
        if made is not None and left >= 0:
            kept.append(made)
    return kept


def size(output: Output) -> int:
    """Characters of one output."""
    rich = output.get("data", {}).values()
    said = (output.get(key, "") for key in ("text", "ename", "evalue"))
    return sum(map(len, [*said, *output.get("traceback", ()), *rich]))


def _checked(output: Output) -> Output | None:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": kind, "name": name, "text": _text(output.get("text"))}
    if kind == "error":
        lines = output.get("traceback")
        trace = [_text(line) for line in lines[:300]] if isinstance(lines, list) else []
        return {
            "output_type": kind,
            "ename": _text(output.get("ename")),
            "evalue": _text(output.get("evalue")),
            "traceback": trace,
        }
    if kind in ("display_data", "execute_result"):
        return _shown(kind, output)
    return None


def _shown(kind: str, output: Output) -> Output | None:
    data, metadata = output.get("data"), output.get("metadata")
    bundle = {mime: data[mime] for mime in MIMES if isinstance(data.get(mime), str)} if isinstance(data, dict) else {}
    if not bundle:
        return None
    if len(bundle) > 1 and ("image/png" in bundle or not TAGS.issuperset(TAG.findall(bundle.get("text/html", "")))):
        # pages prefer HTML; where they would not show it, the picture or the plain text says the same
        bundle.pop("text/html", None)
    notes = {mime: _notes(metadata.get(mime)) for mime in bundle} if isinstance(metadata, dict) else {}
    made = {"output_type": kind, "data": bundle, "metadata": {mime: note for mime, note in notes.items() if note}}
    count = output.get("execution_count")
    return made if kind == "display_data" else {**made, "execution_count": count if type(count) is int else None}


def _notes(note: object) -> dict[str, Any]:
    """A figure's alternative text and size."""
    if not isinstance(note, dict):
        return {}
    words = {key: note[key][:2000] for key in ("alt",) if isinstance(note.get(key), str)}
    numbers = {key: note[key] for key in ("width", "height") if type(note.get(key)) is int}
    return words | numbers


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
