"""Densities that chains inside a region jump by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JumpDensity", "MixtureProposal"]


class JumpDensity(Protocol):
    """A normalised density on R^d to propose from."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d); rows of NaN are no points."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density, shape (n,)."""
        ...


class MixtureProposal:
    """A region's own density with those of its neighbours.

    Parameters
    ----------
    own : JumpDensity
    others : sequence of JumpDensity
        They share a quarter of the proposals.
    """

    OTHERS = 0.25

    def __init__(self, own: JumpDensity, others: Sequence[JumpDensity]) -> None:
        self.own, self.others = own, tuple(others)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d); rows of NaN are no points."""
        x = self.own.sample(n, rng)
        which = rng.integers(len(self.others), size=n)
        which[rng.random(n) >= self.OTHERS] = -1
        for j, q in enumerate(self.others):
            rows = which == j
            x[rows] = q.sample(int(rows.sum()), rng)
        return x

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density, shape (n,)."""
        others = np.logaddexp.reduce([q.log_density(x) for q in self.others], axis=0)
        return np.logaddexp(
            np.log1p(-self.OTHERS) + self.own.log_density(x),
            np.log(self.OTHERS / len(self.others)) + others,
        )
