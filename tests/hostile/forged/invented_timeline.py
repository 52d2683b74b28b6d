"""A timeline that holds what no timeline can: negative sizes, steps without end, names in markup.

Tries: a small file of JSON, read with less care than a recording.
Must happen: refused with a sentence; the timeline of the run in the grader does not have the steps either.
"""

import json

from hostile.work import Work, without

from labkit.timeline import FORMAT, VERSION

DESERVES = without("timeline")


def turn(work: Work) -> None:
    change = ["history", "", "-1", -5, 2**70]
    step = {"cell": 1e308, "source": "iteration 1\\x1b[2J", "appeared": [change] * 10, "changed": {}, "gone": None}
    content = {"format": FORMAT, "version": VERSION, "dropped": 0, "steps": [step] * 1000}
    work.files["workspace.json"] = json.dumps(content).encode()
    work.answer(timeline="history = []")
