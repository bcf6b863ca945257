"""Evidence of each region by bridge sampling, and the weights of the modes with their errors."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit, logsumexp

from pymc_multimodal._compat import ess, pareto_k
from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.regions.draws import watched_columns
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Bridge", "Weights", "bridge", "slowest_moment"]

MAX_RELATIVE_ERROR = 0.25
MAX_PARETO_K = 0.7
# Tail index from which on ratios have no mean: the region has far heavier tails than its
# density, and chains that should show them may never have been there; and the share of the
# mean in one ratio from which on that is a warning.
NO_MEAN, MAX_SHARE = 1.0, 0.02


@dataclass(frozen=True)
class Weights:
    """Weights and evidences of the regions.

    Attributes
    ----------
    weight, weight_se : arrays of shape (K,)
        Posterior mass of each region and its standard error.
    log_evidence, log_evidence_se : arrays of shape (K,)
        Log integral of the unnormalised posterior over each region (nats).
    interval : array of shape (K, 2)
        95 % interval of each weight, made on the logit scale.
    total, total_se : float
        Log evidence of the model and its standard error.
    pareto_k : array of shape (K,)
        Tail index of the importance ratios of each region's proposals.
    from_draws, from_proposals : arrays of shape (K,)
        The two parts of the variance of each log evidence.
    iterations : tuple of arrays
        Log evidence of each region by iteration of the bridge.
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
    iterations: tuple[np.ndarray, ...]
    statuses: tuple[Status, ...] = ()

    def take(self, order: np.ndarray) -> Weights:
        """Renumber the regions: new region i is old region ``order[i]``."""
        changes = {n: p[order] for n, p in vars(self).items() if isinstance(p, np.ndarray)}
        return replace(self, iterations=tuple(self.iterations[i] for i in order), **changes)

    def widened(self, gap: np.ndarray) -> Weights:
        """Count a gap, shape (K,), as a further error of each region's log evidence (nats)."""
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

    def needs(self, target_se: float, max_log_se: float) -> np.ndarray:
        """Regions whose evidence has to become more precise, bool array of shape (K,).

        Every weight shall reach `target_se`, and every log evidence of a region with more than
        ``0.1 * target_se`` of mass `max_log_se` (of a single region ``2 * target_se``, if less).
        The regions that contribute most to what is missing are named.
        """
        variance = np.minimum(self.from_draws + self.from_proposals, 1e6)
        single = len(variance) == 1
        limit = max_log_se if not single else min(max_log_se, 2 * target_se)
        short = (variance > limit**2) & (self.weight > 0.1 * target_se)
        # Not one proposal had a finite density.
        short |= np.isneginf(self.log_evidence)
        if single:
            return short
        # d w_k / d log Z_j = w_k (1[k = j] - w_j)
        slope = self.weight[:, None] * (np.eye(len(variance)) - self.weight)
        parts = slope**2 * variance
        missing = np.sqrt(parts.sum(axis=1)) > target_se
        if missing.any():
            worst = parts[missing]
            short |= (worst > 0.5 * worst.max(axis=1, keepdims=True)).any(axis=0)
        return short


@dataclass(frozen=True)
class Bridge:
    """Result of one bridge: log evidence, its variance in two parts, the iterations."""

    log_evidence: float
    from_draws: float
    from_proposals: float
    iterations: np.ndarray


def bridge(
    draws: np.ndarray,
    proposals: np.ndarray,
    effective: float,
    *,
    slowest: float = np.inf,
    tolerance: float = 1e-10,
    max_iter: int = 1000,
) -> Bridge:
    r"""Meng and Wong's bridge estimate of a normalising constant.

    .. math:: r \leftarrow \frac{\frac1{n_2}\sum_j l_{2j} / (s_1 l_{2j} + s_2 r)}
                                {\frac1{n_1}\sum_i 1 / (s_1 l_{1i} + s_2 r)}

    Parameters
    ----------
    draws : array of shape (chains, n)
        Log ratios log gamma - log q at draws of the target.
    proposals : array of shape (m,)
        Log ratios at draws of q; -inf where gamma is zero.
    effective : float
        Effective number of the draws; it sets the shares s1 and s2.
    slowest : float
        Effective number of what the chains estimate worst, `slowest_moment`: more draws than
        that are not counted as independent.
    tolerance : float
        Change of the log evidence at which the iteration ends.
    max_iter : int

    Notes
    -----
    The variance is that of the estimating equation's linearisation: autocorrelated terms of
    the draws' side, independent ones of the proposals' side (arXiv 2505.07825, Eqs. 20-21, has
    the estimate without error; Meng and Wong 1996). Where the two sides do not meet, half the
    gap between their log ratios is added as an error.
    """
    flat = draws.ravel()
    m = len(proposals)
    s1 = effective / (effective + m)
    s2 = 1.0 - s1
    finite = proposals[np.isfinite(proposals)]
    if not len(finite):
        return Bridge(-np.inf, 0.0, np.inf, np.array([-np.inf]))
    log_r = float(np.median(flat))
    trace = [log_r]
    for _ in range(max_iter):
        top = logsumexp(finite - np.logaddexp(np.log(s1) + finite, np.log(s2) + log_r)) - np.log(m)
        bottom = logsumexp(-np.logaddexp(np.log(s1) + flat, np.log(s2) + log_r)) - np.log(len(flat))
        new = float(top - bottom)
        trace.append(new)
        if abs(new - log_r) < tolerance:
            log_r = new
            break
        log_r = new
    # a and b have equal means at the solution; the slope is that of their difference in log r.
    with np.errstate(over="ignore"):
        share_a = expit(np.log(s1) - np.log(s2) + proposals - log_r)
        share_b = expit(np.log(s1) - np.log(s2) + draws - log_r)
    a = share_a / s1
    b = (1.0 - share_b) / s2
    slope = np.mean(a * (1.0 - share_a)) + np.mean(b * share_b)
    if not slope > 0:
        return Bridge(log_r, np.inf, np.inf, np.array(trace))
    # Few chains leave the spread of their means a matter of chance, and autocorrelation does not
    # show by how much chains differ that hardly ever change places: the larger counts.
    own = np.nan_to_num(ess(b, "mean")[0], nan=1.0)
    independent = float(np.clip(min(own, slowest), 1.0, b.size))
    var_b = max(np.var(b, ddof=1) / independent, np.var(b.mean(axis=1), ddof=1) / len(b))
    var_a = np.var(a, ddof=1) / m
    # Where all draws have larger ratios than all proposals, the evidence lies somewhere between
    # them, and the linearisation knows nothing of how wide that is.
    unbridged = 0.5 * (0.5 * max(0.0, flat.min() - finite.max())) ** 2
    from_draws, from_proposals = var_b / slope**2 + unbridged, var_a / slope**2 + unbridged
    return Bridge(log_r, float(from_draws), float(from_proposals), np.array(trace))


def slowest_moment(x: np.ndarray) -> float:
    """Effective number of draws of the squared deviations of the coordinate that has fewest.

    Chains that change places within the bulk of a curved region seem to mix, whatever is looked
    at, though they hardly ever enter its arms: their second moments tell.

    Parameters
    ----------
    x : array of shape (chains, n, d)
        Unrolled draws.
    """
    x = x[:, :, watched_columns(x.shape[2])]
    spread = x.std(axis=(0, 1))
    # In units of the spread: ArviZ takes what varies by less than 1e-15 for constant.
    z = (x - x.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)
    sizes = ess(z**2, "mean")
    # A coordinate that never moves says nothing here; R-hat speaks of it.
    return float(np.min(sizes[np.isfinite(sizes)], initial=np.inf))


class BridgeSamples:
    """Holds the proposals of each region's bridge, and can draw more.

    Parameters
    ----------
    density : LogDensity
    partition : Partition
    fitted : RegionFit
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        density: LogDensity,
        partition: Partition,
        fitted: RegionFit,
        rng: np.random.Generator,
    ) -> None:
        self.density, self.partition, self.fitted, self.rng = density, partition, fitted, rng
        self.ratios: list[np.ndarray] = [np.empty(0) for _ in fitted.densities]
        # The same proposals as points: log densities, NaN where they were not evaluated because
        # the point lies in another region.
        self.points = [self._no_points() for _ in fitted.densities]

    def _no_points(self) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((0, self.density.dim)), np.empty(0)

    def extend(self, counts: np.ndarray) -> None:
        """Draw ``counts[k]`` more proposals of each region, evaluated in one batch.

        Proposals that fall outside of their region cost no evaluation.
        """
        drawn = []
        for k, count in enumerate(counts):
            if not count:
                continue
            x = self.fitted.densities[k].sample(int(count), self.rng)
            inside = np.isfinite(x).all(axis=1)
            somewhere = inside.copy()
            if self.partition.n_regions > 1:
                inside[inside] = self.partition.label(x[inside]) == k
            drawn.append((k, x[inside], x[somewhere & ~inside], int(np.sum(~inside))))
        if not drawn:
            return
        # Evaluated before anything is kept: this may be refused, or interrupted.
        logp = self.density.logp(np.concatenate([part[1] for part in drawn]))
        first = 0
        for k, x, away, lost in drawn:
            own = logp[first : first + len(x)]
            first += len(x)
            ratio = own - self.fitted.densities[k].log_density(x)
            self.ratios[k] = np.concatenate([self.ratios[k], np.full(lost, -np.inf), ratio])
            self._keep(k, away)
            self._keep(k, x, own)

    def _keep(self, k: int, x: np.ndarray, logp: np.ndarray | None = None) -> None:
        old_x, old_logp = self.points[k]
        logp = np.full(len(x), np.nan) if logp is None else logp
        self.points[k] = (np.concatenate([old_x, x]), np.append(old_logp, logp))

    def copy(self) -> BridgeSamples:
        """Return a copy that can be extended without changing this one."""
        other = copy(self)
        other.ratios, other.points = list(self.ratios), list(self.points)
        return other

    def refit(self, fitted: RegionFit, regions: np.ndarray) -> None:
        """Take over new densities of some regions (indices), dropping their old proposals."""
        densities = list(self.fitted.densities)
        for k, q in zip(regions, fitted.densities, strict=True):
            densities[k] = q
            self.ratios[k], self.points[k] = np.empty(0), self._no_points()
        # What was said of the other regions stands.
        statuses = [s for s in self.fitted.statuses if s.mode is None or s.mode not in regions]
        statuses += [
            s if s.mode is None else replace(s, mode=int(regions[s.mode]))
            for s in fitted.statuses
            if s.mode is not None or s not in statuses
        ]
        self.fitted = replace(fitted, densities=tuple(densities), statuses=tuple(statuses))

    def weigh(self, local: RegionDraws) -> Weights:
        """Bridge every region on the chains reserved for it."""
        results, tails, statuses = [], [], []
        for k, q in enumerate(self.fitted.densities):
            _, _, part = split_chains(len(local.x[k]))
            x = local.x[k][part]
            chains, n, d = x.shape
            draws = local.logp[k][part] - q.log_density(x.reshape(-1, d)).reshape(chains, n)
            effective = max(1.0, min(1.0, local.ess[k] / local.logp[k].size) * draws.size)
            slowest = slowest_moment(self.density.unroll(x, local.centre[k]))
            one = bridge(draws, self.ratios[k], effective, slowest=slowest)
            results.append(one)
            tails.append(pareto_k(self.ratios[k]))
            statuses += _judge(k, one, draws, self.ratios[k], tails[-1])
        return _assemble(results, np.array(tails), statuses)


def _judge(
    k: int, one: Bridge, draws: np.ndarray, proposals: np.ndarray, tail: float
) -> list[Status]:
    found = []
    error = np.sqrt(one.from_draws + one.from_proposals)
    if not error <= MAX_RELATIVE_ERROR:
        found.append(
            Status("evidence_error", "weights",
                   f"the evidence of this region is uncertain by {error:.0%}.",
                   "The generator does not fit the region: raise LocalSampling.max_draws or "
                   "lower target_se.", mode=k)
        )  # fmt: skip
    inside = np.isfinite(proposals)
    best = proposals[inside].max() if inside.any() else -np.inf
    # A good generator leaves few draws above its own best ratio, and those only just above.
    unseen = float(np.mean(draws > best + 2.0))
    if unseen > max(0.01, 20.0 / max(inside.sum(), 1)):
        found.append(
            Status("overlap", "weights",
                   f"{unseen:.0%} of the region's draws have a density ratio that no proposal "
                   "reached: the generator misses part of it.",
                   "Its weight may be too small.", mode=k)
        )  # fmt: skip
    if tail > MAX_PARETO_K:
        # A piece at another level looks like a tail without a mean: what makes a mean worthless
        # is that single terms are much of it.
        share = np.exp(best - logsumexp(proposals[inside]))
        harmless = error <= 0.1 and (tail <= NO_MEAN or share <= MAX_SHARE)
        found.append(
            Status("pareto_k", "weights",
                   f"the importance ratios of this region are heavy-tailed (k-hat {tail:.2f}).",
                   "The bridge is more robust than they are, but look at its error.", mode=k,
                   level="info" if harmless else "warning")
        )  # fmt: skip
    return found


def _assemble(results: list[Bridge], tails: np.ndarray, statuses: list[Status]) -> Weights:
    log_z = np.array([r.log_evidence for r in results])
    draws = np.array([r.from_draws for r in results])
    proposals = np.array([r.from_proposals for r in results])
    variance = draws + proposals
    total = float(logsumexp(log_z))
    # Where no region's evidence is known the shares are anyone's guess, and their errors infinite.
    equal = np.full(len(log_z), 1.0 / len(log_z))
    weight = np.exp(log_z - total) if np.isfinite(total) else equal
    if len(results) == 1:
        # All the mass is in the only region, however well its evidence is known.
        weight_se, interval = np.zeros(1), np.ones((1, 2))
    else:
        weight_se, interval = _weight_errors(weight, np.minimum(variance, 1e300))
        if not np.isfinite(variance).all():
            # A region of unknown evidence leaves every share unknown.
            weight_se, interval = (
                np.full_like(weight, np.inf),
                np.tile([0.0, 1.0], (len(weight), 1)),
            )
    return Weights(
        weight=weight,
        weight_se=weight_se,
        log_evidence=log_z,
        log_evidence_se=np.sqrt(variance),
        interval=interval,
        total=total,
        total_se=_total_error(weight, variance),
        pareto_k=tails,
        from_draws=draws,
        from_proposals=proposals,
        iterations=tuple(r.iterations for r in results),
        statuses=tuple(statuses),
    )


def _total_error(weight: np.ndarray, variance: np.ndarray) -> float:
    """Compute the error of the log evidence of the whole: unknown if that of any region is."""
    known = np.isfinite(variance)
    return float(np.sqrt(np.sum(weight**2 * variance))) if known.all() else float("inf")


def _weight_errors(weight: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute standard errors of weights, and 95 % intervals made on the logit scale.

    ``logit w_k = log Z_k - log(sum of the others)``. Every region has its own draws and its
    own proposals, so that the errors of the log evidences are independent.
    """
    rest = np.maximum(1.0 - weight, 1e-300)
    parts = weight**2 * variance
    # Divided twice: the square of the floor would be zero.
    spread = np.sqrt(variance + np.maximum(parts.sum() - parts, 0.0) / rest / rest)
    middle = logit(np.clip(weight, 1e-300, 1 - 1e-16))
    interval = np.stack([expit(middle - 1.96 * spread), expit(middle + 1.96 * spread)], axis=1)
    return weight * (1 - weight) * spread, interval
