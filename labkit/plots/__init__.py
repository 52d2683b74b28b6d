"""Recording(s) to matplotlib figures. Every figure says in `alt_text` what it shows, in words and numbers.

A plot takes recordings, and the figure or axes to draw into if you have one, and returns the figure. A figure
of its own shows itself once when it is the last value of a notebook's cell; `.png()` gives its bytes.
"""

from labkit.plots.cells import timeline
from labkit.plots.curves import gradient_sizes, losses, mean_gradients, updates
from labkit.plots.depth import activations, attenuation, growth
from labkit.plots.distributions import distribution_heatmap, gradient_distributions, weight_distributions
from labkit.plots.figure import LabFigure, PlotError
from labkit.plots.folder import everything
from labkit.plots.gains import gain_per_layer
from labkit.plots.images import contact_sheet
from labkit.plots.maps import starting_gradients, trainability
from labkit.plots.runs import accuracy, bands, first_and_last, gradient_norms, through_time
from labkit.plots.statistics import gradient_statistics, weight_histograms, weight_statistics

__all__ = [
    "LabFigure",
    "PlotError",
    "accuracy",
    "activations",
    "attenuation",
    "bands",
    "contact_sheet",
    "distribution_heatmap",
    "everything",
    "first_and_last",
    "gain_per_layer",
    "gradient_distributions",
    "gradient_norms",
    "gradient_sizes",
    "gradient_statistics",
    "growth",
    "losses",
    "mean_gradients",
    "starting_gradients",
    "through_time",
    "timeline",
    "trainability",
    "updates",
    "weight_distributions",
    "weight_histograms",
    "weight_statistics",
]
