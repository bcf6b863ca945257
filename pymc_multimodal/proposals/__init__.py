"""Normalised densities of the regions, and generators: draws from a learned approximation."""

from __future__ import annotations

from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.base import (
    Diffuses,
    Generator,
    GeneratorConfig,
    Normalised,
    Proposals,
    RegionalMixture,
    RegionDensity,
    RegionFit,
    RegionFitter,
    split_chains,
)
from pymc_multimodal.proposals.elliptical import (
    EllipticalMixture,
    defensive_mixture,
    factor,
    joined,
    laplace,
)
from pymc_multimodal.proposals.families import RegionalFamilies
from pymc_multimodal.proposals.flow import FlowDensity, Network
from pymc_multimodal.proposals.hidden import HiddenMode, hidden_modes, with_hidden_modes
from pymc_multimodal.proposals.hybrid import Hybrid
from pymc_multimodal.proposals.lrds import LRDS, ControlNetwork, EnergyNetwork
from pymc_multimodal.proposals.many import Terms, WeightedDensities
from pymc_multimodal.proposals.margins import Margins
from pymc_multimodal.proposals.mixture import GaussianMixture, MixtureError, fit_em
from pymc_multimodal.proposals.noted import noted_devices
from pymc_multimodal.proposals.published import PublishedHybrid
from pymc_multimodal.proposals.score import ScoreGenerator, ScoreLangevin
from pymc_multimodal.proposals.stored_fit import fit_stored
from pymc_multimodal.proposals.triangular import Dependence, TriangularMap

__all__ = [
    "LRDS",
    "ControlNetwork",
    "Dependence",
    "Diffuses",
    "EllipticalMixture",
    "EnergyNetwork",
    "FlowDensity",
    "GaussianMixture",
    "Generator",
    "GeneratorConfig",
    "HiddenMode",
    "Hybrid",
    "Margins",
    "MixtureError",
    "Network",
    "Normalised",
    "Proposals",
    "PublishedHybrid",
    "RegionDensity",
    "RegionFit",
    "RegionFitter",
    "RegionalFamilies",
    "RegionalMixture",
    "ScoreGenerator",
    "ScoreLangevin",
    "Terms",
    "TriangularMap",
    "WeightedDensities",
    "defensive_mixture",
    "expected_acceptance",
    "factor",
    "fit_em",
    "fit_stored",
    "hidden_modes",
    "joined",
    "laplace",
    "needs_torch",
    "noted_devices",
    "resolve",
    "split_chains",
    "with_hidden_modes",
]

_BY_NAME = {
    "hybrid": Hybrid,
    "lrds": LRDS,
    "score": ScoreLangevin,
    "published": PublishedHybrid,
}


def resolve(generator: str | GeneratorConfig) -> GeneratorConfig:
    """Return the settings of a generator, given by a short name or as they are.

    Parameters
    ----------
    generator : {"hybrid", "lrds", "score", "published"} or GeneratorConfig

    Returns
    -------
    GeneratorConfig

    Raises
    ------
    ValueError
        If the name is not known.
    TypeError
        If it is neither a name nor settings.
    """
    if not isinstance(generator, str):
        if isinstance(generator, type) or not hasattr(generator, "regional"):
            raise TypeError(
                f"generator={generator!r} is neither a name nor settings such as Hybrid()."
            )
        return generator
    if generator not in _BY_NAME:
        known = ", ".join(repr(name) for name in _BY_NAME)
        raise ValueError(f"generator={generator!r} is not known; use {known} or settings.")
    config: GeneratorConfig = _BY_NAME[generator]()
    return config


def needs_torch(generator: GeneratorConfig) -> bool:
    """Return whether a generator trains a network whatever the posterior is like.

    The networks of `Hybrid` are for regions that other densities do not describe: most fits have
    none.
    """
    if isinstance(generator, LRDS):
        return generator.train or generator.reference == "ebm"
    return isinstance(generator, PublishedHybrid | ScoreLangevin)
