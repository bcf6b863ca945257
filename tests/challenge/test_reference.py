"""The reference of the tempered search, and the densities between it and the posterior."""

from __future__ import annotations

import numpy as np
import pytest
from densities import two_modes

from pymc_multimodal.challenge.reference import Reference, TemperedDensity


def test_the_reference_is_normalised_and_has_its_gradient(rng):
    reference = Reference(np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([np.inf, 5.0]))
    x = reference.sample(100_000, rng)
    assert np.abs(x[:, 1]).max() <= 2.5
    # E_r[f / r] is the integral of f: here of a normal in the first, a constant in the second.
    f = -0.5 * (x[:, 0] - 1) ** 2 - 0.5 * np.log(2 * np.pi) - np.log(5.0)
    ratio = np.exp(f - reference.log_density(x)[0])
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(x))
    step = 1e-6 * np.eye(2)
    slope = [
        (reference.log_density(x[:50] + s)[0] - reference.log_density(x[:50] - s)[0]) / 2e-6
        for s in step
    ]
    np.testing.assert_allclose(reference.log_density(x[:50])[1], np.stack(slope, 1), atol=1e-6)


@pytest.mark.parametrize("gradient", [True, False])
def test_a_tempered_density_lies_between_and_gives_the_posterior_back(gradient, rng):
    target = two_modes(dim=2)
    density = target.density(gradient=gradient)
    reference = Reference(np.zeros(2), np.full(2, 4.0), density.period)
    tempered = TemperedDensity(density, reference, 0.3)
    x = reference.sample(20, rng)
    between = 0.7 * reference.log_density(x)[0] + 0.3 * target.logp(x)
    np.testing.assert_allclose(tempered.logp(x), between)
    if gradient:
        logp, grad = tempered.logp_and_grad(x)
        np.testing.assert_allclose(logp, between)
        h = 1e-6
        slope = [(tempered.logp(x + h * e) - tempered.logp(x - h * e)) / (2 * h) for e in np.eye(2)]
        np.testing.assert_allclose(grad, np.stack(slope, axis=1), atol=1e-5)
    grad = density.logp_and_grad(x)[1] if gradient else np.empty((20, 0))
    before = density.n_logp_evals
    state = tempered.state(x, target.logp(x), grad)
    np.testing.assert_allclose(state.logp, between)
    back = tempered.posterior(state)
    np.testing.assert_allclose(back[0], target.logp(x))
    np.testing.assert_allclose(back[1], grad)
    assert density.n_logp_evals == before
