"""Terms of paths. The ends of paths are in tests/contracts/test_devices.py."""

from __future__ import annotations

import numpy as np
import torch
from densities import gaussian

from pymc_multimodal.proposals.lrds import SteppedReference, geometric, tweedie_steps
from pymc_multimodal.proposals.lrds.control import log_path_density
from pymc_multimodal.proposals.lrds.torch_paths import PathTerms, path_terms
from pymc_multimodal.proposals.lrds.torch_reference import TorchReference


def test_terms_of_paths_add_up_to_their_log_ratios(make_reference, rng):
    """v(x_0) - sum of gains is log [gamma F / q], for an exact reference and for a stepped one."""
    noising = geometric(5, 0.3, 3.0)
    exact = make_reference(noising)
    target = gaussian(np.zeros(2), np.eye(2))
    path = noising.forward(rng.standard_normal((30, 2)), rng)
    for reference in (exact, SteppedReference(exact, *tweedie_steps(noising))):
        made = path_terms(TorchReference(reference, torch.device("cpu")), torch.tensor(path))
        terms = PathTerms(*(term.numpy() for term in made))
        logs = terms.log_constants - 0.5 * np.sum(terms.residuals**2, axis=3)
        gain = np.logaddexp.reduce(logs, axis=2) - np.log(2 * np.pi) - terms.log_bayes_step
        np.testing.assert_allclose(terms.log_reference, reference.log_level(0, path[0]))
        value = target.logp(path[0]) - reference.log_level(0, path[0])
        direct = target.logp(path[0]) + noising.log_density(path)
        direct -= log_path_density(reference, None, path)
        np.testing.assert_allclose(value - gain.sum(axis=1), direct)
        if reference is exact:
            np.testing.assert_allclose(gain, 0.0, atol=1e-9)
