"""Coordinates of the processes, and designs of the prior."""

import numpy as np
from scipy.stats import kstest, norm

from pymc_multimodal.emulation.features import LOGISTIC_SPREAD, Bounded, Features, prior_design
from pymc_multimodal.target import Density


def normal_density(dim, prior, period=None):
    return Density(
        lambda x: (-0.5 * (x**2).sum(axis=1), None),
        dim,
        has_gradient=False,
        period=period,
        prior=prior,
    )


def test_coordinates_in_units_of_the_prior_and_angles(rng):
    centre, spread = np.array([1.0, 0.0, -2.0, 5.0]), np.array([2.0, 1.0, 0.5, 1.0])
    period = np.array([np.inf, 2 * np.pi, np.inf, 4.0])
    features = Features(np.array([0, 1, 3]), centre, spread, period)
    x = rng.standard_normal((6, 4))
    z = features(x)
    np.testing.assert_allclose(z[:, 0], (x[:, 0] - 1.0) / 2.0)
    angles = x[:, [1, 3]] * 2 * np.pi / period[[1, 3]]
    np.testing.assert_allclose(z[:, 1:3], np.cos(angles))
    np.testing.assert_allclose(z[:, 3:5], np.sin(angles))
    # A turn changes nothing, nor does a coordinate that is no input.
    np.testing.assert_allclose(features(x + np.array([0.0, 2 * np.pi, 9.0, -4.0])), z, atol=1e-12)


def test_a_logit_of_a_uniform_parameter_becomes_the_parameter(rng):
    theta = rng.uniform(size=(50, 3))
    x = theta.copy()
    x[:, [0, 2]] = np.log(theta[:, [0, 2]] / (1 - theta[:, [0, 2]]))
    centre, spread = np.zeros(3), np.full(3, LOGISTIC_SPREAD)
    bounded = Bounded(np.array([0, 2]), centre, spread)
    np.testing.assert_allclose(bounded(x), theta, rtol=1e-12)
    # The spread of the logistic distribution is what its name says.
    low, high = norm.cdf([-1.0, 1.0])
    width = np.log(high / (1 - high)) - np.log(low / (1 - low))
    assert abs(width / 2 - LOGISTIC_SPREAD) < 1e-3
    # Coordinates of the process are those of the result.
    middle, unit = np.full(3, 0.5), np.full(3, 0.25)
    features = Features(np.arange(3), middle, unit, np.full(3, np.inf), bounded)
    np.testing.assert_allclose(features(x), (theta - 0.5) / 0.25)
    far = np.array([[900.0, 0.0, -900.0]])
    np.testing.assert_allclose(features(far), [[2.0, -2.0, -2.0]])


class Remembered:
    """A prior of two dependent coordinates that remembers its draws."""

    def __init__(self):
        self.drawn = []

    def __call__(self, n, rng):
        a, b = rng.standard_normal((2, n))
        self.drawn.append(np.column_stack([np.exp(a), np.exp(a) * (1 + 0.1 * b)]))
        return self.drawn[-1]


def test_a_design_is_made_of_distinct_prior_draws_and_follows_their_dependence(rng):
    prior = Remembered()
    design = prior_design(normal_density(2, prior), 48, rng)
    assert design.shape == (48, 2)
    drawn = {row.tobytes() for row in np.concatenate(prior.drawn)}
    rows = [row.tobytes() for row in design]
    assert len(set(rows)) == 48
    assert set(rows) <= drawn
    ratio = design[:, 1] / design[:, 0]
    assert np.abs(ratio - 1).max() < 0.6


def test_a_design_is_more_even_than_draws(rng):
    def prior(n, rng):
        return rng.standard_normal((n, 3))

    density, even, random = normal_density(3, prior), [], []
    for _ in range(10):
        for x, out in ((prior_design(density, 64, rng), even), (prior(64, rng), random)):
            out.append([kstest(x[:, j], norm.cdf).statistic for j in range(3)])
    assert np.mean(even) < 0.6 * np.mean(random)


def test_designs_of_any_size(rng):
    def prior(n, rng):
        return rng.standard_normal((n, 1))

    for n in (1, 2, 3, 5):
        assert len(np.unique(prior_design(normal_density(1, prior), n, rng))) == n


def test_a_design_where_few_prior_draws_differ(rng):
    """Coordinates of which the prior draws are few values, or one, give a design all the same."""

    def prior(n, rng):
        return np.column_stack([rng.integers(0, 2, n), np.ones(n), rng.standard_normal(n)])

    design = prior_design(normal_density(3, prior), 16, rng)
    assert len(np.unique(design, axis=0)) == 16
    assert set(design[:, 0]) == {0.0, 1.0}


def test_circular_coordinates_of_a_design_are_wrapped(rng):
    def prior(n, rng):
        return rng.uniform(0, 2 * np.pi, (n, 1))

    design = prior_design(normal_density(1, prior, np.array([2 * np.pi])), 16, rng)
    assert (np.abs(design) <= np.pi).all()
    assert (design < 0).any()
