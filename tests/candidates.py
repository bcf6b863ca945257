"""Fits of exact draws that are challenged."""

from __future__ import annotations

import numpy as np
from densities import exact_local
from regional import bridge_samples
from searches import settled_search

from pymc_multimodal.challenge import FitCandidate
from pymc_multimodal.evidence import estimate
from pymc_multimodal.moves import MoveParameters
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target.target import Target


def candidate_of(target, partition, label, rng, settings=None):
    """A fit to exact draws of each region, as far as `label` gives them to one; and its search."""
    density, settings = target.density(), settings or ModeSearch()
    k, one = partition.n_regions, np.ones(partition.n_regions)
    draws = exact_local(target, label, k, rng, draws=200)
    fitted = Hybrid(families=("gaussian", "mixture")).fit_regions(draws, density.period, rng)
    samples = bridge_samples(density, partition, fitted, [2000] * k, rng)
    search = settled_search(density, settings, np.random.default_rng(6))
    candidate = FitCandidate(
        known=modes_of(density, search, settings),
        partition=partition,
        densities=fitted.densities,
        draws=draws,
        parameters=MoveParameters(
            np.stack([np.eye(target.dim)] * k), one, one.astype(int), 0.75 * one
        ),
        weights=estimate(samples, draws, density),
        target=Target(density),
    )
    return candidate, search
