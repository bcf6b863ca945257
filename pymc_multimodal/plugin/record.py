"""What a draw records."""

from __future__ import annotations

import numpy as np

from pymc_multimodal import kernel
from pymc_multimodal.fit import Fit

__all__ = ["NOT_SYMMETRIC", "record"]

NOT_SYMMETRIC = (
    "A draw was met whose image under the symmetry of the fit has another log density: the model "
    "is not symmetric everywhere, and these draws and weights are not exact. Fit again with "
    "symmetry=False."
)


def record(
    fit: Fit, state: kernel.ChainState, accepted: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Turn the state of n chains into draws.

    Parameters
    ----------
    fit : Fit
    state : kernel.ChainState
    accepted : array of shape (n,)
        Share of the jumps that each chain accepted.
    rng : numpy.random.Generator
        Chooses the images that are shown where the posterior is symmetric.

    Returns
    -------
    x : array of shape (n, d)
    stats : dict of arrays of shape (n,)
        Log density, mode, acceptance, and log ratio of the density to the proposal's.
    """
    points = fit.randomise_image(state.points, rng)
    return points.x, {
        "lp": points.logp,
        "mode": points.region,
        "accepted": accepted,
        "log_ratio": state.log_ratio,
    }
