"""Discrete variables: summed over in the log density, and drawn afterwards."""

from __future__ import annotations

from pymc_multimodal.model.discrete.marginal import (
    MarginalModel,
    discrete_names,
    marginal_of,
    whole_model,
)

__all__ = ["MarginalModel", "discrete_names", "marginal_of", "whole_model"]
