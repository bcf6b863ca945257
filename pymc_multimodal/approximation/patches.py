"""Parts that are added where a mixture is too thin: incremental mixture importance sampling.

A part describes the draw of the largest ratio: by the normal component of the target that the
curvature there shows, or else, centred at the draw, with the covariance of the draws near it
(Raftery and Bao 2010, doi:10.1111/j.1541-0420.2010.01399.x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.approximation.mixture import ModeMixture
from pymc_multimodal.proposals import EllipticalMixture, GaussianMixture, factor
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.approximation.expansions import Expansion, Expansions
    from pymc_multimodal.approximation.sample import WeightedSample

__all__ = ["patched", "patched_at"]

# Ratio, relative to the mean, from which on a draw gets a part: half of the limit from which on a
# tail index is asked for. Conventional.
PATCHED_RATIO = 2.5
# Parts by curvature, and others, that are added each time. Conventional.
MAX_EXPANSIONS, MAX_PATCHES = 64, 16
# Draws near the centre of a part that its covariance is taken from: at least, and per dimension.
# Conventional: a covariance has d + 1 degrees of freedom for each dimension and two.
NEAR_DRAWS, NEAR_PER_DIMENSION = 40, 3
# Share of a part in the whole mixture: at least and at most. Conventional.
MIN_SHARE, MAX_SHARE = 0.003, 0.1
# Share of a part by curvature, whose mass is known: at least, and of one and of all of them at
# most, since each takes draws from all others. Conventional.
LEAST_KNOWN, MAX_KNOWN = 0.001, 0.3
# Part of a component's mass that is not above the target's density, at least. Conventional: half.
MIN_COVERED = 0.5
# Variance of a part in units of that of its mode, at least. Conventional.
FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class _Patch:
    """A part of the density of mode k; `share` is its share of the whole mixture."""

    k: int
    share: float
    mean: np.ndarray
    scale: np.ndarray


def patched(
    q: ModeMixture, pool: WeightedSample, expansions: Expansions | None = None
) -> ModeMixture:
    """Add parts where draws have large ratios.

    Parameters
    ----------
    q : ModeMixture
    pool : WeightedSample
        All draws so far.
    expansions : Expansions, optional
        Of the target.

    Returns
    -------
    ModeMixture
    """
    inside, rows = pool.ratio > 0, np.isfinite(pool.log_q)
    if inside.sum() < NEAR_DRAWS:
        return q
    log_p = np.where(inside, pool.logp, -np.inf)[rows] - pool.log_evidence
    weight = pool.ratio[rows] / pool.ratio.sum()
    return _Thin(q, pool.x[rows], log_p, pool.log_q[rows], weight).patched(expansions)


def patched_at(
    q: ModeMixture, x: np.ndarray, log_p: np.ndarray, expansions: Expansions | None = None
) -> ModeMixture:
    """Add parts where points have large ratios, which say nothing of the mass there.

    Each part that is not by curvature has the least share.

    Parameters
    ----------
    q : ModeMixture
    x : array of shape (n, d)
        Such as draws of chains.
    log_p : array of shape (n,)
        Log density of the posterior at them, normalised.
    expansions : Expansions, optional
        Of the target.

    Returns
    -------
    ModeMixture
    """
    rows = np.flatnonzero(np.isfinite(log_p))
    if len(rows) < NEAR_DRAWS:
        return q
    # Draws of a chain are of the posterior, which says nothing of their weight.
    log_p, weight = log_p[rows], np.zeros(len(rows))
    return _Thin(q, x[rows], log_p, log_p, weight).patched(expansions)


class _Thin:
    """Draws x of a density exp(log_of_draws), of which some have too large ratios exp(log_p) / q.

    Where the target is zero, log_p is -inf.
    """

    def __init__(
        self,
        q: ModeMixture,
        x: np.ndarray,
        log_p: np.ndarray,
        log_of_draws: np.ndarray,
        weight: np.ndarray,
    ):
        self._all = x, log_p, log_of_draws
        inside = np.flatnonzero(np.isfinite(log_p))
        self._q, self._x, self._weight = q, x[inside], weight[inside]
        self._log_p = log_p[inside]
        self._log_ratio = self._log_p - q.log_density(self._x)
        self._patches: list[_Patch] = []

    def patched(self, expansions: Expansions | None) -> ModeMixture:
        """Add parts by curvature, and then others."""
        if expansions is not None:
            self._add_components(expansions)
        for _ in range(MAX_PATCHES):
            i = int(self._log_ratio.argmax())
            if self._log_ratio[i] < np.log(PATCHED_RATIO):
                break
            k = self._mode_of(i)
            # What a draw's weight is beyond that of draws of the mixture.
            lack = -self._weight * np.expm1(-np.maximum(self._log_ratio, 0.0))
            self._add(*_patch(self._q.densities[k], k, i, self._x, self._weight, lack))
        return _assembled(self._q, self._patches) if self._patches else self._q

    def _add_components(self, expansions: Expansions) -> None:
        tried = np.zeros(len(self._x), dtype=bool)
        for _ in range(MAX_EXPANSIONS):
            log_ratio = np.where(tried, -np.inf, self._log_ratio)
            i = int(log_ratio.argmax())
            total = sum(patch.share for patch in self._patches)
            if log_ratio[i] < np.log(PATCHED_RATIO) or expansions.ended or total > MAX_KNOWN:
                break
            tried[i] = True
            found = expansions.at(self._x[i], float(self._log_p[i]))
            if found is None:
                continue
            covered = self._covered(found, self._x[i])
            if covered < MIN_COVERED:
                expansions.refuse()
                continue
            k = self._mode_of(i)
            density = self._q.densities[k]
            there = unroll(self._x[i : i + 1], density.centre, density.period)[0]
            mean = there + found.mean - self._x[i]
            share = float(np.clip(covered * found.mass, LEAST_KNOWN, MAX_KNOWN))
            self._add(*_part(density, _Patch(k, share, mean, found.scale)))

    def _covered(self, found: Expansion, at: np.ndarray) -> float:
        """Part of the mass of a component where it is not above the target, by all draws.

        The density of a mixture is nowhere below that of a component of it.
        """
        x, log_p, log_of_draws = self._all
        period = self._q.densities[-1].period
        whole = EllipticalMixture.single(found.mean, found.scale, np.inf, period, at)
        log_part = whole.log_density(x) + np.log(found.mass)
        ratio = log_part - log_of_draws
        below = np.exp(np.minimum(log_part, log_p) - log_of_draws - ratio.max())
        return float(below.sum() / np.exp(ratio - ratio.max()).sum())

    def _mode_of(self, i: int) -> int:
        return int(self._q.largest(self._x[i : i + 1])[0][0])

    def _add(self, patch: _Patch, part: EllipticalMixture) -> None:
        self._patches.append(patch)
        gained = part.log_density(self._x) + np.log(patch.share) - self._log_p
        self._log_ratio = -np.logaddexp(np.log1p(-patch.share) - self._log_ratio, gained)


def _patch(
    density: EllipticalMixture, k: int, i: int, x: np.ndarray, weight: np.ndarray, lack: np.ndarray
) -> tuple[_Patch, EllipticalMixture]:
    """Return a part at row i, by the draws near it in units of the density of mode k."""
    there = unroll(x, density.centre, density.period)
    base, d = density.gaussian.factors[-2], x.shape[1]
    step = there - there[i]
    z = solve_triangular(base, step.T, lower=True)
    squared = np.einsum("in,in->n", z, z)
    n = min(NEAR_DRAWS + NEAR_PER_DIMENSION * d, len(x))
    near = np.argpartition(squared, n - 1)[:n]
    own = weight[near] / max(weight[near].sum(), 1e-300)
    own[:] = own if own.any() else 1.0 / n
    # Half of the weight is spread evenly: one draw may hold nearly all of the other half.
    own = 0.5 * (own + 1.0 / n)
    spread = (step[near] * own[:, None]).T @ step[near] + FLOOR * base @ base.T
    share = float(np.clip(lack[near].sum(), MIN_SHARE, MAX_SHARE))
    return _part(density, _Patch(k, share, there[i], factor(spread)))


def _part(density: EllipticalMixture, patch: _Patch) -> tuple[_Patch, EllipticalMixture]:
    """Return a part with its density, whose tails are those of the mode's."""
    part = EllipticalMixture.single(
        patch.mean, patch.scale, density.df[-1], density.period, density.centre
    )
    return patch, part


def _assembled(q: ModeMixture, patches: list[_Patch]) -> ModeMixture:
    """Return the mixture with the parts; each later one takes its share of all before it."""
    # What later parts leave of the mixture (row 0) and of each part.
    left = np.append(np.cumprod([1.0 - patch.share for patch in patches[::-1]])[::-1], 1.0)
    shares, densities = left[0] * q.shares, list(q.densities)
    for k in {patch.k for patch in patches}:
        own = [(p, p.share * left[i + 1]) for i, p in enumerate(patches) if p.k == k]
        before = shares[k]
        shares[k] += sum(share for _, share in own)
        densities[k] = _with_parts(q.densities[k], own, before / shares[k], shares[k])
    return ModeMixture(tuple(densities), shares)


def _with_parts(
    old: EllipticalMixture, parts: list[tuple[_Patch, float]], kept: float, total: float
) -> EllipticalMixture:
    """Add parts to the density of a mode.

    Parameters
    ----------
    old : EllipticalMixture
    parts : list of tuples of _Patch and float
        With their shares of the whole mixture.
    kept : float
        Share of the old density in the new one.
    total : float
        Share of the new density in the whole mixture.
    """
    # The two last components are the tails of the mode: they stay the last.
    n = len(old.df) - 2
    added = np.array([share for _, share in parts]) / total
    weights = np.concatenate([kept * old.weights[:n], added, kept * old.weights[n:]])
    means = np.vstack([old.means[:n], *(p.mean for p, _ in parts), old.means[n:]])
    scales = np.concatenate([old.scales[:n], [p.scale for p, _ in parts], old.scales[n:]])
    df = np.concatenate([old.df[:n], np.full(len(parts), old.df[-1]), old.df[n:]])
    inner = GaussianMixture(weights[:-2] / weights[:-2].sum(), means[:-2], scales[:-2])
    margins = old.margins
    if margins:
        margins = (*margins[:n], *(None,) * len(parts), *margins[n:])
    base = EllipticalMixture(inner, df[:-2], old.period, old.centre, margins=margins[:-2])
    whole = GaussianMixture(weights, means, scales)
    return EllipticalMixture(whole, df, old.period, old.centre, base, margins)
