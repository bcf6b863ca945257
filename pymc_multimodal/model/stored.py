"""Stored draws of a model's own variables as unconstrained rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable

from pymc_multimodal.model.compiled import compile_rows
from pymc_multimodal.status import Level, ModelError, Status

__all__ = [
    "improper_statuses",
    "observed_values",
    "same_data",
    "unconstrained_rows",
    "variables_of",
]

# Rows that are transformed at a time. Conventional: bounds the memory.
ROWS = 4096


def variables_of(model: pm.Model) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable that is sampled, by name, in the order of the columns.

    Of a model that is summed over discrete variables these are the continuous ones.
    """
    shapes = model.eval_rv_shapes()
    names = [model.values_to_rvs[value].name for value in model.value_vars]
    return {str(name): tuple(int(n) for n in shapes[name]) for name in names}


def improper_statuses(model: pm.Model, level: Level = "warning") -> list[Status]:
    """Say which variables have a prior that is flat on an unbounded set, if there are any."""
    improper = [
        rv.name for rv in model.free_RVs if type(rv.owner.op).__name__ in ("FlatRV", "HalfFlatRV")
    ]
    if not improper:
        return []
    return [
        Status("improper", "evidence",
               f"the prior of {', '.join(improper)} is improper: the evidence is known up to an "
               "arbitrary factor.", "Compare models with proper priors.", level=level)
    ]  # fmt: skip


def observed_values(model: pm.Model) -> dict[str, np.ndarray]:
    """Return the data of each observed variable, by name; data that are computed are left out."""
    values = {}
    for rv in model.observed_RVs:
        data = model.rvs_to_values[rv]
        if any(isinstance(n.owner.op, RandomVariable) for n in ancestors([data]) if n.owner):
            continue
        if hasattr(data, "get_value"):
            values[rv.name] = np.asarray(data.get_value())
        elif hasattr(data, "data"):
            values[rv.name] = np.asarray(data.data)
    return values


def same_data(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two data sets are equal; ArviZ stores a number as an array of shape (1,)."""
    one, other = np.atleast_1d(one), np.atleast_1d(other)
    return np.array_equal(one, other, equal_nan=bool(np.issubdtype(one.dtype, np.floating)))


def unconstrained_rows(model: pm.Model, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Turn draws of a model's variables into rows of unconstrained coordinates.

    Parameters
    ----------
    model : pymc.Model
    values : mapping of arrays of shape (n, ...)
        Draws of every variable of `variables_of`, by name; or of its value variable, whose name
        has a suffix such as ``_log__``.

    Returns
    -------
    array of shape (n, d)
        Not finite where a draw lies on the border of its support.

    Raises
    ------
    ModelError
        If a transformation depends on a variable that is not sampled.
    """
    n = len(next(iter(values.values())))
    columns: dict[str, np.ndarray] = {}
    missing = []
    for value in model.value_vars:
        name, own = model.values_to_rvs[value].name, value.name
        plain = model.rvs_to_transforms[model.values_to_rvs[value]] is None
        if own in values or plain:
            columns[own] = np.reshape(values[name if plain else own], (n, -1))
        else:
            missing.append(value)
    if missing:
        columns.update(_transformed(model, missing, values, n))
    return np.concatenate([columns[v.name] for v in model.value_vars], axis=1).astype(float)


def _transformed(
    model: pm.Model, wanted: Sequence[Any], values: Mapping[str, np.ndarray], n: int
) -> dict[str, np.ndarray]:
    """Return the unconstrained values of some variables, arrays of shape (n, size)."""
    rvs = [model.values_to_rvs[v] for v in model.value_vars]
    # A transformation may depend on other variables, such as a bound.
    rvs = [rv for rv in rvs if rv.name in values]
    flat = np.concatenate([np.reshape(values[rv.name], (n, -1)) for rv in rvs], axis=1)
    joined, at, own = pt.vector("draw", dtype="float64"), 0, {}
    for rv in rvs:
        shape = values[rv.name].shape[1:]
        size = int(np.prod(shape))
        part = joined[at : at + size].reshape(shape).astype(rv.dtype)
        own[rv], at = rv.type.filter_variable(part, allow_convert=True), at + size
    outputs = []
    for value in wanted:
        rv = model.values_to_rvs[value]
        inputs = clone_replace(list(rv.owner.inputs), own)
        forward = model.rvs_to_transforms[rv].forward(own[rv], *inputs)
        random = [
            str(v.name)
            for v in ancestors([forward])
            if v.owner is not None and isinstance(v.owner.op, RandomVariable)
        ]
        if random:
            raise ModelError(
                f"The support of {rv.name} depends on {', '.join(random)}, which the draws do not "
                "hold, so that its draws cannot be brought to the unconstrained space. Draw with "
                "pm.sample(idata_kwargs={'include_transformed': True})."
            )
        outputs.append(forward.ravel())
    # Compiling for Numba takes longer than the few thousand rows.
    function, batched = compile_rows(outputs, {joined: flat[0]}, {"mode": "FAST_COMPILE"})
    with np.errstate(all="ignore"):
        if batched is None:
            rows = [function(row) for row in flat]
            results = [np.array([row[i] for row in rows]) for i in range(len(outputs))]
        else:
            chunks = [function(flat[i : i + ROWS]) for i in range(0, n, ROWS)]
            results = [np.concatenate([c[i] for c in chunks]) for i in range(len(outputs))]
    return {
        value.name: np.broadcast_to(np.reshape(r, (len(r), -1)), (n, r.size // len(r)))
        for value, r in zip(wanted, results, strict=True)
    }
