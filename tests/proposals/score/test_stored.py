"""Stored draws: what is read, what is refused, and what is said of them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr
from densities import two_modes
from learned_scores import QUICK

from pymc_multimodal import ScoreLangevin


def test_named_variables_travel(rng):
    x = two_modes(3).draws(600, rng).reshape(4, 150, 3)
    dataset = xr.Dataset(
        {
            "a": (("chain", "draw"), x[:, :, 0]),
            "b": (("chain", "draw", "i"), x[:, :, 1:]),
            "data": (("i",), np.zeros(2)),
        }
    )
    fitted = ScoreLangevin.from_draws(xr.DataTree.from_dict({"posterior": dataset}), config=QUICK)
    assert fitted.names == ("a", "b[0]", "b[1]")
    made = fitted.generate(50, 1)
    out = fitted.to_dict(made)
    assert out["a"].shape == (50,)
    assert out["b"].shape == (50, 2)
    np.testing.assert_array_equal(out["b"][:, 1], made[:, 2])
    only = ScoreLangevin.from_draws(dataset, config=QUICK, var_names=["b"])
    assert only.names == ("b[0]", "b[1]")
    mapping = ScoreLangevin.from_draws({"a": x[:, :, 0].ravel()}, config=QUICK)
    assert mapping.generate(3, 1).shape == (3, 1)
    assert 0 < fitted.clusters.weights_se[0] < 0.1


def test_bounded_variables_stay_within_their_bounds(rng, caplog):
    draws = {"sd": np.exp(0.5 * rng.standard_normal(400)), "p": rng.beta(0.8, 2.0, 400)}
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        plain = ScoreLangevin.from_draws(draws, config=QUICK, random_seed=1)
    assert "bounds" in [s.code for s in plain.statuses]
    assert "Give transforms={'p': 'logit'}" in caplog.text
    fitted = ScoreLangevin.from_draws(
        draws, config=QUICK, transforms={"sd": "log", "p": "logit"}, random_seed=1
    )
    out = fitted.to_dict(fitted.generate(2_000, rng))
    assert out["sd"].min() > 0
    assert 0 < out["p"].min() < out["p"].max() < 1
    assert "bounds" not in [s.code for s in fitted.statuses]
    assert abs(np.median(out["sd"]) - np.median(draws["sd"])) < 0.2


@pytest.mark.parametrize(
    ("draws", "error", "says"),
    [
        (np.full((50, 2), np.nan), ValueError, "100 values that are NaN"),
        (np.ones((50, 2)), ValueError, "50 rows, all of them equal"),
        (np.arange(10.0), ValueError, "10 distinct rows"),
        (np.random.default_rng(0).standard_normal((30, 40)), ValueError, "30 distinct rows for 40"),
        (np.repeat(np.arange(5.0), 20), ValueError, "5 distinct rows"),
        ("draws", TypeError, "InferenceData or an array"),
        ({"a": 3.0}, ValueError, "an array for each variable"),
        (np.array(["a"] * 50), TypeError, "dtype"),
        (xr.Dataset({"a": (("i",), np.zeros(3))}), ValueError, "'chain' and 'draw'"),
        (
            xr.DataTree.from_dict({"prior": xr.Dataset()}),
            ValueError,
            "none called 'posterior'.*pm.sample",
        ),
    ],
)
def test_draws_that_nothing_can_be_learned_from(draws, error, says):
    with pytest.raises(error, match=says):
        ScoreLangevin.from_draws(draws)


def test_one_chain_is_a_chain():
    rng = np.random.default_rng(5)
    target = two_modes(2, distance=12.0)
    x, k = target.draws(4000, rng), np.arange(2000) // 100 % 2
    own = target.component(x)
    x = np.where(k[:, None] == 0, x[own == 0][:1][0], x[own == 1][:1][0])
    x = x + rng.standard_normal(x.shape)
    config = ScoreLangevin(training_steps=0, max_components=2)
    ordered, loose = (
        ScoreLangevin.from_draws(a, config=config, random_seed=0).clusters.weights_se[0]
        for a in (x[None], x)
    )
    assert ordered > 3 * loose
