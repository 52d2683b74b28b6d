"""Verdicts as a student reads them: in the notebook while working, in the feedback after grading.

Everything is escaped. Each outcome has a sign and a word, so that neither colour nor style carries meaning: a notebook
may be light or dark, and nbgrader's feedback drops styles and shows every tag as text that bleach does not allow, such
as <p> and <br>.
"""

import html
from collections.abc import Sequence

from autograder.checks import Verdict, earned

WORDS = {
    "passed": ("✓", "holds"),
    "failed": ("✗", "does not hold yet"),
    "skipped": ("–", "not looked at"),
    "broken": ("!", "needs a person: the check itself went wrong, no marks are lost by it"),
    "unexecuted": ("…", "needs an execution"),
}
UNKNOWN = ("?", "unknown")


def points(number: float) -> str:
    """2 and not 2.0, 0.5 as it is."""
    return f"{round(number, 4):g}"


def score_line(title: str, verdicts: Sequence[Verdict], of: float) -> str:
    return f"{title}: {points(earned(verdicts))} of {points(of)} points"


def as_text(title: str, verdicts: Sequence[Verdict], of: float, note: str = "") -> str:
    """The verdicts of one question of `of` points as plain lines."""
    lines = [score_line(title, verdicts, of), *([note] if note else [])]
    for verdict in verdicts:
        sign, word = WORDS.get(verdict.outcome, UNKNOWN)
        lines.append(f"  {sign} {verdict.sentence} [{word}]{_points_of(verdict)}")
        lines += [f"      {one_line(text)}" for text in (verdict.found, verdict.help) if text]
    return "\n".join(lines)


def as_html(title: str, verdicts: Sequence[Verdict], of: float, note: str = "") -> str:
    """The verdicts of one question as HTML that needs no style to be understood."""
    items = "".join(f"<li>{_item(verdict)}</li>" for verdict in verdicts)
    remark = f"<div>{_escaped(note)}</div>" if note else ""
    return (
        f'<div style="border-left: 3px solid; padding-left: 1em"><div><strong>'
        f"{_escaped(score_line(title, verdicts, of))}</strong></div>{remark}<ul>{items}</ul></div>"
    )


def _item(verdict: Verdict) -> str:
    sign, word = WORDS.get(verdict.outcome, UNKNOWN)
    first = f"<strong>{sign} {word}</strong>{_points_of(verdict)}: {_escaped(verdict.sentence)}"
    found = f"<div>{_escaped(verdict.found)}</div>" if verdict.found else ""
    return first + found + (f"<div><em>{_escaped(verdict.help)}</em></div>" if verdict.help else "")


def _points_of(verdict: Verdict) -> str:
    return f" ({points(verdict.points)} of {points(verdict.of)})" if verdict.of else ""


def one_line(text: str) -> str:
    """Nothing that moves a cursor, colours a terminal or turns the direction of writing."""
    return "".join(c if c.isprintable() else " " for c in text)


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
