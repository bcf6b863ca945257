"""What is learned from draws, where it stops, and the statuses of both."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Banana, two_modes
from learned_scores import QUICK, codes, score_error

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model.build import density_of


def test_a_previous_generator_helps_where_held_out_draws_prefer_it():
    old, new = two_modes(12, distance=10.0), two_modes(12, distance=10.0)
    new.means = new.means + 0.3
    ratios = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        before = ScoreLangevin.from_draws(old.draws(1_000, rng), config=QUICK, random_seed=1)
        few, test = new.draws(70, rng), new.draws(2_000, rng)
        alone, warm = (
            ScoreLangevin.from_draws(few, config=QUICK, previous=p, random_seed=2)
            for p in (None, before)
        )
        errors = [score_error(g, test, new(test)[1]) for g in (alone, warm)]
        [status] = [s for s in warm.statuses if s.code == "previous"]
        ratios.append(errors[1] / errors[0])
        if "preferred a new mixture" in status.cause:
            assert errors[1] == errors[0]
        else:
            assert errors[1] < 0.8 * errors[0]
    assert min(ratios) < 0.8


def test_a_previous_generator_of_other_coordinates_is_not_used(rng):
    before = ScoreLangevin.from_draws(
        rng.standard_normal((100, 3)), config=ScoreLangevin(training_steps=0)
    )
    other = ScoreLangevin.from_draws(rng.standard_normal((50, 2)), config=QUICK, previous=before)
    assert any("not used" in s.cause for s in other.statuses)


def test_stuck_chains_do_not_stop_the_run():
    """Held-out blocks of chains that never cross have other shares than the rest: no news."""
    target, flagged = two_modes(2, distance=9.0), 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = target.draws(4000, rng)
        k = target.component(x)
        chains = np.stack([x[k == c][i * 400 : (i + 1) * 400] for c in (0, 1) for i in (0, 1)])
        config = ScoreLangevin(training_steps=0, max_components=2)
        fitted = ScoreLangevin.from_draws(chains, config=config, random_seed=seed)
        flagged += "copies" in [s.code for s in fitted.statuses]
    assert flagged <= 1


@pytest.mark.parametrize("stop", [0.05, 0.3, 1.0])
def test_the_time_asked_for_is_the_time_run(stop, rng):
    config = ScoreLangevin(training_steps=0, stop_time=stop)
    fitted = ScoreLangevin.from_draws(rng.standard_normal((300, 3)), config=config)
    assert fitted.trial.stop_time == pytest.approx(stop)
    assert fitted.step_size <= stop / 2


@pytest.mark.parametrize("name", ["rings", "forty_modes"])
def test_smeared_shapes_are_flagged(name, rng):
    """Of few components over thin rings or many modes, which an energy distance hardly sees."""
    target = TARGETS[name]()
    assert "smeared" in codes(target.draws(300, rng), stop_time=3.0)
    assert "smeared" not in codes(two_modes(2).draws(300, rng))


def test_what_cannot_be_known_is_said(rng):
    x = rng.standard_normal((200, 3))
    assert codes(x) == ["one_cluster"]
    assert "duplicates" in codes(np.repeat(x[:60], 3, axis=0))
    assert "few_draws" in codes(rng.standard_normal((30, 10)))
    assert "step_size" in codes(x, step_size=1.3)
    assert "copies" in codes(x, stop_time=0.1)
    assert "seam" in codes(np.pi - np.abs(x[:, 0]) % 0.5 - 2 * np.pi * (x[:, 1] > 0) * 0.92)
    flat = np.column_stack([x, np.full(200, 3.0), x[:, 0] + x[:, 1]])
    assert {"constant", "dependent"} <= set(codes(flat))
    fitted = ScoreLangevin.from_draws(flat, config=ScoreLangevin(training_steps=0), random_seed=0)
    made = fitted.generate(500, rng)
    np.testing.assert_allclose(made[:, 3], 3.0)
    np.testing.assert_allclose(made[:, 4], made[:, 0] + made[:, 1], atol=1e-8)
    assert any("x[3] did not vary" in w for w in fitted.warnings)


def test_a_bent_mode_is_learned_better_by_a_network(rng):
    target = Banana(2)
    x, test = target.draws(4_000, rng), target.draws(4_000, rng)
    config = ScoreLangevin(max_components=1, training_steps=600)
    plain, learned = (
        ScoreLangevin.from_draws(x, config=c, random_seed=1)
        for c in (ScoreLangevin(max_components=1, training_steps=0), config)
    )
    errors = [score_error(g, test, target(test)[1]) for g in (plain, learned)]
    assert errors[1] < 0.5 * errors[0]
    assert learned.objective < plain.objective
    assert {"shape", "copies"} & {s.code for s in plain.statuses}


@pytest.mark.slow  # trains a network on each target of the gallery
@pytest.mark.parametrize("name", [n for n in TARGETS if "eight_schools" not in n])
def test_the_score_error_is_measured_on_the_gallery(name, rng):
    """Against exact gradients at fresh draws, where zero is exact and one is no score at all."""
    target = TARGETS[name]()
    if target.draws is None:
        pytest.skip("no exact draws")
    density = density_of(target.model)
    if np.isfinite(density.period).any() or target.log_density is None:
        pytest.skip("circular, or without a gradient to compare with")
    x, test = target.draws(3_000, rng), target.draws(1_000, rng)
    fitted = ScoreLangevin.from_draws(x, random_seed=1)
    error = score_error(fitted, test, density.logp_and_grad(test)[1])
    print(f"{name}: score error {error:.3f}, {len(fitted.clusters)} clusters, {fitted.statuses}")
    assert 0 <= error < 1.1
