"""A Slurm of our own for as long as the tests run: munged, slurmctld and two slurmd on loopback, with pretend GPUs.

It needs Debian's packages slurm-wlm and munge, and neither root nor systemd; nothing is written outside its folder, and
nothing of it is left when it is stopped.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 60  # seconds until both nodes are idle; one or two are usual


def missing() -> list[str]:
    """The programs that are not installed; Debian keeps the daemons where a plain user's PATH does not look."""
    return [name for name in PROGRAMS if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Cluster:
    """Nodes `n1`, `n2`, ... of four cores, 8 GB and two pretend T4 each, in the partition `teaching`."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder = folder
        self.names = tuple(f"n{k + 1}" for k in range(nodes))
        self.conf = folder / "slurm.conf"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        for name in ("state", "spool", "log", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._write()
        run, key = self.folder / "run", self.folder / "munge.key"
        self._spawn("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={run}/munge",
                    f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged",
                    f"--seed-file={self.folder}/munge.seed")  # fmt: skip
        _until(lambda: (run / "munge").exists(), "munged has no socket")
        self._spawn("slurmctld", "-D", "-f", str(self.conf))
        for node in self.names:
            self.start_node(node)
        _until(lambda: self.nodes() == dict.fromkeys(self.names, "idle"), "the nodes are not idle", self.logs)

    def start_node(self, node: str) -> None:
        self._spawn(node, "-D", "-f", str(self.conf), "-N", node, program="slurmd")

    def kill_node(self, node: str, with_jobs: bool = True) -> None:
        """As a power cut does it: the node's daemon and everything that its jobs run are gone at once. Without its jobs
        as a cut cable does it: they go on, and Slurm does not know."""
        daemon = self._running.pop(node)
        jobs = [*_below(daemon.pid), *self._jobs_of(node)] if with_jobs else []
        for pid in [daemon.pid, *jobs]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()

    def _jobs_of(self, node: str) -> list[int]:
        """The processes of a node's jobs; those that watch them come first, and are children of nobody's."""
        signs = {f"SLURM_CONF={self.conf}".encode(), f"SLURMD_NODENAME={node}".encode()}
        found, watching = [], set()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                if signs <= set((path / "environ").read_bytes().split(b"\0")):
                    found.append(int(path.name))
                    parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                    if "slurmstepd" in Path(f"/proc/{parent}/cmdline").read_text():
                        watching.add(int(parent))
        return [*watching, *found]

    def fail_node(self, node: str) -> None:
        """What an administrator says of a node that died: its jobs are queued again."""
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def limit_to_this_minute(self, job: str) -> None:
        """Give a running job the shortest limit that it has not reached yet, with seconds left to hear of it."""
        while int((used := self.ask("squeue", "-h", "-j", job, "-o", "%M").strip().split(":"))[-1]) >= 40:
            time.sleep(1)
        self.ask("scontrol", "update", f"jobid={job}", f"TimeLimit={int(used[-2]) + 1}")

    def nodes(self) -> dict[str, str]:
        said = self.ask("sinfo", "-h", "-N", "-o", "%N %T", check=False)
        return dict(line.split() for line in said.splitlines() if len(line.split()) == 2)

    def ask(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm says; `sinfo` waits for ever where no controller answers."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=20, check=False
            )
            assert not check or done.returncode == 0, f"{command}: {done.stderr}"
            return done.stdout
        assert not check, f"{command}: no answer"
        return ""

    def stop(self) -> None:
        """Jobs outlive their slurmd, so they are cancelled first."""
        with contextlib.suppress(Exception):
            self.ask("scancel", f"--user={getpass.getuser()}", check=False)
            _until(lambda: not self.ask("squeue", "-h", check=False).strip(), "jobs are left")
        for name in reversed(list(self._running)):
            daemon = self._running.pop(name)
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text(errors='replace')[-2000:]}" for p in (self.folder / "log").iterdir())

    def _spawn(self, name: str, *arguments: str, program: str | None = None) -> None:
        found = _program(program or name)
        assert found is not None
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._running[name] = subprocess.Popen([found, *arguments], stdout=log, stderr=log)

    def _write(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        gpus = [_device(self.folder, number) for number in range(2 * len(self.names))]
        (self.folder / "gres.conf").write_text(
            "".join(
                f"NodeName={self.names[k // 2]} Name=gpu Type=t4 File={gpu} Flags=nvidia_gpu_env\n"
                for k, gpu in enumerate(gpus)
            )
        )
        self.conf.write_text(_configuration(self.folder, self.names))


def _configuration(folder: Path, names: Sequence[str]) -> str:
    host, me = socket.gethostname(), getpass.getuser()
    controller, *nodes = _free_ports(1 + len(names))
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        f"SlurmUser={me}",
        f"SlurmdUser={me}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={folder}/run/munge,cred_expire=15",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld",
        f"SlurmdLogFile={folder}/log/%n",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=2",
        "JobAcctGatherParams=OverMemoryKill",
        "SlurmdParameters=config_overrides",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0",
        "GresTypes=gpu",
        "MpiDefault=none",
        "ReturnToService=2",
        "SlurmdTimeout=10",
        "MessageTimeout=10",
        "KillWait=2",
        "MaxArraySize=20001",
        "MinJobAge=3600",  # tests may ask late how a job ended
        *(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000 Gres=gpu:t4:2"
            for node, port in zip(names, nodes, strict=True)
        ),
        f"PartitionName=teaching Nodes={','.join(names)} Default=YES DefMemPerCPU=1500 MaxTime=60",
    ]
    return "\n".join(lines) + "\n"


def _device(folder: Path, number: int) -> Path:
    """A device file that stands for a GPU: a null device for root, a link to it for everybody else."""
    path = folder / f"gpu{number}"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        path.symlink_to("/dev/null")
    return path


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _below(pid: int) -> Iterator[int]:
    """Every process that descends from this one, as Linux lists them now."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _below(child)


def _until(holds, otherwise: str, more=lambda: "") -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{otherwise} after {PATIENCE} s\n{more()}"
        time.sleep(0.1)
