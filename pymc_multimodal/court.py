"""Fits are challenged until one stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge import Challenge, Challenger, Verdict
from pymc_multimodal.status import Exhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymc_multimodal.clock import Clock
    from pymc_multimodal.density import Density
    from pymc_multimodal.draws import LocalDraws
    from pymc_multimodal.generators.base import RegionDensity
    from pymc_multimodal.modes import ModeFinder, Modes
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.starts import ModeSearch
    from pymc_multimodal.weights import Weights

__all__ = ["Court"]


class Court:
    """Challenges fits until one stands or the rounds are used up; keeps the proofs.

    Parameters
    ----------
    density : Density
    search : ModeSearch
    config : Challenge or False
    clock : Clock
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        density: Density,
        search: ModeSearch,
        config: Challenge | bool,
        clock: Clock,
        rng: np.random.Generator,
    ) -> None:
        self.clock = clock
        self.proofs = np.empty((0, density.dim))
        self.verdict: Verdict | None = None
        self._challenger: Challenger | None = None
        self._rounds = 0
        self._judged = self._climbs = 0
        if isinstance(config, Challenge):
            self._challenger = Challenger(density, search, config, rng)
            self._rounds = config.rounds

    def hear(
        self,
        tick: Callable[[str, str], None],
        finder: ModeFinder,
        searched: Modes,
        partition: Partition,
        densities: Sequence[RegionDensity],
        local: LocalDraws,
        weights: Weights,
        density: Density,
    ) -> bool:
        """Judge a fit, given as to `Challenger.judge`; tell whether it has to be done again."""
        challenger, clock = self._challenger, self.clock
        # What was said of an earlier fit does not hold for this one, which has other regions.
        self.verdict = None
        if challenger is None or not clock.proceed():
            return False
        tick("challenge", "tempered search for what was missed")
        config = challenger.config
        try:
            with challenger.density.limited():
                budget = max(config.share * (clock.spent - self._judged), config.min_evals)
                challenger.seek(budget)
                self.verdict = challenger.judge(
                    finder, searched, partition, densities, local, weights, density
                )
                tick("challenge", "more climbs to modes")
                verdict = challenger.climb(
                    self.verdict, finder, searched, partition, weights, 2 * budget, density
                )
                self._climbs += verdict.n_climbs
                self.verdict = replace(verdict, n_climbs=self._climbs)
        except Exhausted:
            return False
        self._judged = clock.spent
        if not len(self.verdict.starts) or not self._rounds or not clock.proceed():
            return False
        self._rounds -= 1
        self.proofs = np.concatenate([self.proofs, self.verdict.starts])
        return True
