"""Settings of `ScoreLangevin`: the fields and their checks."""

from __future__ import annotations

from dataclasses import dataclass

from pymc_multimodal import checks
from pymc_multimodal.proposals.device import check_device

__all__ = ["ScoreSettings"]

OBJECTIVES = ("implicit", "denoising", "exact")
TRACES = ("auto", "exact", "hutchinson")
INTEGRATORS = ("averaged", "euler")


@dataclass(frozen=True)
class ScoreSettings:
    """Fields of `ScoreLangevin`, whose docstring explains each of them, and their checks.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is out of range, or if `stop_time` is shorter than `step_size`.
    """

    objective: str = "implicit"
    trace: str = "auto"
    noise_sd: float = 0.1
    max_components: int = 40
    width: int = 64
    training_steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 3e-3
    step_size: float | None = None
    stop_time: float | None = None
    integrator: str = "averaged"
    # Measured: examples/papers/score_sweeps.py, table of separations. Two unit normals at a
    # distance of 4 have this overlap, and lose a fifth of a difference in weights within a run.
    min_overlap: float = 0.05
    path_steps: int = 6
    defensive: float = 0.1
    device: str = "auto"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        checks.choice(owner, "objective", self.objective, OBJECTIVES)
        checks.choice(owner, "trace", self.trace, TRACES)
        checks.positive(owner, "noise_sd", self.noise_sd, finite=True)
        checks.count(owner, "max_components", self.max_components)
        checks.count(owner, "width", self.width)
        checks.count(owner, "training_steps", self.training_steps, 0)
        checks.count(owner, "batch_size", self.batch_size, 2)
        checks.positive(owner, "learning_rate", self.learning_rate, finite=True)
        if self.step_size is not None:
            checks.positive(owner, "step_size", self.step_size, finite=True)
        if self.stop_time is not None:
            checks.positive(owner, "stop_time", self.stop_time, finite=True)
        checks.choice(owner, "integrator", self.integrator, INTEGRATORS)
        checks.share(owner, "min_overlap", self.min_overlap)
        checks.count(owner, "path_steps", self.path_steps, 0)
        checks.share(owner, "defensive", self.defensive)
        check_device(owner, "device", self.device)
        if self.stop_time is not None and self.step_size is not None:
            if self.stop_time < self.step_size:
                raise ValueError(
                    f"{owner}(stop_time={self.stop_time}, step_size={self.step_size}): the run "
                    "would be shorter than a step. Use a longer time or a smaller step."
                )
