"""The distinct optima that a search for modes has found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.curvature import FLAT_CURVATURE, inverse_scale
from pymc_multimodal.target.group import Orbit

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.group import Symmetry

__all__ = ["OptimumSet"]

# A point is a known optimum if it is nearer than this (in standard deviations of the optimum's
# normal approximation) and its log density differs by less than this (nats). Conventional: beyond
# one standard deviation the normal approximation is half a nat lower.
SAME_OPTIMUM_SDS, SAME_OPTIMUM_NATS = 1.0, 1.0
# Half a nat of allowed mass ratio for each dimension: Laplace's estimate errs by nats where a mode
# is not Gaussian, and its error grows with the dimension.
# Measured: examples/benchmarks/constants.py
NEGLIGIBLE_PER_DIM = 0.5
# Rows of the first buffer of optima. Conventional.
MIN_ROOM = 8


@dataclass(frozen=True)
class OptimumSet:
    """Distinct optima with their curvature. An optimum keeps its index: the set only grows.

    Attributes
    ----------
    spread : array of shape (d,)
        Robust standard deviation of the starts. No optimum is taken to be wider.
    x : array of shape (p, d)
        The optima.
    logp : array of shape (p,)
        Their log densities.
    hessian : array of shape (p, d, d)
        Their negative Hessians.
    scale : array of shape (p, d, d)
        Lower-triangular factors of the inverse negative Hessians.
    log_mass : array of shape (p,)
        Laplace's approximation of the log mass, without the constant ``(d / 2) log(2 pi)``.
    group : array of int, shape (p,)
        Optima of one group belong to one mode.
    left_out : array of bool, shape (p,)
        Optima of modes that a sample has shown to hold next to no mass.
    symmetry : Symmetry or None
        Group of maps under which all images of an optimum are one entry.
    metric : array of shape (d, d) or None
        Precision matrix by which the nearest image is chosen; `symmetry` leaves it unchanged.
    orbits : tuple of Orbit
        Images of each optimum; empty without symmetry.
    fixing : tuple of arrays of shape (j, d, d)
        For each optimum, elements of `symmetry` that map its mode onto itself, though not the
        optimum; empty without symmetry.
    room : optional
        Buffers behind `hessian` and `scale`, to which `add` appends.
    """

    spread: np.ndarray
    x: np.ndarray
    logp: np.ndarray
    hessian: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    group: np.ndarray
    left_out: np.ndarray
    symmetry: Symmetry | None = None
    metric: np.ndarray | None = None
    orbits: tuple[Orbit, ...] = ()
    fixing: tuple[np.ndarray, ...] = ()
    room: _Room | None = field(
        default=None, repr=False, compare=False, metadata={"not stored": True}
    )

    @classmethod
    def empty(cls, spread: np.ndarray, symmetry: Symmetry | None = None) -> OptimumSet:
        """Return a set without optima.

        Parameters
        ----------
        spread : array of shape (d,)
        symmetry : Symmetry, optional
        """
        d = len(spread)
        return cls(
            spread=spread,
            x=np.empty((0, d)),
            logp=np.empty(0),
            hessian=np.empty((0, d, d)),
            scale=np.empty((0, d, d)),
            log_mass=np.empty(0),
            group=np.empty(0, dtype=int),
            left_out=np.empty(0, dtype=bool),
            symmetry=symmetry,
            metric=None if symmetry is None else symmetry.metric(np.diag(spread**-2)),
        )

    def __len__(self) -> int:
        return len(self.x)

    def nearest(self, density: Density, x: np.ndarray, logp: np.ndarray) -> np.ndarray:
        """Return the index of the optimum that each point falls on, or -1, shape (n,).

        Parameters
        ----------
        density : Density
            Its periods are used; it is not evaluated.
        x, logp : arrays of shape (n, d) and (n,)
            Points and their log densities.
        """
        found = np.full(len(x), -1)
        if len(x) == 1 and not self.orbits:
            # Climbs are identified one by one: all optima at once, not one after the other.
            level = np.flatnonzero(np.abs(logp - self.logp) < SAME_OPTIMUM_NATS)
            here = np.broadcast_to(x, (len(level), x.shape[1]))
            step = (density.unroll(here, self.x[level]) - self.x[level])[:, None]
            squared = (step @ self.hessian[level] @ step.swapaxes(1, 2)).ravel()
            for i in np.flatnonzero(squared < SAME_OPTIMUM_SDS**2):
                if self._are_same(int(level[i]), step[i])[0]:
                    found[:] = level[i]
                    break
            return found
        for k in range(len(self.x)):
            rows = np.flatnonzero((np.abs(logp - self.logp[k]) < SAME_OPTIMUM_NATS) & (found < 0))
            if not len(rows):
                continue
            here = self.orbits[k].fold(x[rows])[0] if self.orbits else x[rows]
            step = density.unroll(here, self.x[k]) - self.x[k]
            squared = np.einsum("ni,ni->n", step @ self.hessian[k], step)
            near = np.flatnonzero(squared < SAME_OPTIMUM_SDS**2)
            if len(near):
                found[rows[near[self._are_same(k, step[near])]]] = k
        return found

    def _are_same(self, k: int, step: np.ndarray) -> np.ndarray:
        """Tell which steps (n, d) from optimum k are shorter than a standard deviation."""
        squared = np.einsum("ni,ni->n", step @ self.curvature(k), step)
        out: np.ndarray = squared < SAME_OPTIMUM_SDS**2
        return out

    def curvature(self, k: int) -> np.ndarray:
        """Return the negative Hessian of optimum k, or what bounds its width, shape (d, d).

        A climb without gradient may end where the log density curves upwards along some direction.
        By the Hessian all points along that direction would be near. There, the width is that of
        `scale`: the spread of the starts at most.
        """
        hessian = self.hessian[k]
        if np.linalg.eigvalsh(hessian * np.outer(self.spread, self.spread))[0] > -FLAT_CURVATURE:
            return hessian
        inverse = np.linalg.inv(self.scale[k])
        out: np.ndarray = inverse.T @ inverse
        return out

    def add(self, x: np.ndarray, logp: float, hessian: np.ndarray) -> OptimumSet:
        """Return the set with one optimum more, whose index is the length of the old set.

        Parameters
        ----------
        x : array of shape (d,)
        logp : float
            Its log density.
        hessian : array of shape (d, d)
            Its negative Hessian.
        """
        scale = inverse_scale(hessian[None], self.spread)
        log_mass = logp + np.log(np.diagonal(scale[0])).sum()
        n, room = len(self), _Room.behind(self)
        room.hessian[n], room.scale[n], room.used = hessian, scale[0], n + 1
        orbits, fixing = self.orbits, self.fixing
        if self.symmetry is not None and self.metric is not None:
            orbits = (*orbits, Orbit(self.symmetry, x, self.metric))
            fixing = (*fixing, np.empty((0, *hessian.shape)))
        return replace(
            self,
            x=np.vstack([self.x, x]),
            logp=np.append(self.logp, logp),
            hessian=room.hessian[: n + 1],
            scale=room.scale[: n + 1],
            room=room,
            log_mass=np.append(self.log_mass, log_mass),
            group=np.append(self.group, self.group.max(initial=-1) + 1),
            left_out=np.append(self.left_out, False),
            orbits=orbits,
            fixing=fixing,
        )

    def widened(self, spread: np.ndarray) -> OptimumSet:
        """Return the set with another bound of the widths of its optima.

        Parameters
        ----------
        spread : array of shape (d,)
        """
        scale = inverse_scale(self.hessian, spread)
        log_det = np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1)
        return replace(self, spread=spread, scale=scale, log_mass=self.logp + log_det, room=None)

    # ---------------------------------------------------------- modes

    def summits(self, negligible: float) -> np.ndarray:
        """Return the index of the highest optimum of each mode, highest first, shape (K,).

        Parameters
        ----------
        negligible : float
            A mode is left out if the log mass of its highest optimum is below the largest by this
            many nats and half a nat for each dimension, or if a sample has shown that it holds
            next to no mass.
        """
        best, left_out = self._highest()
        if not len(best):
            return best
        mass = self.log_mass[best]
        lowest = mass.max() - negligible - NEGLIGIBLE_PER_DIM * self.x.shape[1]
        return best[(mass > lowest) & ~left_out]

    def summits_left_out(self) -> np.ndarray:
        """Return the index of the highest optimum of each mode of next to no mass, highest first.

        Those are the modes that a sample has shown to hold so little, shape (J,).
        """
        best, left_out = self._highest()
        return best[left_out]

    def leaving_out(self, optima: np.ndarray) -> OptimumSet:
        """Return the set in which modes are marked as holding next to no mass.

        A mode of which a further optimum is found stays so, unless the new one holds more mass, by
        Laplace's approximation, than those known before.

        Parameters
        ----------
        optima : array of int
            Indices of all optima of these modes.
        """
        left_out = self.left_out.copy()
        left_out[optima] = True
        return replace(self, left_out=left_out)

    def _highest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the highest optimum of each mode, highest first, and which modes are left out."""
        rows = [np.flatnonzero(self.group == g) for g in np.unique(self.group)]
        best = np.array([own[np.argmax(self.logp[own])] for own in rows], dtype=int)
        heaviest = np.array([own[np.argmax(self.log_mass[own])] for own in rows], dtype=int)
        order = np.argsort(-self.logp[best], kind="stable")
        return best[order], self.left_out[heaviest[order]]

    def mode_of(self, summits: np.ndarray) -> np.ndarray:
        """Return the mode (row of `summits`) of each optimum, or -1.

        Shape (p + 1,): the last entry is -1, so that the label -1 of a point has mode -1.
        """
        mode = np.full(len(self) + 1, -1)
        for k, summit in enumerate(summits):
            mode[:-1][self.group == self.group[summit]] = k
        return mode

    # ---------------------------------------------------------- symmetry

    def canonical_image(self, x: np.ndarray) -> np.ndarray:
        """Return the image of a point, shape (d,), that is nearest to the first optimum."""
        return self.orbits[0].fold(x[None])[0][0] if self.orbits else x

    def images(self) -> np.ndarray:
        """Return all images of all optima, shape (n, d)."""
        return np.concatenate([o.points for o in self.orbits]) if self.orbits else self.x

    def record_stabilisers(self, old: OptimumSet, index: np.ndarray) -> OptimumSet:
        """Record which elements map a mode onto itself.

        Those are the elements between images of one optimum that one mode of a set without
        symmetry holds: a ring, which is one mode, is known to be its own mirror image.

        Parameters
        ----------
        old : OptimumSet
            The same optima, without symmetry.
        index : array of int, shape (p,) or longer
            Index in this set of each optimum of `old`, -1 for none.
        """
        fixing = list(self.fixing)
        for k, orbit in enumerate(self.orbits):
            same = np.flatnonzero(index[: len(old)] == k)
            image = orbit.nearest(old.x[same])
            for g in np.unique(old.group[same]):
                own = np.unique(image[old.group[same] == g])
                elements = orbit.inverses[own[0]] @ orbit.maps[own[1:]]
                fixing[k] = np.concatenate([fixing[k], elements])
        return replace(self, fixing=tuple(fixing))

    def multiplicity(self, locations: np.ndarray) -> np.ndarray:
        """Return the number of images of the optima at given locations, shape (K,).

        Images nearer to one another than a standard deviation of the optimum are one.
        """
        if not self.orbits:
            return np.ones(len(locations), dtype=int)
        return np.array([self._images_apart(self._index_at(x)) for x in locations])

    def _images_apart(self, k: int) -> int:
        """Count the images of optimum k: every one of them has as many near it as the first."""
        points = self.orbits[k].points
        z = np.linalg.solve(self.scale[k], (points - points[0]).T)
        near = int(np.sum(np.einsum("dn,dn->n", z, z) < SAME_OPTIMUM_SDS**2))
        return len(points) // max(near, 1)

    def fixing_modes(self, locations: np.ndarray) -> list[np.ndarray]:
        """Return the elements known to map each mode onto itself, arrays of shape (j, d, d).

        Parameters
        ----------
        locations : array of shape (K, d)
            An optimum of each mode.
        """
        out = []
        for x in locations:
            group = self.group[self._index_at(x)]
            own = [self.fixing[k] for k in np.flatnonzero(self.group == group)]
            out.append(np.concatenate(own))
        return out

    def _index_at(self, x: np.ndarray) -> int:
        """Return the index of the optimum at exactly x."""
        return int((self.x == x).all(axis=1).argmax())


@dataclass
class _Room:
    """Buffers of matrices, with room for those of further optima.

    Attributes
    ----------
    hessian, scale : arrays of shape (capacity, d, d)
    used : int
        Rows that belong to a set.
    """

    hessian: np.ndarray
    scale: np.ndarray
    used: int

    @classmethod
    def behind(cls, optima: OptimumSet) -> _Room:
        """Return the room behind the matrices of a set; where there is none, the set is copied.

        So p optima cost p copies in all and not ``p^2 / 2``: the matrices of a thousand optima may
        take a gigabyte.
        """
        room, n = optima.room, len(optima)
        if room is not None and room.used == n < len(room.scale):
            return room
        empty = np.empty((2, max(MIN_ROOM, n + n // 2), *optima.scale.shape[1:]))
        room = cls(empty[0], empty[1], n)
        room.hessian[:n], room.scale[:n] = optima.hessian, optima.scale
        return room
