"""The command `autograder`: what an instructor runs. Each command is one call of the library, which says the same.

What takes long to load is imported by the command that needs it, so that help appears at once.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autograder.lean import without_grammars
from labkit.counts import counted

if TYPE_CHECKING:
    from rich.console import Console

    from autograder.auditing import Audited
    from autograder.grading import Backend, Outcome
    from autograder.marking import How
    from autograder.regrading import Regraded
    from autograder.similarity import Similarities

CONFIG = "nbgrader_config.py"
LAB = "vanishing_gradients"  # what the demonstration shows
OURS = ("autograder", "labkit")
MOST_PAIRS = 30  # in a table of the terminal
LONGEST = 160  # characters of a reason in a table of the terminal

Command = Callable[..., Any]


class Commands(click.Group):
    """Every error ends as one sentence on stderr; --debug shows where it came from."""

    def invoke(self, ctx: click.Context) -> Any:
        without_grammars()
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


debug = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_note_debug, help="Show the traceback of an error."
)
course_option = click.option("--course", type=_path(file_okay=False), default=".", callback=_course, show_default=True,
                             help="The course directory.")  # fmt: skip
jobs_option = click.option("--jobs", type=click.IntRange(min=1),
                           help="Submissions at the same time; by default as many as there are cores.")  # fmt: skip
students_option = click.option("--students", type=click.IntRange(min=1), default=8, show_default=True,
                               help="How many hand in.")  # fmt: skip


def name_argument(command: Command) -> Command:
    """The argument NAME: an assignment of the command's course, also by its folder or a file of it."""

    @functools.wraps(command)
    def of_course(*, name: str, course: Path, **others: Any) -> Any:
        from autograder.course import named

        return command(name=named(course, name), course=course, **others)

    return click.argument("name")(of_course)


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
    # before numpy is loaded: replays are many small products, where a second thread waits more than it computes
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@main.command()
@click.argument("directory", type=_path(file_okay=False), metavar="DIR")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@debug
def init(directory: Path, names: Sequence[str]) -> None:
    """Make DIR a course with the labs NAME, by default all.

    No file that is there already changes.

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
    from autograder.course import bare_name, unknown

    known = {source.stem: source for source in sources(course)}
    names = [bare_name(name) for name in names]
    for name in names:
        if name not in known:
            raise _Ended(unknown(course, name, known))
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


@main.command()
@name_argument
@course_option
@debug
def release(name: str, course: Path) -> None:
    """Make the students' version of the lab NAME, with nbgrader.

    Its notebook is built first.

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
    """Let simulated students hand in the lab NAME.

    Real submissions are never touched.

    \b
    Example:
      autograder simulate vanishing_gradients --students 20
    """
    from autograder import classroom

    made = classroom.simulate(course, name, students, seed, jobs or _cores())
    for student in made:
        click.echo(f"{student.id:12} {student.kind.name}")
    if others := classroom.others(course, name):
        click.echo(f"{counted(len(others), 'submission')} of others, not touched: {', '.join(others[:10])}")


@main.command()
@name_argument
@click.argument("students", nargs=-1, metavar="[STUDENT]...")
@click.option("--student", "more", multiple=True, metavar="STUDENT", help="One of the students; may be given again.")
@click.option("--evidence-only", is_flag=True, help="Run no student's code: recordings and answers.json alone.")
@click.option("--execute", is_flag=True, help="Run every training anew, and grade the recordings that come of it.")
@click.option("--force", is_flag=True, help="Grade again what did not change, too.")
@click.option("--explain", nargs=2, metavar="STUDENT QUESTION", help="Show the evidence behind one mark instead.")
@click.option("--backend", type=click.Choice(["local", "slurm"]), default="local", show_default=True,
              help="Grade on this machine, or as jobs of a Slurm cluster.")  # fmt: skip
@click.option("--profile", metavar="NAME|FILE",
              help="The cluster: generic, which is the default, teaching, or a .toml file of your own.")  # fmt: skip
@jobs_option
@course_option
@debug
def grade(
    name: str,
    students: Sequence[str],
    more: Sequence[str],
    evidence_only: bool,
    execute: bool,
    force: bool,
    explain: tuple[str, str] | None,
    backend: Backend,
    profile: str | None,
    jobs: int | None,
    course: Path,
) -> None:
    """Grade what was handed in of the lab NAME.

    By default everybody's is graded, into nbgrader's gradebook.

    \b
    Example:
      autograder grade vanishing_gradients
      autograder grade vanishing_gradients ada bela --force
      autograder grade vanishing_gradients --evidence-only
      autograder grade vanishing_gradients --explain ada model_loss
      autograder grade vanishing_gradients --backend slurm --profile teaching

    Recordings that were handed in are not trained again: the notebook's training cells find them. --execute takes them
    away. --evidence-only runs no notebook; what only a function can show then waits for a grading that does. The log of
    each student is in results/NAME/logs. The exit code is 0 when every submission has an outcome.

    With --backend slurm the nodes of a cluster mark, and this command writes the gradebook. The course has to lie where
    the nodes see it; --jobs bounds how many jobs run at the same time. When it was killed, the same command goes on.
    """
    if evidence_only and execute:
        raise click.UsageError("--evidence-only runs nothing, --execute runs everything: say one of them")
    if profile and backend == "local":
        raise click.UsageError("--profile says what a cluster is asked for: say --backend slurm, too")
    from autograder import grading
    from autograder.showing import one_line

    if explain:
        _explain(course, name, *explain)
        return
    how: How = "evidence" if evidence_only else "execute" if execute else "run"
    who = [*students, *more] or None
    jobs = jobs or (None if backend == "slurm" else _cores())
    where = profile or "generic"
    outcomes = grading.grade(course, name, who, jobs=jobs, force=force, how=how, backend=backend, profile=where)
    _show(course, name, outcomes, {})
    if who is None and (elsewhere := grading.misplaced(course, name)):
        click.echo(one_line(elsewhere), err=True)
    _fail_if_failed(outcomes)


@main.command()
@click.argument("notebook", type=_path(dir_okay=False))
@click.option("--evidence-only", is_flag=True, help="Do not run the notebook: look at recordings and answers.json.")
@debug
def check(notebook: Path, evidence_only: bool) -> None:
    """Say what grading will say of NOTEBOOK before it is handed in.

    \b
    Example:
      autograder check vanishing_gradients.ipynb

    The notebook is run as a grader runs it, with the files beside it, and looked at by the same checks. The exit code
    is 0 when every check holds, every answer is written and every file is there.
    """
    from autograder import rehearsal

    if sys.stderr.isatty():
        click.echo(f"A copy of {notebook.name} is run and checked; that can take a minute.", err=True)
    try:
        found = rehearsal.rehearse(notebook, "evidence" if evidence_only else "run")
    except rehearsal.RehearsalError as error:
        raise _Ended(str(error)) from error
    click.echo("\n".join(rehearsal.lines(found)))
    if not found.complete:
        raise SystemExit(1)


@main.command()
@name_argument
@click.argument("students", nargs=-1, metavar="[STUDENT]...")
@click.option("--checks", is_flag=True, help="Required: run the checks again, and none of the students' code.")
@click.option("--dry-run", is_flag=True, help="Only show whose marks would change.")
@course_option
@debug
def regrade(name: str, students: Sequence[str], checks: bool, dry_run: bool, course: Path) -> None:
    """Run changed checks of the lab NAME over what was stored.

    By default over everybody's recordings and answers.

    \b
    Example:
      autograder regrade vanishing_gradients --checks --dry-run
      autograder regrade vanishing_gradients --checks ada bela

    No code of a student is run: a question that asks something new keeps its mark until `autograder grade`.
    """
    if not checks:
        raise click.UsageError("say --checks, for they alone run again; `autograder grade --force` runs everything")
    from autograder import regrading

    _show_regraded(regrading.regrade(course, name, list(students) or None, dry_run=dry_run), dry_run)


@main.command()
@name_argument
@jobs_option
@course_option
@debug
def feedback(name: str, jobs: int | None, course: Path) -> None:
    """Write the pages of feedback on the lab NAME.

    There is one for everybody who was graded, as `nbgrader generate_feedback` writes it.

    \b
    Example:
      autograder feedback vanishing_gradients
    """
    from autograder import grading
    from autograder.report import marked_by_hand

    pages = grading.feedback(course, name, jobs=jobs or _cores())
    click.echo(f"{counted(len(pages), 'page')} in {course / 'feedback'}")
    if (marked := marked_by_hand(course, name)) and marked.open:
        click.echo(f"{marked.open}: their pages say so, and that the points are not final")


@main.command()
@name_argument
@click.option("-o", "--output", type=_path(dir_okay=False), help="The file; reports/NAME.html by default.")
@course_option
@debug
def report(name: str, output: Path | None, course: Path) -> None:
    """Write the class report of the lab NAME.

    It is one HTML page that needs nothing else.

    \b
    Example:
      autograder report vanishing_gradients
    """
    from autograder.report import report, warning

    click.echo(report(course, name, output))
    _warn(warning(course, name))


@main.command()
@name_argument
@click.option("-o", "--output", type=_path(dir_okay=False), help="The file; reports/NAME.csv by default.")
@course_option
@debug
def export(name: str, output: Path | None, course: Path) -> None:
    """Write the points of the lab NAME as comma-separated values.

    There is one row for each student.

    \b
    Example:
      autograder export vanishing_gradients -o points.csv
    """
    from autograder.report import export_csv, warning

    click.echo(export_csv(course, name, output or course / "reports" / f"{name}.csv"))
    _warn(warning(course, name))


@main.command()
@name_argument
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.25,
    show_default=True,
    help="The share of code or words from which on a pair is listed.",
)
@click.option("--csv", "table", type=_path(dir_okay=False), help="Write all pairs to this file.")
@click.option("--html", "page", type=_path(dir_okay=False), help="Write a page with the shared passages side by side.")
@course_option
@debug
def similarity(name: str, threshold: float, table: Path | None, page: Path | None, course: Path) -> None:
    """Show who shares work on the lab NAME with whom.

    Code, words and recordings are compared. This is no verdict and changes no mark.

    \b
    Example:
      autograder similarity vanishing_gradients --html similarity.html
    """
    from autograder import similarity

    found = similarity.similarity(course, name, threshold)
    _show_similar(found)
    if table:
        click.echo(similarity.export_csv(found, table))
    if page:
        click.echo(similarity.export_html(found, page))


@main.command()
@name_argument
@click.argument("students", nargs=-1, metavar="[STUDENT]...")
@click.option("--stretches", type=click.IntRange(min=1), default=8, show_default=True,
              help="Epochs of each recording that are run again.")  # fmt: skip
@course_option
@debug
def audit(name: str, students: Sequence[str], stretches: int, course: Path) -> None:
    """Audit the recordings that were handed in of the lab NAME.

    By default everybody's are audited, without running any student's code. Ends with exit code 0 only when every
    student has recordings and all were found to be honest.

    \b
    Example:
      autograder audit vanishing_gradients
      autograder audit vanishing_gradients ada --stretches 50
    """
    from autograder import auditing

    found = list(auditing.audit(course, name, list(students) or None, stretches))
    _show_audited(found)
    if doubts := _doubts(found):
        raise _Ended(doubts)


# the whole life in one go


@main.command()
@students_option
@click.option("--dir", "directory", type=_path(file_okay=False), default="demo", show_default=True,
              help="The course directory.")  # fmt: skip
@jobs_option
@debug
def demo(students: int, directory: Path, jobs: int | None) -> None:
    """Show the whole life of a lab with a simulated class.

    The lab is released, handed in, graded and reported. It can be run again and again: what did not change is kept, and
    nothing is deleted that it did not make.

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
        pages = grading.feedback(directory, LAB, jobs=jobs)
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
    autograder, there = _command("autograder"), shlex.quote(str(directory))
    jupyter = shlex.quote(str(Path(sysconfig.get_path("scripts")) / "jupyter"))
    click.echo(f"\nTry next:\n  {autograder} grade {LAB} --course {there} --force\n"
               f"  {autograder} export {LAB} --course {there}\n"
               # nbgrader reads its settings from the folder that JupyterLab starts in
               f"  cd {there} && {jupyter} lab\n"
               f"\nIn JupyterLab: menu Nbgrader, Formgrader, to mark the essays.")  # fmt: skip


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


def _warn(words: str) -> None:
    """Beside what the command writes to standard output, which is a path."""
    if words:
        click.echo(words, err=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _show_audited(found: Sequence[Audited]) -> None:
    from rich.table import Table
    from rich.text import Text

    from autograder.report import short
    from autograder.showing import one_line

    table = Table("student", "recording", "stretches", "verdict")
    for one in found:
        verdict = "honest" if one.honest else one_line(one.verdict)
        table.add_row(Text(short(one.student)), Text(short(one.recording)), str(one.stretches or ""), Text(verdict))
    _console().print(table)


def _doubts(found: Sequence[Audited]) -> str:
    """How many recordings are not honest, and how many students have none; empty where all is well."""
    recordings = [one for one in found if one.recording]
    doubtful, without = sum(not one.honest for one in recordings), len(found) - len(recordings)
    said = [f"{doubtful} of {counted(len(recordings), 'recording')} not found to be honest"] if doubtful else []
    said += [f"{counted(without, 'student')} without a recording to look at"] if without else []
    return ", ".join(said)


def _fail_if_failed(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome.student for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise _Ended(f"{len(failed)} could not be graded, by no fault of theirs: {', '.join(failed[:10])}")


def _explain(course: Path, name: str, student: str, question: str) -> None:
    """Plain text, each line as deep as it is indented, also where it wraps."""
    from rich.padding import Padding
    from rich.text import Text

    from autograder.explaining import explain

    found = explain(course, name, student, question)
    console = _console()
    console.print(Text(found.title, style="bold"))
    for heading, lines in found.sections.items():
        console.print(Text(f"\n{heading}", style="bold"))
        for line in lines:
            console.print(Padding(Text(line.lstrip()), (0, 0, 0, len(line) - len(line.lstrip())), expand=False))


def _show_regraded(found: Sequence[Regraded], dry_run: bool) -> None:
    """Whose marks changed and why, then who keeps what, in plain text."""
    from rich.table import Table
    from rich.text import Text

    from autograder.report import short
    from autograder.showing import points

    table = Table("student", "question", "from", "to", "why")
    for one in found:
        for change in one.changes:
            why = Text("\n".join(short(reason, LONGEST) for reason in change.reasons))
            table.add_row(Text(short(one.student)), change.title, points(change.before), points(change.after), why)
    if table.row_count:
        _console().print(table)
    for titles in sorted({one.needs_execution for one in found if one.needs_execution}):
        who = [short(one.student) for one in found if one.needs_execution == titles]
        click.echo(f"{', '.join(titles)}: needs execution, and keeps its mark until `autograder grade`, for its checks "
                   f"ask something new of {', '.join(who)}")  # fmt: skip
    for one in found:
        if one.status in ("left", "failed"):
            click.echo(f"{short(one.student)} was left as it is: {short(one.reason, LONGEST)}")
    changed = sum(one.status == "changed" for one in found)
    click.echo(f"{changed} of {len(found)} {'would change; nothing was written' if dry_run else 'changed'}")
    if failed := [one.student for one in found if one.status == "failed"]:
        raise _Ended(f"{len(failed)} could not be regraded by a fault of the grader: {', '.join(failed[:10])}")


def _show_similar(found: Similarities) -> None:
    from rich.table import Table
    from rich.text import Text

    from autograder.report import short

    click.echo("No verdict: equal work may be honest (the same template, tutorial or only way). Look, then talk.")
    table = Table("students", "code", "essays", "recordings", "what")
    for pair in found.pairs[:MOST_PAIRS]:
        shares = ("–" if share is None else f"{share:.0%}" for share in pair.shares)
        what = Text("\n".join(short(words, LONGEST) for words in pair.said))
        table.add_row(Text(f"{short(pair.first)}, {short(pair.second)}"), *shares, what)
    if table.row_count:
        _console().print(table)
    left = found.further + max(0, len(found.pairs) - MOST_PAIRS)
    click.echo(f"Listed: {counted(len(found.pairs) + found.further, 'pair')} of {counted(found.students, 'submission')}"
               f"{f'; {left} that share less are not shown here' if left else ''}")  # fmt: skip
    if found.common:
        click.echo(f"{found.common} students have passages that so many others have, too, that these alone list nobody")
    if found.empty:
        click.echo(f"Nothing of their own to compare: {', '.join(map(short, found.empty))}")
    for student, why in found.troubles:
        click.echo(f"{short(student)} was not compared as a whole: {short(why, LONGEST)}")


def _console() -> Console:
    from rich.console import Console

    # a file or a pipe has no width of its own
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _show(course: Path, name: str, outcomes: Sequence[Outcome], kinds: dict[str, str]) -> None:
    """The table on the terminal. Everything in it is plain text: a student's id may hold rich's own marks."""
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
    _console().print(table)


if __name__ == "__main__":
    main()
