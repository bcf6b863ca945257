"""Which coordinates each element of a graph depends on, read from the graph alone."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import DeepCopyOp, ViewOp
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import toposort
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor import basic, extra_ops, special, subtensor
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.math import Argmax, Dot
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Shape, Shape_i

from pymc_multimodal.model.black_box import is_black_box
from pymc_multimodal.model.positive import always_holds
from pymc_multimodal.model.reach import MOVES
from pymc_multimodal.model.sets import Sets

__all__ = ["depends_on"]

_log = logging.getLogger("pymc.multimodal")

# Ops that only select or rearrange elements of their first input.
_MOVES = (*MOVES, basic.Split, basic.ExtractDiag, extra_ops.Repeat, JoinDims, SplitDims)
# Ops that put their second input into the first.
_PUTS = (
    subtensor.IncSubtensor,
    subtensor.AdvancedIncSubtensor,
    getattr(subtensor, "AdvancedIncSubtensor1", subtensor.AdvancedIncSubtensor),
)
_SAME = (ViewOp, DeepCopyOp, basic.TensorFromScalar, basic.ScalarFromTensor)
# Ops whose outputs depend on all elements along an axis, and keep the shape. In PyTensor 3 these
# are graphs.
_ALONG = (special.Softmax, special.LogSoftmax)

# Steps along an axis up to which a cumulative sum is followed step by step: beyond, each element
# counts as depending on all. Conventional.
MAX_STEPS = 2000


def depends_on(outputs: Sequence[Any], root: Any, dim: int) -> np.ndarray | None:
    """Find the elements of a vector on which each element of some variables may depend.

    Elements are followed through Ops that select, rearrange, reduce or combine them, and through
    products with a constant matrix by its elements that are not zero. Elements of any other Op
    depend on all that enters it. A comparison that always holds depends on nothing (but for
    underflow). No function of the vector is evaluated; indices, shapes and constant matrices are.

    Parameters
    ----------
    outputs : sequence of variables
        Their elements are T in all, those of each variable in C order.
    root : variable
        The vector.
    dim : int
        Its length, d.

    Returns
    -------
    array of bool, shape (T, d), or None
        None if the shape of some variable cannot be told.
    """
    sets = Sets(dim)
    walk = _Walk(sets, {root: sets.singletons()})
    try:
        walk.through(outputs)
    except _UnknownShape as reason:
        _log.debug("The graph of the model could not be followed: %s", reason)
        return None
    return sets.rows(np.concatenate([walk.ids[v].ravel() for v in outputs]))


class _UnknownShape(Exception):
    """The shape of a variable cannot be told from the graph."""


class _Walk:
    """A way through a graph that gives each element the set of coordinates it depends on.

    Parameters
    ----------
    sets : Sets
    ids : mapping
        Sets, by their numbers, of the elements of variables where the walk begins.
    values : mapping
        Values of some of these variables.
    """

    def __init__(
        self, sets: Sets, ids: Mapping[Any, np.ndarray], values: Mapping[Any, Any] | None = None
    ) -> None:
        self.sets = sets
        self.ids = dict(ids)
        self.values = dict(values or {})
        # Variables whose values do not depend on the coordinates; computed when they are asked for.
        self.known = set(self.values)

    def through(self, outputs: Sequence[Any]) -> None:
        """Give sets to all variables that some outputs are made of."""
        for output in outputs:
            self._begin(output)
        for node in toposort(outputs, blockers=list(self.ids)):
            if all(v in self.ids for v in node.outputs):
                continue
            for v in node.inputs:
                self._begin(v)
            self._visit(node)

    def value(self, variable: Any) -> Any:
        """Return the value of a variable that depends on no coordinate; None if it does."""
        if variable not in self.known:
            return None
        if variable not in self.values:
            node = variable.owner
            inputs = [self.value(v) for v in node.inputs]
            if any(v is None for v in inputs):
                self.known.discard(variable)
                return None
            try:
                self.values.update(zip(node.outputs, _performed(node, inputs), strict=True))
            except Exception:
                _log.debug("The Op %s could not be run in Python.", node.op, exc_info=True)
                self.known.difference_update(node.outputs)
                return None
        return self.values[variable]

    def _begin(self, variable: Any) -> None:
        """Give sets to a variable that nothing computes."""
        if variable in self.ids or variable.owner is not None:
            return
        if isinstance(variable, Constant):
            self._set_value(variable, variable.data)
        elif isinstance(variable, SharedVariable):
            self._set_value(variable, variable.get_value(borrow=True))
        else:
            raise _UnknownShape(f"the input {variable} has no value")

    def _set_value(self, variable: Any, value: Any) -> None:
        self.known.add(variable)
        self.values[variable] = value
        self.ids[variable] = np.broadcast_to(0, np.shape(value) if _is_array(variable) else ())

    def _visit(self, node: Any) -> None:
        op = node.op
        if isinstance(op, Shape):
            return self._set_value(node.outputs[0], np.array(self.ids[node.inputs[0]].shape, int))
        if isinstance(op, Shape_i):
            return self._set_value(node.outputs[0], np.array(self.ids[node.inputs[0]].shape[op.i]))
        if self.known.issuperset(node.inputs) and not is_black_box(op):
            self.known.update(node.outputs)
            for k, v in enumerate(node.outputs):
                self.ids[v] = np.broadcast_to(0, self._shape(node, k))
            return None
        try:
            results = self._followed(node)
        except _UnknownShape:
            raise
        except Exception:
            _log.debug("The Op %s could not be followed.", op, exc_info=True)
            results = None
        if results is None:
            whole = self.sets.union_of([self.ids[v] for v in node.inputs])
            results = [
                np.broadcast_to(whole, self._shape(node, k)) for k in range(len(node.outputs))
            ]
        self.ids.update(zip(node.outputs, results, strict=True))
        return None

    def _shape(self, node: Any, k: int) -> tuple[int, ...]:
        """Return the shape of an output of a node."""
        output = node.outputs[k]
        if output in self.values or not _is_array(output):
            return np.shape(self.values.get(output, 0)) if _is_array(output) else ()
        if None not in output.type.shape:
            return tuple(output.type.shape)
        if output in self.known:
            value = self.value(output)
            if value is not None:
                return np.shape(value)
        return self._inferred(node, k)

    def _inferred(self, node: Any, k: int) -> tuple[int, ...]:
        """Return the shape of a node's output by the Op's own rule."""
        infer = getattr(node.op, "infer_shape", None)
        if infer is None:
            raise _UnknownShape(f"{node.op} does not tell the shape of its outputs")
        shapes = [tuple(pt.constant(int(n)) for n in self.ids[v].shape) for v in node.inputs]
        graph = (None,) if len(inspect.signature(infer).parameters) == 3 else ()
        try:
            inferred = tuple(infer(*graph, node, shapes)[k])
        except Exception as error:
            # An Op's own rule may raise anything; some need the graph that is not there.
            raise _UnknownShape(f"{node.op} does not tell the shape of its outputs") from error
        return tuple(self._length(n) for n in inferred)

    def _length(self, n: Any) -> int:
        variable = pt.as_tensor(n)
        self.through([variable])
        value = self.value(variable)
        if value is None:
            raise _UnknownShape("the length of an array depends on the coordinates")
        return int(value)

    # -------------------------------------------------------------- rules of Ops

    def _followed(self, node: Any) -> list[np.ndarray] | None:
        """Return the sets of a node's outputs; None where there is no rule for its Op."""
        rule = next((f for ops, f in _RULES if isinstance(node.op, ops)), None)
        if rule is not None:
            return rule(self, node)
        if getattr(node.op, "b_ndim", 0) == 2 and len(node.outputs) == 1:
            return self._solved(node)
        return None

    def _same(self, node: Any) -> list[np.ndarray]:
        return [self.ids[node.inputs[0]]]

    def _checked(self, node: Any) -> list[np.ndarray]:
        first, *conditions = node.inputs
        whole = self.sets.union_of([self.ids[v] for v in conditions])
        return [self.sets.union(self.ids[first], np.array(whole))]

    def _elementwise(self, node: Any) -> list[np.ndarray]:
        ids = [self.ids[v] for v in node.inputs]
        scalar = node.op.scalar_op
        if isinstance(scalar, ps.Switch):
            condition = self.value(node.inputs[0])
            if condition is not None:
                return [np.where(condition, ids[1], ids[2])]
        out = self.sets.union(*ids)
        if always_holds(node, self.value):
            return [np.broadcast_to(0, out.shape)]
        if isinstance(scalar, ps.Mul):
            # A product with zero is zero.
            for v in node.inputs:
                factor = self.value(v) if v in self.known and self.ids[v].size > 1 else None
                if factor is not None and not np.all(factor):
                    out = np.where(np.asarray(factor) == 0, 0, out)
        return [out] * len(node.outputs)

    def _moved(self, node: Any) -> list[np.ndarray] | None:
        first, *others = node.inputs
        places = [self.value(v) for v in others]
        if any(p is None and not _is_none(v) for p, v in zip(places, others, strict=True)):
            return None
        results = _performed(node, [self.ids[first], *places])
        results = [np.asarray(r) for r in results]
        return results if all(r.dtype.kind == "i" for r in results) else None

    def _put(self, node: Any) -> list[np.ndarray] | None:
        into, what, *others = node.inputs
        places = [self.value(v) for v in others]
        if any(p is None and not _is_none(v) for p, v in zip(places, others, strict=True)):
            return None
        x, y = np.array(self.ids[into], dtype=np.int64), np.array(self.ids[what], dtype=np.int64)
        if node.op.set_instead_of_inc:
            return [np.asarray(_performed(node, [x, y, *places])[0])]
        for one in np.unique(y[y > 0]):
            marks = _performed(node, [np.zeros_like(x), (y == one).astype(np.int64), *places])[0]
            x = self.sets.union(x, np.where(np.asarray(marks) > 0, one, 0))
        return [x]

    def _joined(self, node: Any) -> list[np.ndarray] | None:
        axis = getattr(node.op, "axis", None)
        parts = list(node.inputs)
        if axis is None:
            axis = self.value(parts.pop(0))
        return [np.concatenate([self.ids[v] for v in parts], axis=int(axis))]

    def _vector(self, node: Any) -> list[np.ndarray]:
        return [np.array([self.ids[v] for v in node.inputs], dtype=np.int64).reshape(-1)]

    def _allocated(self, node: Any) -> list[np.ndarray] | None:
        first, *lengths = node.inputs
        shape = [self.value(v) for v in lengths]
        if any(n is None for n in shape):
            return None
        return [np.broadcast_to(self.ids[first], tuple(int(n) for n in shape))]

    def _empty(self, node: Any) -> list[np.ndarray] | None:
        shape = [self.value(v) for v in node.inputs]
        return None if any(n is None for n in shape) else [np.zeros([int(n) for n in shape], int)]

    def _reduced(self, node: Any) -> list[np.ndarray]:
        return [self.sets.union_over(self.ids[node.inputs[0]], node.op.axis)]

    def _along(self, node: Any) -> list[np.ndarray]:
        ids = self.ids[node.inputs[0]]
        return [np.broadcast_to(self.sets.union_over(ids, node.op.axis, keep=True), ids.shape)]

    def _cumulated(self, node: Any) -> list[np.ndarray] | None:
        ids = self.ids[node.inputs[0]]
        axis = node.op.axis
        ids, axis = (ids.ravel(), 0) if axis is None else (ids, axis)
        if ids.shape[axis] > MAX_STEPS:
            return None
        steps = [*np.moveaxis(ids, axis, 0)]
        for i in range(1, len(steps)):
            steps[i] = self.sets.union(steps[i - 1], steps[i])
        return [np.stack(steps, axis=axis) if steps else ids]

    def _dotted(self, node: Any) -> list[np.ndarray]:
        a, b = node.inputs
        return [self.sets.product(self.ids[a], self.ids[b], self.value(a), self.value(b))]

    def _solved(self, node: Any) -> list[np.ndarray]:
        """Follow the solution of a linear system for each column of a matrix."""
        a, b = (self.ids[v] for v in node.inputs)
        columns = self.sets.union_over(b, (0,), keep=True)
        return [
            np.broadcast_to(self.sets.union(columns, np.array(self.sets.union_of([a]))), b.shape)
        ]

    def _inner(self, node: Any) -> list[np.ndarray] | None:
        graph = node.op.fgraph
        given = dict(zip(graph.inputs, node.inputs, strict=True))
        values = {i: self.value(v) for i, v in given.items() if self.value(v) is not None}
        walk = _Walk(self.sets, {i: self.ids[v] for i, v in given.items()}, values)
        walk.through(graph.outputs)
        return [walk.ids[v] for v in graph.outputs]

    def _batched(self, node: Any) -> list[np.ndarray]:
        """Follow the elements of each batch of a core Op, for itself."""
        op = node.op
        if isinstance(op.core_op, Dot):
            a, b = node.inputs
            return [self.sets.product(self.ids[a], self.ids[b], self.value(a), self.value(b))]
        columns = getattr(op.core_op, "b_ndim", 0) == 2
        parts = []
        for k, (v, signature) in enumerate(zip(node.inputs, op.inputs_sig, strict=True)):
            # Each column of the right-hand side of a linear system is solved for itself.
            kept = 1 if columns and k == 1 else 0
            axes = tuple(range(-len(signature), -kept if kept else 0))
            ids = self.sets.union_over(self.ids[v], axes) if axes else self.ids[v]
            parts.append(ids if kept or not columns else ids[..., None])
        batch = self.sets.union(*parts)
        results = []
        for k, signature in enumerate(op.outputs_sig):
            shape = self._shape(node, k)
            if columns:
                results.append(np.broadcast_to(batch[..., None, :], shape))
            else:
                results.append(np.broadcast_to(batch.reshape(*batch.shape, *[1] * len(signature)),
                                               shape))  # fmt: skip
        return results


_RULES: tuple[tuple[tuple[Any, ...], Callable[[_Walk, Any], list[np.ndarray] | None]], ...] = (
    (_SAME, _Walk._same),
    ((CheckAndRaise,), _Walk._checked),
    ((Elemwise,), _Walk._elementwise),
    (_MOVES, _Walk._moved),
    (_PUTS, _Walk._put),
    ((basic.Join,), _Walk._joined),
    ((basic.MakeVector,), _Walk._vector),
    ((basic.Alloc,), _Walk._allocated),
    ((basic.AllocEmpty,), _Walk._empty),
    ((CAReduce, Argmax), _Walk._reduced),
    ((OpFromGraph,), _Walk._inner),
    (_ALONG, _Walk._along),
    ((extra_ops.CumOp,), _Walk._cumulated),
    ((Dot,), _Walk._dotted),
    ((Blockwise,), _Walk._batched),
)


def _performed(node: Any, inputs: Sequence[Any]) -> list[Any]:
    """Run a node's Op on other inputs."""
    node.op.prepare_node(node, None, None, "py")
    results: list[list[Any]] = [[None] for _ in node.outputs]
    node.op.perform(node, list(inputs), results)
    return [r[0] for r in results]


def _is_array(variable: Any) -> bool:
    return hasattr(variable.type, "ndim")


def _is_none(variable: Any) -> bool:
    """Tell whether a variable is the constant None, which stands for a new axis in an index."""
    return isinstance(variable, Constant) and variable.data is None
