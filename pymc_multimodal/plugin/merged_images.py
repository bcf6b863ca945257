"""Modes of relabelled draws: images of one mode have one entry."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["first_images", "merged_modes"]

# Evidences of images are equal but for rounding. Conventional.
RELATIVE_TOLERANCE = 1e-9
# Largest distance of the locations of two images, in standard deviations of the first mode, once
# both are relabelled. Zero for optima; a location may be the draw of highest density. Conventional.
MAX_DISTANCE = 6.0


def first_images(modes: xr.Dataset, locations: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Say which modes are images of one another.

    Parameters
    ----------
    modes : xarray.Dataset
        The group `modes`.
    locations : array of shape (K, d)
        Relabelled locations of the modes.
    spread : array of shape (d,)
        Standard deviations of the first mode.

    Returns
    -------
    array of int, shape (K,)
        For each mode the first of its images, which is the mode itself where it has no other.
        Images have equal evidences, and equal locations after the draws were relabelled.
    """
    evidence = modes["log_evidence"].values
    first = np.arange(len(evidence))
    for k in range(1, len(first)):
        for j in np.flatnonzero(first[:k] == np.arange(k)):
            equal = np.isfinite(evidence[k]) and np.isclose(
                evidence[k], evidence[j], rtol=RELATIVE_TOLERANCE, atol=0.0
            )
            if equal and np.all(np.abs(locations[k] - locations[j]) <= MAX_DISTANCE * spread):
                first[k] = j
                break
    return first


def merged_modes(modes: xr.Dataset, first: np.ndarray) -> xr.Dataset:
    """Give the images of each mode one entry.

    Parameters
    ----------
    modes : xarray.Dataset
        The group `modes`.
    first : array of int, shape (K,)
        What `first_images` returns.

    Returns
    -------
    xarray.Dataset
        Of m images the weight, its error and its interval are m times as large, the log evidence is
        larger by log m, and diagnostics are those of the first.
    """
    kept, n = np.unique(first, return_counts=True)
    out = modes.isel(mode=kept).assign_coords(mode=np.arange(len(kept)))
    for name in ("weight", "weight_se", "images"):
        out[name] = out[name] * xr.DataArray(n, dims="mode")
    out["log_evidence"] = out["log_evidence"] + xr.DataArray(np.log(n), dims="mode")
    # Weights of images are equal, so that m times a bound is a bound of their sum.
    out["weight_interval"] = np.minimum(out["weight_interval"] * xr.DataArray(n, dims="mode"), 1.0)
    return out
