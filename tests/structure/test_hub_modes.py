"""Particles of the hubs from modes of their marginal density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pymc_multimodal.fit import FitConfig, fit_density, structured
from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.structure import explain_hubs
from pymc_multimodal.structure.hub_modes import HubModes
from pymc_multimodal.structure.hubs import unit_starts
from pymc_multimodal.structure.tempering import Tempering
from pymc_multimodal.target import chosen_units
from tests.unit_targets import density_of, pairs

N_UNITS, RADIUS, WIDTH = 6, 3.0, 0.15


def hub_modes_of(density, rng):
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    spread = units.gather(starts.spread[None])[0]
    of_hubs = type(starts)(starts.centre[units.hubs], starts.spread[units.hubs])
    z = unit_starts(density, units, 16, rng)
    return HubModes(density, units, of_hubs, spread, z)


def ring():
    """Two hubs on a ring, which no normal around a mode describes; units with two explanations."""

    def function(x):
        g, z = x[:, :2], x[:, 2:]
        hub = -0.5 * ((np.hypot(g[:, :1], g[:, 1:]) - RADIUS) / WIDTH) ** 2
        sides = [-0.5 * ((z - s - 0.1 * g[:, :1] * g[:, 1:]) / 0.3) ** 2 for s in (-1.0, 1.0)]
        return np.concatenate([hub, np.logaddexp(*sides)], axis=1)

    depends = np.zeros((N_UNITS + 1, N_UNITS + 2), dtype=bool)
    depends[:, :2] = True
    depends[1:, 2:] = np.eye(N_UNITS, dtype=bool)
    return density_of(function, depends, lambda n, g: 2.0 * g.standard_normal((n, N_UNITS + 2)))


def test_particles_have_the_distribution_of_a_hub_that_is_normal(rng):
    density = pairs(n_units=8)
    g, known = hub_modes_of(density, rng).particles(rng.standard_normal((40, 1)), rng)
    assert abs(g.mean()) < 4 / np.sqrt(0.5 * len(g))
    assert g.std() == pytest.approx(1.0, abs=0.2)
    share = np.sort(known.share, axis=2)[..., ::-1]
    np.testing.assert_allclose(share[..., 0], 0.7, atol=1e-2)
    assert density.n_logp_evals < 30_000


def test_a_mode_is_kept_once_for_any_number_of_points(rng):
    """Two modes of the hub: particles of both, whatever number of points belongs to each."""

    def function(x):
        g, z = x[:, :1], x[:, 1:]
        hub = np.logaddexp(*(-0.5 * ((g - m) / 0.1) ** 2 for m in (-4.0, 4.0)))
        return np.concatenate([hub, -0.5 * (z - g) ** 2], axis=1)

    depends = np.concatenate([np.eye(7)[:1], np.eye(7)[1:] + np.eye(7)[:1]]) > 0
    density = density_of(function, depends, lambda n, g: 6 * g.standard_normal((n, 7)))
    points = np.array([-4.1, -4.0, -3.9, 4.05, 4.0, -4.02, -3.95])[:, None]
    g, _ = hub_modes_of(density, rng).particles(points, rng)
    assert np.mean(g > 0) == pytest.approx(0.5, abs=0.15)
    assert np.abs(np.abs(g) - 4.0).max() < 1.0


def test_hubs_that_normals_do_not_describe_are_left_to_tempering(rng):
    density = ring()
    modes = hub_modes_of(density, rng)
    assert modes.particles(np.array([[RADIUS, 0.0], [0.0, -RADIUS]]), rng) is None
    assert modes.particles(np.empty((0, 2)), rng) is None


def test_tempering_alone_is_a_choice(rng):
    density = pairs()
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    units = chosen_units(density, True)
    assert explain_hubs(density, units, starts, rng).by_modes
    assert not explain_hubs(density, units, starts, rng, by_modes=False).by_modes


def test_a_fit_tempers_hubs_whose_weights_are_not_precise(monkeypatch):
    """No sample passes before hubs are tempered."""
    tempered, run, judge = [], Tempering.run, structured.judge

    def judged(*args):
        verdict = judge(*args)
        return verdict if tempered else replace(verdict, reasons=("not tempered",))

    monkeypatch.setattr(structured, "judge", judged)
    monkeypatch.setattr(structured, "REFITS", 0)
    monkeypatch.setattr(
        Tempering, "run", lambda *args, **own: tempered.append(1) or run(*args, **own)
    )
    fit = fit_density(pairs(n_units=10), FitConfig(random_seed=3))
    assert tempered
    assert fit.units is not None
    # The density is normalised.
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
