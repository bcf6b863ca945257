"""The setting `Structure`: how a log density falls apart, looked for or given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.units import Place, Units, components, find_units, given_units

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.protocol import TermModel

__all__ = ["Structure", "chosen_units", "units_of_terms"]

_Units: TypeAlias = str | Sequence[str] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Structure:
    """Units of a model that share nothing but a few coordinates, the hubs.

    Parameters
    ----------
    units : str, or sequence of str, or sequence of sequences of int, optional
        What has an element for each unit: a named dimension, or variables of one length along their
        first axis; or the coordinates of each unit. By default the units are the groups of
        coordinates that share no term of the log density once the hubs are given.
    hubs : str or sequence of str, optional
        Variables that all units share. By default these are all that are in no unit.
    """

    units: _Units | None = None
    hubs: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.units is not None and not (_are_names(self.units) or _are_groups(self.units)):
            raise TypeError(
                f"{owner}(units={checks.shown(self.units)}) must be the name of a dimension, names "
                "of variables, or the coordinates of each unit: a list of lists of whole numbers."
            )
        if self.hubs is not None and not _are_names(self.hubs):
            raise TypeError(
                f"{owner}(hubs={checks.shown(self.hubs)}) must be the name of a variable, or a "
                "list of names."
            )


def chosen_units(density: Density, setting: bool | Structure) -> Units | None:
    """Return the units of a density.

    Parameters
    ----------
    density : Density
    setting : bool or Structure
        Whether units are looked for; or the units.

    Returns
    -------
    Units or None
        None if none are asked for, or none are found.

    Raises
    ------
    ModelError
        If units are given that the density does not have, or if its terms are not known.
    """
    return None if setting is False else units_of_terms(density.term_model, setting)


def units_of_terms(terms: TermModel | None, setting: bool | Structure) -> Units | None:
    """Return the units of a log density with such terms.

    Parameters
    ----------
    terms : TermModel or None
    setting : True or Structure

    Returns
    -------
    Units or None
        None if none are found.

    Raises
    ------
    ModelError
        As `chosen_units`.
    """
    if isinstance(setting, bool) or (setting.units is None and setting.hubs is None):
        return None if terms is None else find_units(terms.depends, terms.places)
    if terms is None:
        raise ModelError(
            f"structure={setting} was given, and the terms of this log density are not known: it "
            "is no PyMC model, or has arrays whose shapes the model's graph does not tell. Use "
            "structure=False."
        )
    return given_units(terms.depends, terms.places, _groups(terms, setting))


def _groups(terms: TermModel, setting: Structure) -> list[np.ndarray]:
    """Return the coordinates of each unit that a setting gives."""
    places = terms.places
    hubs = None if setting.hubs is None else _hubs(places, _strings(setting.hubs))
    if setting.units is None:
        return components(terms.depends, np.asarray(hubs, dtype=int))
    groups = _units(places, setting.units)
    if hubs is None:
        return groups
    inside = {i for group in groups for i in group.tolist()}
    if both := sorted(inside & set(hubs)):
        raise ModelError(
            f"structure= has {places[both[0]].element} in a unit and among the hubs. Leave it out "
            "of one of them."
        )
    if left := sorted({places[i].variable for i in set(range(len(places))) - inside - set(hubs)}):
        raise ModelError(
            f"structure= leaves out {', '.join(left)}: where both units= and hubs= are given, each "
            "variable is in one of them. Name it there, or give units= alone."
        )
    return groups


def _units(places: Sequence[Place], units: _Units) -> list[np.ndarray]:
    """Return the coordinates of each unit: of a dimension, of variables, or as they are."""
    names = _strings(units)
    if not names:
        return [np.asarray(group) for group in units]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"structure= has units={units!r}, with {twice[0]!r} twice. Name it once.")
    groups: dict[str, list[int]] = {}
    lengths: dict[str, set[str]] = {}
    for name in names:
        labels = _labels(places, name)
        lengths[name] = set(labels.values())
        for i, label in labels.items():
            groups.setdefault(label, []).append(i)
            if [i for group in groups.values() for i in group].count(i) > 1:
                raise ModelError(
                    f"structure= has units={units!r}, which gives {places[i].element} twice: once "
                    "by its variable and once by its dimension. Name one of them."
                )
    if len({frozenset(length) for length in lengths.values()}) > 1:
        found = ", ".join(f"{len(v)} by {k}" for k, v in lengths.items())
        raise ModelError(
            f"structure= has units={units!r}, which have different numbers of elements ({found}). "
            "Name variables with one element for each unit."
        )
    return [np.array(group) for group in groups.values()]


def _labels(places: Sequence[Place], name: str) -> dict[int, str]:
    """Return the unit of each coordinate along a dimension, or of a variable's first axis."""
    along = {i: dict(p.at)[name] for i, p in enumerate(places) if name in dict(p.at)}
    if along:
        return along
    own = {i: p for i, p in enumerate(places) if p.variable == name}
    if not own:
        variables = dict.fromkeys(p.variable for p in places)
        dims = dict.fromkeys(dim for p in places for dim, _ in p.at)
        raise ModelError(
            f"structure= names {name!r}, which is no free variable of the model "
            f"({', '.join(variables)}) and no dimension of one ({', '.join(dims) or 'none'})."
        )
    if not all(p.index for p in own.values()):
        raise ModelError(
            f"structure= names {name!r} as units, and it has one element only. Name a variable "
            "with an element for each unit, or give this one as hubs=."
        )
    return {i: str(p.index[0]) for i, p in own.items()}


def _hubs(places: Sequence[Place], names: Sequence[str]) -> list[int]:
    chosen = []
    for name in dict.fromkeys(names):
        own = [i for i, p in enumerate(places) if p.variable == name]
        if not own:
            known = ", ".join(dict.fromkeys(p.variable for p in places))
            raise ModelError(
                f"structure= names the hub {name!r}, which is no free variable of the model "
                f"({known})."
            )
        chosen += own
    return chosen


def _are_names(names: Any) -> bool:
    """Whether a setting is a name, or at least one name."""
    if isinstance(names, str):
        return True
    is_list = isinstance(names, Sequence) and len(names) > 0
    return is_list and all(isinstance(name, str) for name in names)


def _are_groups(groups: Any) -> bool:
    """Whether a setting has numbers for each unit; that they are coordinates is checked later."""
    if isinstance(groups, str) or not isinstance(groups, Sequence | np.ndarray):
        return False
    arrays = [np.asarray(g) for g in groups if isinstance(g, Sequence | np.ndarray)]
    return 0 < len(arrays) == len(groups) and all(a.dtype.kind in "iuf" for a in arrays)


def _strings(names: Any) -> tuple[str, ...]:
    """Return names as a tuple; empty if they are no names."""
    if isinstance(names, str):
        return (names,)
    return tuple(names) if all(isinstance(name, str) for name in names) else ()
