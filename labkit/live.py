"""The waterfalls during training, in one place of the notebook."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from labkit.plots.distributions import Source, gradient_distributions
from labkit.plots.figure import LabFigure, PlotError, shows_images
from labkit.recording import Recording


class LiveDistributions:
    """Pass it as `watch=` to `train` or `train_many`: the distributions grow while the network learns.

    It redraws at an epoch's end, at most once in `seconds`, and always at the last epoch. After an interrupt
    `draw()` shows the last epoch that ended. Outside a notebook it does nothing.
    """

    def __init__(self, source: Source = "batch", seconds: float = 1.0) -> None:
        if not seconds >= 0:
            raise PlotError(f"seconds is {seconds}: give the time between two drawings, 0 for every epoch")
        self.source, self.seconds = source, seconds
        self._recordings: list[Recording] = []
        self._handle: Any = None
        self._next = 0.0

    def __call__(self, recordings: Sequence[Recording]) -> None:
        if not shows_images():
            return
        if [r.origin.experiment for r in recordings] != [r.origin.experiment for r in self._recordings]:
            self._handle, self._next = None, 0.0  # another run: a figure of its own below the one before
        self._recordings = list(recordings)
        if time.perf_counter() >= self._next or any(map(_ends, recordings)):
            self.draw()

    def draw(self) -> None:
        """Show the distributions as they were at the end of the last epoch."""
        if not self._recordings or not shows_images():
            return
        from IPython.display import display

        show: Any = display
        figure = self.figure()
        if self._handle is None:
            self._handle = show(figure.bundle(), metadata=figure.metadata(), raw=True, display_id=True)
        else:
            self._handle.update(figure.bundle(), metadata=figure.metadata(), raw=True)
        self._next = time.perf_counter() + self.seconds

    def figure(self) -> LabFigure:
        """The networks side by side."""
        figure = LabFigure(8 * len(self._recordings), 6.6)
        parts = figure.subfigures(1, len(self._recordings), squeeze=False)[0]
        for part, recording in zip(parts, self._recordings, strict=True):
            gradient_distributions(recording, self.source, figure=part)
        return figure


def _ends(recording: Recording) -> bool:
    """Is this the run's last epoch, or has it diverged, so that there will be no other?"""
    experiment = recording.origin.experiment
    last = experiment is not None and recording.epochs >= experiment.epochs
    return last or not np.isfinite(recording.loss[-1])
