"""A warning where chains visit the modes otherwise than the weights say."""

from types import SimpleNamespace

import numpy as np
import pytest

from pymc_multimodal.plugin.mixing import mixing_warning


def fit_of(weight, se):
    return SimpleNamespace(weights=SimpleNamespace(weight=np.array(weight), weight_se=np.array(se)))


FIT = fit_of([0.7, 0.3], [0.01, 0.01])


def test_independent_draws_give_no_warning(rng):
    for _ in range(20):
        assert mixing_warning((rng.random((8, 1000)) > 0.7).astype(int), FIT) is None


def test_correlated_chains_are_judged_by_their_own_errors(rng):
    """Each draw repeats its predecessor with probability 0.8: an ESS of 1,000 / 9."""
    fresh, stay = (rng.random((48, 1000)) > 0.7).astype(int), rng.random((48, 1000)) < 0.8
    mode = fresh.copy()
    for t in range(1, 1000):
        mode[:, t] = np.where(stay[:, t], mode[:, t - 1], fresh[:, t])
    assert mixing_warning(mode, FIT) is None


@pytest.mark.parametrize("held", [500, 1000])
def test_chains_that_are_held_are_reported(held, rng):
    mode = (rng.random((4, 1000)) > 0.7).astype(int)
    mode[1, :held] = 0
    if held == 500:
        mode[2, :held] = 1
    assert "do not mix" in mixing_warning(mode, FIT)


def test_chains_that_never_leave_their_mode_are_reported():
    mode = np.tile(np.array([0, 0, 1, 0])[:, None], (1, 500))
    assert "mode 0" in mixing_warning(mode, FIT)


def test_shares_that_contradict_the_weights_are_reported(rng):
    mode = (rng.random((4, 2000)) > 0.7).astype(int)
    assert "by their weights" in mixing_warning(mode, fit_of([0.5, 0.5], [0.01, 0.01]))
    # The error of the weight covers the difference.
    assert mixing_warning(mode, fit_of([0.6, 0.4], [0.1, 0.1])) is None


def test_one_mode_and_light_modes_are_not_watched():
    assert mixing_warning(np.zeros((4, 300), int), fit_of([1.0], [0.0])) is None
    assert mixing_warning(np.zeros((4, 300), int), fit_of([0.97, 0.03], [0.001, 0.001])) is None
