"""Borders that cut pieces off: they are found, counted as an error, and mended by jumps."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from chains import prepared, z_of_means
from densities import (
    HalfSpace,
    Mixture,
    WideNormal,
    assert_covers,
    exact_local,
    z_scores,
)
from scipy.stats import norm

from pymc_multimodal.evidence.borders import cross_check, foreign_shares, light_regions
from pymc_multimodal.evidence.weights import BridgeSamples
from pymc_multimodal.fit.pipeline import fit_density
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.moves.jumps import MixtureProposal
from pymc_multimodal.proposals import EllipticalMixture, Hybrid
from pymc_multimodal.proposals.base import RegionFit
from pymc_multimodal.regions.chains import LocalSampler
from pymc_multimodal.regions.settings import LocalSampling
from pymc_multimodal.status import worst

LINE = np.full(2, np.inf)
# Region 0 holds 0.6, region 1 0.4, a thousandth of each beyond the border between.
PAIR = Mixture([[-3.0, 0.0], [3.0, 0.0]], [np.eye(2), np.eye(2)], [0.6, 0.4], log_z=1.0)


class Sliver:
    """Halves of the plane, but what lies above a height of the left one belongs to the right."""

    n_regions = 2
    statuses = ()

    def __init__(self, height):
        self.height = height

    def cut(self, x):
        return (x[:, 0] <= 0) & (x[:, 1] > self.height)

    def label(self, x):
        return ((x[:, 0] > 0) | self.cut(x)).astype(int)

    def without(self, x):
        """Labels as the chains see them: -1 in the sliver, where none of them goes."""
        return np.where(self.cut(x), -1, self.label(x))


def one(mean, df=np.inf, size=1.0):
    return EllipticalMixture.single(np.array(mean), size * np.eye(2), df, LINE, np.zeros(2))


# What Gaussian modes are fitted by; the tails keep all the ratios bounded.
SHAPES = (one(PAIR.means[0], 8.0), one(PAIR.means[1], 8.0))


def masses(partition):
    """Exact masses of the two regions and of the sliver: products of normal probabilities."""
    left, above = norm.cdf(-PAIR.means[:, 0]), norm.sf(partition.height - PAIR.means[:, 1])
    sliver = PAIR.weights @ (left * above)
    second = PAIR.weights @ (1 - left) + sliver
    return np.array([1 - second, second]), sliver


# ------------------------------------------------------------------ light regions


def test_only_what_cannot_matter_is_light(rng):
    weights = np.array([0.7, 0.3 - 1e-5, 1e-5])
    target = Mixture([[-9.0, 0.0], [9.0, 0.0], [0.0, 20.0]], [np.eye(2)] * 3, weights)
    local = exact_local(
        Mixture(target.means, target.covariances, [0.4, 0.4, 0.2]),
        lambda x: ((x[:, None] - target.means) ** 2).sum(axis=2).argmin(axis=1), 3, rng,
    )  # fmt: skip
    local = replace(local, logp=tuple(target(x.reshape(-1, 2))[0].reshape(16, -1) for x in local.x))
    shapes = tuple(one(mean) for mean in target.means)
    for target_se, last in ((0.01, True), (5e-4, True), (5e-5, False)):
        light = light_regions(local, shapes, target_se)
        np.testing.assert_array_equal(light, [False, False, last])
    # One chain of sixteen that has found something heavy is enough to stay.
    logp = local.logp[2].copy()
    logp[5] += 10.0
    heavier = replace(local, logp=(*local.logp[:2], logp))
    assert not light_regions(heavier, shapes, 0.01).any()


def test_light_regions_are_left_alone(rng):
    config, modes, pilot = prepared(PAIR.density(), rng, LocalSampling(draws=20))
    sampler = LocalSampler(PAIR.density(), HalfSpace(), modes, pilot, config, rng)
    sampler.run(until=20)
    assert len(sampler.unmixed()) == 2
    sampler.spare(np.array([False, True]))
    assert sampler.unmixed().tolist() == [0]
    sampler.run()
    assert sampler.draws_of(0) > sampler.draws_of(1) == 20
    # No warning, but the table does not call such a mode sound.
    assert worst(sampler.result().statuses, 1) == "light"
    assert not [s for s in sampler.result().statuses if s.level == "warning" and s.mode == 1]


# ------------------------------------------------------------------ foreign shares


@pytest.mark.parametrize("cut", [0.01, 0.1])
def test_a_sliver_cut_off_is_found_with_its_size(cut, rng):
    partition = Sliver(norm.isf(cut))
    mass, sliver = masses(partition)
    exact = Mixture(PAIR.means, PAIR.covariances, PAIR.weights)
    gaussians = (one(PAIR.means[0]), one(PAIR.means[1]))
    found = []
    for _ in range(20):
        local = exact_local(exact, partition.without, 2, rng)
        shares = foreign_shares(exact.density(), partition, gaussians, local, rng)
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


def test_a_right_border_leaves_nothing_foreign(rng):
    far = Mixture([[-5.0, 0.0], [5.0, 0.0]], PAIR.covariances, PAIR.weights)
    local = exact_local(far, HalfSpace().label, 2, rng)
    for config in (Hybrid(families=("gaussian",)), Hybrid(families=("gaussian", "mixture"))):
        densities = config.fit_regions(local, LINE, rng).densities
        shares = foreign_shares(far.density(), HalfSpace(), densities, local, rng)
        assert shares.max() < 1e-3


def test_a_chain_stuck_far_out_makes_nothing_foreign(rng):
    far = Mixture([[-5.0, 0.0], [5.0, 0.0]], PAIR.covariances, PAIR.weights)
    local = exact_local(far, HalfSpace().label, 2, rng)
    x = [part.copy() for part in local.x]
    x[1][3] = [5.0, 14.0]
    logp = tuple(far(part.reshape(-1, 2))[0].reshape(part.shape[:2]) for part in x)
    stuck = replace(local, x=tuple(x), logp=logp)
    shapes = (one(far.means[0], 3.0), one(far.means[1], 3.0))
    assert foreign_shares(far.density(), HalfSpace(), shapes, stuck, rng).max() < 0.02


def test_one_region_has_nothing_foreign(rng):
    local = exact_local(PAIR, lambda x: np.zeros(len(x), int), 1, rng)
    density = PAIR.density()
    shares = foreign_shares(density, HalfSpace(), SHAPES[:1], local, rng)
    np.testing.assert_array_equal(shares, np.zeros((1, 1)))
    assert density.n_logp_evals == 0


# ------------------------------------------------------------------ cross check


def weighed(partition, label, rng, proposals=20_000):
    local = exact_local(PAIR, label, 2, rng)
    weighing = BridgeSamples(PAIR.density(), partition, RegionFit(SHAPES), rng)
    weighing.extend(np.full(2, proposals))
    return weighing, weighing.weigh(local)


def test_a_missing_piece_is_counted_and_named(rng):
    partition = Sliver(norm.isf(0.05))
    weighing, weights = weighed(partition, partition.without, rng)
    mass, sliver = masses(partition)
    truth = PAIR.log_z + np.log(mass)
    # The bridge sees what the chains do; the check sees all.
    own = PAIR.log_z + np.log(mass - [0, sliver])
    assert np.all(np.abs(weights.log_evidence - own) < 4 * weights.log_evidence_se)
    check = cross_check(weighing, weights)
    assert np.all(np.abs(check.log_mass - truth) < 4 * check.log_mass_se)
    assert check.gap[0] == 0
    joint = np.hypot(check.log_mass_se, weights.log_evidence_se)
    assert abs(check.gap[1] - (truth - own)[1]) < 4 * joint[1]
    [status] = check.statuses
    assert (status.code, status.stage, status.mode) == ("border", "weights", 1)
    wide = weights.widened(check.gap)
    assert abs(wide.log_evidence[1] - truth[1]) < 2 * wide.log_evidence_se[1]


def test_exact_draws_agree_and_errors_are_right(rng):
    partition = Sliver(norm.isf(0.05))
    truth = PAIR.log_z + np.log(masses(partition)[0])
    z, named, gaps = [], 0, 0
    for _ in range(20):
        weighing, weights = weighed(partition, partition.label, rng, 4_000)
        check = cross_check(weighing, weights)
        z.append((check.log_mass - truth) / check.log_mass_se)
        named += len(check.statuses)
        gaps += np.count_nonzero(check.gap)
    # Forty scores, negatively correlated within a pair: their root mean square is 1 within 0.15.
    z = np.array(z)[np.isfinite(z)]
    assert len(z) >= 30
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.5
    assert named == 0
    # One in eighty exceeds 2.5 joint errors.
    assert gaps <= 3


@pytest.mark.parametrize(("cut", "proposals"), [(0.05, 1_000), (0.01, 20_000)])
def test_ratios_within_a_factor_of_two_are_judged(cut, proposals, rng):
    """Ratios of a sliver are 1.5 times the region's own: two levels are no heavy tail."""
    partition = Sliver(norm.isf(cut))
    weighing, weights = weighed(partition, partition.without, rng, proposals)
    x, logp = (np.concatenate(part) for part in zip(*weighing.points, strict=True))
    log_q = np.logaddexp(*(q.log_density(x) for q in SHAPES))
    ratio = np.where(np.isnan(logp), PAIR.logp(x), logp) - log_q
    assert ratio.max() < np.median(ratio[partition.label(x) == 1]) + np.log(2.0)
    assert np.isfinite(cross_check(weighing, weights).log_mass).all()


def test_points_are_those_of_the_ratios(rng):
    partition = Sliver(norm.isf(0.05))
    weighing, _ = weighed(partition, partition.label, rng, 3_000)
    for k, (x, logp) in enumerate(weighing.points):
        assert len(x) == len(logp) == len(weighing.ratios[k]) == 3_000
        inside = partition.label(x) == k
        np.testing.assert_array_equal(np.isnan(logp), ~inside)
        np.testing.assert_allclose(logp[inside], PAIR.logp(x[inside]))
        ratio = np.sort(logp[inside] - SHAPES[k].log_density(x[inside]))
        finite = np.isfinite(weighing.ratios[k])
        np.testing.assert_allclose(ratio, np.sort(weighing.ratios[k][finite]))
    weighing.refit(RegionFit(SHAPES[:1]), np.array([0]))
    assert [len(x) for x, _ in weighing.points] == [0, 3_000]


def test_a_coarse_check_asks_for_more_proposals(rng):
    partition = HalfSpace()
    weighing, weights = weighed(partition, partition.label, rng, 1_000)
    check = cross_check(weighing, weights)
    precise = replace(weights, log_evidence_se=check.log_mass_se / 1.5)
    more = check.wanted(weighing, precise)
    np.testing.assert_allclose(more, 1.5**3 * 1_000 - 1_000, atol=1)
    assert not check.wanted(weighing, replace(weights, log_evidence_se=check.log_mass_se * 3)).any()
    capped = check.wanted(weighing, replace(weights, log_evidence_se=check.log_mass_se / 100))
    np.testing.assert_array_equal(capped, 9_000)
    unknown = replace(check, log_mass_se=np.array([np.nan, np.nan]))
    assert not unknown.wanted(weighing, weights).any()


def test_a_check_keeps_to_the_limits_and_evaluates_nothing_twice(rng):
    density = PAIR.density()
    local = exact_local(PAIR, HalfSpace().label, 2, rng)
    weighing = BridgeSamples(density, HalfSpace(), RegionFit(SHAPES), rng)
    weighing.extend(np.array([4_000, 4_000]))
    weights, before = weighing.weigh(local), density.n_logp_evals
    density.limit = lambda: True
    refused = cross_check(weighing, weights)
    assert density.n_logp_evals == before
    assert np.isnan(refused.log_mass).all()
    assert not refused.gap.any()
    density.limit = None
    first = cross_check(weighing, weights)
    assert density.n_logp_evals > before
    spent = density.n_logp_evals
    again = cross_check(weighing, weights)
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


# ------------------------------------------------------------------ jumps between the pieces


def test_a_blend_draws_from_its_density(rng):
    others = (one([-3.0, 0.0], size=1.5), one([0.0, 4.0], 5.0))
    q = MixtureProposal(one([3.0, 0.0], 8.0, size=1.5), others)
    target = Mixture(PAIR.means, PAIR.covariances, PAIR.weights)
    assert_covers(target, q.sample, q.log_density, rng)
    x = q.sample(20_000, rng)
    parts = zip((0.75, 0.125, 0.125), (q.own, *others), strict=True)
    share = sum(s * (part.sample(10**6, rng)[:, 1] > 2).mean() for s, part in parts)
    # The share that is expected is itself known within an eighth of an error.
    assert abs(z_scores(x[:, 1:] > 2, share)[0]) < 4


class Confined(LocalSampler):
    """Chains that never start beyond a valley, as where nobody was turned back at the border."""

    def _cross(self, cloud):
        return cloud


def test_connected_pieces_are_visited_in_proportion(rng):
    partition = Sliver(norm.isf(0.15))
    density = PAIR.density()
    config = LocalSampling(draws=200, min_ess=400)
    config, modes, pilot = prepared(density, rng, config)
    order = np.argsort(modes.locations[:, 0])
    pilot = replace(pilot, draws=pilot.draws[order], tuning=pilot.tuning.take(order))
    sampler = Confined(density, partition, modes.take(order), pilot, config, rng)
    sampler.run()
    before = sampler.result()
    assert not partition.cut(before.x[1].reshape(-1, 2)).any(), "the chains are all in one piece"
    assert sampler.jumps() == [None, None]
    sampler.connect({1: (SHAPES[1], SHAPES[:1])})
    assert sampler.draws_of(1) == 0
    assert sampler.jumps() == [None, SHAPES[1]]
    sampler.run()
    sampler.extend(np.array([1]), 800)
    after = sampler.result()
    np.testing.assert_array_equal(after.x[0], before.x[0])
    x = after.x[1]
    assert np.all(partition.label(x.reshape(-1, 2)) == 1)
    mass, sliver = masses(partition)
    inside = partition.cut(x.reshape(-1, 2)).reshape(*x.shape[:2], 1).astype(float)
    assert abs(z_of_means(inside, sliver / mass[1], size=200)[0]) < 4.5
    np.testing.assert_allclose(after.logp[1].ravel(), PAIR.logp(x.reshape(-1, 2)))


# ------------------------------------------------------------------ the whole


def three_modes(distance, dim=10):
    """Three anisotropic Gaussians whose closest means are `distance` spreads apart."""
    rng = np.random.default_rng(10)
    turns = np.linalg.qr(rng.standard_normal((3, dim, dim)))[0]
    covariances = (turns * np.geomspace(0.2, 3.0, dim)) @ turns.swapaxes(1, 2)
    means = rng.standard_normal((3, dim))
    gaps = []
    for a, b in combinations(range(3), 2):
        line = means[a] - means[b]
        direction = line / np.linalg.norm(line)
        spread = direction @ (covariances[a] + covariances[b]) @ direction / 2
        gaps.append(np.linalg.norm(line) / np.sqrt(spread))
    return Mixture(means * distance / min(gaps), covariances, [0.5, 0.3, 0.2])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("distance", [5.0, 6.0])
def test_weights_of_close_modes_are_right(distance, seed, rng):
    """Regression: slivers that borders had cut off were weighed wrongly, by 0.03 at worst."""
    target = three_modes(distance)
    generator = Hybrid(families=("gaussian", "mixture"))
    config = FitConfig(target_se=0.003, generator=generator, random_seed=seed)
    fit = fit_density(target.density(prior=WideNormal(10, 5.0)), config)
    assert fit.n_modes == 3
    n = 400_000
    share = np.bincount(fit.label(target.draws(n, rng)), minlength=3) / n
    error = np.hypot(fit.weights.weight_se, np.sqrt(share * (1 - share) / n))
    assert np.all(np.abs(fit.weights.weight - share) < 4 * error)
    assert fit.weights.weight_se.max() < 0.02, "the errors say something"
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
