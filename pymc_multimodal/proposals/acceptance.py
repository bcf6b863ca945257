"""How often a density's independence jumps will be accepted, from draws of the target alone."""

from __future__ import annotations

import numpy as np

__all__ = ["expected_acceptance"]


def expected_acceptance(log_ratio: np.ndarray) -> float:
    r"""Estimate the acceptance of independence jumps from draws of the target alone.

    .. math:: E_{x \sim \pi, y \sim q} \min(1, w_y / w_x)
        = E_{x, y \sim \pi} \min(1 / w_x, 1 / w_y) \, / \, E_\pi [1 / w]

    Parameters
    ----------
    log_ratio : array of shape (n,)
        log w = log gamma - log q at draws of the target, up to a constant.

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    Mass of q where the target has none has no draws: the true acceptance may be lower.
    """
    v = np.sort(np.exp(log_ratio.min() - log_ratio))
    n = len(v)
    # Of all ordered pairs, the i-th smallest is the minimum of 2 (n - i) - 1.
    return float(v @ (2.0 * (n - np.arange(n)) - 1.0) / n**2 / v.mean())
