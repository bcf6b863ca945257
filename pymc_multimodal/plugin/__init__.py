"""What users of PyMC and ArviZ call."""

from __future__ import annotations

from pymc_multimodal.plugin.emulator_plot import plot_emulator
from pymc_multimodal.plugin.inference_data import attach
from pymc_multimodal.plugin.model_comparison import compare, plot_compare
from pymc_multimodal.plugin.pictures import (
    plot_corner,
    plot_diffusion,
    plot_jumps,
    plot_marginals,
    plot_modes,
    plot_ratios,
    plot_search,
    plot_weights,
)
from pymc_multimodal.plugin.relabel import relabel
from pymc_multimodal.plugin.sampler import fit, sample
from pymc_multimodal.plugin.settings import FitSettings
from pymc_multimodal.plugin.step import MultimodalDiffusion
from pymc_multimodal.plugin.stored_evidence import log_evidence
from pymc_multimodal.plugin.tables import mode_table
from pymc_multimodal.plugin.whole_model import MultimodalSampler

__all__ = [
    "FitSettings",
    "MultimodalDiffusion",
    "MultimodalSampler",
    "attach",
    "compare",
    "fit",
    "log_evidence",
    "mode_table",
    "plot_compare",
    "plot_corner",
    "plot_diffusion",
    "plot_emulator",
    "plot_jumps",
    "plot_marginals",
    "plot_modes",
    "plot_ratios",
    "plot_search",
    "plot_weights",
    "relabel",
    "sample",
]
