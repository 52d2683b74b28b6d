"""The program that a job runs: `python -m labkit.jobs.work FOLDER`. It trains what the folder asks for.

It may be started twice, also at once: what is there is read, not trained again, what was cut off goes on, and files
appear whole. A signal before the time limit ends the training as Ctrl-C does, so what was recorded is kept.
"""

import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from labkit.commands import sentence
from labkit.jobs.folder import Asked, JobFolder, Progress
from labkit.recording import Recording

SECONDS = 0.5  # between two reports, or more
SHARE = 0.02  # of its time that a training spends on being looked at, where it is of thousands of networks
# what Slurm sends before a time limit (see batch.WARNING), and when it cancels or takes a node away
ENDINGS = (signal.SIGUSR2, signal.SIGTERM)


def main(folder: JobFolder) -> int:
    """Train and report; 0 when every recording is there."""
    asked = folder.read()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background had it ignored
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    return work(folder, asked)


def work(folder: JobFolder, asked: Asked) -> int:
    """The same in a process that goes on afterwards, and keeps its own way with signals."""
    from labkit.training import Interrupted  # loads torch

    reports = Reports(folder, asked)
    reports.say(Progress("running", iterations=asked.experiments[0].iterations))
    try:
        why = (_row if asked.row else _recordings)(folder, asked, reports)
    except Interrupted as interrupt:
        reports.say(reports.last("stopped", str(interrupt)))
        raise
    except KeyboardInterrupt:
        reports.say(reports.last("stopped", "interrupted before its first iteration"))
        raise
    except Exception as error:
        traceback.print_exc()
        reports.say(reports.last("failed", sentence(error)))
        return 1
    reports.say(reports.last("finished", why))
    return 0


def _recordings(folder: JobFolder, asked: Asked, reports: "Reports") -> str:
    """Train; why the first network ended early, if it did."""
    from labkit.training import train_many

    done = train_many(
        asked.experiments,
        folder.recordings(asked),
        device=asked.device or None,
        watch=reports,
        progress=False,
        resume=True,
    )
    reports(done)
    return done[0].origin.stopped


def _row(folder: JobFolder, asked: Asked, reports: "Reports") -> str:
    """The same for a row of a map, which is trained whole or not at all."""
    from labkit import maps

    if folder.made_row(asked) is None:
        maps.row(asked.experiments, asked.row, asked.device or None, reports).save(folder.row)
    return ""


class Reports:
    """A watch of the training that writes where it is, at a bounded rate."""

    latest_only = True

    def __init__(self, folder: JobFolder, asked: Asked) -> None:
        self.folder, self.asked = folder, asked
        self.begun = time.monotonic()
        self._next = self._asked = 0.0
        self._latest = Progress("running")

    def due(self) -> bool:
        self._asked = time.monotonic()
        return self._asked >= self._next

    def __call__(self, recordings: Sequence[Recording]) -> None:
        first = recordings[0]
        losses = tuple(float(r.loss[-1]) for r in recordings)
        try:
            self.say(Progress("running", first.iterations, self.asked.experiments[0].iterations, losses))
        except OSError:  # a disk that is full for a while costs no training; a folder that was removed ends it
            if not self.folder.path.is_dir():
                raise
        now = time.monotonic()
        self._next = now + max(SECONDS, (now - self._asked) / SHARE)

    def say(self, progress: Progress) -> None:
        self._latest = replace(
            progress, seconds=time.monotonic() - self.begun, node=platform.node(), process=os.getpid()
        )
        self.folder.report(self._latest)

    def last(self, state: Any, why: str) -> Progress:
        return replace(self._latest, state=state, why=why)


def _interrupt(_number: int, _frame: object) -> None:
    """As Ctrl-C, which waits for what must stay together (see `labkit.interrupts`)."""
    for one in ENDINGS:  # a second signal must not end the writing
        signal.signal(one, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    try:
        sys.exit(main(JobFolder(sys.argv[1])))
    except KeyboardInterrupt as stopped:
        print(stopped, flush=True)
        # Slurm takes any other code for a failure of the program
        os._exit(0 if "recorded so far" in str(stopped) else 1)
