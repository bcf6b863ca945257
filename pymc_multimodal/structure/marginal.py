"""The marginal density of the hubs, with the units integrated by normal approximations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.explanations import FEW_STEPS, explain

if TYPE_CHECKING:
    from pymc_multimodal.structure.explanations import Explanations
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["LaplaceMarginal"]


class LaplaceMarginal:
    r"""Log marginal density of the hubs, up to the error of the normal approximations.

    .. math:: \log \gamma(g) \approx h(g) + \sum_i \log \sum_k
              \gamma_i(z_{ik}(g), g) \, (2 \pi)^{b/2} |C_{ik}(g)|^{1/2}

    h are the terms of the hubs alone; the optima :math:`z_{ik}(g)` of unit i are followed from
    those of the nearest hubs in `known`, so that the function is the same in every call.

    Parameters
    ----------
    density : Density
    units : Units
    known : Explanations
    hub_spread : array of shape (H,)
        Unit of length of the hubs.
    spread : array of shape (N, b)
        Unit of length of the units' coordinates.
    """

    def __init__(
        self,
        density: Density,
        units: Units,
        known: Explanations,
        hub_spread: np.ndarray,
        spread: np.ndarray,
    ) -> None:
        self.density, self.units, self.known = density, units, known
        self.hub_spread, self.spread = hub_spread, spread

    def values(self, g: np.ndarray) -> np.ndarray:
        """Log densities of hubs of shape (n, H), shape (n,)."""
        return self.explained(g).log_marginal

    def explained(self, g: np.ndarray, fresh: np.ndarray | None = None) -> Explanations:
        """Return the explanations at hubs.

        Parameters
        ----------
        g : array of shape (n, H)
        fresh : array of shape (S, N, b), optional
            Further starts.
        """
        nearest = self.known.nearest(g, self.hub_spread)
        starts = self.known.z[nearest].swapaxes(1, 2)
        if fresh is None:
            width = self.known.width[nearest].swapaxes(1, 2)
            return explain(self.density, self.units, g, starts, self.spread, FEW_STEPS, width)
        more = np.broadcast_to(fresh, (len(g), *fresh.shape))
        starts = np.concatenate([starts, more], axis=1)
        return explain(self.density, self.units, g, starts, self.spread)
