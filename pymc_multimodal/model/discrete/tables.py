"""Log densities of all configurations of discrete variables, as graphs, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import toposort

from pymc_multimodal.model.black_box import is_black_box
from pymc_multimodal.model.compiled import rewritten
from pymc_multimodal.model.discrete.components import Component
from pymc_multimodal.model.discrete.domains import DiscreteVariable
from pymc_multimodal.status import ModelError, first_line

__all__ = ["Tables", "log_sum", "tables_of"]

# Configurations for which a black box runs at each point, or a graph that cannot be vectorised is
# copied. Conventional.
MAX_RUNS = 32
# Least scale of a product of matrices: one that is zero stays zero. Conventional.
SMALLEST = 1e-300


@dataclass(frozen=True)
class Tables:
    """Graphs of the log densities of one component's configurations.

    Attributes
    ----------
    component : Component
    joint : graph of shape (C,)
        Sum of the terms that do not depend on the inner variables.
    inner : graph of shape (C, W, *inner_shape) or None
        For each element the sum of its terms.
    chain : tuple of graphs, or None
        Of a Markov chain, the log probabilities of its first element, shape (C, W), and of its
        transitions, shape (C, W, W).
    """

    component: Component
    joint: Any
    inner: Any = None
    chain: tuple[Any, Any] | None = None

    def graphs(self) -> list[Any]:
        """Return all graphs, in the order of the attributes."""
        return [g for g in (self.joint, self.inner, *(self.chain or ())) if g is not None]


def tables_of(model: pm.Model, component: Component, terms: Sequence[Any]) -> Tables:
    """Build the tables of a component.

    Parameters
    ----------
    model : pymc.Model
    component : Component
    terms : sequence of graphs
        The terms of the log density, without checks of parameters.

    Raises
    ------
    ModelError
        If the terms cannot be evaluated for all configurations.
    """
    n_joint, n_inner = component.n_joint(), component.n_inner()
    values = {
        **{n: np.repeat(v, n_inner, axis=0) for n, v in component.joint_values().items()},
        **{
            v.name: np.tile(
                np.expand_dims(component.inner_values()[v.name], [*range(1, 1 + len(v.shape))]),
                (n_joint, *v.shape),
            )
            for v in component.inner
        },
    }
    variables = (*component.joint, *component.inner)
    replaced = {v.value: pt.constant(values[v.name].astype(v.value.dtype)) for v in variables}
    # The first of each W configurations, for what depends on no inner variable.
    first = {
        v.value: pt.constant(values[v.name][::n_inner].astype(v.value.dtype))
        for v in component.joint
    }
    at_all = [k for k, axes in component.terms.items() if axes is not None]
    at_joint = [k for k, axes in component.terms.items() if axes is None]
    outer = [_summed(t, None) for t in _for_all([terms[k] for k in at_joint], first, component)]
    joint = sum(outer, start=pt.zeros(n_joint))
    if not component.inner:
        return Tables(component, joint)
    shape = component.inner_shape
    added = [
        _summed(t, component.terms[k])
        for k, t in zip(
            at_all, _for_all([terms[k] for k in at_all], replaced, component), strict=True
        )
    ]
    whole = sum(added, start=pt.zeros((n_joint * n_inner, *shape)))
    inner = whole.reshape((n_joint, n_inner, *shape))
    if component.chain is None:
        return Tables(component, joint, inner)
    chain = _chain_graphs(model, component.chain)
    chain = _for_all(chain, first, component) if first else [g[None] for g in chain]
    return Tables(component, joint, inner, (chain[0], chain[1]))


def log_sum(tables: Tables) -> Any:
    """Return the graph of the log of the sum over a component's configurations."""
    inner = tables.inner
    if inner is None:
        return pt.logsumexp(tables.joint)
    if tables.chain is None:
        each = pt.logsumexp(inner, axis=1)
    else:
        each = _forward(inner, *tables.chain)
    return pt.logsumexp(tables.joint + each.sum(axis=[*range(1, each.type.ndim)]))


def _forward(inner: Any, first: Any, transitions: Any) -> Any:
    """Return the log of the sum over the paths of a chain, shape (C,).

    The sum is a product of T - 1 matrices. They are multiplied by pairs: log2(T) operations, which
    compile sooner than a loop over T elements. Each product is scaled by its largest entry.

    Parameters
    ----------
    inner : graph of shape (C, W, T)
    first : graph of shape (C, W)
    transitions : graph of shape (C, W, W)
    """
    at = inner.dimshuffle(0, 2, 1)
    n_joint, length, n_values = at.type.shape
    levels = int(np.ceil(np.log2(length - 1)))
    # An even number of matrices at each level: the others are identities.
    identities = pt.eye(n_values)[None, None] + pt.zeros((n_joint, 2**levels - length + 1, 1, 1))
    tops = _top(at[:, 1:], [2])
    steps = pt.exp(transitions)[:, None] * pt.exp(at[:, 1:] - tops)[:, :, None]
    steps = pt.concatenate([steps, identities], axis=1)
    log_scale = tops.sum(axis=[1, 2])
    for _ in range(levels):
        steps = pt.matmul(steps[:, 0::2], steps[:, 1::2])
        scale = pytensor.gradient.disconnected_grad(
            pt.maximum(steps.max(axis=[2, 3], keepdims=True), SMALLEST)
        )
        steps = steps / scale
        log_scale = log_scale + pt.log(scale).sum(axis=[1, 2, 3])
    start = first + at[:, 0]
    top = _top(start, [1])
    ends = pt.matmul(pt.exp(start - top)[:, None], steps[:, 0])
    return pt.log(ends.sum(axis=[1, 2])) + top[:, 0] + log_scale


def _top(graph: Any, axes: list[int]) -> Any:
    """Return the largest entry along axes, 0 for -inf, as a constant.

    It has no part in the gradient because it is subtracted and added again.
    """
    top = graph.max(axis=axes, keepdims=True)
    return pytensor.gradient.disconnected_grad(pt.switch(pt.isinf(top), 0.0, top))


def _chain_graphs(model: pm.Model, chain: DiscreteVariable) -> list[Any]:
    """Return log probabilities of the first element, (W,), and of the transitions, (W, W)."""
    transitions, _, start, *_ = chain.rv.owner.inputs
    value = start.type()
    domain = pt.constant(chain.domain.astype(start.dtype)[:, None])
    log_start = vectorize_graph(pm.logp(start, value, warn_rvs=False), {value: domain})
    graphs = rewritten(model.replace_rvs_by_values([log_start[:, 0], pt.log(transitions)]))
    return graphs


def _summed(term: Any, axes: Any) -> Any:
    """Sum a term (B, ...) over the axes along which no inner variable runs; order the others."""
    axes = axes or (None,) * (term.type.ndim - 1)
    reduced = term.sum(axis=[1 + i for i, a in enumerate(axes) if a is None])
    order = [a for a in axes if a is not None]
    return reduced.dimshuffle(0, *(1 + i for i in np.argsort(order)))


def _for_all(graphs: Sequence[Any], values: Mapping[Any, Any], component: Component) -> list[Any]:
    """Evaluate graphs at all configurations, along a new first axis.

    Parameters
    ----------
    graphs : sequence of graphs
    values : mapping
        For each variable the values of all configurations, along the first axis.
    component : Component
    """
    if not graphs:
        return []
    n = next(iter(values.values())).type.shape[0]
    if n > MAX_RUNS and (found := _black_box(graphs, values)):
        raise _refused(component, f"the black box {found} would run {n} times for each evaluation")
    try:
        made = vectorize_graph(graphs, dict(values))
    except Exception as error:
        if n > MAX_RUNS:
            why = f"the graph cannot be vectorised ({first_line(error)})"
            raise _refused(component, why) from error
        copies = [
            graph_replace(graphs, {k: v[i] for k, v in values.items()}, strict=False)
            for i in range(n)
        ]
        return [pt.stack(column) for column in zip(*copies, strict=True)]
    # One that does not depend on the values has no first axis.
    return [
        m if m.type.ndim > g.type.ndim else pt.broadcast_to(m, (n, *m.shape))
        for m, g in zip(made, graphs, strict=True)
    ]


def _black_box(graphs: Sequence[Any], values: Iterable[Any]) -> str:
    """Return the name of a black box that depends on one of the values, or ''."""
    reached = set(values)
    for node in toposort(graphs):
        if reached.intersection(node.inputs):
            if is_black_box(node.op):
                core = getattr(node.op, "core_op", node.op)
                return str(core)
            reached.update(node.outputs)
    return ""


def _refused(component: Component, why: str) -> ModelError:
    names = ", ".join(map(str, (*component.joint, *component.inner)))
    return ModelError(
        f"The discrete variables {names} cannot be summed over: {why}. With at most {MAX_RUNS} "
        "joint configurations that is possible. Use fewer values, or a function of arrays that "
        "PyTensor knows, or sum by a formula (pm.Potential)."
    )
