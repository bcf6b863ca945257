"""Weighted draws: a stratified sample of a mixture, with the density's values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import ModeMixture
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "WeightedSample",
    "draw_sample",
    "log_density_at",
    "mode_of_draws",
    "perplexity",
    "rows_of_groups",
]


# Modes from which on the components of each are strata. A mode has few draws then: by chance hardly
# one may be of its tails, whose ratios are small, and neither mean nor error would tell.
# Measured: examples/benchmarks/growth.py (normals_300: an error of 9 standard errors)
FEW_MODES = 16
# Draws that the usual variance of the same component of all modes counts for, where a component of
# one mode has few draws. Conventional: a few draws give no variance.
PRIOR_DRAWS = 20


@dataclass(frozen=True, eq=False)
class WeightedSample:
    r"""Draws :math:`x_i` of a mixture q with log importance ratios :math:`\log(\gamma(x)/q(x))`.

    The numbers of draws of the mixture's members (strata) are fixed, and q has the shares
    ``counts / n``: so the mean ratio estimates the evidence without bias (the balance heuristic of
    Veach and Guibas 1995), and its variance is that within the strata.

    Attributes
    ----------
    x : array of shape (n, d)
        Rows that stand for no point (outside of a circular window) are NaN.
    logp : array of shape (n,)
        Log density; -inf outside of the support.
    log_q : array of shape (n,)
    stratum : array of int, shape (n,)
    counts : array of int, shape (J,)
        Draws of each stratum.
    component : array of int, shape (n,), or None
        Part of its stratum that each draw is of, counted from the last, where their numbers are
        fixed too.
    """

    x: np.ndarray
    logp: np.ndarray
    log_q: np.ndarray
    stratum: np.ndarray
    counts: np.ndarray
    component: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.logp)

    @cached_property
    def log_ratio(self) -> np.ndarray:
        """Log importance ratios, shape (n,); -inf where the density is zero."""
        out = np.full(len(self), -np.inf)
        inside = np.isfinite(self.logp)
        out[inside] = self.logp[inside] - self.log_q[inside]
        return out

    @cached_property
    def shift(self) -> float:
        """Largest log ratio."""
        return float(self.log_ratio.max())

    @cached_property
    def ratio(self) -> np.ndarray:
        """Importance ratios divided by the largest, shape (n,); zero if none is positive."""
        if not np.isfinite(self.shift):
            return np.zeros(len(self))
        out: np.ndarray = np.exp(self.log_ratio - self.shift)
        return out

    @property
    def log_evidence(self) -> float:
        """Log of the mean ratio; -inf if none is positive."""
        mean = float(self.ratio.mean())
        return float(np.log(mean)) + self.shift if mean > 0 else float("-inf")

    @property
    def perplexity(self) -> float:
        """Exponential of the entropy of the normalised ratios, as a share of the sample.

        One draw with a large ratio lowers the effective sample size to nothing, and this hardly
        (Cappe et al. 2008, doi:10.1007/s11222-008-9059-x, section 2.2). It is 0 if no ratio is
        positive.
        """
        return perplexity(self.log_ratio)

    def standard_error(self, values: np.ndarray) -> np.ndarray:
        """Return the standard error of the mean of values, shape (n,) or (n, m), by strata."""
        values = values.reshape(len(self), -1)
        part, count = self._parts
        factor, centred = _corrections(count)
        variance = np.empty(values.shape[1])
        for i, v in enumerate(values.T):
            mean = np.bincount(part, v) / count
            step = v - (mean * (centred > 0))[part]
            variance[i] = factor @ np.bincount(part, step**2)
        out: np.ndarray = np.sqrt(variance) / len(self)
        return out

    def group_means(self, group: np.ndarray, k: int) -> np.ndarray:
        """Means of ``ratio * (in group i)`` for k groups, shape (k,); group -1 is none."""
        inside = np.flatnonzero(group >= 0)
        out: np.ndarray = np.bincount(group[inside], self.ratio[inside], minlength=k) / len(self)
        return out

    def group_errors(self, group: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Return the standard errors of the means of ``ratio * (in group k - share[k])``.

        Parameters
        ----------
        group : array of int, shape (n,)
            Group of each draw, -1 for none.
        share : array of shape (K,)

        Returns
        -------
        array of shape (K,)
        """
        k, (part, count) = len(share), self._parts
        factor, centred = _corrections(count)
        # Sums of the ratios and of their squares: of the strata, and of pairs with a group.
        total, total_squared = (np.bincount(part, r) for r in self._powers)
        inside = np.flatnonzero(group >= 0)
        key, pair = np.unique(part[inside] * k + group[inside], return_inverse=True)
        own, own_squared = (np.bincount(pair, r[inside], len(key)) for r in self._powers)
        of, group_of = np.divmod(key, k)
        s = share[group_of]
        others = s * total[of]
        pairs = (1.0 - 2.0 * s) * own_squared - centred[of] * ((own - others) ** 2 - others**2)
        if self.component is not None:
            pairs = self._shrunk(pairs, of, own)
        whole = factor @ (total_squared - centred * total**2)
        variance = np.bincount(group_of, factor[of] * pairs, minlength=k) + share**2 * whole
        out: np.ndarray = np.sqrt(np.maximum(variance, 0.0)) / len(self)
        return out

    def _shrunk(self, pairs: np.ndarray, of: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Shrink the sums of squares of parts with few draws to what parts of their kind have.

        Parameters
        ----------
        pairs, own : arrays of shape (m,)
            Sums of squares, and of ratios, of the draws of a part in a group.
        of : array of int, shape (m,)
            The part.
        """
        part, count = self._parts
        first = np.unique(part, return_index=True)[1]
        assert self.component is not None
        kind, stratum = self.component[first][of], self.stratum[first][of]
        mean = np.bincount(self.stratum, self.ratio) / np.maximum(self.counts, 1)
        # A part belongs to the group that most of its mass is in.
        order = np.lexsort((-own, of))
        main = np.zeros(len(pairs), dtype=bool)
        main[order[np.flatnonzero(np.diff(of[order], prepend=-1))]] = True
        unit = np.where(main, mean[stratum] ** 2, 0.0)
        total = np.bincount(kind, count[of] * unit)
        usual = np.bincount(kind, np.where(main, pairs, 0.0)) / np.maximum(total, 1e-300)
        n = count[of]
        shrunk = (pairs + PRIOR_DRAWS * usual[kind] * unit) * n / (n + PRIOR_DRAWS)
        return np.where(main, shrunk, pairs)

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Stratum of each draw, by component where that is fixed, and the draws of each."""
        stratum = np.repeat(np.arange(len(self.counts)), self.counts)
        if self.component is not None:
            stratum = stratum * (1 + int(self.component.max(initial=0))) + self.component
        _, part, count = np.unique(stratum, return_inverse=True, return_counts=True)
        return part, count

    @cached_property
    def _powers(self) -> tuple[np.ndarray, np.ndarray]:
        """The ratios, and their squares."""
        return self.ratio, self.ratio**2

    def joined(self, other: WeightedSample, q: ModeMixture) -> WeightedSample:
        """Join two samples of members of the same mixture; q has the joint shares."""
        both = np.concatenate([self.stratum, other.stratum])
        order = np.argsort(both, kind="stable")
        x = np.concatenate([self.x, other.x])[order]
        logp = np.concatenate([self.logp, other.logp])[order]
        component = None
        if self.component is not None and other.component is not None:
            component = np.concatenate([self.component, other.component])[order]
        return WeightedSample(
            x, logp, log_density_at(q, x), both[order], self.counts + other.counts, component
        )


def perplexity(log_ratio: np.ndarray) -> float:
    """Perplexity of importance ratios as a share of their number; 0 if none is positive."""
    high = log_ratio.max(initial=-np.inf)
    if not np.isfinite(high):
        return 0.0
    share = np.exp(log_ratio - high)
    share /= share.sum()
    # The smallest may be zero after the division.
    share = share[share > 0]
    return float(np.exp(-share @ np.log(share))) / len(log_ratio)


def draw_sample(
    target: LogDensity, q: ModeMixture, counts: np.ndarray, rng: np.random.Generator
) -> WeightedSample:
    """Draw given numbers of points of the members of a mixture, and evaluate them.

    Parameters
    ----------
    target : LogDensity
    q : ModeMixture
        With shares ``counts / counts.sum()``.
    counts : array of int, shape (K + 1,)
    rng : numpy.random.Generator

    Returns
    -------
    WeightedSample
    """
    component = None
    if q.n_modes > FEW_MODES:
        x, stratum, component = q.stratified_by_component(counts, rng)
    else:
        x, stratum = q.stratified(counts, rng)
    inside = np.isfinite(x).all(axis=1)
    logp = np.full(len(x), -np.inf)
    logp[inside] = target.logp(x[inside])
    return WeightedSample(x, logp, log_density_at(q, x), stratum, counts, component)


def mode_of_draws(q: ModeMixture, sample: WeightedSample) -> np.ndarray:
    """Mode whose density is largest at each draw, shape (n,).

    It is -1 where the target is zero, and in modes that are left out.
    """
    mode = np.full(len(sample), -1)
    rows = np.flatnonzero(np.isfinite(sample.log_ratio))
    if len(rows):
        mode[rows] = q.label(sample.x[rows])
    return mode


def _corrections(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of sums of squares in strata, and of squared sums that are subtracted before.

    The spread of one draw is not known: the square of its value bounds it in the mean.
    """
    several = count > 1
    return count / np.maximum(count - 1, 1), np.where(several, 1.0 / count, 0.0)


def rows_of_groups(group: np.ndarray, k: int) -> list[np.ndarray]:
    """Rows of each of k groups, in increasing order; group -1 is none."""
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group + 1, minlength=k + 1))
    return np.split(order, ends)[1 : k + 1]


def log_density_at(q: ModeMixture, x: np.ndarray) -> np.ndarray:
    """Log density at the rows that are points, -inf at rows of NaN; shape (n,)."""
    inside = np.isfinite(x).all(axis=1)
    log_q = np.full(len(x), -np.inf)
    log_q[inside] = q.log_density(x[inside])
    return log_q
