"""The simulated class of the exploding-gradients lab: its kinds of student, what they write and how they forge."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autograder.classes.vanishing_gradients import smoothed, zeroed
from autograder.classroom import Class, Edit, Kind
from autograder.questions.exploding_gradients import SEVERAL
from labkit.recording import Recording

ESSAYS = {
    "dial_words": "With a gain of 2 the loss began at {two_start:.1f}, with 1/2 at {half_start:.2f}. The gradient "
    "grows backwards as the activations grow forwards, so that their product, dloss/dW, is the same in every layer.",
    "remedies_words": "Clipping kept every step at 1, but my clipped loss began at {clipped_start:.0f} and ended at "
    "{clipped_end:.0f}: the gain stays. Normalisation takes it away, residual connections add 1 to it.",
    "audit_words": "The norms were computed anew after each epoch, before any clipping: mine reach {tutorial:.1f} "
    "there, those that were used never pass 1. The histogram shows weights, and 11.2 % is the share of the ones.",
    "conv_words": "In my sigmoid network {stuck_share:.1g} of the last gradient reached the first layer, in the "
    "residual one {conv_share:.2g}; that it came to {conv_accuracy:.2f} does not show it. ReLU with He's weights, "
    "normalisation and the skip each act on the gain, so I would add them one at a time.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings."""
    runs = {name: Recording.load(work / f"{name}.safetensors") for name in ("half", "two", "clipped", "linear_clipped")}
    stuck, conv = (Recording.load(work / f"{name}.safetensors") for name in SEVERAL)
    norms = {"stuck": stuck.probe_statistic("norm")[0], "conv": conv.probe_statistic("norm")[0]}
    return {
        **{f"{name}_share": float(norm[0] / norm[-1]) for name, norm in norms.items()},
        "conv_accuracy": float(conv.accuracy[-1]),
        **{f"{name}_start": float(run.loss[0]) for name, run in runs.items()},
        "clipped_end": float(runs["clipped"].loss[-1]),
        "tutorial": float(np.nanmax(runs["linear_clipped"].probe_statistic("norm")[1:])),
    }


ALL = {"weight_sd": 2, "backward_gain": 3, "dial_runs": 3, "dial_gains": 3, "clip_by_norm": 2, "clip_otherwise": 2,
       "clipped_gradients": 2, "loud_and_clipped": 3, "clipped_norms": 3, "remedies": 4, "tutorial_runs": 3,
       "tutorial_norms": 3, "majority": 2, "tutorial_histogram": 2, "he_weights": 2, "conv_values": 4}  # fmt: skip
# what rests on any recording, on those of the tutorial's linear networks, and on backward_gain; what a network shows at
# its start follows from the seed alone
RUNS = {"dial_runs": 3, "loud_and_clipped": 3, "clipped_norms": 3, "remedies": 2, "tutorial_runs": 3,
        "tutorial_norms": 2, "tutorial_histogram": 1, "conv_values": 4}  # fmt: skip
LINEAR = {"tutorial_runs": 2, "tutorial_norms": 2}
GAIN = {"backward_gain": 2, "dial_gains": 2, "clipped_norms": 2, "remedies": 2, "tutorial_norms": 1}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


EXPLODING = (
    Kind("complete", {}),
    Kind("partly done", _without("weight_sd", "backward_gain", "dial_runs"), stops_after="dial_runs"),
    _mistake("last for next", GAIN, "backward_gain",
             ("squares[:-1] / squares[1:]", "squares[:-1] / squares[-1]"), says="the gain into"),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"tutorial_histogram": 1}, "tutorial_histogram",
             ("stuck.checkpoint", "stukk.checkpoint")),
    Kind("infinite loop", {"tutorial_histogram": 2}, skips=("tutorial_histogram",), edits=(Edit("tutorial_histogram",
        "keras_edge = n", "epoch = 0\nwhile epoch < 10:\n    epoch + 1\nkeras_edge = n"),)),
    Kind("fabricated numbers", LINEAR, forge=smoothed, forged=("linear", "linear_clipped"), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says="another student's", edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("forgot the half", {"weight_sd": 1}, "weight_sd", ('"relu": 0.5', '"relu": 1.0'),
             says="half of the units"),
    _mistake("each for all", {"clip_by_norm": 1, "clipped_gradients": 2}, "clip_by_norm",
             ("    return [gradient * factor for gradient in gradients]",
              "    return [g * min(1.0, max_norm / (float(g.norm()) + 1e-6)) for g in gradients]")),
    _mistake("after for before", {"clipped_norms": 1}, "clipped_norms",
             ("(used / clipped.clip_factor)", "used"), says="largest_norm['before']"),
    _mistake("residual for the loud one", {"remedies": 2}, "remedies",
             ('loud_experiment.replace(normalisation="layer")', "loud_experiment.replace(residual=True)"),
             says="no longer a number"),
    _mistake("k too small", {"loud_and_clipped": 3}, "loud_and_clipped", ("64, 4.0)", "64, 1.0)"), says="stays below"),
    _mistake("tutorial's norms for the used ones", {"tutorial_norms": 2}, "tutorial_norms",
             ('of_each = linear_clipped.statistic("norm")', 'of_each = linear.statistic("norm")')),
    _mistake("bits for nats", {"majority": 1}, "majority", ("np.log(share)", "np.log2(share)"), says="nats"),
    _mistake("variance for range", {"tutorial_histogram": 1}, "tutorial_histogram",
             ("np.sqrt(6 / (256 + 256))", "np.sqrt(2 / (256 + 256))"), says="eq. 16"),
    _mistake("one channel", {"he_weights": 2, "conv_values": 1}, "he_sd",
             ("(2 / (channels * side**2))", "(2 / side**2)"), says="channels times side squared"),
    _mistake("sum for product", {"he_weights": 1}, "he_sd", ("np.prod(", "np.sum("), says="nine factors"),
    _mistake("after training", {"conv_values": 1}, "conv_values",
             ('run.probe_statistic("norm")[0]', 'run.probe_statistic("norm")[-1]'), says="row 0"),
    Kind("classmate's recording", {"tutorial_runs": 1, "tutorial_norms": 2}, borrows=("linear_clipped",),
         says="another student's"),
    Kind("zeros", {"tutorial_runs": 1, "tutorial_norms": 2}, forge=zeroed, forged=("linear_clipped",),
         says="exactly 0"),
)  # fmt: skip
CLASS = Class(EXPLODING, (), ESSAYS, own_numbers)
