"""What the pictures show is what the draws and the fit hold."""

from __future__ import annotations

from dataclasses import replace

import drawn
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from scipy.special import expit

import pymc_multimodal as mm
from pymc_multimodal._compat import PYMC6, get_dataset
from pymc_multimodal.challenge import ChallengeResult
from pymc_multimodal.plugin.pictures.canvas import COLOURS
from pymc_multimodal.plugin.pictures.ratios import acceptance_at


@pytest.fixture
def idata(rng):
    """Three modes in thirty dimensions, apart in x[17] alone."""
    centres = np.zeros((3, 30))
    centres[:, 17] = [0.0, 4.0, -4.0]
    return drawn.clusters(centres, [0.6, 0.3, 0.1], rng)


def texts(artists):
    return [a.get_text() for a in artists]


# ------------------------------------------------------------------ weights


def test_bars_are_the_weights_with_their_numbers(idata):
    [axis] = mm.plot_weights(idata).axes
    np.testing.assert_allclose([p.get_width() for p in axis.patches], [0.6, 0.3, 0.1])
    assert [to_hex(p.get_facecolor()).upper() for p in axis.patches] == list(COLOURS[:3])
    assert texts(axis.texts) == ["0.6000±0.0060", "0.3000±0.0030", "0.1000±0.0010"]
    assert axis.get_xscale() == "linear"
    assert axis.get_xlim()[0] == 0.0
    mode = idata["sample_stats"]["mode"].values
    [share] = [line for line in axis.lines if line.get_label() == "share of draws"]
    np.testing.assert_allclose(share.get_xdata(), [np.mean(mode == k) for k in range(3)])


def test_the_intervals_are_drawn(idata):
    idata["modes"] = idata["modes"].to_dataset().assign(
        weight_interval=(("mode", "bound"), [[0.5, 0.7], [0.2, 0.45], [0.05, 0.2]])
    )  # fmt: skip
    [axis] = mm.plot_weights(idata).axes
    [bars] = [c for c in axis.containers if c.get_label() == "weight ± 95 %"]
    [lines] = bars.lines[2]
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    np.testing.assert_allclose(ends, [[0.5, 0.7], [0.2, 0.45], [0.05, 0.2]])


@pytest.mark.parametrize(("lightest", "scale"), [(1e-3, "log"), (0.02, "linear")])
def test_weights_of_several_decades_have_a_logarithmic_scale(rng, lightest, scale):
    weight = [1 - 2 * lightest, lightest, lightest]
    [axis] = mm.plot_weights(drawn.clusters(np.zeros((3, 1)), weight, rng)).axes
    assert axis.get_xscale() == scale
    np.testing.assert_allclose([p.get_width() for p in axis.patches], weight)


def test_all_of_many_modes_are_drawn(rng):
    weight = 1.05 ** -np.arange(300.0)
    idata = drawn.clusters(rng.standard_normal((300, 2)), weight, rng)
    [axis] = mm.plot_weights(idata).axes
    assert axis.get_xlabel() == "mode (all 300, the heaviest first)"
    [points] = [c for c in axis.collections if len(c.get_offsets()) == 300]
    np.testing.assert_allclose(points.get_offsets()[:, 1], weight / weight.sum())


def test_weights_and_errors_that_are_not_known_are_told(rng):
    idata = drawn.clusters(np.zeros((2, 1)), [0.5, 0.5], rng)
    idata["modes"]["weight"][1] = np.nan
    idata["modes"]["weight_se"][:] = np.nan
    [axis] = mm.plot_weights(idata).axes
    assert texts(axis.texts) == ["0.5", "not known"]


def test_the_tempered_search_stands_beside_the_weights(four_modes_fit):
    silent = ChallengeResult.unknown(4, 2, "too few particles.")
    share = np.array([0.1, 0.2, 0.3, 0.4])
    told = replace(silent, log_mass=5.0 + np.log(share), log_mass_se=np.ones(4), inconclusive="")
    [axis] = mm.plot_weights(replace(four_modes_fit, challenge=told)).axes
    [marks] = [c for c in axis.containers if c.get_label() == "tempered search"]
    np.testing.assert_allclose(marks.lines[0].get_xdata(), share)
    [axis] = mm.plot_weights(replace(four_modes_fit, challenge=silent)).axes
    assert "tempered search" not in [c.get_label() for c in axis.containers]


# ------------------------------------------------------------------ corner, marginals, modes


def test_the_corner_shows_the_coordinate_that_separates_the_modes(idata):
    axes = mm.plot_corner(idata).axes
    names = {a.get_xlabel() for a in axes} | {a.get_ylabel() for a in axes}
    assert "x[17]" in names
    [legend] = [a.get_legend() for a in axes if a.get_legend() is not None]
    assert legend.get_title().get_text().startswith("2 of 30 elements")
    assert texts(legend.get_texts())[0] == "mode 0: 0.6000±0.0060"


def test_the_points_of_each_mode_have_its_colour(idata):
    axes = mm.plot_corner(idata, coords={"x_dim_0": [3, 17]}).axes
    axis = next(a for a in axes if a.get_ylabel() == "x[17]")
    x, mode = idata["posterior"]["x"].values.reshape(-1, 30), idata["sample_stats"]["mode"].values
    for k in range(3):
        [line] = [m for m in axis.lines if m.get_color() == COLOURS[k]]
        np.testing.assert_array_equal(line.get_ydata(), x[mode.ravel() == k, 17])
    assert set(texts(axis.texts)) == {"0", "1", "2"}


def test_more_modes_than_colours_are_grey_and_told(rng):
    idata = drawn.clusters(10.0 * rng.standard_normal((40, 2)), np.ones(40), rng)
    axes = mm.plot_corner(idata).axes
    [legend] = [a.get_legend() for a in axes if a.get_legend() is not None]
    assert texts(legend.get_texts())[-1] == "modes 7-39: 0.83 together"


def test_a_single_mode_without_a_colour_has_its_weight_and_error(rng):
    idata = drawn.clusters(10.0 * rng.standard_normal((8, 2)), np.ones(8), rng)
    [legend] = [a.get_legend() for a in mm.plot_corner(idata).axes if a.get_legend() is not None]
    first, *_, last = texts(legend.get_texts())
    assert last.removeprefix("mode 7: ") == first.removeprefix("mode 0: ")


def test_a_square_of_axes_or_one_for_a_pair(idata):
    coords = {"x_dim_0": [3, 17]}
    own = plt.Figure().subplots()
    assert mm.plot_corner(idata, coords=coords, ax=own) is own.figure
    assert (own.get_xlabel(), own.get_ylabel()) == ("x[3]", "x[17]")
    with pytest.raises(ValueError, match="holds 3 axes; this picture needs 4"):
        mm.plot_corner(idata, coords=coords, ax=plt.Figure().subplots(1, 3))


def test_given_axes_say_how_many_elements_there_is_room_for(idata):
    own = plt.Figure().subplots()
    mm.plot_corner(idata, ax=own)
    assert "x[17]" in (own.get_xlabel(), own.get_ylabel())
    axes = plt.Figure().subplots(1, 2)
    mm.plot_marginals(idata, ax=axes)
    assert "x[17]" in [a.get_xlabel() for a in axes]


def test_marginals_are_densities_that_the_modes_add_up_to(idata):
    figure = mm.plot_marginals(idata, "x", coords={"x_dim_0": [2, 17]})
    assert [a.get_xlabel() for a in figure.axes] == ["x[2]", "x[17]"]
    parts = [p.get_data() for p in figure.axes[1].patches]
    width = np.diff(parts[0].edges)
    mode = idata["sample_stats"]["mode"].values
    for k, part in enumerate(parts):
        share = np.sum((part.values - part.baseline) * width)
        assert share == pytest.approx(np.mean(mode == k))
    np.testing.assert_allclose(np.sum(parts[-1].values * width), 1.0)
    mode_numbers = {t.get_text(): t.xy[0] for t in figure.axes[1].texts}
    assert mode_numbers["2"] == pytest.approx(-4.0, abs=0.2)


def test_marginals_of_whole_numbers_have_a_bin_for_each(rng):
    k = rng.integers(0, 4, size=(2, 100))
    figure = mm.plot_marginals(drawn.tree({"k": k}, k % 2, [0.5, 0.5]))
    np.testing.assert_allclose(figure.axes[0].patches[0].get_data().edges, np.arange(-0.5, 4.0))


def test_marginals_of_many_elements_are_those_that_separate(idata):
    names = [a.get_xlabel() for a in mm.plot_marginals(idata).axes]
    assert "x[17]" in names
    assert len(names) == 4
    assert len(mm.plot_marginals(idata, max_elements=1).axes) == 1


@pytest.mark.parametrize("backend", ["none", "plotly"])
def test_other_backends_need_arviz_1_and_draws_of_each_mode(idata, backend):
    with pytest.raises(ValueError, match=r"plot_marginals\(backend=.*(ArviZ 1|mode_posterior)"):
        mm.plot_marginals(idata, backend=backend)


@pytest.mark.skipif(not PYMC6, reason="arviz-plots comes with ArviZ 1")
def test_arviz_draws_the_densities_of_each_mode(idata, rng):
    x = rng.standard_normal((4, 50, 3, 2))
    dims = ("chain", "draw", "mode", "x_dim_0")
    inside = xr.Dataset({"x": (dims, x)}, attrs={"sample_dims": ["chain", "draw"]})
    idata["mode_posterior"] = inside.assign_coords(
        chain=range(4), draw=range(50), mode=range(3), x_dim_0=range(2)
    )
    drawn_by_arviz = mm.plot_marginals(idata, "x", coords={"x_dim_0": [1]}, backend="none")
    assert drawn_by_arviz.data.sizes["x_dim_0"] == 1


# ------------------------------------------------------------------ jumps


def test_jumps_are_the_stays_of_each_chain(rng):
    mode = np.array([[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    idata = drawn.tree({"x": rng.standard_normal((2, 6))}, mode, [0.5, 0.5])
    [axis] = mm.plot_jumps(idata).axes
    spans = [
        [(p[:, 0].min(), p[:, 0].max()) for p in (path.vertices for path in c.get_paths())]
        for c in axis.collections
    ]
    assert spans == [[(-0.5, 1.5), (4.5, 5.5)], [(1.5, 4.5)], [], [(-0.5, 5.5)]]
    assert texts(axis.texts) == ["40%", "0%", "changes"]
    assert "of independent draws, 50% change the mode" in axis.get_xlabel()


def test_jumps_of_a_fit_are_refused(four_modes_fit):
    with pytest.raises(TypeError, match=r"plot_jumps\(fit\) is a Fit.*sample\(fit=fit\)"):
        mm.plot_jumps(four_modes_fit)


# ------------------------------------------------------------------ search


def test_the_curve_of_the_search_counts_the_modes_known(four_modes_fit):
    left, right = mm.plot_search(four_modes_fit).axes
    found = four_modes_fit.modes.start_modes
    # The four modes are images of one, which all climbs have found.
    assert left.get_ylabel() == "modes known, images counted once"
    assert set(found) == {0}
    assert texts(right.texts) == ["0"]
    assert len(found) == four_modes_fit.modes.n_starts == len(four_modes_fit.modes.starts)
    known = [len(set(found[:i]) - {-1}) for i in range(len(found) + 1)]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), known)
    assert {right.get_xlabel(), right.get_ylabel()} == {"x[0]", "x[1]"}
    drawn_starts = sum(len(line.get_xdata()) for line in right.lines)
    assert drawn_starts == len(found)


def test_the_starts_survive_a_file_and_an_old_fit_has_none(four_modes_fit, tmp_path):
    four_modes_fit.save(tmp_path / "fit")
    again = mm.Fit.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.modes.start_modes, four_modes_fit.modes.start_modes)
    old = replace(four_modes_fit, modes=replace(four_modes_fit.modes, starts=None))
    with pytest.raises(ValueError, match=r"keeps no starts.*fit again"):
        mm.plot_search(old)


# ------------------------------------------------------------------ ratios


def test_the_acceptance_follows_from_the_ratios(rng):
    """A wider normal proposal: the acceptance at each draw, by a mean over proposals."""
    x, y, width = rng.standard_normal(20_000), rng.standard_normal(4000), 1.5

    def log_w(v):
        return -0.5 * v**2 + 0.5 * (v / width) ** 2

    direct = np.exp(np.minimum(0.0, log_w(width * y) - log_w(x[:200])[:, None])).mean(axis=1)
    # The error of a mean of 4,000 numbers below 1 is 0.008 at most.
    np.testing.assert_allclose(acceptance_at(log_w(x))[:200], direct, atol=0.035)


def test_equal_ratios_are_always_accepted():
    np.testing.assert_array_equal(acceptance_at(np.full(7, 3.0)), np.ones(7))


def test_ratios_are_drawn_by_mode_around_zero(rng):
    mode = np.tile([0, 1], (2, 500))
    log_ratio = 5.0 + 0.2 * rng.standard_normal((2, 1000))
    idata = drawn.tree({"x": log_ratio}, mode, [0.5, 0.5], log_ratio=log_ratio)
    left, right = mm.plot_ratios(idata).axes
    parts = [p.get_data() for p in left.patches]
    assert [np.sum(p.values - p.baseline) for p in parts] == [1000, 1000]
    middle = 0.5 * (parts[0].edges[1:] + parts[0].edges[:-1])
    assert np.average(middle, weights=parts[-1].values) == pytest.approx(0.02, abs=0.02)
    assert "mean 0.8" in right.get_xlabel() or "mean 0.9" in right.get_xlabel()


def test_the_ratios_of_a_fit_are_those_of_its_draws(four_modes_fit, four_modes, rng):
    """Images of draws are folded before the generator sees them."""
    found = mm.sample(
        400, model=four_modes, fit=four_modes_fit, random_seed=1, quiet=True, progressbar=False
    )
    chains = get_dataset(found, "sample_stats")["log_ratio"].values.ravel()
    local, mode = four_modes_fit.log_ratios(2000, rng)
    assert set(mode) == {0, 1, 2, 3}
    se = np.hypot(chains.std() / np.sqrt(len(chains)), local.std() / np.sqrt(500))
    # Draws of the regions count as a quarter of their number.
    assert abs(chains.mean() - local.mean()) < 4 * se


def test_draws_without_ratios_are_refused(rng):
    idata = drawn.tree({"x": rng.standard_normal((2, 5))}, np.zeros((2, 5), dtype=int), [1.0])
    with pytest.raises(ValueError, match="no log ratios"):
        mm.plot_ratios(idata)
    idata["sample_stats"]["log_ratio"] = idata["posterior"]["x"]
    idata["modes"].attrs["jumps_per_draw"] = 0
    with pytest.raises(ValueError, match="make no jumps"):
        mm.plot_ratios(idata)


# ------------------------------------------------------------------ diffusion


class Shrinking:
    """Noise that is drawn to two points along straight lines."""

    def diffuse(self, n, rng):
        noise = 5.0 * rng.standard_normal((n, 2))
        end = np.where(expit(noise) > 0.5, 2.0, -2.0)
        share = np.linspace(0.0, 1.0, 9)[:, None, None]
        return (1 - share) * noise + share * end


@pytest.fixture
def diffusing(four_modes_fit):
    return replace(four_modes_fit, kernel=replace(four_modes_fit.kernel, generator=Shrinking()))


def test_the_diffusion_goes_from_noise_to_the_modes(diffusing):
    axes = mm.plot_diffusion(diffusing, times=3).axes
    assert [a.get_title() for a in axes] == ["noise", "step 4 of 8", "end"]
    for k, centre in enumerate(diffusing.modes.locations):
        last = next(line for line in axes[-1].lines if line.get_color() == COLOURS[k])
        ends = np.stack(last.get_data(), axis=1)
        np.testing.assert_array_equal(np.sign(ends), np.tile(np.sign(centre), (len(ends), 1)))


def test_the_diffusion_of_one_coordinate_is_drawn_as_paths(diffusing):
    [axis] = mm.plot_diffusion(diffusing, coords={"x_dim_0": 0}).axes
    assert axis.get_ylabel() == "x[0]"
    assert all(len(line.get_xdata()) == 9 for line in axis.lines)


def test_a_generator_without_a_path_is_refused(four_modes_fit):
    with pytest.raises(ValueError, match=r"no path from noise.*generator='lrds'"):
        mm.plot_diffusion(four_modes_fit)
