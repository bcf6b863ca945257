"""Variables and coordinates are chosen as in ArviZ."""

from __future__ import annotations

import drawn
import numpy as np
import pytest
import xarray as xr

from pymc_multimodal.plugin.pictures.elements import shown


@pytest.fixture
def idata(rng):
    coords = {"school": ["Choate", "Deerfield"], "year": [1990, 1991, 1992]}
    return drawn.tree(
        {
            "mu": rng.standard_normal((2, 5)),
            "theta": rng.standard_normal((2, 5, 2, 3)),
            "sigma": rng.standard_normal((2, 5, 2)),
        },
        np.zeros((2, 5), dtype=int), [1.0], dims={"theta": ["school", "year"], "sigma": ["school"]},
        coords=coords,
    )  # fmt: skip


def labels(idata, var_names=None, coords=None):
    return [e.label for e in shown("plot", idata, var_names, coords).elements]


def test_all_elements_have_labels_with_coordinates(idata):
    found = labels(idata)
    assert len(found) == 9
    assert found[:2] == ["mu", "theta[Choate, 1990]"]
    assert found[-1] == "sigma[Deerfield]"


@pytest.mark.parametrize(
    ("var_names", "coords", "expected"),
    [
        ("mu", None, ["mu"]),
        (["sigma", "mu"], None, ["sigma[Choate]", "sigma[Deerfield]", "mu"]),
        ("~theta", {"school": "Choate"}, ["mu", "sigma[Choate]"]),
        (["~theta", "~sigma"], None, ["mu"]),
        ("theta", {"year": [1992, 1990], "school": ["Choate"]},
         ["theta[Choate, 1990]", "theta[Choate, 1992]"]),
        ("theta", {"year": slice(1991, None), "school": np.array(["Deerfield"])},
         ["theta[Deerfield, 1991]", "theta[Deerfield, 1992]"]),
    ],
)  # fmt: skip
def test_variables_and_coordinates_are_chosen(idata, var_names, coords, expected):
    assert labels(idata, var_names, coords) == expected


@pytest.mark.parametrize(
    ("var_names", "coords", "error", "says"),
    [
        ("nu", None, ValueError, r"plot\(var_names=...\) holds \['nu'\].*it has \['mu'"),
        (3, None, TypeError, r"var_names=3\) must be a name of a variable or a list"),
        ([], None, TypeError, r"var_names=\[\]\) must be"),
        (["~mu", "theta"], None, ValueError, "names with ~ and names without"),
        (
            ["~mu", "~theta", "~sigma"],
            None,
            ValueError,
            "leaves out all variables.*Leave out fewer",
        ),
        (None, {"town": 1}, ValueError, r"dimension 'town'.*they have \['school', 'year'\]"),
        (None, {"school": ["Eton"]}, ValueError, r"has \['Eton'\] for 'school'.*Choate"),
        (None, {"year": slice(1980, None)}, ValueError, "for 'year'; the coordinates are"),
        (None, ["school"], TypeError, "coords="),
    ],
)
def test_what_is_not_there_is_named(idata, var_names, coords, error, says):
    with pytest.raises(error, match=says):
        labels(idata, var_names, coords)


def test_coordinates_of_a_fit_have_the_default_names_of_arviz(four_modes_fit):
    assert labels(four_modes_fit) == ["x[0]", "x[1]"]
    assert labels(four_modes_fit, coords={"x_dim_0": 1}) == ["x[1]"]
    given = shown("plot", four_modes_fit)
    np.testing.assert_array_equal(given.elements[1].places, four_modes_fit.modes.locations[:, 1])
    x = np.stack([e.values for e in given.elements], axis=1)
    np.testing.assert_array_equal(given.mode, four_modes_fit.label(x))


def test_modes_of_draws_need_the_dimensions_of_draws(idata):
    idata["sample_stats"] = xr.Dataset({"mode": ("draw", np.zeros(10, dtype=int))})
    with pytest.raises(ValueError, match=r"has the dimensions \('draw',\); it needs 'chain'"):
        shown("plot", idata)


def test_names_of_the_model_may_be_ours(rng):
    values = {"weight": rng.standard_normal((2, 4, 3)), "hits": rng.standard_normal((2, 4))}
    dims = {"weight": ["sample"]}
    idata = drawn.tree({"x": rng.standard_normal((2, 4))}, np.zeros((2, 4), dtype=int), [1.0])
    idata["posterior"] = drawn.tree(values, np.zeros((2, 4), dtype=int), [1.0], dims=dims,
                                    coords={"sample": ["a", "b", "c"]})["posterior"]  # fmt: skip
    assert labels(idata) == ["weight[a]", "weight[b]", "weight[c]", "hits"]


def test_draws_of_other_samplers_are_refused(idata):
    del idata["sample_stats"]
    with pytest.raises(ValueError, match="do not say to which modes they belong"):
        shown("plot", idata)
