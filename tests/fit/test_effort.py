"""A fit spends what the errors that are asked for need."""

import numpy as np
import pytest
from densities import Banana, Mixture, SkewNormals, two_modes
from scipy.special import logsumexp

from pymc_multimodal import kernel
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import FlowDensity
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target.density import Density


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
    ("target", "first_answer", "least"),
    [(two_modes(), True, 0.001), (Banana(2), True, 0.001), (SkewNormals(3), False, 0.002)],
    ids=["two", "banana", "skewed"],
)
def test_less_is_spent_where_less_is_asked_for(target, first_answer, least):
    spent = [
        fitted(target, first_answer=first_answer, target_se=se).n_logp_evals
        for se in (least, 0.01, 0.03)
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
        assert "first_answer" in codes
        assert "precision" not in codes
        assert fit.weights.weight_se.max() <= 1.1 * 0.01
        assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se


class Steps:
    """A normal density on the left, and one of another height on the right of a step."""

    dim, step = 2, 0.4

    def __call__(self, x):
        right = x[:, 0] > self.step
        slope = 2.0
        logp = slope * x[:, 0] - 0.5 * (x**2).sum(axis=1) - 3.0 * right
        return logp, np.stack([slope - x[:, 0], -x[:, 1]], axis=1)

    @property
    def truth(self):
        """Log evidence, and the share to the right of the step."""
        grid = np.linspace(-8, 12, 400_001)
        logs = self(np.stack([grid, 0 * grid], axis=1))[0]
        whole = logsumexp(logs)
        log_z = whole + np.log(grid[1] - grid[0]) + 0.5 * np.log(2 * np.pi)
        return log_z, np.exp(logsumexp(logs[grid > self.step]) - whole)


def test_a_density_with_steps_is_fitted_without_its_gradient():
    target = Steps()
    density = Density(target, 2, prior=lambda n, rng: rng.normal(-3, 1.5, (n, 2)))
    # Climbs without the gradient take most of the time.
    search = ModeSearch(screening=0, starts=16)
    fit = fit_density(density, FitConfig(modes=search, challenge=False))
    log_z, right = target.truth
    assert density.has_gradient
    assert not fit.target(density).has_gradient
    assert [s.level for s in fit.statuses if s.code == "step"] == ["info"]
    assert abs(fit.weights.total - log_z) < 4 * fit.weights.total_se
    rng = np.random.default_rng(1)
    points = fit.target(density)
    state = kernel.init(points, fit.kernel, fit.starts(400, rng), rng)
    for i in range(10):
        offered = kernel.propose(points, fit.kernel, 400 * fit.kernel.jumps, rng)
        state, _ = kernel.step(points, fit.kernel, state, offered, rng, i)
    # 400 independent chains.
    share = np.mean(state.points.x[:, 0] > target.step)
    assert abs(share - right) < 4 * np.sqrt(right * (1 - right) / 400)


def test_many_modes_of_a_precise_answer_are_explored_by_half_of_the_chains():
    """Of twenty modes each is explored by 8 chains of 60 moves, and of ten by 16."""
    evals = {}
    for k in (10, 20):
        means = 12.0 * np.array([divmod(i, 5) for i in range(k)], dtype=float)
        target = Mixture(means, [np.eye(2)] * k, np.full(k, 1.0 / k), log_z=1.0)
        search = ModeSearch(starts=means + 0.5)
        fit = fit_density(target.density(), FitConfig(random_seed=1, modes=search))
        assert "first_answer" in {s.code for s in fit.statuses}
        assert abs(fit.weights.total - 1.0) < 4 * fit.weights.total_se
        evals[k] = fit.evals_by_step["explore"] / k
    assert evals[20] < 0.6 * evals[10]
