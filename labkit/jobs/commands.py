"""`labkit submit` and `labkit job`: the same as the library, with a bar that follows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkit.counts import counted
from labkit.options import changed, changes

if TYPE_CHECKING:
    from labkit.jobs.handle import Job


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT...")
@click.option("--student", default="", help="Whose run: the seed follows from the id.")
@changes
@click.option("--backend", default="auto", show_default=True, help="auto, inline, slurm or script.")
@click.option("--profile", default="generic", show_default=True, metavar="NAME|FILE",
              help="The cluster: generic, teaching, or a .toml file of your own.")  # fmt: skip
@click.option("--gpus", type=int, help="Another number of GPUs than the profile's.")
@click.option("--time", "minutes", type=int, metavar="MINUTES",
              help="The time limit of the job, instead of the profile's.")  # fmt: skip
@click.option("--device", help="cpu or cuda; by default a GPU where there is one.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("jobs"), show_default=True,
              help="The folder for the jobs' folders.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the latest job there of these experiments.")
@click.option("--no-wait", is_flag=True, help="Come back at once; `labkit job FOLDER` follows it later.")
def submit(
    names: tuple[str, ...], student: str, backend: Any, profile: str, gpus: int | None, minutes: int | None,
    device: str | None, out: Path, resume: bool, no_wait: bool, **wishes: Any,
) -> None:  # fmt: skip
    """Train experiments by name, here or on a Slurm cluster.

    inline trains here; slurm queues a job; script writes the job's file for somebody else's sbatch. auto trains here
    where a GPU is visible or there is no sbatch, and else queues a job. Ctrl-C leaves a queued job where it is.

    \b
    Example:
      labkit submit vanishing/relu --student ada --gpus 1 --time 10
    """
    from labkit.experiments import experiment
    from labkit.jobs import handle

    experiments = [experiment(name, student).replace(**changed(wishes)) for name in dict.fromkeys(names)]
    job = handle.submit(
        experiments, backend=backend, profile=profile, gpus=gpus, minutes=minutes, device=device, folder=out,
        resume=resume,
    )  # fmt: skip
    click.echo(job)
    if job.asked.backend == "slurm" and not no_wait:
        _follow(job)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--log", is_flag=True, help="Show what its program wrote.")
@click.option("--cancel", is_flag=True, help="Take it out of the queue, or end it.")
@click.option("--resume", is_flag=True, help="Go on where it was cut off.")
@click.option("--time", "minutes", type=int, metavar="MINUTES", help="With --resume: another time limit than it had.")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
def job(folder: Path, log: bool, cancel: bool, resume: bool, minutes: int | None, wait: bool) -> None:
    """Say where a submitted job is; read its log, end it, go on.

    \b
    Example:
      labkit job jobs/vanishing-relu-1 --log
    """
    if cancel and resume:
        raise click.UsageError("--cancel ends it and --resume goes on: say one of them")
    if minutes is not None and not resume:
        raise click.UsageError("--time is for a job that goes on: say --resume, too")
    from labkit.jobs.handle import open_job

    found = open_job(folder)
    if cancel:
        found.cancel()
    if resume:
        found.resume(minutes=minutes)
    click.echo(found)
    if log:
        click.echo(found.log(), nl=False)
    if wait:
        _follow(found)


def _follow(job: "Job") -> None:
    from labkit.jobs.folder import JobError

    try:
        job.wait()
    except KeyboardInterrupt:
        click.echo(f"it goes on without you: labkit job {job.folder.path} --wait")
        return
    if job.state != "finished":
        raise JobError(repr(job))
    if job.asked.row:
        click.echo(f"{job.folder.row}: {job.fetch_row()!r}")
        return
    for recording, path in zip(job.fetch(), job.folder.recordings(job.asked), strict=True):
        click.echo(f"{path}: {counted(recording.iterations, 'iteration')}")
