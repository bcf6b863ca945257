"""What ``sample`` returns works with ArviZ and PyMC, and survives a file."""

from __future__ import annotations

import arviz as az
import matplotlib.pyplot as plt
import models
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

import pymc_multimodal as mm
from pymc_multimodal._compat import PYMC6, add_group, get_dataset, group_names, load, save
from pymc_multimodal.plugin.tables import summary_line

SILENT = {"progressbar": False, "quiet": True}


@pytest.fixture(scope="module")
def model(four_modes):
    return four_modes


@pytest.fixture(scope="module")
def fit(four_modes_fit):
    return four_modes_fit


@pytest.fixture(scope="module")
def idata(model, fit):
    return mm.sample(200, chains=4, model=model, fit=fit, random_seed=21, **SILENT)


@pytest.fixture(scope="module")
def one_dimensional():
    return mm.sample(200, chains=2, model=models.one_dimensional(), random_seed=1, **SILENT)


@pytest.fixture
def figures():
    """Close what a test has drawn."""
    yield plt
    plt.close("all")


# -------------------------------------------------------------- ArviZ


def test_arviz_summarises_the_draws(idata):
    table = az.summary(idata, var_names=["x", "square"])
    assert len(table) == 4
    rhat = table["r_hat"].astype(float)
    assert (rhat < 1.05).all()
    assert (table["ess_bulk"].astype(float) > 100).all()


PLOTS = ["plot_trace", "plot_rank", "plot_forest", "plot_autocorr", "plot_ess", "plot_mcse"]
if PYMC6:
    PLOTS += ["plot_dist", "plot_ridge", "plot_trace_dist", "plot_rank_dist", "plot_ess_evolution"]
else:
    PLOTS += ["plot_posterior", "plot_density", "plot_violin"]


# ArviZ 0.23 calls Matplotlib in a way that the latter has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [*PLOTS, "plot_pair"])
def test_plots_of_arviz_are_drawn(idata, figures, name):
    kwargs = {"backend": "matplotlib"} if PYMC6 else {}
    getattr(az, name)(idata, var_names=["x"], **kwargs)
    assert figures.get_fignums()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", PLOTS)
def test_plots_of_the_draws_within_modes(idata, figures, name):
    if PYMC6:
        getattr(az, name)(idata, group="mode_posterior", var_names=["x"], backend="matplotlib")
    else:
        getattr(az, name)(get_dataset(idata, "mode_posterior"), var_names=["x"])
    assert figures.get_fignums()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(PYMC6, reason="plot_dist of ArviZ 1 is among the plots of groups")
def test_plot_dist_of_a_variable_within_a_mode(idata, figures):
    inside = get_dataset(idata, "mode_posterior")
    az.plot_dist(inside["x"].sel(mode=0, axis="east"))
    assert figures.get_fignums()


def test_summary_and_extract_of_the_draws_within_modes(idata):
    inside = get_dataset(idata, "mode_posterior")
    table = az.summary(inside)
    assert len(table) == 16, "two variables of two elements in four modes"
    assert (table["r_hat"].astype(float) < 1.1).all()
    assert abs(float(table.loc["x[1, east]", "mean"])) == pytest.approx(1.9, abs=0.1)
    for flat in (az.extract(inside), az.extract(idata, group="mode_posterior")):
        assert flat["x"].sizes["sample"] == 500
        assert flat.sizes["mode"] == 4


def test_every_group_says_what_it_is(idata):
    for group in group_names(idata):
        attributes = get_dataset(idata, group).attrs
        assert attributes["inference_library"] in ("pymc", "pymc_multimodal"), group
    for group in ("modes", "mode_posterior"):
        attributes = get_dataset(idata, group).attrs
        assert attributes["inference_library_version"] == mm.__version__
        assert attributes["description"].endswith(".")


# -------------------------------------------------------------- PyMC


def test_pymc_computes_the_log_likelihood_of_the_draws(model, fit):
    idata = mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    pm.compute_log_likelihood(idata, model=model, progressbar=False)
    found = get_dataset(idata, "log_likelihood")["y"].transpose("chain", "draw", "axis").values
    square = get_dataset(idata, "posterior")["square"].values
    np.testing.assert_allclose(found, stats.norm.logpdf(4.0, square, 1.0))
    assert "modes" in group_names(idata)


def test_posterior_and_prior_predictive(fit):
    # PyMC 5.28 registers `y` a second time here, which spoils the model for later tests.
    model = models.four_modes()
    idata = mm.sample(20, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    predicted = pm.sample_posterior_predictive(idata, model=model, random_seed=1, progressbar=False)
    y = get_dataset(predicted, "posterior_predictive")["y"]
    assert y.shape == (2, 20, 2)
    square = get_dataset(idata, "posterior")["square"]
    z = (y - square).values
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    prior = pm.sample_prior_predictive(10, model=model, random_seed=1)
    idata.update(prior) if PYMC6 else idata.extend(prior)
    assert {"prior", "posterior", "modes", "mode_posterior"} <= set(group_names(idata))


# -------------------------------------------------------------- files


def assert_kept(idata, loaded):
    assert set(group_names(loaded)) == set(group_names(idata))
    for group in ("posterior", "sample_stats", "modes", "mode_posterior"):
        before, after = get_dataset(idata, group), get_dataset(loaded, group)
        assert set(after.data_vars) == set(before.data_vars)
        assert set(after.attrs) == set(before.attrs)
        for name in before.data_vars:
            assert after[name].dims == before[name].dims
            np.testing.assert_array_equal(after[name].values, before[name].values)
    before, after = get_dataset(idata, "modes").attrs, get_dataset(loaded, "modes").attrs
    for name, value in before.items():
        # `missed_mass` is NaN.
        assert after[name] == value or (value != value and np.isnan(after[name])), name
    first, second = mm.mode_table(idata), mm.mode_table(loaded)
    assert list(second.columns) == list(first.columns)
    np.testing.assert_array_equal(first["weight"], second["weight"])
    assert list(first["status"]) == list(second["status"])


def test_a_file_keeps_all_groups(idata, tmp_path):
    path = tmp_path / "draws.nc"
    save(idata, path)
    assert_kept(idata, load(path))


def test_a_zarr_store_keeps_all_groups(idata, tmp_path):
    """ArviZ 0.23 itself writes Zarr with zarr 2 alone, which xarray no longer supports."""
    pytest.importorskip("zarr", minversion="3")
    tree = idata if isinstance(idata, xr.DataTree) else idata.to_datatree()
    # Format 3 of Zarr has no texts of fixed length, which coordinates are on PyMC 5.
    tree.to_zarr(tmp_path / "draws.zarr", consolidated=False, zarr_format=2)
    with xr.open_datatree(tmp_path / "draws.zarr", engine="zarr", consolidated=False) as stored:
        loaded = stored.load()
    assert_kept(idata, loaded)
    assert isinstance(mm.plot_modes(loaded), Figure)


# -------------------------------------------------------------- modes


def test_the_mode_table_has_weights_and_locations_of_the_fit(idata, fit):
    table = mm.mode_table(idata)
    assert list(table.columns) == [
        "weight", "weight_se", "status", "log_evidence", "log_evidence_se", "hits", "ess", "r_hat",
        "pareto_k", "x[east]", "x[north]", "square[east]", "square[north]",
    ]  # fmt: skip
    assert table.index.name == "mode"
    assert list(table.index) == [0, 1, 2, 3]
    np.testing.assert_array_equal(table["weight"], fit.weights.weight)
    np.testing.assert_array_equal(table["hits"], fit.modes.hits)
    np.testing.assert_array_equal(table[["x[east]", "x[north]"]], fit.modes.locations)
    assert "x[east]" not in mm.mode_table(idata, max_elements=1)


def test_modes_are_ordered_by_weight(one_dimensional):
    table = mm.mode_table(one_dimensional)
    assert (np.abs(table["weight"] - np.array(models.WEIGHTS)) < 4 * table["weight_se"]).all()
    total = np.logaddexp.reduce(table["log_evidence"])
    assert get_dataset(one_dimensional, "modes").attrs["log_evidence"] == pytest.approx(total)
    np.testing.assert_allclose(np.exp(table["log_evidence"] - total), table["weight"])


def test_a_variable_called_weight(one_dimensional):
    modes = get_dataset(one_dimensional, "modes")
    assert modes["weight"].values.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(modes["weight_location"].values, [3.0, -3.0], atol=1e-3)
    table = mm.mode_table(one_dimensional)
    assert {"weight", "weight_location"} <= set(table.columns)
    draws = get_dataset(one_dimensional, "mode_posterior")["weight"].values
    np.testing.assert_allclose(draws.mean(axis=(0, 1)), [3.0, -3.0], atol=0.2)


def test_a_variable_called_weight_from_stats_alone(one_dimensional, tmp_path):
    path = tmp_path / "draws.nc"
    save(one_dimensional, path)
    again = mm.attach(load(path))
    modes = get_dataset(again, "modes")
    np.testing.assert_array_equal(
        modes["weight"].values, get_dataset(one_dimensional, "modes")["weight"].values
    )
    np.testing.assert_allclose(modes["weight_location"].values, [3.0, -3.0], atol=0.2)


def test_attach_can_be_repeated(model, fit):
    idata = mm.sample(10, chains=2, model=model, fit=fit, random_seed=1, **SILENT)
    before = get_dataset(idata, "modes")
    assert mm.attach(idata, fit, model=model) is idata
    after = get_dataset(idata, "modes")
    assert set(after.data_vars) == set(before.data_vars)
    np.testing.assert_array_equal(after["x"].values, before["x"].values)
    with model:
        mm.attach(idata, fit)
    assert group_names(idata).count("modes") == 1


def test_mode_posterior_stays_in_its_mode(idata, fit):
    inside = get_dataset(idata, "mode_posterior")
    assert set(inside.data_vars) == {"x", "square"}
    assert inside["x"].dims == ("chain", "draw", "mode", "axis")
    np.testing.assert_allclose(inside["square"].values, inside["x"].values ** 2)
    for k, x in enumerate(np.moveaxis(inside["x"].values, 2, 0).reshape(4, -1, 2)):
        assert (fit.label(x) == k).all()
        assert np.isfinite(x).all()
        assert len(np.unique(x[:, 0])) > 100
    locations = get_dataset(idata, "modes")["x"].values
    np.testing.assert_array_equal(fit.label(locations), np.arange(4))
    # Draws of a mode, not of a fraction of it: about the mean of x given x**2 near 4.
    np.testing.assert_allclose(inside["x"].values.std(axis=(0, 1)), 0.26, atol=0.06)


def test_draws_are_labelled_by_the_fit(idata, fit):
    x = get_dataset(idata, "posterior")["x"].values
    mode = get_dataset(idata, "sample_stats")["mode"].values
    np.testing.assert_array_equal(fit.label(x.reshape(-1, 2)), mode.ravel())


def test_groups_can_be_added_and_replaced(model, fit):
    idata = mm.sample(5, chains=1, model=model, fit=fit, random_seed=1, **SILENT)
    first = get_dataset(idata, "modes")
    add_group(idata, "modes", first[["weight"]])
    assert list(get_dataset(idata, "modes").data_vars) == ["weight"]


# -------------------------------------------------------------- pictures


def test_plot_modes_of_two_dimensions(idata, figures):
    figure = mm.plot_modes(idata)
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert len(left.patches) == 4
    assert right.get_xlabel() == "x[east]"
    assert right.get_ylabel() == "x[north]"
    figure.canvas.draw()


def test_plot_modes_of_one_dimension(one_dimensional, figures):
    figure = mm.plot_modes(one_dimensional)
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert len(left.patches) == 2
    assert right.get_xlabel() == "weight"
    assert right.get_ylabel() == "density"
    figure.canvas.draw()


def test_plot_modes_of_chosen_variables(idata, figures):
    right = mm.plot_modes(idata, var_names=["square"]).axes[1]
    assert right.get_xlabel() == "square[east]"
    with pytest.raises(ValueError, match="slope"):
        mm.plot_modes(idata, var_names=["slope"])


def test_plot_modes_after_attach(one_dimensional, tmp_path, figures):
    save(one_dimensional, tmp_path / "draws.nc")
    assert isinstance(mm.plot_modes(mm.attach(load(tmp_path / "draws.nc"))), Figure)


def test_names_of_the_model_that_are_ours_too():
    """Dimensions and variables called like our columns once lost the draws."""
    with pm.Model(coords={"mode": ["a", "b"], "bound": [1, 2, 3], "images": [0]}) as model:
        pm.Normal("weight", 0.0, 1.0, dims="mode")
        pm.Normal("hits", 0.0, 1.0, dims="images")
        pm.Normal("sample", [0.0, 1.0, 2.0], 1.0, dims="bound")
        step = mm.MultimodalDiffusion(target_se=0.1, challenge=False, random_seed=1, **SILENT)
        idata = pm.sample(
            5, tune=0, chains=1, step=step, progressbar=False, compute_convergence_checks=False
        )
    whole = mm.sample(5, chains=2, model=model, fit=step.fit, random_seed=1, **SILENT)
    assert get_dataset(whole, "posterior")["weight"].dims == ("chain", "draw", "mode")
    for made in (whole, mm.attach(idata)):
        modes = get_dataset(made, "modes")
        assert modes["weight"].dims == ("mode",)
        assert modes["weight_location"].shape == (1, 2)
        assert modes["sample" if made is whole else "sample_of_model"].shape == (1, 3)
        mm.mode_table(made)
    assert get_dataset(whole, "mode_posterior")["hits"].shape == (4, 125, 1, 1)


def test_only_what_is_derived_may_be_kept(model, fit):
    idata = mm.sample(
        120, chains=2, model=model, fit=fit, random_seed=1, var_names=["square"], **SILENT
    )
    assert list(get_dataset(idata, "posterior").data_vars) == ["square"]


def test_what_pymc_accepts_of_the_conversion_is_accepted(model, fit):
    settings = {"chains": 2, "model": model, "fit": fit, "random_seed": 1, **SILENT}
    idata = mm.sample(5, idata_kwargs={"save_warmup": False, "log_likelihood": True}, **settings)
    assert "log_likelihood" in group_names(idata)


# -------------------------------------------------------------- a fit in place of draws


def test_a_fit_has_a_table_and_a_picture(fit, figures):
    table = mm.mode_table(fit)
    np.testing.assert_array_equal(table["weight"], fit.weights.weight)
    np.testing.assert_array_equal(table[["x[0]", "x[1]"]], fit.modes.locations)
    assert "x[0]" not in mm.mode_table(fit, max_elements=1)
    left, right = mm.plot_modes(fit).axes
    assert len(left.patches) == 4
    assert {right.get_xlabel(), right.get_ylabel()} == {"x[0]", "x[1]"}
    assert mm.plot_modes(fit, ["x"]).axes[1].get_xlabel() == "x[0]"


def test_the_table_prints_whole_in_80_columns(idata):
    table = mm.mode_table(idata)
    text = repr(table)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text
    for name in table.columns:
        assert name.removesuffix("_se") in text, name
    assert "log_evidence ± se" in text
    assert repr(table[["hits"]]) == repr(table.loc[:, ["hits"]]), "a part is an ordinary table"


def test_images_are_counted_everywhere(figures):
    with models.tilted_signs():
        found = mm.fit(random_seed=1, challenge=False, structure=False, quiet=True)
    assert found.n_modes == 2
    assert "64 modes in 2 rows" in repr(found)
    assert "Found 64 modes in 2 rows" in summary_line(found)
    assert mm.mode_table(found)["images"].sum() == 64
    labels = [t.get_text() for t in mm.plot_modes(found).axes[0].get_yticklabels()]
    assert labels == ["0 (32 images)", "1 (32 images)"]
