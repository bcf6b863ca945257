"""Shares of explanations that overlap."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.structure import (
    UnitMixtures,
    UnitProposals,
    draw_units,
    explain_hubs,
    look_at_borders,
    shares,
)
from pymc_multimodal.target import chosen_units
from tests.unit_targets import density_of, pairs

N_UNITS = 8
GRID = np.linspace(-100.0, 100.0, 200_001)


def unequal(hub):
    """Units with a normal below the valley at zero, and a density with heavier tails above it.

    Returns
    -------
    density : Density
    upper : float
        Mass above the valley, by a sum over a grid.
    """

    def of_unit(z):
        upper = -2.5 * np.log1p((np.exp(0.8) - 1.0) * (z - 1.0) ** 2)
        return np.where(z > 0, upper, -2.0 * (z + 1.0) ** 2)

    def function(x):
        g, z = (x[:, :1], x[:, 1:]) if hub else (np.empty((len(x), 0)), x)
        own = of_unit(z - 0.1 * g.sum(axis=1, keepdims=True))
        return np.concatenate([-0.5 * g**2, own], axis=1)

    h = int(hub)
    depends = np.eye(N_UNITS + h)
    depends[:, :h] = 1
    mass = np.exp(of_unit(GRID))
    upper = mass[GRID > 0].sum() / mass.sum()
    prior = lambda n, g: 2.0 * g.standard_normal((n, N_UNITS + h))  # noqa: E731
    return density_of(function, depends, prior), float(upper)


def proposals_of(density, points, rng):
    """Return proposals around the explanations of a density."""
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    found = explain_hubs(density, units, starts, rng)
    centre = units.gather(starts.centre[None])[0]
    mixtures = UnitMixtures.at_anchors(
        found.anchors, found.hub_scale, centre, found.spread, units.inside
    )
    return UnitProposals(units, mixtures, found.spread, points)


@pytest.mark.parametrize("hub", [True, False])
def test_climbs_tell_the_explanation_of_a_point(hub, rng):
    density, upper = unequal(hub)
    proposals = proposals_of(density, 16, rng)
    g = rng.standard_normal((1500, int(hub)))
    drawn = draw_units(density, proposals, g, rng)
    # The hub is drawn from its prior.
    ratio = np.exp(drawn.log_marginal + 0.5 * (g**2).sum(axis=1)) if hub else None
    mean, se, _ = shares(drawn, ratio)
    place = np.argmax(proposals.mixtures.anchors.z[0, :, :, 0], axis=1)
    unit = np.arange(N_UNITS)
    before = mean[unit, place] - upper
    # By the normals alone the shares are too small.
    assert before.mean() < -0.004
    overlap = look_at_borders(density, proposals, drawn, ratio, 0.01, rng)
    after = before + overlap.shift[unit, place]
    error = np.hypot(se, overlap.se)[unit, place]
    assert (error < 0.006).all()
    assert np.abs(after / error).max() < 4.5
    assert abs(after.mean()) < 0.003
    np.testing.assert_allclose(overlap.shift.sum(axis=1), 0.0, atol=1e-12)


def test_a_fit_has_the_shares_of_both_sides_of_the_valley():
    density, upper = unequal(True)
    units = fit_density(density, FitConfig(random_seed=2)).units
    is_upper = units.location[..., 0] == np.nanmax(units.location[..., 0], axis=1, keepdims=True)
    gap, se = units.weight[is_upper] - upper, units.weight_se[is_upper]
    assert (se < 0.012).all()
    assert np.abs(gap / se).max() < 4.5


def test_units_without_overlap_are_not_looked_at(rng):
    density = pairs(n_units=6, hub=False)
    proposals = proposals_of(density, 8, rng)
    drawn = draw_units(density, proposals, np.zeros((200, 0)), rng)
    n = density.n_logp_evals
    overlap = look_at_borders(density, proposals, drawn, None, 0.01, rng)
    assert density.n_logp_evals == n
    np.testing.assert_array_equal(overlap.shift, 0.0)
    assert (overlap.se < 0.0025).all()
