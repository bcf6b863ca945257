"""Modes that a region's draws do not show: narrow maxima that chains neither leave nor enter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.elliptical import EllipticalMixture, joined, laplace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.search import Modes

__all__ = ["HiddenMode", "hidden_modes", "with_hidden_modes"]

# Nats by which the density of a region is too low at a mode that its draws do not show. A spike of
# a twentieth of the mass and half the width of its surroundings is four too low in 10 dimensions.
# Conventional.
LEAST_EXCESS = 3.0
# Share of the region's mass, by Laplace's approximation, from which on a mode matters: a tenth of
# the default `target_se`. Conventional.
LEAST_SHARE = 1e-3
# Shares of the draws that such a mode gets in the density of its region. Conventional: as the
# defensive component at least.
SHARES = 0.05, 0.5
# Draws of each region that say how high its density should be. Conventional: their mean log ratio
# is then known within a nat unless it varies by more than 15.
CHECKED_DRAWS = 256


@dataclass(frozen=True, eq=False)
class HiddenMode:
    """A mode that the draws of its region do not show.

    Attributes
    ----------
    region : int
    share : float
        Share of the region's mass, by Laplace's approximation; at most 1.
    density : EllipticalMixture
        Laplace's approximation with a heavy-tailed component.
    """

    region: int
    share: float
    density: EllipticalMixture


def hidden_modes(
    densities: Sequence[RegionDensity], draws: RegionDraws, modes: Modes, region: np.ndarray
) -> list[HiddenMode]:
    """Return modes at which the density of their region's draws is far too low.

    Chains that went around a narrow maximum do not come back to it, and no diagnostic of their
    draws shows what they have missed. But the maximum is known, and so is its mass.

    Parameters
    ----------
    densities : sequence of K RegionDensity
        Fitted to the draws.
    draws : RegionDraws
    modes : Modes
        Any number of modes. Their log densities are of what the draws are of: where the density is
        folded, they count the images of a mode.
    region : array of int
        Region of each mode; others than 0..K-1 are left out.
    """
    found: list[HiddenMode] = []
    for k, q in enumerate(densities):
        own = np.flatnonzero(region == k)
        if not len(own):
            continue
        x = draws.x[k].reshape(-1, draws.x[k].shape[-1])
        some = np.linspace(0, len(x) - 1, min(CHECKED_DRAWS, len(x))).astype(int)
        # The mean is log Z and the divergence from target to density: no less than log Z.
        log_z = np.mean(draws.logp[k].ravel()[some] - q.log_density(x[some]))
        mass = modes.log_mass[own] + 0.5 * x.shape[1] * np.log(2 * np.pi)
        share = np.exp(np.minimum(mass - log_z, 0.0))
        excess = modes.log_density[own] - q.log_density(modes.locations[own]) - log_z
        for j, part, gap in zip(own, share, excess, strict=True):
            if part > LEAST_SHARE and gap > LEAST_EXCESS:
                density = laplace(modes.locations[j], modes.scale[j], q.period)
                found.append(HiddenMode(k, float(part), density))
    return found


def with_hidden_modes(
    fit: RegionFit, draws: RegionDraws, modes: Modes, region: np.ndarray
) -> RegionFit:
    """Add Laplace's approximations of hidden modes to the elliptical densities of their regions.

    Networks stay as they are.

    Parameters
    ----------
    fit : RegionFit
    draws : RegionDraws
    modes : Modes
    region : array of int
        See `hidden_modes`.
    """
    densities = list(fit.densities)
    for mode in hidden_modes(densities, draws, modes, region):
        q = densities[mode.region]
        if isinstance(q, EllipticalMixture):
            share = float(np.clip(mode.share, *SHARES))
            densities[mode.region] = joined([q, mode.density], [1.0 - share, share], q.undefended)
    return replace(fit, densities=tuple(densities))
