"""The units in the group `modes`: explanations of each, their weights, locations, combinations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pymc_multimodal.structure import UnitGenerator

if TYPE_CHECKING:
    from pymc_multimodal.fit import Fit
    from pymc_multimodal.structure import UnitModes

__all__ = ["LOCATION", "beside", "has_units", "labelled", "units_from_fit", "units_from_model"]

# Dimensions of the units in the group `modes`, and what the names of locations begin with.
UNIT, EXPLANATION, COMBINATION = "unit", "explanation", "combination"
LOCATION = "unit_location_"
# Location of coordinates whose variables have no axis with an element for each unit.
UNCONSTRAINED = LOCATION + "unconstrained"
# Elements of a variable for one unit, at most, of which locations are kept: as many as a unit has
# coordinates (`target.units.MAX_UNIT`).
MAX_ELEMENTS = 8


def has_units(modes: xr.Dataset) -> bool:
    """Whether a group `modes` holds explanations of units."""
    return "unit_weight" in modes and modes["unit_weight"].dims == (UNIT, EXPLANATION)


def units_from_fit(fit: Fit) -> xr.Dataset | None:
    """Return what a fit says of its units, with locations in unconstrained coordinates.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    xarray.Dataset or None
        None where the posterior was not fitted by units. Without hubs an explanation is located at
        its optimum; with hubs at its optimum where, of the hubs at which it is present, their
        marginal density is highest.
    """
    if fit.units is None:
        return None
    points, row = _points(fit)
    values, axes = {}, {}
    for name, (columns, shape) in _values(fit.names).items():
        dims = ("point", *(f"{name}_dim_{i}" for i in range(len(shape))))
        values[name] = (dims, points[:, columns].reshape(-1, *shape))
        if (found := _axis(columns, shape, fit.units)) is not None:
            axes[dims[1 + found[0]]] = found[1]
    return _dataset(fit, xr.Dataset(values), axes, points, row)


def units_from_model(
    fit: Fit, evaluate: Callable[[np.ndarray], xr.Dataset], variables: Mapping[str, str]
) -> xr.Dataset | None:
    """Return what a fit says of its units, with locations in the model's variables.

    Parameters
    ----------
    fit : Fit
    evaluate : callable
        Turns points (n, d) into the model's variables, whose first dimension is `point`.
    variables : mapping of str
        Name of the variable of each unconstrained value.

    Returns
    -------
    xarray.Dataset or None
        As `units_from_fit`; a variable of the model has a location if it has an element for each
        unit along one of its dimensions.
    """
    if fit.units is None:
        return None
    points, row = _points(fit)
    values, units = evaluate(points), fit.units.units
    axes: dict[str, np.ndarray] = {}
    for name, (columns, shape) in _values(fit.names).items():
        variable = values.get(variables.get(name, name))
        found = _axis(columns, shape, fit.units)
        if variable is not None and found is not None and variable.ndim == 1 + len(shape):
            axis, index = found
            if variable.shape[1 + axis] == shape[axis]:
                axes[str(variable.dims[1 + axis])] = index
    if units.dim is not None and units.dim in values.coords and units.dim not in axes:
        labels = [str(v) for v in values.coords[units.dim].values]
        if set(own := _labels(fit.units)) <= set(labels):
            axes[units.dim] = np.array([labels.index(label) for label in own])
    return labelled(_dataset(fit, values, axes, points, row), values)


def labelled(units: xr.Dataset, variables: xr.Dataset) -> xr.Dataset:
    """Give the units the coordinates of the model's dimension, in place of these as text.

    Parameters
    ----------
    units : xarray.Dataset
        From `units_from_fit` or `units_from_model`.
    variables : xarray.Dataset
        With the model's dimensions.
    """
    dim = units.attrs.get("unit_dim", "")
    if dim not in variables.coords:
        return units
    values = {str(v): v for v in variables.coords[dim].values}
    own = [str(label) for label in units[UNIT].values]
    if not set(own) <= set(values):
        return units
    return units.assign_coords({UNIT: np.array([values[label] for label in own])})


def beside(units: xr.Dataset, locations: xr.Dataset) -> xr.Dataset:
    """Return locations of modes whose dimensions do not clash with those of the units.

    A dimension of the model that is called `unit` stays if its coordinates are those of the units.
    """
    taken = {EXPLANATION, COMBINATION} & {str(n) for n in [*locations.dims, *locations.coords]}
    if UNIT in locations.dims or UNIT in locations.coords:
        known = locations.coords.get(UNIT)
        if known is None or not np.array_equal(known.values, units[UNIT].values):
            taken.add(UNIT)
    return locations.rename({n: f"{n}_of_model" for n in taken})


def _labels(units: UnitModes) -> list[str]:
    """Name each unit, by its coordinate alone where all are along one dimension."""
    dim = units.units.dim
    return [name.removeprefix(f"{dim}=") if dim else name for name in units.units.names]


def _dataset(
    fit: Fit,
    values: xr.Dataset,
    axes: Mapping[str, np.ndarray],
    points: np.ndarray,
    row: np.ndarray,
) -> xr.Dataset:
    """Return weights, combinations and the locations of variables along some dimensions.

    Parameters
    ----------
    fit : Fit
    values : xarray.Dataset
        Variables, with the first dimension `point`.
    axes : mapping of arrays of int, shape (N,)
        Place of each unit along dimensions.
    points : array of shape (n, d)
    row : array of int, shape (N, K)
        Point that has each explanation; -1 where there is none.
    """
    units = fit.units
    assert units is not None
    k = row.shape[1]
    dims = (UNIT, EXPLANATION)
    dataset = xr.Dataset(
        {
            "unit_weight": (dims, units.weight[:, :k]),
            "unit_weight_se": (dims, units.weight_se[:, :k]),
            "combination_weight": (COMBINATION, units.probability),
            "combination_weight_se": (COMBINATION, units.probability_se),
            "combination_explanation": ((COMBINATION, UNIT), units.combinations),
        },
        {
            UNIT: np.array(_labels(units)),
            EXPLANATION: np.arange(k),
            COMBINATION: np.arange(len(units.probability)),
        },
        {
            "units": str(units.units),
            "unit_dim": units.units.dim or "",
            "n_units": len(units),
            "n_explanations": int(units.n_explanations.sum()),
            "log10_combinations": units.log10_combinations,
        },
    )
    covered = np.zeros(points.shape[1], dtype=bool)
    for columns, shape in _values(fit.names).values():
        covered[columns] = _axis(columns, shape, units) is not None
    taken = {"mode", "bound", UNIT, EXPLANATION, COMBINATION}
    for name in (str(n) for n in values.data_vars):
        along = [d for d in values[name].dims[1:] if d in axes]
        if not along:
            continue
        array = values[name].transpose("point", along[0], ...)
        rest = array.dims[2:]
        if array[0, 0].size > MAX_ELEMENTS:
            continue
        located = array.values[np.maximum(row, 0), axes[str(along[0])][:, None]].astype(float)
        located[row < 0] = np.nan
        names = [f"{d}_of_model" if d in taken else str(d) for d in rest]
        dataset[LOCATION + name] = ((*dims, *names), located)
        for d, own in zip(rest, names, strict=True):
            if d in values.coords:
                dataset = dataset.assign_coords({own: values.coords[d].values})
    inside = units.units.inside & ~covered[units.units.members]
    if inside.any():
        x = points[np.maximum(row, 0)[..., None], units.units.members[:, None]]
        x = np.where(inside[:, None] & (row[..., None] >= 0), x, np.nan)
        dataset[UNCONSTRAINED] = ((*dims, "element"), x)
    return dataset


def _points(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return points at which the explanations of all units stand.

    Returns
    -------
    points : array of shape (n, d)
    row : array of int, shape (N, K)
        Point that has each explanation; -1 where there is none.
    """
    units, generator = fit.units, fit.kernel.generator
    assert units is not None
    assert isinstance(generator, UnitGenerator)
    anchors = generator.proposals.mixtures.anchors
    k_max = max(1, int(units.n_explanations.max()))
    row = np.full((len(units), k_max), -1)
    points: list[np.ndarray] = []
    unit = np.arange(len(units))
    best = anchors.best_hubs()
    for k in range(k_max):
        place = units.order[:, k]
        at = best[unit, place]
        there = at >= 0
        for a in np.unique(at[there]):
            chosen = there & (at == a)
            row[chosen, k] = len(points)
            z = anchors.z[a, unit, place]
            points.append(units.units.scatter(anchors.g[a][None], z[None])[0])
    return np.array(points).reshape(-1, len(fit.names)), row


def _values(names: tuple[str, ...]) -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """Return the coordinates of each unconstrained value, and its shape."""
    columns: dict[str, list[int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for i, name in enumerate(names):
        base, index = _parsed(name)
        columns.setdefault(base, []).append(i)
        # The last coordinate has the largest index along every axis.
        shapes[base] = tuple(j + 1 for j in index)
    return {base: (np.array(columns[base]), shapes[base]) for base in columns}


def _parsed(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the name of a value, and the index of one of its coordinates."""
    found = re.fullmatch(r"(.*)\[([\d,\s]+)\]", name)
    if found is None:
        return name, ()
    return found[1], tuple(int(i) for i in found[2].split(","))


def _axis(
    columns: np.ndarray, shape: tuple[int, ...], units: UnitModes
) -> tuple[int, np.ndarray] | None:
    """Return the axis of a value along which units lie, and the place of each unit along it.

    None if there is no axis along which every unit has a place of its own.
    """
    members = units.units.members
    index = np.full((len(shape), members.max() + 1), -1)
    if len(shape):
        inside = columns <= members.max()
        index[:, columns[inside]] = np.array(np.unravel_index(np.arange(len(columns)), shape))[
            :, inside
        ]
    for axis in range(len(shape)):
        own = np.where(members >= 0, index[axis][members], -1)
        place = own.max(axis=1)
        alike = ((own == place[:, None]) | (own < 0)).all()
        if alike and place.min() >= 0 and len(set(place.tolist())) == len(place):
            return axis, place
    return None
