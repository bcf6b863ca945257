"""The whole fit: the pipeline from a density to a result.

`fit_density` runs the steps of `STEPS` until none is due (`fit/loop.py`).
"""

from __future__ import annotations

from pymc_multimodal.fit.checkpoint import Checkpoint
from pymc_multimodal.fit.images import Orbits, confirm_images
from pymc_multimodal.fit.loop import fit_density
from pymc_multimodal.fit.report import FitReport
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.fit.steps import STEPS

__all__ = [
    "STEPS",
    "Checkpoint",
    "Fit",
    "FitConfig",
    "FitReport",
    "Orbits",
    "confirm_images",
    "fit_density",
]
