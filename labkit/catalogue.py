"""The seeds' experiments by name, each with the defaults of the framework that it was published in (ORIGINS).

TensorFlow and Keras add epsilon to the root before it is corrected for the start (Kingma & Ba 2015, end of section 2),
which makes it up to 32 times larger at the first step; here it is added as Algorithm 1 has it.
"""

from labkit.experiments import Experiment

# Where each family was published, and whose defaults it has: by the first part of the names.
ORIGINS = {
    "vanishing": (
        "MATLAB, Detect Vanishing Gradients in Deep Neural Networks; its fullyConnectedLayer has Glorot weights and "
        "zero biases, adamupdate an epsilon of 1e-8. The exploding run is this lab's own, for its first question, and "
        "so are those by SGD, whose steps go with the gradient"
    ),
    "layers": (
        "Machine Learning Mastery, Visualizing the vanishing gradient problem; Keras's Adam and RMSprop have an "
        "epsilon of 1e-7, RMSprop a rho of 0.9, Dense layers Glorot uniform weights and zero biases"
    ),
    "activations": (
        "Great Learning, Vanishing gradient problem (after Adventures in Machine Learning); TensorFlow 1's "
        "AdamOptimizer has an epsilon of 1e-8, leaky_relu a slope of 0.2, layers.dense Glorot uniform weights"
    ),
    "exploding": (
        "Analytics Vidhya, Exploring vanishing and exploding gradients in neural networks; Keras's defaults, as in "
        "layers/. The gains are this lab's own: each layer's factor is set as theory says"
    ),
    "recurrent": (
        "Bengio, Simard & Frasconi 1994, Learning long-term dependencies with gradient descent is difficult: the "
        "latching task; gates stacked as PyTorch stacks them, Glorot weights"
    ),
    "trainability": (
        "Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, Deep information propagation: one network of each map that "
        "`labkit map` makes, near its critical point. Width, data, optimiser and budget are this lab's own"
    ),
}

_KERAS = 1e-7

# MATLAB's "Detect Vanishing Gradients": 5,000 digits, four fully connected layers of 10 units, Glorot weights, Adam
# with adamupdate's defaults, 50 epochs of 40 mini-batches of 128, the last of them with 8 images.
_S1 = Experiment()

# Machine Learning Mastery, "Visualizing the vanishing gradient problem": 1,000 points on two circles.
_CIRCLES = Experiment(
    data="circles", observations=1000, widths=(2, 5, 1), epochs=100, batch_size=32, epsilon=_KERAS,
)  # fmt: skip
# Its networks of four hidden layers, N(0, 1) weights, RMSprop.
_CAPTURED = _CIRCLES.replace(widths=(2, 5, 5, 5, 5, 1), initialisation="normal", optimizer="rmsprop")

# Great Learning's (and Adventures in Machine Learning's) six layers on MNIST: 2,500 mini-batches of 30, with a look at
# the network every 200; here every 100. TensorFlow's reader left 55,000 of MNIST's images for training.
_SIX = Experiment(
    data="mnist", observations=55_000, pool=60_000, widths=(784, 10, 10, 10, 10, 10, 10),
    batch_size=30, batches=100, epochs=25, slope=0.2,
)  # fmt: skip

# Analytics Vidhya's, on all of MNIST: eleven sigmoid layers, a residual network, and 21 linear layers.
_DEEP = Experiment(
    data="mnist", observations=60_000, pool=60_000, widths=(784, *(256,) * 11, 10), activation="sigmoid",
    batch_size=32, epochs=10, epsilon=_KERAS,
)  # fmt: skip
_LINEAR = _DEEP.replace(widths=(784, *(256,) * 21, 10), activation="linear")

# A class is shown at the first of 60 steps, noise at all others, and the class has to be named at the end: the latching
# task of Bengio, Simard & Frasconi 1994. Weights and learning rate are those with which an LSTM learns it.
_LAG = Experiment(
    data="long_lag", observations=2000, steps=60, architecture="rnn", widths=(5, 24, 4), activation="tanh",
    initialisation="glorot_uniform", learning_rate=3e-3, batch_size=50, epochs=15,
)  # fmt: skip

# The dial: ten hidden layers of 256 units whose weights are scaled so that each layer multiplies the mean squared
# gradient by a chosen gain (see `theory.scale_for`). He weights have a gain of 1; the gain goes with their square.
_DIAL = Experiment(
    observations=2000, widths=(784, *(256,) * 10, 10), initialisation="he_normal", optimizer="sgd",
    learning_rate=0.01, epochs=2, batch_size=100,
)  # fmt: skip

# The middle of the maps of trainability: weights of variance sigma_w^2 / inputs, sigma_w^2 the square of the gain, no
# biases at the start. The learning rates are those at which most networks of a map learnt in 100 iterations. They are
# in float64: in float32 rounding grows so soon that of most of them nobody could tell what they have to become.
_MAPPED = Experiment(
    observations=2500, widths=(784, *(64,) * 10, 10), initialisation="lecun_normal", learning_rate=3e-4,
    batch_size=50, epochs=2, dtype="float64",
)  # fmt: skip

EXPERIMENTS = {
    e.name: e
    for e in (
        _S1.replace(name="vanishing/relu", activation="relu"),
        _S1.replace(name="vanishing/sigmoid", activation="sigmoid"),
        # What Question 1 turns up: eight hidden layers from He weights, and plain SGD, which hides nothing. A gain of
        # 1 holds the gradients; each layer multiplies them by it.
        _S1.replace(
            name="vanishing/exploding",
            widths=(784, *(32,) * 8, 10),
            initialisation="he_normal",
            optimizer="sgd",
            learning_rate=0.05,
            epochs=3,
        ),
        # Adam's first steps hardly depend on a gradient's size; by SGD the sigmoid network stays where it began.
        *(
            _S1.replace(name=f"vanishing/{activation}_sgd", activation=activation, optimizer="sgd", learning_rate=0.1)
            for activation in ("relu", "sigmoid")
        ),
        _CIRCLES.replace(name="layers/one_relu"),
        _CIRCLES.replace(name="layers/one_sigmoid", activation="sigmoid"),
        _CIRCLES.replace(name="layers/three_sigmoid", activation="sigmoid", widths=(2, 5, 5, 5, 1)),
        *(
            _CAPTURED.replace(name=f"layers/{activation}", activation=activation)
            for activation in ("sigmoid", "tanh", "relu")
        ),
        *(
            _CAPTURED.replace(
                name=f"layers/{activation}_glorot", activation=activation, initialisation="glorot_uniform"
            )
            for activation in ("sigmoid", "tanh", "relu")
        ),
        *(
            _SIX.replace(name=f"activations/{activation}", activation=activation)
            for activation in ("sigmoid", "relu", "leaky_relu")
        ),
        _DEEP.replace(name="exploding/sigmoid"),
        _DEEP.replace(
            name="exploding/residual_conv",
            architecture="residual_conv",
            normalisation="batch",
            activation="relu",
            widths=(1, 64, 64, 64, 128, 128, 256, 256, 10),
            initialisation="he_normal",
        ),
        _LINEAR.replace(name="exploding/linear"),
        _LINEAR.replace(name="exploding/linear_clipped", clip_each=1.0),
        *(
            _DIAL.replace(name=f"exploding/gain_{name}", gain=k**0.5)
            for name, k in (("half", 0.5), ("one", 1.0), ("two", 2.0))
        ),
        *(
            _LAG.replace(name=f"recurrent/{architecture}", architecture=architecture)
            for architecture in ("rnn", "lstm", "gru")
        ),
        _MAPPED.replace(name="trainability/tanh", activation="tanh"),
        _MAPPED.replace(name="trainability/relu", activation="relu", gain=2**0.5),
        _MAPPED.replace(name="trainability/sigmoid", activation="sigmoid", gain=10.0, learning_rate=3e-3),
    )
}
