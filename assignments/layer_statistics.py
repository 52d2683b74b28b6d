# The layer-statistics lab. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Layer statistics: which number would you watch?
#
# A network has too many weights and gradients to look at one by one, so everybody looks at a statistic: a mean, a
# standard deviation. A well-known tutorial draws both for three small networks, and its readers asked two good
# questions: *why not the mean of absolute values?* and *why are the averages so similar at every epoch?* You capture
# the weights and the gradients yourself, answer both, and do the exercise that the tutorial leaves: Glorot's weights.
#
# **How this notebook works**
#
# - Work from top to bottom. Where a cell says `# YOUR CODE HERE`, replace that line and the one below it.
# - A cell with `autograder.check(...)` tells you at once what holds already and what is missing, as often as you like.
#   These are the checks that mark your work; only their inputs will be others.
#   The bare number below a check is the points that it gives you now; nbgrader reads it, so leave the cell as it is.
# - Answers in words are read by a person. Write full sentences; a figure or a number from *your* run is worth more
#   than a general remark.
# - Your id decides your points, your initial weights and the order of your mini-batches. Your figures are therefore
#   your own, and nobody else's fit into your hand-in.
# - What you hand in is this notebook and the files that it saves beside it (`*.safetensors`, `answers.json`). Leave
#   them where they are.
#
# All trainings together take about half a minute.

# %% fixed="setup"
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import autograder
import labkit
from autograder.questions.layer_statistics import classifiers, experiments
from labkit import plots
from labkit.losses import mean_cross_entropy
from labkit.optimizers import RMSprop

# Networks as small as these are faster on one thread.
torch.set_num_threads(1)

# %% [markdown] fixed="student_text"
# ## Who are you?
#
# Type the id under which you hand in, once, as a text: `student = "..."`.

# %% answer="student_id"
# student = "the id under which you hand in"
### BEGIN SOLUTION
student = "solution"
### END SOLUTION

# %% fixed="experiments"
# Everything that decides your runs: three classifiers to begin with, and the six that the lab is about, "sigmoid",
# "tanh", "relu", and each with "_glorot".
beginning, mine = classifiers(student), experiments(student)
for name, experiment in (beginning | mine).items():
    print(f"{name:15}{experiment}")

# %% [markdown] fixed="data_text"
# ## The data
#
# 1,000 points on two circles, one in the other, with noise. Is a point on the inner one? Straight lines do not tell
# them apart, a small network does.

# %% fixed="data"
circles = labkit.data.of_experiment(mine["tanh"])
points, labels = torch.from_numpy(circles.inputs).double(), torch.from_numpy(circles.labels)

# %%
figure, axes = plt.subplots(figsize=(4.5, 4.5))
for number, marker in enumerate(("o", "x")):
    axes.scatter(*points[labels == number].T, s=12, marker=marker, label=circles.classes[number])
axes.legend()
axes.set(xlabel="x", ylabel="y", aspect="equal", title="Two circles")
figure.tight_layout()

# %% [markdown] fixed="classifiers_text"
# ## Three classifiers to begin with
#
# The tutorial trains three networks by Keras's defaults: Glorot's weights, Adam, 100 epochs in mini-batches of 32. From
# the first to the second only the activation changes, from the second to the third only the depth:
#
# | | loss | accuracy |
# |---|---|---|
# | `one_relu`: one hidden layer of 5 ReLU units | 0.2404 | 0.973 |
# | `one_sigmoid`: one hidden layer of 5 sigmoid units | 0.6927 | 0.654 |
# | `three_sigmoid`: three hidden layers of 5 sigmoid units | 0.6922 | 0.533 |
#
# That is one run of each, and you cannot get back the high accuracy "by merely adding layers". Do it again: train the
# three experiments in `beginning` with `labkit.train_many`, which takes a list of experiments and, as `save=`, a list
# of files, here `"one_relu.safetensors"`, `"one_sigmoid.safetensors"` and `"three_sigmoid.safetensors"`. (A file that
# already holds this very run is read, not trained again.)

# %% answer="train_classifiers"
# one_relu, one_sigmoid, three_sigmoid = labkit.train_many(...)
### BEGIN SOLUTION
one_relu, one_sigmoid, three_sigmoid = labkit.train_many(
    list(beginning.values()), save=[f"{name}.safetensors" for name in beginning]
)
### END SOLUTION

# %% test="classifiers" points=3
autograder.check("classifiers")

# %%
plots.losses([one_relu, one_sigmoid, three_sigmoid])

# %% [markdown] fixed="score_text"
# **Score them.** Write `score(network, points, labels)`, which gives two numbers: the mean cross-entropy, and the share
# of the points that are classified right. The network gives one *logit* $z$ for each point (shape `(points, 1)`), and
# says that the point is on the inner circle (label 1) with the probability $p = 1 / (1 + e^{-z})$; a point counts as
# classified to be there where $p > 1/2$.
#
# Then give two dictionaries with the keys `"one_relu"`, `"one_sigmoid"` and `"three_sigmoid"`:
#
# - `scores`: what `score` gives for the trained network, on all 1,000 points. `run.checkpoint(-1)` is a dictionary of a
#   run's last parameters as arrays; `network.load_state_dict(...)` takes them as tensors.
# - `last_over_first`: how much larger mean |gradient| of the last layer's weights is than that of the first layer's, at
#   the very first iteration: row 0 of `run.statistic("abs_mean")`, which has the shape (iterations, layers).


# %% answer="score"
def score(network, points, labels):
    """The mean cross-entropy, and the share of the points that are classified right."""
    ### BEGIN SOLUTION
    logits = network(points)
    right = (logits[:, 0] > 0) == (labels == 1)
    return mean_cross_entropy(logits, labels).item(), right.double().mean().item()
    ### END SOLUTION


# %% answer="scores"
# scores = {"one_relu": (..., ...), "one_sigmoid": (..., ...), "three_sigmoid": (..., ...)}
# last_over_first = {"one_relu": ..., "one_sigmoid": ..., "three_sigmoid": ...}
### BEGIN SOLUTION
scores, last_over_first = {}, {}
for name, run in {"one_relu": one_relu, "one_sigmoid": one_sigmoid, "three_sigmoid": three_sigmoid}.items():
    network = labkit.networks.of_experiment(beginning[name])
    network.load_state_dict({key: torch.tensor(values) for key, values in run.checkpoint(-1).items()})
    scores[name] = score(network, points, labels)
    size = run.statistic("abs_mean")[0]
    last_over_first[name] = size[-1] / size[0]
    print(f"{name:14} loss {scores[name][0]:.4f}, accuracy {scores[name][1]:.3f}, {last_over_first[name]:.1f}")
### END SOLUTION

# %% test="scores" points=4
autograder.check("scores")

# %% [markdown] fixed="patience_text"
# Is 100 epochs long enough? Here are the two sigmoid networks once more, all as it was, but with steps that are ten
# times as long.

# %% fixed="longer_steps"
longer_steps = [beginning[name].replace(learning_rate=0.01) for name in ("one_sigmoid", "three_sigmoid")]
for run in labkit.train_many(longer_steps, progress=False):
    print(f"{run.name:22} loss of the last epoch {run.loss[-32:].mean():.4f}, accuracy {run.accuracy[-1]:.3f}")

# %% [markdown] fixed="classifiers_question"
# **What do these three show?** Compare your losses and accuracies with the tutorial's and with ln 2 = 0.6931, the loss
# of a network that answers 1/2 to everything. Which of the two numbers tells whether a network has learned? How can an
# accuracy be well above 1/2 when the loss is that of a coin? And does the vanishing of gradients keep the two sigmoid
# networks from learning? Use your ratios, and what longer steps did.

# %% [markdown] essay="classifiers_answer" points=3
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Loss and accuracy, with numbers:* the sigmoid networks' losses are ln 2 but for a few percent, so that p is close
#    to 1/2 everywhere; accuracy only counts on which side of 1/2 it lies, so it may be 0.5 or 0.8 by the draw, while
#    the loss stays put (0.654 and 0.533 are two such draws). The loss, or both, tell; on balanced points 1/2 is chance.
# 2. *Activation and depth, by the ratios:* with ReLU it is about 1, and most runs come to a loss of 0.15 to 0.3 and
#    above 0.95 (one whose units die stays behind). With one sigmoid layer it is about 14 (over
#    seeds 1 to 65), which is its slope of at most 1/4 and the weights behind it; with three it is hundreds (10 to
#    1,600), for each layer takes its factor: there gradients vanish.
# 3. *And yet both learn:* with steps ten times as long (or ten times the epochs) they usually come above 0.95, three
#    layers included. Adam divides the size of the gradient out, so that a ratio of hundreds makes the first layer's
#    gradient small and not its steps: 100 epochs with short steps were too few. That gradients vanish is true, and it
#    does not follow from these losses; nor do three runs show that layers "merely" added cannot help.
### END SOLUTION

# %% [markdown] fixed="network_text"
# ## The networks
#
# The networks that the lab is about have four hidden layers of 5 units and one output, 2-5-5-5-5-1; their layers are called `fc_1` to
# `fc_5`. The three of the tutorial start from weights that are drawn from N(0, 1), and are trained by RMSprop in
# mini-batches of 32. They differ in the activation between the layers. `labkit.networks.of_experiment` builds one at
# its start, and `mean_cross_entropy(network(points), labels)` is its loss. Networks and points are in 64-bit numbers
# here (`.double()`), because the gradient at a single output is a sum that cancels, and 32 bits leave little of it.

# %% fixed="look"
print(labkit.networks.of_experiment(mine["tanh"]))

# %% [markdown] fixed="weight_statistics_text"
# ## Statistics of the weights
#
# Write a function that takes a network and gives an array with one row for each weight matrix, first layer first, and
# two columns: the mean of the weights and their standard deviation. Leave the biases out. The standard deviation is
# that of the weights that there are, a mean over all $n$ of them:
#
# $$\mathrm{sd}^2 = \frac1n \sum_i (w_i - \bar w)^2$$
#
# `fc_5` has five weights. With $n - 1$ below the fraction, as for a *sample*, you would be off by 12 %.


# %% answer="weight_statistics"
def weight_statistics(network):
    """(layers, 2) mean and S.D. of each weight matrix."""
    ### BEGIN SOLUTION
    matrices = [p.detach().numpy() for name, p in network.named_parameters() if name.endswith(".weight")]
    return np.array([(w.mean(), w.std()) for w in matrices])
    ### END SOLUTION


# %% test="weight_statistics" points=2
autograder.check("weight_statistics")

# %% [markdown] fixed="gradient_statistics_text"
# ## Statistics of the gradients
#
# After `loss.backward()` each parameter has its gradient in `.grad`. Write a function that gives, for each weight
# matrix, three numbers: the mean of its gradient, with signs; the standard deviation; and the mean of the *absolute*
# values, which a reader of the tutorial asked for.


# %% answer="gradient_statistics"
def gradient_statistics(network):
    """(layers, 3) mean, S.D. and mean |.| of the gradient of each weight matrix; after backward()."""
    ### BEGIN SOLUTION
    gradients = [p.grad.numpy() for name, p in network.named_parameters() if name.endswith(".weight")]
    return np.array([(g.mean(), g.std(), np.abs(g).mean()) for g in gradients])
    ### END SOLUTION


# %% fixed="statistics_of_a_batch"
def statistics_of_a_batch(network, points, labels):
    """What gradient_statistics says after going back from these points."""
    network.zero_grad()
    mean_cross_entropy(network(points), labels).backward()
    return gradient_statistics(network)


# %% test="gradient_statistics" points=3
autograder.check("gradient_statistics")

# %% [markdown] fixed="capture_text"
# ## Capture them in a loop of your own
#
# The tutorial captures the weights *before the first epoch* and at the end of every epoch, and the gradients at the
# first mini-batch of every epoch. Do the same, in your own training loop of 20 epochs.
#
# For each mini-batch: clear the old gradients, compute the loss, call `backward()`, let the optimiser step, and tell
# the recorder (`recorder.step(loss)`). At the end of each epoch say `recorder.end_epoch()`. Collect what
# `weight_statistics` and `gradient_statistics` give in the two lists; 20 epochs have 21 captures of the weights and
# 20 of the gradients. Your loop is later run again from its recording, so every mini-batch has to be taken once, in
# order.


# %% answer="train_and_capture"
def train_and_capture(network, optimizer, recorder, experiment):
    """The weights' statistics (epochs + 1, layers, 2) and the gradients' (epochs, layers, 3)."""
    weights, gradients = [], []
    ### BEGIN SOLUTION
    weights.append(weight_statistics(network))
    for epoch in range(experiment.epochs):
        for number, indices in enumerate(labkit.data.epoch_batches(experiment, epoch)):
            optimizer.zero_grad()
            loss = mean_cross_entropy(network(points[indices]), labels[indices])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
            if number == 0:
                gradients.append(gradient_statistics(network))
        recorder.end_epoch()
        weights.append(weight_statistics(network))
    ### END SOLUTION
    return np.array(weights), np.array(gradients)


# %% fixed="capture"
own_experiment = mine["tanh"].replace(name="your own loop", epochs=20)
own_network = labkit.networks.of_experiment(own_experiment)
own_optimizer = RMSprop(own_network.parameters())
own_recorder = labkit.Recorder(own_network, own_optimizer, own_experiment)
captured_weights, captured_gradients = train_and_capture(own_network, own_optimizer, own_recorder, own_experiment)
own = own_recorder.recording()
own.save("own.safetensors")
print(captured_weights.shape, captured_gradients.shape, own)

# %% test="capture" points=5
autograder.check("capture")

# %% [markdown] fixed="runs_text"
# ## Train all three
#
# 100 epochs, 3,200 iterations each. `labkit.train(experiment, save=...)` does what your loop does, with everything
# recorded. Train the three networks with N(0, 1) weights and save them as `"sigmoid.safetensors"`,
# `"tanh.safetensors"` and `"relu.safetensors"`. (`labkit.train_many` takes a list of experiments and a list of files,
# and trains them side by side, which is faster.) A file that already holds this very run is read, not trained again.

# %% answer="train_three"
# sigmoid, tanh, relu = ...
### BEGIN SOLUTION
names = ("sigmoid", "tanh", "relu")
sigmoid, tanh, relu = labkit.train_many([mine[n] for n in names], save=[f"{n}.safetensors" for n in names])
### END SOLUTION

# %% test="layer_runs" points=3
autograder.check("layer_runs")

# %% [markdown] fixed="figures_text"
# The tutorial's two figures, from your runs. First the weights: above their mean, below their standard deviation;
# epoch 0 is before training.

# %%
plots.weight_statistics([sigmoid, tanh, relu])

# %% [markdown] fixed="figures_gradients_text"
# Then the gradients on the first mini-batch of each epoch: their signed mean, their standard deviation on a
# logarithmic axis, and the loss.

# %%
plots.gradient_statistics([sigmoid, tanh, relu], source="first_batch")

# %%
plots.accuracy([sigmoid, tanh, relu])

# %% [markdown] fixed="claims_text"
# ## Which statistic tells the truth?
#
# The tutorial reads from its figure that the standard deviation of the gradients is 0.001 to 0.01 in the sigmoid
# network and 0.01 to 0.1 in the tanh network, and that only the last layer has a mean that can be seen. Check both.
# `tanh.statistic("sd")` has the shape (iterations, layers), and so have `"mean"` and `"abs_mean"`.
#
# Give two dictionaries with the keys `"sigmoid"`, `"tanh"` and `"relu"` and five numbers each, one for each layer:
#
# - `median_sd`: the median of the standard deviation over all iterations;
# - `visible_share`: how much of the gradient the signed mean shows. Take |mean| at each iteration, average it over
#   the iterations, and divide by the average of the mean of absolute values. It is 1 if no signs cancel, 0 if all do.

# %% answer="claims"
# median_sd = {"sigmoid": ..., "tanh": ..., "relu": ...}
# visible_share = {"sigmoid": ..., "tanh": ..., "relu": ...}
### BEGIN SOLUTION
three = {"sigmoid": sigmoid, "tanh": tanh, "relu": relu}
median_sd = {name: np.median(run.statistic("sd"), axis=0) for name, run in three.items()}
visible_share = {
    name: np.abs(run.statistic("mean")).mean(axis=0) / run.statistic("abs_mean").mean(axis=0)
    for name, run in three.items()
}
for name in three:
    print(f"{name:8} median S.D. {median_sd[name].round(5)}   visible share {visible_share[name].round(2)}")
### END SOLUTION

# %% [markdown] fixed="examples_text"
# No statistic is safe from every gradient. Make two examples of a layer's gradient, arrays of a few numbers whose mean
# of absolute values is 0.1 or more, so that nobody would say that it has vanished:
#
# - `hidden_from_mean`: its mean is 0;
# - `hidden_from_sd`: its standard deviation is 0.

# %% answer="examples"
# hidden_from_mean = np.array([...])
# hidden_from_sd = np.array([...])
### BEGIN SOLUTION
hidden_from_mean = np.array([-0.25, 0.25])
hidden_from_sd = np.array([0.25, 0.25, 0.25])
### END SOLUTION

# %% [markdown] fixed="late_text"
# The second question of the readers: as a network learns, its gradient should go towards 0, so why does it look so
# similar at every epoch? Look at two things in your tanh network: the mean of the absolute gradients
# (`tanh.statistic("abs_mean")`), and how far an iteration moves the weights (`tanh.update_norm`, also with the shape
# (iterations, layers)). Give how each has changed, for each layer: the mean over the last ten epochs (320 iterations)
# divided by that over the first ten, as `late_over_early = {"gradient": ..., "update": ...}`.

# %% answer="late"
# late_over_early = {"gradient": ..., "update": ...}
### BEGIN SOLUTION
curves = {"gradient": tanh.statistic("abs_mean"), "update": tanh.update_norm}
late_over_early = {name: values[-320:].mean(axis=0) / values[:320].mean(axis=0) for name, values in curves.items()}
print({name: values.round(2) for name, values in late_over_early.items()})
### END SOLUTION

# %% test="truthful_statistic" points=4
autograder.check("truthful_statistic")

# %%
plots.gradient_sizes([sigmoid, tanh, relu])

# %%
plots.updates(tanh)

# %% [markdown] fixed="seeds_text"
# ## One network proves nothing
#
# The layers are narrow, five units, and the size of a gradient is a product over the layers. So it varies from one
# draw of the weights to the next. By how much?
#
# - Write `spread(sizes)`: `sizes` has one row for each network and one column for each layer; give for each layer the
#   factor between the smallest and the largest size once the outer 5 % are left out: the 97.5th percentile over the
#   networks divided by the 2.5th.
# - Measure `start_sizes` (20, 5): mean |gradient| of each layer *before training* of 20 tanh networks, in row `k` that
#   of `mine["tanh"].replace(seed=mine["tanh"].seed + k)`, on all 1,000 points of *that* experiment. You need no
#   training for it; `statistics_of_a_batch` from above does the work.


# %% answer="spread"
def spread(sizes):
    """(layers,) the factor between the 2.5th and the 97.5th percentile over the networks; sizes (networks, layers)."""
    ### BEGIN SOLUTION
    low, high = np.percentile(sizes, [2.5, 97.5], axis=0)
    return high / low
    ### END SOLUTION


# %% answer="start_sizes"
# start_sizes = ...
### BEGIN SOLUTION
rows = []
for k in range(20):
    again = mine["tanh"].replace(seed=mine["tanh"].seed + k)
    drawn = labkit.data.of_experiment(again)
    network = labkit.networks.of_experiment(again)
    found = statistics_of_a_batch(network, torch.from_numpy(drawn.inputs).double(), torch.from_numpy(drawn.labels))
    rows.append(found[:, 2])
start_sizes = np.array(rows)
print("median", np.median(start_sizes, axis=0).round(4), "spread", spread(start_sizes).round(1))
### END SOLUTION

# %% test="seed_band" points=4
autograder.check("seed_band")

# %% [markdown] fixed="bands_text"
# Eight of these networks, trained for five epochs: the median and the band that holds 95 % of them. If two curves lie
# within one band, the difference between them may be nothing but the draw.

# %% fixed="bands"
seeds = [mine["tanh"].replace(seed=mine["tanh"].seed + k, epochs=5) for k in range(8)]
several = [labkit.train(one, progress=False) for one in seeds]

# %%
plots.bands(several)

# %% [markdown] fixed="statistic_words"
# **Which statistic would you watch, and why?** Say what each of the three (signed mean, standard deviation, mean of
# absolute values) shows and hides, with your numbers; whether the tutorial's two claims hold for your runs, and what
# one run proves; and answer the reader who asked why the averages are similar at every epoch.

# %% [markdown] essay="statistic_answer" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Signed mean:* signs cancel, so that it shows a part only, often less than half in the first layers (numbers from
#    visible_share). In the last layer it can be seen where the inputs of that layer have one sign (sigmoid always,
#    often ReLU): then all gradients of a point have one sign. It measures direction, not size.
# 2. *S.D. and mean of absolute values:* the S.D. measures from the mean, so it is close to the root mean square where
#    the mean is small, and too small where the mean is large (fc_5 of the sigmoid network); it is 0 for equal
#    gradients. The mean of absolute values is 0 only if every gradient is; a good choice (as is the norm).
# 3. *The claims, with numbers, and their limits:* the orders of magnitude usually hold (sigmoid about 0.001 to 0.01,
#    tanh about 0.01 to 0.1), but over seeds the size at the start varies by a factor of 8 to 50 and more (spread),
#    so one run proves little.
# 4. *Similar at every epoch:* the signed means are all near 0 and so look alike; what changes can be seen in the mean
#    of absolute values (late_over_early). The gradient of a mini-batch does not vanish with that of the whole loss. And
#    RMSprop divides by the root of the running mean square: the update stays nearly the same whatever the gradient.
### END SOLUTION

# %% [markdown] fixed="shared_text"
# ## One optimiser for three networks
#
# The tutorial makes one RMSprop object, outside its training function, and trains its three networks with it, one
# after another. Is that a mistake? RMSprop keeps for each weight a running mean of the squared gradient, $v$:
#
# $$v \leftarrow 0.9\,v + 0.1\,g^2 \qquad\qquad \Delta w = -\eta\,\frac{g}{\sqrt{v} + \epsilon}$$
#
# **Write the step.** Given the gradient, the old $v$ (both tensors), $\eta$ and $\epsilon$, give the step
# $\eta\,g / (\sqrt v + \epsilon)$ and the new $v$. Leave the tensors that you were given as they are.


# %% answer="rmsprop_step"
def rmsprop_step(gradient, square, learning_rate, epsilon):
    """The step, and the new running mean of the squares; both shaped like the gradient."""
    ### BEGIN SOLUTION
    square = 0.9 * square + 0.1 * gradient**2
    return learning_rate * gradient / (torch.sqrt(square) + epsilon), square
    ### END SOLUTION


# %% [markdown] fixed="by_name_text"
# Here is an optimiser as one finds it in home-made loops. Read it. Under what does it keep $v$, and what happens when
# the next network comes?


# %% fixed="by_name"
class HomeMadeRMSprop:
    """Steps any network; `network.named_parameters()` says which parameter is which."""

    def __init__(self, learning_rate=1e-3, epsilon=1e-7):
        self.learning_rate, self.epsilon, self.squares = learning_rate, epsilon, {}

    @torch.no_grad()
    def step(self, network):
        for name, parameter in network.named_parameters():
            before = self.squares.get(name, torch.zeros_like(parameter))
            change, self.squares[name] = rmsprop_step(parameter.grad, before, self.learning_rate, self.epsilon)
            parameter -= change


# %% [markdown] fixed="first_step_text"
# **Measure it.** Suppose that such an optimiser has trained your tanh network and is then used for your sigmoid
# network. Compute the length of the *first* step that it makes there: the L2 norm of the step of each weight matrix,
# five numbers, `fc_1` first. Do it twice: with a fresh optimiser, and with the moments that the tanh run left, which
# are in its recording: `tanh.checkpoint_moment(-1, "square_avg")` has them by the parameter's name. Give
# `first_step = {"fresh": ..., "shared": ...}`.
#
# The first mini-batch is `labkit.data.epoch_batches(mine["sigmoid"], 0)[0]`. (What you find for the fresh one stands
# in your recording, too: `sigmoid.update_norm[0]`.)

# %% answer="first_step"
# first_step = {"fresh": ..., "shared": ...}
### BEGIN SOLUTION
network = labkit.networks.of_experiment(mine["sigmoid"])
first = labkit.data.epoch_batches(mine["sigmoid"], 0)[0]
mean_cross_entropy(network(points[first]), labels[first]).backward()
left = tanh.checkpoint_moment(-1, "square_avg")
first_step = {"fresh": [], "shared": []}
for name, parameter in network.named_parameters():
    if name.endswith(".weight"):
        for which, square in (("fresh", torch.zeros_like(parameter)), ("shared", torch.from_numpy(left[name].copy()))):
            change, _ = rmsprop_step(parameter.grad, square, 1e-3, 1e-7)
            first_step[which].append(change.norm().item())
print({which: np.round(lengths, 5) for which, lengths in first_step.items()})
### END SOLUTION

# %% test="shared_optimizer" points=3
autograder.check("shared_optimizer")

# %% [markdown] fixed="shared_words"
# **Explain.** What does a network inherit from the one before it when they share the home-made optimiser, and in which
# direction does it change the first steps? Why has every weight of a fresh network nearly the same first step, however
# small its gradient? And does the tutorial's own code suffer from this? Its Keras, of 2021, keeps the moments of a
# variable under an id that no other variable has; Keras of today refuses variables that it was not built for.

# %% [markdown] essay="shared_answer" points=2
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *What leaks, with numbers:* the moments are kept by name, all networks have the same names, so the sigmoid network
#    is divided by the root of the tanh's squares. Its own gradients are smaller, so its first steps are (the ratio from
#    first_step) until 0.9^n has brought the old squares down to its own: 20 iterations for a factor of 3 in the step,
#    120 for one of 500. A fresh one: v = 0.1 g^2, so that the step is sqrt(10) times the learning rate whatever g is
#    (as long as g is large against epsilon).
# 2. *The tutorial:* there is no leak in its code, for each variable has moments of its own; nothing but a counter of
#    steps is shared, which RMSprop does not use (Adam would: its correction for the start would be missing). It is a
#    habit that does harm elsewhere, so make one optimiser for each network.
### END SOLUTION

# %% [markdown] fixed="glorot_text"
# ## Glorot's weights
#
# N(0, 1) is an arbitrary choice. Glorot and Bengio (2010) asked which variance keeps the signals on the way forward and
# the gradients on the way back at one size, for activations that are nearly straight, and found
#
# $$\mathrm{Var}(w) = \frac{2}{n_\mathrm{in} + n_\mathrm{out}}, \qquad\text{uniform: } |w| \le
# \sqrt{\frac{6}{n_\mathrm{in} + n_\mathrm{out}}}$$
#
# For a layer of 5 by 5 this is a variance of 0.2 instead of 1. The tutorial leaves it as an exercise to see what that
# changes. Do it.
#
# **Measure the gain per layer.** Let $z_l$ be what comes out of the $l$-th `Linear`, before the activation. The gain
# into layer $l$ is the factor by which the mean square of dloss/d$z$ changes on the way from layer $l + 1$ to layer
# $l$: below 1 gradients vanish towards the input, above 1 they explode. Write `layer_gains(network, points, labels)`:
# pass the points through the network module by module (`for module in network:`), keep what each `nn.Linear` gives and
# ask it to `retain_grad()`; after `backward()` its `.grad` has a row for each point. Give the four ratios, into `fc_1`
# first: the mean of the squares over all points and units of a layer, divided by that of the layer behind it.


# %% answer="layer_gains"
def layer_gains(network, points, labels):
    """(layers - 1,) mean of (dloss/dz)^2 of each layer over that of the next one."""
    ### BEGIN SOLUTION
    h, before = points, []
    for module in network:
        h = module(h)
        if isinstance(module, nn.Linear):
            h.retain_grad()
            before.append(h)
    mean_cross_entropy(h, labels).backward()
    squares = [z.grad.square().mean().item() for z in before]
    return np.array([first / second for first, second in pairwise(squares)])
    ### END SOLUTION


# %% [markdown] fixed="gains_text"
# Apply it to your six networks before training, on all points (they are the same for all six), and hold it against
# mean-field theory, which is for wide layers: `labkit.theory.gain(activation, initialisation, width)`, with what stands
# in each experiment, `mine[name].activation` and `.initialisation`, and the width of the hidden layers. Give two
# dictionaries with the six names as keys: `gains` (four numbers each) and `theory_gain` (one number each).

# %% answer="gains"
# gains = {"sigmoid": ..., "tanh": ..., ...}
# theory_gain = {"sigmoid": ..., "tanh": ..., ...}
### BEGIN SOLUTION
gains = {name: layer_gains(labkit.networks.of_experiment(e), points, labels) for name, e in mine.items()}
theory_gain = {name: labkit.theory.gain(e.activation, e.initialisation, 5) for name, e in mine.items()}
for name in mine:
    print(f"{name:15} measured {gains[name].round(3)}   theory {theory_gain[name]:.3f}")
### END SOLUTION

# %% test="layer_gains" points=4
autograder.check("layer_gains")

# %% [markdown] fixed="prediction_text"
# **Predict.** Before you train: which of the six will learn, that is, classify more than nine points in ten right?
# Three of them you have seen. Give `prediction`, a dictionary with the six names and `True` or `False`. It need not be
# right; say in your answer below what it rested on.
#
# **Train** the three networks with Glorot's weights (save them as `"sigmoid_glorot.safetensors"`,
# `"tanh_glorot.safetensors"` and `"relu_glorot.safetensors"`), and give `final_accuracy`, a dictionary with all six: the
# last value of `recording.accuracy`, on a fixed batch of 250 of your points.

# %% answer="prediction"
# prediction = {"sigmoid": ..., "tanh": ..., ...}
### BEGIN SOLUTION
prediction = {name: 0.4 < gain < 5 for name, gain in theory_gain.items()}
print(prediction)
### END SOLUTION

# %% answer="train_glorot"
# sigmoid_glorot, tanh_glorot, relu_glorot = ...
# final_accuracy = {"sigmoid": ..., "tanh": ..., ...}
### BEGIN SOLUTION
names = ("sigmoid_glorot", "tanh_glorot", "relu_glorot")
sigmoid_glorot, tanh_glorot, relu_glorot = labkit.train_many(
    [mine[n] for n in names], save=[f"{n}.safetensors" for n in names]
)
all_six = {**three, "sigmoid_glorot": sigmoid_glorot, "tanh_glorot": tanh_glorot, "relu_glorot": relu_glorot}
final_accuracy = {name: run.accuracy[-1] for name, run in all_six.items()}
print({name: round(float(share), 3) for name, share in final_accuracy.items()})
### END SOLUTION

# %% test="glorot_runs" points=4
autograder.check("glorot_runs")

# %%
plots.gain_per_layer([sigmoid, tanh, relu])

# %%
plots.gain_per_layer([sigmoid_glorot, tanh_glorot, relu_glorot])

# %%
plots.accuracy([sigmoid, tanh, relu])

# %%
plots.accuracy([sigmoid_glorot, tanh_glorot, relu_glorot])

# %%
plots.gradient_statistics([sigmoid_glorot, tanh_glorot, relu_glorot], source="first_batch")

# %% [markdown] fixed="glorot_words"
# **What does Glorot change, and what not?** Compare the gains with N(0, 1) and with Glorot's weights for the three
# activations, measured and by theory. On which side of 1 were they? Who learns, and was your prediction right? The
# tutorial says that a change of the initialisation helps less than a change of the activation: do you agree?

# %% [markdown] essay="glorot_answer" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *N(0, 1) is the exploding side for tanh and ReLU:* theory says 1.48 and 2.5 per hidden layer, so that their
#    gradients grow towards the input; the sigmoid's is 0.2, so that they vanish. Measured gains scatter around that
#    (narrow layers, one draw; the last factor belongs to the single output and is another one).
# 2. *With Glorot:* tanh 1, as intended, for it is nearly straight around 0; ReLU 0.5, for half of its units are off
#    (He's 2/n would make it 1); sigmoid 0.056, *smaller* than with N(0, 1), for its slope is at most 1/4 and Glorot's
#    derivation takes a slope of 1.
# 3. *Who learns, with numbers, and the prediction:* tanh always and ReLU nearly always, with either start (some ReLU
#    networks die on the way: all gradients are exactly 0, and the accuracy stays at 0.5); the sigmoid with neither, and
#    with Glorot its loss stays even closer to ln 2 = 0.69. A prediction from the gain alone that went wrong and is
#    explained earns the point.
# 4. *What it does not change:* the slope of the activation, 1/4 at most, is what makes the sigmoid vanish; no variance
#    of the weights that leaves it unsaturated repairs that in these layers. A gain a little off 1 is no harm over four
#    layers, less so with RMSprop, which divides the size of the gradient out. It would be in forty.
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more. Save the notebook. Hand in this folder:
# the notebook with `one_relu`, `one_sigmoid`, `three_sigmoid`, `own`, `sigmoid`, `tanh`, `relu`, `sigmoid_glorot`, `tanh_glorot` and `relu_glorot` (each
# `.safetensors`), and
# `answers.json`, in which the checks noted what they saw.
