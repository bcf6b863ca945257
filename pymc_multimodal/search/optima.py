"""The optima that a search for modes has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.curvature import inverse_scale
from pymc_multimodal.target.group import Orbit

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.group import Symmetry

__all__ = ["OptimumSet"]


class OptimumSet:
    """The distinct optima found so far, with their curvature; grows, never forgets.

    Parameters
    ----------
    spread : array of shape (d,)
        Robust standard deviation of the starts: no optimum is taken to be wider.
    symmetry : Symmetry, optional
        Group under which all images of an optimum are one entry.
    metric : array of shape (d, d)
        Measures which image is nearest; needed with `symmetry`, which leaves it unchanged.
    """

    def __init__(
        self,
        spread: np.ndarray,
        symmetry: Symmetry | None = None,
        metric: np.ndarray | None = None,
    ) -> None:
        dim = len(spread)
        self.spread = spread
        self.x = np.empty((0, dim))
        self.logp = np.empty(0)
        self.hessian = np.empty((0, dim, dim))
        # Factors of the inverse Hessians, and Laplace's log masses but for a constant.
        self.scale = np.empty((0, dim, dim))
        self.log_mass = np.empty(0)
        self.group = np.empty(0, dtype=int)
        self.symmetry, self.metric = symmetry, metric
        self.orbits: list[Orbit] = []
        # For each optimum, elements that map its mode onto itself though not the optimum.
        self.fixing: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(np.unique(self.group))

    def nearest(self, density: Density, x: np.ndarray, logp: np.ndarray) -> np.ndarray:
        """Index of the optimum that each point falls on, or -1."""
        found = np.full(len(x), -1)
        for k in range(len(self.x)):
            here = self.orbits[k].fold(x)[0] if self.orbits else x
            step = density.unroll(here, self.x[k]) - self.x[k]
            distance = np.einsum("ni,ij,nj->n", step, self.hessian[k], step)
            found[(distance < 1.0) & (np.abs(logp - self.logp[k]) < 1.0) & (found < 0)] = k
        return found

    def add(self, x: np.ndarray, logp: float, hessian: np.ndarray) -> int:
        """Take in an optimum with its log density and negative Hessian; returns its index."""
        self.x = np.vstack([self.x, x])
        self.logp = np.append(self.logp, logp)
        self.hessian = np.concatenate([self.hessian, hessian[None]])
        scale = inverse_scale(hessian[None], self.spread)
        self.scale = np.concatenate([self.scale, scale])
        self.log_mass = np.append(self.log_mass, logp + np.log(np.diagonal(scale[0])).sum())
        new = self.group.max() + 1 if len(self.group) else 0
        self.group = np.append(self.group, new)
        if self.symmetry is not None and self.metric is not None:
            self.orbits.append(Orbit(self.symmetry, x, self.metric))
            self.fixing.append(np.empty((0, *hessian.shape)))
        return len(self.x) - 1

    def towards_first(self, x: np.ndarray) -> np.ndarray:
        """Image of a point that is nearest to the first optimum: so all are in one place."""
        return self.orbits[0].fold(x[None])[0][0] if self.orbits else x

    def images(self) -> np.ndarray:
        """Return all images of all optima, shape (n, d)."""
        return np.concatenate([o.points for o in self.orbits]) if self.orbits else self.x

    def neighbours(self, density: Density, k: int = 5) -> np.ndarray:
        """Pairs (i < j) of each optimum with its k nearest, shape (n, 2)."""
        step = density.unroll(self.x[:, None] - self.x[None], 0.0) / self.spread
        distance = np.einsum("ijk,ijk->ij", step, step)
        np.fill_diagonal(distance, np.inf)
        near = np.argsort(distance, axis=1)[:, : min(k, len(self.x) - 1)]
        pairs = {(min(i, int(j)), max(i, int(j))) for i in range(len(self.x)) for j in near[i]}
        return np.array(sorted(pairs))

    def join(self, saddles: dict[tuple[int, int], float], barrier: float) -> None:
        """Group optima to modes, by the saddles between pairs of them (log densities).

        Saddles are taken from the highest down. Where one joins two groups, the lighter is a
        mode of its own if its summit rises by `barrier` above the saddle, and otherwise belongs
        to the other (persistence, Chazal et al. 2013): so a shoulder between two modes goes to
        one of them and does not bridge them. The lighter, by Laplace's estimate, and not the
        lower: a narrow summit may tower over a wide one, and few ways lead into it and out.
        Nor does a saddle join optima of such different volume that normals of these volumes with
        a common centre would hardly overlap (in many dimensions, a Bhattacharyya coefficient
        below exp(-2)): neither's draws then come near the summit of the other. The two ends of a
        way are compared and not the groups: a ridge changes its width along the way.
        """
        mass, group = self.log_mass, np.arange(len(self.x))
        log_volume = mass - self.logp
        alike = np.sqrt(8.0 * self.x.shape[1])
        for (i, j), saddle in sorted(saddles.items(), key=lambda item: -item[1]):
            heavy, light = group[i], group[j]
            if heavy == light:
                continue
            if mass[group == heavy].max() < mass[group == light].max():
                heavy, light = light, heavy
            joins = self.logp[group == light].max() - saddle < barrier
            if joins and abs(log_volume[i] - log_volume[j]) < alike:
                group[group == light] = heavy
        self.group = group

    def remember(self, old: OptimumSet, index: np.ndarray) -> None:
        """Learn from an atlas without symmetry which modes hold several images of an optimum.

        So a ring, which is one mode, is known to be its own mirror image.

        Parameters
        ----------
        old : OptimumSet
        index : array of int, shape (p,) or more
            Each old optimum's index here, -1 for none.
        """
        for k, orbit in enumerate(self.orbits):
            same = np.flatnonzero(index[: len(old.x)] == k)
            image = orbit.nearest(old.x[same])
            for g in np.unique(old.group[same]):
                own = np.unique(image[old.group[same] == g])
                more = orbit.inverses[own[0]] @ orbit.maps[own[1:]]
                self.fixing[k] = np.concatenate([self.fixing[k], more])

    def multiplicity(self, locations: np.ndarray) -> np.ndarray:
        """Count the images of optima, shape (K,); those a rounding error apart count twice."""
        if not self.orbits:
            return np.ones(len(locations), dtype=int)
        return np.array([len(self.orbits[self._row(x)]) for x in locations])

    def _row(self, x: np.ndarray) -> int:
        """Index of the optimum at exactly x."""
        return int((self.x == x).all(axis=1).argmax())

    def fixing_modes(self, locations: np.ndarray) -> list[np.ndarray]:
        """Elements known to map the modes with given summits onto themselves."""
        out = []
        for x in locations:
            group = self.group[self._row(x)]
            own = [self.fixing[k] for k in np.flatnonzero(self.group == group)]
            out.append(np.concatenate(own))
        return out
