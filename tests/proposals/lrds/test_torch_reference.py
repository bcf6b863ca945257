"""References and potentials with torch are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pymc_multimodal.proposals.lrds import (
    MixtureReference,
    Potential,
    SteppedReference,
    geometric,
    tweedie_steps,
)
from pymc_multimodal.proposals.lrds.reference import Features
from pymc_multimodal.proposals.lrds.torch_reference import TorchPotential, TorchReference
from pymc_multimodal.proposals.mixture import GaussianMixture

CPU, LEVELS = torch.device("cpu"), 4


def some_reference(kind, d, components, rng):
    """A reference of random components in random groups, alone or with steps along its score."""
    factors = np.tril(0.4 * rng.standard_normal((components, d, d))) + np.eye(d)
    mixture = GaussianMixture(
        rng.dirichlet(np.ones(components)), 3.0 * rng.standard_normal((components, d)), factors
    )
    groups = np.arange(components) % int(rng.integers(1, components + 1))
    reference = MixtureReference(mixture, geometric(LEVELS - 1, 0.1, 3.0), groups)
    if kind == "mixture":
        return reference
    tilt = Potential.random(d, 1, 6, np.ones(LEVELS), rng) if kind == "tilted" else None
    return SteppedReference(reference, *tweedie_steps(reference.noising), tilt)


def same(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["mixture", "stepped", "tilted"])
@pytest.mark.parametrize(("d", "components", "n"), [(1, 1, 3), (3, 4, 50), (20, 2, 7), (2, 3, 0)])
def test_levels_features_and_kernels(kind, d, components, n, rng):
    reference = some_reference(kind, d, components, rng)
    ours = TorchReference(reference, CPU)
    x, y = 3.0 * rng.standard_normal((2, n, d))
    for k in range(LEVELS):
        level = ours.level(k, torch.tensor(y))
        same(level.log_density, reference.log_level(k, y))
        for found, expected in zip(ours.features(level), reference.features(k, y), strict=True):
            same(found, expected)
        if k == 0:
            continue
        kernel, expected = ours.kernel(level), reference.kernel(k - 1, y)
        same(kernel.log_constants, expected.log_constants)
        same(kernel.residuals(torch.tensor(x)), expected.residuals(x))
        shift = rng.standard_normal((n, d))
        drawn = expected.sample(shift, np.random.default_rng(5))
        again = np.random.default_rng(5)
        uniform, noise = again.random((n, 1)), again.standard_normal((n, d))
        same(kernel.draw(*(torch.tensor(a) for a in (uniform, noise, shift))), drawn)


@pytest.mark.parametrize(("d", "groups", "hidden"), [(1, 1, 3), (5, 3, 8), (2, 2, 1)])
def test_potentials(d, groups, hidden, rng):
    scale = rng.uniform(0.5, 2.0, LEVELS)
    potential = Potential.random(d, groups, hidden, scale, rng)
    potential = Potential(**{
        name: a + 0.3 * rng.standard_normal(a.shape) for name, a in vars(potential).items()
    })  # fmt: skip
    features = Features(rng.standard_normal((30, d)), rng.dirichlet(np.ones(groups), 30))
    for k in range(LEVELS):
        found = TorchPotential(potential, CPU)(*(torch.tensor(a) for a in features), k)
        for ours, expected in zip(found, potential(features, k), strict=True):
            same(ours, expected)
