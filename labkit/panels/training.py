"""The live view of a training: what is sent to the browser, in words and in numbers.

`start` is sent once: names, labels and theory, as the figures of `labkit.plots` have them. After that, only what is new
is sent, as the attributes part_1, part_2, ... of the widget's model: the browser reads them whenever its script is
there, and a view that is drawn anew reads them all again. Numbers travel as bytes, so that NaN and infinity do, too.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from matplotlib import colormaps
from matplotlib.colors import to_hex

from labkit import backward
from labkit.deltas import Deltas
from labkit.experiments import Experiment
from labkit.panels.panel import Panel
from labkit.plots import curves, depth, distributions, gains
from labkit.plots.distributions import EDGE, MATLAB_XLIM, MOST_TILES, THIN, Source
from labkit.plots.words import (
    Network,
    abbreviated,
    after_clipping,
    chosen,
    chosen_told,
    far_apart,
    listed,
    networks,
    number,
    observations,
    weights_of,
    window_of,
)
from labkit.recording import Recording

SHADES = 64  # of viridis, from the first epoch to the last
SIZE = "Mean |gradient|"
Part = dict[str, Any]


def kernel_id() -> str:
    """By which the server knows this kernel; empty where that cannot be told, and then nothing is posted."""
    try:
        from ipykernel.connect import get_connection_file

        return Path(get_connection_file()).stem.partition("-")[2]
    except (ImportError, RuntimeError):
        return ""


def known(recordings: Sequence[Recording]) -> list[Network]:
    """The networks as every figure labels them."""
    return networks(recordings, iterations=False, layers=False)


def theorised(recordings: Sequence[Recording]) -> list[Experiment]:
    """The experiments, if theory has a line for all of them; else none."""
    found = [(r, r.origin.experiment) for r in recordings]
    plain = [e for r, e in found if e is not None and e.plain and len(e.widths) > 2 and backward.fits(r, e)]
    return plain if len(plain) == len(found) else []


def beginning(recordings: Sequence[Recording], source: Source) -> dict[str, Any]:
    """What stays the same from the first epoch to the last, as plain JSON."""
    first, e = recordings[0], recordings[0].origin.experiment
    shades = [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 1, SHADES))]
    return {
        "name": " + ".join(n.label for n in known(recordings)),
        "epochs": e.epochs if e else None,
        "iterations": e.iterations if e else None,
        "source": source,
        "limits": list(MATLAB_XLIM) if source == "batch" else None,
        "shades": shades,
        "edge": EDGE,
        "thin": THIN,
        "window": window_of(first),
        "loss": {"title": "Losses", "caption": curves.faint(first), "x": "Iteration", "y": curves.LOSS},
        "gains": _gain_words(recordings),
        "axes": ["Gradients", "Epochs", "Counts" if source == "batch" else "Counts (log)"],
        "networks": [_network(n, theorised(recordings)) for n in known(recordings)],
    }


def _gain_words(recordings: Sequence[Recording]) -> dict[str, Any]:
    if theorised(recordings):
        return {
            "title": gains.TITLE,
            "caption": f"{gains.FACTOR}, probe batch\n{gains.MEANING}",
            "x": gains.ACROSS,
            "y": gains.AXIS,
            "measured": ["measured at the start", "measured after the latest epoch"],
            "theory": f"{gains.THEORY}, at the start",
            "band": gains.BAND.format(observations(recordings[0]).removesuffix("s")),
            "neither": gains.NEITHER,
        }
    return {
        "title": "Gradient Size over Depth",
        "caption": f"mean |gradient| over a layer's weights, on the latest mini-batch; {depth.NOT_DELTAS}",
        "x": "Layer",
        "y": SIZE,
        "measured": ["iteration 1", "latest iteration"],
    }


def _network(network: Network, plain: list[Experiment]) -> dict[str, Any]:
    recording = network.recording
    layers = recording.layers
    shown = chosen(len(layers), MOST_TILES)
    e = recording.origin.experiment if plain else None
    return {
        "label": network.label,
        "colour": network.colour,
        "dash": list(network.dashes[1]) if isinstance(network.dashes, tuple) else [],
        "heading": distributions.heading(network),
        "shown": shown,
        "some": chosen_told(len(layers), MOST_TILES),
        "tiles": [weights_of(layers[k]).replace(r"\$", "$") for k in shown],
        "bins": recording.batch_counts.shape[2],
        "across": [name.replace(r"\$", "$") for name in abbreviated(layers[:-1] if e else layers)],
        "expected": gains.expected_gains(e).tolist() if e else [],
        "band": gains.expected_bands(e).tolist() if e else [],
    }


def bytes_of(values: Any, kind: str) -> bytes:
    return np.ascontiguousarray(values, dtype=kind).tobytes()


@dataclass
class News:
    """Tells what is new since it was asked last; it keeps how far it got, and no recording."""

    source: Source = "batch"
    iterations: int = 0  # that were told
    rows: int = 0  # of histograms that were told
    ranges: list[bytes] = field(default_factory=list)  # of the probe batch's bins when they were
    deltas: list[Deltas] = field(default_factory=list)
    expected: list[list[float]] = field(default_factory=list)  # theory's gains of each network, where it has them

    def since(self, recordings: Sequence[Recording]) -> Part:
        """The next part; all numbers are those of the recordings."""
        found = known(recordings)
        if self.source == "probe" and (ranges := [r.probe_range.tobytes() for r in recordings]) != self.ranges:
            self.ranges, self.rows = ranges, 0  # the bins became wider: all counts are other ones
        if self.iterations == 0 and (plain := theorised(recordings)):
            self.deltas = [Deltas(e) for e in plain]
            self.expected = [gains.expected_gains(e).tolist() for e in plain]
        sizes = self._sizes(recordings, -1)
        ones = [self._one(n, sizes[k]) for k, n in enumerate(found)]
        part = {
            "at": self.iterations,
            "row": self.rows,
            "done": recordings[0].iterations,
            "epoch": recordings[0].epochs,
            "elapsed": recordings[0].origin.wall_time,
            "log": far_apart([r.loss for r in recordings]),
            "networks": ones,
            "told": told(found, sizes, self.expected),
        }
        if self.iterations == 0:
            for k, first in enumerate(self._sizes(recordings, 0)):
                ones[k]["first"] = bytes_of(first, "<f8")
        self.iterations = recordings[0].iterations
        self.rows = len(distributions.histograms(recordings[0], self.source, 0)[0])
        return part

    def _sizes(self, recordings: Sequence[Recording], at: int) -> list[list[float]]:
        """Gains at the first (0) or the latest (-1) checkpoint, or mean |gradient| at that iteration."""
        if self.deltas:
            return [d.gains(r.checkpoint(at)) for d, r in zip(self.deltas, recordings, strict=True)]
        return [r.statistic("abs_mean")[at].tolist() for r in recordings]

    def _one(self, network: Network, sizes: list[float]) -> Part:
        recording = network.recording
        layers = [
            distributions.histograms(recording, self.source, k)
            for k in chosen(len(recording.layers), MOST_TILES)
        ]  # fmt: skip
        return {
            "loss": bytes_of(recording.loss[self.iterations :], "<f4"),
            "counts": bytes_of(np.stack([counts[self.rows :] for _, _, counts in layers], 1), "<i4"),
            "edges": bytes_of(np.stack([edges[self.rows :] for _, edges, _ in layers], 1), "<f8"),
            "sizes": bytes_of(sizes, "<f8"),
            "what": distributions.what_is_counted([network], self.source),
            "clipped": after_clipping([network]),
            "spread": distributions.spread(network, self.source),
        }


def told(
    found: Sequence[Network], sizes: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]
) -> dict[str, str]:
    """What the loss and the gains show, in words."""
    losses = [
        f"{n.label}: {number(float(n.recording.loss[0]))} at iteration 1, {number(float(n.recording.loss[-1]))} at "
        f"{n.recording.iterations:,}."
        for n in found
    ]
    if expected:
        words = [
            f"{n.label}: into {listed(n.recording.layers[:-1], now)}; theory, at the start, "
            f"{listed(n.recording.layers[:-1], theory)}."
            for n, now, theory in zip(found, sizes, expected, strict=True)
        ]
        start = f"Gain per layer after epoch {found[0].recording.epochs}, log scale."
    else:
        words = [f"{n.label} {listed(n.recording.layers, s)}." for n, s in zip(found, sizes, strict=True)]
        start = f"{SIZE} per layer at iteration {found[0].recording.iterations:,}, log scale."
    return {"loss": " ".join(["Loss against iteration.", *losses]), "gains": " ".join([start, *words])}


class Training(Panel, script="training"):
    """What a notebook shows while networks are trained."""

    start = traitlets.Dict().tag(sync=True)
    kernel = traitlets.Unicode().tag(sync=True)

    def __init__(self, recordings: Sequence[Recording], source: Source = "batch") -> None:
        super().__init__(start=beginning(recordings, source), kernel=kernel_id())
        self._news = News(source)
        self._parts = 0

    def more(self, recordings: Sequence[Recording], over: str = "") -> None:
        """Send what is new; `over` says that there will be no more, and why."""
        part = self._news.since(recordings) | {"over": over}
        self._parts += 1
        name = f"part_{self._parts}"
        buffers, paths = [], []
        for k, one in enumerate(part["networks"]):
            for what in [what for what, value in one.items() if isinstance(value, bytes)]:
                buffers.append(one.pop(what))
                paths.append([name, "networks", k, what])
        self.comm.send(data={"method": "update", "state": {name: plain(part)}, "buffer_paths": paths}, buffers=buffers)


def plain(part: Part) -> Part:
    """As JSON can hold it; a number that is not finite would break the message."""
    if not math.isfinite(part["elapsed"]):
        part["elapsed"] = 0.0
    found: Part = json.loads(json.dumps(part, allow_nan=False))
    return found
