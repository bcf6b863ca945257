"""Where a density comes from: a PyMC model."""

from __future__ import annotations

from pymc_multimodal.model.build import density_of
from pymc_multimodal.model.check import check_model, imputed
from pymc_multimodal.model.layout import dimension, layout, unflatten

__all__ = ["check_model", "density_of", "dimension", "imputed", "layout", "unflatten"]
