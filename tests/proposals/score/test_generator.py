"""Generated draws: the weights they keep, their shapes, and requests that are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from densities import two_modes
from learned_scores import QUICK, energy, score_error, separated
from scipy.spatial.distance import cdist

from pymc_multimodal import ScoreGenerator, ScoreLangevin
from pymc_multimodal.gallery import mixture_2d


@pytest.mark.parametrize(("dim", "sets"), [(1, 3), (32, 1)])
def test_weights_and_shapes_are_kept(dim, sets, rng):
    """Started from draws; started from normal noise the same run loses the weights.

    Generated draws are as near to the exact law within modes as the stored draws that they come
    from, whose sampling errors they share.
    """
    target = separated(dim, weight=0.85)
    distance = {"generated": 0.0, "stored": 0.0}
    for seed in range(sets):
        x = target.draws(2_000, rng)
        fitted = ScoreLangevin.from_draws(x, random_seed=seed)
        assert len(fitted.clusters) == 2
        old = target.component(x)
        share = np.mean(old == 0)
        made = fitted.generate(10_000, rng)
        new = target.component(made)
        error = np.sqrt(share * (1 - share) / len(x))
        assert abs(np.mean(new == 0) - share) < 2 * error
        assert abs(fitted.clusters.weights[0] - 0.85) < 4 * fitted.clusters.weights_se[0]
        assert np.isclose(fitted.clusters.weights_se[0], error, rtol=0.05)
        for k in (0, 1):
            exact = target.means[k] + rng.standard_normal((2_000, dim))
            distance["generated"] += energy(made[new == k][:2_000], exact)
            distance["stored"] += energy(x[old == k], exact)
    assert distance["generated"] < 1.3 * distance["stored"]
    noise = fitted.refresh(rng.standard_normal((4_000, dim)), rng)
    assert abs(np.mean(target.component(noise) == 0) - 0.85) > 0.1


def test_few_draws_become_many_that_are_no_copies(rng):
    target = two_modes(5, distance=9.0)
    x = target.draws(500, rng)
    fitted = ScoreLangevin.from_draws(x, random_seed=3)
    made = fitted.generate(20_000, rng)
    old, new = target.component(x), target.component(made)
    assert abs(np.mean(new) - np.mean(old)) < 0.01
    for k in (0, 1):
        ratio = made[new == k].std(axis=0) / x[old == k].std(axis=0)
        assert np.all(np.abs(ratio - 1) < 0.12)
        exact = made[new == k].std(axis=0) / np.sqrt(np.diag(target.covariances[k]))
        assert np.all(np.abs(exact - 1) < 4 / np.sqrt(2 * np.sum(old == k)))
    fresh = target.draws(2_000, rng)
    nearest = [np.median(cdist(a, x).min(axis=1)) for a in (made[:2_000], fresh)]
    assert nearest[0] > 0.85 * nearest[1]
    assert fitted.trial.at_stop(fitted.trial.start_correlation) < 0.1
    assert fitted.trial.start_correlation[0] == pytest.approx(1.0)
    assert fitted.trial.nearest_ratio[0] == 0.0
    assert score_error(fitted, fresh, target(fresh)[1]) < 0.15


def test_long_runs_lose_what_short_ones_keep(rng):
    """Modes that are near: in time the run mixes, and the verdict says so."""
    target = separated(1, distance=4.6, weight=0.9)
    tilted = target.draws(6_000, rng)
    tilted = tilted[(target.component(tilted) == 1) | (rng.random(6_000) < 1 / 9)]
    config = ScoreLangevin(objective="exact")
    arguments = {"config": config, "score": lambda x: target(x)[1], "random_seed": 1}
    fitted = ScoreLangevin.from_draws(tilted, **arguments)
    assert abs(np.mean(target.component(fitted.generate(4_000, rng)) == 0) - 0.5) < 0.15
    slow = ScoreLangevin(objective="exact", stop_time=300.0)
    arguments["config"] = slow
    long = ScoreLangevin.from_draws(tilted, **arguments)
    assert abs(np.mean(target.component(long.generate(4_000, rng)) == 0) - 0.9) < 0.05
    assert long.clusters.pair_mixing(300.0)[0, 1] == "mixes"
    assert "mixes with mode" in long.report()
    assert "mixing" in [s.code for s in long.statuses]
    assert "shape" in [s.code for s in long.statuses], "held-out draws have other weights"


def test_same_seed_same_draws_and_it_can_be_pickled(rng):
    x = two_modes(2).draws(200, rng)
    a, b = (ScoreLangevin.from_draws(x, config=QUICK, random_seed=5) for _ in range(2))
    made = a.generate(30, 7)
    np.testing.assert_array_equal(made, b.generate(30, 7))
    again = pickle.loads(pickle.dumps(a))
    assert isinstance(again, ScoreGenerator)
    np.testing.assert_array_equal(made, again.generate(30, 7))
    assert a.generate(0, 1).shape == (0, 2)
    assert "Guaranteed: nothing beyond the stored draws" in a.report()
    assert "ScoreGenerator of 200 draws" in repr(a)


def test_wrong_requests_are_named(rng):
    fitted = ScoreLangevin.from_draws(
        rng.standard_normal((100, 2)), config=ScoreLangevin(training_steps=0)
    )
    with pytest.raises(ValueError, match="n=-5"):
        fitted.generate(-5)
    with pytest.raises(TypeError, match=r"n=2\.5"):
        fitted.generate(2.5)
    with pytest.raises(ValueError, match=r"shape \(1, 2\) holds no points"):
        fitted.refresh(np.array([[0.0, np.nan]]))


@pytest.mark.slow  # trains a network at each of several seeds
def test_a_network_is_not_kept_for_a_gain_by_luck():
    """Regression: overlapping normals, where a network that had gained one standard error at one
    of many looks moved the shares by 0.05."""
    target = mixture_2d("overlap")
    x = target.draws(2000, np.random.default_rng(0))
    generator = ScoreLangevin.from_draws(x, random_seed=0)
    drawn = generator.generate(20_000, np.random.default_rng(1))
    moved = target.membership(drawn).mean(axis=0) - target.membership(x).mean(axis=0)
    assert np.abs(moved).max() < 0.03


def test_runs_from_noise_reach_the_modes_without_their_weights(rng):
    target = separated(2, weight=0.85)
    fitted = ScoreLangevin.from_draws(target.draws(2_000, rng), random_seed=1)
    paths = fitted.diffuse(2_000, rng)
    assert paths.shape[1:] == (2_000, 2)
    assert paths[0].std() > 1.5 * fitted.stored.x.std()
    ends = paths[-1]
    # Distances to the nearest mode are those of draws.
    near, exact = (
        np.median(cdist(x, target.means).min(axis=1)) for x in (ends, target.draws(2_000, rng))
    )
    assert near == pytest.approx(exact, rel=0.1)
    assert abs(np.mean(target.component(ends) == 0) - 0.85) > 0.1
