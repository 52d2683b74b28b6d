"""What an explorer shows, in words: a summary, what to know about it, a table, and plain data for its panel."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from labkit.counts import counted
from labkit.explorer import Told, described, narrow, told
from labkit.starts import clips

if TYPE_CHECKING:
    from labkit.ensembles import Band
    from labkit.explorer import Explorer

COLUMNS = ("Layer", "dloss/dz", "95 % of seeds", "theory", "gain", "theory", "dloss/dW")


def number(value: float) -> str:
    """Three digits; nothing for what is not there."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def summary(explorer: Explorer, found: Told | None = None) -> str:
    """How the gradient changes on its way to the input, in one or two sentences."""
    t, names = found or told(explorer), explorer.layers
    first, last = t.compared
    here, there = float(t.deltas.median[first]), float(t.deltas.median[last])
    if not t.verdict:
        return "No seed has a gradient to measure: it is 0 or not finite in every one."
    way = "shrinks" if here < there else "grows"
    theory = "" if math.isnan(t.expected_shrinks) else f"; theory says {number(t.expected_shrinks)}"
    gain = number(t.shrinks**2)
    return (
        f"The gradient {way} from {number(there)} in {names[last]} to {number(here)} in {names[first]}: by "
        f"{number(t.shrinks)} per layer{theory}. Gain {gain}: it {t.verdict}."
    )


def notes(explorer: Explorer, found: Told | None = None) -> list[str]:
    """What to know about this state."""
    t, e, start = found or told(explorer), explorer.experiment, explorer.measured
    said = []
    if e.normalisation == "batch":
        said.append(
            "Theory has no line here: behind a batch normalisation an image's gradient depends on the other images."
        )
    elif t.expected is None:
        said.append("Theory has no line here: what it starts from, the last layer's gradient, is not finite.")
    elif narrow(e) and e.plain:
        said.append("In layers of 10 units and fewer the seeds scatter more than theory's limits say.")
    elif not e.plain:
        said.append("Theory has a line here, but no limits for single seeds: these are known for plain layers alone.")
    said += _gone(explorer)
    if clips(e):
        before, after = start.weights[0], start.clipped
        largest = int(np.nanargmin(after / np.where(before > 0, before, np.nan))) if (before > 0).any() else 0
        changed = bool((after < before * (1 - 1e-6)).any())
        left = f"leaves {number(float(after[largest] / before[largest]))} of {explorer.layers[largest]}'s"
        said.append(
            "Clipping changes what the optimiser gets, not the gradient: at the first step it "
            + (f"{left} dloss/dW." if changed else "leaves all as it is.")
        )
    if explorer.recording is not None and explorer.recording.origin.stopped:
        said.append(f"The training was {explorer.recording.origin.stopped}; what was recorded until then is kept.")
    if explorer.recording is not None and explorer.after is None:
        said.append("What was trained was another state: train this one to see its gradients after training.")
    return said


def _gone(explorer: Explorer) -> list[str]:
    """Of gradients that a logarithmic axis cannot show."""
    sizes, names, said = explorer.measured.deltas, explorer.layers, []
    for what, bad in (("exactly 0", sizes == 0), ("not finite", ~np.isfinite(sizes))):
        if bad.any():
            layer, count = names[int(np.flatnonzero(bad.any(0))[-1])], int(bad.any(1).sum())
            said.append(f"In {count} of {counted(len(sizes), 'seed')} the gradient is {what} in {layer} or before it.")
    return said


def table(explorer: Explorer) -> str:
    """The layers, with what was measured and what theory says."""
    explorer.look()
    t = told(explorer)
    missing = np.full(len(explorer.layers), math.nan)
    expected, gains = (missing if row is None else row for row in (t.expected, t.expected_gains))
    rows = [COLUMNS]
    for k, name in enumerate(explorer.layers):
        last = k == len(t.gains.median)
        rows.append(
            (
                name,
                number(t.deltas.median[k]),
                f"{number(t.deltas.low[k])} to {number(t.deltas.high[k])}",
                number(expected[k]),
                "" if last else number(t.gains.median[k]),
                "" if last else number(gains[k]),
                number(t.weights.median[k]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    seeds = counted(len(explorer.seeds), "seed")
    head = f"{described(explorer.experiment)}\nMedian over {seeds}, at the start of training."
    return "\n".join([head, "", *lines, "", summary(explorer, t), *notes(explorer, t)])


def view(explorer: Explorer) -> dict[str, Any]:
    """All that the panel draws, as plain JSON; what a logarithmic axis cannot show is null."""
    t, e, start, after = told(explorer), explorer.experiment, explorer.measured, explorer.after
    deltas = _band(t.deltas) | {"each": _rows(start.deltas), "after": None if after is None else _row(after.deltas[0])}
    deltas |= {"theory": None if t.expected is None else _row(t.expected), "clipped": None}
    deltas |= {"reach": None if t.reach is None else _rows(t.reach.T)}
    weights = _band(t.weights) | {"each": _rows(start.weights), "theory": None, "reach": None}
    weights |= {"after": None if after is None else _row(after.weights[0])}
    weights |= {"clipped": _row(start.clipped) if clips(e) else None}
    gains = _band(t.gains) | {"theory": None if t.expected_gains is None else _row(t.expected_gains)}
    gains |= {"after": None if after is None else _row(after.gains[0]), "holds": list(t.holds)}
    return {
        "settings": asdict(explorer.settings),
        "layers": explorer.layers,
        "seeds": len(start.seeds),
        "of": len(explorer.seeds),
        "sizes": {"deltas": deltas, "weights": weights},
        "gains": gains,
        "verdict": t.verdict,
        "summary": summary(explorer, t),
        "notes": notes(explorer, t),
        "code": explorer.code,
        "steps": e.iterations,
        "describes": described(e),
        "trained": 0 if after is None or explorer.recording is None else explorer.recording.iterations,
    }


def _band(band: Band) -> dict[str, Any]:
    return {name: _row(getattr(band, name)) for name in ("median", "low", "high")}


def _rows(rows: ArrayLike) -> list[list[float | None]]:
    return [_row(row) for row in np.asarray(rows)]


def _row(row: ArrayLike) -> list[float | None]:
    """Four digits are more than a screen shows."""
    return [float(f"{v:.4g}") if math.isfinite(v) and v > 0 else None for v in np.asarray(row, dtype=float).tolist()]
