"""Learned reference-based diffusion sampling: proposals of a controlled reverse diffusion.

Source: Noble, Grenioux, Gabrié and Durmus (2025), arXiv 2410.19449.
"""

from pymc_multimodal.proposals.lrds.affine import AffineMap
from pymc_multimodal.proposals.lrds.chain import ReverseChain
from pymc_multimodal.proposals.lrds.control import Control, ControlTraining, draw_paths
from pymc_multimodal.proposals.lrds.control_fit import fit_control
from pymc_multimodal.proposals.lrds.evaluated import path_ess
from pymc_multimodal.proposals.lrds.lrds import LRDS
from pymc_multimodal.proposals.lrds.noising import (
    Noising,
    geometric,
    pinned,
    variance_preserving,
)
from pymc_multimodal.proposals.lrds.path_generator import PathGenerator
from pymc_multimodal.proposals.lrds.pool import PooledDraws, SplitDraws
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.settings import ControlNetwork, EnergyNetwork
from pymc_multimodal.proposals.lrds.stepped import (
    SteppedReference,
    exponential_steps,
    tweedie_steps,
)
from pymc_multimodal.proposals.lrds.windows import Windows

__all__ = [
    "LRDS",
    "AffineMap",
    "Control",
    "ControlNetwork",
    "ControlTraining",
    "EnergyNetwork",
    "MixtureReference",
    "Noising",
    "PathGenerator",
    "PooledDraws",
    "Potential",
    "ReverseChain",
    "SplitDraws",
    "SteppedReference",
    "Windows",
    "draw_paths",
    "exponential_steps",
    "fit_control",
    "geometric",
    "path_ess",
    "pinned",
    "tweedie_steps",
    "variance_preserving",
]
