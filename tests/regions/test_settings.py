"""Settings of regions and chains: each field is checked when the settings are made."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pymc_multimodal.regions import LocalSampling, Regions

OUT_OF_RANGE = [
    (Regions, {"method": "knn"}, "method='knn'"),
    (Regions, {"C": 0.0}, r"C=0\.0"),
    (Regions, {"C": float("nan")}, "C=nan"),
    (Regions, {"kernel": "poly"}, "kernel='poly'"),
    (Regions, {"max_svc_modes": -1}, "max_svc_modes=-1"),
    (LocalSampling, {"chains": 4}, "chains=4"),
    (LocalSampling, {"draws": 3}, "draws=3"),
    (LocalSampling, {"max_draws": 50}, "max_draws=50.*draws=100"),
    (LocalSampling, {"windows": (50,)}, r"windows=\(50,\)"),
    (LocalSampling, {"windows": (50, 0)}, r"windows\[1\]=0"),
    (LocalSampling, {"target_accept": 1.5}, r"target_accept=1\.5"),
    (LocalSampling, {"max_rhat": 0.5}, r"max_rhat=0\.5"),
    (LocalSampling, {"max_rhat": 1.0}, r"max_rhat=1\.0"),
    (LocalSampling, {"max_rhat": float("nan")}, "max_rhat=nan"),
    (LocalSampling, {"min_ess": -1}, "min_ess=-1"),
    (LocalSampling, {"max_leapfrog": 0}, "max_leapfrog=0"),
    (LocalSampling, {"explore_moves": 1}, "explore_moves=1"),
]
WRONG_TYPE = [
    (Regions, {"method": 1}, "method=1"),
    (Regions, {"C": "10"}, "C='10'"),
    (Regions, {"kernel": 3}, "kernel=3"),
    (Regions, {"max_svc_modes": 2.5}, r"max_svc_modes=2\.5"),
    (LocalSampling, {"chains": 16.5}, r"chains=16\.5"),
    (LocalSampling, {"draws": "100"}, "draws='100'"),
    (LocalSampling, {"max_draws": 3200.0}, r"max_draws=3200\.0"),
    (LocalSampling, {"windows": 30}, "windows=30"),
    (LocalSampling, {"windows": (30, 4.5)}, r"windows\[1\]=4\.5"),
    (LocalSampling, {"target_accept": "0.8"}, "target_accept='0.8'"),
    (LocalSampling, {"max_rhat": None}, "max_rhat=None"),
    (LocalSampling, {"min_ess": True}, "min_ess=True"),
    (LocalSampling, {"max_leapfrog": 8.0}, r"max_leapfrog=8\.0"),
    (LocalSampling, {"explore_moves": None}, "explore_moves=None"),
]


@pytest.mark.parametrize(("settings", "arguments", "message"), OUT_OF_RANGE)
def test_values_out_of_range_are_named(settings, arguments, message):
    with pytest.raises(ValueError, match=message):
        settings(**arguments)


@pytest.mark.parametrize(("settings", "arguments", "message"), WRONG_TYPE)
def test_values_of_the_wrong_type_are_named(settings, arguments, message):
    with pytest.raises(TypeError, match=message):
        settings(**arguments)


@pytest.mark.parametrize("settings", [Regions, LocalSampling])
@pytest.mark.parametrize("cases", [OUT_OF_RANGE, WRONG_TYPE], ids=["range", "type"])
def test_every_setting_is_checked(settings, cases):
    tested = {name for owner, arguments, _ in cases if owner is settings for name in arguments}
    assert tested == {field.name for field in fields(settings)}


def test_windows_may_be_a_list():
    assert LocalSampling(windows=[10, 20]).windows == (10, 20)
