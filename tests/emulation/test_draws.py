"""Draws of the emulated posterior, with the ratios of the judged draws that are nearest."""

import numpy as np
import pytest
from densities import gaussian, two_modes
from simulators_numpy import WrongEmulator

from pymc_multimodal.emulation import (
    Emulated,
    corrected_draws,
    integrate,
    judged_draws,
    judged_weights,
)
from pymc_multimodal.search import StartDistribution

TARGET = two_modes()
NOTHING = (np.empty((0, 2)), np.empty((0, 0)), np.empty(0))


def posterior_of(error, rng):
    found = Emulated(WrongEmulator(TARGET, error), 0.0, 0, NOTHING)
    starts = StartDistribution(np.zeros(2), np.full(2, 5.0))
    return integrate(TARGET.density(gradient=False), found, starts, 0.002, rng)


def mean_square(x, w):
    """Second moments of weighted draws."""
    return np.einsum("n,ni,nj->ij", w, x, x)


def exact_mean_square():
    parts = zip(TARGET.weights, TARGET.means, TARGET.covariances, strict=True)
    return sum(w * (c + np.outer(m, m)) for w, m, c in parts)


@pytest.mark.parametrize(
    "error", [None, lambda x: 0.5 * np.sin(1.5 * x[:, 0])], ids=["exact", "bent"]
)
def test_moments_are_those_of_the_true_density(error, rng):
    posterior = posterior_of(error, rng)
    sample = judged_draws(TARGET.density(gradient=False), posterior, posterior.counts(400), rng)
    weight = judged_weights(sample, posterior).weight
    drawn = corrected_draws(posterior, sample, weight, rng)
    assert drawn.share.sum() == pytest.approx(1.0)
    by_region = np.bincount(drawn.region, drawn.share, minlength=len(weight))
    np.testing.assert_allclose(by_region, weight, rtol=1e-9)
    np.testing.assert_array_equal(posterior.partition.label(drawn.x), drawn.region)
    np.testing.assert_allclose(drawn.log_density, posterior.emulator.log_density(drawn.x))
    exact = exact_mean_square()
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    error_of = np.abs(mean_square(drawn.x, drawn.share) - exact) / scale
    # A bent density is off by a tenth before its draws are corrected.
    assert error_of.max() < 0.03


def test_tails_in_many_dimensions_are_corrected(rng):
    """The emulated density is e^3 times too large far from its mode: its draws are too far out."""
    target = gaussian(np.zeros(8), np.eye(8))
    found = Emulated(
        WrongEmulator(target, lambda x: 3.0 / (1.0 + np.exp(14.0 - np.square(x).sum(axis=1)))),
        0.0,
        0,
        (np.empty((0, 8)), np.empty((0, 0)), np.empty(0)),
    )
    starts = StartDistribution(np.zeros(8), np.full(8, 3.0))
    density = target.density(gradient=False)
    posterior = integrate(density, found, starts, 0.02, rng)
    sample = judged_draws(density, posterior, posterior.counts(300), rng)
    drawn = corrected_draws(posterior, sample, np.ones(len(posterior.modes)), rng)
    square, share = np.square(drawn.x).sum(axis=1), posterior.sample.ratio
    emulated = share @ np.square(posterior.sample.x).sum(axis=1) / share.sum()
    assert emulated > 11.0
    # By the places alone, three fifths of the error are left.
    assert abs(drawn.share @ square - 8.0) < (emulated - 8.0) / 3.0


def test_a_region_without_judged_draws_has_no_correction(rng):
    posterior = posterior_of(None, rng)
    sample = judged_draws(TARGET.density(gradient=False), posterior, posterior.counts(6), rng)
    assert corrected_draws(posterior, sample, np.array([0.5, 0.5]), rng) is None
