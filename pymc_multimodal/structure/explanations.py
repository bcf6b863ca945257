"""The explanations of each unit at some hubs: optima of its own log density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.special import logsumexp

from pymc_multimodal.structure.climbs import climb_units

if TYPE_CHECKING:
    from pymc_multimodal.structure.climbs import UnitPoints
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["FEW_STEPS", "STEPS", "Explanations", "catalogued", "explain"]

# Most explanations of a unit: a bound on the cost. Conventional.
MAX_EXPLANATIONS = 12
# Squared distance within which two ends of climbs are one optimum, in standard deviations of the
# first. Conventional: climbs end within a hundredth of one.
SAME_OPTIMUM = 0.1
# Mass below which an explanation is left out, relative to the unit's largest, in nats.
# Conventional: a wide density covers what is left out.
NEGLIGIBLE = 10.0
# Two explanations are one if the log density between them, at these parts of the way, is nowhere
# lower by more than this (nats) than at the lower one: as `ModeSearch.barrier`.
BETWEEN, BARRIER = (0.25, 0.5, 0.75), 1.0
# What is added to the lengths of edges: in a tree, no edge is none.
SMALLEST_EDGE = 1e-12
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
    """

    g: np.ndarray
    z: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    log_hubs: np.ndarray
    group: np.ndarray | None = None

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


def catalogued(
    density: Density,
    units: Units,
    known: Explanations,
    hub_scale: np.ndarray,
    spread: np.ndarray,
) -> Explanations:
    """Give each explanation the same place at all hubs.

    The hubs are joined to a tree of short edges, along which explanations are followed in both
    directions. Explanations that one can be followed to from another, or between which there is no
    valley at some hubs, are one: they cannot be told apart.

    Parameters
    ----------
    density : Density
    units : Units
    known : Explanations
        At m values of the hubs.
    hub_scale : array of shape (H,)
        Unit of length of the hubs.
    spread : array of shape (N, b)

    Returns
    -------
    Explanations
        The hubs of the largest marginal density first.
    """
    m = len(known)
    order = np.argsort(-known.log_marginal, kind="stable")
    known = known.take(order)
    parent = child = np.zeros(0, dtype=int)
    if m > 1:
        scaled = known.g / hub_scale
        apart = np.linalg.norm(scaled[:, None] - scaled, axis=-1)
        tree = minimum_spanning_tree(apart + SMALLEST_EDGE).tocoo()
        parent, child = (
            np.concatenate(pair) for pair in ((tree.row, tree.col), (tree.col, tree.row))
        )
        known = _completed(density, units, known, parent, child, spread)
    pairs = _without_valley(density, units, known)
    if m > 1:
        pairs = np.concatenate([pairs, _followed(density, units, known, (parent, child), spread)])
    _, n_units, k, _ = known.z.shape
    size = m * n_units * k
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(size, size))
    _, label = connected_components(links, directed=False)
    return _placed(known, label.reshape(m, n_units, k))


def _completed(
    density: Density,
    units: Units,
    known: Explanations,
    parent: np.ndarray,
    child: np.ndarray,
    spread: np.ndarray,
) -> Explanations:
    """Climb at all hubs from the explanations at their neighbours in the tree, too."""
    m, n_units, k, b = known.z.shape
    degree = np.bincount(child, minlength=m).max()
    starts = np.repeat(known.z.swapaxes(1, 2)[:, None], degree + 1, axis=1)
    width = np.repeat(np.linalg.norm(known.scale, axis=-1).swapaxes(1, 2)[:, None], degree + 1, 1)
    filled = np.ones(m, dtype=int)
    for p, c in zip(parent, child, strict=True):
        starts[c, filled[c]] = known.z[p].swapaxes(0, 1)
        width[c, filled[c]] = np.linalg.norm(known.scale[p], axis=-1).swapaxes(0, 1)
        filled[c] += 1
    shape = (m, (degree + 1) * k, n_units, b)
    return explain(
        density, units, known.g, starts.reshape(shape), spread, FEW_STEPS, width.reshape(shape)
    )


def _without_valley(density: Density, units: Units, known: Explanations) -> np.ndarray:
    """Find pairs of explanations at the same hubs without a valley between, shape (p, 2)."""
    m, n_units, k, _ = known.z.shape
    value = known.log_mass - np.log(np.diagonal(known.scale, axis1=-2, axis2=-1)).sum(axis=-1)
    value -= 0.5 * units.sizes[:, None] * np.log(2 * np.pi)
    node = np.arange(m * n_units * k).reshape(m, n_units, k)
    out = [np.zeros((0, 2), dtype=int)]
    for i in range(k):
        for j in range(i):
            there = np.isfinite(known.log_mass[:, :, i]) & np.isfinite(known.log_mass[:, :, j])
            if not there.any():
                continue
            lowest = np.full((m, n_units), np.inf)
            for t in BETWEEN:
                middle = t * known.z[:, :, i] + (1 - t) * known.z[:, :, j]
                terms = units.by_unit(density.terms(units.scatter(known.g, middle)))
                lowest = np.minimum(lowest, terms)
            smaller = np.minimum(value[:, :, i], value[:, :, j])
            flat = there & (lowest > smaller - BARRIER)
            out.append(np.stack([node[:, :, i][flat], node[:, :, j][flat]], axis=1))
    return np.concatenate(out)


def _followed(
    density: Density,
    units: Units,
    known: Explanations,
    edges: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
) -> np.ndarray:
    """Find pairs of explanations at two hubs of which one leads to the other, shape (p, 2)."""
    parent, child = edges
    m, n_units, k, b = known.z.shape
    starts = known.z[parent].swapaxes(1, 2).reshape(-1, n_units, b)
    width = np.linalg.norm(known.scale[parent], axis=-1).swapaxes(1, 2).reshape(starts.shape)
    rows = np.repeat(known.g[child], k, axis=0)
    ends = climb_units(density, units, rows, starts, spread, FEW_STEPS, width)
    followed = ends.z.reshape(len(child), k, n_units, b).swapaxes(1, 2)
    node = np.arange(m * n_units * k).reshape(m, n_units, k)
    out = []
    free = np.isfinite(known.log_mass[child])
    unit = np.arange(n_units)
    for place in range(k):
        step = known.z[child] - followed[:, :, place, None]
        r = np.linalg.solve(known.scale[child], step[..., None])[..., 0]
        distance = np.where(free, np.einsum("eukb,eukb->euk", r, r), np.inf)
        best = np.argmin(distance, axis=2)
        near = np.take_along_axis(distance, best[..., None], axis=2)[..., 0] < SAME_OPTIMUM
        near &= np.isfinite(known.log_mass[parent][:, :, place])
        end = node[child[:, None], unit, best]
        out.append(np.stack([node[parent][:, :, place][near], end[near]], axis=1))
    return np.concatenate(out)


def _placed(known: Explanations, label: np.ndarray) -> Explanations:
    """Put the explanations of one label, (m, N, k), into the same places at all hubs.

    A label has several places where several of its explanations are at the same hubs.
    """
    m, n_units = label.shape[:2]
    there = np.isfinite(known.log_mass)
    share = known.share
    places: list[dict[tuple[int, int], int]] = []
    rows = []
    for unit in range(n_units):
        mass: dict[int, float] = {}
        for a, j in zip(*np.nonzero(there[:, unit]), strict=True):
            mass[label[a, unit, j]] = mass.get(label[a, unit, j], 0.0) + share[a, unit, j]
        heavy = sorted(mass, key=lambda c: -mass[c])
        of: dict[tuple[int, int], int] = {}
        for c in heavy:
            count = int((there[:, unit] & (label[:, unit] == c)).sum(axis=1).max())
            for i in range(count):
                if len(of) < MAX_EXPLANATIONS:
                    of[c, i] = len(of)
        places.append(of)
        seen: dict[tuple[int, int], int] = {}
        for a, j in zip(*np.nonzero(there[:, unit]), strict=True):
            c = label[a, unit, j]
            i = seen.get((a, c), 0)
            seen[a, c] = i + 1
            if (c, i) in of:
                rows.append((a, unit, of[c, i], j))
    n_places = max(max((len(of) for of in places), default=1), 1)
    chosen = np.full((m, n_units, n_places), -1)
    if rows:
        a, u, place, j = np.array(rows).T
        chosen[a, u, place] = j
    group = np.tile(np.arange(n_places), (n_units, 1))
    for unit, of in enumerate(places):
        for (c, i), place in of.items():
            group[unit, place] = of[c, 0] if i else place
    at = np.maximum(chosen, 0)
    row, column = np.arange(m)[:, None, None], np.arange(n_units)[:, None]
    return Explanations(
        known.g,
        known.z[row, column, at],
        known.scale[row, column, at],
        np.where(chosen >= 0, known.log_mass[row, column, at], -np.inf),
        known.log_hubs,
        group,
    )
