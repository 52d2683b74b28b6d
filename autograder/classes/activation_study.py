"""The simulated class of the activation study: its kinds of student, what they write and how they forge."""

from collections.abc import Mapping
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
from autograder.questions.activation_study import PLAIN, first_over_last
from labkit.recording import Recording

# what is written

ESSAYS = {
    "ratios_words": "At the start my sigmoid network has a factor of {sigmoid_start:.0f}, leaky {leaky_start:.1f}. "
    "The ratio of the means is {sigmoid_means:.0f} against {leaky_means:.1f}, as in the tutorial; the mean of the "
    "ratios is ruled by the first iterations, in which the sigmoid's first layer has hardly any gradient.",
    "seeds_words": "Of the 50 units of my ReLU network {dead:.0f} were dead at the end, and yet it reached "
    "{relu_accuracy:.3f}, the leaky one {leaky_accuracy:.3f}: with 250 images that is within the error. One run of "
    "each says nothing; sigmoid against the others differs at every seed.",
    "audit_words": "It logged the gradients twice, once as weights: value by value they are the same. My weights of "
    "fc_4 reach to {weights:.2f}, the gradients to {gradients:.3f}. About half of the weights are below 0, and a "
    "chain of six weights of -6 explodes: the size counts, not the sign.",
    "plain_words": "By SGD my sigmoid network's first layer stepped {sgd_step:.3f} times as far as its last, by Adam "
    "{adam_step:.1f} times, although its gradient was {adam_gradient:.3f} of the last one's: Adam divides by the size. "
    "ReLU by SGD came to {relu_sgd:.2f}, sigmoid to {sigmoid_sgd:.2f}.",
    "remedies_words": "ReLU and residual connections change the factors, a hierarchy makes the product short, an LSTM "
    "is a skip in time. Faster hardware changes no gradient; at the end of my training {hardware:.3f} arrived.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings."""
    sigmoid, relu, leaky = (Recording.load(work / f"{name}.safetensors") for name in ("sigmoid", "relu", "leaky_relu"))
    sizes = {"sigmoid": sigmoid.statistic("abs_mean"), "leaky": leaky.statistic("abs_mean")}
    return {
        **{f"{name}_start": size[0, -1] / size[0, 0] for name, size in sizes.items()},
        **{f"{name}_means": size[:, -1].mean() / size[:, 0].mean() for name, size in sizes.items()},
        "dead": relu.hidden_statistic("dead")[-1].sum() * 10,
        "relu_accuracy": relu.accuracy[-1],
        "leaky_accuracy": leaky.accuracy[-1],
        "weights": abs(leaky.checkpoint(-1)["fc_4.weight"]).max(),
        "gradients": leaky.probe_statistic("abs_max")[-1, 3],
        "hardware": first_over_last(sizes["sigmoid"][-100:]),
        **_of_plain(work),
    }


def _of_plain(work: Path) -> dict[str, float]:
    relu, sgd, adam = (Recording.load(work / f"{name}.safetensors") for name in PLAIN)
    return {
        "sgd_step": first_over_last(sgd.update_norm / sgd.weight_norm),
        "adam_step": first_over_last(adam.update_norm / adam.weight_norm),
        "adam_gradient": first_over_last(adam.statistic("abs_mean")),
        "relu_sgd": relu.accuracy[-1],
        "sigmoid_sgd": sgd.accuracy[-1],
    }


# the kinds

ALL = {"six_layers": 3, "accuracy": 2, "activation_runs": 3, "last_over_first": 3, "ratios": 3, "flat_units": 4,
       "seeds": 3, "log_values": 3, "events": 2, "tutorial_log": 4, "signs": 2, "plain_runs": 3, "moved": 4,
       "remedy_list": 3}  # fmt: skip
# what rests on one recording, and on any
SIGMOID = {"activation_runs": 1, "ratios": 3, "flat_units": 2, "remedy_list": 1}
LEAKY = {"activation_runs": 1, "ratios": 3, "flat_units": 2, "events": 2, "tutorial_log": 1}
RUNS = LEAKY | {"activation_runs": 3, "plain_runs": 3, "moved": 3, "remedy_list": 1}
SEED = RUNS | {"seeds": 2, "remedy_list": 3}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


def _forged(name: str, forge: Forge, says: str) -> Kind:
    return Kind(name, LEAKY, forge=forge, forged=("leaky_relu",), says=says)


_ANOTHERS = "another student's"
ACTIVATIONS = (
    Kind("complete", {}),
    Kind("partly done", _without("six_layers", "accuracy", "activation_runs", "last_over_first"),
         stops_after="last_over_first"),
    # as the tutorial has it; with such a function its code logs the weights, and the audit finds no other
    _mistake("gradients as weights", {"log_values": 1, "tutorial_log": 1}, "log_values",
             ('[f"hist_weights_{number}"] = weight.detach()', '[f"hist_weights_{number}"] = weight.grad'),
             says="not its gradient"),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"events": 2}, "events", ('curves["gradient_abs_mean/fc_6"]', 'curves["mean_6"]')),
    Kind("infinite loop", {"seeds": 2}, (Edit("start_ratios", "for k in range(12):", "k = 0\n    while k < 12:"),),
         skips=("start_ratios",)),
    Kind("fabricated numbers", LEAKY | {"activation_runs": 2, "remedy_list": 1}, forge=smoothed,
         forged=("sigmoid", "leaky_relu"), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says=_ANOTHERS, edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("PyTorch's slope", {"six_layers": 2}, "six_layers", ("0.2 * z", "0.01 * z"), says="0.2 z elsewhere"),
    _mistake("PyTorch's start", {"six_layers": 1}, "six_layers",
             ("        nn.init.xavier_uniform_(linear.weight)\n        nn.init.zeros_(linear.bias)\n", ""),
             says="not zero"),
    _mistake("activation at the end", {"six_layers": 1}, "six_layers", ("*parts[:-1]", "*parts"),
             says="each layer but the last"),
    _mistake("argmax over the images", {"accuracy": 2}, "accuracy", ("argmax(dim=1) == labels",
             "argmax(dim=0)[labels] == labels"), says="argmax over the classes"),
    _mistake("variance for error", {"accuracy": 1}, "accuracy", (" ** 0.5", ""), says="The root of"),
    _mistake("first over last", {"last_over_first": 3, "ratios": 2}, "last_over_first",
             ("first, last = sizes[:, 0], sizes[:, -1]", "last, first = sizes[:, 0], sizes[:, -1]"),
             says="last column over its first"),
    _mistake("means of means", {"last_over_first": 1, "ratios": 2}, "last_over_first",
             ("(last[there] / first[there]).mean()", "last.mean() / first.mean()"), says="A ratio for each row"),
    _mistake("zeros taken along", {"last_over_first": 1}, "last_over_first", ("first > 0", "first >= 0"),
             says="whose first column is 0"),
    _mistake("every hundredth", {"ratios": 1}, "ratios", ("[::200]", "[::100]"), says="13 rows"),
    _mistake("the first iteration alone", {"ratios": 1}, "ratios", ("ratio[:100]", "ratio[:1]"), says="100 iterations"),
    _mistake("signed for absolute", {"ratios": 3}, "ratios", ('"abs_mean"', '"mean"'), says="abs_mean"),
    _mistake("dead for one image", {"flat_units": 2}, "flat_and_dead", ("flat.all(axis=0)", "flat.any(axis=0)"),
             says="for all images"),
    _mistake("dead images", {"flat_units": 2}, "flat_and_dead", ("flat.all(axis=0)", "flat.all(axis=1)"),
             says="a column"),
    _mistake("share for number", {"flat_units": 1}, "flat_values", ("shares[:, 1].sum() * 10", "shares[:, 1].mean()"),
             says="its 10 units"),
    _mistake("ties lost", {"seeds": 1}, "wins", (" + (a == b).mean() / 2", ""), says="1/2 for a tie"),
    _mistake("one seed", {"seeds": 2}, "start_ratios", (".seed + k", ".seed"), says="another one's"),
    _mistake("data of one seed", {"seeds": 2}, "start_ratios", ("of_experiment(again), labkit",
             "of_experiment(experiment), labkit"), says="another one's"),
    _mistake("median first", {"seeds": 1}, "start_ratios", ("float(one.low), float(one.median)",
             "float(one.median), float(one.low)"), says="in this order"),
    _mistake("signed mean logged", {"log_values": 1}, "log_values", ("weight.grad.abs().mean()", "weight.grad.mean()"),
             says="absolute values"),
    _mistake("biases too", {"log_values": 3, "tutorial_log": 1}, "log_values", (" if p.ndim == 2", ""), says="keys"),
    _mistake("edges for centres", {"events": 1}, "events", ("(edges[:-1] + edges[1:]) / 2", "edges[:-1] - 1e-3"),
             says="below 0"),
    _mistake("positive weights", {"events": 1}, "events", ("centres < 0", "centres > 0"), says="below 0"),
    _mistake("absolute tolerance", {"tutorial_log": 1}, "what_is_logged",
             (" <= 1e-4 * np.abs(known).max()", " <= 1e-8 + 1e-4 * np.abs(known).max()"), says="tolerance of 1e-8"),
    _mistake("sizes alone", {"tutorial_log": 2}, "what_is_logged",
             ("np.abs(values - known)", "np.abs(np.abs(values) - np.abs(known))"), says="value by value"),
    _mistake("believes the name", {"tutorial_log": 1}, "tutorial_logged",
             ("print(tutorial_logged", 'tutorial_logged |= dict.fromkeys(tutorial_logged, "weights")\nprint('
              "tutorial_logged"),
             says="not what it logs"),
    _mistake("slope of the weight's sign", {"signs": 1}, "signs", ("weight * h > 0", "weight > 0"),
             says="Go along the chain"),
    _mistake("small and below 0", {"signs": 1}, "signs", ("[-6.0] * 6", "[-0.5] * 6"), says="size of 100"),
    _mistake("of the end alone", {"moved": 2}, "moved", ("norm(b - a) / np.linalg.norm(a)",
             "norm(b - a) / np.linalg.norm(b)"), says="of the layer before"),
    _mistake("the step before the last", {"moved": 1}, "plain_values", ("for at in (0, -1)", "for at in (-2, -1)"),
             says="checkpoint(0)"),
    _mistake("mean of ratios", {"moved": 1}, "plain_values",
             ('size, step = run.statistic("abs_mean").mean(axis=0)',
              'size, step = [(lambda g: (g[:, 0] / g[:, -1]).mean())(run.statistic("abs_mean")), 1]'),
             says="over its rows first"),
    _mistake("steps, not relative", {"moved": 1}, "plain_values", ("(run.update_norm / run.weight_norm)",
             "run.update_norm"), says="update_norm / weight_norm"),
    _mistake("last over first again", {"remedy_list": 2}, "remedies", ("sizes[0] / sizes[-1]", "sizes[-1] / sizes[0]"),
             says="the first over the last"),
    _mistake("all iterations", {"remedy_list": 1}, "remedies", ("[-100:]", ""), says="The last 100 rows"),
    Kind("half done", {"log_values": 3, "events": 2, "tutorial_log": 4, "signs": 2, "plain_runs": 3, "moved": 4,
                       "remedy_list": 3}, stops_after="seeds_words"),
    Kind("copied, classmate's id", SEED, copies=True, says=_ANOTHERS),
    Kind("classmate's recording", SIGMOID, borrows=("sigmoid",), says=_ANOTHERS),
    _forged("invented numbers", invented, "replay"),
    _forged("zeros", zeroed, "exactly 0"),
    _forged("shuffled in time", shuffled, "not in the order"),
    _forged("signs flipped", sign_flipped, "signs are flipped"),
    _forged("scaled", scaled, "scaled"),
    _forged("weights in the recording", weights_for_gradients, "are its weights"),
)  # fmt: skip
CLASS = Class(ACTIVATIONS, (), ESSAYS, own_numbers)
