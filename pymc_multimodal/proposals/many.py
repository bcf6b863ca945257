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

# Densities up to which all are computed: bounds gain nothing then. Conventional.
FEW_DENSITIES = 16
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
# Terms, and points, that are held at a time: 8 MB of float64. A term that counts takes a point, so
# that few terms of many points would take much more. Conventional.
MAX_TERMS, MAX_ROWS = 1_000_000, 4096
# Share of the distances from which on all are computed, place by place: a distance then takes a
# ninth of the time. Measured: 26 modes of 5 places each in 12 dimensions.
ALL_SHARE = 0.15


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

    With more than 16 elliptical densities, those of which a bound shows that they add next to
    nothing are left out: the cost of a point is then that of its near densities.

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
        parts = list(self._parts(x, left_out))
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
        if self._near is not None:
            cut = np.log(len(self._near.df) / LEFT_OUT)
            rows = _chunks(x, self._near.n_places)
            return np.concatenate([self._near.log_density(part, cut) for part in rows])
        logs = [self._logs(rows) for rows in _chunks(x, len(self.densities))]
        return np.concatenate([np.logaddexp.reduce(part, axis=1) for part in logs])

    def _parts(self, x: np.ndarray, left_out: float) -> Iterator[Terms]:
        """Terms at the rows, in chunks: what is held at a time is small."""
        near = self._near
        items = len(self.densities) if near is None else near.n_places
        for rows in _chunks(x, items):
            if near is not None:
                yield near.terms(rows, np.log(len(near.df) / left_out))
                continue
            logs = self._logs(rows)
            row, member = np.divmod(np.arange(logs.size), len(self.densities))
            yield Terms(row, member, logs.ravel())

    @cached_property
    def _near(self) -> _Components | None:
        """The components of many elliptical densities; None if all are to be computed."""
        if len(self.densities) <= FEW_DENSITIES:
            return None
        elliptical = [q for q in self.densities if isinstance(q, EllipticalMixture)]
        if len(elliptical) < len(self.densities) or is_circular(elliptical[0].period).any():
            return None
        return _Components(elliptical, self.log_weights)

    def _logs(self, x: np.ndarray) -> np.ndarray:
        """All terms at rows of shape (n, d), shape (n, K)."""
        return np.stack([q.log_density(x) for q in self.densities], axis=1) + self.log_weights


def _chunks(x: np.ndarray, items: int) -> Iterator[np.ndarray]:
    """Rows of which so many items each are held at a time; there is at least one chunk."""
    size = min(max(1, MAX_TERMS // items), MAX_ROWS)
    for first in range(0, max(len(x), 1), size):
        yield x[first : first + size]


class _Components:
    """The components of elliptical densities, with bounds of what those at each place can add.

    Components of a member with one mean and proportional scales share a distance: they are at one
    place.

    Parameters
    ----------
    densities : sequence of EllipticalMixture
        Without circular coordinates.
    log_weights : array of shape (K,)
    """

    def __init__(self, densities: Sequence[EllipticalMixture], log_weights: np.ndarray) -> None:
        self.means = np.concatenate([q.means for q in densities])
        self.df = np.concatenate([q.df for q in densities])
        self.member = np.repeat(np.arange(len(densities)), [len(q.df) for q in densities])
        self.constant = np.concatenate(
            [q.log_constants + w for q, w in zip(densities, log_weights, strict=True)]
        )
        scales = np.concatenate([q.scales for q in densities])
        inverse = np.concatenate([q.gaussian.inverse_factors for q in densities])
        # A component is at the place of the one before it if the distances are proportional.
        width = inverse[:, 0, 0]
        gap = np.abs(inverse[1:] - (width[1:] / width[:-1])[:, None, None] * inverse[:-1])
        apart = gap.max(axis=(1, 2)) > ROUNDING * np.abs(inverse[1:]).max(axis=(1, 2))
        moved = np.any(self.means[1:] != self.means[:-1], axis=1)
        other = self.member[1:] != self.member[:-1]
        self.first = np.append(0, 1 + np.flatnonzero(apart | moved | other))
        self.count = np.diff(self.first, append=len(self.df))
        place = np.repeat(np.arange(len(self.first)), self.count)
        self.first_place = np.flatnonzero(np.diff(self.member[self.first], prepend=-1))
        self.places_of_member = np.diff(self.first_place, append=len(self.first))
        self.inverse = inverse[self.first].swapaxes(1, 2)
        # The squared distance from a component, in units of that from the first of its place.
        self.relative = (width / width[self.first][place]) ** 2
        # The component with the highest peak at each place.
        self.main = np.lexsort((-self.constant, place))[self.first]
        self.bounds = RadiusBounds(self.means[self.first], scales[self.first], inverse[self.first])

    @property
    def n_places(self) -> int:
        """Number of means."""
        return len(self.first)

    def terms(self, x: np.ndarray, cut: float) -> Terms:
        """Terms of members at rows of shape (n, d).

        Members are left out if all their components are lower than one component by more than
        `cut`.
        """
        return self._terms(x, self._near(x, cut))

    def log_density(self, x: np.ndarray, cut: float) -> np.ndarray:
        """Log of the sum of the terms at rows of shape (n, d), shape (n,)."""
        near = self._near(x, cut)
        if near.mean() < ALL_SHARE:
            return self._terms(x, near).log_sum
        squared = np.repeat(self._all_squared(x), self.count, axis=1)
        component = np.broadcast_to(np.arange(len(self.df)), squared.shape)
        logs = self._logs(squared.ravel(), component.ravel()).reshape(squared.shape)
        largest = logs.max(axis=1)
        out: np.ndarray = largest + np.log(np.exp(logs - largest[:, None]).sum(axis=1))
        return out

    def _near(self, x: np.ndarray, cut: float) -> np.ndarray:
        """Tell which places count at each row, shape (n, n_places): all of a member, or none."""
        squared = self.bounds.squared(x)
        peak, steepness = self.constant[self.main], 0.5 * self.relative[self.main]
        best = np.argmax(peak - steepness * squared, axis=1)
        top = self._logs(self._squared(x, best), self.main[best])
        near = np.zeros(squared.shape, dtype=bool)
        levels, which = np.unique(np.floor((top - cut) / LEVEL), return_inverse=True)
        for i, level in enumerate(levels):
            rows = np.flatnonzero(which == i)
            near[rows] = squared[rows] < self._largest_squared(level * LEVEL)
        near[np.arange(len(x)), best] = True
        if self.n_places > len(self.first_place):
            # A member that counts has all of its components.
            near = np.logical_or.reduceat(near, self.first_place, axis=1)
            near = np.repeat(near, self.places_of_member, axis=1)
        return near

    def _terms(self, x: np.ndarray, near: np.ndarray) -> Terms:
        """Terms of the members whose places count."""
        row, place = np.nonzero(near)
        if len(row) < ALL_SHARE * near.size:
            exact = self._squared(x[row], place)
        else:
            exact = self._all_squared(x)[row, place]
        count = self.count[place]
        # All components at these places.
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        row, component = np.repeat(row, count), np.repeat(self.first[place], count) + offset
        log_term = self._logs(np.repeat(exact, count), component)
        member = self.member[component]
        new = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(member, prepend=-1))
        if not len(new):
            return Terms(row, member, log_term)
        return Terms(row[new], member[new], np.logaddexp.reduceat(log_term, new))

    def _largest_squared(self, level: float) -> np.ndarray:
        """Squared distance, for each place, from which on no component exceeds a log density."""
        heavy, excess = np.isfinite(self.df), 2.0 * (self.constant - level)
        squared = np.where(heavy, 0.0, excess)
        df = self.df[heavy]
        exponent = np.minimum(excess[heavy] / (df + self.dim), LARGEST_EXPONENT)
        squared[heavy] = df * np.expm1(exponent)
        # Weights of zero have a constant of -inf.
        squared = np.maximum(squared, 0.0) / self.relative
        out: np.ndarray = np.maximum.reduceat(squared, self.first)
        return out

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.means.shape[1]

    def _all_squared(self, x: np.ndarray) -> np.ndarray:
        """Squared distance of each row from each place, shape (n, n_places)."""
        out = np.empty((len(x), self.n_places))
        for k, (first, inverse) in enumerate(zip(self.first, self.inverse, strict=True)):
            z = (x - self.means[first]) @ inverse
            np.einsum("ni,ni->n", z, z, out=out[:, k])
        return out

    def _squared(self, x: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Squared distance of each row from a place of its own, shape (n,)."""
        steps = x - self.means[self.first[place]]
        z = Blocks(place, self.n_places).times(steps, self.inverse)
        out: np.ndarray = np.einsum("ni,ni->n", z, z)
        return out

    def _logs(self, squared: np.ndarray, component: np.ndarray) -> np.ndarray:
        """Log terms of components at squared distances from their places, shape (n,)."""
        squared, df = squared * self.relative[component], self.df[component]
        out = -0.5 * squared
        heavy = np.flatnonzero(np.isfinite(df))
        df = df[heavy]
        out[heavy] = -0.5 * (df + self.dim) * np.log1p(squared[heavy] / df)
        out += self.constant[component]
        return out
