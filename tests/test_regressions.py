"""One test for each fault that users met."""

import numpy as np
import pymc as pm
from densities import HalfSpace, two_modes

from pymc_multimodal.adaptation import LocalSampling, fit_metric
from pymc_multimodal.density import Density
from pymc_multimodal.generators.gaussian import EllipticalMixture
from pymc_multimodal.local import LocalSampler
from pymc_multimodal.modes import MAX_ESCAPES, ModeFinder
from pymc_multimodal.pilot import explore
from pymc_multimodal.starts import ModeSearch


def test_metric_survives_gradients_that_overflow(rng):
    x = rng.standard_normal((200, 3))
    grad = -x.copy()
    grad[0] = 1e200
    grad[1] = np.nan
    factor = fit_metric(x, grad, np.eye(3))
    # Without the two bad rows the fit is exact: the identity.
    np.testing.assert_allclose(factor @ factor.T, np.eye(3), atol=1e-3)


def test_a_prior_that_ignores_its_order_still_gives_finite_starts(rng):
    with pm.Model() as model:
        pm.Normal(
            "cut", shape=3, transform=pm.distributions.transforms.ordered, initval=[-1.0, 0.0, 1.0]
        )
    density = Density.from_model(model)
    x = density.prior_draws(200, rng)
    assert np.isfinite(x).all()
    modes = ModeFinder(density, ModeSearch(), rng).search()
    assert len(modes) == 1
    assert not modes.runaway


def test_steps_in_the_density_do_not_start_a_climb_from_every_point(rng):
    calls = []

    def stairs(x):
        calls.append(len(x))
        height = np.floor(3 * np.cos(x[:, 0]))
        return height - 0.5 * x[:, 1] ** 2, np.stack([0 * x[:, 0], -x[:, 1]], axis=1)

    def prior(n, rng):
        return rng.normal(0, 2, (n, 2))

    finder = ModeFinder(Density(stairs, 2, prior=prior), ModeSearch(), rng)
    finder.search()
    assert finder.n_escapes <= MAX_ESCAPES
    # Before escapes were rationed this took hundreds of thousands of evaluations.
    assert sum(calls) < 100_000


def test_a_fit_says_what_it_is_in_one_line():
    from pymc_multimodal.config import FitConfig
    from pymc_multimodal.pipeline import fit_density

    def normal(x):
        return -0.5 * (x**2).sum(axis=1), -x

    fit = fit_density(Density(normal, 2, prior=lambda n, r: r.normal(0, 2, (n, 2))), FitConfig())
    assert len(repr(fit)) < 200
    assert "1 modes" in repr(fit)


def test_regions_that_begin_to_jump_in_any_order_keep_their_chains(rng):
    """Accepted jumps were handed to the chains of other regions."""
    density, config = two_modes().density(), LocalSampling()
    modes = ModeFinder(density, ModeSearch(), rng).search()
    pilot = explore(density, modes, config, rng)
    sampler = LocalSampler(density, HalfSpace(0.0), modes, pilot, config, rng)
    whole = EllipticalMixture(
        np.zeros((1, 2)), 9.0 * np.eye(2)[None], np.ones(1), np.array([5.0]),
        np.full(2, np.inf), np.zeros(2), "gaussian",
    )  # fmt: skip
    for k in (1, 0):
        sampler.connect({k: (whole, [whole])})
    sampler.extend(np.arange(2), 30)
    local = sampler.result()
    for k in (0, 1):
        assert np.all(HalfSpace(0.0).label(local.x[k].reshape(-1, 2)) == k)
