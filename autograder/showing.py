"""Verdicts as a student reads them: in the notebook while working, in the feedback after grading.

Everything is escaped. Each outcome has a sign and a word, so that neither colour nor style carries meaning: a notebook
may be light or dark, and nbgrader's feedback drops styles and shows every tag as text that bleach does not allow, such
as <p> and <br>.
"""

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from autograder.checks import Verdict, earned
from autograder.readiness import Asked, Readiness, Text

WORDS = {
    "passed": ("✓", "holds"),
    "failed": ("✗", "does not hold yet"),
    "skipped": ("–", "not looked at"),
    "broken": ("!", "needs a person: the check itself went wrong, no marks are lost by it"),
    "unexecuted": ("…", "needs an execution"),
}
UNKNOWN = ("?", "unknown")
COMPLETE = "Complete"
STATES = ("complete", "missing", "wrong", "open")


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


def said_once(asked: Iterable[tuple[str, Sequence[Verdict]]]) -> Iterator[tuple[Verdict, ...]]:
    """The verdicts of each question, which comes with its title. Why a check fails is said at the first that fails so,
    and the others refer to that one: with a wrong id, every check of a recording fails for the same reason."""
    first: dict[tuple[str, str], str] = {}  # the question in which a reason is said
    for title, verdicts in asked:
        yield tuple(_said_or_referred(verdict, title, first) for verdict in verdicts)


def _said_or_referred(verdict: Verdict, title: str, first: dict[tuple[str, str], str]) -> Verdict:
    reason = (verdict.found, verdict.help)
    if verdict.outcome != "failed":
        return verdict
    there = first.get(reason)
    first.setdefault(reason, title)
    same = "the same reason as above" if there == title else f"the same reason as at “{there}”"
    return verdict if there is None or len(same) >= len("".join(reason)) else replace(verdict, found=same, help="")


def as_lines(*lines: str) -> str:
    """Plain lines as HTML."""
    return "".join(f"<div>{_escaped(line)}</div>" for line in lines)


# all of a lab


def readiness_text(found: Readiness) -> str:
    """A whole lab as plain lines: all of it in one sentence, then each part under its heading."""
    lines = [summary(found)]
    for title, entries in _parts(found):
        lines += ["", title]
        for first, *more in entries:
            lines += [f"  {first}", *(f"      {line}" for line in more)]
    return "\n".join([*lines, "", f"Looked at: {one_line(found.looked_at)}."])


def readiness_html(found: Readiness) -> str:
    """The same as HTML that needs no style to be understood; what is complete is folded away."""
    parts = []
    for title, entries in _parts(found):
        items = "".join(f"<li>{_escaped(first)}{''.join(map(_below, more))}</li>" for first, *more in entries)
        head = f"<strong>{_escaped(title)}</strong>"
        parts.append(
            f"<details><summary>{head} ({len(entries)})</summary><ul>{items}</ul></details>"
            if title == COMPLETE
            else f"<div>{head}</div><ul>{items}</ul>"
        )
    return (
        f'<div style="border-left: 3px solid; padding-left: 1em"><div><strong>{_escaped(summary(found))}</strong></div>'
        f"{''.join(parts)}<div><em>Looked at: {_escaped(found.looked_at)}.</em></div></div>"
    )


def _below(line: str) -> str:
    """A line under an entry, as far in as its text is."""
    within = 1 + (len(line) - len(line.lstrip())) / 2
    return f'<div style="margin-left: {within:g}em">{_escaped(line.strip())}</div>'


def summary(found: Readiness) -> str:
    """All of it in one sentence."""
    words = f"{found.written} of {len(found.texts)} texts are written" if found.saved else "the texts were not seen"
    end = "it can be handed in." if found.complete else "it is not complete."
    return f"{points(found.points)} of {points(found.of)} points by the checks, {words}: {end}"


def _parts(found: Readiness) -> Iterator[tuple[str, list[list[str]]]]:
    """Each heading with its entries; an entry is a line, and lines below it."""
    said = said_once((one.title, one.verdicts) for one in found.asked)
    asked = [replace(one, verdicts=verdicts) for one, verdicts in zip(found.asked, said, strict=True)]
    by_state = {state: [one for one in asked if one.state == state] for state in STATES}
    there = [["✓ " + one_line(file.name)] for file in found.files if file.state == "there"]
    done = [[f"✓ {_text_line(text)}: written, and read by a person"] for text in found.texts if text.written]
    for title, entries in (
        (COMPLETE, [*([f"✓ {_line(one)}"] for one in by_state["complete"]), *done, *there]),
        ("Still missing", list(_missing(found, by_state["missing"]))),
        ("Looks wrong", list(_wrong(found, by_state["wrong"]))),
        ("Nobody can say yet", [_lost("…", one) for one in by_state["open"]]),
        ("Worth knowing", [[f"! {one_line(remark)}"] for remark in found.mended]),
    ):
        if entries:
            yield title, entries


def _missing(found: Readiness, asked: Sequence[Asked]) -> Iterator[list[str]]:
    if not found.student:
        yield ['! The notebook does not say whose it is: give the id under which you hand in, student = "..."']
    if not found.saved:
        yield ["! No saved notebook was found beside this kernel: save it, so that its texts can be looked at."]
    yield from (_lost("…", one) for one in asked)
    for text in found.texts:
        if not text.written:
            yield [f"… {_text_line(text)}: still to be written"]
    for name in found.blanks:
        yield [f"… The cell {one_line(name)}: its code is still to be written"]
    for file in found.files:
        if file.state == "missing":
            yield [f"… {one_line(file.name)} is not there: {one_line(file.found)}"]


def _wrong(found: Readiness, asked: Sequence[Asked]) -> Iterator[list[str]]:
    yield from (_lost("✗", one) for one in asked)
    yield from ([line] for line in _wrong_files(found))
    for file in found.files:
        if file.state == "stale":
            yield [f"✗ {one_line(file.name)} is not in step with the notebook: {one_line(file.found)}"]
    yield from ([f"✗ {one_line(remark)}"] for remark in (*found.stopped, *found.remarks))


def _wrong_files(found: Readiness) -> Iterator[str]:
    """A line for each reason, which a question may have given already."""
    given = {verdict.found: one.title for one in reversed(found.asked) for verdict in one.verdicts}
    named: dict[str, list[str]] = {}
    for file in found.files:
        if file.state == "wrong":
            named.setdefault(file.found, []).append(file.name)
    for reason, names in named.items():
        are = "is not the file that is" if len(names) == 1 else "are not the files that are"
        why = f"the same reason as at “{given[reason]}”" if reason in given else reason
        yield f"✗ {one_line(', '.join(names))} {are} asked for: {one_line(why)}"


def _line(asked: Asked) -> str:
    return one_line(f"{asked.title}: {points(asked.points)} of {points(asked.of)} points")


def _lost(sign: str, asked: Asked) -> list[str]:
    """A question and what does not hold in it; what waits for that is not repeated."""
    lines = [f"{sign} {_line(asked)}", *([one_line(asked.note)] if asked.note else [])]
    for verdict in asked.verdicts:
        if verdict.outcome not in ("passed", "skipped"):
            lines.append(f"{WORDS.get(verdict.outcome, UNKNOWN)[0]} {one_line(verdict.sentence)}{_points_of(verdict)}")
            lines += [f"  {one_line(text)}" for text in (verdict.found, verdict.help) if text]
    return lines


def _text_line(text: Text) -> str:
    worth = f" ({points(text.points)} point{'s' * (text.points != 1)})" if text.points else ""
    return one_line(f"{text.name}{worth}")


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
