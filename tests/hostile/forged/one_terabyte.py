"""A header that announces arrays of 1 TB, in a file of a few hundred bytes.

Tries: whoever makes room for what is announced.
Must happen: refused as damaged.
"""

import json
import struct

from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    size = 10**12
    header = {
        "loss": {"dtype": "F64", "shape": [size // 8], "data_offsets": [0, size]},
        "__metadata__": {"labkit": "{}"},
    }
    text = json.dumps(header).encode()
    work.files["run.safetensors"] = struct.pack("<Q", len(text)) + text + bytes(100)
    work.files["long.safetensors"] = struct.pack("<Q", 2**62) + text
    work.answer(run="")
