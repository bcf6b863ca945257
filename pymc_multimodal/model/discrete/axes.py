"""How the axes of a variable reach the outputs of a graph: elementwise, or mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import zip_longest
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.logprob.utils import CheckParameterValue
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor import TensorType
from pytensor.tensor.basic import Alloc, Join, MakeVector, ScalarFromTensor, TensorFromScalar
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import All
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor, get_idx_list
from pytensor.tensor.type_other import NoneTypeT, SliceType

__all__ = ["Axes", "follow_axes"]

Axes = tuple[int | None, ...]
"""For each axis of a variable the axis of the source with which it runs, or None."""


class _Mixed(Exception):
    """An Op mixes elements of the source, or is not known here."""


def follow_axes(graph: FunctionGraph, source: Variable, axes: Axes) -> dict[Variable, Axes | None]:
    """Find out which outputs of a graph depend on a source element by element.

    Parameters
    ----------
    graph : FunctionGraph
        Log densities. A check of parameters that refers to all elements of the source is replaced,
        in place, by one for each element.
    source : variable
    axes : tuple of int or None
        An axis is None if its length is 1: it may be broadcast.

    Returns
    -------
    dict
        For each variable of the graph that depends on the source: its axes, if an element of it
        depends on no other elements of the source than those at the same place along these axes;
        None if it may.
    """
    found: dict[Variable, Axes | None] = {source: axes}
    for node in graph.toposort():
        inputs = [found.get(v, _untouched(v)) for v in node.inputs]
        if not any(v in found for v in node.inputs):
            continue
        try:
            if isinstance(node.op, CheckParameterValue):
                replaced = _check_by_element(node, found)
                graph.replace(node.outputs[0], replaced, import_missing=True)
                found[replaced] = found[node.inputs[0]]
                continue
            known = [axes for axes in inputs if axes is not None]
            if len(known) < len(inputs):
                raise _Mixed
            axes_out = _rule(node.op)(node, known)
            if {a for a in axes_out if a is not None} != {a for a in axes if a is not None}:
                raise _Mixed
            found.update(dict.fromkeys(node.outputs, axes_out))
        except _Mixed:
            found.update(dict.fromkeys(node.outputs, None))
    return found


def _untouched(variable: Variable) -> Axes:
    return (None,) * getattr(variable.type, "ndim", 0)


def _joined(inputs: Sequence[Axes]) -> Axes:
    """Return the axes of inputs that are broadcast against each other."""
    joined: list[int | None] = []
    for column in zip_longest(*(axes[::-1] for axes in inputs)):
        sources = {axis for axis in column if axis is not None}
        if len(sources) > 1:
            raise _Mixed
        joined.append(sources.pop() if sources else None)
    known = [axis for axis in joined if axis is not None]
    if len(set(known)) < len(known):
        raise _Mixed
    return tuple(joined[::-1])


# ------------------------------------------------------------------ a function for each kind of Op


def _elementwise(node: Any, inputs: Sequence[Axes]) -> Axes:
    return _joined(inputs)


def _first(node: Any, inputs: Sequence[Axes]) -> Axes:
    """Return the axes of the first input, which the Op passes on."""
    if any(axis is not None for axes in inputs[1:] for axis in axes):
        raise _Mixed
    return inputs[0]


def _shuffled(node: Any, inputs: Sequence[Axes]) -> Axes:
    return tuple(None if i == "x" else inputs[0][i] for i in node.op.new_order)


def _reduced(node: Any, inputs: Sequence[Axes]) -> Axes:
    axes = node.op.axis
    gone = range(len(inputs[0])) if axes is None else {a % len(inputs[0]) for a in _tuple(axes)}
    if any(inputs[0][i] is not None for i in gone):
        raise _Mixed
    return tuple(a for i, a in enumerate(inputs[0]) if i not in gone)


def _along_axis(node: Any, inputs: Sequence[Axes]) -> Axes:
    """Return the axes after an Op that mixes elements along one axis, such as a softmax."""
    axis = node.op.axis
    if axis is None or any(inputs[0][a] is not None for a in _tuple(axis)):
        raise _Mixed
    return inputs[0]


def _concatenated(node: Any, inputs: Sequence[Axes]) -> Axes:
    # Before PyTensor 3 the axis is the first input.
    arrays = [a for a, v in zip(inputs, node.inputs, strict=True) if v in _arrays_joined(node)]
    axis = node.op.axis if hasattr(node.op, "axis") else getattr(node.inputs[0], "data", None)
    joined = _joined(arrays)
    if axis is None or joined[int(axis)] is not None:
        raise _Mixed
    return joined


def _arrays_joined(node: Any) -> list[Any]:
    return list(node.inputs if hasattr(node.op, "axis") else node.inputs[1:])


def _filled(node: Any, inputs: Sequence[Axes]) -> Axes:
    return _joined([inputs[0], (None,) * node.outputs[0].type.ndim])


def _blockwise(node: Any, inputs: Sequence[Axes]) -> Axes:
    n = node.op.batch_ndim(node)
    if any(axis is not None for axes in inputs for axis in axes[n:]):
        raise _Mixed
    if any(v.type.ndim != node.outputs[0].type.ndim for v in node.outputs):
        raise _Mixed
    return _joined([axes[:n] for axes in inputs]) + (None,) * (node.outputs[0].type.ndim - n)


def _selected(node: Any, inputs: Sequence[Axes]) -> Axes:
    """Return the axes after an index: of what is indexed, or of the index itself."""
    indices = _indices(node)
    arrays = [i for i in indices if isinstance(i, Variable) and isinstance(i.type, TensorType)]
    of_index = [axes for axes in inputs[1:] if any(a is not None for a in axes)]
    if any(a is not None for a in inputs[0]) and of_index:
        raise _Mixed
    if any(i.type.dtype == "bool" for i in arrays):
        raise _Mixed
    if any(isinstance(getattr(i, "type", None), NoneTypeT) for i in indices):
        raise _Mixed
    kept: list[int | None] = []
    place, apart, slices_since = None, False, False
    padded = [*indices, *[slice(None)] * (len(inputs[0]) - len(indices))]
    for axis, index in zip(inputs[0], padded, strict=True):
        if _is_slice(index):
            if axis is not None and not _is_full(index):
                raise _Mixed
            kept.append(axis)
            slices_since = slices_since or place is not None
            continue
        if axis is not None:
            raise _Mixed
        apart = apart or slices_since
        if isinstance(index, Variable) and isinstance(index.type, TensorType):
            place = len(kept) if place is None else place
    if isinstance(node.op, Subtensor):
        return tuple(kept)
    # NumPy puts the axes of separated index arrays in front.
    place = 0 if apart or place is None else place
    width = max((i.type.ndim for i in arrays), default=0)
    own = _joined([*of_index, (None,) * width])
    return (*kept[:place], *own, *kept[place:])


def _indices(node: Any) -> list[Any]:
    if hasattr(node.op, "idx_list"):
        return list(get_idx_list(node.inputs, node.op.idx_list))
    return list(node.inputs[1:])


def _is_slice(index: Any) -> bool:
    return isinstance(index, slice) or isinstance(getattr(index, "type", None), SliceType)


def _is_full(index: Any) -> bool:
    if isinstance(index, Constant):
        index = index.data
    if isinstance(index, slice):
        return index == slice(None)
    return index.owner is not None and all(
        isinstance(v.type, NoneTypeT) for v in index.owner.inputs
    )


def _unknown(node: Any, inputs: Sequence[Axes]) -> Axes:
    raise _Mixed


_RULES: Mapping[type, Callable[[Any, Sequence[Axes]], Axes]] = {
    Elemwise: _elementwise,
    DimShuffle: _shuffled,
    CAReduce: _reduced,
    Subtensor: _selected,
    AdvancedSubtensor: _selected,
    Blockwise: _blockwise,
    SpecifyShape: _first,
    CheckAndRaise: _first,
    Alloc: _filled,
    Join: _concatenated,
}
# Ops that some versions of PyTensor lack, or keep elsewhere.
_RULES_BY_NAME: Mapping[str, Callable[[Any, Sequence[Axes]], Axes]] = {
    "AdvancedSubtensor1": _selected,
    "CumOp": _along_axis,
    "LogSoftmax": _along_axis,
    "Softmax": _along_axis,
}


def _rule(op: Any) -> Callable[[Any, Sequence[Axes]], Axes]:
    for kind in type(op).__mro__:
        found = _RULES.get(kind) or _RULES_BY_NAME.get(kind.__name__)
        if found is not None:
            return found
    return _unknown


def _tuple(axes: Any) -> tuple[int, ...]:
    return tuple(axes) if np.iterable(axes) else (axes,)


# ------------------------------------------------------------------ checks of parameters

# Ops between the conditions of a check and the scalar that is checked.
_PACKING = (MakeVector, Join, DimShuffle, ScalarFromTensor, TensorFromScalar)


def _check_by_element(node: Any, found: dict[Variable, Axes | None]) -> Any:
    """Turn the check of a log density for all elements into one for each.

    A log density of which one element has bad parameters is -inf in all elements. With the source
    set to one value in all elements, that would exclude this value from the other elements, too.
    """
    density, *conditions = node.inputs
    axes = found.get(density)
    if not node.op.can_be_replaced_by_ninf or axes is None:
        raise _Mixed
    valid = [_condition_of_element(c, axes, found) for c in conditions for c in _parts(c)]
    return pt.switch(reduce(pt.and_, valid), density, -np.inf)


def _parts(condition: Any) -> list[Any]:
    """Return the conditions that have to hold together in a scalar one."""
    node = condition.owner
    if node is not None and isinstance(node.op, _PACKING):
        packed = _arrays_joined(node) if isinstance(node.op, Join) else node.inputs
        return [part for v in packed for part in _parts(v)]
    if node is not None and isinstance(node.op, All):
        [inner] = node.inputs
        made = inner.owner is not None and isinstance(inner.owner.op, MakeVector | Join)
        return _parts(inner) if made else [inner]
    return [condition]


def _condition_of_element(condition: Any, axes: Axes, found: Mapping[Variable, Axes | None]) -> Any:
    """Reduce a condition to the axes of the source, in the order of a density's axes."""
    if condition not in found:
        return pt.all(condition)
    own = found[condition]
    if own is None or any(a is not None and a not in axes for a in own):
        raise _Mixed
    reduced = pt.all(condition, axis=[i for i, a in enumerate(own) if a is None])
    order = [a for a in own if a is not None]
    return reduced.dimshuffle(*("x" if a is None else order.index(a) for a in axes))
