"""The live view of a training, in one place of the notebook, and the figure that stays there."""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from labkit.interrupts import Interrupted, file_of, kept_sentence, undisturbed
from labkit.plots.distributions import Source, gradient_distributions, waterfall_size
from labkit.plots.figure import DPI, LabFigure, PlotError
from labkit.progress import kernel_looks, somebody_could_press
from labkit.recording import Recording

if TYPE_CHECKING:
    from labkit.panels.training import Training
    from labkit.recorder import Recorder

SHARE = 0.05  # of the time so far, at most, goes into looking, which brings forward statistics that are due anyway
BESIDE = 4  # layers of networks whose tiles have room side by side
GONE = "no epoch ended: there is nothing to draw"
UNENDED = "A training was shown here. It had not ended when this was saved, or its kernel was gone."


class LiveTraining:
    """Pass it as `watch=` to `train`, `train_many` or a `Recorder`: see the networks learn while they do.

    In a notebook it shows progress and time left, the loss, the gain of each layer beside what theory says, and the
    gradients' distributions as they grow epoch by epoch, with a button that stops the training and keeps what was
    recorded. It looks at an epoch's end, `seconds` apart or more, and looking takes 5 % of the time so far at most.
    When the run is over, however it ended, the distributions' figure takes its place, which a saved notebook keeps.
    Where a notebook runs without a front end only that figure is drawn, and outside a notebook nothing.
    """

    latest_only = True

    def __init__(self, source: Source = "batch", seconds: float = 0.3) -> None:
        if not seconds >= 0:
            raise PlotError(f"seconds is {seconds}: give the time between two looks, 0 for as often as it can")
        if source not in ("batch", "probe"):
            raise PlotError(f"source is {source!r}: choose from batch, probe")
        self.source, self.seconds = source, seconds
        self.problem = ""  # why nothing more is shown, if so
        self.over = False  # has the run that it saw last come to its end?
        self._recordings: list[Recording] = []
        self._panel: Training | None = None
        self._handle: Any = None
        self._loop: _Loop | None = None
        self._begun = self._next = self._spent = self._asked = 0.0
        if self.live:
            _load()  # it takes longer than all looks at a small network: not in the middle of a training

    @property
    def live(self) -> bool:
        """Is there a front end that shows it, so that no other bar is needed?"""
        return somebody_could_press() and not self.problem

    def due(self) -> bool:
        """Is it time for a look?"""
        self._asked = time.perf_counter()
        return self.live and self._asked >= self._next

    def __call__(self, recordings: Sequence[Recording]) -> None:
        if not self.live:
            return
        with undisturbed():
            try:
                self._look(list(recordings))
            except Exception as error:
                self._give_up(error)

    def end(self, recordings: Sequence[Recording]) -> None:
        """The run is over: put the figure where the view was."""
        if not kernel_looks():
            return
        with undisturbed(drop=True):
            try:
                if self._panel is not None and self._same(recordings) and not self.problem:
                    self._panel.more(recordings, over=recordings[0].origin.stopped or "done")
                elif not self._same(recordings):
                    self._begin(recordings)
                self._recordings, self.over = list(recordings), True
                self.draw()
            except Exception as error:
                self._give_up(error)
            finally:
                self._close()

    def draw(self) -> None:
        """Show the distributions as they were at the end of the last epoch that it was given."""
        if not self._recordings or not kernel_looks():
            return
        if min(r.epochs for r in self._recordings) == 0:
            self._show({"text/plain": f"{self._recordings[0].name}: {GONE}"}, {})
        else:
            figure = self.figure()
            self._show(figure.bundle(DPI), figure.metadata())

    def figure(self) -> LabFigure:
        """The networks side by side; deep ones, whose tiles take all of the width, one below another."""
        found = self._recordings
        if max(len(r.layers) for r in found) <= BESIDE:
            figure = LabFigure(8 * len(found), 6.6)
            parts = figure.subfigures(1, len(found), squeeze=False)[0]
        else:
            sizes = [waterfall_size(r) for r in found]
            heights = [height for _, height in sizes]
            figure = LabFigure(max(width for width, _ in sizes), sum(heights))
            parts = figure.subfigures(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, recording in zip(parts, found, strict=True):
            gradient_distributions(recording, self.source, figure=part)
        return figure

    def attend(self, recorder: "Recorder") -> None:
        """A loop of one's own runs in this cell: when the cell is over, so is the view."""
        if self._loop is None and kernel_looks():
            self._loop, self.over = _Loop(self, recorder), False

    def _look(self, recordings: list[Recording]) -> None:
        started = self._asked or time.perf_counter()
        if not self._same(recordings):
            self._begin(recordings)
        self._recordings = recordings
        opens = self._panel is None
        if opens:
            self._open(recordings)
        assert self._panel is not None
        self._panel.more(recordings)
        now = time.perf_counter()
        took, self._asked = now - started, 0.0
        # opening it happens once; with one more look like this, looking has had its share by then
        self._spent += 0 if opens else took
        self._next = max(now + self.seconds, self._begun + (self._spent + (0 if opens else took)) / SHARE)

    def _same(self, recordings: Sequence[Recording]) -> bool:
        """Is it the run of the last look, further on?"""
        before = self._recordings
        return not self.over and (
            [r.origin.experiment for r in recordings] == [r.origin.experiment for r in before]
            and all(a.layers == b.layers for a, b in zip(recordings, before, strict=True))
            and all(a.iterations >= b.iterations for a, b in zip(recordings, before, strict=True))
        )

    def _begin(self, recordings: Sequence[Recording]) -> None:
        """Another run has a place of its own, below the one before."""
        self._close()
        self._handle, self._spent, self.problem, self.over = None, 0.0, "", False
        self._begun = time.perf_counter() - recordings[0].origin.wall_time

    def _open(self, recordings: Sequence[Recording]) -> None:
        from labkit.panels.training import Training

        self._panel = Training(recordings, self.source)
        self._show(self._panel.bundle(UNENDED), {})

    def _close(self) -> None:
        if self._panel is not None:
            with suppress(Exception):
                self._panel.close()
        self._panel = None

    def _give_up(self, error: Exception) -> None:
        """Watching must not end a training: say what happened, and show no more."""
        self.problem = f"the live view stopped ({type(error).__name__}: {error}); the training did not"
        with suppress(Exception):
            self._show({"text/plain": self.problem}, {})
        self._close()

    def _show(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        from IPython.display import display

        show: Any = display
        if self._handle is None:
            self._handle = show(data, metadata=metadata, raw=True, display_id=True)
        else:
            self._handle.update(data, metadata=metadata, raw=True)


LiveDistributions = LiveTraining


def _load() -> None:
    import labkit.deltas
    import labkit.panels.training
    from labkit import theory

    labkit.deltas.warm_up()
    for activation in ("sigmoid", "tanh"):  # whose table of the mean field is kept
        theory.fixed_point(activation, 1.0)


class _Loop:
    """One cell in which a loop of one's own is recorded: its end, and its interrupt.

    An interrupt of such a loop comes anywhere in the student's code, where nobody waits for it. So while the cell runs
    an interrupt raises `Interrupted`, which is a KeyboardInterrupt, after what was recorded is in a file.
    """

    def __init__(self, view: LiveTraining, recorder: "Recorder") -> None:
        self.view, self.recorder, self.stopped = view, recorder, ""
        self.events: Any = sys.modules["IPython"].get_ipython().events
        self.events.register("post_run_cell", self.cell_over)
        self.before: Any = None
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # another thread
                self.before = signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        with undisturbed(drop=True):
            e = self.recorder.experiment
            self.stopped = f"interrupted after {self.recorder.done}{f' of {e.iterations}' if e else ''} iterations"
            recording = self.recorder.recording(self.stopped)
            told = kept_sentence(self.stopped, [str(recording.save(file_of(recording)))])
        raise Interrupted(told)

    def cell_over(self, _result: Any = None) -> None:
        self.events.unregister("post_run_cell", self.cell_over)
        if self.before is not None and signal.getsignal(signal.SIGINT) == self.interrupt:
            signal.signal(signal.SIGINT, self.before)
        self.view._loop = None
        if not self.view.over and self.recorder.tape.epoch_end:
            self.view.end([self.recorder.recording(self.stopped)])
