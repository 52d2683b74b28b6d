"""The waterfalls during training, in one place of the notebook."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from labkit.plots.distributions import Source, gradient_distributions
from labkit.plots.figure import DPI, LabFigure, PlotError, shows_images
from labkit.progress import kernel_looks
from labkit.recording import Recording

SHARE = 0.5  # of the time so far, at most, goes into drawings before the last one
LIVE_DPI = 72  # of the drawings before the last one: enough for the width in which a notebook shows them


class LiveDistributions:
    """Pass it as `watch=` to `train` or `train_many`: the distributions grow while the network learns.

    It redraws at an epoch's end, `seconds` apart or more, the first epochs left out, and at the last epoch. A drawing
    takes as long as dozens of epochs of a small network, and training waits for it: before the last drawing they take
    half of the time at most. After an interrupt `draw()` shows the last epoch that it was given. Where nobody looks, as
    in the grader, only the last epoch is drawn, and outside a notebook nothing.
    """

    def __init__(self, source: Source = "batch", seconds: float = 0.5) -> None:
        if not seconds >= 0:
            raise PlotError(f"seconds is {seconds}: give the time between two drawings, 0 for as often as it can")
        self.source, self.seconds = source, seconds
        self._recordings: list[Recording] = []
        self._handle: Any = None
        self._begun = self._next = self._spent = 0.0

    def due(self) -> bool:
        """Is it time for a drawing?"""
        return kernel_looks() and time.perf_counter() >= self._next

    def __call__(self, recordings: Sequence[Recording]) -> None:
        if not shows_images():
            return
        another = [r.origin.experiment for r in recordings] != [r.origin.experiment for r in self._recordings]
        if another:
            self._begin()
        self._recordings = list(recordings)
        if any(map(_ends, recordings)):
            self.draw()
        elif not another and self.due():
            self._draw_before_the_end()

    def draw(self) -> None:
        """Show the distributions as they were at the end of the last epoch that it was given."""
        if self._recordings and shows_images():
            self._show(DPI)

    def _begin(self) -> None:
        """Another run has a figure of its own, below the one before; its first epochs have little to show."""
        self._handle, self._spent, self._begun = None, 0.0, time.perf_counter()
        self._next = self._begun + self.seconds

    def _draw_before_the_end(self) -> None:
        started = time.perf_counter()
        self._show(LIVE_DPI)
        now = time.perf_counter()
        self._spent += now - started
        # with one more like this, the drawings have had their share by then
        self._next = max(now + self.seconds, self._begun + (self._spent + now - started) / SHARE - (now - started))

    def _show(self, dpi: int) -> None:
        from IPython.display import display

        show: Any = display
        figure = self.figure()
        bundle, metadata = figure.bundle(dpi), figure.metadata()
        if self._handle is None:
            self._handle = show(bundle, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(bundle, metadata=metadata, raw=True)

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
