"""What the scripts of examples/papers share: two-sample tests that keep their level."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from densities import two_modes

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "papers"


def load(name):
    spec = importlib.util.spec_from_file_location(f"papers_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


common = load("common")


def test_energy_distance_of_equal_distributions_has_mean_zero(rng):
    found = [
        common.energy_distance(rng.standard_normal((60, 3)), rng.standard_normal((80, 3)))
        for _ in range(200)
    ]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_energy_distance_agrees_with_its_definition(rng):
    a, b = rng.standard_normal((5, 2)), rng.standard_normal((4, 2)) + 1

    def mean(x, y, same):
        gaps = [np.linalg.norm(p - q) for i, p in enumerate(x) for j, q in enumerate(y)
                if not (same and i == j)]  # fmt: skip
        return np.mean(gaps)

    expected = 2 * mean(a, b, False) - mean(a, a, True) - mean(b, b, True)
    assert common.energy_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_energy_distance_of_shifted_normals_is_right(rng):
    """In one dimension it is twice the integrated squared difference of distribution functions."""
    from scipy.stats import norm

    grid = np.linspace(-8, 10, 20_001)
    expected = 2 * np.sum((norm.cdf(grid) - norm.cdf(grid - 1)) ** 2) * (grid[1] - grid[0])
    found = [
        common.energy_distance(rng.standard_normal((200, 1)), rng.standard_normal((200, 1)) + 1)
        for _ in range(50)
    ]
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(50)


def test_p_values_are_uniform_under_equality(rng):
    p = np.array([
        common.permutation_p_value(
            rng.standard_normal((40, 2)), rng.standard_normal((50, 2)), rng, permutations=99
        )
        for _ in range(300)
    ])  # fmt: skip
    assert p.min() >= 0.01
    for level in (0.05, 0.2, 0.5, 0.8):
        error = np.sqrt(level * (1 - level) / len(p))
        assert abs(np.mean(p <= level) - level) < 4 * error


def test_p_value_finds_a_difference_in_spread_alone(rng):
    a, b = rng.standard_normal((300, 4)), 1.4 * rng.standard_normal((300, 4))
    assert common.permutation_p_value(a, b, rng) == 1 / 200


def test_the_split_that_was_observed_counts_among_the_permutations(rng):
    """Blocks by matrix products give the same distance as the direct formula."""
    a, b = rng.standard_normal((30, 2)), rng.standard_normal((20, 2)) + 5
    assert common.permutation_p_value(a, b, rng, permutations=19) == 1 / 20


def test_whitener_whitens(rng):
    x = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3)) + 4
    z = common.whitener(x)(x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=1e-10)


def test_records_are_not_made_twice(tmp_path):
    path = tmp_path / "records.jsonl"
    made = []

    def work():
        made.append(1)
        return {"weight": np.array([0.25, 0.75]), "n": np.int64(3)}

    first = common.Records(path).get("a", work)
    again = common.Records(path)
    assert "a" in again
    assert again.get("a", work) == first == {"name": "a", "weight": [0.25, 0.75], "n": 3}
    assert made == [1]


def test_table_leaves_missing_cells_empty():
    lines = common.table([{"a": 1}, {"a": 22, "b": "x"}]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split("|")[2].strip() == ""


def test_z_scores_add_the_error_of_the_truth():
    z = common.z_scores([0.6], [0.03], [0.5], [0.04])
    assert z[0] == pytest.approx(2.0)
    assert common.z_scores(np.ones(1), np.zeros(1), np.ones(1) - 1e-15)[0] == 0.0
    assert np.isinf(common.z_scores([0.9], [0.0], [1.0])[0])


class Halves:
    """A fit that cuts the first coordinate at a point."""

    n_modes = 2

    def __init__(self, cut):
        self.cut = cut

    def label(self, x):
        return (x[:, 0] < self.cut).astype(int)


def test_region_shares_are_unbiased_and_say_their_error(rng):
    """Between overlapping components, where a region's share is no component's weight."""
    from scipy.special import softmax
    from scipy.stats import norm

    target = two_modes(dim=2, distance=3.0, weights=(0.3, 0.7))
    means, sd = target.means[:, 0], np.sqrt(target.covariances[:, 0, 0])
    below = target.weights @ norm.cdf(0.3, means, sd)
    target.membership = lambda x: softmax(target._parts(x)[0], axis=1)
    share, se = common.region_shares(Halves(0.3), target, 20_000, rng)
    assert share.sum() == pytest.approx(1.0)
    assert abs(share[1] - below) < 4 * se[1]
    assert se[1] < np.sqrt(below * (1 - below) / 20_000)


def test_our_draws_have_the_right_weights_and_are_counted():
    target = two_modes(dim=2, distance=10.0, weights=(0.3, 0.7))
    density = target.density()
    fit, found = common.run_ours(density, target_se=0.01, seed=1, draws=300, chains=8)
    assert found.x.shape == (2400, 2)
    assert found.evals == density.n_logp_evals > found.extra["fit_evals"]
    share = np.mean(target.component(found.x) == 1)
    assert abs(share - 0.7) < 4 * np.sqrt(0.21 / 1000)
    target.membership = lambda x: np.eye(2)[target.component(x)]  # modes are far apart
    truth, error = common.region_shares(fit, target, 50_000, np.random.default_rng(0))
    z = common.z_scores(fit.weights.weight, fit.weights.weight_se, truth, error)
    assert np.abs(z).max() < 4


def test_skipped_and_thinned_draws(rng):
    target = two_modes(dim=2, distance=10.0)
    density = target.density()
    fit, _ = common.run_ours(density, target_se=0.05, seed=1, draws=2)
    x, acceptance = common.corrected_draws(density, fit, 5, 3, rng, thin=2, skip=1)
    assert x.shape == (3, 5, 2)
    assert 0 < acceptance <= 1


def test_emcee_counts_its_evaluations(rng):
    pytest.importorskip("emcee")
    target = two_modes(dim=2, distance=2.0)
    start = rng.standard_normal((20, 2))
    found = common.run_emcee(target.logp, start, seed=1, steps=50)
    assert found.evals == 20 * 50 + 20
    assert found.x.shape == (500, 2)


shapes = load("reference_draws")


def test_distances_of_a_shifted_sample(rng):
    x = rng.standard_normal((300, 2))
    shift = np.array([3.0, 4.0])
    assert shapes.wasserstein(x, rng.permutation(x) + shift) == pytest.approx(5.0)
    assert shapes.mmd(x, x + shift) > 0.5
    assert shapes.sliced_ks(x, x, rng) == 0.0
    far = shapes.sliced_ks(x, x + np.array([100.0, 0.0]), rng)
    assert 0.9 < far <= 1.0
    assert shapes.variation([0.5, 0.3, 0.2], np.array([0.4, 0.4, 0.2])) == pytest.approx(0.1)


def test_mmd_of_equal_distributions_is_small(rng):
    """Its square has mean 0 and a standard deviation of some 1 / n."""
    found = [shapes.mmd(*rng.standard_normal((2, 200, 2))) ** 2 for _ in range(40)]
    assert max(found) < 0.02


def test_a_generator_from_exact_draws_and_its_bounds(rng):
    from pymc_multimodal.gallery import mixture_2d
    from pymc_multimodal.proposals import LRDS

    learned = shapes.learn(mixture_2d("well"), LRDS(train=False), seed=1, draws=800)
    x, log_ratio = shapes.proposals(learned, 4000, rng)
    assert x.shape == (4000, 2)
    below, above = shapes.bounds(learned, log_ratio, 2000, rng)
    assert below <= 4 * np.std(log_ratio) / np.sqrt(4000)
    assert above >= -4 * np.std(log_ratio) / np.sqrt(2000)
    points, weight = shapes.corrected(learned, 4000, rng)
    assert weight.sum() == pytest.approx(1.0)
    shares = weight @ learned.target.membership(points)
    error = np.sqrt(0.25 * (weight**2).sum())
    assert np.abs(shares - learned.target.weights).max() < 4 * error


def test_published_weights_do_not_see_the_bias_that_kernel_ratios_see(monkeypatch):
    """Exact kernels have weights 1 by either account; integrator steps by their own only."""
    monkeypatch.syspath_prepend(str(FOLDER))
    script = load("lrds_published")
    exact = script.measure(8, "noised reference", "exact", 10, seed=1, n=2000)
    assert exact["true_ess"] == pytest.approx(1.0, abs=1e-9)
    assert abs(exact["error"]) < 4 * exact["se"]
    stepped = script.measure(8, "normal", "exponential", 20, seed=1, n=2000)
    assert stepped["own_ess"] == pytest.approx(1.0, abs=1e-9)
    assert stepped["true_ess"] < 0.1


def test_distances_within_modes_are_those_of_as_many_exact_draws(rng, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    tools = load("score_tools")
    x = [rng.standard_normal((n, 1)) for n in (3000, 50, 3000)]
    found = tools.within(x[:1], x[1:2], x[2:])
    # E|X - X'| of two standard normals is 2 over the root of pi.
    assert found["stored"] == pytest.approx(2 / np.sqrt(np.pi) / 50, rel=0.05)
    assert abs(found["made"]) < 0.1 * found["stored"]
    shifted = tools.within([x[0] + 0.5], x[1:2], x[2:])
    assert shifted["made"] > 3 * shifted["stored"]
    assert tools.total_variation([0.2, 0.8], [0.5, 0.5]) == pytest.approx(0.3)


def test_a_plain_score_is_learned_and_run(rng, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    tools = load("score_tools")
    target = tools.two_normals(2, 4.0)
    x, test = target.sample(2000, rng), target.sample(2000, rng)
    score = tools.plain_score(x, rng, training_steps=300)
    assert tools.relative_error(score, test, target.score(test)) < 0.3
    assert score.run(x, rng, stop=0.2).shape == x.shape
