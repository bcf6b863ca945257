"""Where the graph of a log density can be cut: at outputs of black boxes, or at named variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.logprob.basic import transformed_conditional_logp
from pymc.logprob.utils import replace_rvs_by_values
from pytensor.compile.ops import FromFunctionOp, ViewOp
from pytensor.graph.basic import Apply, clone_get_equiv
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph, Op
from pytensor.graph.traversal import explicit_graph_inputs, toposort
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.type import TensorType

from pymc_multimodal.model.compiled import rewritten
from pymc_multimodal.status import ModelError

__all__ = ["Cut", "black_boxes", "cut_at_black_boxes", "cut_at_names", "is_black_box"]

# Packages whose Ops are symbolic: PyTensor knows what they compute.
_SYMBOLIC = ("pytensor", "pymc", "pymc_extras")

# Modules of these packages whose Ops run code that PyTensor does not know.
_FOREIGN = ("pytensor.link.jax", "pymc.ode")


@dataclass(frozen=True)
class Cut:
    """The graph of a log density, and variables in it at which it is cut.

    Attributes
    ----------
    logp : variable
        The log density in terms of the value variables.
    at : tuple of variables
        Variables in the graph of `logp`, which is cut there.
    expressions : tuple of variables
        What computes each of them from the value variables.
    labels : tuple of str
        A name for each.
    constants : tuple of variables
        Outputs of black boxes in the graph of `logp` that depend on no value variable.
    """

    logp: Any
    at: tuple[Any, ...]
    expressions: tuple[Any, ...]
    labels: tuple[str, ...]
    constants: tuple[Any, ...] = ()


def is_black_box(op: Any) -> bool:
    """Whether an Op runs code that PyTensor does not know, itself or in its inner graph.

    Such are Ops that ``wrap_py`` (``as_op``) makes of functions, wrapped JAX functions, the ODE
    solver of PyMC, and Ops that are defined in neither PyTensor nor PyMC.
    """
    if isinstance(op, Blockwise):
        return is_black_box(op.core_op)
    if isinstance(op, Elemwise):
        return is_black_box(op.scalar_op)
    if isinstance(op, HasInnerGraph):
        # An Op that is only a graph (OpFromGraph) is no black box, whoever defines it.
        return any(is_black_box(node.op) for node in op.fgraph.apply_nodes)
    module = type(op).__module__
    if isinstance(op, FromFunctionOp) or _within(module, _FOREIGN):
        return True
    return not (isinstance(op, _Named) or _within(module, _SYMBOLIC))


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in packages)


def black_boxes(cut: Cut) -> list[str]:
    """Return names of the black boxes that the log density passes through above the cut."""
    outputs = _frontier(cut.logp, lambda node: _opaque(node) or node.outputs[0] in cut.at)
    return sorted({_label(v) for v in outputs if _opaque(v.owner)})


def cut_at_black_boxes(model: pm.Model) -> Cut | None:
    """Find the outputs of black boxes that the rest of the log density uses directly.

    Returns
    -------
    Cut or None
        None if no black box depends on the model's variables, or one gives something else than
        arrays of floating point numbers.
    """
    logp = model.logp()
    if not any(_opaque(node) for node in toposort([logp])):
        return None
    shown = [v for v in model.deterministics if _opaque(_without_views(v).owner)]
    # Equal graphs become one: outputs that several terms use, and what the Deterministics show.
    logp, *values = rewritten([logp, *model.replace_rvs_by_values(shown)], "merge")
    names = {_without_views(v): d.name for v, d in zip(values, shown, strict=True)}
    at: list[Any] = []
    constants: list[Any] = []
    free = set(model.value_vars)
    for output in _frontier(logp, _opaque):
        depends = not free.isdisjoint(explicit_graph_inputs([output]))
        (at if depends else constants).append(output)
    if not at or not all(_is_real(v) for v in at):
        return None
    labels = _unique([names.get(v) or v.name or _label(v) for v in at])
    return Cut(logp, tuple(at), tuple(at), labels, tuple(constants))


def cut_at_names(model: pm.Model, names: str | Sequence[str]) -> Cut:
    """Cut the log density at deterministic variables of the model.

    Raises
    ------
    ModelError
        If there is no name, or the model has no such variable, or it is not a real one, or the log
        density does not depend on it.
    """
    names = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    if not names:
        raise _refused(model, names, "names no variable")
    [logp] = rewritten([_with_marks(model, [_chosen(model, name) for name in names])], "merge")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for output in _frontier(logp, _is_mark):
        found[output.owner.op.name].append(output)
    within = {node.op.name for node in toposort([logp]) if _is_mark(node)}
    free = set(model.value_vars)
    for name, outputs in found.items():
        if name not in within:
            raise _refused(model, name, "does not reach the log density")
        if not outputs:
            raise _refused(model, name, "reaches it only through others of the names")
        if free.isdisjoint(explicit_graph_inputs(outputs)):
            raise _refused(model, name, "depends on no free variable")
    # Rewrites may have made several graphs of one variable.
    graph = FunctionGraph(outputs=[logp], clone=False)
    for first, *others in found.values():
        graph.replace_all([(other, first) for other in others])
    [logp] = graph.outputs
    at = tuple(outputs[0] for outputs in found.values())
    return Cut(logp, at, tuple(_without_marks(at)), names)


class _Named(Op):
    """The identity: it carries the name of a variable of the model through PyMC's rewrites."""

    __props__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def make_node(self, x: Any) -> Apply:
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        outputs[0][0] = np.array(inputs[0])

    def infer_shape(self, *arguments: Any) -> Any:
        return arguments[-1]


def _with_marks(model: pm.Model, variables: Sequence[Any]) -> Any:
    """Build the log density of a model, with `_Named` after each of some variables."""
    rvs = list(model.rvs_to_values)
    sources = [*rvs, *model.potentials]
    # The graph of the model stays as it is; shared variables (data) stay shared.
    copies = clone_get_equiv([], sources, False, False)
    graph = FunctionGraph(outputs=[copies[v] for v in sources], clone=False)
    for variable in variables:
        copy = copies.get(_without_views(variable))
        if copy in graph.variables:
            mark = _Named(variable.name)(pt.as_tensor(copy, allow_xtensor_conversion=True))
            graph.replace(copy, copy.type.filter_variable(mark), import_missing=True)
    values = dict(zip(graph.outputs, model.rvs_to_values.values(), strict=False))
    given = {
        "rvs_to_values": values,
        "rvs_to_transforms": {
            copy: model.rvs_to_transforms.get(rv)
            for copy, rv in zip(graph.outputs, rvs, strict=False)
        },
    }
    terms = transformed_conditional_logp(list(values), **given)
    terms += replace_rvs_by_values(graph.outputs[len(rvs) :], **given)
    return pt.add(*(pt.as_tensor(t, allow_xtensor_conversion=True).sum() for t in terms))


def _without_marks(graphs: Sequence[Any]) -> list[Any]:
    """Copy graphs without the marks in them."""
    copies = clone_get_equiv([], graphs, False, False)
    graph = FunctionGraph(outputs=[copies[v] for v in graphs], clone=False)
    for node in graph.toposort():
        if _is_mark(node):
            graph.replace(node.outputs[0], node.inputs[0])
    return list(graph.outputs)


def _chosen(model: pm.Model, name: str) -> Any:
    """Return the deterministic variable of a name."""
    variable = next((v for v in model.deterministics if v.name == name), None)
    if variable is None:
        known = name in model.named_vars
        why = "is not a pm.Deterministic" if known else "is not a variable of the model"
        raise _refused(model, name, why)
    source = _without_views(variable)
    if source in model.rvs_to_values:
        raise _refused(model, name, f"is only another name of {source.name}")
    if "float" not in str(variable.dtype):
        raise _refused(model, name, f"has the type {variable.dtype}, which is not real")
    return variable


def _refused(model: pm.Model, name: str | tuple[str, ...], why: str) -> ModelError:
    known = sorted(v.name for v in model.deterministics if "float" in str(v.dtype))
    remedy = (
        f"Name some of the model's real pm.Deterministic variables: {', '.join(known)}."
        if known
        else "Wrap the outputs of the expensive code in pm.Deterministic, and name these."
    )
    return ModelError(f"The log density cannot be split at {name!r}, which {why}. {remedy}")


def _frontier(logp: Any, stops: Callable[[Any], bool]) -> list[Any]:
    """Return the outputs of certain nodes that are reached from `logp` through no other of them.

    They are in the order of the graph: nodes that depend on others come later.
    """
    found: dict[Any, None] = {}
    seen, waiting = set(), [logp]
    while waiting:
        variable = waiting.pop()
        if variable in seen or variable.owner is None:
            continue
        seen.add(variable)
        if stops(variable.owner):
            found[variable] = None
        else:
            waiting += variable.owner.inputs
    order = [out for node in toposort([logp]) for out in node.outputs]
    return [v for v in order if v in found]


def _opaque(node: Any) -> bool:
    return node is not None and is_black_box(node.op)


def _is_mark(node: Any) -> bool:
    return isinstance(node.op, _Named)


def _is_real(variable: Any) -> bool:
    return isinstance(variable.type, TensorType) and "float" in variable.dtype


def _without_views(variable: Any) -> Any:
    """Return what a Deterministic shows."""
    while variable.owner is not None and isinstance(variable.owner.op, ViewOp):
        variable = variable.owner.inputs[0]
    return variable


def _label(output: Any) -> str:
    """Return a name of an output of a black box, from its Op."""
    op = output.owner.op
    while isinstance(op, Blockwise | Elemwise | HasInnerGraph):
        if isinstance(op, HasInnerGraph):
            op = next(node.op for node in op.fgraph.toposort() if _opaque(node))
        else:
            op = op.core_op if isinstance(op, Blockwise) else op.scalar_op
    if isinstance(op, FromFunctionOp):
        label = str(op).removeprefix("FromFunctionOp{").removesuffix("}")
        return "output" if label == "<lambda>" else label
    return type(op).__name__


def _unique(labels: Sequence[str]) -> tuple[str, ...]:
    """Add numbers to labels that occur more than once."""
    used: dict[str, int] = {}
    out = []
    for label in labels:
        used[label] = used.get(label, 0) + 1
        out.append(f"{label}_{used[label]}" if labels.count(label) > 1 else label)
    return tuple(out)
