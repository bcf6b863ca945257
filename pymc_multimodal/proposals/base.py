"""Protocols of proposals and generators, and the mixture of the regions' densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from pymc_multimodal.proposals.many import WeightedDensities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "Diffuses",
    "Generator",
    "GeneratorConfig",
    "Normalised",
    "Proposals",
    "RegionDensity",
    "RegionFit",
    "RegionFitter",
    "RegionalMixture",
    "split_chains",
]

# Sum of the least weights of all regions in a mixture of their densities; a share.
# Measured: examples/benchmarks/constants.py
LEAST_WEIGHTS = 1e-3


@dataclass(frozen=True)
class Proposals:
    """Draws of a generator, and what turns them into weighted draws of the posterior.

    Attributes
    ----------
    x : array of shape (n, d)
        A row of NaN is a draw outside the window of its component on a circular coordinate. It
        stands for a point of zero target density and is always rejected.
    minus_log_q : array of shape (n,)
        ``log r(aux | x) - log q(x, aux)`` with auxiliary variables aux, and ``-log q(x)`` where
        there are none. The log importance ratio is this plus the log density of the target at x.
        The kernel evaluates the target at x anyway: it is left out here so that it is evaluated
        and counted once.
    """

    x: np.ndarray
    minus_log_q: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Whether each row is a point of the space, shape (n,)."""
        return np.isfinite(self.x).all(axis=1)


class Generator(ABC):
    """Draws from a learned approximation q of the whole posterior.

    ``E_q[exp(minus_log_q) gamma(x)] = Z`` has to hold whatever was learned, and q has to be
    positive wherever the target gamma is. Generators are pickled together with a fit.

    Attributes
    ----------
    dim : int
    auxiliary : bool
        Whether `minus_log_q` depends on auxiliary variables, drawn anew for a given point.
    fallbacks : tuple of Status
        What could not be learned, and what is used in its place.
    """

    dim: int
    auxiliary: bool = False
    fallbacks: tuple[Status, ...] = ()

    @abstractmethod
    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws without any correction, shape (n, d)."""

    @abstractmethod
    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log proposal densities."""

    @abstractmethod
    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log proposal density of given points, auxiliary variables drawn anew.

        Shapes (n, d) and (n,).
        """


@runtime_checkable
class Normalised(Protocol):
    """A normalised density that can be sampled."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, shape (n, d)."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points of shape (n, d), shape (n,)."""
        ...


@runtime_checkable
class RegionDensity(Normalised, Protocol):
    """A normalised density on R^d fitted to one region.

    On circular coordinates it is a density on the unrolled line, and only the period around its
    own centre stands for points of the circle: draws are wrapped, rows outside that window are
    NaN, and `log_density` is that of the copy of a point inside the window.
    """

    @property
    def period(self) -> np.ndarray:
        """Periods of circular coordinates, ``inf`` elsewhere; shape (d,)."""
        ...

    @property
    def undefended(self) -> RegionDensity:
        """The density without its heavy-tailed component."""
        ...


@runtime_checkable
class Diffuses(Protocol):
    """A generator that may turn noise into draws step by step."""

    def diffuse(self, n: int, rng: np.random.Generator) -> np.ndarray | None:
        """Return n paths from noise to uncorrected draws, shape (steps + 1, n, d); or None.

        Circular coordinates are unrolled. None where nothing was learned that has a path.
        """
        ...


@dataclass(frozen=True)
class RegionFit:
    """Densities of the regions, and the statuses of their fits."""

    densities: tuple[RegionDensity, ...]
    statuses: tuple[Status, ...] = ()


class RegionFitter(Protocol):
    """How the density of each region is fitted."""

    def fit_regions(
        self,
        draws: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit a normalised density to each region, on the chains reserved for fitting.

        Parameters
        ----------
        draws : RegionDraws
        period : array of shape (d,)
            Periods of circular coordinates, ``inf`` elsewhere.
        rng : numpy.random.Generator
        previous : sequence of RegionDensity or None, optional
            Densities fitted to fewer draws of the same regions: starts for what is expensive.
        """
        ...

    def without_network(self) -> RegionFitter:
        """Return the same settings without networks, for a fit that has reached its limit."""
        ...


class GeneratorConfig(Protocol):
    """Settings of a generator."""

    @property
    def regional(self) -> RegionFitter:
        """How the density of each region is fitted."""
        ...

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> Generator:
        """Make the generator of the whole posterior.

        Parameters
        ----------
        fitted : RegionFit
            Made by `regional`.
        local : RegionDraws
        weights : array of shape (K,)
            Weights of the regions.
        rng : numpy.random.Generator
        density : LogDensity, optional
            For generators that learn from the log density at their own draws, which counts the
            evaluations.
        """
        ...


class RegionalMixture(Generator):
    """Mixture of the regions' densities, with the region summed out.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
        Weights of the regions. None is used below ``LEAST_WEIGHTS / K``, so that every region can
        be proposed; NaN counts as zero.
    """

    def __init__(self, densities: Sequence[RegionDensity], weights: np.ndarray) -> None:
        self.densities = tuple(densities)
        weights = np.asarray(weights, dtype=float)
        weights = np.where(np.isfinite(weights), weights, 0.0)
        self.weights = np.maximum(weights, LEAST_WEIGHTS / len(weights))
        self.weights /= self.weights.sum()
        self.dim = len(self.densities[0].period)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws without correction, and without the heavy tails that only corrected draws need.

        Draws outside a window are drawn again.
        """
        undefended = tuple(q.undefended for q in self.densities)
        x = self._sample(n, rng, undefended)
        while (outside := ~np.isfinite(x).all(axis=1)).any():
            x[outside] = self._sample(int(outside.sum()), rng, undefended)
        return x

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log density."""
        x = self._sample(n, rng, self.densities)
        minus_log_q = np.full(n, -np.inf)
        inside = np.isfinite(x).all(axis=1)
        minus_log_q[inside] = self.minus_log_q(x[inside], rng)
        return Proposals(x, minus_log_q)

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log density of the mixture; there are no auxiliary variables."""
        return -self.log_density(x)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the mixture at points of shape (n, d), shape (n,)."""
        return self._weighted.log_density(x)

    @cached_property
    def _weighted(self) -> WeightedDensities:
        return WeightedDensities(self.densities, np.log(self.weights))

    def _sample(
        self, n: int, rng: np.random.Generator, densities: tuple[RegionDensity, ...]
    ) -> np.ndarray:
        counts = rng.multinomial(n, self.weights)
        parts = [densities[k].sample(int(c), rng) for k, c in enumerate(counts) if c]
        return np.concatenate(parts)[rng.permutation(n)] if n else np.empty((0, self.dim))


def split_chains(chains: int) -> tuple[slice, slice, slice]:
    """Divide chains between fitting, choosing a family and bridging: 3/8, 1/8 and 1/2.

    No chain has two uses: bridging on the draws that a density was fitted to biases the evidence
    (J. Wong, J. Forster and P. Smith 2020, "Properties of the bridge sampler with a focus on
    splitting the MCMC sample", Statistics and Computing 30). The shares are conventional.

    Parameters
    ----------
    chains : int

    Returns
    -------
    fit, choose, bridge : slice
    """
    choose = max(1, chains // 8)
    bridge = chains // 2
    fit = chains - choose - bridge
    return slice(0, fit), slice(fit, fit + choose), slice(fit + choose, chains)
