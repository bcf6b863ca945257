"""The step that emulates a log density of which each evaluation is dear."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.fit.emulated import judge_surface
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import Step

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["EmulateDensity"]


class EmulateDensity(Step):
    """Emulate the log density by the points of the search, and judge the emulated posterior."""

    name = "emulate"
    text = "emulating the log density"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once, after the search, if one evaluation is dear.

        A search that a limit has ended is not settled, but its points serve.
        """
        return state.price is not None and state.search.counts.starts > 0

    def share_of(self, state: State) -> float:
        """Return the whole of a limit: what is judged by then is the answer."""
        return 1.0

    def __call__(self, state: State, run: Run) -> State:
        """Emulate; without a good verdict the fit goes on from the points that are known."""
        judged = judge_surface(run, state.search, known(state.price))
        return replace(state, price=None, judged=judged)
