"""Every figure of a set of recordings as PNG files, for the command line."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from labkit.files import write_whole
from labkit.plots.curves import gradient_sizes, losses, mean_gradients, updates
from labkit.plots.depth import activations, attenuation, growth
from labkit.plots.distributions import distribution_heatmap, gradient_distributions
from labkit.plots.figure import LabFigure, PlotError
from labkit.plots.words import Recordings, networks

Drawing = Callable[[], Figure]


def everything(recordings: Recordings, folder: Path | str) -> list[Path]:
    """Write every figure that the recordings allow into the folder and give the files.

    A recording without a finished epoch has no distributions, one without a probe batch nothing drawn on it.
    """
    folder, paths = Path(folder), []
    drawings = list(_drawings(recordings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawings:
            figure = _drawn(draw)
            if figure is not None:
                paths.append(write_whole(folder / f"{name}.png", figure.png()))
    except OSError as error:
        raise PlotError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return paths


def _drawn(draw: Drawing) -> LabFigure | None:
    try:
        figure = draw()
    except PlotError:
        return None
    assert isinstance(figure, LabFigure)
    return figure


def _drawings(recordings: Recordings) -> Iterator[tuple[str, Drawing]]:
    """File name and figure, in the order of the lab; bad input is refused before anything is written."""
    found = networks(recordings)
    all_of_them = [n.recording for n in found]
    experiments = [r.origin.experiment for r in all_of_them if r.origin.experiment]
    names = list(dict.fromkeys(e.activation for e in experiments)) or ["relu", "sigmoid"]
    yield "activations", partial(activations, names)
    for network in found:
        for source in ("batch", "probe"):
            name = f"distributions-{source}-{_slug(network.label)}"
            yield name, partial(gradient_distributions, network.recording, source)
    yield "distributions-heatmap", partial(distribution_heatmap, all_of_them)
    yield "losses", partial(losses, all_of_them)
    yield "mean-gradients", partial(mean_gradients, all_of_them)
    yield "gradient-sizes", partial(gradient_sizes, all_of_them)
    yield "signed-or-absolute", partial(gradient_sizes, all_of_them, signed=True)
    yield "attenuation", partial(attenuation, all_of_them)
    for network in found:
        yield f"growth-{_slug(network.label)}", partial(growth, network.recording)
        yield f"updates-{_slug(network.label)}", partial(updates, network.recording)


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")
