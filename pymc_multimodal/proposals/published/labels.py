"""Labels without training: a reverse diffusion pairs normal noise with draws.

All functions work on standardised data: mean zero and unit standard deviation per coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pymc_multimodal.status import FitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.neighbors import NearestNeighbors

    from pymc_multimodal.proposals.mixture import GaussianMixture

__all__ = [
    "EmpiricalScore",
    "LabelledPairs",
    "MapError",
    "SmoothedScore",
    "labelled_pairs",
    "reverse_ode",
    "schedule",
]

# Variance of the noise left at time 0, and signal left at time 1: those of the released code of
# arXiv 2505.07825.
LEAST_NOISE = 1e-4
# Numbers in the largest matrix of exponents: 2 MB in double precision, the size of a processor
# core's cache. The number changes no result.
MAX_EXPONENTS = 250_000
# Standard deviations beyond which a label counts as diverged, and share of diverged paths that is
# tolerated. Measured: examples/benchmarks/constants.py
DIVERGED_DISTANCE, MAX_DIVERGED = 1e3, 0.1


class MapError(FitError):
    """No map could be learned for a region.

    Parameters
    ----------
    cause, remedy : str
        What was seen, and what the user can do about it; one line each.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause, self.remedy = cause, remedy

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


def schedule(t: float) -> tuple[float, float]:
    """Signal and noise of the forward diffusion at time t, from data (0) to noise (1).

    Parameters
    ----------
    t : float
        Between 0 and 1.

    Returns
    -------
    alpha, beta2 : float
        ``z(t) = alpha x + sqrt(beta2) e`` with e standard normal:
        ``alpha = 1 - (1 - LEAST_NOISE) t`` and ``beta2 = LEAST_NOISE + (1 - LEAST_NOISE) t``.

    Notes
    -----
    arXiv 2505.07825, section 3.3, with the least noise of its authors' released code.
    """
    return 1.0 - (1.0 - LEAST_NOISE) * t, LEAST_NOISE + (1.0 - LEAST_NOISE) * t


class EmpiricalScore:
    """Score of the noised empirical distribution of draws.

    ``S(z, t) = -sum_j w_j (z - alpha x_j) / beta^2`` where w is the softmax over j of
    ``-|z - alpha x_j|^2 / (2 beta^2)``.

    Parameters
    ----------
    x : array of shape (J, d)
        Standardised draws.
    neighbours : int, optional
        The sum is over this many draws nearest to z, and over equally many others, chosen once,
        that represent all the rest: near time 1 all draws have about the same weight, and a sum
        over the nearest alone would point outwards. None is the sum over all draws.
    rng : numpy.random.Generator, optional
        Chooses the others; needed only with `neighbours`.

    Raises
    ------
    ValueError
        If the draws are not finite or not a matrix, or neighbours come without `rng`.

    Notes
    -----
    Equation 14 of arXiv 2505.07825. It is the exact score of a mixture with a narrow kernel on
    every draw: the reverse diffusion ends on the draws themselves.
    """

    def __init__(
        self,
        x: np.ndarray,
        neighbours: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.x = np.ascontiguousarray(x, dtype=float)
        if self.x.ndim != 2 or not len(self.x) or not np.isfinite(self.x).all():
            raise ValueError(
                f"x of shape {np.shape(x)} must be a matrix of at least one draw, all finite."
            )
        self._half_norm = 0.5 * np.einsum("jd,jd->j", self.x, self.x)
        self._search: NearestNeighbors | None = None
        if neighbours is None or 2 * neighbours >= len(self.x):
            return
        if rng is None:
            raise ValueError(
                f"neighbours={neighbours} needs rng, to choose the draws that represent the rest."
            )
        # Only here: scikit-learn takes a second to import.
        from sklearn.neighbors import NearestNeighbors

        self._search = NearestNeighbors(n_neighbors=neighbours).fit(self.x)
        self._others = rng.choice(len(self.x), size=neighbours, replace=False)

    def __call__(self, z: np.ndarray, t: float) -> np.ndarray:
        """Score at the rows of z at time t, both of shape (n, d)."""
        alpha, beta2 = schedule(t)
        mean = np.empty_like(z)
        rows = max(1, MAX_EXPONENTS // len(self.x))
        for i in range(0, len(z), rows):
            part = slice(i, i + rows)
            if self._search is None:
                mean[part] = self._mean(z[part], alpha, beta2)
            else:
                mean[part] = self._mean_of_neighbours(z[part], alpha, beta2)
        return (alpha * mean - z) / beta2

    def _mean(self, z: np.ndarray, alpha: float, beta2: float) -> np.ndarray:
        """Posterior mean of the draw that each row is a noised version of, over all draws."""
        exponent = z @ (alpha / beta2 * self.x.T)
        exponent -= alpha**2 / beta2 * self._half_norm
        exponent -= exponent.max(axis=1, keepdims=True)
        share = np.exp(exponent, out=exponent)
        return (share @ self.x) / share.sum(axis=1, keepdims=True)

    def _mean_of_neighbours(self, z: np.ndarray, alpha: float, beta2: float) -> np.ndarray:
        """Compute the same from the nearest draws, and others with the weight of the rest."""
        assert self._search is not None
        # |z - alpha x| = alpha |z / alpha - x|: the draws nearest to z / alpha have most weight.
        centre = z / alpha
        distance, near = self._search.kneighbors(centre)
        others = self.x[self._others]
        far = (
            np.einsum("nd,nd->n", centre, centre)[:, None]
            - 2.0 * centre @ others.T
            + 2.0 * self._half_norm[self._others]
        )
        # A draw that is a neighbour already must not represent the rest as well.
        rest = far > distance[:, -1:] ** 2
        count = np.maximum(rest.sum(axis=1, keepdims=True), 1)
        log_number = np.log((len(self.x) - self._others.size) / count)
        scale = -0.5 * alpha**2 / beta2
        exponent = np.concatenate(
            [scale * distance**2, np.where(rest, scale * far + log_number, -np.inf)], axis=1
        )
        share = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        k = near.shape[1]
        mean = np.einsum("nk,nkd->nd", share[:, :k], self.x[near]) + share[:, k:] @ others
        return mean / share.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class SmoothedScore:
    """Score of a noised Gaussian mixture, in closed form.

    A component ``N(m, C)`` is ``N(alpha m, alpha^2 C + beta^2 I)`` at time t.

    Parameters
    ----------
    mixture : GaussianMixture

    Notes
    -----
    The map of a mixture fitted to the draws is smooth, and the supervised network can learn it.
    The map of the empirical score is not smooth.
    """

    mixture: GaussianMixture

    def __call__(self, z: np.ndarray, t: float) -> np.ndarray:
        """Score at the rows of z at time t, both of shape (n, d)."""
        alpha, beta2 = schedule(t)
        return self.mixture.noised(beta2, alpha).score(z)


def reverse_ode(
    score: Callable[[np.ndarray, float], np.ndarray], y: np.ndarray, ode_steps: int
) -> np.ndarray:
    """Transport noise at time 1 to data at time 0 along the probability flow.

    ``dz/dt = b z - sigma^2 S(z, t) / 2`` with ``b = d log alpha / dt`` and
    ``sigma^2 = d beta^2 / dt - 2 b beta^2``, by explicit Euler on equal steps.

    Parameters
    ----------
    score : callable
        ``score(z, t)`` of shape (n, d).
    y : array of shape (n, d)
        Standard normal noise.
    ode_steps : int

    Returns
    -------
    array of shape (n, d)
        Rows that diverge are NaN or far out; nothing is raised.

    Notes
    -----
    arXiv 2505.07825, section 3.3; integrator and number of steps of the released code are
    explicit Euler and 500 to 10,000.
    """
    z = np.array(y, dtype=float)
    rate, dt = 1.0 - LEAST_NOISE, 1.0 / ode_steps
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i in range(ode_steps):
            t = 1.0 - i * dt
            alpha, beta2 = schedule(t)
            b = -rate / alpha
            sigma2 = rate - 2.0 * b * beta2
            z -= dt * (b * z - 0.5 * sigma2 * score(z, t))
    return z


class LabelledPairs(NamedTuple):
    """Noise, and the data that it is transported to.

    Attributes
    ----------
    y, x : arrays of shape (n, d)
        Inputs and labels of the supervised regression.
    dropped : int
        Pairs left out because their path diverged.
    """

    y: np.ndarray
    x: np.ndarray
    dropped: int


def labelled_pairs(
    score: Callable[[np.ndarray, float], np.ndarray],
    n: int,
    d: int,
    rng: np.random.Generator,
    ode_steps: int,
) -> LabelledPairs:
    """Pairs of noise and data for the supervised regression.

    Parameters
    ----------
    score : callable
        `EmpiricalScore`, `SmoothedScore` or another ``score(z, t)``.
    n, d : int
        Number of pairs, and of coordinates.
    rng : numpy.random.Generator
    ode_steps : int
        Steps of the reverse diffusion.

    Returns
    -------
    LabelledPairs
        `dropped` fewer than n pairs.

    Raises
    ------
    MapError
        If more than the share `MAX_DIVERGED` of the paths diverge: the others would be a biased
        selection.
    """
    y = rng.standard_normal((n, d))
    x = reverse_ode(score, y, ode_steps)
    with np.errstate(invalid="ignore"):
        good = (np.abs(x) < DIVERGED_DISTANCE).all(axis=1)
    dropped = int(n - good.sum())
    if dropped > MAX_DIVERGED * n:
        raise MapError(
            f"{dropped} of {n} paths of the reverse diffusion diverged in {ode_steps} steps.",
            "Raise ode_steps, and look for far outliers among the region's draws.",
        )
    return LabelledPairs(y[good], x[good], dropped)
