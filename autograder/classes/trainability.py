"""The simulated class of the lab on trainability: its kinds of student, what they write and how they forge.

Its maps take a minute each: LABKIT_MAPS=tiny, for simulating and for grading, makes that a second.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from autograder.classroom import Class, Edit, Kind
from labkit.maps import Map

ESSAYS = {
    "border_words": "On the left everything dies out, forward and back: my networks at sigma_w^2 = {low:g} learnt to a "
    "depth of {ordered}. On the right images that are alike become unlike and gradients explode: to {chaotic} at "
    "{high:g}.",
    "budget_words": "More iterations would move the borders outwards, but not far, since what is left falls by a "
    "factor in each layer. The best accuracy that I have is {best:.2f}, and the deepest network has {deepest:.2f}.",
    "design_words": "tanh at 1, which is LeCun, ReLU at 2, which is He, the sigmoid at about 100. It is so bad because "
    "its slope is a quarter at most. Residual connections help whatever the weights are.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own map."""
    found = Map.load(work / "map_tanh.safetensors")
    depths = (np.nan_to_num(found.accuracy) >= 0.25) * np.array(found.depths)[:, None]
    return {
        "low": found.variances[0],
        "high": found.variances[-1],
        "ordered": float(depths[:, 0].max()),
        "chaotic": float(depths[:, -1].max()),
        "best": float(np.nanmax(found.accuracy)),
        "deepest": float(np.nanmax(found.accuracy[-1])),
    }


# forgeries


def foretold(m: Map) -> Map:
    """Every network has the accuracy that its author wished for: a fine map, and nothing trained."""
    wished = 0.1 + 0.8 / (1 + np.array(m.depths)[:, None] / (10 / np.abs(np.log(np.array(m.variances) / 1.01))))
    return replace(m, accuracy=np.round(wished * m.base.observations) / m.base.observations)


def brighter(m: Map) -> Map:
    """Half of the way to 1."""
    images = m.base.observations
    return replace(m, accuracy=np.round((1 + m.accuracy) / 2 * images) / images)


def smooth(m: Map) -> Map:
    """Losses that fall as in a book."""
    steps = np.linspace(0, 1, m.loss.shape[2])
    return replace(m, loss=(m.loss[..., :1] * np.exp(-steps * 2)).astype(m.loss.dtype))


def by_theory(m: Map) -> Map:
    """Gradients at the start as straight as theory has them."""
    layers = np.arange(m.start.shape[2])
    ends = m.start[..., :1] * np.array(m.variances)[None, :, None] ** (-layers / 2)
    return replace(m, start=np.where(np.isnan(m.start), np.nan, ends))


def no_numbers(m: Map) -> Map:
    """NaN wherever a comparison could fail."""
    return replace(m, accuracy=m.accuracy * np.nan, loss=m.loss * np.nan)


def upside_down(m: Map) -> Map:
    """The networks of one depth under the name of another."""
    return replace(m, accuracy=m.accuracy[::-1].copy())


ALL = {"mean_field": 4, "order_and_chaos": 3, "maps": 6, "start_of_maps": 3, "trained_depth": 3, "reach": 2,
       "agreement": 2}  # fmt: skip
# what rests on all maps, on that of tanh alone, on another
MAPS = {"maps": 6, "start_of_maps": 3, "trained_depth": 3, "agreement": 2}
TANH = MAPS | {"maps": 2}
OTHER = {"maps": 2, "trained_depth": 3, "agreement": 2}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


_TANH, _RELU, _SIGMOID = ("map_tanh",), ("map_relu",), ("map_sigmoid",)
TRAINABILITY = (
    Kind("complete", {}),
    Kind("partly done", _without("mean_field", "order_and_chaos", "maps", "start_of_maps"), stops_after="start"),
    _mistake("a slope not squared", {"mean_field": 2, "order_and_chaos": 2, "start_of_maps": 1}, "mean_field",
             ("slope[activation](np.sqrt(q) * z) ** 2", "slope[activation](np.sqrt(q) * z)"), says="squared slope"),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"agreement": 2}, "agreement", ("one.depths", "one.depth")),
    Kind("infinite loop", {"trained_depth": 3, "agreement": 2}, skips=("trained_depth",), edits=(
        Edit("trained_depth", "maps = {", "row = 0\nwhile row < 10:\n    row + 1\nmaps = {"),)),
    Kind("fabricated numbers", OTHER, forge=foretold, forged=_SIGMOID, says="training it again"),
    Kind("copied, own id typed in", MAPS, copies=True, says="another student's", edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("phi of the mean", {"mean_field": 2, "order_and_chaos": 3, "start_of_maps": 1}, "mean_field",
             ("(p * value[activation](np.sqrt(q) * z) ** 2).sum()",
              "(p * value[activation](np.sqrt(q) * z)).sum() ** 2"),
             says="the square belongs to phi"),
    _mistake("few layers", {"order_and_chaos": 3, "start_of_maps": 1}, "order_and_chaos", ("range(500)", "range(3)"),
             says="until it stays"),
    _mistake("the wrong half", {"order_and_chaos": 2}, "order_and_chaos",
             ("middle) < 1", "middle) > 1"), says="Halve an interval"),
    _mistake("root mean squares", {"start_of_maps": 2}, "start", ("2 / (depth - 1)", "1 / (depth - 1)"),
             says="the ratio squared"),
    _mistake("20 steps", {"start_of_maps": 2}, "start", ("2 / (depth - 1)", "2 / depth"), says="19 steps"),
    _mistake("the first that failed", {"trained_depth": 3, "agreement": 2}, "trained_depth",
             (">= 0.25", "< 0.25"), says="0.25 or more"),
    _mistake("one scale", {"reach": 2, "agreement": 2}, "reach", ("6 / abs", "1 / abs"), says="6 / |ln chi|"),
    _mistake("the wrong way round", {"agreement": 2}, "agreement", ("<= reaches", "> reaches"), says="Foretold is"),
    Kind("classmate's map", TANH, borrows=_TANH, says="another student's"),
    Kind("brighter", OTHER, forge=brighter, forged=_RELU, says="training it again"),
    Kind("losses from a book", OTHER, forge=smooth, forged=_RELU, says="training it again"),
    Kind("starts by theory", TANH, forge=by_theory, forged=_TANH, says="your seed gives"),
    Kind("no numbers", TANH, forge=no_numbers, forged=_TANH, says="training it again gives"),
    Kind("upside down", OTHER, forge=upside_down, forged=_SIGMOID, says="training it again"),
)  # fmt: skip
CLASS = Class(TRAINABILITY, (), ESSAYS, own_numbers, Map.load)
