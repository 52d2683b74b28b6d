"""Does one call train here or ask for a job, and does the handle say what came of it? Without a cluster."""

import json
import os
import stat
import subprocess
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from labkit import cli, engines, maps
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.jobs import JobError, Site, batch, folder, handle, open_job, scheduler, site, submit, work
from labkit.jobs.folder import Asked, JobFolder, Progress
from labkit.recording import Recording
from labkit.training import train

SMALL = experiment("vanishing/relu", "ada").replace(observations=300, pool=1000, epochs=2)


@pytest.fixture(autouse=True)
def without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which no Slurm is, where tests put programs of their own."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def program(where: Path, name: str, lines: str) -> None:
    path = where / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_inline_is_train(tmp_path: Path) -> None:
    job = submit(SMALL, folder=tmp_path / "jobs")
    assert job.asked.backend == "inline"
    assert (job.state, job.progress().iteration) == ("finished", SMALL.iterations)
    (found,), here = job.fetch(), train(SMALL, progress=False)
    assert np.array_equal(found.loss, here.loss)
    assert not np.array_equal(found.loss, train(SMALL.replace(seed=1), progress=False).loss)
    assert open_job(job.folder.path).fetch()[0].digest == found.digest


def test_several_experiments_are_one_job(tmp_path: Path) -> None:
    pair = [SMALL, SMALL.replace(name="vanishing/sigmoid", activation="sigmoid")]
    found = submit(pair, folder=tmp_path).fetch()
    assert [r.origin.experiment for r in found] == pair


def test_two_jobs_never_share_a_folder(tmp_path: Path) -> None:
    one, other = (submit(SMALL, folder=tmp_path, backend="script") for _ in range(2))
    assert one.folder.path != other.folder.path


def test_a_script_holds_what_the_profile_asks_for(tmp_path: Path) -> None:
    job = submit(SMALL, backend="script", profile="teaching", gpus=2, minutes=10, folder=tmp_path / "50 % of it")
    lines = job.folder.script.read_text().splitlines()
    assert {"#SBATCH --partition=teaching", "#SBATCH --gres=gpu:t4:2", "#SBATCH --time=10"} <= set(lines)
    assert any("singularity exec --nv" in line and "-m labkit.jobs.work" in line for line in lines)
    assert f"#SBATCH --output='{tmp_path}/50 %% of it/{job.folder.path.name}/log.txt'" in lines
    assert job.state == "queued"
    assert "submit" in job.why


@pytest.mark.slow
def test_the_script_of_a_generic_site_trains(tmp_path: Path, monkeypatch, without_a_cluster: Path) -> None:
    """Its last line, with srun put away, is what a node runs."""
    job = submit(SMALL, backend="script", folder=tmp_path / "a folder's name")
    program(without_a_cluster, "srun", 'shift 2; exec "$@"')
    again = subprocess.run(["/bin/sh", job.folder.script], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert np.array_equal(job.fetch()[0].loss, train(SMALL, progress=False).loss)
    before = job.folder.recording(0).read_bytes()
    assert subprocess.run(["/bin/sh", job.folder.script], check=False).returncode == 0
    assert job.folder.recording(0).read_bytes() == before  # a job that Slurm starts twice trains once


def test_what_fails_in_the_job_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LABKIT_MNIST", str(tmp_path / "nothing"))
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [])
    job = submit(experiment("activations/relu", "ada"), folder=tmp_path / "jobs")
    assert job.state == "failed"
    assert "--data digits" in job.why
    with pytest.raises(JobError, match="failed, MNIST is not in"):
        job.fetch()


def test_a_training_is_looked_at_the_less_often_the_longer_that_takes(tmp_path: Path, monkeypatch) -> None:
    """Recordings of thousands of networks take seconds to make: no more than a fiftieth of the time goes into it."""
    clock = [100.0]
    monkeypatch.setattr(work, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    reports = work.Reports(JobFolder(tmp_path), Asked((SMALL,), "inline"))
    monkeypatch.setattr(reports, "say", lambda progress: None)
    recording = types.SimpleNamespace(iterations=3, loss=[1.0])
    for taken, until in ((0.001, 0.5), (2.0, 100.0)):
        assert reports.due()
        clock[0] += taken
        reports([recording])
        clock[0] += until - 0.01
        assert not reports.due()
        clock[0] += 0.02


def test_an_interrupt_keeps_what_was_recorded(tmp_path: Path, monkeypatch) -> None:
    def at_the_second_epoch(self, recordings: list[Recording]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work.Reports, "__call__", at_the_second_epoch)
    with pytest.raises(KeyboardInterrupt, match="recorded so far"):
        submit(SMALL, folder=tmp_path / "jobs")
    (path,) = (tmp_path / "jobs").iterdir()
    job = open_job(path)
    assert (job.state, job.progress().state) == ("failed", "stopped")
    assert Recording.load(job.folder.recording(0)).iterations == 3


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch) -> Path:
    """The folder of a job that was interrupted after its first epoch."""

    def stop(self, recordings: list[Recording]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work.Reports, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            submit(SMALL, folder=tmp_path / "jobs")
    (path,) = (tmp_path / "jobs").iterdir()
    return path


@pytest.mark.parametrize("way", ["handle", "submit", "command", "names"])
def test_what_was_cut_off_goes_on_in_its_folder(cut_off: Path, command, monkeypatch, way: str) -> None:
    job = open_job(cut_off)
    assert job.state == "failed"
    assert "resume() goes on where it was cut off" in job.why
    epochs: list[int] = []
    real = engines.SideBySide.epoch
    monkeypatch.setattr(engines.SideBySide, "epoch", lambda self, n: (epochs.append(n), real(self, n))[1])
    if way == "handle":
        assert job.resume() is job
    elif way == "submit":
        assert submit(SMALL, folder=cut_off.parent, resume=True).folder.path == cut_off
    elif way == "command":
        assert command("job", cut_off, "--resume").exit_code == 0
    else:
        said = ("--observations", 300, "--epochs", 2, "--out", cut_off.parent, "--resume")
        done = command("submit", "vanishing/relu", "--student", "ada", *said)
        assert done.exit_code == 0, done.output
        # of another experiment: the pool is not an option of the command line
        assert len(list(cut_off.parent.iterdir())) == 2
        assert epochs == [0, 1]
        return
    assert epochs == [1]
    assert open_job(cut_off).state == "finished"
    assert np.array_equal(open_job(cut_off).fetch()[0].loss, train(SMALL, progress=False).loss)
    assert [path.name for path in cut_off.parent.iterdir()] == [cut_off.name]


def test_what_has_finished_or_waits_is_left_as_it_is(tmp_path: Path) -> None:
    done = submit(SMALL, folder=tmp_path)
    before = done.folder.recording(0).read_bytes()
    assert submit(SMALL, folder=tmp_path, resume=True).folder.path == done.folder.path
    assert done.resume().folder.recording(0).read_bytes() == before
    waits = submit(SMALL.replace(seed=1), backend="script", folder=tmp_path)
    assert waits.resume(minutes=9).asked.minutes is None
    assert submit(SMALL.replace(seed=2), folder=tmp_path, resume=True).state == "finished"  # there was none


def test_of_several_jobs_the_latest_goes_on(tmp_path: Path) -> None:
    first, second, other = (submit(e, backend="script", folder=tmp_path) for e in (SMALL, SMALL, SMALL.replace(seed=3)))
    (tmp_path / f"{folder._stem([SMALL])}-9").mkdir()  # nobody's
    assert submit(SMALL, folder=tmp_path, resume=True).folder.path == second.folder.path
    assert other.folder.path != second.folder.path != first.folder.path


def test_going_on_asks_slurm_again_and_a_refusal_leaves_all_as_it_was(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", f"echo $2 >> {tmp_path}/asked; echo 12")
    program(without_a_cluster, "squeue", "echo 'TIMEOUT|None'")
    monkeypatch.setattr(handle, "GRACE", 0.0)
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs", gpus=0, minutes=5)
    job.folder.report(Progress("stopped", 3, 6, why="interrupted"))
    job.folder.log.write_text("oom-kill in the first attempt")
    assert job.state == "failed"
    program(without_a_cluster, "sbatch", "echo 'sbatch: error: no' >&2; exit 1")
    with pytest.raises(JobError, match="refuses"):
        job.resume()
    assert open_job(job.folder.path).asked == job.asked
    assert (job.state, job.folder.progress().state, job.asked.slurm) == ("failed", "stopped", "12")
    assert "oom" in job.log()
    program(without_a_cluster, "sbatch", "echo 13")
    job.resume(minutes=7)
    assert (job.asked.slurm, job.folder.progress(), job.log()) == ("13", None, "")
    text = job.folder.script.read_text()
    assert "--time=7" in text
    assert "gres" not in text  # still without a GPU
    assert open_job(job.folder.path).asked == job.asked


def test_a_job_whose_process_was_killed_does_not_run(tmp_path: Path) -> None:
    job = submit(SMALL, folder=tmp_path)
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    status = asdict(Progress("running", 3, 6, node=os.uname().nodename, process=gone.pid))
    (job.folder.path / "status.json").write_text(json.dumps(status))
    assert job.state == "failed"
    assert "ended without a word" in job.why
    for other in ({"process": os.getpid()}, {"node": "another"}):
        (job.folder.path / "status.json").write_text(json.dumps(status | other))
        assert job.state == "running"


def test_a_recording_that_is_not_whole_is_not_fetched(tmp_path: Path) -> None:
    job = submit(SMALL, folder=tmp_path)
    (found,) = job.fetch()
    cut = replace(found, origin=replace(found.origin, stopped="cut off after 3 of 6 iterations"))
    cut.save(job.folder.recording(0))
    with pytest.raises(JobError, match="cut off after 3 of 6"):
        job.fetch()


def test_a_report_never_takes_back_the_end(tmp_path: Path) -> None:
    """A job may run twice at once."""
    one = JobFolder(tmp_path)
    one.report(Progress("finished", 10, 10))
    one.report(Progress("running", 3, 10))
    assert one.progress().state == "finished"


def test_finished_without_its_recording_is_not_finished(tmp_path: Path) -> None:
    job = submit(SMALL, folder=tmp_path)
    job.folder.recording(0).unlink()
    assert job.state != "finished"


def test_anothers_recording_is_not_taken_for_its_own(tmp_path: Path) -> None:
    job, other = submit(SMALL, folder=tmp_path), submit(SMALL.replace(seed=7), folder=tmp_path)
    other.folder.recording(0).replace(job.folder.recording(0))
    with pytest.raises(JobError, match="another experiment"):
        job.fetch()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no job's folder"),
        ("[]", "no job's folder"),
        ("{", "no job's folder"),
        ("{}", "damaged"),
        ('{"format": "labkit job", "version": 9}', "another version"),
        ('{"format": "labkit job", "version": 1, "experiments": [{"widths": 3}], "backend": "inline"}', "damaged"),
        ('{"format": "labkit job", "version": 1, "experiments": [], "backend": "inline", "x": 1}', "damaged"),
        ('{"format": "labkit job", "version": 1, "experiments": [], "backend": "inline"}', "names no experiment"),
        ('{"format": "labkit job", "version": 1, "experiments": [{}], "backend": "moon"}', "backend is 'moon'"),
        ('{"format": "labkit job", "version": 1, "experiments": [{}], "backend": "slurm", "gpus": "1"}', "gpus is '1'"),
        ('{"format": "labkit job", "version": 1, "experiments": [{}], "backend": "slurm", "slurm": "-u x"}', "-u x"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "job.json").write_text(content)
    with pytest.raises(JobError, match=words):
        open_job(tmp_path)


def test_a_damaged_status_is_none(tmp_path: Path) -> None:
    wrong = (
        '{"state": "running", "loss": 3}',
        '{"state": "lost", "loss": []}',
        '{"state": "running", "loss": [], "process": "1"}',
    )
    for content in ("", "{}", "[1]", "[" * 100_000, "\x00", *wrong):
        (tmp_path / "status.json").write_text(content)
        assert JobFolder(tmp_path).progress() is None


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"backend": "cloud"}, "choose auto, inline, slurm, script"),
        ({"profile": "moon"}, "choose generic, teaching"),
        ({"backend": "script", "minutes": 1}, "too short"),
        ({"backend": "script", "gpus": -1}, "-1 GPUs"),
        ({"backend": "slurm"}, "no sbatch here"),
    ],
)
def test_wrong_wishes_leave_no_folder(tmp_path: Path, wishes: dict, words: str) -> None:
    with pytest.raises(JobError, match=words):
        submit(SMALL, folder=tmp_path / "jobs", **wishes)
    assert not list((tmp_path / "jobs").glob("*"))


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    for wrong in ("vanishing/relu", [], [SMALL, 3]):
        with pytest.raises(ExperimentError, match="give what"):
            submit(wrong, folder=tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition = 3", "partition is 3, give a text"),
        ("gpus = true", "give a whole number"),
        ('setup = "module load"', "give a list of texts"),
        ("command = [1]", "give a list of texts"),
        ("queue = 1", "a profile has partition"),
        ("partition = ", "is no profile"),
        ('gres = "gpu:{gpu}"', "write {gpus} where"),
        ('gres = "gpu:{"', "write {gpus} where"),
        ('partition = """a\n#SBATCH --x"""', "more than one line"),
    ],
)
def test_a_wrong_profile_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(JobError, match=words):
        site(path)


def test_profiles_of_ours_say_everything() -> None:
    for path in sorted(folder.Path(handle.site.__code__.co_filename).parent.glob("sites/*.toml")):
        said = {line.split(" = ")[0] for line in path.read_text().splitlines() if " = " in line}
        assert said == set(asdict(Site("x"))) - {"name"}
        assert site(path.stem).name == path.stem


def test_slurm_finds_none_of_the_wishes_of_the_job_around() -> None:
    around = {"SLURM_MEM_PER_CPU": "1", "SBATCH_PARTITION": "x", "SRUN_DEBUG": "1", "PMIX_RANK": "0", "HOME": "/h"}
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "a", "PATH": "/bin"}
    assert scheduler.environment(around | kept) == {"HOME": "/h", **kept}


FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize(
    ("squeue", "sacct", "state", "why"),
    [
        ("echo 'PENDING|Priority'", "", "queued", "others are before it"),
        ("echo 'RUNNING|None'", "", "running", ""),
        ("echo 'CANCELLED|None'", "", "cancelled", ""),
        ("echo 'TIMEOUT|None'", "", "failed", "give it more minutes"),
        ("echo 'OUT_OF_MEMORY|None'", "", "failed", "more memory"),
        ("echo 'SOMETHING_NEW|None'", "", "failed", "SOMETHING_NEW"),
        ("echo 'FAILED|NonZeroExitCode'", "", "failed", "log() may say why"),
        (FORGOTTEN, "", "failed", "without a result"),
        ("exit 1", "echo 'TIMEOUT'; echo TIMEOUT", "failed", "give it more minutes"),
        ("exit 1", "echo 'CANCELLED by 1000'", "cancelled", ""),
        (FORGOTTEN, "echo 'Slurm accounting storage is disabled' >&2; exit 1", "failed", "without a result"),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "", "queued", "no answer"),
        ("exit 1", "echo 'Slurm accounting storage is disabled' >&2; exit 1", "queued", "no answer"),
        ("echo 'PENDING|PartitionTimeLimit'", "", "queued", "give it fewer minutes"),
        ("echo 'PENDING|launch failed requeued held'", "", "queued", "launch failed requeued held"),
        ("echo 'PENDING|ReqNodeNotAvail, UnavailableNodes:n1'", "", "queued", "are not available"),
    ],
)
def test_states(tmp_path, without_a_cluster, monkeypatch, squeue: str, sacct: str, state: str, why: str) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'RUNNING|None'")
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    program(without_a_cluster, "squeue", squeue)
    if sacct:
        program(without_a_cluster, "sacct", sacct)
    monkeypatch.setattr(handle, "GRACE", 0.0)
    assert (job.asked.slurm, job.state) == ("12", state)
    assert why in job.why


def test_the_command_takes_minutes_only_for_a_job_that_goes_on(command, tmp_path) -> None:
    done = command("job", tmp_path, "--time", 5)
    assert done.exit_code == 2
    assert "say --resume, too" in done.output


def test_two_programs_that_go_on_with_a_job_queue_it_once(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", f"echo $2 >> {tmp_path}/asked; echo 12")
    program(without_a_cluster, "squeue", "echo 'TIMEOUT|None'")
    monkeypatch.setattr(handle, "GRACE", 0.0)
    one = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    other = open_job(one.folder.path)
    assert (one.state, other.state) == ("failed", "failed")
    with one.folder.alone(), pytest.raises(JobError, match="another program goes on with"):
        other.resume()
    one.resume(minutes=7)
    program(without_a_cluster, "squeue", "echo 'RUNNING|None'")
    assert other.resume(minutes=9).asked == one.asked
    assert (one.asked.minutes, other.state) == (7, "running")
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


def test_while_slurm_is_silent_the_folder_alone_speaks(tmp_path, without_a_cluster, monkeypatch) -> None:
    """A controller that is started again costs nobody a second job; a machine without Slurm can look, too."""
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'RUNNING|None'")
    monkeypatch.setattr(handle, "GRACE", 0.0)
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    (without_a_cluster / "squeue").unlink()
    for told, state in (("running", "running"), ("stopped", "failed"), ("failed", "failed")):
        job.folder.report(Progress(told, 3, 6, why="of its own"))
        assert job.state == state
        assert "there is no squeue here" in repr(job)
    job.folder.report(Progress("running", 3, 6))
    assert job.resume(minutes=9).asked.slurm == "12"


@pytest.mark.parametrize("squeue", ["/bin/sleep 9", None], ids=["a controller that is slow", "no squeue"])
def test_a_job_that_slurm_took_keeps_its_folder_where_nothing_is_said_of_it(
    tmp_path, without_a_cluster, monkeypatch, squeue: str | None
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.5)
    program(without_a_cluster, "sbatch", "echo 12")
    if squeue:
        program(without_a_cluster, "squeue", f"exec {squeue}")
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    assert open_job(job.folder.path).asked.slurm == "12"


def test_a_job_that_never_got_a_number_is_told_and_can_be_submitted(tmp_path, without_a_cluster) -> None:
    """The kernel was ended between the folder and sbatch."""
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'RUNNING|None'")
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    job.folder.write(replace(job.asked, slurm=""))
    assert open_job(job.folder.path).state == "queued"  # it may be on its way
    job.folder.write(replace(job.asked, slurm="", submitted=job.asked.submitted - 1000))
    found = open_job(job.folder.path)
    assert (found.state, "never reached Slurm" in found.why) == ("failed", True)
    assert found.resume().asked.slurm == "12"


def test_a_full_disk_leaves_no_job_that_nobody_can_find(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'RUNNING|None'")
    program(without_a_cluster, "scancel", f"echo $* >> {tmp_path}/cancelled")
    real = JobFolder.write

    def full(self, asked: Asked) -> None:
        if asked.slurm:
            raise OSError(28, "No space left on device")
        real(self, asked)

    monkeypatch.setattr(JobFolder, "write", full)
    with pytest.raises(JobError, match=r"No space left on device.*make room"):
        submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    assert (tmp_path / "cancelled").read_text() == "12\n"
    assert not list((tmp_path / "jobs").iterdir())


SILENT = "exec /bin/sleep 9"
NEVER = "echo 'PENDING|PartitionTimeLimit'"
TIMED_OUT = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
UNREACHED = "echo 'scancel: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"


@pytest.mark.parametrize("scancel", [SILENT, UNREACHED], ids=["silent", "refused"])
def test_a_job_that_cannot_be_withdrawn_is_named_and_keeps_its_folder(
    tmp_path, without_a_cluster, monkeypatch, scancel: str
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.5)
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", NEVER)
    program(without_a_cluster, "scancel", scancel)
    with pytest.raises(JobError, match=r"fewer minutes; job 12 may still run.*end it with scancel 12") as told:
        submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    assert "\n" not in str(told.value)
    assert "error: " not in str(told.value)
    (path,) = (tmp_path / "jobs").iterdir()
    job = open_job(path)
    assert (job.asked.slurm, job.state, job.folder.script.exists()) == ("12", "queued", True)
    assert "fewer minutes" in job.why
    with pytest.raises(JobError, match="job 12 may still run"):
        job.cancel()
    assert job.state == "queued"
    program(without_a_cluster, "scancel", f"echo $* >> {tmp_path}/cancelled")
    job.cancel()
    assert ((tmp_path / "cancelled").read_text(), open_job(path).state) == ("12\n", "cancelled")


def test_a_job_that_would_wait_for_ever_is_withdrawn_and_forgotten(tmp_path, without_a_cluster) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", NEVER)
    program(without_a_cluster, "scancel", f"echo $* >> {tmp_path}/cancelled")
    with pytest.raises(JobError, match=r"never start the job: .*give it fewer minutes$"):
        submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    assert (tmp_path / "cancelled").read_text() == "12\n"
    assert not list((tmp_path / "jobs").iterdir())


def test_going_on_keeps_the_number_of_a_job_that_cannot_be_withdrawn(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'TIMEOUT|None'")
    monkeypatch.setattr(handle, "GRACE", 0.0)
    job = submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    job.folder.log.write_text("of the first attempt")
    job.folder.recording(0).write_bytes(b"what it recorded")
    assert job.state == "failed"
    program(without_a_cluster, "sbatch", "echo 13")
    program(without_a_cluster, "squeue", f"case $* in *=12*) echo 'TIMEOUT|None';; *) {NEVER};; esac")
    program(without_a_cluster, "scancel", UNREACHED)
    with pytest.raises(JobError, match="job 13 may still run"):
        job.resume(minutes=7)
    assert (job.asked.slurm, open_job(job.folder.path).asked) == ("13", job.asked)
    assert (job.folder.path / "log-1.txt").read_text() == "of the first attempt"
    assert job.folder.recording(0).read_bytes() == b"what it recorded"
    program(without_a_cluster, "sbatch", "echo 14")
    assert job.resume().asked.slurm == "13"  # no second job beside the one that may still run


def test_a_full_disk_and_a_silent_slurm_leave_the_folder_to_the_job(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "scancel", UNREACHED)
    real = JobFolder.write

    def full(self, asked: Asked) -> None:
        if asked.slurm:
            raise OSError(28, "No space left on device")
        real(self, asked)

    with monkeypatch.context() as patched:
        patched.setattr(JobFolder, "write", full)
        with pytest.raises(JobError, match=r"No space left on device.*make room.*job 12 may still run"):
            submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    (path,) = (tmp_path / "jobs").iterdir()
    assert work.main(JobFolder(path)) == 0  # Slurm starts it after all
    assert (open_job(path).state, len(open_job(path).fetch())) == ("finished", 1)


def test_ctrl_c_while_slurm_looks_at_a_job_loses_no_number(tmp_path, without_a_cluster, monkeypatch) -> None:
    def impatient(number: str) -> None:
        raise KeyboardInterrupt

    program(without_a_cluster, "sbatch", "echo 12")
    monkeypatch.setattr(scheduler, "_queued", impatient)
    with pytest.raises(KeyboardInterrupt):
        submit(SMALL, backend="slurm", folder=tmp_path / "jobs")
    (path,) = (tmp_path / "jobs").iterdir()
    assert open_job(path).asked.slurm == "12"


@pytest.mark.parametrize("sbatch", [SILENT, TIMED_OUT], ids=["silent", "says so"])
def test_an_sbatch_without_an_answer_may_have_queued_the_job(
    tmp_path, without_a_cluster, monkeypatch, sbatch: str
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.5)
    program(without_a_cluster, "sbatch", sbatch)
    with pytest.raises(JobError, match=r"may have queued the job all the same: look with squeue --me"):
        submit(SMALL, backend="slurm", folder=tmp_path / "jobs")


def test_a_report_that_finds_no_room_costs_no_training(tmp_path, monkeypatch) -> None:
    def full(self, progress: Progress) -> None:
        if progress.state == "running" and progress.iteration:
            raise OSError(28, "No space left on device")
        real(self, progress)

    real = JobFolder.report
    monkeypatch.setattr(JobFolder, "report", full)
    job = submit(SMALL, folder=tmp_path / "jobs")
    assert (job.state, len(job.fetch())) == ("finished", 1)


def test_an_interrupt_before_the_training_is_an_end(tmp_path, monkeypatch) -> None:
    def impatient(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("labkit.training.train_many", impatient)
        with pytest.raises(KeyboardInterrupt):
            submit(SMALL, folder=tmp_path / "jobs")
    (path,) = (tmp_path / "jobs").iterdir()
    assert open_job(path).state == "failed"
    assert submit(SMALL, folder=tmp_path / "jobs", resume=True).state == "finished"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Invalid account or account/partition combination specified", "say the account"),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "as many jobs"),
        ("Invalid partition name specified", "choose another partition"),
        ("Unable to contact slurm controller (connect failure)", "controller is back"),
    ],
)
def test_advice_fits_what_slurm_refuses(said: str, words: str) -> None:
    assert words in scheduler.refusal(f"sbatch: error: Batch job submission failed: {said}\n")


@pytest.mark.parametrize("name", ["two\nlines", "no text \udce9", "back\\slash"])
def test_a_folder_that_no_batch_file_can_hold_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match="choose another folder"):
        submit(SMALL, backend="script", folder=tmp_path / name)
    assert not list((tmp_path / name).iterdir())


def test_a_job_whose_node_failed_is_waited_for(tmp_path, without_a_cluster) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'NODE_FAIL|None'")
    assert submit(SMALL, backend="slurm", folder=tmp_path / "jobs").state == "running"


def test_auto_goes_where_a_gpu_is(tmp_path, without_a_cluster, monkeypatch) -> None:
    program(without_a_cluster, "sbatch", "echo 12")
    program(without_a_cluster, "squeue", "echo 'PENDING|Resources'")
    assert submit(SMALL, folder=tmp_path).asked.backend == "slurm"
    monkeypatch.setattr(handle, "_sees_a_gpu", lambda: True)
    assert submit(SMALL, folder=tmp_path, device="cpu").asked.backend == "inline"


def test_what_travels_is_json_alone(tmp_path: Path) -> None:
    job = submit(SMALL, backend="script", folder=tmp_path)
    assert {p.name for p in job.folder.path.iterdir()} == {"job.json", "job.sh"}
    said = json.loads((job.folder.path / "job.json").read_text())
    assert said["experiments"] == [json.loads(SMALL.to_json())]


def test_a_batch_file_quotes_what_it_is_given(tmp_path: Path) -> None:
    """A folder's name must not become a command."""
    where = JobFolder(tmp_path / "a; touch pwned; $(touch pwned) 'b'")
    where.path.mkdir()
    text = batch.script(where, replace(site("generic"), python="echo"), 0, 5)
    done = subprocess.run(["/bin/sh"], input=text.replace("srun --ntasks=1 --unbuffered", "").encode(), cwd=tmp_path,
                          env={**os.environ, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False)  # fmt: skip
    assert not list(tmp_path.rglob("pwned"))
    assert str(where.path) in done.stdout.decode()
    assert sys.executable not in text


@pytest.fixture
def command():
    return lambda *said: CliRunner().invoke(cli.main, [str(one) for one in said])


QUICK = ("vanishing/relu", "--student", "ada", "--epochs", 1, "--observations", 300)


def test_the_command_submits_and_finds_again(command, tmp_path: Path) -> None:
    done = command("submit", *QUICK, "--out", tmp_path / "jobs")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "jobs").iterdir()
    assert f"Job in {path}: finished" in done.output
    assert open_job(path).asked.experiments == (
        experiment("vanishing/relu", "ada").replace(epochs=1, observations=300),
    )
    again = command("job", path, "--log")
    assert (again.exit_code, again.output) == (0, done.output)


def test_the_command_follows_a_job(command, tmp_path, without_a_cluster) -> None:
    """A scheduler that runs a job as soon as it is asked where the job is."""
    program(without_a_cluster, "srun", 'shift 2; exec "$@"')
    program(without_a_cluster, "sbatch", f"echo 12; /bin/cp $2 {tmp_path}/queued")
    program(without_a_cluster, "squeue", f"/bin/sh {tmp_path}/queued >&2; exit 1")
    done = command("submit", *QUICK, "--backend", "slurm", "--gpus", 0, "--time", 5, "--out", tmp_path / "jobs")
    assert done.exit_code == 0, done.output
    assert "recording-0.safetensors: 3 iterations" in done.output


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["submit", "vanishing/rellu"], "choose from"),
        (["submit", "vanishing/relu", "--backend", "cloud"], "choose auto, inline"),
        (["submit", "vanishing/relu", "--backend", "slurm"], "no sbatch here"),
        (["job", "nowhere"], "no job's folder"),
        (["job", "nowhere", "--resume"], "no job's folder"),
        (["job", "nowhere", "--cancel"], "no job's folder"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_sentence(command, tmp_path, monkeypatch, said: list, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*said)
    assert done.exit_code == 1
    assert words in done.output
    assert "--debug" not in done.output
    assert len(done.output.strip().splitlines()) == 1


# a row of a map

ROW = (0.5, 1.0, 4.0)


def cells() -> list[Experiment]:
    base = experiment("trainability/tanh", "ada").replace(epochs=1, batches=5)
    return [maps.cell(base, 3, v) for v in ROW]


def asked_again(path: Path) -> int:
    return work.main(JobFolder(path))


def test_a_row_comes_home_without_recordings(tmp_path: Path) -> None:
    job = handle.submit_row(cells(), ROW, backend="script", folder=tmp_path)
    assert (job.state, JobFolder(job.folder.path).read().row) == ("queued", ROW)
    with pytest.raises(JobError, match="there is no row to fetch"):
        job.fetch_row()
    assert asked_again(job.folder.path) == 0
    again = open_job(job.folder.path)
    assert (again.state, again.progress().iteration) == ("finished", 5)
    assert not list(job.folder.path.glob("recording*"))
    found, here = again.fetch_row(), maps.row(cells(), ROW, "cpu")
    np.testing.assert_array_equal(found.loss, here.loss)
    np.testing.assert_array_equal(found.start, here.start)
    with pytest.raises(JobError, match="fetch_row"):
        again.fetch()


def test_a_row_that_is_there_is_not_trained_again(tmp_path: Path, monkeypatch) -> None:
    job = handle.submit_row(cells(), ROW, backend="inline", folder=tmp_path)
    trained: list[int] = []
    real = maps.row
    monkeypatch.setattr(maps, "row", lambda *given: trained.append(1) or real(*given))
    assert asked_again(job.folder.path) == 0
    assert not trained
    assert handle.submit_row(cells(), ROW, backend="inline", folder=tmp_path).folder.path == job.folder.path
    other = handle.submit_row(cells()[:2], ROW[:2], backend="inline", folder=tmp_path)
    assert (other.folder.path != job.folder.path, len(trained)) == (True, 1)
    recordings = submit(cells(), backend="inline", folder=tmp_path, resume=True)
    assert (recordings.folder.path != job.folder.path, len(recordings.fetch())) == (True, 3)
    job.folder.row.write_bytes(other.folder.row.read_bytes())
    with pytest.raises(JobError, match="is not the row that was asked for"):
        job.fetch_row()


def test_an_interrupted_row_keeps_nothing_and_can_be_asked_for_again(tmp_path: Path, monkeypatch) -> None:
    job = handle.submit_row(cells(), ROW, backend="script", folder=tmp_path)

    def stop(self: object, number: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engines.SideBySide, "epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            asked_again(job.folder.path)
    assert job.state == "failed"
    assert "nothing of them was kept; resume(), or the same call again, trains this row again" in job.why
    assert sorted(path.name for path in job.folder.path.iterdir()) == ["job.json", "job.sh", "status.json"]
    assert handle.submit_row(cells(), ROW, backend="inline", folder=tmp_path).state == "finished"


@pytest.mark.parametrize("row", [[0.5], "no", [0.5, 1.0, "4"], [0.5, 1.0, True], 7])
def test_a_damaged_row_is_one_sentence(tmp_path: Path, row: object) -> None:
    job = handle.submit_row(cells(), ROW, backend="script", folder=tmp_path)
    path = job.folder.path / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"row": row}))
    with pytest.raises(JobError, match="is damaged"):
        open_job(job.folder.path)


def test_the_command_says_which_row_came(command, tmp_path: Path, monkeypatch) -> None:
    job = handle.submit_row(cells(), ROW, backend="inline", folder=tmp_path)
    done = command("job", str(job.folder.path), "--wait")
    assert done.exit_code == 0, done.output
    assert "map.safetensors: Map of tanh: 1 depth to 3 by 3 variances" in done.output
