"""Settings of the regions and of their chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LocalSampling", "Regions"]


@dataclass(frozen=True)
class Regions:
    """How R^d is cut into regions.

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
    ValueError
        If a setting is out of range.
    """

    method: Literal["svc", "nearest"] = "svc"
    C: float = 10.0
    kernel: Literal["linear", "rbf"] | None = None
    max_svc_modes: int = 64

    def __post_init__(self) -> None:
        if self.method not in ("svc", "nearest"):
            raise ValueError(f"Regions(method={self.method!r}): choose 'svc' or 'nearest'.")
        if not self.C > 0:
            raise ValueError(f"Regions(C={self.C}) must be positive.")
        if self.kernel not in (None, "linear", "rbf"):
            raise ValueError(f"Regions(kernel={self.kernel!r}): choose 'linear', 'rbf' or None.")
        if self.max_svc_modes < 0:
            raise ValueError(
                f"Regions(max_svc_modes={self.max_svc_modes}) must not be negative; with 0 the "
                "nearest mode is always used."
            )


@dataclass(frozen=True)
class LocalSampling:
    """How the regions are sampled.

    Parameters
    ----------
    chains : int
        Chains in each region; divided between fitting, choosing and bridging.
    draws : int
        Draws a chain before the first check; doubled until the checks pass.
    max_draws : int
        Most draws a chain.
    windows : tuple of int
        Lengths of the warm-up windows; the metric is refitted after each but the last.
    target_accept : float
        Acceptance the step size is adapted to, at least 0.85 in the second gear; 0.3 where
        there is no gradient.
    max_rhat : float
        R-hat that is asked of every watched quantity of a region; one that ends above
        ``1 + 2 * (max_rhat - 1)`` is flagged.
    min_ess : float
        Effective draws of a region's slowest quantity.
    max_leapfrog : int
        Most leapfrog steps of a trajectory. The first gear is Langevin where the step size
        allows it, and short trajectories otherwise. A region that stays far from `max_rhat`
        shifts to varied step sizes with independence jumps from a density fitted to its draws
        so far, and then to trajectories four times as long.
    explore_moves : int
        Moves of the unrestricted chains that shape the regions.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

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
        if self.chains < 8:
            raise ValueError(
                f"LocalSampling(chains={self.chains}): at least 8 are needed, since chains are "
                "divided between fitting, choosing and bridging."
            )
        for name, least in (("draws", 4), ("explore_moves", 2), ("max_leapfrog", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"LocalSampling({name}={getattr(self, name)}) must be at least {least}."
                )
        if self.max_draws < self.draws:
            raise ValueError(
                f"LocalSampling(max_draws={self.max_draws}) is less than draws={self.draws}."
            )
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept={self.target_accept} must lie between 0 and 1.")
        if len(self.windows) < 2 or min(self.windows) < 1:
            raise ValueError(
                f"windows={self.windows}: at least two warm-up windows of one move or more are "
                "needed."
            )
