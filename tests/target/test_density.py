"""`Density` counts, guards against bad values, wraps, and gives a row the same value anywhere."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from densities import VonMises, gaussian, two_modes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pymc_multimodal.status import LimitReached, ModelError
from pymc_multimodal.target import CHUNK, Density, Limits
from pymc_multimodal.target.evaluation import evaluate, portable

reproducible = settings(derandomize=True, deadline=None, database=None)


def odd_values(x):
    """NaN, +inf and finite by the first coordinate, with gradients as bad."""
    logp = -0.5 * (x**2).sum(axis=1)
    logp = np.where(x[:, 0] > 2, np.inf, np.where(x[:, 0] < -2, np.nan, logp))
    grad = -x.copy()
    grad[x[:, 1] > 1, 0] = np.nan
    grad[x[:, 1] < -1, 1] = -np.inf
    return logp, grad


def picky(x):
    """Raises as soon as one row is negative, as a decomposition might."""
    if (x[:, 0] < 0).any():
        raise np.linalg.LinAlgError("not positive definite")
    return -x[:, 0], -np.ones_like(x)


def product(x):
    """A matrix product, whose rounding may depend on the shape of the batch."""
    a = np.sin(np.arange(400.0)).reshape(20, 20)
    y = x @ a
    return -0.5 * (y**2).sum(axis=1), -y @ a.T


def picky_product(x):
    picky(x)
    return product(x)


def test_every_row_is_counted_once():
    density = gaussian(np.zeros(3), np.eye(3)).density()
    density.logp(np.zeros((CHUNK + 3, 3)))
    density.logp_and_grad(np.zeros((5, 3)))
    assert (density.n_logp_evals, density.n_grad_evals) == (CHUNK + 8, CHUNK + 8)
    silent = gaussian(np.zeros(3), np.eye(3)).density(gradient=False)
    silent.logp(np.zeros((7, 3)))
    assert (silent.n_logp_evals, silent.n_grad_evals) == (7, 0)


class WithValues:
    """Offers log densities alone; remembers the sizes of the calls."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        raise AssertionError("no gradient is needed")

    def values(self, x):
        self.sizes.append(len(x))
        return np.where(x[:, 0] > 2, np.inf, -x[:, 0])


def test_values_are_log_densities_without_gradients(rng):
    density = two_modes(3).density()
    x = rng.standard_normal((3000, 3))
    np.testing.assert_allclose(density.values(x), density.logp(x), rtol=1e-12)
    assert density.values(x[:0]).shape == (0,)
    assert (density.n_logp_evals, density.n_grad_evals, density.n_values) == (6000, 3000, 3000)
    assert 0 < density.value_seconds < density.seconds


def test_values_of_a_function_that_offers_them():
    function = WithValues()
    density = Density(function, 1)
    x = np.linspace(-1, 1, 5000)[:, None]
    np.testing.assert_array_equal(density.values(x), -x[:, 0])
    # Chunks double while they are quick.
    assert function.sizes[0] == CHUNK
    assert sum(function.sizes) == 5000
    assert max(function.sizes) == 1024
    assert np.isneginf(density.values(np.array([[3.0]])))
    assert (density.n_grad_evals, density.tally.infinite) == (0, 1)


def test_values_of_points_that_raise():
    density = Density(picky, 2)
    x = np.ones((CHUNK + 4, 2))
    x[[3, CHUNK + 1], 0] = -1.0
    np.testing.assert_array_equal(density.values(x), np.where(x[:, 0] < 0, -np.inf, -1.0))
    assert density.tally.raised == 2
    assert isinstance(density.last_error, np.linalg.LinAlgError)


def test_values_keep_the_limits():
    density = two_modes(2).density()
    with density.within(Limits(last_evals=1000)), pytest.raises(LimitReached):
        density.values(np.zeros((5000, 2)))
    assert 500 <= density.n_values == density.n_logp_evals <= 1000


def test_cheap_values_do_not_change_what_room_there_is(stopped_clock):
    class Timed:
        def __call__(self, x):
            stopped_clock.skip(1e-3 * len(x))
            return odd_values(x)

        def values(self, x):
            stopped_clock.skip(1e-6 * len(x))
            return odd_values(x)[0]

    density = Density(Timed(), 2)
    density.logp(np.zeros((100, 2)))
    density.values(np.zeros((20_000, 2)))
    with density.within(Limits(last_time=time.monotonic() + 10.0)):
        assert density.room() == pytest.approx(10.0 / 1e-3)


@pytest.mark.parametrize("gradient", [True, False])
def test_no_rows_give_no_values(gradient):
    density = gaussian(np.zeros(3), np.eye(3)).density(gradient=gradient)
    assert density.logp(np.empty((0, 3))).shape == (0,)
    assert density.n_logp_evals == 0


def test_values_that_cannot_be_sampled_are_outside_the_support():
    density = Density(odd_values, 2)
    logp = density.logp(np.array([[0.0, 0.0], [3.0, 0.0], [-3.0, 0.0]]))
    np.testing.assert_array_equal(logp, [0.0, -np.inf, -np.inf])


def test_gradients_that_are_not_finite_are_zero():
    density = Density(odd_values, 2)
    _, grad = density.logp_and_grad(np.array([[1.0, 2.0], [1.0, -2.0], [1.0, 0.5]]))
    np.testing.assert_array_equal(grad, [[0.0, -2.0], [-1.0, 0.0], [-1.0, -0.5]])


def test_a_row_that_raises_does_not_spoil_the_others():
    density = Density(picky, 2)
    x = np.ones((2 * CHUNK, 2))
    x[[3, CHUNK + 1], 0] = -1.0
    logp, grad = density.logp_and_grad(x)
    bad = x[:, 0] < 0
    np.testing.assert_array_equal(logp, np.where(bad, -np.inf, -1.0))
    np.testing.assert_array_equal(grad[bad], 0.0)
    np.testing.assert_array_equal(grad[~bad], -1.0)
    assert density.tally.raised == 2
    assert isinstance(density.last_error, np.linalg.LinAlgError)


def test_a_density_without_gradient_refuses_to_give_one():
    density = gaussian(np.zeros(2), np.eye(2)).density(gradient=False)
    with pytest.raises(TypeError, match="no gradient"):
        density.logp_and_grad(np.zeros((1, 2)))


def test_a_density_that_raises_without_gradient_is_outside():
    density = Density(lambda x: (picky(x)[0], None), 2, has_gradient=False)
    logp = density.logp(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    np.testing.assert_array_equal(logp, [-1.0, -np.inf])


@pytest.fixture(scope="module")
def shared():
    """One pool for all tests: a worker takes seconds to import what it needs."""
    density = Density(picky_product, 20, workers=2)
    yield density
    density.close()


def test_values_do_not_depend_on_the_workers(shared, rng):
    """Bit for bit: the same seed has to give the same draws for any number of workers."""
    alone = Density(picky_product, 20)
    x = np.abs(rng.standard_normal((3 * CHUNK + 5, 20)))
    for one, other in zip(alone.logp_and_grad(x), shared.logp_and_grad(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert shared.n_logp_evals == shared.n_grad_evals == len(x)


def test_a_few_points_can_be_shared_by_workers(rng):
    """With one point per call of the function, the values and the counts stay as they are."""
    calls = []

    def function(x):
        calls.append(len(x))
        return -0.5 * (x**2).sum(axis=1), None

    density, x = Density(function, 3, has_gradient=False), rng.standard_normal((5, 3))
    whole, single = density.logp(x), density.logp(x, chunk=1)
    np.testing.assert_array_equal(whole, single)
    assert calls == [5, 1, 1, 1, 1, 1]
    assert density.n_logp_evals == 10


def test_values_in_workers_are_log_densities(shared, rng):
    x = np.abs(rng.standard_normal((CHUNK + 5, 20)))
    np.testing.assert_array_equal(shared.values(x), shared.logp(x))


def test_errors_in_workers_are_reported(shared):
    x = np.ones((2 * CHUNK, 20))
    x[5, 0] = -1.0
    assert np.flatnonzero(np.isneginf(shared.logp(x))).tolist() == [5]
    assert shared.tally.raised == 1
    assert "not positive definite" in str(shared.last_error)


class TwoArguments(Exception):
    """Pickles, but not back: unpickling gives its one stored argument to two parameters."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


def test_points_at_which_a_function_raises_have_density_zero():
    logp, grad, n_raised, error = evaluate(picky, np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]))
    np.testing.assert_array_equal(logp, [-1.0, -np.inf, -2.0])
    np.testing.assert_array_equal(grad, [[-1.0, -1.0], [0.0, 0.0], [-1.0, -1.0]])
    assert n_raised == 1
    assert isinstance(error, np.linalg.LinAlgError)


def test_errors_that_cannot_be_unpickled_are_replaced_by_their_text():
    class Local(Exception):
        pass

    for error in (TwoArguments("no step", 3), Local("no step at 3")):
        told = pickle.loads(pickle.dumps(portable(error)))
        assert str(told) == f"{type(error).__name__}: no step at 3"
    plain = ValueError("no step at 3")
    assert portable(plain) is plain
    assert portable(None) is None


@pytest.mark.slow  # worker processes are started twice
def test_a_closed_pool_starts_again(rng):
    density = Density(product, 20, workers=2)
    x = rng.standard_normal((2 * CHUNK, 20))
    try:
        first = density.logp(x)
        density.close()
        np.testing.assert_array_equal(density.logp(x), first)
    finally:
        density.close()


@pytest.mark.parametrize("size", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 100])
def test_values_do_not_depend_on_the_batch(size, rng):
    """Only rounding may differ, where a product's order of summation follows its shape."""
    x = rng.standard_normal((100, 20))
    density = Density(product, 20)
    whole = density.logp_and_grad(x)
    pieces = [density.logp_and_grad(x[i : i + size]) for i in range(0, 100, size)]
    for j in range(2):
        np.testing.assert_allclose(
            np.concatenate([p[j] for p in pieces]), whole[j], rtol=1e-12, atol=1e-12
        )


# Hypothesis 6.170 may mutate arrays with a fill value for ever.
points = arrays(float, (4, 2), elements=st.floats(-1e4, 1e4), fill=st.nothing())
periods = st.floats(0.1, 100.0)


@reproducible
@given(x=points, period=periods)
def test_wrap_stays_on_the_circle_and_in_one_period(x, period):
    density = Density(odd_values, 2, period=np.array([period, np.inf]))
    wrapped = density.wrap(x)
    assert np.all(np.abs(wrapped[:, 0]) <= 0.5 * period * (1 + 1e-9))
    turns = (x[:, 0] - wrapped[:, 0]) / period
    # 1e4 / 0.1 turns leave about 1e-11 of rounding.
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-8)
    np.testing.assert_array_equal(wrapped[:, 1], x[:, 1])
    # A point at the border of the window may go to the other end.
    gap = np.abs(density.wrap(wrapped) - wrapped)[:, 0]
    np.testing.assert_allclose(np.minimum(gap, np.abs(gap - period)), 0.0, atol=1e-9 * period)


@reproducible
@given(x=points, centre=arrays(float, 2, elements=st.floats(-100, 100)), period=periods)
def test_unroll_chooses_the_nearest_copy(x, centre, period):
    density = Density(odd_values, 2, period=np.array([period, np.inf]))
    before = x.copy()
    near = density.unroll(x, centre)
    np.testing.assert_array_equal(x, before)
    assert np.all(np.abs(near[:, 0] - centre[0]) <= 0.5 * period * (1 + 1e-9) + 1e-9)
    # Wrapping undoes it, up to the two ends of a period, which are one point.
    back = density.wrap(near)[:, 0] - density.wrap(x)[:, 0]
    np.testing.assert_allclose(np.sin(np.pi * back / period), 0.0, atol=1e-7)
    np.testing.assert_array_equal(near[:, 1], x[:, 1])


def test_points_on_a_line_are_left_alone(rng):
    density = gaussian(np.zeros(2), np.eye(2)).density()
    x = 1e3 * rng.standard_normal((5, 2))
    np.testing.assert_array_equal(density.wrap(x), x)
    np.testing.assert_array_equal(density.unroll(x, 7.0), x)


def test_prior_draws_are_wrapped(rng):
    density = VonMises([0.0], [1.0], [1.0]).density()
    x = density.prior_draws(200, rng)
    assert np.all(np.abs(x[:, 0]) <= np.pi)
    assert np.abs(x[:, 1]).max() > np.pi


def test_a_density_without_prior_says_what_to_do(rng):
    with pytest.raises(ModelError, match="starts=array of shape"):
        Density(odd_values, 2).prior_draws(3, rng)


def test_a_pickled_density_gives_the_same_values(rng):
    density = two_modes(3).density()
    x = rng.standard_normal((4, 3))
    density.logp(x)
    again = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(again.logp(x), density.logp(x))
    assert again.n_logp_evals == 8
