"""Bridge sampling: a normalising constant from the log ratios of draws and proposals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pymc_multimodal._diagnostics import ess
from pymc_multimodal.regions import watched_columns

__all__ = ["Bridge", "bridge", "influences", "slowest_moment", "variance_of_mean"]

# Change of the log evidence, in nats, at which the iteration ends; and its most steps.
# Conventional: far below any standard error that matters; the iteration converges linearly.
TOLERANCE, MAX_ITER = 1e-10, 1000
# Logarithm of 40: a positive mean exceeds 40 times its expectation with a probability of at most
# 2.5 % (Markov's inequality).
LOG_MARKOV = float(np.log(40.0))


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
    remaining : float
        How far the log evidence still is from the end of the iteration (nats), by the rate at which
        the last steps became shorter, and by the distance of the two means that the bridge lies
        between; 0 if the iteration has converged.
    bounds : tuple of two floats
        The log evidence lies below, and above, each of these with a probability of 2.5 % at most.
    """

    log_evidence: float
    from_draws: float
    from_proposals: float
    iterations: np.ndarray
    remaining: float = 0.0
    bounds: tuple[float, float] = (-np.inf, np.inf)


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
    proposals, half of the gap between them (nats) is added as an error. So is the distance to the
    end of an iteration that has not converged.

    The bounds need no variance. The mean of ``gamma / q`` over proposals has the expectation Z, and
    that of ``q / gamma`` over draws at most 1 / Z. By Markov's inequality each exceeds its
    expectation 40 times with a probability of at most 1 / 40 (Grosse et al. 2015, arXiv 1511.02543,
    use the two means likewise). Of the chains the one is taken that gives the largest evidence.
    """
    finite = proposals[np.isfinite(proposals)]
    if not len(finite):
        bounds = _bounds(draws, finite, len(proposals))
        return Bridge(-np.inf, 0.0, np.inf, np.array([-np.inf]), bounds=bounds)
    s1 = n_effective / (n_effective + len(proposals))
    # Beside a large constant of the log density the iteration would not converge: the rounding
    # error of a log evidence of a million is 1e-10 nats.
    origin = float(np.median(draws))
    steps = _fixed_point(
        draws.ravel() - origin, finite - origin, len(proposals), s1, tolerance, max_iter
    )
    trace = np.array(steps) + origin
    log_r = float(trace[-1])
    from_draws, from_proposals = _variances(draws, proposals, log_r, s1, max_effective)
    # If the smallest ratio of the draws exceeds the largest of the proposals, the evidence lies
    # between the two, and the linearisation does not see how far they are apart.
    unbridged = float(0.5 * (0.5 * max(0.0, draws.min() - finite.max())) ** 2)
    bounds = _bounds(draws, finite, len(proposals))
    remaining = min(_remaining(steps, tolerance), bounds[1] - bounds[0])
    unbridged += 0.5 * remaining**2
    return Bridge(
        log_r,
        from_draws + unbridged,
        from_proposals + unbridged,
        trace,
        remaining,
        bounds,
    )


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


def _bounds(draws: np.ndarray, finite: np.ndarray, n_proposals: int) -> tuple[float, float]:
    """Return bounds of the log evidence by Markov's inequality (see `bridge`)."""
    low = np.logaddexp.reduce(finite) - np.log(n_proposals) if len(finite) else -np.inf
    high = np.max(np.log(draws.shape[1]) - np.logaddexp.reduce(-draws, axis=1))
    return float(low - LOG_MARKOV), float(high + LOG_MARKOV)


def _remaining(trace: list[float], tolerance: float) -> float:
    """Return how far the iteration is from its end (nats); 0 if it has converged.

    The iteration converges linearly: its steps become shorter by a constant factor.
    """
    steps = np.abs(np.diff(trace[-3:]))
    if not len(steps) or steps[-1] < tolerance:
        return 0.0
    if len(steps) < 2 or steps[1] >= steps[0]:
        return float("inf")
    return float(steps[1] ** 2 / (steps[0] - steps[1]))


def _variances(
    draws: np.ndarray, proposals: np.ndarray, log_r: float, s1: float, max_effective: float
) -> tuple[float, float]:
    """Variance of the log evidence from the draws and from the proposals, by linearisation."""
    by_draws, by_proposals = influences(draws, proposals, log_r, s1)
    if not np.isfinite(by_draws).all():
        return np.inf, np.inf
    var_a = np.var(by_proposals, ddof=1) / len(by_proposals)
    return variance_of_mean(by_draws, max_effective), float(var_a)


def influences(
    draws: np.ndarray, proposals: np.ndarray, log_r: float, s1: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each draw and each proposal adds to the error of the log evidence.

    The error is, by linearisation of the estimating equation at its solution, the mean of the
    draws' influences plus the mean of the proposals'.

    Parameters
    ----------
    draws : array of shape (chains, n)
        Log ratios at draws of the target.
    proposals : array of shape (m,)
        Log ratios at draws of q.
    log_r : float
        The solution (nats).
    s1 : float
        Share of the draws among all effective points.

    Returns
    -------
    by_draws : array of shape (chains, n)
    by_proposals : array of shape (m,)
        In nats, each of mean zero; infinite where draws and proposals do not overlap at all.
    """
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
        return np.full(draws.shape, np.inf), np.full(proposals.shape, np.inf)
    return (np.mean(b) - b) / slope, (a - np.mean(a)) / slope


def variance_of_mean(values: np.ndarray, max_effective: float) -> float:
    """Return the variance of the mean of autocorrelated values.

    It is estimated twice, and the larger estimate is taken. The spread of a few chains' means is
    noisy. The autocorrelation within chains misses differences between chains that hardly ever
    change places.

    Parameters
    ----------
    values : array of shape (chains, n)
    max_effective : float
        Upper bound of the number of values that count as independent.
    """
    own = np.nan_to_num(ess(values[:, :, None], "mean")[0], nan=1.0)
    independent = float(np.clip(min(own, max_effective), 1.0, values.size))
    within = np.var(values, ddof=1) / independent
    between = np.var(values.mean(axis=1), ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(max(within, between))


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
    x = x[:, :, watched_columns(x)]
    spread = x.std(axis=(0, 1))
    # In units of the spread, because ArviZ takes a variation below 1e-15 for a constant.
    z = (x - x.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)
    sizes = ess(z**2, "mean")
    # A coordinate that never moves has no effective number; R-hat reports it.
    return float(np.min(sizes[np.isfinite(sizes)], initial=np.inf))
