"""How many points of each unit are drawn, and whether Newton steps come before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.structure import (
    UnitMixtures,
    UnitProposals,
    choose_points,
    draw_units,
    explain_hubs,
)
from pymc_multimodal.target import chosen_units
from tests.unit_targets import pairs


def proposals_of(density, rng):
    """Return proposals around the explanations of a density with one hub."""
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    found = explain_hubs(density, units, starts, rng)
    centre = units.gather(starts.centre[None])[0]
    mixtures = UnitMixtures.at_anchors(
        found.anchors, found.hub_scale, centre, found.spread, units.inside
    )
    return UnitProposals(units, mixtures, found.spread, 8)


def test_where_slopes_lead_far_enough_no_newton_steps_are_made(rng):
    # The units of `pairs` are shifted by the hub.
    density = pairs(n_units=8)
    proposals = proposals_of(density, rng)
    g = rng.standard_normal((64, 1))
    points, steps = choose_points(density, proposals, g, rng)
    assert steps == 0
    assert points <= 16
    # Without slopes they are needed.
    anchors = replace(proposals.mixtures.anchors, slope=None, mass_slope=None)
    anchors = replace(
        anchors.take(np.array([0])), slope=None, group=proposals.mixtures.anchors.group
    )
    without = replace(proposals, mixtures=replace(proposals.mixtures, anchors=anchors))
    assert choose_points(density, without, g, rng)[1] == 1


@pytest.mark.parametrize("steps", [0, 1])
def test_the_marginal_density_has_no_bias(steps, rng):
    density = pairs(n_units=8)
    proposals = replace(proposals_of(density, rng), points=4, steps=steps)
    g = np.repeat([[0.0], [1.5]], 4000, axis=0)
    n = density.n_logp_evals
    drawn = draw_units(density, proposals, g, rng)
    # Explanations that have not moved take no step.
    assert density.n_logp_evals - n <= len(g) * (4 + proposals.evaluations)
    assert steps or density.n_logp_evals - n == 4 * len(g)
    ratio = np.exp(drawn.log_marginal + 0.5 * g[:, 0] ** 2 + 0.5 * np.log(2 * np.pi))
    mean = ratio.reshape(2, -1).mean(axis=1)
    error = ratio.reshape(2, -1).std(axis=1) / np.sqrt(4000)
    assert np.abs((mean - 1.0) / error).max() < 4.0
