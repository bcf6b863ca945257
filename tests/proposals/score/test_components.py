"""The mixture that is fitted to draws."""

from __future__ import annotations

import numpy as np

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.score.components import component_counts


def test_the_order_of_chains_does_not_matter_to_the_number_of_parts():
    """Chains stuck in different modes, the later ones in five small modes on a circle."""
    rng = np.random.default_rng(4)
    angle = 2 * np.pi * rng.integers(5, size=20_000) / 5
    circle = 30 + 3 * np.column_stack([np.cos(angle), np.sin(angle)])
    wide, small = rng.standard_normal((20_000, 2)), circle + 0.3 * rng.standard_normal((20_000, 2))
    x = np.stack([wide[:10_000], wide[10_000:], small[:10_000], small[10_000:]])
    fitted = ScoreLangevin.from_draws(x, config=ScoreLangevin(training_steps=0), random_seed=0)
    assert len(fitted.mixture.weights) >= 6


def test_as_many_parts_as_asked_for_may_be_used():
    assert component_counts(30)[-2:] == [24, 30]
    assert component_counts(64)[-1] == 64
    assert component_counts(200)[-3:] == [156, 195, 200]
    assert component_counts(1) == [1]
