"""What a weighted sample says of its own precision."""

import numpy as np

from pymc_multimodal.approximation import (
    FirstAnswer,
    WeightedSample,
    judge,
    weights_of_sample,
)

TARGET_SE = 0.02


def sample_of(ratios, rng):
    """A sample of one stratum for each array of ratios, and an empty wide one."""
    counts = np.array([*map(len, ratios), 0])
    stratum = np.repeat(np.arange(len(counts)), counts)
    log_q = rng.standard_normal(counts.sum())
    x = rng.standard_normal((counts.sum(), 2))
    return WeightedSample(x, log_q + np.log(np.concatenate(ratios)), log_q, stratum, counts)


def pareto(index, n):
    """Quantiles of a Pareto distribution, of which the tail index is ``1 / index``."""
    return (1.0 - (np.arange(n) + 0.5) / n) ** (-1.0 / index)


def verdict_of(ratios, rng):
    sample, before = sample_of(ratios, rng), sample_of(ratios, rng)
    return judge(sample, before, sample.stratum, before.stratum, FirstAnswer(), TARGET_SE)


def test_nothing_speaks_against_equal_ratios(rng):
    verdict = verdict_of([np.ones(1500), 0.1 * np.ones(500)], rng)
    assert verdict.precise
    assert verdict.doubted == ()


def test_a_mode_whose_own_draws_alone_are_poor_is_named(rng):
    # Shares of 0.97 and 0.03; few of the second one's draws have nearly all of its mass.
    heavy = np.minimum(pareto(0.7, 300), 200.0)
    heavy *= 0.03 / 0.97 * 1500 / heavy.sum()
    verdict = verdict_of([np.ones(1500), heavy], rng)
    assert verdict.doubted == (1,)
    assert all("mode 1" in reason for reason in verdict.reasons)


def test_no_mode_is_named_where_the_whole_sample_is_poor(rng):
    heavy = pareto(0.7, 300)
    verdict = verdict_of([np.exp(2.0 * rng.standard_normal(1500)), heavy], rng)
    assert any("mode" not in reason for reason in verdict.reasons)
    assert verdict.doubted == ()


def test_small_modes_are_doubted_together(rng):
    # Each holds less than the error asked for; of some ratios of both there is no mean.
    small = [0.002 * 2000 * pareto(0.5, 60) / pareto(0.5, 60).sum()] * 2
    verdict = verdict_of([np.ones(2000), *small], rng)
    assert verdict.doubted == (1, 2)


def test_a_tail_index_is_stated_where_ratios_are_not_bounded(rng):
    bounded, heavy = np.exp(0.2 * rng.standard_normal(1000)), pareto(2.0, 1000)
    sample = sample_of([bounded, heavy], rng)
    bounded_index, heavy_index = weights_of_sample(sample, sample.stratum, 2).pareto_k
    assert np.isnan(bounded_index)
    assert abs(heavy_index - 0.5) < 0.15
