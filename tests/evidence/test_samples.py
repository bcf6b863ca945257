"""The record of proposals: what is evaluated, what is kept, and that no record ever changes."""

from __future__ import annotations

import numpy as np
import pytest
from densities import HalfSpace, two_modes
from regional import bridge_samples, regional

from pymc_multimodal.evidence import begin_samples, extend_samples, replace_densities
from pymc_multimodal.proposals.base import RegionFit
from pymc_multimodal.status import LimitReached, Status
from pymc_multimodal.target.limits import Limits

TARGET = two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3)
HALVES = HalfSpace(-0.6)
FITTED = regional(TARGET.means, [1.2, 0.7])


def assert_equal(a, b):
    assert a.fitted is b.fitted
    for name in ("ratios", "points", "logp"):
        for left, right in zip(getattr(a, name), getattr(b, name), strict=True):
            np.testing.assert_array_equal(left, right)


def test_evaluations_are_counted_only_inside(rng):
    density = TARGET.density()
    fitted = regional(np.array([[-4.0, 0.0], [-4.0, 0.0]]), [0.3, 0.3])
    samples = bridge_samples(density, HALVES, fitted, [100, 100], rng)
    assert density.n_logp_evals == 100
    assert samples.n_proposals.tolist() == [100, 100]
    assert np.isneginf(samples.ratios[1]).all()


def test_points_are_those_of_the_ratios(rng):
    samples = bridge_samples(TARGET.density(), HALVES, FITTED, [3_000, 2_000], rng)
    for k, (x, logp, ratios) in enumerate(
        zip(samples.points, samples.logp, samples.ratios, strict=True)
    ):
        assert len(x) == len(logp) == len(ratios) == samples.n_proposals[k]
        inside = HALVES.label(x) == k
        np.testing.assert_array_equal(np.isnan(logp), ~inside)
        np.testing.assert_allclose(logp[inside], TARGET.logp(x[inside]))
        ratio = np.sort(logp[inside] - FITTED.densities[k].log_density(x[inside]))
        np.testing.assert_allclose(ratio, np.sort(ratios[np.isfinite(ratios)]))


def test_proposals_are_added_and_the_record_stays(rng):
    density = TARGET.density()
    first = bridge_samples(density, HALVES, FITTED, [50, 60], rng)
    ratios = first.ratios[0].copy()
    more = extend_samples(first, density, HALVES, np.array([25, 0]), rng)
    assert first.n_proposals.tolist() == [50, 60]
    assert more.n_proposals.tolist() == [75, 60]
    np.testing.assert_array_equal(first.ratios[0], ratios)
    np.testing.assert_array_equal(more.ratios[0][:50], ratios)
    assert extend_samples(more, density, HALVES, np.zeros(2, dtype=int), rng) is more


def test_what_is_refused_leaves_the_record_as_it_was(rng):
    density = TARGET.density()
    first = bridge_samples(density, HALVES, FITTED, [50, 60], rng)
    density.limits = Limits(early_evals=0)
    with density.limited(), pytest.raises(LimitReached):
        extend_samples(first, density, HALVES, np.array([50, 60]), rng)
    assert first.n_proposals.tolist() == [50, 60]


def test_new_densities_drop_the_proposals_of_the_old_ones(rng):
    noted = tuple(Status("network", "proposals", f"mode {k}", mode=k, level="info") for k in (0, 1))
    first = bridge_samples(
        TARGET.density(), HALVES, RegionFit(FITTED.densities, noted), [50, 60], rng
    )
    unchanged = bridge_samples(TARGET.density(), HALVES, first.fitted, [0, 0], rng)
    assert_equal(unchanged, begin_samples(first.fitted, 2))
    other = regional(TARGET.means[:1], [1.0])
    other = RegionFit(
        other.densities, (Status("network", "proposals", "new", mode=0, level="info"),)
    )
    second = replace_densities(first, other, np.array([1]))
    assert second.fitted.densities == (FITTED.densities[0], other.densities[0])
    assert second.n_proposals.tolist() == [50, 0]
    assert [len(x) for x in second.points] == [len(first.points[0]), 0]
    # Statuses of the replaced region go, those of the new density get the region's number.
    assert [(s.cause, s.mode) for s in second.fitted.statuses] == [("mode 0", 0), ("new", 1)]
    assert first.n_proposals.tolist() == [50, 60]
    assert first.fitted.statuses == noted
