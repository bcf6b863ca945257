"""Where each unconstrained coordinate stands in a model: its variable, index and dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm

from pymc_multimodal.model.dependence import depends_on
from pymc_multimodal.target import Place

__all__ = ["places_of"]


def places_of(model: pm.Model, point: Mapping[str, np.ndarray]) -> tuple[Place, ...]:
    """Return the place of each coordinate.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`.

    Returns
    -------
    tuple of d Place
        An axis has a dimension only if the transformation to unconstrained coordinates keeps its
        length.
    """
    places = []
    for value in model.value_vars:
        rv = model.values_to_rvs[value]
        shape = np.shape(point[value.name])
        labels = _labels(model, rv.name, shape)
        for index in np.ndindex(*shape):
            at = tuple(
                (dim, names[i]) for (dim, names), i in zip(labels, index, strict=True) if dim
            )
            places.append(Place(rv.name, value.name, index, at))
    return tuple(places)


def _labels(model: pm.Model, name: str, shape: tuple[int, ...]) -> list[tuple[str, list[str]]]:
    """Return for each axis of a variable its dimension and coordinates; "" without a dimension."""
    if name.endswith("_unobserved"):
        return _of_missing(model, name, shape)
    dims = model.named_vars_to_dims.get(name) or ()
    if len(dims) != len(shape):
        return [("", [])] * len(shape)
    return [_axis(model, dim, length) for dim, length in zip(dims, shape, strict=True)]


def _axis(model: pm.Model, dim: Any, length: int) -> tuple[str, list[str]]:
    names = model.coords.get(dim) if dim is not None else None
    if names is None:
        return ("", []) if dim is None else (str(dim), [str(i) for i in range(length)])
    return (str(dim), [str(n) for n in names]) if len(names) == length else ("", [])


def _of_missing(model: pm.Model, name: str, shape: tuple[int, ...]) -> list[tuple[str, list[str]]]:
    """Return the dimension of masked observations along one axis, with their places there."""
    whole = model.named_vars.get(name.removesuffix("_unobserved"))
    nothing: list[tuple[str, list[str]]] = [("", [])] * len(shape)
    if whole is None or whole.ndim != 1 or len(shape) != 1:
        return nothing
    part = model.named_vars[name]
    places = depends_on([whole], part, shape[0])
    axis = ("", []) if places is None else _labels(model, whole.name, places.shape[:1])[0]
    if places is None or not axis[0] or not (places.sum(axis=0) == 1).all():
        return nothing
    return [(axis[0], [axis[1][i] for i in places.argmax(axis=0)])]
