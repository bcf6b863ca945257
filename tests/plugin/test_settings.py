"""The keywords that `fit`, `sample` and the step share: one list, seen by everybody."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

import joblib
import numpy as np
import pytest

import pymc_multimodal as mm
from pymc_multimodal.fit import FitConfig
from pymc_multimodal.plugin.settings import RunOptions, fit_config, resolve_seed, split_settings
from pymc_multimodal.target.engines import JoblibBackend

SHARED = {f.name for settings in (FitConfig, RunOptions) for f in fields(settings)}


def test_every_setting_of_a_fit_and_of_its_run_is_a_keyword():
    assert set(get_type_hints(mm.FitSettings)) == SHARED


@pytest.mark.parametrize("function", [mm.fit, mm.sample, mm.MultimodalDiffusion])
def test_help_shows_all_keywords_with_their_defaults(function):
    parameters = inspect.signature(function).parameters
    assert set(parameters) >= SHARED | {"model"}
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert parameters["target_se"].default == FitConfig().target_se
    assert parameters["workers"].default is None
    assert parameters["modes"].default is None
    for name in SHARED:
        assert name in mm.FitSettings.__doc__, "each keyword is documented there"
        assert name in function.__doc__, "and named here"


def test_workers_follow_joblib_where_they_are_not_given():
    assert RunOptions().workers == 1
    with joblib.parallel_config("threading", n_jobs=2):
        assert RunOptions().workers == JoblibBackend("ThreadingBackend", 2)
        assert RunOptions(workers=3).workers == 3


def test_none_stands_for_the_default():
    settings, run = split_settings(
        mm.fit, {"target_se": None, "challenge": False, "random_seed": 3, "workers": 2}
    )
    assert settings == {"challenge": False, "random_seed": 3}
    assert run == RunOptions(workers=2)
    config = fit_config("fit", settings, quiet=True)
    assert config.target_se == FitConfig().target_se
    assert config.random_seed == 3


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), 2**70])
def test_a_whole_number_is_recorded_as_it_was_given(seed):
    assert resolve_seed(seed) == seed


def test_seeds_of_other_kinds_become_numbers():
    assert resolve_seed([1, 2]) == resolve_seed(np.array([1, 2])) != resolve_seed([2, 1])
    assert resolve_seed(np.random.SeedSequence(5)) == resolve_seed(np.random.SeedSequence(5))
    assert resolve_seed(np.random.default_rng(1)) == resolve_seed(np.random.default_rng(1))
    assert resolve_seed(None) != resolve_seed(None)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="random_seed=-1"):
        resolve_seed(-1)


@pytest.mark.parametrize("seed", [True, "a", 1.5])
def test_a_seed_of_a_wrong_type_is_named(seed):
    with pytest.raises(TypeError, match=f"random_seed={seed!r}"):
        resolve_seed(seed)
