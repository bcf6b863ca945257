"""Whether the draws of a region are those of its optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.target.density import Density

__all__ = ["draws_away"]

# Draws of a region, the nearest to its optimum, from which straight lines to it are looked at, and
# points on each line. Conventional: 40 evaluations for a region.
NEAREST, LINE_POINTS = 4, 9
# Draws of a region among which the nearest are sought: a bound of the memory.
MAX_DRAWS = 2000
# A valley on the line that is deeper than this (nats) below the draw parts the draw from the
# optimum. Conventional: twice the depth that parts two modes by default, because a line through
# a curved region is not its best path.
MIN_VALLEY = 2.0


def draws_away(
    density: Density, locations: np.ndarray, scale: np.ndarray, draws: RegionDraws
) -> list[Status]:
    """Report the regions whose draws are not in the basin of their optimum.

    A border that is wrong may give a region the tail of a neighbour. Its chains then stay in that
    tail, and the mode that the region is listed under has no draws. The straight lines from the
    optimum to the draws that are nearest to it then all cross a valley. They cross none where
    draws are merely far from an optimum, as in many dimensions, on a skew side, or in a funnel.

    Parameters
    ----------
    density : Density
        Evaluated at 40 points for each region.
    locations, scale : arrays of shape (K, d) and (K, d, d)
        Optima of the regions, and factors of their inverse negative Hessians.
    draws : RegionDraws

    Returns
    -------
    list of Status
    """
    t = np.linspace(0.0, 1.0, LINE_POINTS + 2)[1:-1]
    lines, ends = [], []
    for k, (centre, factor) in enumerate(zip(locations, scale, strict=True)):
        x = draws.x[k].reshape(-1, density.dim)
        x = density.unroll(x[:: max(1, len(x) // MAX_DRAWS)], centre)
        z = solve_triangular(factor, (x - centre).T, lower=True)
        near = np.argsort(np.einsum("ij,ij->j", z, z), kind="stable")[:NEAREST]
        lines.append(centre + t[None, :, None] * (x[near] - centre)[:, None])
        ends.append(x[near])
    line, end = np.stack(lines), np.stack(ends)
    values = density.logp(density.wrap(line.reshape(-1, density.dim))).reshape(line.shape[:3])
    there = density.logp(density.wrap(end.reshape(-1, density.dim))).reshape(end.shape[:2])
    valley = there - values.min(axis=2)
    return [_away_status(int(k)) for k in np.flatnonzero((valley > MIN_VALLEY).all(axis=1))]


def _away_status(k: int) -> Status:
    return Status(
        "away",
        "regions",
        "no draw of this region is near its optimum: between the optimum and the nearest draws "
        "lies a valley. The draws are those of another mode's tail.",
        "The weight is that of the tail, and the weight of the mode at this location is not known: "
        "raise LocalSampling.explore_moves, from which the regions are learned.",
        mode=k,
    )
