"""Runs one command, and tells which processes that it started outlive it. Ends them, each by its number.

    python -m hostile.keeper REPORT SECONDS COMMAND...

An orphan comes to the nearest subreaper among its ancestors, which is this process: so nothing that the command
started, however well it detached itself, is missed, and nobody else's process is touched.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE = 2.0  # seconds after the command's end, from which on a process counts as a survivor


def main(report: str, seconds: str, *command: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code: int | None = process.wait(float(seconds))
    except subprocess.TimeoutExpired:
        code = None
    survivors = [] if code is None else _survivors()
    _end_all()
    Path(report).write_text(json.dumps({"code": code, "survivors": survivors}))


def _survivors() -> list[str]:
    time.sleep(GRACE)
    _bury()
    return [_description(pid) for pid in descendants(os.getpid())]


def _description(pid: int) -> str:
    """What a process calls itself."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({command[:200]})"
    return "a process that just ended"


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, those that have ended but were not waited for left out."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in found for one in (*([child] if _is_alive(child) else []), *descendants(child))]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _end_all() -> None:
    # children of what is killed come to us, so look again until there are none
    for _ in range(1000):
        alive = descendants(os.getpid())
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _bury()
        if not alive:
            return


def _bury() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
