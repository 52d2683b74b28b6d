"""The tutorials' figures and sentences. Every one has its rule, and what is said of it where it does not hold."""

from labkit.claims import figures as f
from labkit.claims import remarks as say
from labkit.claims.figures import each
from labkit.claims.rules import (
    Claim,
    Remark,
    Rule,
    Source,
    above,
    at_least,
    at_most,
    below,
    between,
    holds,
    not_above,
)
from labkit.ensembles import last_over_first, sizes_at_start, sizes_over_training


def _published(source: Source, sentence: str, name: str, of: f.Of, value: float, also: Remark | None = None) -> Claim:
    """A number of one published run, which our band over seeds holds or not."""
    figure = each(of, name)
    remark = say.every_run(figure, value)
    whole = say.together(remark, also) if also else remark
    return Claim(source, sentence, f"{value:g}", (name,), figure, holds(value), whole)


def _of(source: Source, sentence: str, published: str, name: str, of: f.Of, rule: Rule, remark: Remark) -> Claim:
    """A figure of one experiment."""
    return Claim(source, sentence, published, (name,), each(of, name), rule, remark)


def _sizes_at_start(name: str) -> Remark:
    return say.by_layer(sizes_at_start, name, "mean absolute gradient at the start")


def _sizes_over_training(name: str, words: str = "mean absolute gradient over training") -> Remark:
    return say.by_layer(sizes_over_training, name, words)


def _recorded_sizes(name: str) -> Remark:
    return say.by_layer(f.recorded_sizes, name, "mean absolute gradient over the records")


_SIGMOID, _RELU = "vanishing/sigmoid", "vanishing/relu"

_S1 = (
    _of("S1", "Sigmoid: gradients get smaller towards the input; mean |gradient|, last over first layer, at the start",
        "get smaller", _SIGMOID, last_over_first, at_least(10), _sizes_at_start(_SIGMOID)),
    _of("S1", "ReLU: they hardly do", "about 1", _RELU, last_over_first, between(0.1, 10), _sizes_at_start(_RELU)),
    Claim("S1", "The sigmoid network's loss falls more slowly: its last loss over that of the ReLU network",
                 "slower", (_SIGMOID, _RELU), f.ratio(f.last_loss, _SIGMOID, _RELU), at_least(1),
                 say.together(say.also("last loss, sigmoid:", each(f.last_loss, _SIGMOID)),
                              say.also("ReLU:", each(f.last_loss, _RELU)))),
    _of("S1", "ReLU: the average gradient of layer 4 grows; what is drawn is the signed mean, here over "
        "mean |gradient|", "grows", _RELU, f.signed_mean_of_last, at_least(1e-4), say.rounding(_RELU)),
    _of("S1", "and mean |gradient| of that layer, last over first tenth of the training", "grows", _RELU,
        f.growth_of_last, at_least(1), _sizes_over_training(_RELU)),
)  # fmt: skip


def _layers(kind: str) -> str:
    return f"layers/{kind}"


def _keras(kind: str, words: str, loss: float, accuracy: float) -> tuple[Claim, Claim]:
    """Loss and accuracy that Keras printed."""
    name = _layers(kind)
    return (
        _published("S3", f"Loss, {words}", name, f.last_loss, loss, say.still_moving(name)),
        _published("S3", f"Accuracy, {words}", name, f.accuracy, accuracy, say.still_moving(name)),
    )


def _own_loop(kind: str, words: str, before: float, after: float) -> tuple[Claim, Claim]:
    """Accuracies that the tutorial's own training loop printed, of the same networks trained again."""
    name = _layers(kind)
    return (
        _published(
            "S3",
            f"Accuracy before training, {words}, in a loop of its own; probe batch",
            name,
            f.accuracy_before,
            before,
        ),
        _published("S3", f"Accuracy after it, {words}", name, f.accuracy, after, say.still_moving(name)),
    )


def _glorot(kind: str, words: str) -> Claim:
    """The exercise: does Glorot's initialisation improve the result?"""
    with_it, without = _layers(f"{kind}_glorot"), _layers(kind)
    return Claim(
        "S3", f"Exercise: Glorot instead of N(0, 1) weights improve the accuracy, {words}: with less without",
        "improve", (with_it, without), f.difference(f.accuracy, with_it, without), at_least(0),
        say.together(say.also("accuracy with Glorot weights:", each(f.accuracy, with_it)),
                     say.also("with N(0, 1) weights:", each(f.accuracy, without)),
                     say.also("last over first layer at the start, Glorot:", each(last_over_first, with_it)),
                     say.also("N(0, 1):", each(last_over_first, without))),
    )  # fmt: skip


def _level(kind: str, words: str, low: float, high: float) -> Claim:
    name = _layers(kind)
    return _of("S3", f"sd of the gradients, {words}, median over layers and epochs", f"{high:g} to {low:g}", name, f.sd,
               between(low, high), say.by_layer(f.sd_by_layer, name, "sd of the gradient"))  # fmt: skip


_S3 = (
    *_keras("one_relu", "one ReLU layer of 5", 0.2404, 0.973),
    *_keras("one_sigmoid", "one sigmoid layer of 5", 0.6927, 0.654),
    *_keras("three_sigmoid", "three sigmoid layers of 5", 0.6922, 0.533),
    _of("S3", "Three sigmoid layers learn nothing: the loss stays at ln 2 = 0.6931", "0.6922", _layers("three_sigmoid"),
        f.last_loss, between(0.68, 0.7), say.still_moving(_layers("three_sigmoid"))),
    *_keras("sigmoid", "four sigmoid layers, N(0, 1) weights, RMSprop", 0.6650, 0.588),
    *_keras("tanh", "four tanh layers, the same way", 0.0129, 0.993),
    *_keras("relu", "four ReLU layers, the same way", 0.0169, 0.994),
    *_own_loop("sigmoid", "four sigmoid layers", 0.5, 0.652),
    *_own_loop("tanh", "four tanh layers", 0.502, 0.994),
    *_own_loop("relu", "four ReLU layers", 0.503, 0.995),
    _of("S3", "Sigmoid: only the sd of the first layer's weights grows; its growth over the largest change of another",
        "only the first", _layers("sigmoid"), f.first_spreads_most, at_least(2),
        say.by_layer(f.spread_by_layer, _layers("sigmoid"), "growth of the sd")),
    _level("sigmoid", "sigmoid", 0.001, 0.01),
    _level("tanh", "tanh", 0.01, 0.1),
    Claim("S3", "sd of the gradients, tanh over sigmoid", "an order of magnitude",
                 (_layers("tanh"), _layers("sigmoid")), f.ratio(f.sd, _layers("tanh"), _layers("sigmoid")),
                 between(3, 30), say.together(say.also("tanh:", each(f.sd, _layers("tanh"))),
                                              say.also("sigmoid:", each(f.sd, _layers("sigmoid"))))),
    _of("S3", "Sigmoid: only the last layer's gradient has a visible mean; |signed mean|, last layer over the largest "
        "other", "only the last", _layers("sigmoid"), f.mean_of_last_over_others, at_least(10),
        say.together(say.by_layer(f.mean_by_layer, _layers("sigmoid"), "absolute signed mean"),
                     _sizes_over_training(_layers("sigmoid")))),
    _of("S3", "Tanh: the means of every layer wiggle equally; their sd over epochs, largest over smallest layer",
        "equally", _layers("tanh"), f.uneven_wiggling, at_most(3),
        say.by_layer(f.mean_by_layer, _layers("tanh"), "absolute signed mean")),
    _glorot("sigmoid", "sigmoid"),
    _glorot("tanh", "tanh"),
    _glorot("relu", "ReLU"),
    Claim("S3", "Exercise: other weights help less than another activation; accuracy of ReLU with N(0, 1) "
                 "weights less that of sigmoid with Glorot weights", "help less",
                 (_layers("relu"), _layers("sigmoid_glorot")),
                 f.difference(f.accuracy, _layers("relu"), _layers("sigmoid_glorot")), at_least(0.05),
                 say.also("accuracy of sigmoid with Glorot weights:", each(f.accuracy, _layers("sigmoid_glorot")))),
)  # fmt: skip

_SIX = {kind: f"activations/{kind}" for kind in ("sigmoid", "relu", "leaky_relu")}
_THREE = tuple(_SIX.values())


def _better(kind: str, words: str) -> Claim:
    """The tutorial shows curves of the accuracy and no number."""
    return Claim("S4", f"Training accuracy, {words}: significantly above sigmoid", "a curve, above sigmoid",
                 (_SIX[kind], _SIX["sigmoid"]), each(f.accuracy, _SIX[kind]),
                 above([each(f.accuracy, _SIX["sigmoid"])], "sigmoid's", by=0.1),
                 say.also("sigmoid has", each(f.accuracy, _SIX["sigmoid"])))  # fmt: skip


_S4 = (
    Claim("S4", "Training accuracy, sigmoid: significantly below the other two", "a curve, the lowest", _THREE,
          each(f.accuracy, _SIX["sigmoid"]),
          below([each(f.accuracy, _SIX[kind]) for kind in ("relu", "leaky_relu")], "each of the others'", by=0.1),
          say.together(say.also("ReLU has", each(f.accuracy, _SIX["relu"])),
                       say.also("leaky ReLU", each(f.accuracy, _SIX["leaky_relu"])))),
    _better("relu", "ReLU"),
    _better("leaky_relu", "leaky ReLU"),
    Claim("S4", "No benefit of leaky ReLU: its training accuracy less that of ReLU, seed by seed", "none",
                 (_SIX["leaky_relu"], _SIX["relu"]), f.difference(f.accuracy, _SIX["leaky_relu"], _SIX["relu"]),
                 not_above(0),
                 say.seeds_above(f.difference(f.accuracy, _SIX["leaky_relu"], _SIX["relu"]), 0)),
    Claim("S4", "Gradients of the ReLU network are significantly larger: mean |gradient| of layer 6 over the "
                 "training, ReLU over sigmoid", "larger", (_SIX["relu"], _SIX["sigmoid"]),
                 f.ratio(f.last_size, _SIX["relu"], _SIX["sigmoid"]), at_least(2),
                 say.together(_sizes_over_training(_SIX["relu"], "mean absolute gradient, ReLU"),
                              _sizes_over_training(_SIX["sigmoid"], "sigmoid"))),
    Claim("S4", "and of layer 1", "larger", (_SIX["relu"], _SIX["sigmoid"]),
                 f.ratio(f.first_size, _SIX["relu"], _SIX["sigmoid"]), at_least(2),
                 say.together(_sizes_over_training(_SIX["relu"], "mean absolute gradient, ReLU"),
                              _sizes_over_training(_SIX["sigmoid"], "sigmoid"))),
    _published("S4", "mean |gradient|, layer 6 over layer 1, sigmoid, over the records", _SIX["sigmoid"],
               f.recorded_ratio, 30, _recorded_sizes(_SIX["sigmoid"])),
    _published("S4", "the same, leaky ReLU", _SIX["leaky_relu"], f.recorded_ratio, 6,
               _recorded_sizes(_SIX["leaky_relu"])),
    Claim("S4", "the same, ReLU: pretty much as leaky ReLU; ReLU's over leaky ReLU's, seed by seed", "about 1",
                 (_SIX["relu"], _SIX["leaky_relu"]),
                 f.ratio(f.recorded_ratio, _SIX["relu"], _SIX["leaky_relu"]), between(0.5, 2),
                 say.together(say.also("ReLU:", each(f.recorded_ratio, _SIX["relu"])),
                              say.also("leaky ReLU:", each(f.recorded_ratio, _SIX["leaky_relu"])))),
    _published("S4", "the same, sigmoid, before training", _SIX["sigmoid"], last_over_first, 30,
               say.together(say.also("over the records it is", each(f.recorded_ratio, _SIX["sigmoid"])),
                            _sizes_at_start(_SIX["sigmoid"]))),
    _of("S4", "Weights of layer 4 of the leaky ReLU network are consistently below 0, and so gradients vanish: share "
        "of weights below 0 at the end", "1", _SIX["leaky_relu"], f.negative_weights(3), between(0.9, 1),
        say.together(say.by_layer(f.weight_means, _SIX["leaky_relu"], "mean of the weights"),
                     say.also("last over first layer's mean absolute gradient, over the records:",
                              each(f.recorded_ratio, _SIX["leaky_relu"])))),
)  # fmt: skip

_DEEP, _RESIDUAL, _LINEAR, _CLIPPED = (
    f"exploding/{kind}" for kind in ("sigmoid", "residual_conv", "linear", "linear_clipped")
)

_S5 = (
    _of("S5", "Eleven sigmoid layers: accuracy stays at the majority class (0.112 of MNIST, 0.1 of balanced digits)",
        "0.112", _DEEP, f.accuracy, between(0.08, 0.13), _sizes_at_start(_DEEP)),
    _of("S5", "Loss at that plateau (entropy of the classes: 2.301 of MNIST, 2.303 of balanced digits), within 2 %",
        "2.301", _DEEP, f.last_loss, between(2.255, 2.347), say.still_moving(_DEEP)),
    _of("S5", "Stuck after 3 epochs: largest change of the accuracy on the probe batch after them", "none", _DEEP,
        f.change_after(3), at_most(0.05), say.also("accuracy at the end:", each(f.accuracy, _DEEP))),
    _of("S5", "Many weights within 0.1 of 0 are a sign of vanishing: their share at the end less that at the start",
        "a sign", _DEEP, f.change_of_near_zero, at_least(0.1),
        say.also("Glorot's weights lie there before training, a share of", each(f.weights_near_zero(0), _DEEP))),
    _of("S5", "A residual network with batch normalisation learns: accuracy", "0.90 to 1", _RESIDUAL, f.accuracy,
        between(0.9, 1), say.together(say.still_moving(_RESIDUAL),
                                      say.also("epochs that were trained:", each(lambda r: r.epochs, _RESIDUAL)),
                                      say.also("iterations:", each(lambda r: r.iterations, _RESIDUAL)))),
    _of("S5", "21 linear layers: gradients explode; mean |gradient|, last over first layer, at the start", "explode",
        _LINEAR, last_over_first, at_most(0.1), _sizes_at_start(_LINEAR)),
    _of("S5", "They explode in epoch 3: norm of all gradients on the probe batch after it over that after epoch 2",
        "sky-rockets", _LINEAR, f.growth_of_norm(3), at_least(10), say.no_jump(_LINEAR)),
    _of("S5", "and so does the loss on the probe batch", "sky-rockets", _LINEAR, f.growth_of_loss(3), at_least(2),
        say.together(say.also("last loss:", each(f.last_loss, _LINEAR)),
                     say.also("accuracy:", each(f.accuracy, _LINEAR)))),
    _of("S5", "The epoch in which that norm first becomes 10 times as large (0: in none)", "3", _LINEAR,
        f.epoch_of_jump(10), between(2.5, 3.5), say.no_jump(_LINEAR)),
    _of("S5", "Clipping to a norm of 1: the largest norm of a layer's gradient, as the optimiser used it", "1",
        _CLIPPED, f.largest_used, at_most(1.001), say.unclipped(_CLIPPED)),
    _of("S5", "Clipping shows in the plotted norms, taken after an epoch: the largest of a layer", "gradual", _CLIPPED,
        f.largest_plotted, at_most(1.001), say.unclipped(_CLIPPED)),
    Claim("S5", "Without clipping they are far larger: the largest plotted norm, without over with", "larger",
                 (_LINEAR, _CLIPPED), f.ratio(f.largest_plotted, _LINEAR, _CLIPPED), at_least(10),
                 say.together(say.also("as the optimiser used them, without:", each(f.largest_used, _LINEAR)),
                              say.also("with:", each(f.largest_used, _CLIPPED)))),
    Claim("S5", "Clipping makes training stable: last loss without over with", "stable", (_LINEAR, _CLIPPED),
                 f.ratio(f.last_loss, _LINEAR, _CLIPPED), at_least(1),
                 say.together(say.also("last loss without:", each(f.last_loss, _LINEAR)),
                              say.also("with:", each(f.last_loss, _CLIPPED)))),
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (*_S1, *_S3, *_S4, *_S5)
