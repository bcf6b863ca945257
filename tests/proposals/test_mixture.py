"""The record of Gaussian mixtures against SciPy and finite differences, and the fit by EM."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pymc_multimodal.proposals.mixture import GaussianMixture, MixtureError, fit_em

RNG = np.random.default_rng(3)
D, J = 3, 4


def a_mixture() -> GaussianMixture:
    roots = RNG.standard_normal((J, D, D)) + 2.0 * np.eye(D)
    weights = RNG.dirichlet(np.full(J, 3.0))
    covariances = roots @ roots.swapaxes(1, 2)
    return GaussianMixture.from_covariances(weights, 3.0 * RNG.standard_normal((J, D)), covariances)


MIXTURE = a_mixture()
POINTS = 4.0 * RNG.standard_normal((50, D))


def density(mixture: GaussianMixture, x: np.ndarray, variance: float = 0.0, signal: float = 1.0):
    return sum(
        w * multivariate_normal(signal * m, signal**2 * f @ f.T + variance * np.eye(len(m))).pdf(x)
        for w, m, f in zip(mixture.weights, mixture.means, mixture.factors, strict=True)
    )


def differences(function, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    steps = h * np.eye(x.shape[1])
    return np.stack([(function(x + s) - function(x - s)) / (2 * h) for s in steps], axis=-1)


def test_density_is_scipys():
    np.testing.assert_allclose(np.exp(MIXTURE.log_density(POINTS)), density(MIXTURE, POINTS))


def test_responsibilities_are_shares_of_the_density():
    share = MIXTURE.responsibilities(POINTS)
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    parts = MIXTURE.log_density(POINTS)[:, None] + np.log(share)
    np.testing.assert_allclose(parts, MIXTURE.log_parts(POINTS))


def test_score_and_laplacian_are_derivatives():
    np.testing.assert_allclose(
        MIXTURE.score(POINTS), differences(MIXTURE.log_density, POINTS), rtol=1e-6, atol=1e-6
    )
    jacobian = differences(MIXTURE.score, POINTS)
    np.testing.assert_allclose(
        MIXTURE.laplacian(POINTS), np.trace(jacobian, axis1=1, axis2=2), rtol=1e-5, atol=1e-5
    )


def test_score_of_many_rows_is_that_of_each():
    x = np.tile(POINTS, (60, 1))
    np.testing.assert_allclose(MIXTURE.score(x)[-50:], MIXTURE.score(POINTS))


def test_draws_have_the_moments_of_the_mixture_and_labels_those_of_the_weights():
    x, label = MIXTURE.sample_labelled(200_000, np.random.default_rng(0))
    mean, covariance = MIXTURE.moments()
    size = np.sqrt(np.trace(covariance))
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.02 * size)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.02 * size**2)
    np.testing.assert_allclose(np.bincount(label) / len(x), MIXTURE.weights, atol=0.01)


def test_images_and_coordinates_are_inverse_and_keep_probability():
    shift, matrix = RNG.standard_normal(D), RNG.standard_normal((D, D))
    image = MIXTURE.affine_image(shift, matrix)
    assert not np.triu(image.factors, 1).any()
    log_volume = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(
        image.log_density(shift + POINTS @ matrix.T), MIXTURE.log_density(POINTS) - log_volume
    )
    back = image.in_coordinates(shift, matrix)
    np.testing.assert_allclose(back.means, MIXTURE.means)
    np.testing.assert_allclose(back.covariances, MIXTURE.covariances)


def test_a_projection_has_the_marginal_density():
    matrix = np.eye(D)[[2, 0]]
    marginal = MIXTURE.affine_image(np.zeros(2), matrix)
    np.testing.assert_allclose(
        marginal.covariances, matrix @ MIXTURE.covariances @ matrix.T, atol=1e-12
    )


def test_single_components_are_taken_with_normalised_weights():
    one = MIXTURE.take(np.arange(J) == 2)
    np.testing.assert_allclose(one.weights, 1.0)
    np.testing.assert_allclose(one.moments()[1], MIXTURE.covariances[2])


@pytest.mark.parametrize(("variance", "signal"), [(0.5, 1.0), (2.0, 0.3)])
def test_noise_adds_to_the_covariances(variance: float, signal: float):
    noised = MIXTURE.noised(variance, signal)
    exact = density(MIXTURE, POINTS, variance, signal)
    np.testing.assert_allclose(np.exp(noised.log_density(POINTS)), exact)
    slopes = differences(noised.log_density, POINTS)
    np.testing.assert_allclose(noised.score(POINTS), slopes, rtol=1e-5, atol=1e-6)
    x = noised.sample(200_000, np.random.default_rng(1))
    mean, covariance = MIXTURE.moments()
    covariance = signal**2 * covariance + variance * np.eye(D)
    size = np.sqrt(np.trace(covariance))
    np.testing.assert_allclose(x.mean(axis=0), signal * mean, atol=0.02 * size)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.02 * size**2)


def test_noised_points_are_a_kernel_density():
    points = GaussianMixture(np.full(5, 0.2), POINTS[:5], np.zeros((5, D, D)))
    kernels = GaussianMixture(np.full(5, 0.2), POINTS[:5], np.stack([0.7 * np.eye(D)] * 5))
    np.testing.assert_allclose(points.noised(0.49).log_density(POINTS), kernels.log_density(POINTS))


@pytest.mark.parametrize("shape", ["full", "tied", "diag"])
def test_em_recovers_two_normals(shape):
    truth = GaussianMixture(
        np.array([0.3, 0.7]), np.array([[-2.0, 0.0], [2.0, 0.0]]), np.stack([0.5 * np.eye(2)] * 2)
    )
    x = truth.sample(20_000, np.random.default_rng(0))
    fitted = fit_em(
        x, 2, floor=1e-6, init="kmeans", iterations=100, rng=np.random.default_rng(0), shape=shape
    )
    order = np.argsort(fitted.means[:, 0])
    np.testing.assert_allclose(fitted.weights[order], truth.weights, atol=0.02)
    np.testing.assert_allclose(fitted.means[order], truth.means, atol=0.03)
    np.testing.assert_allclose(fitted.covariances[order], truth.covariances, atol=0.02)


def test_em_goes_on_from_a_given_mixture():
    x = MIXTURE.sample(20_000, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    fitted = fit_em(x, J, floor=1e-9, init=MIXTURE, iterations=3, rng=rng)
    gain = np.mean(fitted.log_density(x) - MIXTURE.log_density(x))
    assert 0 <= gain < 0.01


def test_the_floor_is_the_least_variance():
    x = np.repeat(np.array([[0.0, 0.0], [1.0, 0.0]]), 50, axis=0)
    fitted = fit_em(x, 2, floor=0.04, init="kmeans", iterations=100, rng=np.random.default_rng(0))
    np.testing.assert_allclose(fitted.covariances, 0.04 * np.stack([np.eye(2)] * 2), rtol=1e-3)


def test_em_says_why_it_failed():
    with pytest.raises(MixtureError, match=r"4 components .* 3 draws"):
        fit_em(
            POINTS[:3], 4, floor=1e-6, init="kmeans", iterations=10, rng=np.random.default_rng(0)
        )


def test_moments_are_sums_over_the_components(rng):
    factors = np.tril(rng.standard_normal((3, 4, 4)))
    mixture = GaussianMixture(np.array([0.5, 0.3, 0.2]), rng.standard_normal((3, 4)), factors)
    mean, covariance = mixture.moments()
    np.testing.assert_allclose(mean, mixture.weights @ mixture.means)
    second = mixture.covariances + np.einsum("ji,jk->jik", mixture.means, mixture.means)
    expected = np.einsum("j,jik->ik", mixture.weights, second) - np.outer(mean, mean)
    np.testing.assert_allclose(covariance, expected, rtol=1e-12, atol=1e-14)
