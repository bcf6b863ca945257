"""Markov moves that leave a density invariant, and the adaptation of their parameters."""

from __future__ import annotations

from pymc_multimodal.moves.adaptation import (
    Window,
    WindowRecord,
    adapt_metrics,
    adapt_step_sizes,
    first_step,
    fit_metric,
    log_step_change,
    trajectory_lengths,
)
from pymc_multimodal.moves.delayed import delayed_move
from pymc_multimodal.moves.jumps import JumpDensity, MixtureProposal, jump
from pymc_multimodal.moves.local import MoveInfo, MoveParameters, MoveState, move, state_at

__all__ = [
    "JumpDensity",
    "MixtureProposal",
    "MoveInfo",
    "MoveParameters",
    "MoveState",
    "Window",
    "WindowRecord",
    "adapt_metrics",
    "adapt_step_sizes",
    "delayed_move",
    "first_step",
    "fit_metric",
    "jump",
    "log_step_change",
    "move",
    "state_at",
    "trajectory_lengths",
]
