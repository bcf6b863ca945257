"""The evidence of each region, and the weights of the regions with their errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit, logsumexp

from pymc_multimodal._compat import pareto_k
from pymc_multimodal._text import html_table
from pymc_multimodal.evidence.bridge import bridge, slowest_moment
from pymc_multimodal.evidence.samples import draw_ratios
from pymc_multimodal.evidence.statuses import TRUSTED_ERROR, bridge_statuses
from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.status import counted, with_error

if TYPE_CHECKING:
    from pymc_multimodal.evidence.bridge import Bridge
    from pymc_multimodal.evidence.samples import BridgeSamples
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "LOG_EVIDENCE_FACTOR",
    "NORMAL_QUANTILE",
    "SMALLEST_WEIGHT",
    "Weights",
    "estimate",
    "logit_interval",
    "reported",
]

# A region has to have this share of `target_se` in weight for its log evidence to need the
# precision `max_log_se`. Conventional: a tenth of the error asked for is no error that matters.
MIN_WEIGHT = 0.1
# The log evidence of the posterior is asked for within so many `target_se`: a single region has
# weight 1 without error. Measured: examples/benchmarks/constants.py
LOG_EVIDENCE_FACTOR = 2.0
# Where a weight is too uncertain, regions that bring at least this share of the largest
# contribution to its variance need more. Measured: examples/benchmarks/constants.py
MIN_CONTRIBUTION = 0.5
# Variance (nats squared) that stands for all larger ones, so that a sum of them is finite.
# Conventional.
MAX_VARIANCE = 1e6
# 97.5 % quantile of the standard normal distribution, for intervals of 95 %.
NORMAL_QUANTILE = 1.96
# Posterior mass of the regions without a known error up to which it is added to the errors of the
# other regions. Conventional: the error asked for is of this size.
MAX_UNKNOWN_MASS = 0.01
# Weights that the text shows. Conventional.
MAX_IN_TEXT = 5
# Smallest weight, and smallest distance of a weight from 1, on the logit scale: rounding.
SMALLEST_WEIGHT, SMALLEST_REST = 1e-300, 1e-16


@dataclass(frozen=True)
class Weights:
    """Weights and evidences of K regions.

    Attributes
    ----------
    weight, weight_se : arrays of shape (K,)
        Posterior mass of each region and its standard error.
    log_evidence, log_evidence_se : arrays of shape (K,)
        Log integral of the unnormalised posterior over each region (nats), and its standard error.
    interval : array of shape (K, 2)
        95 % interval of each weight, made on the logit scale.
    total, total_se : float
        Log evidence of the model and its standard error.
    pareto_k : array of shape (K,)
        Tail index of the importance ratios of each region's proposals.
    from_draws, from_proposals : arrays of shape (K,)
        The two parts of the variance of each log evidence (nats squared).
    bounds : array of shape (K, 2)
        Bounds of each log evidence that hold with a probability of 95 %, however poor the bridge
        (see `bridge`), if the chains have mixed.
    iterations : tuple of K arrays
        Log evidence of each region at each step of the bridge.
    statuses : tuple of Status
    """

    weight: np.ndarray
    weight_se: np.ndarray
    log_evidence: np.ndarray
    log_evidence_se: np.ndarray
    interval: np.ndarray
    total: float
    total_se: float
    pareto_k: np.ndarray
    from_draws: np.ndarray
    from_proposals: np.ndarray
    bounds: np.ndarray
    iterations: tuple[np.ndarray, ...]
    statuses: tuple[Status, ...] = ()

    def __repr__(self) -> str:
        """Write the heaviest weights and the evidence; the arrays are in the attributes."""
        pairs = list(zip(self.weight, self.weight_se, strict=True))
        shown = ", ".join(with_error(x, se) for x, se in pairs[:MAX_IN_TEXT])
        more = f", and {len(pairs) - MAX_IN_TEXT} smaller" if len(pairs) > MAX_IN_TEXT else ""
        return (
            f"<Weights of {counted(len(pairs), 'region')}: {shown}{more}; log evidence "
            f"{with_error(self.total, self.total_se)}>"
        )

    def _repr_html_(self) -> str:
        """Write a row for each region."""
        rows = [
            (str(k), with_error(x, se), f"{low:.3g} to {high:.3g}", with_error(z, z_se))
            for k, (x, se, (low, high), z, z_se) in enumerate(
                zip(
                    self.weight,
                    self.weight_se,
                    self.interval,
                    self.log_evidence,
                    self.log_evidence_se,
                    strict=True,
                )
            )
        ]
        total = with_error(self.total, self.total_se)
        header = ("region", "weight", "95 %", "log evidence")
        return f"{html_table(header, rows)}<p>Log evidence of the model: {total}</p>"

    def take(self, order: np.ndarray) -> Weights:
        """Renumber the regions: new region i is old region ``order[i]``; statuses stay."""
        changes = {n: p[order] for n, p in vars(self).items() if isinstance(p, np.ndarray)}
        return replace(self, iterations=tuple(self.iterations[i] for i in order), **changes)

    def widened(self, gap: np.ndarray) -> Weights:
        """Count a gap as a further error of each region's log evidence.

        Parameters
        ----------
        gap : array of shape (K,)
            In nats; 0 for none.

        Returns
        -------
        Weights
        """
        if not gap.any():
            return self
        variance = self.log_evidence_se**2 + gap**2
        changes: dict[str, Any] = {
            "log_evidence_se": np.sqrt(variance),
            "total_se": _total_error(self.weight, variance),
        }
        if np.isfinite(variance).all() and len(gap) > 1:
            changes["weight_se"], changes["interval"] = _weight_errors(self.weight, variance)
        return replace(self, **changes)

    def without_errors(self) -> Weights:
        """Return the same estimates with errors that are not known."""
        unknown, k = np.full(len(self.weight), np.nan), len(self.weight)
        return replace(
            self,
            weight_se=unknown,
            log_evidence_se=unknown,
            interval=np.full((k, 2), np.nan),
            total_se=float("nan"),
            bounds=np.full((k, 2), np.nan),
        )

    def needs(self, target_se: float, max_log_se: float) -> np.ndarray:
        """Tell which regions' evidences have to become more precise.

        Every weight is asked for within `target_se`. The log evidence of every region with a weight
        of more than ``0.1 * target_se`` is asked for within `max_log_se`; the log evidence of a
        single region within ``2 * target_se``, if that is less.

        Parameters
        ----------
        target_se : float
            Standard error asked for of every weight.
        max_log_se : float
            Standard error asked for of every log evidence (nats).

        Returns
        -------
        array of bool, shape (K,)
            Regions that contribute most to an error that is too large.
        """
        variance = np.minimum(self.from_draws + self.from_proposals, MAX_VARIANCE)
        single = len(variance) == 1
        limit = min(max_log_se, LOG_EVIDENCE_FACTOR * target_se) if single else max_log_se
        short = (variance > limit**2) & (self.weight > MIN_WEIGHT * target_se)
        # Not one proposal had a positive density.
        short |= np.isneginf(self.log_evidence)
        if single:
            return short
        # d w_k / d log Z_j = w_k (1[k = j] - w_j)
        slope = self.weight[:, None] * (np.eye(len(variance)) - self.weight)
        parts = slope**2 * variance
        uncertain = np.sqrt(parts.sum(axis=1)) > target_se
        if uncertain.any():
            worst = parts[uncertain]
            largest = worst.max(axis=1, keepdims=True)
            short |= (worst > MIN_CONTRIBUTION * largest).any(axis=0)
        return short


def reported(weights: Weights, unmixed: np.ndarray, negligible: np.ndarray) -> Weights:
    """Replace the errors that are not known by NaN, and the intervals by bounds that hold.

    The error of a log evidence is not known if it is larger than 1 nat before gaps are counted, or
    if the chains have not mixed. A weight depends on all evidences. If the regions without known
    errors hold next to no mass, by the upper bounds of their evidences, they add this mass to the
    errors of the others; otherwise no error of a weight is known.

    Parameters
    ----------
    weights : Weights
    unmixed : array of bool, shape (K,)
        Regions of whose chains nothing is known.
    negligible : array of bool, shape (K,)
        Regions that all of their chains agree to hold next to no mass. They change no error.

    Returns
    -------
    Weights
        `weight_se`, `log_evidence_se` and `total_se` may be NaN; the loop of a fit reads the
        numbers from before.
    """
    variance = weights.from_draws + weights.from_proposals
    unknown = (~(variance <= TRUSTED_ERROR**2) | unmixed) & ~negligible
    if not unknown.any():
        return weights
    reach = NORMAL_QUANTILE * weights.log_evidence_se
    low = np.where(unknown, weights.bounds[:, 0], weights.log_evidence - reach)
    high = np.where(unknown, weights.bounds[:, 1], weights.log_evidence + reach)
    # Chains that have not mixed do not bound what they have not seen.
    high = np.where(unmixed & unknown, np.inf, high)
    log_se = np.where(unknown, np.nan, weights.log_evidence_se)
    nothing = np.full(len(unknown), np.nan)
    others = logsumexp(weights.log_evidence[~unknown]) if not unknown.all() else -np.inf
    extra = float(expit(logsumexp(high[unknown]) - others))
    if len(unknown) == 1:
        return replace(weights, log_evidence_se=log_se, total_se=float("nan"))
    interval = np.array([_share_bounds(low, high, k) for k in range(len(unknown))])
    if extra > MAX_UNKNOWN_MASS:
        return replace(
            weights,
            weight_se=nothing,
            interval=interval,
            log_evidence_se=log_se,
            total_se=float("nan"),
        )
    weight_se, known = _weight_errors(
        weights.weight, np.where(unknown, 0.0, weights.log_evidence_se**2)
    )
    return replace(
        weights,
        weight_se=np.where(unknown, np.nan, np.hypot(weight_se, weights.weight * extra)),
        interval=np.where(unknown[:, None], interval, known * [1.0 - extra, 1.0]),
        log_evidence_se=log_se,
        total_se=float(np.hypot(_total_error(weights.weight[~unknown],
                                             log_se[~unknown] ** 2), extra)),
    )  # fmt: skip


def _share_bounds(low: np.ndarray, high: np.ndarray, k: int) -> tuple[float, float]:
    """Return the smallest and the largest share of region k by bounds of all log evidences."""
    rest = np.arange(len(low)) != k
    smallest, largest = low[k] - logsumexp(high[rest]), high[k] - logsumexp(low[rest])
    return float(expit(smallest)), float(expit(largest))


def estimate(samples: BridgeSamples, draws: RegionDraws, target: LogDensity) -> Weights:
    """Bridge every region, on the chains that its density was not fitted to.

    Parameters
    ----------
    samples : BridgeSamples
    draws : RegionDraws
    target : LogDensity
        Says how circular coordinates are unrolled; it is not evaluated.

    Returns
    -------
    Weights
    """
    bridges, tails, statuses = [], [], []
    for k, q in enumerate(samples.fitted.densities):
        _, _, held_out = split_chains(len(draws.x[k]))
        ratios = draw_ratios(draws, k, q, held_out)
        n_effective = max(1.0, min(1.0, draws.ess[k] / draws.logp[k].size) * ratios.size)
        slowest = slowest_moment(target.unroll(draws.x[k][held_out], draws.centre[k]))
        found = bridge(ratios, samples.ratios[k], n_effective, max_effective=slowest)
        bridges.append(found)
        tails.append(pareto_k(samples.ratios[k]))
        statuses += bridge_statuses(k, found, ratios, samples.ratios[k], tails[-1])
    return _weights_of(bridges, np.array(tails), tuple(statuses))


def _weights_of(bridges: list[Bridge], tails: np.ndarray, statuses: tuple[Status, ...]) -> Weights:
    log_z = np.array([b.log_evidence for b in bridges])
    from_draws = np.array([b.from_draws for b in bridges])
    from_proposals = np.array([b.from_proposals for b in bridges])
    variance = from_draws + from_proposals
    total = float(logsumexp(log_z))
    # If no region's evidence is known, the weights are equal and their errors infinite.
    equal = np.full(len(log_z), 1.0 / len(log_z))
    weight = np.exp(log_z - total) if np.isfinite(total) else equal
    if len(bridges) == 1:
        # A single region has all the mass, however well its evidence is known.
        weight_se, interval = np.zeros(1), np.ones((1, 2))
    elif np.isfinite(variance).all():
        weight_se, interval = _weight_errors(weight, variance)
    else:
        # If one evidence is unknown, so are all weights.
        weight_se = np.full_like(weight, np.inf)
        interval = np.tile([0.0, 1.0], (len(weight), 1))
    return Weights(
        weight=weight,
        weight_se=weight_se,
        log_evidence=log_z,
        log_evidence_se=np.sqrt(variance),
        interval=interval,
        total=total,
        total_se=_total_error(weight, variance),
        pareto_k=tails,
        from_draws=from_draws,
        from_proposals=from_proposals,
        bounds=np.array([b.bounds for b in bridges]),
        iterations=tuple(b.iterations for b in bridges),
        statuses=statuses,
    )


def _total_error(weight: np.ndarray, variance: np.ndarray) -> float:
    """Return the standard error of the log evidence of all regions together."""
    if not np.isfinite(variance).all():
        return float("inf")
    return float(np.sqrt(np.sum(weight**2 * variance)))


def _weight_errors(weight: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standard errors of the weights, and 95 % intervals made on the logit scale.

    ``logit w_k = log Z_k - log(sum of the others)``. The errors of the log evidences are
    independent, because every region has its own draws and its own proposals.
    """
    rest = np.maximum(1.0 - weight, SMALLEST_WEIGHT)
    parts = weight**2 * variance
    # Divided by the rest twice, because the square of the smallest rest would be zero.
    spread = np.sqrt(variance + np.maximum(parts.sum() - parts, 0.0) / rest / rest)
    return weight * (1 - weight) * spread, logit_interval(weight, spread)


def logit_interval(weight: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return 95 % intervals of weights, made on the logit scale, shape (K, 2).

    Parameters
    ----------
    weight : array of shape (K,)
    spread : array of shape (K,)
        Standard errors of the logits of the weights.
    """
    middle = logit(np.clip(weight, SMALLEST_WEIGHT, 1 - SMALLEST_REST))
    reach = NORMAL_QUANTILE * spread
    return np.stack([expit(middle - reach), expit(middle + reach)], axis=1)
