"""Connects to sockets in the file system and in the abstract name space.

Tries: a wall against the network that forgets unix sockets; by these a descriptor could be handed over, too.
Must happen: none of the instructor's sockets can be reached.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import socket

for address in ("$unix", "\\0$mark", "/run/docker.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"):
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as out:
            out.settimeout(1)
            out.connect(address)
            out.send(b"$student")
            print($proof)
    except OSError as error:
        print(type(error).__name__)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
