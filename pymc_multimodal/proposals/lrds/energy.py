"""Energy-based references: a mixture tilted by a network, learned at all noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, tweedie_steps

if TYPE_CHECKING:
    import torch

    from pymc_multimodal.proposals.lrds.reference import MixtureReference
    from pymc_multimodal.proposals.lrds.settings import EnergyNetwork

__all__ = ["fit_energy"]

# Draws whose paths tell the standard deviations of the steps: 1 % error of a deviation in one
# dimension. Conventional.
SD_DRAWS = 4000
# Largest squared deviation of one path, in units of the median of all, when the standard deviation
# of a step is taken: one wild score must not widen a step.
# Measured: examples/benchmarks/constants.py
MAX_SQUARED_DEVIATION = 10.0


def fit_energy(
    mixture: MixtureReference,
    z: np.ndarray,
    settings: EnergyNetwork,
    rng: np.random.Generator,
) -> SteppedReference:
    """Tilt a mixture, at every noise level but the highest, so that it fits draws.

    Parameters
    ----------
    mixture : MixtureReference
    z : array of shape (n, d)
        Draws in the coordinates of the mixture.
    settings : EnergyNetwork
    rng : numpy.random.Generator

    Returns
    -------
    SteppedReference
        Its steps go to the posterior mean that the score gives (Tweedie's formula). Their standard
        deviations are those of the draws about it.

    Notes
    -----
    Noble et al. (2025), arXiv 2410.19449: maximum likelihood at all levels together, with negative
    draws from persistent chains that exchange states between levels.
    """
    # torch takes a second to import, and is needed only here.
    from pymc_multimodal.proposals.lrds.energy_training import train_energy
    from pymc_multimodal.proposals.torch_setup import seeded, step_work, trained_on

    noising = mixture.noising
    scale = np.ones(noising.steps + 1)
    initial = Potential.random(z.shape[1], 1, settings.hidden, scale, rng)

    def train(device: torch.device) -> Potential:
        with seeded(rng, device):
            return train_energy(mixture, z, initial, settings, rng, device)

    rows = len(scale) * (settings.batch + (1 + settings.moves) * settings.chains)
    work = step_work(rows, (z.shape[1], settings.hidden, settings.hidden, 1))
    tilt = trained_on(settings.device, train, work)
    gain, sd = tweedie_steps(noising)
    reference = SteppedReference(mixture, gain, sd, tilt)
    return SteppedReference(mixture, gain, _step_sd(reference, z[:SD_DRAWS], rng), tilt)


def _step_sd(reference: SteppedReference, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the standard deviations, shape (K,), of paths about the means of the steps."""
    noising, gain = reference.noising, reference.gain
    path, sd = noising.forward(z, rng), np.empty(noising.steps)
    for k in range(noising.steps):
        mean = path[k + 1] + gain[k] * reference.score(k + 1, path[k + 1])
        square = np.mean((path[k] - mean) ** 2, axis=1)
        variance = np.mean(np.minimum(square, MAX_SQUARED_DEVIATION * np.median(square)))
        sd[k] = np.sqrt(min(variance, noising.added[k]))
    return sd
