"""Settings of the regions and of their chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pymc_multimodal import checks

__all__ = ["MIN_CHAINS", "LocalSampling", "Regions"]

# Least chains of a region: they are divided between fitting, choosing and bridging, and R-hat
# needs several in each part. Conventional.
MIN_CHAINS = 8
# Least draws of a first batch: R-hat splits each chain into halves of two draws at least.
MIN_DRAWS = 4
# The metric is fitted after each window but the last.
MIN_WINDOWS = 2
# Exploration has two windows of at least one move.
MIN_EXPLORE_MOVES = 2


@dataclass(frozen=True)
class Regions:
    """How R^d is divided into regions.

    Parameters
    ----------
    method : {"svc", "nearest"}
        "svc" trains a soft-margin support vector classifier on short unrestricted chains
        labelled by the mode they began in (arXiv 2505.07825 trains it on starting points,
        which extrapolates badly in high dimension); "nearest" assigns the mode of largest
        Gaussian density.
    C : float
        Penalty of the classifier.
    kernel : {"linear", "rbf"}, optional
        By default linear where it separates the training points as well as the radial one.
    max_svc_modes : int
        With more modes than this the nearest mode is used: the classifier works on pairs.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range.
    """

    # Measured: examples/benchmarks/constants.py
    method: Literal["svc", "nearest"] = "svc"
    C: float = 10.0
    kernel: Literal["linear", "rbf"] | None = None
    max_svc_modes: int = 64

    def __post_init__(self) -> None:
        checks.choice("Regions", "method", self.method, ("svc", "nearest"))
        checks.positive("Regions", "C", self.C)
        checks.choice("Regions", "kernel", self.kernel, ("linear", "rbf", None))
        checks.count("Regions", "max_svc_modes", self.max_svc_modes, least=0)


@dataclass(frozen=True)
class LocalSampling:
    """How the regions are sampled.

    Parameters
    ----------
    chains : int
        Chains in each region, at least 8: they are divided between fitting, choosing and
        bridging.
    draws : int
        Draws of each chain before the first check; doubled until the checks pass.
    max_draws : int
        Most draws of each chain.
    windows : tuple of int
        Moves of each warm-up window; the metric is fitted after each window but the last.
    target_accept : float
        Acceptance that the step size is adapted to; at least 0.85 where step sizes are varied
        (regimes 1 and 2), and 0.3 where the density has no gradient.
    max_rhat : float
        R-hat that is asked of every watched quantity of a region, above 1. A region that ends
        above ``1 + 2 * (max_rhat - 1)`` is flagged.
    min_ess : float
        Effective draws that are asked of a region's slowest quantity.
    max_leapfrog : int
        Most leapfrog steps of a trajectory. Regime 0 is Langevin where the step size allows it,
        and short trajectories otherwise. A region that stays far from `max_rhat` changes to
        regime 1 (varied step sizes, and independence jumps from a density fitted to its draws
        so far) and then to regime 2 (trajectories four times as long).
    explore_moves : int
        Moves of the unrestricted chains that shape the regions.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range.
    """

    # R-hat and ESS as Vehtari et al. (2021) recommend; an acceptance between the optimum of long
    # trajectories, 0.65 (Beskos et al. 2013), and Stan's 0.8.
    # The other defaults: Measured: examples/benchmarks/constants.py
    chains: int = 16
    draws: int = 100
    max_draws: int = 3200
    windows: tuple[int, ...] = (30, 40, 60, 40)
    target_accept: float = 0.75
    max_rhat: float = 1.01
    min_ess: float = 400.0
    max_leapfrog: int = 64
    explore_moves: int = 60

    def __post_init__(self) -> None:
        owner = type(self).__name__
        checks.count(owner, "chains", self.chains, MIN_CHAINS)
        checks.count(owner, "draws", self.draws, MIN_DRAWS)
        checks.count(owner, "max_draws", self.max_draws, MIN_DRAWS)
        checks.count(owner, "max_leapfrog", self.max_leapfrog)
        checks.count(owner, "explore_moves", self.explore_moves, MIN_EXPLORE_MOVES)
        checks.share(owner, "target_accept", self.target_accept)
        checks.number(owner, "max_rhat", self.max_rhat)
        checks.number(owner, "min_ess", self.min_ess, 0.0)
        if self.max_draws < self.draws:
            raise ValueError(
                f"{owner}(max_draws={self.max_draws}) is less than draws={self.draws}: raise it, "
                "or lower draws."
            )
        if not self.max_rhat > 1:
            raise ValueError(
                f"{owner}(max_rhat={self.max_rhat}) must be above 1, the R-hat of chains that have "
                "mixed perfectly."
            )
        if not isinstance(self.windows, tuple | list):
            raise TypeError(f"{owner}(windows={self.windows!r}) must be a tuple of whole numbers.")
        object.__setattr__(self, "windows", tuple(self.windows))
        for i, moves in enumerate(self.windows):
            checks.count(owner, f"windows[{i}]", moves)
        if len(self.windows) < MIN_WINDOWS:
            raise ValueError(
                f"{owner}(windows={self.windows}): at least two warm-up windows are needed, since "
                "the metric is fitted between windows."
            )
