"""What the statuses say of an evidence that was estimated from stored draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymc_multimodal.evidence.statuses import (
    HEAVY_TAIL,
    MAX_ERROR,
    MAX_UNREACHED,
    SMALL_ERROR,
    TRUSTED_ERROR,
)
from pymc_multimodal.status import Status

__all__ = ["Doubts", "doubts_of", "stored_statuses"]

# R-hat above which chains disagree. Conventional: Vehtari et al. (2021) recommend 1.01 for reports;
# the largest one of many coordinates exceeds that by chance.
MAX_R_HAT = 1.05
# Fewest effective draws of the slowest coordinate. Conventional: an error that is estimated from so
# many is itself uncertain by a tenth.
MIN_EFFECTIVE = 50.0
# Joint standard errors by which two estimates may differ: one in 16,000 by chance. As in
# evidence/importance.py.
MAX_DIFFERENCE_SE = 4.0

_MORE = "Draw more, with chains that start in other places, or sample the model with this package."


@dataclass(frozen=True)
class Doubts:
    """What speaks against an estimate: numbers, and whether each is too large.

    Attributes
    ----------
    error : float
        Standard error of the bridge (nats).
    r_hat, ess : float
        Largest R-hat and smallest effective number of draws.
    halves : float
        Distance of the log evidences of the two halves (nats).
    remaining : float
        How far the bridge is from the end of its iteration (nats).
    difference : float
        Log evidence by the proposals alone, less that by the bridge (nats).
    difference_se : float
        Joint standard error of the two; NaN where the former has none.
    pareto_k : float
        Tail index of the proposals' ratios.
    unreached : float
        Share of draws with a ratio that no proposal reached.
    """

    error: float
    r_hat: float
    ess: float
    halves: float
    remaining: float
    difference: float
    difference_se: float
    pareto_k: float
    unreached: float

    @property
    def unmixed(self) -> bool:
        """Whether the chains disagree."""
        return not self.r_hat <= MAX_R_HAT

    @property
    def few(self) -> bool:
        """Whether there are too few effective draws for an error."""
        return not self.ess >= MIN_EFFECTIVE

    @property
    def heavy(self) -> bool:
        """Whether the proposals' ratios are too heavy-tailed for a mean."""
        return self.pareto_k > HEAVY_TAIL

    @property
    def apart(self) -> bool:
        """Whether the two halves contradict each other; each has about twice the variance."""
        return self.halves > MAX_DIFFERENCE_SE * 2.0 * self.error

    @property
    def contradicted(self) -> bool:
        """Whether the proposals alone contradict the bridge."""
        return not self.heavy and abs(self.difference) > MAX_DIFFERENCE_SE * self.difference_se

    @property
    def unknown(self) -> bool:
        """Whether no error can be given."""
        large = not self.error <= TRUSTED_ERROR
        return large or self.unmixed or self.few or self.apart or self.contradicted


def doubts_of(
    found: tuple[float, float, float, float],
    second: tuple[float, float, float],
    mixing: tuple[float, float],
    unreached: float,
) -> Doubts:
    """Collect the numbers.

    Parameters
    ----------
    found : tuple of float
        By the bridge: log evidence, its standard error, the distance of the halves, and what is
        left to iterate.
    second : tuple of float
        By the proposals alone: log evidence, its standard error, and the tail index.
    mixing : tuple of float
        Smallest effective number of draws, and largest R-hat.
    unreached : float
    """
    value, error, halves, remaining = found
    return Doubts(
        error=error,
        r_hat=mixing[1],
        ess=mixing[0],
        halves=halves,
        remaining=remaining,
        difference=second[0] - value,
        difference_se=float(np.hypot(error, second[1])),
        pareto_k=second[2],
        unreached=unreached,
    )


def stored_statuses(doubts: Doubts) -> tuple[Status, ...]:
    """Report each doubt with its cause and remedy."""
    statuses = []
    if doubts.unmixed:
        statuses.append(
            Status("r_hat", "evidence",
                   f"the chains disagree (R-hat {doubts.r_hat:.2f}): their shares in the modes are "
                   "not those of the posterior. The estimate is that of the proposals alone, and "
                   "modes that no chain has visited are missing in it.", _MORE)
        )  # fmt: skip
    elif doubts.few:
        statuses.append(
            Status("evidence_error", "evidence",
                   f"the draws hold {doubts.ess:.0f} effective ones: the error of the evidence is "
                   "not known.", "Draw more.")
        )  # fmt: skip
    if not doubts.error <= TRUSTED_ERROR:
        statuses.append(
            Status("evidence_error", "evidence",
                   "draws and proposals overlap too little for an error to be known.", _MORE)
        )  # fmt: skip
    elif doubts.error > MAX_ERROR:
        statuses.append(
            Status("evidence_error", "evidence",
                   f"the evidence is uncertain by {doubts.error:.0%}.", "Draw more.")
        )  # fmt: skip
    if doubts.remaining:
        statuses.append(
            Status("bridge", "evidence",
                   f"the bridge has not converged: its log evidence is {doubts.remaining:.2g} nats "
                   "away from the end. The error includes this.", _MORE)
        )  # fmt: skip
    if doubts.apart and not doubts.unmixed:
        statuses.append(
            Status("evidence_error", "evidence",
                   "the first and the second half of the draws give log evidences "
                   f"{doubts.halves:.2g} nats apart: the chains have not forgotten where they "
                   "began.", _MORE)
        )  # fmt: skip
    if doubts.contradicted and not doubts.unmixed:
        statuses.append(
            Status("overlap", "evidence",
                   "the proposals alone give a log evidence that differs by "
                   f"{doubts.difference:+.2g} nats: the mixture misses a part of the posterior, or "
                   "the chains stay in a part of it too long.", _MORE)
        )  # fmt: skip
    elif doubts.unreached > MAX_UNREACHED:
        harmless = doubts.error <= SMALL_ERROR
        statuses.append(
            Status("overlap", "evidence",
                   f"{doubts.unreached:.0%} of the draws have a density ratio that no proposal "
                   "reached: the mixture is too wide or too narrow in some directions.",
                   "Draw more.", level="info" if harmless else "warning")
        )  # fmt: skip
    if doubts.heavy:
        harmless = doubts.error <= MAX_ERROR
        statuses.append(
            Status("pareto_k", "evidence",
                   "the proposals' importance ratios are heavy-tailed (k-hat "
                   f"{doubts.pareto_k:.2f}), so that they give no second estimate.",
                   "The evidence is that of bridge sampling, which heavy tails harm less.",
                   level="info" if harmless else "warning")
        )  # fmt: skip
    return tuple(statuses)
