"""The explanations of each unit at some hubs: optima of its own log density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
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
    """

    g: np.ndarray
    z: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    log_hubs: np.ndarray

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

    The hubs are joined to a tree of short edges. Two explanations at the ends of an edge are the
    same if a climb from one ends at the other.

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
    m, n_units, k, b = known.z.shape
    if m == 1:
        return known
    root = int(np.argmax(known.log_marginal))
    scaled = known.g / hub_scale
    apart = np.linalg.norm(scaled[:, None] - scaled, axis=-1)
    tree = minimum_spanning_tree(apart + SMALLEST_EDGE)
    order, before = breadth_first_order(tree, root, directed=False)
    child, parent = order[1:], before[order[1:]]
    starts = known.z[parent].swapaxes(1, 2).reshape(-1, n_units, b)
    width = np.linalg.norm(known.scale[parent], axis=-1).swapaxes(1, 2).reshape(starts.shape)
    rows = np.repeat(known.g[child], k, axis=0)
    ends = climb_units(density, units, rows, starts, spread, FEW_STEPS, width)
    followed = ends.z.reshape(len(child), k, n_units, b).swapaxes(1, 2)
    places = np.full((m, n_units, 4 * MAX_EXPLANATIONS), -1)
    places[root, :, :k] = np.where(np.isfinite(known.log_mass[root]), np.arange(k), -1)
    used = (places[root] >= 0).sum(axis=1)
    unit = np.arange(n_units)
    for e, (c, p) in enumerate(zip(child, parent, strict=True)):
        free = np.isfinite(known.log_mass[c])
        for place in range(int(used.max())):
            own = places[p, :, place]
            there = np.flatnonzero(own >= 0)
            if not len(there):
                continue
            end = followed[e, there, own[there]]
            r = np.linalg.solve(
                known.scale[c, there], (known.z[c, there] - end[:, None])[..., None]
            )[..., 0]
            distance = np.where(free[there], np.einsum("ukb,ukb->uk", r, r), np.inf)
            best = np.argmin(distance, axis=1)
            same = distance[np.arange(len(there)), best] < SAME_OPTIMUM
            places[c, there[same], place] = best[same]
            free[there[same], best[same]] = False
        # What no explanation of the parent leads to is new.
        for j in range(k):
            new = np.flatnonzero(free[:, j] & (used < places.shape[2]))
            places[c, new, used[new]] = j
            used[new] += 1
    places = _packed(places)
    row, at = np.arange(m)[:, None, None], np.maximum(places, 0)
    ordered = np.concatenate([[root], np.delete(np.arange(m), root)])
    out = Explanations(
        known.g,
        known.z[row, unit[:, None], at],
        known.scale[row, unit[:, None], at],
        np.where(places >= 0, known.log_mass[row, unit[:, None], at], -np.inf),
        known.log_hubs,
    )
    return out.take(ordered)


def _packed(places: np.ndarray) -> np.ndarray:
    """Let explanations that are nowhere together share a place: (m, N, P) to (m, N, K).

    They may be one explanation that was lost on the way along the tree.
    """
    _, n_units, n_places = places.shape
    there = places >= 0
    order = np.argsort(-there.sum(axis=0), axis=1, kind="stable")
    out = np.full_like(places, -1)
    unit, k = np.arange(n_units), 1
    for rank in range(n_places):
        own = places[:, unit, order[:, rank]]
        left = (own >= 0).any(axis=0)
        for place in range(n_places):
            if not left.any():
                break
            fits = left & ~((own >= 0) & (out[:, :, place] >= 0)).any(axis=0)
            out[:, :, place] = np.where(fits & (own >= 0), own, out[:, :, place])
            left &= ~fits
            k = max(k, place + 1 if fits.any() else 0)
    return out[:, :, :k]
