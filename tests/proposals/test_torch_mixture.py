"""The score of a mixture with torch is NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pymc_multimodal.proposals import torch_mixture
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.torch_mixture import TorchMixture


@pytest.mark.parametrize(("d", "components", "n"), [(1, 1, 1), (3, 4, 50), (20, 2, 7), (2, 3, 0)])
@pytest.mark.parametrize("numbers", [1, 100, 10**7])
def test_the_score_is_that_of_numpy(d, components, n, numbers, rng, monkeypatch):
    """Whatever number of rows is done at once; far from all components too."""
    monkeypatch.setattr(torch_mixture, "CHUNK_NUMBERS", numbers)
    factors = np.tril(0.3 * rng.standard_normal((components, d, d))) + np.eye(d)
    weights = rng.dirichlet(np.ones(components))
    mixture = GaussianMixture(weights, 3.0 * rng.standard_normal((components, d)), factors)
    x = rng.standard_normal((n, d)) * rng.choice([0.1, 3.0, 1e3], (n, 1))
    found = TorchMixture(mixture, torch.device("cpu")).score(torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, mixture.score(x), rtol=1e-10, atol=1e-10)
