"""The simulated class of the layer-statistics lab: its kinds of student, and what they write."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autograder.classes.vanishing_gradients import (
    invented,
    scaled,
    shuffled,
    sign_flipped,
    smoothed,
    weights_for_gradients,
    zeroed,
)
from autograder.classroom import Class, Edit, Forge, Kind
from autograder.questions.layer_statistics import CLASSIFIERS
from labkit.recording import Recording

# what is written

ESSAYS = {
    "classifiers_answer": "My two sigmoid networks ended at a loss of {one_sigmoid_loss:.3f} and "
    "{three_sigmoid_loss:.3f}, where a coin has 0.693, the ReLU network at {one_relu_loss:.3f}. An accuracy "
    "only counts on which side of 1/2 an answer lies. Behind one layer the ratio was {one_sigmoid_ratio:.0f}, behind "
    "three {three_sigmoid_ratio:.0f}: only there gradients vanish.",
    "statistic_answer": "I would watch the mean of absolute values. In fc_2 of my tanh network the signed mean shows "
    "only {tanh_visible:.0%} of it, because signs cancel, in fc_5 of my sigmoid network {sigmoid_visible:.0%}, because "
    "all inputs are positive. The S.D. is 0 when all gradients are equal. RMSprop divides by the size of the gradient, "
    "so my updates went down to {update:.2f} only while the gradient of fc_5 fell to {gradient:.2f} of its start.",
    "shared_answer": "The squares are kept by name, and fc_1 is called fc_1 in every network, so the sigmoid network "
    "is divided by the tanh network's squares. Keras keeps them for each variable, so the tutorial is not wrong.",
    "glorot_answer": "N(0, 1) makes the gradients of tanh and ReLU grow towards the input (1.48 and 2.5 by theory), "
    "with Glorot it is 1 and 0.5, and both learn either way: {tanh_accuracy:.3f} and {tanh_glorot_accuracy:.3f}. The "
    "sigmoid gets worse, 0.2 and 0.056, because its slope is at most 1/4 whatever the weights are.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings; of networks that were not trained, nothing."""
    return _of_classifiers(_there(work, CLASSIFIERS)) | _of_layers(_there(work, ("sigmoid", "tanh", "tanh_glorot")))


def _there(work: Path, names: Sequence[str]) -> dict[str, Recording]:
    """The recordings of these names, if all are there."""
    paths = {name: work / f"{name}.safetensors" for name in names}
    return (
        {name: Recording.load(path) for name, path in paths.items()} if all(p.exists() for p in paths.values()) else {}
    )


def _of_classifiers(runs: Mapping[str, Recording]) -> dict[str, float]:
    start = {name: run.statistic("abs_mean")[0] for name, run in runs.items()}
    losses = {f"{name}_loss": run.loss[-32:].mean() for name, run in runs.items()}
    return losses | {f"{name}_ratio": one[-1] / one[0] for name, one in start.items()}


def _of_layers(runs: Mapping[str, Recording]) -> dict[str, float]:
    if not runs:
        return {}
    visible = {
        name: abs(run.statistic("mean")).mean(axis=0) / run.statistic("abs_mean").mean(axis=0)
        for name, run in runs.items()
    }
    size, update = runs["tanh"].statistic("abs_mean"), runs["tanh"].update_norm
    return {
        "tanh_visible": visible["tanh"][1],
        "sigmoid_visible": visible["sigmoid"][4],
        "gradient": size[-320:, 4].mean() / size[:320, 4].mean(),
        "update": update[-320:].mean() / update[:320].mean(),
        "tanh_accuracy": runs["tanh"].accuracy[-1],
        "tanh_glorot_accuracy": runs["tanh_glorot"].accuracy[-1],
    }


# the kinds

ALL = {"classifiers": 3, "scores": 4, "weight_statistics": 2, "gradient_statistics": 3, "capture": 5, "layer_runs": 3,
       "truthful_statistic": 4, "seed_band": 4, "shared_optimizer": 3, "layer_gains": 4, "glorot_runs": 4}  # fmt: skip
# what rests on tanh.safetensors, on any recording, and on the seed besides
TANH = {"layer_runs": 1, "truthful_statistic": 3, "shared_optimizer": 1, "glorot_runs": 1}
RUNS = TANH | {"classifiers": 3, "scores": 2, "capture": 5, "layer_runs": 3, "glorot_runs": 4}
SEED = RUNS | {"seed_band": 2, "layer_gains": 1}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, old: str, new: str, says: str = "") -> Kind:
    return Kind(name, loses, (Edit(cell, old, new),), says=says)


def _forged(name: str, forge: Forge, says: str) -> Kind:
    return Kind(name, TANH, forge=forge, forged=("tanh",), says=says)


_ANOTHERS = "another student's"
LAYERS = (
    Kind("complete", {}),
    Kind("partly done", _without("classifiers", "scores", "weight_statistics", "gradient_statistics", "capture"),
         stops_after="train_and_capture"),
    _mistake("signed for absolute", {"gradient_statistics": 1, "capture": 1, "seed_band": 2}, "gradient_statistics",
             "np.abs(g).mean()", "abs(g.mean())", says="cancelled"),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"truthful_statistic": 1}, "late", "tanh.update_norm", "tanh.update_norms"),
    Kind("infinite loop", {"seed_band": 2}, (Edit("start_sizes", "for k in range(20):", "k = 0\nwhile k < 20:"),),
         skips=("start_sizes",)),
    Kind("fabricated numbers", TANH | {"layer_runs": 2}, forge=smoothed, forged=("sigmoid", "tanh"), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says=_ANOTHERS, edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("no zero_grad", {"capture": 2}, "train_and_capture", "            optimizer.zero_grad()\n", "",
             says="zero_grad"),
    _mistake("logit for probability", {"scores": 2}, "score", "logits[:, 0] > 0", "logits[:, 0] > 0.5",
             says="the same as z > 0"),
    _mistake("number for share", {"scores": 2}, "score", "right.double().mean()", "right.double().sum()",
             says="not the number"),
    _mistake("scored before training", {"scores": 1}, "scores", "checkpoint(-1)", "checkpoint(0)",
             says="checkpoint(-1)"),
    _mistake("classifiers' first over last", {"scores": 1}, "scores", "size[-1] / size[0]", "size[0] / size[-1]",
             says="last column over its first"),
    _mistake("sample S.D.", {"weight_statistics": 1, "capture": 1}, "weight_statistics", "w.std()", "w.std(ddof=1)",
             says="n - 1"),
    _mistake("biases too", {"weight_statistics": 2, "capture": 1}, "weight_statistics",
             ' if name.endswith(".weight")', "", says="shape"),
    _mistake("weights for gradients", {"gradient_statistics": 3, "capture": 1, "seed_band": 2}, "gradient_statistics",
             "p.grad.numpy()", "p.detach().numpy()"),
    _mistake("not before the first epoch", {"capture": 1}, "train_and_capture",
             "    weights.append(weight_statistics(network))\n    for epoch", "    for epoch", says="21 rows"),
    _mistake("the last mini-batch", {"capture": 1}, "train_and_capture", "if number == 0", "if number == 31",
             says="first mini-batch"),
    _mistake("|mean of means|", {"truthful_statistic": 1}, "claims", 'np.abs(run.statistic("mean")).mean(axis=0)',
             'np.abs(run.statistic("mean").mean(axis=0))', says="visible_share"),
    _mistake("mean for median", {"truthful_statistic": 1}, "claims", "np.median(", "np.mean(", says="median_sd"),
    _mistake("small is not hidden", {"truthful_statistic": 1}, "examples", "[-0.25, 0.25]", "[-0.001, 0.001]"),
    _mistake("all the networks", {"seed_band": 2}, "spread", "[2.5, 97.5]", "[0, 100]", says="97.5"),
    _mistake("one seed", {"seed_band": 2}, "start_sizes", ".seed + k", ".seed"),
    _mistake("no root", {"shared_optimizer": 3}, "rmsprop_step", "torch.sqrt(square)", "square", says="root"),
    _mistake("moments from the start", {"shared_optimizer": 1}, "first_step", "checkpoint_moment(-1",
             "checkpoint_moment(0", says="shared"),
    _mistake("upside down", {"layer_gains": 3}, "layer_gains", "first / second", "second / first"),
    _mistake("of the activations", {"layer_gains": 3}, "layer_gains", "isinstance(module, nn.Linear)",
             "not isinstance(module, nn.Flatten | nn.Linear) or module is network[-1]"),
    _mistake("another width", {"layer_gains": 1}, "gains", "e.initialisation, 5)", "e.initialisation, 2)",
             says="width"),
    _mistake("predicts in words", {"glorot_runs": 1}, "prediction", "0.4 < gain < 5", '"perhaps"',
             says="True or False"),
    _mistake("accuracy at the start", {"glorot_runs": 1}, "train_glorot", "run.accuracy[-1]", "run.accuracy[0]",
             says="last value"),
    Kind("half done", {"shared_optimizer": 3, "layer_gains": 4, "glorot_runs": 4}, stops_after="statistic_answer"),
    Kind("copied, classmate's id", SEED, copies=True, says=_ANOTHERS),
    Kind("classmate's recording", TANH, borrows=("tanh",), says=_ANOTHERS),
    _forged("invented numbers", invented, "replay"),
    _forged("zeros", zeroed, "exactly 0"),
    _forged("shuffled in time", shuffled, "not in the order"),
    _forged("signs flipped", sign_flipped, "signs are flipped"),
    _forged("scaled", scaled, "scaled"),
    _forged("weights as gradients", weights_for_gradients, "are its weights"),
)  # fmt: skip
CLASS = Class(LAYERS, (), ESSAYS, own_numbers)
