"""The file that `sbatch` takes: what the site asks for, and the one command that trains, or that grades."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.jobs.folder import JobError, JobFolder
from labkit.jobs.profiles import Site

# seconds before its limit in which a job keeps what it recorded; a minute's job must not be warned as it begins
WARNING = 30
SHORTEST = 2  # minutes


def script(folder: JobFolder, site: Site, gpus: int, minutes: int) -> str:
    """A whole batch file. Raises JobError for what no job can ask for."""
    if minutes < SHORTEST:
        raise JobError(f"{minutes} minutes are too short for a job, which needs {WARNING} s to save: give {SHORTEST}")
    if gpus < 0:
        raise JobError(f"a job cannot have {gpus} GPUs: give 0 or more")
    options = {
        "job-name": folder.path.name,
        "output": _pattern(folder.log),
        "gres": site.gres.format(gpus=gpus) if gpus else "",
        "time": str(minutes),
    }
    return _file(site, options, ["-m", "labkit.jobs.work", str(folder.path)])


def array(
    name: str, log: Path, site: Site, arguments: Sequence[str], tasks: int, at_once: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """A batch file that starts Python with these arguments `tasks` times, at most `at_once` of them together, each on a
    CPU: no GPU is asked for. `log` is the beginning of the names of their logs; `variables` are set for them."""
    options = {
        "job-name": name,
        "output": f"{_pattern(log)}-%a.txt",
        "array": f"0-{tasks - 1}{f'%{at_once}' if at_once else ''}",
        "time": str(max(site.minutes, SHORTEST)),
    }
    return _file(site, options, arguments, variables or {})


def _file(
    site: Site, options: Mapping[str, str], arguments: Sequence[str], variables: Mapping[str, str] | None = None
) -> str:
    everywhere = {
        "open-mode": "append",  # a job that is started again goes on in the same log
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "cpus-per-task": str(site.cpus),
        "mem": site.memory,
        "signal": f"USR2@{WARNING}",
    }
    asked = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in {**options, **everywhere}.items() if value]
    said = [f"export {name}={shlex.quote(value)}" for name, value in (variables or {}).items()]
    lines = ["#!/bin/bash", *asked, "#SBATCH --requeue", "", *site.setup, *said, _command(site, arguments), ""]
    return "\n".join(lines)


def _command(site: Site, arguments: Sequence[str]) -> str:
    """srun hands the signal on to the program, which the batch file's shell would keep for itself.

    Kill on a bad exit is Slurm's default; one task is said, for a site may set another number.
    """
    program = [*site.command, site.python or sys.executable, "-u", *arguments]
    return shlex.join(["srun", "--ntasks=1", "--unbuffered", *program])


def _pattern(path: Path) -> str:
    """A file's name for Slurm, for which % means something. Raises JobError for what it cannot read: a backslash, too,
    which it takes for a sign of its own however it is quoted."""
    text = str(path)
    if "\n" in text or "\\" in text or text.encode(errors="replace").decode() != text:
        raise JobError(f"{text!r} has a character that no batch file can hold: choose another folder")
    return text.replace("%", "%%")
