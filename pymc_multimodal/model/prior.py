"""Draws from a model's prior in the unconstrained space."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import pymc as pm
from pymc.distributions.custom import CustomDistRV
from pymc.initial_point import make_initial_point_expression
from pytensor.compile.mode import Mode
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from pymc_multimodal.model.layout import flatten
from pymc_multimodal.status import ModelError, first_line

__all__ = ["PriorDraws"]

_log = logging.getLogger("pymc.multimodal")


class PriorDraws:
    """Prior draws by forward sampling; the function is compiled when it is first called.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`. Draws without a finite value are replaced by draws around this point.
    """

    def __init__(self, model: pm.Model, point: Mapping[str, np.ndarray]) -> None:
        self.model, self.point = model, point
        self._function: Any = None
        self._rngs: list[Any] = []

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points of the unconstrained space, shape (n, d).

        A draw has no finite value where the prior does not respect its own transform (draws that
        are not in order under an ordered transform), or where a parent was drawn outside of the
        child's parameter space. Such a draw is replaced by a standard normal one around the initial
        point, or around the median of the other draws where the initial point is not finite.

        Raises
        ------
        ModelError
            If the prior is improper, or no draw has a finite value.
        """
        self.prepare()
        for shared, child in zip(self._rngs, rng.spawn(len(self._rngs)), strict=True):
            shared.set_value(child, borrow=True)
        centre = flatten(self.model, self.point)
        x, error = self._forward(n, len(centre))
        lost = ~np.isfinite(x).all(axis=1)
        if lost.any():
            if not np.isfinite(centre).all() and not lost.all():
                centre = np.median(x[~lost], axis=0)
            if not np.isfinite(centre).all() or (lost.all() and error is not None):
                self._refuse(error)
            x[lost] = centre + rng.standard_normal((int(lost.sum()), len(centre)))
        return x

    def _forward(self, n: int, dim: int) -> tuple[np.ndarray, Exception | None]:
        """Return n draws, NaN where the model raised, and the last error."""
        error: Exception | None = None
        x = np.full((n, dim), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            for i in range(n):
                try:
                    x[i] = np.concatenate([np.ravel(v) for v in self._function()])
                except (Exception, SystemExit) as raised:
                    error = (
                        raised
                        if isinstance(raised, Exception)
                        else RuntimeError(f"SystemExit: {raised}")
                    )
        if error is not None:
            _log.debug("Of %d prior draws some raised; the last error is below.", n, exc_info=error)
        return x, error

    def _refuse(self, error: Exception | None) -> NoReturn:
        names = [name for name, value in self.point.items() if not np.isfinite(value).all()]
        raise ModelError(
            "No draw from the prior has finite unconstrained values"
            + (f" (it raised {type(error).__name__}: {first_line(error)})" if error else "")
            + (f", and neither has the initial point of {', '.join(names)}" if names else "")
            + ". Give the variable an initval= inside its support, or give starting points: "
            "modes=ModeSearch(starts=array of shape (n, d))."
        ) from error

    def prepare(self) -> None:
        """Compile the function, if that has not happened yet.

        Raises
        ------
        ModelError
            If the prior is improper.
        """
        if self._function is not None:
            return
        model = self.model
        expressions = make_initial_point_expression(
            free_rvs=model.free_RVs,
            rvs_to_transforms=model.rvs_to_transforms,
            initval_strategies={},
            default_strategy="prior",
            return_transformed=True,
        )
        by_value = {
            model.rvs_to_values[rv].name: e
            for rv, e in zip(model.free_RVs, expressions, strict=True)
        }
        outputs = [by_value[v.name] for v in model.value_vars]
        self._rngs = [
            node
            for node in ancestors(outputs)
            if isinstance(node.type, RandomType) and hasattr(node, "set_value")
        ]
        try:
            # Python is faster in total than a compiler for a few hundred draws.
            mode = Mode(linker="py", optimizer="fast_compile")
            function = pm.compile([], outputs, mode=mode)
            _try(function)
        except NotImplementedError as error:
            raise _no_draws(model, error) from error
        # An improper prior leaves no function behind, so that the next call raises again.
        self._function = function


def _no_draws(model: pm.Model, error: Exception) -> ModelError:
    """Say which variable cannot be drawn from its prior, and what to do."""
    starts = "or starting points: modes=ModeSearch(starts=...)."
    flat = [rv.name for rv in model.free_RVs if "flat" in str(rv.owner.op).lower()]
    if flat:
        return ModelError(
            f"The prior of {', '.join(flat)} cannot be drawn from (pm.Flat and the like are "
            f"improper), so there are no starting points. Give a proper prior, {starts}"
        )
    custom = [rv.name for rv in model.free_RVs if isinstance(rv.owner.op, CustomDistRV)]
    return ModelError(
        f"The prior of {', '.join(custom) or 'a variable'} cannot be drawn from "
        f"({first_line(error)}), so there are no starting points. Give pm.CustomDist(..., "
        f"random=function), {starts}"
    )


def _try(function: Any) -> None:
    """Draw once; raise if the prior is improper, but not for a failure of this one draw."""
    try:
        function()
    except NotImplementedError:
        raise
    except (Exception, SystemExit):
        _log.debug("The first prior draw raised.", exc_info=True)
