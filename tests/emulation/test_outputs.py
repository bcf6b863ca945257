"""The log density with emulated outputs, against exact means over what the outputs may be."""

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_normal
from simulators import differences
from simulators_numpy import Likelihood, free_noise, parabola

from pymc_multimodal.emulation.features import Features
from pymc_multimodal.emulation.outputs import (
    LEFT_OUT,
    OutputEmulator,
    OutputUncertainty,
    Scaling,
    emulate_outputs,
)
from pymc_multimodal.emulation.process import Process

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def features(inputs, dim):
    return Features(np.arange(inputs), np.zeros(dim), np.ones(dim), np.full(dim, np.inf))


def outputs_of(x):
    return np.stack([np.sin(x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)


def linear_scaling(m, spread=1.0):
    ones = np.ones(m)
    return Scaling(0 * ones, 1e6 * spread * ones, 0.1 * ones, np.eye(m), 0 * ones, ones > 0)


def emulator_of(model, rng, *, n=12, log_length=0.5, separable=True, scaling=None):
    """An emulator of two inputs with lengths that are not fitted, so that it is uncertain."""
    x = rng.standard_normal((n, model.dim))
    y = model.outputs(x)
    scaling = scaling or linear_scaling(y.shape[1])
    z = features(2, model.dim)
    f = scaling.forward(y)
    # The last output shares its lengths with the first.
    last = f.shape[1] - 1
    groups = (np.array([0, last]), np.arange(1, last)) if last > 1 else (np.arange(last + 1),)
    processes = tuple(
        Process(z(x), f[:, group], np.full(2, log_length - 0.1 * i), np.log(1e-6))
        for i, group in enumerate(groups)
    )
    return OutputEmulator(model, z, scaling, processes, groups, x, y, separable)


def predicted(emulator, x):
    """Means and variances of the outputs by each process alone; the scaling is linear."""
    f = np.empty((len(x), emulator.y.shape[1]))
    v = f.copy()
    for p, group in zip(emulator.processes, emulator.groups, strict=True):
        f[:, group], v[:, group] = p.predict(emulator.features(x))
    mean, slope = emulator.scaling.backward(f)
    return mean, slope**2 * v


def normal_observations(noise=None):
    return Likelihood(outputs_of, 2, [0.5, 0.3, 0.8], [0.1, 0.2, 0.3], noise)


@pytest.mark.parametrize("noise", [None, 0.5])
def test_variances_are_added_to_the_noise_of_normal_observations(noise, rng):
    model = normal_observations(noise)
    emulator = emulator_of(model, rng)
    x = rng.standard_normal((20, model.dim))
    mean, variance = predicted(emulator, x)
    assert variance.max() > 0.1
    total = np.sqrt(model.scale(x) ** 2 + variance)
    exact = -0.5 * (((mean - model.observed) / total) ** 2).sum(axis=1) - np.log(total).sum(axis=1)
    exact += -0.5 * (x**2).sum(axis=1) - 0.5 * (model.dim + 3) * np.log(2 * np.pi)
    np.testing.assert_allclose(emulator.log_density(x), exact, rtol=1e-6)


class Correlated:
    """A normal prior and normal observations with correlated noise."""

    dim, inputs, n_outputs, names = 2, np.arange(2), 3, ("a", "b", "c")
    observed = np.array([0.5, 0.3, 0.8])
    covariance = np.array([[0.04, 0.03, 0.0], [0.03, 0.09, -0.02], [0.0, -0.02, 0.05]])

    def outputs(self, x):
        return outputs_of(x)

    def log_density(self, x, y):
        return self.log_density_and_grad(x, y)[0]

    def log_density_and_grad(self, x, y):
        gap = y - self.observed
        pull = gap @ np.linalg.inv(self.covariance)
        logp = -0.5 * (pull * gap).sum(axis=1) - 0.5 * np.linalg.slogdet(self.covariance)[1]
        logp += -0.5 * (x**2).sum(axis=1) - 0.5 * (3 + 2) * np.log(2 * np.pi)
        return logp, -x, -pull


def test_variances_are_added_to_a_correlated_noise(rng):
    model = Correlated()
    emulator = emulator_of(model, rng, separable=False)
    x = rng.standard_normal((20, 2))
    mean, variance = predicted(emulator, x)
    exact = [
        multivariate_normal(m, model.covariance + np.diag(v)).logpdf(model.observed)
        for m, v in zip(mean, variance, strict=True)
    ]
    exact = np.array(exact) - 0.5 * (x**2).sum(axis=1) - np.log(2 * np.pi)
    np.testing.assert_allclose(emulator.log_density(x), exact, rtol=1e-6, atol=1e-6)


class Poisson:
    """Counts with the outputs as log rates."""

    dim, inputs, n_outputs, names = 2, np.arange(2), 3, ("a", "b", "c")
    counts = np.array([2.0, 1.0, 3.0])

    def outputs(self, x):
        return outputs_of(x)

    def terms(self, y):
        return self.counts * y - np.exp(y) - gammaln(self.counts + 1)

    def slopes(self, y):
        return self.counts - np.exp(y)

    def log_density(self, x, y):
        return self.log_density_and_grad(x, y)[0]

    def log_density_and_grad(self, x, y):
        return self.terms(y).sum(axis=1) - 0.5 * (x**2).sum(axis=1), -x, self.slopes(y)


class StudentT(Poisson):
    """Observations with tails, whose log density is not concave far from them."""

    observed, df, sd = np.array([0.5, 0.3, 0.8]), 4.0, 0.5

    def terms(self, y):
        return -0.5 * (self.df + 1) * np.log1p(((y - self.observed) / self.sd) ** 2 / self.df)

    def slopes(self, y):
        z = (y - self.observed) / self.sd
        return -(self.df + 1) * z / (self.df + z**2) / self.sd


def by_quadrature(model, mean, variance, x):
    """Log of the mean density over independent normal outputs, and the log density's spread."""
    y = mean[:, None] + np.sqrt(variance)[:, None] * NODES[:, None]
    terms, share = model.terms(y), (NODE_WEIGHTS / NODE_WEIGHTS.sum())[:, None]
    log_mean = logsumexp(terms, axis=1, b=share).sum(axis=1) - 0.5 * (x**2).sum(axis=1)
    spread = (share * terms**2).sum(axis=1) - (share * terms).sum(axis=1) ** 2
    return log_mean, np.sqrt(spread.sum(axis=1))


@pytest.mark.parametrize("model", [Poisson(), StudentT()], ids=["poisson", "student"])
def test_the_mean_over_small_variances(model, rng):
    """The formula is of second order: its error falls with the square of the variances."""
    largest = []
    for n in (10, 20, 40):
        emulator = emulator_of(model, rng, n=n, log_length=-0.1)
        # Inside of the points that are known, where each process is certain to a degree.
        x = 0.4 * rng.standard_normal((50, 2)) + [0.4, 0.5]
        mean, variance = predicted(emulator, x)
        near = np.abs(mean - 0.5).max(axis=1) < 0.8
        x, mean, variance = x[near], mean[near], variance[near]
        assert len(x) > 10
        exact, spread = by_quadrature(model, mean, variance, x)
        value, sd = emulator.predict(x)
        bound = 20.0 * variance.max(axis=1) ** 2 + 1e-6
        np.testing.assert_array_less(np.abs(value - exact), bound)
        largest.append(variance.max())
        small = (variance.max(axis=1) < 0.01) & (spread > 1e-4)
        np.testing.assert_allclose(sd[small], spread[small], rtol=0.15)
    assert largest[-1] < 0.03 < largest[0]


def test_outputs_that_are_known_give_the_true_log_density(rng):
    model = normal_observations()
    emulator = emulator_of(model, rng, n=40)
    value, sd = emulator.predict(emulator.x)
    np.testing.assert_allclose(value, model.logp(emulator.x), rtol=0.01, atol=0.05)
    assert np.median(sd) < 0.1


# ------------------------------------------------------------------ scales


def test_scaling_there_and_back(rng):
    y = 10.0 ** rng.uniform(-3, 4, (30, 4)) * rng.choice([-1.0, 1.0], (30, 4))
    scaling = Scaling(np.array([0.0, 1.0, 0.0, -3.0]), np.array([0.1, 1.0, 1e6, 10.0]),
                      np.array([0.1, 0.5, 2.0, 10.0]), np.eye(4), np.zeros(4),
                      np.zeros(4, dtype=bool))  # fmt: skip
    f = scaling.forward(y)
    back, slope = scaling.backward(f)
    np.testing.assert_allclose(back, y, rtol=1e-9, atol=1e-9)
    for j in range(4):
        found = differences(lambda v, j=j: scaling.backward(v)[0][:, j], f, 1e-5)
        np.testing.assert_allclose(found[:, j], slope[:, j], rtol=1e-5, atol=1e-6)
    # With a long reach it is linear, in units of `unit`.
    np.testing.assert_allclose(f[:, 2], y[:, 2] / 2.0, rtol=1e-4)
    assert np.isfinite(scaling.backward(np.full((1, 4), 1e9))[0]).all()


def series(observed_sd=0.1, decades=False):
    """Forty outputs of two inputs, which three components describe."""
    t = np.linspace(0.0, 1.0, 40)

    def f(x):
        y = x[:, :1] + x[:, 1:] * t + 0.5 * x[:, :1] * x[:, 1:] * t**2
        return np.exp(3 * y) if decades else y

    return Likelihood(f, 2, f(np.array([[0.5, -0.3]]))[0], observed_sd)


@pytest.mark.parametrize("decades", [False, True], ids=["linear", "decades"])
def test_components_describe_many_outputs_within_their_noise(decades, rng):
    model = series(decades=decades)
    x = rng.standard_normal((80, 2))
    y = model.outputs(x)
    emulator = emulate_outputs(model, features(2, 2), x, y, model.log_density(x, y))
    rank = emulator.scaling.components.shape[1]
    assert 2 <= rank <= 8
    assert sorted(np.concatenate(emulator.groups)) == list(range(rank))
    back, slope = emulator.scaling.backward(emulator.scaling.forward(y))
    # In units in which the noise is one, or less where it is scaled down.
    gap = (back - y) / np.maximum(slope, emulator.scaling.unit)
    assert np.mean(gap**2) < 2 * LEFT_OUT
    near = np.array([0.5, -0.3]) + 0.1 * rng.standard_normal((40, 2))
    value, sd = emulator.predict(near)
    truth = model.logp(near)
    assert np.sqrt(np.mean((value - truth) ** 2)) < 0.1 * truth.std()
    assert np.isfinite(sd).all()


def test_the_noise_is_found_and_an_output_over_decades_is_scaled(rng):
    def f(x):
        return np.stack([np.exp(3.0 * x[:, 0]), x[:, 0] + x[:, 1]], axis=1)

    model = Likelihood(f, 2, [1.0, 0.2], [0.05, 0.3])
    x = rng.standard_normal((60, 2))
    y = f(x)
    emulator = emulate_outputs(model, features(2, 2), x, y, model.log_density(x, y))
    np.testing.assert_allclose(emulator.scaling.unit, [0.05, 0.3], rtol=1e-3)
    # The first is emulated on a scale close to its logarithm, the second as it is.
    assert emulator.scaling.reach[0] < 1.0 < 100.0 < emulator.scaling.reach[1]
    assert emulator.separable


def test_correlated_noise_is_seen(rng):
    model, x = Correlated(), rng.standard_normal((40, 2))
    y = outputs_of(x)
    emulator = emulate_outputs(model, features(2, 2), x, y, model.log_density(x, y))
    assert not emulator.separable


def test_points_without_outputs_are_left_out(rng):
    model = parabola()
    x = rng.standard_normal((60, 2))
    y = model.outputs(x)
    y[::6] = np.nan
    logp = np.where(np.isfinite(y).all(axis=1), model.log_density(x, y), -np.inf)
    emulator = emulate_outputs(model, features(2, 2), x, y, logp)
    fine = np.isfinite(y).all(axis=1)
    without = emulate_outputs(model, features(2, 2), x[fine], y[fine], logp[fine])
    new = rng.standard_normal((20, 2))
    np.testing.assert_array_equal(emulator.log_density(new), without.log_density(new))
    assert len(emulator.x) == 50


# ------------------------------------------------------------------ more points


@pytest.mark.parametrize("refit", [False, True])
def test_more_points_make_it_more_certain(refit, rng):
    model = free_noise()
    x = rng.standard_normal((80, 3))
    y = model.outputs(x)
    logp = model.log_density(x, y)
    new = 0.5 * rng.standard_normal((50, 3))
    first = emulate_outputs(model, features(2, 3), x[:20], y[:20], logp[:20])
    later = first.updated(x, y, logp, refit=refit)
    before, after = first.predict(new), later.predict(new)
    truth = model.logp(new)
    assert np.median(after[1]) < 0.5 * np.median(before[1])
    assert np.median(np.abs(after[0] - truth)) < np.median(np.abs(before[0] - truth)) + 1e-3
    if not refit:
        for p, q in zip(first.processes, later.processes, strict=True):
            np.testing.assert_array_equal(p.log_lengths, q.log_lengths)
    z = later.left_out_errors
    assert z.shape == (80, 2)


def test_uncertainty_is_the_error_of_the_prediction(rng):
    emulator = emulator_of(normal_observations(), rng)
    x = rng.standard_normal((15, 2))
    np.testing.assert_allclose(
        emulator.uncertainty(x).variance(), emulator.predict(x)[1] ** 2, rtol=1e-5
    )


def test_a_choice_conditions_on_the_point(rng):
    """Covariances are those of processes that know the point, whatever its outputs will be."""
    emulator = emulator_of(normal_observations(), rng, n=8, log_length=0.0)
    x = rng.standard_normal((15, 2))
    left = emulator.uncertainty(x)
    before = left.variance()
    left.choose(4)
    after = left.variance()
    assert (after <= before * (1 + 1e-9)).all()
    assert after[4] < 1e-4 * before[4]
    z = emulator.features(x)
    for p, correlation in zip(emulator.processes, left.correlation, strict=True):
        q = p.with_data(np.concatenate([p.x, z[4:5]]), np.append(p.y, 0.7 + p.y[:1], axis=0))
        np.testing.assert_allclose(correlation, q.correlation(z), atol=1e-4)


def test_a_choice_by_hand():
    covariance = np.array([[2.0, 1.0], [1.0, 1.0]])
    grad, curvature = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    left = OutputUncertainty([0.5 * covariance], [np.array([2.0])], [grad], [curvature])
    # v g^2 / (1 + v c) + (v c)^2 / 2
    np.testing.assert_allclose(left.variance(), [2.0, 4.0 / 4.0 + 4.5])
    left.choose(0)
    np.testing.assert_allclose(left.variance(), [0.0, 0.5 * 4 / 2.5 + 0.5 * 1.5**2], atol=1e-5)
