"""Whether a thread compiles a model or evaluates it: limits count evaluations alone."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

import pymc as pm

from pymc_multimodal.status import EvaluationHung
from pymc_multimodal.target import Expired, call_patiently

__all__ = ["evaluates", "with_limited_evaluations"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Packages that compile inside of the first call of a PyTensor function.
_COMPILERS = ("numba", "llvmlite", "jax", "jaxlib")
# Points of the first call of a compiled density, each of which may take what the limit allows.
POINTS = 2
# Values of the initial point that a message shows. Conventional.
SHOWN_VALUES = 8


def evaluates(frame: FrameType | None) -> bool:
    """Tell whether a thread is inside of a PyTensor function, and compiles nothing there.

    Parameters
    ----------
    frame : frame or None
        The innermost frame of the thread.

    Returns
    -------
    bool
        False under JAX, which compiles and evaluates in the same functions.
    """
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _COMPILERS:
            return False
        if module.startswith("pytensor.compile.") and frame.f_code.co_name == "__call__":
            return True
        frame = frame.f_back
    return False


def with_limited_evaluations(
    seconds: float | None,
    model: pm.Model,
    function: Callable[_P, _R],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _R:
    """Call a function that compiles a model, and give up an evaluation that does not return.

    Parameters
    ----------
    seconds : float or None
        Limit of one evaluation; compiling is not limited.
    model : pymc.Model
        The model that is compiled, for the message.
    function : callable
    *args, **kwargs
        Arguments of the function.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    EvaluationHung
        If an evaluation at the initial point has not returned in time.
    """
    patience = None if seconds is None else POINTS * seconds
    try:
        return call_patiently(
            patience, evaluates, lambda: "The log density at the initial point",
            function, *args, **kwargs,
        )  # fmt: skip
    except Expired:
        raise EvaluationHung(
            f"The log density did not return within max_seconds={seconds:g}, nor in twice that "
            f"time, at the model's initial point ({_initial_point(model)}), where it is evaluated "
            "when it has been compiled. Mend the model there, or give other initial values "
            "(initval=); a slow model needs a larger max_seconds."
        ) from None


def _initial_point(model: pm.Model) -> str:
    """Return the model's initial point as text; its values are unconstrained."""
    values = [
        f"{name}={value.ravel()[0] if value.size == 1 else value.ravel()[:SHOWN_VALUES].tolist()}"
        for name, value in model.initial_point().items()
    ]
    return ", ".join(values[:SHOWN_VALUES])
