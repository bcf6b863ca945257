"""The modes of the hubs, and the explanations of all units there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search import (
    ModeSearch,
    StartDistribution,
    begin_search,
    find_modes,
    modes_of,
)
from pymc_multimodal.structure.conditional import n_features
from pymc_multimodal.structure.explanations import Explanations, explain, responses
from pymc_multimodal.structure.marginal import LaplaceMarginal
from pymc_multimodal.structure.tempering import temper_hubs
from pymc_multimodal.target import Density

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.units import Units

__all__ = ["Explained", "anchors_at", "density_of_hubs", "explain_hubs", "unit_starts"]

# Hubs at which units are explained first, from how many starts each. Conventional: the explanations
# there are only starts of climbs at other hubs.
FIRST_HUBS, FIRST_STARTS = 16, 16
# Starts of climbs in the hubs. Conventional.
HUB_STARTS = 64
# Starts of each unit at the modes of the hubs. Measured in a prototype: of 600 explanations 32
# starts of the prior's width lost 82 (the largest of a share of 0.16), 64 of which half were twice
# as wide lost 3 (in all a share of 0.009).
STARTS = 64
# Factor by which every other start is farther from the prior's median.
WIDER = 2.0
# Searches at most: another one follows where the explanations at the modes raise the marginal
# density there by more than this (nats). Conventional.
SEARCHES, MAX_RISE = 3, 0.1
# Modes of the hubs at most, and nats below the largest from which on one is left out. Conventional.
MAX_HUB_MODES, NEGLIGIBLE = 12, 12.0
# Anchors of the regression for each of its coefficients, and at least. Conventional.
PER_FEATURE, LEAST_ANCHORS = 3, 24
# Width of the anchors' distribution relative to the hubs'. Conventional: the tails are covered.
ANCHOR_WIDTH = 1.3
# Share from which on an explanation counts. Conventional.
COUNTED_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Explained:
    """Modes of the hubs, and explanations.

    Attributes
    ----------
    modes : Modes or None
        Of the hubs' marginal density; None without hubs.
    starts : StartDistribution
        Of the hubs.
    at_modes : Explanations
        At each mode; without hubs at the one value that there is.
    """

    modes: Modes | None
    starts: StartDistribution
    at_modes: Explanations

    @property
    def n_explanations(self) -> np.ndarray:
        """Explanations that count, of each unit at the mode where they are most, shape (N,)."""
        out: np.ndarray = (self.at_modes.share > COUNTED_SHARE).sum(axis=2).max(axis=0)
        return out


def unit_starts(
    density: Density,
    units: Units,
    n: int,
    rng: np.random.Generator,
    wider: float = WIDER,
) -> np.ndarray:
    """Draw starts of climbs in the units: prior draws, every other one farther from the median.

    Parameters
    ----------
    density : Density
        With a prior.
    units : Units
    n : int
    rng : numpy.random.Generator
    wider : float

    Returns
    -------
    array of shape (n, N, b)
    """
    z = units.gather(density.prior_draws(max(n, 2), rng))
    centre = np.median(z, axis=0)
    z[1::2] = centre + wider * (z[1::2] - centre)
    return z[:n]


def density_of_hubs(
    density: Density,
    units: Units,
    function: Callable[[np.ndarray], tuple[np.ndarray, None]],
    chunk: int,
    *,
    gradient: bool = False,
) -> Density:
    """Return a density of the hubs alone.

    Parameters
    ----------
    density : Density
    units : Units
    function : callable
        Log densities of hubs (n, H).
    chunk : int
        Hubs of one call.
    gradient : bool
        Whether the function gives gradients.
    """
    return Density(
        function,
        len(units.hubs),
        has_gradient=gradient,
        period=density.period[units.hubs],
        names=[density.names[i] for i in units.hubs],
        prior=partial(_hub_draws, density, units),
        chunk=chunk,
    )


def _hub_draws(density: Density, units: Units, n: int, rng: np.random.Generator) -> np.ndarray:
    return density.prior_draws(n, rng)[:, units.hubs]


def explain_hubs(
    density: Density, units: Units, starts: StartDistribution, rng: np.random.Generator
) -> Explained:
    """Find the modes of the hubs' marginal density, and the explanations of all units there.

    Parameters
    ----------
    density : Density
    units : Units
    starts : StartDistribution
        Of all coordinates.
    rng : numpy.random.Generator

    Returns
    -------
    Explained
    """
    spread = units.gather(starts.spread[None])[0]
    spread = np.where(units.inside, spread, 1.0)
    hubs = units.hubs
    of_hubs = StartDistribution(starts.centre[hubs], starts.spread[hubs])
    if not len(hubs):
        z = unit_starts(density, units, STARTS, rng)
        return Explained(None, of_hubs, explain(density, units, np.zeros((1, 0)), z, spread))
    z = unit_starts(density, units, FIRST_STARTS, rng)
    particles, known = temper_hubs(density, units, of_hubs.spread, spread, z, rng)
    for _ in range(SEARCHES):
        marginal = LaplaceMarginal(density, units, known, of_hubs.spread, spread)
        hubs = density_of_hubs(density, units, marginal, 64, gradient=True)
        modes = _modes_of(hubs, particles, rng)
        z = unit_starts(density, units, STARTS, rng)
        before = marginal.explained(modes.locations)
        at_modes = marginal.explained(modes.locations, z)
        rise = at_modes.log_marginal - before.log_marginal
        if rise.max() < MAX_RISE:
            break
        known = known.joined(at_modes)
    return Explained(replace(modes, log_density=at_modes.log_marginal), of_hubs, at_modes)


def _modes_of(hubs: Density, particles: np.ndarray, rng: np.random.Generator) -> Modes:
    """Return the modes of the hubs' marginal density that matter."""
    rows = rng.permutation(len(particles))[:HUB_STARTS]
    settings = ModeSearch(starts=particles[rows], screening=0)
    search = begin_search(hubs, settings, False, rng)
    while not search.settled:
        search = find_modes(hubs, search, settings, rng)
    modes = modes_of(hubs, search, settings)
    rows = np.flatnonzero(modes.log_mass > modes.log_mass.max() - NEGLIGIBLE)
    rows = rows[np.argsort(-modes.log_mass[rows])][:MAX_HUB_MODES]
    k = len(rows)
    return replace(
        modes,
        locations=modes.locations[rows],
        log_density=modes.log_density[rows],
        scale=modes.scale[rows],
        hits=modes.hits[rows],
        singletons=modes.singletons[rows],
        optima=modes.locations[rows],
        optimum_modes=np.arange(k),
        optimum_ids=np.arange(k),
        points=modes.points[:0],
        point_modes=modes.point_modes[:0],
        statuses=(),
    )


def anchors_at(
    density: Density,
    units: Units,
    found: Explained,
    spread: np.ndarray,
    draws: list[np.ndarray] | None,
    rng: np.random.Generator,
) -> list[Explanations]:
    """Follow the explanations at each mode of the hubs to hubs around it.

    Parameters
    ----------
    density : Density
    units : Units
    found : Explained
    spread : array of shape (N, b)
    draws : list of R arrays of shape (n, H), or None
        Draws of the hubs around each mode; None: the normal approximation is used.
    rng : numpy.random.Generator

    Returns
    -------
    list of R Explanations
        The mode itself first.
    """
    if found.modes is None:
        return [found.at_modes]
    h = len(units.hubs)
    n = max(LEAST_ANCHORS, PER_FEATURE * n_features(h))
    out = []
    for r in range(len(found.modes)):
        known = found.at_modes.take(np.array([r]))
        if draws is None:
            noise = rng.standard_normal((n, h)) @ found.modes.scale[r].T
            g = found.modes.locations[r] + ANCHOR_WIDTH * noise
        else:
            centre = draws[r].mean(axis=0)
            g = draws[r][rng.integers(len(draws[r]), size=n)]
            g = centre + ANCHOR_WIDTH * (g - centre)
        out.append(known.joined(responses(density, units, known, g, spread)))
    return out
