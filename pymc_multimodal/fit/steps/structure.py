"""The step that fits by units what the modes do not describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.fit.structured import SHARE_AFTER_SEARCH, structured_fit

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["FitUnits"]


class FitUnits(Step):
    """Fit by units, where importance sampling from the modes was not precise."""

    name = "units"
    text = "fitting by units"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once, after the first answer, if that does not end the fit.

        A promising one is first compared with chains, which may make it precise for less.
        """
        found = state.approximation
        waits = found is not None and found.promising and not state.compared
        return (
            settings.structure is not False
            and not state.units_sought
            and state.price is None
            and state.approximated
            and state.division is None
            and (state.exploration is None or state.compared)
            and not waits
            and not state.ends_early
            and not state.must_visit.size
        )

    def share_of(self, state: State) -> float:
        """Return half of a limit: the rest is for chains, if there are no units."""
        return SHARE_AFTER_SEARCH

    def __call__(self, state: State, run: Run) -> State:
        """Fit by units; without a precise answer the fit goes on with chains."""
        # All images where the density is symmetric: hubs are not folded.
        fit = structured_fit(run, state.search.optima.images())
        return replace(state, units_sought=True, by_units=fit)
