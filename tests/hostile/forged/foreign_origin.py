"""A true recording whose description holds texts for numbers, lists for texts, and numbers without end.

Tries: the description is read with more trust than the arrays.
Must happen: refused with a sentence.
"""

import json
import struct

from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    path = work.outside.scratch / "honest.safetensors"
    content = work.run.save(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["labkit"])
    about["origin"].update(seed="seven", wall_time=1e999, layers={"a": 1}, shapes=[["x"]], versions=[1], device=None)
    about["origin"]["experiment"]["widths"] = [784, 10**30, 10]
    about["origin"]["experiment"]["epochs"] = 10**18
    header["__metadata__"]["labkit"] = json.dumps(about)
    text = json.dumps(header).encode()
    work.files["run.safetensors"] = struct.pack("<Q", len(text)) + text + content[8 + length :]
    work.answer(run="")
