"""Points in a model's own variables, as unconstrained rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.initial_point import make_initial_point_fn

from pymc_multimodal.model.layout import flatten
from pymc_multimodal.status import ModelError

__all__ = ["rows_of"]


def rows_of(model: pm.Model, points: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Turn points in the model's own variables into unconstrained rows, shape (n, d).

    The log density is not compiled.

    Parameters
    ----------
    model : pymc.Model
    points : sequence of mapping
        Values by the names of free variables. Variables that a point leaves out are at their
        initial point.

    Raises
    ------
    ModelError
        If a point names a variable that the model does not have, or a value has another shape than
        its variable, is no number, or is outside of its support.
    """
    variables = {rv.name: rv for rv in model.free_RVs}
    rows = []
    for point in points:
        if unknown := set(point) - set(variables):
            raise ModelError(
                f"A mode location names {sorted(unknown, key=str)}, which the model does not have; "
                f"its free variables are {sorted(variables)}."
            )
        values = {name: _value(variables[name], value) for name, value in point.items()}
        start = make_initial_point_fn(model=model, overrides=values)(None)
        for name, value in values.items():
            if not np.isfinite(start[model.rvs_to_values[variables[name]].name]).all():
                raise ModelError(
                    f"A mode location gives {name!r} the value {value.tolist()}, which is outside "
                    "of its support: give a value where its prior is positive."
                )
        rows.append(flatten(model, start))
    return np.array(rows, dtype=float)


def _value(variable: Any, given: Any) -> np.ndarray:
    """Return a value as an array of its variable's shape, or raise."""
    name, shape = variable.name, tuple(variable.type.shape)
    if None in shape:
        shape = tuple(int(n) for n in variable.shape.eval())
    try:
        value = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        value = np.array(np.nan)
    if not np.isfinite(value).all():
        raise ModelError(
            f"A mode location gives {name!r} the value {given!r}: give finite numbers "
            f"of shape {shape}."
        )
    if value.shape != shape:
        raise ModelError(
            f"A mode location gives {name!r} a value of shape {value.shape}, but the variable has "
            f"the shape {shape}."
        )
    return value
