"""Does a real Slurm take the batch files and the Open OnDemand sessions of assignments/cluster/, and do they run?"""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import ondemand
import pytest

from labkit.jobs import scheduler
from labkit.recording import Recording
from slurm.cluster import Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 120


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lab without a container, in the environment that the tests run in; a folder that stands for a home."""
    monkeypatch.setenv("LAB", str(ondemand.SITE / "lab.sh"))
    monkeypatch.setenv("LAB_IMAGE", "")
    monkeypatch.setenv("LAB_ENVIRONMENT", sys.prefix)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # users of a cluster are not root; these tests may be
    settings = tmp_path / "jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"ServerApp": {"allow_root": True}}))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings.parent))
    return tmp_path


def test_slurm_takes_the_batch_files_and_the_sessions(cluster, site: Path) -> None:
    session = ondemand.job(site, sys.executable)
    for said in (
        [ondemand.SITE / "train.sbatch", "vanishing/relu"],
        [ondemand.SITE / "grade.sbatch", "vanishing_gradients"],
        [*ondemand.options(), session],
        [*ondemand.options(gpus="0", cores="1"), session],
    ):
        done = subprocess.run(["sbatch", "--test-only", *said], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(r"Job \d+ to start at", done.stderr)
    # ... and refuses what this cluster does not have
    refused = subprocess.run(["sbatch", "--test-only", *ondemand.options(gpus="9"), session], check=False)
    assert refused.returncode != 0


def wait(number: str, folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while scheduler.state(number)[1] in ("queued", "running"):
        assert time.monotonic() < end, [path.read_text() for path in folder.glob("*.log")]
        time.sleep(0.3)


@pytest.mark.slow
def test_the_training_file_trains(cluster, site: Path) -> None:
    experiment = ["vanishing/relu", "--student", "ada", "--observations", "300", "--epochs", "2", "--device", "cpu"]
    said = ["sbatch", "--parsable", ondemand.SITE / "train.sbatch", *experiment]
    number = subprocess.run(said, capture_output=True, text=True, check=True).stdout.strip()
    wait(number, site)
    log = (site / f"gradient-lab-{number}.log").read_text()
    assert scheduler.state(number)[0] == "COMPLETED", log
    assert "vanishing-relu.safetensors: 6 iterations, ran to its end" in log
    assert Recording.load(site / "vanishing-relu.safetensors").complete


@pytest.mark.slow
def test_a_session_opens_with_its_token_alone(cluster, site: Path) -> None:
    """From sbatch to JupyterLab's own answer, through the files of the app."""
    session = ondemand.job(site, sys.executable, gpus="0")
    said = ["sbatch", "--parsable", f"--output={site}/session.log", *ondemand.options(gpus="0"), session]
    number = subprocess.run(said, capture_output=True, text=True, check=True).stdout.strip()
    try:
        end = time.monotonic() + PATIENCE
        while not (site / "connection.json").exists():
            assert time.monotonic() < end, scheduler.state(number) + tuple(p.read_text() for p in site.glob("*.log"))
            time.sleep(0.3)
        told = json.loads((site / "connection.json").read_text())
        assert (site / "connection.json").stat().st_mode & 0o077 == 0
        address = f"http://127.0.0.1:{told['port']}{told['base_path']}api/contents"
        assert urllib.request.urlopen(f"{address}?token={told['password']}").status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}?token=another")
        assert told["password"] not in everybodys_view()
    finally:
        cluster.ask("scancel", number)
        wait(number, site)


def everybodys_view() -> str:
    """The command lines of all processes, which `ps` shows to everybody."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    assert any("jupyter" in line for line in found)
    return "\n".join(found)
