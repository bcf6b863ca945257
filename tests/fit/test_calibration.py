"""The scripts that calibrate: random models are what they say, and reports count rightly."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_t, norm

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))

import calibration
import calibration_report as tables
import sbc
from random_models import FAMILIES, MIN_WEIGHT, random_model

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import Hybrid


def small(family, largest=4):
    """Some models of a family in few dimensions."""
    models = (random_model(seed, family) for seed in range(40))
    return [m for m in models if m.dim <= largest][:3]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_random_models(family, rng):
    for seed in range(5):
        model = random_model(seed, family)
        x, h = model.draws(20, rng), 1e-5
        steps = h * np.eye(model.dim)
        ahead, behind = (np.stack([model(x + s * e)[0] for e in steps], 1) for s in (1, -1))
        _, grad = model(x)
        np.testing.assert_allclose(grad, (ahead - behind) / (2 * h), atol=1e-5 * np.abs(grad).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_evidence_of_random_models(family, rng):
    """By importance sampling from one t distribution about each component's own draws."""
    n = 20_000
    for model in small(family):
        k = np.arange(len(model.weights))
        if model.period.min() < np.inf:
            logq = -np.log(2 * np.pi) * np.isfinite(model.period).sum()
            real = np.isinf(model.period)
            q = norm(0, 12)
            x = rng.uniform(-np.pi, np.pi, (n, model.dim))
            x[:, real] = q.rvs((n, real.sum()), random_state=rng)
            logq = logq + q.logpdf(x[:, real]).sum(axis=1)
        else:
            own = [model.components.draw(np.full(2000, j), rng) for j in k]
            parts = [
                multivariate_t(y.mean(axis=0), 1.5 * np.atleast_2d(np.cov(y.T)), 3) for y in own
            ]
            x = np.concatenate([p.rvs(n, random_state=rng).reshape(n, -1) for p in parts])
            logq = logsumexp([p.logpdf(x) for p in parts], axis=0) - np.log(len(k))
        ratio = np.exp(model(x)[0] - model.log_z - logq)
        se = ratio.std() / np.sqrt(len(x))
        assert se < 0.1
        assert abs(ratio.mean() - 1) < 4 * se


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_of_random_models_follow_the_density(family, rng):
    """The score has mean zero, where draws and density belong together."""
    for model in small(family, largest=30):
        score = model(model.draws(20_000, rng))[1]
        z = score.mean(axis=0) / (score.std(axis=0) / np.sqrt(len(score)))
        assert np.abs(z).max() < 5
        shares = model.membership(model.draws(20_000, rng)).mean(axis=0)
        assert np.abs(shares - model.weights).max() < 4 * np.sqrt(0.25 / 20_000)


def test_seeds_give_models_of_all_kinds():
    models = [random_model(seed) for seed in range(400) if seed % 8 != 7]
    assert {m.family for m in models} == set(FAMILIES)
    assert {1, 30} <= {m.dim for m in models}
    assert {1, 12} <= {len(m.weights) for m in models}
    assert min(m.weights.min() for m in models) >= MIN_WEIGHT
    again = random_model(11)
    x = again.draws(5, np.random.default_rng(0))
    np.testing.assert_array_equal(again(x)[0], random_model(11)(x)[0])


@pytest.mark.slow  # compiles a model and fits it
def test_posterior_of_the_inverse_model(rng):
    """The compiled PyMC model has the exact mixture for its posterior, whatever its data."""
    for seed in (3, 5):
        model = random_model(seed, "inverse")
        x = model.draws(50, rng)
        logp, grad = model.density().logp_and_grad(x)
        np.testing.assert_allclose(logp, model(x)[0], atol=1e-5)
        np.testing.assert_allclose(grad, model(x)[1], atol=1e-8)


def record(seed, z, warned=False, missed=()):
    return {
        "seed": seed, "generator": "hybrid", "family": "gaussian", "dim": 2, "cpu": 1.0,
        "evals": 10, "log_z_error": 0.1 * z, "log_z_se": 0.1, "contrast": 1.0 + z,
        "contrast_truth": 1.0, "contrast_se": 0.8, "contrast_truth_se": 0.6,
        "missed": list(missed), "warnings": ["r_hat"] if warned else [], "infos": [],
        "challenged_by": 50.0,
    }  # fmt: skip


def test_report_counts_errors_with_and_without_warnings():
    runs = [record(i, z) for i, z in enumerate(norm.ppf((np.arange(100) + 0.5) / 100))]
    runs += [record(100, 6.0), record(101, 7.0, warned=True), record(102, 0.0, missed=[0.2])]
    runs += [{"seed": 103, "generator": "hybrid", "error": "ModelError"}]
    np.testing.assert_allclose(tables.z_of(runs[100:103], "contrast"), [6, 7, 0])
    text = tables.report(runs)
    assert "104 models (seeds 0-103), 1 not fitted, 102 without a warning" in text
    assert tables.seed_ranges([*runs[:3], runs[9]]) == "0-2, 9"
    wrong, missed, either = csv.reader(text.replace("    ", "").splitlines()[-3:])
    assert wrong[2:4] == ["1", "1 of 102 (below 4.57%)"]
    assert [missed[2], missed[3][:8]] == ["0", "1 of 102"]
    assert either[5] == "100, 102"


def test_bounds_of_shares():
    assert tables.upper_bound(0, 800) == pytest.approx(3 / 800, rel=0.01)
    low, high = tables.clopper_pearson(5, 100)
    assert low == pytest.approx(0.0164, abs=1e-4)
    assert high == pytest.approx(0.1128, abs=1e-4)


def test_calibration_takes_up_where_it_stopped(tmp_path, capsys):
    out = tmp_path / "runs.jsonl"
    common = ["--family", "gaussian", "--target-se", "0.1", "--exact", "2000", "--out", str(out)]
    calibration.main(["--seeds", "25", *common])
    first = out.read_text()
    calibration.main(["--seeds", "25,33", *common])
    assert out.read_text().startswith(first)
    runs = calibration.Runs(out)
    assert [r["seed"] for r in runs] == [25, 33]
    assert not any("error" in r for r in runs)
    assert max(tables.largest_z(r) for r in runs) < 4
    assert "hybrid: 2 models" in capsys.readouterr().out


def test_ranks_fill_the_histogram():
    counts = sbc.histogram(list(range(sbc.CHAINS * sbc.DRAWS + 1)))
    np.testing.assert_array_equal(counts, np.full(sbc.BINS, 10))


@pytest.mark.slow  # many fits
def test_simulation_based_calibration(tmp_path, capsys):
    out = tmp_path / "sbc.jsonl"
    sbc.main(["--models", "sign", "--simulations", "3", "--out", str(out)])
    runs = sbc.Runs(out)
    assert [r["seed"] for r in runs] == [0, 1, 2]
    assert "sign,theta,3," in capsys.readouterr().out


@pytest.mark.slow  # a whole fit with chains
def test_a_light_mode_on_a_flank_is_not_lost(rng):
    """Regression: its summit rises little above the saddle, but chains that leave stay away."""
    model = random_model(4, "constrained")
    quick = Hybrid(families=("gaussian", "mixture"))
    config = FitConfig(generator=quick, target_se=0.03, challenge=False, random_seed=4)
    fit = fit_density(model.density(), config)
    found = calibration.found_weights(fit, model)
    assert np.abs(found / model.weights - 1).max() < 0.5
    assert abs(fit.weights.total - model.log_z) < 4 * fit.weights.total_se
