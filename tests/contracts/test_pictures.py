"""All picture functions take the same arguments and leave pyplot as it was."""

from __future__ import annotations

import inspect
from dataclasses import replace

import drawn
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import pymc_multimodal as mm

# Panels of each picture of two variables.
N_AXES = {
    "plot_corner": 4,
    "plot_diffusion": 5,
    "plot_jumps": 1,
    "plot_marginals": 2,
    "plot_modes": 2,
    "plot_ratios": 2,
    "plot_search": 2,
    "plot_weights": 1,
    "plot_compare": 2,
}
OF_VARIABLES = ("plot_corner", "plot_diffusion", "plot_marginals", "plot_modes", "plot_search")
OF_A_FIT = ("plot_diffusion", "plot_search")


class Lines:
    """A generator that turns noise into draws along lines."""

    def diffuse(self, n, rng):
        noise = rng.standard_normal((n, 2))
        return np.linspace(1.0, 0.5, 9)[:, None, None] * noise


@pytest.fixture(scope="module")
def given(four_modes_fit):
    """What each picture is drawn from."""
    rng = np.random.default_rng(1)
    idata = drawn.clusters([[2, 2], [2, -2], [-2, 2]], [0.5, 0.3, 0.2], rng)
    fit = replace(four_modes_fit, kernel=replace(four_modes_fit.kernel, generator=Lines()))
    table = pd.DataFrame(
        {"log_evidence": [1.0, 0.0], "log_evidence_se": 0.1, "probability": [0.7, 0.3],
         "probability_se": 0.01}, index=["a", "b"],
    )  # fmt: skip
    return {n: fit if n in OF_A_FIT else table if n == "plot_compare" else idata for n in N_AXES}


def test_every_picture_is_tested_here():
    public = {n for n in mm.__all__ if n.startswith("plot_")}
    assert public == {*N_AXES, "plot_emulator"}  # which has tests of its own


@pytest.mark.parametrize("name", [*N_AXES, "plot_emulator"])
def test_the_arguments_are_the_same(name):
    parameters = inspect.signature(getattr(mm, name)).parameters
    last = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY][-3:]
    assert last == ["ax", "figsize", "backend"]
    if name in OF_VARIABLES:
        assert list(parameters)[1:3] == ["var_names", "coords"]
    for parameter in list(parameters)[1:]:
        assert f"\n{parameter} : " in inspect.getdoc(getattr(mm, name))


@pytest.mark.parametrize("name", N_AXES)
def test_a_figure_is_returned_once_and_pyplot_is_left_as_it_was(given, name, tmp_path):
    mine = plt.figure()
    try:
        before, settings = plt.get_fignums(), dict(mpl.rcParams)
        figure = getattr(mm, name)(given[name])
        assert isinstance(figure, Figure)
        assert plt.get_fignums() == before
        assert plt.gcf() is mine
        assert not mine.axes
        assert dict(mpl.rcParams) == settings
        figure.savefig(tmp_path / "figure.png")
    finally:
        plt.close(mine)


@pytest.mark.parametrize("name", N_AXES)
def test_the_size_is_taken(given, name):
    figure = getattr(mm, name)(given[name], figsize=(7.5, 6.5), backend="matplotlib")
    np.testing.assert_array_equal(figure.get_size_inches(), (7.5, 6.5))


@pytest.mark.parametrize("name", N_AXES)
def test_given_axes_are_drawn_in(given, name):
    figure = Figure(layout="constrained")
    n = N_AXES[name]
    axes = figure.subplots(1, n)
    assert getattr(mm, name)(given[name], ax=axes) is figure
    assert len(figure.axes) == n
    assert all(a.has_data() or not a.axison for a in np.ravel(axes))
    with pytest.raises(ValueError, match=rf"{name}\(ax=...\) holds {n + 2} axes; .* needs {n}"):
        getattr(mm, name)(given[name], ax=Figure().subplots(1, n + 2))


@pytest.mark.parametrize("name", OF_VARIABLES)
def test_variables_and_coordinates_are_taken(given, name):
    function = getattr(mm, name)
    figure = function(given[name], ["x"], coords={"x_dim_0": [1]})
    said = {a.get_xlabel() for a in figure.axes} | {a.get_ylabel() for a in figure.axes}
    assert "x[1]" in said
    assert "x[0]" not in said
    with pytest.raises(ValueError, match=rf"{name}\(var_names=...\) holds \['nu'\]"):
        function(given[name], ["nu"])
    with pytest.raises(ValueError, match=rf"{name}\(coords=...\) has \[7\]"):
        function(given[name], coords={"x_dim_0": 7})


@pytest.mark.parametrize("name", N_AXES)
@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"ax": 3}, TypeError, r"\(ax=3\) must be matplotlib Axes"),
        ({"ax": []}, TypeError, "must be matplotlib Axes"),
        ({"figsize": 3}, TypeError, r"\(figsize=3\) must be two numbers"),
        ({"figsize": (3, "a")}, TypeError, "must be two numbers"),
        ({"figsize": (3, -1.0)}, ValueError, "positive numbers of inches"),
        ({"backend": "bokey"}, ValueError, r"\(backend='bokey'\): .*Matplotlib"),
        ({"backend": 3}, TypeError, r"\(backend=3\)"),
    ],
)
def test_wrong_arguments_are_named(given, name, wrong, error, says):
    before = plt.get_fignums()
    with pytest.raises(error, match=name + says if says.startswith(r"\(") else says):
        getattr(mm, name)(given[name], **wrong)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("name", N_AXES)
@pytest.mark.parametrize("wrong", [None, "x.nc", 3, [], {}])
def test_what_holds_no_modes_is_refused(name, wrong):
    with pytest.raises(TypeError, match=name):
        getattr(mm, name)(wrong)


@pytest.mark.parametrize("name", sorted({*N_AXES} - {"plot_compare", *OF_A_FIT}))
def test_a_fit_and_draws_are_taken_alike(given, four_modes_fit, name):
    if name == "plot_jumps":
        pytest.skip("a fit has no chains between modes")
    assert isinstance(getattr(mm, name)(four_modes_fit), Figure)
