"""One place for each explanation at all hubs: a catalogue of the explanations of all units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from pymc_multimodal.structure.explanations import FEW_STEPS, Explanations, explain
from pymc_multimodal.structure.following import slopes_of

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["catalogued"]

# Two explanations are one if the log density between them, at these parts of the way, is nowhere
# lower by more than this (nats) than at the lower one: as `ModeSearch.barrier`.
BETWEEN, BARRIER = (0.25, 0.5, 0.75), 1.0
# Share of the probable hubs at which two explanations have a valley between them if they are two,
# and nats below the most probable hubs within which hubs are probable. Conventional.
APART_SHARE, PROBABLE = 0.5, 4.0
# What is added to the squared distance from an explanation that a hub's neighbour does not have.
ABSENT = 1e6
# What is added to the lengths of edges: in a tree, no edge is none.
SMALLEST_EDGE = 1e-12


def catalogued(
    density: Density,
    units: Units,
    known: Explanations,
    hub_scale: np.ndarray,
    spread: np.ndarray,
) -> Explanations:
    """Give each explanation the same place at all hubs.

    The hubs are joined to a tree of short edges, along which explanations are followed. Where most
    of the probable hubs have no valley between two explanations, or only one of them, the two are
    one: they cannot be told apart.

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
    known = known.take(np.argsort(-known.log_marginal, kind="stable"))
    m, n_units, k, _ = known.z.shape
    places = np.where(np.isfinite(known.log_mass), np.arange(k), -1)
    if m > 1:
        scaled = known.g / hub_scale
        apart = np.linalg.norm(scaled[:, None] - scaled, axis=-1)
        tree = minimum_spanning_tree(apart + SMALLEST_EDGE)
        edges = tree.tocoo()
        parent = np.concatenate([edges.row, edges.col])
        child = np.concatenate([edges.col, edges.row])
        known = _completed(density, units, known, parent, child, spread)
    slope, mass_slope = slopes_of(density, units, known, hub_scale)
    if m > 1:
        order, before = breadth_first_order(tree, 0, directed=False)
        places = _matched(known, slope, (before[order[1:]], order[1:]))
    at, row, column = (
        np.maximum(places, 0),
        np.arange(m)[:, None, None],
        np.arange(n_units)[:, None],
    )
    out = Explanations(
        known.g,
        known.z[row, column, at],
        known.scale[row, column, at],
        np.where(places >= 0, known.log_mass[row, column, at], -np.inf),
        known.log_hubs,
        slope=slope[row, column, at],
        mass_slope=mass_slope[row, column, at],
    )
    return replace(out, group=_groups(density, units, out))


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
    width = np.repeat(known.width.swapaxes(1, 2)[:, None], degree + 1, axis=1)
    filled = np.ones(m, dtype=int)
    for p, c in zip(parent, child, strict=True):
        starts[c, filled[c]] = known.z[p].swapaxes(0, 1)
        width[c, filled[c]] = known.width[p].swapaxes(0, 1)
        filled[c] += 1
    shape = (m, (degree + 1) * k, n_units, b)
    return explain(
        density, units, known.g, starts.reshape(shape), spread, FEW_STEPS, width.reshape(shape)
    )


def _matched(
    known: Explanations, slopes: np.ndarray, edges: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Match the explanations at the ends of edges, one to one.

    Parameters
    ----------
    known : Explanations
    slopes : array of shape (m, N, K, b, H)
        Derivatives of their places with respect to the hubs.
    edges : tuple of two arrays of int, shape (m - 1,)
        Parents and children, each parent before its children.

    Returns
    -------
    array of int, shape (m, N, K)
        Explanation that is in each place; -1 where there is none.
    """
    m, n_units, k, _ = known.z.shape
    there = np.isfinite(known.log_mass)
    places = np.full((m, n_units, k), -1)
    places[0] = np.where(there[0], np.arange(k), -1)
    # Where each place was seen last on the way from the first hubs, moved along its slope.
    last, slope = np.repeat(known.z[:1], m, axis=0), np.repeat(slopes[:1], m, axis=0)
    unit = np.arange(n_units)
    for p, c in zip(*edges, strict=True):
        present = places[p] >= 0
        expected = last[p] + slope[p] @ (known.g[c] - known.g[p])
        step = expected[:, :, None] - known.z[c][:, None]
        r = np.linalg.solve(known.scale[c][:, None], step[..., None])[..., 0]
        distance = np.einsum("upjb,upjb->upj", r, r)
        # Explanations that were there come first, others afterwards.
        distance = np.where(present[:, :, None], distance, distance + ABSENT)
        distance = np.where(there[c][:, None], distance, np.inf)
        for _ in range(k):
            flat = distance.reshape(n_units, -1)
            best = np.argmin(flat, axis=1)
            rows = np.flatnonzero(np.isfinite(flat[unit, best]))
            if not len(rows):
                break
            place, j = np.divmod(best[rows], k)
            places[c, rows, place] = j
            distance[rows, place] = np.inf
            distance[rows, :, j] = np.inf
        last[c], slope[c] = expected, slope[p]
        now, own = places[c] >= 0, np.maximum(places[c], 0)
        last[c][now] = known.z[c][unit[:, None], own][now]
        slope[c][now] = slopes[c][unit[:, None], own][now]
    return places


def _groups(density: Density, units: Units, known: Explanations) -> np.ndarray:
    """Find the place that stands for each explanation, shape (N, K)."""
    _, n_units, k, _ = known.z.shape
    there = np.isfinite(known.log_mass)
    value = known.height(units.sizes)
    probable = known.log_marginal > known.log_marginal.max() - PROBABLE
    group = np.tile(np.arange(k), (n_units, 1))
    # The explanation of largest mass is the first of each unit.
    mass = np.where(probable[:, None, None], known.share, 0.0).sum(axis=0)
    order = np.argsort(-mass, axis=1, kind="stable")
    unit = np.arange(n_units)
    for i in range(1, k):
        own = order[:, i]
        for j in range(i):
            other = order[:, j]
            both = there[:, unit, own] & there[:, unit, other]
            lowest = np.full(both.shape, np.inf)
            for t in BETWEEN:
                middle = t * known.z[:, unit, own] + (1 - t) * known.z[:, unit, other]
                terms = units.by_unit(density.terms(units.scatter(known.g, middle)))
                lowest = np.minimum(lowest, terms)
            smaller = np.minimum(value[:, unit, own], value[:, unit, other])
            with np.errstate(invalid="ignore"):
                apart = both & (lowest < smaller - BARRIER)
            share = (apart & probable[:, None]).sum(axis=0) / max(probable.sum(), 1)
            free = group[unit, own] == own
            joined = np.flatnonzero((share < APART_SHARE) & free)
            group[joined, own[joined]] = group[joined, other[joined]]
    return group
