"""Settings of the challenge are checked."""

from __future__ import annotations

import pytest

from pymc_multimodal.challenge import Challenge
from pymc_multimodal.fit import FitConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, r"share=0\.0"),
        ({"share": 11}, "share=11"),
        ({"share": float("nan")}, "share=nan"),
        ({"rounds": -1}, "rounds=-1"),
        ({"min_evals": -1}, "=-1"),
        ({"climbs": -1}, "climbs=-1"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Challenge(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"climbs": 3.5}, {"rounds": True}, {"min_evals": "many"}, {"share": None}, {"share": [0.2]}],
)
def test_settings_of_a_wrong_type_are_refused(settings):
    [name] = settings
    with pytest.raises(TypeError, match=rf"Challenge\({name}="):
        Challenge(**settings)


def test_the_setting_is_a_challenge_or_a_switch():
    assert FitConfig(challenge=True).challenge == Challenge()
    with pytest.raises(TypeError, match="challenge='hard'"):
        FitConfig(challenge="hard")
