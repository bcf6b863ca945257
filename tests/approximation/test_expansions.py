"""Normal components are read off gradient and curvature at single draws."""

from dataclasses import replace

import numpy as np
import pytest
from densities import Banana, Mixture, gaussian
from searches import settled_search

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.approximation.expansions import Expansions
from pymc_multimodal.approximation.patches import patched
from pymc_multimodal.approximation.refit import refitted
from pymc_multimodal.approximation.sample import draw_sample
from pymc_multimodal.proposals import EllipticalMixture, GaussianMixture
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.target import Target

WIDE = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 2.0]])
# A spike over the middle of a wide normal: one optimum, two components.
NESTED = Mixture([[0.03, 0.0, 0.0], [0.0, 0.0, 0.0]], [4e-4 * np.eye(3), WIDE], [0.4, 0.6], 2.0)


def expansions(density, n=10_000, spread=5.0):
    return Expansions(Target(density), n, np.full(density.dim, spread))


def test_a_component_without_an_optimum_is_found_at_any_of_its_draws(rng):
    density, log_z = NESTED.density(), NESTED.log_z
    x = NESTED.draws(40, rng)
    x = x[NESTED.component(x) == 1]
    x = x[np.linalg.norm(x - NESTED.means[0], axis=1) > 0.3]
    for point, logp in zip(x, density.logp(x), strict=True):
        found = expansions(density).at(point, logp - log_z)
        np.testing.assert_allclose(found.mean, NESTED.means[1], atol=1e-3)
        np.testing.assert_allclose(found.scale @ found.scale.T, WIDE, atol=2e-3)
        np.testing.assert_allclose(found.mass, 0.6, rtol=2e-3)
    spike = expansions(density).at(NESTED.means[0] + 0.01, float(
        density.logp(NESTED.means[:1] + 0.01)[0]) - log_z)  # fmt: skip
    np.testing.assert_allclose(spike.mass, 0.4, rtol=0.05)


def test_what_is_no_normal_component_is_refused(rng):
    apart = Mixture([[-2.0, 0.0], [2.0, 0.0]], [np.eye(2), np.eye(2)], [0.5, 0.5])
    # Between two components the density is curved upwards.
    assert expansions(apart.density()).at(np.zeros(2), float(apart(np.zeros((1, 2)))[0][0])) is None
    # A component would be far wider than the starts.
    flat = gaussian([0.0, 0.0], 1e6 * np.eye(2))
    assert expansions(flat.density()).at(np.zeros(2), float(flat(np.zeros((1, 2)))[0][0])) is None
    # A point is too far from the mean of its component to be a draw of it.
    plain = gaussian([0.0, 0.0], np.eye(2))
    far = np.array([6.0, 0.0])
    assert expansions(plain.density()).at(far, float(plain(far[None])[0][0])) is None
    # A component would hold far more than the target.
    logp = float(plain(np.ones((1, 2)))[0][0])
    assert expansions(plain.density()).at(np.ones(2), logp + 1) is not None
    assert expansions(plain.density()).at(np.ones(2), logp + 3) is None
    # The gradient is not finite.
    unknown = Density(lambda x: (plain(x)[0], np.full_like(x, np.nan)), 2)
    assert expansions(unknown).at(np.ones(2), logp) is None


def test_a_budget_and_failures_end_expansions():
    plain = gaussian([0.0, 0.0], np.eye(2))
    density = plain.density()
    few = expansions(density, n=4 * 3 * 9)
    logp = float(plain(np.ones((1, 2)))[0][0])
    before = density.n_logp_evals
    assert [few.at(np.ones(2), logp) is None for _ in range(4)] == [False] * 3 + [True]
    assert few.ended
    assert density.n_logp_evals - before == 3 * 9
    failing = expansions(density)
    for _ in range(5):
        assert failing.at(np.array([9.0, 0.0]), -40.0) is None
    assert failing.ended
    assert expansions(plain.density(gradient=False)).ended


def approximated(target, rng):
    density, settings = target.density(), ModeSearch(starts=32)
    modes = modes_of(density, settled_search(density, settings, rng), settings)
    start = settled_search(density, settings, rng).distribution
    return density, first_mixture(modes, modes.log_mass, start, density.period)


def effective(target, mixture, rng):
    counts = np.ceil(4000 * mixture.shares).astype(int)
    mixture = replace(mixture, shares=counts / counts.sum())
    sample = draw_sample(target, mixture, counts, rng)
    return sample, sample.ratio.mean() ** 2 / np.mean(sample.ratio**2)


def test_parts_by_curvature_describe_nested_normals(rng):
    density, mixture = approximated(NESTED, rng)
    sample, before = effective(density, mixture, rng)
    spread = np.sqrt((mixture.densities[-1].scales[-1] ** 2).sum(axis=1))
    better = patched(mixture, sample, Expansions(Target(density), len(sample), spread))
    # Weights follow from the draws of the parts.
    again, _ = effective(density, better, rng)
    better = refitted(better, again, rng, parts=True)
    assert before < 0.3
    assert effective(density, better, rng)[1] > 0.8


def test_parts_get_the_weights_that_draws_have(rng):
    """Shapes are right and weights are not: a refit corrects the weights."""
    density, mixture = approximated(NESTED, rng)
    inner = GaussianMixture(np.array([0.95, 0.05]), NESTED.means, NESTED.factors)
    old = mixture.densities[0]
    wrong = EllipticalMixture(inner, np.full(2, np.inf), old.period, old.centre)
    mixture = replace(mixture, densities=(replace(wrong, base=None), mixture.densities[-1]))
    sample, before = effective(density, mixture, rng)
    better = refitted(mixture, sample, rng, parts=True)
    assert effective(density, better, rng)[1] > max(1.2 * before, 0.85)
    weights = better.densities[0].undefended.weights
    np.testing.assert_allclose(np.sort(weights), [0.4, 0.6], atol=0.06)


@pytest.mark.parametrize("dim", [2, 5])
def test_a_curved_ridge_is_no_worse_for_it(dim, rng):
    density, mixture = approximated(Banana(dim), rng)
    sample, _ = effective(density, mixture, rng)
    spread = np.sqrt((mixture.densities[-1].scales[-1] ** 2).sum(axis=1))
    by_curvature = patched(mixture, sample, Expansions(Target(density), len(sample), spread))
    plain = patched(mixture, sample)
    assert effective(density, by_curvature, rng)[1] > 0.8 * effective(density, plain, rng)[1]


def test_a_component_that_is_above_the_target_gets_no_part(rng):
    """Beside the middle of a cut normal the expansion is that of the whole normal."""

    def function(x):
        inside = (x[:, 0] > 0.5) & (x[:, 0] < 1.5)
        return np.where(inside, -0.5 * (x**2).sum(axis=1), -np.inf), -x

    density = Density(function, 2)
    narrow = gaussian([1.0, 0.0], np.diag([0.1, 0.5]))
    _, mixture = approximated(narrow, rng)
    sample, _ = effective(density, mixture, rng)
    spread = np.full(2, 5.0)
    made = Expansions(Target(density), len(sample), spread)
    found = made.at(np.array([1.0, 0.0]), float(-0.5 - sample.log_evidence))
    assert found is not None
    by_curvature = patched(mixture, sample, Expansions(Target(density), len(sample), spread))
    inner = by_curvature.densities[0].undefended
    # The normal has 0.76 of its mass outside.
    assert np.abs(inner.scales[:, 0, 0] - 1.0).min() > 0.2
