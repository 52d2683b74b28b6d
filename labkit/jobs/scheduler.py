"""What Slurm is told and asked, by its own commands.

A notebook may be a job itself, and what Slurm put into its environment would be taken for wishes about the new one.
Sites without `sacct` forget a job minutes after its end: then its folder alone says what came of it.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from labkit.jobs.folder import JobError, State

PATIENCE = 60  # seconds for an answer of the controller
LOOK = 2.0  # seconds in which it looks at a new job
MOST_TASKS = 1001  # of a job array, where a site says nothing: Slurm's default of MaxArraySize
_OURS = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "PMI")
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # where the cluster is

# https://slurm.schedmd.com/squeue.html, "JOB STATE CODES"
_STATES: dict[str, State] = {
    "PENDING": "queued", "CONFIGURING": "queued", "REQUEUED": "queued", "REQUEUE_HOLD": "queued",
    "REQUEUE_FED": "queued", "SPECIAL_EXIT": "queued", "RESV_DEL_HOLD": "queued", "RESIZING": "running",
    "RUNNING": "running", "SUSPENDED": "running", "STOPPED": "running", "SIGNALING": "running", "STAGE_OUT": "running",
    "COMPLETING": "running", "COMPLETED": "finished", "CANCELLED": "cancelled", "REVOKED": "cancelled",
}  # fmt: skip
# Slurm queues these again by itself, a little later
AGAIN = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
_WHY = {
    "TIMEOUT": "its time limit was reached: what it recorded until then is kept; give it more minutes",
    "DEADLINE": "its deadline was reached: give it more minutes",
    "OUT_OF_MEMORY": "it needed more memory than it had: raise memory in the profile",
    "NODE_FAIL": "its node failed, and Slurm did not start it again: submit it again",
    "PREEMPTED": "it was pushed aside, and Slurm did not start it again: submit it again",
    "BOOT_FAIL": "its node did not start: submit it again",
}
_REASONS = {
    "Priority": "others are before it", "Resources": "it waits for free resources", "None": "it is about to be placed",
    "BeginTime": "Slurm waits a little before it starts it again", "Dependency": "it waits for another job",
    "ReqNodeNotAvail": "the nodes that it could use are not available",
    "JobArrayTaskLimit": "as many of them run as may",
    "JobHeldUser": "it is held: scontrol release", "JobHeldAdmin": "it is held by the site's staff",
}  # fmt: skip

_TOO_LONG = "no job may take as long as this there: give it fewer minutes"
# https://slurm.schedmd.com/resource_limits.html, "Reasons"
_NEVER = {
    "PartitionTimeLimit": _TOO_LONG, "QOSMaxWallDurationPerJobLimit": _TOO_LONG,
    "AssocMaxWallDurationPerJobLimit": _TOO_LONG,
    "PartitionNodeLimit": "it asks for more nodes than the partition gives",
    # of a time limit, too
    "PartitionConfig": "the partition has no room for so many minutes, cores or GPUs (see sinfo -o '%P %l %c %G')",
    "BadConstraints": "no node is as it asks: change constraint, gres or cpus in the profile",
    "InvalidAccount": "the account is not known: say account in the profile",
    "InvalidQOS": "the quality of service is not known: say qos in the profile",
}  # fmt: skip

_PERHAPS = "and may have queued the job all the same: look with squeue --me, and end that before you try again"


class NoAnswer(JobError):
    """Slurm cannot be asked, here or at the moment: no news of any job."""


class Silence(NoAnswer):
    """It was asked, and said nothing in time: it may have done what it was told."""


class NotWithdrawn(JobError):
    """A job that should not be queued any more, and may be: what is known of it has to stay."""


def environment(now: Mapping[str, str]) -> dict[str, str]:
    """The environment for Slurm's commands: without what a job around this process put there."""
    return {key: value for key, value in now.items() if key in _KEPT or not key.startswith(_OURS)}


def is_there() -> bool:
    return shutil.which("sbatch") is not None


def submit(script: Path) -> str:
    """Queue a batch file; its number. Raises JobError, also for a job that would wait for ever."""
    number = queue(script)
    withdraw_if_for_ever(number)
    return number


def queue(script: Path) -> str:
    """The number under which Slurm takes a batch file, whatever it makes of it later. Raises JobError."""
    try:
        done = _run("sbatch", "--parsable", str(script))
    except Silence:
        raise Silence(f"Slurm gave no answer to sbatch for {PATIENCE} s, {_PERHAPS}") from None
    if done.returncode and "timed out" in done.stderr.lower():
        raise Silence(f"Slurm gave no answer to sbatch ({refusal(done.stderr)}), {_PERHAPS}")
    if done.returncode:
        raise JobError(f"Slurm refuses the job: {refusal(done.stderr)}")
    number = done.stdout.strip().partition(";")[0]
    if not re.fullmatch(r"\d+", number):
        raise JobError(f"sbatch gave no job number but {done.stdout.strip()[:200]!r}: ask the site's staff")
    return number


def withdraw_if_for_ever(number: str) -> None:
    """Raises JobError for a job that would wait for ever, once it is out of the queue; else `NotWithdrawn`."""
    if reason := _for_ever(number):
        why = f"Slurm would never start the job: {reason}"
        withdraw(number, why)
        raise JobError(why)


def withdraw(number: str, why: str) -> None:
    """Take a job back, `why` being known; raises `NotWithdrawn` with its number where Slurm does not."""
    try:
        cancel(number)
    except JobError as error:
        raise NotWithdrawn(f"{why}; {error}; end it with scancel {number} before you submit again") from error


def _for_ever(number: str) -> str:
    """Why a job would wait until somebody changes it; Slurm says so once it has looked at it, in a second or two."""
    end = time.monotonic() + LOOK
    while time.monotonic() < end:
        try:
            said, _, reason = _queued(number) or ("", "", "")
        except NoAnswer:  # the job is queued all the same
            return ""
        if said != "PENDING" or reason in _NEVER:
            return _NEVER.get(reason, "")
        time.sleep(0.2)  # its first reason is often another
    return ""


def refusal(said: str) -> str:
    """What one of Slurm's commands says, in one line, with what to do where that is known."""
    lines = [
        re.sub(r"^(sbatch|scancel|squeue|allocation failure|error|fatal|: )*", "", line).strip()
        for line in said.splitlines()
    ]
    text = next((line for line in reversed(lines) if line), "no reason given")
    advice = {  # the first that fits: Slurm names an account and a partition together where the account is at fault
        "unable to contact": "try again when its controller is back, or ask the staff",
        "policy": "you have as many jobs there as you may, or ask for too much: wait, or give fewer minutes or GPUs",
        "invalid account": "say the account in the profile (sacctmgr show associations)",
        "partition": "choose another partition in the profile (sinfo lists them)",
        "node configuration": "no node has what the profile and --gpus ask for (sinfo -o '%P %G %c %m' lists them)",
        "gres": "no node has such GPUs (sinfo -o '%P %G' lists them)",
        "account": "say the account in the profile (sacctmgr show associations)",
        "time limit": "give it fewer minutes",
    }
    known = next((do for word, do in advice.items() if word in text.lower()), "")
    return f"{text}: {known}" if known else text


def state(number: str) -> tuple[str, State | None, str]:
    """Slurm's own word for a job's state, ours, and why it waits or ended; empty and None where Slurm forgot it.

    Raises `NoAnswer`.
    """
    found = _queued(number)
    said, _, reason = found or ("", "", "")
    if not said:
        said = _accounted(number)
    if not said and found is None:
        raise NoAnswer("Slurm gives no answer at the moment")
    if not said:
        return "", None, ""
    return said, *_meaning(said, reason)


def _meaning(said: str, reason: str) -> tuple[State, str]:
    if said in _STATES:
        return _STATES[said], _waiting(reason) if _STATES[said] == "queued" else ""
    return "failed", _WHY.get(said, f"Slurm says {said}")


def _waiting(reason: str) -> str:
    return (_REASONS | _NEVER).get(reason.partition(",")[0], reason)


def tasks(number: str, name: str, count: int) -> dict[int, tuple[str, State, str]] | None:
    """What `state` says of each task of a job array, by its index; those that Slurm forgot are missing. None where
    Slurm gave no answer, which is no news of any task. The name keeps another job of the same number apart."""
    only = (f"--jobs={number}", f"--name={name}")
    done = _run("squeue", "--noheader", "--states=all", "--array", *only, "--format=%K|%T|%r")
    if done.returncode and not _is_forgotten(done):
        return None
    rows = [line.strip().split("|", 2) for line in done.stdout.splitlines()]
    said = {int(row[0]): (row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit()}
    if len(said) < count:
        said = {index: (word, "") for index, word in _accounted_tasks(*only).items()} | said
    return {index: (word, *_meaning(word, reason)) for index, (word, reason) in said.items()}


def _accounted_tasks(*only: str) -> dict[int, str]:
    if shutil.which("sacct") is None:
        return {}
    done = _run("sacct", "--noheader", "--parsable2", "--allocations", "--array", *only, "--format=JobID,State")
    found = re.findall(r"^\d+_(\d+)\|(\w+)", done.stdout, re.MULTILINE) if done.returncode == 0 else []
    return {int(index): word for index, word in found}


def find(name: str) -> str:
    """The number of the array that was queued under this name, which no other job has; empty where there is none."""
    done = _run("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%F")
    if done.returncode:
        raise JobError(f"Slurm does not say which jobs there are: {refusal(done.stderr)}")
    return done.stdout.split()[0] if done.stdout.split() else ""


def most_tasks() -> int:
    """How many tasks a job array may have there."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config").stdout, re.MULTILINE)
    return max(1, int(found[1])) if found else MOST_TASKS


def hint(log: str) -> str:
    """What slurmstepd wrote of a job that it ended itself, where the state says FAILED alone."""
    signs = ("exceeded memory limit", "oom_kill", "oom-kill", "Out Of Memory")
    return _WHY["OUT_OF_MEMORY"] if any(sign in log for sign in signs) else ""


def _queued(number: str) -> tuple[str, str, str] | None:
    """What squeue says of a job: empty where Slurm forgot it, None where it gave no answer."""
    done = _run("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T|%r")
    if done.returncode:
        return ("", "", "") if _is_forgotten(done) else None
    lines = done.stdout.splitlines()
    return lines[0].strip().partition("|") if lines else ("", "", "")


def _is_forgotten(done: subprocess.CompletedProcess[str]) -> bool:
    return "invalid job id" in done.stderr.lower()


def _accounted(number: str) -> str:
    """The state that sacct kept, where the site has it."""
    if shutil.which("sacct") is None:
        return ""
    done = _run("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={number}", "--format=State")
    lines = done.stdout.split("\n")
    return lines[0].partition(" ")[0] if done.returncode == 0 else ""  # "CANCELLED by 1000"


def cancel(number: str) -> None:
    """End a job. Raises JobError; one that has ended already is left as it is."""
    try:
        done = _run("scancel", number)
    except NoAnswer as error:
        raise NoAnswer(f"job {number} may still run: {error}") from None
    if done.returncode and not _is_forgotten(done):
        raise JobError(f"job {number} may still run, for it cannot be cancelled: {refusal(done.stderr)}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, env=environment(os.environ), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise NoAnswer(f"there is no {command[0]} here: use backend='script', and submit the file elsewhere") from None
    except subprocess.TimeoutExpired:
        raise Silence(f"Slurm gave no answer to {command[0]} for {PATIENCE} s: try again, or ask the staff") from None
