"""Which of many modes hold next to no mass, by a few draws of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.mixture import ModeMixture, first_mixture
from pymc_multimodal.approximation.sample import draw_sample, mode_of_draws
from pymc_multimodal.approximation.verdict import mode_errors

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import LeftOut
    from pymc_multimodal.approximation.sample import WeightedSample
    from pymc_multimodal.search import Modes, StartDistribution
    from pymc_multimodal.target.target import Target

__all__ = ["DRAWS_OF_MODE", "negligible_in_sample", "negligible_modes"]

# Part of the error asked for, in units of the largest mode's mass, that modes which are left out
# hold together, with three standard errors. Conventional: it adds a twentieth to an error. Of many
# modes none is large: what is next to nothing beside all of them may be half of one.
NEGLIGIBLE = 0.3
# Draws of each mode. Conventional: half of what the first sample of a mixture has.
DRAWS_OF_MODE = 30
# Standard errors that are added to a share. Conventional.
ERRORS = 3.0


def negligible_modes(
    target: Target,
    modes: Modes,
    starts: StartDistribution,
    asked: np.ndarray,
    target_se: float,
    rng: np.random.Generator,
    left_out: LeftOut | None = None,
) -> np.ndarray:
    """Tell which modes hold next to no mass.

    Together it is at most 0.3 of the error asked for, times the mass of the largest mode.

    Masses are estimated by importance sampling from Laplace's approximations, with equally many
    draws of each. The modes are taken from the smallest on, as long as their joint mass, with three
    standard errors, is that small.

    Parameters
    ----------
    target : Target
    modes : Modes
    starts : StartDistribution
        What the starts of the search were drawn from.
    asked : array of bool, shape (K,)
        Modes of which that is asked.
    target_se : float
        Standard error asked for of every weight.
    rng : numpy.random.Generator
    left_out : LeftOut, optional
        Modes of which that is known.

    Returns
    -------
    array of bool, shape (K,)

    Raises
    ------
    LimitReached
        If a limit of the fit was reached.
    """
    k = len(modes)
    mixture = first_mixture(modes, modes.log_mass, starts, target.period, left_out)
    counts = np.full(k + 1, DRAWS_OF_MODE)
    mixture = ModeMixture(mixture.densities, counts / counts.sum())
    sample = draw_sample(target, mixture, counts, rng)
    return negligible_in_sample(mixture, sample, asked, target_se)


def negligible_in_sample(
    mixture: ModeMixture, sample: WeightedSample, asked: np.ndarray, target_se: float
) -> np.ndarray:
    """Tell which modes hold next to no mass, by a sample that has been drawn.

    Parameters
    ----------
    mixture : ModeMixture
        Of K modes.
    sample : WeightedSample
        Drawn from it.
    asked : array of bool, shape (K,)
        Modes of which that is asked.
    target_se : float
        Standard error asked for of every weight.

    Returns
    -------
    array of bool, shape (K,)
    """
    k, mode = mixture.n_modes, mode_of_draws(mixture, sample)
    share, se = mode_errors(sample, mode, k)
    most = share + ERRORS * se
    rows = np.flatnonzero(asked)
    order = rows[np.argsort(most[rows], kind="stable")]
    out, limit = np.zeros(k, dtype=bool), NEGLIGIBLE * target_se * share.max()
    out[order[: _length(sample, mode, order, limit)]] = True
    return out


def _length(sample: WeightedSample, mode: np.ndarray, order: np.ndarray, limit: float) -> int:
    """Return of how many modes, from the first on, the joint mass is below a limit."""
    if not sample.ratio.any():
        return 0
    # The last entry is the rank of draws of no mode.
    rank = np.full(len(sample.counts), len(order))
    rank[order] = np.arange(len(order))
    own = rank[mode]
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        share, se = mode_errors(sample, np.where(own < middle, 0, -1), 1)
        low, high = (middle, high) if share[0] + ERRORS * se[0] < limit else (low, middle - 1)
    return low
