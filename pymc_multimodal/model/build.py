"""A density from a PyMC model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
from pymc.distributions.transforms import CircularTransform

from pymc_multimodal.model.check import check_model
from pymc_multimodal.model.compiled import compile_density, log_density_graph
from pymc_multimodal.model.discrete import MarginalModel, marginal_of
from pymc_multimodal.model.layout import layout
from pymc_multimodal.model.locations import rows_of
from pymc_multimodal.model.outputs import split_at_outputs
from pymc_multimodal.model.prior import PriorDraws
from pymc_multimodal.model.terms import terms_of
from pymc_multimodal.target import CHUNK, Density

__all__ = ["density_of"]


def density_of(
    model: pm.Model,
    *,
    workers: Any = 1,
    compile_kwargs: Mapping[str, Any] | None = None,
    gradient: bool = True,
) -> Density:
    """Compile a model's log density.

    Parameters
    ----------
    model : pymc.Model
        Discrete variables are summed over (`marginal_of`).
    workers : int or object
        Processes that share a batch of evaluations, or an engine (`target.engines`).
    compile_kwargs : mapping, optional
        Passed to ``pymc.compile`` (``mode`` and the like).
    gradient : bool
        Whether the gradient is compiled, where there is one.

    Returns
    -------
    Density

    Raises
    ------
    ModelError
        If the model has no free variables, or discrete ones that cannot be summed over, or a random
        log density, or one that does not depend on the variables.
    """
    check_model(model)
    model = marginal_of(model)
    point = layout(model)
    graph = log_density_graph(model, point)
    function = compile_density(model, point, graph, compile_kwargs or {}, gradient=gradient)
    names, period = _coordinates(model, point)
    split = partial(split_at_outputs, model, point, compile_kwargs or {})
    return Density(
        function,
        len(names),
        has_gradient=function.has_gradient,
        period=period,
        names=names,
        prior=PriorDraws(model, point),
        points_by_name=partial(rows_of, model),
        # The outputs of a simulator may depend on the discrete variables.
        split=None if isinstance(model, MarginalModel) else split,
        terms=partial(terms_of, model, point, compile_kwargs or {}, graph),
        workers=workers,
        chunk=function.chunk or CHUNK,
    )


def _coordinates(model: pm.Model, point: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Return a name and a period for each unconstrained coordinate."""
    names: list[str] = []
    period: list[float] = []
    for value in model.value_vars:
        transform = model.rvs_to_transforms[model.values_to_rvs[value]]
        shape = np.shape(point[value.name])
        circular = isinstance(transform, CircularTransform)
        period += [2 * np.pi if circular else np.inf] * int(np.prod(shape))
        names += [
            f"{value.name}[{','.join(map(str, index))}]" if shape else value.name
            for index in np.ndindex(*shape)
        ]
    return names, np.array(period)
