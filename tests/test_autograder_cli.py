"""The command line of the autograder: does every command explain itself, and does every error end as a sentence?"""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from autograder import classroom, cli, course, gradebook, grading, regrading, report, results
from autograder.checks import Verdict
from autograder.cli import main, sentence
from autograder.gradebook import CellScore, StudentScore
from autograder.grading import Outcome
from autograder.regrading import Change, Regraded
from autograder.results import Outputs, QuestionResult, Result

LAB = "vanishing_gradients"
COMMANDS = ("audit", "build", "check", "demo", "export", "feedback", "grade", "init", "regrade", "release", "report",
            "similarity", "simulate")  # fmt: skip
IN_A_COURSE = [["build"], ["release", LAB], ["simulate", LAB], ["grade", LAB], ["report", LAB], ["export", LAB],
               ["feedback", LAB], ["regrade", LAB, "--checks"], ["similarity", LAB]]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def made(tmp_path):
    """A course, as `init` makes it."""
    course.init(tmp_path / "made", [LAB])
    return tmp_path / "made"


def said(result):
    """The one sentence on stderr."""
    assert result.exit_code != 0
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_does_every_command_show_an_example(command):
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert f"autograder {command}" in shown.output.split("Example")[1]


def test_are_these_all_the_commands():
    assert set(main.commands) == set(COMMANDS)


def test_does_help_load_nothing_heavy():
    code = "import sys, autograder.cli as c; c.main(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "nbgrader", "nbformat", "numpy", "matplotlib", "rich"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("arguments", IN_A_COURSE, ids=lambda arguments: arguments[0])
def test_is_a_directory_that_is_no_course_named(tmp_path, arguments):
    error = said(run(*arguments, "--course", tmp_path))
    assert f"{tmp_path} is no course" in error.replace("\n", "")
    assert "autograder init" in error


@pytest.mark.parametrize(("arguments", "words"), [
    (["build", "no_such_lab"], "vanishing_gradients"),
    (["release", "no_such_lab"], "vanishing_gradients"),
    (["simulate", "no_such_lab"], "vanishing_gradients"),
    (["simulate", LAB], "autograder release"),
    (["grade", LAB], "release"),
    (["report", LAB], f"autograder grade {LAB}"),
    (["export", LAB], f"autograder grade {LAB}"),
    (["feedback", LAB], "release it first"),
    (["regrade", LAB, "--checks"], "release"),
    (["grade", LAB, "--explain", "ada", "model_loss"], "release"),
    (["similarity", LAB], f"autograder release {LAB}"),
])  # fmt: skip
def test_is_what_is_missing_said_in_one_sentence(made, arguments, words):
    assert words in said(run(*arguments, "--course", made))


@pytest.mark.parametrize("arguments", [["build", LAB], *IN_A_COURSE[1:], ["audit", LAB]], ids=lambda words: words[0])
def test_are_the_assignments_listed_for_a_misspelt_name(made, arguments):
    course.init(made, ["exploding_gradients"])
    misspelt = [word.replace(LAB, "exploding_gradient") for word in arguments]
    there = f"has no assignment exploding_gradient; there are: exploding_gradients, {LAB}\n"
    assert said(run(*misspelt, "--course", made)).endswith(there)


@pytest.mark.parametrize("arguments", [["grade", LAB], ["audit", LAB], ["regrade", LAB, "--checks"],
                                       ["similarity", LAB]], ids=lambda words: words[0])  # fmt: skip
def test_is_a_class_of_nobody_no_success(made, arguments):
    released = made / "release" / LAB / f"{LAB}.ipynb"
    released.parent.mkdir(parents=True)
    released.write_bytes((made / "source" / LAB / f"{LAB}.ipynb").read_bytes())
    assert f"nobody has handed in {LAB}: collect the submissions first" in said(run(*arguments, "--course", made))


@pytest.mark.parametrize("name", [f"{LAB}/", f"{LAB}.ipynb", f"{LAB}.py"])
def test_is_an_assignment_known_by_its_folder_and_files(made, monkeypatch, name):
    graded = []
    monkeypatch.setattr(grading, "grade", lambda _, name, *__, **___: graded.append(name) or [])
    assert run("grade", name, "--course", made).exit_code == 0
    assert graded == [LAB]
    assert run("build", name, "--course", made).exit_code == 0


@pytest.mark.parametrize("arguments", [
    ["grade"], ["simulate", LAB, "--students", "0"], ["no-such-command"],
    ["grade", LAB, "--explain", "ada"], ["similarity", LAB, "--threshold", "2"],
])  # fmt: skip
def test_is_a_wrong_use_told_apart_from_a_failure(made, arguments):
    assert run(*arguments).exit_code == 2


def test_does_debug_show_where_an_error_came_from(made):
    for arguments in (["--debug", "report", LAB], ["report", LAB, "--debug"]):
        assert isinstance(run(*arguments, "--course", made).exception, report.ReportError)


@pytest.mark.parametrize(("error", "words"), [
    (report.ReportError("there are no results"), "there are no results"),
    (OSError(28, "No space left on device", "/course/x"), "/course/x: no space left on device"),
    (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero; run it again with --debug"),
    (ValueError("two\nlines \x1b[31m"), "ValueError: two lines  [31m; run it again"),
])  # fmt: skip
def test_is_every_error_a_sentence(error, words):
    assert sentence(error).startswith(words)
    assert "\n" not in sentence(error)


def test_does_an_interrupted_command_say_how_to_go_on(made, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(grading, "grade", interrupted)
    result = run("grade", LAB, "--course", made)
    assert "run the same command again" in said(result)
    assert result.exit_code == 130


# what the commands do


def test_does_init_make_a_course_and_add_what_is_missing(tmp_path):
    assert run("init", tmp_path / "c", LAB).exit_code == 0
    (tmp_path / "c" / f"{LAB}.py").unlink()
    assert f"added {LAB}.py" in run("init", tmp_path / "c", LAB).output
    assert "no assignment is called" in said(run("init", tmp_path / "d", "no_such_lab"))


def test_does_build_carry_a_notebook_there_and_back(made):
    source, notebook = made / f"{LAB}.py", made / "source" / LAB / f"{LAB}.ipynb"
    before, text = notebook.read_bytes(), source.read_text("utf-8")
    source.write_text(text.replace("watch them happen", "see them happen"), "utf-8")
    assert run("build", LAB, "--course", made).exit_code == 0
    assert notebook.read_bytes() != before
    notebook.write_bytes(before)
    assert run("build", "--back", "--course", made).exit_code == 0
    assert source.read_text("utf-8") == text


def a_result(made, student, found):
    verdict = Verdict("relu_recorded", "failed", 0, 2, "It holds.", found)
    asked = {"test_recordings": QuestionResult("recordings", "Both trainings", 0, 2, (verdict,))}
    results.save(made, Result(student, LAB, "key", "graded", asked), Outputs({}, {}))


def test_does_grade_show_everybodys_points_and_first_reason_as_plain_text(made, monkeypatch):
    a_result(made, "ada[red]", "its signs are [bold]flipped[/bold] \x1b[31m")
    monkeypatch.setattr(grading, "grade", lambda *_, **__: [Outcome("ada[red]", "graded", "", 32, 34)])
    shown = run("grade", LAB, "--course", made)
    assert shown.exit_code == 0
    for words in ("ada[red]", "32 of 34", "its signs are [bold]flipped[/bold]"):
        assert words in shown.output
    assert "\x1b" not in shown.output


def test_does_grade_name_what_lies_in_a_wrong_place(made, monkeypatch):
    (made / "submitted" / "gus" / "vanishing_gradient").mkdir(parents=True)
    (made / "submitted" / "gus" / "vanishing_gradient" / "a.ipynb").write_text("{}")
    monkeypatch.setattr(grading, "grade", lambda *_, **__: [Outcome("ada", "graded", "", 34, 34)])
    shown = run("grade", LAB, "--course", made)
    assert shown.exit_code == 0
    assert shown.stderr.startswith(
        "1 student with files in submitted/, but without a folder vanishing_gradients: gus has"
    )
    assert shown.stderr.count("\n") == 1
    assert run("grade", LAB, "ada", "--course", made).stderr == ""


def test_does_grade_fail_when_the_grader_failed(made, monkeypatch):
    outcomes = [Outcome("ada", "graded", "", 34, 34), Outcome("bela", "failed", "the grader stopped")]
    monkeypatch.setattr(grading, "grade", lambda *_, **__: outcomes)
    result = run("grade", LAB, "--course", made)
    assert result.exit_code == 1
    assert "1 could not be graded" in result.stderr
    assert "bela" in result.stderr


CHANGES = [
    Regraded("ada[red]", "changed", "", (Change("Twice", 0, 2.5, ("double_values: ✗ → ✓ [b]holds[/b] \x1b[31m",)),)),
    Regraded("bela", "same", needs_execution=("Twice",)),
    Regraded("chidi", "same", needs_execution=("Twice",)),
    Regraded("dilnoza", "left", "what was handed in changed"),
]


@pytest.mark.parametrize("dry_run", [False, True])
def test_does_regrade_show_whose_marks_changed_and_why(made, monkeypatch, dry_run):
    asked = []
    monkeypatch.setattr(regrading, "regrade", lambda *_, **options: asked.append(options) or CHANGES)
    shown = run("regrade", LAB, "--checks", *(["--dry-run"] if dry_run else []), "--course", made)
    assert shown.exit_code == 0
    assert asked == [{"dry_run": dry_run}]
    for words in ("ada[red]", "2.5", "double_values: ✗ → ✓ [b]holds[/b]", "dilnoza was left as it is: what was",
                  "Twice: needs execution, and keeps its mark", "something new of bela, chidi",
                  f"1 of 4 {'would change; nothing was written' if dry_run else 'changed'}"):  # fmt: skip
        assert words in shown.output
    assert "\x1b" not in shown.output


def test_has_regrade_to_be_told_that_only_checks_run(made):
    result = run("regrade", LAB, "--course", made)
    assert result.exit_code == 2
    assert "say --checks" in result.stderr


def test_does_regrade_fail_when_a_student_has_no_outcome(made, monkeypatch):
    monkeypatch.setattr(regrading, "regrade", lambda *_, **__: [*CHANGES, Regraded("emeka", "failed", "it stopped")])
    result = run("regrade", LAB, "--checks", "--course", made)
    assert result.exit_code == 1
    assert "1 could not be regraded by a fault of the grader: emeka" in result.stderr


def test_do_report_and_export_say_where_they_wrote(made, tmp_path):
    a_result(made, "ada", "nothing")
    assert run("report", LAB, "--course", made).output.strip() == str(made / "reports" / f"{LAB}.html")
    assert run("export", LAB, "--course", made, "-o", tmp_path / "x.csv").output.strip() == str(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().startswith("student,recordings,score")


@pytest.mark.parametrize("command", ["report", "export"])
def test_do_report_and_export_say_who_was_graded_under_other_points(made, command):
    a_result(made, "ada", "nothing")
    asked = {"test_recordings": QuestionResult("recordings", "Both trainings", 99, 99, ())}
    results.save(made, Result("bela", LAB, "key", "graded", asked), Outputs({}, {}))
    shown = run(command, LAB, "--course", made)
    assert shown.stderr == f"2 of 2 were graded under other points: run `autograder grade {LAB}`\n"
    assert shown.stdout.count("\n") == 1


@pytest.mark.parametrize(("waiting", "words"), [
    ((0, 0), ""),
    ((0, 1), "1 answer in words is not marked yet (1 student): their pages say so"),
    ((1, 2), "3 answers in words are not marked yet (2 students): their pages say so"),
])  # fmt: skip
def test_does_feedback_say_how_many_answers_are_not_marked_yet(made, monkeypatch, waiting, words):
    def student(name, number):
        cells = {str(k): CellScore("essay", 0, 2, None, None, k < number) for k in range(3)}
        # what a check left to a person is no answer in words
        return StudentScore(name, 0, 6, 0, {**cells, "test_loss": CellScore("test", 0, 2, 0, None, True)})

    scores = [student(*one) for one in zip(("ada", "bela"), waiting, strict=True)]
    monkeypatch.setattr(gradebook, "scores", lambda *_: scores)
    monkeypatch.setattr(grading, "feedback", lambda *_, **__: [Path("a.html")] * 2)
    first, *others = run("feedback", LAB, "--course", made).output.splitlines()
    assert first.startswith("2 pages in ")
    assert [line[: len(words)] for line in others] == [words] * bool(words)


def test_does_simulate_name_the_submissions_that_are_not_its_own(made, monkeypatch):
    (made / "submitted" / "real" / LAB).mkdir(parents=True)
    monkeypatch.setattr(classroom, "simulate", lambda *_, **__: [])
    assert "1 submission of others, not touched: real" in run("simulate", LAB, "--course", made).output


# the whole life


@pytest.mark.slow
def test_does_the_demonstration_run_again_and_again(tmp_path, warm):
    for _ in range(2):
        shown = run("demo", "--students", 2, "--jobs", 1, "--dir", tmp_path / "demo")
        assert shown.exit_code == 0, shown.output
        assert "34 of 34" in shown.output
        assert "9 of 34" in shown.output
    pages = list((tmp_path / "demo" / "feedback").glob(f"*/{LAB}/{LAB}.html"))
    assert len(pages) == 2
    assert (tmp_path / "demo" / "reports" / f"{LAB}.html").is_file()


def test_can_the_line_that_starts_jupyterlab_be_pasted(tmp_path, monkeypatch, capsys):
    """Does it start in the course, where nbgrader looks for its settings, by a path that is valid there?"""
    monkeypatch.chdir(tmp_path)
    directory = Path("my course")
    course.init(directory, [LAB])
    cli._say_where(directory, directory / "reports" / f"{LAB}.html", [])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" lab")]
    pasted = line.removesuffix(" lab") + " --paths && ls"
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nbgrader_config.py" in done.stdout.splitlines()


def test_is_no_directory_taken_that_is_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "no course" in said(run("demo", "--dir", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
