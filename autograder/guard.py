"""The process between the warm parent and one student's process: puts up the walls, watches, and cleans up.

    guard -> {"walls": ["namespaces", "Landlock 7"]}                   before any of the student's code runs, and beside
                                                                       it a descriptor of the process; null where the
                                                                       walls did not stand
    guard -> {"status": 9, "cpu": 1.2, "memory": 210000, "why": ""}    when it has ended; status as os.wait4 gives it

It watches what the limits of single processes do not: how many there are, and what they use together of processor
time, memory and disk.
"""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from autograder import kernel, sandbox
from autograder.limits import Limits
from autograder.sandbox import Surroundings

EVERY = 0.1  # seconds from one look at the processes to the next
SELDOM = 10  # looks from one look at the disk to the next


def watch(
    place: Path,
    limits: Limits,
    around: Surroundings,
    number: int,
    report: socket.socket,
    be_student: Callable[[], None],
) -> NoReturn:
    """Fork a process that is shut in and runs `be_student`; tell `report` how it began and how it ended.

    Where we are root, `number` chooses the user that the student's process becomes.
    """
    try:
        with contextlib.suppress(OSError):
            os.setsid()
        kernel.adopt_orphans()
        separated = sandbox.separate() if around.separate else ()
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            _begin(place, around, bool(separated), number, limits.processes, told, be_student)
        os.close(told)
        process = os.pidfd_open(pid)
        with os.fdopen(ready, "rb") as file:
            walls = json.loads(file.read() or "null")
        socket.send_fds(report, [_line({"walls": None if walls is None else [*separated, *walls]})], [process])
        report.sendall(_line(_to_its_end(pid, process, place, limits)))
    finally:
        os._exit(0)


def _begin(
    place: Path,
    around: Surroundings,
    separated: bool,
    number: int,
    processes: int,
    told: int,
    be_student: Callable[[], None],
) -> NoReturn:
    """The student's process; it must never come back into the code above."""
    try:
        with contextlib.suppress(OSError):
            os.setsid()
        walls = sandbox.shut_in(place, around, separated, number, processes)
        # a change of the user would undo it
        kernel.die_with_parent(signal.SIGKILL)
        os.write(told, _line(walls))
        os.close(told)
        be_student()
    finally:
        os._exit(0)


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _to_its_end(pid: int, process: int, place: Path, limits: Limits) -> dict[str, object]:
    why, looks = "", 0
    while not select.select([process], [], [], EVERY)[0]:
        looks += 1
        why = why or _excess(pid, place if looks % SELDOM == 0 else None, limits)
        if why:
            sandbox.end(process)
    _, status, usage = os.wait4(pid, 0)
    _kill_all_below()
    return {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss, "why": why}


def _excess(pid: int, place: Path | None, limits: Limits) -> str:
    """What the process and those below it have too much of; empty when nothing."""
    below = [pid, *_descendants(pid, enough=limits.processes)]
    if len(below) > limits.processes:
        return f"the notebook had more than {limits.processes} processes"
    # of all together; and the first process of a namespace does not hear the kernel's own warning
    if sum(map(_processor_time, below)) > limits.cpu_seconds:
        return "the notebook used up its processor time"
    # what one alone writes for itself has its own limit
    if (sum(map(_memory, below)) if len(below) > 1 else _shared(pid)) > limits.data_bytes:
        return f"the notebook's processes together took more than {limits.data_bytes / 2**30:.1f} GB of memory"
    if place is not None and _disk(place, limits.disk_bytes) + _without_names(below) > limits.disk_bytes:
        return f"the notebook wrote more than {limits.disk_bytes / 2**30:.1f} GB of files"
    return ""


def _descendants(pid: int, enough: int = 10_000) -> list[int]:
    """All below a process; a fork bomb grows faster than it can be counted, so no more than `enough`."""
    found: list[int] = []
    waiting = [pid]
    while waiting and len(found) < enough:
        with contextlib.suppress(OSError, ValueError):
            for thread in Path(f"/proc/{waiting.pop()}/task").iterdir():
                children = [*map(int, (thread / "children").read_text().split())]
                found += children
                waiting += children
    return found


def _processor_time(pid: int) -> float:
    """Seconds, with those of its children that have ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # the name, in parentheses, may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _memory(pid: int) -> int:
    """Bytes that this process wrote and shares with nobody: what it inherited from the parent does not count. And its
    part of the memory that it shares; of that, what nobody else uses counts twice."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Private_Dirty:", "Pss_Shmem:")


def _shared(pid: int) -> int:
    """Bytes of memory that this process could share with others: its own limit does not hold for them."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "RssShmem:")


def _kilobytes(facts: Path, *names: str) -> int:
    """The sum of these facts, in bytes; nothing where the process is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = facts.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(names)) * 1024
    return 0


def _without_names(pids: list[int]) -> int:
    """Bytes of the files that these processes hold open, and that no folder names any more."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    file = descriptor.stat()
                    if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                        found[file.st_dev, file.st_ino] = file.st_blocks * 512
    return sum(found.values())


def _disk(folder: Path, enough: int) -> int:
    """Bytes of all files, or more than `enough` as soon as there are."""
    total = 0
    with contextlib.suppress(OSError):
        for root, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += Path(root, name).lstat().st_blocks * 512 + 4096
            if total > enough:
                return total
    return total


def _kill_all_below() -> None:
    """End what the student's process left behind; what it left in turn comes to us, so look until there is nothing."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        below = _descendants(os.getpid())
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)
