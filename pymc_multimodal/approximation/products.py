"""Densities of independent coordinates for the modes, by the log density along their axes.

Where skewed or heavy-tailed coordinates are nearly independent of one another, as parameters of
different parts of a model are, no elliptical density fits, and a mixture needs very many parts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.mixture import heavy_tailed
from pymc_multimodal.approximation.sample import perplexity
from pymc_multimodal.proposals import EllipticalMixture, Margins
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymc_multimodal.approximation.answer import Approximation
    from pymc_multimodal.target import Density
    from pymc_multimodal.target.target import Target

__all__ = ["product_densities"]

# Points on each side of a mode along an axis, and the first and the last of them in standard
# deviations of Laplace's approximation; their inverse hyperbolic sines are evenly spaced.
# Conventional: a normal margin is then known to 0.03 nats, and one of a Cauchy distribution up to a
# sixtieth of its mass.
POINTS, FIRST, LAST = 12, 0.3, 40.0
_SIDE = FIRST * np.sinh(np.linspace(np.arcsinh(1.0), np.arcsinh(LAST / FIRST), POINTS))
KNOTS = np.concatenate([-_SIDE[::-1], [0.0], _SIDE])
# Points farther than so many spreads of the starts from their centre are not evaluated: models may
# fail there, and tails are continued. Conventional.
MAX_SPREADS = 8.0
# Draws by which a density is judged. Conventional.
PROBES = 100
# Perplexity of the ratios at these draws, relative to that of the mode's density so far, from which
# on the density of independent coordinates takes its place; it is at least the second number.
# Conventional.
GAIN, MIN_PERPLEXITY = 1.2, 0.1
# Perplexity from which on a density is good: a mode that has such a density is not tried, no other
# axes are tried after it, and the evaluations for it do not count, since chains would need far
# more. Conventional.
GOOD_PERPLEXITY = 0.6
# Evaluations for other modes, at most, in units of the next sample. Conventional.
MAX_SAMPLES = 2.0


def product_densities(
    found: Approximation, target: Target, n: int, rng: np.random.Generator
) -> dict[int, EllipticalMixture]:
    """Find densities of independent coordinates for modes, where these fit better.

    Axes are those of the Cholesky factor of the mode's covariance, or its eigenvectors. Modes are
    tried in the order of their masses.

    Parameters
    ----------
    found : Approximation
        Its last sample judges the densities so far.
    target : Target
    n : int
        Draws of the next sample.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        By mode; empty where no mode gains, or a limit leaves no room.
    """
    out: dict[int, EllipticalMixture] = {}
    if is_circular(target.period).any():
        return out
    kinds, left = list(AXES), MAX_SAMPLES * n
    with suppress(LimitReached), target.density.limited():
        for k in np.argsort(-found.mixture.shares[:-1], kind="stable").tolist():
            own = perplexity(found.sample.log_ratio[found.sample.stratum == k])
            if own > GOOD_PERPLEXITY:
                continue
            cost = len(kinds) * _cost(target.dim)
            # A limit is to leave the next sample.
            if left < cost or target.density.room() < n + cost:
                break
            trials = _trials(found, k, kinds, target.unfolded, rng)
            best = max(trials, key=lambda trial: trial.perplexity)
            if best.perplexity > max(GAIN * own, MIN_PERPLEXITY):
                old = found.mixture.densities[k]
                out[k] = heavy_tailed(best.density, old.means[-2], old.scales[-2])
            if best.perplexity < GOOD_PERPLEXITY:
                left -= len(trials) * _cost(target.dim)
            # Modes of one target are often alike.
            kinds.sort(key=lambda kind: kind is not best.kind)
    return out


@dataclass(frozen=True, eq=False)
class _Trial:
    """A density of independent coordinates along axes of a kind, judged by its own draws."""

    kind: Callable[[np.ndarray], np.ndarray]
    density: EllipticalMixture
    perplexity: float


def _trials(
    found: Approximation,
    k: int,
    kinds: Sequence[Callable[[np.ndarray], np.ndarray]],
    density: Density,
    rng: np.random.Generator,
) -> list[_Trial]:
    """Try kinds of axes for mode k, one after the other, until one is good."""
    mean, scale = found.modes.locations[k], found.modes.scale[k]
    wide = found.mixture.densities[-1]
    centre, reach = wide.means[-1], MAX_SPREADS * np.linalg.norm(wide.scales[-1], axis=1)
    out: list[_Trial] = []
    for kind in kinds:
        rotation = kind(scale)
        x = _points(mean, scale @ rotation)
        values = np.full(x.shape[:2], -np.inf)
        inside = (np.abs(x - centre) <= reach).all(axis=2)
        inside[:, POINTS] = False
        values[inside] = density.logp(x[inside])
        values[:, POINTS] = density.logp(mean[None])
        margins = Margins.through(KNOTS, values, rotation)
        trial = EllipticalMixture.independent(mean, scale, margins, density.period)
        drawn = trial.sample(PROBES, rng)
        ratio = density.logp(drawn) - trial.log_density(drawn)
        out.append(_Trial(kind, trial, perplexity(ratio)))
        if out[-1].perplexity > GOOD_PERPLEXITY:
            break
    return out


def _cost(dim: int) -> int:
    """Return the evaluations of one trial, at most."""
    return 2 * POINTS * dim + 1 + PROBES


def _by_columns(scale: np.ndarray) -> np.ndarray:
    """Return the rotation to the columns of the factor: the coordinates, if it is diagonal."""
    return np.eye(len(scale))


def _by_eigenvectors(scale: np.ndarray) -> np.ndarray:
    """Return the rotation to the eigenvectors of the covariance."""
    values, vectors = np.linalg.eigh(scale @ scale.T)
    # But for rounding, scale @ rotation is vectors * sqrt(values), and the rotation orthogonal.
    rotation = np.linalg.solve(scale, vectors * np.sqrt(np.maximum(values, 0.0)))
    left, _, right = np.linalg.svd(rotation)
    out: np.ndarray = left @ right
    return out


# Kinds of axes that are tried.
AXES = (_by_columns, _by_eigenvectors)


def _points(mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Points along the columns of `axes`, shape (d, m, d)."""
    out: np.ndarray = mean + KNOTS[None, :, None] * axes.T[:, None]
    return out
