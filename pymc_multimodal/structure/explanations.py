"""The explanations of each unit at some hubs: optima of its own log density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.structure.climbs import climb_units

if TYPE_CHECKING:
    from pymc_multimodal.structure.climbs import UnitPoints
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["FEW_STEPS", "STEPS", "Explanations", "explain"]

# Most explanations of a unit: a bound on the cost. Conventional.
MAX_EXPLANATIONS = 12
# Squared distance within which two ends of climbs are one optimum, in standard deviations of the
# first. Conventional: climbs end within a hundredth of one.
SAME_OPTIMUM = 0.1
# Mass below which an explanation is left out, relative to the unit's largest, in nats.
# Conventional: a wide density covers what is left out.
NEGLIGIBLE = 10.0
# Share of an explanation from which on hubs show it well. Conventional.
LOCATED_SHARE = 0.05
# Largest change of a log mass between hubs that a slope is trusted for. Conventional.
MAX_CHANGE = 2.0
# Steps of climbs from far away, and of those from explanations at other hubs. Conventional: Newton
# steps double the number of digits.
STEPS, FEW_STEPS = 15, 8


@dataclass(frozen=True)
class Explanations:
    """Explanations of N units at m values of the hubs.

    Attributes
    ----------
    g : array of shape (m, H)
    z : array of shape (m, N, K, b)
        The largest first. Places without an explanation repeat the first.
    scale : array of shape (m, N, K, b, b)
    log_mass : array of shape (m, N, K)
        -inf where there is none.
    log_hubs : array of shape (m,)
    group : array of int, shape (N, K), or None
        Place that stands for each one's explanation, where several places cannot be told apart.
    slope : array of shape (m, N, K, b, H), or None
        Derivatives of z with respect to the hubs.
    mass_slope : array of shape (m, N, K, H), or None
        Those of the log mass.
    """

    g: np.ndarray
    z: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    log_hubs: np.ndarray
    group: np.ndarray | None = None
    slope: np.ndarray | None = None
    mass_slope: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.g)

    @property
    def log_marginal(self) -> np.ndarray:
        """Log of the marginal density of the hubs by the normal approximations, shape (m,)."""
        out: np.ndarray = self.log_hubs + logsumexp(self.log_mass, axis=2).sum(axis=1)
        return out

    @property
    def share(self) -> np.ndarray:
        """Share of each explanation in its unit's mass, shape (m, N, K)."""
        top = np.maximum(self.log_mass.max(axis=2, keepdims=True), -1e300)
        mass = np.exp(self.log_mass - top)
        out: np.ndarray = mass / np.maximum(mass.sum(axis=2, keepdims=True), 1e-300)
        return out

    @property
    def width(self) -> np.ndarray:
        """Width of each explanation along each coordinate, shape (m, N, K, b)."""
        return np.linalg.norm(self.scale, axis=-1)

    def height(self, sizes: np.ndarray) -> np.ndarray:
        """Log density of each unit at its explanations, shape (m, N, K); sizes has shape (N,)."""
        log_det = np.log(np.diagonal(self.scale, axis1=-2, axis2=-1)).sum(axis=-1)
        out: np.ndarray = self.log_mass - log_det - 0.5 * sizes[:, None] * np.log(2 * np.pi)
        return out

    def nearest(self, g: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Index of the nearest hubs to each of g, (n, H), in a unit of length (H,); shape (n,)."""
        apart = (g[:, None] - self.g) / unit
        return np.argmin(np.einsum("nah,nah->na", apart, apart), axis=1)

    def expected(
        self, g: np.ndarray, unit: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expect explanations at hubs (n, H) where the slopes lead to from the nearest hubs.

        Returns
        -------
        nearest : array of int, shape (n,)
        z : array of shape (n, N, K, b)
        log_mass : array of shape (n, N, K)
        """
        nearest = self.nearest(g, unit)
        z, log_mass, step = self.z[nearest], self.log_mass[nearest], g - self.g[nearest]
        if self.slope is not None:
            z = z + np.einsum("nukbh,nh->nukb", self.slope[nearest], step)
        if self.mass_slope is not None:
            change = np.einsum("nukh,nh->nuk", self.mass_slope[nearest], step)
            # What all explanations of a unit have in common does not matter.
            change -= change.mean(axis=2, keepdims=True)
            log_mass = log_mass + np.clip(change, -MAX_CHANGE, MAX_CHANGE)
        return nearest, z, log_mass

    def around(self, g: np.ndarray, unit: np.ndarray, n: int) -> np.ndarray:
        """Return the explanations at the n hubs nearest to each of g, (m, H), as starts of climbs.

        Returns
        -------
        array of shape (m, S, N, b)
            Where they are, and where the slopes lead to.
        """
        apart = np.linalg.norm((g[:, None] - self.g) / unit, axis=-1)
        near = np.argsort(apart, axis=1, kind="stable")[:, :n]
        parts = [self.z[rows] for rows in near.T]
        if self.slope is not None:
            parts += [
                self.z[rows] + np.einsum("nukbh,nh->nukb", self.slope[rows], g - self.g[rows])
                for rows in near.T
            ]
        out: np.ndarray = np.concatenate(parts, axis=2).swapaxes(1, 2)
        return out

    def best_hubs(self) -> np.ndarray:
        """Index of the most probable hubs that show each explanation well, shape (N, K).

        It is -1 where none has the explanation.
        """
        with np.errstate(divide="ignore"):
            score = np.minimum(np.log(self.share / LOCATED_SHARE), 0.0)
        score += self.log_marginal[:, None, None]
        return np.where(np.isfinite(score.max(axis=0)), np.argmax(score, axis=0), -1)

    def take(self, rows: np.ndarray) -> Explanations:
        """Return those at some hubs."""
        return Explanations(
            self.g[rows], self.z[rows], self.scale[rows], self.log_mass[rows], self.log_hubs[rows]
        )

    def joined(self, other: Explanations) -> Explanations:
        """Return those of both."""
        k = max(self.z.shape[2], other.z.shape[2])
        parts = zip(_padded(self, k), _padded(other, k), strict=True)
        return Explanations(*(np.concatenate(pair) for pair in parts))


def _padded(own: Explanations, k: int) -> tuple[np.ndarray, ...]:
    more = k - own.z.shape[2]
    return (
        own.g,
        np.concatenate([own.z, np.repeat(own.z[:, :, :1], more, axis=2)], axis=2),
        np.concatenate([own.scale, np.repeat(own.scale[:, :, :1], more, axis=2)], axis=2),
        np.pad(own.log_mass, ((0, 0), (0, 0), (0, more)), constant_values=-np.inf),
        own.log_hubs,
    )


def explain(
    density: Density,
    units: Units,
    g: np.ndarray,
    starts: np.ndarray,
    spread: np.ndarray,
    steps: int = STEPS,
    width: np.ndarray | None = None,
) -> Explanations:
    """Find the explanations of all units by climbs.

    Parameters
    ----------
    density : Density
    units : Units
    g : array of shape (m, H)
        Hubs.
    starts : array of shape (m, S, N, b), or (S, N, b) for all hubs
    spread : array of shape (N, b)
    steps : int
    width : array of shape (m, S, N, b), optional
        Widths of the explanations that the climbs begin at, if these are known.

    Returns
    -------
    Explanations
    """
    starts = np.broadcast_to(starts, (len(g), *starts.shape[-3:]))
    _, s, n_units, b = starts.shape
    rows = np.repeat(g, s, axis=0)
    begun = starts.reshape(-1, n_units, b)
    if width is not None:
        width = width.reshape(begun.shape)
    ends = climb_units(density, units, rows, begun, spread, steps, width)
    return merge(g, ends, s)


def merge(g: np.ndarray, ends: UnitPoints, s: int) -> Explanations:
    """Keep one of the ends of climbs that lead to the same optimum.

    Parameters
    ----------
    g : array of shape (m, H)
    ends : UnitPoints
        Of ``m * s`` climbs, s for each of the hubs.
    s : int

    Returns
    -------
    Explanations
    """
    m, (_, n_units, b) = len(g), ends.z.shape
    # Units at different hubs are told apart by one index.
    count = m * n_units
    z = ends.z.reshape(m, s, n_units, b).swapaxes(1, 2).reshape(count, s, b)
    scale = ends.scale.reshape(m, s, n_units, b, b).swapaxes(1, 2).reshape(count, s, b, b)
    mass = ends.log_mass.reshape(m, s, n_units).swapaxes(1, 2).reshape(count, s)
    ended = ends.ended.reshape(m, s, n_units).swapaxes(1, 2).reshape(count, s)
    # A unit in which no climb has ended has the highest point in place of an optimum.
    highest = mass == mass.max(axis=1, keepdims=True)
    mass = np.where(ended | (highest & ~ended.any(axis=1, keepdims=True)), mass, -np.inf)
    order = np.argsort(-mass, axis=1, kind="stable")
    index = np.arange(count)
    k_max = min(s, MAX_EXPLANATIONS)
    chosen = np.repeat(order[:, :1], k_max, axis=1)
    n_kept = np.isfinite(mass[index, order[:, 0]]).astype(int)
    with np.errstate(invalid="ignore"):
        lowest = mass[index, order[:, 0]] - NEGLIGIBLE
    for place in range(1, s):
        row = order[:, place]
        own = mass[index, row]
        new = np.isfinite(own) & (own > lowest) & (n_kept < k_max)
        if not new.any():
            continue
        for k in range(int(n_kept.max(initial=0))):
            with_k = np.flatnonzero(new & (k < n_kept))
            if not len(with_k):
                continue
            first = chosen[with_k, k]
            step = z[with_k, row[with_k]] - z[with_k, first]
            r = np.linalg.solve(scale[with_k, first], step[..., None])[..., 0]
            new[with_k[np.einsum("ij,ij->i", r, r) < SAME_OPTIMUM]] = False
        rows = np.flatnonzero(new)
        chosen[rows, n_kept[rows]] = row[rows]
        n_kept[rows] += 1
    k = max(1, int(n_kept.max(initial=1)))
    chosen = chosen[:, :k]
    there = np.arange(k) < n_kept[:, None]
    log_mass = np.where(there, np.take_along_axis(mass, chosen, axis=1), -np.inf)
    return Explanations(
        g,
        z[index[:, None], chosen].reshape(m, n_units, k, b),
        scale[index[:, None], chosen].reshape(m, n_units, k, b, b),
        log_mass.reshape(m, n_units, k),
        ends.log_hubs.reshape(m, s)[:, 0],
    )
