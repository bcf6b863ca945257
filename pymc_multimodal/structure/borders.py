"""To which explanation the points between two of them belong: that to which climbs lead.

The shares of explanations at each of the hubs are those of the densities that points were drawn
from, whose border is not that of the unit's own density. A few hubs tell the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.climbs import climb_within
from pymc_multimodal.structure.integration import grouped

if TYPE_CHECKING:
    from pymc_multimodal.structure.conditional import Guess
    from pymc_multimodal.structure.extended import Extended, UnitProposals
    from pymc_multimodal.structure.integration import UnitSample
    from pymc_multimodal.target.density import Density

__all__ = ["Borders", "look_at_borders"]

# Part of the share in doubt that counts as an error, where it is not looked at. Measured:
# examples/benchmarks/structure.py (population_200); errors were up to a third of that share.
BORDER_SHARE = 0.25
# Units are looked at where that error is more than this part of the one asked for. Conventional.
WORTHWHILE = 0.25
# Probability of another explanation, by the normal approximations, from which on a climb tells
# which one a point belongs to. Conventional: a tenth of the error asked for.
DOUBTFUL = 1e-3
# Distance of the end of a climb from an explanation, in its widths, up to which it has led there.
# Conventional: climbs end within a hundredth of an optimum, or have been cut off.
LED = 1.0
# Hubs of the first look, and at most: they are doubled until the error is this part of the one
# asked for. Conventional: what happens at one of a hundred hubs is met at one of the first ones
# with a probability of 0.92.
FIRST_HUBS, MOST_HUBS, ERROR_SHARE = 256, 1024, 0.3


@dataclass(frozen=True, eq=False)
class Borders:
    """What overlapping explanations change in the weights, and in their errors.

    Attributes
    ----------
    shift, se : arrays of shape (N, K)
        What is added to the weights, by place in the proposals, and its standard error.
    """

    shift: np.ndarray
    se: np.ndarray


def look_at_borders(
    density: Density,
    proposals: UnitProposals,
    drawn: UnitSample,
    ratio: np.ndarray | None,
    target_se: float,
    rng: np.random.Generator,
) -> Borders:
    r"""Estimate how much the shares change if climbs tell the explanation of each point.

    At some of the hubs drawn, with fresh points :math:`z'` of each unit, the difference
    :math:`D_i(g, z')` of both shares has the weight
    :math:`r(g) \bar w_i(g, z') / \bar w_i(g, z)`, with the mean weights :math:`\bar w_i` of the
    fresh points and of those before: its mean over the sample is without bias.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    drawn : UnitSample
    ratio : array of shape (n,), or None
        Importance ratios of the hubs drawn; None where there are no hubs.
    target_se : float
        Standard error asked for of every weight.
    rng : numpy.random.Generator

    Returns
    -------
    Borders
        Units of which hardly any share is in doubt are not looked at: they have a shift of zero,
        and a part of that share as the error.
    """
    units, k = proposals.units, proposals.mixtures.n_explanations
    rows = np.flatnonzero(np.isfinite(drawn.log_marginal))
    weight = np.ones(len(rows)) if ratio is None else ratio[rows]
    error = BORDER_SHARE * (weight @ drawn.doubt[rows]) / weight.sum()
    found = Borders(np.zeros((units.n_units, k)), np.repeat(error[:, None], k, axis=1))
    chosen = error > WORTHWHILE * target_se
    order = rng.permutation(rows[weight > 0])
    weights, shifts, done, wanted = [], [], 0, FIRST_HUBS
    while chosen.any() and done < min(wanted, len(order)):
        rows = order[done:wanted][: proposals.rows]
        g = drawn.x[rows][:, units.hubs]
        log_mean, shift = _shifts(density, proposals, g, chosen, rng)
        if ratio is None:
            weights.append(np.exp(log_mean - drawn.log_mean.max(axis=0)))
        else:
            weights.append(ratio[rows, None] * np.exp(log_mean - drawn.log_mean[rows]))
        shifts.append(shift)
        done += len(rows)
        if done < min(wanted, len(order)):
            continue
        of_chosen = _estimated(np.concatenate(weights), np.concatenate(shifts))
        if of_chosen.se[chosen].max() > ERROR_SHARE * target_se and wanted < MOST_HUBS:
            wanted *= 2
    if not done:
        return found
    column = chosen[:, None]
    se = np.where(column, of_chosen.se, found.se)
    return Borders(np.where(column, of_chosen.shift, 0.0), se)


def _estimated(weight: np.ndarray, shift: np.ndarray) -> Borders:
    """Weighted means of differences (n, N, K), with weights (n, N), and their errors."""
    total = np.maximum(weight.sum(axis=0), 1e-300)[:, None]
    mean = np.einsum("nu,nuk->uk", weight, shift) / total
    square = np.einsum("nu,nuk->uk", weight**2, (shift - mean) ** 2)
    return Borders(mean, np.sqrt(square) / total)


def _shifts(
    density: Density,
    proposals: UnitProposals,
    g: np.ndarray,
    chosen: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points at hubs (n, H): log mean weights (n, N), and changes of shares (n, N, K)."""
    group = proposals.mixtures.anchors.group
    guess = proposals.explained(density, g)
    own = proposals.draw_around(density, g, guess, rng)
    doubt = np.where(chosen & (own.share > 0), own.doubts(group), 0.0)
    label = _led_to(density, proposals, own, guess, doubt)
    return own.log_mean, grouped(own.mass(label) - own.mass(), group)


def _led_to(
    density: Density,
    proposals: UnitProposals,
    own: Extended,
    guess: Guess,
    doubt: np.ndarray,
) -> np.ndarray:
    """Return the explanation of each point (n, M, N): where in doubt, that to which climbs lead."""
    label = own.label
    # The points in doubt of every unit are climbed from together, in as few rows as there are.
    order = np.argsort(-doubt, axis=1, kind="stable")
    hub, place = np.nonzero((np.take_along_axis(doubt, order, axis=1) > DOUBTFUL).any(axis=2))
    if not len(hub):
        return label
    unit = np.arange(label.shape[2])
    column = order[hub, place]
    doubtful = doubt[hub[:, None], column, unit] > DOUBTFUL
    old = label[hub[:, None], column, unit]
    z = own.z[hub[:, None], column, unit]
    width = np.linalg.norm(guess.scale[hub[:, None], unit, old], axis=-1)
    ends = climb_within(density, proposals.units, own.g[hub], z, proposals.spread, width, doubtful)
    best, new = np.full(old.shape, LED), old.copy()
    for j in range(guess.mean.shape[2]):
        step = ends - guess.mean[hub, :, j]
        r = np.linalg.solve(guess.scale[hub, :, j], step[..., None])[..., 0]
        apart = np.linalg.norm(r, axis=-1)
        nearer = doubtful & np.isfinite(guess.log_mass[hub, :, j]) & (apart < best)
        best[nearer], new[nearer] = apart[nearer], j
    out = label.copy()
    out[hub[:, None], column, unit] = new
    return out
