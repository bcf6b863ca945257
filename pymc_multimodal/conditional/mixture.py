"""The rest given the hubs as a mixture over the anchors, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from pymc_multimodal.proposals import Generator, Proposals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.conditional.anchors import Anchor
    from pymc_multimodal.conditional.split import Split
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.density import Density

__all__ = ["AnchorMixture", "AnchorPartition", "Completed", "HubGenerator", "UnbiasedHubs"]

# Share of an anchor at some hubs (logarithm) from which on it counts there. Conventional: any rule
# is exact, and this one saves the density of anchors that are far away.
LEAST_LOG_SHARE = -23.0
# Rows that are drawn at once. Conventional: 16 MB for 2,000 coordinates.
ROWS = 1024


@dataclass(frozen=True, eq=False)
class Completed:
    """Hubs with a draw of the rest each.

    Attributes
    ----------
    x : array of shape (n, d)
    logp : array of shape (n,)
        Log density of the draws.
    minus_log_q : array of shape (n,)
        Minus the log density of the rest given the hubs: added to `logp` it is the logarithm of an
        unbiased estimate of the marginal density of the hubs.
    """

    x: np.ndarray
    logp: np.ndarray
    minus_log_q: np.ndarray


class AnchorMixture:
    r"""Density of the rest given the hubs.

    .. math:: q(v | u) = \sum_k \pi_k(u) \, N(v; \hat v_k(u), P_k(u)^{-1})

    The shares are those of normal densities of the hubs around the anchors.

    Parameters
    ----------
    split : Split
    anchors : sequence of Anchor
    """

    def __init__(self, split: Split, anchors: Sequence[Anchor]) -> None:
        self.split, self.anchors = split, tuple(anchors)

    def log_shares(self, u: np.ndarray) -> np.ndarray:
        """Log shares of the anchors at hubs (n, H), shape (n, K); -inf for next to none."""
        out = np.empty((len(u), len(self.anchors)))
        for k, anchor in enumerate(self.anchors):
            r = solve_triangular(anchor.scale, (u - anchor.mode).T, lower=True)
            out[:, k] = anchor.value - 0.5 * np.einsum("hn,hn->n", r, r)
        out -= logsumexp(out, axis=1, keepdims=True)
        out[out < LEAST_LOG_SHARE] = -np.inf
        out -= logsumexp(out, axis=1, keepdims=True)
        return out

    def log_parts(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Log of share times density of each anchor, shape (n, K)."""
        out = self.log_shares(u)
        for k, anchor in enumerate(self.anchors):
            rows = np.flatnonzero(np.isfinite(out[:, k]))
            if len(rows):
                out[rows, k] += anchor.log_density(u[rows], v[rows])
        return out

    def log_density(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Log density of the rest (n, D) given hubs (n, H), shape (n,)."""
        out: np.ndarray = logsumexp(self.log_parts(u, v), axis=1)
        return out

    def sample(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the rest at hubs (n, H), shape (n, D)."""
        share = np.exp(self.log_shares(u))
        which = (rng.random((len(u), 1)) > np.cumsum(share, axis=1)[:, :-1]).sum(axis=1)
        v = np.empty((len(u), len(self.split.rest)))
        for k, anchor in enumerate(self.anchors):
            rows = np.flatnonzero(which == k)
            v[rows] = anchor.sample(u[rows], rng)
        return v

    def complete(self, density: Density, u: np.ndarray, rng: np.random.Generator) -> Completed:
        """Draw and weigh the rest at hubs (n, H)."""
        x = np.empty((len(u), density.dim))
        minus_log_q = np.empty(len(u))
        for first in range(0, len(u), ROWS):
            part = slice(first, first + ROWS)
            v = self.sample(u[part], rng)
            x[part] = self.split.join(u[part], v)
            minus_log_q[part] = -self.log_density(u[part], v)
        return Completed(x, density.logp(x), minus_log_q)


class UnbiasedHubs:
    """Unbiased estimates of the marginal density of the hubs: a new one in each call.

    Parameters
    ----------
    density : Density
    mixture : AnchorMixture
    rng : numpy.random.Generator
    """

    def __init__(self, density: Density, mixture: AnchorMixture, rng: np.random.Generator) -> None:
        self.density, self.mixture, self.rng = density, mixture, rng

    def __call__(self, u: np.ndarray) -> tuple[np.ndarray, None]:
        """Estimate the log density of hubs (n, H), shape (n,)."""
        drawn = self.mixture.complete(self.density, u, self.rng)
        return drawn.logp + drawn.minus_log_q, None


class AnchorPartition:
    """Regions of points: the anchor of the largest part of the density.

    Parameters
    ----------
    mixture : AnchorMixture
    """

    def __init__(self, mixture: AnchorMixture) -> None:
        self.mixture = mixture
        self.n_regions = len(mixture.anchors)
        self.statuses: tuple[Status, ...] = ()

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        if self.n_regions == 1:
            return np.zeros(len(x), dtype=int)
        split = self.mixture.split
        parts = self.mixture.log_parts(x[:, split.hubs], x[:, split.rest])
        out: np.ndarray = parts.argmax(axis=1)
        return out


class HubGenerator(Generator):
    """The product of a density of the hubs and of the mixture for the rest.

    Parameters
    ----------
    hubs : Generator
        A normalised density of the hubs.
    mixture : AnchorMixture
    """

    def __init__(self, hubs: Generator, mixture: AnchorMixture) -> None:
        self.hubs, self.mixture = hubs, mixture
        self.dim = len(mixture.split.hubs) + len(mixture.split.rest)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws without any correction, shape (n, d)."""
        u = self.hubs.generate(n, rng)
        return self.mixture.split.join(u, self.mixture.sample(u, rng))

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log density."""
        u = self.hubs.propose(n, rng).x
        inside = np.isfinite(u).all(axis=1)
        x, minus_log_q = np.full((n, self.dim), np.nan), np.full(n, -np.inf)
        if inside.any():
            v = self.mixture.sample(u[inside], rng)
            x[inside] = self.mixture.split.join(u[inside], v)
            minus_log_q[inside] = self.minus_log_q(x[inside], rng)
        return Proposals(x, minus_log_q)

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log density of the product."""
        split = self.mixture.split
        u, v = x[:, split.hubs], x[:, split.rest]
        out: np.ndarray = self.hubs.minus_log_q(u, rng) - self.mixture.log_density(u, v)
        return out
