"""The walls around students' processes. Which of them stand is found out by building them, and the report names them.

Outside, around the warm parent: bubblewrap, with processes of its own, no network, the system to read only, and
nothing of the course. Inside, around each submission: namespaces of its own, in which the other submissions are not
there; another user, where we are root; Landlock; seccomp; limits. Each wall that a machine refuses is left out.
"""

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import site
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import autograder
import labkit
from autograder import kernel

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# the only files of /etc that Python, numpy, torch and matplotlib look for
SETTINGS = ("alternatives", "fonts", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
            "nsswitch.conf", "passwd", "timezone")  # fmt: skip
FACTS = ("cpuinfo", "meminfo", "stat", "sys/kernel", "sys/vm", "filesystems", "version")  # of /proc, where it is shared
DEVICES = ("null", "zero", "full", "random", "urandom")
EMPTY = ("/tmp", "/var/tmp", "/dev/shm", "/run")
SOLUTIONS = "_assignments"  # in an installed package: sources with what students must not see
ROOM = "size=1g,mode=1777"  # of the folders in memory
FIRST_USER, USERS = 61_000, 4_000  # free for us on Debian and its like, above those of adduser
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_ADMIN", "SYS_CHROOT",
                "SYS_PTRACE")  # fmt: skip
THREADS = 4  # of a process on average: the kernel counts them like processes
NONE = "process group and resource limits only"


@dataclass(frozen=True)
class Surroundings:
    """What a student's process may see of the machine, and what stands around its parent already."""

    desk: str  # the folder that holds the places of all submissions
    readable: tuple[str, ...]
    outer: tuple[str, ...] = ()  # walls
    separate: bool = True  # do namespaces within the others work here?

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Surroundings":
        values = json.loads(text)
        return cls(values["desk"], tuple(values["readable"]), tuple(values["outer"]), values["separate"])


def surroundings(desk: Path) -> Surroundings:
    """The system and this Python, with our two packages and no folder around them."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        prefixes.add(site.getusersitepackages())
    packages = [package.__path__[0] for package in (autograder, labkit)]
    ends = [*prefixes, *packages, sys.executable, str(Path(os.__file__).parent)]
    real = {str(Path(path).resolve()) for path in ends}
    paths = {*SYSTEM, *(f"/etc/{name}" for name in SETTINGS), *prefixes, *packages, *real}
    return Surroundings(str(desk), tuple(sorted(path for path in paths if Path(path).exists())))


# Outside


def bubblewrap(around: Surroundings) -> list[str]:
    """The beginning of a command that runs within bubblewrap; empty where it is missing or does not work."""
    program = shutil.which("bwrap")
    if program is None or sys.platform != "linux":
        return []
    as_root = [f"--cap-add=CAP_{name}" for name in CAPABILITIES]
    for own_user in ((), ("--unshare-user",)) if os.geteuid() == 0 else (("--unshare-user",),):
        rights = [word for one in (() if own_user else as_root) for word in one.split("=")]
        command = [program, *own_user, *rights, *_view(around)]
        if subprocess.run([*command, "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return command
    return []


def _view(around: Surroundings) -> list[str]:
    words = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
             "--die-with-parent", "--new-session", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--proc", "/proc",
             "--dev", "/dev"]  # fmt: skip
    above = {parent for path in (*around.readable, around.desk) for parent in Path(path).parents}
    for parent in sorted(above - {Path("/"), Path("/tmp")}):
        # bubblewrap would make them for their owner alone
        words += ["--perms", "0755", "--dir", str(parent)] if not _is_below(parent, SYSTEM) else []
    for path in around.readable:
        # /bin -> usr/bin and its like
        link = path in SYSTEM and Path(path).is_symlink()
        words += ["--symlink", str(Path(path).readlink()), path] if link else ["--ro-bind", path, path]
    for hidden in (Path(path) / SOLUTIONS for path in around.readable):
        words += ["--tmpfs", str(hidden)] if hidden.is_dir() else []
    return [*words, "--bind", around.desk, around.desk, "--chdir", "/", "--"]


def _is_below(path: Path, others: Sequence[str]) -> bool:
    return any(path == Path(other) or Path(other) in path.parents for other in others)


# Inside: first in the process that watches, then in the student's own


def separate() -> tuple[str, ...]:
    """Namespaces of its own for what this process forks from now on; no wall where the kernel refuses."""
    spaces = kernel.NEWPID | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with contextlib.suppress(OSError):
            kernel.unshare(spaces)
            return ("namespaces",)
    try:
        kernel.unshare(spaces | kernel.NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return ()
    return ("namespaces",)


def shut_in(place: Path, around: Surroundings, separated: bool, number: int, processes: int) -> tuple[str, ...]:
    """Leave this process, and all that it will start, with its place and what it needs to read; the walls.

    Where we are root it becomes a user of its own, chosen by `number`. `processes` may run at the same time.
    """
    own_proc = separated and _take_own_view(place, around)
    walls = ["another user"] if _be_nobody(place, around, number) else []
    if separated or walls:  # elsewhere the kernel would count what else runs under the grader's name
        resource.setrlimit(resource.RLIMIT_NPROC, (THREADS * processes, THREADS * processes))
    kernel.give_up_privileges()
    with contextlib.suppress(OSError):
        kernel.drop_capabilities()
    with contextlib.suppress(OSError):
        version = _landlock(place, around, separated, own_proc)
        walls.append(f"Landlock {version}")
    with contextlib.suppress(OSError):
        # without a view of our own, the machine's services listen on sockets that we could reach
        kernel.seccomp(unix_sockets=separated or bool(around.outer))
        walls.append("seccomp")
    return tuple(walls)


def _take_own_view(place: Path, around: Surroundings) -> bool:
    """Everything read-only but the place; nothing at all where others keep their files.

    Is /proc one's own, too? Within bubblewrap a plain user may not mount it.
    """
    safe = kernel.MS_NOSUID | kernel.MS_NODEV
    # the guard goes on seeing what it saw
    kernel.unshare(kernel.NEWNS)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.make_readable_only("/")
    covered = list(_covered(around))
    # what has to be seen may lie there, too: a clone in /tmp
    seen = [str(place), *(path for path in around.readable if _is_below(Path(path), covered))]
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in seen}
    for path in covered:
        kernel.mount("tmpfs", path, "tmpfs", safe, ROOM)
    for path, descriptor in kept.items():
        _stand_in(Path(path), stat.S_ISDIR(os.fstat(descriptor).st_mode))
        # with what is mounted below: it is locked together with its folder
        kernel.mount(f"/proc/self/fd/{descriptor}", path, flags=kernel.MS_BIND | kernel.MS_REC)
        os.close(descriptor)
    kernel.make_writable(str(place))
    with contextlib.suppress(OSError):
        kernel.mount("proc", "/proc", "proc", safe | kernel.MS_NOEXEC)
        return True
    return False


def _stand_in(path: Path, folder: bool) -> None:
    """Something at this path over which the real thing can be mounted."""
    (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
    if not folder and not path.exists():
        path.touch()


def _covered(around: Surroundings) -> Iterator[str]:
    """Folders in which others keep what they write; the widest first, and none twice."""
    found = {Path(path).resolve() for path in (*EMPTY, Path(around.desk).parent) if Path(path).is_dir()}
    return (str(path) for path in sorted(found) if not any(other in path.parents for other in found))


def _be_nobody(place: Path, around: Surroundings, number: int) -> bool:
    """As root become a user whom nothing belongs to but the place: limits hold for it, and other files do not open."""
    if os.geteuid() != 0 or not _open_to_all(around.readable):
        return False
    user = FIRST_USER + number % USERS
    try:
        for path in [place, *place.rglob("*")]:
            os.chown(path, user, user, follow_symlinks=False)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:
        return False
    return True


@functools.cache
def _open_to_all(paths: Sequence[str]) -> bool:
    """May any user read these paths, through all the folders above them?"""
    for path in map(Path, paths):
        real = path.resolve()
        if not real.stat().st_mode & stat.S_IROTH or not all(p.stat().st_mode & stat.S_IXOTH for p in real.parents):
            return False
    return True


def _landlock(place: Path, around: Surroundings, own_view: bool, own_proc: bool) -> int:
    # our number in another namespace's /proc is another one
    facts = ["/proc"] if own_proc else [f"/proc/{name}" for name in (*FACTS, str(Path("/proc/self").readlink()))]
    readable = [*around.readable, *facts, "/sys/devices/system/cpu", *(["/dev"] if own_view else [])]
    devices = [f"/dev/{name}" for name in DEVICES]
    return kernel.landlock(readable, [str(place), *devices, *(EMPTY if own_view else ())])


def end(process: int) -> None:
    """Kill through a descriptor of a process, which never means another one; nothing where it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
