"""Evidences and weights are right within their errors, and the errors are right as well."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, exact_local, gaussian, two_modes, z_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from pymc_multimodal._compat import ess
from pymc_multimodal.evidence.weights import BridgeSamples, bridge, slowest_moment
from pymc_multimodal.proposals import EllipticalMixture
from pymc_multimodal.proposals.base import RegionFit
from pymc_multimodal.target.density import Density

LOG_Z = 2.0
PI, Q = norm(0.0, 1.0), norm(0.4, 1.3)
# The root mean square of 200 standard normal scores is 1 within 0.05.
REPLICATES = 200


def log_ratio(x):
    return LOG_Z + PI.logpdf(x) - Q.logpdf(x)


def proposals(n, rng):
    return log_ratio(Q.rvs(n, random_state=rng))


def z_of(result):
    return (result.log_evidence - LOG_Z) / np.sqrt(result.from_draws + result.from_proposals)


def autoregressive(chains, n, rho, rng):
    x = np.empty((chains, n))
    x[:, 0] = rng.standard_normal(chains)
    noise = np.sqrt(1 - rho**2) * rng.standard_normal((chains, n))
    for t in range(1, n):
        x[:, t] = rho * x[:, t - 1] + noise[:, t]
    return x


@pytest.mark.parametrize(("draws", "proposed"), [(100, 800), (400, 200), (50, 2_000)])
def test_bridge_and_its_error_on_independent_draws(draws, proposed, rng):
    z = [
        z_of(
            bridge(
                log_ratio(rng.standard_normal((8, draws))), proposals(proposed, rng), 8.0 * draws
            )
        )
        for _ in range(REPLICATES)
    ]
    # Eight chains give a t of 7 degrees of freedom where the draws' side rules.
    assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25
    assert abs(z_scores(np.array(z)[:, None], 0)[0]) < 3.5


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_bridge_and_its_error_on_correlated_draws(rho, rng):
    """Blocks of some thirty autocorrelation times carry the correlation."""
    tau = (1 + rho) / (1 - rho)
    n = int(150 * tau)
    # A narrower proposal, so that the draws' side rules the error.
    q = norm(0.4, 0.6)
    z, share = [], []
    for _ in range(REPLICATES):
        x, y = autoregressive(8, n, rho, rng), q.rvs(2_000, random_state=rng)
        ratios = [LOG_Z + PI.logpdf(v) - q.logpdf(v) for v in (x, y)]
        result = bridge(*ratios, x.size / tau)
        z.append(z_of(result))
        share.append(result.from_draws / (result.from_draws + result.from_proposals))
    assert np.mean(share) > 0.5
    assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25
    assert abs(z_scores(np.array(z)[:, None], 0)[0]) < 3.5


def test_rare_visits_to_the_tails_are_not_counted_as_independent(rng):
    """Chains that stay in a wide and in a narrow state for long have one mean and two spreads."""
    wide = np.repeat(rng.random((8, 20)) < 0.1, 50, axis=1)
    x = rng.standard_normal((8, 1000)) * np.where(wide, 4.0, 1.0)
    assert ess(x, "mean")[0] > 4_000
    assert slowest_moment(x[..., None]) < 1_000
    assert slowest_moment(rng.standard_normal((8, 1000, 3))) > 4_000
    still = np.dstack([x, np.zeros_like(x)])
    assert slowest_moment(still) == slowest_moment(x[..., None])
    # Units do not matter.
    assert slowest_moment(1e-12 * x[..., None]) == pytest.approx(slowest_moment(x[..., None]))
    log_w, other = log_ratio(rng.standard_normal((8, 100))), proposals(800, rng)
    known, doubted = (bridge(log_w, other, 800.0, slowest=n) for n in (np.inf, 10.0))
    assert doubted.log_evidence == known.log_evidence
    assert doubted.from_draws > 10 * known.from_draws


@pytest.mark.parametrize("distance", [4.0, 8.0, 14.0])
def test_bridge_knows_when_it_does_not_reach(distance, rng):
    """Log ratios of normals as far apart as given: from overlap to none at all."""
    z = []
    for _ in range(20):
        x = 0.5 * distance**2 + distance * rng.standard_normal((8, 400))
        y = -0.5 * distance**2 + distance * rng.standard_normal(1000)
        found = bridge(x, y, x.size)
        z.append(found.log_evidence / np.sqrt(found.from_draws + found.from_proposals))
    # Of twenty ratios of a root mean square of 1 this is 3.5 standard errors.
    assert np.sqrt(np.mean(np.square(z))) < 1.6


def test_bridge_is_exact_where_the_ratio_is_constant(rng):
    """A perfect proposal leaves no error at all."""
    result = bridge(np.full((4, 10), LOG_Z), np.full(20, LOG_Z), 40.0)
    assert np.isclose(result.log_evidence, LOG_Z, atol=1e-12)
    assert result.from_draws == result.from_proposals == 0


def test_bridge_allows_for_proposals_outside(rng):
    """The target restricted to a half has half of the evidence."""
    x = np.abs(rng.standard_normal((8, 400)))
    y = Q.rvs(4_000, random_state=rng)
    ratios = np.where(y > 0, log_ratio(y), -np.inf)
    result = bridge(log_ratio(x), ratios, x.size)
    error = np.sqrt(result.from_draws + result.from_proposals)
    assert abs(result.log_evidence - (LOG_Z - np.log(2))) < 4 * error


def test_bridge_without_any_proposal_inside_knows_nothing(rng):
    result = bridge(rng.standard_normal((4, 10)), np.full(100, -np.inf), 40.0)
    assert result.log_evidence == -np.inf
    # Draws can do nothing about it.
    assert (result.from_draws, result.from_proposals) == (0.0, np.inf)


@settings(derandomize=True, deadline=None, database=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-1e4, 1e4))
def test_a_constant_factor_of_the_density_passes_through(seed, shift):
    rng = np.random.default_rng(seed)
    x, y = log_ratio(rng.standard_normal((4, 50))), proposals(100, rng)
    plain, moved = bridge(x, y, 200.0), bridge(x + shift, y + shift, 200.0)
    # Ratios of 1e4 nats have lost four digits.
    assert np.isclose(moved.log_evidence - shift, plain.log_evidence, atol=1e-8)
    assert np.isclose(moved.from_draws, plain.from_draws, rtol=1e-6)
    assert np.isclose(moved.from_proposals, plain.from_proposals, rtol=1e-6)


@settings(derandomize=True, deadline=None, database=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_draws_and_proposals_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    x, y = log_ratio(rng.standard_normal((4, 50))), proposals(100, rng)
    a, b = bridge(x, y, 200.0), bridge(x[::-1], rng.permutation(y), 200.0)
    assert np.isclose(a.log_evidence, b.log_evidence, atol=1e-8)


# ------------------------------------------------------------------ all regions together

TARGET = two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3)
HALVES = HalfSpace(-0.6)


def regional(means, sizes):
    """One Student-t density for each region."""
    line = np.full(2, np.inf)
    return RegionFit(
        tuple(
            EllipticalMixture.single(m, s * np.eye(2), 6.0, line, m)
            for m, s in zip(np.asarray(means), sizes, strict=True)
        )
    )


def weigh(rng, counts=(800, 800), draws=50, fitted=None, target=TARGET):
    fitted = fitted or regional(TARGET.means + 0.2, [1.2, 0.7])
    weighing = BridgeSamples(target.density(), HALVES, fitted, rng)
    weighing.extend(np.array(counts))
    return weighing.weigh(exact_local(target, HALVES.label, 2, rng, draws=draws))


def exact_weights():
    """Exact for this border, by plain Monte Carlo with negligible error."""
    labels = HALVES.label(TARGET.draws(2_000_000, np.random.default_rng(0)))
    return np.bincount(labels, minlength=2) / len(labels)


def test_weights_and_their_errors_over_replicates(rng):
    """Weights, evidences, total: right on average, with errors that say how far off they are."""
    truth = exact_weights()
    runs = [weigh(rng) for _ in range(REPLICATES)]
    z_weight = np.array([(r.weight[0] - truth[0]) / r.weight_se[0] for r in runs])
    z_total = np.array([(r.total - TARGET.log_z) / r.total_se for r in runs])
    z_parts = np.array(
        [(r.log_evidence - TARGET.log_z - np.log(truth)) / r.log_evidence_se for r in runs]
    )
    for z in (z_weight, z_total, *z_parts.T):
        assert 0.8 < np.sqrt(np.mean(z**2)) < 1.25
        assert abs(z_scores(z[:, None], 0)[0]) < 3.5
    # 95 % intervals cover the truth in 95 +- 1.5 % of 200 runs.
    covered = [r.interval[0, 0] < truth[0] < r.interval[0, 1] for r in runs]
    assert 0.89 < np.mean(covered) < 0.995


def test_weights_are_consistent(rng):
    found = weigh(rng)
    assert np.isclose(found.weight.sum(), 1.0)
    assert np.all((found.interval[:, 0] < found.weight) & (found.weight < found.interval[:, 1]))
    # Of two weights each is one minus the other.
    assert np.isclose(found.weight_se[0], found.weight_se[1])
    np.testing.assert_allclose(found.interval[0], 1 - found.interval[1, ::-1])
    np.testing.assert_allclose(found.log_evidence_se**2, found.from_draws + found.from_proposals)
    assert np.isclose(found.total, np.logaddexp(*found.log_evidence))
    assert not found.statuses
    moved = found.take(np.array([1, 0]))
    np.testing.assert_array_equal(moved.weight, found.weight[::-1])
    np.testing.assert_array_equal(moved.interval, found.interval[::-1])
    np.testing.assert_array_equal(moved.iterations[0], found.iterations[1])


def test_more_proposals_lower_their_part_of_the_error(rng):
    few, many = weigh(rng, counts=(500, 500)), weigh(rng, counts=(50_000, 50_000))
    # A hundredth, if nothing else changed; with more proposals the bridge leans on them.
    assert np.all(many.from_proposals < 0.05 * few.from_proposals)


def test_evaluations_are_counted_only_inside(rng):
    density = TARGET.density()
    fitted = regional(np.array([[-4.0, 0.0], [-4.0, 0.0]]), [0.3, 0.3])
    weighing = BridgeSamples(density, HALVES, fitted, rng)
    weighing.extend(np.array([100, 100]))
    assert density.n_logp_evals == 100
    assert [len(r) for r in weighing.ratios] == [100, 100]
    assert np.isneginf(weighing.ratios[1]).all()


def test_a_region_that_no_proposal_reaches_is_flagged(rng):
    found = weigh(rng, fitted=regional(np.array([TARGET.means[0], [-30.0, 0.0]]), [1.0, 0.1]))
    assert found.weight[1] == 0
    assert found.log_evidence[1] == -np.inf
    assert not np.isfinite(found.weight_se[1])
    # What nobody knows of a part nobody knows of the whole.
    assert found.total_se == found.widened(np.array([0.1, 0.0])).total_se == np.inf
    assert "evidence_error" in {s.code for s in found.statuses if s.mode == 1}


def test_a_generator_that_misses_part_of_a_region_is_flagged(rng):
    """One region of two equal halves, of which proposals know only one."""
    target = two_modes(distance=14.0, weights=(0.5, 0.5))
    [only] = regional(target.means[:1], [1.0]).densities
    weighing = BridgeSamples(target.density(), Everywhere(), RegionFit((only,)), rng)
    weighing.extend(np.array([2_000]))
    found = weighing.weigh(exact_local(target, lambda x: np.zeros(len(x), int), 1, rng))
    assert {"overlap", "evidence_error"} & {s.code for s in found.statuses}


def test_a_single_region_has_all_the_mass(rng):
    target = gaussian(np.zeros(2), np.eye(2), log_z=-3.0)
    fitted = regional(np.zeros((1, 2)), [1.1])
    weighing = BridgeSamples(target.density(), Everywhere(), fitted, rng)
    weighing.extend(np.array([1_000]))
    found = weighing.weigh(exact_local(target, lambda x: np.zeros(len(x), int), 1, rng))
    assert found.weight.tolist() == [1.0]
    assert found.weight_se.tolist() == [0.0]
    assert abs(found.total + 3.0) < 4 * found.total_se
    # Nothing but the evidence itself can need more.
    assert not found.needs(0.5, 1.0).any()
    assert found.needs(1e-6, 1.0).all()


@pytest.mark.parametrize("regions", [1, 2])
def test_regions_that_no_proposal_reached_get_more(regions, rng):
    partition = Everywhere() if regions == 1 else HALVES
    target = gaussian(np.zeros(2), np.eye(2)) if regions == 1 else TARGET
    label = (lambda x: np.zeros(len(x), int)) if regions == 1 else HALVES.label
    density = Density(lambda x: (np.full(len(x), -np.inf), np.zeros_like(x)), 2)
    weighing = BridgeSamples(
        density, partition, regional(target.means[:regions], np.ones(regions)), rng
    )
    weighing.extend(np.full(regions, 200))
    found = weighing.weigh(exact_local(target, label, regions, rng))
    assert found.needs(0.01, 0.1).all()
    # More proposals are what is missing, not draws.
    assert (found.from_proposals > found.from_draws).all()
    assert np.isfinite(found.weight).all()
    assert np.isclose(found.weight.sum(), 1.0)
    assert not np.isfinite(found.total)


def test_needs_names_what_is_short_of_the_asked_precision(rng):
    found = weigh(rng)
    assert not found.needs(0.5, 10.0).any()
    assert found.needs(1e-9, 10.0).any()
    assert found.needs(0.5, 1e-9).all()


def test_needs_is_met_by_what_was_reached(rng):
    found = weigh(rng)
    reached = float(found.weight_se.max())
    assert not found.needs(1.01 * reached, 10.0).any()
    assert found.needs(0.99 * reached, 10.0).any()


def test_refitting_a_region_drops_its_old_proposals(rng):
    fitted = regional(TARGET.means, [1.2, 0.7])
    weighing = BridgeSamples(TARGET.density(), HALVES, fitted, rng)
    weighing.extend(np.array([50, 60]))
    other = regional(TARGET.means[:1], [1.0])
    weighing.refit(other, np.array([0]))
    assert weighing.fitted.densities == (other.densities[0], fitted.densities[1])
    assert [len(r) for r in weighing.ratios] == [0, 60]
