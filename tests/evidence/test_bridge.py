"""The bridge is right within its error, and the error is right as well."""

from __future__ import annotations

import numpy as np
import pytest
from densities import z_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm

from pymc_multimodal._compat import ess
from pymc_multimodal.evidence import bridge, slowest_moment
from pymc_multimodal.evidence.statuses import bridge_statuses

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
    first = rng.standard_normal((chains, 1))
    noise = np.sqrt(1 - rho**2) * rng.standard_normal((chains, n - 1))
    return lfilter([1.0], [1.0, -rho], np.hstack([first, noise]))


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
    known, doubted = (bridge(log_w, other, 800.0, max_effective=n) for n in (np.inf, 10.0))
    assert doubted.log_evidence == known.log_evidence
    assert doubted.from_draws > 10 * known.from_draws


# Densities that do not overlap at all take longest.
@pytest.mark.parametrize("distance", [4.0, 8.0, pytest.param(14.0, marks=pytest.mark.slow)])
def test_bridge_knows_when_it_does_not_reach(distance, rng):
    """Log ratios of normals as far apart as given: from overlap to none at all."""
    z = []
    for _ in range(20):
        x = 0.5 * distance**2 + distance * rng.standard_normal((8, 100))
        y = -0.5 * distance**2 + distance * rng.standard_normal(250)
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


def far_apart(distance, rng, chains=16, draws=50, n_proposals=1000):
    """Log ratios of two normals so many standard deviations apart; the log evidence is 0."""
    x = 0.5 * distance**2 + distance * rng.standard_normal((chains, draws))
    return x, -0.5 * distance**2 + distance * rng.standard_normal(n_proposals)


def test_errors_are_right_up_to_a_nat_whatever_the_overlap(rng):
    """k-hat is 1.4 to 2.2 here, and hardly any proposal reaches the draws' ratios."""
    z = []
    for distance in (4.0, 5.0, 5.5):
        for _ in range(50):
            x, y = far_apart(distance, rng)
            found = bridge(x, y, x.size)
            error = np.sqrt(found.from_draws + found.from_proposals)
            if error < 1.0:
                z.append(found.log_evidence / error)
    assert len(z) > 140
    # Of 150 scores the root mean square is 1 within 0.06.
    assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25


@pytest.mark.parametrize("distance", [3.0, 8.0, 12.0])
def test_bounds_hold_however_poor_the_overlap(distance, rng):
    # Far apart, each bridge takes all its thousand steps.
    for _ in range(40 if distance < 5.0 else 15):
        x, y = far_apart(distance, rng)
        found = bridge(x, y, x.size)
        low, high = found.bounds
        assert low < 0.0 < high
        assert low < found.log_evidence < high


def test_a_bridge_that_has_not_converged_says_so(rng):
    """Draws and proposals 12 standard deviations apart: the iteration creeps."""
    x, y = far_apart(12.0, rng)
    found = bridge(x, y, x.size)
    assert len(found.iterations) == 1001
    assert found.remaining > 1.0
    # The distance to the end counts as an error, and is no larger than the bounds allow.
    assert found.remaining <= np.ptp(found.bounds)
    assert np.sqrt(found.from_draws + found.from_proposals) >= 0.99 * found.remaining
    codes = [s.code for s in bridge_statuses(0, found, x, y, 3.0)]
    assert "bridge" in codes
    near = bridge(*far_apart(2.0, rng), x.size)
    assert near.remaining == 0.0
    assert not bridge_statuses(0, near, *far_apart(2.0, rng), 0.3)


@pytest.mark.parametrize("constant", [1e6, -1e9])
def test_a_large_constant_does_not_keep_the_bridge_from_converging(constant, rng):
    """Regression: steps of the rounding error never fell below the tolerance."""
    x, y = far_apart(1.0, rng)
    plain, shifted = bridge(x, y, x.size), bridge(x + constant, y + constant, x.size)
    assert shifted.remaining == 0.0
    assert len(shifted.iterations) < 200
    assert shifted.log_evidence - constant == pytest.approx(plain.log_evidence, abs=1e-5)
    assert shifted.from_draws == pytest.approx(plain.from_draws, rel=1e-3)


def test_the_distance_to_the_end_is_that_of_a_longer_iteration(rng):
    """Fixed-point steps become shorter by a constant factor."""
    x, y = far_apart(4.0, rng)
    short, whole = bridge(x, y, x.size, max_iter=8), bridge(x, y, x.size)
    assert whole.remaining == 0.0
    gap = abs(short.log_evidence - whole.log_evidence)
    assert 0.3 * gap < short.remaining < 3 * gap
