"""The file that `sbatch` takes: what the site asks for, and the one command that trains."""

import shlex
import sys
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
        "open-mode": "append",  # a job that is started again goes on in the same log
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "gres": site.gres.format(gpus=gpus) if gpus else "",
        "cpus-per-task": str(site.cpus),
        "mem": site.memory,
        "time": str(minutes),
        "signal": f"USR2@{WARNING}",
    }
    asked = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items() if value]
    return "\n".join(["#!/bin/bash", *asked, "#SBATCH --requeue", "", *site.setup, _command(folder, site), ""])


def _command(folder: JobFolder, site: Site) -> str:
    """srun hands the signal on to the program, which the batch file's shell would keep for itself.

    Kill on a bad exit is Slurm's default; one task is said, for a site may set another number.
    """
    program = [*site.command, site.python or sys.executable, "-u", "-m", "labkit.jobs.work", str(folder.path)]
    return shlex.join(["srun", "--ntasks=1", "--unbuffered", *program])


def _pattern(path: Path) -> str:
    """A file's name for Slurm, for which % and a backslash mean something."""
    return str(path).replace("\\", "\\\\").replace("%", "%%")
