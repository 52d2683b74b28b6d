"""Does an instructor see why a submission has its mark, and nothing that a student's text could do to a terminal?"""

import contextlib

import numpy as np
import pytest
import toy_lab
from click.testing import CliRunner
from nbgrader.api import Gradebook
from toy_lab import hand_in, solved

from autograder import answers, explaining, grading, marking, results
from autograder.answers import Network, Tensor
from autograder.cli import main
from autograder.explaining import ExplanationError, explain
from autograder.grading import GradingError
from autograder.results import Exchange

ANSWERS = {
    "right": {},
    "wrong": {"double": "def double(x):\n    return x + x.mean()"},
    "raising": {"double": "def double(x):\n    raise ValueError('no \\x1b[31mred\\x07 \\u202e idea')"},
    "failing": {"number": "number = nunber"},
    "endless": {"number": "while True: pass"},
    "exits": {"number": "import os; os._exit(0)"},
    "breaks": {"number": "number = 'break the check'"},
    "elsewhere": {
        "number": "",
        "build": "def build(width):\n    return nn.Sequential(nn.Linear(4, width))\nnumber = 41",
    },
    "hostile": {"number": "# \x1b[2J\nnumber = '[bold]\\x1b]0;title\\x07[/bold]'"},
}


@pytest.fixture(scope="module")
def course(tmp_path_factory, warm):
    course = toy_lab.make_course(tmp_path_factory.mktemp("explained") / "course")
    for student, given in ANSWERS.items():
        hand_in(course, student, solved(course, **given))
    hand_in(course, "refused", b"no notebook")
    grading.grade(course, "toy", jobs=1, progress=False)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.find_grade("test_double", "toy", "toy", "wrong").manual_score = 0.5
        book.find_comment("double", "toy", "toy", "wrong").manual_comment = "Twice, not plus."
        book.find_submission("toy", "wrong").notebooks[0].late_submission_penalty = 0.25
        book.db.commit()
    return course


def text(course, student, question):
    return str(explain(course, "toy", student, question))


@pytest.mark.slow
@pytest.mark.parametrize(("student", "question", "words"), [
    ("right", "double", ["Twice (test_double) of right: 3 of 3 points", "✓ double(x) is two times x. [holds] (2 of 2; "
                         "double_values)", "double(array 5 float64 [", "→ array 5 float64 [", "| def double(x):",
                         "Protection in force: ", "3 of 3 count: the checks gave 3"]),
    ("wrong", "double", ["✗ double(x) is two times x. [does not hold yet] (0 of 2; double_values)", "Multiply by two.",
                         "– double works on tensors as well. [not looked at]", "|     return x + x.mean()",
                         "0.5 of 3 count: the checks gave 0; a person gave 0.5",
                         "A person's comment at double: Twice, not plus.", "penalty of the whole submission: 0.25 of"]),
    ("raising", "double", ["raised ValueError: no ", "It happened in the line: raise ValueError("]),
    ("failing", "number", ["→ there is no variable number", "raised NameError: name 'nunber' is not defined"]),
    ("endless", "number", [", stopped at its limit of time", "Cells that ran into the limit of time: number"]),
    ("exits", "number", ["Remark: The cell number (in A number) was left out", "its own process (exit code 0)"]),
    ("breaks", "number", ["! number is 42.", "TypeError: a mistake in the check", "a person has to look at it"]),
    ("elsewhere", "number", ["→ 41", "| number = 41", "number was not run: it was deleted, blank, or is no code"]),
    ("refused", "double", ["This could not be graded: ", "0 of 3 count"]),
])  # fmt: skip
def test_does_it_say_why_the_mark_is_what_it_is(course, student, question, words):
    found = text(course, student, question)
    for word in words:
        assert word in found


@pytest.mark.slow
def test_is_a_grade_id_as_good_as_a_name_and_nothing_graded_again(course, monkeypatch):
    monkeypatch.setattr(marking, "mark", None)
    assert text(course, "right", "test_build") == text(course, "right", "build")


@pytest.mark.slow
def test_is_a_submission_that_changed_graded_first(course):
    hand_in(course, "resubmits", solved(course, number="number = 41"))
    assert "A number (test_number) of resubmits: 0 of 1" in text(course, "resubmits", "number")
    hand_in(course, "resubmits", solved(course))
    assert "A number (test_number) of resubmits: 1 of 1" in text(course, "resubmits", "number")


@pytest.mark.slow
def test_is_a_grader_that_changed_since_named_and_the_stored_result_explained(course, monkeypatch):
    assert "changed since" not in text(course, "wrong", "double")
    before = results.load(course, "toy", "wrong")
    monkeypatch.setattr(marking, "_code", lambda: "other code")
    assert "the grader changed since" in text(course, "wrong", "double")
    assert results.load(course, "toy", "wrong") == before


@pytest.mark.slow
def test_are_the_choices_listed_where_a_name_is_unknown(course):
    with pytest.raises(ExplanationError, match="no question trouble: choose from double, build, number"):
        explain(course, "toy", "right", "trouble")
    with pytest.raises(GradingError, match="there are submissions of breaks, "):
        explain(course, "toy", "nobody", "double")


@pytest.mark.slow
@pytest.mark.parametrize(("student", "question"), [("hostile", "number"), ("raising", "double")])
def test_can_a_students_text_do_nothing_to_the_terminal(course, student, question):
    arguments = ["grade", "toy", "--explain", student, question, "--course", str(course)]
    shown = CliRunner().invoke(main, arguments, color=True)
    assert shown.exit_code == 0, shown.output
    assert all(character.isprintable() or character == "\n" for character in shown.output)
    if student == "hostile":
        assert "'[bold]\\x1b]0;title\\x07[/bold]'" in shown.output


@pytest.mark.slow
def test_is_what_the_checks_looked_at_described(tmp_path, short, course, monkeypatch):
    from labkit.training import train

    run = train(short, progress=False)
    folder = hand_in(course, "records", solved(course, number="number = 42"))
    run.save(folder / "run.safetensors")
    (folder / "cut.safetensors").write_bytes(b"cut off")

    @toy_lab.check(points=1)
    def looks(evidence):
        """Looks at files."""
        for name in ("run", "absent", "cut"):
            with contextlib.suppress(toy_lab.Failed):
                evidence.recording(name)

    question = toy_lab.Question("number", "A number", (looks,))
    monkeypatch.setitem(explaining.marking.questionnaire._REGISTERED, "toy", {**toy_lab.QUESTIONS, "number": question})
    found = " ".join(text(course, "records", "number").split())
    size = (folder / "run.safetensors").stat().st_size
    assert f"run.safetensors: handed in, {size:,} bytes, SHA-256 " in found
    assert f"of {run.origin.student}, seed {run.origin.seed}, {run.iterations} iterations in 3 epochs, float32" in found
    assert "on cpu, gradient-lab" in found
    assert "absent.safetensors: nobody handed it in" in found
    assert "it cannot be read: cut.safetensors" in found


# how values are shown


@pytest.mark.parametrize(("value", "shown"), [
    (3, "3"), (True, "True"), (None, "None"), (0.1, "0.1"), ("a\nb", r"'a\nb'"),
    (np.array(2.5), "array of one number float64 [2.5]"),
    (np.arange(6.0).reshape(2, 3), "array 2x3 float64 [0, 1, 2, …] from 0 to 5"),
    (np.array([]), "array 0 float64 []"),
    (np.array([1, np.nan, 2, 3]), "array 4 float64 [1, nan, 2, …] from nan to nan"),
    (Tensor(np.array([True])), "tensor 1 bool [1]"),
    (Network((4, 3, 2), "relu", seed=7), "a relu network of 4-3-2, seed 7"),
    ({"a": [1, (2, 3)]}, "{'a': [1, (2, 3)]}"),
    (list(range(9)), "[0, 1, 2, 3, 4, 5, … 9 in all]"),
    ("x" * 100, "'" + "x" * 79 + "…"),
])  # fmt: skip
def test_is_every_plain_value_shown_short(value, shown):
    assert explaining._shown(value) == shown


@pytest.mark.parametrize(("reply", "shown"), [
    ('{"value": 3}', "3"), ('{"error": "ValueError: no", "line": "1/0"}', "f(1) raised ValueError: no It happened in "
     "the line: 1/0"), ('{"missing": "function"}', "there is no function f: not answered yet, "
     "or its cell did not run to its end"),
    ('{"stopped": "10"}', "f(1) was stopped after 10 seconds Is there a loop that never ends?"),
    ("[1, 2]", "f(1) gave no readable answer"), ("no json", "a reply that is not JSON"),
    ('{"value": {"array": 3}}', "what f(1) gives is an array that cannot be read"),
])  # fmt: skip
def test_is_every_reply_said(reply, shown):
    assert explaining._replied(Exchange(answers.call_request("f", [1]), reply)) == shown


def test_is_a_reply_that_was_not_kept_named():
    one = Exchange(answers.value_request("x"), "", left_out=12_345)
    assert explaining._replied(one) == "a reply too large to be kept (12,345 characters)"
