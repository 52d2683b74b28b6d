"""What `labkit doctor` looks at: is everything here that the labs need, and what to do about what is not.

labkit does not know the grader, so of its walls only what the machine offers is said. Nothing is changed.
"""

import contextlib
import ctypes
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.jobs import scheduler

SECONDS = 20  # for a program to answer ...
PATIENCE = 180  # ... and for jupyter, which loads much, on a busy machine
PACKAGES = ("gradient-lab", "torch", "torchvision", "jupyterlab", "nbgrader", "ipywidgets", "matplotlib", "numpy")
# name, what it is for, whose it is
LAB_EXTENSIONS = (
    ("@jupyter/nbgrader", "nbgrader's part of JupyterLab", "nbgrader"),
    ("@jupyter-widgets/jupyterlab-manager", "sliders and progress bars", "ipywidgets"),
    ("anywidget", "the panels", "anywidget"),
    ("@jupyter-widgets/jupyterlab-sidecar", "the panel beside the notebook", "sidecar"),
)
SERVER_EXTENSIONS = ("assignment_list", "validate_assignment", "formgrader")  # of nbgrader
CREATE_RULESET, ASK_VERSION = 444, 1  # landlock_create_ruleset(2) and its flag


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    fine: bool
    found: str
    advice: str = ""
    needed: bool = True

    @property
    def breaks(self) -> bool:
        """Do the labs not run without it?"""
        return self.needed and not self.fine


def note(what: str, fine: bool, found: str, advice: str = "") -> Finding:
    """A finding without which the labs run."""
    return Finding(what, fine, found, advice, needed=False)


def versions() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    found = [Finding("python", True, platform.python_version())]
    for package in PACKAGES:
        try:
            found.append(Finding(package, True, version(package)))
        except PackageNotFoundError:
            found.append(Finding(package, False, "not installed", "run `make setup` in the project's folder"))
    return found


def gpu() -> list[Finding]:
    """A GPU that torch sees but cannot use breaks the labs: trainings choose it."""
    import torch

    if not torch.cuda.is_available():
        return [note("GPU", False, "none: trainings run on the CPU", _why_no_gpu(torch.version.cuda))]
    found = []
    for index in range(torch.cuda.device_count()):
        try:
            float(torch.ones(2, device=f"cuda:{index}").sum())
            found.append(Finding("GPU", True, torch.cuda.get_device_name(index)))
        except RuntimeError as error:
            said = str(error).splitlines()[0]
            advice = (
                "torch does not fit this GPU or its driver: install another build, or hide it: CUDA_VISIBLE_DEVICES="
            )
            found.append(Finding(f"GPU {index}", False, said, advice))
    return found


def _why_no_gpu(built_for: str | None) -> str:
    """What keeps torch from a GPU, where the machine seems to have one."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return "the labs need none"
    if built_for is None:
        return "this machine has one, but this torch is the CPU build: install the registry's own"
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "CUDA_VISIBLE_DEVICES is empty: unset it, or ask Slurm for a GPU"
    return f"this machine has one, but its driver does not serve CUDA {built_for}: see nvidia-smi"


def jupyter() -> list[Finding]:
    beside = str(Path(sys.executable).parent)
    search = os.pathsep.join([beside, os.environ.get("PATH", "")])
    program = shutil.which("jupyter", path=search)
    if program is None:
        return [Finding("jupyter", False, "no such command", "activate the environment, or put its bin folder on PATH")]
    around = {**os.environ, "PATH": search}
    listed = _ask(program, "labextension", "list", around=around, seconds=PATIENCE).splitlines()
    found = [_lab_extension(listed, *about) for about in LAB_EXTENSIONS]
    served = _served()
    found += [_server_extension(served.get(f"nbgrader.server_extensions.{name}"), name) for name in SERVER_EXTENSIONS]
    for command in ("nbgrader", "alembic"):
        path = shutil.which(command)
        advice = f"put {beside} on PATH: nbgrader looks for it there"
        found.append(note(f"{command} on PATH", path is not None, path or "not found", advice))
    return found


def _lab_extension(listed: Sequence[str], name: str, purpose: str, package: str) -> Finding:
    line = next((line for line in listed if name in line.split()), "")
    if "disabled" in line:
        return Finding(name, False, "disabled", f"{purpose}: jupyter labextension enable {name}")
    if "enabled" in line and "OK" in line:
        return Finding(name, True, "enabled")
    return Finding(name, False, line.strip() or "not there", f"{purpose}: install {package} again")


def _server_extension(enabled: bool | None, name: str) -> Finding:
    """nbgrader's menus ask these; a hub may have formgrader's disabled for students."""
    found = "not there" if enabled is None else "enabled" if enabled else "disabled"
    advice = f"nbgrader's menu needs it: jupyter server extension enable nbgrader.server_extensions.{name}"
    return note(f"nbgrader's {name}", bool(enabled), found, advice)


def _served() -> dict[str, bool]:
    """Which parts of the server are switched on, as its settings say; Jupyter's own command would load them all."""
    from jupyter_core.paths import jupyter_config_path

    found: dict[str, bool] = {}
    for folder in map(Path, reversed(jupyter_config_path())):
        for path in (
            *sorted((folder / "jupyter_server_config.d").glob("*.json")),
            folder / "jupyter_server_config.json",
        ):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.update(json.loads(path.read_text())["ServerApp"]["jpserver_extensions"])
    return found


def walls() -> list[Finding]:
    """What the machine offers to stand around students' code when it is graded."""
    if sys.platform != "linux":
        return [
            note("sandbox", False, platform.system(), "grade on Linux: elsewhere no wall stands around submissions")
        ]
    return [_bubblewrap(), _namespaces(), _landlock()]


def _bubblewrap() -> Finding:
    program = shutil.which("bwrap")
    if program is None:
        return note("bubblewrap", False, "not installed", "graders: install bubblewrap (apt-get, dnf)")
    works = _works(program, "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--unshare-net", "true")
    return note("bubblewrap", works, "works" if works else "is refused here", "graders: see docs/sandbox.md")


def _namespaces() -> Finding:
    """root may have them without a user of its own."""
    program = shutil.which("unshare")
    user = [] if os.geteuid() == 0 else ["--user"]
    works = program is not None and _works(program, *user, "--pid", "--net", "--fork", "true")
    advice = "graders: allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"
    return note("namespaces", works, "work" if works else "are refused here", advice)


def _landlock() -> Finding:
    try:
        version = int(ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, 0, ASK_VERSION))
    except (OSError, AttributeError):
        version = -1
    found = f"version {version}" if version > 0 else "not in this kernel"
    return note("Landlock", version > 0, found, "graders: Linux 5.13 or newer, with landlock among its lsm=")


def slurm() -> list[Finding]:
    if shutil.which("sbatch") is None:
        return [note("sbatch", False, "not found", "labkit.submit trains here; backend='script' writes a job's file")]
    parts = _ask("sinfo", "--noheader", "--format=%P", around=scheduler.environment(os.environ)).split()
    if not parts:
        advice = "Slurm's controller gives no answer: see `sinfo`, or ask the site's staff"
        return [note("sbatch", False, "no partition", advice)]
    return [note("sbatch", True, f"partitions {' '.join(parts)}"), _sacct()]


def _sacct() -> Finding:
    advice = "a job's folder and squeue are asked instead; how an old job ended may then be unknown"
    program = shutil.which("sacct")
    if program is None:
        return note("sacct", False, "not found", advice)
    works = _works(program, "--noheader", "--jobs=1", around=scheduler.environment(os.environ))
    return note("sacct", works, "answers" if works else "keeps no account here", advice)


def folders() -> list[Finding]:
    """Who may read and write what on a machine of many users."""
    return [_home(Path.home()), *_course(Path(os.environ.get("LAB_COURSE", "."))), _exchange()]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _home(home: Path) -> Finding:
    try:
        mode = _mode(home)
    except OSError as error:
        advice = f"Jupyter keeps its files there: mkdir -p {home}, or set HOME to a folder of yours"
        return Finding("home", False, f"{home}: {error.strerror}", advice)
    advice = f"others on this machine may read your work: chmod 700 {home}"
    return note("home", not mode & 0o077, f"{home} has {mode:04o}", advice)


def _course(course: Path) -> list[Finding]:
    if not (course / "nbgrader_config.py").is_file():
        return []
    course = course.resolve()
    # a folder above that lets nobody through protects it as well
    hidden = any(not _mode(path) & 0o001 for path in (course, *course.parents))
    open_ = note(
        "course", hidden, f"{course} has {_mode(course):04o}", f"students may read solutions: chmod 700 {course}"
    )
    missing = [path for path in (course, course / "gradebook.db") if path.exists() and not os.access(path, os.W_OK)]
    if not missing:
        return [open_]
    return [
        open_,
        Finding("gradebook", False, f"{missing[0]} cannot be written", "grade as the one whom it belongs to"),
    ]


def _exchange() -> Finding:
    path = Path(os.environ.get("NBGRADER_EXCHANGE_ROOT", "/usr/local/share/nbgrader/exchange"))
    needs = f"nbgrader's fetch and submit need it: mkdir -p {path} && chmod 777 {path}, or set NBGRADER_EXCHANGE_ROOT"
    if not path.is_dir():
        return note("exchange", False, f"there is no {path}", needs)
    return note("exchange", _mode(path) & 0o007 == 0o007, f"{path} has {_mode(path):04o}", needs)


def cache() -> list[Finding]:
    from labkit.data import cache_folder

    folder = cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    advice = "set LABKIT_CACHE to a folder that you can write, or the digits are drawn anew every time"
    return [note("cache of digits", os.access(there, os.W_OK), str(folder), advice)]


EXAMINATIONS: Sequence[Callable[[], list[Finding]]] = (versions, gpu, jupyter, walls, slurm, folders, cache)


def _ask(*command: str, around: dict[str, str], seconds: float | None = None) -> str:
    """What a program says, on both streams; nothing when it is not there or does not answer."""
    try:
        done = subprocess.run(
            command, env=around, capture_output=True, text=True, timeout=seconds or SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def _works(*command: str, around: dict[str, str] | None = None) -> bool:
    try:
        done = subprocess.run(command, env=around, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
