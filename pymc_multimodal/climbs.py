"""More climbs to modes, from where a first search for them did not begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.density import Density
    from pymc_multimodal.modes import ModeFinder
    from pymc_multimodal.tempered import Reference

__all__ = ["beginnings", "climb_from"]

# Climbs made at once; of the first ones, which tell what a climb costs, few.
BATCH, FIRST = 128, 8


def beginnings(
    density: Density,
    optima: np.ndarray,
    trail: np.ndarray,
    reference: Reference,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return points to climb from, in random order.

    Half of them are points of a tempered search: at the colder temperatures particles gather in
    the modes, and are not yet lost from all but one or two. The others lie on the way from a
    known optimum or the centre to anywhere, or in the box around the optima.

    Parameters
    ----------
    density : Density
    optima : array of shape (k, d)
    trail : array of shape (m, d)
        Where particles have been.
    reference : Reference
        Says where anywhere is.
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (at most n, d)
        Those at which the density is finite.
    """
    trail = rng.permutation(trail)[: n // 2]
    rest = n - len(trail)
    known = optima[rng.integers(len(optima), size=rest)]
    known[1::3] = reference.centre
    away = density.unroll(reference.sample(rest, rng), known) - known
    x = known + rng.random((rest, 1)) * away
    low, high = optima.min(axis=0), optima.max(axis=0)
    margin = 0.1 * (high - low) + 0.5 * reference.scale
    box = rng.uniform(low - margin, high + margin, size=x.shape)
    x[::3] = box[::3]
    x = rng.permutation(np.concatenate([trail, density.wrap(x)]))
    return x[np.isfinite(density.logp(x))]


def climb_from(finder: ModeFinder, points: np.ndarray, budget: float) -> int:
    """Climb from points in turn, until they or about `budget` evaluations are used up.

    Returns the number of climbs; `finder` knows what they found.
    """
    density, done, size = finder.density, 0, min(FIRST, len(points))
    first = density.n_logp_evals
    while size > 0:
        finder.extend(points[done : done + size])
        done += size
        spent = density.n_logp_evals - first
        size = min(BATCH, len(points) - done, int((budget - spent) * done / spent))
    return done
