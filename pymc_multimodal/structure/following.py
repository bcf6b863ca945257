"""How explanations move with the hubs: they are followed from one value of the hubs to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.structure.explanations import Explanations
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["slopes_of"]

# Step of the hubs in differences, in their standard deviations. Conventional: explanations move by
# less than their width over it.
HUB_STEP = 0.02


def slopes_of(
    density: Density, units: Units, known: Explanations, hub_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the derivatives of places and masses of explanations with respect to the hubs.

    At an optimum :math:`\partial_z \gamma_i = 0`, so that with the covariance :math:`C` of the
    normal approximation :math:`\mathrm dz / \mathrm dg = C \, \partial_z \partial_g \gamma_i`.
    The log mass is taken to change as the log density at the optimum.

    Parameters
    ----------
    density : Density
    units : Units
    known : Explanations
        At m values of the hubs.
    hub_scale : array of shape (H,)
        Unit of length of the hubs.

    Returns
    -------
    places : array of shape (m, N, K, b, H)
    log_mass : array of shape (m, N, K, H)
    """
    m, n_units, k, b = known.z.shape
    h, step = known.g.shape[1], HUB_STEP * hub_scale
    z, width = known.z.swapaxes(1, 2), known.width.swapaxes(1, 2)
    mixed = np.empty((m, k, n_units, b, h))
    shifts = step * np.eye(h)
    for i in range(b):
        for j in range(h):
            move, shift = width * (np.arange(b) == i), shifts[j]
            corners = [
                s * t * _value(density, units, known.g + t * shift, z + s * move)
                for s in (1, -1)
                for t in (1, -1)
            ]
            with np.errstate(invalid="ignore"):
                mixed[..., i, j] = sum(corners) / (4.0 * width[..., i] * step[j])
    # Outside of the support there is no derivative.
    mixed[~np.isfinite(mixed).all(axis=(3, 4))] = 0.0
    scale = known.scale
    places = scale @ (scale.swapaxes(-1, -2) @ mixed.swapaxes(1, 2))
    log_mass = np.empty((m, k, n_units, h))
    for j in range(h):
        move = step[j] * places[..., j].swapaxes(1, 2)
        up, down = (_value(density, units, known.g + t * shifts[j], z + t * move) for t in (1, -1))
        with np.errstate(invalid="ignore"):
            log_mass[..., j] = (up - down) / (2.0 * step[j])
    log_mass[~np.isfinite(log_mass)] = 0.0
    return places, log_mass.swapaxes(1, 2)


def _value(density: Density, units: Units, g: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Log density of each unit: hubs (m, H) and units (m, K, N, b) to (m, K, N)."""
    m, k = z.shape[:2]
    x = units.scatter(np.repeat(g, k, axis=0), z.reshape(m * k, *z.shape[2:]))
    return units.by_unit(density.terms(x)).reshape(m, k, -1)
