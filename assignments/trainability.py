# The lab on trainability. This file is the truth: `autograder build` makes the notebook from it.
# %% [markdown] fixed="title"
# # Where can deep networks be trained?
#
# A network of 200 layers is a function of a function of a function: what enters has to get through, and the gradient
# has to get back. Theory says how deep either gets, from two numbers: the activation and the variance of the weights.
# You work the theory out, then train some two hundred networks, draw the map of what learnt, and lay theory over it.
# The paper behind this lab is Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, *Deep information propagation*.
#
# **How this notebook works**
#
# - Work from top to bottom. Where a cell says `# YOUR CODE HERE`, replace that line and the one below it.
# - A cell with `autograder.check(...)` tells you at once what holds already and what is missing, as often as you like.
#   These are the checks that mark your work; only their inputs will be others.
#   The bare number below a check is the points that it gives you now; nbgrader reads it, so leave the cell as it is.
# - Answers in words are read by a person. Write full sentences; a figure or a number from *your* maps is worth more
#   than a general remark.
# - Your id decides your images, your initial weights and the order of your mini-batches, in every network of a map.
# - What you hand in is this notebook and the files that it saves beside it (`*.safetensors`, `answers.json`).
#
# The maps take some minutes together, on a laptop. They are kept row by row: stopped in the middle, they go on where
# they were.

# %% fixed="setup"
import numpy as np
import torch

import autograder
import labkit
from labkit import plots, theory

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

# %% [markdown] fixed="mean_field_text"
# ## The mean field
#
# In a wide layer whose weights are drawn by chance, the pre-activations of one image are normally distributed. Let $q$
# be their variance and $\sigma_w^2$ the width times the variance of one weight; there are no biases. One layer on, the
# variance is (Poole et al. 2016)
#
# $$q' = \sigma_w^2\; \mathrm{E}\!\left[\varphi(\sqrt{q}\, z)^2\right],$$
#
# with a standard normal $z$. And on its way back the mean squared gradient is multiplied, in each layer, by
#
# $$\chi = \sigma_w^2\; \mathrm{E}\!\left[\varphi'(\sqrt{q}\, z)^2\right].$$
#
# An expectation over $z$ is a sum over the points `z` with the shares `p` below, which lie close enough for steep
# activations, and none of them on the kink of a ReLU. Write `variance_map(activation, q, sigma_w2)` and
# `chi(activation, q, sigma_w2)`; `value[activation]` and `slope[activation]` are $\varphi$ and $\varphi'$.

# %% fixed="quadrature"
z = np.linspace(-8, 8, 800)
p = np.exp(-(z**2) / 2)
p = p / p.sum()


def logistic(x):
    return 1 / (1 + np.exp(-x))


value = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": logistic}
slope = {
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
    "relu": lambda x: (x > 0) * 1.0,
    "sigmoid": lambda x: logistic(x) * (1 - logistic(x)),
}

# %% answer="mean_field"


def variance_map(activation, q, sigma_w2):
    """The variance of the pre-activations in the next layer."""
    ### BEGIN SOLUTION
    return sigma_w2 * (p * value[activation](np.sqrt(q) * z) ** 2).sum()
    ### END SOLUTION


def chi(activation, q, sigma_w2):
    """The factor per layer on a mean squared gradient."""
    ### BEGIN SOLUTION
    return sigma_w2 * (p * slope[activation](np.sqrt(q) * z) ** 2).sum()
    ### END SOLUTION


# %% test="mean_field" points=4
autograder.check("mean_field")

# %% [markdown] fixed="chaos_text"
# ## Order and chaos
#
# From layer to layer $q$ goes to a value $q^*$ at which it stays. Write `settled(activation, sigma_w2)`: begin with $q
# = 1$ and go through 500 layers. (A ReLU's $q$ grows or shrinks for ever; its $\chi$ is the same at any $q$. Keep $q$
# between $10^{-12}$ and $10^{12}$ by `np.clip`, so that your function has an answer for it, too.)
#
# Where $\chi < 1$ at $q^*$, a small difference between two images dies out from layer to layer, and so does a gradient
# on its way back: *order*. Where $\chi > 1$ both grow: *chaos*. Find the **critical** $\sigma_w^2$ between them, for
# each activation: `critical = {"tanh": ..., "relu": ..., "sigmoid": ...}`, within 3 percent. (Look for that of the
# sigmoid far above the others', below 1,000.)

# %% answer="order_and_chaos"


def settled(activation, sigma_w2):
    """The variance q* of the pre-activations deep in the network."""
    ### BEGIN SOLUTION
    q = 1.0
    for _ in range(500):
        q = np.clip(variance_map(activation, q, sigma_w2), 1e-12, 1e12)
    return q
    ### END SOLUTION


# critical = {"tanh": ..., "relu": ..., "sigmoid": ...}
### BEGIN SOLUTION
critical = {}
for activation in ("tanh", "relu", "sigmoid"):
    low, high = 0.1, 1000.0
    for _ in range(16):
        middle = (low * high) ** 0.5
        ordered = chi(activation, settled(activation, middle), middle) < 1
        low, high = (middle, high) if ordered else (low, middle)
    critical[activation] = low
print(critical)
### END SOLUTION

# %% test="order_and_chaos" points=3
autograder.check("order_and_chaos")

# %% [markdown] fixed="maps_text"
# ## Three maps
#
# Each network here has 64 units in every hidden layer and sees 100 mini-batches of 50 digits. They differ in their
# depth and in $\sigma_w^2$ alone. `labkit.trainability("tanh", student, save="map_tanh.safetensors")` trains the
# networks of a map, those of one depth side by side, and gives the map. Make three: `map_tanh`, `map_relu` and
# `map_sigmoid`, saved as `"map_tanh.safetensors"` and so on.
#
# A map has `depths` and `variances`; `accuracy` and `loss` have a row for each depth and a column for each variance.
# `accuracy` is the share of the training images that are classified right in the end: a network that guesses has about
# 0.1. It is NaN where the loss was no number any more.

# %% answer="maps"
# map_tanh = labkit.trainability(...)
# map_relu = labkit.trainability(...)
# map_sigmoid = labkit.trainability(...)
### BEGIN SOLUTION
map_tanh = labkit.trainability("tanh", student, save="map_tanh.safetensors")
map_relu = labkit.trainability("relu", student, save="map_relu.safetensors")
map_sigmoid = labkit.trainability("sigmoid", student, save="map_sigmoid.safetensors")
### END SOLUTION

# %% test="maps" points=6
autograder.check("maps")

# %%
plots.trainability(map_tanh)

# %%
plots.trainability(map_relu)

# %%
plots.trainability(map_sigmoid)

# %% [markdown] fixed="start_text"
# ## Gradients at the start
#
# `map.start` has, before the first step, the root mean square of $\partial\,\mathrm{loss}/\partial z$ of each layer:
# `map_tanh.start[d, v, 0]` that of the first hidden layer of the network in row `d` and column `v`, `[d, v, 1]` that
# of the second, and so on. Take the tanh networks with 20 hidden layers (`row` below), and give two arrays with a
# number for each $\sigma_w^2$:
#
# - `measured_chi`: the factor by which the mean *squared* gradient is multiplied per layer, on its way from the last
#   hidden layer to the first: the geometric mean over these steps;
# - `expected_chi`: your `chi` at your `settled`.

# %% fixed="row"
depth = 20 if 20 in map_tanh.depths else 10  # the small maps that are there to try things out end earlier
row = map_tanh.depths.index(depth)

# %% answer="start"
# measured_chi = ...
# expected_chi = ...
### BEGIN SOLUTION
first, last = map_tanh.start[row, :, 0], map_tanh.start[row, :, depth - 1]
measured_chi = (first / last) ** (2 / (depth - 1))
expected_chi = np.array([chi("tanh", settled("tanh", s), s) for s in map_tanh.variances])
### END SOLUTION

# %% test="start_of_maps" points=3
autograder.check("start_of_maps")

# %%
plots.starting_gradients(map_tanh, depth)

# %% [markdown] fixed="depth_text"
# ## How deep did they learn?
#
# Say that a network has *learnt* where its accuracy is 0.25 or more (one whose accuracy is NaN has not). Give
# `trained_depth = {"tanh": ..., "relu": ..., "sigmoid": ...}`: for each map an array with a number for each variance,
# the depth of the deepest network that learnt, and 0 where none did.

# %% answer="trained_depth"
# trained_depth = {"tanh": ..., "relu": ..., "sigmoid": ...}
### BEGIN SOLUTION
maps = {"tanh": map_tanh, "relu": map_relu, "sigmoid": map_sigmoid}
learnt = {name: np.nan_to_num(one.accuracy) >= 0.25 for name, one in maps.items()}
trained_depth = {name: (learnt[name] * np.array(one.depths)[:, None]).max(axis=0) for name, one in maps.items()}
print(trained_depth)
### END SOLUTION

# %% test="trained_depth" points=3
autograder.check("trained_depth")

# %% [markdown] fixed="reach_text"
# ## How deep should they?
#
# A factor of $\chi$ per layer makes $e$ or $1/e$ of something over $\xi = 1 / |\ln \chi|$ layers, its **depth scale**.
# There are two of them. $\xi_\nabla$ belongs to your $\chi$, and to gradients. $\xi_c$ belongs to $\chi_c$, the factor
# on the difference between two *unlike* images; in the ordered phase the two are one. The paper found networks to
# train down to about $6\,\xi_c$.
#
# - Write `reach(chi)`: $6\,\xi$, and `np.inf` where $\chi$ is 1.
# - `theory.depth_scales(activation, sigma_w2)` gives `.chi_1`, your $\chi$, and `.chi_c`. Let theory foretell that a
#   network learns where its depth is not larger than the smaller of its two reaches. Give `agreement = {"tanh": ...,
#   "relu": ..., "sigmoid": ...}`: for each map the share of its networks of which theory foretells rightly whether
#   they learnt.

# %% answer="reach"


def reach(chi):
    """Six depth scales of a factor chi per layer; infinite at 1."""
    ### BEGIN SOLUTION
    return np.inf if chi == 1 else 6 / abs(np.log(chi))
    ### END SOLUTION


# %% test="reach" points=2
autograder.check("reach")

# %% answer="agreement"
# agreement = {"tanh": ..., "relu": ..., "sigmoid": ...}


### BEGIN SOLUTION
def foretold(name, one):
    """(D, V) which networks theory says can be trained."""
    scales = [theory.depth_scales(name, s) for s in one.variances]
    reaches = np.array([min(reach(scale.chi_1), reach(scale.chi_c)) for scale in scales])
    return np.array(one.depths)[:, None] <= reaches


agreement = {name: (foretold(name, one) == learnt[name]).mean() for name, one in maps.items()}
print(agreement)
### END SOLUTION

# %% test="agreement" points=2
autograder.check("agreement")

# %% [markdown] fixed="border_question"
# **Two borders.** Look at the map of the tanh networks. What goes wrong to the left of the critical point, and what to
# the right, on the way forward and on the way back? Which of the two depth scales is the border on each side, and by
# which factor is it off? Use your `trained_depth` and your `measured_chi`.

# %% [markdown] essay="border_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Order:* chi < 1: signals and differences between images die out from layer to layer, all images end up as one
#    (here, without biases, as nothing), and gradients vanish on their way back.
# 2. *Chaos:* chi > 1: like images become unlike, so that nothing learnt about one helps with the other; gradients
#    explode.
# 3. *Which scale:* in order the two are one. In chaos 6 xi_gradient lies far below 6 xi_c, and is nearer to the border
#    of these narrow networks; own numbers for at least one column on each side.
# 4. *Measured chi:* near the expected one, with its scatter named: one seed, 64 units, q not settled in the first
#    layers.
### END SOLUTION

# %% [markdown] fixed="budget_question"
# **Six?** Theory knows no 6: it is what the paper's networks showed. Which of these would move the borders of *your*
# maps, in which direction, and why: a hundred times as many iterations; plain gradient descent in the place of Adam;
# networks of 1,000 units; another seed; another threshold than 0.25? Where does theory foretell wrongly most often in
# your maps (`agreement`)?

# %% [markdown] essay="budget_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Budget and threshold:* more iterations or a lower threshold move the borders outwards, but slowly: what is left
#    of a signal falls exponentially with depth, so ten times as many steps buy a few more layers.
# 2. *Optimiser:* Adam divides a gradient by its own size, so it makes up for vanishing ones in part: with plain
#    gradient descent the ordered side ends earlier; on the chaotic side its steps would blow up.
# 3. *Width and seed:* at depth / width of order 1 gradients scatter by factors between seeds (Hanin & Nica 2018), and
#    the border is blurred; wide networks follow theory. Even at the critical point 200 layers of 64 units do not learn
#    in 100 iterations.
# 4. *Own numbers:* from agreement or a column of the map, with the side on which theory is wrong.
### END SOLUTION

# %% [markdown] fixed="design_question"
# **Build one.** You need a network of 100 layers. Which $\sigma_w^2$ would you choose for tanh, ReLU and sigmoid, and
# what do your maps promise for each? Which usual initialisations (Glorot, He, LeCun) are these? What is it that makes
# the sigmoid so much worse than the others, even at its critical point? Name one remedy that needs no critical
# weights.

# %% [markdown] essay="design_words" points=4
### BEGIN SOLUTION
# *Rubric (1 point each).*
#
# 1. *Values:* tanh at 1 or a little above (LeCun, and Glorot for equal widths), ReLU at 2 (He), sigmoid near 100,
#    which no usual initialisation has: Glorot's 1 gives chi = 0.056.
# 2. *What the maps promise:* own accuracies at 80 or 140 layers for tanh and ReLU, at 8 or 16 for the sigmoid; little
#    at 100.
# 3. *The sigmoid:* its slope is at most 1/4 and its mean 1/2, so q* has a large part that all images share; weights
#    that make chi = 1 are so large that most units are flat, and images differ in few of them.
# 4. *Remedy:* residual connections, normalisation, orthogonal weights (for tanh), ReLU-like activations; with its
#    reason.
### END SOLUTION

# %% [markdown] fixed="hand_in"
# ## Hand in
#
# Restart the kernel, run all cells, and look through the checks once more: the maps are read from their files. Save the
# notebook. Hand in this folder: the notebook with `map_tanh`, `map_relu` and `map_sigmoid` (each `.safetensors`), and
# `answers.json`, in which the checks noted what they saw.
#
# A finer map, with ten times as many networks, takes a GPU a few minutes: `labkit.trainability("tanh", student,
# "fine", backend="auto")`, on a cluster with Slurm a job for each depth. It is not asked for.
