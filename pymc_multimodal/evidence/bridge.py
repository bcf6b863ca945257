"""Bridge sampling: a normalising constant from the log ratios of draws and proposals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pymc_multimodal._diagnostics import ess
from pymc_multimodal.regions import watched_columns

__all__ = ["Bridge", "bridge", "slowest_moment"]

# Change of the log evidence, in nats, at which the iteration ends; and its most steps.
# Conventional: far below any standard error that matters; the iteration converges linearly.
TOLERANCE, MAX_ITER = 1e-10, 1000


@dataclass(frozen=True)
class Bridge:
    """The log evidence of one region by bridge sampling.

    Attributes
    ----------
    log_evidence : float
        In nats; -inf if no proposal has a positive density.
    from_draws, from_proposals : float
        The two parts of the variance of the log evidence (nats squared): one from the draws of the
        target, one from the draws of the proposal.
    iterations : array of shape (t,)
        Log evidence at each step of the iteration.
    """

    log_evidence: float
    from_draws: float
    from_proposals: float
    iterations: np.ndarray


def bridge(
    draws: np.ndarray,
    proposals: np.ndarray,
    n_effective: float,
    *,
    max_effective: float = np.inf,
    tolerance: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> Bridge:
    r"""Estimate a normalising constant by bridge sampling.

    .. math:: r \leftarrow \frac{\frac1{n_2}\sum_j l_{2j} / (s_1 l_{2j} + s_2 r)}
                                {\frac1{n_1}\sum_i 1 / (s_1 l_{1i} + s_2 r)}

    with the ratios :math:`l = \gamma / q` at the :math:`n_1` draws of the target and the
    :math:`n_2` proposals.

    Parameters
    ----------
    draws : array of shape (chains, n)
        Log ratios ``log gamma - log q`` at draws of the target.
    proposals : array of shape (m,)
        Log ratios at draws of q; -inf where gamma is zero.
    n_effective : float
        Effective number of the draws; it sets the shares ``s1 = n_effective / (n_effective + m)``
        and ``s2 = 1 - s1``.
    max_effective : float
        Upper bound of the number of draws that the error counts as independent, such as
        `slowest_moment`.
    tolerance : float
        Change of the log evidence (nats) at which the iteration ends.
    max_iter : int
        Largest number of steps.

    Returns
    -------
    Bridge

    Notes
    -----
    The estimate is that of Meng and Wong (1996), as in arXiv 2505.07825, Eqs. 20-21. The variance
    is that of the linearised estimating equation: the terms of the draws are autocorrelated, the
    terms of the proposals independent. If all ratios of the draws exceed all ratios of the
    proposals, half of the gap between them (nats) is added as an error.
    """
    finite = proposals[np.isfinite(proposals)]
    if not len(finite):
        return Bridge(-np.inf, 0.0, np.inf, np.array([-np.inf]))
    s1 = n_effective / (n_effective + len(proposals))
    trace = _fixed_point(draws.ravel(), finite, len(proposals), s1, tolerance, max_iter)
    log_r = trace[-1]
    from_draws, from_proposals = _variances(draws, proposals, log_r, s1, max_effective)
    # If the smallest ratio of the draws exceeds the largest of the proposals, the evidence lies
    # between the two, and the linearisation does not see how far they are apart.
    unbridged = float(0.5 * (0.5 * max(0.0, draws.min() - finite.max())) ** 2)
    return Bridge(log_r, from_draws + unbridged, from_proposals + unbridged, np.array(trace))


def _fixed_point(
    draws: np.ndarray,
    finite: np.ndarray,
    n_proposals: int,
    s1: float,
    tolerance: float,
    max_iter: int,
) -> list[float]:
    """Iterate Meng and Wong's equation; the log evidence at each step."""
    log_s1, log_s2 = np.log(s1), np.log(1.0 - s1)
    log_r = float(np.median(draws))
    trace = [log_r]
    for _ in range(max_iter):
        # For a few thousand values ten times quicker than SciPy's logsumexp.
        top = np.logaddexp.reduce(finite - np.logaddexp(log_s1 + finite, log_s2 + log_r))
        bottom = np.logaddexp.reduce(-np.logaddexp(log_s1 + draws, log_s2 + log_r))
        new = float((top - np.log(n_proposals)) - (bottom - np.log(len(draws))))
        trace.append(new)
        if abs(new - log_r) < tolerance:
            break
        log_r = new
    return trace


def _variances(
    draws: np.ndarray, proposals: np.ndarray, log_r: float, s1: float, max_effective: float
) -> tuple[float, float]:
    """Variance of the log evidence from the draws and from the proposals, by linearisation."""
    s2 = 1.0 - s1
    # The terms a and b have equal means at the solution.
    with np.errstate(over="ignore"):
        share_a = expit(np.log(s1) - np.log(s2) + proposals - log_r)
        share_b = expit(np.log(s1) - np.log(s2) + draws - log_r)
    a = share_a / s1
    b = (1.0 - share_b) / s2
    # Slope of the difference of their means in log r.
    slope = np.mean(a * (1.0 - share_a)) + np.mean(b * share_b)
    if not slope > 0:
        return np.inf, np.inf
    # The variance of the draws' mean is estimated twice, and the larger estimate is taken. The
    # spread of a few chains' means is noisy. The autocorrelation within chains misses differences
    # between chains that hardly ever change places.
    own = np.nan_to_num(ess(b[:, :, None], "mean")[0], nan=1.0)
    independent = float(np.clip(min(own, max_effective), 1.0, b.size))
    var_b = max(np.var(b, ddof=1) / independent, np.var(b.mean(axis=1), ddof=1) / len(b))
    var_a = np.var(a, ddof=1) / len(a)
    return float(var_b / slope**2), float(var_a / slope**2)


def slowest_moment(x: np.ndarray) -> float:
    """Effective number of draws of the squared deviations of the coordinate that has fewest.

    Chains of a curved region may change places often within its bulk and hardly ever enter its
    arms. Means then seem to mix; second moments do not.

    Parameters
    ----------
    x : array of shape (chains, n, d)
        Unrolled draws.

    Returns
    -------
    float
        ``inf`` if no coordinate varies.
    """
    x = x[:, :, watched_columns(x.shape[2])]
    spread = x.std(axis=(0, 1))
    # In units of the spread, because ArviZ takes a variation below 1e-15 for a constant.
    z = (x - x.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)
    sizes = ess(z**2, "mean")
    # A coordinate that never moves has no effective number; R-hat reports it.
    return float(np.min(sizes[np.isfinite(sizes)], initial=np.inf))
