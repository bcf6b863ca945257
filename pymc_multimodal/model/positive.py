"""Comparisons that always hold: of what is positive by its form with zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.scalar as ps
from pytensor.scalar.math import Sigmoid, Softplus
from pytensor.tensor import basic
from pytensor.tensor.elemwise import Elemwise

from pymc_multimodal.model.reach import MOVES

__all__ = ["always_holds"]


def always_holds(node: Any, value: Callable[[Any], Any]) -> bool:
    """Tell whether a node compares something positive with a number that is not.

    Such are PyMC's checks of scales under the logarithmic transformation: ``exp(v) > 0``.

    Parameters
    ----------
    node : Apply
    value : callable
        Gives the value of a variable that depends on no coordinate, and None for others.
    """
    scalar = getattr(node.op, "scalar_op", None)
    if isinstance(scalar, ps.GT | ps.GE):
        large, small = node.inputs
    elif isinstance(scalar, ps.LT | ps.LE):
        small, large = node.inputs
    else:
        return False
    bound = value(small)
    return bound is not None and bool(np.all(bound <= 0)) and _is_positive(large, value)


def _is_positive(variable: Any, value: Callable[[Any], Any]) -> bool:
    known = value(variable)
    if known is not None:
        return bool(np.all(known > 0))
    node = variable.owner
    if node is None:
        return False
    if isinstance(node.op, (*MOVES, basic.Alloc)):
        return _is_positive(node.inputs[0], value)
    if not isinstance(node.op, Elemwise):
        return False
    scalar = node.op.scalar_op
    if isinstance(scalar, ps.Exp | Sigmoid | Softplus):
        return True
    if isinstance(scalar, ps.Add | ps.Mul | ps.TrueDiv | ps.Sqrt | ps.Cast | ps.Identity):
        return all(_is_positive(v, value) for v in node.inputs)
    return isinstance(scalar, ps.Pow | ps.Sqr) and _is_positive(node.inputs[0], value)
