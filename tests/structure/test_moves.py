"""The move of units and hubs leaves the target invariant."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.kernel import Kernel, init, propose, step
from pymc_multimodal.proposals import EllipticalMixture, RegionalMixture
from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.status import FitError
from pymc_multimodal.structure import (
    ClusterPartition,
    UnitGenerator,
    UnitMixtures,
    UnitMove,
    UnitProposals,
    explain_hubs,
)
from pymc_multimodal.target import Target, chosen_units
from tests.unit_targets import draws_of_pairs, pairs


def kernel_of(density, points, rng, wide=1.0):
    """Return a kernel with crude proposals: a wide one of the hub, and few points of each unit.

    The wide component of the units' mixtures is `wide` times as wide as the prior.
    """
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    found = explain_hubs(density, units, starts, rng)
    centre = units.gather(starts.centre[None])[0]
    mixtures = UnitMixtures.at_anchors(
        found.anchors, found.hub_scale, centre, wide * found.spread, units.inside
    )
    proposals = UnitProposals(units, mixtures, found.spread, points)
    hubs = None
    if len(units.hubs):
        wide = EllipticalMixture.single(
            np.full(1, 0.3), np.full((1, 1), 1.5), 5.0, np.full(1, np.inf), np.zeros(1)
        )
        hubs = RegionalMixture([wide], np.ones(1))
    generator = UnitGenerator(hubs, proposals)
    partition = ClusterPartition(None)
    move = UnitMove(partition, generator, 0 if hubs is None else 2)
    return Kernel(partition, generator, (move,), (1,))


@pytest.mark.parametrize(("hub", "size", "points"), [(True, 1, 2), (True, 2, 6), (False, 1, 3)])
def test_exact_draws_stay_exact(hub, size, points, rng):
    density = pairs(n_units=6, size=size, hub=hub)
    kernel, target = kernel_of(density, points, rng), Target(density)
    n = 4000
    x = draws_of_pairs(n, rng, n_units=6, size=size, hub=hub)
    state = init(target, kernel, x, rng)
    for draw in range(3):
        state, accepted = step(target, kernel, state, propose(target, kernel, 0, rng), rng, draw)
    assert accepted.mean() > 0.2
    exact = draws_of_pairs(n, rng, n_units=6, size=size, hub=hub)
    first = int(hub)
    values = [
        np.concatenate([v, v**2, v[:, first:] > 0, v[:, first:-1] * v[:, first + 1 :]], axis=1)
        for v in (state.points.x, exact)
    ]
    means = [v.mean(axis=0) for v in values]
    error = np.sqrt(sum(v.var(axis=0) for v in values) / n)
    z = (means[0] - means[1]) / error
    assert np.abs(z).max() < 4.5
    assert np.sqrt(np.mean(z**2)) < 1.5
    assert (state.points.x != x).any(axis=1).mean() > 0.9


def test_chains_without_hubs_leave_the_points_of_a_lattice(rng):
    """Points beside the present one lay on its lattice at every draw: a chain saw m of them."""
    points, n, draws = 8, 20, 200
    density = pairs(n_units=3, hub=False)
    # With a component that is too wide to be chosen, all points came from a single lattice.
    kernel, target = kernel_of(density, points, rng, wide=50.0), Target(density)
    state = init(target, kernel, draws_of_pairs(n, rng, n_units=3, hub=False), rng)
    x = np.empty((draws, n, 3))
    for draw in range(draws):
        state, _ = step(target, kernel, state, propose(target, kernel, 0, rng), rng, draw)
        x[draw] = state.points.x
    different = [len(np.unique(x[:, c, j])) for c in range(n) for j in range(3)]
    assert min(different) > draws / 2
    # Means of chains differ as those of independent draws do, times their autocorrelation.
    exact = draws_of_pairs(20_000, rng, n_units=3, hub=False)
    upper = (x > 0).mean(axis=0)
    se = np.sqrt(0.25 / draws)
    assert np.sqrt(np.mean((upper - (exact > 0).mean(axis=0)) ** 2)) < 2.5 * se


def test_the_generator_is_normalised(rng):
    density = pairs(n_units=3, hub=False)
    generator = kernel_of(density, 2, rng).generator
    drawn = generator.propose(4000, rng)
    # The mean of p / q over draws of q is one for any density p.
    ratio = np.exp(density.logp(drawn.x) + drawn.minus_log_q)
    assert ratio.mean() == pytest.approx(1.0, abs=5 * ratio.std() / np.sqrt(len(ratio)))
    assert generator.generate(7, rng).shape == (7, 3)


def test_a_coupling_that_the_terms_do_not_tell_is_an_error(rng):
    density = pairs(n_units=5, coupled=0.3)
    kernel, target = kernel_of(density, 4, rng), Target(density)
    state = init(target, kernel, draws_of_pairs(50, rng, n_units=5), rng)
    with pytest.raises(FitError, match="units depend on one another"):
        step(target, kernel, state, propose(target, kernel, 0, rng), rng)
