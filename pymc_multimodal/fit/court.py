"""Fits are challenged until one stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge.challenger import Challenger, ChallengeResult
from pymc_multimodal.challenge.settings import Challenge
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.challenge.candidate import FitCandidate
    from pymc_multimodal.fit.clock import Clock
    from pymc_multimodal.search import ModeSearch
    from pymc_multimodal.target.density import Density

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
        self.verdict: ChallengeResult | None = None
        self._challenger: Challenger | None = None
        self._rounds = 0
        self._judged = self._climbs = 0
        if isinstance(config, Challenge):
            self._challenger = Challenger(density, search, config, rng)
            self._rounds = config.rounds

    def hear(self, case: FitCandidate, tick: Callable[[str, str], None]) -> bool:
        """Judge a fit; tell whether it has to be done again."""
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
                self.verdict = challenger.judge(case)
                tick("challenge", "more climbs to modes")
                verdict = challenger.climb(case, self.verdict, 2 * budget)
                self._climbs += verdict.n_climbs
                self.verdict = replace(verdict, n_climbs=self._climbs)
        except LimitReached:
            return False
        self._judged = clock.spent
        if not len(self.verdict.starts) or not self._rounds or not clock.proceed():
            return False
        self._rounds -= 1
        self.proofs = np.concatenate([self.proofs, self.verdict.starts])
        return True
