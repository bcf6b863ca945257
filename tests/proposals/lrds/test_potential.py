"""Potentials: gradients, and the same function in torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pymc_multimodal.proposals.lrds import Potential
from pymc_multimodal.proposals.lrds.reference import Features


def potential(rng):
    """Two groups in three dimensions, four levels with gains of their own."""
    start = Potential.random(3, 2, 16, np.linspace(1.0, 0.5, 4), rng)
    return replace(start, first_gain=rng.uniform(0.2, 2.0, (4, 16)))


def features(rng):
    return Features(rng.standard_normal((6, 3)), rng.dirichlet([1, 1], 6))


def test_gradient_of_a_potential(rng):
    function, (whitened, responsibility) = potential(rng), features(rng)
    _, gradient = function(Features(whitened, responsibility), 2)
    numeric = [
        (
            function(Features(whitened + e, responsibility), 2)[0]
            - function(Features(whitened - e, responsibility), 2)[0]
        )
        / 2e-5
        for e in 1e-5 * np.eye(3)
    ]
    np.testing.assert_allclose(gradient, np.stack(numeric, axis=1), atol=1e-8)


def test_potentials_agree_in_numpy_and_torch(rng):
    torch = pytest.importorskip("torch")
    from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

    function, points = potential(rng), features(rng)
    net = PotentialNet(function, torch.device("cpu"))
    tensors = (torch.as_tensor(a, dtype=torch.float32) for a in points)
    found = net(*tensors, torch.full((6,), 2))
    np.testing.assert_allclose(found.detach().numpy(), function(points, 2)[0], atol=1e-5)
    again = net.to_numpy()
    np.testing.assert_allclose(again(points, 1)[1], function(points, 1)[1], atol=1e-6)
