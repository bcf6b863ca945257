"""The ranges of the settings; tests/contracts/test_settings.py has their types."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from pymc_multimodal import ScoreLangevin

OUT_OF_RANGE = {
    "objective": ("sliced",),
    "trace": ("none",),
    "noise_sd": (0.0, np.inf, np.nan),
    "max_components": (0,),
    "width": (0,),
    "training_steps": (-1,),
    "batch_size": (1,),
    "learning_rate": (-1e-3, np.inf),
    "step_size": (0.0, np.nan),
    "stop_time": (0.0, np.inf),
    "integrator": ("heun",),
    "min_overlap": (0.0, 1.0),
    "path_steps": (-1,),
    "defensive": (0.0, 1.0),
    "device": ("no such device",),
}


def test_every_field_is_covered_here():
    names = {field.name for field in fields(ScoreLangevin)}
    assert set(OUT_OF_RANGE) == names


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_values_out_of_range(name):
    for value in OUT_OF_RANGE[name]:
        with pytest.raises(ValueError, match=rf"ScoreLangevin\({name}="):
            ScoreLangevin(**{name: value})


def test_a_run_is_no_shorter_than_a_step():
    with pytest.raises(ValueError, match="shorter than a step"):
        ScoreLangevin(stop_time=0.1, step_size=0.4)
