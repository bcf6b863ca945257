"""Which coordinates are hubs, and which are the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = ["MAX_HUBS", "MIN_REST", "Split", "find_split"]

# Elements of a variable whose coordinates are hubs, at most, and hubs in all. Conventional: the
# hubs' density is described by importance sampling, whose cost grows with each.
MAX_ELEMENTS, MAX_HUBS = 4, 10
# Coordinates of the rest at least: fewer are described by normal densities of all coordinates.
# Conventional.
MIN_REST = 100


@dataclass(frozen=True, eq=False)
class Split:
    """Hubs, and the rest of the coordinates.

    Attributes
    ----------
    hubs : array of int, shape (H,)
    rest : array of int, shape (D,)
    names : tuple of str
        Variables of the hubs.
    """

    hubs: np.ndarray
    rest: np.ndarray
    names: tuple[str, ...]

    def join(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return points with hubs (n, H) and rest (n, D): an array (n, H + D)."""
        x = np.empty((len(u), len(self.hubs) + len(self.rest)))
        x[:, self.hubs], x[:, self.rest] = u, v
        return x

    def __str__(self) -> str:
        return f"{len(self.rest)} coordinates given {', '.join(self.names)}"


def find_split(density: Density) -> Split | None:
    """Take the coordinates of small variables as hubs.

    Parameters
    ----------
    density : Density
        Coordinates of one variable have names that differ in their index alone.

    Returns
    -------
    Split or None
        None without a gradient, without small variables, with too many of them, or if the rest is
        small.
    """
    if not density.has_gradient or density.dim < MIN_REST:
        return None
    variable = [name.split("[")[0] for name in density.names]
    size = Counter(variable)
    small = np.array([size[name] <= MAX_ELEMENTS for name in variable])
    hubs, rest = np.flatnonzero(small), np.flatnonzero(~small)
    if not 0 < len(hubs) <= MAX_HUBS or len(rest) < MIN_REST:
        return None
    if is_circular(density.period[rest]).any():
        return None
    names = tuple(dict.fromkeys(variable[i] for i in hubs))
    return Split(hubs, rest, names)
