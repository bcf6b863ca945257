"""Mixture importance sampling: pieces of a region that its own chains miss, with their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, Mixture, StudentT, exact_local
from regional import PAIR, SHAPES, Sliver, bridge_samples, elliptical, exact_masses
from scipy.stats import norm

from pymc_multimodal.evidence import (
    cross_check,
    estimate,
    leaked_mass,
    negligible_regions,
    quick_weights,
)
from pymc_multimodal.evidence.importance import counted_gap
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.proposals.base import RegionFit
from pymc_multimodal.proposals.elliptical import joined
from pymc_multimodal.target.limits import Limits

LINE = np.full(2, np.inf)


# ------------------------------------------------------------------ negligible regions


def test_only_what_cannot_matter_is_negligible(rng):
    weights = np.array([0.7, 0.3 - 1e-5, 1e-5])
    target = Mixture([[-9.0, 0.0], [9.0, 0.0], [0.0, 20.0]], [np.eye(2)] * 3, weights)
    local = exact_local(
        Mixture(target.means, target.covariances, [0.4, 0.4, 0.2]),
        lambda x: ((x[:, None] - target.means) ** 2).sum(axis=2).argmin(axis=1), 3, rng,
    )  # fmt: skip
    local = replace(local, logp=tuple(target(x.reshape(-1, 2))[0].reshape(16, -1) for x in local.x))
    shapes = tuple(elliptical(mean) for mean in target.means)
    for target_se, last in ((0.01, True), (5e-4, True), (5e-5, False)):
        found = negligible_regions(quick_weights(local, shapes)[1], target_se)
        np.testing.assert_array_equal(found, [False, False, last])
    # One chain of sixteen that has found something heavy is enough to stay.
    logp = local.logp[2].copy()
    logp[5] += 10.0
    heavier = replace(local, logp=(*local.logp[:2], logp))
    assert not negligible_regions(quick_weights(heavier, shapes)[1], 0.01).any()
    # The guess is that of all chains.
    np.testing.assert_allclose(quick_weights(heavier, shapes)[0], weights, atol=0.05)


# ------------------------------------------------------------------ leaked mass


@pytest.mark.parametrize("cut", [0.01, 0.1])
def test_a_sliver_cut_off_is_found_with_its_size(cut, rng):
    partition = Sliver(norm.isf(cut))
    mass, sliver = exact_masses(partition)
    exact = Mixture(PAIR.means, PAIR.covariances, PAIR.weights)
    gaussians = (elliptical(PAIR.means[0]), elliptical(PAIR.means[1]))
    found = []
    for _ in range(20):
        local = exact_local(exact, partition.without, 2, rng)
        shares = leaked_mass(exact.density(), partition, gaussians, local, rng)
        assert shares.shape == (2, 2)
        assert shares[0, 0] == shares[1, 1] == 0
        found.append([shares[1, 0], shares[0, 1]])
    found = np.array(found)
    # Proposals of the one mode bring in the other's tail across x = 0 too: a thousandth.
    expected = sliver / mass[1]
    assert abs(found[:, 0].mean() - expected) < 4 * found[:, 0].std() / np.sqrt(20) + 3e-3
    # Proposals are binomial: a hundred or a thousand of 10,000 land in the sliver.
    assert found[:, 0].std() < 2 * expected / np.sqrt(1e4 * cut)
    assert found[:, 1].max() < 4e-3


def test_a_right_border_leaks_no_mass(rng):
    far = Mixture([[-5.0, 0.0], [5.0, 0.0]], PAIR.covariances, PAIR.weights)
    local = exact_local(far, HalfSpace().label, 2, rng)
    for config in (Hybrid(families=("gaussian",)), Hybrid(families=("gaussian", "mixture"))):
        densities = config.fit_regions(local, LINE, rng).densities
        shares = leaked_mass(far.density(), HalfSpace(), densities, local, rng)
        assert shares.max() < 1e-3


def test_a_chain_stuck_far_out_leaks_no_mass(rng):
    far = Mixture([[-5.0, 0.0], [5.0, 0.0]], PAIR.covariances, PAIR.weights)
    local = exact_local(far, HalfSpace().label, 2, rng)
    x = [part.copy() for part in local.x]
    x[1][3] = [5.0, 14.0]
    logp = tuple(far(part.reshape(-1, 2))[0].reshape(part.shape[:2]) for part in x)
    stuck = replace(local, x=tuple(x), logp=logp)
    shapes = (elliptical(far.means[0], 3.0), elliptical(far.means[1], 3.0))
    assert leaked_mass(far.density(), HalfSpace(), shapes, stuck, rng).max() < 0.02


def test_one_region_leaks_no_mass(rng):
    local = exact_local(PAIR, lambda x: np.zeros(len(x), int), 1, rng)
    density = PAIR.density()
    shares = leaked_mass(density, HalfSpace(), SHAPES[:1], local, rng)
    np.testing.assert_array_equal(shares, np.zeros((1, 1)))
    assert density.n_logp_evals == 0


# ------------------------------------------------------------------ cross check


def weighed(partition, label, rng, proposals=20_000, density=None):
    density = density or PAIR.density()
    local = exact_local(PAIR, label, 2, rng)
    samples = bridge_samples(density, partition, RegionFit(SHAPES), [proposals] * 2, rng)
    return samples, estimate(samples, local, density)


def checked(samples, partition, weights):
    return cross_check(samples, PAIR.density(), partition, weights)[1]


def test_a_missing_piece_is_counted_and_named(rng):
    partition = Sliver(norm.isf(0.05))
    samples, weights = weighed(partition, partition.without, rng)
    mass, sliver = exact_masses(partition)
    truth = PAIR.log_z + np.log(mass)
    # The bridge sees what the chains do; the check sees all.
    own = PAIR.log_z + np.log(mass - [0, sliver])
    assert np.all(np.abs(weights.log_evidence - own) < 4 * weights.log_evidence_se)
    check = checked(samples, partition, weights)
    assert np.all(np.abs(check.log_mass - truth) < 4 * check.log_mass_se)
    assert check.gap[0] == 0
    joint = np.hypot(check.log_mass_se, weights.log_evidence_se)
    assert abs(check.gap[1] - (truth - own)[1]) < 4 * joint[1]
    [status] = check.statuses
    assert (status.code, status.stage, status.mode) == ("border", "evidence", 1)
    wide = weights.widened(check.gap)
    assert abs(wide.log_evidence[1] - truth[1]) < 2 * wide.log_evidence_se[1]


def test_a_tail_that_no_chain_reaches_is_counted_and_named(rng):
    """One draw in ten lies beyond all chains; the proposals have heavy tails."""
    target, everywhere = StudentT(2, 1.0), Everywhere()
    # The radius of a bivariate Cauchy variable exceeds r with a probability of (1 + r^2)^-1/2.
    beyond = np.sqrt(0.1**-2 - 1)

    def far(x):
        return (np.hypot(*x.T) > beyond).astype(int)

    draws = exact_local(target, far, 1, rng, draws=2_000)
    density = target.density()
    parts = [elliptical(np.zeros(2), df, size) for df, size in ((3.0, 1.0), (1.0, 2.0))]
    fitted = RegionFit((joined(parts, [0.95, 0.05]),))
    samples = bridge_samples(density, everywhere, fitted, [20_000], rng)
    weights = estimate(samples, draws, density)
    assert weights.total < -10 * weights.total_se
    evaluated = density.n_logp_evals
    samples, check = cross_check(samples, density, everywhere, weights)
    assert density.n_logp_evals == evaluated
    assert abs(check.log_mass[0]) < 4 * check.log_mass_se[0]
    [status] = check.statuses
    assert status.code == "border"
    wide = weights.widened(check.gap)
    assert abs(wide.total) < 2 * wide.total_se


def test_exact_draws_agree_and_errors_are_right(rng):
    partition = Sliver(norm.isf(0.05))
    truth = PAIR.log_z + np.log(exact_masses(partition)[0])
    z, named, gaps = [], 0, 0
    for _ in range(20):
        samples, weights = weighed(partition, partition.label, rng, 4_000)
        check = checked(samples, partition, weights)
        z.append((check.log_mass - truth) / check.log_mass_se)
        named += len(check.statuses)
        gaps += np.count_nonzero(check.gap)
    # Forty scores, negatively correlated within a pair: their root mean square is 1 within 0.15.
    z = np.array(z)[np.isfinite(z)]
    assert len(z) >= 30
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.5
    assert named == 0
    # One in seven exceeds 1.5 joint errors.
    assert gaps <= 11


@pytest.mark.parametrize(("leak", "coverage"), [(0.0, 0.95), (1.0, 0.9), (2.0, 0.85), (5.0, 0.95)])
@pytest.mark.parametrize("precision", [0.3, 0.8])
def test_errors_cover_a_leak_of_two_errors(leak, coverage, precision, rng):
    """A leak too small to be noticed is in the error, and no leak does not blow the error up.

    The estimate has an error of 1, the second one of `precision`; the leak is in joint errors.
    """
    n, joint = 20_000, np.hypot(1.0, precision)
    estimate = -leak * joint + rng.standard_normal(n)
    gap = counted_gap(precision * rng.standard_normal(n) - estimate, np.full(n, joint))
    z = estimate / np.hypot(1.0, gap)
    assert np.mean(np.abs(z) < 1.96) > coverage
    if leak == 0.0:
        assert np.sqrt(np.mean(z**2)) > 0.75


@pytest.mark.parametrize(("cut", "proposals"), [(0.05, 1_000), (0.01, 20_000)])
def test_ratios_within_a_factor_of_two_are_judged(cut, proposals, rng):
    """Ratios of a sliver are 1.5 times the region's own: two levels are no heavy tail."""
    partition = Sliver(norm.isf(cut))
    samples, weights = weighed(partition, partition.without, rng, proposals)
    x, logp = np.concatenate(samples.points), np.concatenate(samples.logp)
    log_q = np.logaddexp(*(q.log_density(x) for q in SHAPES))
    ratio = np.where(np.isnan(logp), PAIR.logp(x), logp) - log_q
    assert ratio.max() < np.median(ratio[partition.label(x) == 1]) + np.log(2.0)
    assert np.isfinite(checked(samples, partition, weights).log_mass).all()


def test_a_coarse_check_asks_for_more_proposals(rng):
    partition = HalfSpace()
    samples, weights = weighed(partition, partition.label, rng, 1_000)
    check = checked(samples, partition, weights)
    precise = replace(weights, log_evidence_se=check.log_mass_se / 1.5)
    more = check.wanted(samples, precise)
    np.testing.assert_allclose(more, 1.5**3 * 1_000 - 1_000, atol=1)
    assert not check.wanted(samples, replace(weights, log_evidence_se=check.log_mass_se * 3)).any()
    capped = check.wanted(samples, replace(weights, log_evidence_se=check.log_mass_se / 100))
    np.testing.assert_array_equal(capped, 9_000)
    unknown = replace(check, log_mass_se=np.array([np.nan, np.nan]))
    assert not unknown.wanted(samples, weights).any()


def test_a_check_keeps_to_the_limits_and_evaluates_nothing_twice(rng):
    density, partition = PAIR.density(), HalfSpace()
    samples, weights = weighed(partition, partition.label, rng, 4_000, density)
    before = density.n_logp_evals
    density.limits = Limits(early_evals=0)
    same, refused = cross_check(samples, density, partition, weights)
    assert density.n_logp_evals == before
    assert same is samples
    assert np.isnan(refused.log_mass).all()
    assert not refused.gap.any()
    density.limits = Limits()
    known = [logp.copy() for logp in samples.logp]
    evaluated, first = cross_check(samples, density, partition, weights)
    assert density.n_logp_evals > before
    # The record that was given has not changed; the one returned has nothing left to evaluate.
    for old, given, new in zip(known, samples.logp, evaluated.logp, strict=True):
        np.testing.assert_array_equal(old, given)
        assert not np.isnan(new).any()
    spent = density.n_logp_evals
    again = cross_check(evaluated, density, partition, weights)[1]
    assert density.n_logp_evals == spent
    np.testing.assert_array_equal(again.log_mass, first.log_mass)


def test_a_gap_widens_the_errors(rng):
    partition = Sliver(norm.isf(0.05))
    _, weights = weighed(partition, partition.label, rng, 2_000)
    assert weights.widened(np.zeros(2)) is weights
    wide = weights.widened(np.array([0.0, 0.3]))
    np.testing.assert_allclose(wide.log_evidence_se, np.hypot(weights.log_evidence_se, [0.0, 0.3]))
    p = weights.weight
    spread = np.hypot(*wide.log_evidence_se)
    np.testing.assert_allclose(wide.weight_se, p[0] * p[1] * spread, rtol=1e-6)
    assert np.isclose(wide.total_se, np.sqrt(np.sum((p * wide.log_evidence_se) ** 2)))
    assert np.all(wide.interval[:, 0] < weights.interval[:, 0])
    assert np.all(wide.interval[:, 1] > weights.interval[:, 1])
    for name in ("weight", "log_evidence", "from_draws", "from_proposals"):
        np.testing.assert_array_equal(getattr(wide, name), getattr(weights, name))
