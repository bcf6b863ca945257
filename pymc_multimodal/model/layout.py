"""Rows of unconstrained coordinates, and points by the names of value variables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pymc as pm

__all__ = ["dimension", "flatten", "layout", "unflatten"]


def layout(model: pm.Model) -> dict[str, np.ndarray]:
    """Return the initial point, whose shapes and types `unflatten` needs.

    PyMC compiles a function for it: call this once.

    Returns
    -------
    dict
        Unconstrained values by name, in the order of ``model.value_vars``.
    """
    point = model.initial_point()
    return {v.name: np.asarray(point[v.name]) for v in model.value_vars}


def dimension(model: pm.Model) -> int:
    """Return the number of unconstrained coordinates; the log density is not compiled."""
    return sum(value.size for value in layout(model).values())


def flatten(model: pm.Model, point: Mapping[str, np.ndarray]) -> np.ndarray:
    """Join a point's unconstrained values into one row, in the order of ``model.value_vars``.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        Unconstrained values by name.

    Returns
    -------
    array of shape (d,)
    """
    return np.concatenate([np.ravel(point[v.name]) for v in model.value_vars]).astype(float)


def unflatten(like: Mapping[str, np.ndarray], x: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Turn rows back into points of unconstrained values.

    Parameters
    ----------
    like : mapping
        The model's `layout`.
    x : array of shape (n, d)

    Returns
    -------
    list of n dict
        Values by name, each in the shape and the type of its variable: PyTensor's functions take
        no other type.
    """
    points = []
    for row in x:
        point, at = {}, 0
        for name, value in like.items():
            point[name] = row[at : at + value.size].reshape(value.shape).astype(value.dtype)
            at += value.size
        points.append(point)
    return points
