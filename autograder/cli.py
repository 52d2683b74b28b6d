"""The command `autograder`: what an instructor runs. Each command is one call of the library, which says the same.

What takes long to load is imported by the command that needs it, so that help appears at once.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from autograder.grading import Outcome

CONFIG = "nbgrader_config.py"
LAB = "vanishing_gradients"  # what the demonstration shows
OURS = ("autograder", "labkit")
LONGEST = 160  # characters of a reason in a table of the terminal

Command = Callable[..., Any]


class Commands(click.Group):
    """Every error ends as one sentence on stderr; --debug shows where it came from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise _Interrupted("interrupted: what was done stays; run the same command again to go on") from None
        except Exception as error:
            if ctx.meta.get(DEBUG):
                raise
            raise _Ended(sentence(error)) from None


class _Ended(click.ClickException):
    """The command ends here, with this sentence."""


class _Interrupted(_Ended):
    exit_code = 130  # as a shell says it


DEBUG = "autograder.debug"


def sentence(error: BaseException) -> str:
    """What the user is told of an error. Ours are sentences already; others are named, with a way to learn more."""
    from autograder.showing import one_line

    if type(error).__module__.split(".")[0] in OURS:
        return one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{error.strerror.lower()}")
    return one_line(f"{type(error).__name__}: {str(error)[:300]}; run it again with --debug to see where")


def _note_debug(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    # meta is shared by the group and its command, so the option works before and after the command's name
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or wanted


def _course(_: click.Context, __: click.Parameter, course: Path) -> Path:
    if not (course / CONFIG).is_file():
        raise _Ended(f"{course} is no course, {CONFIG} is missing: make one with `autograder init DIR`, "
                     "or name one with --course")  # fmt: skip
    return course


def _path(**kinds: bool) -> click.Path:
    return click.Path(path_type=Path, **kinds)


debug = click.option("--debug", is_flag=True, expose_value=False, callback=_note_debug, help="Show errors in full.")
course_option = click.option("--course", type=_path(file_okay=False), default=".", callback=_course, show_default=True,
                             help="The course directory.")  # fmt: skip
jobs_option = click.option("--jobs", type=click.IntRange(min=1),
                           help="Submissions at the same time; by default as many as there are cores.")  # fmt: skip
students_option = click.option("--students", type=click.IntRange(min=1), default=8, show_default=True,
                               help="How many hand in.")  # fmt: skip
name_argument = click.argument("name")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradient-lab")
@debug
def main() -> None:
    """Build, release, grade and report the labs of a course.

    \b
    Example:
      autograder demo

    Everything else is done with nbgrader's own commands and with formgrader, in the same course directory.
    """


@main.command()
@click.argument("directory", type=_path(file_okay=False), metavar="DIR")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@debug
def init(directory: Path, names: Sequence[str]) -> None:
    """Make DIR a course with the labs NAME, by default all; no file that is there changes.

    \b
    Example:
      autograder init my_course
    """
    from autograder import course

    click.echo(course.init(directory, list(names) or None))


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--back", is_flag=True, help="Carry edits of the notebooks home to their sources instead.")
@course_option
@debug
def build(names: Sequence[str], back: bool, course: Path) -> None:
    """Build the notebooks of the sources NAME.py, by default of all.

    \b
    Example:
      autograder build vanishing_gradients
      autograder build --back vanishing_gradients
    """
    from autograder import authoring

    for source in _sources(course, names):
        notebook = authoring.notebook_of(source)
        made = authoring.back(notebook, source) if back else authoring.build(source)
        click.echo(f"{made} is up to date with {notebook.name if back else source.name}")


def _sources(course: Path, names: Sequence[str]) -> list[Path]:
    from autograder.authoring import sources

    known = {source.stem: source for source in sources(course)}
    for name in names:
        if name not in known:
            raise _Ended(f"{course} has no assignment {name}; there are: {', '.join(known) or 'none'}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


@main.command()
@name_argument
@course_option
@debug
def release(name: str, course: Path) -> None:
    """Build the lab NAME and make the students' version of it, with nbgrader.

    \b
    Example:
      autograder release vanishing_gradients
    """
    from autograder.course import release

    click.echo(f"{release(course, name)} is what students get")


@main.command()
@name_argument
@students_option
@click.option("--seed", default=0, show_default=True, help="Another seed gives other students.")
@jobs_option
@course_option
@debug
def simulate(name: str, students: int, seed: int, jobs: int | None, course: Path) -> None:
    """Let a class of simulated students hand in the lab NAME; real submissions are never touched.

    \b
    Example:
      autograder simulate vanishing_gradients --students 20
    """
    from autograder import classroom

    made = classroom.simulate(course, name, students, seed, jobs or _cores())
    for student in made:
        click.echo(f"{student.id:12} {student.kind.name}")
    if others := classroom.others(course, name):
        click.echo(f"{len(others)} further submissions are there and were not touched: {', '.join(others[:10])}")


@main.command()
@name_argument
@click.argument("students", nargs=-1, metavar="[STUDENT]...")
@click.option("--force", is_flag=True, help="Grade again what did not change, too.")
@jobs_option
@course_option
@debug
def grade(name: str, students: Sequence[str], force: bool, jobs: int | None, course: Path) -> None:
    """Grade what was handed in of the lab NAME into nbgrader's gradebook, by default everybody's.

    \b
    Example:
      autograder grade vanishing_gradients
      autograder grade vanishing_gradients ada bela --force
    """
    from autograder import grading

    outcomes = grading.grade(course, name, list(students) or None, jobs=jobs or _cores(), force=force)
    _show(course, name, outcomes, {})
    _fail_if_failed(outcomes)


@main.command()
@name_argument
@click.option("-o", "--output", type=_path(dir_okay=False), help="The file; reports/NAME.html by default.")
@course_option
@debug
def report(name: str, output: Path | None, course: Path) -> None:
    """Write the class report of the lab NAME: one HTML page that needs nothing else.

    \b
    Example:
      autograder report vanishing_gradients
    """
    from autograder.report import report

    click.echo(report(course, name, output))


@main.command()
@name_argument
@click.option("-o", "--output", type=_path(dir_okay=False), help="The file; reports/NAME.csv by default.")
@course_option
@debug
def export(name: str, output: Path | None, course: Path) -> None:
    """Write the points of the lab NAME as comma-separated values, one row for each student.

    \b
    Example:
      autograder export vanishing_gradients -o points.csv
    """
    from autograder.report import export_csv

    click.echo(export_csv(course, name, output or course / "reports" / f"{name}.csv"))


# the whole life in one go


@main.command()
@students_option
@click.option("--dir", "directory", type=_path(file_okay=False), default="demo", show_default=True, help="The course.")
@jobs_option
@debug
def demo(students: int, directory: Path, jobs: int | None) -> None:
    """Show the whole life of a lab: released, handed in by a simulated class, graded, reported.

    It can be run again and again: what did not change is kept, and nothing is deleted that it did not make.

    \b
    Example:
      autograder demo --students 12 --dir /tmp/demo
    """
    jobs = jobs or _cores()
    with _step(f"1/5 a course in {directory}, its lab built and released"):
        _prepare(directory)
    from autograder import classroom, grading
    from autograder.report import report

    with _step(f"2/5 {students} simulated students hand in"):
        classroom.simulate(directory, LAB, students, jobs=jobs)
    with _step(f"3/5 graded into {directory / 'gradebook.db'}"):
        outcomes = grading.grade(directory, LAB, jobs=jobs)
    with _step("4/5 a page of feedback for each"):
        pages = grading.feedback(directory, LAB)
    with _step("5/5 the class report"):
        page = report(directory, LAB)
    _show(directory, LAB, outcomes, classroom.simulated(directory, LAB))
    _say_where(directory, page, pages)
    _fail_if_failed(outcomes)


def _prepare(directory: Path) -> None:
    from autograder import course

    course.init(directory, [LAB])
    source = f"{LAB}.py"
    if (directory / source).read_bytes() != (course.assignments_home() / source).read_bytes():
        click.echo(f"    {directory / source} is not the package's: it is kept; delete {directory} to start afresh")
    course.release(directory, LAB)


@contextmanager
def _step(words: str) -> Iterator[None]:
    click.echo(words)
    started = time.perf_counter()
    yield
    click.echo(f"    {time.perf_counter() - started:.1f} s")


def _say_where(directory: Path, page: Path, pages: Sequence[Path]) -> None:
    click.echo(f"\nThe class report:    {_near(page)}")
    if pages:
        click.echo(f"A page of feedback:  {_near(pages[0])}")
    autograder = _command("autograder")
    click.echo(f"\nTry next:\n  {autograder} grade {LAB} --course {directory} --force\n"
               f"  {autograder} export {LAB} --course {directory}\n"
               f"  {_command('jupyter')} lab {directory}     (menu Nbgrader, Formgrader: mark the essays)")  # fmt: skip


def _near(path: Path) -> str:
    """As the user would type it from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _command(name: str) -> str:
    """By its path where the environment lies here: it may not be activated in the user's own shell."""
    script = Path(sysconfig.get_path("scripts")) / name
    return _near(script) if script.is_relative_to(Path.cwd()) else name


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _fail_if_failed(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome.student for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise _Ended(f"{len(failed)} could not be graded by a fault of the grader: {', '.join(failed[:10])}")


def _show(course: Path, name: str, outcomes: Sequence[Outcome], kinds: dict[str, str]) -> None:
    """The table on the terminal. Everything in it is plain text: a student's id may hold rich's own marks."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from autograder import results
    from autograder.report import first_reason, short
    from autograder.showing import points

    table = Table("student", *(["kind"] if kinds else []), "points", "status", "first reason")
    for outcome in outcomes:
        kind = [Text(kinds.get(outcome.student, "handed in"))] if kinds else []
        score = f"{points(outcome.score)} of {points(outcome.max_score)}"
        reason = outcome.reason or first_reason(results.load(course, name, outcome.student))
        table.add_row(Text(short(outcome.student)), *kind, score, outcome.status, Text(short(reason, LONGEST)))
    # a file or a pipe has no width of its own
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


if __name__ == "__main__":
    main()
