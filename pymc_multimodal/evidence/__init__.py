"""The evidence of each region, and the weights of the modes, with their errors.

The log density is evaluated by `extend_samples`, `cross_check`, `leaked_mass` and
`evidence_of_draws` alone. No function changes a record that it is given.
"""

from pymc_multimodal.evidence.allocation import (
    FIRST_PROPOSALS,
    MAX_LOG_EVIDENCE_SE,
    MIN_PROPOSALS,
    plan,
    required_share,
)
from pymc_multimodal.evidence.bridge import Bridge, bridge, slowest_moment
from pymc_multimodal.evidence.importance import (
    CrossCheck,
    cross_check,
    leaked_mass,
    negligible_regions,
    quick_weights,
)
from pymc_multimodal.evidence.masses import (
    LOG_EVIDENCE_FACTOR,
    NORMAL_QUANTILE,
    SMALLEST_WEIGHT,
    Weights,
    estimate,
    logit_interval,
    reported,
)
from pymc_multimodal.evidence.samples import (
    BridgeSamples,
    begin_samples,
    draw_ratios,
    extend_samples,
    replace_densities,
)
from pymc_multimodal.evidence.statuses import unmixed_status
from pymc_multimodal.evidence.stored import LogEvidence, evidence_of_draws

__all__ = [
    "FIRST_PROPOSALS",
    "LOG_EVIDENCE_FACTOR",
    "MAX_LOG_EVIDENCE_SE",
    "MIN_PROPOSALS",
    "NORMAL_QUANTILE",
    "SMALLEST_WEIGHT",
    "Bridge",
    "BridgeSamples",
    "CrossCheck",
    "LogEvidence",
    "Weights",
    "begin_samples",
    "bridge",
    "cross_check",
    "draw_ratios",
    "estimate",
    "evidence_of_draws",
    "extend_samples",
    "leaked_mass",
    "logit_interval",
    "negligible_regions",
    "plan",
    "quick_weights",
    "replace_densities",
    "reported",
    "required_share",
    "slowest_moment",
    "unmixed_status",
]
