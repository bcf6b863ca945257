"""Further climbs to modes, from where the first search did not begin, and what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search import climb_from
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.challenge.reference import Reference
    from pymc_multimodal.challenge.result import FitCandidate
    from pymc_multimodal.search import Modes, ModeSearch, Search
    from pymc_multimodal.target.density import Density

__all__ = ["climb_starts", "climb_within", "missing_log_mass", "unknown_modes"]

# Climbs of one batch; and of the first batch, from which the price of a climb is known.
# Conventional.
BATCH, FIRST_BATCH = 128, 8
# Share of the model's evidence below which a mode that was missed is left out.
# Measured: examples/benchmarks/constants.py
MIN_SHARE = 1e-4
# Largest share of the starts that are intermediate particles; of the others, one in three lies in
# the box around the optima, and one in three on a line from the centre. Conventional: equal parts.
INTERMEDIATE_SHARE, PARTS = 2, 3
# Margin of the box around the optima, in units of its sides and of the reference's scale.
# Measured: examples/benchmarks/constants.py
BOX_MARGIN, SCALE_MARGIN = 0.1, 0.5


def climb_starts(
    density: Density,
    optima: np.ndarray,
    intermediate: np.ndarray,
    reference: Reference,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return points to climb from, in random order.

    Up to half of them are intermediate particles of a tempered search: at the colder temperatures
    particles gather in the modes, and resampling has not yet removed them from all but one or two
    modes. The others lie on lines from a known optimum, or from the centre, to draws of the
    reference, or in the box around the optima.

    Parameters
    ----------
    density : Density
    optima : array of shape (k, d)
    intermediate : array of shape (m, d)
        Intermediate particles.
    reference : Reference
    n : int
        Most points.
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (at most n, d)
        Points at which the density is positive.

    Raises
    ------
    LimitReached
        If the density refuses evaluations and a limit of the fit is reached.
    """
    particles = rng.permutation(intermediate)[: n // INTERMEDIATE_SHARE]
    rest = n - len(particles)
    origin = optima[rng.integers(len(optima), size=rest)]
    origin[1::PARTS] = reference.centre
    step = density.unroll(reference.sample(rest, rng), origin) - origin
    x = origin + rng.random((rest, 1)) * step
    low, high = optima.min(axis=0), optima.max(axis=0)
    margin = BOX_MARGIN * (high - low) + SCALE_MARGIN * reference.scale
    box = rng.uniform(low - margin, high + margin, size=x.shape)
    x[::PARTS] = box[::PARTS]
    x = rng.permutation(np.concatenate([particles, density.wrap(x)]))
    return x[np.isfinite(density.logp(x))]


def climb_within(
    density: Density,
    search: Search,
    settings: ModeSearch,
    points: np.ndarray,
    n_evals: float,
) -> tuple[Search, int]:
    """Climb from points in turn until `n_evals` evaluations, or a limit of the fit, are used up.

    Parameters
    ----------
    density : Density
    search : Search
    settings : ModeSearch
    points : array of shape (n, d)
    n_evals : float
        Evaluations after which no batch is begun.

    Returns
    -------
    search : Search
        A batch that a limit cut off is left out: its ends may be points on the way to known modes.
    n_climbs : int
    """
    done, size = 0, min(FIRST_BATCH, len(points))
    first = density.n_logp_evals
    while size > 0:
        try:
            search, _ = climb_from(density, search, settings, points[done : done + size])
        except LimitReached:
            break
        done += size
        spent = density.n_logp_evals - first
        size = int(min(BATCH, len(points) - done, (n_evals - spent) * done / spent))
    return search, done


def unknown_modes(candidate: FitCandidate, search: Search, found: Modes) -> np.ndarray:
    """Tell which modes the fit does not have, and have enough mass to matter.

    Parameters
    ----------
    candidate : FitCandidate
    search : Search
    found : Modes
        The modes of `search`.

    Returns
    -------
    array of bool, shape (modes found,)
    """
    matters = _laplace_log_mass(search, found) > candidate.weights.total + np.log(MIN_SHARE)
    return (found.counterparts(candidate.known) < 0) & matters


def missing_log_mass(
    candidate: FitCandidate, search: Search, found: Modes, unknown: np.ndarray
) -> np.ndarray:
    """Return what unknown modes would add to the log evidence of the regions that they lie in.

    Parameters
    ----------
    candidate : FitCandidate
    search : Search
    found : Modes
        The modes of `search`.
    unknown : array of bool
        Which of them are unknown.

    Returns
    -------
    array of shape (K,)
        ``log(1 + sum of their masses / mass of the region)``, in nats.
    """
    missing = np.zeros(len(candidate.weights.weight))
    if unknown.any():
        region = candidate.partition.label(candidate.target.fold(found.locations[unknown]))
        log_mass = _laplace_log_mass(search, found)[unknown]
        np.logaddexp.at(missing, region, log_mass - candidate.weights.log_evidence[region])
    return missing


def _laplace_log_mass(search: Search, modes: Modes) -> np.ndarray:
    """Log mass of each mode with its images by Laplace's approximation, shape (K,)."""
    d = modes.locations.shape[1]
    images = search.optima.multiplicity(modes.locations)
    return modes.log_mass + 0.5 * d * np.log(2 * np.pi) + np.log(images)
