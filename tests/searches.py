"""Searches for modes that run until they are settled."""

from __future__ import annotations

from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of


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
