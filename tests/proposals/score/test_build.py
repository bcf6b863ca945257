"""The generator's settings in use: arguments of from_draws, and proposals inside a fit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from densities import HalfSpace, VonMises, exact_local, two_modes
from learned_scores import score_error

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import expected_acceptance
from pymc_multimodal.proposals.score.path_proposals import ScoreProposals
from pymc_multimodal.status import FitError

EXACT = ScoreLangevin(objective="exact")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"config": "quick"}, TypeError, "config='quick'"),
        ({"previous": 3}, TypeError, "previous=3"),
        ({"config": ScoreLangevin(objective="exact")}, ValueError, "give score="),
        ({"var_names": ["b"]}, ValueError, r"\['b'\].*\['x'\]"),
        ({"transforms": {"x": "log"}}, ValueError, r"above 0, and .x. has draws from -2"),
        ({"transforms": {"x": "sqrt"}}, ValueError, "choose from"),
        ({"transforms": {"y": "log"}}, ValueError, r"\['y'\]"),
        (
            {"config": ScoreLangevin(training_steps=0, step_size=9.0)},
            FitError,
            "step_size=9 is too large",
        ),
        ({"var_names": []}, ValueError, "leave it out for all"),
        ({"config": EXACT, "score": lambda x: np.full_like(x, np.nan)}, ValueError, "or NaN"),
        ({"config": EXACT, "score": lambda x: x[:, :1]}, ValueError, r"shape \(8, 1\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, says, rng):
    with pytest.raises(error, match=says):
        ScoreLangevin.from_draws(rng.standard_normal((100, 2)), **arguments)


@pytest.mark.parametrize("objective", ["implicit", "exact"])
def test_proposals_are_never_worse_than_their_start(objective, rng):
    target = two_modes(3, log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    config = ScoreLangevin(objective=objective, training_steps=200)
    fitted = config.regional.fit_regions(local, np.full(3, np.inf), rng)
    q = config.build(fitted, local, target.weights, rng, target.density())
    assert isinstance(q, ScoreProposals)
    assert [s.code for s in q.fallbacks].count("paths") == 1
    x = target.draws(4_000, rng)
    start = ScoreProposals(fitted.densities, target.weights)
    with_paths, alone = (
        expected_acceptance(target.logp(x) + g.minus_log_q(x, rng)) for g in (q, start)
    )
    assert with_paths > alone - 0.02
    made = q.generate(8_000, rng)
    assert abs(np.mean(target.component(made)) - 0.7) < 0.02
    assert score_error(q.uncorrected, x, target(x)[1]) < 0.05


def test_a_fit_with_the_score(rng):
    target = two_modes(2, distance=6.0)
    config = FitConfig(generator=ScoreLangevin(training_steps=100), target_se=0.02, random_seed=1)
    fit = fit_density(target.density(), config)
    # Weights are those of regions, which are not quite those of the components.
    inside = np.mean(fit.label(target.draws(40_000, rng)) == 0)
    error = np.hypot(fit.weights.weight_se[0], np.sqrt(0.21 / 40_000))
    assert abs(fit.weights.weight[0] - inside) < 4 * error
    again = pickle.loads(pickle.dumps(fit))
    made = again.generate(4_000, np.random.default_rng(0))
    np.testing.assert_array_equal(made, fit.generate(4_000, np.random.default_rng(0)))
    share = np.mean(target.component(made))
    assert abs(share - fit.weights.weight[0]) < 4 * np.sqrt(0.21 / 4_000)
    assert "paths" in [s.code for s in fit.statuses]


def test_circular_coordinates_are_left_to_the_mixture(rng):
    target = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])
    halves = HalfSpace(border=2.0)
    local = exact_local(target, lambda x: halves.label(np.abs(x)), 2, rng)
    config = ScoreLangevin()
    period = np.array(target.period)
    fitted = config.regional.fit_regions(local, period, rng)
    q = config.build(fitted, local, np.array([0.3, 0.7]), rng, target.density())
    assert [s.code for s in q.fallbacks] == ["circular"]
    assert q.path is None
    assert np.isfinite(q.generate(100, rng)).all()
