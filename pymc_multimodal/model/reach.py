"""Which elements of a variable reach the outputs of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor import subtensor
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.shape import Reshape, SpecifyShape

__all__ = ["MOVES", "reaching"]

# Ops that only select or rearrange elements of their first input.
MOVES = (
    subtensor.Subtensor,
    subtensor.AdvancedSubtensor,
    # PyTensor 3 has no such class.
    getattr(subtensor, "AdvancedSubtensor1", subtensor.AdvancedSubtensor),
    DimShuffle,
    Reshape,
    SpecifyShape,
)


def reaching(outputs: Sequence[Any], variable: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Find the elements of a variable on which the outputs of a graph may depend.

    Elements are followed through Ops that select or rearrange them, or act on each alone. Any other
    Op depends on all elements that enter it.

    Parameters
    ----------
    outputs : sequence of variables
    variable : variable
    shape : tuple of int
        Shape of the variable.

    Returns
    -------
    array of bool, shape (size,)
        True for each element that reaches an output, in C order.
    """
    graph = FunctionGraph(outputs=list(outputs), clone=False)
    elements = np.arange(int(np.prod(shape))).reshape(shape)
    reached = np.zeros(elements.size, dtype=bool)
    seen = set()
    waiting = [(variable, elements)]
    while waiting:
        at, elements = waiting.pop()
        key = (at, elements.tobytes())
        if key in seen:
            continue
        seen.add(key)
        for node, place in graph.clients.get(at, ()):
            moved = _moved(node, place, elements)
            if moved is None:
                reached[elements.ravel()] = True
            else:
                waiting.append((node.outputs[0], moved))
    return reached


def _moved(node: Any, place: int, elements: np.ndarray) -> np.ndarray | None:
    """Return which element each element of a node's output depends on, if it is one."""
    if len(node.outputs) != 1:
        return None
    others = [v for k, v in enumerate(node.inputs) if k != place]
    if isinstance(node.op, Elemwise):
        shape = node.outputs[0].type.shape
        if None in shape and all(all(v.type.broadcastable) for v in others):
            shape = elements.shape
        return None if None in shape else np.broadcast_to(elements, shape)
    if isinstance(node.op, MOVES) and place == 0 and all(isinstance(v, Constant) for v in others):
        result: list[Any] = [None]
        node.op.perform(node, [elements, *(v.data for v in others)], [result])
        return np.asarray(result[0])
    return None
