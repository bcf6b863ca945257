"""The first answer: importance sampling from a mixture over the modes, and when it is precise."""

import numpy as np
import pytest
from densities import Banana, Mixture, Shoulder, StudentT, VonMises, gaussian, two_modes
from searches import five_modes, settled_search

from pymc_multimodal.approximation import (
    FirstAnswer,
    approximate,
    approximate_met,
    begin_mixture,
    first_mixture,
    first_round,
    region_draws,
    weights_of_sample,
)
from pymc_multimodal.approximation.sample import WeightedSample, draw_sample
from pymc_multimodal.search import ModeSearch, climb_from, modes_of
from pymc_multimodal.target.target import Target

WIDE = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2), 0.2 * np.eye(2)], [0.4, 0.6], log_z=2.0)


def approximated(target, rng, target_se=0.01, **settings):
    density, search_settings = target.density(), ModeSearch(starts=64)
    search = settled_search(density, search_settings, rng)
    modes = modes_of(density, search, search_settings)
    found = approximate(
        Target(density), modes, search.distribution, FirstAnswer(**settings), target_se, rng
    )
    return found, density, search


@pytest.mark.parametrize(
    "target",
    [WIDE, five_modes(), two_modes(dim=20), StudentT(3, 1.0), gaussian(np.ones(4), np.eye(4))],
    ids=["unequal", "five", "20-D", "cauchy", "one"],
)
def test_weights_and_evidence_are_right_where_it_is_precise(target, rng):
    found, density, _ = approximated(target, rng)
    assert found.verdict.precise
    weights = found.weights
    assert abs(weights.total - target.log_z) < 4 * weights.total_se
    assert weights.total_se <= 0.02
    if isinstance(target, Mixture):
        share = np.array(target.weights)[
            [np.argmin(np.linalg.norm(target.means - x, axis=1)) for x in found.modes.locations]
        ]
        np.testing.assert_array_less(np.abs(weights.weight - share), 4 * weights.weight_se + 1e-6)
        assert weights.weight_se.max() <= 0.01
    assert density.n_logp_evals < 15_000


def test_circular_coordinates_are_covered_across_the_seam(rng):
    target = VonMises([np.pi, 0.3], [20.0, 10.0], [0.6, 0.4])
    found, _, _ = approximated(target, rng)
    assert found.verdict.precise
    assert abs(found.weights.total - target.log_z) < 4 * found.weights.total_se


def test_errors_are_those_of_repeated_fits():
    """Seeds of the whole: search, fits and samples."""
    z = []
    for seed in range(40):
        found, _, _ = approximated(WIDE, np.random.default_rng(seed), target_se=0.05)
        assert found.verdict.precise
        w = found.weights
        share = 0.4 if found.modes.locations[0, 0] < 0 else 0.6
        z += [(w.total - 2.0) / w.total_se, (w.weight[0] - share) / w.weight_se[0]]
    # The mean of 80 squares of normal variables is 1 within 4 * sqrt(2 / 80).
    assert 1 - 4 * np.sqrt(2 / 80) < np.mean(np.square(z)) < 1 + 4 * np.sqrt(2 / 80)


@pytest.mark.parametrize("target", [Banana(6), Shoulder()], ids=["banana", "shoulder"])
def test_what_a_mixture_does_not_describe_is_not_precise_or_right(target, rng):
    found, _, _ = approximated(target, rng)
    if found.verdict.precise:
        assert abs(found.weights.total - target.log_z) < 4 * found.weights.total_se
    else:
        assert found.verdict.reasons or found.verdict.missing > 1


def test_less_is_drawn_where_less_is_asked_for():
    sizes = [
        len(approximated(WIDE, np.random.default_rng(1), target_se=se)[0].sample)
        for se in (0.001, 0.003, 0.03)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_a_sample_is_enlarged_until_its_errors_are_those_asked_for():
    """One enlargement may be too little, since the errors are estimates: that costs no round."""
    for seed in range(10):
        found, _, _ = approximated(WIDE, np.random.default_rng(seed), target_se=0.0015)
        assert found.verdict.precise
        assert found.rounds == 1
        assert found.weights.weight_se.max() <= 0.0015


def test_a_stratified_sample_has_the_variance_within_its_strata(rng):
    """Of two strata with constant values the mean has no error, however unlike they are."""
    stratum = np.repeat([0, 1], [30, 70])
    zeros = np.zeros(100)
    sample = WeightedSample(zeros[:, None], zeros, zeros, stratum, np.array([30, 70]))
    values = np.where(stratum == 0, 5.0, -1.0)
    assert sample.standard_error(values)[0] == 0.0
    noise = rng.standard_normal(100)
    expected = np.sqrt(30 * noise[:30].var(ddof=1) + 70 * noise[30:].var(ddof=1)) / 100
    np.testing.assert_allclose(sample.standard_error(values + noise)[0], expected)


def test_samples_of_one_mixture_are_joined(rng):
    found, density, _ = approximated(WIDE, rng)
    counts = found.sample.counts
    more = draw_sample(density, found.mixture, counts, rng)
    both = found.sample.joined(more, found.mixture)
    assert len(both) == 2 * len(found.sample)
    np.testing.assert_array_equal(both.counts, 2 * counts)
    ratios = np.concatenate([found.sample.ratio * np.exp(found.sample.shift - both.shift),
                             more.ratio * np.exp(more.shift - both.shift)])  # fmt: skip
    np.testing.assert_allclose(np.sort(both.ratio), np.sort(ratios), rtol=1e-6)


def test_densities_are_kept_when_a_mode_is_added(rng):
    """The known mode has the density that was fitted to draws; the new one Laplace's."""
    target = Mixture([[0.0, 0.0], [9.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])
    density, settings = target.density(), ModeSearch(starts=target.means[:1] + 0.3)
    search = settled_search(density, settings, rng)
    one = modes_of(density, search, settings)
    found = approximate(Target(density), one, search.distribution, FirstAnswer(), 0.01, rng)
    search, _ = climb_from(density, search, settings, target.means[1:] + 0.3)
    two = modes_of(density, search, settings)
    [old] = np.flatnonzero(two.counterparts(one) == 0)
    mixture = begin_mixture(Target(density), two, search.distribution, before=found)
    plain = begin_mixture(Target(density), two, search.distribution)
    assert mixture.densities[old] is found.mixture.densities[0]
    np.testing.assert_array_equal(mixture.densities[1 - old].means, plain.densities[1 - old].means)
    np.testing.assert_allclose(mixture.shares, plain.shares)
    both = first_round(mixture, Target(density), two, FirstAnswer(), 0.01, rng)
    assert abs(both.weights.total) < 4 * both.weights.total_se


def test_the_mixture_is_normalised(rng):
    _, density, search = approximated(WIDE, rng)
    modes = modes_of(density, search, ModeSearch())
    mixture = first_mixture(modes, modes.log_mass, search.distribution, density.period)
    x = rng.uniform(-40, 40, size=(200_000, 2))
    value = np.exp(mixture.log_density(x))
    # Tails of t densities reach beyond the square.
    assert abs(value.mean() * 80.0**2 - 1) < 4 * value.std() * 80.0**2 / np.sqrt(len(x)) + 0.02


def test_chains_that_met_what_the_sample_has_not_forbid_an_exit(rng):
    found, density, _ = approximated(WIDE, rng)
    target = Target(density)
    inside = found.sample.x[:50]
    assert found.met(target, inside, density.logp(inside)).verdict.precise
    far = np.array([[0.0, 30.0]])
    refuted = found.met(target, far, found.mixture.log_density(far) + found.sample.shift + 3.0)
    assert not refuted.verdict.precise
    assert "chains met" in refuted.verdict.reasons[-1]


def test_draws_of_regions_are_resampled_by_their_ratios(rng):
    found, _, _ = approximated(WIDE, rng)
    sample = found.sample
    region = np.where(np.isfinite(sample.logp), (sample.x[:, 0] > 0).astype(int), -1)
    draws = region_draws(sample, region, WIDE.means, 2, rng)
    for k, sd in enumerate((1.0, np.sqrt(0.2))):
        x = draws.x[k].reshape(-1, 2)
        assert ((x[:, 0] > 0) == k).all()
        error = 4 * sd / np.sqrt(draws.ess[k])
        assert np.abs(x.mean(axis=0) - WIDE.means[k]).max() < error + 0.01
    weights = weights_of_sample(sample, region, 2)
    assert abs(weights.weight[0] - 0.4) < 4 * weights.weight_se[0]
    assert weights.interval[0, 0] < weights.weight[0] < weights.interval[0, 1]


def test_a_region_without_a_draw_is_represented_by_its_centre(rng):
    x = rng.standard_normal((10, 2))
    sample = WeightedSample(
        x, np.zeros(10), np.zeros(10), np.zeros(10, dtype=int), np.array([10, 0])
    )
    centre = np.array([[0.0, 0.0], [5.0, 5.0]])
    draws = region_draws(sample, np.zeros(10, dtype=int), centre, 0, rng)
    assert (draws.x[1] == centre[1]).all()
    assert np.isnan(draws.logp[1]).all()
    assert draws.ess[1] == 0.0


@pytest.mark.parametrize(("mass", "sd"), [(1e-5, 0.002), (0.3, 0.1)])
def test_what_chains_have_met_is_weighed_by_draws_of_a_part_there(mass, sd, rng):
    """A place that no mode describes refutes a sample; it may hold next to nothing, or much."""
    target = Mixture([[-4.0, 0.0], [4.0, 3.0]], [np.eye(2), sd**2 * np.eye(2)], [1.0 - mass, mass])
    density, settings = target.density(), ModeSearch(starts=target.means[:1])
    search = settled_search(density, settings, rng)
    modes = modes_of(density, search, settings)
    whole, asked = Target(density), FirstAnswer()
    # The wide density sees a place of much mass; such a sample is not precise.
    wide = search.distribution
    found = approximate(whole, modes, wide, asked, 0.01, rng)
    x = target.means[1] + sd * rng.standard_normal((400, 2))
    logp = density.logp(x)
    if mass < 0.1:
        assert found.verdict.precise
        assert not found.met(whole, x, logp).verdict.precise
    again = approximate_met(found, whole, x, logp, asked, 0.01, rng)
    assert again.verdict.precise
    assert again.met(whole, x, logp).verdict.precise
    if mass < 0.1:
        assert again.adds_next_to_nothing(found, 0.01)
        # Relative to an error that is asked for and smaller than that, it is not.
        assert not again.adds_next_to_nothing(found, 1e-5)
    weights = again.weights
    assert abs(weights.total) < 4 * weights.total_se
    assert weights.total_se < 0.02
