"""Sends its work over TCP and UDP, to this machine and to the outside, and asks for names.

Tries: answers from elsewhere, and the way out for whatever else was found.
Must happen: there is no network.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import socket

for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", $tcp)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", $udp)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", $tcp)),
    (socket.AF_INET, socket.SOCK_STREAM, ("localhost", $tcp)),
):
    try:
        with socket.socket(family, kind) as out:
            out.settimeout(1)
            out.connect(address)
            out.send(b"$student")
            print($proof)
    except OSError as error:
        print(type(error).__name__)
for kind, number in ((socket.SOCK_STREAM, 80), (socket.SOCK_DGRAM, 53)):
    try:
        # of the network for documentation (RFC 5737): nobody is there, so only the attempt counts
        with socket.socket(socket.AF_INET, kind) as out:
            out.settimeout(0.3)
            out.connect(("192.0.2.1", number))
            if kind == socket.SOCK_DGRAM:
                print($proof)
    except OSError as error:
        print(type(error).__name__)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
