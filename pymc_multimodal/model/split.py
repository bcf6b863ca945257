"""The terms of a sum, as far down its graph as they can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Constant
from pytensor.tensor import basic
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import All, Dot, Sum
from pytensor.tensor.math import Any as AnyTrue
from pytensor.tensor.shape import Reshape, SpecifyShape

__all__ = ["terms_in"]

# What is done to each term on the way up to the sum, the last first.
_Wrap = Callable[[Any], Any]


def terms_in(total: Any) -> list[Any]:
    """Split a scalar variable into variables whose elements, all together, sum to it.

    Sums, differences and negatives are split, products with a scalar, and sums under a condition.
    A condition of validity (``-inf`` where it does not hold) that is one for a whole array becomes
    a term for each of its elements. Where it does not hold the other terms may be NaN.

    Parameters
    ----------
    total : variable
        A scalar.

    Returns
    -------
    list of variables
        Each of any shape.
    """
    terms: list[Any] = []
    waiting: list[tuple[Any, tuple[_Wrap, ...]]] = [(total, ())]
    while waiting:
        variable, wraps = waiting.pop()
        parts = _parts(variable)
        if parts is None:
            for wrap in reversed(wraps):
                variable = wrap(variable)
            terms.append(variable)
        else:
            waiting += [(part, wraps if wrap is None else (*wraps, wrap)) for part, wrap in parts]
    return terms[::-1]


def _parts(variable: Any) -> list[tuple[Any, _Wrap | None]] | None:
    """Return variables whose elements sum to the sum of those of `variable`, each with its wrap.

    None if it is not a sum.
    """
    node = variable.owner
    if node is None:
        return None
    op, inputs = node.op, node.inputs
    if isinstance(op, Sum | ViewOp | Reshape | DimShuffle | SpecifyShape):
        return [(inputs[0], None)]
    if isinstance(op, basic.MakeVector):
        return [(v, None) for v in inputs]
    if isinstance(op, basic.Join):
        # In PyTensor 2 the axis is the first input.
        return [(v, None) for v in inputs if getattr(op, "axis", None) is not None or v.ndim]
    if isinstance(op, Dot) and _is_scalar(variable):
        return [(inputs[0].ravel() * inputs[1].ravel(), None)]
    if isinstance(op, Elemwise):
        return _of_elementwise(variable, op.scalar_op, inputs)
    return None


def _of_elementwise(
    variable: Any, op: Any, inputs: list[Any]
) -> list[tuple[Any, _Wrap | None]] | None:
    if isinstance(op, ps.Neg):
        return [(inputs[0], pt.neg)]
    if isinstance(op, ps.Cast | ps.Identity) and "float" in inputs[0].dtype:
        return [(inputs[0], None)]
    if isinstance(op, ps.Switch):
        return _of_switch(variable, *inputs)
    if not _is_scalar(variable):
        return None
    if isinstance(op, ps.Add):
        return [(v, None) for v in inputs]
    if isinstance(op, ps.Sub):
        return [(inputs[0], None), (inputs[1], pt.neg)]
    if isinstance(op, ps.TrueDiv) and _is_sum(inputs[0]):
        return [(inputs[0], lambda term: term / inputs[1].squeeze())]
    if isinstance(op, ps.Mul):
        place = next((k for k, v in enumerate(inputs) if _is_sum(v)), None)
        if place is not None:
            others = [v.squeeze() for k, v in enumerate(inputs) if k != place]
            factor = others[0] if len(others) == 1 else pt.mul(*others)
            return [(inputs[place], lambda term: term * factor)]
    return None


def _of_switch(
    variable: Any, condition: Any, yes: Any, no: Any
) -> list[tuple[Any, _Wrap | None]] | None:
    """Split a sum under a condition that is one for all its elements."""
    if not _is_scalar(condition):
        return None
    for value, other, valid in ((yes, no, True), (no, yes, False)):
        whole = value.type.broadcastable == variable.type.broadcastable
        if whole and _is_minus_infinity(other) and _constant(value) is None:
            return [(value, None), *((v, None) for v in _checks(condition, valid))]
    if _is_scalar(yes) and _is_scalar(no) and (_is_sum(yes) or _is_sum(no)):
        holds = condition.squeeze()
        return [
            (yes, lambda term: pt.switch(holds, term, 0.0)),
            (no, lambda term: pt.switch(holds, 0.0, term)),
        ]
    return None


def _checks(condition: Any, valid: bool) -> list[Any]:
    """Return arrays of 0 and -inf, whose sum is 0 if a condition is `valid` and -inf if not."""
    node = condition.owner
    op = None if node is None else node.op
    scalar = getattr(op, "scalar_op", None)
    if isinstance(op, DimShuffle | Reshape) or isinstance(op, All if valid else AnyTrue):
        return _checks(node.inputs[0], valid)
    if isinstance(op, Elemwise) and isinstance(scalar, ps.Invert):
        return _checks(node.inputs[0], not valid)
    joins = isinstance(op, Elemwise) and isinstance(scalar, ps.AND if valid else ps.OR)
    if isinstance(op, basic.MakeVector) or joins:
        return [check for v in node.inputs for check in _checks(v, valid)]
    return [pt.switch(condition, 0.0, -np.inf) if valid else pt.switch(condition, -np.inf, 0.0)]


def _is_scalar(variable: Any) -> bool:
    return all(n == 1 for n in variable.type.shape)


def _is_sum(variable: Any) -> bool:
    """Tell whether a variable is a sum of terms, behind changes of its shape, sign or type."""
    node = variable.owner
    if node is None:
        return False
    if isinstance(node.op, Sum | Dot):
        return True
    if isinstance(node.op, Elemwise):
        scalar = node.op.scalar_op
        if isinstance(scalar, ps.Add | ps.Sub):
            return True
        if not isinstance(scalar, ps.Neg | ps.Cast | ps.Identity):
            return False
    elif not isinstance(node.op, DimShuffle | ViewOp):
        return False
    return _is_sum(node.inputs[0])


def _is_minus_infinity(variable: Any) -> bool:
    constant = _constant(variable)
    return constant is not None and bool(np.all(np.equal(constant.data, -np.inf)))


def _constant(variable: Any) -> Any:
    """Return the constant that a variable repeats; None if it is none."""
    while variable.owner is not None and isinstance(variable.owner.op, DimShuffle | basic.Alloc):
        variable = variable.owner.inputs[0]
    return variable if isinstance(variable, Constant) else None
