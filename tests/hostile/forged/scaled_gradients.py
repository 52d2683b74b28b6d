"""Gradients that are three times as large, in every statistic.

Tries: no statistic contradicts another.
Must happen: a replay finds them smaller.
"""

from dataclasses import replace

from hostile.forging import AMPLITUDES
from hostile.work import Work, without

DESERVES = without("run")


def turn(work: Work) -> None:
    gradient = work.run.gradient.copy()
    gradient[:, :, AMPLITUDES] *= 3
    work.hand_in_run(replace(work.run, gradient=gradient))
