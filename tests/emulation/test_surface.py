"""A log density that is emulated by its values alone."""

import numpy as np
import pytest
from densities import Banana, two_modes
from searches import modes_found

from pymc_multimodal.emulation import emulate_surface
from pymc_multimodal.search import StartDistribution

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
