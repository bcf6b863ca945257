"""Differences between PyMC 5.28 and 6, and between ArviZ 0.23 and 1."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PYMC6",
    "ChainSetupMixin",
    "add_group",
    "ess",
    "get_dataset",
    "group_names",
    "json_ready",
    "load",
    "pareto_k",
    "rhat",
    "sampler_base",
    "save",
    "tail_size",
]

# Ratios below which no Pareto tail is fitted: it needs five (`tail_size`).
MIN_RATIOS = 25
# Log ratios that differ by less are constant but for rounding. Conventional.
CONSTANT_RATIOS = 1e-9

PYMC6 = int(version("pymc").split(".")[0]) >= 6
"""Whether the installed PyMC writes DataTree (6) or InferenceData (5)."""


class ChainSetupMixin:
    """Begin a chain of a step method under both versions of PyMC.

    PyMC 5 calls ``set_rng(rng)``, PyMC 6 ``setup_chain(rng, tune, draws)``. Both call
    ``_begin_chain(rng)``, which a subclass implements.
    """

    def set_rng(self, rng: Any) -> None:
        """Begin a chain (PyMC 5)."""
        self._begin_chain(_generator(rng))

    def setup_chain(self, rng: Any, tune: int = 0, draws: int = 0) -> None:
        """Begin a chain (PyMC 6)."""
        self._begin_chain(_generator(rng))

    def _begin_chain(self, rng: np.random.Generator) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no method _begin_chain(rng).")


def _generator(rng: Any) -> np.random.Generator:
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


def sampler_base() -> type:
    """Return PyMC's base class for ``pm.sample(sampler=...)``; object where there is none."""
    try:
        from pymc.sampling.samplers import Sampler
    except ImportError:
        return object
    return Sampler


# ------------------------------------------------------------------ groups of an InferenceData


def group_names(idata: Any) -> list[str]:
    """Return the names of the groups of an InferenceData or a DataTree."""
    if isinstance(idata, xr.DataTree):
        return list(idata.children)
    return list(idata.groups())


def get_dataset(idata: Any, group: str) -> xr.Dataset:
    """Return one group as a Dataset."""
    found = idata[group]
    return found.to_dataset() if isinstance(found, xr.DataTree) else found


def add_group(idata: Any, name: str, dataset: xr.Dataset) -> None:
    """Add or replace a group, in place."""
    if isinstance(idata, xr.DataTree):
        idata[name] = xr.DataTree(dataset)
        return
    if name in idata.groups():
        del idata[name]
    with warnings.catch_warnings():
        # ArviZ 0.23 warns about every group that is not in its schema.
        warnings.simplefilter("ignore", UserWarning)
        idata.add_groups({name: dataset})


def save(idata: Any, path: str | Path) -> None:
    """Write to a netCDF file."""
    idata.to_netcdf(str(path))


def load(path: str | Path) -> Any:
    """Read what `save` wrote, into memory."""
    if PYMC6:
        with xr.open_datatree(str(path)) as tree:
            return tree.load()
    import arviz as az

    return az.from_netcdf(str(path))


# ------------------------------------------------------------------ diagnostics on plain arrays


def _per_quantity(draws: np.ndarray, name: str, **kwargs: Any) -> np.ndarray:
    draws = np.asarray(draws, dtype=float)
    flat = draws.reshape(*draws.shape[:2], -1)
    if PYMC6:
        from arviz_stats.base import array_stats

        return np.atleast_1d(getattr(array_stats, name)(flat, chain_axis=0, draw_axis=1, **kwargs))
    import arviz as az

    function = getattr(az, name)
    return np.array([function(flat[:, :, i], **kwargs) for i in range(flat.shape[2])])


def ess(draws: np.ndarray, method: str = "bulk") -> np.ndarray:
    """Compute the effective sample size of each quantity (Vehtari et al. 2021).

    Parameters
    ----------
    draws : array of shape (chains, draws, ...)
    method : {"bulk", "tail", "mean"}

    Returns
    -------
    array of shape (quantities,)
    """
    with np.errstate(all="ignore"):
        return _per_quantity(draws, "ess", method=method)


def rhat(draws: np.ndarray) -> np.ndarray:
    """Compute the rank-normalised split R-hat of each quantity (Vehtari et al. 2021).

    Parameters
    ----------
    draws : array of shape (chains, draws, ...)

    Returns
    -------
    array of shape (quantities,)
    """
    with np.errstate(all="ignore"):
        return _per_quantity(draws, "rhat")


def tail_size(n: int) -> float:
    """How many of n importance ratios a Pareto tail is fitted to (Vehtari et al. 2024)."""
    return float(min(0.2 * n, 3.0 * np.sqrt(n)))


def pareto_k(log_ratio: np.ndarray) -> float:
    """Estimate the tail index k-hat of importance ratios (Vehtari et al. 2024).

    Parameters
    ----------
    log_ratio : array
        Log ratios; those that are not finite are left out.

    Returns
    -------
    float
        NaN for fewer than 25 ratios, -inf if those of the tail are all the same.
    """
    log_ratio = np.asarray(log_ratio, dtype=float)
    log_ratio = log_ratio[np.isfinite(log_ratio)]
    if log_ratio.size < MIN_RATIOS:
        return float("nan")
    tail = int(tail_size(log_ratio.size))
    if np.ptp(np.partition(log_ratio, -tail)[-tail:]) < CONSTANT_RATIOS:
        return float("-inf")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if PYMC6:
            from arviz_stats.base import array_stats

            # ArviZ 1 takes log likelihoods, the negative log ratios.
            return float(array_stats.psislw(-log_ratio)[1])
        import arviz as az

        return float(az.psislw(log_ratio)[1])


def json_ready(value: Any) -> Any:
    """Turn nested containers of arrays and NumPy scalars into what ``json.dumps`` takes."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    return value
