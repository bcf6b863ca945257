"""Exact draws and trustworthy mode weights for PyMC models with several modes."""

from __future__ import annotations

from pymc_multimodal._version import __version__
from pymc_multimodal.challenge import Challenge
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.inference_data import attach
from pymc_multimodal.plugin.plots import plot_modes
from pymc_multimodal.plugin.relabel import relabel
from pymc_multimodal.plugin.sampler import fit, sample
from pymc_multimodal.plugin.step import MultimodalDiffusion
from pymc_multimodal.plugin.tables import mode_table
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
from pymc_multimodal.regions.settings import LocalSampling, Regions
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.status import FitError, ModelError, Status
from pymc_multimodal.target.group import Symmetry

__all__ = [
    "LRDS",
    "Challenge",
    "ControlNetwork",
    "EnergyNetwork",
    "Fit",
    "FitError",
    "Hybrid",
    "LocalSampling",
    "ModeSearch",
    "ModelError",
    "MultimodalDiffusion",
    "Network",
    "PublishedHybrid",
    "Regions",
    "ScoreGenerator",
    "ScoreLangevin",
    "Status",
    "Symmetry",
    "__version__",
    "attach",
    "fit",
    "mode_table",
    "plot_modes",
    "relabel",
    "sample",
]
