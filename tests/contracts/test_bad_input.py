"""Bad input gets a clear error that names the culprit and the remedy, before any long work."""

from __future__ import annotations

import models
import numpy as np
import pymc as pm
import pytest
from structured import centred, walk

import pymc_multimodal as mm
from pymc_multimodal import FitError, ModelError, MultimodalDiffusion
from pymc_multimodal.fit import fit_density

ENTRIES = {
    "step": lambda model, **kwargs: MultimodalDiffusion(
        model=model, progressbar=False, quiet=True, **kwargs
    ),
    "fit": lambda model, **kwargs: mm.fit(model, progressbar=False, quiet=True, **kwargs),
    "sample": lambda model, **kwargs: mm.sample(
        20, chains=2, model=model, progressbar=False, quiet=True, **kwargs
    ),
}

every_entry = pytest.mark.parametrize("enter", ENTRIES.values(), ids=ENTRIES.keys())


@pytest.fixture
def no_fit(monkeypatch):
    """Fail as soon as a density is fitted."""

    def begin(*args, **kwargs):
        pytest.fail("a fit began before the error")

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.fit_density", begin)


@pytest.fixture
def no_sampling(monkeypatch):
    """Fail as soon as a fit goes on to a stage after the search for modes."""

    def report(stage, text):
        assert stage in ("search", "preview"), f"the stage {stage!r} began before the error"

    def search(density, config, **kwargs):
        return fit_density(density, config, report=report)

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.fit_density", search)


@pytest.fixture
def no_evaluations(monkeypatch):
    """Fail if a fit has evaluated its density before the error."""
    densities = []

    def recorded(density, *args, **kwargs):
        densities.append(density)
        return fit_density(density, *args, **kwargs)

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.fit_density", recorded)
    yield
    # Wrong columns are refused before there is a density.
    assert not any(density.spent() for density in densities)


@pytest.fixture(scope="module")
def unimodal():
    return models.unimodal()


@pytest.fixture
def fitted(four_modes, four_modes_fit):
    """A model with data, and a fit of it."""
    return four_modes, four_modes_fit


# -------------------------------------------------------------- models that cannot be sampled


@every_entry
def test_discrete_variables_without_bounds(no_fit, enter):
    with pm.Model() as model:
        group = pm.Bernoulli("group", 0.3)
        pm.Poisson("count", 2.0)
        x = pm.Normal("x", 4.0 * group, 1.0)
        pm.Normal("y", x, 1.0, observed=1.0)
    match = r"discrete variable count \(Poisson\).*group can.*Truncated"
    with pytest.raises(ModelError, match=match):
        enter(model)


def test_a_discrete_variable_beside_another_step_is_named_first(no_fit):
    """Not the advice to leave `vars` out, which would not help."""
    with pm.Model() as model:
        group = pm.Bernoulli("group", 0.3)
        x = pm.Normal("x", 4.0 * group, 1.0)
        with pytest.raises(ModelError, match=r"discrete variables group to another step"):
            pm.sample(step=[MultimodalDiffusion([x]), pm.Metropolis([group])], model=model)


def test_a_prior_without_random_draws_is_named(no_sampling):
    with pm.Model() as model:
        pm.Normal("a", 0.0, 1.0)
        pm.CustomDist("wells", logp=lambda value: -((pm.math.abs(value) - 2.0) ** 2))
    with pytest.raises(ModelError, match=r"prior of wells.*random=function.*starts="):
        mm.fit(model, quiet=True)


# PyMC announces that it imputes.
@pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
def test_missing_data_are_explained(monkeypatch, four_modes_fit, caplog):
    monkeypatch.setattr(
        "pymc_multimodal.plugin.fitting.fit_density", lambda *a, **k: four_modes_fit
    )
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0, observed=np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 1]))
        pm.Normal("y", x, 1.0, observed=np.ma.masked_array([1.0, 2.0, 3.0], [1, 0, 0]))
    caplog.set_level("INFO", logger="pymc")
    mm.fit(model, random_seed=1, progressbar=False)
    assert "2 values in x_unobserved, 1 value in y_unobserved" in caplog.text
    assert "posterior_predictive" in caplog.text


@every_entry
def test_no_free_variables(no_fit, enter):
    with pm.Model() as model:
        pm.Normal("y", 0.0, 1.0, observed=1.0)
    # As a step, PyMC itself is first to say so.
    with pytest.raises(ValueError, match=r"[Nn]o free (random )?variables"):
        enter(model)


@every_entry
def test_a_minibatch_is_refused_as_random(no_fit, enter):
    batch = pm.Minibatch(np.arange(50.0), batch_size=5)
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", x, 1.0, observed=batch, total_size=50)
    with pytest.raises(ModelError, match=r"random.*Minibatch"):
        enter(model)


# PyMC 6.4 builds simulators in a way that PyTensor has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@every_entry
def test_a_simulator_is_refused_as_random(no_fit, enter):
    def simulate(rng, mu, size):
        return rng.normal(mu, 1.0, size=size)

    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Simulator("s", simulate, x, epsilon=1.0, observed=np.zeros(5))
    with pytest.raises(ModelError, match=r"random.*Simulator"):
        enter(model)


@every_entry
@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "-inf"])
def test_a_log_density_that_is_nowhere_finite(no_sampling, enter, value):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Potential("bad", pm.math.switch(pm.math.le(x**2, -1.0), 0.0, value))
    with pytest.raises(ModelError, match=r"(?s)NaN or -inf.*debug.*starts="):
        enter(model)


def test_given_starts_with_no_density(no_sampling):
    with pm.Model() as model:
        x = pm.HalfNormal("x", 1.0, default_transform=None)
        pm.Normal("y", x, 1.0, observed=1.0)
    with pytest.raises(ModelError, match="NaN or -inf at all of the given points"):
        mm.fit(model, modes=mm.ModeSearch(starts=np.array([[-1.0], [-2.0]])), quiet=True)


class Broken(models.Square):
    def perform(self, node, inputs, outputs):
        raise ArithmeticError("the mesh is tangled")


def test_a_model_that_always_raises(no_sampling):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", Broken()(x), 1.0, observed=1.0)
    with pytest.raises(ModelError, match="the mesh is tangled"):
        mm.fit(model, progressbar=False, quiet=True, compile_kwargs={"mode": "FAST_COMPILE"})


def flat():
    with pm.Model() as model:
        x = pm.Flat("level")
        pm.Normal("y", x**2, 1.0, observed=4.0)
    return model


@every_entry
def test_a_flat_prior_without_starts(no_evaluations, enter):
    with pytest.raises(ModelError, match=r"level.*Flat.*starts="):
        enter(flat())


@pytest.mark.parametrize(
    "modes",
    [
        mm.ModeSearch(starts=np.linspace(-4.0, 4.0, 9)[:, None]),
        mm.ModeSearch(locations=[{"level": 2.0}, {"level": -2.0}]),
    ],
    ids=["starts", "locations"],
)
def test_a_flat_prior_with_starts(modes):
    fit = mm.fit(flat(), modes=modes, random_seed=1, progressbar=False, quiet=True)
    assert fit.n_modes == 2
    np.testing.assert_allclose(fit.weights.weight, 0.5, atol=4 * fit.weights.weight_se.max())


# -------------------------------------------------------------- use as a step


def test_only_some_of_the_variables(no_fit):
    model = models.unequal()
    with pytest.raises(ModelError, match=r"(?s)part of.*sigma.*leave `vars` out"):
        MultimodalDiffusion([model["x"]], model=model)


def test_variables_one_by_one(no_fit):
    with pytest.raises(ModelError, match="blocked"):
        MultimodalDiffusion(blocked=False, model=models.unequal())


def test_a_call_without_a_model_is_told_of_the_context(no_fit):
    with pytest.raises(TypeError, match="context"):
        MultimodalDiffusion()
    with pytest.raises(TypeError, match="context"):
        mm.sample()


# -------------------------------------------------------------- a fit that does not belong


@pytest.mark.parametrize("entry", ["step", "sample"])
def test_data_changed_since_the_fit(no_fit, fitted, entry):
    model, fit = fitted
    pm.set_data({"data": [9.0, 4.0]}, model=model)
    try:
        with pytest.raises(FitError, match=r"data changed.*Fit again"):
            ENTRIES[entry](model, fit=fit)
    finally:
        pm.set_data({"data": [4.0, 4.0]}, model=model)
    ENTRIES[entry](model, fit=fit)


@pytest.mark.parametrize("entry", ["step", "sample"])
def test_fit_of_another_model(no_fit, fitted, unimodal, entry):
    with pytest.raises(FitError, match=r"x\[0\].*'x'"):
        ENTRIES[entry](unimodal, fit=fitted[1])


def test_fit_of_another_model_with_the_same_variables(no_fit, fitted):
    with pm.Model() as model:
        pm.Normal("x", 0.0, 3.0, shape=2)
    with pytest.raises(FitError, match="Fit again"):
        mm.sample(10, model=model, fit=fitted[1], quiet=True)


# -------------------------------------------------------------- settings


@every_entry
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("target_se", 2, "target_se=2.*between 0 and 1"),
        ("target_se", 0.0, "target_se.*between 0 and 1"),
        ("target_se", np.nan, "target_se.*between 0 and 1"),
        ("max_evals", -1, "max_evals=-1.*positive"),
        ("max_seconds", 0, "max_seconds=0.*positive"),
        ("generator", "nope", "nope.*not known.*hybrid"),
        ("workers", 0, "workers=0.*at least 1"),
    ],
)
def test_settings_out_of_range(no_fit, unimodal, enter, name, value, says):
    with pytest.raises(ValueError, match=says):
        enter(unimodal, **{name: value})


@every_entry
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("workers", 1.5, "workers=1.5.*whole number"),
        ("compile_kwargs", "FAST_RUN", "compile_kwargs='FAST_RUN'"),
        ("random_seed", "today", "seed|int"),
        ("max_eval", 3, r"no argument 'max_eval'; did you mean 'max_evals'\?.*random_seed"),
        ("zeal", 3, r"\(\) has no argument 'zeal'\. Its arguments are .*target_se"),
    ],
)
def test_settings_of_a_wrong_type_or_name(no_fit, unimodal, enter, name, value, says):
    with pytest.raises(TypeError, match=says):
        enter(unimodal, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("progressbar", "yes"), ("quiet", 1)])
def test_flags_are_true_or_false(no_fit, unimodal, name, value):
    with pytest.raises(TypeError, match=rf"{name}={value!r}\) must be True or False"):
        mm.fit(unimodal, **{"quiet": True, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("draws", 0, ValueError),
        ("draws", 10.0, TypeError),
        ("draws", "many", TypeError),
        ("tune", -1, ValueError),
        ("chains", 0, ValueError),
        ("chains", True, TypeError),
    ],
)
def test_numbers_of_draws(no_fit, unimodal, name, value, error):
    says = "whole number" if error is TypeError else "at least"
    with pytest.raises(error, match=f"{name}={value!r}.*{says}"):
        mm.sample(model=unimodal, **{name: value})


@pytest.mark.parametrize("entry", ["step", "sample"])
@pytest.mark.parametrize("name", ["target_se", "modes", "challenge", "max_seconds"])
def test_settings_beside_a_fit_are_refused(no_fit, fitted, entry, name):
    model, fit = fitted
    value = getattr(fit.config, name) or 10.0
    with pytest.raises(TypeError, match=f"{name}= cannot be given together with fit="):
        ENTRIES[entry](model, fit=fit, **{name: value})


def test_a_seed_beside_a_fit_is_for_the_chains_of_sample_alone(no_fit, fitted):
    model, fit = fitted
    with pytest.raises(TypeError, match="random_seed= cannot be given together with fit="):
        MultimodalDiffusion(model=model, fit=fit, random_seed=1)
    ENTRIES["sample"](model, fit=fit, random_seed=1)


@pytest.mark.parametrize("entry", ["step", "sample"])
def test_what_is_given_as_a_fit_has_to_be_one(no_fit, unimodal, entry):
    with pytest.raises(TypeError, match=r"fit=3\) is an int; give the result of fit\(\)"):
        ENTRIES[entry](unimodal, fit=3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: mm.ModeSearch(radius=1.0), "radius.*locations"),
        (lambda: mm.ModeSearch(starts=0), "starts=0"),
        (lambda: mm.ModeSearch(stretch=0.0), "stretch=0.0"),
        (lambda: mm.ModeSearch(optimiser="newton"), "newton.*lbfgs"),
        (lambda: mm.Regions(method="x"), "method='x'.*'svc'.*'nearest'"),
        (lambda: mm.Regions(C=-1.0), "C=-1.0"),
        (lambda: mm.Regions(kernel="poly"), "kernel='poly'.*'linear'"),
        (lambda: mm.Regions(max_svc_modes=-1), "max_svc_modes=-1.*at least 0"),
        (lambda: mm.Hybrid(families=("gaussian", "flow")), "flow"),
        (lambda: mm.Hybrid(max_components=0), "max_components=0"),
        (lambda: mm.Network(score_weight=np.nan), "score_weight=nan"),
        (lambda: mm.Network(device="gpu0"), "device='gpu0'.*torch.*'cpu'"),
        (lambda: mm.PublishedHybrid(device="gpu0"), "device='gpu0'.*torch.*'cpu'"),
        (lambda: mm.LRDS(start="normal"), "start='normal'.*no effect.*exponential"),
        (lambda: mm.LRDS(reference="gaussian", components=3), "components=3.*no effect"),
        (lambda: mm.LRDS(process="pinned", max_noise=5.0), "max_noise=5.0.*no effect"),
        (lambda: mm.Hybrid(min_gain=-1.0), "min_gain=-1.0"),
        (lambda: mm.Hybrid(defensive_df=0.0), "defensive_df=0.0"),
        (lambda: mm.Hybrid(families=()), "families"),
        (lambda: mm.Hybrid(defensive=0.0), "defensive"),
        (lambda: mm.ScoreLangevin(objective="sliced"), "objective='sliced'.*'implicit'"),
        (lambda: mm.ScoreLangevin(training_steps=-1), "training_steps=-1.*at least 0"),
        (lambda: mm.ScoreLangevin(step_size=0.0), "step_size=0.0"),
        (lambda: mm.ScoreLangevin(min_overlap=1.0), "min_overlap=1.0"),
        (lambda: mm.LocalSampling(chains=2), "chains=2.*at least 8"),
        (lambda: mm.LocalSampling(target_accept=1.5), "target_accept=1.5"),
    ],
)
def test_configs_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("modes", "error", "says"),
    [
        (mm.ModeSearch(starts=np.zeros((4, 3))), ValueError, r"starts.*\(4, 3\).*\(n, 1\)"),
        (mm.ModeSearch(starts=np.array([[np.nan]])), ValueError, r"starts=...\) holds NaN"),
        (mm.ModeSearch(locations=np.zeros((2, 2))), ValueError, r"locations.*\(n, 1\)"),
        (mm.ModeSearch(locations=[{"slope": 1.0}]), ModelError, "slope"),
    ],
)
def test_starts_that_do_not_fit_the_model(no_evaluations, unimodal, modes, error, says):
    with pytest.raises(error, match=says):
        mm.fit(unimodal, modes=modes, quiet=True)


def test_no_modes_group_yet(unimodal):
    prior = pm.sample_prior_predictive(5, model=unimodal, random_seed=1)
    with pytest.raises(ValueError, match=r"no draws.*prior"):
        mm.attach(prior)
    with pytest.raises(ValueError, match="attach"):
        mm.mode_table(prior)
    with pytest.raises(ValueError, match="attach"):
        mm.plot_modes(prior)


# ------------------------------------------------------------------ units


@pytest.fixture
def no_density(monkeypatch):
    """Fail as soon as a model is compiled."""

    def compiled(*args, **kwargs):
        pytest.fail("the model was compiled before the error")

    monkeypatch.setattr("pymc_multimodal.plugin.fitting.density_of", compiled)


def black_box():
    """A log density that an Op computes as a whole."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=2)
        pm.Potential("p", -models.Square()(x).sum())
    return model


@pytest.mark.parametrize("enter", [ENTRIES["fit"], ENTRIES["sample"]], ids=["fit", "sample"])
@pytest.mark.parametrize(
    ("make", "given", "says"),
    [
        (centred, {"units": "planet"}, r"'planet', which is no free variable.*mu, tau, z.*\(unit"),
        (centred, {"units": ["z", "z"]}, r"\['z', 'z'\], with 'z' twice. Name it once"),
        (centred, {"units": ["z", "unit"]}, r"gives z\[0\] twice.*Name one of them"),
        (centred, {"units": "mu"}, r"'mu' as units.*one element only.*hubs="),
        (centred, {"units": "z", "hubs": "w"}, r"the hub 'w', which is no free variable"),
        (centred, {"units": [[2], [2]]}, r"to the units 0 and 1.*Leave it out of one"),
        (centred, {"units": [[2], [0.5]]}, r"Unit 1 of.*\[0.5\], which is no sequence"),
        (centred, {"units": [[2], [99]]}, r"the coordinate 99.*0 to 6"),
        (walk, {"units": "z"}, r"units z\[0\] and z\[1\] together.*Make one unit of the two"),
        (black_box, {"units": [[0], [1]]}, "as that of a black box does.*structure=False"),
    ],
)
def test_units_that_the_model_does_not_have_are_refused_before_it_is_compiled(
    enter, make, given, says, no_density
):
    with pytest.raises(ModelError, match=f"(?s){says}"):
        enter(make(), structure=mm.Structure(**given))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"units": 3}, r"Structure\(units=3\) must be the name of a dimension"),
        ({"units": [["z"], [1]]}, "units=.*whole numbers"),
        ({"hubs": 3}, r"Structure\(hubs=3\) must be the name of a variable"),
        ({"hubs": []}, r"Structure\(hubs=\[\]\) must be the name of a variable"),
    ],
)
def test_wrong_types_of_a_structure(given, says):
    with pytest.raises(TypeError, match=says):
        mm.Structure(**given)


def test_units_beside_another_generator_are_refused(no_density):
    with pytest.raises(ValueError, match=r"fit\(structure=.*generator=LRDS\).*Leave out"):
        ENTRIES["fit"](centred(), structure=mm.Structure(units="z"), generator="lrds")
