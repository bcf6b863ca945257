"""What a step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["NeededStep", "Step"]


class Step(ABC):
    """A short part of a fit, which can be left out.

    Attributes
    ----------
    name : str
        Name of the random stream, of the journal's entries and of the progress report.
    text : str
        What the progress report says.
    share : float
        Part of every limit that all applications of the step together may use up.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    share: ClassVar[float] = 1.0

    @abstractmethod
    def due(self, state: State, settings: FitConfig) -> bool:
        """Tell from the state whether the step is to be made; no evaluation is made."""

    def needed(self, state: State) -> bool:
        """Tell whether there is no result without the step, so that it is made beyond limits."""
        return False

    @abstractmethod
    def __call__(self, state: State, run: Run) -> State:
        """Make the step: return the next state."""


class NeededStep(Step):
    """A step without which there is no result."""

    def needed(self, state: State) -> bool:
        """Until there is a result."""
        return state.best is None
