"""What is sampled: a log density on R^d, its symmetry, its periods and its faults."""

from __future__ import annotations

from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.circle import displacement, into_window, is_circular, unroll, wrap
from pymc_multimodal.target.density import CHUNK, Density
from pymc_multimodal.target.errors import (
    EvaluationErrors,
    equal_logp,
    rounding,
    same_density,
    unstable,
)
from pymc_multimodal.target.group import Orbit, Symmetry, averaged, generate
from pymc_multimodal.target.history import Evaluations, History
from pymc_multimodal.target.limits import Limits
from pymc_multimodal.target.protocol import LogDensity, OutputModel
from pymc_multimodal.target.target import Target

__all__ = [
    "CHUNK",
    "Cells",
    "Density",
    "EvaluationErrors",
    "Evaluations",
    "History",
    "Limits",
    "LogDensity",
    "Orbit",
    "OutputModel",
    "Symmetry",
    "Target",
    "averaged",
    "displacement",
    "equal_logp",
    "generate",
    "into_window",
    "is_circular",
    "rounding",
    "same_density",
    "unroll",
    "unstable",
    "wrap",
]
