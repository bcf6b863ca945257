"""Pictures of the modes, of the draws, and of how a fit found them."""

from __future__ import annotations

from pymc_multimodal.plugin.pictures.corner import plot_corner
from pymc_multimodal.plugin.pictures.diffusion import plot_diffusion
from pymc_multimodal.plugin.pictures.jumps import plot_jumps
from pymc_multimodal.plugin.pictures.marginals import plot_marginals
from pymc_multimodal.plugin.pictures.modes import plot_modes
from pymc_multimodal.plugin.pictures.ratios import plot_ratios
from pymc_multimodal.plugin.pictures.search import plot_search
from pymc_multimodal.plugin.pictures.weights import plot_weights

__all__ = [
    "plot_corner",
    "plot_diffusion",
    "plot_jumps",
    "plot_marginals",
    "plot_modes",
    "plot_ratios",
    "plot_search",
    "plot_weights",
]
