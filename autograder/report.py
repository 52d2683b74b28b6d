"""The class report: one HTML page that needs nothing else, and the same marks as a table of comma-separated values.

Reads what grading stored and the recordings that were handed in. Names, reasons and findings come from students, so
the page escapes all of it, and the table holds no cell that a spreadsheet would calculate.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from autograder import questionnaire, results, sandbox
from autograder.checks import Verdict
from autograder.results import QuestionResult, Result
from autograder.showing import one_line, points, said_once
from labkit.counts import counted
from labkit.files import write_whole
from labkit.recording import Recording, RecordingError

if TYPE_CHECKING:
    from autograder.gradebook import CellScore

LONGEST = 600  # characters of one text; a student's may have millions
BINS = 10  # columns of the score distribution at most
MOST_CHANGED = 10  # marks in a sentence
LOST = ("failed", "broken")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
WORDS = {"graded": ("✓", "graded"), "refused": ("✗", "cannot be graded"), "person": ("!", "needs a person")}


class ReportError(ValueError):
    """A report that cannot be made; one sentence with what to do."""


@dataclass(frozen=True)
class Difficulty:
    """How the class did in one question."""

    title: str
    of: tuple[float, ...]  # several where results were graded under different points
    share: float  # of all points that the class could earn here
    all: int  # students with all points
    none: int
    students: int
    usual: str  # the check that failed most often
    failed: int  # students in whom it failed


@dataclass(frozen=True)
class Bar:
    """One column of the score distribution."""

    label: str
    count: int
    height: float  # of the tallest


@dataclass(frozen=True)
class Protection:
    """What held some of the students' processes."""

    walls: str  # as the results name them
    missing: str  # what the best protected of the class had besides; empty for these
    students: tuple[str, ...]


@dataclass(frozen=True)
class Marked:
    """What a person has marked so far, as the gradebook has it."""

    waiting: int  # students with an essay to be marked
    essays: tuple[tuple[str, int], ...]  # an answer as students see it named, and how many are to be marked
    words: Mapping[str, str]  # by student

    @property
    def open(self) -> str:
        """How many answers wait; empty when none does."""
        number = sum(count for _, count in self.essays)
        be = "is" if number == 1 else "are"
        words = f"{counted(number, 'answer')} in words {be} not marked yet ({counted(self.waiting, 'student')})"
        return words if number else ""


@dataclass(frozen=True)
class Line:
    """One student's row."""

    result: Result
    sign: str
    status: str
    essays: str  # points of what a person marks, or that they are still to be marked
    feedback: str  # a link, or empty
    lost: tuple[tuple[QuestionResult, tuple[Verdict, ...]], ...]  # what does not hold, by question

    @property
    def summary(self) -> str:
        """What the row says before it is opened."""
        if self.result.reason:
            return self.result.reason
        number = sum(len(verdicts) for _, verdicts in self.lost)
        failed = f"{number or 'no'} check{'' if number == 1 else 's'} failed"
        return "; ".join(filter(None, (failed, unfinished(self.result))))


def report(course: Path, assignment: str, path: Path | None = None) -> Path:
    """Write the page; by default to <course>/reports/<assignment>.html."""
    course = course.absolute()
    found = _results(course, assignment)
    path = path or course / "reports" / f"{assignment}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, page(course, assignment, found, path).encode())


def page(course: Path, assignment: str, found: Sequence[Result], path: Path) -> str:
    """The page's text, with links that work from `path`."""
    marked = marked_by_hand(course, assignment)
    lines = [_line(result, course, path, marked) for result in found]
    text: str = template("report.html").render(
        assignment=assignment, course=course.name, newest=_newest(course, assignment), lines=lines,
        outcomes=[(sign, word, sum(r.status == status for r in found)) for status, (sign, word) in WORDS.items()],
        scores=[result.score for result in found if result.status == "graded"], median=median,
        most=max((result.max_score for result in found), default=0), bars=bars(found),
        difficulties=difficulties(found), unread=_unread(course, assignment, found), marked=marked,
        figures=figures(course, assignment, found), protections=protections(found),
        outdated=outdated(assignment, found),
    )  # fmt: skip
    return text


def export_csv(course: Path, assignment: str, path: Path) -> Path:
    """One row for each student: points by question, in all, out of how many, status and reason."""
    found = _results(course.absolute(), assignment)
    names = list(dict.fromkeys(q.name for result in found for q in result.questions.values()))
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["student", *map(cell, names), "score", "max_score", "status", "reason"])
    for result in found:
        earned = {q.name: points(q.points) for q in result.questions.values()}
        table.writerow([cell(result.student), *(earned.get(name, "") for name in names), points(result.score),
                        points(result.max_score), result.status, cell(result.reason)])  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, text.getvalue().encode())


def warning(course: Path, assignment: str) -> str:
    """What whoever reads the report or the table should know first, and do; mostly empty."""
    found = _results(course.absolute(), assignment)
    number = outdated(assignment, found)
    words = f"{number} of {len(found)} were graded under other points: run `autograder grade {assignment}`"
    return "\n".join(filter(None, (words if number else "", changed_by_hand(course, assignment))))


def changed_by_hand(course: Path, assignment: str) -> str:
    """Whose points of the checks a person changed in the gradebook; empty where nobody's, or without a gradebook."""
    from autograder import gradebook

    try:
        scores = gradebook.scores(course, assignment)
    except gradebook.GradebookError:
        return ""
    found = [f"{short(one.student)} {name.removeprefix('test_')}" for one in scores for name, cell in one.cells.items()
             if cell.kind == "test" and cell.manual not in (None, cell.auto)]  # fmt: skip
    more = f" and {len(found) - MOST_CHANGED} more" if len(found) > MOST_CHANGED else ""
    words = (f"points that were changed by hand stand here as the checks gave them ({', '.join(found[:MOST_CHANGED])}"
             f"{more}): `nbgrader export` has those that count")  # fmt: skip
    return words if found else ""


def outdated(assignment: str, found: Sequence[Result]) -> int:
    """Where results differ in what their questions give: how many give something else than the questions do now."""
    asked = [{q.name: round(q.of, 6) for q in result.questions.values()} for result in found if result.questions]
    if all(of == asked[0] for of in asked):
        return 0
    now = _points_now(assignment, asked)
    return sum(of != now for of in asked)


def _points_now(assignment: str, asked: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of the questions that somebody was asked; what most were, where the questions are not known."""
    try:
        known = questionnaire.of(assignment)
    except questionnaire.QuestionnaireError:
        return max(asked, key=asked.count)
    names = set().union(*asked)
    return {name: round(question.points, 6) for name, question in known.items() if name in names}


def cell(text: str) -> str:
    """A text that a spreadsheet takes for a text: it would run one that begins like a formula."""
    return f"'{short(text)}" if text.startswith(FORMULA) else short(text)


def short(text: str, longest: int = LONGEST) -> str:
    """One line, cut if need be, with nothing in it that moves a cursor or turns the direction of writing."""
    line = one_line(text[: longest + 1])
    return line if len(line) <= longest else f"{line[:longest]} …"


def first_reason(result: Result | None) -> str:
    """Why points were lost: the run that did not end well, else the first check that does not hold."""
    if result is None:
        return ""
    if trouble := unfinished(result):
        return trouble
    verdicts = (v for question in in_order(result).questions.values() for v in question.verdicts)
    return next((v.found or v.sentence for v in verdicts if v.outcome in LOST), "")


def unfinished(result: Result) -> str:
    """What did not run to its end; empty when everything did."""
    stopped = f"stopped because it did not end: the cell {', '.join(result.stopped)}" if result.stopped else ""
    return "; ".join(filter(None, (result.ended, stopped)))


def _results(course: Path, assignment: str) -> list[Result]:
    found = [in_order(result) for result in results.load_all(course, assignment) if _is_sound(result)]
    if not found:
        raise ReportError(f"{course} has no results of {assignment}: run `autograder grade {assignment}` first")
    return found


def in_order(result: Result) -> Result:
    """The result with its questions as the notebook asks them; a file of results has them by name."""
    try:
        known = list(questionnaire.of(result.assignment))
    except questionnaire.QuestionnaireError:
        return result
    place = {name: number for number, name in enumerate(known)}
    asked = sorted(result.questions.items(), key=lambda item: place.get(item[1].name, len(place)))
    return replace(result, questions=dict(asked))


def _is_sound(result: Result) -> bool:
    """A result file that somebody edited may hold anything."""
    try:
        return math.isfinite(result.score) and math.isfinite(result.max_score) and isinstance(result.reason, str)
    except (TypeError, AttributeError):
        return False


def _unread(course: Path, assignment: str, found: Sequence[Result]) -> list[str]:
    known = {result.student for result in found}
    files = (course / "results" / assignment).glob("*.json")
    return sorted(f.stem for f in files if f.stem not in known)


def _newest(course: Path, assignment: str) -> str:
    times = [f.stat().st_mtime for f in (course / "results" / assignment).glob("*.json")]
    return f"{datetime.fromtimestamp(max(times)).astimezone():%d %B %Y, %H:%M %Z}"


# the class


def bars(found: Sequence[Result]) -> list[Bar]:
    """The distribution of the scores of what was graded, in columns of whole points."""
    scores = [result.score for result in found if result.status == "graded"]
    most = max((result.max_score for result in found), default=0)
    width = max(1, math.ceil((most + 1) / BINS))
    count = Counter(int(score // width) for score in scores)
    tallest = max(count.values(), default=1)
    starts = range(0, int(most) + 1, width)
    return [Bar(_span(start, min(start + width - 1, int(most))), count[start // width], count[start // width] / tallest)
            for start in starts]  # fmt: skip


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def difficulties(found: Sequence[Result]) -> list[Difficulty]:
    """The questions in their order, each over all submissions that were graded."""
    asked: dict[str, list[QuestionResult]] = {}
    for result in found:
        if result.status == "graded":
            for name, question in result.questions.items():
                asked.setdefault(name, []).append(question)
    return [_difficulty(questions) for questions in asked.values()]


def _difficulty(questions: Sequence[QuestionResult]) -> Difficulty:
    first, number = questions[0], len(questions)
    failed = Counter(v.sentence for q in questions for v in q.verdicts if v.outcome == "failed")
    usual, times = failed.most_common(1)[0] if failed else ("", 0)
    most = sum(q.of for q in questions)
    share = sum(q.points for q in questions) / most if most else 1.0
    of = tuple(sorted({q.of for q in questions}))
    return Difficulty(first.title, of, share, sum(q.points >= q.of for q in questions),
                      sum(q.points <= 0 < q.of for q in questions), number, usual, times)  # fmt: skip


def protections(found: Sequence[Result]) -> list[Protection]:
    """Every protection under which this class was graded, the strongest first."""
    students: dict[str, list[str]] = {}
    for result in found:
        if result.protection:
            students.setdefault(result.protection, []).append(result.student)
    walls = {words: () if words == sandbox.NONE else tuple(words.split(", ")) for words in students}
    order = sorted(students, key=lambda words: (-len(walls[words]), words))
    best = walls[order[0]] if order else ()
    return [Protection(words, ", ".join(wall for wall in best if wall not in walls[words]), tuple(students[words]))
            for words in order]  # fmt: skip


# one student


def _line(result: Result, course: Path, path: Path, marked: Marked | None) -> Line:
    sign, word = WORDS[result.status]
    questions = list(result.questions.values())
    said = said_once((q.title, q.verdicts) for q in questions)
    failed = [(q, tuple(v for v in shown if v.outcome in LOST)) for q, shown in zip(questions, said, strict=True)]
    essays = marked.words.get(result.student, "") if marked else ""
    feedback = _feedback(result.student, course, path)
    return Line(result, sign, word, essays, feedback, tuple((q, lost) for q, lost in failed if lost))


def _feedback(student: str, course: Path, path: Path) -> str:
    """The way from the report to a student's page of feedback, if there is one."""
    folder = course / "feedback" / student
    if folder.parent != course / "feedback" or student in ("", ".", ".."):
        return ""
    pages = sorted(folder.glob(f"{path.stem}/*.html")) or sorted(folder.glob("*/*.html"))
    return quote(os.path.relpath(pages[0], path.parent)) if pages else ""


def marked_by_hand(course: Path, assignment: str) -> Marked | None:
    """None when there is no gradebook that can be read: who asks does without."""
    from autograder import gradebook

    try:
        scores = gradebook.scores(course, assignment)
    except gradebook.GradebookError:
        return None
    essays = {one.student: {name: cell for name, cell in one.cells.items() if cell.kind != "test"} for one in scores}
    open_ = Counter(name for cells in essays.values() for name, cell in cells.items() if cell.needs_person)
    waiting = sum(any(cell.needs_person for cell in cells.values()) for cells in essays.values())
    return Marked(waiting, _named(course, assignment, open_), {name: _words(cells) for name, cells in essays.items()})


def _named(course: Path, assignment: str, open_: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The cells as students see them named, in the order of the notebook; by grade id where it names none."""
    from autograder.marking import named_texts

    names = named_texts(course, assignment)
    others = {cell: cell for cell in sorted(set(open_) - set(names))}
    return tuple((name, open_[cell]) for cell, name in {**names, **others}.items() if cell in open_)


def _words(cells: Mapping[str, CellScore]) -> str:
    if any(cell.needs_person for cell in cells.values()):
        return "essays to be marked"
    given, most = sum(cell.score for cell in cells.values()), sum(cell.max_score for cell in cells.values())
    return f"essays {points(given)} of {points(most)}"


# the class's gradient curves

NETWORKS = {"relu": "ReLU network", "sigmoid": "sigmoid network"}
LAYERS = {0: ("first layer", "#0072B2", "-"), -1: ("last layer", "#D55E00", "--")}  # Okabe and Ito's colours
FEWEST = 4  # curves, below which nobody can stand out
# Iglewicz and Hoaglin (1993): a robust z above 3.5 is an outlier. In a small class whose curves are nearly alike the
# spread would be tiny, so it counts as a tenth at least.
FAR, NARROWEST = 3.5, math.log(1.1)


@dataclass(frozen=True)
class Outlier:
    student: str
    layer: int
    factor: float  # how many times the class's median


@dataclass(frozen=True, eq=False)
class Curves:
    """Mean |gradient| of one network over the class: S students, E epochs, first and last layer."""

    students: tuple[str, ...]
    sizes: Any  # (S, E, 2) median over the epoch's iterations
    absent: tuple[tuple[str, str], ...]  # students without a curve, and why

    @property
    def middle(self) -> Any:
        return np.median(self.sizes, axis=0)  # (E, 2)

    def outliers(self) -> list[Outlier]:
        """Whose curve lies far above or below the class's, over the whole training."""
        if len(self.students) < FEWEST:
            return []
        height = np.log(self.sizes / self.middle).mean(axis=1)  # (S, 2)
        off = height - np.median(height, axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(off), axis=0), NARROWEST)
        return [Outlier(self.students[s], (0, -1)[layer], float(np.exp(off[s, layer])))
                for s, layer in np.argwhere(np.abs(off) > FAR * spread).tolist()]  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it, with everything in words that it shows."""

    title: str
    source: str  # a data URL, empty when there is nothing to draw
    alt: str
    outliers: tuple[str, ...]
    absent: tuple[tuple[str, str], ...]


def figures(course: Path, assignment: str, found: Sequence[Result]) -> list[Picture]:
    """One figure for each network that the assignment asks a recording of."""
    asked = {v.check for result in found for q in result.questions.values() for v in q.verdicts}
    return [_picture(title, curves(course, assignment, found, name)) for name, title in NETWORKS.items()
            if f"{name}_recorded" in asked]  # fmt: skip


def curves(course: Path, assignment: str, found: Sequence[Result], name: str) -> Curves:
    """The curves of the recordings `name` that grading found to be the student's own and honest."""
    kept: dict[str, Any] = {}
    absent: list[tuple[str, str]] = []
    for result in found:
        if why := _refusal(result, f"{name}_recorded"):
            absent.append((result.student, why))
            continue
        try:
            handed_in = course / "submitted" / result.student / assignment / f"{name}.safetensors"
            kept[result.student] = _sizes_of(Recording.load(handed_in))
        except (RecordingError, OSError, ValueError) as error:
            absent.append((result.student, str(error).replace(f"{course}{os.sep}", "")))
    # all that were taken follow one experiment; were one of them exchanged since, it has no place in the band
    epochs = Counter(map(len, kept.values())).most_common(1)
    sizes = {student: curve for student, curve in kept.items() if len(curve) == epochs[0][0]}
    return Curves(tuple(sizes), np.array(list(sizes.values())), tuple(absent))


def _refusal(result: Result, check: str) -> str:
    """Why a recording is not in the figure; empty when grading took it."""
    verdict = next((v for q in result.questions.values() for v in q.verdicts if v.check == check), None)
    if verdict is None:
        return result.reason or "it was not looked at"
    return "" if verdict.outcome == "passed" else verdict.found or verdict.sentence


def _sizes_of(recording: Recording) -> Any:
    """(E, 2) mean |gradient| of the first and the last layer, the median over each epoch's iterations."""
    size = recording.statistic("abs_mean")[:, [0, -1]].astype(np.float64)
    ends = [0, *recording.epoch_end.tolist()]
    return np.array([np.median(np.maximum(size[a:b], 1e-30), axis=0) for a, b in pairwise(ends)])


def _picture(title: str, class_: Curves) -> Picture:
    if not class_.students:
        return Picture(title, "", "", (), class_.absent)
    outliers = class_.outliers()
    first, last = class_.middle[0], class_.middle[-1]
    sizes = f"{counted(len(class_.middle), 'epoch')} and {counted(len(class_.students), 'student')}"
    alt = (f"Mean |gradient| of the {title} over {sizes}, on a "
           f"logarithmic axis. Median of the class: first layer from {first[0]:.2g} to {last[0]:.2g}, last layer from "
           f"{first[1]:.2g} to {last[1]:.2g}.")  # fmt: skip
    words = tuple(f"{o.student}: {LAYERS[o.layer][0]}, {o.factor:.2g} times the median of the class" for o in outliers)
    return Picture(title, _png(class_, outliers), alt, words, class_.absent)


def _png(class_: Curves, outliers: Sequence[Outlier]) -> str:
    """A data URL. No pyplot: nothing global changes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="mean |gradient|, median of each epoch", yscale="log")
    epochs = np.arange(1, len(class_.middle) + 1)
    for layer, (word, colour, style) in LAYERS.items():
        far = {one.student for one in outliers if one.layer == layer}
        inside = [student not in far for student in class_.students]
        low, high = np.quantile(class_.sizes[inside, :, layer], (0.1, 0.9), axis=0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.25, lw=0, label=f"{word}, middle 80 %")
        axes.plot(epochs, class_.middle[:, layer], color=colour, ls=style, lw=2, label=f"{word}, median")
    for one in outliers:
        curve = class_.sizes[class_.students.index(one.student), :, one.layer]
        word, _, style = LAYERS[one.layer]
        axes.plot(epochs, curve, color="black", ls=style, lw=1)
        # a name is no formula, whatever it holds
        axes.annotate(f"{short(one.student)[:20]}, {word}", (epochs[-1], curve[-1]), xytext=(4, 0), va="center",
                      textcoords="offset points", parse_math=False, fontsize=8)  # fmt: skip
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # a name may have letters that the font has not; the list below the figure shows it
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(content, format="png", dpi=150)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


# the templates


def template(name: str) -> Any:
    """A page of autograder/templates; everything that is put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"short": short, "points": points}
    return environment.get_template(name)
