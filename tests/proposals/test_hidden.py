"""Modes that the draws of a region do not show."""

import numpy as np
import pytest
from densities import Mixture, exact_local

from pymc_multimodal.proposals import RegionalFamilies, hidden_modes, with_hidden_modes
from pymc_multimodal.search import Modes

D = 10
LINE, ONE = np.full(D, np.inf), np.zeros(1, dtype=int)
QUICK = RegionalFamilies().without_network()


def spike_in_slab(share, width=0.1):
    """A spike at the centre of a standard normal."""
    return Mixture(np.zeros((2, D)), [width**2 * np.eye(D), np.eye(D)], [share, 1.0 - share])


def summit(target, x):
    """A mode with Laplace's approximation, from differences of the gradient."""
    steps = 1e-4 * np.eye(target.dim)
    hessian = (target(x + steps)[1] - target(x - steps)[1]) / 2e-4
    scale = np.linalg.cholesky(np.linalg.inv(-0.5 * (hessian + hessian.T)))
    return Modes.described(x[None], target(x[None])[0], scale[None])


def of_slab(target, rng):
    """Draws of the slab alone, as of chains that went around the spike."""
    slab = Mixture(np.zeros((1, D)), [np.eye(D)], [1.0])
    draws = exact_local(slab, lambda x: np.zeros(len(x), int), 1, rng)
    logp = tuple(target(x.reshape(-1, D))[0].reshape(x.shape[:2]) for x in draws.x)
    return type(draws)(draws.x, logp, draws.grad, draws.centre, draws.ess)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_spike_that_no_draw_has_met_is_known_by_its_mass(share, rng):
    target = spike_in_slab(share)
    draws, modes = of_slab(target, rng), summit(target, np.zeros(D))
    fit = QUICK.fit_regions(draws, LINE, rng)
    [mode] = hidden_modes(fit.densities, draws, modes, ONE)
    # Laplace's mass over that of the draws, which is that of the slab.
    assert mode.share == pytest.approx(share / (1.0 - share), rel=0.1)
    assert mode.region == 0


def test_importance_sampling_then_sees_the_spike(rng):
    target = spike_in_slab(0.2)
    draws, modes = of_slab(target, rng), summit(target, np.zeros(D))
    fit = with_hidden_modes(QUICK.fit_regions(draws, LINE, rng), draws, modes, ONE)
    [q] = fit.densities
    x = q.sample(20_000, rng)
    ratio = np.exp(target(x)[0] - q.log_density(x))
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / np.sqrt(len(x))
    assert ratio.max() < 20
    # A refit compares the density of the draws alone.
    [before] = QUICK.fit_regions(draws, LINE, np.random.default_rng(1)).densities
    assert len(q.undefended.df) == len(before.undefended.df) < len(q.df)


def test_a_mode_that_the_draws_show_is_not_hidden(rng):
    target = spike_in_slab(0.3)
    draws = exact_local(target, lambda x: np.zeros(len(x), int), 1, rng)
    fit = QUICK.fit_regions(draws, LINE, rng)
    assert not hidden_modes(fit.densities, draws, summit(target, np.zeros(D)), ONE)


def test_a_mode_without_mass_and_modes_of_other_regions_are_left_out(rng):
    target = spike_in_slab(1e-5)
    draws, modes = of_slab(target, rng), summit(target, np.zeros(D))
    fit = QUICK.fit_regions(draws, LINE, rng)
    assert not hidden_modes(fit.densities, draws, modes, ONE)
    target = spike_in_slab(0.3)
    draws, modes = of_slab(target, rng), summit(target, np.zeros(D))
    assert not hidden_modes(fit.densities, draws, modes, -np.ones(1, dtype=int))
