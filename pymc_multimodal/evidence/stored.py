r"""The evidence of a model from draws that any sampler has made of its posterior.

Each chain is divided into two halves. A mixture :math:`q_h` is fitted to one half h, and proposals
of it are bridged with the draws of the other half; then the halves change places. The log evidence
is the mean of the two. So no draw is bridged with a density that was fitted to it, and every draw
is used.

A second estimate uses the proposals alone, by the balance heuristic of Veach and Guibas (1995):

.. math:: \hat Z = \frac1m \sum_j \frac{\gamma(y_j)}{\frac12 q_1(y_j) + \frac12 q_2(y_j)}.

It depends on the draws through the shape of the mixtures alone, not through the shares that the
chains have in the modes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal._compat import pareto_k
from pymc_multimodal._diagnostics import rank_diagnostics
from pymc_multimodal._text import html_list
from pymc_multimodal.evidence.bridge import (
    LOG_MARKOV,
    bridge,
    influences,
    slowest_moment,
    variance_of_mean,
)
from pymc_multimodal.evidence.masses import NORMAL_QUANTILE
from pymc_multimodal.evidence.statuses import OUT_OF_REACH, TRUSTED_ERROR
from pymc_multimodal.evidence.stored_statuses import Doubts, doubts_of, stored_statuses
from pymc_multimodal.proposals import fit_stored
from pymc_multimodal.status import Status, counted, with_error
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from pymc_multimodal.evidence.bridge import Bridge
    from pymc_multimodal.proposals import EllipticalMixture
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["LogEvidence", "evidence_of_draws"]


@dataclass(frozen=True, repr=False)
class LogEvidence:
    """Log evidence (log marginal likelihood) of a model, with its error.

    Attributes
    ----------
    log_evidence : float
        In nats.
    log_evidence_se : float
        Its standard error; NaN where it is not known, and a status says why.
    interval : tuple of two floats
        Interval of 95 %. Where the standard error is not known, bounds that hold for any proposal
        density if the draws are those of the posterior; infinite where nothing bounds it.
    method : str
        "bridge sampling"; "importance sampling" where the chains disagree, so that proposals alone
        are used; "fit" where it is that of a fit.
    importance, importance_se : float
        A second estimate, by the proposals alone, and its standard error; NaN where the
        proposals' ratios are too heavy-tailed for it, or there is none.
    n_chains, n_draws, n_proposals : int
        Chains, draws of all chains together, and proposals that were used.
    n_logp_evals : int
        Evaluations of the log density.
    ess : float
        Smallest effective number of draws of a coordinate or of the log density.
    r_hat : float
        Largest R-hat of a coordinate or of the log density.
    pareto_k : float
        Tail index of the proposals' importance ratios.
    statuses : tuple of Status
        What makes the number uncertain.
    """

    log_evidence: float
    log_evidence_se: float
    interval: tuple[float, float]
    method: str
    importance: float = float("nan")
    importance_se: float = float("nan")
    n_chains: int = 0
    n_draws: int = 0
    n_proposals: int = 0
    n_logp_evals: int = 0
    ess: float = float("nan")
    r_hat: float = float("nan")
    pareto_k: float = float("nan")
    statuses: tuple[Status, ...] = ()

    def __repr__(self) -> str:
        """Write the number with its error, where it comes from, and what is wrong."""
        low, high = self.interval
        text = with_error(self.log_evidence, self.log_evidence_se)
        if not np.isfinite(self.log_evidence_se):
            text = f"{self.log_evidence:.3f} (error not known, between {low:.4g} and {high:.4g})"
        source = f"by {self.method}" if self.method != "fit" else "of a fit"
        lines = [f"<LogEvidence {text}, {source}>"]
        if self.n_draws:
            lines.append(
                f"  {counted(self.n_draws, 'draw')} of {counted(self.n_chains, 'chain')} (ESS "
                f"{self.ess:.0f}, R-hat {self.r_hat:.3f}), "
                f"{counted(self.n_proposals, 'proposal')} (k-hat {self.pareto_k:.2f}), "
                f"{counted(self.n_logp_evals, 'density evaluation')}"
            )
        lines += [f"  {s.level}: {s}" for s in self.statuses]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Write the text for a notebook."""
        first, *rest = repr(self).strip("<>").splitlines()
        return f"<p><b>{escape(first.rstrip('>'))}</b></p>{html_list([s.strip() for s in rest])}"


def evidence_of_draws(
    target: LogDensity, x: np.ndarray, rng: np.random.Generator, n_proposals: int | None = None
) -> LogEvidence:
    """Estimate the log evidence from draws of the posterior, by bridge sampling.

    Parameters
    ----------
    target : LogDensity
        The unnormalised posterior. It is evaluated at every draw and at every proposal.
    x : array of shape (chains, n, d)
        Unconstrained draws.
    rng : numpy.random.Generator
    n_proposals : int, optional
        Proposals of both mixtures together; as many as draws by default.

    Returns
    -------
    LogEvidence

    Raises
    ------
    ValueError
        If the density is zero, or not finite, at a draw.
    """
    before = target.spent()
    n = 2 * (x.shape[1] // 2)
    x = x[:, :n]
    logp = target.logp(x.reshape(-1, x.shape[2])).reshape(x.shape[:2])
    if n_zero := int(np.sum(~np.isfinite(logp))):
        raise ValueError(
            f"The posterior density is zero at {n_zero} of {counted(logp.size, 'draw')}: they are "
            "draws of another model, or of other data. Give the model that made them."
        )
    x = target.wrap(x)
    watched = _on_lines(x, target.period)
    r_hat, size = _mixing(np.concatenate([watched, logp[:, :, None]], axis=2))
    halves = (slice(0, n // 2), slice(n // 2, n))
    densities = [fit_stored(x[:, half], target.period, rng) for half in halves]
    m = max(2, (logp.size if n_proposals is None else n_proposals) // 2)
    proposals = [_proposals(target, q, m, rng) for q in densities]
    share = size / logp.size
    crossed = [
        _Crossed.of(target, x[:, half], logp[:, half], densities[1 - h], proposals[1 - h], share)
        for h, half in enumerate(halves)
    ]
    found = _joined(crossed, slowest_moment(watched))
    second = _balanced(densities, proposals)
    doubts = doubts_of(found, second, (size, r_hat), float(np.mean([c.unreached for c in crossed])))
    result = LogEvidence(
        log_evidence=found[0],
        log_evidence_se=found[1],
        interval=(0.0, 0.0),
        method="bridge sampling",
        importance=second[0],
        importance_se=second[1],
        n_chains=x.shape[0],
        n_draws=logp.size,
        n_proposals=2 * m,
        n_logp_evals=target.spent() - before,
        ess=size,
        r_hat=r_hat,
        pareto_k=second[2],
        statuses=stored_statuses(doubts),
    )
    return _told(result, doubts, crossed, second)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """One half of the draws bridged with proposals of the density of the other half."""

    found: Bridge
    by_draws: np.ndarray
    by_proposals: np.ndarray
    unreached: float

    @classmethod
    def of(
        cls,
        target: LogDensity,
        x: np.ndarray,
        logp: np.ndarray,
        density: EllipticalMixture,
        proposals: tuple[np.ndarray, np.ndarray],
        share: float,
    ) -> _Crossed:
        """Bridge draws (chains, n, d) with proposals, given the effective share of the draws."""
        y, y_logp = proposals
        ratios = logp - density.log_density(x.reshape(-1, x.shape[2])).reshape(logp.shape)
        proposed = np.full(len(y), -np.inf)
        inside = np.isfinite(y_logp)
        proposed[inside] = y_logp[inside] - density.log_density(y[inside])
        n_effective = max(1.0, share * ratios.size)
        found = bridge(ratios, proposed, n_effective)
        s1 = n_effective / (n_effective + len(proposed))
        by_draws, by_proposals = influences(ratios, proposed, found.log_evidence, s1)
        unreached = float(np.mean(ratios > proposed.max(initial=-np.inf) + OUT_OF_REACH))
        return cls(found, by_draws, by_proposals, unreached)


def _proposals(
    target: LogDensity, density: EllipticalMixture, m: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return proposals (m, d) and their log densities (m,), -inf outside of the window."""
    y = density.sample(m, rng)
    inside = np.isfinite(y).all(axis=1)
    logp = np.full(m, -np.inf)
    logp[inside] = target.logp(y[inside])
    return y, logp


def _on_lines(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Replace circular coordinates by their cosines and sines: (chains, n, d) to (..., e)."""
    circular = is_circular(period)
    if not circular.any():
        return x
    angle = 2.0 * np.pi * x[:, :, circular] / period[circular]
    return np.concatenate([x[:, :, ~circular], np.cos(angle), np.sin(angle)], axis=2)


def _mixing(values: np.ndarray) -> tuple[float, float]:
    """Return the largest R-hat and the smallest ESS of quantities of shape (chains, n, q).

    A single chain is judged by its two halves.
    """
    if len(values) == 1:
        half = values.shape[1] // 2
        values = np.concatenate([values[:, :half], values[:, -half:]])
    r_hat, size = rank_diagnostics(values)
    # A coordinate that never moves has neither.
    most = values.shape[0] * values.shape[1]
    return (
        float(np.max(r_hat[np.isfinite(r_hat)], initial=1.0)),
        float(np.min(size[np.isfinite(size)], initial=most)),
    )


def _joined(crossed: list[_Crossed], slowest: float) -> tuple[float, float, float, float]:
    """Return mean and error of the two log evidences, their distance, and what is left to iterate.

    The proposals of the halves are independent. The draws are not: a chain that is in the wrong
    mode in one half is there in the other, so that the variance is that of the whole series.
    """
    first, second = (c.found.log_evidence for c in crossed)
    remaining = max(c.found.remaining for c in crossed)
    if not (np.isfinite(first) and np.isfinite(second)):
        return float(np.mean([first, second])), np.inf, np.inf, remaining
    by_draws = np.concatenate([c.by_draws for c in crossed], axis=1)
    if not np.isfinite(by_draws).all():
        return float(np.mean([first, second])), np.inf, abs(first - second), remaining
    variance = variance_of_mean(by_draws, slowest)
    variance += sum(np.var(c.by_proposals, ddof=1) / len(c.by_proposals) for c in crossed) / 4.0
    # What `bridge` adds where the iteration has not converged or nothing overlaps.
    own = [c.found.from_draws + c.found.from_proposals for c in crossed]
    if not np.isfinite(own).all() or remaining:
        variance = max(variance, float(np.mean(own)))
    return 0.5 * (first + second), float(np.sqrt(variance)), abs(first - second), remaining


def _balanced(
    densities: list[EllipticalMixture], proposals: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, float]:
    """Return the log evidence by the proposals alone, its standard error, and the tail index."""
    y = np.concatenate([y for y, _ in proposals])
    logp = np.concatenate([logp for _, logp in proposals])
    inside = np.isfinite(logp)
    if not inside.any():
        return -np.inf, np.inf, np.inf
    log_q = logsumexp([q.log_density(y[inside]) for q in densities], axis=0) - np.log(2.0)
    ratios = np.full(len(y), -np.inf)
    ratios[inside] = logp[inside] - log_q
    log_mean = float(logsumexp(ratios) - np.log(len(ratios)))
    relative = np.exp(ratios - log_mean)
    error = float(np.std(relative, ddof=1) / np.sqrt(len(relative)))
    return log_mean, error, pareto_k(ratios)


def _told(
    result: LogEvidence,
    doubts: Doubts,
    crossed: list[_Crossed],
    second: tuple[float, float, float],
) -> LogEvidence:
    """Replace an error that is not known by NaN and its interval by bounds that hold."""
    value, error = result.log_evidence, result.log_evidence_se
    if doubts.heavy:
        result = replace(result, importance=float("nan"), importance_se=float("nan"))
    if not doubts.unknown and error <= TRUSTED_ERROR:
        reach = NORMAL_QUANTILE * error
        return replace(result, interval=(value - reach, value + reach))
    # Chains that have not mixed do not bound what they have not seen.
    high = np.inf if doubts.unmixed else max(c.found.bounds[1] for c in crossed)
    if doubts.unmixed and np.isfinite(second[0]):
        # The proposals do not depend on the shares of the chains in the modes.
        value, method = second[0], "importance sampling"
    else:
        method = result.method
    return replace(
        result,
        log_evidence=value,
        log_evidence_se=float("nan"),
        interval=(second[0] - LOG_MARKOV, float(high)),
        method=method,
    )
