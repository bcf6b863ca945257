"""Settings of the emulation of expensive densities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pymc_multimodal import checks

__all__ = ["Emulation"]

Draws = Literal["exact", "weighted"]
DRAWS = get_args(Draws)


@dataclass(frozen=True)
class Emulation:
    """How an expensive log density is emulated by Gaussian processes.

    Emulated is what a simulator without gradient gives to the observed variables; where there is no
    such simulator in the model's graph, the log density itself. Draws of the emulated posterior are
    then evaluated truly (they are judged), and these evaluations give the weights and their errors.

    Parameters
    ----------
    outputs : sequence of str, optional
        Variables of the model that are emulated, such as a `pm.Deterministic`. By default the
        outputs of the black boxes in the model's graph.
    min_seconds : float
        Seconds of one evaluation from which on a density without gradient is emulated.
    budget : int, optional
        Evaluations that are planned, those of the judged draws among them. By default 160 for each
        parameter of the simulator, 600 at least.
    batch : int
        Evaluations of one round: as many as can be made at the same time.
    draws : {"exact", "weighted"}, optional
        "exact": a chain proposes draws of the emulated posterior and accepts them by the true
        density; a draw costs one evaluation. "weighted": draws of the emulated posterior, weighted
        by the judged ones, without evaluations; they are no more exact than the weights. By default
        "exact", and "weighted" where a limit does not allow for the evaluations.
    despite_gradient : bool
        Whether a log density with a gradient is emulated too. The search uses the gradient, the
        process the values alone. This takes a half to a ninth of the evaluations of a fit
        without emulation, and 10 to 50 CPU seconds of its own: it pays from about ten milliseconds
        for an evaluation.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range.
    """

    outputs: Sequence[str] | None = None
    # Conventional: below a millisecond evaluations cost less than the processes do.
    min_seconds: float = 1e-3
    budget: int | None = None
    # Conventional: sixteen evaluations side by side.
    batch: int = 16
    draws: Draws | None = None
    despite_gradient: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.outputs is not None:
            named = not isinstance(self.outputs, str) and isinstance(self.outputs, Sequence)
            if not named or not all(isinstance(name, str) for name in self.outputs):
                raise TypeError(
                    f"{owner}(outputs={self.outputs!r}) must be a list of names of variables."
                )
            if not self.outputs:
                raise ValueError(
                    f"{owner}(outputs={self.outputs!r}) names no variable. Name the outputs of the "
                    "simulator, or leave `outputs` out."
                )
        checks.number(owner, "min_seconds", self.min_seconds, least=0)
        checks.flag(owner, "despite_gradient", self.despite_gradient)
        if self.budget is not None:
            checks.count(owner, "budget", self.budget)
        checks.count(owner, "batch", self.batch)
        if self.draws is not None:
            checks.choice(owner, "draws", self.draws, DRAWS)
