"""Exact draws by a wrong emulator, and draws that are resampled."""

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, gaussian, moments, two_modes, z_scores
from simulators_numpy import WrongEmulator

from pymc_multimodal.emulation import EmulatedGenerator, EmulatedJump, Resampling
from pymc_multimodal.kernel import ChainState, Kernel, init, propose, step
from pymc_multimodal.moves.local import state_at
from pymc_multimodal.proposals import Generator, Proposals
from pymc_multimodal.target import Target

TARGET = two_modes(distance=4.0)


class Wide(Generator):
    """A normal density that covers the target; some of its draws stand for no point."""

    def __init__(self, missing=0.0):
        self.normal, self.dim, self.missing = gaussian(np.zeros(2), 6.0 * np.eye(2)), 2, missing

    def generate(self, n, rng):
        return self.normal.draws(n, rng)

    def propose(self, n, rng):
        x = self.generate(n, rng)
        x[rng.random(n) < self.missing] = np.nan
        return Proposals(x, np.where(np.isnan(x[:, 0]), np.inf, self.minus_log_q(x, rng)))

    def minus_log_q(self, x, rng):
        return -self.normal.logp(x) - np.log1p(-self.missing)


def kernel_of(error, attempts, missing=0.0):
    generator = EmulatedGenerator(WrongEmulator(TARGET, error), Wide(missing), 0.7)
    jump = EmulatedJump(HalfSpace(), generator, attempts)
    return Kernel(HalfSpace(), generator, (jump,), (1,))


ERRORS = {
    "exact": (lambda x: 0.0 * x[:, 0], 8, 0.0),
    "tilted": (lambda x: 0.8 * x[:, 0], 8, 0.0),
    "one attempt": (lambda x: np.sin(3 * x[:, 1]), 1, 0.0),
    "without a mode": (lambda x: np.where(x[:, 0] > 0, -4.0, 0.0), 4, 0.0),
    "proposals that are no point": (lambda x: -0.3 * x[:, 1] ** 2, 4, 0.3),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_true_density_is_left_invariant(name, rng):
    """Exact draws stay exact draws, and each part of the space sends what it receives."""
    n, kernel = 10_000, kernel_of(*ERRORS[name])
    density = TARGET.density(gradient=False)
    target, x = Target(density), TARGET.draws(n, rng)
    before = init(target, kernel, x, rng)
    spent = density.n_logp_evals
    after, accepted = step(target, kernel, before, propose(target, kernel, 0, rng), rng)
    assert density.n_logp_evals - spent <= n
    y = after.points.x
    moved = (x != y).any(axis=1)
    assert moved.mean() > 0.05
    np.testing.assert_array_equal(y[~moved], x[~moved])
    assert (np.abs(z_scores(moments(y) - moments(x), 0.0)) < 4).all()
    for part in (lambda v: v[:, 0] > 0, lambda v: v[:, 1] > 1, lambda v: (v**2).sum(1) < 4):
        there, back = np.sum(part(y) & ~part(x)), np.sum(part(x) & ~part(y))
        assert abs(there - back) < 4 * np.sqrt(there + back + 1)
    # What the state knows of its points.
    np.testing.assert_allclose(after.points.logp, TARGET.logp(y), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(after.minus_log_q, kernel.generator.minus_log_q(y, rng))
    np.testing.assert_array_equal(after.points.region, HalfSpace().label(y))
    np.testing.assert_array_equal(accepted, moved)


def test_flows_between_states_are_balanced(rng):
    """Detailed balance over nine cells of the plane."""
    n, kernel = 30_000, kernel_of(lambda x: 0.6 * np.cos(x[:, 0]) - 0.4 * x[:, 1], 3)
    target, x = Target(TARGET.density(gradient=False)), TARGET.draws(n, rng)
    empty = propose(target, kernel, 0, rng)
    y = step(target, kernel, init(target, kernel, x, rng), empty, rng)[0].points.x

    def cell(v):
        return 3 * np.digitize(v[:, 0], [-1, 1]) + np.digitize(v[:, 1], [-1, 1])

    flow = np.zeros((9, 9))
    np.add.at(flow, (cell(x), cell(y)), 1)
    i, j = np.triu_indices(9, 1)
    there, back = flow[i, j], flow[j, i]
    seen = there + back > 20
    assert seen.sum() > 10
    z = (there - back)[seen] / np.sqrt((there + back)[seen])
    assert np.abs(z).max() < 4
    assert np.mean(z**2) < 1 + 4 * np.sqrt(2 / seen.sum())


def test_an_exact_emulator_is_always_accepted(rng):
    """All steps on the emulated density are then steps on the true one."""
    kernel = kernel_of(lambda x: 0.0 * x[:, 0], 64)
    target = Target(TARGET.density(gradient=False))
    state = init(target, kernel, TARGET.draws(2000, rng), rng)
    after, accepted = step(target, kernel, state, propose(target, kernel, 0, rng), rng)
    moved = (after.points.x != state.points.x).any(axis=1)
    assert moved.mean() > 0.99
    np.testing.assert_array_equal(accepted > 0, moved)


def test_points_outside_of_the_support_are_never_reached(rng):
    density = TARGET.density(gradient=False)
    function = density.function
    density.function = lambda x: (np.where(x[:, 1] > 0, function(x)[0], -np.inf), None)
    target, kernel = Target(density), kernel_of(lambda x: 0.3 * x[:, 0], 4)
    x = TARGET.draws(4000, rng)
    state = init(target, kernel, x[x[:, 1] > 0], rng)
    for _ in range(3):
        state, _ = step(target, kernel, state, propose(target, kernel, 0, rng), rng)
        assert (state.points.x[:, 1] > 0).all()
        assert np.isfinite(state.points.logp).all()


def test_the_generator_draws_the_emulated_density(rng):
    error = lambda x: 0.5 * x[:, 0]  # noqa: E731
    tilted = np.exp(error(TARGET.draws(200_000, rng)))
    log_z = TARGET.log_z + np.log(tilted.mean())
    generator = EmulatedGenerator(WrongEmulator(TARGET, error), Wide(), log_z)
    x, minus_log_q = (p := generator.propose(20_000, rng)).x, p.minus_log_q
    np.testing.assert_allclose(minus_log_q, log_z - TARGET.logp(x) - error(x))
    exact = TARGET.draws(400_000, rng)
    weight = np.exp(error(exact))
    expected = (weight[:, None] * moments(exact)).sum(axis=0) / weight.sum()
    # Draws are resampled from eight times as many.
    assert (np.abs(z_scores(moments(x), expected)) < 6).all()
    assert generator.generate(0, rng).shape == (0, 2)
    assert len(generator.propose(0, rng).x) == 0


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_regions_are_renumbered(order, rng):
    order = np.array(order)
    kernel = kernel_of(lambda x: 0.2 * x[:, 0], 4).take(order)
    target = Target(TARGET.density(gradient=False))
    state = init(target, kernel, TARGET.draws(500, rng), rng)
    state, _ = step(target, kernel, state, propose(target, kernel, 0, rng), rng)
    expected = np.argsort(order)[HalfSpace().label(state.points.x)]
    np.testing.assert_array_equal(state.points.region, expected)


# ------------------------------------------------------------------ resampling


def resampling(rng, n=12):
    x = rng.standard_normal((n, 2))
    ratio = rng.uniform(0.1, 1.0, n)
    share = np.cumsum(ratio / ratio.sum())
    move = Resampling(x, np.arange(n, dtype=float), -np.arange(n) / 7, share,
                      HalfSpace().label(x))  # fmt: skip
    return move, ratio / ratio.sum()


def state_of(n, target):
    x = np.zeros((n, 2))
    return ChainState(state_at(target, x, np.zeros(n, dtype=int)), np.zeros(n))


def test_draws_have_the_frequencies_of_their_weights(rng):
    n = 40_000
    move, share = resampling(rng)
    target = Target(TARGET.density(gradient=False))
    state = state_of(n, target)
    spent = target.density.n_logp_evals
    after, accepted = move(target, state, state, rng)
    assert target.density.n_logp_evals == spent
    assert move.proposals == 0
    row = after.points.logp.astype(int)
    count = np.bincount(row, minlength=len(share))
    chi2 = ((count - n * share) ** 2 / (n * share)).sum()
    assert abs(chi2 - 11) < 4 * np.sqrt(2 * 11)
    np.testing.assert_array_equal(after.points.x, move.x[row])
    np.testing.assert_array_equal(after.minus_log_q, move.minus_log_q[row])
    np.testing.assert_array_equal(after.points.region, move.region[row])
    np.testing.assert_array_equal(accepted, 1.0)
    other = move.take(np.array([1, 0]))(target, state, state, rng)[0]
    np.testing.assert_array_equal(other.points.region, 1 - HalfSpace().label(other.points.x))


def test_one_judged_draw_is_drawn(rng):
    move = Resampling(np.ones((1, 2)), np.zeros(1), np.zeros(1), np.ones(1), np.zeros(1, int))
    target = Target(TARGET.density(gradient=False))
    after, _ = move(target, state_of(3, target), state_of(3, target), rng)
    np.testing.assert_array_equal(after.points.x, 1.0)
    assert Everywhere().n_regions == 1
