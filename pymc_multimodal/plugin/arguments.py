"""Checks of what users pass: models, draws, variables and compiler options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pymc as pm
import pytensor
import xarray as xr
from pytensor.compile.mode import get_mode
from threadpoolctl import threadpool_limits

from pymc_multimodal import checks
from pymc_multimodal._compat import group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.status import first_line

__all__ = [
    "check_compile_kwargs",
    "check_fit",
    "check_idata_kwargs",
    "check_var_names",
    "draws_given",
    "limits_blas",
    "model_given",
    "with_backend",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def model_given(owner: str, model: Any) -> pm.Model:
    """Return the model of a call, by default the one on the context stack.

    Raises
    ------
    TypeError
        If there is none, or it is no model.
    """
    if model is None:
        model = pm.Model.get_context(error_if_none=False)
    if model is None:
        raise TypeError(
            f"{owner}() needs a model, and there is none on the context stack: call it inside of "
            "`with model:`, or give model=."
        )
    if not hasattr(model, "value_vars"):
        raise TypeError(
            f"{owner}({checks.shown(model, 'model')}) is {_kind(model)}; give a "
            "pymc.Model, or call it inside of `with model:`."
        )
    return model


def draws_given(owner: str, idata: Any) -> Any:
    """Return draws as they are.

    Raises
    ------
    TypeError
        If they are no InferenceData or DataTree.
    """
    known = isinstance(idata, xr.DataTree) or callable(getattr(idata, "groups", None))
    if not known or isinstance(idata, type):
        raise TypeError(
            f"{owner}({checks.shown(idata)}) is {_kind(idata)}; give what "
            "pm.sample or pymc_multimodal.sample has returned, or ArviZ has loaded from a file."
        )
    if "posterior" not in group_names(idata) and "modes" not in group_names(idata):
        raise ValueError(
            f"{owner}(idata): there are no draws, the groups are {group_names(idata)}. Give what "
            "pm.sample(step=MultimodalDiffusion()) has returned, after attach(idata)."
        )
    return idata


def check_fit(owner: str, fit: Any) -> Fit:
    """Return a fit as it is; raise TypeError if it is none."""
    if not isinstance(fit, Fit):
        raise TypeError(
            f"{owner}({checks.shown(fit, 'fit')}) is {_kind(fit)}; give the result "
            "of fit(), or step.fit."
        )
    return fit


def check_var_names(owner: str, var_names: Any, known: Iterable[str], whose: str) -> None:
    """Check names of variables.

    Parameters
    ----------
    owner : str
        The function that was called.
    var_names : sequence of str or None
    known : iterable of str
        Names that there are.
    whose : str
        What has them, such as "the model".

    Raises
    ------
    TypeError
        If the names are no sequence of str.
    ValueError
        If some are not known.
    """
    if var_names is None:
        return
    names = (
        None
        if isinstance(var_names, str) or not isinstance(var_names, Iterable)
        else (list(var_names))
    )
    if not names or not all(isinstance(n, str) for n in names):
        raise TypeError(
            f"{owner}(var_names={var_names!r}) must be a list of names of variables, such as "
            f"{[*known][:1]}."
        )
    if missing := sorted(set(names) - {*known}):
        raise ValueError(
            f"{owner}(var_names=...) holds {missing}, which {whose} does not have; it has "
            f"{sorted(known)}."
        )


def check_idata_kwargs(owner: str, idata_kwargs: Any) -> None:
    """Raise TypeError unless ``pymc.to_inference_data`` takes these keywords."""
    if idata_kwargs is not None:
        _check_keywords(owner, "idata_kwargs", idata_kwargs, (pm.to_inference_data,))


def check_compile_kwargs(owner: str, compile_kwargs: Any) -> None:
    """Raise unless ``pymc.compile`` takes these keywords.

    Raises
    ------
    TypeError
        If they are no mapping, or there is no such keyword.
    ValueError
        If PyTensor does not know the mode.
    """
    if compile_kwargs is None:
        return
    _check_keywords(owner, "compile_kwargs", compile_kwargs, (pm.compile, pytensor.function))
    mode = compile_kwargs.get("mode")
    try:
        get_mode(mode)
    except Exception as error:
        raise ValueError(
            f"{owner}(compile_kwargs={{'mode': {mode!r}}}): PyTensor does not know this mode "
            f"({first_line(error)}). Give one such as 'NUMBA' or 'FAST_RUN'."
        ) from error


def with_backend(
    owner: str, backend: str | None, compile_kwargs: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Write the backend of a call into its compiler options, as PyMC 6 does.

    Raises
    ------
    ValueError
        If PyTensor does not know the backend, or the options have a mode as well.
    """
    if backend is None:
        return compile_kwargs
    checks.kind(owner, "backend", backend, str)
    if "mode" in (compile_kwargs or {}):
        raise ValueError(
            f"{owner}(backend={backend!r}) and compile_kwargs={{'mode': ...}} say the same: give "
            "one of them."
        )
    # As in PyMC, "c" stands for the C compiler with PyTensor's virtual machine.
    mode = {"c": "CVM"}.get(backend, str(backend).upper())
    check_compile_kwargs(owner, {"mode": mode})
    return {**(compile_kwargs or {}), "mode": mode}


def limits_blas(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function run with as many threads of BLAS as its argument `blas_cores` says."""

    @wraps(function)
    def limited(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        cores: Any = kwargs.get("blas_cores")
        if cores is None or cores == "auto":
            return function(*args, **kwargs)
        checks.count(function.__name__, "blas_cores", cores)
        with threadpool_limits(limits=cores):
            return function(*args, **kwargs)

    return limited


def _kind(value: Any) -> str:
    return checks.with_article(type(value).__name__)


def _check_keywords(owner: str, name: str, value: Any, takers: tuple[Any, ...]) -> None:
    checks.kind(owner, name, value, Mapping)
    known = {
        p.name
        for function in takers
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    } - {"inputs", "outputs", "trace"}
    if unknown := [k for k in value if k not in known]:
        raise TypeError(
            f"{owner}({name}=...) has {unknown}, which {takers[0].__module__.split('.')[0]}."
            f"{takers[0].__name__} does not take; it takes {sorted(known)}."
        )
