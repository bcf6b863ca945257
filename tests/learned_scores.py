"""Mixtures, networks and measures that the tests of learned scores share."""

from __future__ import annotations

import numpy as np
from densities import Mixture
from scipy.linalg import eigh_tridiagonal
from scipy.spatial.distance import cdist

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.score_function import Perceptron

QUICK = ScoreLangevin(training_steps=200, max_components=4)


def separated(dim, distance=8.0, weight=0.7):
    """Two unit normals along the diagonal."""
    mean = np.full(dim, 0.5 * distance / np.sqrt(dim))
    return Mixture([mean, -mean], [np.eye(dim)] * 2, [weight, 1 - weight])


def some_network(d, rng, width=7):
    shapes = ((width, d), (width, width), (d, width))
    return Perceptron(
        tuple(0.6 * rng.standard_normal(s) for s in shapes),
        tuple(0.3 * rng.standard_normal(s[0]) for s in shapes),
    )


def some_mixture(d, rng, k=3):
    factors = 0.4 * rng.standard_normal((k, d, d)) + np.eye(d)
    weights = np.arange(1.0, k + 1)
    return GaussianMixture.from_covariances(
        weights / weights.sum(), 2 * rng.standard_normal((k, d)), factors @ factors.swapaxes(1, 2)
    )


def score_error(generator, x, exact):
    """``E |s - exact|^2 / E |exact|^2`` in the learned coordinates, at draws of shape (n, d)."""
    basis = generator.coordinates.basis
    miss = (generator.score(x) - exact) @ basis
    return np.sum(miss**2) / np.sum((exact @ basis) ** 2)


def jacobian(f, z, h=1e-5):
    steps = h * np.eye(z.shape[1])
    return np.stack([(f(z + s) - f(z - s)) / (2 * h) for s in steps], axis=-1)


def energy(x, y):
    """Squared energy distance, biased upward as all such are from finite samples."""
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


def codes(draws, **settings):
    config = ScoreLangevin(training_steps=0, max_components=2, **settings)
    return [s.code for s in ScoreLangevin.from_draws(draws, config=config, random_seed=0).statuses]


def line(means, variances=None, weights=None):
    """A mixture on the line."""
    k = len(means)
    variances = np.ones(k) if variances is None else np.asarray(variances, float)
    weights = np.full(k, 1 / k) if weights is None else np.asarray(weights, float)
    return GaussianMixture.from_covariances(
        weights, np.asarray(means, float)[:, None], variances[:, None, None]
    )


def slowest(mixture, low, high, points=2_000):
    """The mixture's Poincare constant: one over the least positive eigenvalue on a grid."""
    u = np.linspace(low, high, points)
    h = u[1] - u[0]
    p = np.exp(mixture.log_density(u[:, None]))
    between = np.exp(mixture.log_density(0.5 * (u[1:] + u[:-1])[:, None])) / h**2
    diagonal = (np.append(between, 0) + np.append(0, between)) / p
    values = eigh_tridiagonal(
        diagonal, -between / np.sqrt(p[1:] * p[:-1]), eigvals_only=True,
        select="i", select_range=(0, 1),
    )  # fmt: skip
    return 1 / values[1]
