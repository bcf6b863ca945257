"""Optimisers side by side: one point of each in every round, and no thread that outlives them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pymc_multimodal.search.lockstep import lockstep


def walker(n, converged=True):
    """An optimiser that asks for n points, each the last cost plus one."""

    def optimise(cost):
        value = 0.0
        for _ in range(n):
            value = cost(np.array([value])) + 1.0
        return converged

    return optimise


def climbing_threads():
    return [t for t in threading.enumerate() if t.name == "multimodal-climb"]


def test_every_optimiser_gets_its_own_costs_in_turn():
    with lockstep([walker(3), walker(2, converged=False)]) as (long, short):
        assert long.point == short.point == [0.0]
        long.advance(10.0)
        short.advance(20.0)
        assert (long.point, short.point) == ([11.0], [21.0])
        short.advance(30.0)
        assert short.point is None
        assert not short.converged
        long.advance(5.0)
        assert long.point == [6.0]
        assert not long.converged
        long.advance(5.0)
        assert long.point is None
        assert long.converged
    assert not climbing_threads()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_threads_end_however_the_rounds_end(interruption):
    def one_round():
        with lockstep([walker(5) for _ in range(20)]) as climbs:
            climbs[3].advance(1.0)
            assert len(climbing_threads()) == 20
            raise interruption

    with pytest.raises(interruption):
        one_round()
    assert not climbing_threads()


def test_an_error_of_an_optimiser_is_raised_and_the_others_end():
    def broken(cost):
        cost(np.zeros(1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), lockstep([walker(5), broken]) as climbs:
        climbs[1].advance(1.0)
    assert not climbing_threads()


def test_an_optimiser_that_fails_at_once_begins_no_others():
    def broken(cost):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), lockstep([walker(5), broken, walker(5)]):
        pytest.fail("The context was entered.")
    assert not climbing_threads()


def test_warnings_and_numpy_errors_of_an_optimiser_are_its_own():
    def noisy(cost):
        cost(np.array([1e300]) * 1e300)
        return True

    with lockstep([noisy]) as (climb,):
        assert np.isinf(climb.point)
        climb.advance(0.0)
        assert climb.converged
