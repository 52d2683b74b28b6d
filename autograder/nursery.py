"""The warm parent: loads torch, matplotlib and labkit once, then forks a student's process for each submission.

    python -P -m autograder.nursery DESCRIPTOR SURROUNDINGS [--fresh]

    grader  -> {"start": {"place", "limits"}} and, beside it, the student's end of a socket pair
    nursery -> {"pid": 17, "walls": [...]} and, beside it, a descriptor of the student's process
    grader  -> {"end": 17}
    nursery -> {"status": 9, "cpu": 1.2, "memory": 210000, "why": ""}     see `autograder.guard`

No student's code ever runs in this process, so that no submission can touch the next. It must never have run
anything of torch on two threads: such a parent's children hang. With --fresh it serves one submission itself.
"""

import contextlib
import gc
import importlib
import itertools
import json
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autograder import guard, kernel, sandbox, shell, worker
from autograder.channel import Channel, Gone
from autograder.limits import Limits
from autograder.sandbox import Surroundings

PATIENCE = 20.0  # seconds that a guard may take to clean up


def main(arguments: list[str]) -> None:
    control = Channel(socket.socket(fileno=int(arguments[0])))
    _warm_up()
    control.send({"warm": True})
    with contextlib.suppress(Gone):
        if "--fresh" in arguments:
            _serve_once(control)
        else:
            _serve(control, Surroundings.from_json(arguments[1]))


def _warm_up() -> None:
    """Import, open and draw what every notebook needs; what is missing here is merely loaded later."""
    import matplotlib.pyplot as plt

    import labkit.catalogue
    import labkit.desk
    import labkit.networks
    import labkit.plots
    import labkit.training
    from labkit import data

    # the first network of a process costs a second of imports within torch
    labkit.networks.mlp((2, 2))
    with contextlib.suppress(ImportError):  # torch's own, which a training loads
        importlib.import_module("torch.nested._internal.nested_tensor")
    # the class shares one pool of digits; with it in memory no process has to read or to draw it
    data.student_digits(1, seed=0)
    plt.figure().add_subplot(projection="3d")
    plt.close("all")
    shell.open_desk()
    gc.collect()
    gc.freeze()


def _serve_once(control: Channel) -> None:
    order = control.receive()["start"]
    end = _take_end(control)
    control.send({"pid": os.getpid(), "walls": []})
    try:
        with contextlib.suppress(OSError):
            os.setsid()
        worker.live(end, Path(order["place"]), Limits.from_json(order["limits"]))
    finally:
        os._exit(0)


def _serve(control: Channel, around: Surroundings) -> None:
    with contextlib.suppress(OSError):
        kernel.adopt_orphans()
    around = replace(around, separate=around.separate and _walls_stand(around))
    alive: dict[int, _Child] = {}
    try:
        for number in itertools.count():
            message = control.receive()
            if "start" in message:
                order, end = message["start"], _take_end(control)
                child = _start(Path(order["place"]), Limits.from_json(order["limits"]), around, number, end)
                alive[child.guard] = child
                control.send({"pid": child.guard, "walls": child.walls})
                socket.send_fds(control.end, [b"+"], [child.process])
            else:
                control.send(_end(alive.pop(message["end"])))
    finally:
        for child in alive.values():
            _end(child)


@dataclass(frozen=True)
class _Child:
    """One submission's process and its guard."""

    guard: int  # its number
    process: int  # a descriptor of the student's process
    report: socket.socket
    walls: list[str] | None  # None where they did not stand, and the process ended at once


def _walls_stand(around: Surroundings) -> bool:
    """Try with nobody behind them: where namespaces can be had but not used, a submission must not be the first."""
    ours, theirs = socket.socketpair()
    ours.close()
    place = Path(tempfile.mkdtemp(dir=around.desk))
    (place / "submission").mkdir()
    (place / "home").mkdir()
    child = _start(place, Limits(), around, 0, theirs)
    _end(child)
    return child.walls is not None


def _start(place: Path, limits: Limits, around: Surroundings, number: int, end: socket.socket) -> _Child:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        guard.watch(place, limits, around, number, theirs, lambda: worker.live(end, place, limits))
    end.close()
    theirs.close()
    said, descriptors, _, _ = socket.recv_fds(ours, 65_536, 1)
    return _Child(pid, descriptors[0], ours, json.loads(said)["walls"])


def _take_end(control: Channel) -> socket.socket:
    _, descriptors, _, _ = socket.recv_fds(control.end, 1, 1)
    return socket.socket(fileno=descriptors[0])


def _end(child: _Child) -> dict[str, Any]:
    """Kill a student's process with all it started; its guard says how it ended, and is gone then, too."""
    sandbox.end(child.process)
    child.report.settimeout(PATIENCE)
    ending: dict[str, Any] = {"status": signal.SIGKILL}
    with contextlib.suppress(OSError, ValueError):
        ending = json.loads(child.report.makefile("rb").readline())
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.guard, signal.SIGKILL)
    os.waitpid(child.guard, 0)
    child.report.close()
    os.close(child.process)
    return ending


if __name__ == "__main__":
    main(sys.argv[1:])
