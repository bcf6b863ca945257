"""References that go back by Gaussian steps along a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.reference import Features, MixtureReference, ReverseKernel

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.noising import Noising
    from pymc_multimodal.proposals.lrds.potential import Potential

__all__ = ["SteppedReference", "exponential_steps", "tweedie_steps"]


class SteppedReference:
    """A mixture with reverse kernels ``N(y + gain score(y), sd^2)``, tilted by an energy or not.

    Parameters
    ----------
    mixture : MixtureReference
    gain, sd : arrays of shape (K,)
        Factor of the score at level k + 1, and standard deviation of the step down to k.
    tilt : Potential, optional
        Log density of each level minus that of the noised mixture, as a function of the place
        divided by ``(1 + c^2)^{1/2}``. The start has none.
    start_sd : float, optional
        Standard deviation of a normal start; by default, the start is the noised mixture.
    """

    exact = False

    def __init__(
        self,
        mixture: MixtureReference,
        gain: np.ndarray,
        sd: np.ndarray,
        tilt: Potential | None = None,
        start_sd: float | None = None,
    ) -> None:
        self.mixture, self.gain, self.sd = mixture, gain, sd
        self.tilt, self.start_sd = tilt, start_sd
        self.noising: Noising = mixture.noising
        self.n_components = mixture.n_components
        self._dim = mixture.mixture.dim
        self._axes, self._origins = np.eye(self._dim)[None], np.zeros((1, self._dim))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Raise TypeError: draws of level 0 are not known in closed form."""
        raise TypeError("a reference that goes back by steps has no closed form to draw from")

    def start(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws at the highest noise level, shape (n, d)."""
        if self.start_sd is None:
            return self.mixture.start(n, rng)
        return self.start_sd * rng.standard_normal((n, self._dim))

    def log_start(self, y: np.ndarray) -> np.ndarray:
        """Log density of the start at points of shape (n, d)."""
        if self.start_sd is None:
            return self.mixture.log_start(y)
        constant = y.shape[1] * np.log(2 * np.pi * self.start_sd**2)
        return -0.5 * (np.sum(y**2, axis=1) / self.start_sd**2 + constant)

    def log_level(self, k: int, y: np.ndarray) -> np.ndarray:
        """Log density of the tilted mixture noised to level k, up to a constant, shape (n,)."""
        return self.mixture.log_level(k, y) + self._tilt(k, y)[0]

    def features(self, k: int, y: np.ndarray) -> Features:
        """Features of the mixture."""
        return self.mixture.features(k, y)

    def score(self, k: int, y: np.ndarray) -> np.ndarray:
        """Gradient of `log_level`, shape (n, d)."""
        return self.mixture.at_level(k).score(y) + self._tilt(k, y)[1]

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        return ReverseKernel(
            log_weights=np.zeros((len(y), 1)),
            means_along=(y + self.gain[k] * self.score(k + 1, y))[None],
            sd=np.full((1, y.shape[1]), self.sd[k]),
            axes=self._axes,
            origins=self._origins,
            features=self.features(k + 1, y),
        )

    def control_maps(self) -> np.ndarray:
        """Return the maps of gradients in whitened places to shifts of the kernels.

        A potential adds its gradient to the score. Shape (K, G, d, d).
        """
        return np.stack([
            self.gain[k] / self.sd[k] * self.mixture.group_roots(k + 1)
            for k in range(self.noising.steps)
        ])  # fmt: skip

    def _tilt(self, k: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value (n,) and gradient (n, d) of the tilt at level k."""
        if self.tilt is None or k == self.noising.steps:
            return np.zeros(len(y)), np.zeros_like(y)
        scale = np.sqrt(1.0 + self.noising.levels[k] ** 2)
        value, gradient = self.tilt(Features(y / scale, np.ones((len(y), 1))), k)
        return value, gradient / scale


def tweedie_steps(noising: Noising) -> tuple[np.ndarray, np.ndarray]:
    r"""Gains and standard deviations of steps to the posterior mean, shapes (K,).

    By Tweedie's formula :math:`E[X_k \mid y] = y + (c_{k+1}^2 - c_k^2) s_{k+1}(y)`. The variance
    is that of a law so wide that only the noise counts.
    """
    return noising.added, np.sqrt(noising.added)


def exponential_steps(noising: Noising) -> tuple[np.ndarray, np.ndarray]:
    r"""Gains and standard deviations of the exponential integrator, shapes (K,).

    In the variance-preserving coordinates, with :math:`1 + \lambda` the squared ratio of the
    signals of two levels,

    .. math:: Y' = (1 + \lambda)^{1/2} Y + 2 ((1 + \lambda)^{1/2} - 1) s(Y) + \lambda^{1/2} Z.

    Notes
    -----
    As in the authors' code for arXiv 2410.19449; here the signal is divided out.
    """
    signal = 1.0 / np.sqrt(1.0 + noising.levels**2)
    ratio = signal[:-1] / signal[1:]
    gain = 2.0 * (ratio - 1.0) / (signal[:-1] * signal[1:])
    return gain, np.sqrt(ratio**2 - 1.0) / signal[:-1]
