"""What is wider than a mode and hidden below it: densities between the modes and the starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.approximation.mixture import STARTS_SHARE, ModeMixture
from pymc_multimodal.proposals import EllipticalMixture, factor, joined
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.search import Modes, StartDistribution

__all__ = ["with_surroundings"]

# Share of these densities in the mixture, besides that of the starts. Conventional: a fiftieth of
# the evaluations.
SURROUNDINGS_SHARE = 0.02
# Ratio of the widths of one density and the next: the radius of a Student-t density of 5 degrees of
# freedom varies by a factor of 1.4 to both sides in any dimension. Conventional.
STEP = 2.0
# Densities of a mode, and modes, at most; and the numbers of all factors together, 32 MB of
# float64. Conventional.
MAX_STEPS, MAX_MODES, MAX_NUMBERS = 10, 4, 4_000_000
# Degrees of freedom: as of the tails of the modes.
DF = 5.0


def with_surroundings(
    q: ModeMixture, modes: Modes, log_mass: np.ndarray, starts: StartDistribution
) -> ModeMixture:
    """Add densities, to the wide one, that are wider than a mode and narrower than the starts.

    A narrow mode within a wide one hides it: all climbs end in the narrow one, and neither draws
    near it nor draws as wide as the starts come to where the wide one has its mass, in more than a
    few dimensions. A few draws at all widths between do, and their ratios then speak against the
    mixture.

    Parameters
    ----------
    q : ModeMixture
    modes : Modes
    log_mass : array of shape (K,)
        The four heaviest modes get such densities.
    starts : StartDistribution

    Returns
    -------
    ModeMixture
    """
    wide, d = q.densities[-1], len(starts.centre)
    rows = np.argsort(-log_mass, kind="stable")[:MAX_MODES]
    scales = [_between(modes.scale[k], starts.spread) for k in rows]
    kept = np.cumsum([len(part) * d * d for part in scales]) <= MAX_NUMBERS
    counts = [len(part) for part in scales][: kept.sum()]
    m = sum(counts)
    if not m:
        return q
    centres = unroll(modes.locations[rows[: len(counts)]], wide.centre, wide.period)
    share = SURROUNDINGS_SHARE / (STARTS_SHARE + SURROUNDINGS_SHARE)
    between = [
        EllipticalMixture.single(centre, scale, DF, wide.period, wide.centre)
        for centre, of_mode in zip(centres, scales[: len(counts)], strict=True)
        for scale in of_mode
    ]
    wider = joined([wide, *between], [1.0 - share, *[share / m] * m], wide.base)
    shares = (1.0 - SURROUNDINGS_SHARE) * q.shares
    shares[-1] += SURROUNDINGS_SHARE
    return ModeMixture((*q.densities[:-1], wider), shares / shares.sum())


def _between(scale: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Factors of covariances between that of a mode and that of the starts, shape (m, d, d).

    They are on the geodesic between the two: along each of the common axes the logarithm of the
    width grows linearly. Where the starts are narrower than the mode, it stays.
    """
    ratio = solve_triangular(scale, np.diag(spread), lower=True)
    squared, axes = np.linalg.eigh(ratio @ ratio.T)
    width = np.sqrt(np.maximum(squared, 1.0))
    n = int(np.clip(np.ceil(np.log(width.max()) / np.log(STEP)) - 1, 0, MAX_STEPS))
    out = np.empty((n, *scale.shape))
    for i in range(n):
        root = scale @ (axes * width ** ((i + 1) / (n + 1)))
        out[i] = factor(root @ root.T)
    return out
