"""Exact draws and trustworthy mode weights for PyMC models with several modes."""

from __future__ import annotations

from pymc_multimodal._version import __version__
from pymc_multimodal.adaptation import LocalSampling
from pymc_multimodal.challenge import Challenge
from pymc_multimodal.generators import (
    LRDS,
    ControlNetwork,
    EnergyNetwork,
    Hybrid,
    Network,
    PublishedHybrid,
    ScoreGenerator,
    ScoreLangevin,
)
from pymc_multimodal.inference_data import attach
from pymc_multimodal.plots import plot_modes
from pymc_multimodal.regions import Regions
from pymc_multimodal.relabel import relabel
from pymc_multimodal.report import mode_table
from pymc_multimodal.result import Fit
from pymc_multimodal.sampler import fit, sample
from pymc_multimodal.starts import ModeSearch
from pymc_multimodal.status import FitError, ModelError, Status
from pymc_multimodal.step import MultimodalDiffusion
from pymc_multimodal.symmetry import Symmetry

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
