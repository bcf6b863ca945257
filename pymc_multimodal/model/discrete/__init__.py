"""Discrete variables: summed over in the log density, and drawn afterwards."""

from __future__ import annotations

from pymc_multimodal.model.discrete.marginal import MarginalModel, marginal_of

__all__ = ["MarginalModel", "marginal_of"]
