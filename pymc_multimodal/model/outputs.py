"""The log density of a model, split at the outputs of a black box."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import join_nonshared_inputs
from pytensor.gradient import NullTypeGradError
from pytensor.graph.replace import clone_replace

from pymc_multimodal.model.black_box import Cut, black_boxes, cut_at_black_boxes, cut_at_names
from pymc_multimodal.model.compiled import CompiledFunction, compile_rows, compiling
from pymc_multimodal.model.layout import flatten
from pymc_multimodal.model.reach import reaching
from pymc_multimodal.status import ModelError

__all__ = ["OutputModel", "split_at_outputs"]

_log = logging.getLogger("pymc.multimodal")

# Points near the initial point at which the black box is tried until it gives outputs, whose shapes
# are needed. Conventional.
N_TRIES = 10

# Distances, in units of 1 + |y|, over which the gradient with respect to the outputs y must change
# if emulating them is of use. They reach far: the gradient of a Laplace likelihood is constant on
# either side of the data. Conventional.
DISTANCES = (0.1, 1.0, 1e2, 1e4)

# Values and gradients that differ by less than this, relative to the largest, are equal.
# Conventional.
EQUAL = 1e-9


@dataclass(frozen=True)
class OutputModel:
    """The log density of a model, split at the outputs of a black box.

    At a point x of the unconstrained coordinates, ``log p(x) = log_density(x, outputs(x))``.

    Attributes
    ----------
    names : tuple of m str
        A name for each output.
    inputs : array of int, shape (k,)
        Unconstrained coordinates on which the outputs depend.
    kept : array of bool, shape (m',)
        Elements of the black box's outputs that the log density uses.
    dtype : str
        Type of the functions' arguments.
    simulator : CompiledFunction
        It maps a row of coordinates to the arrays whose elements are the outputs.
    density : CompiledFunction
        It maps coordinates and outputs to the log density and its gradients with respect to both.
    """

    names: tuple[str, ...]
    inputs: np.ndarray
    kept: np.ndarray
    dtype: str
    simulator: CompiledFunction
    density: CompiledFunction

    @property
    def n_outputs(self) -> int:
        """Number of outputs, m."""
        return len(self.names)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Run the black box.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        array of shape (n, m)
            A row of NaN where the black box raises, or where one of its outputs is NaN.
        """
        y = np.full((len(x), self.n_outputs), np.nan)
        for row, out in zip(np.ascontiguousarray(x, dtype=self.dtype), y, strict=True):
            try:
                values = _joined(self.simulator(row))
            except (Exception, SystemExit):
                _log.debug("The outputs of the model raised at a point.", exc_info=True)
                continue
            if values.shape != self.kept.shape:
                continue
            values = values[self.kept]
            if not np.isnan(values).any():
                out[:] = values
        return y

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Evaluate the log density at given outputs; the black box does not run.

        Parameters
        ----------
        x : array of shape (n, d)
        y : array of shape (n, m)

        Returns
        -------
        array of shape (n,)
        """
        return self.log_density_and_grad(x, y)[0]

    def log_density_and_grad(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Evaluate the log density at given outputs and its gradients.

        Parameters
        ----------
        x : array of shape (n, d)
        y : array of shape (n, m)

        Returns
        -------
        logp : array of shape (n,)
            NaN where the model raises.
        grad_x : array of shape (n, d)
            The gradient with respect to the coordinates, with the outputs held fixed.
        grad_y : array of shape (n, m)
            The gradient with respect to the outputs.
        """
        x, y = (np.ascontiguousarray(rows, dtype=self.dtype) for rows in (x, y))
        shapes = (x.shape[:1], x.shape, y.shape)
        # A result that does not depend on the arguments has one row.
        logp, grad_x, grad_y = (
            np.array(np.broadcast_to(result, shape), dtype=float)
            for result, shape in zip(self._evaluated(x, y), shapes, strict=True)
        )
        return logp, grad_x, grad_y

    def _evaluated(self, x: np.ndarray, y: np.ndarray) -> Sequence[np.ndarray]:
        """Evaluate rows together if possible, and one by one if some of them raise."""
        if not self.density.rowwise and len(x):
            try:
                return self.density(x, y)
            except (Exception, SystemExit):
                _log.debug("The split log density raised.", exc_info=True)
        results = (np.empty(len(x)), np.empty(x.shape), np.empty(y.shape))
        for k in range(len(x)):
            at = k if self.density.rowwise else slice(k, k + 1)
            row: Sequence[Any] = [np.nan] * 3
            with suppress(Exception, SystemExit):
                row = self.density(x[at], y[at])
            for result, value in zip(results, row, strict=True):
                result[at] = value
        return results


def split_at_outputs(
    model: pm.Model,
    point: Mapping[str, np.ndarray],
    compile_kwargs: Mapping[str, Any],
    names: str | Sequence[str] | None = None,
) -> OutputModel | None:
    """Split the log density of a model at the outputs of a black box.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`.
    compile_kwargs : mapping
        Passed to ``pymc.compile``. The mode is Numba's by default.
    names : str or sequence of str, optional
        Deterministic variables at which to split. By default these are the outputs of the black
        boxes (`is_black_box`) that the rest of the log density uses directly.

    Returns
    -------
    OutputModel or None
        None if the model has no black box, or the split is of no use: the log density is linear in
        the outputs, as in those that are log likelihoods themselves; or it has no gradient with
        respect to them; or the outputs are not real; or they cannot be computed near the initial
        point.

    Raises
    ------
    ModelError
        If the model cannot be split at the names.
    """
    cut = cut_at_black_boxes(model) if names is None else cut_at_names(model, names)
    if cut is None:
        return None
    with compiling():
        return _compiled(model, point, cut, {"mode": "NUMBA", **compile_kwargs}, names is not None)


def _compiled(
    model: pm.Model,
    point: Mapping[str, np.ndarray],
    cut: Cut,
    kwargs: Mapping[str, Any],
    named: bool,
) -> OutputModel | None:
    """Compile both parts of a log density, unless the split is of no use."""
    start = flatten(model, point)
    expressions, joined = join_nonshared_inputs(
        point=point, inputs=model.value_vars, outputs=list(cut.expressions)
    )
    simulator = CompiledFunction(pm.compile([joined], expressions, **kwargs), True)
    example = _first_outputs(simulator, start.astype(joined.dtype))
    if example is None:
        _log.debug("The outputs of the model could not be computed near the initial point.")
        return None
    example = [np.asarray(v, dtype=float) for v in example]
    # Of a long series, the log density may use a few elements only.
    used = [reaching([cut.logp], v, y.shape) for v, y in zip(cut.at, example, strict=True)]
    kept = np.concatenate(used)
    if not kept.any():
        return None
    try:
        density = _density(model, point, cut, list(zip(example, used, strict=True)), kwargs)
    except (NotImplementedError, NullTypeGradError) as error:
        if not named:
            _log.debug("The log density has no gradient with respect to the outputs.")
            return None
        opaque = ", ".join(black_boxes(cut))
        raise ModelError(
            f"The log density that is split at {', '.join(cut.labels)} has no gradient"
            + (f": it passes through {opaque}. Name these outputs as well." if opaque else ".")
        ) from error
    names = _coordinates(cut.labels, [v.shape for v in example])
    split = OutputModel(
        names=tuple(np.array(names)[kept].tolist()),
        inputs=_inputs(model, point, cut),
        kept=kept,
        dtype=joined.dtype,
        simulator=simulator,
        density=density,
    )
    return split if _is_useful(split, start, _joined(example)[kept]) else None


def _joined(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])


def _first_outputs(simulator: CompiledFunction, start: np.ndarray) -> list[np.ndarray] | None:
    """Run the black box at the initial point, or near it if it raises there."""
    rng = np.random.default_rng(0)
    for _ in range(N_TRIES):
        try:
            return simulator(start)
        except (Exception, SystemExit):
            _log.debug("The outputs of the model raised at a point.", exc_info=True)
        # PyMC's initialisation of chains moves the initial point in the same way.
        start = (start + rng.uniform(-1.0, 1.0, start.shape)).astype(start.dtype)
    return None


def _density(
    model: pm.Model,
    point: Mapping[str, np.ndarray],
    cut: Cut,
    outputs: Sequence[tuple[np.ndarray, np.ndarray]],
    kwargs: Mapping[str, Any],
) -> CompiledFunction:
    """Compile the log density, with gradients, as a function of coordinates and outputs.

    `outputs` has, for each variable of the cut, an example and which of its elements are used.
    """
    start = flatten(model, point)
    first = np.concatenate([example[used.reshape(example.shape)] for example, used in outputs])
    y = pt.vector("outputs", shape=first.shape, dtype=pytensor.config.floatX)
    given = {**_parts(y, cut.at, outputs), **_values(cut.constants, kwargs)}
    [logp] = clone_replace([cut.logp], given, rebuild_strict=False)
    [logp], x = join_nonshared_inputs(point=point, inputs=model.value_vars, outputs=[logp])
    graphs = [logp, *pytensor.grad(logp, [x, y], disconnected_inputs="ignore")]
    function, batched = compile_rows(graphs, {x: start, y: first}, kwargs)
    return CompiledFunction(function, batched is None)


def _parts(
    y: Any, variables: Sequence[Any], outputs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[Any, Any]:
    """Return what stands for each variable of a cut in terms of the vector of used elements."""
    parts, first = {}, 0
    for variable, (example, used) in zip(variables, outputs, strict=True):
        last = first + int(used.sum())
        elements = y[first:last]
        if not used.all():
            # Some used element stands for each that is not used.
            elements = elements[np.maximum(np.cumsum(used) - 1, 0)]
        elements = elements.reshape(example.shape).astype(variable.dtype)
        parts[variable] = variable.type.filter_variable(elements, allow_convert=True)
        first = last
    return parts


def _values(constants: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """Run black boxes that depend on no free variable: this happens once."""
    if not constants:
        return {}
    values = CompiledFunction(pm.compile([], list(constants), **kwargs), True)()
    return {c: pt.constant(v, dtype=c.dtype) for c, v in zip(constants, values, strict=True)}


def _coordinates(labels: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Return a name for each element of the outputs."""
    return tuple(
        f"{label}[{','.join(map(str, index))}]" if shape else label
        for label, shape in zip(labels, shapes, strict=True)
        for index in np.ndindex(*shape)
    )


def _inputs(model: pm.Model, point: Mapping[str, np.ndarray], cut: Cut) -> np.ndarray:
    """Return the coordinates on which the outputs depend."""
    used = [reaching(cut.expressions, v, point[v.name].shape) for v in model.value_vars]
    return np.flatnonzero(np.concatenate(used))


def _is_useful(split: OutputModel, start: np.ndarray, y: np.ndarray) -> bool:
    """Whether the log density is more than a linear function of the outputs.

    If it is linear, the log density itself is as easy to emulate as they are.
    """
    rng = np.random.default_rng(0)
    y = np.where(np.isfinite(y), y, 1.0)
    steps = [
        sign * distance * (1.0 + np.abs(y)) * rng.uniform(0.5, 1.0, y.shape)
        for distance in DISTANCES
        for sign in (1.0, -1.0)
    ]
    ys = np.concatenate([[y], y + np.array(steps), [y] * len(steps)])
    xs = np.tile(start, (len(ys), 1))
    xs[1 + len(steps) :] += rng.uniform(-1.0, 1.0, (len(steps), len(start)))
    logp, _, grad = split.log_density_and_grad(xs, ys)
    finite = np.isfinite(logp) & np.isfinite(grad).all(axis=1)
    # A linear function is finite everywhere.
    if finite.sum() < 2 or not finite[: 1 + len(steps)].all():
        return True
    slope = grad[0]
    rises = ((ys - y) * slope).sum(axis=1)[: 1 + len(steps)]
    bends = np.abs(logp[: 1 + len(steps)] - logp[0] - rises)
    turns = np.abs(grad[finite] - slope).max()
    return bool(
        turns > EQUAL * np.abs(grad[finite]).max()
        or bends.max() > EQUAL * (np.abs(rises).max() + np.abs(logp[0]))
    )
