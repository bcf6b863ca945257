"""Settings: every field is checked when it is written."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from pymc_multimodal.proposals import LRDS, ControlNetwork, EnergyNetwork, Hybrid


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"reference": "flow"}, ValueError, "reference='flow'"),
        ({"reference": 3}, TypeError, "reference=3"),
        ({"loss": "mse"}, ValueError, "loss='mse'"),
        ({"process": "cosine"}, ValueError, "process='cosine'"),
        ({"start": "zero"}, ValueError, "start='zero'"),
        ({"kernels": "euler"}, ValueError, "kernels='euler'"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"steps": 2.5}, TypeError, r"steps=2\.5"),
        ({"components": 0}, ValueError, "components=0"),
        ({"components": True}, TypeError, "components=True"),
        ({"min_noise": 3.0, "max_noise": 1.0}, ValueError, r"min_noise=3\.0, max_noise=1\.0"),
        ({"min_noise": -1.0}, ValueError, r"min_noise=-1\.0"),
        ({"max_noise": np.inf}, ValueError, "max_noise=inf"),
        ({"max_noise": "high"}, TypeError, "max_noise='high'"),
        ({"defensive": 0.0}, ValueError, r"defensive=0\.0"),
        ({"defensive": "some"}, TypeError, "defensive='some'"),
        ({"network": 3}, TypeError, "network=3"),
        ({"energy": ControlNetwork()}, TypeError, "energy=.*EnergyNetwork"),
        ({"regional": None}, TypeError, "regional=None"),
        ({"train": 1}, TypeError, "train=1"),
        ({"regional": Hybrid()}, ValueError, "regional.*network"),
        ({"kernels": "exponential"}, ValueError, "kernels='exponential'.*variance-preserving"),
        ({"reference": "ebm", "kernels": "exponential", "process": "variance-preserving"},
         ValueError, "ebm"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(config, error, message):
    with pytest.raises(error, match=message):
        LRDS(**config)


@pytest.mark.parametrize("settings", [ControlNetwork(), EnergyNetwork()])
def test_every_field_of_a_network_is_checked(settings):
    for field in fields(settings):
        wrong = 3 if field.name == "device" else "many"
        with pytest.raises(TypeError, match=f"{field.name}={wrong!r}"):
            replace(settings, **{field.name: wrong})
        if field.name != "device":
            with pytest.raises(ValueError, match=f"{field.name}=-1"):
                replace(settings, **{field.name: -1})


def test_an_energy_based_reference_has_more_and_smaller_steps():
    exact, energy = LRDS(), LRDS(reference="ebm")
    assert energy.steps > exact.steps
    assert energy.min_noise < exact.min_noise
    assert LRDS(reference="ebm", steps=exact.steps).steps == exact.steps


def test_published_settings_can_be_changed():
    published = LRDS.published()
    assert (published.start, published.kernels, published.steps) == ("normal", "exponential", 100)
    assert LRDS.published(steps=10) == replace(published, steps=10)
