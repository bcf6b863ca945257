"""Which log densities are plausible for draws of a region."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

__all__ = ["plausible_floor"]

# Minus the log of the share of a Gaussian's draws that may lie below the floor: exp(-20) is 2e-9, a
# draw that no run has. Conventional.
LOG_SHARE = 20.0

Height = TypeVar("Height", float, np.ndarray)


def plausible_floor(height: Height, d: int, log_share: float = LOG_SHARE) -> Height:
    r"""Return the log density below which draws of a region are implausible.

    .. math:: h - \left(\tfrac d2 + \sqrt{d t} + t\right)

    Twice the distance of a Gaussian draw below the mode (nats) has a chi-square distribution with d
    degrees of freedom. It exceeds :math:`d + 2 \sqrt{d t} + 2 t` with a probability of at most
    :math:`e^{-t}` (Laurent and Massart 2000, Lemma 1).

    Parameters
    ----------
    height : float or array
        Log density of the mode, or of a typical draw, about d / 2 lower.
    d : int
        Number of coordinates.
    log_share : float
        t: at most exp(-t) of a Gaussian's draws lie below the floor of its mode.

    Returns
    -------
    float or array
        Shape of `height`.
    """
    return height - (0.5 * d + np.sqrt(d * log_share) + log_share)
