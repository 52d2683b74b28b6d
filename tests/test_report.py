"""The class report: is everything there, is nothing a student wrote taken for more than text?"""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import labkit
from autograder import gradebook, report, results
from autograder.checks import Check, Question, Verdict
from autograder.gradebook import CellScore, GradebookError, StudentScore
from autograder.report import Curves, ReportError, bars, curves, difficulties, export_csv, short
from autograder.results import Outputs, QuestionResult, Result

LAB = "vanishing_gradients"
HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> {{ 7 * 7 }} \x1b[31mred \u202eright to left $x_{$'


def question(name, points=1.0, of=2.0, found="found nothing", check="relu_recorded", sentence="It holds."):
    outcome = "passed" if points == of else "failed"
    verdict = Verdict(check, outcome, points, of, sentence, "" if points == of else found, "look there")
    return QuestionResult(name, f"Title of {name}", points, of, (verdict,))


def result(student="ada", points=1.0, status="graded", reason="", found="found nothing", remarks=(), **more):
    questions = {"test_recordings": question("recordings", points, found=found),
                 "test_activation_gradients": question("activation_gradients", 2.0, check="values")}  # fmt: skip
    return Result(student, LAB, "key", status, questions, reason, remarks, seconds=1.5, **more)


def course_of(root, *stored):
    for one in stored:
        results.save(root, one, Outputs({}, {}))
    return root


def text_of(root):
    return report.report(root, LAB).read_text("utf-8")


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, and the text."""

    VOID = frozenset({"meta", "img", "br", "rect", "line"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def marked(monkeypatch):
    """A gradebook in which ada's essay is marked and bela's is not."""

    def scores(course, assignment):
        def essay(student, score, waits):
            return StudentScore(student, score, 4, 0, {"figures": CellScore("essay", score, 4, 0, score, waits)})

        return [essay("ada", 3.0, False), essay("bela", 0.0, True)]

    monkeypatch.setattr(gradebook, "scores", scores)


@pytest.fixture(scope="session")
def recording():
    experiment = labkit.experiment("vanishing/relu").replace(observations=160, pool=160, batch_size=16, epochs=3)
    return labkit.train(experiment, progress=False)


def hand_in(root, student, recording, factor=1.0):
    folder = root / "submitted" / student / LAB
    folder.mkdir(parents=True)
    gradient = recording.gradient.copy()
    gradient[:, :, :5] *= factor
    replace(recording, gradient=gradient).save(folder / "relu.safetensors")


# what is on the page


def test_is_every_protection_named_once_and_who_had_a_weaker_one(tmp_path):
    from autograder.sandbox import NONE

    full = "bubblewrap, Landlock 7, seccomp"
    stored = [result("ada", protection=full), result("bela", protection=NONE), result("chidi", protection=full),
              result("dilnoza", protection="Landlock 7, seccomp"), result("emeka", protection="")]  # fmt: skip
    shown = Page(text_of(course_of(tmp_path, *stored))).text
    assert f"2 submissions ran within: {full}. 1 submission ran" in shown
    assert "1 submission ran within: Landlock 7, seccomp. Weaker, without bubblewrap: dilnoza." in shown
    assert f"1 submission ran within: {NONE}. Weaker, without {full}: bela." in shown


def test_does_the_page_need_nothing_else(tmp_path, recording):
    hand_in(tmp_path, "ada", recording)
    page = Page(text_of(course_of(tmp_path, result("ada", 2.0))))
    assert not page.all("script")
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert page.all("img")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_is_every_element_closed_and_the_page_accessible(tmp_path, recording, marked):
    hand_in(tmp_path, "ada", recording)
    page = Page(text_of(course_of(tmp_path, result("ada", 2.0), result("bela", 0, remarks=("mended",)))))
    assert not page.wrong
    assert not page.open
    assert page.all("html") == [{"lang": "en"}]
    assert all(header["scope"] in ("col", "row") for header in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert all(drawing["role"] == "img" for drawing in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {name for _, attributes in page.tags if (name := attributes.get("aria-labelledby"))} <= set(ids)


def test_are_submissions_counted_by_what_came_of_them(tmp_path):
    stored = [result("ada"), result("bela"), result("chidi", 0, "refused", "no notebook"),
              result("dilnoza", 0, "person", "a check went wrong")]  # fmt: skip
    text = Page(text_of(course_of(tmp_path, *stored))).text
    assert "2 ✓ graded 1 ✗ cannot be graded 1 ! needs a person" in text
    assert "chidi cannot be graded: no notebook" in text
    assert "dilnoza needs a person: a check went wrong" in text


def test_does_each_students_line_say_what_was_found(tmp_path):
    stored = result("ada", 0, found="ends after 3 epochs", remarks=("a cell was put back",))
    text = Page(text_of(course_of(tmp_path, stored))).text
    for words in ("2 of 4", "It holds. (0 of 2)", "ends after 3 epochs", "look there", "a cell was put back", "1.5 s"):
        assert words in text


def test_do_questions_stand_in_the_order_of_the_notebook(tmp_path):
    text = Page(text_of(course_of(tmp_path, result()))).text
    assert text.index("Title of activation_gradients") < text.index("Title of recordings")


def test_is_the_first_reason_the_first_in_the_notebook(tmp_path):
    mixed = result(found="later")
    first = replace(mixed.questions["test_activation_gradients"], verdicts=question("x", 0, found="first").verdicts)
    mixed = replace(mixed, questions={**mixed.questions, "test_activation_gradients": first})
    assert report.first_reason(mixed) == "first"
    assert report.first_reason(result("ada", 2.0)) == report.first_reason(None) == ""


def test_is_a_cell_named_that_did_not_end(tmp_path):
    stopped = replace(result(), stopped=("growth",))
    words = "stopped because it did not end: the cell growth"
    assert report.first_reason(stopped) == words
    assert f"1 check failed; {words}" in Page(text_of(course_of(tmp_path, stopped))).text


def test_are_essays_counted_that_wait_for_a_person(tmp_path, marked):
    text = Page(text_of(course_of(tmp_path, result("ada"), result("bela")))).text
    assert "1 ✎ with essays to mark" in text
    assert "figures (1)" in text
    assert "essays 3 of 4" in text
    assert "essays to be marked" in text


def test_are_essays_named_as_students_see_them_in_the_order_of_the_notebook(tmp_path, monkeypatch):
    def essay(place):
        about = {"nbgrader": {"grade_id": f"{9 - place}_words", "solution": True, "grade": True}}
        return [{"cell_type": "markdown", "source": f"**Part {place}.** Why <b>?", "metadata": {}},
                {"cell_type": "markdown", "source": "YOUR ANSWER HERE", "metadata": about}]  # fmt: skip

    cells = [{"cell_type": "markdown", "source": "## Depth <b>", "metadata": {}}, *essay(1), *essay(2), *essay(3)]
    released = tmp_path / "release" / LAB / f"{LAB}.ipynb"
    released.parent.mkdir(parents=True)
    released.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    waits = {
        name: CellScore("essay", 0, 4, None, None, name != "7_words") for name in ("6_words", "7_words", "8_words")
    }
    task = {"a_task": CellScore("task", 0, 4, None, None, True)}
    monkeypatch.setattr(gradebook, "scores", lambda *_: [StudentScore("ada", 0, 12, 0, {**task, **waits})])
    shown = text_of(course_of(tmp_path, result("ada")))
    assert re.findall("<li>(.*) \\(1\\)</li>", shown) == [
        "Depth &lt;b&gt; “Part 1.”", "Depth &lt;b&gt; “Part 3.”", "a_task"
    ]  # fmt: skip


def test_is_there_a_link_to_a_page_of_feedback(tmp_path):
    page = tmp_path / "feedback" / "ada b" / LAB / f"{LAB}.html"
    page.parent.mkdir(parents=True)
    page.touch()
    links = Page(text_of(course_of(tmp_path, result("ada b"), result("bela")))).all("a")
    assert links == [{"href": f"../feedback/ada%20b/{LAB}/{LAB}.html"}]


@pytest.mark.parametrize("student", ["..", ".", "a/../../b"])
def test_does_no_link_lead_out_of_the_feedback(tmp_path, student):
    (tmp_path / LAB).mkdir()
    (tmp_path / LAB / f"{LAB}.html").touch()
    assert report._feedback(student, tmp_path, tmp_path / "reports" / f"{LAB}.html") == ""


# what students write


def test_is_everything_that_a_student_wrote_only_text(tmp_path):
    stored = result("ada<b>", 0, "person", HOSTILE, found=HOSTILE, remarks=(HOSTILE,), protection=HOSTILE)
    text = text_of(course_of(tmp_path, stored))
    page = Page(text)
    assert "<script" not in text
    assert "onerror=alert" not in [k for _, a in page.tags for k in a]
    assert not page.all("img")
    assert not page.all("b")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in page.text
    assert "alert(1)" in page.text


def test_is_a_huge_reason_cut(tmp_path):
    text = text_of(course_of(tmp_path, result("ada", 0, "refused", "x" * 5_000_000, found="y" * 5_000_000)))
    assert len(text) < 50_000
    assert f"{'x' * 600} …" in text


def test_can_a_students_name_be_a_broken_formula_in_a_figure(recording):
    sizes = np.array([report._sizes_of(recording) * factor for factor in (1, 1.01, 0.99, 1, 50)])
    class_ = Curves(("a", "b", "c", "d", "$\\frac{ \U0001f600"), sizes, ())
    assert report._picture("ReLU network", class_).source.startswith("data:image/png;base64,")


# what is missing or broken


def test_is_a_class_without_results_told_what_to_run(tmp_path):
    with pytest.raises(ReportError, match=f"autograder grade {LAB}"):
        report.report(tmp_path, LAB)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "status": "graded"}'])
def test_does_a_broken_result_stop_nothing_and_is_it_named(tmp_path, content):
    course_of(tmp_path, result("ada"))
    results.path_of(tmp_path, LAB, "broken<i>").write_text(content)
    text = Page(text_of(tmp_path)).text
    assert "cannot be read (grade them again): broken<i>" in text
    assert "1 submission." in text


def test_does_a_result_with_points_that_are_no_number_stop_nothing(tmp_path):
    course_of(tmp_path, result("ada"), result("bela", float("nan")))
    assert "cannot be read (grade them again): bela" in Page(text_of(tmp_path)).text


def test_does_a_gradebook_that_cannot_be_read_stop_nothing(tmp_path, monkeypatch):
    def scores(*_):
        raise GradebookError("locked")

    monkeypatch.setattr(gradebook, "scores", scores)
    assert "essays to mark" not in text_of(course_of(tmp_path, result()))


def test_is_a_class_shown_of_which_nothing_was_graded(tmp_path):
    text = Page(text_of(course_of(tmp_path, result("ada", 0, "refused", "no notebook")))).text
    assert "No submission could be graded." in text


# the numbers


def test_does_the_distribution_count_every_graded_submission():
    found = [result(str(n), points) for n, points in enumerate((0, 0, 1, 2))] + [result("x", 0, "refused")]
    assert [(bar.label, bar.count) for bar in bars(found)] == [("0", 0), ("1", 0), ("2", 2), ("3", 1), ("4", 1)]
    assert max(bar.height for bar in bars(found)) == 1


def test_do_the_columns_hold_the_best_score_of_a_large_assignment():
    best = Result("ada", LAB, "", "graded", {"q": question("q", 34.0, 34.0)})
    assert sum(bar.count for bar in bars([best])) == 1
    assert bars([best])[-1].label == "32–34"


def test_is_the_difficulty_of_a_question_taken_over_the_graded():
    one = difficulties([result("a", 0), result("b", 2.0), result("c", 1.0), result("d", 0, "refused")])[0]
    assert (one.share, one.all, one.none, one.students, one.usual, one.failed) == (0.5, 1, 1, 3, "It holds.", 2)


def test_do_a_mean_and_its_sign_stay_on_one_line(tmp_path):
    text = text_of(course_of(tmp_path, result("ada", 1.0)))
    assert '<span class="number">50 %</span>' in text
    assert re.search(r"\.number {[^}]*white-space: nowrap", text)


def test_does_a_mean_stand_beside_its_bar(tmp_path):
    text = text_of(course_of(tmp_path, result("ada", 1.0)))
    (cell,) = set(re.findall(r'<td role="cell" class="(\w+)"><span class="share"', text))
    assert re.search(rf"\.{cell} {{[^}}]*white-space: nowrap", text)


def test_is_a_reason_that_every_check_has_said_once_in_a_line(tmp_path):
    said = "this is another student's run: it was trained with another seed than yours"
    failed = replace(result("ada", 0.0, found=said).questions["test_recordings"], title="Both trainings")
    asked = {name: replace(failed, name=name) for name in ("recordings", "final_loss", "growth")}
    page = text_of(course_of(tmp_path, replace(result("ada"), questions=asked)))
    text = Page(page.partition('id="students"')[2]).text
    assert text.count(said) == 1
    assert text.count("look there") == 1
    assert text.count("the same reason as above") == 2


def under_other_points(student):
    return replace(result(student), questions={"test_recordings": question("recordings", 6.0, 6.0)})


def test_is_a_mean_never_above_the_points_of_those_who_were_asked():
    [one] = difficulties([replace(under_other_points("ada"), questions={"q": question("q", 1.0, 2.0)}),
                          replace(under_other_points("bela"), questions={"q": question("q", 6.0, 6.0)})])  # fmt: skip
    assert (one.share, one.of, one.all) == (7 / 8, (2.0, 6.0), 1)


def test_are_those_named_who_were_graded_under_other_points_than_now(tmp_path, monkeypatch):
    known = {name: Question(name, name, (Check(name, 2.0, "It holds.", print),))
             for name in ("recordings", "activation_gradients", "asked of nobody")}  # fmt: skip
    monkeypatch.setattr(report.questionnaire, "of", lambda _: known)
    course_of(tmp_path, result("ada"), under_other_points("bela"), under_other_points("chidi"))
    words = "2 of 3 were graded under other points: run"
    assert report.warning(tmp_path, LAB) == f"{words} `autograder grade {LAB}`"
    page = Page(text_of(tmp_path)).text
    assert f"{words} autograder grade {LAB}" in page
    assert "2 or 6" in page


def test_are_points_named_that_a_person_changed(tmp_path, monkeypatch):
    def scores(course, assignment):
        def cells(manual):
            return {"test_recordings": CellScore("test", 0.5, 2, 2.0, manual, False),
                    "figures": CellScore("essay", 1, 4, None, 1.0, False)}  # fmt: skip

        return [StudentScore(name, 1.5, 6, 0, cells(manual)) for name, manual in given.items()]

    monkeypatch.setattr(gradebook, "scores", scores)
    course_of(tmp_path, result("ada"))
    given = {"ada": 0.5, "bela": 2.0, "chidi": None}
    assert "(ada recordings): `nbgrader export` has those that count" in report.warning(tmp_path, LAB)
    given = {"bela": 2.0, "chidi": None}
    assert report.warning(tmp_path, LAB) == ""


def test_are_most_right_where_nobody_knows_the_questions():
    found = [result("ada"), result("bela"), under_other_points("chidi")]
    assert report.outdated("another lab", found) == 1
    assert report.outdated("another lab", found[:2]) == report.outdated("another lab", []) == 0


def test_is_a_curve_far_from_the_class_named_and_no_other(tmp_path, recording):
    factors = {"ada": 1, "bela": 1.02, "chidi": 0.99, "dilnoza": 1.01, "emeka": 9}
    for student, factor in factors.items():
        hand_in(tmp_path, student, recording, factor)
    class_ = curves(tmp_path, LAB, [result(student, 2.0) for student in factors], "relu")
    assert class_.students == tuple(factors)
    assert {outlier.student for outlier in class_.outliers()} == {"emeka"}
    assert class_.outliers()[0].factor == pytest.approx(9, rel=0.05)


def test_is_the_band_that_of_the_others(recording, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "fill_between", lambda _, x, low, high, **__: drawn.append((low, high)))
    one = report._sizes_of(recording)
    class_ = Curves(("a", "b", "c", "d", "e"), np.array([one * factor for factor in (1, 1.01, 0.99, 1, 50)]), ())
    report._png(class_, class_.outliers())
    for layer, (low, high) in enumerate(drawn):
        assert (one[:, layer] * 0.99 <= low).all()
        assert (high <= one[:, layer] * 1.01).all()


def test_has_a_class_of_three_no_outlier(recording):
    sizes = np.array([report._sizes_of(recording) * factor for factor in (1, 1, 50)])
    assert Curves(("a", "b", "c"), sizes, ()).outliers() == []


def test_is_a_refused_or_lost_recording_named_and_not_drawn(tmp_path, recording):
    for student in ("ada", "bela"):
        hand_in(tmp_path, student, recording)
    hand_in(tmp_path, "damaged", recording)
    (tmp_path / "submitted" / "damaged" / LAB / "relu.safetensors").write_bytes(b"cut off")
    found = [result("ada", 2.0), result("bela", 0, found="its signs are flipped"), result("damaged", 2.0),
             result("lost", 2.0), Result("refused", LAB, "", "refused", {}, "no notebook")]  # fmt: skip
    class_ = curves(tmp_path, LAB, found, "relu")
    why = dict(class_.absent)
    assert class_.students == ("ada",)
    assert set(why) == {"bela", "damaged", "lost", "refused"}
    assert why["bela"] == "its signs are flipped"
    assert why["refused"] == "no notebook"
    assert str(tmp_path) not in " ".join(why.values())


# the table of comma-separated values


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_does_no_cell_begin_like_a_formula(tmp_path, start):
    stored = course_of(tmp_path, result("ada", 0, "refused", f'{start}HYPERLINK("//x")'))
    table = export_csv(stored, LAB, tmp_path / "points.csv")
    row = next(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert row["reason"].startswith("'")


def test_has_the_table_every_question_and_the_points(tmp_path):
    stored = course_of(tmp_path, result("ada", 1.5), result("bela", 2.0))
    path = export_csv(stored, LAB, tmp_path / "new" / "points.csv")
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert [(row["student"], row["activation_gradients"], row["recordings"], row["score"], row["max_score"])
            for row in rows] == [("ada", "2", "1.5", "3.5", "4"), ("bela", "2", "2", "4", "4")]  # fmt: skip


def test_is_a_text_cut_to_one_line():
    assert short("a\nb\x00c") == "a b c"
    assert short("x" * 700) == "x" * 600 + " …"
    assert short("abc", 2) == "ab …"


def test_is_the_page_replaced_whole(tmp_path):
    stored = course_of(tmp_path, result())
    assert report.report(stored, LAB) == report.report(stored, LAB) == tmp_path / "reports" / f"{LAB}.html"
    assert [path.name for path in (tmp_path / "reports").iterdir()] == [f"{LAB}.html"]
