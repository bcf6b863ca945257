"""The steps of a fit, in their order. A step maps a state to a new one.

Each step says from the numbers of the state whether it is due, and whether there is no result
without it. A step is short: what an interruption or a limit loses is one of them.
"""

from __future__ import annotations

from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.fit.steps.conclusion import ChallengeFit, ChooseKernel, Learn
from pymc_multimodal.fit.steps.modes import Divide, Explore, FindModes
from pymc_multimodal.fit.steps.sampling import (
    BeginChains,
    CheckLabels,
    ConfirmSymmetry,
    ConnectRegions,
    RunChains,
)
from pymc_multimodal.fit.steps.weighing import Bridge, CompareEvidences, FitProposals, Refine

__all__ = ["STEPS", "Step"]

STEPS: tuple[Step, ...] = (
    FindModes(),
    Explore(),
    Divide(),
    BeginChains(),
    RunChains(),
    ConnectRegions(),
    CheckLabels(),
    ConfirmSymmetry(),
    FitProposals(),
    Bridge(),
    Refine(),
    CompareEvidences(),
    ChallengeFit(),
    Learn(),
    ChooseKernel(),
)
"""The pipeline. The next step is the first one that is due."""
