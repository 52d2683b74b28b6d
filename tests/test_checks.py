"""What is a check, and what comes of it?"""

import math
import pkgutil
import subprocess
import sys

import pytest

from autograder import checks, questionnaire, questions, showing
from autograder.checks import Failed, Missing, Question, Verdict, check, earned, needs_person, run


@check(points=2)
def fine(evidence):
    """It is fine."""


@check(points=1)
def wrong(evidence):
    """It is
    right."""
    raise Failed("it is 3, expected is 4", help="Count again.")


@check(points=3, needs=[wrong])
def after_wrong(evidence):
    """It follows."""
    raise AssertionError("never looked at")


@check(points=1)
def absent(evidence):
    """It is there."""
    raise Missing("there is no recording relu.safetensors: run the training cell")


@check(points=4)
def mistaken(evidence):
    """It can be computed."""
    return 1 / evidence


@check(points=1, needs=[mistaken])
def after_mistaken(evidence):
    """It follows as well."""


def verdicts_of(*asked, evidence=0):
    return run(Question("q", "A question", asked), evidence)


def test_does_each_outcome_have_its_points_and_sentences():
    by_name = {v.check: v for v in verdicts_of(fine, wrong, after_wrong, absent, mistaken, after_mistaken)}
    assert {name: v.outcome for name, v in by_name.items()} == {
        "fine": "passed", "wrong": "failed", "after_wrong": "skipped", "absent": "failed",
        "mistaken": "broken", "after_mistaken": "broken",
    }  # fmt: skip
    assert by_name["wrong"] == Verdict(
        "wrong", "failed", 0.0, 1, "It is right.", found="it is 3, expected is 4", help="Count again."
    )
    assert "It is right." in by_name["after_wrong"].found
    assert "ZeroDivisionError" in by_name["mistaken"].found
    assert "return 1 / evidence" in by_name["mistaken"].trace
    assert earned(by_name.values()) == 2


def test_does_a_crash_of_a_check_go_to_a_person_and_a_mistake_of_the_student_not():
    assert needs_person(verdicts_of(mistaken))
    assert not needs_person(verdicts_of(wrong, after_wrong, absent))


@pytest.mark.parametrize("points", [-1, math.nan, math.inf])
def test_are_impossible_points_refused(points):
    with pytest.raises(ValueError, match="0 or more"):
        check(points=points)


def test_is_a_check_without_a_sentence_refused():
    with pytest.raises(ValueError, match="docstring"):
        check(points=1)(lambda evidence: None)


def test_are_points_that_are_no_number_an_error_and_not_full_marks():
    with pytest.raises(ValueError, match="not finite"):
        earned([Verdict("x", "passed", math.nan, 1, "x")])


def test_does_a_failing_comparison_with_nan_fail():
    @check(points=1)
    def small(evidence):
        """It is small."""
        if not evidence < 1:
            raise Failed(f"it is {evidence}")

    assert verdicts_of(small, evidence=math.nan)[0].outcome == "failed"


def test_can_verdicts_be_read_without_colour_and_without_style():
    shown = verdicts_of(fine, wrong, after_wrong, mistaken)
    for text in (showing.as_text("A question", shown, 10), showing.as_html("A question", shown, 10)):
        for word in ("✓", "holds", "✗", "does not hold yet", "not looked at", "needs a person", "2 of 10 points"):
            assert word in text
        assert "Count again." in text
        assert "Traceback" not in text


OTHERS = "this is another student's run: it was trained with another seed"


def failed(found=OTHERS, help="Type your id.", outcome="failed"):
    return Verdict("x", outcome, 0, 1, "It is yours.", found=found, help=help)


def said(*asked):
    return [[(one.found, one.help) for one in verdicts] for verdicts in showing.said_once(asked)]


def test_is_a_reason_said_once_and_then_referred_to():
    whole, above, at = (OTHERS, "Type your id."), ("the same reason as above", ""), ("the same reason as at “Loop”", "")
    asked = [("Loop", [failed(), failed()]), ("Both", [failed(), failed(found="it ends early")]), ("Last", [failed()])]
    assert said(*asked) == [[whole, above], [at, ("it ends early", "Type your id.")], [at]]


@pytest.mark.parametrize("one", [
    failed(help="Run the training cell again and hand in what it saves."), failed(outcome="broken"),
    failed(outcome="skipped"), failed(outcome="unexecuted"), failed(outcome="passed"),
])  # fmt: skip
def test_is_what_another_check_did_not_say_said_as_it_is(one):
    assert said(("Loop", [failed()]), ("Both", [one])) == [[(OTHERS, "Type your id.")], [(one.found, one.help)]]


def test_is_a_short_reason_said_again():
    assert said(("Loop", [failed("it is 3", "")]), ("Both", [failed("it is 3", "")])) == [[("it is 3", "")]] * 2


def test_is_everything_a_student_wrote_escaped():
    evil = Verdict("x", "failed", 0, 1, "It holds.", found="<script>alert(1)</script>\x1b[31m\u202e\nred", help="<b>")
    page, text = showing.as_html("<i>T</i>", [evil], 1, note="<u>"), showing.as_text("T", [evil], 1)
    assert not any(mark in page for mark in ("<script", "<b>", "<i>", "<u>", "\x1b", "\u202e"))
    assert not any(mark in text for mark in ("\x1b", "\u202e"))


@pytest.mark.parametrize(("ask", "words"), [
    (lambda: questionnaire.find("x.ipynb"), ["'x.ipynb' is a notebook", "check() without a name"]),
    (lambda: questionnaire.find("buid_network"), ["no question 'buid_network'", "did you mean build_network?"]),
    (lambda: questionnaire.find("?"), ["no question '?'", "choose from", "build_network", "a course's own"]),
    (lambda: questionnaire.find({"loss": 1.4}), ["a text", "quotation marks"]),
    (lambda: questionnaire.of("exploding_lab"), ["no questions are known", "vanishing_gradients"]),
])  # fmt: skip
def test_does_an_unknown_name_list_those_there_are(ask, words):
    with pytest.raises(questionnaire.QuestionnaireError) as raised:
        ask()
    assert all(word in str(raised.value) for word in words)


def test_is_a_name_that_two_assignments_ask_refused(monkeypatch):
    one, other = (Question("half", title, ()) for title in ("One", "Other"))
    monkeypatch.setattr(questionnaire, "_REGISTERED", {"a": {"half": one}})
    assert questionnaire.find("half") is one
    monkeypatch.setattr(questionnaire, "_REGISTERED", {"a": {"half": one}, "b": {"half": other}})
    with pytest.raises(questionnaire.QuestionnaireError, match="'half' is asked by a and by b"):
        questionnaire.find("half")


def test_are_the_names_of_questions_unique_over_all_assignments():
    # not those that other tests registered in this process
    ours = {module.name for module in pkgutil.iter_modules(questions.__path__)} & set(questionnaire.assignments())
    assert len(ours) >= 3
    names = [name for assignment in ours for name in questionnaire.of(assignment)]
    assert len(names) == len(set(names))


def test_does_a_self_check_load_neither_nbgrader_nor_torch():
    code = (
        "import sys, autograder.selfcheck, autograder.checks, autograder.evidence, autograder.gradebook, "
        "autograder.grading, autograder.results; print({'torch', 'nbgrader'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_are_the_words_for_outcomes_complete():
    assert set(showing.WORDS) == set(checks.Outcome.__args__)
