"""The default generator: the regions' densities mixed by weight; names of generators."""

from __future__ import annotations

import numpy as np
import pytest
from densities import HalfSpace, assert_covers, exact_local, two_modes

from pymc_multimodal.proposals import (
    LRDS,
    EllipticalMixture,
    Hybrid,
    PublishedHybrid,
    RegionalMixture,
    ScoreLangevin,
    resolve,
)

LINE = np.full(2, np.inf)


def test_hybrid_covers_what_it_was_fitted_to(rng):
    target = two_modes(log_z=0.0)
    halves = HalfSpace()
    local = exact_local(target, halves.label, 2, rng)
    config = Hybrid()
    fitted = config.fit_regions(local, LINE, rng)
    q = config.build(fitted, local, target.weights, rng)
    assert_covers(target, lambda n, rng: q.propose(n, rng).x, lambda x: -q.minus_log_q(x, rng), rng)


def test_weights_of_a_mixture_have_a_floor():
    one = EllipticalMixture.single(np.zeros(2), np.eye(2), np.inf, LINE, np.zeros(2))
    parts = (one, one, one)
    q = RegionalMixture(parts, np.array([1.0, 0.0, np.nan]))
    assert np.isclose(q.weights.sum(), 1.0)
    assert np.all(q.weights > 1e-4)


def test_names_are_resolved():
    assert resolve("hybrid") == Hybrid()
    assert resolve("published") == PublishedHybrid()
    assert resolve("score") == ScoreLangevin()
    config = Hybrid(max_components=3)
    assert resolve(config) is config
    assert resolve("lrds") == LRDS()
    with pytest.raises(ValueError, match="generator='magic' is not known"):
        resolve("magic")
