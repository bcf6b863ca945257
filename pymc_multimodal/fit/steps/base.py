"""What a step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["NeededStep", "Step"]

# Part of a limit at which the steps before the first weights are cut short; the rest is for the
# least that proposals and weights need. Conventional.
SHARE_BEFORE_WEIGHTS = 0.7


class Step(ABC):
    """A short part of a fit, which can be left out.

    Attributes
    ----------
    name : str
        Name of the random stream, of the journal's entries and of the progress report.
    text : str
        What the step does, in a few words.
    share : float
        Part of every limit of the fit. When that much is used up, the step is no longer run, and
        does its least if a result needs it.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    share: ClassVar[float] = 1.0

    @abstractmethod
    def due(self, state: State, settings: FitConfig) -> bool:
        """Tell whether the step is to be run, given that no earlier step of `STEPS` is due.

        The density is not evaluated.
        """

    def describe(self, state: State, settings: FitConfig) -> str:
        """Return what the progress report says when the step begins."""
        return self.text

    def needed(self, state: State) -> bool:
        """Tell whether there are no weights without the step: then it may use a limit up."""
        return False

    def share_of(self, state: State) -> float:
        """Return the part of a limit at which the step is cut short."""
        return (
            self.share if state.presentable is not None else min(self.share, SHARE_BEFORE_WEIGHTS)
        )

    @abstractmethod
    def __call__(self, state: State, run: Run) -> State:
        """Run the step: return the next state."""


class NeededStep(Step):
    """A step without which there are no weights."""

    def needed(self, state: State) -> bool:
        """Return True until there are weights."""
        return state.presentable is None
