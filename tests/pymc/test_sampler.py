"""``sample`` and ``fit``: seeds, groups, reuse, interrupts, and what is said on the way."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal

import models
import numpy as np
import pytest
from pymc.progress_bar import create_simple_progress
from scipy import stats

import pymc_multimodal as mm
from pymc_multimodal import kernel
from pymc_multimodal._compat import ess, get_dataset, group_names
from pymc_multimodal.model import density_of
from pymc_multimodal.plugin import sampler

SILENT = {"progressbar": False, "quiet": True, "compute_convergence_checks": False}


@pytest.fixture(scope="module")
def model(four_modes):
    return four_modes


@pytest.fixture(scope="module")
def cheap():
    """A model that takes little time to fit, where any will do."""
    return models.one_dimensional("x")


@pytest.fixture(scope="module")
def idata(model):
    return mm.sample(300, chains=3, model=model, random_seed=11, **SILENT)


@pytest.fixture(scope="module")
def fit(four_modes_fit):
    return four_modes_fit


def draws(idata, name="x"):
    return get_dataset(idata, "posterior")[name].values


# -------------------------------------------------------------- seeds and reuse


def test_a_seed_decides_the_draws(cheap):
    settings = {"chains": 2, "model": cheap, "target_se": 0.05, **SILENT}
    one = mm.sample(50, random_seed=11, **settings)
    same = mm.sample(50, random_seed=11, **settings)
    other = mm.sample(50, random_seed=12, **settings)
    np.testing.assert_array_equal(draws(one), draws(same))
    np.testing.assert_array_equal(
        get_dataset(one, "modes")["weight"].values, get_dataset(same, "modes")["weight"].values
    )
    assert not np.any(draws(one) == draws(other))


def test_a_fit_is_the_one_that_sample_would_make(model, idata, fit):
    reused = mm.sample(300, chains=3, model=model, fit=fit, random_seed=11, **SILENT)
    np.testing.assert_array_equal(draws(reused), draws(idata))


def test_a_reused_fit_draws_by_the_seed_of_the_chains(model, fit):
    one = mm.sample(50, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    same = mm.sample(50, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    other = mm.sample(50, chains=2, model=model, fit=fit, random_seed=2, **SILENT)
    np.testing.assert_array_equal(draws(one), draws(same))
    assert not np.any(draws(one) == draws(other))
    assert get_dataset(one, "modes").attrs["random_seed"] == "11"


def test_a_fit_used_again_without_a_seed_gives_new_draws(model, fit, caplog):
    with caplog.at_level("INFO", logger="pymc.multimodal"):
        one, two = (mm.sample(5, chains=1, model=model, fit=fit, progressbar=False) for _ in "ab")
    assert not np.array_equal(draws(one), draws(two))
    said = [r.getMessage() for r in caplog.records if "was given no seed" in r.getMessage()]
    seed = int(said[0].split("random_seed=")[1].rstrip("."))
    again = mm.sample(5, chains=1, model=model, fit=fit, random_seed=seed, **SILENT)
    np.testing.assert_array_equal(draws(again), draws(one))


@pytest.mark.parametrize("tune", [0, 3])
def test_a_shorter_run_is_the_beginning_of_a_longer_one(model, fit, tune):
    settings = {"chains": 3, "tune": tune, "model": model, "fit": fit, "random_seed": 1, **SILENT}
    short, long = mm.sample(50, **settings), mm.sample(100, **settings)
    np.testing.assert_array_equal(draws(short), draws(long)[:, :50])


def test_a_fit_can_be_pickled(model, fit):
    loaded = pickle.loads(pickle.dumps(fit))
    one = mm.sample(50, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    two = mm.sample(50, chains=2, model=model, fit=loaded, random_seed=1, **SILENT)
    np.testing.assert_array_equal(draws(one), draws(two))
    assert loaded.config == fit.config
    assert loaded.statuses == fit.statuses


@pytest.mark.parametrize("seed", [[1, 2, 3], np.random.SeedSequence(5).generate_state(2)])
def test_seeds_of_other_kinds(model, fit, seed):
    one = mm.sample(20, chains=2, model=model, fit=fit, random_seed=seed, **SILENT)
    two = mm.sample(20, chains=2, model=model, fit=fit, random_seed=seed, **SILENT)
    np.testing.assert_array_equal(draws(one), draws(two))


@pytest.mark.slow  # a worker compiles the model anew
def test_worker_processes_do_not_change_the_draws(model, idata):
    shared = mm.sample(300, chains=3, model=model, random_seed=11, workers=2, **SILENT)
    np.testing.assert_array_equal(draws(shared), draws(idata))


def test_cores_and_the_context_change_nothing(model, fit):
    outside = mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, cores=1, **SILENT)
    with model:
        inside = mm.sample(20, chains=2, fit=fit, random_seed=1, cores=2, **SILENT)
    np.testing.assert_array_equal(draws(inside), draws(outside))


# -------------------------------------------------------------- what comes out


def test_a_sample_has_the_groups_of_pymc_and_of_modes(idata):
    assert set(group_names(idata)) == {
        "posterior", "sample_stats", "observed_data", "constant_data", "modes", "mode_posterior",
    }  # fmt: skip


def test_posterior_is_as_pymc_writes_it(idata):
    posterior = get_dataset(idata, "posterior")
    assert set(posterior.data_vars) == {"x", "square"}
    assert posterior["x"].dims == ("chain", "draw", "axis")
    assert list(posterior["axis"].values) == ["east", "north"]
    assert posterior.sizes["chain"] == 3
    assert posterior.sizes["draw"] == 300
    np.testing.assert_allclose(posterior["square"].values, posterior["x"].values ** 2)
    assert posterior.attrs["inference_library"] == "pymc"
    assert posterior.attrs["sampling_time"] > 0
    assert posterior.attrs["tuning_steps"] == 0
    np.testing.assert_array_equal(get_dataset(idata, "observed_data")["y"].values, [4.0, 4.0])
    assert get_dataset(idata, "constant_data")["noise"].values == 1.0


def test_the_group_modes_has_weights_locations_and_diagnostics(idata):
    modes = get_dataset(idata, "modes")
    assert modes.sizes["mode"] == 4
    for name in (
        "weight", "weight_se", "log_evidence", "log_evidence_se", "hits", "ess", "r_hat",
        "pareto_k", "status",
    ):  # fmt: skip
        assert modes[name].dims == ("mode",)
    assert modes["x"].dims == modes["square"].dims == ("mode", "axis")
    weight = modes["weight"].values
    assert (np.diff(weight) <= 0).all()
    assert weight.sum() == pytest.approx(1.0)
    assert (np.abs(weight - 0.25) <= 4 * modes["weight_se"].values).all()
    lower, upper = modes["weight_interval"].values.T
    assert ((lower <= weight) & (weight <= upper)).all()
    signs = {tuple(s) for s in np.sign(modes["x"].values)}
    assert signs == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    np.testing.assert_allclose(np.abs(modes["x"].values), 1.986, atol=0.01)
    np.testing.assert_allclose(modes["square"].values, modes["x"].values ** 2)
    assert set(modes["status"].values) == {"ok"}


def test_attributes_of_the_group_are_evidence_counts_and_settings(idata):
    attrs = get_dataset(idata, "modes").attrs
    grid = np.linspace(-20.0, 20.0, 200001)
    density = stats.norm.pdf(grid, 0, 3) * stats.norm.pdf(4, grid**2, 1)
    truth = 2 * np.log(np.trapezoid(density, grid))
    assert 0 < attrs["log_evidence_se"] < 0.1
    assert abs(attrs["log_evidence"] - truth) < 4 * attrs["log_evidence_se"]
    assert 0 < attrs["unseen_start_mass_upper"] < 0.05
    assert 0 < attrs["seen_basin_mass"] < 0.05
    assert np.isnan(attrs["missed_mass"])
    assert "seen_basin_mass" in attrs["missed_mass_reason"]
    assert 0 <= attrs["weight_in_singletons"] <= 1
    assert attrs["n_starts"] == 512
    assert 0 <= attrs["n_climbs"] <= 1024
    assert attrs["n_logp_evals"] > 1000
    assert 0 < attrs["n_grad_evals"] <= attrs["n_logp_evals"]
    assert attrs["random_seed"] == "11"
    config = json.loads(attrs["config"])
    assert config["target_se"] == 0.01
    assert config["random_seed"] == 11
    assert config["generator"]["class"] == "Hybrid"
    assert config["regions"]["class"] == "Regions"
    assert config["modes"]["class"] == "ModeSearch"
    assert config["local"]["class"] == "LocalSampling"
    assert isinstance(json.loads(attrs["statuses"]), list)


def test_draws_agree_with_the_weights(idata):
    modes = get_dataset(idata, "modes")
    mode = get_dataset(idata, "sample_stats")["mode"].values
    for k in range(4):
        indicator = (mode == k).astype(float)
        weight, error = modes["weight"].values[k], modes["weight_se"].values[k]
        size = ess(indicator, "mean")[0]
        assert size > 0.2 * mode.size
        assert abs(indicator.mean() - weight) < 4 * np.sqrt(weight * (1 - weight) / size + error**2)


def test_settings_are_recorded(model):
    search = mm.ModeSearch(locations=[{"x": [2.0, 2.0]}, {"x": [-2.0, 2.0]}], radius=0.1)
    fit = mm.fit(
        model, modes=search, regions=mm.Regions(method="nearest"), target_se=0.05, random_seed=2,
        generator=mm.Hybrid(families=("gaussian",)), progressbar=False, quiet=True,
    )  # fmt: skip
    idata = mm.sample(20, chains=1, model=model, fit=fit, **SILENT)
    config = json.loads(get_dataset(idata, "modes").attrs["config"])
    assert config["modes"]["locations"] == [{"x": [2.0, 2.0]}, {"x": [-2.0, 2.0]}]
    assert config["regions"]["method"] == "nearest"
    assert config["generator"]["families"] == ["gaussian"]
    # Two modes were given, two were not; chains or the search may reach those, never less.
    assert fit.n_modes >= 2


def test_var_names_choose_what_is_kept(model, fit):
    idata = mm.sample(
        20, chains=2, model=model, fit=fit, random_seed=1, var_names=["square"], **SILENT
    )
    whole = mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    assert list(get_dataset(idata, "posterior").data_vars) == ["square"]
    assert "x" not in get_dataset(idata, "modes")
    assert list(get_dataset(idata, "mode_posterior").data_vars) == ["square"]
    np.testing.assert_allclose(draws(idata, "square"), draws(whole, "square"))
    with pytest.raises(ValueError, match="slope"):
        mm.sample(5, chains=1, model=model, fit=fit, var_names=["slope"], **SILENT)


def test_tuning_draws_are_discarded(model, fit):
    idata = mm.sample(30, tune=20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    assert draws(idata).shape == (2, 30, 2)
    assert get_dataset(idata, "sample_stats")["lp"].shape == (2, 30)
    assert get_dataset(idata, "posterior").attrs["tuning_steps"] == 20


def test_one_chain_is_enough(model, fit):
    idata = mm.sample(150, chains=1, model=model, fit=fit, random_seed=1, progressbar=False)
    assert draws(idata).shape == (1, 150, 2)
    assert "modes" in group_names(idata)


def test_idata_kwargs_reach_the_conversion(model, fit):
    idata = mm.sample(
        20, chains=2, model=model, fit=fit, random_seed=1,
        idata_kwargs={"coords": {"axis": ["a", "b"]}}, **SILENT,
    )  # fmt: skip
    assert list(get_dataset(idata, "posterior")["axis"].values) == ["a", "b"]


def test_circular_variables_stay_in_one_period():
    idata = mm.sample(200, chains=4, model=models.circular(), random_seed=1, **SILENT)
    phi = draws(idata, "phi")
    assert np.abs(phi).max() <= np.pi
    modes = get_dataset(idata, "modes")
    assert modes.sizes["mode"] == 2
    # The prior's small pull towards zero: a ratio of exp(2 * 0.01 * E[cos]).
    grid = np.linspace(-np.pi, np.pi, 100001)[:-1]
    density = np.exp(0.01 * np.cos(grid) + 4 * np.cos(2 * grid))
    truth = density[np.abs(grid) < np.pi / 2].sum() / density.sum()
    top = int(np.argmin(np.abs(modes["phi"].values)))
    assert abs(modes["weight"].values[top] - truth) < 4 * modes["weight_se"].values[top]


def test_a_model_without_gradient(caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    # Numba keeps no function that calls Python code: it would be compiled in every run.
    idata = mm.sample(
        100, chains=2, model=models.black_box(), random_seed=1, progressbar=False, target_se=0.05,
        modes=mm.ModeSearch(screening=0), compile_kwargs={"mode": "FAST_COMPILE"},
    )  # fmt: skip
    assert any("no gradient" in r.getMessage() for r in caplog.records)
    modes = get_dataset(idata, "modes")
    assert (np.abs(modes["weight"].values - 0.5) <= 4 * modes["weight_se"].values).all()
    assert modes.attrs["n_grad_evals"] == 0


def test_a_unimodal_model(caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    idata = mm.sample(200, chains=4, model=models.unimodal(), random_seed=1, progressbar=False)
    assert any("Found one mode" in r.getMessage() for r in caplog.records)
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    table = mm.mode_table(idata)
    assert len(table) == 1
    assert table["weight"].item() == 1.0
    attrs = get_dataset(idata, "modes").attrs
    truth = stats.norm.logpdf(1.0, 0.0, np.sqrt(2.0))
    assert abs(attrs["log_evidence"] - truth) < 4 * attrs["log_evidence_se"]
    x = draws(idata)
    error = np.sqrt(0.5 / ess(x)[0])
    assert abs(x.mean() - 0.5) < 4 * error


# -------------------------------------------------------------- limits and interrupts


def test_draws_count_towards_the_limits(cheap, caplog, monkeypatch):
    """The fit uses three quarters at most, and draws end at the limit."""
    densities = []

    def noted(*args, **kwargs):
        densities.append(density_of(*args, **kwargs))
        return densities[-1]

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.density_of", noted)
    settings = {"chains": 4, "model": cheap, "random_seed": 1, "target_se": 1e-4, **SILENT}
    idata = mm.sample(100_000, max_evals=20_000, **settings)
    n = get_dataset(idata, "posterior").sizes["draw"]
    assert 50 < n < 100_000
    assert f"{n} of 100000 draws of each chain were made" in caplog.text
    assert 19_000 < densities[0].n_logp_evals <= 20_000
    assert get_dataset(idata, "modes").attrs["n_logp_evals"] <= 15_000
    # Next to nothing is left: one draw of each chain.
    tiny = mm.sample(100, tune=50, max_evals=100, **{**settings, "chains": 1})
    assert get_dataset(tiny, "posterior").sizes["draw"] == 1
    assert get_dataset(tiny, "posterior").attrs["tuning_steps"] < 50
    assert densities[1].n_logp_evals <= 100


def test_a_limit_that_was_reached_is_flagged(cheap, caplog):
    idata = mm.sample(
        20, chains=2, model=cheap, random_seed=1, target_se=1e-4, max_evals=500, **SILENT
    )
    statuses = json.loads(get_dataset(idata, "modes").attrs["statuses"])
    [found] = [s for s in statuses if s["code"] == "budget"]
    assert "max_evals=500" in found["cause"]
    # Quiet silences messages, not warnings.
    assert any("max_evals=500" in r.getMessage() for r in caplog.records)


def interrupt_after(monkeypatch, n):
    original, calls = kernel.step, []

    def step(*args, **kwargs):
        calls.append(None)
        if len(calls) > n:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(kernel, "step", step)


def test_an_interrupt_while_sampling_keeps_what_there_is(model, fit, monkeypatch, caplog):
    whole = mm.sample(200, tune=5, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    interrupt_after(monkeypatch, 35)
    idata = mm.sample(200, tune=5, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    assert draws(idata).shape == (2, 30, 2)
    np.testing.assert_array_equal(draws(idata), draws(whole)[:, :30])
    assert get_dataset(idata, "sample_stats")["lp"].shape == (2, 30)
    assert any("30 draws" in r.getMessage() for r in caplog.records)
    assert "modes" in group_names(idata)


@pytest.fixture
def pressing(monkeypatch):
    """Press Ctrl-C where a function of the sampler begins, as often as asked."""

    def press_in(name, times):
        original = getattr(sampler, name)

        def interrupted(*args, **kwargs):
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
            return original(*args, **kwargs)

        monkeypatch.setattr(sampler, name, interrupted)

    before = signal.getsignal(signal.SIGINT)
    yield press_in
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("where", ["to_inference_data", "KeptDraws", "_check_convergence"])
def test_an_interrupt_while_results_are_made_loses_nothing(
    model, fit, idata, pressing, where, caplog
):
    pressing(where, 1)
    settings = {**SILENT, "compute_convergence_checks": True}
    again = mm.sample(300, chains=3, model=model, fit=fit, random_seed=11, **settings)
    np.testing.assert_array_equal(draws(again), draws(idata))
    assert {"modes", "mode_posterior"} < set(group_names(again))
    assert "Interrupted" in caplog.text


def test_a_second_interrupt_ends_at_once(model, fit, pressing):
    pressing("to_inference_data", 2)
    with pytest.raises(KeyboardInterrupt):
        mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)


def test_a_second_interrupt_after_one_while_drawing_ends_at_once(model, fit, monkeypatch, pressing):
    interrupt_after(monkeypatch, 10)
    pressing("to_inference_data", 1)
    with pytest.raises(KeyboardInterrupt):
        mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)


def test_an_interrupt_at_the_end_of_a_fit_leaves_the_fit(cheap, monkeypatch, caplog):
    def close(density):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pymc_multimodal.target.density.Density.close", close)
    fit = mm.fit(cheap, random_seed=3, target_se=0.05, progressbar=False, quiet=True)
    assert fit.n_modes == 2
    assert "Interrupted" in caplog.text


@pytest.mark.parametrize("n", [0, 3])
def test_an_interrupt_before_the_first_kept_draw_ends_the_call(model, fit, monkeypatch, n):
    interrupt_after(monkeypatch, n)
    with pytest.raises(KeyboardInterrupt):
        mm.sample(20, tune=3, chains=2, model=model, fit=fit, random_seed=1, **SILENT)


def test_an_interrupt_of_the_fit_ends_the_call(model, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pymc_multimodal.target.density.Density.logp", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mm.sample(20, chains=2, model=model, random_seed=1, **SILENT)
    with pytest.raises(KeyboardInterrupt):
        mm.MultimodalDiffusion(model=model, random_seed=1, progressbar=False, quiet=True)


# -------------------------------------------------------------- messages


def test_quiet_is_quiet(cheap, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="pymc")
    mm.sample(
        20, chains=2, model=cheap, target_se=0.05, progressbar=True, quiet=True,
        compute_convergence_checks=False,
    )  # fmt: skip
    assert [r.getMessage() for r in caplog.records] == []
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_drawn_seed_is_announced_and_recorded(cheap, caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    settings = {"chains": 2, "target_se": 0.05, "progressbar": False, "model": cheap}
    idata = mm.sample(20, **settings)
    [said] = [r.getMessage() for r in caplog.records if "random_seed=" in r.getMessage()]
    seed = get_dataset(idata, "modes").attrs["random_seed"]
    assert f"random_seed={seed}." in said
    again = mm.sample(20, random_seed=int(seed), **settings)
    np.testing.assert_array_equal(draws(again), draws(idata))


def test_a_given_seed_is_not_announced(cheap, caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    mm.fit(cheap, random_seed=3, target_se=0.05, progressbar=False)
    said = [r.getMessage() for r in caplog.records if r.name == "pymc.multimodal"]
    assert len(said) == 2
    assert said[0].startswith("Compiling the log density")
    assert said[1].startswith("Found 2 modes from")
    assert "density evaluations" in said[1]


def test_quiet_hides_the_progress(cheap, monkeypatch):
    shown = []

    def create(progressbar, theme):
        shown.append(progressbar)
        return create_simple_progress(False, theme)

    monkeypatch.setattr("pymc_multimodal.plugin.settings.create_simple_progress", create)
    settings = {"draws": 5, "chains": 1, "model": cheap, "random_seed": 1, "target_se": 0.05}
    mm.sample(**settings, progressbar=True, quiet=True)
    assert shown == [False]
    shown.clear()
    mm.sample(**settings, progressbar=True)
    assert shown == [True]
