"""Densities of controlled paths, and the bound on shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymc_multimodal.proposals.lrds import (
    Control,
    Potential,
    draw_paths,
    geometric,
)
from pymc_multimodal.proposals.lrds.control import log_path_density


def test_controlled_paths_have_the_density_that_is_said(make_reference, rng):
    reference = make_reference(geometric(4, 0.3, 3.0))
    control = Control(Potential.random(2, 1, 8, np.ones(5), rng), reference.control_maps())
    path, log_q = draw_paths(reference, control, 50, rng)
    np.testing.assert_allclose(log_path_density(reference, control, path), log_q)


def test_shifts_are_bounded(make_reference, rng):
    reference = make_reference(geometric(4, 0.3, 3.0))
    start = Potential.random(2, 1, 8, np.ones(5), rng)
    steep = replace(start, output=1e6 * start.output)
    control = Control(steep, reference.control_maps(), max_shift=1.5)
    shift = control(0, reference.features(1, rng.standard_normal((50, 2))))
    assert 1.0 < np.abs(shift).max() <= 1.5
