"""The warm parent: loads torch, matplotlib and labkit once, then forks a student's process for each submission.

    python -P -m autograder.nursery DESCRIPTOR [--fresh]

    grader  -> {"start": {"place", "limits"}} and, beside it, the student's end of a socket pair
    nursery -> {"pid": 17}
    grader  -> {"end": 17}
    nursery -> {"status": 9, "cpu": 1.2, "memory": 210000}     the status as os.wait4 gives it

No student's code ever runs in this process, so that no submission can touch the next. It must never have run
anything of torch on two threads: such a parent's children hang. With --fresh it serves one submission itself.
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from autograder.channel import Channel, Gone
from autograder.limits import Limits

PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> None:
    control = Channel(socket.socket(fileno=int(arguments[0])))
    _warm_up()
    control.send({"warm": True})
    with contextlib.suppress(Gone):
        if "--fresh" in arguments:
            _serve_once(control)
        else:
            _serve(control)


def _warm_up() -> None:
    """Import and draw what every notebook needs; what is missing here is merely loaded later."""
    import matplotlib.pyplot as plt

    import labkit.desk
    import labkit.networks
    import labkit.plots
    import labkit.training
    from labkit import data

    # the first network of a process costs a second of imports within torch
    labkit.networks.mlp((2, 2))
    # the class shares one pool of digits; with it in memory no process has to read or to draw it
    data.student_digits(1, seed=0)
    plt.figure().add_subplot(projection="3d")
    plt.close("all")
    gc.collect()
    gc.freeze()


def _serve_once(control: Channel) -> None:
    order = control.receive()["start"]
    end = _take_end(control)
    control.send({"pid": os.getpid()})
    _be_student(end, order)


def _serve(control: Channel) -> None:
    _adopt_orphans()
    alive: set[int] = set()
    try:
        while True:
            message = control.receive()
            control.send(
                _start(control, message["start"], alive) if "start" in message else _end(message["end"], alive)
            )
    finally:
        for pid in list(alive):
            _end(pid, alive)


def _start(control: Channel, order: dict[str, Any], alive: set[int]) -> dict[str, Any]:
    end = _take_end(control)
    pid = os.fork()
    if pid == 0:
        _be_student(end, order)
    end.close()
    alive.add(pid)
    return {"pid": pid}


def _take_end(control: Channel) -> socket.socket:
    _, descriptors, _, _ = socket.recv_fds(control.end, 1, 1)
    return socket.socket(fileno=descriptors[0])


def _be_student(end: socket.socket, order: dict[str, Any]) -> NoReturn:
    """From here on this process is the student's; it must never come back into the loop above."""
    from autograder import worker

    try:
        with contextlib.suppress(OSError):
            os.setsid()
        worker.live(end, Path(order["place"]), Limits.from_json(order["limits"]))
    finally:
        os._exit(0)


def _end(pid: int, alive: set[int]) -> dict[str, Any]:
    """Kill a student's process with its whole group, and whatever left that group and lost its parent."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    if pid not in alive:  # of a nursery before this one
        return {"status": signal.SIGKILL}
    _, status, usage = os.wait4(pid, 0)
    alive.discard(pid)
    _kill_strays(alive)
    return {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss}


def _adopt_orphans() -> None:
    """A detached process of a student becomes ours when its parent ends, instead of living on by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill_strays(alive: set[int]) -> None:
    # a stray's own children come to us once it is dead, so look again until there are none
    for _ in range(1000):
        strays = _children() - alive
        if not strays:
            return
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _children() -> set[int]:
    try:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    except OSError:
        return set()


if __name__ == "__main__":
    main(sys.argv[1:])
