"""Where a density comes from: a PyMC model."""

from __future__ import annotations

from pymc_multimodal.model.build import density_of
from pymc_multimodal.model.check import check_model, imputed
from pymc_multimodal.model.compiled import compiling
from pymc_multimodal.model.discrete import (
    MarginalModel,
    discrete_names,
    marginal_of,
    whole_model,
)
from pymc_multimodal.model.layout import dimension, layout, unflatten
from pymc_multimodal.model.locations import rows_of
from pymc_multimodal.model.outputs import OutputModel, split_at_outputs
from pymc_multimodal.model.stored import (
    improper_statuses,
    observed_values,
    same_data,
    unconstrained_rows,
    variables_of,
)
from pymc_multimodal.model.terms import ModelTerms, check_structure, terms_of

__all__ = [
    "MarginalModel",
    "ModelTerms",
    "OutputModel",
    "check_model",
    "check_structure",
    "compiling",
    "density_of",
    "dimension",
    "discrete_names",
    "improper_statuses",
    "imputed",
    "layout",
    "marginal_of",
    "observed_values",
    "rows_of",
    "same_data",
    "split_at_outputs",
    "terms_of",
    "unconstrained_rows",
    "unflatten",
    "variables_of",
    "whole_model",
]
