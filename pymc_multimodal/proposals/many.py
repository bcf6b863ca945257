"""Sums over the densities of many regions, of which only the near ones are computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.target.blocks import Blocks
from pymc_multimodal.target.circle import is_circular
from pymc_multimodal.target.radii import RadiusBounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymc_multimodal.moves import JumpDensity

__all__ = ["Terms", "WeightedDensities"]

# Numbers up to which all components are computed at the rows of a request at once, without bounds,
# which take ten operations more. Measured: a row of 130 components takes 27 us, with bounds 300.
FEW_NUMBERS = 300_000
# Share of the components that count from which on all are computed: one that is picked out takes
# ten times as long as one of a whole matrix. Measured: with 16 to 1,000 modes, 3 to 20 dimensions.
MAX_PICKED = 0.05
# Share of a sum that all terms which are left out have together at most: far below any standard
# error. With 1e-10 the heavy tails of far densities would count. Conventional.
LEFT_OUT = 1e-7
# Width of the classes of rows that share a limit of the distance (nats): the limit is that of the
# lowest row. Conventional.
LEVEL = 4.0
# Exponents are cut off here, where exp is 1e304.
LARGEST_EXPONENT = 700.0
# Relative difference of factors that are proportional but for rounding: the squared distance is off
# by as much. Conventional.
ROUNDING = 1e-12
# Rows that tell which of the two is done. Conventional.
PROBES = 64
# Points, and numbers of all components at them, that are held at a time: 2 MB of float64 stay in
# the cache of a core. With fewer points a matrix product is no faster than a loop. Conventional.
MIN_ROWS, MAX_NUMBERS = 32, 250_000
# Bounds at a time: 8 MB of float64. Conventional.
MAX_BOUNDS = 1_000_000


@dataclass(frozen=True, eq=False)
class Terms:
    """Terms of the sums over the members of a mixture at n points, in the order of the points.

    Attributes
    ----------
    row, member : arrays of int, shape (m,)
        Point and member of each term; members of a point are in increasing order, and every point
        has one.
    log_term : array of shape (m,)
        Log of weight times density.
    """

    row: np.ndarray
    member: np.ndarray
    log_term: np.ndarray

    @cached_property
    def _first(self) -> np.ndarray:
        """Place of the first term of each point."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    @cached_property
    def log_sum(self) -> np.ndarray:
        """Log of the sum of each point's terms, shape (n,)."""
        out: np.ndarray = np.logaddexp.reduceat(self.log_term, self._first)
        return out

    @property
    def share(self) -> np.ndarray:
        """Terms as shares of their points' sums, shape (m,)."""
        out: np.ndarray = np.exp(self.log_term - self.log_sum[self.row])
        return out

    @property
    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """Member of the largest term of each point, the first of equal ones, and the log term."""
        top = np.maximum.reduceat(self.log_term, self._first)
        rows = np.flatnonzero(self.log_term == top[self.row])
        return self.member[rows[np.flatnonzero(np.diff(self.row[rows], prepend=-1))]], top


class WeightedDensities:
    """Weights times densities of K members, and their sums at points.

    Of many elliptical densities, those of which a bound shows that they add next to nothing are
    left out where that is most of them: the cost of a point is then that of its near densities.

    Parameters
    ----------
    densities : sequence of K JumpDensity
        Normalised densities on R^d.
    log_weights : array of shape (K,)
    """

    def __init__(self, densities: Sequence[JumpDensity], log_weights: np.ndarray) -> None:
        self.densities, self.log_weights = tuple(densities), log_weights

    def terms(self, x: np.ndarray, left_out: float = LEFT_OUT) -> Terms:
        """Compute ``log_weights[k] + log q_k(x)`` for the members k that count at x.

        Parameters
        ----------
        x : array of shape (n, d)
        left_out : float
            Share of a sum that all members which are left out have together at most.

        Returns
        -------
        Terms
        """
        components = self._components
        if components is None:
            return _terms_above(self._logs(x), -np.inf)
        parts = list(components.terms(x, np.log(len(components.df) / left_out)))
        first = np.cumsum([0, *(len(part.log_sum) for part in parts[:-1])])
        return Terms(
            np.concatenate([part.row + n for part, n in zip(parts, first, strict=True)]),
            np.concatenate([part.member for part in parts]),
            np.concatenate([part.log_term for part in parts]),
        )

    def largest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Member with the largest ``log_weights[k] + log q_k(x)``, and that value; shapes (n,)."""
        sizes = [len(q.df) if isinstance(q, EllipticalMixture) else 1 for q in self.densities]
        # A component that is smaller than a member by more than this factor can be left out: all
        # of its member are then smaller together.
        return self.terms(x, sum(sizes) / max(sizes)).largest

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Compute ``log sum_k exp(log_weights[k] + log q_k(x))`` at (n, d) points, shape (n,)."""
        components = self._components
        if components is None:
            out: np.ndarray = np.logaddexp.reduce(self._logs(x), axis=1)
            return out
        return components.log_sum(x, np.log(len(components.df) / LEFT_OUT))

    @cached_property
    def _components(self) -> _Components | None:
        """The components of all members; None if they are not elliptical on the line."""
        elliptical = [q for q in self.densities if isinstance(q, EllipticalMixture)]
        if len(elliptical) < len(self.densities) or is_circular(elliptical[0].period).any():
            return None
        if any(q.margins for q in elliptical):
            return None
        return _Components(elliptical, self.log_weights)

    def _logs(self, x: np.ndarray) -> np.ndarray:
        """All terms at rows of shape (n, d), shape (n, K)."""
        return np.stack([q.log_density(x) for q in self.densities], axis=1) + self.log_weights


def _terms_above(logs: np.ndarray, cut: np.ndarray | float) -> Terms:
    """Terms, of an array of shape (n, K), that are no lower than a limit for each row, (n, 1)."""
    row, member = np.nonzero(logs >= cut)
    return Terms(row, member, logs[row, member])


def _log_sums(logs: np.ndarray) -> np.ndarray:
    """Return the logs of the sums of the exponentials of each row, shape (n,)."""
    top = logs.max(axis=1)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        out: np.ndarray = shift + np.log(np.exp(logs - shift[:, None]).sum(axis=1))
    return out


def _chunks(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """So many rows at a time; there is at least one chunk."""
    for first in range(0, max(len(x), 1), size):
        yield x[first : first + size]


class _Components:
    """The components of K elliptical densities without circular coordinates, as one mixture.

    Components of a member with one mean and proportional scales share a distance: they are at one
    place.

    Parameters
    ----------
    densities : sequence of EllipticalMixture
    log_weights : array of shape (K,)
    """

    def __init__(self, densities: Sequence[EllipticalMixture], log_weights: np.ndarray) -> None:
        self.densities = densities
        self.means = np.concatenate([q.means for q in densities])
        self.inverse = np.concatenate([q.gaussian.inverse_factors for q in densities])
        self.df = np.concatenate([q.df for q in densities])
        self.constant = np.concatenate(
            [q.log_constants + w for q, w in zip(densities, log_weights, strict=True)]
        )
        sizes = [len(q.df) for q in densities]
        self.first_of_member = np.append(0, np.cumsum(sizes)[:-1])
        self.member = np.repeat(np.arange(len(densities)), sizes)
        self.dim = self.means.shape[1]
        # A component is at the place of the one before it if the distances are proportional.
        width = self.inverse[:, 0, 0]
        apart = np.any(self.means[1:] != self.means[:-1], axis=1)
        apart |= self.member[1:] != self.member[:-1]
        for j in np.flatnonzero(~apart):
            before, own = self.inverse[j], self.inverse[j + 1]
            gap = np.abs(own - width[j + 1] / width[j] * before).max()
            apart[j] = gap > ROUNDING * np.abs(own).max()
        self.first = np.append(0, 1 + np.flatnonzero(apart))
        self.place = np.append(0, np.cumsum(apart))
        # The squared distance from a component, in units of that from the first of its place.
        self.relative = (width / width[self.first][self.place]) ** 2
        self._heavy = np.flatnonzero(np.isfinite(self.df))
        self._half = 0.5 * (self.df[self._heavy] + self.dim)
        # The factors of all P places side by side, as one matrix of shape (d, P d). Distances are
        # from the mean of the means, so that a common shift of all costs no digits.
        self._middle, inverse = self.means.mean(axis=0), self.inverse[self.first]
        self._whiten = inverse.transpose(2, 0, 1).reshape(self.dim, -1)
        steps = self.means[self.first] - self._middle
        self._centres = np.matmul(inverse, steps[:, :, None]).ravel()

    def terms(self, x: np.ndarray, cut: float) -> Iterator[Terms]:
        """Terms of members at rows of shape (n, d), a few rows at a time.

        Members are left out if all their components are lower than one component by more than
        `cut`.
        """
        if self._few_count(x, cut):
            size = max(MIN_ROWS, MAX_BOUNDS // len(self.df))
            yield from (self._near.terms(rows, cut) for rows in _chunks(x, size))
            return
        for logs in self._logs(x):
            members = self._of_members(logs)
            yield _terms_above(members, members.max(axis=1, keepdims=True) - cut)

    def log_sum(self, x: np.ndarray, cut: float) -> np.ndarray:
        """Log of the sum of the terms at rows of shape (n, d), shape (n,)."""
        if self._few_count(x, cut):
            return np.concatenate([part.log_sum for part in self.terms(x, cut)])
        return np.concatenate([_log_sums(logs) for logs in self._logs(x)])

    def _few_count(self, x: np.ndarray, cut: float) -> bool:
        """Whether so few components count, at some of the rows, that these should be picked out."""
        # One place counts at every row.
        if len(self.first) * MAX_PICKED <= 1.0 or len(x) * len(self._centres) <= FEW_NUMBERS:
            return False
        some = x[:: max(1, len(x) // PROBES)]
        return float(self._near.counting(some, cut).mean()) <= MAX_PICKED

    @cached_property
    def _near(self) -> _NearComponents:
        return _NearComponents(self)

    def _logs(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """All components' terms, shape (m, J), a few rows at a time."""
        for rows in _chunks(x, max(MIN_ROWS, MAX_NUMBERS // len(self._centres))):
            z = (rows - self._middle) @ self._whiten
            z -= self._centres
            z = z.reshape(len(rows), len(self.first), self.dim)
            squared = np.einsum("npd,npd->np", z, z)
            squared = np.take(squared, self.place, axis=1) * self.relative
            out = -0.5 * squared
            out[:, self._heavy] = -self._half * np.log1p(
                squared[:, self._heavy] / self.df[self._heavy]
            )
            out += self.constant
            yield out

    def _of_members(self, logs: np.ndarray) -> np.ndarray:
        """Log terms of members, shape (n, K), by those of their components."""
        top = np.maximum.reduceat(logs, self.first_of_member, axis=1)
        # A weight of zero has logs of -inf.
        shift = np.where(np.isfinite(top), top, 0.0)
        share = np.exp(logs - np.take(shift, self.member, axis=1))
        with np.errstate(divide="ignore"):
            out: np.ndarray = shift + np.log(np.add.reduceat(share, self.first_of_member, axis=1))
        return out


class _NearComponents:
    """Bounds of what the components at each place can add, and the terms of those that count.

    Parameters
    ----------
    components : _Components
    """

    def __init__(self, components: _Components) -> None:
        self._of = components
        means, inverse, member = components.means, components.inverse, components.member
        scales = np.concatenate([q.scales for q in components.densities])
        self.first, self.relative = components.first, components.relative
        self.count = np.diff(self.first, append=len(member))
        self.first_place = np.flatnonzero(np.diff(member[self.first], prepend=-1))
        self.places_of_member = np.diff(self.first_place, append=len(self.first))
        self.factors = inverse[self.first].swapaxes(1, 2)
        # The component with the highest peak at each place.
        self.main = np.lexsort((-components.constant, components.place))[self.first]
        self.bounds = RadiusBounds(means[self.first], scales[self.first], inverse[self.first])

    def counting(self, x: np.ndarray, cut: float) -> np.ndarray:
        """Tell which places count at rows of shape (n, d), shape (n, P).

        All places of a member are left out if all its components are lower than one component by
        more than `cut`.
        """
        squared = self.bounds.squared(x)
        peak, steepness = self._of.constant[self.main], 0.5 * self.relative[self.main]
        best = np.argmax(peak - steepness * squared, axis=1)
        top = self._logs(self._squared(x, best), self.main[best])
        near = np.zeros(squared.shape, dtype=bool)
        levels, which = np.unique(np.floor((top - cut) / LEVEL), return_inverse=True)
        for i, level in enumerate(levels):
            rows = np.flatnonzero(which == i)
            near[rows] = squared[rows] < self._largest_squared(level * LEVEL)
        near[np.arange(len(x)), best] = True
        if len(self.first) > len(self.first_place):
            # A member that counts has all of its components.
            near = np.logical_or.reduceat(near, self.first_place, axis=1)
            near = np.repeat(near, self.places_of_member, axis=1)
        return near

    def terms(self, x: np.ndarray, cut: float) -> Terms:
        """Terms of the members that count at rows of shape (n, d)."""
        row, place = np.nonzero(self.counting(x, cut))
        exact, count = self._squared(x[row], place), self.count[place]
        # All components at these places.
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        row, component = np.repeat(row, count), np.repeat(self.first[place], count) + offset
        log_term = self._logs(np.repeat(exact, count), component)
        member = self._of.member[component]
        new = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(member, prepend=-1))
        return Terms(row[new], member[new], np.logaddexp.reduceat(log_term, new))

    def _largest_squared(self, level: float) -> np.ndarray:
        """Squared distance, for each place, from which on no component exceeds a log density."""
        df, dim = self._of.df, self._of.dim
        heavy, excess = np.isfinite(df), 2.0 * (self._of.constant - level)
        squared = np.where(heavy, 0.0, excess)
        df = df[heavy]
        exponent = np.minimum(excess[heavy] / (df + dim), LARGEST_EXPONENT)
        squared[heavy] = df * np.expm1(exponent)
        # Weights of zero have a constant of -inf.
        squared = np.maximum(squared, 0.0) / self.relative
        out: np.ndarray = np.maximum.reduceat(squared, self.first)
        return out

    def _squared(self, x: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Squared distance of each row from a place of its own, shape (n,)."""
        steps = x - self._of.means[self.first[place]]
        z = Blocks(place, len(self.first)).times(steps, self.factors)
        out: np.ndarray = np.einsum("ni,ni->n", z, z)
        return out

    def _logs(self, squared: np.ndarray, component: np.ndarray) -> np.ndarray:
        """Log terms of components at squared distances from their places, shape (n,)."""
        squared, df = squared * self.relative[component], self._of.df[component]
        out = -0.5 * squared
        heavy = np.flatnonzero(np.isfinite(df))
        df = df[heavy]
        out[heavy] = -0.5 * (df + self._of.dim) * np.log1p(squared[heavy] / df)
        out += self._of.constant[component]
        return out
