"""One test for each fault that users met."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from densities import HalfSpace, Mixture, two_modes

from pymc_multimodal.model.build import density_of
from pymc_multimodal.moves.adaptation import fit_metric
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.regions.chains import LocalSampler
from pymc_multimodal.regions.pilot import explore
from pymc_multimodal.regions.settings import LocalSampling
from pymc_multimodal.search.curvature import triangular
from pymc_multimodal.search.finder import MAX_ESCAPES, ModeFinder
from pymc_multimodal.search.optimise import ForwardDifferences
from pymc_multimodal.search.settings import ModeSearch
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import Density


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
    density = density_of(model)
    x = density.prior_draws(200, rng)
    assert np.isfinite(x).all()
    modes = ModeFinder(density, ModeSearch(), rng).search()
    assert len(modes) == 1
    assert not modes.runaway


def test_an_ordered_prior_without_initval_still_gives_finite_starts(rng):
    with pm.Model() as model:
        pm.Normal("cut", 0.0, 5.0, shape=2, transform=pm.distributions.transforms.ordered)
    assert not np.isfinite(model.initial_point()["cut_ordered__"]).all()
    x = density_of(model).prior_draws(60, rng)
    assert np.isfinite(x).all()


def test_prior_draws_that_raise_are_drawn_again(rng):
    """A scale that may be negative: the density is zero there, and drawing x raises."""
    with pm.Model() as model:
        pm.Normal("x", 0.0, pm.Normal("s", 1.0, 1.0))
    x = density_of(model).prior_draws(60, rng)
    assert np.isfinite(x).all()
    with pm.Model() as model:
        pm.Normal("x", 0.0, pm.Normal("s", -9.0, 1.0))
    with pytest.raises(ModelError, match=r"raised ValueError.*initval=.*starts="):
        density_of(model).prior_draws(60, rng)


def test_differences_are_seen_in_single_precision(rng):
    def coarse(x):
        return -0.5 * ((x.astype("float32") - np.float32(40.0)) ** 2).sum(axis=1), None

    coarse.dtype = "float32"
    density = Density(coarse, 3, has_gradient=False)
    _, grad = ForwardDifferences(density, np.eye(3)).logp_and_grad(np.full((1, 3), 38.0))
    np.testing.assert_allclose(grad, 2.0, rtol=0.05)


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
    from pymc_multimodal.fit.pipeline import fit_density
    from pymc_multimodal.fit.settings import FitConfig

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
    whole = EllipticalMixture.single(
        np.zeros(2), 9.0 * np.eye(2), 5.0, np.full(2, np.inf), np.zeros(2)
    )
    for k in (1, 0):
        sampler.connect({k: (whole, [whole])})
    sampler.extend(np.arange(2), 30)
    local = sampler.result()
    for k in (0, 1):
        assert np.all(HalfSpace(0.0).label(local.x[k].reshape(-1, 2)) == k)


@pytest.mark.parametrize("first", [True, False])
def test_a_density_without_gradient_may_raise_at_any_row(first):
    def half(x):
        if (x[:, 0] > 1).any():
            raise ValueError("too far")
        return -0.5 * (x**2).sum(axis=1), None

    density = Density(half, 2, has_gradient=False)
    x = np.array([[2.0, 0.0], [0.0, 0.0]])
    logp = density.logp(x if first else x[::-1])
    np.testing.assert_array_equal(logp if first else logp[::-1], [-np.inf, 0.0])


def test_symmetry_is_looked_for_whatever_climbs(rng):
    """Climbs by differences begin with four scouts, which had hidden the first batch."""
    means = np.zeros((2, 12))
    means[:, 0] = -4.0, 4.0
    target = Mixture(means, [np.eye(12)] * 2, [0.5, 0.5])
    for density, config in (
        (target.density(gradient=False), ModeSearch(max_starts=32)),
        (target.density(), ModeSearch(max_starts=32, optimiser="differences")),
    ):
        finder = ModeFinder(density, config, rng, symmetry=True)
        assert len(finder.search()) == 1
        assert (finder.atlas.multiplicity(finder.atlas.x) >= 2).all()


def test_a_mode_stays_itself_when_more_of_its_optima_are_found(rng):
    modes = ModeFinder(two_modes().density(), ModeSearch(), rng).search()
    assert modes.counterparts(modes).tolist() == [0, 1]
    shift = np.array([1e-7, 0.0])
    higher = replace(
        modes,
        locations=modes.locations + shift,
        log_density=modes.log_density + 1e-9,
        optima=np.concatenate([modes.optima, modes.optima + shift]),
        optimum_modes=np.tile(modes.optimum_modes, 2),
    )
    assert higher.counterparts(modes).tolist() == [0, 1]
    # But a spike on top of it is news, and so is a mode of which nothing was known.
    spike = replace(higher, log_density=modes.log_density + np.array([2.0, 0.0]))
    assert spike.counterparts(modes).tolist() == [-1, 1]
    other = replace(modes, optima=modes.optima + 1.0)
    assert other.counterparts(modes).tolist() == [-1, -1]


def test_factors_of_long_thin_covariances_can_be_moved(rng):
    turn = np.linalg.qr(rng.standard_normal((50, 3, 3)))[0]
    root = turn * np.array([1e10, 1.0, 1e-2])
    factor = triangular(root)
    assert np.all(np.diagonal(factor, axis1=1, axis2=2) > 0)
    np.testing.assert_array_equal(np.triu(factor, 1), 0.0)
    z = np.linalg.solve(factor, root)
    np.testing.assert_allclose(z @ z.swapaxes(1, 2), np.broadcast_to(np.eye(3), z.shape), atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [{"explore_moves": 1}, {"draws": 0}, {"windows": (30, 0)}, {"max_draws": 50}],
)
def test_settings_that_leave_nothing_to_do_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LocalSampling(**settings)
