"""Exact draws and trustworthy mode weights for PyMC models with several modes."""

from __future__ import annotations

from pymc_multimodal._version import __version__
from pymc_multimodal.approximation import FirstAnswer
from pymc_multimodal.challenge import Challenge
from pymc_multimodal.emulation import Emulation
from pymc_multimodal.evidence import LogEvidence
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin import (
    FitSettings,
    MultimodalDiffusion,
    MultimodalSampler,
    attach,
    compare,
    fit,
    log_evidence,
    mode_table,
    plot_compare,
    plot_corner,
    plot_diffusion,
    plot_emulator,
    plot_jumps,
    plot_marginals,
    plot_modes,
    plot_ratios,
    plot_search,
    plot_weights,
    relabel,
    sample,
)
from pymc_multimodal.proposals import (
    LRDS,
    ControlNetwork,
    EnergyNetwork,
    Hybrid,
    Network,
    PublishedHybrid,
    ScoreGenerator,
    ScoreLangevin,
)
from pymc_multimodal.regions import LocalSampling, Regions
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.status import FitError, ModelError, Status
from pymc_multimodal.target import Evaluations, Structure, Symmetry

__all__ = [
    "LRDS",
    "Challenge",
    "ControlNetwork",
    "Emulation",
    "EnergyNetwork",
    "Evaluations",
    "FirstAnswer",
    "Fit",
    "FitError",
    "FitSettings",
    "Hybrid",
    "LocalSampling",
    "LogEvidence",
    "ModeSearch",
    "ModelError",
    "MultimodalDiffusion",
    "MultimodalSampler",
    "Network",
    "PublishedHybrid",
    "Regions",
    "ScoreGenerator",
    "ScoreLangevin",
    "Status",
    "Structure",
    "Symmetry",
    "__version__",
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
