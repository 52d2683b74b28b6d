"""Another student's run under this student's name and seed.

Tries: the description in the file can be written anew, and the digests, too.
Must happen: it does not start from the weights that the seed gives.
"""

from hostile.forging import relabelled
from hostile.lab import own
from hostile.work import Work, trained, without

DESERVES = without("run")


def turn(work: Work) -> None:
    work.hand_in_run(relabelled(trained("zoe"), own(work.student)))
