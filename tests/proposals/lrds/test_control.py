"""Terms of paths, and the bound on shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from densities import gaussian

from pymc_multimodal.proposals.lrds import (
    Control,
    Potential,
    SteppedReference,
    draw_paths,
    geometric,
    tweedie_steps,
)
from pymc_multimodal.proposals.lrds.control import PathTerms, log_path_density


def test_terms_of_paths_add_up_to_their_log_ratios(make_reference, rng):
    """v(x_0) - sum of gains is log [gamma F / q], for an exact reference and for a stepped one."""
    noising = geometric(5, 0.3, 3.0)
    exact = make_reference(noising)
    target = gaussian(np.zeros(2), np.eye(2))
    path = noising.forward(rng.standard_normal((30, 2)), rng)
    for reference in (exact, SteppedReference(exact, *tweedie_steps(noising))):
        terms = PathTerms.of(reference, path)
        logs = terms.log_constants - 0.5 * np.sum(terms.residuals**2, axis=3)
        gain = np.logaddexp.reduce(logs, axis=2) - np.log(2 * np.pi) - terms.log_bayes_step
        value = target.logp(path[0]) - reference.log_level(0, path[0])
        direct = target.logp(path[0]) + noising.log_density(path)
        direct -= log_path_density(reference, None, path)
        np.testing.assert_allclose(value - gain.sum(axis=1), direct)
        if reference is exact:
            np.testing.assert_allclose(gain, 0.0, atol=1e-9)


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
