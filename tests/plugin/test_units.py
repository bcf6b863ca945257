"""What a user sees of a posterior that falls apart into units."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import models
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from matplotlib.figure import Figure

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset, load, save
from pymc_multimodal.plugin.tables import summary_line

SILENT = {"progressbar": False, "quiet": True}
DRAWN = {"chains": 2, "random_seed": 3, "compute_convergence_checks": False, **SILENT}
SEEN, CENTRE = np.array([0.5, 1.0, 0.8]), 0.7
STARS = ["Vega", "Deneb", "Altair"]


def sensors(dim="star", labels=STARS):
    """Values of which only the distance from a point is seen, with a shared mean."""
    with pm.Model(coords={dim: labels, "side": [0, 1]}) as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        z = pm.Normal("z", mu, 1.0, dims=dim)
        pm.Deterministic("both", pm.math.stack([z, 2.0 * z], axis=1), dims=(dim, "side"))
        pm.Normal("y", pm.math.abs(z - CENTRE), 0.1, observed=SEEN, dims=dim)
    return model


def two_means():
    """Units and a mean of either sign, with one sign for all."""
    with pm.Model(coords={"star": STARS}) as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        pm.Normal("level", pm.math.abs(mu), 0.2, observed=2.0)
        z = pm.Normal("z", mu, 1.0, dims="star")
        pm.Normal("y", pm.math.abs(z), 0.1, observed=[1.8, 2.1, 1.5], dims="star")
    return model


def wells(n):
    """Independent double wells."""
    with pm.Model() as model:
        d = pm.Normal("d", 0.0, 2.0, shape=n)
        pm.Potential("p", (0.5 * d + 6.0 * d**2 - d**4).sum())
    return model


def fitted(model, units, random_seed=1):
    return mm.fit(model, structure=mm.Structure(units=units), random_seed=random_seed, **SILENT)


@pytest.fixture(scope="module")
def model():
    return sensors()


@pytest.fixture(scope="module")
def fit(model):
    return fitted(model, "star")


@pytest.fixture(scope="module")
def idata(model, fit):
    return mm.sample(200, model=model, fit=fit, **DRAWN)


@pytest.fixture(scope="module")
def regions():
    """A posterior with two regions of the hubs."""
    return fitted(two_means(), "star")


@pytest.fixture(scope="module")
def many():
    """A posterior with 2^42 modes."""
    return fitted(wells(42), "d")


@pytest.fixture
def figures():
    """Close what a test has drawn."""
    yield plt
    plt.close("all")


# ------------------------------------------------------------------ text


def test_a_fit_says_units_explanations_and_combinations(fit, regions):
    assert fit.described_modes == "3 units with 6 explanations, 8 combinations"
    assert "3 units with 6 explanations, 8 combinations" in repr(fit)
    line = summary_line(fit)
    assert line.startswith("Found 3 units with 6 explanations, 8 combinations; log evidence ")
    assert "start" not in line
    assert sum(fit.seconds.values()) > 0.0
    assert regions.described_modes.endswith("8 combinations, 2 modes of the hubs")
    assert "Modes of the hubs" in repr(regions)
    assert "Explanations of units" in repr(regions)


def test_many_combinations_are_told_by_their_power_of_ten(many):
    assert many.units.log10_combinations == pytest.approx(42 * np.log10(2))
    assert many.units.found == "42 units with 84 explanations, 10^13 combinations"


def test_units_with_one_explanation_each_are_not_spoken_of(caplog):
    """The mean has two modes, and each star one place at either: these are two modes, not units."""
    with pm.Model(coords={"star": STARS}) as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        pm.Normal("level", pm.math.abs(mu), 0.2, observed=2.0)
        z = pm.Normal("z", mu, 1.0, dims="star")
        pm.Normal("y", z, 0.5, observed=[0.3, -0.2, 0.1], dims="star")
    fit = fitted(model, "star")
    assert fit.described_modes == "2 modes"
    text = repr(fit)
    assert "combination" not in text
    assert "start" not in summary_line(fit)
    assert "3 units of 1 coordinate (dim star) share nothing but the hub mu" in " ".join(
        text.split()
    )
    assert "each has one explanation" in text
    table = mm.mode_table(fit)
    assert list(table.index) == [0, 1]
    idata = mm.sample(50, model=model, fit=fit, **DRAWN)
    assert list(mm.mode_table(idata).index) == [0, 1]
    assert get_dataset(idata, "modes").sizes["mode"] == 2
    caplog.set_level("INFO")
    np.testing.assert_array_equal(
        get_dataset(mm.relabel(idata), "posterior")["mu"], get_dataset(idata, "posterior")["mu"]
    )
    assert "relabel changed nothing" in caplog.text


# ------------------------------------------------------------------ table


def test_the_table_has_a_row_for_each_explanation(fit, idata):
    table = mm.mode_table(idata)
    assert table.index.names == ["star", "explanation"]
    assert list(table.index) == [(star, k) for star in STARS for k in (0, 1)]
    np.testing.assert_array_equal(table["weight"], fit.units.weight[:, :2].ravel())
    np.testing.assert_array_equal(table["weight_se"], fit.units.weight_se[:, :2].ravel())
    np.testing.assert_allclose(table["weight"].groupby("star").sum(), 1.0, atol=2e-3)


def test_locations_are_those_of_the_models_variables(idata, fit):
    table = mm.mode_table(idata)
    located = table["z"].to_numpy().reshape(3, 2)
    # The optimum has one of both signs, drawn to the mean by a hundredth of its distance.
    np.testing.assert_allclose(np.abs(located - CENTRE), np.tile(SEEN, (2, 1)).T, atol=0.05)
    np.testing.assert_array_equal(table["both[0]"], table["z"])
    np.testing.assert_array_equal(table["both[1]"], 2.0 * table["z"])
    assert "both[0]" not in mm.mode_table(idata, max_elements=1)
    assert "mu" not in table
    # Of a fit there are the unconstrained coordinates alone, of which z is one.
    alone = mm.mode_table(fit)
    assert list(alone.columns) == ["weight", "weight_se", "z"]
    np.testing.assert_allclose(alone["z"], table["z"])


def test_combinations_agree_with_the_draws(idata, fit):
    combinations = mm.mode_table(idata).combinations
    assert combinations["weight"].sum() == pytest.approx(1.0, abs=0.02)
    assert combinations["weight"].is_monotonic_decreasing
    located = mm.mode_table(idata)["z"].to_numpy().reshape(3, 2)
    z = idata.posterior["z"].values.reshape(-1, 3)
    which = (np.abs(z - located[:, 1]) < np.abs(z - located[:, 0])).astype(int)
    for _, row in combinations.iterrows():
        share = np.mean((which == row[STARS].to_numpy()).all(axis=1))
        # 400 draws, of which a quarter count as independent at least.
        assert share == pytest.approx(row["weight"], abs=4 * np.sqrt(row["weight"] / 100))


def test_weights_and_combinations_of_independent_units_are_those_of_quadrature():
    fit = fitted(wells(3), "d")
    x = np.linspace(-5, 5, 20_001)
    density = np.exp(0.5 * x + 6 * x**2 - x**4 - x**2 / 8)
    right = density[x > 0].sum() / density.sum()
    table = mm.mode_table(fit)
    first = table.xs(0, level="explanation")
    assert (np.abs(first["weight"] - right) < 4 * first["weight_se"]).all()
    best = table.combinations.iloc[0]
    assert abs(best["weight"] - right**3) < 4 * best["weight_se"]
    assert list(best[2:]) == [0, 0, 0]
    assert list(table.index.get_level_values(0)[::2]) == ["d[0]", "d[1]", "d[2]"]


def test_units_of_different_variables_have_unconstrained_locations():
    with pm.Model() as model:
        for name in "ab":
            d = pm.Normal(name, 0.0, 2.0)
            pm.Potential(f"p_{name}", 6.0 * d**2 - d**4)
    table = mm.mode_table(fitted(model, [[0], [1]]))
    assert list(table.columns) == ["weight", "weight_se", "unconstrained[0]"]
    # The optima of 6 d^2 - d^4 - d^2/8.
    np.testing.assert_allclose(np.abs(table["unconstrained[0]"]), np.sqrt(47 / 16), atol=1e-3)


def test_the_text_fits_into_80_columns_and_says_what_it_leaves_out(idata, regions, many):
    few = repr(mm.mode_table(idata))
    assert "Vega" in few
    assert "Left out" not in few
    assert "1 in star Vega" in few
    both = repr(mm.mode_table(regions))
    assert both.startswith("Modes of the hubs")
    text = repr(mm.mode_table(many))
    assert len(mm.mode_table(many)) == 84
    assert "Left out of this text: 44 rows of 22 further units." in text
    assert "d[19]" in text
    assert "d[20]" not in text
    for lines in (few, both, text):
        assert max(map(len, lines.splitlines())) <= 80


def test_what_is_computed_from_the_table_is_an_ordinary_one(idata):
    table = mm.mode_table(idata)
    assert type(table.sort_values("weight")) is pd.DataFrame
    assert len(table.regions) == 1
    assert table.regions.loc[0, "weight"] == 1.0


def test_regions_of_the_hubs_are_a_table_of_modes(regions):
    table = mm.mode_table(regions)
    assert len(table.regions) == 2
    assert (np.abs(table.regions["weight"] - 0.5) < 4 * table.regions["weight_se"]).all()
    weight, error = table["weight"], table["weight_se"]
    assert (np.abs(weight - 0.5) < 4 * error).all()
    # All units have the sign of the mean, but for some draws of the third.
    assert table.combinations["weight"].iloc[:2].sum() > 0.9


# ------------------------------------------------------------------ groups


def test_the_group_modes_has_dimensions_of_units(idata, fit):
    modes = get_dataset(idata, "modes")
    assert modes["unit_weight"].dims == ("unit", "explanation")
    assert list(modes["unit"].values) == STARS
    assert modes["unit_location_both"].dims == ("unit", "explanation", "side")
    assert modes["combination_explanation"].dims == ("combination", "unit")
    np.testing.assert_array_equal(modes["combination_weight"], fit.units.probability)
    assert modes.attrs["units"] == str(fit.units.units)
    assert modes.attrs["unit_dim"] == "star"
    # The location of the region itself is there as before.
    assert modes["z"].dims == ("mode", "star")


def test_a_dimension_that_is_called_unit_stays_the_models():
    labels = np.array([10, 20, 30])
    model = sensors("unit", labels)
    found = mm.sample(20, model=model, fit=fitted(model, "unit"), **DRAWN)
    modes = get_dataset(found, "modes")
    np.testing.assert_array_equal(modes["unit"], labels)
    assert modes["z"].dims == ("mode", "unit")
    assert mm.mode_table(found).index.names == ["unit", "explanation"]


def test_another_dimension_that_is_called_unit_is_renamed():
    with pm.Model(coords={"unit": ["m", "s"]}) as model:
        pm.Normal("scale", 0.0, 1.0, dims="unit")
        d = pm.Normal("d", 0.0, 2.0, shape=3)
        pm.Potential("p", (6.0 * d**2 - d**4).sum())
    found = mm.sample(20, model=model, fit=fitted(model, "d"), **DRAWN)
    modes = get_dataset(found, "modes")
    assert modes["scale"].dims == ("mode", "unit_of_model")
    assert list(modes["unit"].values) == ["d[0]", "d[1]", "d[2]"]


def test_a_file_keeps_the_units(idata, tmp_path):
    save(idata, tmp_path / "draws.nc")
    loaded = load(tmp_path / "draws.nc")
    first, second = mm.mode_table(idata), mm.mode_table(loaded)
    pd.testing.assert_frame_equal(pd.DataFrame(first), pd.DataFrame(second))
    pd.testing.assert_frame_equal(first.combinations, second.combinations)
    assert repr(first) == repr(second)


# ------------------------------------------------------------------ draws


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("cores", [1, 2])
def test_a_step_draws_with_a_loaded_fit_and_the_record_has_the_units(
    model, fit, idata, tmp_path, cores
):
    fit.save(tmp_path / "units.fit")
    with model:
        step = mm.MultimodalDiffusion(fit=mm.Fit.load(tmp_path / "units.fit"), quiet=True)
        found = pm.sample(
            60, tune=0, chains=2, cores=cores, step=step, random_seed=4, progressbar=False,
            compute_convergence_checks=False,
        )  # fmt: skip
    mm.attach(found)
    table, known = mm.mode_table(found), mm.mode_table(idata)
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(known))
    z = found.posterior["z"].values
    assert 0.2 < np.mean(z[..., 0] > CENTRE) < 0.8
    assert (np.abs(np.abs(z - CENTRE) - SEEN) < 0.6).all()


@pytest.mark.slow  # a worker compiles the model anew
def test_workers_give_the_same_draws(model, fit, idata):
    again = mm.sample(200, model=model, fit=fit, workers=2, **DRAWN)
    np.testing.assert_array_equal(again.posterior["z"], idata.posterior["z"])


@pytest.mark.slow  # twenty thousand evaluations in Python
def test_a_model_without_gradient_is_drawn_from_by_units(tmp_path):
    with pm.Model() as model:
        for name in "ab":
            x = pm.Normal(name, 0.0, 3.0, shape=1)
            pm.Normal(f"y_{name}", models.Square()(x), 1.0, observed=[4.0])
    fit = fitted(model, [[0], [1]])
    assert fit.n_grad_evals == 0
    fit.save(tmp_path / "units.fit")
    loaded = mm.Fit.load(tmp_path / "units.fit")
    with model:
        step = mm.MultimodalDiffusion(fit=loaded, quiet=True)
        found = pm.sample(
            100, tune=0, chains=2, cores=1, step=step, random_seed=4, progressbar=False,
            compute_convergence_checks=False,
        )  # fmt: skip
    for name in "ab":
        sign = found.posterior[name].values > 0.0
        # Draws of independent units are nearly independent: 200 of them, of which half count.
        assert np.mean(sign) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 100))


def test_attach_without_the_model_has_unconstrained_locations(model, fit):
    found = mm.sample(20, model=model, fit=fit, **DRAWN)
    before = get_dataset(found, "modes")
    mm.attach(found, fit)
    # The group belongs to the fit: it is kept.
    assert get_dataset(found, "modes").identical(before)
    mm.attach(found, fitted(model, "star", random_seed=2))
    after = get_dataset(found, "modes")
    assert "unit_location_both" not in after
    assert "unit_location_z" in after


def test_the_statuses_of_the_group_name_the_units(idata):
    statuses = json.loads(get_dataset(idata, "modes").attrs["statuses"])
    assert "3 units of 1 coordinate (dim star)" in statuses[0]["cause"]


# ------------------------------------------------------------------ pictures


def test_units_are_drawn_as_stacked_bars_over_their_locations(idata, fit, figures):
    for given in (idata, fit):
        figure = mm.plot_modes(given)
        assert isinstance(figure, Figure)
        upper, lower = figure.axes
        heights = np.array([bar.get_height() for bar in upper.patches]).reshape(-1, 3)
        np.testing.assert_allclose(heights[:2], fit.units.weight[:, :2].T)
        assert [label.get_text() for label in lower.get_xticklabels()] == STARS
    assert lower.get_ylabel() == "location: z"
    assert mm.plot_modes(idata, ["both"]).axes[1].get_ylabel() == "location: both[0]"


def test_regions_of_the_hubs_are_drawn_above_the_units(regions, figures):
    figure = mm.plot_modes(regions)
    assert len(figure.axes) == 4
    assert {axis.get_ylabel() for axis in figure.axes} >= {"mode", "weight (± 95 %)"}


def test_the_path_between_modes_says_whose_modes_they_are(idata, figures):
    assert "modes of the hubs" in mm.plot_jumps(idata).axes[0].get_xlabel()


def test_the_names_of_many_units_are_thinned_out(many, figures):
    assert len(mm.plot_modes(many).axes[1].get_xticklabels()) == 21
