"""The kernel leaves the posterior exactly invariant, however poor what was learned is.

Chains begin as exact draws, so that their law has to stay what it was at every step. Chains are
independent of each other: standard errors are those of the chains' own averages.
"""

from __future__ import annotations

import numpy as np
import pytest
from densities import HalfSpace, Mixture, VonMises, gaussian, moments, z_scores

from pymc_multimodal.kernel import (
    Jump,
    chain_draws,
    choose_jumps,
    draws_ahead,
    init,
    make_kernel,
    propose,
    rows,
    step,
)
from pymc_multimodal.moves.local import MoveParameters, move, state_at
from pymc_multimodal.proposals import EllipticalMixture, RegionalMixture
from pymc_multimodal.proposals.elliptical import defensive_mixture
from pymc_multimodal.target.target import Target

LINE = np.full(2, np.inf)


def part(mean, size, *, period=LINE, defence=True):
    mean = np.asarray(mean, dtype=float)
    narrow = EllipticalMixture.single(mean, size * np.eye(2), np.inf, period, mean)
    return defensive_mixture(narrow, 0.2, 4.0, width=4.0) if defence else narrow


def tuning(sizes, leapfrog=1):
    k = len(sizes)
    scale = np.asarray(sizes, float)[:, None, None] * np.eye(2)
    return MoveParameters(scale, np.full(k, 1.0), np.full(k, leapfrog), np.full(k, 0.5))


def averages(density, kernel, x, functions, steps, rng):
    """Average of functions over the steps of each chain, and the mean acceptance."""
    state = init(Target(density), kernel, x, rng)
    total, accepted = 0.0, []
    for _ in range(steps):
        proposed = propose(Target(density), kernel, len(x) * kernel.jumps, rng)
        state, share = step(Target(density), kernel, state, proposed, rng)
        total = total + functions(state.points.x)
        accepted.append(share.mean())
    np.testing.assert_array_equal(kernel.partition.label(state.points.x), state.points.region)
    np.testing.assert_array_equal(density.logp(state.points.x), state.points.logp)
    np.testing.assert_allclose(kernel.generator.minus_log_q(state.points.x, rng), state.minus_log_q)
    return total / steps, np.mean(accepted)


TARGET = Mixture(
    [[-2.5, 0.0], [2.0, 1.0]], [[[1.0, 0.6], [0.6, 1.0]], 0.2 * np.eye(2)], [0.35, 0.65], 4.0
)


def features(x):
    """Mode indicators at two borders, and moments."""
    left = (x[:, :1] < 0.0).astype(float)
    return np.concatenate([left, (x[:, :1] < 1.8).astype(float), moments(x)], axis=1)


@pytest.mark.parametrize("jumps", [1, 3])
@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
def test_a_wrong_generator_does_not_bias_the_draws(jumps, gradient, rng):
    """Wrong weights, means off by more than their width, too narrow."""
    generator = RegionalMixture(
        (part([-1.5, 0.8], 0.5), part([2.6, 0.4], 0.3)), np.array([0.9, 0.1])
    )
    density = TARGET.density(gradient=gradient)
    kernel = make_kernel(HalfSpace(0.4), tuning([1.4, 0.6]), generator, attempts=jumps)
    x = TARGET.draws(1_500, rng)
    found, accepted = averages(density, kernel, x, features, 40, rng)
    expected = features(TARGET.draws(1_000_000, rng)).mean(axis=0)
    assert 0.03 < accepted < 0.6, "jumps must happen, and be refused, for the test to see anything"
    # The standard error of the expectation is a tenth of the chains'; seven quantities.
    assert np.abs(z_scores(found, expected)).max() < 4


def test_a_wrong_generator_does_not_bias_the_draws_on_a_circle(rng):
    target = VonMises([np.pi, 0.5], [2.0, 6.0], [0.6, 0.4])
    period = np.array([2 * np.pi, np.inf])
    generator = RegionalMixture(
        (part([2.7, 0.5], 0.5, period=period), part([0.0, -0.5], 0.3, period=period)),
        np.array([0.3, 0.7]),
    )

    class Arc(HalfSpace):
        def label(self, x):
            return (np.cos(x[:, 0] - 3.0) < 0.1).astype(int)

    def periodic(x):
        c, s, y = np.cos(x[:, 0]), np.sin(x[:, 0]), x[:, 1]
        return np.stack([c, s, c * s, y, y**2, Arc().label(x)], axis=1)

    density = target.density()
    kernel = make_kernel(Arc(), tuning([1.0, 0.5], leapfrog=3), generator)
    found, accepted = averages(density, kernel, target.draws(1_500, rng), periodic, 40, rng)
    expected = periodic(target.draws(1_000_000, rng)).mean(axis=0)
    assert 0.03 < accepted < 0.8
    assert np.abs(z_scores(found, expected)).max() < 4


METRICS = (0.15, 3.0)


def test_metrics_that_differ_between_regions_do_not_bias_the_draws(rng):
    """Regression: two halves of one Gaussian with very different metrics; each holds 0.50.

    A prototype that let local moves cross the border, without the other region's metric in the
    reverse density, gave 0.65 for one of the halves.
    """
    target = gaussian(np.zeros(2), np.eye(2))
    density, partition = target.density(), HalfSpace()
    # A generator that rarely succeeds leaves the work to the local moves.
    generator = RegionalMixture((part([0.0, 0.0], 6.0),), np.ones(1))
    kernel = make_kernel(partition, tuning(METRICS), generator)

    def functions(x):
        return np.concatenate([(x[:, :1] > 0).astype(float), moments(x)], axis=1)

    found, _ = averages(density, kernel, target.draws(1_500, rng), functions, 60, rng)
    assert np.abs(z_scores(found, [0.5, 0, 0, 1, 0, 1])).max() < 4


def test_without_confinement_that_bias_would_be_seen(rng):
    """The same halves with moves that may cross: what the test above has to be able to see."""
    target = gaussian(np.zeros(2), np.eye(2))
    density, partition = target.density(), HalfSpace()
    x, total = target.draws(1_500, rng), 0.0
    for _ in range(60):
        cloud = state_at(density, x, partition.label(x))
        x = move(density, cloud, tuning(METRICS), rng, label=None)[0].x
        total = total + (x[:, :1] > 0)
    assert abs(z_scores(total / 60, 0.5)[0]) > 8


def test_proposals_outside_the_window_are_refused(rng):
    target = VonMises([0.0], [1.0], [1.0])
    period = np.array([2 * np.pi, np.inf])
    generator = RegionalMixture((part([0.0, 0.0], 4.0, period=period),), np.ones(1))
    density = target.density()
    kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0]), generator)
    proposed = propose(Target(density), kernel, 500, rng)
    outside = ~np.isfinite(proposed.points.logp)
    assert 50 < outside.sum() < 450
    # Refused draws cost no evaluation.
    assert density.n_logp_evals == 500 - outside.sum()
    state = init(Target(density), kernel, target.draws(500, rng), rng)
    _, share = Jump()(Target(density), state, proposed, rng)
    accepted = share > 0
    assert not accepted[outside].any()
    assert accepted[~outside].any()


def test_a_perfect_generator_is_always_accepted(rng):
    target = gaussian([1.0, -1.0], 4.0 * np.eye(2), log_z=5.0)
    density = target.density()
    generator = RegionalMixture((part([1.0, -1.0], 2.0, defence=False),), np.ones(1))
    kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0]), generator)
    state = init(Target(density), kernel, target.draws(200, rng), rng)
    np.testing.assert_allclose(state.log_ratio, 5.0)
    proposed = propose(Target(density), kernel, 200, rng)
    moved, share = Jump()(Target(density), state, proposed, rng)
    accepted = share > 0
    assert accepted.mean() > 0.99  # rounding alone may refuse
    np.testing.assert_array_equal(moved.points.x[accepted], proposed.points.x[accepted])


def test_each_proposal_serves_one_chain(rng):
    density = TARGET.density()
    generator = RegionalMixture((part([0.0, 0.0], 3.0),), np.ones(1))
    kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0]), generator, attempts=2)
    n = 300
    state = init(Target(density), kernel, TARGET.draws(n, rng), rng)
    proposed = propose(Target(density), kernel, 2 * n, rng)
    assert len(np.unique(proposed.points.x, axis=0)) == 2 * n
    for i in range(2):
        offered = rows(proposed, slice(i * n, (i + 1) * n))
        before = state
        state, share = Jump()(Target(density), state, offered, rng)
        accepted = share > 0
        source = np.where(accepted[:, None], offered.points.x, before.points.x)
        np.testing.assert_array_equal(state.points.x, source)


def test_the_same_seed_repeats_the_chains():
    ends = []
    for _ in range(2):
        rng = np.random.default_rng(4)
        density = TARGET.density()
        generator = RegionalMixture((part([0.0, 0.0], 3.0),), np.ones(1))
        kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0]), generator)
        state = init(Target(density), kernel, TARGET.draws(20, rng), rng)
        for _ in range(5):
            proposed = propose(Target(density), kernel, 20, rng)
            state, _ = step(Target(density), kernel, state, proposed, rng)
        ends.append(state.points.x)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("every", [1, 4])
def test_draws_made_at_once_are_those_made_one_by_one(attempts, every, rng):
    generator = RegionalMixture((part([-2.5, 0.0], 0.8), part([2.0, 1.0], 0.4)), np.full(2, 0.5))
    kernel = make_kernel(
        HalfSpace(0.4), tuning([1.4, 0.6]), generator, attempts=attempts, local_every=every
    )
    target, n, first = Target(TARGET.density()), 23, 6
    start = init(target, kernel, TARGET.draws(1, rng), rng)
    offered = propose(target, kernel, n * attempts, rng)
    together, shares = chain_draws(target, kernel, start, offered, np.random.default_rng(3), first)
    state, same = start, np.random.default_rng(3)
    for i in range(n):
        mine = rows(offered, slice(i * attempts, (i + 1) * attempts))
        state, share = step(target, kernel, state, mine, same, first + i)
        row = rows(together, slice(i, i + 1))
        np.testing.assert_array_equal(row.points.x, state.points.x)
        np.testing.assert_array_equal(row.points.grad, state.points.grad)
        np.testing.assert_array_equal(row.points.region, state.points.region)
        np.testing.assert_array_equal(row.log_ratio, state.log_ratio)
        np.testing.assert_array_equal(shares[i : i + 1], share)
    assert 0 < shares.mean() < 1


def test_draws_ahead_need_one_move_other_than_jumps():
    generator = RegionalMixture((part([0.0, 0.0], 0.8),), np.ones(1))
    kernel = make_kernel(HalfSpace(0.4), tuning([1.4, 0.6]), generator, local_every=4)
    assert [draws_ahead(kernel, draw, 64) for draw in range(6)] == [4, 3, 2, 1, 4, 3]
    assert draws_ahead(kernel, 0, 2) == 2
    often = make_kernel(HalfSpace(0.4), tuning([1.4, 0.6]), generator)
    assert draws_ahead(often, 0, 64) == 1


def test_moves_come_in_a_fixed_rhythm(rng):
    """With a generator that is never accepted, positions change with every third draw only."""
    density = TARGET.density()
    generator = RegionalMixture((part([500.0, 0.0], 0.1, defence=False),), np.ones(1))
    kernel = make_kernel(HalfSpace(), tuning([0.1, 0.1]), generator, local_every=3)
    target, n = Target(density), 50
    state = init(target, kernel, TARGET.draws(n, rng), rng)
    changed = []
    for draw in range(7):
        before = state
        state, _ = step(target, kernel, state, propose(target, kernel, n, rng), rng, draw)
        changed.append(not np.array_equal(state.points.x, before.points.x))
    assert changed == [True, False, False, True, False, False, True]


def test_regions_of_a_kernel_are_renumbered_together(rng):
    kernel = make_kernel(
        HalfSpace(), tuning([1.0, 0.2]), RegionalMixture((part([0, 0], 1.0),), [1.0])
    )
    order = np.array([1, 0])
    moved = kernel.take(order)
    x = rng.standard_normal((30, 2))
    np.testing.assert_array_equal(order[moved.partition.label(x)], kernel.partition.label(x))
    scales = [k.moves[1].parameters.scale for k in (kernel, moved)]
    np.testing.assert_array_equal(scales[1], scales[0][order])


@pytest.mark.parametrize(("acceptance", "jumps"), [(0.001, 16), (0.1, 14), (0.5, 2), (0.9, 1)])
def test_as_many_jumps_as_leave_a_quarter_of_repeats(acceptance, jumps):
    kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0], leapfrog=20), RegionalMixture(
        (part([0, 0], 1.0),), [1.0]))  # fmt: skip
    chosen = choose_jumps(kernel, acceptance)
    assert chosen.jumps == jumps
    assert jumps == 16 or (1 - acceptance) ** jumps <= 0.25
    assert chosen.every[1] == {0.001: 1, 0.1: 1, 0.5: 5, 0.9: 8}[acceptance]
    # Points of local moves are evaluated one after the other.
    dear = choose_jumps(kernel, acceptance, dear=True)
    assert dear.jumps == jumps
    assert dear.every[1] == {0.001: 1, 0.1: 1, 0.5: 5, 0.9: 32}[acceptance]


def test_a_few_places_that_hold_chains_long_ask_for_more_jumps():
    """Mean acceptance 0.88 asks for one jump; a hundredth of the draws stays for 500 jumps."""
    kernel = make_kernel(HalfSpace(), tuning([1.0, 1.0], leapfrog=20), RegionalMixture(
        (part([0, 0], 1.0),), [1.0]))  # fmt: skip
    acceptance = np.full(100, 0.89)
    assert choose_jumps(kernel, acceptance).jumps == 1
    acceptance[0] = 0.002
    chosen = choose_jumps(kernel, acceptance)
    # The mean stay is 0.99 / 0.89 + 0.01 * 500 = 6.1 jumps: two draws.
    assert chosen.jumps == 4
    assert chosen.every[1] == 1
