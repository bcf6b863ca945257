"""The sampler as an object of settings, by the draft of ``pm.sample(sampler=...)``."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import models
import numpy as np
import pymc as pm
import pytest

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset, sampler_base

SILENT = {"progressbar": False, "quiet": True}
# The arguments of a run in the draft (PyMC's pull request 8358).
DRAFT = {
    "model", "draws", "tune", "chains", "cores", "initvals", "random_seed", "progressbar", "quiet",
    "discard_tuned_samples", "keep_warning_stat", "var_names", "idata_kwargs",
    "compute_convergence_checks", "compile_kwargs",
}  # fmt: skip


def run_parameters():
    parameters = dict(inspect.signature(mm.MultimodalSampler.sample_from_init).parameters)
    del parameters["self"]
    return parameters


def test_a_run_has_the_arguments_of_the_draft():
    assert set(run_parameters()) == DRAFT
    assert all(p.kind is p.KEYWORD_ONLY for p in run_parameters().values())


def test_arguments_of_a_run_are_those_of_pm_sample_with_their_defaults():
    theirs = inspect.signature(pm.sample).parameters
    for name, parameter in run_parameters().items():
        # PyMC 5 has 1,000 draws of tuning by default; None stands for none here.
        if name in theirs and name != "tune":
            assert parameter.default == theirs[name].default, name
    assert set(run_parameters()) - set(theirs) <= {"quiet"}  # new in PyMC 6


def test_settings_and_run_are_apart():
    settings = set(inspect.signature(mm.MultimodalSampler).parameters)
    assert not settings & DRAFT
    assert settings | {"random_seed", "progressbar", "quiet", "compile_kwargs"} == set(
        mm.FitSettings.__annotations__
    )
    for name in ("random_seed", "progressbar", "quiet", "compile_kwargs"):
        with pytest.raises(TypeError, match=rf"{name}=.*give it to sample_from_init\({name}="):
            mm.MultimodalSampler(**{name: None})


def test_a_wrong_setting_is_refused_before_there_is_a_model():
    with pytest.raises(ValueError, match=r"MultimodalSampler\(target_se=-1"):
        mm.MultimodalSampler(target_se=-1)
    with pytest.raises(TypeError, match="no argument 'target_sd'; did you mean 'target_se'"):
        mm.MultimodalSampler(target_sd=0.01)


def test_settings_are_shown_and_kept():
    sampler = mm.MultimodalSampler(target_se=0.02, challenge=False)
    assert repr(sampler) == "MultimodalSampler(target_se=0.02, challenge=False)"
    with pytest.raises(TypeError):
        sampler.settings["target_se"] = 1.0


def test_one_object_serves_two_models_and_draws_as_sample_does():
    sampler = mm.MultimodalSampler(target_se=0.02, challenge=False)
    for model in (models.unequal(), models.four_modes()):
        one = sampler.sample_from_init(model=model, draws=20, chains=2, random_seed=3, **SILENT)
        two = mm.sample(
            20, model=model, chains=2, random_seed=3, target_se=0.02, challenge=False, **SILENT
        )
        for name, value in get_dataset(two, "posterior").items():
            np.testing.assert_array_equal(get_dataset(one, "posterior")[name], value)


def test_the_model_may_be_on_the_context_stack():
    with models.unequal():
        idata = mm.MultimodalSampler(challenge=False).sample_from_init(
            draws=5, chains=2, random_seed=1, **SILENT
        )
    assert get_dataset(idata, "posterior").sizes["draw"] == 5
    assert "weight" in get_dataset(idata, "modes")


def test_arguments_without_a_meaning_are_refused_with_the_reason():
    with pytest.raises(TypeError, match="chains start from draws inside of the modes"):
        mm.MultimodalSampler().sample_from_init(model=models.unequal(), initvals={"x": 0.0})


def test_the_base_class_is_that_of_pymc_where_it_has_one(monkeypatch):
    package = ModuleType("pymc.sampling.samplers")
    package.Sampler = type("Sampler", (), {})
    monkeypatch.setitem(sys.modules, package.__name__, package)
    assert sampler_base() is package.Sampler


@pytest.mark.skipif(
    "sampler" not in inspect.signature(pm.sample).parameters, reason="PyMC has no sampler="
)
def test_pm_sample_takes_it():
    idata = pm.sample(
        20, sampler=mm.MultimodalSampler(), model=models.unequal(), random_seed=1, **SILENT
    )
    assert "weight" in get_dataset(idata, "modes")
