"""The emulated posterior: its modes, weights, and draws."""

import numpy as np
import pytest
from densities import Banana, StudentT, gaussian, moments, two_modes, z_scores
from simulators_numpy import WrongEmulator

from pymc_multimodal.emulation import Emulated, integrate
from pymc_multimodal.search import StartDistribution

STARTS = StartDistribution(np.zeros(2), np.full(2, 5.0))


def integrated(target, rng, target_se=0.004):
    found = Emulated(
        WrongEmulator(target), 0.0, 0, (np.empty((0, 2)), np.empty((0, 0)), np.empty(0))
    )
    return integrate(target.density(gradient=False), found, STARTS, target_se, rng)


def test_evidences_and_shares_of_two_modes(rng):
    target = two_modes()
    density = target.density(gradient=False)
    found = Emulated(
        WrongEmulator(target), 0.0, 0, (np.empty((0, 2)), np.empty((0, 0)), np.empty(0))
    )
    posterior = integrate(density, found, STARTS, 0.004, rng)
    # The true density is not evaluated.
    assert density.n_logp_evals == 0
    weights = posterior.weights
    assert len(posterior.modes) == posterior.partition.n_regions == 2
    heavy = int(np.argmax(weights.weight))
    assert abs(weights.total - target.log_z) < 4 * weights.total_se
    assert abs(weights.weight[heavy] - 0.7) < 4 * weights.weight_se[heavy]
    assert weights.weight_se.max() < 0.01
    exact = target.log_z + np.log([0.7, 0.3])
    found = weights.log_evidence[[heavy, 1 - heavy]]
    error = weights.log_evidence_se[[heavy, 1 - heavy]]
    np.testing.assert_array_less(np.abs(found - exact), 4 * error)
    label = posterior.partition.label(posterior.sample.x)
    inside = posterior.region >= 0
    np.testing.assert_array_equal(posterior.region[inside], label[inside])


@pytest.mark.parametrize(
    "target",
    [Banana(2), gaussian([1.0, -2.0], [[1.0, 0.9], [0.9, 1.0]], -3.0), StudentT(2, 5.0)],
    ids=["banana", "gaussian", "student"],
)
def test_shapes_with_one_mode(target, rng):
    posterior = integrated(target, rng)
    assert abs(posterior.weights.total - target.log_z) < 4 * posterior.weights.total_se
    assert posterior.weights.total_se < 0.05
    # The draws are those of the density.
    k = len(posterior.modes)
    assert k == 1
    draws = posterior.even_draws(0, 200, rng)
    exact = moments(target.draws(100_000, rng)).mean(axis=0)
    # Even draws vary less than independent ones: their z scores are smaller than normal ones.
    assert (np.abs(z_scores(moments(draws), exact)) < 4).all()


def test_a_small_mode_is_found(rng):
    target = two_modes(weights=(0.03, 0.97))
    posterior = integrated(target, rng)
    assert len(posterior.modes) == 2
    small = posterior.weights.weight.min()
    assert abs(small - 0.03) < 4 * posterior.weights.weight_se.max()
