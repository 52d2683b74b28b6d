"""Null bytes in the notebook, escaped and bare, and half of a surrogate pair.

Tries: text that no file and no database can hold.
Must happen: refused with the reason.
"""

import json

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.blank()
    work.content = json.dumps(work.notebook).encode().replace(b"Why do", b"Why \0 do")
