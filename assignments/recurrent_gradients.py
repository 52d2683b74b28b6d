# The recurrent-gradients lab. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Gradients through time: vanish, hold, explode, and a cell that remembers
#
# A recurrent network goes through the same layer at every time step. Its gradient comes back through the same weights
# again and again, so what a deep network does over ten layers, this one does over twenty steps. You write a step by
# hand, follow the gradient back through time, foresee its size from the weights, and see what the gates of an LSTM and
# a GRU change. Then you let a network explode, clip it, and find out what clipping mends.
#
# **How this notebook works**
#
# - Work from top to bottom. Where a cell says `# YOUR CODE HERE`, replace that line and the one below it.
# - A cell with `autograder.check(...)` tells you at once what holds already and what is missing, as often as you like.
#   These are the checks that mark your work; only their inputs will be others.
#   The bare number below a check is the points that it gives you now; nbgrader reads it, so leave the cell as it is.
# - Answers in words are read by a person. Write full sentences; a figure or a number from *your* run is worth more
#   than a general remark.
# - Your id decides your sequences, your initial weights and the order of your mini-batches.
# - What you hand in is this notebook and the files that it saves beside it (`*.safetensors`, `answers.json`).
#
# All trainings together take less than half a minute.

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

# %% [markdown] fixed="task_text"
# ## A task with a long lag
#
# Each sequence shows its class at the **first** of 20 time steps: one of four inputs is 1. At all other steps there is
# nothing but noise, on a fifth input. After the last step the network has to say which class it was. So the one thing
# that counts lies as far back as possible (Bengio, Simard & Frasconi 1994 used tasks of this kind to show that it is
# hard). All networks here have 16 units and compute in 64-bit numbers, in which even a gradient of 10⁻³⁰ is not
# rounded to 0.

# %% fixed="task"
smaller = {"steps": 20, "observations": 1000, "widths": (5, 16, 4), "epochs": 5, "dtype": "float64",
           "initialisation": "pytorch", "learning_rate": 0.02}  # fmt: skip
kinds = ("rnn", "lstm", "gru")
experiments = {kind: labkit.experiment(f"recurrent/{kind}", student).replace(**smaller) for kind in kinds}
for e in experiments.values():
    print(e)

data = labkit.data.of_experiment(experiments["rnn"])
# the first 250 of your sequences: the probe batch, on which recordings look at a network
probe_sequences, probe_labels = torch.from_numpy(data.inputs[:250]).double(), torch.from_numpy(data.labels[:250])
steps = probe_sequences.shape[1]
print(f"\none sequence of {steps} steps, class {data.labels[0]}; its first three steps:\n{data.inputs[0, :3]}")

# %% [markdown] fixed="chance_text"
# **What does a network reach that remembers nothing?** At best it knows how frequent each class is, and says so. Its
# cross-entropy is then the *entropy* of these frequencies, $-\sum_c p_c \ln p_c$, in nats (natural logarithm); a class
# that never occurs adds 0. Write `entropy(shares)`, and give `chance`, a dictionary with the `"loss"` (in nats) and
# the `"accuracy"` (between 0 and 1) of such a network on all your sequences (`data.labels`).


# %% answer="entropy"
def entropy(shares):
    """The entropy, in nats, of classes that have these shares: an array that adds up to 1."""
    ### BEGIN SOLUTION
    present = np.asarray(shares)[np.asarray(shares) > 0]
    return float(-(present * np.log(present)).sum())
    ### END SOLUTION


# %% answer="chance"
# chance = {"loss": ..., "accuracy": ...}
### BEGIN SOLUTION
shares = np.bincount(data.labels) / len(data.labels)
chance = {"loss": entropy(shares), "accuracy": shares.max()}
### END SOLUTION

# %% test="chance" points=2
autograder.check("chance")

# %% [markdown] fixed="step_text"
# ## One step by hand
#
# A simple recurrent network makes its next hidden state from its input $x_t$ and from its last state:
#
# $$h_t = \tanh(W x_t + b + U h_{t-1}), \qquad \text{logits} = V h_T + c .$$
#
# `weights` is always the list of these five tensors, in this order: $W$ (units × inputs), $b$, $U$ (units × units),
# $V$ (classes × units), $c$. It is the order of `network.parameters()` in `labkit`'s network. A batch is an array with
# a row for each sequence: `x` has the shape (batch, inputs), `h` the shape (batch, units).


# %% answer="rnn_step"
def rnn_step(x, h, weights):
    """The next hidden states (batch, units)."""
    ### BEGIN SOLUTION
    w, b, u, _, _ = weights
    return torch.tanh(x @ w.T + b + h @ u.T)
    ### END SOLUTION


# %% test="rnn_step" points=2
autograder.check("rnn_step")

# %% [markdown] fixed="flow_text"
# ## The gradient at each time step
#
# How much does the loss still feel of a state long ago? Go through all steps of `sequences` (batch, steps, inputs) with
# your `rnn_step`, beginning with a state of zeros, and take the mean cross-entropy of the last state's logits. Then give
# an array with one number for each time step, the first step first: the L2 norm of
# $\partial\,\mathrm{loss}/\partial h_t$, over all sequences and units of the batch together.
#
# A tensor in the middle of a computation keeps its gradient if you ask it to, before `backward`: `h.retain_grad()`. It
# can do so only where gradients are followed: let your state of zeros require one
# (`torch.zeros(..., dtype=sequences.dtype, requires_grad=True)`).


# %% answer="gradients_through_time"
def gradients_through_time(sequences, labels, weights):
    """(steps,) the norm of dloss/dh_t for each time step t."""
    ### BEGIN SOLUTION
    h = torch.zeros(len(sequences), len(weights[2]), dtype=sequences.dtype, requires_grad=True)
    states = []
    for x in sequences.unbind(1):
        h = rnn_step(x, h, weights)
        h.retain_grad()
        states.append(h)
    nn.functional.cross_entropy(h @ weights[3].T + weights[4], labels).backward()
    return np.array([float(h.grad.norm()) for h in states])
    ### END SOLUTION


# %% test="gradients_through_time" points=3
autograder.check("gradients_through_time")

# %% [markdown] fixed="jacobian_text"
# ## A product of Jacobians
#
# By the chain rule the gradient is multiplied, at each step on its way back, by the Jacobian of that step:
#
# $$\frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}(1 - h_t^2)\, U, \qquad
# \frac{\partial h_T}{\partial h_1} = \frac{\partial h_T}{\partial h_{T-1}} \cdots
# \frac{\partial h_2}{\partial h_1} .$$
#
# Write `jacobian_product(states, recurrent_weight)` for the states $h_1 \ldots h_T$ of **one** sequence, a tensor
# (steps, units), and $U$: the matrix $\partial h_T / \partial h_1$, whose row $i$ and column $j$ tell how unit $i$ of
# the last state changes with unit $j$ of the first. Mind the order of the factors, and how many there are.
#
# Two numbers of $U$ say what its powers do. Its **spectral radius** is the largest size $|\lambda|$ of its eigenvalues,
# which may be complex: in the long run $U^n$ grows as its n-th power. Its **largest singular value** is the most by
# which one multiplication can lengthen a vector. Write `spectrum(matrix)`, which gives both: the radius, then the
# singular value.


# %% answer="jacobian_product"
def jacobian_product(states, recurrent_weight):
    """(units, units) the Jacobian of the last state with respect to the first, of one sequence (steps, units)."""
    ### BEGIN SOLUTION
    product = torch.eye(len(recurrent_weight), dtype=recurrent_weight.dtype)
    for h in states[1:]:
        product = torch.diag(1 - h**2) @ recurrent_weight @ product
    return product
    ### END SOLUTION


# %% answer="spectrum"
def spectrum(matrix):
    """The spectral radius and the largest singular value of a square matrix."""
    ### BEGIN SOLUTION
    return float(torch.linalg.eigvals(matrix).abs().max()), float(torch.linalg.matrix_norm(matrix, 2))
    ### END SOLUTION


# %% test="jacobians" points=4
autograder.check("jacobians")

# %% [markdown] fixed="dial_text"
# ## Vanish, hold, explode
#
# Now turn $U$ up and down. An orthogonal matrix leaves every vector as long as it is: its eigenvalues and its singular
# values all have the size 1. Below are three networks with orthogonal $U$, times 0.8, 1 and 1.25, and beside each its
# *linear* twin, which has no tanh: $h_t = W x_t + b + U h_{t-1}$.
#
# Give three dictionaries with the keys `"low"`, `"one"` and `"high"`, of the ratio
# $\|\partial\,\mathrm{loss}/\partial h_1\| \,/\, \|\partial\,\mathrm{loss}/\partial h_{20}\|$, the first step's norm over
# the last step's:
#
# - `foreseen`: what it must be in the linear networks. Work it out with pen and paper.
# - `of_linear` and `of_tanh`: what it is in the networks at their start (`labkit.networks.of_experiment(e)`), on
#   `probe_sequences` and `probe_labels`. Your function from above knows tanh alone; but `labkit`'s recurrent networks
#   keep the list of their states, `network.states`, whenever they are called, and `torch.autograd.grad(loss,
#   network.states)` gives the gradients.

# %% fixed="dial_experiments"
factors = {"low": 0.8, "one": 1.0, "high": 1.25}
tanh_dial = {
    name: experiments["rnn"].replace(initialisation="orthogonal", gain=factor) for name, factor in factors.items()
}
linear_dial = {name: e.replace(activation="linear") for name, e in tanh_dial.items()}

# %% answer="dial"
# foreseen = {"low": ..., "one": ..., "high": ...}
# of_linear = {"low": ..., "one": ..., "high": ...}
# of_tanh = {"low": ..., "one": ..., "high": ...}


### BEGIN SOLUTION
def first_over_last(e):
    network = labkit.networks.of_experiment(e)
    loss = nn.functional.cross_entropy(network(probe_sequences), probe_labels)
    gradients = torch.autograd.grad(loss, network.states)
    return float(gradients[0].norm() / gradients[-1].norm())


foreseen = {name: factor ** (steps - 1) for name, factor in factors.items()}
of_linear = {name: first_over_last(e) for name, e in linear_dial.items()}
of_tanh = {name: first_over_last(e) for name, e in tanh_dial.items()}
### END SOLUTION

# %% test="dial" points=3
autograder.check("dial")

# %% [markdown] fixed="dial_question"
# **Explain.** Why does the linear network do exactly what you foresaw, and what does tanh change, in which direction?
# Which of the two numbers of $U$ tells you for certain that gradients vanish, and why can neither tell you for certain
# that they explode? Compare with a deep network of 20 layers: what is the same, and what is worse here? Use your ratios.

# %% [markdown] essay="dial_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Linear:* each step back multiplies by the transpose of U, an orthogonal matrix times the factor, so by exactly the
#    factor; over 19 steps its 19th power: 0.014, 1, 69.
# 2. *tanh* has slopes of at most 1 (less where units are driven hard), so it can only shrink a gradient: own ratios are
#    all below the linear ones; a factor of 1.25 may hold or even vanish.
# 3. *Certain:* a largest singular value below 1 is sufficient for vanishing, since each factor shortens any vector
#    (Pascanu, Mikolov & Bengio 2013). A value above 1 is necessary for exploding but not sufficient: the slopes, or
#    the directions, may do the opposite. The radius speaks for the long run only.
# 4. *Deep network:* the same product of Jacobians, but all factors share one matrix, so nothing averages out: its
#    largest eigenvalues win, exponentially in the number of steps, and one cannot scale each step by itself.
### END SOLUTION

# %% [markdown] fixed="runs_text"
# ## RNN, LSTM and GRU
#
# Two cells were invented to keep a gradient. The **LSTM** (Hochreiter & Schmidhuber 1997; its forget gate is from Gers,
# Schmidhuber & Cummins 2000) has beside $h_t$ a memory $c_t$ that is not multiplied by a matrix at all:
#
# $$c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t),$$
#
# with gates $i, f, o$ between 0 and 1, sigmoids of input and last state, and a candidate $g$, a tanh of these. The
# **GRU** (Cho et al. 2014) does with one state: $h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}$.
#
# Train the three of `experiments` as `rnn`, `lstm` and `gru` with `labkit.train`, and save them as
# `"rnn.safetensors"`, `"lstm.safetensors"` and `"gru.safetensors"`.

# %% answer="runs"
# rnn = labkit.train(...)
# lstm = labkit.train(...)
# gru = labkit.train(...)
### BEGIN SOLUTION
rnn = labkit.train(experiments["rnn"], save="rnn.safetensors")
lstm = labkit.train(experiments["lstm"], save="lstm.safetensors")
gru = labkit.train(experiments["gru"], save="gru.safetensors")
### END SOLUTION

# %% test="runs" points=3
autograder.check("runs")

# %%
plots.through_time([rnn, lstm, gru])

# %%
plots.losses([rnn, lstm, gru])

# %% [markdown] fixed="ratios_text"
# A recording has `through_time`: a row for the start and one for the end of each epoch, a column for each time step, and
# in it the norm of the loss's gradient, on the probe batch, with respect to what that step hands on: $h_t$, in an LSTM
# the memory $c_t$. (So `gradients_through_time(probe_sequences, probe_labels, ...)` of your RNN at its start is row 0
# of `rnn.through_time`. Try it.) Give three dictionaries with the keys `"rnn"`, `"lstm"` and `"gru"`:
#
# - `at_start`: the first step's norm over the last step's, before the training;
# - `per_step`: the same as a factor for *one* step back, of which there are 19: their geometric mean;
# - `nats_learnt`: by how much the loss on the probe batch after the training (the last of `probe_loss`) lies below the
#   chance level, your `chance["loss"]`.

# %% answer="time_ratios"
# at_start = {"rnn": ..., "lstm": ..., "gru": ...}
# per_step = {"rnn": ..., "lstm": ..., "gru": ...}
# nats_learnt = {"rnn": ..., "lstm": ..., "gru": ...}
### BEGIN SOLUTION
runs = {"rnn": rnn, "lstm": lstm, "gru": gru}
at_start = {name: run.through_time[0, 0] / run.through_time[0, -1] for name, run in runs.items()}
per_step = {name: ratio ** (1 / (steps - 1)) for name, ratio in at_start.items()}
nats_learnt = {name: chance["loss"] - run.probe_loss[-1] for name, run in runs.items()}
### END SOLUTION

# %% test="time_ratios" points=3
autograder.check("time_ratios")

# %% [markdown] fixed="forget_text"
# ## The forget gate
#
# On its way back along the memory, from $c_t$ to $c_{t-1}$, a gradient is multiplied by $f_t$, the forget gate, a
# sigmoid. While weights are small, the gate is about the sigmoid of its bias $\beta$. So along this path alone the first
# step's norm over the last step's would be about $\mathrm{sigmoid}(\beta)^{19}$. (There are further paths, through
# $h_t$ and the gates.) labkit starts the forget gates near a bias of 1, as Jozefowicz, Zaremba & Sutskever (2015) advise.
#
# For each of the four `biases`, in their order, give two arrays:
#
# - `memory_alone`: $\mathrm{sigmoid}(\beta)^{19}$;
# - `memory_measured`: the true ratio of the norms of $\partial\,\mathrm{loss}/\partial c_t$, first step over last, on
#   the probe batch, in a new network of `experiments["lstm"]` all of whose forget gates have that bias. The gates' rows
#   are stacked in the order $i, f, g, o$, so in a network of 16 units the biases of the forget gates are
#   `network.input.bias[16:32]`; change them under `torch.no_grad()`. `network.memory` is the list of all $c_t$.

# %% fixed="biases"
biases = np.array([-2.0, 0.0, 1.0, 4.0])

# %% answer="forget_gate"
# memory_alone = ...
# memory_measured = ...


### BEGIN SOLUTION
def memory_ratio(bias):
    network = labkit.networks.of_experiment(experiments["lstm"])
    with torch.no_grad():
        network.input.bias[16:32] = bias
    loss = nn.functional.cross_entropy(network(probe_sequences), probe_labels)
    gradients = torch.autograd.grad(loss, network.memory)
    return float(gradients[0].norm() / gradients[-1].norm())


memory_alone = (1 / (1 + np.exp(-biases))) ** (steps - 1)
memory_measured = np.array([memory_ratio(float(bias)) for bias in biases])
### END SOLUTION

# %% test="forget_gate" points=3
autograder.check("forget_gate")

# %% [markdown] fixed="gates_question"
# **Why does a gated cell keep the gradient?** Compare what a gradient is multiplied by, at one step back, in your three
# networks, and say what the LSTM's memory has that an RNN's state has not. Why does a *GRU* at its start not hold it as
# your LSTM does? What does a forget gate that is wide open cost? And which of your three networks learnt the task, and
# does that go with their ratios at the start? (They were trained with Adam, which divides each gradient by its own
# size.)

# %% [markdown] essay="gates_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *The path:* an RNN multiplies by diag(slope) U at each step, a matrix and a slope; the memory is carried on by a sum,
#    so its gradient is multiplied by f alone, which can be 1 whatever the weights are: the constant error carousel.
# 2. *Numbers:* per-step factors from the own runs (with these weights about 0.45 to 0.65 for the RNN, 0.8 for the LSTM
#    and 0.65 for the GRU), raised to the 19th power; the sigmoid of the bias is the main part of the LSTM's.
# 3. *GRU and bias:* a GRU's z begins at about 1/2, since nobody opens it: it would need a bias as well. A forget gate
#    that is wide open never clears the memory, so noise piles up and old things stay; it has to be learnt to close.
# 4. *Learning:* an honest look at the own nats: after 100 iterations the LSTM has often learnt the least (about ln 2,
#    it tells two halves of the classes apart), the RNN with its tiny ratio often everything. (One whose loss jumped up
#    in the last iterations had learnt before: its probe_loss tells.) Adam makes steps that hardly depend on the size of
#    a gradient, so a ratio at the start is no verdict about the end.
### END SOLUTION

# %% [markdown] fixed="loud_text"
# ## Exploding, and clipped
#
# Take a *linear* network with orthogonal weights times a factor above 1, and plain gradient descent, which hides nothing:
# `loud_experiment.replace(gain=...)` with a factor of your choice, above 1 and at most 1.4. Train it as `loud`,
# `save="loud.safetensors"`. Its gradients have to explode: the norm over all weight matrices passes 1,000, or the loss
# ends as no number at all. (Then the training stops, and the recording keeps what happened.) Train the same with
# `clip_norm=1.0` as `clipped`, `save="clipped.safetensors"`: a gradient that is longer than 1, all parameters together,
# is then shortened to 1 (Pascanu, Mikolov & Bengio 2013, Algorithm 1).

# %% fixed="loud_experiment"
loud_experiment = linear_dial["one"].replace(optimizer="sgd", learning_rate=0.01, epochs=2)

# %% answer="exploding_recurrence"
# loud = labkit.train(...)
# clipped = labkit.train(...)
### BEGIN SOLUTION
loud = labkit.train(loud_experiment.replace(gain=1.3), save="loud.safetensors")
clipped = labkit.train(loud_experiment.replace(gain=1.3, clip_norm=1.0), save="clipped.safetensors")
### END SOLUTION

# %% test="exploding_recurrence" points=3
autograder.check("exploding_recurrence")

# %%
plots.gradient_norms(loud)

# %%
plots.gradient_norms(clipped)

# %%
plots.through_time([loud, clipped])

# %% [markdown] fixed="clipped_text"
# A recording holds gradients as the optimiser *used* them: `clipped.statistic("norm")` has a row for each iteration and a
# column for each of the three weight matrices, and `clipped.clip_factor`, of the same shape, by how much clipping
# shortened each: norm before = norm after / factor; 1 where nothing was clipped. Give
#
# - `norm_before`: an array with the norm of all three matrices together *before* the clipping, at each iteration of
#   `clipped` (the root of the sum of the squared norms);
# - `share_clipped`: the share of its iterations at which it was clipped;
# - `ratio_through_time = {"start": ..., "end": ...}`: the first step's norm over the last step's in `clipped`, before its
#   training and after its last epoch.

# %% answer="clipped_recurrence"
# norm_before = ...
# share_clipped = ...
# ratio_through_time = {"start": ..., "end": ...}
### BEGIN SOLUTION
norm_before = np.sqrt(((clipped.statistic("norm") / clipped.clip_factor) ** 2).sum(axis=1))
share_clipped = (clipped.clip_factor[:, 0] < 1).mean()
norms_over_time = {"start": clipped.through_time[0], "end": clipped.through_time[-1]}
ratio_through_time = {name: norms[0] / norms[-1] for name, norms in norms_over_time.items()}
### END SOLUTION

# %% test="clipped_recurrence" points=3
autograder.check("clipped_recurrence")

# %% [markdown] fixed="clip_question"
# **What did clipping mend, and what not?** What happened to the loss of your two networks, and why is one step enough to
# lose a network whose gradient explodes? What does clipping do to the *direction* of a gradient, and to the shares that
# early and late time steps have in it? Would it help the network with a factor of 0.8? Name a remedy for that one.

# %% [markdown] essay="clip_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Mended:* each step is at most learning rate times 1 long, so the loss stays finite and falls (own numbers), where
#    the loud one left for infinity within an epoch: a step along a huge gradient makes U larger, and the next gradient
#    larger still; the surface has cliffs (Pascanu et al. 2013).
# 2. *Direction and shares:* clipping by norm multiplies everything by one number: the direction stays, and so do the
#    shares of the time steps: early ones dominate after the training, too (own ratios of the start and the end).
# 3. *Vanishing:* clipping never lengthens anything: it does nothing for a factor of 0.8.
# 4. *Remedies for that:* gates, an orthogonal or identity start of U, a forget bias, connections that skip steps,
#    normalisation, or a regularisation of the ratio (Pascanu et al. 2013); any one, with its reason.
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more. Save the notebook. Hand in this folder:
# the notebook with `rnn`, `lstm`, `gru`, `loud` and `clipped` (each `.safetensors`), and
# `answers.json`, in which the checks noted what they saw.
