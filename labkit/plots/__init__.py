"""Recording(s) to matplotlib figures. Every figure says in `alt_text` what it shows, in words and numbers.

A plot takes recordings, and the figure or axes to draw into if you have one, and returns the figure. A figure
of its own shows itself once when it is the last value of a notebook's cell; `.png()` gives its bytes.
"""

from labkit.plots.curves import gradient_sizes, losses, mean_gradients, updates
from labkit.plots.depth import activations, attenuation, growth
from labkit.plots.distributions import distribution_heatmap, gradient_distributions
from labkit.plots.figure import LabFigure, PlotError
from labkit.plots.folder import everything
from labkit.plots.images import contact_sheet

__all__ = [
    "LabFigure",
    "PlotError",
    "activations",
    "attenuation",
    "contact_sheet",
    "distribution_heatmap",
    "everything",
    "gradient_distributions",
    "gradient_sizes",
    "growth",
    "losses",
    "mean_gradients",
    "updates",
]
