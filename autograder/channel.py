"""Messages between the grader and a student's process: JSON over a socket, each with its length before it.

Nothing that arrives is trusted: a length above the limit, an end in mid-message or bytes that are no JSON close the
channel with a sentence. No pickle is ever read.
"""

import os
import select
import socket
import struct
import time
from typing import Any

from autograder.answers import AnswerError, from_bytes, to_bytes

LENGTH = struct.Struct("<I")
LARGEST = 100 * 2**20  # bytes of one message
MOST_PARTS = 8_000_000  # lists, objects and what is in them, each of which may take a hundred bytes of memory
PIECE = 1 << 20  # bytes that are read at once


class ChannelError(Exception):
    """The other side is gone, too slow, or talks nonsense."""


class Gone(ChannelError):
    """The other side ended."""


class TooLate(ChannelError):
    """The other side did not answer in time."""


class Channel:
    """One end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._life: int | None = None

    def watch(self, process: int) -> None:
        """Notice the other side's end, by a descriptor of its process, also where a child keeps the socket open."""
        self._life = process

    def send(self, message: Any, deadline: float | None = None) -> None:
        """Send one message, until `deadline` on time.monotonic's clock at the latest."""
        content = to_bytes(message)
        if len(content) > LARGEST:
            raise ChannelError(f"a message of {len(content) / 1e6:,.0f} MB is too large")
        try:
            self._limit(deadline)
            self.end.sendall(LENGTH.pack(len(content)) + content)
        except TimeoutError as error:
            raise TooLate("the process does not listen") from error
        except OSError as error:
            raise Gone("the process ended") from error

    def receive(self, deadline: float | None = None) -> Any:
        """The next message; `Gone`, `TooLate` or `ChannelError` when there is none."""
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size, deadline))
        if length > LARGEST:
            raise ChannelError(f"the process announced a message of {length / 1e6:,.0f} MB")
        content = self._exactly(length, deadline)
        if sum(map(content.count, (b"[", b"{", b","))) > MOST_PARTS:
            raise ChannelError("the process sent a message of too many parts")
        try:
            return from_bytes(content)
        except AnswerError as error:
            raise ChannelError(f"the process sent a message that {error}") from error

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                self._limit(deadline)
                self._wait(deadline)
                piece = self.end.recv(min(PIECE, count - len(parts)))
            except TimeoutError as error:
                raise TooLate("the process did not answer in time") from error
            except OSError as error:
                raise Gone("the process ended") from error
            if not piece:
                raise Gone("the process ended")
            parts += piece
        return bytes(parts)

    def _limit(self, deadline: float | None) -> None:
        """What is left until the deadline, for the next call: drops of one byte each cannot stretch it."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self.end.settimeout(left)

    def _wait(self, deadline: float | None) -> None:
        """Until there is something to read; an end of the process counts only once all it said was read."""
        if self._life is None:
            return
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        socket_, life = self.end.fileno(), self._life
        ready, _, _ = select.select([socket_, life], [], [], left)
        if not ready:
            raise TimeoutError
        if socket_ not in ready and not select.select([socket_], [], [], 0)[0]:
            raise Gone("the process ended")

    def close(self) -> None:
        self.end.close()
        if self._life is not None:
            os.close(self._life)
            self._life = None
