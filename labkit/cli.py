"""The command `labkit`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from labkit.commands import Commands, make_folder, prepare_terminal
from labkit.counts import counted
from labkit.jobs import commands as jobs
from labkit.options import changed, changes

FEW = 20  # seeds; of fewer, the 2.5th percentile is nearly the least of them


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradient-lab")
def main() -> None:
    """Train networks, record their gradients, look at the recordings.

    \b
    Example:
      labkit run vanishing/relu vanishing/sigmoid
    """
    prepare_terminal()


@main.command("list")
def list_experiments() -> None:
    """Say which experiments there are, and where they were published.

    Also whose defaults they have.

    \b
    Example:
      labkit list
    """
    from labkit.catalogue import EXPERIMENTS, ORIGINS

    width = max(map(len, EXPERIMENTS))
    for family, origin in ORIGINS.items():
        click.echo(f"{family}: {origin}")
        for name, one in EXPERIMENTS.items():
            if name.startswith(f"{family}/"):
                click.echo(f"  {name:{width}}  {one.summary}")


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT...")
@click.option("--student", default="", help="Whose run: the seed follows from the id.")
@click.option("--seeds", type=int, help="Train with so many seeds, and show medians and 95 % bands over them.")
@changes
@click.option("--device", help="cpu or cuda; by default a GPU where there is one.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), show_default=True,
              help="The folder for the recordings.")  # fmt: skip
@click.option("--again", is_flag=True, help="Train again even if the recording is there.")
@click.option("--resume", is_flag=True, help="Go on with recordings there that were cut off.")
def run(
    names: tuple[str, ...], student: str, seeds: int | None, device: str | None, out: Path, again: bool, resume: bool,
    **wishes: Any,
) -> None:  # fmt: skip
    """Train experiments by name and save their recordings.

    Networks of one shape are trained at once, also those of many seeds. `labkit list` names them all. What is in the
    folder already is read, not trained again; a finished recording of another run is never overwritten. One that was
    cut off is trained anew, unless you say --resume.

    \b
    Example:
      labkit run vanishing/relu vanishing/sigmoid --student ada
    """
    if student and seeds is not None:
        raise click.UsageError("a student has one seed: say --student or --seeds")
    if again and resume:
        raise click.UsageError("--again begins anew and --resume goes on: say one of them")
    from labkit.ensembles import seeds_of
    from labkit.experiments import experiment
    from labkit.training import Interrupted, train_many

    names = tuple(dict.fromkeys(names))
    named = [experiment(name, student).replace(**changed(wishes)) for name in names]
    experiments = [one for e in named for one in (seeds_of(e, seeds) if seeds is not None else [e])]
    make_folder(out)
    paths = [out / f"{_stem(e, seeds)}.safetensors" for e in experiments]
    if again:  # the old ones stay until the new ones are whole
        new = [path.with_suffix(".new.safetensors") for path in paths]
        for path in new:
            path.unlink(missing_ok=True)
        recordings = train_many(experiments, new, device=device)
        for made, path in zip(new, paths, strict=True):
            made.replace(path)
    else:
        for e, path in zip(experiments, paths, strict=True):
            _refuse_another(e, path)
        try:
            recordings = train_many(experiments, paths, device=device, resume=resume)
        except Interrupted as stopped:
            raise click.ClickException(f"{stopped}; the same line with --resume goes on from there") from None
    figures: dict[str, list[Any]] = {name: [] for name in names}  # of each run, whose recording may stay in its file
    for recording, path in zip(recordings, paths, strict=True):
        click.echo(f"{path}: {_outcome(recording)}")
        figures[recording.name].append(_figures_of(recording))
    if seeds is not None:
        from rich.console import Console

        for name in names:
            Console().print(_bands(name, recordings[0].layers, figures[name]))


def _refuse_another(e: Any, path: Path) -> None:
    """A finished recording of another run may be somebody's work of hours."""
    from labkit.recording import Recording, RecordingError, ended

    try:
        found = Recording.load(path)
    except RecordingError:
        return
    if ended(found) and found.origin.experiment != e:
        raise click.ClickException(f"{path} holds a finished run of another kind: choose another --out, or say --again")


def _stem(e: Any, seeds: int | None) -> str:
    name = str(e.name).replace("/", "-")
    return name if seeds is None else f"{name}-seed-{e.seed}"


def _figures_of(recording: Any) -> tuple[Any, Any, Any]:
    from labkit import ensembles

    return (
        ensembles.sizes_at_start(recording),
        ensembles.sizes_over_training(recording),
        ensembles.last_over_first(recording),
    )


def _bands(name: str, layers: Sequence[str], figures: Sequence[tuple[Any, Any, Any]]) -> Any:
    """What the layers of many runs have in common, as a rich table."""
    from rich.table import Table

    from labkit import ensembles

    table = Table(title=f"{name}: {counted(len(figures), 'seed')}, median (95 % band)", title_justify="left")
    for head in ("layer", "mean |gradient| at the start", "over training"):
        table.add_column(head)
    start, whole, ratio = (ensembles.band(each) for each in zip(*figures, strict=True))
    for k, layer in enumerate(layers):
        bands = (ensembles.Band(b.median[k], b.low[k], b.high[k], b.runs) for b in (start, whole))
        table.add_row(layer, *map(str, bands))
    few = "" if len(figures) >= FEW else f"\nof so few seeds the band is hardly more than their range: --seeds {FEW}"
    table.caption = f"last over first at the start: {ratio}{few}"
    table.caption_justify = "left"
    return table


@main.command("map")
@click.argument("names", nargs=-1, required=True, metavar="trainability/ACTIVATION...")
@click.option("--student", default="", help="Whose map: the seed follows from the id.")
@click.option("--size", type=click.Choice(["tiny", "coarse", "fine"]), default="coarse", show_default=True,
              help="Fewer or more networks.")  # fmt: skip
@click.option("--device", help="cpu or cuda; by default a GPU where there is one.")
@click.option("--backend", default="here", show_default=True,
              help="here; or as in `labkit submit`, a job for each depth.")  # fmt: skip
@click.option("--profile", default="generic", show_default=True, metavar="NAME|FILE",
              help="The cluster: generic, teaching, or a .toml file of your own.")  # fmt: skip
@click.option("--time", "minutes", type=int, metavar="MINUTES",
              help="The time limit of a job, instead of the profile's.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path(), show_default=True,
              help="The folder for maps and figures.")  # fmt: skip
def draw_map(
    names: tuple[str, ...], student: str, size: Any, device: str | None, backend: Any, profile: str,
    minutes: int | None, out: Path,
) -> None:  # fmt: skip
    """Map where deep networks train: depth by weight variance.

    Trains a network for each pair, saves what came of them, and draws it with theory's depth scales over it. What a
    file in the folder has of this very map is not trained again.

    \b
    Example:
      labkit map trainability/tanh --student ada
    """
    from labkit import maps, plots

    out.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(names):
        activation = name.removeprefix(f"{maps.FAMILY}/")
        path = out / f"{maps.PREFIX}{activation}.safetensors"
        found = maps.trainability(
            activation, student, size, path, device=device, backend=backend, profile=profile, minutes=minutes
        )
        click.echo(f"{path}: {found!r}")
        for ending, draw in (("", plots.trainability), ("-start", plots.starting_gradients)):
            figure: Any = draw(found)
            drawn = path.with_name(f"{path.stem}{ending}.png")
            drawn.write_bytes(figure.png())
            click.echo(drawn)


main.add_command(jobs.submit)
main.add_command(jobs.job)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
def show(files: tuple[Path, ...]) -> None:
    """Say what is in recordings, after checking every byte of them.

    \b
    Example:
      labkit show vanishing-relu.safetensors
    """
    from rich.console import Console

    from labkit.recording import Recording

    for file in files:
        Console().print(_table(file, Recording.load(file)))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("figures"), show_default=True,
              help="The folder for the figures.")  # fmt: skip
def plot(files: tuple[Path, ...], out: Path) -> None:
    """Draw every figure of the lab from recordings, as PNG files.

    \b
    Example:
      labkit plot vanishing-relu.safetensors vanishing-sigmoid.safetensors --out figures
    """
    from labkit import plots
    from labkit.recording import Recording

    recordings = [Recording.load(file) for file in files]
    make_folder(out)
    for path in plots.everything(recordings, out):
        click.echo(path)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
def diagnose(files: tuple[Path, ...]) -> None:
    """Say whether gradients vanish or explode, why, and what to try.

    \b
    Example:
      labkit diagnose vanishing-sigmoid.safetensors
    """
    from labkit import diagnosis
    from labkit.recording import Recording

    for file in files:
        click.echo(diagnosis.diagnose(Recording.load(file)))


@main.command()
@click.option("--quick", is_flag=True, help="Fewer seeds, and the deep networks on few images.")
@click.option("--seeds", type=click.IntRange(min=1),
              help="So many seeds for every experiment; by default fewer for the deep networks.")  # fmt: skip
@click.option("--only", multiple=True, metavar="SOURCE",
              help="One of the tutorials, S1, S3, S4 or S5; may be given again.")  # fmt: skip
@click.option("--data", type=click.Choice(["mnist", "digits"]), default="mnist", show_default=True,
              help="digits where MNIST is not.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"), show_default=True,
              help="The folder for all of it.")  # fmt: skip
def reproduce(quick: bool, seeds: int | None, only: tuple[str, ...], data: str, out: Path) -> None:
    """Hold what the tutorials say against runs over many seeds.

    Writes REPRODUCTION.md. Recordings are kept in the folder, each under a name that follows from its whole experiment:
    an interrupted run goes on where it was, --only adds to what is there, and the table of another --data or size is
    made again in seconds. S2 asks questions and publishes no figure.

    \b
    Example:
      labkit reproduce --quick --data digits
    """
    from labkit.reproduction import Plan
    from labkit.reproduction import reproduce as run_all

    make_folder(out)
    click.echo(run_all(out, Plan(quick, seeds, only, digits=data == "digits")))


@main.group(cls=Commands)
def export() -> None:
    """Write recordings for other programs.

    \b
    Example:
      labkit export tensorboard vanishing-relu.safetensors --out events
    """


@export.command("tensorboard")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
@click.option("--out", type=click.Path(path_type=Path), default=Path("events"), show_default=True,
              help="The folder for the event files.")  # fmt: skip
def export_tensorboard(files: tuple[Path, ...], out: Path) -> None:
    """Write scalars and histograms as TensorBoard's event files.

    There is a folder for each recording; `tensorboard --logdir OUT` shows them.

    \b
    Example:
      labkit export tensorboard vanishing-relu.safetensors vanishing-sigmoid.safetensors --out events
    """
    from labkit.export import folders, to_tensorboard
    from labkit.recording import Recording

    recordings = [Recording.load(file) for file in files]
    for recording, folder in zip(recordings, folders(files, recordings, out), strict=True):
        click.echo(to_tensorboard(recording, folder))


@main.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="RECORDING")
@click.option("--at", "iteration", type=int, required=True, metavar="I", help="The iteration, from 1.")
def replay(file: Path, iteration: int) -> None:
    """Run a recording again up to iteration I, and compare.

    It is run in numpy, from the checkpoint before I, and the figures of both are shown. Data and settings are those
    that the file names. Ends with exit code 1 when a figure is off.

    \b
    Example:
      labkit replay vanishing-relu.safetensors --at 431
    """
    from rich.console import Console

    from labkit.deviations import at_iteration
    from labkit.recording import Recording

    recording = Recording.load(file)
    found = at_iteration(recording, iteration)
    # a file or a pipe has no width of its own
    Console(width=None if sys.stdout.isatty() else 120).print(_figures(file, iteration, found))
    if not found.calm:
        click.echo("From here on rounding decides how this run goes on: its figures cannot be replayed.")
    elif any(figure.off for figure in found.figures):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="The document, a .pdf, .docx or .html file; NOTEBOOK's name with .pdf by default.")  # fmt: skip
@click.option("--html", is_flag=True, help="One web page that needs nothing else, instead of a PDF.")
@click.option("--name", default="", help="Your name, where it shall be another than the notebook's student.")
@click.option("--figures", type=click.IntRange(min=0), default=4, show_default=True, metavar="N",
              help="Show the last N figures before each answer, at most.")  # fmt: skip
@click.option(
    "--wide", is_flag=True, help="Each figure as wide as the page, not only those with panels beside each other."
)
@click.option("--code", is_flag=True, help="Append the answers in code.")
@click.option("--paper", type=click.Choice(["a4", "us-letter"]), default="a4", show_default=True,
              help="Of the PDF and the Word document.")  # fmt: skip
def report(notebook: Path, output: Path | None, html: bool, **options: Any) -> None:
    """Make the hand-in of NOTEBOOK: a PDF, Word document or web page.

    It holds your answers, your figures, what you measured, and the digests of your recordings. Answers are
    double-spaced; numbers come from the recordings beside the notebook. Nothing in the notebook is run: save it first,
    with its figures.

    \b
    Example:
      labkit report vanishing_gradients.ipynb -o lab.pdf
    """
    from labkit import handin

    out = output or notebook.with_suffix(".html" if html else ".pdf")
    if html and out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--html writes a web page: name a file that ends in .html, not {out.name}")
    made = handin.report(notebook, out, handin.Options(**options))
    click.echo(made.path)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)


@main.command()
def doctor() -> None:
    """Check the environment: packages, GPU, Jupyter, sandbox, Slurm.

    Jupyter's and nbgrader's extensions are looked at, too, and who may read which folder. Each line that is not ok
    says what to do. Ends with exit code 1 when something is missing without which the labs do not run; a note costs a
    convenience.

    \b
    Example:
      labkit doctor
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from labkit import doctor as room

    table = Table(
        "", Column("what", no_wrap=True), *(Column(head, overflow="fold") for head in ("found", "what to do"))
    )
    table.box = None
    findings = [finding for examine in room.EXAMINATIONS for finding in examine()]
    for finding in findings:
        mark = "ok" if finding.fine else "MISSING" if finding.needed else "note"
        cells = (mark, finding.what, finding.found, "" if finding.fine else finding.advice)
        table.add_row(*(Text(cell) for cell in cells))
    # a file or a pipe has no width of its own
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if any(finding.breaks for finding in findings):
        raise click.exceptions.Exit(1)


def _outcome(recording: Any) -> str:
    ended = "ran to its end" if recording.complete else f"stopped: {recording.origin.stopped}"
    accuracy = recording.origin.final_accuracy
    return (
        f"{counted(recording.iterations, 'iteration')}, {ended}, loss {recording.loss[-1]:.4g}, "
        f"training accuracy {accuracy:.1%}, {recording.origin.wall_time:.1f} s"
    )


def _figures(file: Path, iteration: int, found: Any) -> Any:
    """A replayed iteration as a rich table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{file}: iteration {iteration:,}, replayed from {found.start:,}"), title_justify="left")
    for head in ("", "layer", "recorded", "replayed", "deviation", "tolerance", "in units of", ""):
        table.add_column(
            head, justify="right" if head in ("recorded", "replayed", "deviation", "tolerance") else "left"
        )
    for figure in found.figures:
        cells = (
            figure.quantity.words, figure.layer, f"{figure.recorded:.7g}", f"{figure.replayed:.7g}",
            f"{figure.deviation:.1e}", f"{figure.quantity.tolerance:.0e}", figure.quantity.scale,
            "OFF" if figure.off else "",
        )  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _table(file: Path, recording: Any) -> Any:
    """The recording as a rich table; what a file says of itself is shown as it is, never read as markup."""
    from rich.table import Table
    from rich.text import Text

    origin = recording.origin
    table = Table(title=Text(f"{file}: {recording.name}, {_outcome(recording)}"), title_justify="left")
    for head in ("layer", "shape", "mean |gradient|, first", "median", "last", "exact zeros", "not finite"):
        table.add_column(head, justify="right" if head != "layer" else "left")
    size, zeros = recording.statistic("abs_mean"), recording.statistic("zero_share")
    bad = recording.statistic("nonfinite")
    for k, layer in enumerate(recording.layers):
        shape = "x".join(map(str, origin.shapes[k]))
        figures = (size[0, k], _median(size[:, k]), size[-1, k])
        cells = [layer, shape, *(f"{x:.3g}" for x in figures), f"{_median(zeros[:, k]):.0%}", f"{bad[:, k].sum():,.0f}"]
        table.add_row(*(Text(cell) for cell in cells))
    about = f"student {origin.student or '-'}, seed {origin.seed}, {origin.dtype} on {origin.device}"
    versions = ", ".join(f"{name} {number}" for name, number in sorted(origin.versions.items()))
    table.caption = Text(f"{about}\n{versions}\ndata {origin.data_digest[:16]}, digest {recording.digest}")
    table.caption_justify = "left"
    return table


def _median(values: Any) -> float:
    import numpy as np

    return float(np.median(values))
