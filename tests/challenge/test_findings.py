"""Tests of a fit by endpoints: what chance explains is no finding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import poisson

from pymc_multimodal.challenge.endpoints import Endpoints, surprising
from pymc_multimodal.challenge.findings import Finding, find_unvisited, within_masses


def endpoints(n_surprising, n=1000, root=None):
    """Endpoints of two regions; the first ones of region 1 are surprising."""
    excess = np.where(np.arange(2 * n) < n_surprising, 1.0 + np.arange(2 * n), -1.0)
    region = np.repeat([1, 0], n)
    roots = np.arange(2 * n) if root is None else root
    return Endpoints(np.arange(2.0 * n)[:, None], region, roots, excess)


def test_the_most_surprising_endpoints_of_different_roots_are_examined():
    points = endpoints(6, n=10, root=np.array([0, 0, 1, 1, 2, 2] + [3] * 14))
    np.testing.assert_array_equal(surprising(points, 1), [5, 3, 1])
    assert not len(surprising(points, 0))
    assert len(surprising(endpoints(100), 1)) == 16


@pytest.mark.parametrize("count", [1, 2, 5, 6, 12])
def test_as_many_surprises_as_chance_brings_are_no_finding(count):
    """A thousandth of 1,000 endpoints is expected to be surprising."""
    points = endpoints(count)
    stays = points.excess > 0
    found = find_unvisited(points, surprising(points, 1), stays, 2)
    if poisson.sf(count - 1, 1.0) > 1e-4:
        assert not len(found.counterexamples)
        assert not found.gap.any()
        return
    assert found.counterexamples.shape == (count, 1)
    np.testing.assert_array_equal(found.unknown, stays)
    np.testing.assert_allclose(found.gap, [0.0, -np.log1p(-count / 1000)])
    assert [s.mode for s in found.statuses] == [1]


@pytest.mark.parametrize("copies", [1, 4, 20])
def test_copies_of_endpoints_change_nothing(copies):
    """A tenth of the roots end where the chains have not been, and so does a tenth of the mass."""
    root = np.repeat(np.arange(2000 // copies), copies)
    points = endpoints(100, root=root)
    stays = points.excess > 0
    found = find_unvisited(points, surprising(points, 1), stays, 2)
    np.testing.assert_allclose(found.gap, [0.0, -np.log1p(-0.1)])


def test_copies_of_what_chance_brings_are_no_finding():
    """Two roots of a thousand are surprising: a copy of each is no more evidence."""
    points = endpoints(8, root=np.arange(2000) // 4)
    stays = points.excess > 0
    assert not find_unvisited(points, surprising(points, 1), stays, 2).statuses


def test_particles_that_crowd_in_a_tail_do_not_make_a_weight_unknown():
    """Of a region's particles 99 % are in a new place, but they weigh e^-7 of it: not 4.6 nats."""
    points = endpoints(0)
    finding = Finding(points.x[:0], points.excess > 0, np.array([-np.log(0.01), 0.5, 0.5]))
    weights = SimpleNamespace(log_evidence=np.array([-1.0, -1.0, -1.0]))
    log_mass, error = np.array([-8.0, -1.0 - np.log1p(-0.5), -np.inf]), np.array([0.1, 0.0, np.nan])
    gap = within_masses(finding, log_mass, error, weights).gap
    np.testing.assert_allclose(gap[0], 0.99 * np.exp(-7.0 + 0.4), rtol=0.01)
    # Where the particles' mass is that of the whole region, the gap is what their share says.
    assert gap[1] == 0.5
    assert gap[2] == 0.5


def test_endpoints_that_return_are_no_finding():
    points = endpoints(24)
    returned = np.zeros(len(points), dtype=bool)
    assert not find_unvisited(points, surprising(points, 1), returned, 2).statuses
    # Half of those examined stay away, so that twelve of 24 are taken to do so.
    half = (points.excess > 0) & (np.arange(len(points)) % 2 == 0)
    found = find_unvisited(points, surprising(points, 1), half, 2)
    np.testing.assert_allclose(found.gap[1], -np.log1p(-12 / 1000))


def test_findings_are_joined_by_the_largest_gap():
    points = endpoints(2, n=3)
    one = Finding(points.x[:1], points.excess > 1, np.array([0.1, 0.5]))
    two = Finding(points.x[1:3], points.excess > 0, np.array([0.3, 0.0]))
    both = Finding.none(points, 2).joined(one).joined(two)
    np.testing.assert_array_equal(both.counterexamples, points.x[:3])
    np.testing.assert_array_equal(both.gap, [0.3, 0.5])
    np.testing.assert_array_equal(both.unknown, points.excess > 0)
