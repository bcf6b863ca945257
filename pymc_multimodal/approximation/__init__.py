"""The first answer: importance sampling from a mixture over the modes.

>>> found = approximate(target, modes, starts, settings, target_se, rng)  # doctest: +SKIP
>>> found.verdict.precise  # doctest: +SKIP
True
"""

from __future__ import annotations

from pymc_multimodal.approximation.mixture import ModeMixture, first_mixture
from pymc_multimodal.approximation.rounds import (
    MAX_GROWTH,
    Approximation,
    approximate,
    approximate_again,
)
from pymc_multimodal.approximation.sample import WeightedSample
from pymc_multimodal.approximation.settings import FirstAnswer
from pymc_multimodal.approximation.verdict import Verdict, error_factor, judge
from pymc_multimodal.approximation.weigh import region_draws, region_weights, weights_of_sample

__all__ = [
    "MAX_GROWTH",
    "Approximation",
    "FirstAnswer",
    "ModeMixture",
    "Verdict",
    "WeightedSample",
    "approximate",
    "approximate_again",
    "error_factor",
    "first_mixture",
    "judge",
    "region_draws",
    "region_weights",
    "weights_of_sample",
]
