"""A model without its discrete variables: its log density is summed over them."""

from __future__ import annotations

from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.type import discrete_dtypes

from pymc_multimodal.model.compiled import lowered, rewritten
from pymc_multimodal.model.discrete.components import components
from pymc_multimodal.model.discrete.domains import DiscreteVariable, discrete_variables
from pymc_multimodal.model.discrete.recovery import Recovery, compile_recovery
from pymc_multimodal.model.discrete.tables import Tables, log_sum, tables_of
from pymc_multimodal.model.layout import layout
from pymc_multimodal.status import ModelError

__all__ = ["MarginalModel", "discrete_names", "marginal_of", "whole_model"]


class MarginalModel(pm.Model):
    """A view of a model whose `logp` is summed over the discrete variables.

    Its `value_vars` are the continuous ones of the model; all else is the model's own.

    Attributes
    ----------
    whole : pymc.Model
        The model itself.
    discrete : tuple of DiscreteVariable
    """

    whole: pm.Model
    discrete: tuple[DiscreteVariable, ...]
    _logp: Any
    _tables: list[Tables]
    _recovery: Recovery | None

    # PyMC's own `__init__` would make an empty model.
    def __init__(self, model: pm.Model) -> None:
        raise TypeError("Use marginal_of(model).")

    @property
    def value_vars(self) -> list[Any]:
        """Value variables that are sampled: those of the continuous variables."""
        return [v for v in super().value_vars if v.dtype not in discrete_dtypes]

    def logp(self, *args: Any, **kwargs: Any) -> Any:
        """Return the graph of the log density, summed over the discrete variables."""
        if args or kwargs:
            return self.whole.logp(*args, **kwargs)
        # Rewrites change graphs in place.
        return clone_replace(self._logp)

    def recovery(self) -> Recovery:
        """Return what draws the discrete variables; it is compiled in the first call."""
        if self._recovery is None:
            self._recovery = compile_recovery(self.whole, layout(self.whole), self._tables)
        return self._recovery


def whole_model(model: pm.Model) -> pm.Model:
    """Return a model with its discrete variables."""
    return model.whole if isinstance(model, MarginalModel) else model


def discrete_names(model: pm.Model) -> set[str]:
    """Return the names of the variables that depend on discrete ones, with these themselves."""
    if not isinstance(model, MarginalModel):
        return set()
    values = {v.value for v in model.discrete}
    variables = model.whole.unobserved_RVs
    graphs = model.whole.replace_rvs_by_values(variables)
    return {
        v.name for v, graph in zip(variables, graphs, strict=True) if values & {*ancestors([graph])}
    }


def marginal_of(model: pm.Model) -> pm.Model:
    """Return a model without discrete variables, summed over those that it has.

    Parameters
    ----------
    model : pymc.Model

    Returns
    -------
    pymc.Model
        The model itself if it has no free discrete variables; otherwise a `MarginalModel`.

    Raises
    ------
    ModelError
        If a variable cannot be summed over, or there is no continuous one.
    """
    if isinstance(model, MarginalModel) or not model.discrete_value_vars:
        return model
    variables = discrete_variables(model, layout(model))
    if len(variables) == len(model.value_vars):
        raise ModelError(
            f"The model has discrete variables alone ({', '.join(map(str, variables))}): there is "
            "nothing to sample on a continuous space. Sum over all their values, or use PyMC's own "
            "step methods (pm.sample())."
        )
    factors = [*model.basic_RVs, *model.potentials]
    terms = lowered(model.logp(vars=factors, sum=False))
    graph = FunctionGraph(outputs=clone_replace(terms), clone=False)
    own = {v.name: factors.index(v.rv) for v in variables}
    parts = components(variables, graph, own)
    terms = rewritten(graph.outputs)
    tables = [tables_of(model, part, terms) for part in parts]
    summed = {k for part in parts for k in part.terms} | {
        own[part.chain.name] for part in parts if part.chain is not None
    }
    rest = [terms[k].sum() for k in range(len(terms)) if k not in summed]
    marginal = MarginalModel.__new__(MarginalModel)
    marginal.__dict__.update(model.__dict__)
    marginal.whole, marginal.discrete = model, variables
    marginal._logp = pt.add(*rest, *map(log_sum, tables), pt.constant(0.0))
    marginal._tables, marginal._recovery = tables, None
    return marginal
