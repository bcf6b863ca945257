"""Keywords of ``pm.sample`` that ``sample`` has no use for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm

__all__ = ["REFUSED", "without_refused"]

_NUTS = "it belongs to NUTS, which does not run here; the local chains have local=LocalSampling()"
REFUSED: Mapping[str, str] = {
    "step": "the sampler is chosen already; with pm.sample use step=MultimodalDiffusion()",
    "sampler": "the sampler is chosen already; MultimodalSampler() has its settings",
    "nuts_sampler": _NUTS,
    "nuts_sampler_kwargs": _NUTS,
    "nuts": _NUTS,
    "init": _NUTS,
    "n_init": _NUTS,
    "jitter_max_retries": _NUTS,
    "target_accept": _NUTS,
    "max_treedepth": _NUTS,
    "initvals": "chains start from draws inside of the modes; the search for modes takes points "
    "by modes=ModeSearch(locations=) or ModeSearch(starts=)",
    "start": "chains start from draws inside of the modes; the search for modes takes points by "
    "modes=ModeSearch(locations=) or ModeSearch(starts=)",
    "trace": "all chains are kept in memory; for another backend use "
    "pm.sample(step=MultimodalDiffusion(), trace=...)",
    "callback": "all chains make their draws at once; for a call after each draw use "
    "pm.sample(step=MultimodalDiffusion(), callback=...)",
    "discard_tuned_samples": "nothing is tuned: leave tune out, and every draw is kept",
    "keep_warning_stat": "draws have no warnings; those of the fit are in the group modes",
    "return_inferencedata": "draws are returned as PyMC's default, with the groups of the modes",
    "mp_ctx": "chains run in one process; workers= shares the evaluations of the fit",
}
"""Keywords of `pm.sample` that are refused, each with the reason."""


def without_refused(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out keywords in `REFUSED` that have the value of PyMC's default.

    Parameters
    ----------
    settings : mapping

    Returns
    -------
    dict
        The other keywords.

    Raises
    ------
    TypeError
        If such a keyword has another value.
    """
    signature = inspect.signature(pm.sample).parameters
    for name in settings.keys() & REFUSED.keys():
        default = signature[name].default if name in signature else None
        if not _same(settings[name], default) and settings[name] is not None:
            raise TypeError(
                f"sample({name}={settings[name]!r}): {name} is an argument of pm.sample that has "
                f"no meaning here: {REFUSED[name]}. Leave it out."
            )
    return {name: value for name, value in settings.items() if name not in REFUSED}


def _same(value: Any, default: Any) -> bool:
    return not isinstance(value, np.ndarray) and type(value) is type(default) and value == default
