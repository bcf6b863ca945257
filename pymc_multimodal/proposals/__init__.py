"""Generators: draws from a learned approximation, behind one protocol."""

from __future__ import annotations

from dataclasses import replace

from pymc_multimodal.proposals.base import (
    Generator,
    GeneratorConfig,
    Proposals,
    RegionalMixture,
    RegionDensity,
)
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.flow.density import FlowDensity, Network
from pymc_multimodal.proposals.ladder import Hybrid
from pymc_multimodal.proposals.lrds import LRDS, ControlNetwork, EnergyNetwork
from pymc_multimodal.proposals.published.generator import PublishedHybrid
from pymc_multimodal.proposals.score.score import ScoreLangevin
from pymc_multimodal.proposals.score.score_generator import ScoreGenerator

__all__ = [
    "LRDS",
    "ControlNetwork",
    "EllipticalMixture",
    "EnergyNetwork",
    "FlowDensity",
    "Generator",
    "GeneratorConfig",
    "Hybrid",
    "Network",
    "Proposals",
    "PublishedHybrid",
    "RegionDensity",
    "RegionalMixture",
    "ScoreGenerator",
    "ScoreLangevin",
    "resolve",
    "untrained",
]


def resolve(generator: str | GeneratorConfig) -> GeneratorConfig:
    """Turn a short name into its config; configs pass through.

    Raises
    ------
    ValueError
        If the name is not known.
    TypeError
        If it is neither a name nor a config object.
    """
    if not isinstance(generator, str):
        if isinstance(generator, type) or not hasattr(generator, "fit_regions"):
            raise TypeError(
                f"generator={generator!r} is neither a name nor a config object such as Hybrid()."
            )
        return generator
    if generator == "hybrid":
        return Hybrid()
    if generator == "published":
        return PublishedHybrid()
    if generator == "lrds":
        return LRDS()
    if generator == "score":
        return ScoreLangevin()
    raise ValueError(
        f"generator={generator!r} is not known; use 'hybrid', 'lrds', 'score', 'published' or a "
        "config object."
    )


def untrained(config: GeneratorConfig) -> GeneratorConfig:
    """Leave out the networks that a config trains for single regions: for a fit at its limit."""
    if isinstance(config, Hybrid) and "network" in config.rungs:
        return replace(config, rungs=("gaussian", *(r for r in config.rungs if r == "mixture")))
    return config
