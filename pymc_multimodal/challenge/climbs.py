"""More climbs to modes, from where a first search did not begin, and what they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.challenge.candidate import FitCandidate, SearchHolder
    from pymc_multimodal.challenge.tempered import Reference
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.density import Density

__all__ = ["beginnings", "climb_from", "lacking_of", "news_of"]

# Climbs made at once; of the first ones, which tell what a climb costs, few.
BATCH, FIRST = 128, 8
# Share of the model's evidence below which a mode that was missed is left out.
NEGLIGIBLE = 1e-4


def beginnings(
    density: Density,
    optima: np.ndarray,
    trail: np.ndarray,
    reference: Reference,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return points to climb from, in random order.

    Up to half of them are points of a tempered search: at the colder temperatures particles
    gather in the modes, and are not yet lost from all but one or two. The others lie on the way
    from a known optimum or the centre to anywhere, or in the box around the optima.

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


def climb_from(
    finder: SearchHolder, known: Modes, points: np.ndarray, budget: float
) -> tuple[int, Modes]:
    """Climb from points in turn, until they, about `budget` evaluations or a limit are used up.

    Returns the number of climbs, and the modes known after them; `known` if there were none.
    """
    density, done, size = finder.density, 0, min(FIRST, len(points))
    first = density.n_logp_evals
    while size > 0:
        try:
            known = finder.extend(points[done : done + size])[0]
        except LimitReached:
            # What a batch that was cut off has found may be a piece of a known mode.
            break
        done += size
        spent = density.n_logp_evals - first
        size = int(min(BATCH, len(points) - done, (budget - spent) * done / spent))
    return done, known


def _laplace(finder: SearchHolder, modes: Modes) -> np.ndarray:
    """Log mass of each mode with its images by Laplace's approximation, shape (K,)."""
    d = modes.locations.shape[1]
    log_det = np.log(np.diagonal(modes.scale, axis1=1, axis2=2)).sum(axis=1)
    images = finder.search.optima.multiplicity(modes.locations)
    return modes.log_density + log_det + 0.5 * d * np.log(2 * np.pi) + np.log(images)


def news_of(case: FitCandidate, found: Modes) -> np.ndarray:
    """Tell which modes the fit does not have, and would by their mass matter, (K,)."""
    matters = _laplace(case.finder, found) > case.weights.total + np.log(NEGLIGIBLE)
    return (found.counterparts(case.searched) < 0) & matters


def lacking_of(case: FitCandidate, found: Modes, news: np.ndarray) -> np.ndarray:
    """Nats that new modes would add to the evidence of the regions they lie in, shape (K,)."""
    lacking = np.zeros(len(case.weights.weight))
    if news.any():
        label = case.partition.label(case.density.fold(found.locations[news]))
        mass = _laplace(case.finder, found)[news]
        # log(1 + the sum of their masses over the region's), whatever their size.
        np.logaddexp.at(lacking, label, mass - case.weights.log_evidence[label])
    return lacking
