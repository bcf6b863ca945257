"""Gaussian processes: the formulas of the textbook, in plain linear algebra."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pymc_multimodal.emulation.process import (
    LENGTH_POINTS,
    LENGTHS,
    LOG_LENGTH,
    LOG_LENGTH_SPREAD,
    NUGGETS,
    SHARING_LOSS,
    Process,
    fit_process,
    share_lengths,
)

LOG_LENGTHS = np.log([0.8, 1.7])


def correlation(a, b, log_lengths=LOG_LENGTHS):
    gap = (a[:, None] - b[None]) / np.exp(log_lengths)
    return np.exp(-0.5 * (gap**2).sum(axis=2))


def process(rng, n=25, nugget=1e-3):
    x = rng.standard_normal((n, 2))
    y = np.stack([np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + 3.0, np.cos(x[:, 1])], axis=1)
    return Process(x, y, LOG_LENGTHS, np.log(nugget))


def in_plain_algebra(p, new, j):
    """Mean, covariance and log likelihood of ordinary kriging of a function.

    The variance is that of the largest likelihood.
    """
    n, ones, y = len(p.y), np.ones(len(p.y)), p.y[:, j]
    k = correlation(p.x, p.x) + np.exp(p.log_nugget) * np.eye(n)
    inverse = np.linalg.solve(k, np.eye(n))
    mean = ones @ inverse @ y / (ones @ inverse @ ones)
    variance = (y - mean) @ inverse @ (y - mean) / n
    cross = correlation(new, p.x)
    predicted = mean + cross @ inverse @ (y - mean)
    covariance = variance * (correlation(new, new) - cross @ inverse @ cross.T)
    logp = multivariate_normal(mean * ones, variance * k).logpdf(y)
    return predicted, covariance, logp


def test_predictions_are_those_of_the_textbook(rng):
    p, new = process(rng), rng.standard_normal((40, 2))
    predicted, variance = p.predict(new)
    n = len(p.y)
    for j in range(2):
        mean, covariance, logp = in_plain_algebra(p, new, j)
        np.testing.assert_allclose(predicted[:, j], mean, rtol=1e-9)
        s = p.variance[j]
        np.testing.assert_allclose(variance[:, j], np.diag(covariance), atol=1e-9 * s)
        np.testing.assert_allclose(s * p.correlation(new), covariance, atol=1e-9 * s)
        # `log_likelihood` leaves out what does not depend on the lengths.
        constant = 0.5 * n * (1 + np.log(2 * np.pi))
        np.testing.assert_allclose(p.log_likelihood[j], logp + constant)


def test_left_out_points_are_predicted_by_the_others(rng):
    """With the mean and the variance of all points, each is conditioned on the others."""
    p = process(rng)
    k = correlation(p.x, p.x) + np.exp(p.log_nugget) * np.eye(len(p.y))
    mean, variance = p.left_out()
    for i in range(len(p.y)):
        others = np.arange(len(p.y)) != i
        weights = np.linalg.solve(k[np.ix_(others, others)], k[others, i])
        np.testing.assert_allclose(mean[i], p.mean + weights @ (p.y[others] - p.mean), rtol=1e-8)
        rest = k[i, i] - weights @ k[others, i]
        np.testing.assert_allclose(variance[i], p.variance * rest, rtol=1e-8)


def test_data_are_interpolated_where_the_nugget_is_tiny(rng):
    p = process(rng, nugget=NUGGETS[0])
    mean, variance = p.predict(p.x)
    np.testing.assert_allclose(mean, p.y, atol=1e-5)
    assert (variance < 1e-6 * p.variance).all()
    far = p.predict(np.full((1, 2), 50.0))
    np.testing.assert_allclose(far, [p.mean[None], p.variance[None]])


def test_functions_with_common_lengths_are_predicted_as_each_alone(rng):
    p, new = process(rng), rng.standard_normal((30, 2))
    mean, variance = p.predict(new)
    for j in range(2):
        alone = p.with_data(p.x, p.y[:, j : j + 1]).predict(new)
        np.testing.assert_allclose(mean[:, j], alone[0][:, 0], rtol=1e-9)
        np.testing.assert_allclose(variance[:, j], alone[1][:, 0], rtol=1e-9)


def test_lengths_are_shared_by_functions_that_vary_alike(rng):
    x = rng.standard_normal((80, 2))
    slow = [np.sin(0.8 * x[:, 0] + shift) + x[:, 1] for shift in (0.0, 1.0)]
    quick = [np.sin(4.0 * x[:, 1] + shift) for shift in (0.0, 1.0)]
    alone = [fit_process(x, y[:, None]) for y in (slow[0], quick[0], slow[1], quick[1])]
    groups = share_lengths(alone)
    assert [group.tolist() for group, _ in groups] == [[0, 2], [1, 3]]
    for group, p in groups:
        np.testing.assert_array_equal(p.y, np.concatenate([alone[i].y for i in group], axis=1))
        lost = np.concatenate([alone[i].log_likelihood for i in group]) - p.log_likelihood
        assert lost.mean() <= SHARING_LOSS * len(x)


def test_data_are_replaced_and_lengths_kept(rng):
    p = process(rng)
    q = p.with_data(p.x[:9], p.y[:9])
    np.testing.assert_array_equal(q.log_lengths, p.log_lengths)
    again = Process(p.x[:9], p.y[:9], p.log_lengths, p.log_nugget)
    np.testing.assert_array_equal(q.predict(p.x), again.predict(p.x))


def objective(p):
    """What the fit maximises."""
    gap = (p.log_lengths - LOG_LENGTH) / LOG_LENGTH_SPREAD
    return p.log_likelihood.sum() - 0.5 * gap @ gap


def test_the_fit_is_at_a_maximum(rng):
    """The slopes vanish: they are what the gradient of the search says that they are."""
    x = rng.standard_normal((60, 3))
    y = np.stack([np.sin(x[:, 0]) * np.cos(1.5 * x[:, 1]), np.cos(x[:, 0] + x[:, 2])], axis=1)
    y += 0.05 * rng.standard_normal((60, 2))
    p = fit_process(x, y)
    theta, h = np.append(p.log_lengths, p.log_nugget), 1e-4
    bounds = np.log([LENGTHS] * 3 + [NUGGETS])
    assert ((bounds[:, 0] < theta) & (theta < bounds[:, 1])).all()

    def at(step):
        return objective(Process(x, y, theta[:3] + step[:3], theta[3] + step[3]))

    best = at(np.zeros(4))
    for i in range(4):
        above, below = at(h * np.eye(4)[i]), at(-h * np.eye(4)[i])
        slope, bend = (above - below) / (2 * h), (above + below - 2 * best) / h**2
        assert bend < 0
        # The distance to the maximum, by Newton's formula.
        assert abs(slope / bend) < 1e-3


def test_of_many_points_lengths_are_those_of_a_part_and_predictions_those_of_all(rng):
    x = rng.standard_normal((LENGTH_POINTS + 400, 2))
    y = np.sin(2 * x[:, :1]) + x[:, 1:] ** 2
    part = fit_process(x[:LENGTH_POINTS], y[:LENGTH_POINTS])
    whole = fit_process(x, y)
    assert len(whole.y) == len(x)
    np.testing.assert_allclose(whole.log_lengths, part.log_lengths, atol=0.1)
    new = 0.7 * rng.standard_normal((200, 2))
    mean, variance = whole.predict(new)
    gap = mean[:, 0] - np.sin(2 * new[:, 0]) - new[:, 1] ** 2
    assert np.abs(gap).max() < 1e-3
    assert (variance <= part.predict(new)[1] * 1.5 + 1e-12).all()


def test_a_coordinate_without_influence_has_a_long_length(rng):
    x = rng.standard_normal((60, 3))
    p = fit_process(x, (np.sin(2 * x[:, 0]) + x[:, 2])[:, None])
    lengths = np.exp(p.log_lengths)
    assert lengths[1] > 5 * lengths[0]
    new = rng.standard_normal((200, 3))
    truth = (np.sin(2 * new[:, 0]) + new[:, 2])[:, None]
    mean, variance = p.predict(new)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.02
    # The errors that it states are those that it makes, to a factor.
    z = (mean - truth) / np.sqrt(variance)
    assert 0.2 < np.sqrt(np.mean(z**2)) < 3.0


def test_noise_is_found_as_a_nugget(rng):
    x = rng.standard_normal((150, 1))
    p = fit_process(x, np.sin(x) + 0.1 * rng.standard_normal((150, 1)))
    assert np.sqrt(p.variance[0] * np.exp(p.log_nugget)) == pytest.approx(0.1, rel=0.25)


def test_a_later_fit_begins_at_an_earlier_one(rng):
    x = rng.standard_normal((80, 2))
    y = np.sin(2 * x[:, :1]) + x[:, 1:]
    first = fit_process(x[:60], y[:60])
    later = fit_process(x, y, first)
    start = Process(x, y, first.log_lengths, first.log_nugget)
    assert objective(later) >= objective(start)
    # The objective of a fit from the beginning is as good, but for what is not worth iterations.
    assert abs(objective(later) - objective(fit_process(x, y))) < 2.0


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_function_is_predicted(value, rng):
    x = rng.standard_normal((20, 2))
    p = fit_process(x, np.full((20, 1), value))
    mean, variance = p.predict(rng.standard_normal((5, 2)))
    np.testing.assert_allclose(mean, value, atol=1e-9)
    assert (variance < 1e-12).all()


def test_units_of_the_function_do_not_matter(rng):
    x = rng.standard_normal((30, 2))
    y = np.sin(x[:, :1]) + x[:, 1:]
    new = rng.standard_normal((10, 2))
    mean, variance = fit_process(x, y).predict(new)
    scaled = fit_process(x, 1e6 * y - 3e5).predict(new)
    np.testing.assert_allclose(scaled[0], 1e6 * mean - 3e5, rtol=1e-4, atol=100.0)
    np.testing.assert_allclose(scaled[1], 1e12 * variance, rtol=0.05, atol=1e12 * 1e-7)
