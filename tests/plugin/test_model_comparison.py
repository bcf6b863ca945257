"""Models are compared by their evidences: table, errors, picture and refusals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import pymc_multimodal as mm
from pymc_multimodal._compat import add_group

DATA = np.array([1.0, 2.0, 0.5])


def evidence(value, error, high=None):
    reach = 1.96 * error if np.isfinite(error) else 0.0
    interval = (value - reach, value + reach if high is None else high)
    return mm.LogEvidence(value, error, interval, "bridge sampling")


@pytest.fixture
def three():
    return {
        "a": evidence(-12.0, 0.1),
        "b": evidence(-10.0, 0.05),
        "c": evidence(-10.0 - np.log(3.0), 0.2),
    }


def conjugate(sd, data=DATA):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, sd)
        pm.Normal("y", x, 1.0, observed=data)
    return model


def draws_of(sd, rng, data=DATA):
    precision = len(data) + sd**-2
    x = data.sum() / precision + rng.standard_normal((4, 300)) / np.sqrt(precision)
    idata = xr.DataTree.from_dict({})
    add_group(idata, "posterior", xr.Dataset({"x": (("chain", "draw"), x)}))
    add_group(idata, "observed_data", xr.Dataset({"y": ("y_dim_0", data)}))
    return idata


def test_bayes_factors_and_probabilities(three):
    table = mm.compare(three)
    assert list(table.index) == ["b", "c", "a"]
    assert list(table["rank"]) == [0, 1, 2]
    assert table["probability"].sum() == pytest.approx(1.0)
    z = np.exp([0.0, -np.log(3.0), -2.0])
    np.testing.assert_allclose(table["probability"], z / z.sum())
    np.testing.assert_allclose(table["bayes_factor"], z)
    np.testing.assert_allclose(table["log_bayes_factor"], np.log(z))
    np.testing.assert_allclose(
        table["log_bayes_factor_se"], [0.0, np.hypot(0.05, 0.2), np.hypot(0.05, 0.1)]
    )


def test_the_text_has_all_numbers_with_their_errors(three):
    table = mm.compare(three)
    lines = repr(table).splitlines()
    assert max(map(len, lines)) <= 80
    assert "log_evidence ± se" in lines[0]
    assert "-10.000±0.050" in lines[2]
    assert "-10.000±0.050" in table._repr_html_()
    assert "probability ± se" not in repr(table[["probability"]])  # an ordinary table


def test_errors_of_probabilities_are_those_of_draws(three, rng):
    """Small errors, so that the linearisation is good."""
    small = {n: evidence(e.log_evidence, 0.1 * e.log_evidence_se) for n, e in three.items()}
    z = np.exp([rng.normal(e.log_evidence, e.log_evidence_se, 20_000) for e in small.values()])
    spread = (z / z.sum(axis=0)).std(axis=1)
    table = mm.compare(small).loc[list(small)]
    np.testing.assert_allclose(table["probability_se"], spread, rtol=0.03)


def test_prior_probabilities_and_reference(three):
    table = mm.compare(three, reference="a", prior={"a": 0.5, "b": 0.25, "c": 0.25})
    assert table.loc["a", "bayes_factor"] == 1.0
    assert table.loc["b", "bayes_factor"] == pytest.approx(np.exp(2.0))
    odds = table.loc["a", "probability"] / table.loc["b", "probability"]
    assert odds == pytest.approx(2.0 * np.exp(-2.0))


def test_unknown_errors_stay_unknown(three):
    table = mm.compare({**three, "d": evidence(-11.0, np.nan, np.inf)})
    assert table["probability_se"].isna().all()
    assert np.isfinite(table.loc["c", "log_bayes_factor_se"])
    # A model that is improbable even by its upper bound changes the others' errors by little.
    table = mm.compare({**three, "d": evidence(-40.0, np.nan, -30.0)})
    assert table["probability_se"].isna().sum() == 1
    known = mm.compare(three)
    np.testing.assert_allclose(
        table.loc[known.index, "probability_se"], known["probability_se"], rtol=1e-3
    )


def test_draws_and_fits(rng, four_modes_fit):
    sds = {"narrow": 0.5, "wide": 4.0}
    table = mm.compare(
        {name: draws_of(sd, rng) for name, sd in sds.items()},
        {name: conjugate(sd) for name, sd in sds.items()},
        random_seed=1,
        quiet=True,
    )
    for name, sd in sds.items():
        exact = multivariate_normal(np.zeros(3), np.eye(3) + sd**2).logpdf(DATA)
        row = table.loc[name]
        assert abs(row["log_evidence"] - exact) < 4 * row["log_evidence_se"]
        assert row["status"] == "ok"
    both = mm.compare({"fit": four_modes_fit, "other": evidence(-4.0, 0.1)})
    assert both.loc["fit", "log_evidence"] == four_modes_fit.weights.total


@pytest.mark.parametrize("n", [2, 3, 12])
def test_the_picture_has_all_models(n):
    entries = {f"model {i}": evidence(-float(i**2), 0.1) for i in range(n)}
    if n == 3:
        entries["unknown"] = evidence(-3.0, np.nan, np.inf)
    figure = mm.plot_compare(mm.compare(entries))
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == list(mm.compare(entries).index)
    assert len(right.patches) == len(entries)
    assert ("not known" in left.get_xlabel()) == (n == 3)
    plt.close(figure)


def test_bad_input_is_refused(three, rng):
    draws, model = draws_of(1.0, rng), conjugate(1.0)
    for arguments, error, match in (
        (([1],), TypeError, "compare_dict"),
        (({"a": three["a"]},), ValueError, "two models or more"),
        (({"a": 3, "b": draws},), TypeError, "a: "),
        (({"a": three["a"], "b": draws},), TypeError, "b.*Give their model"),
        (({"a": three["a"], "b": draws}, {"c": model}), ValueError, r"\['c'\]"),
        (
            ({"a": draws, "b": draws_of(1.0, rng, DATA + 1.0)}, {"a": model, "b": model}),
            ValueError,
            "data of y differ",
        ),
    ):
        with pytest.raises(error, match=match):
            mm.compare(*arguments)
    for keywords, error, match in (
        ({"reference": "z"}, ValueError, "reference"),
        ({"prior": {"a": 1.0}}, ValueError, "prior"),
        ({"prior": {"a": 0.5, "b": 0.5, "c": 0.5}}, ValueError, "sum to 1"),
        ({"prior": {"a": 0.5, "b": 0.5, "c": -0.5}}, ValueError, "must be positive"),
    ):
        with pytest.raises(error, match=match):
            mm.compare(three, **keywords)
    with pytest.raises(TypeError, match="comparison"):
        mm.plot_compare(three)
    with pytest.raises(ValueError, match="what compare"):
        mm.plot_compare(mm.compare(three)[["rank"]])


def test_fits_of_other_data_are_not_compared():
    models = {"a": conjugate(1.0), "b": conjugate(2.0), "c": conjugate(1.0, DATA + 1.0)}
    quiet = {"random_seed": 1, "quiet": True, "progressbar": False}
    fits = {name: mm.fit(model, **quiet) for name, model in models.items()}
    same = {name: fits[name] for name in "ab"}
    assert (
        list(mm.compare(same, models={name: models[name] for name in "ab"})["status"]) == ["ok"] * 2
    )
    with pytest.raises(ValueError, match="the data of y differ between 'a' and 'c'"):
        mm.compare(fits, models=models)
