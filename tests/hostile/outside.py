"""What lies around a submission and is none of its business, each with a mark by which a theft is known.

A canary is a text that stands in one place only. A proof is what a submission prints when it reached something. Both
are drawn anew for each run.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CANARIES = ("gradebook", "in_solution", "in_hidden_tests", "classmate", "checks", "environment")
VARIABLE = "INSTRUCTORS_TOKEN"
# where anybody may leave files
COMMON = ("/tmp", "/var/tmp", "/dev/shm", str(Path.home()), str(Path.home() / ".ipython/profile_default/startup"))


@dataclass
class Outside:
    """The surroundings of one run. Use as a context manager."""

    root: Path  # a folder for all of it
    course: Path
    canaries: Mapping[str, str] = field(default_factory=lambda: canaries())
    mark: str = field(default_factory=lambda: f"hostile{secrets.token_hex(6)}")  # stands in whatever it leaves behind
    proof: str = field(default_factory=lambda: f"proof{secrets.token_hex(12)}")

    def __post_init__(self) -> None:
        self.places, self.scratch = self.root / "places", self.root / "scratch"
        for folder in (self.places, self.scratch):
            folder.mkdir(parents=True)
        self.heard: list[bytes] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "Outside":
        self.tcp = self._listen(socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("127.0.0.1", 0))[1]
        self.udp = self._listen(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", 0))[1]
        # the address of a unix socket has at most 107 bytes, which a test's own folder may exceed
        self._short = tempfile.TemporaryDirectory(prefix="h")
        self.unix = self._listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), f"{self._short.name}/s")
        self._listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), f"\0{self.mark}")
        # a process of the instructor's, for whoever reads or kills those of others
        command = [sys.executable, "-c", "import time; time.sleep(3600)"]
        self.bystander = subprocess.Popen(command, env={**os.environ, VARIABLE: self.canaries["environment"]})
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()
        self._short.cleanup()
        self.bystander.kill()
        self.bystander.wait()

    def _listen(self, one: socket.socket, address: object) -> tuple[str, int]:
        one.bind(address)  # type: ignore[arg-type]
        if one.type == socket.SOCK_STREAM:
            one.listen(50)
        self._sockets.append(one)
        threading.Thread(target=self._hear, args=(one,), daemon=True).start()
        found: tuple[str, int] = one.getsockname()
        return found

    def _hear(self, one: socket.socket) -> None:
        """Keep whatever arrives, until the socket is closed."""
        while True:
            try:
                if one.type == socket.SOCK_DGRAM:
                    self.heard.append(one.recv(10_000))
                    continue
                connection, _ = one.accept()
                with connection:
                    connection.settimeout(5)
                    # whoever comes this far has reached us, also without a word
                    self.heard.append(b"connected " + connection.recv(10_000))
            except TimeoutError:
                continue
            except OSError:
                return

    def place(self, student: str) -> Path:
        """A folder in which everybody may write and nobody should."""
        folder = self.places / student.encode("unicode_escape").decode().replace("/", "_")
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        return folder

    def words(self, student: str) -> dict[str, str]:
        """What the texts of a submission may name. The proof is written backwards: a traceback shows a cell's code."""
        return {
            "student": student,
            "course": str(self.course),
            "place": str(self.place(student)),
            "mark": self.mark,
            "proof": f'"{self.proof[::-1]}"[::-1]',
            "tcp": str(self.tcp),
            "udp": str(self.udp),
            "unix": self.unix,  # type: ignore[dict-item]
            "bystander": str(self.bystander.pid),
        }

    @property
    def secrets(self) -> dict[str, str]:
        """Every text that nothing of a submission may ever show, and where it stands."""
        own = self.course / ".grading-secret"
        secret = {"the grader's secret": own.read_text()} if own.is_file() else {}
        return {
            "a proof": self.proof,
            **{f"the canary in {name}": text for name, text in self.canaries.items()},
            **secret,
        }

    def left_behind(self, student: str) -> list[str]:
        """Files that the submission made outside its own place."""
        found = [str(path.relative_to(self.root)) for path in sorted(self.place(student).rglob("*"))]
        return found + [
            str(path) for folder in COMMON for path in Path(folder).glob(f"*{self.mark}*") if student in path.name
        ]

    def clear(self) -> None:
        """Take away what submissions left in folders that are not ours alone."""
        for folder in COMMON:
            for path in Path(folder).glob(f"*{self.mark}*"):
                path.unlink()


def canaries() -> dict[str, str]:
    return {name: f"canary{secrets.token_hex(12)}" for name in CANARIES}
