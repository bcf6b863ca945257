"""One contract for all settings: values of a wrong type and out of range are refused and named."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

import numpy as np
import pytest

import pymc_multimodal as mm
from pymc_multimodal.fit import FitConfig
from pymc_multimodal.proposals import RegionalFamilies

SETTINGS = (
    mm.Challenge,
    mm.Emulation,
    mm.FirstAnswer,
    mm.ControlNetwork,
    mm.EnergyNetwork,
    mm.Hybrid,
    mm.LRDS,
    mm.LocalSampling,
    mm.ModeSearch,
    mm.Network,
    mm.PublishedHybrid,
    mm.Regions,
    mm.ScoreLangevin,
    mm.Structure,
    FitConfig,
    RegionalFamilies,
)

# Wrong types and values out of range, by the annotation of a field (without "| None").
WRONG_TYPES = {
    "bool": (1, "yes"),
    "int": (1.5, "3", True),
    "float": ("0.1", True, (0.1,)),
    "str": (3, True),
    "tuple": (3, "abc"),
    "settings": (3, "abc"),
    "names": (3, True, [], [["a"]]),
}
OUT_OF_RANGE = {
    "int": (-1,),
    "float": (np.nan, -1.0),
    "str": ("no such choice",),
    "tuple": ((),),
}
# Whole numbers that may also be an array, and what else is not told by an annotation.
KINDS = {
    (mm.ModeSearch, "starts"): "int",
    (mm.ModeSearch, "locations"): "other",
    (mm.ModeSearch, "optimiser"): "str",
    (mm.Emulation, "outputs"): "tuple",
    (mm.Emulation, "draws"): "str",
    (mm.Structure, "units"): "names",
    (mm.Structure, "hubs"): "names",
    (FitConfig, "generator"): "other",
    (FitConfig, "challenge"): "settings",
    (FitConfig, "first_answer"): "settings",
    (FitConfig, "emulation"): "settings",
    (FitConfig, "evaluations"): "settings",
    (FitConfig, "symmetry"): "settings",
}


def kind_of(cls: type, name: str, annotation: str) -> str:
    """Key of `WRONG_TYPES` for a field."""
    plain = annotation.removesuffix(" | None")
    if (cls, name) in KINDS:
        return KINDS[cls, name]
    if plain in WRONG_TYPES:
        return plain
    if plain.startswith("Literal"):
        return "str"
    return "tuple" if plain.startswith("tuple") else "settings"


def wrong_values(cls, field):
    """Values that a field refuses, with the kind of error."""
    kind = kind_of(cls, field.name, field.type)
    wrong = list(WRONG_TYPES.get(kind, ()))
    if "None" not in field.type and kind not in ("other", "names"):
        wrong.append(None)
    return [(v, TypeError) for v in wrong] + [(v, ValueError) for v in OUT_OF_RANGE.get(kind, ())]


FIELDS = [(cls, field) for cls in SETTINGS for field in fields(cls)]


@pytest.mark.parametrize(
    ("cls", "field"), FIELDS, ids=[f"{cls.__name__}-{field.name}" for cls, field in FIELDS]
)
def test_wrong_values_are_refused_and_named(cls, field):
    for value, error in wrong_values(cls, field):
        with pytest.raises(error) as caught:
            cls(**{field.name: value})
        message = str(caught.value)
        assert cls.__name__ in message
        assert field.name in message
        shown = value if not isinstance(value, tuple) else value or "()"
        assert repr(shown) in message or str(shown) in message


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)
def test_defaults_are_frozen_and_equal(cls):
    settings = cls()
    with pytest.raises(AttributeError):
        setattr(settings, fields(cls)[0].name, None)
    assert settings == cls()


def test_no_settings_are_missing():
    """Public data classes that can be made without arguments, and those that they hold."""
    public = {value for name in mm.__all__ if is_settings(value := getattr(mm, name))}
    held = {
        type(value)
        for cls in SETTINGS
        for field in fields(cls)
        if is_settings(type(value := getattr(cls(), field.name)))
    }
    assert public | held | {FitConfig} == set(SETTINGS)


def is_settings(value: object) -> bool:
    return (
        isinstance(value, type)
        and is_dataclass(value)
        and all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(value))
    )
