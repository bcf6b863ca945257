"""The step that emulates a log density of which each evaluation is dear."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.fit.emulated import judge_surface
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.search import screen_dear

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["EmulateDensity", "ScreenDear"]


class ScreenDear(Step):
    """Look for modes that climbs have missed, by the values of a few hundred points."""

    name = "screen by values"
    text = "searching for further modes"
    share = 0.5

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once, after the search, if one evaluation is dear.

        The modes of a search that a limit has ended serve, too.
        """
        search = state.search
        return state.price is not None and len(search.optima) > 0 and state.screening is None

    def __call__(self, state: State, run: Run) -> State:
        """Screen; new modes belong to the search."""
        search, seen = screen_dear(
            run.density, state.search, run.settings.modes, run.rng(self.name)
        )
        return replace(state, search=search, screening=seen)


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
        screened = 0 if state.screening is None else state.screening.n_evals
        judged = judge_surface(run, state.search, known(state.price), screened)
        return replace(state, price=None, judged=judged)
