"""References of the diffusion sampler: where a reverse chain starts, and its reverse kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.noising import Noising
    from pymc_multimodal.proposals.mixture import GaussianMixture, NoisedMixture

__all__ = ["Features", "MixtureReference", "ReferenceChain", "ReverseKernel", "log_kernel_density"]


class Features(NamedTuple):
    """What a control is told of points at one noise level.

    Attributes
    ----------
    whitened : array of shape (n, d)
        Place of the points, whitened by the groups of components that they may come from.
    responsibility : array of shape (n, G)
        Probability of each group given the point.
    """

    whitened: np.ndarray
    responsibility: np.ndarray


@dataclass(frozen=True, eq=False)
class ReverseKernel:
    """Distributions of n points one step back: Gaussian mixtures, each with a shift to be added.

    Component j has the symmetric root ``S_j = U_j diag(sd_j) U_j'`` of its covariance. A shift is
    given in units of that root, and is the same for all components.

    Attributes
    ----------
    log_weights : array of shape (n, J)
        Log weights of the components.
    means_along : array of shape (J, n, d)
        Their means relative to `origins`, as coordinates along `axes`.
    sd : array of shape (J, d)
        Their standard deviations along `axes`.
    axes : array of shape (J, d, d)
        Orthogonal matrices U_j; axes are columns.
    origins : array of shape (J, d)
    features : Features
        Features of the points that the step starts from.
    """

    log_weights: np.ndarray
    means_along: np.ndarray
    sd: np.ndarray
    axes: np.ndarray
    origins: np.ndarray
    features: Features

    def sample(self, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw for each point, shape (n, d), with shifts of shape (n, d)."""
        n, d = shift.shape
        cumulative = np.cumsum(np.exp(self.log_weights), axis=1)
        component = (cumulative < cumulative[:, -1:] * rng.random((n, 1))).sum(axis=1)
        noise = rng.standard_normal((n, d))
        x = np.empty((n, d))
        for j in np.unique(component):
            rows = component == j
            step = self.sd[j] * (noise[rows] + shift[rows] @ self.axes[j])
            x[rows] = self.origins[j] + (self.means_along[j, rows] + step) @ self.axes[j].T
        return x

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """``S_j^{-1} (x - mean_j)`` for points of shape (n, d), shape (n, J, d)."""
        along = (x - self.origins[:, None]) @ self.axes
        scaled = (along - self.means_along) / self.sd[:, None]
        return (scaled @ self.axes.swapaxes(1, 2)).swapaxes(0, 1)

    @property
    def log_constants(self) -> np.ndarray:
        """Log of weight over ``det S_j``, shape (n, J)."""
        return self.log_weights - np.log(self.sd).sum(axis=1)


def log_kernel_density(
    residuals: np.ndarray, log_constants: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Log density of a shifted kernel, shape (n,).

    Parameters
    ----------
    residuals : array of shape (n, J, d)
        From `ReverseKernel.residuals`.
    log_constants : array of shape (n, J)
        `ReverseKernel.log_constants`.
    shift : array of shape (n, d)

    Returns
    -------
    array of shape (n,)
    """
    gap = residuals - shift[:, None]
    logs = log_constants - 0.5 * np.einsum("nji,nji->nj", gap, gap)
    return np.logaddexp.reduce(logs, axis=1) - 0.5 * shift.shape[1] * np.log(2 * np.pi)


class ReferenceChain(Protocol):
    """A Markov chain from a noised start down to an approximation of the target.

    Attributes
    ----------
    noising : Noising
    n_components : int
        Number J of components of the reverse kernels.
    exact : bool
        Whether the chain without control ends in a mixture of known density.
    """

    noising: Noising
    n_components: int
    exact: bool

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of level 0, shape (n, d); only a reference that is exact has them."""
        ...

    def start(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws at the highest noise level, shape (n, d)."""
        ...

    def log_start(self, y: np.ndarray) -> np.ndarray:
        """Log density of the start at points of shape (n, d)."""
        ...

    def log_level(self, k: int, y: np.ndarray) -> np.ndarray:
        """Log density of the reference noised to level k, up to a constant, shape (n,)."""
        ...

    def features(self, k: int, y: np.ndarray) -> Features:
        """Features of points at level k."""
        ...

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        ...

    def control_maps(self) -> np.ndarray:
        """Return the maps of gradients at level k + 1 to shifts of the kernel down to k.

        Gradients are those in the whitened places. Shape (K, G, d, d), symmetric.
        """
        ...


class MixtureReference:
    r"""A Gaussian mixture, whose noised levels and reverse kernels are known in closed form.

    Component j at level k is :math:`N(\mu_j, \Sigma_j + c_k^2 I)`. Given a point of level k + 1,
    the distribution of the point at level k is Gaussian again. Its mean is
    :math:`\mu_j + A (y - \mu_j)` with the gain
    :math:`A = (\Sigma_j + c_k^2 I)(\Sigma_j + c_{k+1}^2 I)^{-1}`, and its covariance is
    :math:`(c_{k+1}^2 - c_k^2) A`. All of this is diagonal along the eigenvectors of
    :math:`\Sigma_j`.

    Parameters
    ----------
    mixture : GaussianMixture
    noising : Noising
    groups : int array of shape (J,), optional
        Group of each component, for the features; one group by default.
    """

    exact = True

    def __init__(
        self, mixture: GaussianMixture, noising: Noising, groups: np.ndarray | None = None
    ) -> None:
        self.mixture, self.noising = mixture, noising
        self.n_components = mixture.n_components
        groups = np.zeros(self.n_components, dtype=int) if groups is None else groups
        self._membership = np.eye(groups.max() + 1)[groups]
        self._group_means, self._group_variances, self._group_axes = self._group_moments()

    @property
    def n_groups(self) -> int:
        """Number G of groups of components."""
        return self._membership.shape[1]

    @property
    def membership(self) -> np.ndarray:
        """Whether each component belongs to each group, 0 or 1, shape (J, G)."""
        return self._membership

    @property
    def group_means(self) -> np.ndarray:
        """Means of the groups, shape (G, d)."""
        return self._group_means

    def at_level(self, k: int) -> NoisedMixture:
        """Return the distribution of the mixture noised to level k."""
        return self.mixture.noised(self.noising.levels[k] ** 2)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the mixture itself, shape (n, d)."""
        return self.at_level(0).sample(n, rng)

    def start(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws at the highest noise level, shape (n, d)."""
        return self.at_level(self.noising.steps).sample(n, rng)

    def log_start(self, y: np.ndarray) -> np.ndarray:
        """Log density of the start at points of shape (n, d)."""
        return self.log_level(self.noising.steps, y)

    def log_level(self, k: int, y: np.ndarray) -> np.ndarray:
        """Log density of the mixture noised to level k, shape (n,)."""
        return self.at_level(k).log_density(y)

    def features(self, k: int, y: np.ndarray) -> Features:
        """Features of points at level k, whitened by groups of components.

        Whitening by single components would blend places that are far apart. Within a group, the
        whitened place is an affine function of the point.
        """
        return self._features(k, y, _log_normalised(self.at_level(k).log_parts(y)))

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        above = self.at_level(k + 1)
        along = above.along_axes(y)
        log_weights = _log_normalised(above.log_parts_along(along))
        gain = self.at_level(k).variances / above.variances
        return ReverseKernel(
            log_weights=log_weights,
            means_along=gain[:, None] * along,
            sd=np.sqrt(gain * self.noising.added[k]),
            axes=self.mixture.spectrum[1],
            origins=self.mixture.means,
            features=self._features(k + 1, y, log_weights),
        )

    def control_maps(self) -> np.ndarray:
        r"""Return the maps of gradients in whitened places to shifts of the kernels.

        A potential moves the mean of a step by the variance that its noise added times the
        gradient (Tweedie's formula), here in units of the root of the kernel that the Gaussian of
        a group has. Shape (K, G, d, d).
        """
        levels, added = self.noising.levels**2, self.noising.added
        maps = []
        for k in range(self.noising.steps):
            # The standard deviation of the kernel is the root of gain times the variance added.
            gain = (self._group_variances + levels[k]) / (self._group_variances + levels[k + 1])
            axis = np.sqrt(added[k] / gain / (self._group_variances + levels[k + 1]))
            maps.append((self._group_axes * axis[:, None]) @ self._group_axes.swapaxes(1, 2))
        return np.stack(maps)

    def group_roots(self, k: int) -> np.ndarray:
        """Inverse symmetric roots of the covariances of the groups at level k, (G, d, d)."""
        root = np.sqrt(self._group_variances + self.noising.levels[k] ** 2)
        return (self._group_axes / root[:, None]) @ self._group_axes.swapaxes(1, 2)

    def _features(self, k: int, y: np.ndarray, log_weights: np.ndarray) -> Features:
        """Features of points at level k from their log responsibilities, shape (n, J)."""
        responsibility = np.exp(log_weights) @ self._membership
        along = (y - self._group_means[:, None]) @ self._group_axes
        scaled = along / np.sqrt(self._group_variances + self.noising.levels[k] ** 2)[:, None]
        local = scaled @ self._group_axes.swapaxes(1, 2)
        whitened = np.einsum("ng,gni->ni", responsibility, local, optimize=True)
        return Features(whitened, responsibility)

    def _group_moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means (G, d), variances (G, d) and their axes (G, d, d) of the groups."""
        share = self._membership * self.mixture.weights[:, None]
        share = (share / share.sum(axis=0)).T
        means = share @ self.mixture.means
        step = self.mixture.means - means[:, None]
        # From the spectrum, whose variances are positive where draws do not vary at all.
        variances, axes = self.mixture.spectrum
        inner = (axes * variances[:, None]) @ axes.swapaxes(1, 2)
        covariance = np.einsum("gj,jab->gab", share, inner)
        covariance += np.einsum("gj,gja,gjb->gab", share, step, step)
        return means, *np.linalg.eigh(covariance)


def _log_normalised(log_parts: np.ndarray) -> np.ndarray:
    """Log parts (n, J) of densities minus the log densities: log responsibilities."""
    return log_parts - np.logaddexp.reduce(log_parts, axis=1)[:, None]
