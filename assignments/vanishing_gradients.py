# The vanishing-gradients lab. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Vanishing gradients: watch them happen
#
# You train two networks that differ in one thing only, the activation function between their layers. One of them
# learns, the other hardly does. You record what the gradients did at every iteration, and you find out why.
#
# **How this notebook works**
#
# - Work from top to bottom. Where a cell says `# YOUR CODE HERE`, replace that line and the one below it.
# - A cell with `autograder.check(...)` tells you at once what holds already and what is missing, as often as you like.
#   These are the checks that mark your work; only their inputs will be others.
#   The bare number below a check is the points that it gives you now; nbgrader reads it, so leave the cell as it is.
# - Answers in words are read by a person. Write full sentences; a figure or a number from *your* run is worth more
#   than a general remark.
# - Your id decides your sample of images, your initial weights and the order of your mini-batches. Your figures are
#   therefore your own, and nobody else's fit into your hand-in.
# - What you hand in is this notebook and the files that it saves beside it (`*.safetensors`, `workspace.json`,
#   `answers.json`). Leave them where they are.
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

# Notes after every cell what changed among your variables; Question 2 asks about it.
desk = labkit.workspace(path="workspace.json")

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
# Everything that decides the two runs; the seed follows from your id.
relu_experiment = labkit.experiment("vanishing/relu", student=student)
sigmoid_experiment = labkit.experiment("vanishing/sigmoid", student=student)
print(relu_experiment)
print(sigmoid_experiment)

# %% [markdown] fixed="activations_text"
# ## Two activation functions and their slopes
#
# $$\mathrm{ReLU}(x) = \max(0, x) \qquad\qquad \sigma(x) = \frac{1}{1 + e^{-x}}$$
#
# On the way back through a network, each activation multiplies the gradient by its own slope. So look at the slopes
# first. Let PyTorch differentiate: make `x` a tensor that requires a gradient, compute the activation, and call
# `backward()`. (`y.sum().backward()` gives the derivative of each element, because each `y` depends on its own `x`
# only.) Leave the tensor that you were given as it is.


# %% answer="activation_gradients"
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    ### BEGIN SOLUTION
    x = x.detach().clone().requires_grad_(True)
    y = {"relu": torch.relu, "sigmoid": torch.sigmoid}[name](x)
    y.sum().backward()
    return y.detach(), x.grad
    ### END SOLUTION


# %% test="activation_gradients" points=2
autograder.check("activation_gradients")

# %%
plots.activations()

# %% [markdown] fixed="numerical_text"
# A derivative can also be estimated from the values alone, by the differences between neighbours. A well-known
# example of this lab does so: it takes 1,000 points from -5 to 5 and divides the differences by 0.01. But what is
# the distance between 1,000 points from -5 to 5? Compare the estimate with what autograd says where the ReLU is
# steep, and give the ratio `numerical_bias` = estimated slope / true slope to at least four decimals.

# %% answer="numerical_bias"
x = np.linspace(-5, 5, 1000)
### BEGIN SOLUTION
estimated = np.gradient(np.maximum(0, x), 0.01)
_, true = activation_gradients("relu", torch.from_numpy(x))
numerical_bias = estimated[900] / true[900].item()
### END SOLUTION

# %% test="numerical_bias" points=1
autograder.check("numerical_bias")

# %% [markdown] fixed="data_text"
# ## The data
#
# 5,000 images of digits, 28 by 28 pixels with values from 0 to 1, 500 of each class. They are drawn, not
# photographed, and your sample is your own.

# %% fixed="data"
digits = labkit.data.student_digits(relu_experiment.observations, seed=relu_experiment.seed)
images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)

# %% fixed="data_sheet"
plots.contact_sheet(digits)

# %% [markdown] fixed="network_text"
# ## Define the network
#
# Four fully connected layers of ten units, with an activation between them:
#
# `flatten` → `fc_1` → `relu_1` → `fc_2` → `relu_2` → `fc_3` → `relu_3` → `fc_4`
#
# and the same with `sigmoid_1`, ... Build it as an `nn.Sequential` of *named* layers (an `OrderedDict` gives the
# names). Start the weights as Glorot and Bengio proposed, uniform (`nn.init.xavier_uniform_`), and the biases at
# zero. That is not PyTorch's default, and for this lab it matters. Call `torch.manual_seed(seed)` first, so that the
# same seed gives the same network. The last layer's output are the logits: no softmax, it belongs to the loss.


# %% answer="build_network"
def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    ### BEGIN SOLUTION
    from collections import OrderedDict

    torch.manual_seed(seed)
    module = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[activation]
    layers = OrderedDict(flatten=nn.Flatten())
    widths = (784, 10, 10, 10, 10)
    for number in range(1, 5):
        linear = nn.Linear(widths[number - 1], widths[number])
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers[f"fc_{number}"] = linear
        if number < 4:
            layers[f"{activation}_{number}"] = module()
    return nn.Sequential(layers)
    ### END SOLUTION


# %% test="build_network" points=3
autograder.check("build_network")

# %% [markdown] fixed="loss_text"
# ## Define the model's loss and gradients
#
# Given a network, a mini-batch of images and their labels (class numbers), compute the mean cross-entropy and its
# gradient with respect to every learnable parameter. Give the loss and a dictionary
# `{parameter name: gradient}`, named as `network.named_parameters()` names them.


# %% answer="model_loss"
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    ### BEGIN SOLUTION
    loss = nn.functional.cross_entropy(network(images), labels)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    return loss.detach(), dict(zip(names, gradients, strict=True))
    ### END SOLUTION


# %% test="model_loss" points=3
autograder.check("model_loss")

# %% [markdown] fixed="distribution_text"
# ## From values to a distribution
#
# A layer has up to 7,840 gradients, too many to look at one by one. Sort them into 30 bins of equal width from the
# smallest value to the largest, and give the *centres* of the bins and the *counts*. `values` may have any shape.


# %% answer="gradient_distributions"
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    ### BEGIN SOLUTION
    counts, edges = np.histogram(values.detach().numpy().ravel(), bins=30)
    return (edges[:-1] + edges[1:]) / 2, counts
    ### END SOLUTION


# %% test="gradient_distributions" points=2
autograder.check("gradient_distributions")

# %% [markdown] fixed="loop_text"
# ## Your own training loop
#
# Now train, by your own loop, for three epochs. The network, the optimiser and the recorder are there; the mini-batches
# come as lists of indices, in the order that your seed gives. For each mini-batch: clear the old gradients, compute
# the loss, call `backward()`, let the optimiser step, and tell the recorder (`recorder.step(loss)`). At the end of
# each epoch say `recorder.end_epoch()`.
#
# The recorder looks at every gradient and changes none. Your loop is later run again from its recording, so every
# mini-batch has to be taken once, in order.


# %% answer="train_loop"
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        ### BEGIN SOLUTION
        for indices in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[indices]), labels[indices])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
        recorder.end_epoch()
        ### END SOLUTION
    return recorder.recording()


# %% fixed="train_own"
own_experiment = relu_experiment.replace(name="your own loop", epochs=3)
own_network = labkit.networks.of_experiment(own_experiment)
own_optimizer = labkit.Adam(own_network.parameters())
own_recorder = labkit.Recorder(own_network, own_optimizer, own_experiment)
own = train_loop(own_network, own_optimizer, own_recorder, own_experiment)
own.save("own.safetensors")
own

# %% test="own_loop" points=4
autograder.check("own_loop")

# %% [markdown] fixed="train_text"
# ## Train both networks
#
# Fifty epochs, 2,000 iterations, for each of the two. `labkit.train_many` does what your loop does, with everything
# recorded, and trains networks that share their mini-batches side by side. Give it the list of the two experiments,
# and `save=` the list of the two files, `"relu.safetensors"` and `"sigmoid.safetensors"`. With
# `watch=labkit.LiveDistributions()` you see the distributions grow while it trains.
#
# A file that already holds this very run is read, not trained again.

# %% answer="train_both"
# relu, sigmoid = labkit.train_many(...)
### BEGIN SOLUTION
relu, sigmoid = labkit.train_many(
    [relu_experiment, sigmoid_experiment],
    save=["relu.safetensors", "sigmoid.safetensors"],
    watch=labkit.LiveDistributions(),
)
### END SOLUTION

# %% test="recordings" points=4
autograder.check("recordings")

# %% [markdown] fixed="figures_text"
# ## Look at it
#
# First the gradient distributions. One tile is one layer; each epoch is one slice, and depth is time. As in the
# well-known example, a slice is drawn from the *last* mini-batch of its epoch. It has only 8 images
# (5000 = 39 × 128 + 8), which makes its gradients larger and wilder than those of a full batch.

# %%
plots.gradient_distributions(relu)

# %%
plots.gradient_distributions(sigmoid)

# %% [markdown] fixed="probe_text"
# The same from a fixed batch of 250 images, on common bins and a logarithmic scale; then flat, as you would print it.

# %%
plots.gradient_distributions(relu, source="probe")

# %%
plots.gradient_distributions(sigmoid, source="probe")

# %%
plots.distribution_heatmap([relu, sigmoid])

# %% [markdown] fixed="losses_text"
# Now the losses. Give the mean loss over the 40 iterations of the last epoch as
# `final_loss = {"relu": ..., "sigmoid": ...}`. (`relu.loss` is an array with one value for each iteration.)

# %%
plots.losses([relu, sigmoid])

# %% answer="final_loss"
# final_loss = {"relu": ..., "sigmoid": ...}
### BEGIN SOLUTION
final_loss = {"relu": relu.loss[-40:].mean(), "sigmoid": sigmoid.loss[-40:].mean()}
### END SOLUTION

# %% test="final_loss" points=1
autograder.check("final_loss")

# %% [markdown] fixed="means_text"
# The mean gradient of each layer, as the well-known example draws it: signed, so that positive and negative
# gradients cancel. The shaded bands are the rounding error of 32-bit numbers: what lies inside is not a measurement.

# %%
plots.mean_gradients([relu, sigmoid])

# %% [markdown] fixed="sizes_text"
# And the mean of the *absolute* gradient, on a logarithmic axis.

# %%
plots.gradient_sizes([relu, sigmoid])

# %% [markdown] fixed="figures_question"
# **What do these figures show?** Describe in a few sentences: how the distributions of the two networks differ and
# how they change from the last layer to the first; what that has to do with the two losses; and what the mean of the
# absolute gradient shows that the signed mean hides.

# %% [markdown] essay="figures" points=3
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Distributions:* those of the sigmoid network are narrow around 0 and become narrower towards the first layer;
#    those of the ReLU network are wide in all layers.
# 2. *Loss:* small gradients early on go with the slow fall of the sigmoid's loss (a plateau near ln 10 = 2.3 at the
#    beginning); the ReLU's loss falls at once.
# 3. *Signed against absolute:* the signed mean is near 0 for both networks because signs cancel, and in the last
#    layer it is rounding noise; the absolute mean separates the layers and the networks by orders of magnitude.
### END SOLUTION

# %% [markdown] fixed="question_1"
# ## Question 1: vanishing against exploding
#
# **Measure.** How much smaller is the gradient in the first layer than in the last? Write a function that takes mean
# |gradient| per iteration and layer, an array of shape (iterations, layers) with the first layer first, and gives
# last / first for each iteration. It should be inf where the first layer's is 0 and the last one's is not.


# %% answer="attenuation"
def attenuation(sizes):
    """(iterations,) last / first of sizes, which is (iterations, layers)."""
    ### BEGIN SOLUTION
    with np.errstate(divide="ignore"):
        return np.asarray(sizes)[:, -1] / np.asarray(sizes)[:, 0]
    ### END SOLUTION


# %% test="attenuation" points=1
autograder.check("attenuation")

# %% [markdown] fixed="attenuation_text"
# Apply it to your recordings. `relu.statistic("abs_mean")` has the shape that you need; the other statistics are
# listed in `labkit.recording.STATISTICS`. Give two dictionaries with the keys `"relu"` and `"sigmoid"`:
#
# - `attenuation_at_start`: the value at the first iteration;
# - `attenuation_over_training`: the median over all iterations.

# %% answer="attenuation_values"
# attenuation_at_start = {"relu": ..., "sigmoid": ...}
# attenuation_over_training = {"relu": ..., "sigmoid": ...}
### BEGIN SOLUTION
both = {"relu": relu, "sigmoid": sigmoid}
ratios = {name: attenuation(run.statistic("abs_mean")) for name, run in both.items()}
attenuation_at_start = {name: ratio[0] for name, ratio in ratios.items()}
attenuation_over_training = {name: np.median(ratio) for name, ratio in ratios.items()}
### END SOLUTION

# %% test="attenuation_values" points=2
autograder.check("attenuation_values")

# %%
plots.attenuation([relu, sigmoid])

# %% [markdown] fixed="exploding_text"
# **Make them explode.** `labkit.experiment("vanishing/exploding", student)` is a deeper ReLU network of nine layers,
# trained by plain gradient descent. Its `gain` multiplies all initial weights, so each layer passes on a signal, and
# a gradient, that many times larger. With a gain of 1 it trains. Turn the gain up (`.replace(gain=...)`, not beyond
# 10) until the gradients explode: their norm, near 1 with a gain of 1, passes 1,000, and the loss may no longer be a
# number. Train it with `save="exploding.safetensors"`. Then train the same experiment once more with the gradients
# clipped to a norm of 1 (`.replace(clip_norm=1.0)`) and `save="clipped.safetensors"`.

# %% answer="exploding"
# exploding = labkit.train(...)
# clipped = labkit.train(...)
### BEGIN SOLUTION
loud = labkit.experiment("vanishing/exploding", student).replace(gain=3.0)
exploding = labkit.train(loud, save="exploding.safetensors")
clipped = labkit.train(loud.replace(clip_norm=1.0), save="clipped.safetensors")
### END SOLUTION

# %% test="exploding" points=3
autograder.check("exploding")

# %%
plots.losses([exploding, clipped])

# %%
plots.gradient_sizes([exploding, clipped])

# %% [markdown] fixed="question_1_words"
# **Explain.** What are vanishing and exploding gradients, where in your runs did you see each, and what do they do to
# training? Use your own numbers. Why does clipping help against the one and not against the other?

# %% [markdown] essay="question_1_answer" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *What they are:* the gradient of an early layer is a product of one factor per later layer (weights times slope
#    of the activation); factors below 1 make it vanish, above 1 explode, exponentially in the depth. For the sigmoid
#    the slope is at most 1/4.
# 2. *Vanishing, with numbers:* last/first of some 100 at the start for the sigmoid against about 1 for ReLU; the
#    first layers hardly learn, the loss stays on its plateau.
# 3. *Exploding, with numbers:* with the gain turned up, the norm of the gradient is hundreds of times larger, one step
#    throws the weights far away, and the loss becomes inf or NaN within a few iterations.
# 4. *Clipping:* it scales a gradient that is too long down and keeps its direction, so steps stay bounded; a gradient
#    that is too small is left as it is. Remedies for vanishing lie elsewhere: ReLU, initialisation, normalisation,
#    skip connections.
### END SOLUTION

# %% [markdown] fixed="question_2"
# ## Question 2: what happened in the workspace?
#
# `desk` has noted after every cell which of your variables appeared, changed or went. Show it:

# %%
labkit.workspace()

# %% [markdown] fixed="question_2_loop"
# A cell that trains changes a variable thousands of times, but the notes are taken once, at its end. To see what
# changes *at every iteration*, write a loop over five mini-batches (clear the gradients, loss, backward, step) that
# appends the loss as a number to `history` and then calls `desk.observe(f"iteration {i}")`, for `i` from 1 to 5. Use
# the network and the optimiser of this cell, and no function around the loop: the workspace shows the variables of
# the notebook, not those inside a function.

# %% answer="watched_loop"
watched_network = labkit.networks.of_experiment(sigmoid_experiment)
watched_optimizer = labkit.Adam(watched_network.parameters())
watched_batches = labkit.data.epoch_batches(sigmoid_experiment, 0)
history = []
### BEGIN SOLUTION
for i in range(1, 6):
    indices = watched_batches[i - 1]
    watched_optimizer.zero_grad()
    loss = nn.functional.cross_entropy(watched_network(images[indices]), labels[indices])
    loss.backward()
    watched_optimizer.step()
    history.append(loss.item())
    desk.observe(f"iteration {i}")
### END SOLUTION

# %% [markdown] fixed="question_2_report"
# Report, by name as texts:
#
# - `grew_most`: the variable whose memory grew most during the notebook, from its first appearance to now.
#   (`desk.timeline.grew()` lists what grew, with bytes before and after.)
# - `changed_every_iteration`: the list of the variables that changed at each of the five iterations.

# %% answer="workspace_report"
# grew_most = "..."
# changed_every_iteration = ["...", ...]
### BEGIN SOLUTION
grew_most = desk.timeline.largest_growth()[0]
watched = [step for step in desk.timeline.steps if step.source.startswith("iteration ")]
changed_every_iteration = sorted(set.intersection(*({c.name for c in step.changed} for step in watched[1:])))
### END SOLUTION

# %% test="workspace" points=3
autograder.check("workspace")

# %% [markdown] fixed="question_2_words"
# **Explain.** How did the variables change as you went through the notebook? Which one caught your attention, and why?

# %% [markdown] essay="question_2_answer" points=3
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Course:* data and settings appear early and stay (images, labels, experiments); networks change in place while
#    their size stays the same; recordings appear with the trainings.
# 2. *Per iteration:* the network (in place), the loss, the indices and the history change at every step; images and
#    labels never do.
# 3. *A variable that caught attention, with a reason* that refers to what the table shows (for instance: images has
#    15.7 MB, a network 32 kB; or: the network's size never changes although it learns).
### END SOLUTION

# %% [markdown] fixed="question_3"
# ## Question 3: why does the gradient of layer 4 grow?
#
# In the ReLU network the gradient of the last layer, `fc_4`, grows while the loss falls. Is that not a contradiction?
#
# **Measure the growth** of mean |gradient| of `fc_4` in `relu`: the mean over the last ten epochs divided by the mean
# over the first five (40 iterations each), as `growth_of_layer_4`.

# %% answer="growth"
# growth_of_layer_4 = ...
### BEGIN SOLUTION
size_of_layer_4 = relu.statistic("abs_mean")[:, 3]
growth_of_layer_4 = size_of_layer_4[-400:].mean() / size_of_layer_4[:200].mean()
### END SOLUTION

# %% test="growth" points=1
autograder.check("growth")

# %% [markdown] fixed="precision_text"
# **Which curve can you believe?** The well-known example plots the *signed* mean. Train the ReLU network for five
# epochs in 32-bit and once more in 64-bit numbers (`.replace(epochs=5)`, and `dtype="float64"` for the second), with
# `save="float32.safetensors"` and `save="float64.safetensors"`. Give, for each, the largest |signed mean| of the
# gradient of `fc_4` over all iterations: `largest_signed_mean = {"float32": ..., "float64": ...}`.

# %% answer="precision"
# largest_signed_mean = {"float32": ..., "float64": ...}
### BEGIN SOLUTION
short = relu_experiment.replace(epochs=5)
in_float32 = labkit.train(short, save="float32.safetensors")
in_float64 = labkit.train(short.replace(dtype="float64"), save="float64.safetensors")
largest_signed_mean = {
    "float32": np.abs(in_float32.statistic("mean")[:, 3]).max(),
    "float64": np.abs(in_float64.statistic("mean")[:, 3]).max(),
}
### END SOLUTION

# %% test="precision" points=2
autograder.check("precision")

# %% [markdown] fixed="factors_text"
# **Take it apart.** With the softmax's probabilities $p$, the one-hot labels $y$ and the input $h_3$ of the last
# layer, back-propagation gives
#
# $$\frac{\partial\,\mathrm{loss}}{\partial W_4} = \text{mean over the batch of } (p - y)\, h_3^{\mathsf T}.$$
#
# Both factors are in the recording, on the fixed probe batch, before the first epoch (row 0) and after each epoch:
# `relu.output_error` is mean |p - y|, and `relu.hidden_statistic("abs_mean")` has mean |h| with one column for each
# hidden layer. Give, for each of the two, its value after the last epoch divided by its value before the first:
# `error_factor` and `hidden_factor`.

# %% answer="factors"
# error_factor = ...
# hidden_factor = ...
### BEGIN SOLUTION
h3 = relu.hidden_statistic("abs_mean")[:, 2]
error_factor = relu.output_error[-1] / relu.output_error[0]
hidden_factor = h3[-1] / h3[0]
### END SOLUTION

# %% test="factors" points=2
autograder.check("factors")

# %%
plots.growth(relu)

# %% [markdown] fixed="question_3_words"
# **Explain.** Why does the gradient of layer 4 grow although the loss falls? And why is its *signed* mean always 0,
# whatever the network does? (Sum the formula above over the classes.) Use your four numbers.

# %% [markdown] essay="question_3_answer" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Two factors:* the gradient is a product of the error p - y and of the activations h3.
# 2. *With numbers:* the error falls several times (that is what the loss shows), but h3 grows by far more, so the
#    product grows. For the sigmoid network h3 stays near 0.5 and nothing grows.
# 3. *What it means:* with large h3 a small change of a weight changes the logits a lot; the network is sensitive, its
#    loss surface steep.
# 4. *The signed mean is 0 by algebra:* p and y both sum to 1 over the classes, so p - y and with it every column of
#    the gradient sums to 0. What float32 shows is rounding: it shrinks by about nine orders of magnitude in float64.
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more. Save the notebook. Hand in this folder:
# the notebook with `own`, `relu`, `sigmoid`, `exploding`, `clipped`, `float32` and `float64` (each `.safetensors`),
# `workspace.json` and `answers.json`, in which the checks noted what they saw.
