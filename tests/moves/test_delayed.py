"""Moves with delayed rejection leave the density invariant, and free points in stiff tails."""

import numpy as np
import pytest
from densities import Banana, WithoutGradient, z_scores

from pymc_multimodal.moves import MoveParameters, delayed_move, move, state_at
from pymc_multimodal.target.density import Density

CURVED = Banana(noise=0.3)
# A border that many trajectories cross, and trajectories that are unstable in the tails.
PARAMETERS = MoveParameters(
    np.stack([np.eye(2), 1.3 * np.eye(2)]),
    np.array([0.5, 0.4]),
    np.array([3, 4]),
    np.full(2, 0.5),
)


def right(x):
    return (x[:, 0] > 0.4).astype(int)


def features(x):
    tail = np.abs(x[:, 0])
    shares = [x[:, 0] > 0.4, tail > 1.5, tail > 2.2, (x[:, 1] > 2.0) & (x[:, 0] > 0)]
    return np.stack([*shares, x[:, 0], x[:, 0] ** 2, x[:, 1], x[:, 1] ** 2], axis=1).astype(float)


def mean_features(x, moves, rng):
    density = CURVED.density()
    state, total = state_at(density, x, right(x)), 0.0
    for _ in range(moves):
        state, _ = delayed_move(density, state, PARAMETERS, rng, label=right)
        total = total + features(state.x)
    np.testing.assert_array_equal(right(state.x), state.region)
    np.testing.assert_allclose(density.logp(state.x), state.logp)
    return total / moves


def test_the_density_is_left_invariant(rng):
    found = mean_features(CURVED.draws(3_000, rng), 25, rng)
    expected = features(CURVED.draws(1_000_000, rng)).mean(axis=0)
    assert np.abs(z_scores(found, expected)).max() < 4


def test_without_the_reverse_rejection_that_bias_would_be_seen(rng):
    """What the test above has to be able to see: a second try like a fresh Metropolis move."""
    density, x = CURVED.density(), CURVED.draws(3_000, rng)
    state, total = state_at(density, x, right(x)), 0.0
    fine = MoveParameters(PARAMETERS.scale, PARAMETERS.step_size / 4, 4 * PARAMETERS.leapfrog,
                          PARAMETERS.shortest)  # fmt: skip
    for _ in range(25):
        state, info = move(density, state, PARAMETERS, rng, label=right)
        again, _ = move(density, state, fine, rng, label=right)
        rows = ~info.accepted & (info.probability < 0.5)
        state = state.put(again.take(rows), rows)
        total = total + features(state.x)
    expected = features(CURVED.draws(1_000_000, rng)).mean(axis=0)
    assert np.abs(z_scores(total / 25, expected)).max() > 6


def test_points_of_a_stiff_tail_leave_it(rng):
    """At (3, 8) the density is 36 times as stiff as at its mode."""
    density = CURVED.density()
    parameters = MoveParameters(np.eye(2)[None], np.array([0.5]), np.array([3]), np.ones(1))
    tail = np.tile([3.0, 8.0], (200, 1))
    left = []
    for how in (move, delayed_move):
        state = state_at(density, tail, np.zeros(200, dtype=int))
        for _ in range(15):
            state, _ = how(density, state, parameters, rng, label=None)
        left.append(np.mean(np.abs(state.x[:, 0]) < 2.0))
    # Hardly one plain trajectory is accepted, and 0.3 of the points leave with finer steps.
    assert left[0] < 0.05
    assert left[1] > 0.2


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
def test_where_no_trajectory_fails_it_is_the_plain_move(gradient, rng):
    target = CURVED if gradient else WithoutGradient(CURVED)
    density = Density(target, 2, has_gradient=gradient)
    parameters = MoveParameters(np.eye(2)[None], np.array([0.01]), np.array([3]), np.ones(1))
    x = CURVED.draws(50, rng)
    ends = []
    for how in (move, delayed_move):
        state = state_at(density, x, np.zeros(50, dtype=int))
        ends.append(how(density, state, parameters, np.random.default_rng(1), label=None)[0].x)
    np.testing.assert_array_equal(*ends)
