"""A notebook with lists within lists, a hundred thousand deep, in its metadata.

Tries: a reader that calls itself for each list runs out of stack.
Must happen: refused with the reason.
"""

import json

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    work.notebook["metadata"]["deep"] = "HERE"
    deep = b"[" * 100_000 + b"]" * 100_000
    work.content = json.dumps(work.notebook).encode().replace(b'"HERE"', deep)
