"""The mixture reference: levels, features, and reverse kernels that are exact."""

from __future__ import annotations

import numpy as np
import pytest
from densities import two_sample_z
from scipy.stats import multivariate_normal

from pymc_multimodal.proposals.lrds import draw_paths, geometric, pinned, variance_preserving
from pymc_multimodal.proposals.lrds.control import log_path_density
from pymc_multimodal.proposals.lrds.reference import log_kernel_density

NOISINGS = {
    "geometric": geometric(6, 0.2, 3.0),
    "variance-preserving": variance_preserving(6, scale=2.0),
    "pinned": pinned(6, 1.5),
}


@pytest.mark.parametrize("name", NOISINGS)
def test_reverse_kernels_are_those_of_bayes(name, make_reference, rng):
    """p(x_k) F(x_{k+1} | x_k) = p(x_{k+1}) B(x_k | x_{k+1}) for every step: no discretisation."""
    noising = NOISINGS[name]
    reference = make_reference(noising)
    path = noising.forward(3 * rng.standard_normal((50, 2)), rng)
    zero = np.zeros_like(path[0])
    for k in range(noising.steps):
        kernel = reference.kernel(k, path[k + 1])
        back = log_kernel_density(kernel.residuals(path[k]), kernel.log_constants, zero)
        square = np.sum((path[k + 1] - path[k]) ** 2, axis=1) / noising.added[k]
        step = -0.5 * (square + 2 * np.log(2 * np.pi * noising.added[k]))
        left = reference.log_level(k, path[k]) + step
        np.testing.assert_allclose(left, reference.log_level(k + 1, path[k + 1]) + back)


def test_an_uncontrolled_chain_ends_in_the_mixture(make_reference, rng):
    """However few the steps: here three of them."""
    reference = make_reference(geometric(3, 0.5, 4.0))
    path, log_q = draw_paths(reference, None, 20_000, rng)
    exact = reference.sample(20_000, rng)
    values = [np.concatenate([np.tanh(x), np.tanh(x) ** 2], axis=1) for x in (path[0], exact)]
    assert np.abs(two_sample_z(*values)).max() < 4
    noise = reference.noising.log_density(path)
    np.testing.assert_allclose(log_q - noise, reference.log_level(0, path[0]))
    np.testing.assert_allclose(log_path_density(reference, None, path), log_q)


def test_levels_are_noised_mixtures(make_reference, rng):
    noising = geometric(4, 0.5, 4.0)
    reference = make_reference(noising)
    x = rng.standard_normal((20, 2))
    mixture = reference.mixture
    for k, level in enumerate(noising.levels):
        expected = sum(
            w * multivariate_normal(m, c + level**2 * np.eye(2)).pdf(x)
            for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        )
        np.testing.assert_allclose(reference.log_level(k, x), np.log(expected))
    np.testing.assert_array_equal(reference.log_start(x), reference.log_level(4, x))


def test_places_within_a_group_are_whitened_by_its_moments(make_reference, rng):
    reference = make_reference(geometric(4, 0.2, 3.0), d=3)
    assert reference.n_groups == 1
    y = reference.at_level(2).sample(200_000, rng)
    whitened, responsibility = reference.features(2, y)
    np.testing.assert_allclose(responsibility, 1.0)
    assert np.abs(whitened.mean(axis=0)).max() < 4 / np.sqrt(len(y))
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.03)
    design = np.column_stack([y, np.ones(len(y))])
    affine = design @ np.linalg.lstsq(design, whitened, rcond=None)[0]
    np.testing.assert_allclose(affine, whitened, atol=1e-9)


def test_a_linear_potential_moves_a_gaussian_exactly(make_reference, rng):
    """A Gaussian reference with the mean wrong: Doob's kernels are known in closed form."""
    reference = make_reference(geometric(4, 0.2, 3.0), d=3, components=1)
    covariance = reference.mixture.covariances[0]
    wrong_by, y = rng.standard_normal(3), rng.standard_normal((5, 3))
    for k in range(reference.noising.steps):
        above, below = reference.noising.levels[k + 1] ** 2, reference.noising.levels[k] ** 2
        values, axes = np.linalg.eigh(covariance + above * np.eye(3))
        gradient = (axes / np.sqrt(values)) @ axes.T @ wrong_by  # in whitened places
        gain = (covariance + below * np.eye(3)) @ np.linalg.inv(covariance + above * np.eye(3))
        kernel = reference.kernel(k, y)
        root = (kernel.axes[0] * kernel.sd[0]) @ kernel.axes[0].T
        found = root @ (gradient @ reference.control_maps()[k, 0])
        np.testing.assert_allclose(found, wrong_by - gain @ wrong_by, atol=1e-12)
