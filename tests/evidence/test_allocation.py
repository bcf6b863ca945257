"""Draws or proposals are added where they lower an error that is too large."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.evidence import Weights, plan, required_share

DRAWS, PROPOSALS = np.array([100, 200]), np.array([1_000, 2_000])
NONE, FIRST, SECOND = [False, False], [True, False], [False, True]


def weights(from_draws, from_proposals, weight=(0.4, 0.6)):
    nothing = np.zeros(2)
    return Weights(
        weight=np.array(weight),
        weight_se=nothing,
        log_evidence=nothing,
        log_evidence_se=nothing,
        interval=np.zeros((2, 2)),
        total=0.0,
        total_se=0.0,
        pareto_k=nothing,
        from_draws=np.array(from_draws),
        from_proposals=np.array(from_proposals),
        bounds=np.tile([-np.inf, np.inf], (2, 1)),
        iterations=(nothing, nothing),
    )


@pytest.mark.parametrize(
    ("from_draws", "from_proposals", "draws", "proposals"),
    [
        # Precise enough.
        ((1e-6, 1e-6), (1e-6, 1e-6), NONE, NONE),
        # One region is uncertain by its draws, or by its proposals, or by both alike.
        ((0.1, 1e-6), (1e-3, 1e-6), FIRST, NONE),
        ((1e-3, 1e-6), (0.1, 1e-6), NONE, FIRST),
        ((0.1, 1e-6), (0.1, 1e-6), FIRST, FIRST),
        # Both are.
        ((0.1, 0.001), (0.001, 0.1), FIRST, SECOND),
    ],
)
def test_what_rules_the_error_gets_more(from_draws, from_proposals, draws, proposals):
    found = plan(weights(from_draws, from_proposals), DRAWS, PROPOSALS, 0.01, 10_000)
    np.testing.assert_array_equal(found, [draws, proposals])


def test_nothing_is_added_beyond_the_limits():
    both = weights((0.1, 0.1), (0.1, 0.1))
    draws, proposals = plan(both, np.array([100, 400]), np.array([64_000, 1_000]), 0.01, 400)
    assert draws.tolist() == FIRST
    assert proposals.tolist() == SECOND


def test_chains_need_fewer_draws_where_less_depends_on_them():
    np.testing.assert_allclose(required_share(np.array([0.5, 0.5]), 0.01), 1.0)
    # A region of small weight, and weights of which less is asked.
    assert required_share(np.array([0.9, 0.1]), 0.01)[1] == 0.25
    assert (required_share(np.array([0.5, 0.5]), 0.03) == 0.25).all()
    # One region has no weight, and an evidence.
    assert required_share(np.ones(1), 0.01)[0] == 1.0
    assert 0.25 < required_share(np.ones(1), 0.03)[0] < 1.0
    every = [required_share(np.array([w, 1 - w]), 0.01)[0] for w in np.linspace(0.01, 0.99, 50)]
    assert (np.diff(every) >= -1e-12).all()
