"""The first answer: importance sampling from a mixture over the modes.

>>> found = approximate(target, modes, starts, settings, target_se, rng)  # doctest: +SKIP
>>> found.verdict.precise  # doctest: +SKIP
True
"""

from __future__ import annotations

from pymc_multimodal.approximation.answer import MAX_EXCESS, SURPLUS, Approximation
from pymc_multimodal.approximation.mixture import (
    LeftOut,
    ModeMixture,
    first_mixture,
    region_mixture,
    wide_density,
)
from pymc_multimodal.approximation.negligible import (
    DRAWS_OF_MODE,
    negligible_in_sample,
    negligible_modes,
)
from pymc_multimodal.approximation.rounds import (
    MAX_ENLARGED,
    MAX_GROWTH,
    approximate,
    approximate_again,
    approximate_further,
    approximate_met,
    approximate_regions,
    begin_mixture,
    first_round,
    fitted_to_samples,
)
from pymc_multimodal.approximation.sample import WeightedSample, mode_of_draws, rows_of_groups
from pymc_multimodal.approximation.settings import FirstAnswer
from pymc_multimodal.approximation.verdict import Verdict, error_factor, judge, tail_index
from pymc_multimodal.approximation.weigh import (
    evidence_bounds,
    region_draws,
    region_of_draws,
    region_weights,
    systematic_rows,
    weight_intervals,
    weights_of_sample,
)

__all__ = [
    "DRAWS_OF_MODE",
    "MAX_ENLARGED",
    "MAX_EXCESS",
    "MAX_GROWTH",
    "SURPLUS",
    "Approximation",
    "FirstAnswer",
    "LeftOut",
    "ModeMixture",
    "Verdict",
    "WeightedSample",
    "approximate",
    "approximate_again",
    "approximate_further",
    "approximate_met",
    "approximate_regions",
    "begin_mixture",
    "error_factor",
    "evidence_bounds",
    "first_mixture",
    "first_round",
    "fitted_to_samples",
    "judge",
    "mode_of_draws",
    "negligible_in_sample",
    "negligible_modes",
    "region_draws",
    "region_mixture",
    "region_of_draws",
    "region_weights",
    "rows_of_groups",
    "systematic_rows",
    "tail_index",
    "weight_intervals",
    "weights_of_sample",
    "wide_density",
]
