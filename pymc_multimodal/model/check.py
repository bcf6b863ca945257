"""Models that this package cannot sample."""

from __future__ import annotations

import numpy as np
import pymc as pm
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType

from pymc_multimodal.status import ModelError

__all__ = ["check_model", "imputed"]


def check_model(model: pm.Model) -> None:
    """Raise if the package cannot sample a model.

    Raises
    ------
    ModelError
        If the model has no free variables, or a random log density.
    """
    if not model.free_RVs:
        raise ModelError(
            "The model has no free variables: there is nothing to sample. Give a model with at "
            "least one variable that is not observed."
        )
    random = [
        node
        for node in ancestors([model.logp()])
        if isinstance(node.type, RandomType)
        or (node.owner is not None and isinstance(node.owner.op, RandomVariable))
    ]
    if random:
        named = sorted({str(n.name) for n in random if n.name})
        raise ModelError(
            "The model's log density is random: two evaluations at one point differ"
            + (f" (through {', '.join(named)})" if named else "")
            + ". pm.Minibatch and pm.Simulator give such densities; use the full data, or a "
            "likelihood that can be evaluated."
        )


def imputed(model: pm.Model) -> dict[str, int]:
    """Return the variables that stand for missing data, with their numbers of values.

    PyMC makes a free variable of the masked entries of observed data.
    """
    observed = {rv.name for rv in model.observed_RVs}
    return {
        rv.name: int(np.prod(rv.shape.eval()))
        for rv in model.free_RVs
        if f"{rv.name.removesuffix('_unobserved')}_observed" in observed
    }
