"""Unconstrained draws recorded as PyMC records them: all variables, with sample stats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.backends.ndarray import NDArray

from pymc_multimodal.model import compiling, layout, unflatten, whole_model
from pymc_multimodal.plugin.modes_group import RECORD

__all__ = ["NO_RECORD", "STATS", "as_stat", "chain_records"]

STATS: dict[str, tuple[Any, list]] = {
    "lp": (np.float64, []),
    "mode": (np.int64, []),
    "accepted": (np.float64, []),
    "log_ratio": (np.float64, []),
    RECORD: (object, [1]),
}
"""Sample stats of every draw: types and shapes as step methods declare them."""

# PyMC stacks stats of the type object. Text itself would become strings of one width, that of the
# longest, for every draw; arrays of the type object stay what they are.
NO_RECORD = np.array([""], dtype=object)


def as_stat(record: str) -> np.ndarray:
    """Wrap a fit's record as the value of a sample stat."""
    return np.array([record], dtype=object)


def chain_records(
    model: pm.Model,
    chains: Sequence[np.ndarray],
    stats: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    var_names: Sequence[str] | None = None,
    template: NDArray | None = None,
) -> list[NDArray]:
    """Record unconstrained draws.

    Parameters
    ----------
    model : pymc.Model
    chains : sequence of arrays of shape (draws, d)
        With the discrete variables, if the model has some.
    stats : sequence of sequences of mappings, optional
        For each chain and draw, the values of `STATS`.
    var_names : sequence of str, optional
        Variables to record; all by default.
    template : NDArray, optional
        A record of the same variables, whose compiled function is used again. Without it the
        function that computes the variables is compiled, once for all chains.

    Returns
    -------
    list of NDArray
        One for each chain.
    """
    model = whole_model(model)
    variables = None
    if var_names is not None:
        # Evaluating the random variables themselves would draw new values.
        variables = model.replace_rvs_by_values(
            [v for v in model.unobserved_RVs if v.name in set(var_names)]
        )
    declared = None if stats is None else [{name: dtype for name, (dtype, _) in STATS.items()}]
    records: list[NDArray] = []
    like = layout(model)
    for c, x in enumerate(chains):
        known = template or (records[0] if records else None)
        shared = {"fn": known.fn, "vars": known.vars} if known else {"vars": variables}
        with compiling():
            record = NDArray(model=model, test_point=like, **shared)
        record.setup(len(x), c, declared)
        for i, point in enumerate(unflatten(like, x)):
            record.record(point, None if stats is None else [stats[c][i]], in_warmup=False)
        records.append(record)
    return records
