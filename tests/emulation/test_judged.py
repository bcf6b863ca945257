"""True evaluations of emulated draws: weights and evidences are right, whatever the emulator is."""

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, two_modes
from simulators_numpy import WrongEmulator

from pymc_multimodal.approximation import WeightedSample
from pymc_multimodal.emulation import (
    Emulated,
    EmulatedPosterior,
    integrate,
    joined_draws,
    judged_draws,
    judged_weights,
    missing_draws,
    region_of,
    with_emulated_errors,
)
from pymc_multimodal.search import StartDistribution
from pymc_multimodal.target.limits import Limits

TARGET = two_modes()
NOTHING = (np.empty((0, 2)), np.empty((0, 0)), np.empty(0))
ERRORS = {
    "exact": None,
    "bent": lambda x: 0.5 * np.sin(1.5 * x[:, 0]) - 0.2,
    "tilted": lambda x: 0.15 * x[:, 0],
}


def posterior_of(error, rng):
    found = Emulated(WrongEmulator(TARGET, error), 0.0, 0, NOTHING)
    starts = StartDistribution(np.zeros(2), np.full(2, 5.0))
    return integrate(TARGET.density(gradient=False), found, starts, 0.002, rng)


def weights_of(sample, posterior, rng):
    return with_emulated_errors(judged_weights(sample, posterior), posterior)


def test_ratios_of_an_exact_emulator_are_bounded(rng):
    """A ratio is at most the inverse of the share of draws that the emulated posterior gives."""
    posterior = posterior_of(None, rng)
    sample = judged_draws(TARGET.density(gradient=False), posterior, posterior.counts(200), rng)
    ratio = np.exp(sample.log_ratio - TARGET.log_z)
    assert len(sample) == sample.counts.sum()
    assert 0.999 < ratio.max() < 1 / 0.85 + 0.05
    weights = weights_of(sample, posterior, rng)
    # Known densities are control variates, so that nothing is left but the errors of their sums.
    weights = judged_weights(sample, posterior)
    assert weights.total_se < 1e-6
    both = with_emulated_errors(weights, posterior)
    assert abs(both.total - TARGET.log_z) < 4 * both.total_se
    assert both.total_se == pytest.approx(posterior.weights.total_se)
    np.testing.assert_allclose(both.weight, posterior.weights.weight, rtol=1e-5)
    assert missing_draws(weights, 0.01) == 1.0


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_weights_and_evidence_are_those_stated(name, more, rng):
    """Also where the light region gets further draws alone."""
    z, density = [], TARGET.density(gradient=False)
    for _ in range(10):
        # The errors of the emulated evidences are those of one posterior.
        posterior = posterior_of(ERRORS[name], rng)
        heavy = int(posterior.partition.label(TARGET.means[1:])[0])
        first = judged_draws(density, posterior, posterior.counts(100), rng)
        counts = posterior.counts(100)
        if more:
            counts[:] = 0
            counts[1 - heavy] = 60
        second = judged_draws(density, posterior, counts, rng)
        assert len(second) == counts.sum()
        sample = joined_draws(posterior, first, second, rng)
        weights = weights_of(sample, posterior, rng)
        z.append([(weights.total - TARGET.log_z) / weights.total_se,
                  (weights.weight[heavy] - 0.7) / weights.weight_se[heavy]])  # fmt: skip
    z = np.array(z)
    assert np.abs(z).max() < 4
    assert (np.abs(z.mean(axis=0)) < 4 / np.sqrt(len(z))).all()
    # Draws that are spread evenly vary less than is stated, not more.
    assert (np.mean(z**2, axis=0) < 1 + 4 * np.sqrt(2 / len(z))).all()


def test_more_draws_are_asked_for_where_errors_are_large(rng):
    """Errors fall with the root of the number of draws."""
    posterior, density = posterior_of(ERRORS["bent"], rng), TARGET.density(gradient=False)
    factor = []
    for n in (200, 800):
        sample = judged_draws(density, posterior, posterior.counts(n), rng)
        factor.append(missing_draws(judged_weights(sample, posterior), 1e-3))
    assert factor[0] / factor[1] == pytest.approx(4.0, rel=0.4)


def test_a_limit_leaves_the_draws_that_were_evaluated(rng):
    """They are a random part of the draws, and their weights are right."""
    posterior, density = posterior_of(ERRORS["bent"], rng), TARGET.density(gradient=False)
    density.keep_history()
    with density.within(Limits(last_evals=300)):
        sample = judged_draws(density, posterior, posterior.counts(2000), rng)
    assert 200 < len(sample) == sample.counts.sum() <= 300
    weights = weights_of(sample, posterior, rng)
    assert abs(weights.total - TARGET.log_z) < 4 * weights.total_se


@pytest.mark.parametrize("n", [2, 7, 100, 501])
def test_no_more_is_drawn_than_was_asked_for(n, rng):
    posterior = posterior_of(ERRORS["bent"], rng)
    counts = posterior.counts(n)
    assert counts.sum() <= n
    assert counts[-1] >= 1


def test_joined_samples_are_weighed_as_one(rng):
    posterior, density = posterior_of(ERRORS["bent"], rng), TARGET.density(gradient=False)
    first = judged_draws(density, posterior, posterior.counts(120), rng)
    second = judged_draws(density, posterior, posterior.counts(40), rng)
    before = density.n_logp_evals
    both = joined_draws(posterior, first, second, rng)
    assert density.n_logp_evals == before == len(first) + len(second) == len(both)
    np.testing.assert_array_equal(both.counts, first.counts + second.counts)
    np.testing.assert_array_equal(both.counts, np.bincount(both.stratum))
    np.testing.assert_array_equal(both.stratum, np.sort(both.stratum))
    np.testing.assert_allclose(both.logp, TARGET.logp(both.x))
    np.testing.assert_allclose(both.log_q, posterior.log_q(both.x, both.counts, rng))


def test_the_density_of_the_draws_is_normalised(rng):
    """On a grid, q integrates to one for any numbers of draws."""
    posterior = posterior_of(ERRORS["bent"], rng)
    axis = np.linspace(-20, 20, 201)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    for counts in (np.array([10, 10, 10]), np.array([50, 3, 7])):
        mass = np.exp(posterior.log_q(x, counts, rng)).sum() * (axis[1] - axis[0]) ** 2
        # But for the errors of the emulated evidences, and the tails beyond the grid.
        error = 5 * posterior.weights.log_evidence_se.max() + 0.01
        assert abs(mass - 1.0) < error


class Fixed:
    """An emulated posterior of given weighted draws."""

    def __init__(self, x, ratio, partition):
        self.sample = WeightedSample(
            x, np.log(ratio), np.zeros(len(x)), np.zeros(len(x), int), np.array([len(x)])
        )
        region = partition.label(x)
        self.posterior = EmulatedPosterior(None, None, partition, None, self.sample, region, None)


def test_even_draws_take_each_draw_as_often_as_its_weight_says(rng):
    x, ratio = rng.standard_normal((40, 2)), rng.uniform(0.2, 1.0, 40)
    posterior = Fixed(x, ratio, Everywhere()).posterior
    row = {point.tobytes(): i for i, point in enumerate(x)}
    count, n, left = np.zeros(40), 10, []
    for _ in range(400):
        drawn = posterior.even_draws(0, n, rng)
        assert drawn.shape == (n, 2)
        rows = [row[point.tobytes()] for point in drawn]
        np.add.at(count, rows, 1)
        left.append(np.mean(drawn[:, 0] < 0))
    expected = 400 * n * ratio / ratio.sum()
    # Cells make the counts less variable than those of independent draws.
    assert (np.abs(count - expected) < 4 * np.sqrt(expected)).all()
    share = ratio[x[:, 0] < 0].sum() / ratio.sum()
    assert abs(np.mean(left) - share) < 4 * np.std(left) / np.sqrt(400)
    assert np.std(left) < 0.8 * np.sqrt(share * (1 - share) / n)


def test_even_draws_stay_in_their_region(rng):
    x = rng.standard_normal((60, 2))
    posterior = Fixed(x, np.ones(60), HalfSpace()).posterior
    for k in (0, 1):
        drawn = posterior.even_draws(k, 7, rng)
        assert (HalfSpace().label(drawn) == k).all()
    # One draw that is known many times is no error.
    same = Fixed(np.zeros((3, 2)), np.ones(3), Everywhere()).posterior
    np.testing.assert_array_equal(same.even_draws(0, 5, rng), np.zeros((5, 2)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 69, 200, 1001])
def test_numbers_of_draws_are_at_most_what_is_asked_for(n, rng):
    posterior = posterior_of(None, rng)
    counts = posterior.counts(n)
    assert counts.shape == (3,)
    assert n - 2 <= counts.sum() <= n
    if n >= 3:
        assert counts.min() >= 1
    if n >= 200:
        assert counts.min() >= 25
    sample = judged_draws(TARGET.density(gradient=False), posterior, posterior.counts(n), rng)
    assert len(sample) == counts.sum()
    assert np.isfinite(sample.log_q).all()


def test_regions_where_the_density_is_zero(rng):
    posterior = posterior_of(None, rng)

    class Half(type(TARGET)):
        def __call__(self, x):
            logp, grad = super().__call__(x)
            return np.where(x[:, 1] > -2.5, logp, -np.inf), grad

    half = Half(TARGET.means, TARGET.covariances, TARGET.weights, TARGET.log_z)
    sample = judged_draws(half.density(gradient=False), posterior, posterior.counts(400), rng)
    region = region_of(posterior, sample)
    np.testing.assert_array_equal(region == -1, sample.x[:, 1] <= -2.5)
    weights = weights_of(sample, posterior, rng)
    exact = TARGET.draws(400_000, rng)
    kept = np.mean(exact[:, 1] > -2.5)
    assert abs(weights.total - TARGET.log_z - np.log(kept)) < 4 * weights.total_se
