"""References to test with, and a diffusion sampler learned from exact local draws."""

import numpy as np
import pytest
from densities import exact_local

from pymc_multimodal.proposals.lrds import MixtureReference
from pymc_multimodal.proposals.mixture import GaussianMixture


@pytest.fixture
def make_reference():
    """Factory of references of three components, whose spreads vary with direction."""

    def make(noising, d=2, components=3, groups=None):
        rng = np.random.default_rng(7)
        axes = np.stack([np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(components)])
        covariances = (axes * np.geomspace(0.05, 1.5, d)) @ axes.swapaxes(1, 2)
        weights = np.arange(components, 0.0, -1.0)
        mixture = GaussianMixture.from_covariances(
            weights / weights.sum(), rng.normal(0.0, 2.0, (components, d)), covariances
        )
        return MixtureReference(mixture, noising, groups)

    return make


@pytest.fixture
def learn(rng):
    """Factory of generators that settings learn from exact local draws of a target."""

    def learn(config, target, label, regions, *, draws=100, density=True, stream=rng):
        local = exact_local(target, label, regions, stream, draws=draws)
        period = np.full(target.dim, np.inf)
        if getattr(target, "period", None) is not None:
            period = np.asarray(target.period)
        fitted = config.regional.fit_regions(local, period, stream)
        weights = getattr(target, "weights", np.ones(1)) if regions > 1 else np.ones(1)
        counted = target.density(gradient=False) if density else None
        if counted is not None:
            # A training takes no more evaluations than the fit had spent before.
            counted.n_logp_evals = 10**6
        return config.build(fitted, local, weights, stream, counted)

    return learn
