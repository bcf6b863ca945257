"""The units of an autoregressive layer in the order in which draws compute them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SortedUnits"]


class SortedUnits(NamedTuple):
    """Units of a layer, sorted by the position of the last coordinate that they depend on.

    Attributes
    ----------
    hidden : list of (array of shape (out, in), array of shape (out, 1))
        Weights and biases of the hidden layers.
    known : list of int arrays of shape (d + 1,)
        Units of the input and of each hidden layer that are known before the first coordinate, and
        once the coordinate at each position is.
    out : array of shape (d, 2, in)
        Weights of shift and raw log slope of the coordinate at each position.
    out_bias : array of shape (d, 2)
    bounds : array of shape (2, d, 2)
        Least and largest shift and log slope of the coordinate at each position.
    by_position : int array of shape (d,)
        Coordinate at each position.
    max_log_slope : float
        Bound of the absolute log slope a: ``a = raw / (1 + |raw| / bound)``.
    """

    hidden: list[tuple[np.ndarray, np.ndarray]]
    known: list[np.ndarray]
    out: np.ndarray
    out_bias: np.ndarray
    bounds: np.ndarray
    by_position: np.ndarray
    max_log_slope: float
