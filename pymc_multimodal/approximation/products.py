"""Densities of independent coordinates for the modes, by the log density along their axes.

Where skewed or heavy-tailed coordinates are nearly independent of one another, as parameters of
different parts of a model are, no elliptical density fits, and a mixture needs very many parts. The
same holds for bent ridges and funnels, whose coordinates a triangular map makes independent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pymc_multimodal.approximation.bends import AxisPoints, most_for_map, triangular_map
from pymc_multimodal.approximation.mixture import heavy_tailed
from pymc_multimodal.approximation.sample import perplexity
from pymc_multimodal.proposals import EllipticalMixture, Margins
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymc_multimodal.approximation.answer import Approximation
    from pymc_multimodal.target.target import Target

__all__ = ["product_densities"]

# Points on each side of a mode along an axis, and the first and the last of them in standard
# deviations of Laplace's approximation; their inverse hyperbolic sines are evenly spaced.
# Conventional: a normal margin is then known to 0.03 nats, and one of a Cauchy distribution up to a
# sixtieth of its mass.
POINTS, FIRST, LAST = 12, 0.3, 40.0
_SIDE = FIRST * np.sinh(np.linspace(np.arcsinh(1.0), np.arcsinh(LAST / FIRST), POINTS))
KNOTS = np.concatenate([-_SIDE[::-1], [0.0], _SIDE])
# Points farther than so many spreads of the starts from their centre, and than so many standard
# deviations beyond the mode, are not evaluated: models may fail there, and tails are continued.
# Conventional.
MAX_SPREADS = 8.0
# Draws by which a density is judged. Measured: examples/benchmarks/exits.py; by 100 draws a density
# of perplexity 0.57 seemed to have one of 0.8.
PROBES = 200
# Perplexity of the ratios at these draws, relative to that of the mode's density so far, from which
# on the density of independent coordinates takes its place; it is at least the second number.
# Conventional.
GAIN, MIN_PERPLEXITY = 1.2, 0.1
# Perplexity from which on a density is good: a mode that has such a density is not tried, and
# another kind of density is tried after it only where it costs few evaluations: at most so many
# times what the draws of the next sample lose by it. Conventional: three samples.
GOOD_PERPLEXITY, SAMPLES = 0.6, 3.0
# Evaluations at most, in units of the next sample: for modes that get no good density, and for all.
# Measured: examples/benchmarks/hard_kinds.py
MAX_FAILED, MAX_ALL = 2.0, 10.0
# Modes that get no good density, beyond those that do, until no further one is tried. Conventional.
MAX_FAILURES = 5


def product_densities(
    found: Approximation, target: Target, n: int, rng: np.random.Generator
) -> dict[int, EllipticalMixture]:
    """Find densities of independent coordinates for modes, where these fit better.

    Axes are those of the Cholesky factor of the mode's covariance, or its eigenvectors; coordinates
    are those along them, or depend on these by a triangular map. Modes are tried in the order of
    their masses.

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
    kinds = [kind for kind in KINDS if kind.map is None or target.has_gradient]
    density, failures, failed, spent = target.density, 0, 0, 0
    with suppress(LimitReached), density.limited():
        for k in np.argsort(-found.mixture.shares[:-1], kind="stable").tolist():
            own = perplexity(found.sample.log_ratio[found.sample.stratum == k])
            if own > GOOD_PERPLEXITY:
                continue
            # A limit is to leave the next sample.
            room = min(MAX_FAILED * n - failed, MAX_ALL * n - spent, density.room() - n)
            before = density.n_logp_evals
            best = _best(_Mode.of(found, k, target), kinds, n, room, rng)
            if best is None:
                break
            if best.perplexity > max(GAIN * own, MIN_PERPLEXITY):
                old = found.mixture.densities[k]
                out[k] = heavy_tailed(best.density, old.means[-2], old.scales[-2])
            cost = density.n_logp_evals - before
            good = best.perplexity >= GOOD_PERPLEXITY
            spent, failed = spent + cost, failed + (0 if good else cost)
            failures += -1 if good else 1
            if failures == MAX_FAILURES:
                break
            # Modes of one target are often alike.
            kinds.sort(key=lambda kind: kind is not best.kind)
    return out


@dataclass(frozen=True)
class _Kind:
    """A kind of density: the rotation to its axes, and what its coordinates depend on.

    `map` is "shifts" or "scales" where there is a triangular map, with shifts alone or with both.
    """

    axes: Callable[[np.ndarray], np.ndarray]
    map: Literal["shifts", "scales"] | None

    def cost(self, dim: int) -> int:
        """Return the evaluations of a trial, at most."""
        points = len(KNOTS) * dim
        if self.map is None:
            return points + PROBES
        return points + most_for_map(points, scales=self.map == "scales") + PROBES


@dataclass(frozen=True, eq=False)
class _Trial:
    """A density of independent coordinates, judged by its own draws."""

    kind: _Kind
    density: EllipticalMixture
    perplexity: float

    def worth(self, n: int) -> float:
        """Return the evaluations that a better density may cost before samples of n draws."""
        if self.perplexity < GOOD_PERPLEXITY:
            return np.inf
        return SAMPLES * n * (1.0 / self.perplexity - 1.0)


@dataclass(frozen=True, eq=False)
class _Mode:
    """A mode, and where the density may be evaluated around it."""

    target: Target
    mean: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, found: Approximation, k: int, target: Target) -> _Mode:
        """Return mode k."""
        mean, scale = found.modes.locations[k], found.modes.scale[k]
        wide = found.mixture.densities[-1]
        centre, spread = wide.means[-1], np.linalg.norm(wide.scales[-1], axis=1)
        own_reach = np.abs(mean - centre) + MAX_SPREADS * np.linalg.norm(scale, axis=1)
        return cls(target, mean, scale, centre, np.maximum(MAX_SPREADS * spread, own_reach))

    def along(self, rotation: np.ndarray) -> AxisPoints:
        """Points along the axes."""
        axes = self.scale @ rotation
        return AxisPoints(self.target.unfolded, self.mean, axes, KNOTS, self.centre, self.reach)

    def judged(self, kind: _Kind, margins: Margins, rng: np.random.Generator) -> _Trial:
        """Judge the density of these margins by its own draws."""
        density = EllipticalMixture.independent(self.mean, self.scale, margins, self.target.period)
        drawn = density.sample(PROBES, rng)
        ratio = self.target.unfolded.logp(drawn) - density.log_density(drawn)
        return _Trial(kind, density, perplexity(ratio))


def _best(
    mode: _Mode, kinds: Sequence[_Kind], n: int, room: float, rng: np.random.Generator
) -> _Trial | None:
    """Try kinds of densities for a mode, before samples of n draws; None where there is no room."""
    best: _Trial | None = None
    rotation = {axes: axes(mode.scale) for axes in {kind.axes for kind in kinds}}
    points = {axes: mode.along(own) for axes, own in rotation.items()}
    for kind in kinds:
        cost = kind.cost(len(mode.mean))
        if cost > room:
            break
        if best is not None and cost > best.worth(n):
            continue
        room -= cost
        margins = _margins(kind, points[kind.axes], rotation[kind.axes], rng)
        if margins is not None:
            trial = mode.judged(kind, margins, rng)
            best = max(trial, best or trial, key=lambda one: one.perplexity)
    return best


def _margins(
    kind: _Kind, points: AxisPoints, rotation: np.ndarray, rng: np.random.Generator
) -> Margins | None:
    """Return the distribution of the coordinates; None without a dependence that is looked for."""
    if kind.map is None:
        return Margins.through(KNOTS, points.on_axes[0], rotation)
    triangular = triangular_map(points, rng, scales=kind.map == "scales")
    if triangular is None:
        return None
    return Margins.through(KNOTS, points.heights(triangular), rotation, triangular)


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


# Kinds of densities that are tried, the cheapest first.
KINDS = tuple(
    _Kind(axes, dependence)
    for dependence in (None, "shifts", "scales")
    for axes in (_by_columns, _by_eigenvectors)
)
