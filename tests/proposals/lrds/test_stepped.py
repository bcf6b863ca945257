"""References that go back by Gaussian steps along a score."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.proposals.lrds import (
    SteppedReference,
    exponential_steps,
    geometric,
    tweedie_steps,
    variance_preserving,
)


def test_exponential_steps_are_those_of_the_variance_preserving_process(make_reference, rng):
    """Against the formula in its own coordinates, where the signal is not divided out."""
    noising = variance_preserving(10)
    mixture = make_reference(noising)
    reference = SteppedReference(mixture, *exponential_steps(noising))
    signal = 1 / np.sqrt(1 + noising.levels**2)
    y = rng.standard_normal((5, 2))
    for k in (0, 4, 9):
        lam = (signal[k] / signal[k + 1]) ** 2 - 1
        score = mixture.at_level(k + 1).score(y) / signal[k + 1]
        mean = np.sqrt(1 + lam) * signal[k + 1] * y + 2 * (np.sqrt(1 + lam) - 1) * score
        kernel = reference.kernel(k, y)
        np.testing.assert_allclose(signal[k] * kernel.means_along[0], mean)
        np.testing.assert_allclose(signal[k] * kernel.sd, np.sqrt(lam) * np.ones((1, 2)))


def test_scores_are_gradients_of_the_levels(make_reference, rng):
    noising = geometric(4, 0.5, 4.0)
    reference = SteppedReference(make_reference(noising), *tweedie_steps(noising))
    x = rng.standard_normal((20, 2))
    numeric = [
        (reference.log_level(2, x + e) - reference.log_level(2, x - e)) / 2e-5
        for e in 1e-5 * np.eye(2)
    ]
    np.testing.assert_allclose(reference.score(2, x), np.stack(numeric, axis=1), atol=1e-6)


def test_a_normal_start_has_its_density(make_reference, rng):
    noising = variance_preserving(10)
    reference = SteppedReference(make_reference(noising), *exponential_steps(noising), start_sd=2.0)
    y = reference.start(20_000, rng)
    # E[-log p] of a normal in two dimensions is log(2 pi e sd^2).
    entropy = np.log(2 * np.pi * np.e * 4.0)
    assert abs(-reference.log_start(y).mean() - entropy) < 4 / np.sqrt(len(y))
    with pytest.raises(TypeError, match="no closed form"):
        reference.sample(1, rng)
