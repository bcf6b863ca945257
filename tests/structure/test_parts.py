"""Explanations that are not normal get parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from pymc_multimodal.structure import UnitMixtures, UnitProposals, with_parts
from pymc_multimodal.structure.explanations import explain
from pymc_multimodal.target import Structure, chosen_units
from tests.unit_targets import density_of, normal, uneven

NOISE = 0.15


def bent():
    """Three units of two coordinates, of which a^2 + k is seen, and the log mass of one of them."""

    def function(x):
        a, k = x[:, ::2], x[:, 1::2]
        return normal(a, 0.0, 2.0) + normal(k, 0.0, 1.0) + normal(1.7, a**2 + k, NOISE)

    density = density_of(
        function,
        np.kron(np.eye(3), np.ones((1, 2))),
        lambda n, rng: rng.standard_normal((n, 6)) * np.tile([2, 1], 3),
    )
    a = np.linspace(-9, 9, 40_001)
    each = normal(a, 0.0, 2.0) + normal(1.7, a**2, np.hypot(1.0, NOISE))
    return density, float(logsumexp(each) + np.log(a[1] - a[0]))


def proposals_of(density, units, g, rng):
    z, n_units, b = units.gather(density.prior_draws(200, rng)), *units.inside.shape
    centre, spread = np.zeros((n_units, b)), np.tile([2.0, 1.0], (n_units, 1))[:, :b]
    anchors = explain(density, units, g[:1], z[:32], spread)
    anchors = replace(anchors, slope=None, mass_slope=None)
    scale = np.ones(g.shape[1])
    mixtures = UnitMixtures.at_anchors(anchors, scale, centre, spread, units.inside)
    return UnitProposals(units, mixtures, spread, 16, steps=0)


def variance(extended):
    """Relative variance of the mean weight over hubs, (N,)."""
    mean = np.exp(extended.log_mean - extended.log_mean.max(axis=0))
    return (mean.std(axis=0) / mean.mean(axis=0)) ** 2


def test_bent_units_are_proposed_better_and_their_mass_is_the_same(rng):
    density, log_mass = bent()
    units, g = chosen_units(density, Structure()), np.zeros((64, 0))
    before = proposals_of(density, units, g, rng)
    after = with_parts(density, before, g, rng)
    assert before.mixtures.parts is None
    assert after.mixtures.parts is not None
    g = np.zeros((4000, 0))
    drawn = [proposals.draw(density, g, rng) for proposals in (before, after)]
    assert (variance(drawn[1]) < 0.3 * variance(drawn[0])).all()
    se = np.sqrt(variance(drawn[1]) / len(g))
    mean = logsumexp(drawn[1].log_mean, axis=0) - np.log(len(g))
    assert (np.abs(mean - log_mass) < 4.5 * se).all()
    assert (se < 0.02).all()
    # An explanation is what it was: each sign is one.
    unit = np.arange(3)
    sign = np.sign(after.mixtures.anchors.z[0, unit[:, None], np.arange(2), 0])
    agrees = np.sign(drawn[1].z[..., 0]) == sign[unit, drawn[1].label]
    assert (drawn[1].share * agrees).sum(axis=1).mean() > 0.95


def test_a_point_may_be_given_where_explanations_have_parts(rng):
    density, log_mass = bent()
    units, g = chosen_units(density, Structure()), np.zeros((64, 0))
    proposals = with_parts(density, proposals_of(density, units, g, rng), g, rng)
    g = np.zeros((4000, 0))
    first = proposals.draw(density, g, rng)
    z, _ = first.chosen(rng)
    for i in range(3):
        mean = np.exp(first.log_mean[:, i])
        z[:, i] = z[rng.choice(len(g), size=len(g), p=mean / mean.sum()), i]
    with_given = proposals.draw(density, g, rng, z)
    assert (with_given.z == z[:, None]).all(axis=3).any(axis=1).all()
    # Of draws of the extended density, the mean of the inverse weight is one over the mass.
    inverse = np.exp(log_mass - with_given.log_mean)
    se = inverse.std(axis=0) / np.sqrt(len(g))
    assert (np.abs(inverse.mean(axis=0) - 1.0) < 4.5 * se).all()


@pytest.mark.parametrize("seed", range(2))
def test_only_units_that_need_parts_get_them(seed):
    rng = np.random.default_rng(seed)
    density, _ = uneven()
    units = chosen_units(density, Structure())
    g = np.full((64, 1), -0.5)
    before = proposals_of(density, units, g, rng)
    parts = with_parts(density, before, g, rng).mixtures.parts
    # Plain units are normal; three of two coordinates are bent, but not very thin.
    plain = units.sizes == 1
    if parts is not None:
        assert np.isneginf(parts.log_share[plain, :, 1:]).all()
    straight = density_of(
        lambda x: -0.5 * x**2, np.eye(3), lambda n, rng: rng.standard_normal((n, 3))
    )
    units = chosen_units(straight, Structure())
    before = proposals_of(straight, units, np.zeros((64, 0)), rng)
    assert with_parts(straight, before, np.zeros((64, 0)), rng) is before
