"""Energy-based references: a mixture tilted by a network, learned over all noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.lrds.stepped import SteppedReference, tweedie_steps

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.reference import MixtureReference

__all__ = ["EnergyNetwork", "fit_energy"]


@dataclass(frozen=True)
class EnergyNetwork:
    """Settings of the training of an energy-based reference.

    Parameters
    ----------
    hidden : int
        Width of both hidden layers.
    steps : int
        Steps of Adam.
    batch : int
        Draws of each noise level in one step.
    chains : int
        Persistent chains at each noise level, which give the negative draws.
    moves : int
        Langevin moves of the chains for each step.
    learning_rate : float
    device : str
        "cpu", "cuda", another name torch knows, or "auto" for "cuda" where there is one.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    hidden: int = 128
    steps: int = 1000
    batch: int = 32
    chains: int = 32
    moves: int = 2
    learning_rate: float = 3e-3
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("hidden", "steps", "batch", "chains", "moves"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"EnergyNetwork({name}={value!r}) must be a positive integer.")
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, Real) or not float(rate) > 0:
            raise ValueError(f"EnergyNetwork(learning_rate={rate!r}) must be a positive number.")
        check_device("EnergyNetwork", "device", self.device)


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
        Draws in the mixture's frame.
    settings : EnergyNetwork
    rng : numpy.random.Generator

    Returns
    -------
    SteppedReference
        Its steps go to the posterior mean that the score gives (Tweedie); their standard
        deviations are those of the draws about it.

    Notes
    -----
    Noble et al. (2025), arXiv 2410.19449: maximum likelihood at all levels together, negative
    draws from persistent chains that exchange places between levels.
    """
    from pymc_multimodal.proposals.lrds.energy_training import train_energy
    from pymc_multimodal.proposals.torch_setup import device_of, seeded

    noising = mixture.noising
    first = Potential.random(z.shape[1], 1, settings.hidden, np.ones(noising.steps + 1), rng)
    device = device_of(settings.device)
    with seeded(rng, device):
        tilt = train_energy(mixture, z, first, settings, rng, device)
    gain, sd = tweedie_steps(noising)
    reference = SteppedReference(mixture, gain, sd, tilt)
    path = noising.forward(z[:4000], rng)
    for k in range(noising.steps):
        mean = path[k + 1] + gain[k] * reference.score(k + 1, path[k + 1])
        # Means are compared at a robust level: one wild score must not widen a step.
        square = np.mean((path[k] - mean) ** 2, axis=1)
        usual = np.mean(np.minimum(square, 10 * np.median(square)))
        sd[k] = np.sqrt(min(usual, noising.added[k]))
    return SteppedReference(mixture, gain, sd, tilt)
