"""explore(): the gradients that a network starts with, as its depth, width, activation and weights are changed.

`Explorer` is the state: which experiment, what was measured of it over seeds, what theory says, and the code that makes
it. It is no widget: `labkit.panels.explorer` shows it in a notebook, and its text is the table of the layers.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit import theory
from labkit.diagnosis import EXPLODED, NARROW, VANISHED
from labkit.ensembles import Band, band
from labkit.experiments import Experiment, ExperimentError, experiment
from labkit.theory.layers import applies

if TYPE_CHECKING:
    from labkit.plots import LabFigure
    from labkit.recording import Recording
    from labkit.starts import Start
    from labkit.training import Watch

Floats = NDArray[np.float64]

SEEDS = 20  # fewer have no 2.5th percentile of their own
STEPS = 300  # of a training, about
CHUNK = 2**25  # multiplications that a look begins with: a few milliseconds
NAME = "explored"
CLIPS = ("none", "clip_norm", "clip_each", "clip_value")
_CIRCLES = "layers/one_relu"  # whose data, mini-batches and constants are taken where the data become circles


@dataclass(frozen=True)
class Settings:
    """What the controls say. Everything else is the experiment's that the exploration began with."""

    data: str
    depth: int  # hidden layers
    width: int  # units of each
    activation: str
    initialisation: str
    gain: float
    normalisation: str
    residual: bool
    clip: str  # one of CLIPS
    clip_size: float
    batch_size: int
    epochs: int

    @classmethod
    def of(cls, e: Experiment) -> Settings:
        """Raises `ExperimentError` where the controls cannot say it."""
        if e.architecture != "mlp":
            raise ExperimentError(f"{e.name} is a {e.architecture}: the explorer takes fully connected layers, an mlp")
        if len(e.widths) < 3:
            raise ExperimentError(f"widths is {e.widths}: the explorer needs one hidden layer or more")
        if len(set(e.widths[1:-1])) > 1:
            raise ExperimentError(f"widths is {e.widths}: the explorer has one width, give all hidden layers the same")
        clip = next((name for name in CLIPS[1:] if getattr(e, name) is not None), "none")
        alike = {field.name: getattr(e, field.name) for field in fields(cls) if hasattr(e, field.name)}
        size = 1.0 if clip == "none" else getattr(e, clip)
        return cls(**alike, depth=len(e.widths) - 2, width=e.widths[1], clip=clip, clip_size=size)

    def experiment(self, base: Experiment) -> Experiment:
        """The experiment that they make of `base`; raises `ExperimentError` where there is none."""
        for name, least in (("depth", 1), ("width", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ExperimentError(f"{name} is {value!r}: it must be a whole number above 0")
        if self.clip not in CLIPS:
            raise ExperimentError(f"clip is {self.clip!r}: choose from {', '.join(CLIPS)}")
        start = base if self.data == base.data else _with_data(base, self.data)
        own = {name: value for name, value in asdict(self).items() if name not in ("depth", "width", "clip_size")}
        own |= dict.fromkeys(CLIPS[1:])
        if own.pop("clip") != "none":
            own[self.clip] = self.clip_size
        widths = (start.widths[0], *(self.width,) * self.depth, start.widths[-1])
        found = start.replace(**own, widths=widths)
        return found if found == base else found.replace(name=NAME)


def _with_data(base: Experiment, data: str) -> Experiment:
    """Other data, with what fits them."""
    if data not in ("digits", "circles"):
        raise ExperimentError(f"data is {data!r}: the explorer takes digits or circles, or what it began with")
    other = experiment(_CIRCLES) if data == "circles" else Experiment()
    taken = ("data", "observations", "pool", "batches", "widths", "batch_size")
    return base.replace(**{name: getattr(other, name) for name in taken})


class Explorer:
    """One state of an exploration, and how to change it. Its text is the table of the layers.

    `experiment` is the state as an experiment, `code` the lines that make it, `recording` what `train` left behind.
    """

    def __init__(self, base: Experiment, seeds: int = SEEDS) -> None:
        if not isinstance(base, Experiment):
            raise ExperimentError(f"{base!r} is no experiment: give what labkit.experiment(name) returns")
        if not isinstance(seeds, int) or seeds < 1:
            raise ExperimentError(f"{seeds!r} seeds: give 1 or more")
        self.settings = Settings.of(base)
        self.base = self.experiment = base
        # the experiment's own seed comes first: it is the one that is trained
        self.seeds = [base.seed, *(seed for seed in range(seeds) if seed != base.seed)][:seeds]
        self.recording: Recording | None = None
        self._start: Start | None = None
        self._after: Start | None = None

    def change(self, **settings: Any) -> Explorer:
        """Change some settings; what cannot be raises `ExperimentError` and changes nothing."""
        known = [field.name for field in fields(Settings)]
        if unknown := sorted(set(settings) - set(known)):
            raise ExperimentError(f"the explorer has no {unknown[0]!r}: choose from {', '.join(known)}")
        if settings.get("data", self.settings.data) != self.settings.data:
            settings.setdefault("batch_size", _with_data(self.base, settings["data"]).batch_size)
        wanted = replace(self.settings, **settings)
        made = wanted.experiment(self.base)
        self.settings = wanted
        if made != self.experiment:
            self.experiment, self._start, self._after = made, None, None
        return self

    @property
    def start(self) -> Start:
        """The gradients at the start, over all the seeds."""
        return self.look()

    @property
    def complete(self) -> bool:
        return self._start is not None and len(self._start.seeds) == len(self.seeds)

    @property
    def measured(self) -> Start:
        """The gradients of as many seeds as were looked at so far, of one at least."""
        return self._start or self.look(0)

    def look(self, seconds: float = math.inf) -> Start:
        """The gradients of as many more seeds as there is time for, of one more in any case, until there are all."""
        from labkit import starts

        begun, e = time.perf_counter(), self.experiment
        many = max(1, CHUNK // starts.cost(e))
        while self._start is None or (not self.complete and many):
            before, done = time.perf_counter(), len(self._start.seeds) if self._start else 0
            wanted = self.seeds[done : done + many]
            more = starts.at_start(e, wanted)
            self._start = self._start.joined(more) if self._start else more
            now = time.perf_counter()
            # what one seed took tells how many there is time for
            many = int(max(0, min(len(self.seeds), (begun + seconds - now) / (now - before) * len(wanted))))
        return self._start

    def train(self, watch: Watch | None = None) -> Recording:
        """Train the state as it is; an interrupt keeps what was recorded until then."""
        from labkit.recording import Recording
        from labkit.training import Interrupted, train

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "explored.safetensors"
            try:
                self.recording = train(self.experiment, path, watch=watch)
            except Interrupted:
                self.recording = Recording.load(path)
        self._after = None
        return self.recording

    @property
    def after(self) -> Start | None:
        """The same gradients at the end of the training; None where this state was not trained."""
        from labkit import starts

        if self.recording is None or self.recording.origin.experiment != self.experiment:
            return None
        if self._after is None:
            self._after = starts.at_parameters(self.experiment, self.recording.checkpoint(-1))
        return self._after

    @property
    def code(self) -> str:
        """The lines that make this very experiment and train it."""
        return code(self.experiment, self.base.name)

    @property
    def layers(self) -> list[str]:
        return [f"fc_{k}" for k in range(1, len(self.experiment.widths))]

    @property
    def expected(self) -> Floats | None:
        """(L,) what theory says of the root mean square of dloss/dz; it starts from what was measured in the last
        layer. None where there is no theory, or nothing finite to start from."""
        start = self.measured
        last = float(np.sqrt(np.mean(start.deltas[:, -1] ** 2)))
        if not applies(self.experiment) or not math.isfinite(last):
            return None
        return theory.layer_sizes(self.experiment, self.entering, last)

    @property
    def entering(self) -> float:
        """The mean square of the network's inputs."""
        return float(np.mean(self.measured.entering[:, 0]))

    def figure(self) -> LabFigure:
        """The picture of this state, which stays in a saved notebook and can be printed."""
        from labkit.explained import summary
        from labkit.plots.starts import starts

        each, name = self.start.deltas, described(self.experiment)
        found = told(self)
        return starts(found, each, self.layers, name, summary(self, found))

    def __str__(self) -> str:
        from labkit.explained import table

        return table(self)

    __repr__ = __str__

    def _ipython_display_(self) -> None:
        """The panel in a notebook; elsewhere, and in the grader, the table."""
        from IPython.display import display

        from labkit.progress import kernel_looks

        show: Any = display
        if kernel_looks():
            from labkit.panels.explorer import show as panel

            panel(self)
        else:
            show({"text/plain": str(self)}, raw=True)


def explore(experiment: Experiment | None = None, seeds: int = SEEDS) -> Explorer:
    """Change a network and see its gradients at the start of training: see `Explorer`.

    Begins with the experiment that is given, cut to a few hundred steps, or with the lab's ReLU network. Over so many
    seeds: the experiment's own first, then 0, 1, 2 ...
    """
    base = _named("vanishing/relu") if experiment is None else experiment
    if isinstance(base, Experiment):
        base = base.replace(epochs=min(base.epochs, math.ceil(STEPS / base.iterations_per_epoch)))
    return Explorer(base, seeds)


def _named(name: str) -> Experiment:
    return experiment(name)


def code(e: Experiment, named: str = "") -> str:
    """Lines of Python that make this very experiment, as `experiment`, and train it; from the one of that name, where
    there is one."""
    from labkit.catalogue import EXPERIMENTS

    start, made = Experiment(), "labkit.Experiment()"
    if named in EXPERIMENTS:
        own = experiment(named, e.student)
        whose = f", {_text(e.student)}" if e.student and own.seed == e.seed else ""
        start, made = own if whose else EXPERIMENTS[named], f"labkit.experiment({_text(named)}{whose})"
    changed = [f.name for f in fields(e) if getattr(e, f.name) != getattr(start, f.name)]
    arguments = "".join(f"    {name}={_written(name, getattr(e, name))},\n" for name in changed)
    made += f".replace(\n{arguments})" if changed else ""
    saved = f"{e.name.replace('/', '-')}.safetensors"
    return f"import labkit\n\nexperiment = {made}\nrecording = labkit.train(experiment, save={_text(saved)})\n"


def _written(name: str, value: Any) -> str:
    """A value as Python writes it; equal neighbours of many widths are written once."""
    if name != "widths":
        return _text(value) if isinstance(value, str) else repr(value)
    groups = [(width, len(list(same))) for width, same in groupby(value)]
    parts = [f"*({width},) * {count}" if count > 2 else ", ".join([f"{width}"] * count) for width, count in groups]
    return f"({', '.join(parts)})"


def _text(value: str) -> str:
    """In double quotes, as code here has them."""
    return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(value)


def described(e: Experiment) -> str:
    """The experiment's summary; equal neighbours of many widths are told once."""
    groups = [(width, len(list(same))) for width, same in groupby(e.widths)]
    short = "-".join(f"{width}" if count == 1 else f"{count}×{width}" for width, count in groups)
    return e.summary.replace("-".join(map(str, e.widths)), short)


@dataclass(frozen=True, eq=False)
class Told:
    """What is drawn and said of a state. L layers."""

    deltas: Band  # (L,) root mean square of single images' dloss/dz, over the seeds
    weights: Band  # (L,) root mean square of the mini-batch's dloss/dW
    gains: Band  # (L-1,) factors on the mean square of dloss/dz
    expected: Floats | None  # (L,) theory's line
    reach: Floats | None  # (L, 2) between which theory has 95 % of the seeds
    expected_gains: Floats | None  # (L-1,)
    shrinks: float  # factor on dloss/dz from layer to layer, geometric mean over the compared layers
    expected_shrinks: float  # theory's; NaN where there is none
    compared: tuple[int, int]  # first and last of the layers whose gradients are compared, from 0
    verdict: str  # vanishes, holds, explodes; nothing where no seed has a gradient
    holds: tuple[float, float]  # gains between which a network of this depth holds its gradients


def told(explorer: Explorer) -> Told:
    """What the look so far says."""
    e, start, expected = explorer.experiment, explorer.measured, explorer.expected
    last = max(len(e.widths) - 3, 1)  # the last hidden layer; with one hidden layer alone, the last
    deltas, weights, gains = (band(list(_finite(rows))) for rows in (start.deltas, start.weights, start.gains))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        overall = _finite(start.deltas[:, 0] / start.deltas[:, last])
    left = float(np.nanmedian(overall)) if np.isfinite(overall).any() else math.nan
    low, high = (size ** (2 / last) for size in (VANISHED, EXPLODED))
    return Told(
        deltas=deltas,
        weights=weights,
        gains=gains,
        expected=expected,
        reach=None if expected is None or not e.plain else expected[:, None] * theory.layer_bands(e, explorer.entering),
        expected_gains=None if expected is None else _ratios(expected),
        shrinks=left ** (1 / last),
        expected_shrinks=math.nan if expected is None else _quotient(expected[0], expected[last]) ** (1 / last),
        compared=(0, last),
        verdict=_verdict(left),
        holds=(low, high),
    )


def _verdict(left: float) -> str:
    if math.isnan(left):
        return ""
    return "vanishes" if left < VANISHED else "explodes" if left > EXPLODED else "holds"


def _finite(rows: Floats) -> Floats:
    """Zeros and what overflowed become gaps."""
    return np.where(np.isfinite(rows) & (rows > 0), rows, np.nan)


def _ratios(sizes: Floats) -> Floats:
    return np.array([_quotient(first, second) ** 2 for first, second in pairwise(sizes)])


def _quotient(first: float, second: float) -> float:
    return float(first / second) if second > 0 and math.isfinite(first) else math.nan


def narrow(e: Experiment) -> bool:
    """Do its layers scatter more than theory's band says?"""
    return min(e.widths[1:-1]) <= NARROW
