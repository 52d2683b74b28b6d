"""A single iteration of all is changed, by a tenth.

Tries: one figure that looks odd is made to look right.
Must happen: found; or it is so little that nobody has an advantage.
"""

from dataclasses import replace

from hostile.forging import AMPLITUDES
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    gradient = work.run.gradient.copy()
    gradient[29, :, AMPLITUDES] *= 1.1
    work.hand_in_run(replace(work.run, gradient=gradient))
