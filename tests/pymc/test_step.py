"""The step method inside ``pm.sample``: fitted once, the same draws however they are spread."""

from __future__ import annotations

import logging

import models
import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from engines import Here
from pymc.step_methods import STEP_METHODS
from pymc.step_methods.compound import Competence

import pymc_multimodal as mm
from pymc_multimodal import MultimodalDiffusion
from pymc_multimodal._compat import ess, get_dataset, group_names, load, rhat, save
from pymc_multimodal.model import layout, unflatten
from pymc_multimodal.plugin import fitting
from pymc_multimodal.plugin.traces import NO_RECORD, STATS, as_stat

SCALARS = {"lp", "mode", "accepted", "log_ratio"}


@pytest.fixture(scope="module")
def fits():
    """The densities that were fitted in this process while the module's tests run."""
    calls = []
    original = fitting.fit_density

    def counted(density, *args, **kwargs):
        calls.append(density.names)
        return original(density, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit_density", counted)
        yield calls


@pytest.fixture(scope="module")
def model():
    return models.unequal()


@pytest.fixture(scope="module")
def step(model, fits):
    before = len(fits)
    made = MultimodalDiffusion(random_seed=1, progressbar=False, quiet=True, model=model)
    assert len(fits) == before + 1
    return made


def draw(model, step, **kwargs):
    settings = {
        "draws": 400, "tune": 0, "chains": 2, "cores": 1, "random_seed": 3,
        "progressbar": False, "compute_convergence_checks": False,
    } | kwargs  # fmt: skip
    return pm.sample(step=step, model=model, **settings)


@pytest.fixture(scope="module")
def idata(model, step):
    return draw(model, step)


def assert_same_draws(a, b):
    for group in ("posterior", "sample_stats"):
        one, two = get_dataset(a, group), get_dataset(b, group)
        assert set(one.data_vars) == set(two.data_vars)
        for name in one.data_vars:
            np.testing.assert_array_equal(one[name].values, two[name].values, err_msg=str(name))


def test_data_that_changed_after_the_fit_are_refused():
    with pm.Model() as changed:
        data = pm.Data("data", np.array([1.8, 2.1, 2.0]))
        x = pm.Normal("x", 0.5, 2.0)
        pm.Normal("y", pm.math.abs(x), 0.3, observed=data)
        step = MultimodalDiffusion(random_seed=1, quiet=True, progressbar=False)
        pm.set_data({"data": np.array([0.9, 1.1, 1.3])})
    with pytest.raises(mm.FitError, match="the model or its data changed"):
        draw(changed, step)


def test_two_processes_give_the_same_draws(model, step, fits, idata):
    before = len(fits)
    assert_same_draws(idata, draw(model, step, cores=2, mp_ctx="fork"))
    assert len(fits) == before


@pytest.mark.slow  # each process compiles the model anew
@pytest.mark.parametrize("mp_ctx", ["forkserver", "spawn"])
def test_processes_started_afresh_give_the_same_draws(model, step, fits, idata, mp_ctx):
    before = len(fits)
    assert_same_draws(idata, draw(model, step, cores=2, mp_ctx=mp_ctx))
    assert len(fits) == before


def test_a_second_call_reuses_the_fit(model, step, fits, idata):
    before = len(fits)
    assert_same_draws(idata, draw(model, step))
    other = draw(model, step, random_seed=4, draws=50)
    assert len(fits) == before
    again, first = (get_dataset(i, "posterior")["x"].values[:, :50] for i in (other, idata))
    assert not np.any(again == first)


def test_chains_are_not_alike(idata):
    x = get_dataset(idata, "posterior")["x"].values
    assert not np.any(x[0] == x[1])


def test_sample_stats_travel_with_the_draws(step, idata):
    stats = get_dataset(idata, "sample_stats")
    assert set(stats.data_vars) == SCALARS | {"fit_record"}
    for name in SCALARS:
        assert stats[name].dims == ("chain", "draw")
        assert stats[name].shape == (2, 400)
        assert np.isfinite(stats[name].values).all()
    assert stats["mode"].dtype.kind == "i"
    assert stats["accepted"].values.min() >= 0
    assert stats["accepted"].values.max() <= 1


def test_the_record_of_the_fit_travels_once_per_chain(model, step, idata):
    record = get_dataset(idata, "sample_stats")["fit_record"].values
    assert record.shape == (2, 400, 1)
    assert record[0, 0, 0] == record[1, 0, 0] != ""
    assert (record[:, 1:] == "").all()
    # After draws that PyMC discards it is sent again; with those that it keeps it comes twice.
    tuned = draw(model, step, tune=3, draws=5, discard_tuned_samples=False)
    for group in ("warmup_sample_stats", "sample_stats"):
        assert get_dataset(tuned, group)["fit_record"].values[0, 0, 0] == record[0, 0, 0]


@pytest.mark.parametrize("n_modes", [2, 64])
def test_statistics_of_a_draw_do_not_grow_with_the_number_of_modes(n_modes):
    """PyMC's Zarr trace needs whole numbers as shapes, and values of these shapes."""
    record = as_stat("x" * 100 * n_modes)
    for name, (dtype, shape) in STATS.items():
        values = [record, NO_RECORD, NO_RECORD] if name == "fit_record" else [0.0, 1.0, 2.0]
        assert np.stack(values).shape == (3, *map(int, shape))
        assert np.zeros(3, dtype).nbytes == 3 * 8


@pytest.mark.filterwarnings("ignore:`return_inferencedata=False` is deprecated:FutureWarning")
@pytest.mark.parametrize("draws_per_chunk", [1, 7])
def test_draws_travel_through_a_zarr_trace(model, step, draws_per_chunk):
    """Runs where zarr is installed: PyMC needs a version below 3, and numcodecs below 0.16.

    The arrays are read by zarr, because later versions of xarray do not read such stores.
    """
    zarr = pytest.importorskip("zarr", exc_type=ImportError)
    trace = pm.backends.ZarrTrace(store=zarr.MemoryStore(), draws_per_chunk=draws_per_chunk)
    settings = {"draws": 30, "tune": 2, "chains": 2}
    draw(model, step, trace=trace, return_inferencedata=False, **settings)
    plain = draw(model, step, **settings)
    for name, values in get_dataset(plain, "posterior").data_vars.items():
        np.testing.assert_array_equal(trace.posterior[name][:], values)
    stats = get_dataset(plain, "sample_stats")
    for name in (*SCALARS, "fit_record"):
        stored = trace.sample_stats[f"sampler_0__{name}"][:]
        np.testing.assert_array_equal(stored, stats[name].values)
    assert stored[0, 0, 0] != ""


def test_lp_and_mode_belong_to_the_draw(model, step, idata):
    stats, posterior = get_dataset(idata, "sample_stats"), get_dataset(idata, "posterior")
    x = np.stack([posterior["x"].values.ravel(), np.log(posterior["sigma"].values.ravel())], axis=1)
    np.testing.assert_allclose(stats["lp"].values.ravel(), step.density.logp(x))
    np.testing.assert_array_equal(stats["mode"].values.ravel(), step.fit.label(x))
    np.testing.assert_array_equal(stats["mode"].values.ravel(), np.where(x[:, 0] > 0, 0, 1))


def test_weights_are_right_and_the_draws_agree_with_them(step, idata):
    weight, error = step.fit.weights.weight, step.fit.weights.weight_se
    assert (np.abs(weight - models.WEIGHTS) < 4 * error).all()
    mode = get_dataset(idata, "sample_stats")["mode"].values
    indicator = (mode == 0).astype(float)
    size = ess(indicator, "mean")[0]
    assert size > 0.2 * mode.size
    allowed = np.sqrt(weight[0] * weight[1] / size + error[0] ** 2)
    assert abs(indicator.mean() - weight[0]) < 4 * allowed


def test_draws_within_a_mode_are_right(idata):
    posterior = get_dataset(idata, "posterior")
    assert rhat(posterior["x"].values)[0] < 1.03
    assert rhat(posterior["sigma"].values)[0] < 1.03
    x = posterior["x"].values
    upper = x[x > 0]
    assert abs(upper.mean() - 3.0) < 4 * 0.5 / np.sqrt(0.2 * len(upper))
    assert abs(upper.std() - 0.5) < 0.1


def test_nothing_is_warned_of(model, step, caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    draw(model, step, chains=4, draws=300, tune=20, compute_convergence_checks=True)
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_the_fit_says_what_it_found(model, step, caplog):
    caplog.set_level(logging.INFO, logger="pymc")
    made = MultimodalDiffusion(
        model=model,
        random_seed=5,
        target_se=0.05,
        progressbar=False,
        modes=mm.ModeSearch(starts=64),
    )
    said = [r.getMessage() for r in caplog.records if r.name == "pymc.multimodal"]
    assert any("Found 2 modes from 64 starts" in s for s in said)
    assert not any("random_seed" in s for s in said)
    assert made.fit.config.random_seed == 5


def test_a_given_fit_is_used(model, step, fits, idata):
    before = len(fits)
    other = MultimodalDiffusion(model=model, fit=step.fit, progressbar=False)
    assert other.fit is step.fit
    assert len(fits) == before
    assert_same_draws(idata, draw(model, other))


def test_variables_may_be_spelt_out(model, step, fits):
    before = len(fits)
    other = MultimodalDiffusion([model["sigma"], model["x"]], model=model, fit=step.fit)
    assert [v.name for v in other.vars] == [v.name for v in model.value_vars]
    assert len(fits) == before


def test_it_is_never_assigned_by_itself(model):
    assert MultimodalDiffusion.competence(model["x"], True) == Competence.INCOMPATIBLE
    assert MultimodalDiffusion not in STEP_METHODS


def test_initial_points_are_left_to_the_fit(model, step, idata):
    far = draw(model, step, initvals={"x": 1e3, "sigma": 50.0}, draws=20)
    x = get_dataset(far, "posterior")["x"].values
    assert np.abs(x).max() < 10


# -------------------------------------------------------------- results


def test_the_step_attaches_its_modes(model, step):
    idata = draw(model, step, draws=30)
    assert step.attach(idata) is idata
    assert {"modes", "mode_posterior"} <= set(group_names(idata))
    modes = get_dataset(idata, "modes")
    np.testing.assert_array_equal(modes["weight"].values, step.fit.weights.weight)
    np.testing.assert_allclose(modes["x"].values, [3.0, -3.0], atol=1e-3)


def test_attach_from_stats_alone(model, step, idata, tmp_path):
    path = tmp_path / "draws.nc"
    save(idata, path)
    loaded = load(path)
    assert "modes" not in group_names(loaded)
    mm.attach(loaded)
    assert "modes" in group_names(loaded)
    modes, weights = get_dataset(loaded, "modes"), step.fit.weights
    whole = get_dataset(step.attach(draw(model, step, draws=5)), "modes")
    locations = ["x", "sigma", "sigma_log__"]
    xr.testing.assert_equal(
        modes.drop_vars(locations, errors="ignore"), whole.drop_vars(locations, errors="ignore")
    )
    assert set(modes.attrs) - set(whole.attrs) == {"rebuilt_from"}
    for name, value in whole.attrs.items():
        np.testing.assert_equal(modes.attrs[name], value)
    np.testing.assert_allclose(modes["x"].values, [3.0, -3.0], atol=0.3)
    assert (modes["sigma"].values > 0).all()
    assert modes.attrs["log_evidence"] == pytest.approx(weights.total)
    assert modes.attrs["log_evidence_se"] == pytest.approx(weights.total_se)
    table = mm.mode_table(loaded)
    assert list(table.index) == [0, 1]
    assert {"weight", "weight_se", "status", "x", "sigma"} <= set(table.columns)
    assert "fit_record" not in get_dataset(loaded, "sample_stats")
    # Nothing is lost when it is called again.
    before = get_dataset(loaded, "modes")
    xr.testing.assert_identical(get_dataset(mm.attach(loaded), "modes"), before)


def test_draws_without_their_beginning_need_the_fit(step, model):
    idata = draw(model, step, draws=20).isel(draw=slice(5, None))
    with pytest.raises(ValueError, match=r"no record of a fit.*cut off.*attach\(idata, fit\)"):
        mm.attach(idata)
    alone = get_dataset(mm.attach(idata.copy(), step.fit), "modes")
    np.testing.assert_array_equal(alone["weight"].values, step.fit.weights.weight)
    np.testing.assert_allclose(alone["x"].values, [3.0, -3.0], atol=0.8)
    assert alone.attrs["locations_from"] == "the draws of highest density"
    assert "modes" in group_names(mm.attach(idata, step.fit, model=model))


def test_attach_with_the_fit_alone_needs_no_model_and_keeps_what_is_there(step, model):
    idata = draw(model, step, draws=20)
    record = get_dataset(mm.attach(idata.copy()), "modes").attrs
    fresh = get_dataset(mm.attach(idata.copy(), step.fit), "modes").attrs
    assert [fresh[n] for n in ("symmetry", "reference")] == [
        record[n] for n in ("symmetry", "reference")
    ]
    whole = get_dataset(step.attach(idata), "modes")
    assert "fit_record" not in get_dataset(idata, "sample_stats")
    xr.testing.assert_identical(get_dataset(mm.attach(idata, step.fit), "modes"), whole)


def test_a_mode_that_no_draw_visited_has_no_location(model, step):
    idata = draw(model, step, draws=1, chains=1)
    mm.attach(idata)
    modes = get_dataset(idata, "modes")
    visited = int(get_dataset(idata, "sample_stats")["mode"].values[0, 0])
    assert np.isfinite(modes["x"].values[visited])
    assert np.isnan(modes["x"].values[1 - visited])
    assert modes["weight"].values.sum() == pytest.approx(1.0)


def test_the_inline_call(model, fits):
    before = len(fits)
    with model:
        idata = pm.sample(step=MultimodalDiffusion())
    assert len(fits) == before + 1
    frequency = (get_dataset(idata, "posterior")["x"].values > 0).mean()
    assert frequency == pytest.approx(models.WEIGHTS[0], abs=0.08)
    mm.attach(idata)
    np.testing.assert_allclose(
        get_dataset(idata, "modes")["weight"].values, models.WEIGHTS, atol=0.05
    )


def test_one_seed_for_fit_and_chains_is_no_common_stream(step):
    """PyMC spawns its chains' generators from the seed, and a fit those of its stages."""
    [stage], [chain] = np.random.default_rng(3).spawn(1), np.random.default_rng(3).spawn(1)
    step.set_rng(chain)
    ours = step.rng.bit_generator.state["state"]
    assert ours not in (stage.bit_generator.state["state"], chain.bit_generator.state["state"])


def test_workers_are_not_for_the_chains(model, step):
    """PyMC's chain processes are daemons, which may not have children."""
    engine = Here()
    other = MultimodalDiffusion(model=model, fit=step.fit, workers=engine, progressbar=False)
    assert engine.tasks
    assert other.density.workers == 1


def test_points_have_the_types_of_their_variables():
    with pytensor.config.change_flags(floatX="float32"), pm.Model() as single:
        pm.HalfNormal("s", shape=2)
        [point] = unflatten(layout(single), np.zeros((1, 2)))
    assert [v.dtype for v in point.values()] == ["float32"]
