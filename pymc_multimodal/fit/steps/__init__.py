"""The steps of a fit, in their order. A step maps a state to a new one.

A step reads from the state whether it is due, and whether a result needs it. A limit or an
interruption loses the work of at most one step.
"""

from __future__ import annotations

from pymc_multimodal.fit.steps.approximation import (
    Approximate,
    CompareWithChains,
    Screen,
    WeighSample,
)
from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.fit.steps.challenge import BeginAgain, ChallengeFit
from pymc_multimodal.fit.steps.draws import ChooseKernel, LearnGenerator
from pymc_multimodal.fit.steps.emulation import EmulateDensity, ScreenDear
from pymc_multimodal.fit.steps.modes import Divide, Explore, FindModes
from pymc_multimodal.fit.steps.sampling import (
    ApproximateRegions,
    BeginChains,
    CheckLabels,
    CheckStuck,
    ConfirmSymmetry,
    ConnectRegions,
    RunChains,
)
from pymc_multimodal.fit.steps.structure import FitUnits
from pymc_multimodal.fit.steps.weighing import Bridge, CompareEvidences, FitProposals, Refine

__all__ = ["STEPS", "Step"]

STEPS: tuple[Step, ...] = (
    FindModes(),
    ScreenDear(),
    EmulateDensity(),
    Approximate(),
    Screen(),
    FitUnits(),
    Explore(),
    CompareWithChains(),
    Divide(),
    WeighSample(),
    BeginChains(),
    CheckStuck(),
    RunChains(),
    ApproximateRegions(),
    ConnectRegions(),
    CheckLabels(),
    ConfirmSymmetry(),
    FitProposals(),
    Bridge(),
    Refine(),
    CompareEvidences(),
    ChallengeFit(),
    BeginAgain(),
    LearnGenerator(),
    ChooseKernel(),
)
"""The pipeline. The next step is the first one that is due."""
