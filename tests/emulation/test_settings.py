"""Settings of the emulation; `tests/contracts/test_settings.py` checks all settings classes."""

import pytest

from pymc_multimodal.emulation import Emulation
from pymc_multimodal.fit import FitConfig
from pymc_multimodal.target import Evaluations


def test_defaults_and_what_is_asked_for():
    assert FitConfig().emulation == Emulation()
    assert FitConfig(emulation=True).emulation == Emulation()
    assert FitConfig(emulation=False).emulation is False
    assert Emulation(outputs=["flow"], budget=100, draws="weighted").outputs == ["flow"]


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"outputs": "flow"}, TypeError),
        ({"outputs": [1]}, TypeError),
        ({"outputs": 3}, TypeError),
        ({"outputs": []}, ValueError),
        ({"min_seconds": -1.0}, ValueError),
        ({"min_seconds": "fast"}, TypeError),
        ({"min_seconds": float("nan")}, ValueError),
        ({"budget": 0}, ValueError),
        ({"budget": 1.5}, TypeError),
        ({"batch": 0}, ValueError),
        ({"batch": None}, TypeError),
        ({"draws": "all"}, ValueError),
    ],
)
def test_what_is_refused_is_named(setting, error):
    [name] = setting
    with pytest.raises(error, match=rf"Emulation\({name}="):
        Emulation(**setting)


@pytest.mark.parametrize(
    "setting", [{"emulation": "yes"}, {"emulation": None}, {"evaluations": [1.0]}]
)
def test_what_a_fit_refuses(setting):
    [name] = setting
    with pytest.raises(TypeError, match=rf"FitConfig\({name}="):
        FitConfig(**setting)
    assert Evaluations.__name__ in repr(FitConfig.__annotations__["evaluations"])
