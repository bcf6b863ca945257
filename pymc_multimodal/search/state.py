"""The state of a search for modes: plain data that says what is known and what is needed next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.optima import OptimumSet
from pymc_multimodal.search.quadratic import Evaluated

if TYPE_CHECKING:
    from pymc_multimodal.search.starts import StartDistribution
    from pymc_multimodal.target.group import Symmetry

__all__ = ["Counts", "Search"]


@dataclass(frozen=True)
class Counts:
    """Numbers of what a search has met.

    Attributes
    ----------
    starts : int
        Starts that climbs began from.
    unfinished : int
        Climbs that a limit of the fit cut off.
    runaway : int
        Climbs that ended where the log density still grows along a direction without curvature.
    steps : int
        Climbs that ended at a step of the density, where its gradient is not zero.
    flat : int
        Climbs that ended where the log density does not change over the spread of the starts.
    escapes : int
        Saddles that the last batch has left on both sides.
    saddles : int
        Climbs of all batches that ended at a saddle and were not continued.
    """

    starts: int = 0
    unfinished: int = 0
    runaway: int = 0
    steps: int = 0
    flat: int = 0
    escapes: int = 0
    saddles: int = 0


@dataclass(frozen=True)
class Search:
    """A search for modes.

    Attributes
    ----------
    distribution : StartDistribution
        What starts are drawn from.
    optima : OptimumSet
    starts, start_optima : arrays of shape (n, d) and (n,)
        Starts so far, with the index of the optimum that each climb ended at, or -1.
    start_from_prior : array of bool, shape (n,)
        Starts that are prior draws, not moved.
    start_tells : array of bool, shape (n,)
        Starts whose climbs ended at an optimum, in a batch that no limit cut off. Where a limit
        cuts climbs off, those that end are the quickest: they say nothing of what was missed.
    points, point_optima : arrays of shape (m, d) and (m,)
        Starts and points on the paths of the climbs, with the optimum that each climb ended at.
    saddle_pairs, saddle_logp : arrays of shape (s, 2) and (s,)
        Pairs of optima with the log density of the highest pass that is known between them.
    evaluated : Evaluated
        Points that climbs by COBYQA have evaluated.
    counts : Counts
    first_size : int
        Number of starts of the first batch.
    n_evals : int
        Evaluations of the log density in all batches; drawing the first batch is not counted.
    symmetry_wanted : Symmetry or bool
        What the user gave: a symmetry, or whether one is looked for.
    symmetry_sought : bool
        Whether `symmetry_wanted` was looked for, or checked; the result is ``optima.symmetry``.
    highest : tuple of array and float
        The highest point that is known, shape (d,), and its log density.
    settled : bool
        Whether no further batch is needed: the stop rule is satisfied, or the starts are used up.
    """

    distribution: StartDistribution
    optima: OptimumSet
    starts: np.ndarray
    start_optima: np.ndarray
    start_from_prior: np.ndarray
    start_tells: np.ndarray
    points: np.ndarray
    point_optima: np.ndarray
    saddle_pairs: np.ndarray
    saddle_logp: np.ndarray
    evaluated: Evaluated
    counts: Counts = field(default_factory=Counts)
    first_size: int = 0
    n_evals: int = 0
    symmetry_wanted: Symmetry | bool = False
    symmetry_sought: bool = False
    highest: tuple[np.ndarray, float] | None = None
    settled: bool = False

    @classmethod
    def empty(cls, distribution: StartDistribution, symmetry: Symmetry | bool) -> Search:
        """Return a search that has not climbed yet."""
        d = len(distribution.spread)
        return cls(
            distribution=distribution,
            optima=OptimumSet.empty(distribution.spread),
            starts=np.empty((0, d)),
            start_optima=np.empty(0, dtype=int),
            start_from_prior=np.empty(0, dtype=bool),
            start_tells=np.empty(0, dtype=bool),
            points=np.empty((0, d)),
            point_optima=np.empty(0, dtype=int),
            saddle_pairs=np.empty((0, 2), dtype=int),
            saddle_logp=np.empty(0),
            evaluated=Evaluated.nothing(d),
            symmetry_wanted=symmetry,
        )

    def widened(self, width: np.ndarray) -> Search:
        """Return the search with longer units: starts are spread as widely as a mode that was met.

        Parameters
        ----------
        width : array of shape (d,)
        """
        spread = np.maximum(self.spread, width)
        distribution = replace(self.distribution, spread=spread)
        return replace(self, distribution=distribution, optima=self.optima.widened(spread))

    @property
    def centre(self) -> np.ndarray:
        """Median of the distribution of the starts, shape (d,)."""
        return self.distribution.centre

    @property
    def spread(self) -> np.ndarray:
        """Robust standard deviation of the starts, shape (d,)."""
        return self.distribution.spread

    @property
    def symmetry(self) -> Symmetry | None:
        """The symmetry that was found, or given and checked."""
        return self.optima.symmetry
