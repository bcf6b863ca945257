"""References that go back by Gaussian steps along a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.reference import MixtureReference, ReverseKernel

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.noising import Noising
    from pymc_multimodal.proposals.lrds.potential import Potential

__all__ = ["SteppedReference", "exponential_steps", "tweedie_steps"]


class SteppedReference:
    """A mixture, tilted by an energy if there is one, with reverse kernels ``N(y + g s, sd^2)``.

    Parameters
    ----------
    mixture : MixtureReference
    gain, sd : arrays of shape (K,)
        Factor of the score at level k + 1, and standard deviation of the step down to k.
    tilt : Potential, optional
        Log density of each level over that of the noised mixture, as a function of the place
        divided by ``(1 + c^2)^{1/2}``. The start has none.
    normal : float, optional
        Standard deviation of a normal start; by default it is the noised mixture.
    """

    exact = False

    def __init__(
        self,
        mixture: MixtureReference,
        gain: np.ndarray,
        sd: np.ndarray,
        tilt: Potential | None = None,
        normal: float | None = None,
    ) -> None:
        self.mixture, self.gain, self.sd = mixture, gain, sd
        self.tilt, self.normal = tilt, normal
        self.noising: Noising = mixture.noising
        self.n_components = mixture.n_components
        d = mixture.means.shape[1]
        self._turns, self._means = np.eye(d)[None], np.zeros((1, d))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Not known in closed form."""
        raise TypeError("a reference that goes back by steps has no closed form to draw from")

    def start(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws at the highest noise level, shape (n, d)."""
        if self.normal is None:
            return self.mixture.start(n, rng)
        return self.normal * rng.standard_normal((n, self.mixture.means.shape[1]))

    def log_start(self, y: np.ndarray) -> np.ndarray:
        """Log density of the start at points of shape (n, d)."""
        if self.normal is None:
            return self.mixture.log_start(y)
        constant = y.shape[1] * np.log(2 * np.pi * self.normal**2)
        return -0.5 * (np.sum(y**2, axis=1) / self.normal**2 + constant)

    def log_level(self, k: int, y: np.ndarray) -> np.ndarray:
        """Log density of the tilted mixture noised to level k, up to a constant."""
        return self.mixture.log_level(k, y) + self._tilt(k, y)[0]

    def features(self, k: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features of the mixture."""
        return self.mixture.features(k, y)

    def score(self, k: int, y: np.ndarray) -> np.ndarray:
        """Gradient of `log_level`, shape (n, d)."""
        return self.mixture.score(y, self.noising.levels[k]) + self._tilt(k, y)[1]

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        h, share = self.features(k + 1, y)
        return ReverseKernel(
            log_share=np.zeros((len(y), 1)),
            middle=(y + self.gain[k] * self.score(k + 1, y))[None],
            sd=np.full((1, y.shape[1]), self.sd[k]),
            turns=self._turns,
            means=self._means,
            h=h,
            share=share,
        )

    def control_maps(self) -> np.ndarray:
        """From gradients in h to shifts of the kernels, shape (K, G, d, d).

        A potential adds its gradient to the score.
        """
        return np.stack([
            self.gain[k] / self.sd[k] * self.mixture.group_roots(above)
            for k, above in enumerate(self.noising.levels[1:])
        ])  # fmt: skip

    def _tilt(self, k: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.tilt is None or k == self.noising.steps:
            return np.zeros(len(y)), np.zeros_like(y)
        scale = np.sqrt(1.0 + self.noising.levels[k] ** 2)
        value, slope = self.tilt(y / scale, np.ones((len(y), 1)), k)
        return value, slope / scale


def tweedie_steps(noising: Noising) -> tuple[np.ndarray, np.ndarray]:
    r"""Gains and standard deviations of steps to the posterior mean, shapes (K,).

    By Tweedie's formula :math:`E[X_k \mid y] = y + (c_{k+1}^2 - c_k^2) s_{k+1}(y)`; the variance
    is that of a law so wide that the noise alone matters.
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
