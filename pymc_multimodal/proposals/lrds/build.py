"""From settings and local draws to a diffusion sampler."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal.proposals.base import RegionalMixture
from pymc_multimodal.proposals.elliptical import factor
from pymc_multimodal.proposals.lrds.affine import AffineMap
from pymc_multimodal.proposals.lrds.chain import ReverseChain
from pymc_multimodal.proposals.lrds.control_choice import add_control, failed_training
from pymc_multimodal.proposals.lrds.energy import fit_energy
from pymc_multimodal.proposals.lrds.mixture_fit import (
    fit_pooled_mixture,
    gaussian_per_region,
    join_region_mixtures,
    refine_mixture,
)
from pymc_multimodal.proposals.lrds.noising import geometric, pinned, variance_preserving
from pymc_multimodal.proposals.lrds.path_generator import PathGenerator
from pymc_multimodal.proposals.lrds.pool import SplitDraws
from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, exponential_steps
from pymc_multimodal.proposals.lrds.windows import Windows
from pymc_multimodal.status import first_line

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.proposals.lrds.noising import Noising
    from pymc_multimodal.proposals.lrds.pool import PooledDraws
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain
    from pymc_multimodal.proposals.lrds.settings import LRDSSettings
    from pymc_multimodal.proposals.mixture import GaussianMixture
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["build_generator"]

_log = logging.getLogger("pymc.multimodal")

# Most groups of components with directions of their own in the network; the regions of least
# weight share one. Measured: examples/benchmarks/constants.py
MAX_GROUPS = 12
# Draws that an energy-based model is fitted to. Conventional.
ENERGY_DRAWS = 20_000


def build_generator(
    settings: LRDSSettings,
    fitted: RegionFit,
    local: RegionDraws,
    weights: np.ndarray,
    rng: np.random.Generator,
    density: LogDensity | None = None,
) -> PathGenerator:
    """Learn the reference from the pooled draws, and a control where it pays.

    Parameters
    ----------
    settings : LRDSSettings
    fitted : RegionFit
        Densities of the regions.
    local : RegionDraws
    weights : array of shape (K,)
        Weights of the regions.
    rng : numpy.random.Generator
    density : LogDensity, optional
        The target; without it a control is trained on the local draws alone.

    Returns
    -------
    PathGenerator
    """
    # The floor on the weights of this mixture keeps every region in the reference.
    defence = RegionalMixture(fitted.densities, weights)
    period = fitted.densities[0].period
    # Several threads are slower than one on matrices as small as these.
    with threadpool_limits(1, user_api="blas"):
        draws = SplitDraws.from_regions(local, defence.weights, period)
        frame = _frame(settings, draws.training, Windows(local.centre, period))
        mixture = _fit_mixture(settings, defence, draws, rng)
        chain, statuses = _reference_chain(
            settings, frame.reference(mixture, defence), frame, draws.training, density, rng
        )
        alternative = None
        if settings.reference == "gmm" and settings.components is None:
            plain = frame.reference(gaussian_per_region(draws.training), defence)
            alternative = frame.chain(_with_kernels(plain, settings))
        trained = add_control(settings, chain, alternative, draws, density, rng)
    return PathGenerator(
        trained.chain, defence, settings.defensive, statuses + trained.statuses, trained.training
    )


@dataclass(frozen=True, eq=False)
class _Frame:
    """What all references of one build have in common."""

    coordinates: AffineMap
    windows: Windows
    noising: Noising
    device: str

    def reference(self, mixture: GaussianMixture, regions: RegionalMixture) -> MixtureReference:
        """Make a reference of a mixture in x, its components grouped by region."""
        coordinates = self.coordinates
        in_z = mixture.in_coordinates(coordinates.origin, coordinates.factor)
        return MixtureReference(in_z, self.noising, _region_groups(mixture, regions))

    def chain(self, reference: ReferenceChain) -> ReverseChain:
        """Make the chain of a reference alone."""
        return ReverseChain(reference, self.coordinates, self.windows, device=self.device)


def _frame(settings: LRDSSettings, draws: PooledDraws, windows: Windows) -> _Frame:
    """Scale the modes to unit spread; for ``start="normal"`` scale the whole posterior instead."""
    mean, covariance = draws.moments(within_regions=settings.start == "reference")
    if settings.start == "reference":
        coordinates = AffineMap(mean, factor(covariance))
    else:
        d = len(mean)
        spread = np.sqrt((mean @ mean + np.trace(covariance)) / d)
        coordinates = AffineMap(np.zeros(d), spread * np.eye(d))
    noising = _noising(settings, coordinates.to_z(draws.x))
    return _Frame(coordinates, windows, noising, settings.network.device)


def _noising(settings: LRDSSettings, z: np.ndarray) -> Noising:
    """Noise levels in the coordinates of draws z, shape (n, d)."""
    if settings.process == "geometric":
        return geometric(settings.n_steps, settings.lowest_level, settings.max_noise)
    # The published process has unit variance where it starts from the standard normal.
    scale = 1.0 if settings.start == "normal" else float(np.sqrt(np.mean(z**2)))
    make = variance_preserving if settings.process == "variance-preserving" else pinned
    return make(settings.n_steps, scale=scale)


def _fit_mixture(
    settings: LRDSSettings,
    regions: RegionalMixture,
    draws: SplitDraws,
    rng: np.random.Generator,
) -> GaussianMixture:
    """Fit the mixture of the reference, in the coordinates of the model."""
    if settings.reference != "gaussian" and settings.components is None:
        joined = join_region_mixtures(regions.densities, regions.weights)
        return refine_mixture(joined, draws, rng)
    components = 1 if settings.components is None else settings.components
    return fit_pooled_mixture(draws.training, components, rng)


def _region_groups(mixture: GaussianMixture, regions: RegionalMixture) -> np.ndarray:
    """Region of each component, shape (J,); beyond `MAX_GROUPS` those of least weight share one."""
    logs = np.stack([q.log_density(mixture.means) for q in regions.densities], axis=1)
    rank = np.argsort(np.argsort(-regions.weights))
    _, group = np.unique(np.minimum(rank[logs.argmax(axis=1)], MAX_GROUPS - 1), return_inverse=True)
    return group


def _reference_chain(
    settings: LRDSSettings,
    reference: MixtureReference,
    frame: _Frame,
    draws: PooledDraws,
    density: LogDensity | None,
    rng: np.random.Generator,
) -> tuple[ReverseChain, tuple[Status, ...]]:
    """Make the chain that the settings ask for from the reference of a mixture.

    Where no energy-based model can be trained, it is the chain of the mixture, with a status.
    """
    if settings.reference != "ebm":
        return frame.chain(_with_kernels(reference, settings)), ()
    if density is not None and density.exhausted():
        cause = "a limit of the fit was reached"
    else:
        try:
            z = frame.coordinates.to_z(draws.x[draws.choose_rows(ENERGY_DRAWS, rng)])
            return frame.chain(fit_energy(reference, z, settings.energy, rng)), ()
        except (ImportError, RuntimeError, MemoryError) as error:
            _log.debug("training of the energy-based reference failed", exc_info=True)
            cause = first_line(error)
    return frame.chain(reference), (failed_training("energy-based reference", cause),)


def _with_kernels(reference: MixtureReference, settings: LRDSSettings) -> ReferenceChain:
    """Use the exact kernels of the reference, or the steps of the exponential integrator."""
    if settings.kernels == "exact":
        return reference
    gain, sd = exponential_steps(reference.noising)
    # The standard normal, once the signal (1 + c^2)^{-1/2} is divided out.
    normal = float(np.sqrt(1.0 + reference.noising.levels[-1] ** 2))
    start_sd = normal if settings.start == "normal" else None
    return SteppedReference(reference, gain, sd, start_sd=start_sd)
