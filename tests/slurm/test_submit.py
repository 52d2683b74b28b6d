"""Does a training that is submitted to a real Slurm come home, whatever happens to its job?"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labkit import maps
from labkit.experiments import Experiment, experiment
from labkit.jobs import Job, JobError, batch, handle, open_job, scheduler, site, submit
from labkit.jobs.folder import JobFolder
from labkit.recording import Recording
from slurm.cluster import Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 180  # seconds; two cores train while others test
SHORT = experiment("vanishing/relu", "ada").replace(observations=300, pool=1000, epochs=2)
LONG = experiment("vanishing/relu", "ada").replace(epochs=5000)  # minutes, if nobody ends it


@pytest.fixture
def on_slurm(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    jobs: list[Job] = []

    def queued(e: Experiment = SHORT, **wishes: object) -> Job:
        jobs.append(submit(e, backend="slurm", folder=tmp_path / "jobs", **wishes))  # type: ignore[arg-type]
        return jobs[-1]

    yield queued
    monkeypatch.undo()  # a test may have hidden Slurm's commands
    for job in jobs:
        cluster.ask("scancel", job.asked.slurm, check=False)


def until(holds: Callable[[], bool], job: Job) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{job!r}\n{job.log()}"
        time.sleep(0.2)


def runs(job: Job) -> bool:
    told = job.folder.progress()
    return told is not None and told.iteration > 0


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def same(a: Recording, b: Recording) -> bool:
    return np.array_equal(a.loss, b.loss) and np.array_equal(a.checkpoint_parameters, b.checkpoint_parameters)


@pytest.fixture(scope="module")
def waiting(cluster: Cluster, tmp_path_factory) -> dict[int, Path]:
    """Jobs that only wait and note the signal before their time limit, of one minute and of the shortest that we ask
    for, in files with seconds since 1970. They begin with the first slow test here, which has other things
    to do meanwhile."""
    found = {}
    for minutes in (1, batch.SHORTEST):
        folder = JobFolder(tmp_path_factory.mktemp(f"minutes-{minutes}"))
        lines = batch.script(folder, replace(site("generic"), cpus=1), 0, batch.SHORTEST).splitlines()
        note = f"date +'%s' >> {folder.path}/"
        waits = f'trap "{note}signalled" USR2; {note}begun; for i in $(seq 300); do sleep 1; done'
        lines = [line for line in lines if not line.startswith("srun") and "--signal" not in line]
        lines.insert(1, f"#SBATCH --signal=B:USR2@{batch.WARNING}")  # to the shell, which stands for the program
        text = "\n".join([*lines, waits, ""]).replace(f"--time={batch.SHORTEST}", f"--time={minutes}")
        folder.script.write_text(text)
        (folder.path / "number").write_text(scheduler.submit(folder.script))
        found[minutes] = folder.path
    return found


@pytest.mark.slow
def test_what_comes_home_is_what_is_trained_here(on_slurm, waiting, tmp_path: Path) -> None:
    job = on_slurm()
    assert job.state in ("queued", "running")
    assert open_job(job.folder.path).wait(PATIENCE, progress=False).state == "finished", job.log()
    (found,) = job.fetch()
    (here,) = submit(SHORT, backend="inline", folder=tmp_path / "here").fetch()
    assert same(found, here)
    assert not same(found, submit(SHORT.replace(seed=1), backend="inline", folder=tmp_path).fetch()[0])
    assert job.progress().share == 1


def test_a_job_within_a_job_has_wishes_of_its_own(cluster, tmp_path: Path) -> None:
    """A notebook of Open OnDemand is a job; what Slurm put into its environment must not reach the next one."""
    (tmp_path / "site.toml").write_text('gres = "gpu:{gpus}"\nmemory = "2G"\ncommand = ["/bin/echo", "it runs"]')
    program = (
        "from labkit.jobs import submit; from labkit.experiments import experiment;"
        f"print(submit(experiment('vanishing/relu', 'ada'), backend='slurm', folder={str(tmp_path / 'jobs')!r}, "
        f"profile={str(tmp_path / 'site.toml')!r}).folder.path)"
    )
    around = {**os.environ, "SBATCH_PARTITION": "nowhere", "SLURM_MEM_PER_NODE": "10"}
    asked = [sys.executable, "-c", program]
    command = ["srun", "--partition=teaching", "--mem-per-cpu=900", *asked]
    done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=PATIENCE, check=False)
    job = open_job(done.stdout.strip())
    until(lambda: "it runs" in job.log(), job)  # srun within the new job had no other wishes either
    # the environment alone would have had it refused
    refused = subprocess.run(["sbatch", "--test-only", job.folder.script], env=around, capture_output=True, check=False)
    assert refused.returncode != 0
    assert job.asked.slurm


@pytest.mark.slow
@pytest.mark.parametrize("how", ["it dies with its job", "its job goes on unseen"])
def test_a_node_that_fails_costs_time_alone(cluster, on_slurm, tmp_path: Path, how: str) -> None:
    """Slurm starts the job again; one whose first copy goes on runs twice at once, in one folder."""
    job = on_slurm(LONG.replace(epochs=100))
    until(lambda: runs(job), job)
    node = cluster.ask("squeue", "-h", "-j", job.asked.slurm, "-o", "%N").strip()
    first = job.folder.progress()
    cluster.kill_node(node, with_jobs=how == "it dies with its job")
    cluster.fail_node(node)
    try:
        until(lambda: job.state == "finished", job)
        (found,) = job.fetch()
        (here,) = submit(LONG.replace(epochs=100), backend="inline", folder=tmp_path / "here").fetch()
        assert same(found, here)
        until(lambda: not alive(first.process) and job.state == "finished", job)
        assert job.fetch()[0].digest == Recording.load(job.folder.recording(0)).digest
        assert same(job.fetch()[0], here)  # whoever was last
    finally:
        cluster.start_node(node)
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        until(lambda: cluster.nodes().get(node) == "idle", job)


@pytest.mark.slow
def test_started_again_and_stopped_at_its_time_limit_it_goes_on(cluster, on_slurm) -> None:
    job = on_slurm(LONG.replace(observations=20_000, pool=20_000))  # several minutes, also on a fast machine
    until(lambda: runs(job), job)
    cluster.ask("scontrol", "requeue", job.asked.slurm)  # as for a job with a higher priority
    until(lambda: (told := job.folder.progress()) is not None and told.state == "stopped", job)
    kept = Recording.load(job.folder.recording(0))
    assert kept.epochs > 0
    assert not kept.complete
    until(lambda: runs(job) and job.folder.progress().state == "running", job)
    assert job.folder.progress().iteration > kept.epoch_end[-1]  # it did not begin anew
    cluster.limit_to_this_minute(job.asked.slurm)
    until(lambda: job.state == "failed", job)
    assert "interrupted after" in job.why
    assert "resume() goes on" in job.why
    later = Recording.load(job.folder.recording(0))
    assert later.iterations > kept.iterations
    with pytest.raises(JobError, match="no whole recording"):
        job.fetch()
    number = job.asked.slurm
    assert job.resume(minutes=30).asked.slurm != number
    assert job.state in ("queued", "running")
    until(lambda: runs(job) and job.folder.progress().state == "running", job)
    assert job.folder.progress().iteration > later.epoch_end[-1]
    job.cancel()


@pytest.mark.slow
def test_a_signal_comes_early_so_no_job_is_as_short_as_a_minute(waiting, cluster) -> None:
    """Slurm looks twice a minute, and rather signals too early: submitit's 90 s, and 30 s, too, end a job of a minute
    as it begins. The shortest that we ask for has its first half."""
    short, ours = waiting[1], waiting[batch.SHORTEST]
    wait_for(lambda: (short / "signalled").exists() and (ours / "begun").exists())
    begun, signalled = (int((short / name).read_text().split()[0]) for name in ("begun", "signalled"))
    assert signalled - begun < 60 - batch.WARNING
    if not (ours / "signalled").exists():
        assert time.time() - int((ours / "begun").read_text()) < 120
    else:
        assert int((ours / "signalled").read_text().split()[0]) - int((ours / "begun").read_text()) > 30


@pytest.mark.slow
def test_a_job_that_does_not_end_at_its_limit_is_ended(waiting, cluster) -> None:
    number = (waiting[1] / "number").read_text()
    wait_for(lambda: scheduler.state(number)[1] != "running")
    assert scheduler.state(number)[::2] == ("TIMEOUT", scheduler._WHY["TIMEOUT"])
    cluster.ask("scancel", (waiting[batch.SHORTEST] / "number").read_text())


@pytest.mark.slow
def test_cancelled_from_outside_and_from_here(cluster, on_slurm) -> None:
    one, other = on_slurm(LONG), on_slurm(LONG)
    cluster.ask("scancel", one.asked.slurm)
    other.cancel()
    assert other.state == "cancelled"
    until(lambda: one.state == "cancelled", one)
    assert scheduler.state(other.asked.slurm)[1] in ("cancelled", "running")  # Slurm takes a moment to end it


@pytest.mark.slow
def test_too_little_memory_is_said(on_slurm, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('gres = "gpu:{gpus}"\nmemory = "60M"\n')
    job = on_slurm(LONG, profile=tmp_path / "small.toml")
    until(lambda: job.state == "failed", job)
    assert "more memory" in job.why


@pytest.mark.parametrize("sacct", ["without an accounting service", "not installed"])
def test_a_job_that_slurm_forgot_is_told_from_one_that_runs(on_slurm, tmp_path, monkeypatch, sacct: str) -> None:
    from labkit.jobs import handle

    job = on_slurm()
    if sacct == "not installed":
        for name in ("squeue", "sbatch", "scancel"):
            (tmp_path / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        assert shutil.which("sacct")
    job.asked = handle.replace(job.asked, slurm="999999")
    monkeypatch.setattr(handle, "GRACE", 0.5)
    assert job.state == "running"  # its result may be on its way
    until(lambda: job.state == "failed", job)
    assert "log()" in job.why


@pytest.mark.parametrize(
    ("profile", "wishes", "words"),
    [
        ('partition = "nowhere"', {}, "choose another partition"),
        ("", {"gpus": 9}, "no node has"),
        ('gres = "gpu:h100:{gpus}"', {"gpus": 1}, "no node has"),
        ("", {"minutes": 600}, "fewer minutes|so many minutes"),
        ("cpus = 99", {"gpus": 0}, "so many minutes, cores"),
    ],
)
def test_what_cannot_be_is_refused_at_once(on_slurm, tmp_path: Path, profile: str, wishes: dict, words: str) -> None:
    (tmp_path / "site.toml").write_text(profile)
    with pytest.raises(JobError, match=words) as refused:
        on_slurm(profile=tmp_path / "site.toml", **wishes)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "jobs").iterdir())


def test_a_map_is_made_by_a_job_for_each_depth(cluster: Cluster, tmp_path: Path, monkeypatch) -> None:
    """Who stops waiting finds the same jobs again; no recordings are left; the map is the one that is made here."""
    monkeypatch.chdir(tmp_path)
    base, grid = maps.of_student("tanh", "ada", "tiny")
    queued = maps._queued(base, grid, grid.depths, "slurm", "generic", 5, None)
    made = maps.trainability("tanh", "ada", "tiny", "map.safetensors", backend="slurm", minutes=5, progress=False)
    assert {job.folder.path for job in queued.values()} == set((tmp_path / "jobs").iterdir())
    assert not list(tmp_path.glob("jobs/*/recording*"))
    here = maps.trainability("tanh", "ada", "tiny", progress=False)
    assert (made.depths, made.variances) == (here.depths, here.variances)
    for name in maps.ARRAYS:
        np.testing.assert_array_equal(getattr(made, name), getattr(here, name), err_msg=name)


def test_a_row_whose_job_fails_is_one_sentence(cluster: Cluster, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").write_text("gpus = 0\npython = '/nowhere/python'\n")
    monkeypatch.setattr(handle, "GRACE", 1.0)
    with pytest.raises(JobError, match="there is no row to fetch"):
        maps.trainability(
            "tanh", "ada", "tiny", "map.safetensors", backend="slurm", profile="site.toml", progress=False
        )
