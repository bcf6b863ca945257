"""Discrete variables of a model, and the finite sets of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.distributions.truncated import TruncatedRV
from pymc.pytensorf import constant_fold
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable

from pymc_multimodal.status import ModelError

__all__ = ["DiscreteVariable", "discrete_variables"]


@dataclass(frozen=True, eq=False)
class DiscreteVariable:
    """A free discrete variable.

    Attributes
    ----------
    rv : variable
    value : variable
        Its value in the graph of the log density.
    shape : tuple of int
    domain : array of shape (K,)
        Values that each element can have.
    is_chain : bool
        Whether its elements along the last axis are a Markov chain.
    """

    rv: Any
    value: Any
    shape: tuple[int, ...]
    domain: np.ndarray
    is_chain: bool = False

    @property
    def name(self) -> str:
        """Name of the variable."""
        return str(self.rv.name)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        """Write the name, with the distribution, the shape and the number of values."""
        shape = f", shape {self.shape}" if self.shape else ""
        return f"{self.name} ({_distribution(self.rv)}{shape}, {len(self.domain)} values)"


def discrete_variables(
    model: pm.Model, point: Mapping[str, np.ndarray]
) -> tuple[DiscreteVariable, ...]:
    """Find the free discrete variables of a model.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`, with the discrete variables.

    Raises
    ------
    ModelError
        If the values of a variable are not a finite set that is known beforehand.
    """
    free = [model.values_to_rvs[v] for v in model.discrete_value_vars]
    variables, refused = [], []
    for rv in free:
        domain = _domain(rv)
        if domain is None:
            refused.append(rv)
        else:
            value = model.rvs_to_values[rv]
            shape = np.shape(point[value.name])
            variables.append(DiscreteVariable(rv, value, shape, domain, _is_chain(rv)))
    if refused:
        raise _not_finite(model, refused, free)
    return tuple(variables)


def _range(lower: Any, upper: Any) -> np.ndarray | None:
    bounds = _known([lower, upper])
    if bounds is None or not all(np.isfinite(b).all() for b in bounds):
        return None
    return np.arange(int(bounds[0].min()), int(bounds[1].max()) + 1)


def _categories(p: Any) -> np.ndarray | None:
    known = _known([p.shape[-1]])
    return None if known is None else np.arange(int(known[0]))


def _hypergeometric(good: Any, bad: Any, n: Any) -> np.ndarray | None:
    return _range(0, n)


# For each distribution its values, given the parameters of the random variable. Values beyond an
# element's own bounds have a log density of -inf.
_DOMAINS: Mapping[str, Callable[..., np.ndarray | None]] = {
    "bernoulli": lambda p: np.arange(2),
    "categorical": _categories,
    "discrete_uniform": _range,
    "binomial": lambda n, p: _range(0, n),
    "beta_binomial": lambda n, alpha, beta: _range(0, n),
    "hypergeometric": _hypergeometric,
}


def _domain(rv: Any) -> np.ndarray | None:
    """Return the values of each element of a random variable, or None."""
    op = rv.owner.op
    if isinstance(op, TruncatedRV):
        return _range(*rv.owner.inputs[-2:])
    if _is_chain(rv):
        return _categories(rv.owner.inputs[0])
    if not isinstance(op, RandomVariable) or op.name not in _DOMAINS:
        return None
    return _DOMAINS[op.name](*op.dist_params(rv.owner))


def _is_chain(rv: Any) -> bool:
    """Whether a random variable is one Markov chain of pymc-extras, with one matrix and one lag."""
    op = rv.owner.op
    return (
        type(op).__name__ == "DiscreteMarkovChainRV"
        and op.n_lags == 1
        and rv.type.ndim == 1
        and rv.owner.inputs[0].type.ndim == 2
    )


def _known(variables: Sequence[Any]) -> list[np.ndarray] | None:
    """Evaluate bounds that depend on no random variable, data included."""
    folded: list[Any] = [
        constant_fold([v], raise_not_constant=False)[0] if isinstance(v, Variable) else v
        for v in variables
    ]
    graphs = [v for v in folded if isinstance(v, Variable)]
    if any(n.owner is not None and _is_random(n.owner.op) for n in ancestors(graphs)):
        return None
    return [np.asarray(v.eval() if isinstance(v, Variable) else v) for v in folded]


def _is_random(op: Any) -> bool:
    return isinstance(op, RandomVariable | SymbolicRandomVariable)


def _distribution(rv: Any) -> str:
    """Return the name of a distribution as users write it."""
    printed = getattr(rv.owner.op, "_print_name", None)
    return str(printed[0]) if printed else type(rv.owner.op).__name__.removesuffix("RV")


def _not_finite(model: pm.Model, refused: Sequence[Any], free: Sequence[Any]) -> ModelError:
    """Say which variables cannot be summed over, and what is possible."""
    named = ", ".join(f"{rv.name} ({_distribution(rv)})" for rv in refused)
    others = [rv.name for rv in free if rv not in refused]
    observed = {rv.name for rv in model.observed_RVs}
    missing = [
        rv.name for rv in refused if f"{rv.name.removesuffix('_unobserved')}_observed" in observed
    ]
    one = len(refused) == 1
    return ModelError(
        f"The discrete variable{'' if one else 's'} {named} cannot be summed over: "
        f"{'its values are' if one else 'their values are'} not a finite set that is known before "
        "sampling. "
        + (f"The discrete variables {', '.join(others)} can. " if others else "")
        + "Sums are possible over Bernoulli, Categorical, DiscreteUniform, Binomial, BetaBinomial "
        "and HyperGeometric variables whose bounds are data, over pm.Truncated(..., lower=, "
        "upper=) of any discrete distribution, and over the DiscreteMarkovChain of pymc-extras "
        "with one lag and one matrix of probabilities. "
        + (
            f"{', '.join(missing)} stands for missing data: leave missing responses out. "
            if missing
            else ""
        )
        + "Give a bound that leaves out no mass to speak of, such as pm.Truncated('count', "
        "pm.Poisson.dist(mu), lower=0, upper=50), or sum by a formula (a Poisson with a Gamma "
        "rate is a pm.NegativeBinomial)."
    )
