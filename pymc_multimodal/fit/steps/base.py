"""What a step is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["NeededStep", "OptionalStep", "Step"]


class Step(Protocol):
    """A short part of a fit.

    Attributes
    ----------
    name : str
        Name of the random stream, of the journal's entries and of the progress report.
    text : str
        What a user is told.
    share : float
        Part of every limit that this step may use up.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    share: ClassVar[float]

    def due(self, state: State, settings: FitConfig) -> bool:
        """Tell from the state whether the step is to be made; no evaluation is made."""
        ...

    def needed(self, state: State) -> bool:
        """Tell whether there is no result without the step: then it is made beyond limits."""
        ...

    def __call__(self, state: State, run: Run) -> State:
        """Make the step."""
        ...


class OptionalStep:
    """A step that can be left out."""

    share: ClassVar[float] = 1.0

    def needed(self, state: State) -> bool:
        """Never."""
        return False


class NeededStep(OptionalStep):
    """A step without which there is no result."""

    def needed(self, state: State) -> bool:
        """Until there is a result."""
        return state.best is None
