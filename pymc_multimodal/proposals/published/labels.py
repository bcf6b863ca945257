"""Training-free labels: a reverse diffusion pairs normal noise with draws, no network trained.

All functions work on standardised data: mean zero and unit standard deviation per coordinate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from pymc_multimodal.status import FitError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "EmpiricalScore",
    "LabelledPairs",
    "MapError",
    "SmoothedScore",
    "labelled_pairs",
    "reverse_ode",
    "schedule",
]

# Noise left at time 0, and signal left at time 1.
FLOOR = 1e-4

# Entries of the largest matrix of exponents at a time: it has to stay in the cache.
BLOCK = 250_000


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
        ``alpha = 1 - (1 - FLOOR) t`` and ``beta2 = FLOOR + (1 - FLOOR) t``.

    Notes
    -----
    arXiv 2505.07825, section 3.3, with the floor of its authors' released code.
    """
    return 1.0 - (1.0 - FLOOR) * t, FLOOR + (1.0 - FLOOR) * t


class EmpiricalScore:
    """Score of the noised empirical distribution of draws.

    ``S(z, t) = -sum_j w_j (z - alpha x_j) / beta^2`` where w is the softmax over j of
    ``-|z - alpha x_j|^2 / (2 beta^2)``.

    Parameters
    ----------
    x : array of shape (J, d)
        Standardised draws.
    neighbours : int, optional
        Sum only over this many draws nearest to z, and let equally many others, picked once,
        stand for the rest: near time 1 all draws weigh about the same, and the nearest alone
        would pull outwards. None sums over all draws.
    rng : numpy.random.Generator, optional
        Picks those others; needed only with `neighbours`.

    Raises
    ------
    ValueError
        If the draws are not finite or not a matrix, or neighbours come without `rng`.

    Notes
    -----
    Equation 14 of arXiv 2505.07825. It is the exact score of a mixture with a narrow kernel on
    every draw, so that the reverse diffusion ends on the draws themselves.
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
            raise ValueError(f"neighbours={neighbours} needs rng, to pick what stands for the rest")
        self._search = NearestNeighbors(n_neighbors=neighbours).fit(self.x)
        self._others = rng.choice(len(self.x), size=neighbours, replace=False)

    def __call__(self, z: np.ndarray, t: float) -> np.ndarray:
        """Score at the rows of z at time t, both of shape (n, d)."""
        alpha, beta2 = schedule(t)
        mean = np.empty_like(z)
        rows = max(1, BLOCK // len(self.x))
        for i in range(0, len(z), rows):
            part = slice(i, i + rows)
            if self._search is None:
                mean[part] = self._mean(z[part], alpha, beta2)
            else:
                mean[part] = self._mean_of_neighbours(z[part], alpha, beta2)
        return (alpha * mean - z) / beta2

    def _mean(self, z: np.ndarray, alpha: float, beta2: float) -> np.ndarray:
        """Posterior mean of the draw behind each row, over all draws."""
        exponent = z @ (alpha / beta2 * self.x.T)
        exponent -= alpha**2 / beta2 * self._half_norm
        exponent -= exponent.max(axis=1, keepdims=True)
        share = np.exp(exponent, out=exponent)
        return (share @ self.x) / share.sum(axis=1, keepdims=True)

    def _mean_of_neighbours(self, z: np.ndarray, alpha: float, beta2: float) -> np.ndarray:
        """Compute the same from the nearest draws, and weighted others in place of the rest."""
        assert self._search is not None
        # |z - alpha x| is alpha |z / alpha - x|: the nearest to z / alpha weigh most.
        centre = z / alpha
        distance, near = self._search.kneighbors(centre)
        others = self.x[self._others]
        far = (
            np.einsum("nd,nd->n", centre, centre)[:, None]
            - 2.0 * centre @ others.T
            + 2.0 * self._half_norm[self._others]
        )
        # A draw that is a neighbour already must not stand for the rest as well.
        rest = far > distance[:, -1:] ** 2
        count = np.maximum(rest.sum(axis=1, keepdims=True), 1)
        stands_for = np.log((len(self.x) - self._others.size) / count)
        scale = -0.5 * alpha**2 / beta2
        exponent = np.concatenate(
            [scale * distance**2, np.where(rest, scale * far + stands_for, -np.inf)], axis=1
        )
        share = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        k = near.shape[1]
        mean = np.einsum("nk,nkd->nd", share[:, :k], self.x[near]) + share[:, k:] @ others
        return mean / share.sum(axis=1, keepdims=True)


class SmoothedScore:
    """Score of a noised Gaussian mixture, in closed form.

    A component ``N(m, C)`` is ``N(alpha m, alpha^2 C + beta^2 I)`` at time t.

    Parameters
    ----------
    weights : array of shape (J,)
    means : array of shape (J, d)
    covariances : array of shape (J, d, d)

    Notes
    -----
    The map of a mixture fitted to the draws is smooth, which the map of the empirical score is
    not: the same supervised network learns it.
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> None:
        self.means = np.asarray(means, dtype=float)
        self._log_weights = np.log(np.asarray(weights, dtype=float))
        self._variances, self._axes = np.linalg.eigh(np.asarray(covariances, dtype=float))

    def __call__(self, z: np.ndarray, t: float) -> np.ndarray:
        """Score at the rows of z at time t, both of shape (n, d)."""
        alpha, beta2 = schedule(t)
        logs, pulls = [], []
        for log_weight, mean, variance, axes in zip(
            self._log_weights, self.means, self._variances, self._axes, strict=True
        ):
            spread = alpha**2 * variance + beta2
            along = (z - alpha * mean) @ axes
            scaled = along / spread
            logs.append(
                log_weight - 0.5 * (np.log(spread).sum() + np.einsum("nd,nd->n", along, scaled))
            )
            pulls.append(scaled @ axes.T)
        exponent = np.stack(logs)
        exponent -= np.logaddexp.reduce(exponent, axis=0)
        return -np.einsum("jn,jnd->nd", np.exp(exponent), np.stack(pulls))


def reverse_ode(
    score: Callable[[np.ndarray, float], np.ndarray], y: np.ndarray, ode_steps: int
) -> np.ndarray:
    """Carry noise at time 1 to data at time 0 along the probability flow.

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
        Rows that diverge come back as NaN or far out; nothing is raised.

    Notes
    -----
    arXiv 2505.07825, section 3.3; integrator and number of steps of the released code are
    explicit Euler and 500 to 10,000.
    """
    z = np.array(y, dtype=float)
    rate, dt = 1.0 - FLOOR, 1.0 / ode_steps
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i in range(ode_steps):
            t = 1.0 - i * dt
            alpha, beta2 = schedule(t)
            b = -rate / alpha
            sigma2 = rate - 2.0 * b * beta2
            z -= dt * (b * z - 0.5 * sigma2 * score(z, t))
    return z


class LabelledPairs(NamedTuple):
    """Noise and the data it is carried to.

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
    *,
    far: float = 1e3,
    max_loss: float = 0.1,
) -> LabelledPairs:
    """Pairs of noise and data for the supervised regression.

    Parameters
    ----------
    score : callable
        `EmpiricalScore`, `SmoothedScore` or another ``score(z, t)``.
    n, d : int
        Number of pairs asked for, and of coordinates.
    rng : numpy.random.Generator
    ode_steps : int
        Steps of the reverse diffusion.
    far : float
        A label with a coordinate beyond this many standard deviations counts as diverged.
    max_loss : float
        Share of diverged paths that is tolerated.

    Returns
    -------
    LabelledPairs
        At most n pairs, `dropped` fewer.

    Raises
    ------
    MapError
        If more paths diverge than tolerated: what is left would be a biased selection.
    """
    y = rng.standard_normal((n, d))
    x = reverse_ode(score, y, ode_steps)
    with np.errstate(invalid="ignore"):
        good = (np.abs(x) < far).all(axis=1)
    dropped = int(n - good.sum())
    if dropped > max_loss * n:
        raise MapError(
            f"{dropped} of {n} paths of the reverse diffusion diverged in {ode_steps} steps.",
            "Raise ode_steps, and look for far outliers among the region's draws.",
        )
    return LabelledPairs(y[good], x[good], dropped)
