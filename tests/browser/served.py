"""A course as an instructor makes it, and a JupyterLab that runs in it on loopback, without the user's settings."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autograder import course
from labkit.cache import cache_folder

LAB = "vanishing_gradients"
COURSE_ID = "gradient-lab"  # as nbgrader_config.py names it
NOTEBOOK = f"{LAB}.ipynb"
SCRIPTS = Path(sysconfig.get_path("scripts"))
CLONE = Path(__file__).parents[2]
PATIENCE = 120  # seconds that a server may take to answer for the first time on a busy machine

# nobody asks whether news are wanted, nothing is looked for outside, nothing moves while it is looked at
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
    # a test saves when it says so
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


class ServerError(Exception):
    """JupyterLab did not come up, or a command failed; what it said."""


def me() -> str:
    """The student of these tests: nbgrader hands in under the name that the operating system knows."""
    return pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True)
class Place:
    """One folder that holds all: the course, the exchange, and a home in which nothing was ever set."""

    root: Path

    @property
    def course(self) -> Path:
        return self.root / "course"

    @property
    def exchange(self) -> Path:
        return self.root / "exchange"

    @property
    def fetched(self) -> Path:
        """Where Assignment List puts what a student fetches: in the folder that JupyterLab runs in."""
        return self.course / LAB

    def environment(self) -> dict[str, str]:
        """Of the server, of its kernels and of every command."""
        home = self.root / "home"
        jupyter = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        mine = {
            "HOME": str(home),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "NBGRADER_EXCHANGE_ROOT": str(self.exchange),
            # digits that were drawn once need not be drawn again
            "LABKIT_CACHE": str(cache_folder()),
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(SCRIPTS), os.environ.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join([str(CLONE), os.environ.get("PYTHONPATH", "")]),
        }
        return {**os.environ, **jupyter, **mine}

    def run(self, *command: str) -> str:
        """A command as an instructor types it in the course folder; what it printed."""
        where = self.course if self.course.exists() else self.root
        program = [sys.executable, str(SCRIPTS / command[0]), *command[1:]]
        done = subprocess.run(program, cwd=where, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise ServerError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def make_course(root: Path) -> Place:
    """A course with the lab built and made ready to release, as the README has it."""
    place = Place(root)
    (root / "home").mkdir(parents=True)
    place.exchange.mkdir()
    # every user of a course has to be able to write here; nbgrader refuses it otherwise
    place.exchange.chmod(0o777)
    for name, values in SETTINGS.items():
        file = root / "home/settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    course.init(place.course, [LAB])
    course.release(place.course, LAB)
    return place


@dataclass(frozen=True)
class Server:
    """A JupyterLab that answers."""

    url: str  # without a slash at its end
    token: str
    place: Place
    log: Path

    def lab(self, who: str, path: str = "") -> str:
        """JupyterLab's address in a workspace of its own for each person, with a file opened in it."""
        tree = f"/tree/{path}" if path else ""
        return f"{self.url}/lab/workspaces/{who}{tree}?token={self.token}"

    def page(self, path: str) -> str:
        return f"{self.url}/{path}?token={self.token}"


@contextmanager
def serving(place: Place) -> Iterator[Server]:
    """JupyterLab in the course folder, as the README says, until the block ends."""
    port, token, log = _free_port(), secrets.token_hex(16), place.root / "jupyterlab.log"
    options = [
        "--no-browser",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--LabApp.extension_manager=readonly",
        # a test may ask whether the kernel answers and which cells still run; what it does, it does as a person does
        "--LabApp.expose_app_in_browser=True",
        # a kernel that is told to end has nothing left to do
        "--MultiKernelManager.shutdown_wait_time=1",
        *(["--allow-root"] if os.getuid() == 0 else []),
    ]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=place.course, env=place.environment(), stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            server = Server(f"http://127.0.0.1:{port}", token, place, log)
            _wait(server, process)
            yield server
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
    return port


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerError(f"JupyterLab ended with {process.returncode}: {server.log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(server.page("api/status"), timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise ServerError(f"JupyterLab did not answer within {PATIENCE} s: {server.log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """A server that is asked to end takes its kernels with it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
