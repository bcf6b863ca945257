"""The protocol that every generator serves, and the mixture of regional densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "Generator",
    "GeneratorConfig",
    "Proposals",
    "RegionDensity",
    "RegionFit",
    "RegionalMixture",
    "split_chains",
]


@dataclass(frozen=True)
class Proposals:
    """Draws of a generator with what turns them into weighted posterior draws.

    Attributes
    ----------
    x : array of shape (n, d)
        A row of NaN is a draw that fell outside the window of its component on a circular
        coordinate; it stands for a point of zero target density and is always rejected.
    minus_log_q : array of shape (n,)
        ``log r(aux | x) - log q(x, aux)``. The log ratio of the protocol is this plus the
        log density of the target at x. The target is left out here because the kernel needs
        it at x anyway: so it is evaluated once, and counted in one place.
    """

    x: np.ndarray
    minus_log_q: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Rows that are points of the space, shape (n,)."""
        return np.isfinite(self.x).all(axis=1)


class Generator(ABC):
    """Draws from a learned approximation q of the whole posterior.

    ``E_q[exp(minus_log_q) gamma(x)] = Z`` has to hold whatever was learned, and q has to be
    positive wherever the target is.

    Attributes
    ----------
    dim : int
    auxiliary : bool
        Whether corrections depend on auxiliary variables, drawn afresh for a given point.
    fallbacks : tuple of Status
        What could not be learned, and what serves in its place.
    """

    dim: int
    auxiliary: bool = False
    fallbacks: tuple[Status, ...] = ()

    @abstractmethod
    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Fast draws without any correction, shape (n, d)."""

    @abstractmethod
    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with their corrections."""

    @abstractmethod
    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrections of given points, auxiliary variables drawn afresh; shape (n,)."""

    @abstractmethod
    def export(self) -> Generator:
        """Return a picklable proposer that needs NumPy alone, for worker processes."""


@runtime_checkable
class RegionDensity(Protocol):
    """A normalised density on R^d fitted to one region.

    On circular coordinates it lives on the unrolled line, and only the period around its
    own centre stands for points of the circle.
    """

    rung: str
    period: np.ndarray

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped; rows outside the window are NaN."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the copy of each row inside the window, shape (n,)."""
        ...

    @property
    def core(self) -> RegionDensity:
        """The density without what was added to keep corrected draws exact in the tails."""
        ...


@dataclass(frozen=True)
class RegionFit:
    """Regional densities and what their fitting had to say."""

    densities: tuple[RegionDensity, ...]
    statuses: tuple[Status, ...] = ()


class GeneratorConfig(Protocol):
    """Settings of a generator, with the two verbs the pipeline calls."""

    def fit_regions(
        self,
        local: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit a normalised density to each region, on the chains reserved for it.

        `previous` holds what was fitted to fewer draws of the same regions, where there is
        anything: a start for what is expensive to fit.
        """
        ...

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> Generator:
        """Make the generator of the whole posterior, given the regions' weights.

        `density` serves generators that learn from the log density of their own draws; its
        evaluations are counted there.
        """
        ...


class RegionalMixture(Generator):
    """Mixture of regional densities, the region summed out.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
        Mixture weights; a floor keeps every region reachable.
    """

    FLOOR = 1e-3

    def __init__(self, densities: tuple[RegionDensity, ...], weights: np.ndarray) -> None:
        self.densities = tuple(densities)
        weights = np.asarray(weights, dtype=float)
        weights = np.where(np.isfinite(weights), weights, 0.0)
        self.weights = np.maximum(weights, self.FLOOR / len(weights))
        self.weights /= self.weights.sum()
        self.dim = self.densities[0].sample(1, np.random.default_rng(0)).shape[1]

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw without correction, and without the heavy tails that only corrected draws need.

        Draws outside a window are drawn again.
        """
        cores = tuple(d.core for d in self.densities)
        x = self._sample(n, rng, cores)
        while (bad := ~np.isfinite(x).all(axis=1)).any():
            x[bad] = self._sample(int(bad.sum()), rng, cores)
        return x

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log density."""
        x = self._sample(n, rng, self.densities)
        correction = np.full(n, -np.inf)
        inside = np.isfinite(x).all(axis=1)
        correction[inside] = self.minus_log_q(x[inside], rng)
        return Proposals(x, correction)

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log density of the mixture; nothing auxiliary to draw."""
        return -self.log_density(x)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the mixture, shape (n,)."""
        logs = np.stack([d.log_density(x) for d in self.densities], axis=1)
        return np.logaddexp.reduce(logs + np.log(self.weights), axis=1)

    def export(self) -> RegionalMixture:
        """Itself: it is made of NumPy arrays."""
        return self

    def _sample(
        self, n: int, rng: np.random.Generator, densities: tuple[RegionDensity, ...]
    ) -> np.ndarray:
        counts = rng.multinomial(n, self.weights)
        parts = [densities[k].sample(int(c), rng) for k, c in enumerate(counts) if c]
        return np.concatenate(parts)[rng.permutation(n)] if n else np.empty((0, self.dim))


def split_chains(chains: int) -> tuple[slice, slice, slice]:
    """Divide chains between fitting, choosing a rung and bridging: 3/8, 1/8 and 1/2.

    Bridging on the draws that a density was fitted to biases the evidence, so the three
    never share a chain.
    """
    choose = max(1, chains // 8)
    bridge = chains // 2
    fit = chains - choose - bridge
    return slice(0, fit), slice(fit, fit + choose), slice(fit + choose, chains)
