"""Gaussian mixtures: one record for all proposals, and one fit by expectation maximisation.

The record holds lower-triangular factors. What else a use needs (inverse factors, covariances,
precisions, eigenvectors) is computed on first use and kept.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GaussianMixture", "MixtureError", "NoisedMixture", "fit_em", "normalised"]

# Rows whose pulls towards all components are computed together; conventional. The number bounds
# the memory (rows x components x dimensions) and changes no result.
CHUNK_ROWS = 2048
# Variances along eigenvectors are at least this share of the largest of all components: 1e4 times
# the rounding error of a symmetric eigenvalue (2.2e-16 of the largest). Below it, signs are noise.
LEAST_RELATIVE_VARIANCE = 1e-12


class MixtureError(ValueError):
    """No mixture could be fitted to the draws; the message says why."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""Mixture of J Gaussians in d dimensions, :math:`\sum_j w_j N(\mu_j, L_j L_j')`.

    Parameters
    ----------
    weights : array of shape (J,)
        Positive; their sum is one.
    means : array of shape (J, d)
    factors : array of shape (J, d, d)
        Lower-triangular factors L of the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    @classmethod
    def from_covariances(
        cls, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
    ) -> GaussianMixture:
        """Mixture with covariances of shape (J, d, d).

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance is not positive definite.
        """
        return cls(weights, means, np.linalg.cholesky(covariances))

    @classmethod
    def single(cls, mean: np.ndarray, factor: np.ndarray) -> GaussianMixture:
        """One Gaussian, of a mean of shape (d,) and a factor of shape (d, d)."""
        return cls(np.ones(1), mean[None], factor[None])

    @property
    def n_components(self) -> int:
        """Number J of components."""
        return len(self.weights)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.means.shape[1]

    @cached_property
    def inverse_factors(self) -> np.ndarray:
        """Inverse factors, lower-triangular, shape (J, d, d)."""
        unit = np.eye(self.dim)
        return np.stack([solve_triangular(f, unit, lower=True) for f in self.factors])

    @cached_property
    def covariances(self) -> np.ndarray:
        """Covariances, shape (J, d, d)."""
        out: np.ndarray = self.factors @ self.factors.swapaxes(1, 2)
        return out

    @cached_property
    def precisions(self) -> np.ndarray:
        """Inverse covariances, shape (J, d, d)."""
        out: np.ndarray = self.inverse_factors.swapaxes(1, 2) @ self.inverse_factors
        return out

    @cached_property
    def log_volumes(self) -> np.ndarray:
        """Log determinants of the factors, shape (J,)."""
        out: np.ndarray = np.log(np.abs(np.diagonal(self.factors, axis1=1, axis2=2))).sum(axis=1)
        return out

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances (J, d) along the eigenvectors of the covariances, and these (J, d, d).

        Eigenvectors are columns. No variance is below `LEAST_RELATIVE_VARIANCE` times the largest.
        """
        variances, axes = np.linalg.eigh(self.covariances)
        return np.maximum(variances, LEAST_RELATIVE_VARIANCE * variances.max()), axes

    @cached_property
    def _log_constants(self) -> np.ndarray:
        """Log of weight times peak density of each component, shape (J,)."""
        norm = -0.5 * self.dim * np.log(2 * np.pi)
        out: np.ndarray = np.log(self.weights) + norm - self.log_volumes
        return out

    def squared_radii(self, x: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances of points of shape (n, d) to the means, shape (J, n)."""
        out = np.empty((self.n_components, len(x)))
        # One component after the other: all at once would take J times the memory of the draws.
        for j, (mean, inverse) in enumerate(zip(self.means, self.inverse_factors, strict=True)):
            z = (x - mean) @ inverse.T
            out[j] = np.einsum("ni,ni->n", z, z)
        return out

    def log_parts(self, x: np.ndarray) -> np.ndarray:
        """Log of weight times density of each component at points (n, d), shape (n, J)."""
        return (-0.5 * self.squared_radii(x) + self._log_constants[:, None]).T

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points of shape (n, d), shape (n,)."""
        # For the few rows of one step of the chains, 100 times quicker than SciPy's logsumexp.
        return np.logaddexp.reduce(self.log_parts(x), axis=1)

    def responsibilities(self, x: np.ndarray) -> np.ndarray:
        """Probability of each component given points of shape (n, d), shape (n, J)."""
        return normalised(self.log_parts(x))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Gradient of the log density at points of shape (n, d), shape (n, d)."""
        return np.concatenate([self._score(rows)[0] for rows in _chunks(x)])

    def laplacian(self, x: np.ndarray) -> np.ndarray:
        r"""Laplacian of the log density at points of shape (n, d), shape (n,).

        .. math:: \sum_j r_j (|p_j|^2 - \mathrm{tr} P_j) - |s|^2

        with responsibilities r, pulls :math:`p_j = P_j (\mu_j - x)`, precisions P and score s.
        """
        traces = np.trace(self.precisions, axis1=1, axis2=2)
        out = []
        for rows in _chunks(x):
            score, share, pulls = self._score(rows)
            curvature = np.einsum("nji,nji->nj", pulls, pulls) - traces
            out.append(np.sum(share * curvature, axis=1) - np.sum(score**2, axis=1))
        return np.concatenate(out)

    def _score(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score (n, d), responsibilities (n, J) and pulls ``P_j (mean_j - x)`` (n, J, d)."""
        n, d = x.shape
        radii, pulls = np.empty((n, self.n_components)), np.empty((n, self.n_components, d))
        for j, (mean, precision) in enumerate(zip(self.means, self.precisions, strict=True)):
            step = mean - x
            pulls[:, j] = step @ precision
            radii[:, j] = np.einsum("ni,ni->n", step, pulls[:, j])
        share = normalised(self._log_constants - 0.5 * radii)
        return np.einsum("nj,nji->ni", share, pulls), share, pulls

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, shape (n, d)."""
        return self.sample_labelled(n, rng)[0]

    def sample_labelled(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Independent draws of shape (n, d), and the component of each, shape (n,)."""
        component = rng.choice(self.n_components, size=n, p=self.weights)
        noise = rng.standard_normal((n, self.dim))
        x = np.empty_like(noise)
        for j in np.unique(component):
            rows = component == j
            x[rows] = self.means[j] + noise[rows] @ self.factors[j].T
        return x, component

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d) of the whole mixture."""
        mean = self.weights @ self.means
        step = self.means - mean
        # The factors side by side: one product of matrices in place of a sum over components.
        roots = np.sqrt(self.weights)[:, None, None] * self.factors
        root = np.concatenate([*roots, (np.sqrt(self.weights)[:, None] * step).T], axis=1)
        return mean, root @ root.T

    def take(self, rows: np.ndarray) -> GaussianMixture:
        """Mixture of the components `rows` alone (indices or flags), weights normalised."""
        weights = self.weights[rows]
        return GaussianMixture(weights / weights.sum(), self.means[rows], self.factors[rows])

    def affine_image(self, shift: np.ndarray, matrix: np.ndarray) -> GaussianMixture:
        """Distribution of ``shift + matrix x``; shapes (e,) and (e, d), rank e."""
        means = shift + self.means @ matrix.T
        return GaussianMixture(self.weights, means, _lower_triangular(matrix @ self.factors))

    def in_coordinates(self, origin: np.ndarray, basis: np.ndarray) -> GaussianMixture:
        """Distribution of z where ``x = origin + basis z``; shapes (d,) and (d, d), rank d."""
        means = np.linalg.solve(basis, (self.means - origin).T).T
        factors = np.linalg.solve(basis, self.factors)
        return GaussianMixture(self.weights, means, _lower_triangular(factors))

    def noised(self, variance: float, signal: float = 1.0) -> NoisedMixture:
        """Distribution of ``signal x + sqrt(variance) e``, e standard normal."""
        return NoisedMixture(self, float(variance), float(signal))


@dataclass(frozen=True, eq=False)
class NoisedMixture:
    r"""Distribution of ``signal x + sqrt(variance) e``, x from a mixture and e standard normal.

    Component j is :math:`N(a \mu_j, a^2 \Sigma_j + v I)`. Its covariance has the eigenvectors of
    :math:`\Sigma_j`, so that nothing is factorised anew for another level of noise. Factors of the
    mixture may be zero: its components are then points.

    Parameters
    ----------
    mixture : GaussianMixture
    variance : float
        Variance v of the noise.
    signal : float
        Factor a of the draws.
    """

    mixture: GaussianMixture
    variance: float
    signal: float = 1.0

    @property
    def variances(self) -> np.ndarray:
        """Variances along the eigenvectors, shape (J, d)."""
        return self.signal**2 * self.mixture.spectrum[0] + self.variance

    def along_axes(self, y: np.ndarray) -> np.ndarray:
        """Coordinates of points (n, d) along each component's eigenvectors, shape (J, n, d)."""
        out: np.ndarray = (y - self.signal * self.mixture.means[:, None]) @ self.mixture.spectrum[1]
        return out

    def log_parts(self, y: np.ndarray) -> np.ndarray:
        """Log of weight times density of each component at points (n, d), shape (n, J)."""
        return self.log_parts_along(self.along_axes(y))

    def log_parts_along(self, along: np.ndarray) -> np.ndarray:
        """As `log_parts`, from `along_axes`."""
        variances = self.variances
        square = np.einsum("jnd,jnd->jn", along, along / variances[:, None])
        log_peak = np.log(variances).sum(axis=1) + along.shape[2] * np.log(2 * np.pi)
        out: np.ndarray = np.log(self.mixture.weights) - 0.5 * (square.T + log_peak)
        return out

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density at points of shape (n, d), shape (n,)."""
        return np.logaddexp.reduce(self.log_parts(y), axis=1)

    def score(self, y: np.ndarray) -> np.ndarray:
        """Gradient of the log density at points of shape (n, d), shape (n, d)."""
        along = self.along_axes(y)
        share = normalised(self.log_parts_along(along))
        pulls = (along / self.variances[:, None]) @ self.mixture.spectrum[1].swapaxes(1, 2)
        out: np.ndarray = -np.einsum("nj,jni->ni", share, pulls)
        return out

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, shape (n, d)."""
        mixture, sd, axes = self.mixture, np.sqrt(self.variances), self.mixture.spectrum[1]
        component = rng.choice(mixture.n_components, size=n, p=mixture.weights)
        noise = rng.standard_normal((n, mixture.dim))
        y = np.empty_like(noise)
        for j in np.unique(component):
            rows = component == j
            y[rows] = self.signal * mixture.means[j] + (noise[rows] * sd[j]) @ axes[j].T
        return y


def fit_em(
    x: np.ndarray,
    n_components: int,
    *,
    floor: float,
    init: Literal["kmeans", "k-means++"] | GaussianMixture,
    iterations: int,
    rng: np.random.Generator,
    shape: Literal["full", "tied", "diag"] = "full",
) -> GaussianMixture:
    """Fit a Gaussian mixture to draws by expectation maximisation.

    Parameters
    ----------
    x : array of shape (n, d)
        Draws in coordinates of unit spread, in which `floor` has a meaning.
    n_components : int
    floor : float
        Ridge: the variance that is added to the diagonal of every covariance in every iteration
        (scikit-learn's ``reg_covar``), in squared units of x. The likelihood is unbounded where a
        component shrinks onto one draw; the floor bounds it. It also is the smallest variance that
        can be found, so that the caller knows its value: well above the spacing of the draws where
        components start at random, and negligible where they start from a good fit.
    init : {"kmeans", "k-means++"} or GaussianMixture
        Where the components start: clusters, single draws far from one another, or a mixture of
        `n_components` components.
    iterations : int
        Most iterations; a fit that has not converged then is used as it is.
    rng : numpy.random.Generator
        One integer is drawn from it, as scikit-learn's seed.
    shape : {"full", "tied", "diag"}
        Covariances: any, the same for all components, or diagonal.

    Returns
    -------
    GaussianMixture

    Raises
    ------
    MixtureError
        If a component lost its draws, there are fewer draws than components, or draws are not
        finite.
    """
    # Only here: scikit-learn takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Model

    start: dict[str, object] = {"init_params": init}
    if isinstance(init, GaussianMixture):
        start = {
            "weights_init": init.weights,
            "means_init": init.means,
            "precisions_init": init.precisions,
        }
    model = Model(
        n_components,
        covariance_type=shape,
        reg_covar=floor,
        max_iter=iterations,
        random_state=int(rng.integers(2**31)),
        **start,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(x)
        except ValueError as error:
            raise MixtureError(
                f"no mixture of {counted(n_components, 'component')} could be fitted to "
                f"{counted(len(x), 'draw')} in {counted(x.shape[1], 'dimension')}: {error}"
            ) from error
    covariances = model.covariances_
    if shape == "tied":
        covariances = np.stack([covariances] * n_components)
    elif shape == "diag":
        covariances = covariances[:, :, None] * np.eye(x.shape[1])
    return GaussianMixture.from_covariances(model.weights_, model.means_, covariances)


def normalised(log_parts: np.ndarray) -> np.ndarray:
    """Shares in proportion to ``exp(log_parts)`` whose sum over the last axis is one."""
    share: np.ndarray = np.exp(log_parts - log_parts.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    return share


def _lower_triangular(factors: np.ndarray) -> np.ndarray:
    """Lower-triangular L with ``L L' = F F'`` for factors F of shape (J, e, d), e <= d."""
    if factors.shape[1] == factors.shape[2] and not np.triu(factors, 1).any():
        return factors
    upper = np.asarray(np.linalg.qr(factors.swapaxes(1, 2), mode="r"))
    sign = np.where(np.diagonal(upper, axis1=1, axis2=2) < 0, -1.0, 1.0)
    lower: np.ndarray = (upper * sign[:, :, None]).swapaxes(1, 2)
    return lower


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, max(len(x), 1), CHUNK_ROWS):
        yield x[first : first + CHUNK_ROWS]
