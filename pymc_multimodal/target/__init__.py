"""What is sampled: a log density on R^d, its symmetry, its periods and its faults."""

from __future__ import annotations

from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.circle import displacement, into_window, is_circular, unroll, wrap
from pymc_multimodal.target.density import CHUNK, Density
from pymc_multimodal.target.engines import check_workers, engine_name, following_joblib
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
from pymc_multimodal.target.protocol import LogDensity, OutputModel, TermModel
from pymc_multimodal.target.structure import Structure, chosen_units, units_of_terms
from pymc_multimodal.target.target import Target
from pymc_multimodal.target.units import Place, Units, find_units, given_units
from pymc_multimodal.target.watchdog import Expired, call_patiently

__all__ = [
    "CHUNK",
    "Cells",
    "Density",
    "EvaluationErrors",
    "Evaluations",
    "Expired",
    "History",
    "Limits",
    "LogDensity",
    "Orbit",
    "OutputModel",
    "Place",
    "Structure",
    "Symmetry",
    "Target",
    "TermModel",
    "Units",
    "averaged",
    "call_patiently",
    "check_workers",
    "chosen_units",
    "displacement",
    "engine_name",
    "equal_logp",
    "find_units",
    "following_joblib",
    "generate",
    "given_units",
    "into_window",
    "is_circular",
    "rounding",
    "same_density",
    "units_of_terms",
    "unroll",
    "unstable",
    "wrap",
]
