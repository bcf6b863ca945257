"""Learned reference-based diffusion sampling: the settings that the user gives, and their use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymc_multimodal.proposals.lrds.build import build_generator
from pymc_multimodal.proposals.lrds.settings import LRDSSettings

if TYPE_CHECKING:
    import numpy as np

    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.proposals.lrds.path_generator import PathGenerator
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["LRDS"]


@dataclass(frozen=True)
class LRDS(LRDSSettings):
    """A diffusion that goes back from a noised reference, guided by a learned control.

    The reference is learned from the local draws and the weights of the bridge. The control, which
    is learned from log densities alone, corrects what the reference has wrong.

    Parameters
    ----------
    reference : {"gmm", "ebm", "gaussian"}
        A Gaussian mixture; an energy-based model, for shapes that mixtures miss; or a single
        Gaussian, which stands for samplers without a learned reference.
    components : int, optional
        Components of the mixture, fitted to the pooled draws. By default held-out draws choose:
        how many components each region has, and then whether expectation maximisation on the draws
        of all regions improves them.
    process : {"geometric", "variance-preserving", "pinned"}
        Where the noise levels lie: at equal ratios, which suits few steps, or where one of two
        usual diffusion processes has them in equal steps of time.
    steps : int, optional
        Noise steps. By default 8, and 32 for an energy-based model, whose kernels are not exact.
    min_noise, max_noise : float
        Lowest and highest noise level of "geometric", in standard deviations of a mode; the
        lowest is 0.1 by default, and 0.02 for an energy-based model. The chain starts from
        the noised reference exactly, so that the levels need not reach from one mode to the
        next.
    loss : {"stepwise", "log-variance", "kl"}
        What training lowers: the variance of the log ratios of single steps, that of whole paths
        (the loss of the paper), or the divergence of the chain from the target.
    start : {"reference", "normal"}
        Distribution that the chain starts from: the noised reference, or the standard normal of
        the published algorithm, whose uncorrected draws are biased.
    kernels : {"exact", "exponential"}
        Reverse kernels: those of the mixture in closed form, or exponential-integrator steps.
    network : ControlNetwork
        Training of the control.
    energy : EnergyNetwork
        Training of the energy-based model.
    train : bool
        Whether a control is learned at all.
    defensive : float
        Share of proposals from the heavy-tailed densities of the regions, between 0 and 1.
    regional : RegionalFamilies
        Densities of the regions, for the bridge, for the jumps of the chains, and for the
        defensive share.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range, has no effect beside another one, or contradicts it.

    Notes
    -----
    Noble, Grenioux, Gabrié and Durmus (2025), arXiv 2410.19449. `LRDS.published` has their
    settings.
    """

    @classmethod
    def published(cls, **changes: object) -> LRDS:
        """Return the settings of the paper: normal start, exponential integrator, 100 equal steps.

        Parameters
        ----------
        **changes
            Settings of `LRDS` that differ from those of the paper.

        Returns
        -------
        LRDS

        Raises
        ------
        TypeError, ValueError
            As `LRDS` does.

        Notes
        -----
        The steps are those of the authors' code for arXiv 2410.19449.
        """
        settings: dict = {
            "process": "variance-preserving",
            "steps": 100,
            "loss": "log-variance",
            "start": "normal",
            "kernels": "exponential",
        }
        return cls(**(settings | changes))

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> PathGenerator:
        """Learn the reference from the pooled draws, and a control where it pays."""
        return build_generator(self, fitted, local, weights, rng, density)
