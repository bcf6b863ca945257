"""Draws of discrete variables from their conditional distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from pymc.pytensorf import join_nonshared_inputs
from pytensor.compile.mode import Mode
from pytensor.graph.replace import clone_replace

from pymc_multimodal.model.compiled import CompiledFunction, compile_rows
from pymc_multimodal.model.discrete.tables import Tables

__all__ = ["Recovery", "compile_recovery"]

# Numbers in the tables of the points that are evaluated at once. Conventional: 80 MB.
NUMBERS_AT_ONCE = 10_000_000


# Generators for the joint and for the inner variables of a component.
Rngs = tuple[np.random.Generator, np.random.Generator] | None


@dataclass(frozen=True)
class Sampled:
    """What is needed to draw the variables of one component.

    Attributes
    ----------
    joint : mapping of str to array of shape (C, *shape)
        Configurations of the joint variables.
    inner : mapping of str to array of shape (W,)
        Values of an element of the inner variables.
    inner_ndim : int
        Number of axes along which the inner sums run.
    n_numbers : int
        Numbers in the tables at one point.
    n_graphs : int
        Number of tables: 1, 2 with inner variables, and 4 where these are a Markov chain.
    """

    joint: Mapping[str, np.ndarray]
    inner: Mapping[str, np.ndarray]
    inner_ndim: int
    n_numbers: int
    n_graphs: int


@dataclass(frozen=True)
class Recovery:
    """Completes rows of the continuous coordinates by draws of the discrete variables.

    Attributes
    ----------
    function : CompiledFunction
        The tables of all components at rows.
    components : tuple of Sampled
    columns : mapping of str to array of int
        For each discrete variable its columns in a complete row.
    continuous : array of int
        Columns of the continuous coordinates, in their order.
    dtype : str
    """

    function: CompiledFunction
    components: tuple[Sampled, ...]
    columns: Mapping[str, np.ndarray]
    continuous: np.ndarray
    dtype: str

    def complete(self, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Add the discrete variables to points.

        Parameters
        ----------
        x : array of shape (n, d)
            Continuous coordinates.
        rng : numpy.random.Generator or None
            None takes the most probable values in place of draws.

        Returns
        -------
        array of shape (n, d + m)
            Rows in the order of the model's ``value_vars``.
        """
        rows = np.empty((len(x), len(self.continuous) + sum(map(len, self.columns.values()))))
        rows[:, self.continuous] = x
        # A generator for each kind of draw: more points change none of the draws before.
        rngs: list[Rngs] = [None] * len(self.components)
        if rng is not None:
            spawned = rng.spawn(2 * len(rngs))
            rngs = [*zip(spawned[::2], spawned[1::2], strict=True)]
        step = max(1, NUMBERS_AT_ONCE // max(1, sum(c.n_numbers for c in self.components)))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            for name, values in self._drawn(x[part], rngs).items():
                rows[part, self.columns[name]] = values.reshape(len(values), -1)
        return rows

    def _drawn(self, x: np.ndarray, rngs: Sequence[Rngs]) -> dict[str, np.ndarray]:
        """Return values of all discrete variables, shape (n, *shape)."""
        x = np.ascontiguousarray(x, dtype=self.dtype)
        if self.function.rowwise:
            evaluated = [self.function(row) for row in x]
            tables = [np.stack(column) for column in zip(*evaluated, strict=True)]
        else:
            tables = self.function(x)
        drawn: dict[str, np.ndarray] = {}
        for component, both in zip(self.components, rngs, strict=True):
            own, tables = tables[: component.n_graphs], tables[component.n_graphs :]
            drawn.update(_draw(component, own, len(x), both))
        return drawn


def compile_recovery(
    model: pm.Model, point: Mapping[str, np.ndarray], tables: Sequence[Tables]
) -> Recovery:
    """Compile the tables of all components as a function of rows.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`, with the discrete variables.
    tables : sequence of Tables
    """
    columns, at = {}, 0
    for name, value in point.items():
        columns[name] = np.arange(at, at + value.size)
        at += value.size
    discrete = {
        v.value.name: v.name for t in tables for v in (*t.component.joint, *t.component.inner)
    }
    inputs = [v for v in model.value_vars if v.name not in discrete]
    graphs = [g for t in tables for g in t.graphs()]
    start = {v.name: point[v.name] for v in inputs}
    graphs, joined = join_nonshared_inputs(
        point=start, inputs=inputs, outputs=clone_replace(graphs), make_inputs_shared=False
    )
    example = np.concatenate([np.ravel(value) for value in start.values()]).astype(joined.dtype)
    # Python is faster in total than a compiler for some thousand points.
    settings = {"mode": Mode(linker="py", optimizer="fast_compile"), "on_unused_input": "ignore"}
    compiled, batched = compile_rows(graphs, {joined: example}, settings)
    function = CompiledFunction(compiled, batched is None)
    return Recovery(
        function,
        tuple(map(_sampled, tables)),
        {discrete[n]: c for n, c in columns.items() if n in discrete},
        np.concatenate([columns[v.name] for v in inputs]),
        joined.dtype,
    )


def _sampled(tables: Tables) -> Sampled:
    component = tables.component
    inner = component.inner_values() if component.inner else {}
    numbers = component.n_joint() * component.n_inner() * int(np.prod(component.inner_shape))
    ndim = len(component.inner_shape)
    return Sampled(component.joint_values(), inner, ndim, numbers, len(tables.graphs()))


# ------------------------------------------------------------------ draws from tables


def _draw(
    component: Sampled, tables: Sequence[np.ndarray], n: int, rngs: Rngs
) -> dict[str, np.ndarray]:
    """Draw the variables of one component at n points; shapes (n, ...)."""
    cores = (1, 2 + component.inner_ndim, 2, 3)
    # A table that does not depend on the point has no axis of points.
    joint, *more = (
        np.broadcast_to(t, (n, *t.shape)) if t.ndim == core else t
        for t, core in zip(map(np.asarray, tables), cores, strict=False)
    )
    log_sum = np.logaddexp.reduce if rngs is not None else np.maximum.reduce
    of_joint, of_inner = rngs or (None, None)
    if not more:
        chosen = _pick(joint, of_joint)
        return {name: values[chosen] for name, values in component.joint.items()}
    at = np.arange(n)
    inner, *chain = more
    if not chain:
        each = log_sum(inner, axis=2)
        chosen = _pick(joint + each.reshape(*each.shape[:2], -1).sum(axis=2), of_joint)
        states = _pick(np.moveaxis(inner[at, chosen], 1, -1), of_inner)
    else:
        first, transitions = (np.broadcast_to(t, (n, joint.shape[1], *t.shape[2:])) for t in chain)
        filtered = _filtered(inner, first, transitions, log_sum)
        chosen = _pick(joint + log_sum(filtered[:, :, -1], axis=-1), of_joint)
        states = _path(filtered[at, chosen], transitions[at, chosen], of_inner)
    return {
        **{name: values[chosen] for name, values in component.joint.items()},
        **{name: values[states] for name, values in component.inner.items()},
    }


def _pick(log_weights: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Choose along the last axis: by weight, or the largest without a generator."""
    if rng is not None:
        # The largest of the log weights with Gumbel noise is a draw by weight.
        log_weights = log_weights + rng.gumbel(size=log_weights.shape)
    return np.argmax(log_weights, axis=-1)


def _filtered(
    inner: np.ndarray, first: np.ndarray, transitions: np.ndarray, log_sum: Any
) -> np.ndarray:
    """Sum over the beginnings of a chain's paths.

    Parameters
    ----------
    inner : array of shape (n, C, W, T)
    first : array of shape (n, C, W)
    transitions : array of shape (n, C, W, W)
    log_sum : callable
        Log of the sum of exponentials, or the maximum.

    Returns
    -------
    array of shape (n, C, T, W)
        For each element and value, the log of the sum over all paths to it.
    """
    at = np.moveaxis(inner, 2, 3)
    filtered = np.empty(at.shape)
    filtered[:, :, 0] = first + at[:, :, 0]
    for t in range(1, at.shape[2]):
        before = filtered[:, :, t - 1, :, None] + transitions
        filtered[:, :, t] = log_sum(before, axis=-2) + at[:, :, t]
    return filtered


def _path(
    filtered: np.ndarray, transitions: np.ndarray, rng: np.random.Generator | None
) -> np.ndarray:
    """Draw paths backwards, (n, T), from sums (n, T, W) and transitions (n, W, W)."""
    n, length, _ = filtered.shape
    noise = np.zeros(filtered.shape) if rng is None else rng.gumbel(size=filtered.shape)
    path = np.empty((n, length), dtype=int)
    path[:, -1] = np.argmax(filtered[:, -1] + noise[:, -1], axis=-1)
    for t in range(length - 2, -1, -1):
        onward = transitions[np.arange(n), :, path[:, t + 1]]
        path[:, t] = np.argmax(filtered[:, t] + onward + noise[:, t], axis=-1)
    return path
