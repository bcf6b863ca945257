"""Settings that cannot be used are refused, with the name and the cause."""

from __future__ import annotations

import numpy as np
import pytest
from densities import two_modes
from searches import modes_found

from pymc_multimodal.search import ModeSearch


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"locations": np.zeros((2, 3))}, r"locations=...\) has shape \(2, 3\).*shape \(n, 2\)"),
        ({"starts": np.zeros((2, 2, 2))}, r"starts=...\) has shape \(2, 2, 2\)"),
        ({"starts": [[0.0, np.nan]]}, r"starts=...\) holds NaN"),
        ({"locations": [[0.0, np.inf]]}, r"locations=...\) holds NaN"),
        ({"optimiser": "newton"}, "optimiser='newton'"),
        ({"starts": 0}, "starts=0"),
        ({"radius": 1.0}, "radius"),
    ],
)
def test_wrong_settings_are_named(config, message, rng):
    with pytest.raises(ValueError, match=message):
        modes_found(two_modes().density(), rng, **config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"starts": 1e3}, r"starts=1000.0.*whole number.*array of shape \(n, d\)"),
        ({"starts": True}, "starts=True.*whole number"),
        ({"starts": {"x": 1.0}}, "starts=.*whole number"),
        ({"starts": [["a", "b"]]}, "starts.*array of numbers"),
        ({"locations": [["a", "b"]]}, "locations.*array of numbers"),
        ({"locations": [{"x": 1.0}, [1.0]]}, "some points that are dicts.*all in one array"),
        ({"locations": [[0.0, 1.0]], "radius": "far"}, "radius='far'"),
        ({"optimiser": 3}, "optimiser=3"),
        ({"batch": 16.0}, "batch=16.0"),
        ({"max_starts": "many"}, "max_starts='many'"),
        ({"max_iter": None}, "max_iter=None"),
        ({"stretch": None}, "stretch=None"),
        ({"barrier": "high"}, "barrier='high'"),
        ({"negligible": True}, "negligible=True"),
        ({"screening": 1e5}, "screening=100000.0"),
        ({"screening_seconds": "long"}, "screening_seconds='long'"),
    ],
)
def test_settings_of_the_wrong_type_are_named(settings, message):
    with pytest.raises(TypeError, match=message):
        ModeSearch(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"starts": -1}, "starts=-1.*at least 1.*array"),
        ({"locations": [[0.0, 1.0]], "radius": -0.1}, "radius=-0.1"),
        ({"locations": [[0.0, 1.0]], "radius": np.nan}, "radius=nan"),
        ({"optimiser": "newton"}, "newton.*lbfgs"),
        ({"batch": 0}, "batch=0"),
        ({"max_starts": 0}, "max_starts=0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"stretch": 0.0}, "stretch=0.0"),
        ({"locations": []}, r"ModeSearch\(locations=...\) holds no points.*at least one"),
        ({"starts": np.empty((0, 2))}, r"ModeSearch\(starts=...\) holds no points"),
        ({"barrier": -1.0}, "barrier=-1.0"),
        ({"negligible": np.nan}, "negligible=nan"),
        ({"screening": -1}, "screening=-1.*at least 0"),
        ({"screening_seconds": 0.0}, "screening_seconds=0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ModeSearch(**settings)


def test_settings_of_every_accepted_form():
    ModeSearch(starts=np.int64(5), radius=0, locations={"x": 1.0}, optimiser="powell")
    ModeSearch(screening=0, screening_seconds=5)
    ModeSearch(starts=[[0.0, 1.0]], locations=[{"x": 1.0}], radius=0.5)
