"""The simulated class of the vanishing-gradients lab: its kinds of student, what they write and how they forge."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autograder.classroom import Class, Edit, Forge, Kind
from labkit.recording import Recording

# what is done to recordings. The digests fit again afterwards: whoever forges can save, too

_MEAN, _SIZE, _SD, _NORM, _MAX = range(5)
_AMPLITUDES = slice(0, 5)  # the statistics that grow with the gradient
_BY_ITERATION = ("loss", "gradient", "update_norm", "weight_norm", "weight_dot_gradient", "bias_dot_gradient")


def zeroed(r: Recording) -> Recording:
    return replace(r, gradient=np.zeros_like(r.gradient))


def shuffled(r: Recording) -> Recording:
    order = np.random.default_rng(0).permutation(r.iterations)
    return replace(r, **{name: getattr(r, name)[order] for name in _BY_ITERATION})


def sign_flipped(r: Recording) -> Recording:
    gradient = r.gradient.copy()
    gradient[:, :, _MEAN] *= -1
    return replace(r, gradient=gradient)


def scaled(r: Recording) -> Recording:
    gradient = r.gradient.copy()
    gradient[:, :, _AMPLITUDES] *= 3
    return replace(r, gradient=gradient)


def weights_for_gradients(r: Recording) -> Recording:
    return replace(r, gradient=_like_noise(r, r.weight_norm))


def smoothed(r: Recording) -> Recording:
    """The curves as one would wish them: each point the mean of its surroundings."""
    size = np.maximum(r.gradient[:, :, [_SIZE]], np.finfo(np.float32).tiny)
    window = np.ones(101) / 101
    smooth = np.apply_along_axis(lambda curve: np.convolve(curve, window, "same"), 0, size)
    gradient = r.gradient.copy()
    gradient[:, :, _AMPLITUDES] *= smooth / size
    return replace(r, gradient=gradient)


def invented(r: Recording) -> Recording:
    """Made up from what the lecture says: the loss falls, gradients shrink towards the input."""
    progress = np.linspace(0, 1, r.iterations)[:, None]
    noise = np.random.default_rng(1).normal(1, 0.05, (r.iterations, len(r.layers)))
    depth = np.arange(len(r.layers))[::-1]
    return replace(r, loss=(2.3 * np.exp(-4 * progress[:, 0])).astype(r.loss.dtype),
                   gradient=_like_noise(r, np.exp(-depth - 2 * progress) * noise))  # fmt: skip


def _like_noise(r: Recording, norm: Any) -> Any:
    """(I, L, S) statistics that uniform numbers of this norm (I, L) would have; they contradict each other nowhere."""
    rms = norm / np.sqrt([np.prod(shape) for shape in r.origin.shapes])
    gradient = np.zeros_like(r.gradient)
    for column, share in ((_SIZE, np.sqrt(3) / 2), (_SD, 1), (_MAX, np.sqrt(3))):
        gradient[:, :, column] = rms * share
    gradient[:, :, _NORM] = norm
    return gradient


# what is written

ESSAYS = {
    "figures": "The sigmoid's gradients are a thin spike around 0, thinnest in fc_1, so it ends at a loss of "
    "{sigmoid_loss:.2f} and the ReLU at {relu_loss:.2f}. The signed mean hides this: its signs cancel.",
    "question_1_answer": "Each layer multiplies the gradient by a factor: in my sigmoid network that of fc_4 is "
    "{sigmoid_start:.0f} times that of fc_1 at the start, in my ReLU network {relu_start:.1f} times, with a gain of "
    "2 it explodes. Clipping shortens a gradient that is too long; one that is too short stays so.",
    "question_2_answer": "images and labels stay as they are, the recordings come with the trainings. A network "
    "changes at every iteration and keeps its size, which surprised me: learning needs no memory.",
    "question_3_answer": "The error fell to {relu_error:.2f} of its start, but h3 grew {relu_hidden:.1f} times, and "
    "the gradient is their product. p and y both sum to 1, so the columns of the gradient sum to 0.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings."""
    found: dict[str, float] = {}
    for name in ("relu", "sigmoid"):
        run = Recording.load(work / f"{name}.safetensors")
        size, hidden = run.statistic("abs_mean"), run.hidden_statistic("abs_mean")[:, -1]
        found |= {
            f"{name}_loss": run.loss[-40:].mean(),
            f"{name}_start": size[0, -1] / size[0, 0],
            f"{name}_error": run.output_error[-1] / run.output_error[0],
            f"{name}_hidden": hidden[-1] / hidden[0],
        }
    return found


# the kinds

# nobody watches a simulated student's training
USUAL = (Edit("train_both", "    watch=labkit.LiveDistributions(),\n", ""),)
ALL = {"activation_gradients": 2, "numerical_bias": 1, "build_network": 3, "model_loss": 3, "gradient_distributions": 2,
       "own_loop": 4, "recordings": 4, "final_loss": 1, "attenuation": 1, "attenuation_values": 2, "exploding": 3,
       "workspace": 3, "growth": 1, "precision": 2, "factors": 2}  # fmt: skip
# what rests on relu.safetensors, and on any recording
RELU = {"recordings": 2, "final_loss": 1, "attenuation_values": 2, "growth": 1, "factors": 2}
RUNS = RELU | {"recordings": 4, "own_loop": 4, "exploding": 3, "precision": 2}
RATIO = {"attenuation": 1, "attenuation_values": 2}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


def _forged(name: str, forge: Forge, says: str) -> Kind:
    return Kind(name, RELU, forge=forge, says=says)


_ANOTHERS = "another student's"
# the first eight are the class of the demonstration
VANISHING = (
    Kind("complete", {}),
    Kind("partly done", _without("activation_gradients", "numerical_bias", "build_network", "model_loss"),
         stops_after="model_loss"),
    _mistake("signed for absolute", {"attenuation_values": 2}, "attenuation_values", ('"abs_mean"', '"mean"')),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"final_loss": 1}, "final_loss", ("sigmoid.loss[-40:]", "sigmoyd.loss[-40:]")),
    Kind("infinite loop", {"growth": 1}, skips=("growth",), edits=(Edit("growth", "growth_of_layer_4 = s",
        "epoch = 0\nwhile epoch < 10:\n    epoch + 1\ngrowth_of_layer_4 = s"),)),
    Kind("fabricated numbers", RELU | {"recordings": 4}, forge=smoothed, forged=("relu", "sigmoid"), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says=_ANOTHERS, edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("no zero_grad", {"own_loop": 3}, "train_loop", ("            optimizer.zero_grad()\n", ""),
             says="zero_grad"),
    _mistake("wrong axis", RATIO, "attenuation",
             ("np.asarray(sizes)[:, -1] / np.asarray(sizes)[:, 0]", "np.asarray(sizes)[-1] / np.asarray(sizes)[0]")),
    Kind("half done", {"workspace": 3, "growth": 1, "precision": 2, "factors": 2}, stops_after="question_1_answer"),
    _mistake("first over last", RATIO, "attenuation",
             ("[:, -1] / np.asarray(sizes)[:, 0]", "[:, 0] / np.asarray(sizes)[:, -1]")),
    _mistake("edges for centres", {"gradient_distributions": 1}, "gradient_distributions",
             ("(edges[:-1] + edges[1:]) / 2", "edges[:-1]")),
    _mistake("sum for mean", {"model_loss": 3}, "model_loss",
             ("cross_entropy(network(images), labels)", 'cross_entropy(network(images), labels, reduction="sum")')),
    _mistake("PyTorch's own start", {"build_network": 1}, "build_network",
             ("        nn.init.xavier_uniform_(linear.weight)\n        nn.init.zeros_(linear.bias)\n", ""),
             says="not zero"),
    _mistake("softmax at the end", {"build_network": 1}, "build_network",
             ("    return nn.Sequential", '    layers["softmax"] = nn.Softmax(dim=1)\n    return nn.Sequential')),
    _mistake("gain too low", {"exploding": 3}, "exploding", ("gain=3.0", "gain=1.0"), says="stays below"),
    _mistake("wrong variable", {"workspace": 1}, "workspace_report",
             ("desk.timeline.largest_growth()[0]", '"images"'), says="images"),
    Kind("copied, classmate's id", RUNS, copies=True, says=_ANOTHERS),
    Kind("classmate's recording", RELU, borrows=("relu",), says=_ANOTHERS),
    Kind("invented numbers", RELU, forge=invented, says="replay"),
    _forged("zeros", zeroed, "exactly 0"),
    _forged("shuffled in time", shuffled, "not in the order"),
    _forged("signs flipped", sign_flipped, "signs are flipped"),
    _forged("scaled", scaled, "scaled"),
    _forged("weights for gradients", weights_for_gradients, "are its weights"),
)  # fmt: skip
CLASS = Class(VANISHING, USUAL, ESSAYS, own_numbers)
