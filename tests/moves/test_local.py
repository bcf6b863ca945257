"""Moves leave the density restricted to each region exactly invariant.

Points begin as exact draws and move many times; afterwards their moments must be those of fresh
exact draws. Each point is independent of the others, so the standard error of the comparison
needs no autocorrelation time. A 5 is used where some ten moments are compared at once.
"""

from __future__ import annotations

import numpy as np
import pytest
from densities import Banana, HalfSpace, Mixture, StudentT, VonMises, moments, two_sample_z

from pymc_multimodal.moves import MoveParameters, move, state_at
from pymc_multimodal.target.density import Density

POINTS = 8_000


def parameters(*regions):
    """(factor, step size, leapfrog steps) of each region, with varied step sizes."""
    factors, steps, leapfrog = zip(*regions, strict=True)
    return MoveParameters(
        np.array(factors, float),
        np.array(steps, float),
        np.array(leapfrog),
        np.full(len(steps), 0.4),
    )


def run(density, x, partition, tuned, rng, moves, **kwargs):
    label = partition.label if partition else None
    region = partition.label(x) if partition else np.zeros(len(x), dtype=int)
    state = state_at(density, x, region)
    infos = []
    for _ in range(moves):
        state, info = move(density, state, tuned, rng, label=label, **kwargs)
        infos.append(info)
    return state, infos


# Metrics that do not fit: invariance must not depend on their quality.
WIDE = np.array([[1.2, 0.0], [0.5, 0.8]])
NARROW = np.array([[0.5, 0.0], [-0.2, 0.7]])
LENGTHS = {"langevin": 1, "hamiltonian": 5}


def overlapping():
    """Two overlapping components, so that the border between the regions is busy."""
    return Mixture([[-1.0, 0.0], [1.0, 0.5]], [np.eye(2), [[0.5, 0.2], [0.2, 0.8]]], [0.5, 0.5])


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
@pytest.mark.parametrize("kind", LENGTHS)
def test_restricted_density_is_invariant(kind, gradient, rng):
    target, partition = overlapping(), HalfSpace(0.3)
    density = target.density(gradient=gradient)
    tuned = parameters((WIDE, 0.9, LENGTHS[kind]), (NARROW, 1.1, LENGTHS[kind]))
    x = target.draws(POINTS, rng)
    moves = 20 if LENGTHS[kind] == 1 else 6
    state, infos = run(density, x, partition, tuned, rng, moves)
    np.testing.assert_array_equal(partition.label(state.x), partition.label(x))
    np.testing.assert_array_equal(state.region, partition.label(x))
    np.testing.assert_array_equal(state.logp, target.logp(state.x))
    fresh = target.draws(4 * POINTS, rng)
    for k in (0, 1):
        own = state.region == k
        others = fresh[partition.label(fresh) == k]
        assert np.abs(two_sample_z(moments(state.x[own]), moments(others))).max() < 5
        # The test could not fail if points stayed where they were.
        kept = np.corrcoef(state.x[own, 1], x[own, 1])[0, 1]
        assert kept < 0.5
    assert 0 < np.mean([i.crossed.mean() for i in infos]) < 0.5
    assert 0.2 < np.mean([i.probability.mean() for i in infos]) < 0.999


@pytest.mark.parametrize("target", [Banana(3), StudentT(2, 4.0)], ids=["banana", "student"])
@pytest.mark.parametrize("kind", LENGTHS)
def test_unrestricted_density_is_invariant(target, kind, rng):
    x = target.draws(POINTS, rng)
    tuned = parameters((0.8 * np.eye(target.dim), 0.8, LENGTHS[kind]))
    state, _ = run(target.density(), x, None, tuned, rng, 10)
    fresh = target.draws(4 * POINTS, rng)

    def bounded(x):  # a Student-t with 4 degrees of freedom has no variance of its variance
        return np.tanh(moments(x) / 2)

    assert np.abs(two_sample_z(bounded(state.x), bounded(fresh))).max() < 5


class Arc:
    """Two halves of a circle whose borders are neither the seam nor a mode."""

    n_regions = 2
    statuses = ()

    def label(self, x):
        return (np.cos(x[:, 0] - 2.5) > 0).astype(int)


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
@pytest.mark.parametrize("restricted", [True, False], ids=["arcs", "whole"])
def test_invariance_on_a_circle(restricted, gradient, rng):
    """The largest mode sits on the seam, and trajectories may go round more than once."""
    target = VonMises([np.pi, 0.5], [1.5, 4.0], [0.7, 0.3])
    partition = Arc() if restricted else None
    factor = np.diag([1.5, 1.0])
    tuned = parameters((factor, 0.9, 4), (factor, 1.2, 3))
    x = target.draws(POINTS, rng)
    density = target.density(gradient=gradient)
    state, _ = run(density, x, partition, tuned, rng, 6)
    assert np.abs(state.x[:, 0]).max() <= np.pi
    fresh = target.draws(4 * POINTS, rng)

    def periodic(x):
        c, s, y = np.cos(x[:, 0]), np.sin(x[:, 0]), x[:, 1]
        return np.stack([c, s, c * s, c * c, y, y * y, y * c, y * s], axis=1)

    for k in (0, 1) if restricted else (None,):
        own = state.region == k if restricted else slice(None)
        others = fresh[partition.label(fresh) == k] if restricted else fresh
        assert np.abs(two_sample_z(periodic(state.x[own]), periodic(others))).max() < 5
    # Many have crossed the seam, which lies inside of the region that holds pi.
    assert np.mean(np.abs(state.x[:, 0] - x[:, 0]) > np.pi) > 0.05


@pytest.mark.parametrize("gradient", [True, False])
def test_points_never_leave_their_region(gradient, rng):
    """Even with steps so long that most ends lie in the other region."""
    target, partition = overlapping(), HalfSpace(0.3)
    x = target.draws(500, rng)
    tuned = parameters((3 * np.eye(2), 1.0, 3), (3 * np.eye(2), 1.0, 1))
    state, infos = run(target.density(gradient=gradient), x, partition, tuned, rng, 50)
    np.testing.assert_array_equal(partition.label(state.x), partition.label(x))
    assert np.mean([i.crossed.mean() for i in infos]) > 0.01


def test_points_move_from_outside_the_support(rng):
    """A start of zero density takes whatever has some."""

    def half(x):
        return np.where(x[:, 0] > 0, -x[:, 0] - 0.5 * x[:, 1] ** 2, -np.inf), np.zeros_like(x)

    x = np.tile([-0.5, 0.0], (200, 1))
    state, _ = run(Density(half, 2), x, None, parameters((np.eye(2), 1.0, 1)), rng, 80)
    # A quarter of the moves reach the support.
    assert np.isfinite(state.logp).all()
    assert np.all(state.x[:, 0] > 0)


def test_trajectories_that_fly_off_are_rejected(rng):
    """A quartic with steps far too long: positions overflow, and nothing else happens."""

    def quartic(x):
        return -(x**4).sum(axis=1), -4 * x**3

    x = 2.0 + rng.random((100, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        state, infos = run(Density(quartic, 2), x, None, parameters((np.eye(2), 5.0, 30)), rng, 2)
    np.testing.assert_array_equal(state.x, x)
    assert all((i.probability == 0).all() for i in infos)


def test_evaluations_are_those_of_the_trajectory(rng):
    target = overlapping()
    density = target.density()
    x = target.draws(100, rng)
    run(density, x, None, parameters((np.eye(2), 0.5, 7)), rng, 3)
    assert density.n_logp_evals == density.n_grad_evals == 100 * (1 + 3 * 7)


def test_regions_are_renumbered_together(rng):
    tuned = parameters((WIDE, 0.9, 1), (NARROW, 1.1, 5), (np.eye(2), 0.5, 3))
    moved = tuned.take(np.array([2, 0, 1]))
    np.testing.assert_array_equal(moved.scale, [np.eye(2), WIDE, NARROW])
    np.testing.assert_array_equal(moved.leapfrog, [3, 1, 5])
    np.testing.assert_array_equal(moved.step_size, [0.5, 0.9, 1.1])


def test_the_same_seed_repeats_the_moves():
    target = overlapping()
    ends = []
    for _ in range(2):
        rng = np.random.default_rng(10)
        x = target.draws(50, rng)
        ends.append(run(target.density(), x, None, parameters((WIDE, 0.8, 3)), rng, 5)[0].x)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
def test_a_chain_outside_of_the_support_waits_for_a_point_inside(gradient, rng):
    """The change of the log density from -inf to -inf is no number: such a move is refused."""

    def box(x):
        logp = np.where((np.abs(x) < 1.0).all(axis=1), 0.0, -np.inf)
        return logp, np.zeros_like(x) if gradient else None

    density = Density(box, 2, has_gradient=gradient)
    x = np.repeat([[1.5, 0.0], [9.0, 9.0]], 200, axis=0)
    state = state_at(density, x, np.zeros(400, dtype=int))
    state, info = move(density, state, parameters((np.eye(2), 0.8, 1)), rng, label=None)
    assert np.isfinite(info.probability).all()
    assert 0 < info.accepted[:200].sum() < 200
    assert not info.accepted[200:].any()
    assert np.isfinite(state.logp).sum() == info.accepted.sum()


def test_diagonal_metrics_are_metrics_with_a_diagonal_factor(rng):
    density, region = overlapping().density(), rng.integers(2, size=30)
    state = state_at(density, rng.standard_normal((30, 2)), region)
    diagonal = np.array([[0.8, 1.2], [0.5, 0.9]])
    ends = []
    for scale in (diagonal, np.stack([np.diag(own) for own in diagonal])):
        tuned = MoveParameters(scale, np.full(2, 0.6), np.full(2, 3), np.full(2, 0.4))
        moved, _ = move(density, state, tuned, np.random.default_rng(3), label=None)
        ends.append(moved.x)
    np.testing.assert_allclose(*ends, rtol=1e-12)
    assert (ends[0] != state.x).any()
