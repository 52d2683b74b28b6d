"""A notebook of 200 MB.

Tries: whoever reads it needs many times that much memory.
Must happen: refused with the reason.
"""

import json

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    head, tail = json.dumps(work.notebook).encode().split(b"Why do", 1)
    work.content = head + b"w" * 200_000_000 + tail
