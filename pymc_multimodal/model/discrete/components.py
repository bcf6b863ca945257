"""Which discrete variables are summed over together, and which of them element by element."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from pytensor.graph.fg import FunctionGraph

from pymc_multimodal.model.discrete.axes import Axes, follow_axes
from pymc_multimodal.model.discrete.domains import DiscreteVariable
from pymc_multimodal.status import ModelError

__all__ = ["Component", "components"]

# Joint configurations of the variables of one component. Conventional: a change point in a record
# of a thousand entries.
MAX_CONFIGURATIONS = 4096


@dataclass(frozen=True)
class Component:
    """Discrete variables that share terms of the log density.

    The sum over `inner` is one sum for each element: given the other variables, its elements are
    independent, or a Markov chain. The sum over `joint` is over all configurations.

    Attributes
    ----------
    joint : tuple of DiscreteVariable
    inner : tuple of DiscreteVariable
        Variables of one shape.
    terms : mapping of int to (Axes or None)
        Index of each term of the log density that depends on one of these variables. With its axes
        if it depends on `inner`.
    """

    joint: tuple[DiscreteVariable, ...]
    inner: tuple[DiscreteVariable, ...]
    terms: Mapping[int, Axes | None]

    @property
    def chain(self) -> DiscreteVariable | None:
        """The inner variable, if it is a Markov chain."""
        return next((v for v in self.inner if v.is_chain), None)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Lengths of the axes along which the inner sums run; axes of length 1 are left out."""
        return tuple(n for n in self.inner[0].shape if n > 1) if self.inner else ()

    def n_joint(self) -> int:
        """Return the number of joint configurations, C."""
        return _count(self.joint)

    def n_inner(self) -> int:
        """Return the number of values of an element of the inner variables together, W."""
        return int(np.prod([len(v.domain) for v in self.inner], dtype=float))

    def joint_values(self) -> dict[str, np.ndarray]:
        """Return the joint configurations: arrays of shape (C, *shape) by name."""
        elements = [v.domain for v in self.joint for _ in range(v.size)]
        table = np.array([*product(*elements)], dtype=np.int64).reshape(self.n_joint(), -1)
        ends = np.cumsum([v.size for v in self.joint])
        return {
            v.name: table[:, end - v.size : end].reshape(len(table), *v.shape)
            for v, end in zip(self.joint, ends, strict=True)
        }

    def inner_values(self) -> dict[str, np.ndarray]:
        """Return the values of an element of each inner variable: arrays of shape (W,) by name."""
        table = np.array([*product(*(v.domain for v in self.inner))], dtype=np.int64)
        return {v.name: table[:, k] for k, v in enumerate(self.inner)}


def components(
    variables: Sequence[DiscreteVariable], graph: FunctionGraph, own: Mapping[str, int]
) -> list[Component]:
    """Part discrete variables into components.

    Parameters
    ----------
    variables : sequence of DiscreteVariable
    graph : FunctionGraph
        The terms of the log density. Checks of parameters are changed in place (`follow_axes`).
    own : mapping of str to int
        For each variable the index of the term that is its own log density.

    Returns
    -------
    list of Component

    Raises
    ------
    ModelError
        If one has too many configurations.
    """
    places = {v.name: _places(v, graph) for v in variables}
    parts = [_component(part, places, own) for part in _connected(variables, places)]
    for part in parts:
        if part.n_joint() * part.n_inner() > MAX_CONFIGURATIONS:
            raise _too_many(part)
    return parts


def _places(variable: DiscreteVariable, graph: FunctionGraph) -> dict[int, Axes | None]:
    """Return the terms that depend on a variable, by index, with the axes of each."""
    axes = tuple(i if n > 1 else None for i, n in enumerate(variable.shape))
    found = follow_axes(graph, variable.value, axes)
    return {k: found[term] for k, term in enumerate(graph.outputs) if term in found}


def _connected(
    variables: Sequence[DiscreteVariable], places: Mapping[str, Iterable[int]]
) -> list[list[DiscreteVariable]]:
    """Return groups of variables that share terms."""
    groups: list[list[DiscreteVariable]] = []
    for variable in variables:
        touching = [
            g for g in groups if any(set(places[v.name]) & set(places[variable.name]) for v in g)
        ]
        groups = [g for g in groups if g not in touching]
        groups.append([*(v for g in touching for v in g), variable])
    return groups


def _component(
    variables: Sequence[DiscreteVariable],
    places: Mapping[str, Mapping[int, Axes | None]],
    own: Mapping[str, int],
) -> Component:
    inner: list[DiscreteVariable] = []
    # Sums over the largest arrays save the most; a chain has no other way than its own.
    for variable in sorted(variables, key=lambda v: (v.is_chain, v.size), reverse=True):
        others = {k: a for k, a in places[variable.name].items() if k != own[variable.name]}
        if not variable.is_chain:
            others = dict(places[variable.name])
        elementwise = variable.size > 1 and all(a is not None for a in others.values())
        if elementwise and _fits(variable, inner, places):
            inner.append(variable)
    terms: dict[int, Axes | None] = dict.fromkeys(
        k for v in variables for k in places[v.name]
    )  # fmt: skip
    for variable in inner:
        terms.update(places[variable.name])
        if variable.is_chain:
            del terms[own[variable.name]]
    joint = [v for v in variables if v not in inner]
    return Component(tuple(joint), tuple(inner), terms)


def _fits(
    variable: DiscreteVariable,
    inner: Sequence[DiscreteVariable],
    places: Mapping[str, Mapping[int, Axes | None]],
) -> bool:
    """Whether a variable can be summed over element by element together with others."""
    return all(
        not variable.is_chain and not other.is_chain and variable.shape == other.shape
        and all(places[other.name].get(k, a) == a for k, a in places[variable.name].items())
        for other in inner
    )  # fmt: skip


def _count(variables: Sequence[DiscreteVariable]) -> int:
    # In floating point: there may be more than the largest integer.
    n = np.prod([float(len(v.domain)) ** v.size for v in variables])
    return int(n) if n < 2**62 else 2**62


def _too_many(part: Component) -> ModelError:
    names = ", ".join(map(str, (*part.joint, *part.inner)))
    n = float(part.n_joint()) * part.n_inner()
    mixed = [v.name for v in part.joint if v.size > 1]
    return ModelError(
        f"The discrete variables {names} have {n:.2g} joint configurations, and at most "
        f"{MAX_CONFIGURATIONS} are summed over. "
        + (
            f"The elements of {', '.join(mixed)} cannot be summed over one by one, because a term "
            "of the log density depends on several of them together: that is possible where each "
            "element enters the terms of its own data alone, through operations on elements and "
            "indices such as mu[z]. "
            if mixed
            else ""
        )
        + "Use fewer values or variables, write the sum by a formula (pm.Mixture, "
        "pm.Potential), or sample the model with PyMC's own step methods (pm.sample())."
    )
