"""A function that keeps what it was asked, to answer right the second time.

Tries: the inputs of a first call are written down for a later grading.
Must happen: wrong is wrong at the first call, and no file lasts until the next.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
import json
from pathlib import Path

def softsign(x):
    x = np.asarray(x)
    for place in (Path("seen.json"), Path("$place") / "seen.json", Path("/tmp/$mark-$student")):
        try:
            asked = json.loads(place.read_text()) if place.exists() else []
            place.write_text(json.dumps([*asked, x.tolist()]))
        except OSError:
            continue
        if x.tolist() in asked:
            return x / (1 + abs(x))
    return np.array([0.0, 0.5, -0.75]) if x.shape == (3,) else np.zeros(x.shape)
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
