"""Weights and evidences are right within their errors, and the errors are right as well."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from densities import Everywhere, HalfSpace, exact_local, gaussian, two_modes, z_scores
from regional import bridge_samples, regional

from pymc_multimodal.evidence import estimate, reported
from pymc_multimodal.proposals.base import RegionFit
from pymc_multimodal.target.density import Density

# The root mean square of 200 standard normal scores is 1 within 0.05.
REPLICATES = 200
TARGET = two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3)
HALVES = HalfSpace(-0.6)


def weights_of(rng, counts=(800, 800), draws=50, fitted=None, target=TARGET):
    fitted = fitted or regional(TARGET.means + 0.2, [1.2, 0.7])
    density = target.density()
    samples = bridge_samples(density, HALVES, fitted, counts, rng)
    return estimate(samples, exact_local(target, HALVES.label, 2, rng, draws=draws), density)


@cache
def exact_weights():
    """Exact for this border, by plain Monte Carlo with negligible error."""
    labels = HALVES.label(TARGET.draws(2_000_000, np.random.default_rng(0)))
    return np.bincount(labels, minlength=2) / len(labels)


def test_weights_and_their_errors_over_replicates(rng):
    """Weights, evidences, total: right on average, with errors that say how far off they are."""
    truth = exact_weights()
    runs = [weights_of(rng) for _ in range(REPLICATES)]
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
    found = weights_of(rng)
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
    few, many = weights_of(rng, counts=(500, 500)), weights_of(rng, counts=(50_000, 50_000))
    # A hundredth, if nothing else changed; with more proposals the bridge leans on them.
    assert np.all(many.from_proposals < 0.05 * few.from_proposals)


def test_a_region_that_no_proposal_reaches_is_flagged(rng):
    found = weights_of(rng, fitted=regional(np.array([TARGET.means[0], [-30.0, 0.0]]), [1.0, 0.1]))
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
    density = target.density()
    samples = bridge_samples(density, Everywhere(), RegionFit((only,)), [2_000], rng)
    found = estimate(samples, exact_local(target, Everywhere().label, 1, rng), density)
    assert {"overlap", "evidence_error"} & {s.code for s in found.statuses}


def test_a_single_region_has_all_the_mass(rng):
    target = gaussian(np.zeros(2), np.eye(2), log_z=-3.0)
    fitted = regional(np.zeros((1, 2)), [1.1])
    density = target.density()
    samples = bridge_samples(density, Everywhere(), fitted, [1_000], rng)
    found = estimate(samples, exact_local(target, Everywhere().label, 1, rng), density)
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
    density = Density(lambda x: (np.full(len(x), -np.inf), np.zeros_like(x)), 2)
    fitted = regional(target.means[:regions], np.ones(regions))
    samples = bridge_samples(density, partition, fitted, [200] * regions, rng)
    found = estimate(samples, exact_local(target, partition.label, regions, rng), density)
    assert found.needs(0.01, 0.1).all()
    # More proposals are what is missing, not draws.
    assert (found.from_proposals > found.from_draws).all()
    assert np.isfinite(found.weight).all()
    assert np.isclose(found.weight.sum(), 1.0)
    assert not np.isfinite(found.total)


def test_needs_names_what_is_short_of_the_asked_precision(rng):
    found = weights_of(rng)
    assert not found.needs(0.5, 10.0).any()
    assert found.needs(1e-9, 10.0).any()
    assert found.needs(0.5, 1e-9).all()


def test_needs_is_met_by_what_was_reached(rng):
    found = weights_of(rng)
    reached = float(found.weight_se.max())
    assert not found.needs(1.01 * reached, 10.0).any()
    assert found.needs(0.99 * reached, 10.0).any()


# ------------------------------------------------------------------ errors that are not known

NONE = np.zeros(2, dtype=bool)


def test_errors_that_are_known_are_reported_as_they_are(rng):
    found = weights_of(rng)
    assert reported(found, NONE, NONE) is found
    # Negligible regions, whose chains were not run until they mix, change nothing.
    assert reported(found, NONE, np.array([True, False])) is found


def test_a_region_that_draws_and_proposals_do_not_share_has_no_error(rng):
    """Every weight depends on it: no error is stated, but bounds that hold."""
    far = regional(np.array([TARGET.means[0] + [0.0, 60.0], TARGET.means[1]]), [0.5, 0.7])
    found = weights_of(rng, fitted=far)
    told = reported(found, NONE, NONE)
    assert np.isnan(told.weight_se).all()
    assert np.isnan(told.total_se)
    np.testing.assert_array_equal(np.isnan(told.log_evidence_se), [True, False])
    truth = exact_weights()
    assert np.all((told.interval[:, 0] < truth) & (truth < told.interval[:, 1]))
    assert np.all(told.interval[:, 1] <= 1.0)
    assert "between" in next(s.cause for s in found.statuses if s.code == "evidence_error")
    # What the loop of a fit reads is as before.
    np.testing.assert_array_equal(told.from_proposals, found.from_proposals)
    assert found.needs(0.01, 0.1).any()


def test_chains_that_have_not_mixed_have_no_error(rng):
    """Chains that stay where they began agree with one another on a tiny error."""
    found = weights_of(rng)
    told = reported(found, np.array([False, True]), NONE)
    assert np.isnan(told.weight_se).all()
    # What its chains have not seen has no upper bound; its proposals give a lower one.
    assert told.interval[1, 1] == 1.0
    assert told.interval[0, 0] == 0.0
    assert 0.0 < told.interval[1, 0] < told.weight[1]
    assert told.weight[0] < told.interval[0, 1] < 1.0


def test_an_unknown_mass_that_is_bounded_adds_to_the_errors_of_the_others(rng):
    """A region of 1e-9 of the mass, of which no error is known, makes no other weight unknown."""
    found = weights_of(rng)
    shift = np.array([-20.0, 0.0])
    small = replace(
        found,
        log_evidence=found.log_evidence + shift,
        bounds=found.bounds + shift[:, None],
        from_proposals=found.from_proposals + np.array([4.0, 0.0]),
        weight=np.array([1e-9, 1 - 1e-9]),
    )
    told = reported(small, NONE, NONE)
    np.testing.assert_array_equal(np.isnan(told.weight_se), [True, False])
    assert told.weight_se[1] < 1e-5
    assert told.interval[0, 0] < 1e-9 < told.interval[0, 1] < 1e-5
    assert found.total_se <= told.total_se < found.total_se + 0.1


def test_a_single_region_without_a_known_error(rng):
    target = gaussian(np.zeros(2), np.eye(2))
    density = target.density()
    samples = bridge_samples(density, Everywhere(), regional([[60.0, 0.0]], [0.5]), [500], rng)
    found = estimate(samples, exact_local(target, Everywhere().label, 1, rng), density)
    told = reported(found, NONE[:1], NONE[:1])
    assert np.isnan(told.total_se)
    assert told.weight.tolist() == [1.0]
