"""First answers of modes with independent or bent coordinates, which are not elliptical."""

import numpy as np
import pytest
from densities import Banana, StudentT, Target
from scipy.special import log_ndtr, logsumexp
from scipy.stats import ortho_group
from searches import settled_search

from pymc_multimodal.approximation import FirstAnswer, approximate
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target import Limits
from pymc_multimodal.target.target import Target as Folded


class Products(Target):
    """Modes whose coordinates along given axes are independent: skew-normals, or Student-t.

    Parameters
    ----------
    means : array of shape (K, d)
    weights : sequence of K floats
    axes : array of shape (K, d, d)
    shape : float or None
        Of the skew-normals; None for Student-t distributions of two degrees of freedom.
    """

    log_z = 0.7

    def __init__(self, means, weights, axes, shape):
        self.means, self.weights, self.axes, self.shape = means, np.array(weights), axes, shape
        self.dim = means.shape[1]

    def __call__(self, x):
        logs, slopes = [], []
        for mean, axes in zip(self.means, self.axes, strict=True):
            z = (x - mean) @ axes
            if self.shape is None:
                log = -1.5 * np.log1p(z**2 / 2) - 1.5 * np.log(2)
                slope = -3.0 * z / (2.0 + z**2)
            else:
                cdf = log_ndtr(self.shape * z)
                log = np.log(2) - 0.5 * np.log(2 * np.pi) - 0.5 * z**2 + cdf
                pdf = np.exp(-0.5 * (self.shape * z) ** 2 - cdf) / np.sqrt(2 * np.pi)
                slope = -z + self.shape * pdf
            logs.append(log.sum(axis=1))
            slopes.append(slope @ axes.T)
        logs = np.stack(logs, axis=1) + np.log(self.weights)
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total + self.log_z, np.einsum("nk,knd->nd", share, np.stack(slopes))


def skewed(dim, rng):
    means = np.stack([np.full(dim, -3.0), np.full(dim, 3.0)])
    axes = np.stack([ortho_group.rvs(dim, random_state=rng) for _ in means])
    # Unequal widths: of equal ones the axes are not those of the curvature.
    axes = axes * np.linspace(0.6, 1.7, dim)
    return ScaledProducts(means, [0.3, 0.7], axes, 5.0)


class ScaledProducts(Products):
    """The same with axes that are not of unit length."""

    def __call__(self, x):
        logp, grad = super().__call__(x)
        # All modes have the same lengths.
        return logp + np.log(np.abs(np.linalg.det(self.axes[0]))), grad


def heavy(dim):
    means = np.stack([np.full(dim, -5.0), np.full(dim, 5.0)])
    return Products(means, [0.4, 0.6], np.stack([np.eye(dim)] * 2), None)


def approximated(target, rng, room=np.inf, gradient=True):
    density, settings = target.density(gradient=gradient), ModeSearch(starts=64)
    search = settled_search(density, settings, rng)
    modes = modes_of(density, search, settings)
    before = density.n_logp_evals
    with density.within(Limits(last_evals=before + room)):
        found = approximate(Folded(density), modes, search.distribution, FirstAnswer(), 0.01, rng)
    return found, density.n_logp_evals - before


def assert_weighed(found, target):
    """Log evidence and weights are within four errors of the truth."""
    weights = found.weights
    assert abs(weights.total - target.log_z) < 4 * weights.total_se
    at = [int(np.argmin(np.linalg.norm(target.means - x, axis=1))) for x in found.modes.locations]
    gap = np.abs(weights.weight - target.weights[at])
    np.testing.assert_array_less(gap, 4 * weights.weight_se)


@pytest.mark.parametrize("kind", ["skewed", "heavy"])
def test_modes_of_independent_coordinates_are_weighed_in_few_evaluations(kind, rng):
    target = skewed(12, rng) if kind == "skewed" else heavy(12)
    found, evaluations = approximated(target, rng)
    assert found.verdict.precise
    assert any(q.margins for q in found.mixture.densities)
    assert_weighed(found, target)
    # Chains in both regions take more than a hundred thousand.
    assert evaluations < 15_000


class BentPairs(Target):
    """Two modes, each of which has pairs of coordinates ``a``, ``b = bend a^2 + noise e``."""

    def __init__(self, pairs=3, bend=2.0, noise=0.3, log_z=-0.4):
        self.pairs, self.bend, self.noise, self.log_z = pairs, bend, noise, log_z
        self.dim, self.weights = 2 * pairs, np.array([0.35, 0.65])
        self.means = np.stack([np.full(self.dim, -2.5), np.full(self.dim, 2.5)])

    def __call__(self, x):
        logs, slopes = [], []
        for mean, sign in zip(self.means, (1.0, -1.0), strict=True):
            a, b = (x - mean)[:, 0::2], (x - mean)[:, 1::2]
            e = (b - sign * self.bend * a**2) / self.noise
            logs.append(-0.5 * (a**2 + e**2).sum(axis=1))
            slope = np.empty_like(x)
            slope[:, 0::2] = -a + 2 * sign * self.bend * a * e / self.noise
            slope[:, 1::2] = -e / self.noise
            slopes.append(slope)
        constant = self.pairs * np.log(2 * np.pi * self.noise)
        logs = np.stack(logs, axis=1) - constant + np.log(self.weights)
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total + self.log_z, np.einsum("nk,knd->nd", share, np.stack(slopes))


def test_bent_modes_are_weighed_in_few_evaluations(rng):
    target = BentPairs()
    found, evaluations = approximated(target, rng)
    assert found.verdict.precise
    maps = [own.triangular for q in found.mixture.densities for own in q.margins if own is not None]
    assert len(maps) == 2
    assert all({d.source % 2 for d in one.dependences} == {0} for one in maps)
    assert_weighed(found, target)
    assert evaluations < 20_000


def test_without_a_gradient_no_dependences_are_looked_for(rng):
    target = BentPairs(pairs=2)
    found, _ = approximated(target, rng, gradient=False)
    assert all(
        own is None or own.triangular is None for q in found.mixture.densities for own in q.margins
    )


def test_densities_stay_as_they_are_where_they_are_good_or_no_other_is_better(rng):
    found, evaluations = approximated(StudentT(10, 4.0), rng)
    assert found.verdict.precise
    assert not any(q.margins for q in found.mixture.densities)
    assert evaluations < 8_000


def test_the_answer_of_a_bent_ridge_is_not_precise_or_right(rng):
    target = Banana(dim=4)
    found, _ = approximated(target, rng)
    weights = found.weights
    if found.verdict.precise:
        assert abs(weights.total - target.log_z) < 4 * weights.total_se


class Recorded(Products):
    """The same, with the points on the axes of a mode at which it was evaluated."""

    def __init__(self, *args):
        super().__init__(*args)
        self.on_axes = []

    def __call__(self, x):
        for mean in self.means:
            away = np.abs(x - mean) > 1e-4
            self.on_axes.append(x[away.sum(axis=1) == 1])
        return super().__call__(x)


def test_no_point_on_an_axis_is_far_beyond_the_prior(rng):
    plain = heavy(12)
    target = Recorded(plain.means, plain.weights, plain.axes, None)
    found, _ = approximated(target, rng)
    assert found.verdict.precise
    on_axes = np.abs(np.concatenate(target.on_axes))
    # The prior has a standard deviation of 5.
    assert 20.0 < on_axes.max() <= 41.0


def test_near_a_limit_the_next_sample_comes_first(rng):
    # The first two samples take about 3,000 evaluations, a third one 2,000, and a trial 400.
    found, evaluations = approximated(heavy(12), rng, room=5_300)
    assert evaluations <= 5_300
    assert found.rounds == 2
    assert not any(q.margins for q in found.mixture.densities)


@pytest.mark.slow
def test_errors_of_skewed_modes_are_those_of_repeated_fits():
    target = skewed(8, np.random.default_rng(1))
    estimates = []
    for seed in range(24):
        found, _ = approximated(target, np.random.default_rng([seed, 4]))
        assert found.verdict.precise
        estimates.append((found.weights.total - target.log_z, found.weights.total_se))
    z = np.array([gap / se for gap, se in estimates])
    assert 0.5 < np.sqrt(np.mean(z**2)) < 1.5
