"""The log density of a model as a sum of terms, each of which depends on few coordinates."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm

from pymc_multimodal.model.check import check_model
from pymc_multimodal.model.compiled import (
    CompiledFunction,
    compile_rows,
    compiling,
    log_density_graph,
)
from pymc_multimodal.model.dependence import depends_on
from pymc_multimodal.model.discrete import marginal_of
from pymc_multimodal.model.layout import flatten, layout
from pymc_multimodal.model.places import places_of
from pymc_multimodal.model.split import terms_in
from pymc_multimodal.target import Place, Structure, units_of_terms

__all__ = ["ModelTerms", "check_structure", "terms_of"]


class ModelTerms:
    """The terms of a model's log density; picklable.

    At a point x of the unconstrained coordinates the log density is the sum of the terms.

    Parameters
    ----------
    graphs : sequence of variables
        Their elements are the terms.
    row : variable
        The row of coordinates in these graphs.
    depends : array of bool, shape (T, d)
        Which coordinates each term may depend on.
    places : sequence of d Place
        Where each coordinate stands in the model.
    compile_kwargs : mapping
        Passed to ``pymc.compile``.
    """

    def __init__(
        self,
        graphs: Sequence[Any],
        row: Any,
        depends: np.ndarray,
        places: Sequence[Place],
        compile_kwargs: Mapping[str, Any],
    ) -> None:
        self.depends = depends
        self.places = tuple(places)
        self.dtype = row.dtype
        self._graphs: tuple[list[Any], Any] | None = (list(graphs), row)
        self._kwargs = {"mode": "NUMBA", **compile_kwargs}
        self._function: CompiledFunction | None = None
        self._lock = threading.Lock()

    @property
    def n_terms(self) -> int:
        """Number of terms, T."""
        return len(self.depends)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each coordinate."""
        return tuple(str(place) for place in self.places)

    def prepare(self) -> None:
        """Compile the function of the terms, if that has not happened yet."""
        self._compiled()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate the terms of rows, (n, d) to (n, T); the first call compiles (`prepare`).

        They are finite, or -inf where the model gives NaN or an infinite value.
        """
        function = self._compiled()
        x = np.ascontiguousarray(x, dtype=self.dtype)
        if not len(x):
            return np.empty((0, self.n_terms))
        if function.rowwise:
            terms = np.concatenate([self._joined(function(row), 1) for row in x])
        else:
            terms = self._joined(function(x), len(x))
        finite = np.isfinite(terms)
        if not finite.all():
            terms[~finite] = -np.inf
        return terms

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the graphs: a copy has the compiled function."""
        self._compiled()
        return {**self.__dict__, "_graphs": None, "_kwargs": {}, "_lock": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _joined(self, results: Sequence[Any], n: int) -> np.ndarray:
        """Join arrays of terms, one for each graph, into one of shape (n, T)."""
        rows = [np.asarray(r, dtype=float) for r in results]
        # A term that does not depend on the coordinates has one row.
        parts = [r.reshape(n if batched else 1, -1)
                 for r, batched in zip(rows, self._batched, strict=True)]  # fmt: skip
        return np.concatenate([np.broadcast_to(p, (n, p.shape[1])) for p in parts], axis=1)

    def _compiled(self) -> CompiledFunction:
        with self._lock:
            if self._function is None:
                self._function = self._compile()
                self._graphs = None
            return self._function

    def _compile(self) -> CompiledFunction:
        assert self._graphs is not None
        graphs, row = self._graphs
        dim = self.depends.shape[1]
        kwargs = {"on_unused_input": "ignore", **self._kwargs}
        with compiling():
            function, batched = compile_rows(graphs, {row: np.zeros(dim)}, kwargs)
        several = graphs if batched is None else batched
        self._batched = [v.ndim > g.ndim for v, g in zip(several, graphs, strict=True)]
        return CompiledFunction(function, batched is None)


def terms_of(
    model: pm.Model,
    point: Mapping[str, np.ndarray],
    compile_kwargs: Mapping[str, Any],
    graph: tuple[Any, Any] | None = None,
) -> ModelTerms | None:
    """Split the log density of a model into terms; nothing is compiled yet.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`.
    compile_kwargs : mapping
        Passed to ``pymc.compile``. The mode is Numba's by default.
    graph : tuple of variables, optional
        The model's `log_density_graph`, if it is there already.

    Returns
    -------
    ModelTerms or None
        None if the graph does not tell how many terms there are.
    """
    logp, row = log_density_graph(model, point) if graph is None else graph
    graphs = terms_in(logp)
    depends = depends_on(graphs, row, len(flatten(model, point)))
    if depends is None:
        return None
    return ModelTerms(graphs, row, depends, places_of(model, point), compile_kwargs)


def check_structure(model: pm.Model, structure: Structure) -> None:
    """Raise if a model does not have the units that are given; its density is not compiled.

    Parameters
    ----------
    model : pymc.Model
    structure : Structure

    Raises
    ------
    ModelError
        If there is no such variable or dimension, or units depend on one another.
    """
    check_model(model)
    model = marginal_of(model)
    units_of_terms(terms_of(model, layout(model), {}), structure)
