"""How many evaluations are made of an expensive density, and for what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.target import equal_logp

if TYPE_CHECKING:
    from pymc_multimodal.emulation.settings import Emulation
    from pymc_multimodal.target import Density

__all__ = ["Plan", "Price", "plan_evaluations", "plan_surface", "price_of"]

# Evaluations by default for each input of the simulator, and at least. Measured:
# examples/benchmarks/simulators.py
BUDGET_PER_INPUT, LEAST_BUDGET = 160, 600
# The same where the log density itself is emulated, beside those of the search. Measured: as above.
BUDGET_PER_DIMENSION, MAX_BUDGET = 400, 1_900
# Judged draws of such a density, if they are not what is left: where it is smooth, points that
# refine it are not all needed. Conventional.
MAX_JUDGED = 350
# Points that refine such a density at most: as many as its process may have
# (`surface.MAX_POINTS`). Measured: of two Student-t modes in eight dimensions, 800 of them lowered
# the error of the log density from 0.7 to 0.4 nats, and a thousand more did not lower it.
MAX_REFINEMENT = 1_200
# Points of the prior for each input of the simulator. Measured: as above.
DESIGN_PER_INPUT = 32
# Parts of the budget: at most for the design and for points that refine the emulator, at least for
# the judged draws. Conventional.
DESIGN_SHARE, JUDGED_SHARE = 0.4, 0.35
# Root mean square of the emulated log density's standard deviation over the posterior at which
# refinement ends: importance ratios then vary by as much. Conventional for outputs: an effective
# size of 98 %. Measured for a log density, of which ratios vary less than that:
# examples/benchmarks/simulators.py
PRECISE_SD, PRECISE_SURFACE_SD = 0.15, 0.25
# Points at which the price of an evaluation is measured. Conventional.
PRICED_POINTS = 3


@dataclass(frozen=True)
class Plan:
    """Evaluations of an expensive density.

    Attributes
    ----------
    seconds : float
        Measured time of one evaluation.
    total : int
        All evaluations, those of judged draws among them.
    design : int
        Points that fill the prior.
    refinement : int
        Points that refine the emulator, at most.
    batch : int
        Evaluations of one round.
    precise_sd : float
        Root mean square of the standard deviation of the emulated log density, over the posterior,
        at which refinement ends.
    """

    seconds: float
    total: int
    design: int
    refinement: int
    batch: int
    precise_sd: float = PRECISE_SD

    @property
    def judged(self) -> int:
        """Evaluations that are left for judged draws, at least."""
        return self.total - self.design - self.refinement

    def without(self, n: int) -> Plan:
        """Return the plan of which n points of refinement have been spent on the design."""
        n = min(n, self.refinement)
        return replace(self, design=self.design + n, refinement=self.refinement - n)

    def with_judged(self, n: int) -> Plan:
        """Return the plan with n judged draws, and as many more or fewer points of refinement."""
        return replace(self, refinement=self.total - self.design - n)

    @property
    def rounds(self) -> int:
        """Rounds of evaluations."""
        return int(np.ceil(self.total / self.batch))

    def described(self, workers: int) -> str:
        """Return the plan in words, with its time for one worker and for more."""
        text = (
            f"one evaluation takes {_duration(self.seconds)}; planned are {self.total} in "
            f"{self.rounds} rounds of {self.batch}: {_duration(self.total * self.seconds)} "
            "with one worker"
        )
        if workers > 1:
            at_once = np.ceil(self.batch / workers) * self.rounds * self.seconds
            text += f", {_duration(float(at_once))} with {workers}"
        return text


@dataclass(frozen=True)
class Price:
    """Time of one evaluation.

    Attributes
    ----------
    seconds : float
        Median of a few evaluations.
    least : float
        The quickest of them: what else the machine does has no part in it.
    repeatable : bool
        Whether a second evaluation of a point gave the same value.
    """

    seconds: float
    least: float
    repeatable: bool


def price_of(density: Density, rng: np.random.Generator) -> Price:
    """Measure the time of one evaluation, at a few points of the prior.

    Parameters
    ----------
    density : Density
    rng : numpy.random.Generator
    """
    x = density.prior_draws(PRICED_POINTS, rng)
    # The first evaluation may compile.
    value, times, again = density.logp(x[:1]), [], []
    for row in x[:, None]:
        again.append(density.logp(row))
        # However long it takes to send a point to a worker.
        times.append(density.last_seconds)
    same = equal_logp(again[0], value, density.resolution).all()
    return Price(float(np.median(times)), min(times), bool(same))


def plan_evaluations(seconds: float, inputs: int, settings: Emulation, room: float) -> Plan:
    """Plan the evaluations of an expensive density.

    Parameters
    ----------
    seconds : float
        Of one evaluation.
    inputs : int
        Coordinates that the simulator depends on.
    settings : Emulation
    room : float
        Evaluations that the limits of the fit allow; may be infinite.

    Returns
    -------
    Plan
    """
    total = settings.budget or max(LEAST_BUDGET, BUDGET_PER_INPUT * inputs)
    total = int(min(total, max(room, 1.0)))
    design = max(1, min(DESIGN_PER_INPUT * inputs, int(DESIGN_SHARE * total)))
    judged = int(np.ceil(JUDGED_SHARE * total))
    return Plan(seconds, total, design, max(0, total - design - judged), settings.batch)


def plan_surface(seconds: float, dim: int, settings: Emulation, spent: int, room: float) -> Plan:
    """Plan the evaluations of a density of which only values are known, after the search.

    Parameters
    ----------
    seconds : float
        Of one evaluation.
    dim : int
    settings : Emulation
    spent : int
        Evaluations of the search.
    room : float
        Evaluations that the limits of the fit allow; may be infinite.

    Returns
    -------
    Plan
        Its design are the points of the search.
    """
    more = settings.budget or min(max(LEAST_BUDGET, BUDGET_PER_DIMENSION * dim), MAX_BUDGET)
    more = int(min(more, max(room, 1.0)))
    judged = min(int(np.ceil(JUDGED_SHARE * more)), MAX_JUDGED)
    refinement = max(0, min(more - judged, MAX_REFINEMENT))
    return Plan(seconds, spent + more, spent, refinement, settings.batch, PRECISE_SURFACE_SD)


def _duration(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 1.0:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120.0:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
