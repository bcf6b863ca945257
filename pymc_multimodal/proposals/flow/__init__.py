"""Masked autoregressive flows: settings, density and fit; torch is imported by the fit alone."""

from pymc_multimodal.proposals.flow.density import AutoregressiveLayer, FlowDensity, FlowError
from pymc_multimodal.proposals.flow.fit import FlowDraws, fit_flow
from pymc_multimodal.proposals.flow.settings import Network

__all__ = [
    "AutoregressiveLayer",
    "FlowDensity",
    "FlowDraws",
    "FlowError",
    "Network",
    "fit_flow",
]
