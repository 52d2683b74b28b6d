# The activation study. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Activation study: thirty against six?
#
# A widely read tutorial trains one network of six layers three times, with sigmoid, ReLU and leaky ReLU between the
# layers, and logs its gradients to TensorBoard. It sums up that from the last layer to the first the gradient shrinks
# 30 times with the sigmoid and 6 times with the other two, says why, and finds that leaky ReLU brings nothing. You
# repeat the experiment and check each of these statements, the way in which the numbers were averaged, the reason that
# is given, the code that logged it, and its list of remedies.
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
import tempfile
from itertools import pairwise

import numpy as np
import torch
from torch import nn

import autograder
import labkit
from autograder.questions.activation_study import experiments, plain_experiments
from labkit import ensembles, export, plots

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
# Your three runs: "sigmoid", "relu" and "leaky_relu". Everything is the tutorial's but the images, which are digits of
# ours instead of MNIST's: 2,500 iterations, in mini-batches of 30.
mine = experiments(student)
for name, experiment in mine.items():
    print(f"{name:12}{experiment}")

digits = labkit.data.of_experiment(mine["relu"])
# the first 250 of your images: the probe batch, on which recordings look at a network
probe_images, probe_labels = torch.from_numpy(digits.images[:250]), torch.from_numpy(digits.labels[:250])

# %% [markdown] fixed="six_layers_text"
# ## Six layers by hand
#
# Write the leaky ReLU first, as `leaky(z)`: $z$ where $z > 0$, and $0.2\,z$ elsewhere, for a tensor of any shape, without
# `nn.LeakyReLU` and its relatives. (0.2 is what the tutorial's framework takes; PyTorch's own default is 0.01. A slope
# that is left to a framework is part of an experiment all the same.) `torch.where` or `torch.maximum` will do, and
# autograd finds the derivative.
#
# Then the network, as an `nn.Sequential`: `nn.Flatten()`, six `nn.Linear` (784 to 10, four times 10 to 10, and 10 to
# the 10 classes), and behind each of them but the last the activation, `"sigmoid"`, `"relu"` or `"leaky_relu"`. It
# gives logits, so no softmax. The tutorial's framework starts from Glorot's uniform weights and zero biases, where
# `nn.Linear` has a start of its own: `nn.init.xavier_uniform_` and `nn.init.zeros_` set them.


# %% answer="six_layers"
def leaky(z):
    """z where it is above 0, 0.2 z elsewhere; z is a tensor of any shape."""
    ### BEGIN SOLUTION
    return torch.where(z > 0, z, 0.2 * z)
    ### END SOLUTION


class LeakyReLU(nn.Module):
    """Your function as a layer."""

    def forward(self, z):
        return leaky(z)


def six_layers(activation):
    """An nn.Sequential of six nn.Linear with the activation between them, at Glorot's start."""
    ### BEGIN SOLUTION
    layers = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "leaky_relu": LeakyReLU}
    widths, parts = [784, 10, 10, 10, 10, 10, 10], [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        parts += [linear, layers[activation]()]
    return nn.Sequential(*parts[:-1])
    ### END SOLUTION


# %% test="six_layers" points=3
autograder.check("six_layers")

# %% [markdown] fixed="accuracy_text"
# ## Accuracy, and how sure it is
#
# The tutorial's first figure is the accuracy, each point taken from one mini-batch of 30 images. Write a function that
# gives two things from logits (one row for each image) and labels: the share $p$ of the images whose largest logit is
# that of their label, and the standard error of this share,
#
# $$\sqrt{\frac{p\,(1 - p)}{n}}$$
#
# for $n$ images: by how much it would scatter if you drew $n$ others. Give both as numbers.


# %% answer="accuracy"
def accuracy(logits, labels):
    """The share that is classified right, and the standard error of that share."""
    ### BEGIN SOLUTION
    share = (logits.argmax(dim=1) == labels).double().mean().item()
    return share, (share * (1 - share) / len(labels)) ** 0.5
    ### END SOLUTION


# %% test="accuracy" points=2
autograder.check("accuracy")

# %% [markdown] fixed="runs_text"
# ## Three trainings
#
# Train the three networks with `labkit.train_many`: give it the list of your experiments, and `save=` the list of the
# files `"sigmoid.safetensors"`, `"relu.safetensors"` and `"leaky_relu.safetensors"`. A file that already holds this
# very run is read, not trained again.

# %% answer="activation_runs"
# sigmoid, relu, leaky_relu = labkit.train_many(...)
### BEGIN SOLUTION
sigmoid, relu, leaky_relu = labkit.train_many(list(mine.values()), save=[f"{name}.safetensors" for name in mine])
### END SOLUTION

# %% test="activation_runs" points=3
autograder.check("activation_runs")

# %% [markdown] fixed="figures_text"
# The tutorial's figures from your runs: the accuracy (here on 250 images, always the same ones), and mean |gradient| of
# the last and of the first layer.

# %%
plots.accuracy([sigmoid, relu, leaky_relu])

# %%
plots.first_and_last([sigmoid, relu, leaky_relu])

# %% [markdown] fixed="last_over_first_text"
# ## Thirty against six?
#
# "The factor between layer 6 and layer 1" is not one number but 2,500, one for each iteration. There are several ways
# to make one of them. Write a function that takes an array of sizes, one row for each iteration and one column for each
# layer, and gives a dictionary with three numbers, each a last layer's size over a first layer's:
#
# - `"start"`: at the first iteration;
# - `"mean_of_ratios"`: the ratio at each iteration, then their mean. A narrow ReLU network may have iterations at which
#   nothing reaches its first layer; leave out those at which the first layer's size is 0;
# - `"ratio_of_means"`: the mean size of each layer over all iterations, then the ratio of the two.


# %% answer="last_over_first"
def last_over_first(sizes):
    """{"start": ..., "mean_of_ratios": ..., "ratio_of_means": ...} of sizes (iterations, layers)."""
    ### BEGIN SOLUTION
    first, last = sizes[:, 0], sizes[:, -1]
    there = first > 0
    return {
        "start": last[0] / first[0],
        "mean_of_ratios": (last[there] / first[there]).mean(),
        "ratio_of_means": last.mean() / first.mean(),
    }
    ### END SOLUTION


# %% test="last_over_first" points=3
autograder.check("last_over_first")

# %% [markdown] fixed="ratios_text"
# Apply it. `sigmoid.statistic("abs_mean")` has the sizes: 2,500 rows, six columns. Give two dictionaries with the keys
# `"sigmoid"`, `"relu"` and `"leaky_relu"`, each value what `last_over_first` gives:
#
# - `ratios`: over all iterations;
# - `tutorial_ratios`: over the 13 iterations at which the tutorial looked, every 200th with the first one included.
#
# And one dictionary more, with one number for each network: `early_share`, how much of the sum of all 2,500 ratios the
# first epoch contributes. The first 100 iterations are 4 % of all, so 0.04 says that no part of the training rules the
# mean of the ratios. (Again without the iterations at which the first layer's size is 0.)

# %% answer="ratios"
# ratios = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
# tutorial_ratios = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
# early_share = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
### BEGIN SOLUTION
runs = {"sigmoid": sigmoid, "relu": relu, "leaky_relu": leaky_relu}
ratios = {name: last_over_first(run.statistic("abs_mean")) for name, run in runs.items()}
tutorial_ratios = {name: last_over_first(run.statistic("abs_mean")[::200]) for name, run in runs.items()}
for name in runs:
    for which, found in (("all", ratios[name]), ("13 looks", tutorial_ratios[name])):
        print(f"{name:12}{which:10}", {key: round(float(value), 2) for key, value in found.items()})
early_share = {}
for name, run in runs.items():
    first, last = run.statistic("abs_mean")[:, 0], run.statistic("abs_mean")[:, -1]
    there = first > 0
    ratio = np.divide(last, first, out=np.zeros_like(last), where=there)
    early_share[name] = ratio[:100].sum() / ratio.sum()
print({name: round(float(share), 3) for name, share in early_share.items()})
### END SOLUTION

# %% test="ratios" points=3
autograder.check("ratios")

# %% [markdown] fixed="ratios_question"
# **Which factor is it?** Compare your numbers with the tutorial's 30 and 6. Which average gives something like them, and
# which does not? Why are the mean of the ratios and the ratio of the means so far apart for the sigmoid and so close
# for ReLU? Does the gradient of the ReLU networks vanish at the start, and later? Say which numbers you would have
# published.

# %% [markdown] essay="ratios_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Which average:* the ratio of means gives some tens for the sigmoid (25 to 75 were seen) and 4 to 12 for the two
#    others, as published; the mean of the ratios gives hundreds, and the start thousands against about 1 (own numbers).
# 2. *Why they differ:* a mean of ratios is ruled by the few iterations with a tiny denominator, the first ones, in which
#    the sigmoid's first layer has hardly any gradient (own early_share: far above 0.04); a ratio of means is ruled by
#    the iterations with large gradients. For ReLU the ratio changes little from one iteration to the next, so that both agree.
# 3. *ReLU:* at the start nothing vanishes (ratio about 1); it grows in training to 4 to 12, alike for both, so that it
#    is no matter of the initial weights.
# 4. *What to publish:* the curve, or start and later apart, with the way of averaging, and over several seeds; 13
#    records of single mini-batches scatter (own numbers of all against 13).
### END SOLUTION

# %% [markdown] fixed="flat_text"
# ## Saturated and dead
#
# Where an activation is flat, no gradient passes. Write a function that takes the values $h$ behind an activation (an
# array with one row for each image and one column for each unit) and its name, and gives two numbers:
#
# - the share of all values that lie where it is **flat**: for `"sigmoid"` below 0.05 or above 0.95 (saturated), for
#   `"relu"` exactly 0, for `"leaky_relu"` none;
# - the share of the units that are flat for *every* image: **dead**, as far as these images tell.


# %% answer="flat_and_dead"
def flat_and_dead(h, activation):
    """The share of values that are flat, and the share of units that are flat for all images; h (images, units)."""
    ### BEGIN SOLUTION
    if activation == "sigmoid":
        flat = (h < 0.05) | (h > 0.95)
    else:
        flat = (h == 0) & (activation == "relu")
    return flat.mean(), flat.all(axis=0).mean()
    ### END SOLUTION


# %% fixed="hidden"
def hidden_after_training(recording):
    """What each of the five activations gives for the probe batch after training: five arrays (250, 10)."""
    network = labkit.networks.of_experiment(recording.origin.experiment)
    network.load_state_dict({name: torch.tensor(values) for name, values in recording.checkpoint(-1).items()})
    h, found = probe_images, []
    for module in network:
        h = module(h)
        if not isinstance(module, (nn.Flatten, nn.Linear)):
            found.append(h.detach().numpy())
    return found


# %% [markdown] fixed="flat_values_text"
# Apply it to your trained networks. Two dictionaries with the keys `"sigmoid"`, `"relu"` and `"leaky_relu"`:
#
# - `flat_share`: five numbers each, the flat share behind `fc_1` to `fc_5`;
# - `dead_units`: one number each, how many of the network's 50 hidden units are dead.

# %% answer="flat_values"
# flat_share = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
# dead_units = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
### BEGIN SOLUTION
flat_share, dead_units = {}, {}
for name, run in {"sigmoid": sigmoid, "relu": relu, "leaky_relu": leaky_relu}.items():
    shares = np.array([flat_and_dead(h, name) for h in hidden_after_training(run)])
    flat_share[name], dead_units[name] = shares[:, 0], shares[:, 1].sum() * 10
    print(f"{name:12} flat {flat_share[name].round(2)}   dead {dead_units[name]:.0f} of 50")
### END SOLUTION

# %% test="flat_units" points=4
autograder.check("flat_units")

# %% [markdown] fixed="seeds_text"
# ## One seed proves nothing
#
# The tutorial sees no benefit of leaky ReLU over ReLU, from one run of each. The layers are narrow, ten units, and what you
# see depends on the draw of the weights.
#
# - Write `wins(a, b)`: `a` and `b` are arrays with the result of several runs each. Give the share of all pairs, one of
#   `a` and one of `b`, in which that of `a` is the larger one; a tie counts as half. 1/2 says that nothing tells them
#   apart. (Statisticians know it as the U of Mann and Whitney, divided by the number of pairs.)
# - Measure `start_ratios`, a dictionary with 12 numbers for each activation: the ratio of the last layer's mean
#   |gradient| to the first's *before training*, of `mine[name].replace(seed=mine[name].seed + k)` for `k` from 0 to 11,
#   on the first 250 images of *that* experiment's data. It needs no training: `labkit.networks.of_experiment(e)`,
#   `labkit.data.of_experiment(e)`, the mean cross-entropy and one `backward()`.
# - Give `ratio_band`, for each activation three numbers: `(low, median, high)`. `ensembles.band(values)` has them as
#   `.low`, `.median` and `.high`; between low and high lie 95 % of the runs.


# %% answer="wins"
def wins(a, b):
    """The share of pairs in which the value of a is larger than that of b; a tie counts half."""
    ### BEGIN SOLUTION
    a, b = np.asarray(a)[:, None], np.asarray(b)[None, :]
    return (a > b).mean() + (a == b).mean() / 2
    ### END SOLUTION


# %% answer="start_ratios"
# start_ratios = {"sigmoid": ..., "relu": ..., "leaky_relu": ...}
# ratio_band = {"sigmoid": (..., ..., ...), "relu": (..., ..., ...), "leaky_relu": (..., ..., ...)}
### BEGIN SOLUTION
start_ratios = {name: [] for name in mine}
for name, experiment in mine.items():
    for k in range(12):
        again = experiment.replace(seed=experiment.seed + k)
        drawn, network = labkit.data.of_experiment(again), labkit.networks.of_experiment(again)
        logits = network(torch.from_numpy(drawn.images[:250]))
        nn.functional.cross_entropy(logits, torch.from_numpy(drawn.labels[:250])).backward()
        sizes = [p.grad.abs().mean().item() for p in network.parameters() if p.ndim == 2]
        start_ratios[name].append(sizes[-1] / sizes[0])
bands = {name: ensembles.band(values) for name, values in start_ratios.items()}
ratio_band = {name: (float(one.low), float(one.median), float(one.high)) for name, one in bands.items()}
print({name: str(one) for name, one in bands.items()})
### END SOLUTION

# %% test="seeds" points=3
autograder.check("seeds")

# %% [markdown] fixed="trained_seeds_text"
# Five ReLU and five leaky ReLU networks, trained for ten epochs, 1,000 iterations: who wins, and by how much?

# %% fixed="trained_seeds"
several = {"relu": [], "leaky_relu": []}
for k in range(5):
    pair = [mine[name].replace(seed=mine[name].seed + k, epochs=10) for name in several]
    for name, run in zip(several, labkit.train_many(pair, progress=False), strict=True):
        several[name].append(run)
reached = {name: np.array([run.accuracy[-1] for run in found]) for name, found in several.items()}
for name, shares in reached.items():
    print(f"{name:12} accuracy {shares.round(3)}   {ensembles.band(shares)}")
print(f"leaky ReLU wins {wins(reached['leaky_relu'], reached['relu']):.0%} of the pairs")

# %%
plots.bands(several["relu"] + several["leaky_relu"])

# %% [markdown] fixed="seeds_question"
# **Is leaky ReLU of use?** Use the standard error of an accuracy from 30 and from 250 images, the dead units of your
# trained networks, and the pairs. May one say from one run of each that there is no benefit? May one say it from yours?
# Which of the tutorial's comparisons does survive another seed, and what would a fair experiment look like?

# %% [markdown] essay="seeds_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Noise of an accuracy:* at p = 0.9 the standard error is 5.5 % from 30 images and 1.9 % from 250; the tutorial's
#    figure could show no difference of a few percent between two networks, whether it is there or not.
# 2. *Dead units, with numbers:* a share of ReLU units is dead after training, of leaky ReLU none can be; so there is a
#    reason why it might help, and where few are dead it hardly can.
# 3. *Pairs and bands:* one pair is won or lost by chance. Over five seeds leaky ReLU won 40 to 92 % of the pairs, with
#    one id or another: neither "no benefit" nor "a benefit" follows from that. "Not observed" is not "not there"; one
#    may say that a difference is small against the scatter.
# 4. *What survives, and a fair experiment:* sigmoid against the other two: thousands against about 1 at the start, bands
#    far apart. Fair: many seeds, the same data and order for both, a test set, bands; other widths and depths.
### END SOLUTION

# %% [markdown] fixed="log_text"
# ## Log the right thing
#
# Write what the tutorial's logging is meant to do: for a network of any number of `nn.Linear`, images and labels,
# compute the gradients of the mean cross-entropy and give a dictionary under the tutorial's names. For the weight
# matrix of the first layer (the biases are left out)
#
# - `"mean_1"`: the mean of the absolute values of its gradient,
# - `"histogram_1"`: its gradient,
# - `"hist_weights_1"`: its weights,
#
# for the second layer `"mean_2"` and so on.


# %% answer="log_values"
def log_values(network, images, labels):
    """{"mean_1": ..., "histogram_1": ..., "hist_weights_1": ..., "mean_2": ...}, of each weight matrix."""
    ### BEGIN SOLUTION
    network.zero_grad()
    nn.functional.cross_entropy(network(images), labels).backward()
    found = {}
    for number, weight in enumerate([p for p in network.parameters() if p.ndim == 2], start=1):
        found[f"mean_{number}"] = weight.grad.abs().mean().item()
        found[f"histogram_{number}"] = weight.grad
        found[f"hist_weights_{number}"] = weight.detach()
    return found
    ### END SOLUTION


# %% test="log_values" points=3
autograder.check("log_values")

# %% [markdown] fixed="events_text"
# **Do not trust what you wrote, read it back.** `labkit.export.to_tensorboard` writes a recording as an event file, for
# `tensorboard --logdir FOLDER`. The cell below writes one of the first three epochs of your leaky ReLU network, and
# reads it back with TensorBoard's own reader:
#
# - `curves[tag]` is the array of the values of a curve, one for each iteration; a tag is
#   `"gradient_abs_mean/fc_1"`, say;
# - `histograms[tag]` is a list, one entry for each epoch and one from before the first, of pairs: the counts in the bins
#   and the edges of the bins (one more than counts). Tags are `"weights/fc_1"`, `"gradients_probe/fc_1"`, ...


# %% fixed="read_back"
def read_back(recording):
    """The curves and the histograms of a recording, by tag, through an event file where TensorBoard is installed."""
    curves = {tag: values for tag, _, values in export.scalars(recording)}
    histograms = {}
    for tag, _, counts, edges, _ in export.histograms(recording):
        histograms.setdefault(tag, []).append((counts, edges))
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        with tempfile.TemporaryDirectory() as folder:
            export.to_tensorboard(recording, folder)
            events = EventAccumulator(folder, size_guidance={"scalars": 0, "histograms": 0}).Reload()
    except (ImportError, export.ExportError) as error:
        print(f"no event file ({error}): these are the values that would be in it")
        return curves, histograms
    for tag in events.Tags()["scalars"]:
        curves[tag] = np.array([event.value for event in events.Scalars(tag)])
    for tag in events.Tags()["histograms"]:
        found = [event.histogram_value for event in events.Histograms(tag)]
        histograms[tag] = [(np.array(one.bucket), np.array([one.min, *one.bucket_limit])) for one in found]
    return curves, histograms


three_epochs = labkit.train(mine["leaky_relu"].replace(epochs=3), progress=False)
curves, histograms = read_back(three_epochs)
print(f"{len(curves)} curves, {len(histograms)} histograms:", ", ".join([*curves][:4]), "...", [*histograms][-1])

# %% [markdown] fixed="events_values_text"
# Give, from `curves` and `histograms`,
#
# - `event_ratio`: the ratio of means, last layer to first, of mean |gradient| over the 300 iterations;
# - `event_negative`: six numbers, for each layer the share of its weights that are below 0 after the third epoch.

# %% answer="events"
# event_ratio = ...
# event_negative = [...]
### BEGIN SOLUTION
event_ratio = curves["gradient_abs_mean/fc_6"].mean() / curves["gradient_abs_mean/fc_1"].mean()
event_negative = []
for number in range(1, 7):
    counts, edges = histograms[f"weights/fc_{number}"][-1]
    centres = (edges[:-1] + edges[1:]) / 2
    event_negative.append(counts[centres < 0].sum() / counts.sum())
print(f"ratio {event_ratio:.2f}, negative {np.round(event_negative, 2)}")
### END SOLUTION

# %% test="events" points=2
autograder.check("events")

# %% [markdown] fixed="audit_text"
# ## Audit the tutorial
#
# Why does a gradient still shrink in a ReLU network? The tutorial shows a histogram of what its code logged as the
# weights of layer 4 of the leaky network, reads off that "the weights are consistently < 0", and concludes that
# multiplying by values below 0 makes gradients vanish. Two things are to be checked: whether these *are* the weights,
# and whether the reason is one.
#
# **What was logged?** Here is the tutorial's logging, carried over to PyTorch as it stands there.


# %% fixed="tutorial_log"
def tutorial_log(network, images, labels):
    """What the tutorial writes at one look, by the names that it gives."""
    logits = network(images)
    loss = nn.functional.cross_entropy(logits, labels)
    kernels = [module.weight for module in network if isinstance(module, nn.Linear)]
    logged = {}
    for i, kernel in enumerate(kernels):
        grad = torch.autograd.grad(loss, kernel, retain_graph=True)[0]
        logged[f"mean_{i + 1}"] = grad.abs().mean()
        logged[f"histogram_{i + 1}"] = grad
        logged[f"hist_weights_{i + 1}"] = grad
    return logged


# %% [markdown] fixed="audit_code_text"
# You may have seen it already. An audit does not rest on having seen it, but on a test that would also find it where
# the code cannot be read. Write one, and mind the sizes: gradients may be as small as $10^{-12}$.
#
# - `what_is_logged(values, weights, gradient)`: three arrays of one shape. Give `"weights"` if the values are the
#   weights, `"gradients"` if they are the gradient, both but for the rounding of 32-bit numbers, and `"neither"` if they
#   are something else.
# - `tutorial_logged`: a dictionary with the keys `"fc_1"` to `"fc_6"`: what your function says of `hist_weights_1` to
#   `hist_weights_6`, from one call of `tutorial_log` with your leaky ReLU network after training, on the probe batch.
# - `largest = {"weights": ..., "gradients": ...}`: the largest |weight| of `fc_4` in that network, and the largest
#   |gradient| of these weights on the probe batch. (Your recording knows: `leaky_relu.checkpoint(-1)` and
#   `leaky_relu.probe_statistic("abs_max")`.)


# %% answer="what_is_logged"
def what_is_logged(values, weights, gradient):
    """ "weights", "gradients" or "neither"; three arrays of one shape."""
    ### BEGIN SOLUTION
    for answer, known in (("weights", weights), ("gradients", gradient)):
        if np.abs(values - known).max() <= 1e-4 * np.abs(known).max():
            return answer
    return "neither"
    ### END SOLUTION


# %% answer="tutorial_logged"
# tutorial_logged = {"fc_1": ..., "fc_2": ..., ...}
# largest = {"weights": ..., "gradients": ...}
### BEGIN SOLUTION
trained = labkit.networks.of_experiment(mine["leaky_relu"])
trained.load_state_dict({name: torch.tensor(values) for name, values in leaky_relu.checkpoint(-1).items()})
theirs, ours = tutorial_log(trained, probe_images, probe_labels), log_values(trained, probe_images, probe_labels)
tutorial_logged = {
    f"fc_{k}": what_is_logged(*(np.asarray(one) for one in (theirs[f"hist_weights_{k}"], ours[f"hist_weights_{k}"],
                                                            ours[f"histogram_{k}"])))
    for k in range(1, 7)
}  # fmt: skip
largest = {
    "weights": np.abs(leaky_relu.checkpoint(-1)["fc_4.weight"]).max(),
    "gradients": leaky_relu.probe_statistic("abs_max")[-1, 3],
}
print(tutorial_logged, largest)
### END SOLUTION

# %% test="tutorial_log" points=4
autograder.check("tutorial_log")

# %%
plots.weight_histograms(leaky_relu)

# %% [markdown] fixed="signs_text"
# **Does the sign matter?** Take the simplest deep network, a chain of single units: $h_0 = 1$, and
# $h_i = \varphi(w_i\,h_{i-1})$ with a leaky ReLU $\varphi$. By the chain rule the slope of its output is
#
# $$\frac{\mathrm{d}h_n}{\mathrm{d}h_0} = \prod_i w_i \, \varphi'(w_i\,h_{i-1}).$$
#
# - Write `chain_slope(weights, slope)`: that number for a list of weights, none of them 0, with $\varphi' = 1$ above 0
#   and `slope` below.
# - Give two lists of six weights, all between -10 and 10, with the tutorial's slope of 0.2: `negative_but_grows`, all
#   below 0, whose slope has a size of 100 or more; and `positive_but_vanishes`, all above 0, whose slope is 0.01 or
#   less.


# %% answer="signs"
def chain_slope(weights, slope):
    """d h_n / d h_0 of a chain of leaky ReLU units, at h_0 = 1."""
    ### BEGIN SOLUTION
    h, product = 1.0, 1.0
    for weight in weights:
        factor = 1.0 if weight * h > 0 else slope
        h = factor * weight * h
        product = product * weight * factor
    return product
    ### END SOLUTION


# negative_but_grows = [...]
# positive_but_vanishes = [...]
### BEGIN SOLUTION
negative_but_grows = [-6.0] * 6
positive_but_vanishes = [0.4] * 6
print(chain_slope(negative_but_grows, 0.2), chain_slope(positive_but_vanishes, 0.2))
### END SOLUTION

# %% test="signs" points=2
autograder.check("signs")

# %% [markdown] fixed="audit_question"
# **Write the report.** What did the tutorial log as weights, how did you prove it, and how could it have been noticed
# from the figure alone? What are the signs of your weights? Is a weight below 0 a reason for a gradient to vanish: what
# is? And the tutorial says once that "the mean absolute *weight* reduces by a factor of 30": what does it mean?

# %% [markdown] essay="audit_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *What was logged, and the proof:* the gradients, a second time, under the name of the weights, in all six layers;
#    proved value by value, relative to their size. So nothing is known of its weights.
# 2. *How to notice:* the two histograms are the same figure; and the range: Glorot's weights between layers of ten reach
#    to 0.55 and grow, the gradients are smaller by an order of magnitude or more (own numbers of largest).
# 3. *Signs:* about half of the weights are below 0 in each layer, at the start by symmetry and later too (own numbers).
#    In a product the sign of a factor changes the sign and not the size: the own chains. What counts is the size of the
#    weights and the slopes; over a layer, n times their mean square (the gain). Negative weights matter only by putting
#    a unit on its flat side, which is a matter of the pre-activation.
# 4. *The slip:* it means the mean absolute *gradient*, over its 13 looks; and it should give how it averaged.
### END SOLUTION

# %% [markdown] fixed="plain_text"
# ## Does a small gradient stop a layer?
#
# The tutorial takes it that a layer whose gradient is small hardly learns. How far a layer moves is a matter of the
# optimiser, too: plain SGD steps by the learning rate times the gradient; Adam, which the tutorial uses, divides by the
# gradient's size. Here are two networks of four layers, 784-10-10-10-10, trained by plain SGD with a learning rate of
# 0.1, one with ReLU and one with the sigmoid; and the sigmoid network once more by Adam. The two by SGD compute in
# 64-bit numbers: with so large a learning rate, what 32-bit numbers round away grows until two runs of the same network
# differ.

# %% fixed="plain_experiments"
plain = plain_experiments(student)
for name, experiment in plain.items():
    print(f"{name:14}{experiment}")

# %% [markdown] fixed="plain_runs_text"
# Train the three with `labkit.train(experiment, save=...)`, and save them as `"relu_sgd.safetensors"`,
# `"sigmoid_sgd.safetensors"` and `"sigmoid_adam.safetensors"`.

# %% answer="plain_runs"
# relu_sgd, sigmoid_sgd, sigmoid_adam = ...
### BEGIN SOLUTION
relu_sgd, sigmoid_sgd, sigmoid_adam = (labkit.train(e, save=f"{name}.safetensors") for name, e in plain.items())
### END SOLUTION

# %% test="plain_runs" points=3
autograder.check("plain_runs")

# %%
plots.accuracy([relu_sgd, sigmoid_sgd, sigmoid_adam])

# %%
plots.updates(sigmoid_sgd)

# %%
plots.updates(sigmoid_adam)

# %% [markdown] fixed="moved_text"
# **How far did each layer move?** Write `moved(before, after)`: two lists of weight matrices (arrays), one for each layer.
# Give an array with one number for each layer, the length of the change over the length of what there was before:
#
# $$\frac{\lVert W_\mathrm{after} - W_\mathrm{before} \rVert}{\lVert W_\mathrm{before} \rVert}$$
#
# ($\lVert\cdot\rVert$ is the root of the sum of all squares.) Then give three dictionaries with the keys `"relu_sgd"`,
# `"sigmoid_sgd"` and `"sigmoid_adam"`:
#
# - `moved_by`: four numbers each, how far the training as a whole moved each layer's weights: from `run.checkpoint(0)` to
#   `run.checkpoint(-1)`, dictionaries of the parameters by name;
# - `gradient_ratio`: how much of the last layer's gradient the first one has: mean |gradient| of `fc_1` over that of `fc_4`,
#   each averaged over all iterations (`run.statistic("abs_mean")`);
# - `step_ratio`: the same of the relative steps: `run.update_norm / run.weight_norm`, both of the shape (iterations,
#   layers), averaged over all iterations, that of `fc_1` over that of `fc_4`.


# %% answer="moved"
def moved(before, after):
    """(layers,) the length of each layer's change, over the length of what there was before."""
    ### BEGIN SOLUTION
    return np.array([np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)])
    ### END SOLUTION


# %% answer="plain_values"
# moved_by = {"relu_sgd": ..., "sigmoid_sgd": ..., "sigmoid_adam": ...}
# gradient_ratio = {"relu_sgd": ..., "sigmoid_sgd": ..., "sigmoid_adam": ...}
# step_ratio = {"relu_sgd": ..., "sigmoid_sgd": ..., "sigmoid_adam": ...}
### BEGIN SOLUTION
moved_by, gradient_ratio, step_ratio = {}, {}, {}
for name, run in {"relu_sgd": relu_sgd, "sigmoid_sgd": sigmoid_sgd, "sigmoid_adam": sigmoid_adam}.items():
    start, end = ([run.checkpoint(at)[f"fc_{k}.weight"] for k in range(1, 5)] for at in (0, -1))
    moved_by[name] = moved(start, end)
    size, step = run.statistic("abs_mean").mean(axis=0), (run.update_norm / run.weight_norm).mean(axis=0)
    gradient_ratio[name], step_ratio[name] = size[0] / size[-1], step[0] / step[-1]
    print(f"{name:14}moved by {moved_by[name].round(3)}, first over last: gradient {gradient_ratio[name]:.3f}, "
          f"step {step_ratio[name]:.3f}")  # fmt: skip
### END SOLUTION

# %% test="moved" points=4
autograder.check("moved")

# %% [markdown] fixed="plain_question"
# **Explain.** The sigmoid network's gradient vanishes by either optimiser. What does that do to the steps of its first
# layer by SGD, what by Adam, and what to what the network learns? Hold `step_ratio` of `sigmoid_sgd` against its `moved_by`:
# how can a layer with such short steps get as far as it did? The tutorial's networks were trained by Adam: what do its
# figures of mean |gradient| say about how far a layer moves, and what should stand beside them?

# %% [markdown] essay="plain_words" points=3
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *SGD, with numbers:* steps go with the gradient, so that the first layer's relative step is a small part of the
#    last one's (about a tenth), and the network stays near its plateau; the ReLU network, by the same optimiser, learns.
#    Over the whole training the first layer moves about as far as the last one all the same (own `moved_by`): its short
#    steps keep their direction, the last one's long steps mostly undo each other. So "short steps", not "does not move".
# 2. *Adam, with numbers:* the gradient ratio is small as well, and the first layer still steps as far as the last one,
#    or farther, because each step is divided by the gradient's own size; the network leaves its plateau, late. So
#    vanishing is still there (what is scaled up is the gradient's direction, and how well that is known), but hidden.
# 3. *The tutorial:* mean |gradient| under Adam does not say how far a layer moves; the update, or the update over the
#    weights, should stand beside it (or SGD be used, where both say the same).
### END SOLUTION

# %% [markdown] fixed="remedies_text"
# ## The tutorial's list of remedies
#
# Before its experiment the tutorial lists five "methods proposed to overcome" the vanishing gradient: *multi-level
# hierarchy* (train one layer at a time, each with an output layer of its own right behind it, so that a gradient never
# goes far), *long short-term memory*, *faster hardware*, *residual networks* and *ReLU*. Measure four of them on its own
# network of six sigmoid layers. (The long short-term memory is for sequences; the lab on recurrent gradients measures
# that.) `arrives` is a dictionary with five keys, each value mean |gradient| of the *first* weight matrix over that of
# the *last* one:
#
# - `"nothing"`: of `mine["sigmoid"]` before its training, on the first 250 images, as in `start_ratios` (but first over
#   last);
# - `"relu"`: of the same with `activation="relu"`;
# - `"residual"`: of the same with `residual=True`, which adds each hidden layer's input to its output where both have the
#   same width;
# - `"hierarchy"`: of the first network of such a hierarchy, one hidden layer and the outputs: `widths=(784, 10, 10)`;
# - `"hardware"`: what a faster machine buys is more iterations. Of your recording `sigmoid`, the mean of the first layer's
#   sizes over the last 100 iterations, over that of the last layer's.

# %% answer="remedies"
# arrives = {"nothing": ..., "relu": ..., "residual": ..., "hierarchy": ..., "hardware": ...}
### BEGIN SOLUTION
remedies = {
    "nothing": mine["sigmoid"],
    "relu": mine["sigmoid"].replace(activation="relu"),
    "residual": mine["sigmoid"].replace(residual=True),
    "hierarchy": mine["sigmoid"].replace(widths=(784, 10, 10)),
}
arrives = {}
for name, experiment in remedies.items():
    network = labkit.networks.of_experiment(experiment)
    nn.functional.cross_entropy(network(probe_images), probe_labels).backward()
    sizes = [p.grad.abs().mean().item() for p in network.parameters() if p.ndim == 2]
    arrives[name] = sizes[0] / sizes[-1]
late = sigmoid.statistic("abs_mean")[-100:].mean(axis=0)
arrives["hardware"] = late[0] / late[-1]
print({name: f"{share:.2g}" for name, share in arrives.items()})
### END SOLUTION

# %% test="remedy_list" points=3
autograder.check("remedy_list")

# %% [markdown] fixed="remedies_question"
# **Which of the five is a remedy?** For each: what does it change, which factor of the product over the layers, and is it
# a remedy for the gradient or for its consequence? Take "faster hardware" seriously: what does it buy, and how many more
# iterations would the first layer need by plain SGD, by your numbers? And what would it take for a local gradient to be
# exactly 1, as the tutorial says of residual networks?

# %% [markdown] essay="remedies_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *ReLU and residual connections act on the product:* ReLU takes its slope of at most 1/4 away (own number: near 1); a
#    skip adds the identity to each layer's Jacobian, which is then 1 + W s and not 1: with small slopes close to 1, so
#    that the factors of the first layer and of the outputs are left, which no skip leads around (own number: some tens
#    of times what arrives without, far from 1); with large slopes it may explode.
# 2. *Hierarchy and long short-term memory:* the hierarchy shortens the product, at the price that no layer is told what the
#    layers behind it need; it does not change any factor. The LSTM's cell is the skip connection in time: its factor is
#    the forget gate.
# 3. *Faster hardware:* changes no gradient. It buys iterations: by SGD the first layer would need some hundreds or
#    thousands of times as many for the same way (1 over the own "nothing"); over the training the ratio improves, as the
#    weights grow ("hardware"), but a constant factor in speed is nothing against what is exponential in the depth.
# 4. *The difference, said:* three change the gradient, one avoids it, one waits for it; and what else would be on the
#    list today (initialisation, normalisation, an optimiser that divides by the size).
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more. Save the notebook. Hand in this folder:
# the notebook with `sigmoid`, `relu`, `leaky_relu`, `relu_sgd`, `sigmoid_sgd` and `sigmoid_adam` (each
# `.safetensors`), and
# `answers.json`, in which the checks noted what they saw.
