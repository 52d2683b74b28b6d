"""Every figure of a set of recordings as PNG files, for the command line."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from labkit.activations import LEAKY_SLOPE
from labkit.data import DataError
from labkit.files import write_whole
from labkit.plots.curves import gradient_sizes, losses, mean_gradients, updates
from labkit.plots.depth import activations, attenuation, growth
from labkit.plots.distributions import distribution_heatmap, gradient_distributions, weight_distributions
from labkit.plots.figure import LabFigure, PlotError, describe
from labkit.plots.gains import gain_per_layer
from labkit.plots.runs import accuracy, bands, first_and_last, gradient_norms, seed_groups, through_time
from labkit.plots.statistics import gradient_statistics, weight_histograms, weight_statistics
from labkit.plots.words import CLIPS, Network, Recordings, networks
from labkit.recording import Recording

Drawing = Callable[[], Figure]
OF_ALL = ("activations", "bands", "gain-per-layer")  # figures with all runs, or with none
ABREAST = 4  # networks beside each other; more become too small, and are drawn in further figures


def everything(recordings: Recordings, folder: Path | str) -> list[Path]:
    """Write every figure that the recordings allow into the folder and give the files.

    A recording without a finished epoch has no distributions, one without a probe batch nothing drawn on it. Networks
    of different layers share the figures that have no layers, and have the others for themselves. Of runs that differ
    in their seeds alone the first is drawn, and the figure says so; `bands` and `gain-per-layer` show them all.
    """
    folder, paths = Path(folder), []
    drawings, left_out = list(_drawings(recordings)), [g for g in seed_groups(recordings) if len(g) > 1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawings:
            figure = _drawn(draw)
            if figure is not None:
                _say_which(figure, name, left_out)
                paths.append(write_whole(folder / f"{name}.png", figure.png()))
    except OSError as error:
        raise PlotError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return paths


def _drawn(draw: Drawing) -> LabFigure | None:
    try:
        figure = draw()
    except (PlotError, DataError):  # not recorded, or computed from data that are not here
        return None
    assert isinstance(figure, LabFigure)
    return figure


def _say_which(figure: LabFigure, name: str, groups: Sequence[list[Recording]]) -> None:
    """In the title and the description, of runs that differ in their seeds alone, that the first one stands for all."""
    if not groups or name.startswith(OF_ALL):
        return
    seeds = [
        (r.origin.experiment.seed if r.origin.experiment else 0, len(group)) for group in groups for r in group[:1]
    ]
    words = f"seed {seeds[0][0]} of {seeds[0][1]} runs" if len(set(seeds)) == 1 else "one seed of each"
    _entitle(figure, words)
    drawn = ", ".join(f"seed {seed} of {count}" for seed, count in dict.fromkeys(seeds))
    describe(figure, f"Of runs that differ in their seeds alone one is drawn, {drawn}; the others are left out.")


def _entitle(figure: Figure, words: str) -> None:
    heading = f"{figure.get_suptitle()} ({words})"
    high = float(figure.get_size_inches()[1])
    figure.suptitle(heading, y=1 - 0.12 / high, va="top", fontsize=_fitting(figure, heading))


def _whose(draw: Drawing, network: Network) -> Drawing:
    """The drawing of one network, with what tells it from the others in its title where its activation does not."""

    def drawn() -> Figure:
        figure, alone = draw(), networks(network.recording, iterations=False)[0].label
        if network.label != alone:
            _entitle(figure, network.label.removeprefix(alone).lstrip(", "))
        return figure

    return drawn


def _fitting(figure: Figure, heading: str) -> float:
    """Points of a title's letters, smaller where its words would leave the figure."""
    return min(13.0, float(figure.get_size_inches()[0]) / len(heading) / 0.0081)


def _drawings(recordings: Recordings) -> Iterator[tuple[str, Drawing]]:
    """File name and figure, in the order of the labs; bad input is refused before anything is written."""
    groups = seed_groups(recordings)
    first = [group[0] for group in groups]
    plain = [e for r in first if (e := r.origin.experiment) and e.architecture == "mlp"]
    if plain or not any(r.origin.experiment for r in first):
        names = list(dict.fromkeys(e.activation for e in plain)) or ["relu", "sigmoid"]
        leaky = next((e.slope for e in plain if e.activation == "leaky_relu"), LEAKY_SLOPE)
        yield "activations", partial(activations, names, leaky=leaky)
    yield "losses", partial(losses, first)
    yield "accuracy", partial(accuracy, first)
    if len(first) > 1:
        yield "first-and-last", partial(first_and_last, first)
    if recurrent := [r for r in first if r.through_time.shape[1]]:
        yield "through-time", partial(through_time, recurrent)
    alike = list(_alike(groups))
    for number, some in enumerate(alike, start=1):
        ending = f"-{number}" if len(alike) > 1 else ""
        for name, draw in _by_layer(some):
            yield f"{name}{ending}", draw
    for network in networks(first, iterations=False, layers=False):
        slug, recording = _slug(network.label), network.recording
        for source in ("batch", "probe"):
            yield f"distributions-{source}-{slug}", _whose(partial(gradient_distributions, recording, source), network)
        yield f"weight-distributions-{slug}", _whose(partial(weight_distributions, recording), network)
        yield f"weight-histograms-{slug}", _whose(partial(weight_histograms, recording), network)
        yield f"growth-{slug}", _whose(partial(growth, recording), network)


def _alike(groups: Sequence[list[Recording]]) -> Iterator[list[list[Recording]]]:
    """Groups of runs whose layers have the same names, at most `ABREAST` together."""
    by_layers: dict[tuple[str, ...], list[list[Recording]]] = {}
    for group in groups:
        by_layers.setdefault(group[0].layers, []).append(group)
    for same in by_layers.values():
        for start in range(0, len(same), ABREAST):
            yield same[start : start + ABREAST]


def _by_layer(groups: Sequence[list[Recording]]) -> Iterator[tuple[str, Drawing]]:
    """The figures in which networks stand beside each other layer by layer."""
    first, every = [group[0] for group in groups], [recording for group in groups for recording in group]
    yield "mean-gradients", partial(mean_gradients, first)
    yield "gradient-sizes", partial(gradient_sizes, first)
    yield "signed-or-absolute", partial(gradient_sizes, first, signed=True)
    yield "attenuation", partial(attenuation, first)
    yield "gain-per-layer", partial(gain_per_layer, every)
    if len(every) > len(first):
        yield "bands", partial(bands, every)
    yield "gradient-statistics", partial(gradient_statistics, first)
    yield "weight-statistics", partial(weight_statistics, first)
    yield "distributions-heatmap", partial(distribution_heatmap, first)
    yield "updates", partial(updates, first)
    if any(_clips(recording) for recording in first):
        yield "gradient-norms", partial(gradient_norms, first)


def _clips(recording: Recording) -> bool:
    e = recording.origin.experiment
    return bool((recording.clip_factor != 1).any() or (e and any(getattr(e, clip) is not None for clip in CLIPS)))


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")
