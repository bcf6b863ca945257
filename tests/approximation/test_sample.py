"""Errors of weighted samples: by strata, for many groups, and of modes with few draws each."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture
from searches import settled_search

from pymc_multimodal.approximation import (
    FirstAnswer,
    LeftOut,
    WeightedSample,
    begin_mixture,
    first_round,
    judge,
    negligible_modes,
)
from pymc_multimodal.proposals import EllipticalMixture, GaussianMixture
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target import Target

LINE = np.full(2, np.inf)


def many_normals(k, dim, seed=0):
    """Normals of equal width, at least 12 standard deviations apart on the first two axes."""
    rng = np.random.default_rng(seed)
    means = np.zeros((k, dim))
    means[:, :2] = 12.0 * np.array([divmod(i, 10) for i in range(k)])
    weights = rng.uniform(1.0, 3.0, k)
    return Mixture(means, [np.eye(dim)] * k, weights / weights.sum())


def modes_at_means(target, rng):
    density, settings = target.density(), ModeSearch(starts=target.means + 0.3)
    search = settled_search(density, settings, rng)
    return Target(density), search, modes_of(density, search, settings)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_errors_of_groups_are_those_of_their_indicators(k, rng):
    counts = np.array([40, 1, 0, 25, 2])
    stratum = np.repeat(np.arange(5), counts)
    logp = np.where(rng.random(68) < 0.1, -np.inf, rng.standard_normal(68))
    sample = WeightedSample(np.zeros((68, 1)), logp, np.zeros(68), stratum, counts)
    group, share = rng.integers(-1, k, 68), rng.random(k)
    inside = group[:, None] == np.arange(k)
    expected = sample.standard_error(sample.ratio[:, None] * (inside - share))
    np.testing.assert_allclose(sample.group_errors(group, share), expected, rtol=1e-9)
    np.testing.assert_allclose(
        sample.group_means(group, k), (sample.ratio[:, None] * inside).mean(axis=0)
    )


def test_components_get_their_shares_of_the_draws(rng):
    """Numbers differ from the shares by less than one, and not in the mean."""
    weights, same = np.array([0.62, 0.33, 0.05]), np.stack([np.eye(2)] * 3)
    inner = GaussianMixture(weights, np.zeros((3, 2)), same)
    q = EllipticalMixture(inner, np.array([np.inf, 5.0, 3.0]), LINE, np.zeros(2))
    counts = np.array([np.bincount(q.sample_evenly(37, rng)[1], minlength=3) for _ in range(2000)])
    assert (counts.sum(axis=1) == 37).all()
    assert (np.abs(counts - 37 * weights) < 1).all()
    # The variance of a number that is rounded at random is at most 1/4.
    np.testing.assert_allclose(counts.mean(axis=0), 37 * weights, atol=4 * 0.5 / 2000**0.5)


def test_errors_of_many_modes_are_calibrated(rng):
    """Each mode has some 150 draws, of which a tenth are of its tails."""
    target = many_normals(100, 8)
    folded, search, modes = modes_at_means(target, rng)
    assert len(modes) == 100
    mixture = begin_mixture(folded, modes, search.distribution)
    found = first_round(mixture, folded, modes, FirstAnswer(), 0.01, rng)
    assert found.verdict.precise
    weights = found.weights
    z = (weights.weight - target.weights[target.component(modes.locations)]) / weights.weight_se
    # The mean of 100 squares of normal variables is 1 within 4 * sqrt(2 / 100).
    assert 1 - 4 * np.sqrt(2 / 100) < np.mean(z**2) < 1 + 4 * np.sqrt(2 / 100)
    assert np.abs(z).max() < 4.5
    assert abs(weights.total) < 4 * weights.total_se


def test_of_many_modes_none_is_negligible_for_being_small_beside_all(rng):
    """One of a hundred modes holds less than the error asked for, and half as much as others do."""
    target = many_normals(100, 2)
    folded, search, modes = modes_at_means(target, rng)
    every = np.ones(len(modes), dtype=bool)
    small = negligible_modes(
        folded, modes, search.distribution, every, 0.02, rng, LeftOut.of(search.optima)
    )
    assert not small.any()


@pytest.mark.parametrize(("share", "precise"), [(0.004, True), (0.05, False)])
def test_modes_of_less_than_the_error_asked_for_need_a_mean_only(share, precise, rng):
    """Ratios in the last mode have a mean and no variance; those of the others are equal."""
    counts = np.array([2000, 2000, 200, 10])
    stratum = np.repeat(np.arange(4), counts)
    ratio = np.ones(len(stratum))
    heavy = 1 + rng.pareto(1.25, 200)
    ratio[stratum == 2] = heavy * share * 4000 / heavy.sum()
    ratio[stratum == 3] = 1e-12
    mode = np.where(stratum == 3, -1, stratum)
    sample = WeightedSample(np.zeros((len(ratio), 1)), np.log(ratio), 0 * ratio, stratum, counts)
    verdict = judge(sample, sample, mode, mode, FirstAnswer(min_mode_ess=1e-6), 0.01)
    named = [reason for reason in verdict.reasons if "mode 2" in reason or "small" in reason]
    assert (not named) is precise


@pytest.mark.parametrize(("height", "precise"), [(1.0, True), (20.0, False)])
def test_few_draws_of_a_small_mode_refuse_no_sample_unless_one_is_heavy(height, precise, rng):
    """Of eight draws there is no tail index; the mode holds about 0.002 of the mass, or 0.008."""
    counts = np.array([9000, 9000, 8, 10])
    stratum = np.repeat(np.arange(4), counts)
    ratio = np.ones(len(stratum))
    ratio[stratum == 2] = 1e-6
    ratio[np.flatnonzero(stratum == 2)[0]] = height
    ratio[stratum == 3] = 1e-12
    mode = np.where(stratum == 3, -1, stratum)
    sample = WeightedSample(np.zeros((len(ratio), 1)), np.log(ratio), 0 * ratio, stratum, counts)
    verdict = judge(sample, sample, mode, mode, FirstAnswer(min_mode_ess=1e-6), 0.01)
    assert ([reason for reason in verdict.reasons if "small" in reason] == []) is precise


def exponential_sample(n, largest, k=1):
    """A sample of n draws in k modes with ratios like exponential variables, and one large one."""
    stratum = np.repeat(np.arange(k + 1), [*[n // k] * k, 10])
    ratio = np.random.default_rng(1).exponential(size=len(stratum))
    ratio[0] = largest * ratio.mean()
    counts = np.bincount(stratum)
    logs, zeros = np.log(ratio), np.zeros(len(ratio))
    return WeightedSample(zeros[:, None], logs, zeros, stratum, counts), stratum


@pytest.mark.parametrize(("n", "largest", "refused"), [(2000, 30, True), (15_000, 30, False),
                                                       (15_000, 80, True)])  # fmt: skip
def test_one_draw_refuses_a_sample_of_which_it_is_a_large_part(n, largest, refused):
    sample, mode = exponential_sample(n, largest)
    verdict = judge(sample, sample, np.where(mode == 1, -1, mode), mode, FirstAnswer(), 0.01)
    named = [reason for reason in verdict.reasons if reason.startswith("one draw weighs")]
    assert bool(named) is refused


@pytest.mark.parametrize(("k", "shape", "refused"), [(1, 1.8, True), (20, 1.8, False),
                                                     (20, 1.05, True)])  # fmt: skip
def test_the_largest_of_many_tail_indices_may_be_large_by_chance(k, shape, refused):
    """Of 1,000 ratios of each mode those of one are Pareto, of index 1 / 1.8 or 1 / 1.05."""
    stratum = np.repeat(np.arange(k + 1), [*[1000] * k, 10])
    ratio = np.ones(len(stratum))
    # Quantiles in place of draws: the estimated index is that of the distribution.
    ratio[:1000] = (1.0 - (np.arange(1000) + 0.5) / 1000) ** (-1.0 / shape)
    ratio[:1000] /= ratio[:1000].mean()
    mode, zeros = np.where(stratum == k, -1, stratum), np.zeros(len(ratio))
    sample = WeightedSample(zeros[:, None], np.log(ratio), zeros, stratum, np.bincount(stratum))
    settings = FirstAnswer(min_mode_ess=1e-6, max_ratio=1e6)
    verdict = judge(sample, sample, mode, mode, settings, 0.01)
    assert bool([reason for reason in verdict.reasons if "index in mode 0" in reason]) is refused


def test_more_is_drawn_of_the_modes_that_need_it(rng):
    """The evidence of a mode with few draws is uncertain; those of the others are not."""
    counts = np.array([2000, 2000, 50, 10])
    stratum = np.repeat(np.arange(4), counts)
    ratio = np.where(stratum == 2, 0.4 * rng.lognormal(-0.5, 1.0, len(stratum)), 1.0)
    ratio[stratum == 3] = 1e-12
    mode = np.where(stratum == 3, -1, stratum)
    sample = WeightedSample(np.zeros((len(ratio), 1)), np.log(ratio), 0 * ratio, stratum, counts)
    verdict = judge(sample, sample, mode, mode, FirstAnswer(), 0.01)
    each = sample.standard_error(sample.ratio * (stratum == 2))[0]
    mean = sample.ratio[stratum == 2].sum() / len(sample)
    assert verdict.missing_of[2] >= (each / mean / 0.1) ** 2 > 1.0
    np.testing.assert_array_equal(verdict.missing_of[[0, 1, 3]], 1.0)
    assert verdict.missing == pytest.approx(verdict.missing_of @ counts / counts.sum())
    assert 1.0 < verdict.missing < 0.1 * verdict.missing_of[2]


def test_perplexity_is_one_for_equal_ratios_and_forgives_one_draw():
    """With m equal ratios of n it is m / n; one draw of 5 % leaves most of it."""
    n = 1000
    logp = np.where(np.arange(n) < 250, 0.0, -np.inf)
    one = np.zeros(n, dtype=int)
    sample = WeightedSample(np.zeros((n, 1)), logp, np.zeros(n), one, np.array([n]))
    assert sample.perplexity == pytest.approx(0.25)
    logp = np.r_[np.log(50.0), np.zeros(n - 1)]
    sample = WeightedSample(np.zeros((n, 1)), logp, np.zeros(n), one, np.array([n]))
    share = 50 / (n + 49)
    entropy = -share * np.log(share) + (1 - share) * np.log(n + 49)
    assert sample.perplexity == pytest.approx(np.exp(entropy) / n)
    assert sample.perplexity > 0.8


def test_perplexity_counts_ratios_that_are_next_to_nothing_as_none():
    """A ratio of 5e-324 of the largest is zero as a share of their sum."""
    log_ratio = np.array([0.0, 0.0, 0.0, -745.0])
    zeros, counts = np.zeros(4), np.array([4, 0])
    sample = WeightedSample(np.zeros((4, 2)), log_ratio, zeros, np.zeros(4, dtype=int), counts)
    assert sample.perplexity == pytest.approx(0.75)
