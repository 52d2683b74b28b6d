"""An honest loop whose every step is one and a half times as long as it says.

Tries: all statistics are true, and so are the data; only the learning rate is another.
Must happen: the steps are not those of the experiment; no marks for the run.
"""

from hostile.forging import recorded
from hostile.lab import own
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    before = {}

    def move(done: int, flat) -> None:
        if done > 1:
            flat.add_(0.5 * (flat - before["weights"]))
        before["weights"] = flat.clone()

    work.hand_in_run(recorded(own(work.student), move))
