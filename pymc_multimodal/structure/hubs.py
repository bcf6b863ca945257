"""The modes of the hubs, and the explanations of all units there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pymc_multimodal.search import ModeSearch, StartDistribution, climb_ends
from pymc_multimodal.status import counted
from pymc_multimodal.structure.catalogue import catalogued
from pymc_multimodal.structure.clusters import Clusters, cluster
from pymc_multimodal.structure.conditional import log_sum
from pymc_multimodal.structure.explanations import FEW_STEPS, Explanations, explain
from pymc_multimodal.structure.hub_modes import HubModes
from pymc_multimodal.structure.marginal import LaplaceMarginal
from pymc_multimodal.structure.tempering import Tempering
from pymc_multimodal.target import Density

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.structure.conditional import Guess
    from pymc_multimodal.structure.extended import UnitProposals
    from pymc_multimodal.target.units import Units

__all__ = [
    "Explained",
    "density_of_hubs",
    "explain_hubs",
    "lost_explanations",
    "missing_explanations",
    "several_explanations",
]

# Starts of each unit while hubs are tempered. Conventional: the explanations there are only starts
# of climbs at other hubs.
FIRST_STARTS = 16
# Climbs of all coordinates together, whose ends tell modes of the hubs that the particles may have
# lost: of two equal modes, tempering has lost one in one run of two. Conventional.
HUB_CLIMBS, MAX_ITERATIONS, MAX_OPTIMA = 48, 60, 64
# Starts of each unit at the modes of the hubs. Measured in a prototype: of 600 explanations 32
# starts of the prior's width lost 82 (the largest of a share of 0.16), 64 of which half were twice
# as wide lost 3 (in all a share of 0.009).
STARTS = 64
# Factor by which every other start is farther from the prior's median.
WIDER = 2.0
# Searches at most: another one follows where the explanations at the modes raise the marginal
# density there by more than this (nats). Conventional.
SEARCHES, MAX_RISE = 3, 0.1
# Least unit of length of the hubs, in spreads of their prior. Conventional.
LEAST_SCALE = 1e-6
# Share from which on an explanation counts. Conventional.
COUNTED_SHARE = 0.01
# Hubs and starts of a first look, which costs some hundred evaluations. Conventional.
LOOK_HUBS, LOOK_STARTS = 4, 8
# Starts of the climbs that look for explanations which the search has missed, and how much farther
# from the median they are than prior draws. Measured in a prototype: climbs from three times the
# prior's width found what was missing in 39 to 53 of 200 units where the search had been too
# narrow, and in one where it had not.
CHALLENGE_STARTS, CHALLENGE_WIDER = 48, 3.0
# Weight of an optimum, relative to the mean of its unit, from which on it is not covered by the
# known explanations: at the centre of one that is known the weight is about the mean. Conventional.
UNCOVERED_RATIO = 10.0
# Anchors whose explanations others are looked for from, and further starts. Conventional.
NEAREST_ANCHORS, FRESH_STARTS = 2, 2
# Share of the hubs from which on an anchor is kept when others are added. Conventional.
USED_SHARE = 0.005
# The same ratio, from which on an explanation is not followed to other hubs. Conventional: where it
# is followed the ratio is below 1.2, and where it is lost above 3 if its share is a tenth.
LOST_RATIO = 3.0


Once: TypeAlias = "Callable[[str, Callable[[], Any]], Any]"
"""Makes a part of the work, given its name and what makes it, or knows it already."""


@dataclass(frozen=True, eq=False)
class Explained:
    """Modes of the hubs, and explanations.

    Attributes
    ----------
    clusters : Clusters or None
        Normals that describe the hubs; None without hubs.
    starts : StartDistribution
        Of the hubs.
    anchors : Explanations
        At draws of the hubs; without hubs at the one value that there is.
    hub_scale : array of shape (H,)
        Standard deviations of the hubs within the normals that describe them.
    spread : array of shape (N, b)
        Unit of length of the units' coordinates.
    ends : array of shape (p, H)
        Hubs at which climbs of all coordinates have ended.
    by_modes : bool
        Whether the hubs were described by normals around modes of their marginal density, and not
        by tempering.
    """

    clusters: Clusters | None
    starts: StartDistribution
    anchors: Explanations
    hub_scale: np.ndarray
    spread: np.ndarray
    ends: np.ndarray
    by_modes: bool = False

    @property
    def n_explanations(self) -> np.ndarray:
        """Explanations that count, of each unit where they are most, shape (N,)."""
        out: np.ndarray = (self.anchors.share > COUNTED_SHARE).sum(axis=2).max(axis=0)
        return out

    @property
    def described(self) -> str:
        """Number of explanations in words."""
        return counted(int(self.n_explanations.sum()), "explanation")

    def used(self, g: np.ndarray, weight: np.ndarray) -> Explanations:
        """Return the anchors that are the nearest ones of some share of weighted hubs (n, H)."""
        nearest = self.anchors.nearest(g, self.hub_scale)
        share = np.bincount(nearest, weight, minlength=len(self.anchors)) / weight.sum()
        return self.anchors.take(np.flatnonzero(share > USED_SHARE))

    def with_more(self, density: Density, units: Units, more: Explanations) -> Explained:
        """Return what is known with further explanations.

        Parameters
        ----------
        density : Density
        units : Units
        more : Explanations
            At some hubs; they hold all that is known there.
        """
        anchors = self.anchors.joined(more) if len(units.hubs) else more
        anchors = catalogued(density, units, anchors, self.hub_scale, self.spread)
        return replace(self, anchors=anchors)


@dataclass(frozen=True, eq=False)
class HubSearch:
    """What one search of the hubs has found.

    Attributes
    ----------
    particles : array of shape (P, H)
    clusters : Clusters
        Fitted to them.
    known, at_modes : Explanations
        At some of the particles, and at the centres of the clusters.
    rises : bool
        Whether the explanations at the centres raise the marginal density there.
    by_modes : bool
        Whether the particles are those of `HubModes`.
    """

    particles: np.ndarray
    clusters: Clusters
    known: Explanations
    at_modes: Explanations
    rises: bool
    by_modes: bool


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
    hubs: np.ndarray,
    function: Callable[[np.ndarray], tuple[np.ndarray, None]],
    chunk: int,
) -> Density:
    """Return a density of the hubs alone.

    Parameters
    ----------
    density : Density
    hubs : array of int, shape (H,)
        Their coordinates.
    function : callable
        Log densities of hubs (n, H).
    chunk : int
        Hubs of one call.
    """
    return Density(
        function,
        len(hubs),
        has_gradient=False,
        period=density.period[hubs],
        names=[density.names[i] for i in hubs],
        chunk=chunk,
    )


def explain_hubs(
    density: Density,
    units: Units,
    starts: StartDistribution,
    rng: np.random.Generator,
    optima: np.ndarray | None = None,
    once: Once = lambda name, make: make(),
    *,
    by_modes: bool = True,
) -> Explained:
    """Find the modes of the hubs' marginal density, and the explanations of all units there.

    Parameters
    ----------
    density : Density
    units : Units
    starts : StartDistribution
        Of all coordinates.
    rng : numpy.random.Generator
    optima : array of shape (p, d), optional
        Optima of the whole density that are known; by default climbs look for some.
    once : callable
        What a fit that goes on after a kill knows of it: by default nothing.
    by_modes : bool
        Whether modes of the marginal density are tried before tempering.

    Returns
    -------
    Explained
    """
    spread, hubs = _spread_of(units, starts), units.hubs
    of_hubs = StartDistribution(starts.centre[hubs], starts.spread[hubs])
    if not len(hubs):
        z = unit_starts(density, units, STARTS, rng)
        anchors = explain(density, units, np.zeros((1, 0)), z, spread)
        anchors = catalogued(density, units, anchors, np.zeros(0), spread)
        return Explained(None, of_hubs, anchors, np.zeros(0), spread, np.zeros((0, 0)))
    z = unit_starts(density, units, FIRST_STARTS, rng)
    if optima is None or not len(optima):
        # By differences where there is no gradient: a trust-region method takes longer for its own
        # work than the model, whose terms are cheap here.
        settings = ModeSearch(
            max_iter=MAX_ITERATIONS, optimiser="lbfgs" if density.has_gradient else "differences"
        )
        optima = once(
            "climbs",
            lambda: climb_ends(density, starts, settings, density.prior_draws(HUB_CLIMBS, rng)),
        )
        assert optima is not None
    ends = optima[rng.permutation(len(optima))[:MAX_OPTIMA]][:, hubs]
    particles, begun = ends, False
    for i in range(SEARCHES):
        modes = HubModes(density, units, of_hubs, spread, z) if by_modes else None
        tempered = Tempering(density, units, of_hubs.spread, spread, z)
        search = partial(_search, tempered, particles, rng, modes, begun=begun)
        found: HubSearch = once(f"search {i}", search)
        by_modes = found.by_modes
        if not by_modes:
            particles, begun = found.particles, True
        if not found.rises:
            break
        z = np.concatenate([z, found.at_modes.z.swapaxes(1, 2).reshape(-1, *spread.shape)])
    anchors = found.known.joined(found.at_modes)
    hub_scale = np.maximum(found.clusters.width, LEAST_SCALE * of_hubs.spread)
    anchors = catalogued(density, units, anchors, hub_scale, spread)
    return Explained(found.clusters, of_hubs, anchors, hub_scale, spread, ends, found.by_modes)


def _search(
    tempered: Tempering,
    points: np.ndarray,
    rng: np.random.Generator,
    modes: HubModes | None,
    *,
    begun: bool,
) -> HubSearch:
    """Find particles by modes, temper some, or go on with some; look at the modes they show."""
    density, units = tempered.density, tempered.units
    found = None if modes is None else modes.particles(points, rng)
    particles, known = tempered.run(points, rng, begun=begun) if found is None else found
    clusters = cluster(particles, density.period[units.hubs], rng)
    marginal = LaplaceMarginal(density, units, known, tempered.hub_spread, tempered.spread)
    fresh = unit_starts(density, units, STARTS, rng)
    before = marginal.values(clusters.centre)
    at_modes = marginal.explained(clusters.centre, fresh)
    with np.errstate(invalid="ignore"):
        rise = at_modes.log_marginal - before
    rises = bool((rise > MAX_RISE).any())
    return HubSearch(particles, clusters, known, at_modes, rises, found is not None)


def several_explanations(
    density: Density, units: Units, starts: StartDistribution, rng: np.random.Generator
) -> float:
    """Look at few hubs from few starts: how many combinations of explanations there may be.

    Parameters
    ----------
    density : Density
    units : Units
    starts : StartDistribution
        Of all coordinates.
    rng : numpy.random.Generator

    Returns
    -------
    float
        Logarithm (base 2) of the number at the hubs where it is largest.
    """
    spread = _spread_of(units, starts)
    g = density.prior_draws(LOOK_HUBS, rng)[:, units.hubs]
    g[0] = starts.centre[units.hubs]
    found = explain(density, units, g, unit_starts(density, units, LOOK_STARTS, rng), spread)
    count = (found.share > COUNTED_SHARE).sum(axis=2)
    return float(np.log2(np.maximum(count, 1)).sum(axis=1).max())


def missing_explanations(
    density: Density,
    proposals: UnitProposals,
    g: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Explanations]:
    """Climb from starts that are farther out than those of the search, at some hubs.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    g : array of shape (m, H)
        Draws of the hubs.
    rng : numpy.random.Generator

    Returns
    -------
    share : array of shape (N,)
        Share of the explanations of each unit that were not known, in the mean over the hubs.
    found : Explanations
        All explanations at these hubs.
    """
    units = proposals.units
    known = proposals.explained(density, g)
    z = unit_starts(density, units, CHALLENGE_STARTS, rng, CHALLENGE_WIDER)
    both = np.concatenate(
        [known.mean.swapaxes(1, 2), np.broadcast_to(z, (len(g), *z.shape))], axis=1
    )
    found = explain(density, units, g, both, proposals.spread)
    return _uncovered(proposals, known, found, UNCOVERED_RATIO), found


def _uncovered(
    proposals: UnitProposals, known: Guess, found: Explanations, least: float
) -> np.ndarray:
    """Share of the explanations found, (N,), whose weight is large: no known one covers them."""
    at = proposals.conditional(known)
    log_q = log_sum(at.log_parts(found.z.swapaxes(1, 2))).swapaxes(1, 2)
    total = log_sum(found.log_mass, axis=-1)[..., None]
    with np.errstate(invalid="ignore"):
        ratio = found.height(proposals.units.sizes) - log_q - total
    share: np.ndarray = (found.share * (ratio > np.log(least))).sum(axis=2).mean(axis=0)
    return share


def lost_explanations(
    density: Density,
    proposals: UnitProposals,
    g: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Explanations]:
    """Look for explanations that are not followed from the anchors to some hubs.

    Climbs begin at explanations of several anchors, where these are and where the slopes lead to,
    and at a few other points.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    g : array of shape (m, H)
        Draws of the hubs.
    rng : numpy.random.Generator

    Returns
    -------
    share : array of shape (N,)
        Share of the explanations of each unit that were lost, in the mean over the hubs.
    found : Explanations
        All explanations at these hubs.
    """
    units, mixtures = proposals.units, proposals.mixtures
    known = proposals.explained(density, g)
    fresh = unit_starts(density, units, FRESH_STARTS, rng)
    at_anchors = mixtures.anchors.around(g, mixtures.hub_scale, NEAREST_ANCHORS)
    starts = np.concatenate(
        [known.mean.swapaxes(1, 2), at_anchors, np.broadcast_to(fresh, (len(g), *fresh.shape))],
        axis=1,
    )
    found = explain(density, units, g, starts, proposals.spread, FEW_STEPS)
    return _uncovered(proposals, known, found, LOST_RATIO), found


def _spread_of(units: Units, starts: StartDistribution) -> np.ndarray:
    """Spread of the starts of each unit's coordinates, shape (N, b); 1 where padded."""
    spread = units.gather(starts.spread[None])[0]
    out: np.ndarray = np.where(units.inside, spread, 1.0)
    return out
