"""Every optimiser climbs to the modes, at the cost that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture, gaussian, two_modes
from searches import match, modes_found

from pymc_multimodal.search.lbfgs import climb
from pymc_multimodal.search.peaks import Peaks
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits


@pytest.mark.parametrize(
    "optimiser", ["lbfgs", "gradient_descent", "cobyqa", "differences", "powell", "nelder_mead"]
)
def test_every_optimiser_finds_both_modes(optimiser, rng):
    target = two_modes()
    modes = modes_found(target.density(), rng, starts=24, optimiser=optimiser)
    assert len(modes) == 2
    assert match(modes.locations, target.means)[1] < 0.01


def test_an_optimiser_that_needs_a_gradient_says_so(rng):
    with pytest.raises(ValueError, match="needs a gradient"):
        modes_found(two_modes().density(gradient=False), rng, optimiser="lbfgs")


def test_without_gradient_none_is_ever_asked_for(rng):
    target = two_modes()
    density = target.density(gradient=False)
    modes = modes_found(density, rng, starts=30)
    assert len(modes) == 2
    assert match(modes.locations, target.means)[1] < 0.01
    assert density.n_grad_evals == 0


def test_climbs_by_differences_learn_the_curvature_from_the_first_ones(rng):
    """A few climbs pay for the condition number, the others go in the modes' own coordinates."""
    d = 20
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    covariance = (turn * np.geomspace(1e-3, 1.0, d)) @ turn.T
    target = Mixture(np.outer([-3.0, 3.0], np.ones(d)), [covariance] * 2, [0.6, 0.4])
    few, many = target.density(gradient=False), target.density(gradient=False)
    modes_found(few, np.random.default_rng(1), optimiser="differences", starts=4)
    modes = modes_found(many, np.random.default_rng(1), optimiser="differences", starts=64)
    assert len(modes) == 2
    assert match(modes.locations, target.means)[1] < 0.02
    assert many.n_logp_evals < 64 / 4 * few.n_logp_evals / 3


@pytest.mark.parametrize("memory", [0, 10])
def test_climbs_end_at_the_summit_and_tell_their_paths(memory, rng):
    target = gaussian(np.array([1.0, -2.0, 3.0]), np.diag([0.5, 1.0, 2.0]))
    starts = 5.0 * rng.standard_normal((7, 3))
    climbs = climb(target.density(), starts, np.full(3, 3.0), memory=memory, max_iter=3000)
    assert climbs.converged.all()
    np.testing.assert_allclose(climbs.x, np.tile([1.0, -2.0, 3.0], (7, 1)), atol=0.02)
    np.testing.assert_allclose(climbs.logp, target.logp(climbs.x))
    np.testing.assert_array_equal(climbs.path[:7], starts)
    for i in range(7):
        assert np.all(np.diff(target.logp(climbs.path[climbs.path_row == i])) > 0)


def test_after_a_limit_only_the_highest_climbs_are_finished(rng):
    target = gaussian(np.zeros(2), np.eye(2))
    density = target.density()
    density.limits = Limits(early_evals=0)
    starts = 5.0 * rng.standard_normal((30, 2))
    climbs = climb(density, starts, np.ones(2))
    finished = ~climbs.cut_off
    assert 0 < finished.sum() < 30
    assert target.logp(starts[finished]).min() >= target.logp(starts[~finished]).max()
    np.testing.assert_allclose(climbs.x[finished], 0.0, atol=0.01)


def test_climbs_outside_of_the_support_end_where_they_begin():
    from pymc_multimodal.target.density import Density

    density = Density(lambda x: (np.full(len(x), -np.inf), np.zeros_like(x)), 2)
    climbs = climb(density, np.ones((3, 2)), np.ones(2))
    assert np.isneginf(climbs.logp).all()
    assert not climbs.converged.any()
    assert climbs.path.shape == (0, 2)


def test_a_climb_ends_at_the_first_point_that_a_known_optimum_describes(rng):
    """On a normal density that is the first point where the density is that of most draws."""
    d, height = 6, 3.0
    covariance = np.diag(np.geomspace(0.05, 2.0, d))
    target = gaussian(np.zeros(d), covariance, log_z=height)
    top = float(target.logp(np.zeros((1, d)))[0])
    scale = np.sqrt(covariance)
    peaks = Peaks(np.zeros((1, d)), np.array([top]), scale[None], lambda x, centre: x)
    for start in 8.0 * rng.standard_normal((10, d)):
        seen = []

        def recorded(x, seen=seen):
            seen.append(target.logp(x))
            return target(x)

        climbs = climb(Density(recorded, d), start[None], np.full(d, 3.0), peaks=peaks)
        near = np.concatenate(seen) > top - 0.5 * d
        assert climbs.peak[0] == 0
        assert near.sum() <= 1
        assert not near[:-1].any()
