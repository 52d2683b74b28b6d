"""Closed forms: the gain per layer that mean-field theory gives, and identities that hold exactly."""

from labkit.activations import HOMOGENEOUS, LEAKY_SLOPE, slope, value
from labkit.theory.bands import gain_band, log_size_variance, size_band
from labkit.theory.identities import (
    adam_first_step,
    class_sums,
    first_step_residual,
    homogeneity_residual,
    identities,
    is_homogeneous,
    network_identities,
    softmax_residual,
)
from labkit.theory.layers import layer_bands, layer_sizes
from labkit.theory.mean_field import (
    depth_scale,
    fixed_point,
    gain,
    scale_for,
    size_ratio,
    weight_gain,
    weight_variance,
)
from labkit.theory.propagation import (
    REACH,
    DepthScales,
    critical_variance,
    depth_scales,
    settled_correlation,
    settled_variance,
)

__all__ = [
    "HOMOGENEOUS",
    "LEAKY_SLOPE",
    "REACH",
    "DepthScales",
    "adam_first_step",
    "class_sums",
    "critical_variance",
    "depth_scale",
    "depth_scales",
    "first_step_residual",
    "fixed_point",
    "gain",
    "gain_band",
    "homogeneity_residual",
    "identities",
    "is_homogeneous",
    "layer_bands",
    "layer_sizes",
    "log_size_variance",
    "network_identities",
    "scale_for",
    "settled_correlation",
    "settled_variance",
    "size_band",
    "size_ratio",
    "slope",
    "softmax_residual",
    "value",
    "weight_gain",
    "weight_variance",
]
