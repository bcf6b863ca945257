"""A log density that is emulated by its values alone."""

import numpy as np
import pytest
from densities import Banana, gaussian, two_modes
from scipy.special import expit, logit
from scipy.stats import logistic
from searches import modes_found

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.challenge import TemperedSettings
from pymc_multimodal.emulation import Emulated, Plan, emulate_surface, refine
from pymc_multimodal.emulation.features import LOGISTIC_SPREAD, Features
from pymc_multimodal.emulation.process import fit_process
from pymc_multimodal.emulation.rounds import emulated_density, tempered_draws
from pymc_multimodal.emulation.surface import PriorShape, SurfaceEmulator
from pymc_multimodal.search import StartDistribution
from pymc_multimodal.target import Density

STARTS = StartDistribution(np.zeros(2), np.full(2, 4.0))
LINE = np.full(2, np.inf)


def surface_of(target, rng, n=120, spread=1.0):
    modes = modes_found(target.density(), rng)
    x = np.concatenate([target.draws(n, rng), 4.0 * spread * rng.standard_normal((n // 4, 2))])
    logp = target.logp(x)
    return emulate_surface(modes, STARTS, LINE, x, logp, rng), x, logp


@pytest.mark.parametrize("target", [two_modes(), Banana(2)], ids=["two modes", "banana"])
def test_the_log_density_is_predicted(target, rng):
    emulator, x, logp = surface_of(target, rng)
    new = target.draws(300, rng)
    value, sd = emulator.predict(new)
    error = value - target.logp(new)
    assert np.sqrt(np.mean(np.minimum(error**2, 1.0))) < 0.3
    assert np.isfinite(sd).all()
    np.testing.assert_array_equal(emulator.log_density(new), value)
    # Points that are known are nearly certain.
    near = logp > logp.max() - 8
    value, sd = emulator.predict(x[near])
    np.testing.assert_allclose(value, logp[near], atol=0.1)
    assert np.median(sd) < 0.05


def test_far_away_it_falls_as_its_mixture_does(rng):
    emulator, _, _ = surface_of(two_modes(), rng)
    away = np.array([[60.0, 0.0], [600.0, 0.0], [0.0, -6000.0]])
    value, _ = emulator.predict(away)
    known = emulator.mixture.log_density(away)
    # The process is constant there, and the variance is limited.
    np.testing.assert_allclose(np.diff(value - known), 0.0, atol=1e-6)
    assert (np.diff(value) < 0).all()


def test_a_normal_density_is_its_mixture(rng):
    """Nothing is left for the process where the mixture describes the density."""
    target = two_modes(distance=12.0)
    emulator, _, _ = surface_of(target, rng, n=60)
    new = target.draws(100, rng)
    error = emulator.log_density(new) - target.logp(new)
    assert np.median(np.abs(error)) < 0.05


def test_more_points_make_it_more_certain(rng):
    target = Banana(2)
    emulator, x, logp = surface_of(target, rng, n=40)
    more = target.draws(100, rng)
    both = (
        np.concatenate([x, more]),
        np.empty((len(x) + 100, 0)),
        np.append(logp, target.logp(more)),
    )
    new = target.draws(100, rng)
    for refit in (False, True):
        later = emulator.updated(*both, refit=refit)
        assert np.median(later.predict(new)[1]) < np.median(emulator.predict(new)[1])
        if not refit:
            np.testing.assert_array_equal(later.process.log_lengths, emulator.process.log_lengths)


def test_uncertainty_is_the_variance_and_falls(rng):
    emulator, _, _ = surface_of(Banana(2), rng, n=40)
    x = 3 * rng.standard_normal((20, 2))
    left = emulator.uncertainty(x)
    before = left.variance()
    np.testing.assert_allclose(before, emulator.predict(x)[1] ** 2, rtol=1e-4, atol=1e-9)
    i = int(np.argmax(before))
    left.choose(i)
    assert left.variance()[i] < 1e-3 * before[i]
    assert (left.variance() <= before * (1 + 1e-9)).all()


def test_values_without_density_do_not_count(rng):
    target = two_modes()
    modes = modes_found(target.density(), rng)
    x = target.draws(80, rng)
    logp = target.logp(x)
    far = np.full((20, 2), 50.0) + rng.standard_normal((20, 2))
    with_far = emulate_surface(
        modes, STARTS, LINE, np.concatenate([x, far]), np.append(logp, np.full(20, -np.inf)),
        np.random.default_rng(1),
    )  # fmt: skip
    without = emulate_surface(modes, STARTS, LINE, x, logp, np.random.default_rng(1))
    new = target.draws(10, rng)
    np.testing.assert_array_equal(with_far.log_density(new), without.log_density(new))
    assert emulate_surface(modes, STARTS, LINE, x[:3], logp[:3], rng) is None
    assert emulate_surface(modes, STARTS, LINE, far, np.full(20, -np.inf), rng) is None


def uniform_model(x):
    """Log density of the logits of two uniform parameters with mass at an end of one of them."""
    theta = expit(x)
    log_prior = -np.abs(x) - 2 * np.log1p(np.exp(-np.abs(x)))
    reading = theta[:, 0] + 0.8 * (theta[:, 1] - 0.3) ** 2
    return log_prior.sum(axis=1) - 0.5 * ((reading - 0.95) / 0.04) ** 2


@pytest.fixture
def bounded_surface(rng):
    """An emulator of `uniform_model` with the points that it was told."""
    density = Density(lambda x: (uniform_model(x), None), 2, has_gradient=False,
                      prior=lambda n, rng: logit(rng.uniform(size=(n, 2))))  # fmt: skip
    modes = modes_found(density, rng)
    x = logit(rng.uniform(size=(600, 2)))
    starts = StartDistribution(np.zeros(2), np.full(2, LOGISTIC_SPREAD))
    return emulate_surface(modes, starts, LINE, x, uniform_model(x), rng), starts, x


def test_uniform_parameters_are_emulated_up_to_their_bounds(bounded_surface, rng):
    """Of the logits, a process that returns to the mixture over the modes knows tails badly."""
    emulator, starts, _ = bounded_surface
    assert isinstance(emulator.mixture, PriorShape)
    assert len(emulator.features.bounded.which)
    new = logit(rng.uniform(size=(20_000, 2)))
    logp = uniform_model(new)
    log_prior = PriorShape(starts.centre, starts.spread, LINE).log_density(new)
    posterior = new[rng.random(len(new)) < np.exp(logp - log_prior)]
    assert len(posterior) > 500
    error = emulator.log_density(posterior) - uniform_model(posterior)
    assert np.sqrt(np.mean(error**2)) < 0.05


def test_far_away_it_falls_as_the_prior_does(bounded_surface):
    emulator, starts, x = bounded_surface
    away = np.array([[40.0, 0.0], [400.0, 0.0], [4000.0, -4000.0]])
    value = emulator.log_density(away)
    shape = PriorShape(starts.centre, starts.spread, LINE)
    highest = (uniform_model(x) - shape.log_density(x)).max()
    # The log likelihood rises little above what is known, and the variance is limited.
    assert (value - shape.log_density(away) < highest + 3.0 + 1e-6).all()
    assert (np.diff(value) < -300).all()


def test_the_shape_of_the_prior_is_the_logistic_density():
    shape = PriorShape(np.array([1.0, 0.0]), np.full(2, 2 * LOGISTIC_SPREAD), np.array([np.inf, 7]))
    x = np.array([[-3.0, 0.0], [1.0, 1.0], [6.0, 2.0]])
    known = logistic.logpdf(x[:, 0], loc=1.0, scale=2.0)
    value = shape.log_density(x)
    np.testing.assert_allclose(value - value[0], known - known[0])


def test_points_below_the_band_hold_the_emulator_down(rng):
    """Beyond a cliff, where no point counts, the slope before it must not be continued."""

    def cliff(x):
        return np.where(x[:, 0] < 1.0, 4.0 * x[:, 0] - 0.5 * x[:, 1] ** 2, -500.0)

    x = rng.uniform(-3.0, 3.0, (150, 2))
    logp = cliff(x)
    features = Features(np.arange(2), np.zeros(2), np.ones(2), LINE)
    beyond = rng.uniform([1.5, -2.0], [2.5, 2.0], (200, 2))

    def highest_beyond(base):
        counts = logp > -400.0
        rest = (logp - base.log_density(x))[counts, None]
        begun = SurfaceEmulator(base, features, fit_process(features(x[counts]), rest))
        held = begun.lowered(x, logp)
        return [np.quantile(one.log_density(beyond), 0.95) for one in (begun, held)]

    before, after = highest_beyond(PriorShape(np.zeros(2), np.full(2, 4.0), LINE))
    assert before > logp.max()
    assert after < logp.max() - 14.0
    # A mixture falls by itself, and rises where nobody has been: nothing is done to it.
    modes = modes_found(gaussian(np.zeros(2), np.eye(2)).density(), rng)
    mixture = first_mixture(modes, modes.log_mass, STARTS, LINE)
    before, after = highest_beyond(mixture)
    assert before == after


@pytest.mark.parametrize("refit", [False, True])
def test_relative_to_a_mixture_it_is_mixture_and_process(refit, rng):
    """Neither limits of the rise nor points below the band touch it, whatever was tried beside."""
    target = two_modes()
    emulator, x, logp = surface_of(target, np.random.default_rng(5))
    modes = modes_found(target.density(), np.random.default_rng(5))
    mixture = first_mixture(modes, modes.log_mass, STARTS, LINE)
    new = np.concatenate([target.draws(50, rng), 8.0 * rng.standard_normal((50, 2))])
    np.testing.assert_array_equal(emulator.mixture.log_density(new), mixture.log_density(new))
    rows = logp > logp.max() - 14.0
    rest = (logp[rows] - mixture.log_density(x[rows]))[:, None]
    process = fit_process(emulator.features(x[rows]), rest)
    if refit:
        emulator = emulator.updated(x, np.empty((len(x), 0)), logp, refit=True)
        process = fit_process(emulator.features(x[rows]), rest, process)
    mean, variance = (part[:, 0] for part in process.predict(emulator.features(new)))
    expected = mixture.log_density(new) + mean + 0.5 * np.minimum(variance, 2.0)
    np.testing.assert_array_equal(emulator.log_density(new), expected)


def bump(x, height):
    """Log density of a normal mode in one corner of the two uniform parameters."""
    theta = expit(x)
    log_prior = (-np.abs(x) - 2 * np.log1p(np.exp(-np.abs(x)))).sum(axis=1)
    return log_prior + height - 0.5 * np.square((theta - [0.2, 0.8]) / 0.08).sum(axis=1)


def test_a_mode_that_no_point_has_seen_is_found_relative_to_the_prior(rng):
    """Where nothing is known such an emulator is as high as the points are on average."""

    def both(x):
        return np.logaddexp(uniform_model(x), bump(x, 1.0))

    density = Density(lambda x: (both(x), None), 2, has_gradient=False,
                      prior=lambda n, rng: logit(rng.uniform(size=(n, 2))))  # fmt: skip
    seen = Density(lambda x: (uniform_model(x), None), 2, has_gradient=False, prior=density.prior)
    modes = modes_found(seen, rng)
    theta = rng.uniform(size=(250, 2))
    x = logit(theta[np.linalg.norm((theta - [0.2, 0.8]) / 0.08, axis=1) > 4.5])
    starts = StartDistribution(np.zeros(2), np.full(2, LOGISTIC_SPREAD))
    emulator = emulate_surface(modes, starts, LINE, x, both(x), rng)
    assert isinstance(emulator.mixture, PriorShape)
    begun = Emulated(emulator, np.inf, 0, (x, np.empty((len(x), 0)), both(x)))
    plan = Plan(0.1, len(x) + 300, len(x), 300, 16, 0.25)
    found = refine(density, begun, starts, plan, rng)
    draws = tempered_draws(emulated_density(density, found.emulator), starts, 1000,
                           TemperedSettings(), rng).x  # fmt: skip
    # The mode's mass, by a grid of the two parameters, whose logits have this prior density.
    theta = (np.stack(np.meshgrid(*[np.arange(0.5, 400.0)] * 2), -1) / 400.0).reshape(-1, 2)
    grid, weight = logit(theta), np.exp(both(logit(theta))) / (theta * (1 - theta)).prod(axis=1)
    mass = weight[bump(grid, 1.0) > uniform_model(grid)].sum() / weight.sum()
    assert 0.2 < mass < 0.8
    share = np.mean(bump(draws, 1.0) > uniform_model(draws))
    assert abs(share - mass) < 0.08


@pytest.mark.slow  # Gaussian processes of thousands of points
def test_crowds_of_points_do_not_displace_others(rng):
    """Thousands of points at a mode leave room for those around it."""
    target = two_modes()
    modes = modes_found(target.density(), rng)
    x = target.draws(300, rng)
    crowd = target.means[:1] + 1e-3 * rng.standard_normal((3000, 2))
    both = np.concatenate([crowd, x])
    emulator = emulate_surface(modes, STARTS, LINE, both, target.logp(both), rng)
    known = {row.tobytes() for row in emulator.process.x}
    near = sum(row.tobytes() in known for row in emulator.features(x))
    assert near > 150
