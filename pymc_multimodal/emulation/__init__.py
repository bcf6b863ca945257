"""Expensive densities: Gaussian processes emulate them, and true evaluations judge the draws.

>>> found = emulate(density, starts, plan, rng)  # doctest: +SKIP
>>> sample = judged_draws(density, posterior, posterior.counts(200), rng)  # doctest: +SKIP
"""

from __future__ import annotations

from pymc_multimodal.emulation.draws import EmulatedDraws, corrected_draws
from pymc_multimodal.emulation.integration import integrate
from pymc_multimodal.emulation.judged import (
    EmulatedPosterior,
    joined_draws,
    judged_draws,
    judged_weights,
    missing_draws,
    region_of,
    with_emulated_errors,
)
from pymc_multimodal.emulation.moves import EmulatedGenerator, EmulatedJump, Resampling
from pymc_multimodal.emulation.plan import Plan, Price, plan_evaluations, plan_surface, price_of
from pymc_multimodal.emulation.residuals import LeftOut, left_out, unseen_log_ratios
from pymc_multimodal.emulation.rounds import Emulated, Emulator, emulate, evaluated, refine
from pymc_multimodal.emulation.settings import Emulation
from pymc_multimodal.emulation.surface import emulate_surface

__all__ = [
    "Emulated",
    "EmulatedDraws",
    "EmulatedGenerator",
    "EmulatedJump",
    "EmulatedPosterior",
    "Emulation",
    "Emulator",
    "LeftOut",
    "Plan",
    "Price",
    "Resampling",
    "corrected_draws",
    "emulate",
    "emulate_surface",
    "evaluated",
    "integrate",
    "joined_draws",
    "judged_draws",
    "judged_weights",
    "left_out",
    "missing_draws",
    "plan_evaluations",
    "plan_surface",
    "price_of",
    "refine",
    "region_of",
    "unseen_log_ratios",
    "with_emulated_errors",
]
