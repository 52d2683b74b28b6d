"""Does a training that is submitted to a real Slurm come home, whatever happens to its job?"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labkit.experiments import Experiment, experiment
from labkit.jobs import Job, JobError, open_job, scheduler, submit
from labkit.recording import Recording
from slurm.cluster import Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 180  # seconds; two cores train while others test
SHORT = experiment("vanishing/relu", "ada").replace(observations=300, pool=1000, epochs=2)
LONG = experiment("vanishing/relu", "ada").replace(epochs=5000)  # minutes, if nobody ends it


@pytest.fixture
def on_slurm(cluster: Cluster, tmp_path: Path) -> Callable[..., Job]:
    jobs: list[Job] = []

    def queued(e: Experiment = SHORT, **wishes: object) -> Job:
        jobs.append(submit(e, backend="slurm", folder=tmp_path / "jobs", **wishes))  # type: ignore[arg-type]
        return jobs[-1]

    yield queued
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


def same(a: Recording, b: Recording) -> bool:
    return np.array_equal(a.loss, b.loss) and np.array_equal(a.checkpoint_parameters, b.checkpoint_parameters)


@pytest.mark.slow
def test_what_comes_home_is_what_is_trained_here(on_slurm, tmp_path: Path) -> None:
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
    program = (
        "from labkit.jobs import submit; from labkit.experiments import experiment;"
        f"e = experiment('vanishing/relu', 'ada').replace(observations=300, pool=1000, epochs=1);"
        f"print(submit(e, backend='slurm', folder={str(tmp_path / 'jobs')!r}).folder.path)"
    )
    around = {**os.environ, "SBATCH_PARTITION": "nowhere", "SLURM_MEM_PER_NODE": "10", "SLURM_MEM_PER_CPU": "10"}
    asked = [sys.executable, "-c", program]
    command = ["srun", "--partition=teaching", "--mem-per-cpu=900", *asked]
    done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=PATIENCE, check=False)
    job = open_job(done.stdout.strip())
    # the environment alone would have had it refused
    refused = subprocess.run(["sbatch", "--test-only", job.folder.script], env=around, capture_output=True, check=False)
    assert refused.returncode != 0
    cluster.ask("scancel", job.asked.slurm)
    assert job.asked.slurm


@pytest.mark.slow
def test_a_node_that_dies_costs_time_alone(cluster, on_slurm) -> None:
    job = on_slurm(LONG.replace(epochs=100))
    until(lambda: runs(job), job)
    node = cluster.ask("squeue", "-h", "-j", job.asked.slurm, "-o", "%N").strip()
    cluster.kill_node(node)
    cluster.fail_node(node)
    try:
        until(lambda: job.state == "finished", job)
        assert job.fetch()[0].complete
    finally:
        cluster.start_node(node)
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        until(lambda: cluster.nodes().get(node) == "idle", job)


@pytest.mark.slow
def test_what_was_recorded_before_the_time_limit_is_kept(cluster, on_slurm) -> None:
    job = on_slurm(LONG)
    until(lambda: runs(job), job)
    cluster.ask("scancel", "--signal=USR2", job.asked.slurm)  # what Slurm sends before the limit
    until(lambda: job.state == "failed", job)
    assert "interrupted after" in job.why
    kept = Recording.load(job.folder.recording(0))
    assert not kept.complete
    assert kept.iterations > 0
    with pytest.raises(JobError, match="no whole recording"):
        job.fetch()


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


def test_a_job_that_slurm_forgot_is_told_from_one_that_runs(cluster, on_slurm, monkeypatch) -> None:
    from labkit.jobs import handle

    job = on_slurm()
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
