# The exploding-gradients lab. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Exploding gradients: build the dial, then choose the remedy
#
# You set how much each layer of a network multiplies a gradient: by 1/2, 1 or 2. You watch it vanish, hold and
# explode, clip what explodes, and find out what clipping mends and what it leaves as it was. At the end you audit a
# published tutorial whose plots do not show what it says they show.
#
# **How this notebook works**
#
# - Work from top to bottom. Where a cell says `# YOUR CODE HERE`, replace that line and the one below it.
# - A cell with `autograder.check(...)` tells you at once what holds already and what is missing, as often as you like.
#   These are the checks that mark your work; only their inputs will be others.
#   The bare number below a check is the points that it gives you now; nbgrader reads it, so leave the cell as it is.
# - Answers in words are read by a person. Write full sentences; a figure or a number from *your* run is worth more
#   than a general remark.
# - Your id decides your sample of images, your initial weights and the order of your mini-batches.
# - What you hand in is this notebook and the files that it saves beside it (`*.safetensors`, `answers.json`).
#
# All trainings together take about half a minute.

# %% fixed="setup"
import numpy as np
import torch
from torch import nn

import autograder
import labkit
from labkit import plots

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

# %% [markdown] fixed="dial_text"
# ## The dial
#
# On its way back through a fully connected layer of $n$ units, a gradient $\partial\,\mathrm{loss}/\partial z$ is
# multiplied by the weights and by the slopes of the activation. With random weights of mean 0 and standard deviation
# $s$, its mean square changes, from each layer to the one before it, by the **gain**
#
# $$k = n \, s^2 \cdot \text{mean of } \varphi'(z)^2 .$$
#
# Over ten layers that is $k^{10}$: with $k = 2$ a thousand times, with $k = 1/2$ a thousandth. Turn the formula
# round: which $s$ gives a wanted gain? The slope of a linear layer is 1 everywhere; a ReLU's is 0 for half of its
# inputs and 1 for the others.


# %% answer="weight_sd"
def weight_sd(activation, width, k):
    """The standard deviation of the weights with which "relu" or "linear" layers of that width have a gain of k."""
    ### BEGIN SOLUTION
    mean_squared_slope = {"relu": 0.5, "linear": 1.0}[activation]
    return (k / (width * mean_squared_slope)) ** 0.5
    ### END SOLUTION


# %% test="weight_sd" points=2
autograder.check("weight_sd")

# %% [markdown] fixed="experiments_text"
# Three networks of ten hidden ReLU layers, which differ in that number alone. (He's weights have a standard deviation
# of $\sqrt{2/n}$; `gain` multiplies them. Compare with your formula. They compute in 64-bit numbers, so that rounding
# decides nothing, and reach 10³⁰⁸ before a number is called infinite.)

# %% fixed="experiments"
dial = {
    name: labkit.experiment(f"exploding/gain_{name}", student).replace(widths=(784, *(64,) * 10, 10), dtype="float64")
    for name in ("half", "one", "two")
}
for name, e in dial.items():
    print(f"{name:5} k = {labkit.theory.gain('relu', 'he_normal', 64, e.gain):.3g}   {e}")
half_experiment, two_experiment = dial["half"], dial["two"]

digits = labkit.data.of_experiment(dial["one"])
# the first 250 of your images: the probe batch, on which recordings look at a network
probe_images, probe_labels = torch.from_numpy(digits.images[:250]).double(), torch.from_numpy(digits.labels[:250])

# %% [markdown] fixed="backward_gain_text"
# ## Measure the gain
#
# Now measure it. For a network, images and labels: let $z_l$ be what the fully connected layer `fc_l` puts out.
# Compute the mean of $(\partial\,\mathrm{loss}/\partial z_l)^2$ over all units and images, for each layer, and give the
# ratio of each layer's to that of the **next** one: an array with one number for every layer but the last, the first
# layer first. Use the mean cross-entropy.
#
# PyTorch keeps no gradients of what lies inside a network unless you ask. Two ways: a forward hook on each `nn.Linear`
# (`module.register_forward_hook(f)`, with `f(module, inputs, output)`), in which you call `output.retain_grad()` and
# keep `output`; after `loss.backward()` it has a `.grad`. Remove your hooks at the end (`handle.remove()`). Or step
# through the network module by module, keep what each `nn.Linear` gives, and call `torch.autograd.grad`.
# Later you apply the function to networks whose layers are not simply one behind the other: hooks work there, too.


# %% answer="backward_gain"
def backward_gain(network, images, labels):
    """(layers - 1,) the factor on the mean square of dloss/dz from each layer to the one before it."""
    ### BEGIN SOLUTION
    outputs = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        outputs.append(output)

    handles = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, nn.Linear)]
    nn.functional.cross_entropy(network(images), labels).backward()
    for handle in handles:
        handle.remove()
    squares = np.array([z.grad.double().square().mean().item() for z in outputs])
    return squares[:-1] / squares[1:]
    ### END SOLUTION


# %% test="backward_gain" points=3
autograder.check("backward_gain")

# %% [markdown] fixed="dial_runs_text"
# ## Vanish, hold, explode
#
# Train the three networks with `labkit.train_many`: give it the list of the experiments in `dial`, and `save=` the
# list of the files `"half.safetensors"`, `"one.safetensors"` and `"two.safetensors"`.

# %% answer="dial_runs"
# half, one, two = labkit.train_many(...)
### BEGIN SOLUTION
half, one, two = labkit.train_many(list(dial.values()), save=[f"{name}.safetensors" for name in dial])
### END SOLUTION

# %% test="dial_runs" points=3
autograder.check("dial_runs")

# %%
plots.losses([half, one, two])

# %%
plots.gradient_sizes([half, one, two])

# %% [markdown] fixed="gains_text"
# Look at the second figure: mean |dloss/dW| of each layer. Ten layers that multiply by 1/2 or 2, and yet
# each network's curve lies at nearly the same height in the tiles of all hidden layers behind the first? Measure both.
#
# The first layer sees images and the last has ten units, so use the eight **inner** gains, `[1:-1]` of what
# `backward_gain` gives, and their geometric mean (`np.exp(np.mean(np.log(...)))`). Give three dictionaries with the
# keys `"half"`, `"one"` and `"two"`:
#
# - `gain_of_z`: the geometric mean of the inner gains of each network before its training
#   (`labkit.networks.of_experiment(e)`), on `probe_images` and `probe_labels`;
# - `gain_of_weights`: the same for the squared norm of $\partial\,\mathrm{loss}/\partial W$, from your recordings: row 0
#   of `half.probe_statistic("norm")` has the norm of each layer's weight gradient on that batch, before the training.
#   From `fc_10` (column 9) to `fc_2` (column 1) there are eight steps;
# - `inside_band`: how many of the eight inner gains lie within the band in which theory expects 95 % of the gains of
#   layers of 64 units: `low, high = labkit.theory.gain_band(k, (1, 64, 1))`.

# %% answer="dial_gains"
# gain_of_z = {"half": ..., "one": ..., "two": ...}
# gain_of_weights = {"half": ..., "one": ..., "two": ...}
# inside_band = {"half": ..., "one": ..., "two": ...}


### BEGIN SOLUTION
def inner_gains(network):
    return backward_gain(network, probe_images, probe_labels)[1:-1]


def mean_gain(gains):
    return np.exp(np.mean(np.log(gains)))


at_start = {name: inner_gains(labkit.networks.of_experiment(e)) for name, e in dial.items()}
gain_of_z = {name: mean_gain(gains) for name, gains in at_start.items()}

norms = {"half": half.probe_statistic("norm")[0], "one": one.probe_statistic("norm")[0]}
norms["two"] = two.probe_statistic("norm")[0]
gain_of_weights = {name: (norm[1] / norm[9]) ** (2 / 8) for name, norm in norms.items()}

inside_band = {}
for name, k in (("half", 0.5), ("one", 1.0), ("two", 2.0)):
    low, high = labkit.theory.gain_band(k, (1, 64, 1))
    inside_band[name] = int(((at_start[name] > low) & (at_start[name] < high)).sum())
### END SOLUTION

# %% test="dial_gains" points=3
autograder.check("dial_gains")

# %%
plots.gain_per_layer([half, one, two])

# %% [markdown] fixed="dial_question"
# **Explain.** What does the gain do to the gradients of the three networks, how well does theory foresee it, and why do
# the gradients of the *weights* not show it from layer to layer? (What multiplies $\partial\,\mathrm{loss}/\partial z$
# in $\partial\,\mathrm{loss}/\partial W$, and how does the same $k$ change it on the way forwards?) What then differs
# between the weight gradients of the three networks?

# %% [markdown] essay="dial_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *The gain, with numbers:* the mean square of dloss/dz is multiplied by about 1/2, 1 and 2 from layer to layer, so
#    that over the hidden layers it vanishes, holds or explodes exponentially.
# 2. *Theory:* the own gains lie within the band; single layers scatter because 64 units are few (variance about 5/n).
# 3. *Why weights hide it:* dloss/dW is dloss/dz times the layer's input h; h grows forwards by the same factor by which
#    dloss/dz grows backwards, so that the product is the same in every layer (Glorot & Bengio 2010, eq. 14).
# 4. *What differs:* the size of all of them together: it is tiny for 1/2 and large for 2, as are the logits and the
#    loss. So a flat figure of weight gradients does not prove that all is well.
### END SOLUTION

# %% [markdown] fixed="clip_text"
# ## Clipping
#
# A gradient that is too long makes a step that is too long. Clipping shortens it. *By norm*: take all gradients
# together as one long vector; if its L2 norm is above `max_norm`, multiply all of them by one factor so that it is
# `max_norm`; else leave them. (`torch.nn.utils.clip_grad_norm_` does that in place; write it yourself, and leave the
# tensors that you are given as they are.)


# %% answer="clip_by_norm"
def clip_by_norm(gradients, max_norm):
    """A list of gradients, all scaled down together to the L2 norm max_norm where they are longer."""
    ### BEGIN SOLUTION
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    factor = min(1.0, max_norm / (float(norm) + 1e-6))
    return [gradient * factor for gradient in gradients]
    ### END SOLUTION


# %% test="clip_by_norm" points=2
autograder.check("clip_by_norm")

# %% [markdown] fixed="clip_otherwise_text"
# Two other ways carry similar names. Keras's `clipnorm` scales **each** variable's gradient down by itself, and
# clipping *by value* cuts every single number off at `-limit` and `+limit`. Write both, again without changing what you
# are given.


# %% answer="clip_otherwise"
def clip_each_by_norm(gradients, max_norm):
    """A list of gradients, each by itself scaled down to the L2 norm max_norm where it is longer."""
    ### BEGIN SOLUTION
    return [clip_by_norm([gradient], max_norm)[0] for gradient in gradients]
    ### END SOLUTION


def clip_by_value(gradients, limit):
    """A list of gradients, every value cut off at -limit and +limit."""
    ### BEGIN SOLUTION
    return [gradient.clamp(-limit, limit) for gradient in gradients]
    ### END SOLUTION


# %% test="clip_otherwise" points=2
autograder.check("clip_otherwise")

# %% [markdown] fixed="clipped_gradients_text"
# **Three ways on one gradient.** Here are the gradients of all 22 parameters of your network with $k = 2$, on its first
# mini-batch. Clip them by norm to 1, each by its norm to 1, and by value to 0.1. Give two dictionaries with the keys
# `"norm"`, `"each"` and `"value"`, in both of which all 22 gradients together are one long vector:
#
# - `norm_after`: the L2 norm of the clipped vector;
# - `cosine`: the cosine of the angle between the clipped vector and the one before.

# %% fixed="first_gradients"
first_batch = labkit.data.epoch_batches(two_experiment, 0)[0]
first_network = labkit.networks.of_experiment(two_experiment)
first_images = torch.from_numpy(labkit.data.of_experiment(two_experiment).images[first_batch]).double()
first_labels = torch.from_numpy(labkit.data.of_experiment(two_experiment).labels[first_batch])
first_loss = nn.functional.cross_entropy(first_network(first_images), first_labels)
given_gradients = list(torch.autograd.grad(first_loss, list(first_network.parameters())))
print(f"{len(given_gradients)} gradients, {sum(g.numel() for g in given_gradients):,} values, loss {first_loss:.1f}")

# %% answer="clipped_gradients"
# norm_after = {"norm": ..., "each": ..., "value": ...}
# cosine = {"norm": ..., "each": ..., "value": ...}
### BEGIN SOLUTION
ways = {
    "norm": clip_by_norm(given_gradients, 1.0),
    "each": clip_each_by_norm(given_gradients, 1.0),
    "value": clip_by_value(given_gradients, 0.1),
}
before = torch.cat([gradient.ravel() for gradient in given_gradients])
afterwards = {way: torch.cat([gradient.ravel() for gradient in clipped]) for way, clipped in ways.items()}
norm_after = {way: float(vector.norm()) for way, vector in afterwards.items()}
cosine = {way: float(vector @ before / vector.norm() / before.norm()) for way, vector in afterwards.items()}
### END SOLUTION

# %% test="clipped_gradients" points=2
autograder.check("clipped_gradients")

# %% [markdown] fixed="loud_text"
# ## Exploding, and clipped
#
# With $k = 2$ your network still survives. Turn the dial up until the gradients explode: their norm passes 1,000 and
# the loss may end as no number at all. `labkit.theory.scale_for("relu", "he_normal", 64, k)` gives the `gain` that makes
# the weights have your $k$ (up to 9): `two_experiment.replace(gain=...)`. Train it as `loud`, with
# `save="loud.safetensors"`. Then train the same with `clip_norm=1.0` as `clipped`, `save="clipped.safetensors"`.

# %% answer="loud_and_clipped"
# loud = labkit.train(...)
# clipped = labkit.train(...)
### BEGIN SOLUTION
loud_experiment = two_experiment.replace(gain=labkit.theory.scale_for("relu", "he_normal", 64, 4.0))
loud = labkit.train(loud_experiment, save="loud.safetensors")
clipped = labkit.train(loud_experiment.replace(clip_norm=1.0), save="clipped.safetensors")
### END SOLUTION

# %% test="loud_and_clipped" points=3
autograder.check("loud_and_clipped")

# %%
plots.losses([loud, clipped])

# %%
plots.gradient_norms([loud, clipped])

# %% [markdown] fixed="clipped_norms_text"
# **What did clipping mend?** A recording holds the gradients as the optimiser *used* them, after the clipping:
# `clipped.statistic("norm")` has one row for each iteration and one column for each layer. `clipped.clip_factor`, of the
# same shape, has by how much clipping shortened each: norm before = norm after / factor. Give
#
# - `largest_norm = {"before": ..., "after": ...}`: the largest norm over all iterations, of all weight matrices together
#   (the root of the sum of their squared norms), before and after the clipping;
# - `gain_of_clipped = {"start": ..., "end": ...}`: the geometric mean of the inner gains of the clipped network, at its
#   start and after its training. `clipped.checkpoint(0)` and `clipped.checkpoint(-1)` are dictionaries of its
#   parameters as arrays; `network.load_state_dict(...)` takes them as tensors.

# %% answer="clipped_norms"
# largest_norm = {"before": ..., "after": ...}
# gain_of_clipped = {"start": ..., "end": ...}
### BEGIN SOLUTION
used = clipped.statistic("norm")
largest_norm = {
    "before": np.sqrt(((used / clipped.clip_factor) ** 2).sum(axis=1)).max(),
    "after": np.sqrt((used**2).sum(axis=1)).max(),
}
gain_of_clipped = {}
for moment, index in (("start", 0), ("end", -1)):
    network = labkit.networks.of_experiment(two_experiment)
    network.load_state_dict({name: torch.tensor(array) for name, array in clipped.checkpoint(index).items()})
    gain_of_clipped[moment] = mean_gain(inner_gains(network))
### END SOLUTION

# %% test="clipped_norms" points=3
autograder.check("clipped_norms")

# %% [markdown] fixed="remedies_text"
# ## Other remedies
#
# An experiment has two more switches: `normalisation` (`"none"`, `"batch"` or `"layer"`: what each layer puts out is
# given mean 0 and variance 1, over the batch or over the layer's units, before the activation), and `residual=True`
# (each hidden layer adds its input to its output). Measure what each does to the gain at the start: two dictionaries
# with the keys `"none"`, `"batch"`, `"layer"` and `"residual"`, each value a geometric mean of inner gains,
#
# - `gain_with_half`: for `half_experiment` and that one field replaced;
# - `gain_with_two`: for `two_experiment`.
#
# Then choose: train your **loud** experiment, its `gain` as it is and without clipping, with a normalisation or
# residual connections such that its loss falls, as `mended`, `save="mended.safetensors"`.

# %% answer="remedies"
# gain_with_half = {"none": ..., "batch": ..., "layer": ..., "residual": ...}
# gain_with_two = {"none": ..., "batch": ..., "layer": ..., "residual": ...}
# mended = labkit.train(...)


### BEGIN SOLUTION
def with_remedies(e):
    remedies = {
        "none": e,
        "batch": e.replace(normalisation="batch"),
        "layer": e.replace(normalisation="layer"),
        "residual": e.replace(residual=True),
    }
    return {name: mean_gain(inner_gains(labkit.networks.of_experiment(one))) for name, one in remedies.items()}


gain_with_half, gain_with_two = with_remedies(half_experiment), with_remedies(two_experiment)
mended = labkit.train(loud_experiment.replace(normalisation="layer"), save="mended.safetensors")
### END SOLUTION

# %% test="remedies" points=4
autograder.check("remedies")

# %%
plots.losses([clipped, mended])

# %% [markdown] fixed="remedies_question"
# **Which remedy for which cause?** You have clipping, another scale of the weights (He's, a $k$ of 1), normalisation and
# residual connections. For each: what does it change, and does it help against vanishing, against exploding, against
# both? What did clipping leave as it was in your run, and how does that show in its loss? Use your gains.

# %% [markdown] essay="remedies_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Clipping* bounds the step and keeps the loss finite, but the gain stays what it was (the same at the start and
#    nearly so at the end), so that the loss begins huge and falls slowly; it does nothing against vanishing.
# 2. *Scale of the weights:* removes the cause, in both directions; it holds at the start only.
# 3. *Normalisation* makes the gain independent of the scale of the weights (the same with 1/2 and with 2): near 1 for
#    layer, near 1.5 for batch normalisation of ReLU layers, so that very deep ones explode mildly.
# 4. *Residual connections* add 1 to the gain, or somewhat more: 1.5 to 2 instead of 1/2, so nothing vanishes, but 3 to 4
#    instead of 2: against exploding they make it worse and need normalisation or smaller weights.
### END SOLUTION

# %% [markdown] fixed="audit_text"
# ## Audit the tutorial
#
# A widely read tutorial shows exploding gradients and their remedy like this. It trains a *linear* network of 21 hidden
# layers (Keras's Dense layers, so Glorot's uniform weights) by Adam, and once more with `clipnorm=1.0`. **After** each
# epoch it computes the gradients of the loss anew, by a tape, and plots the norm of each layer's. (Its listing does not
# run: a bracket is missing, and the function that computes the norms is called and never defined.) It says: without
# clipping "there is a exploding in gradient in 3rd epoch", with clipping "these are just gradual fluctuations".
#
# Train both at a smaller size: `linear` and `linear_clipped`, with `save="linear.safetensors"` and
# `save="linear_clipped.safetensors"`; and `stuck`, its deep *sigmoid* network, with `save="stuck.safetensors"`.

# %% fixed="tutorial_experiments"
smaller = {"data": "digits", "observations": 2000, "pool": 10_000, "epochs": 3}
linear_experiment = labkit.experiment("exploding/linear", student).replace(**smaller, widths=(784, *(64,) * 21, 10))
# clip_each is Keras's clipnorm
linear_clipped_experiment = linear_experiment.replace(name="exploding/linear_clipped", clip_each=1.0)
stuck_experiment = labkit.experiment("exploding/sigmoid", student).replace(**smaller, widths=(784, *(64,) * 11, 10))

# %% answer="tutorial_runs"
# linear = labkit.train(...)
# linear_clipped = labkit.train(...)
# stuck = labkit.train(...)
### BEGIN SOLUTION
linear = labkit.train(linear_experiment, save="linear.safetensors")
linear_clipped = labkit.train(linear_clipped_experiment, save="linear_clipped.safetensors")
stuck = labkit.train(stuck_experiment, save="stuck.safetensors")
### END SOLUTION

# %% test="tutorial_runs" points=3
autograder.check("tutorial_runs")

# %%
plots.losses([linear, linear_clipped])

# %%
plots.gradient_norms([linear, linear_clipped])

# %% [markdown] fixed="tutorial_norms_text"
# **Does it explode by itself, and what did the tutorial plot?** Give
#
# - `linear_gain`: the geometric mean of the inner gains of the linear network before its training. (It computes in
#   32-bit numbers: `probe_images.float()`.)
# - `matrix_norm = {"tutorial": ..., "before": ..., "after": ...}`, three times the largest norm of the gradient of *one*
#   weight matrix in `linear_clipped`: as the tutorial takes it, computed anew after each epoch
#   (`probe_statistic("norm")`, rows 1 to 3); over all iterations before the clipping; and over all iterations after it.

# %% answer="tutorial_norms"
# linear_gain = ...
# matrix_norm = {"tutorial": ..., "before": ..., "after": ...}
### BEGIN SOLUTION
linear_network = labkit.networks.of_experiment(linear_experiment)
linear_gain = mean_gain(backward_gain(linear_network, probe_images.float(), probe_labels)[1:-1])
of_each = linear_clipped.statistic("norm")
matrix_norm = {
    "tutorial": linear_clipped.probe_statistic("norm")[1:].max(),
    "before": (of_each / linear_clipped.clip_factor).max(),
    "after": of_each.max(),
}
### END SOLUTION

# %% test="tutorial_norms" points=3
autograder.check("tutorial_norms")

# %% [markdown] fixed="majority_text"
# **Stuck at 11.2 %.** The tutorial's sigmoid network stays at an accuracy of 11.2 %, which it takes for the accuracy
# that learning has reached. What does a network reach that has learned *nothing* about the images? It can always answer
# with the most frequent class; and its loss is lowest when it says of every image how frequent each class is. Write a
# function that gives both from the labels: that accuracy (a share between 0 and 1) and that loss (in nats).


# %% answer="majority"
def majority(labels):
    """The accuracy of the most frequent class, and the cross-entropy of the classes' frequencies, in nats."""
    ### BEGIN SOLUTION
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    share = counts / counts.sum()
    return share.max(), -(share * np.log(share)).sum()
    ### END SOLUTION


# %% test="majority" points=2
autograder.check("majority")

# %% fixed="mnist_counts"
# how often each digit is in the 60,000 images of MNIST on which the tutorial trains
mnist_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
print("MNIST: accuracy {:.4f}, loss {:.4f}".format(*majority(np.repeat(np.arange(10), mnist_counts))))
print("yours: accuracy {:.4f}, loss {:.4f}".format(*majority(digits.labels)))
print(f"stuck: loss of the last epoch {stuck.loss[-63:].mean():.4f}")

# %% [markdown] fixed="histogram_text"
# **A histogram of what?** For its sigmoid network the tutorial draws `layer.get_weights()` in 30 bins and reads: "the
# gradients are dense in range of gradient value -0.1 to 0.1 this shows that there are high chances of vanishing
# gradients". Give
#
# - `keras_edge`: how far Glorot's uniform weights reach between two layers of 256 units, as in the tutorial;
# - `widest = {"weights": ..., "gradients": ...}`: the largest |weight| of `fc_2` in `stuck` before the training
#   (`stuck.checkpoint(0)`), and the largest |gradient| of these weights at the first iteration
#   (`stuck.statistic("abs_max")`).

# %% answer="tutorial_histogram"
# keras_edge = ...
# widest = {"weights": ..., "gradients": ...}
### BEGIN SOLUTION
keras_edge = np.sqrt(6 / (256 + 256))
widest = {
    "weights": np.abs(stuck.checkpoint(0)["fc_2.weight"]).max(),
    "gradients": stuck.statistic("abs_max")[0, 1],
}
### END SOLUTION

# %% test="tutorial_histogram" points=2
autograder.check("tutorial_histogram")

# %%
plots.weight_histograms(stuck)

# %% [markdown] fixed="conv_text"
# ## The tutorial's other remedy
#
# Against vanishing the tutorial changes everything at once: convolutions for layers, ReLU, He's weights, batch
# normalisation and residual blocks, `exploding/residual_conv`. Its accuracy is drawn on an axis from 0.90 to 1, "hence
# proving us that there is very less vanishing gradient problem". Yours is smaller: 500 digits, an eighth of the
# channels, 3 epochs.
#
# **He's weights.** A unit of a convolution sums over all channels of a small square of its input, with filters of
# $c \times s \times s$ weights for $c$ channels. Which standard deviation do He's weights have there? (Your
# `weight_sd` with a gain of 1, and the right number of inputs.) Write `he_sd(channels, side)`. Then give `shrinks`: a deep
# network has nine convolutions of 3 x 3 filters, whose inputs have 64, 128, 128, 256, 256, 512, 512, 512 and 512 channels.
# By which factor is the size of a gradient that has passed all nine smaller, if their filters were drawn with a standard
# deviation of 0.01 and not with He's?


# %% answer="he_sd"
def he_sd(channels, side):
    """The standard deviation of He's weights in filters of channels x side x side."""
    ### BEGIN SOLUTION
    return (2 / (channels * side**2)) ** 0.5
    ### END SOLUTION


# shrinks = ...
### BEGIN SOLUTION
shrinks = np.prod([he_sd(channels, 3) / 0.01 for channels in (64, 128, 128, 256, 256, 512, 512, 512, 512)])
### END SOLUTION

# %% test="he_weights" points=2
autograder.check("he_weights")

# %% fixed="conv_experiment"
conv_experiment = labkit.experiment("exploding/residual_conv", student).replace(
    **(smaller | {"observations": 500}), widths=(1, 8, 8, 8, 16, 16, 32, 32, 10), dtype="float64"
)
print(labkit.networks.of_experiment(conv_experiment))

# %% [markdown] fixed="conv_values_text"
# Train it as `conv`, with `save="conv.safetensors"`, and give
#
# - `sd_over_he`: for each convolution of a block, `block_1.conv_1` to `block_6.conv_2`, twelve numbers in this order: the
#   standard deviation of its filters before the training (`conv.checkpoint(0)["block_1.conv_1.weight"]`) over that of your
#   `he_sd`;
# - `first_over_last = {"stuck": ..., "conv": ...}`: the norm of the gradient of the first weights over that of the last
#   ones, before the training: row 0 of `probe_statistic("norm")`, its first column over its last;
# - `reached = {"stuck": ..., "conv": ...}`: the accuracy at the end, the last value of `.accuracy`.

# %% answer="conv_values"
# conv = labkit.train(...)
# sd_over_he = [...]
# first_over_last = {"stuck": ..., "conv": ...}
# reached = {"stuck": ..., "conv": ...}
### BEGIN SOLUTION
conv = labkit.train(conv_experiment, save="conv.safetensors")
filters = [conv.checkpoint(0)[f"block_{k}.conv_{n}.weight"] for k in range(1, 7) for n in (1, 2)]
sd_over_he = [float(w.std() / he_sd(w.shape[1], w.shape[2])) for w in filters]
first_over_last, reached = {}, {}
for name, run in (("stuck", stuck), ("conv", conv)):
    norm = run.probe_statistic("norm")[0]
    first_over_last[name], reached[name] = norm[0] / norm[-1], run.accuracy[-1]
print(np.round(sd_over_he, 2), first_over_last, reached)
### END SOLUTION

# %% test="conv_values" points=4
autograder.check("conv_values")

# %%
plots.accuracy([stuck, conv])

# %%
plots.gradient_sizes(conv)

# %% [markdown] fixed="conv_question"
# **Does the accuracy prove it?** What do your numbers say about the gradient of the residual network, and how do you know
# it from them rather than from the accuracy? Five things were changed at once: which of them act on the gain, by what you
# measured with the dial, and what would you train to tell which of them was needed?

# %% [markdown] essay="conv_words" points=3
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *The gradient, with numbers:* of the sigmoid network's last gradient a tiny part reaches the first layer (own number,
#    many orders of magnitude), of the residual network's a size like the last one's (own number). That is measured; an
#    accuracy says that a network learns, and not why: it may rise with vanished gradients (Adam), and stay low without.
# 2. *What acts on the gain:* ReLU's slope with He's weights gives 1 in each convolution, at the start (own sd_over_he: 1
#    but for the draw); normalisation takes the weights' scale out; the skip adds 1. Convolutions do not act on it.
#    An sd of 0.01 in He's place would cost a factor of 17,000 over nine layers.
# 3. *How to tell:* change one at a time, with the rest as it is (an ablation), over several seeds, and record the gradient
#    per layer. Each may be enough by itself, so that taking one away shows nothing: add them one at a time, too. And
#    draw the axis from 0 or from chance, with the sigmoid network beside it.
### END SOLUTION

# %% [markdown] fixed="audit_question"
# **Write the report.** Why could clipping not show in the tutorial's plot of gradient norms, whatever it did? If the
# linear network does not explode at its start, what may have made the norms of all images jump in the tutorial's third
# epoch, and what else makes the losses in your figure scatter, each of which is one mini-batch's? The tutorial names "the
# exponential function in ReLU activation" as a cause, "due to their derivative becoming large as input values increase":
# is that so? What do the 11.2 % and the histogram really show? Say for each claim what you measured and what the tutorial
# should have plotted instead.

# %% [markdown] essay="audit_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Clipping:* the norms come from a tape of their own, after the epoch; clipping happens inside the optimiser, to
#    gradients that are then thrown away. So the plot shows norms before any clipping (the own number may well be above
#    1, the used ones never are). It should have recorded what the optimiser used, and before it, at every iteration.
# 2. *Cause:* the gain at the start is near 1, nothing explodes from layer to layer; Adam's steps are too long for 22
#    layers whose product is the function: a learning-rate instability. A smaller learning rate mends it; with Adam,
#    clipping hardly changes the size of a step, which is nearly independent of the gradient's. The scatter of the own
#    losses is for the most part that of mini-batches of 32 images: it is there with clipping, too, and would be with
#    shorter steps; the loss on the same images again and again jumps far less. And no exponential is in
#    a ReLU: its slope is 0 or 1 for every input, so it makes nothing explode that the weights do not.
# 3. *11.2 %:* the share of the most frequent class (6742 of 60,000), and the plateau of the loss is the entropy of the
#    classes, 2.301: the network has learned how frequent classes are, and nothing about images.
# 4. *Histogram:* it shows weights, not gradients; the edges at 0.1 are Glorot's (0.108). The gradients of early layers
#    are smaller by many orders of magnitude (own number), on a logarithmic axis they should have been drawn.
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more. Save the notebook. Hand in this folder:
# the notebook with `half`, `one`, `two`, `loud`, `clipped`, `mended`, `linear`, `linear_clipped`, `stuck` and `conv`
# (each `.safetensors`), and
# `answers.json`, in which the checks noted what they saw.
