"""A fit spends what the errors that are asked for need."""

import numpy as np
import pytest
from densities import Banana, Mixture, SkewNormals, two_modes

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import FlowDensity
from pymc_multimodal.search import ModeSearch


def fitted(target, **settings):
    config = FitConfig(modes=ModeSearch(screening=0), **settings)
    return fit_density(target.density(), config)


@pytest.mark.parametrize("target", [Banana(5), SkewNormals(8, 4.0)], ids=["banana", "skewed"])
def test_no_network_is_trained_where_errors_are_met_without(target):
    fit = fitted(target, first_answer=False, challenge=False, target_se=0.03)
    assert not any(isinstance(q, FlowDensity) for q in fit.kernel.generator.densities)
    assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
    assert fit.weights.total_se < 0.06


@pytest.mark.parametrize(
    ("target", "first_answer"),
    [(two_modes(), True), (Banana(2), True), (SkewNormals(3), False)],
    ids=["two", "banana", "skewed"],
)
def test_less_is_spent_where_less_is_asked_for(target, first_answer):
    spent = [
        fitted(target, first_answer=first_answer, target_se=se).n_logp_evals
        for se in (0.002, 0.01, 0.03)
    ]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > spent[2]


def test_the_sample_is_enlarged_for_regions_that_have_other_borders_than_modes():
    """Twelve overlapping modes: the borders of their regions pass through mass."""
    rng = np.random.default_rng(8)
    weights = rng.dirichlet(np.full(12, 2.0))
    target = Mixture(rng.normal(0, 2.5, (12, 2)), [0.3 * np.eye(2)] * 12, weights)
    for seed in range(3):
        fit = fitted(target, random_seed=seed)
        codes = {s.code for s in fit.statuses}
        assert "first_answer" in codes and "precision" not in codes
        assert fit.weights.weight_se.max() <= 1.1 * 0.01
        assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
