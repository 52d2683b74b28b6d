"""A header with overlapping, negative and overflowing ranges behind a description that can be read.

Tries: a parser in C, fed what it does not expect.
Must happen: refused as damaged; no crash.
"""

import json
import struct

from hostile.work import Work, without

DESERVES = without("run", "timeline")


def turn(work: Work) -> None:
    header = {
        "__metadata__": {"labkit": "{}"},
        "loss": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
        "gradient": {"dtype": "F64", "shape": [1], "data_offsets": [4, 12]},
        "update_norm": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [8, 2**64 - 1]},
        "weight_norm": {"dtype": "OBJECT", "shape": [-1], "data_offsets": [8, 0]},
    }
    text = json.dumps(header).encode()
    work.files["run.safetensors"] = struct.pack("<Q", len(text)) + text + bytes(64)
    work.files["workspace.json"] = b"[" * 200_000
    work.answer(run="", timeline="history = []")
