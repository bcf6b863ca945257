"""Searches for modes that run until they are settled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from densities import Mixture

from pymc_multimodal.search import ModeSearch, OptimumSet, begin_search, find_modes, modes_of
from pymc_multimodal.search.merging import group_by_saddles


def settled_search(density, settings, rng, symmetry=False):
    """The search after its last batch."""
    search = begin_search(density, settings, symmetry, rng)
    while not search.settled:
        search = find_modes(density, search, settings, rng)
    return search


def modes_found(density, rng, **settings):
    """The modes of a settled search with some settings, without symmetry."""
    settings = ModeSearch(**settings)
    return modes_of(density, settled_search(density, settings, rng), settings)


def five_modes():
    means = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 6], [-5, -5, -5]], float)
    sizes = [1.0, 0.5, 0.3, 1.5, 0.8]
    covariances = [s * (np.eye(3) + 0.3 * (1 - np.eye(3))) for s in sizes]
    return Mixture(means, covariances, [0.1, 0.3, 0.2, 0.25, 0.15])


def match(locations, expected):
    """Index of the location nearest to each expected one, and the largest distance."""
    distance = np.linalg.norm(locations[None] - expected[:, None], axis=2)
    return distance.argmin(axis=1), distance.min(axis=1).max()


def optima_at(points, logp, widths=1.0, symmetry=None):
    """Optima with round normal approximations."""
    optima = OptimumSet.empty(np.full(2, 10.0), symmetry)
    widths = np.broadcast_to(widths, len(points))
    for x, height, width in zip(points, logp, widths, strict=True):
        optima = optima.add(np.array(x), height, np.eye(2) / width**2)
    return optima


def joined(optima, pairs, saddles, barrier=1.0):
    """The optima in groups, by saddles between pairs of them."""
    group = group_by_saddles(optima, np.array(pairs), np.array(saddles), barrier)
    return replace(optima, group=group)
