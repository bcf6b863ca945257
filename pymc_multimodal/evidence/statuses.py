"""What the statuses say of the evidences of the regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.status import Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.evidence.bridge import Bridge

__all__ = ["HEAVY_TAIL", "MAX_TERM", "border_status", "bridge_statuses", "unmixed_status"]

# Tail index k-hat above which importance ratios are called heavy-tailed: the bound of Vehtari et
# al. (2024, JMLR 25:72). A distribution with a tail index above 1 has no mean.
HEAVY_TAIL, NO_MEAN = 0.7, 1.0
# Share of a mean in its largest term above which the mean is not trusted.
# Measured: examples/benchmarks/constants.py
MAX_TERM = 0.02
# Standard error of a log evidence (nats) above which it is reported; and above which heavy tails
# are reported as a warning. Conventional.
MAX_ERROR, SMALL_ERROR = 0.25, 0.1
# Standard error of a log evidence (nats) above which the linearisation that it comes from is not
# trusted. With independent draws, errors up to this are right within a factor of 1.2 whatever k-hat
# is; beyond, they are too small or far too large.
# Tested: test_errors_are_right_up_to_a_nat_whatever_the_overlap.
TRUSTED_ERROR = 1.0
# A draw is out of reach of the proposals if its log ratio exceeds the largest of theirs by more
# nats than this. Measured: examples/benchmarks/constants.py
OUT_OF_REACH = 2.0
# Draws out of reach are reported if they are more than this share of all, and more than so many
# times the inverse of the number of proposals. Measured: examples/benchmarks/constants.py
MAX_UNREACHED, MAX_UNREACHED_PROPOSALS = 0.01, 20.0


def bridge_statuses(
    k: int, found: Bridge, draws: np.ndarray, proposals: np.ndarray, tail: float
) -> list[Status]:
    """Report what makes the bridge of region k uncertain.

    Parameters
    ----------
    k : int
    found : Bridge
    draws, proposals : arrays of shape (chains, n) and (m,)
        Log ratios.
    tail : float
        Tail index of the proposals' ratios.

    Returns
    -------
    list of Status
    """
    statuses = []
    error = np.sqrt(found.from_draws + found.from_proposals)
    if not error <= MAX_ERROR:
        low, high = found.bounds
        cause = f"the evidence of this region is uncertain by {error:.0%}."
        if not error <= TRUSTED_ERROR:
            cause = (
                "draws and proposals of this region overlap too little for an error to be known: "
                f"its log evidence lies between {low:.4g} and {high:.4g} with 95 % probability."
            )
        statuses.append(
            Status("evidence_error", "evidence", cause,
                   "The generator does not fit the region: raise LocalSampling.max_draws or "
                   "lower target_se.", mode=k)
        )  # fmt: skip
    if found.remaining:
        statuses.append(
            Status("bridge", "evidence",
                   f"the bridge of this region has not converged after {len(found.iterations) - 1} "
                   f"steps: its log evidence is {found.remaining:.2g} nats away from the end. The "
                   "error includes this.",
                   "Draws and proposals hardly overlap: raise LocalSampling.max_draws, or use "
                   "another generator.", mode=k)
        )  # fmt: skip
    finite = proposals[np.isfinite(proposals)]
    largest = finite.max(initial=-np.inf)
    unreached = float(np.mean(draws > largest + OUT_OF_REACH))
    if unreached > max(MAX_UNREACHED, MAX_UNREACHED_PROPOSALS / max(len(finite), 1)):
        statuses.append(
            Status("overlap", "evidence",
                   f"{unreached:.0%} of the region's draws have a density ratio that no proposal "
                   "reached: the generator misses part of it.",
                   "Its weight may be too small: raise LocalSampling.max_draws.", mode=k)
        )  # fmt: skip
    if tail > HEAVY_TAIL:
        # A piece of the region with larger ratios also has a large k-hat, though the mean is good.
        # A mean is bad where single terms are a large share of it.
        largest_term = np.exp(largest - logsumexp(finite))
        harmless = error <= SMALL_ERROR and (tail <= NO_MEAN or largest_term <= MAX_TERM)
        statuses.append(
            Status("pareto_k", "evidence",
                   f"the importance ratios of this region are heavy-tailed (k-hat {tail:.2f}).",
                   "The evidence is that of bridge sampling, which heavy tails harm less. If its "
                   "stated error is too large, raise LocalSampling.max_draws.", mode=k,
                   level="info" if harmless else "warning")
        )  # fmt: skip
    return statuses


def unmixed_status(k: int, ess: float, chains: int) -> Status:
    """Report that the draws of region k are too few for an error of its evidence."""
    return Status(
        "evidence_error",
        "evidence",
        f"the {counted(chains, 'chain')} of this region hold "
        f"{counted(round(ess), 'effective draw')}: the error of its evidence is not known, and "
        "neither are those of the weights that depend on it.",
        "Raise LocalSampling.max_draws, or write the model in other parameters.",
        mode=k,
    )


def border_status(k: int, difference: float) -> Status:
    """Report that the cross-check contradicts the bridge of region k by a difference in nats."""
    return Status(
        "border",
        "evidence",
        f"importance sampling by all proposals gives an evidence that differs by {difference:+.1%} "
        "from the evidence by the region's own chains: the chains miss a piece of the region, or "
        "stay in it too long.",
        "The weight and the evidence of this region are wrong by about as much: raise "
        "LocalSampling.max_draws, or LocalSampling.explore_moves, from which regions are learned.",
        mode=k,
    )
