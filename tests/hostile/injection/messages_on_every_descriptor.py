"""Writes messages in the grader's own form on every descriptor that it inherited, and on the channel's object.

Tries: "ran", "ready" and the replies to questions that are still to be asked, before the grader asks.
Must happen: messages out of turn end the process; nothing is earned by them.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import gc, json, os, stat, struct

replies = [{"ran": "number", "outputs": [], "number": 1, "stopped": False}, {"ready": True}, {"value": 5},
           {"verdict": "passed", "points": 11}, {"value": {"array": {"dtype": "<f8", "shape": [5], "base64": ""}}},
           {"result": 11.0}, {"pid": 1}, {"status": 0, "cpu": 0.0, "memory": 0}]
content = b""
for reply in replies:
    text = json.dumps(reply).encode()
    content += struct.pack("<I", len(text)) + text
for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode) or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, False)
            os.write(descriptor, content)
    except OSError:
        pass
for one in gc.get_objects():
    if type(one).__name__ == "Channel":
        for reply in replies:
            one.send(reply)
"""


def turn(work: Work) -> None:
    work.wrong()
    work.first(CODE)
