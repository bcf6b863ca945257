"""References of the diffusion sampler: their noised starts and their reverse kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.noising import Noising

__all__ = ["MixtureReference", "Reference", "ReverseKernel", "log_kernel"]


@dataclass(frozen=True)
class ReverseKernel:
    """Gaussian mixtures that n points go back to by one step, each with a shift to be added.

    Component j has the symmetric root ``S_j = U_j diag(sd_j) U_j'`` of its covariance; a shift
    counts in units of that root, and is the same for all components.

    Attributes
    ----------
    log_share : array of shape (n, J)
        Log weights of the components.
    middle : array of shape (J, n, d)
        Their means, relative to `means` and turned by ``U_j'``.
    sd : array of shape (J, d)
    turns : array of shape (J, d, d)
        Orthogonal matrices U_j.
    means : array of shape (J, d)
    h : array of shape (n, d)
    share : array of shape (n, G)
        Features of the points for a control, see `Reference.features`.
    """

    log_share: np.ndarray
    middle: np.ndarray
    sd: np.ndarray
    turns: np.ndarray
    means: np.ndarray
    h: np.ndarray
    share: np.ndarray

    def sample(self, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw for each point, shape (n, d), with shifts of shape (n, d)."""
        n, d = shift.shape
        level = np.cumsum(np.exp(self.log_share), axis=1)
        chosen = (level < level[:, -1:] * rng.random((n, 1))).sum(axis=1)
        noise = rng.standard_normal((n, d))
        x = np.empty((n, d))
        for j in np.unique(chosen):
            rows = chosen == j
            step = self.sd[j] * (noise[rows] + shift[rows] @ self.turns[j])
            x[rows] = self.means[j] + (self.middle[j, rows] + step) @ self.turns[j].T
        return x

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """``S_j^{-1} (x - mean_j)`` for points of shape (n, d), shape (n, J, d)."""
        turned = (x - self.means[:, None]) @ self.turns
        scaled = (turned - self.middle) / self.sd[:, None]
        return (scaled @ self.turns.swapaxes(1, 2)).swapaxes(0, 1)

    @property
    def constants(self) -> np.ndarray:
        """Log weight of each component's standard normal density, shape (n, J)."""
        return self.log_share - np.log(self.sd).sum(axis=1)


def log_kernel(residuals: np.ndarray, constants: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Log density of a shifted kernel, shape (n,), from `ReverseKernel.residuals`."""
    gap = residuals - shift[:, None]
    logs = constants - 0.5 * np.einsum("nji,nji->nj", gap, gap)
    return np.logaddexp.reduce(logs, axis=1) - 0.5 * shift.shape[1] * np.log(2 * np.pi)


class Reference(Protocol):
    """A Markov chain from a noised start down to an approximation of the target."""

    noising: Noising
    n_components: int
    # Whether the chain without control ends in a mixture of known density.
    exact: bool

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of level 0, shape (n, d); asked only of a reference that is exact."""
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

    def features(self, k: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of points at level k, whitened by groups of components, and the groups' shares.

        Shapes (n, d) and (n, G).
        """
        ...

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        ...

    def control_maps(self) -> np.ndarray:
        """From gradients in h at level k + 1 to shifts of the kernel down to k.

        Shape (K, G, d, d), symmetric.
        """
        ...


class MixtureReference:
    r"""A Gaussian mixture, whose noised versions and reverse kernels have closed forms.

    With :math:`\Sigma_j = U_j \lambda_j U_j'`, a point y of level k + 1 comes from component j
    of level k with the probability that j has in the noised mixture at y, and then has the
    Gaussian law with, along the axes of :math:`U_j`,

    .. math:: \text{mean} \; g u, \quad \text{variance} \; g (c_{k+1}^2 - c_k^2), \quad
        g = \frac{\lambda_j + c_k^2}{\lambda_j + c_{k+1}^2}, \quad u = U_j' (y - \mu_j).

    Followed exactly, these kernels carry the noised mixture back to the mixture without any
    error of discretisation, however few the steps (arXiv 2410.19449 has them approximated by
    exponential-integrator steps, and starts from a standard normal).

    Parameters
    ----------
    weights : array of shape (J,)
    means : array of shape (J, d)
    covariances : array of shape (J, d, d)
    noising : Noising
    groups : array of shape (J,), optional
        Group of each component, for the features; all in one by default.
    """

    exact = True

    def __init__(
        self,
        weights: np.ndarray,
        means: np.ndarray,
        covariances: np.ndarray,
        noising: Noising,
        groups: np.ndarray | None = None,
    ) -> None:
        self.log_weights = np.log(weights / np.sum(weights))
        self.means, self.noising = np.asarray(means), noising
        variances, self.turns = np.linalg.eigh(covariances)
        self.variances = np.maximum(variances, 1e-12 * variances.max())
        self.n_components = len(weights)
        groups = np.zeros(len(weights), dtype=int) if groups is None else groups
        self.member = np.eye(groups.max() + 1)[groups]
        self._group_means, self._group_variances, self._group_turns = self._group_moments()

    def log_density(self, x: np.ndarray, level: float = 0.0) -> np.ndarray:
        """Log density of the mixture noised to standard deviation `level`, shape (n,)."""
        return np.logaddexp.reduce(self._log_parts(self._turned(x), level), axis=1)

    def score(self, x: np.ndarray, level: float) -> np.ndarray:
        """Gradient of `log_density`, shape (n, d)."""
        turned = self._turned(x)
        pull = -turned / (self.variances + level**2)[:, None]
        share = self._shares(turned, level)
        return np.einsum("nj,jni->ni", np.exp(share), pull @ self.turns.swapaxes(1, 2))

    def sample(self, n: int, rng: np.random.Generator, level: float = 0.0) -> np.ndarray:
        """Draws of the mixture noised to standard deviation `level`, shape (n, d)."""
        d = self.means.shape[1]
        chosen = rng.choice(len(self.means), size=n, p=np.exp(self.log_weights))
        z, x = rng.standard_normal((n, d)), np.empty((n, d))
        for j in np.unique(chosen):
            rows = chosen == j
            sd = np.sqrt(self.variances[j] + level**2)
            x[rows] = self.means[j] + (z[rows] * sd) @ self.turns[j].T
        return x

    def start(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws at the highest noise level, shape (n, d)."""
        return self.sample(n, rng, self.noising.levels[-1])

    def log_start(self, y: np.ndarray) -> np.ndarray:
        """Log density of the start at points of shape (n, d)."""
        return self.log_density(y, self.noising.levels[-1])

    def log_level(self, k: int, y: np.ndarray) -> np.ndarray:
        """Log density of the mixture noised to level k, shape (n,)."""
        return self.log_density(y, self.noising.levels[k])

    def features(self, k: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of points, whitened by the groups they may come from, and the groups' shares.

        Whitening by single components would blend places that are far apart: within a group
        the place is an affine function of the point.
        """
        level = self.noising.levels[k]
        return self._features(y, self._shares(self._turned(y), level), level)

    def _features(
        self, y: np.ndarray, log_share: np.ndarray, level: float
    ) -> tuple[np.ndarray, np.ndarray]:
        share = np.exp(log_share) @ self.member
        turned = (y - self._group_means[:, None]) @ self._group_turns
        whitened = turned / np.sqrt(self._group_variances + level**2)[:, None]
        local = whitened @ self._group_turns.swapaxes(1, 2)
        return np.einsum("ng,gni->ni", share, local, optimize=True), share

    def _group_moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means (G, d), variances (G, d) and their axes (G, d, d) of the groups."""
        share = self.member * np.exp(self.log_weights)[:, None]
        share = (share / share.sum(axis=0)).T
        means = share @ self.means
        inner = (self.turns * self.variances[:, None]) @ self.turns.swapaxes(1, 2)
        step = self.means - means[:, None]
        covariance = np.einsum("gj,jab->gab", share, inner)
        covariance += np.einsum("gj,gja,gjb->gab", share, step, step)
        return means, *np.linalg.eigh(covariance)

    def kernel(self, k: int, y: np.ndarray) -> ReverseKernel:
        """Reverse kernel from points y of level k + 1 to level k."""
        above = self.noising.levels[k + 1]
        gain, sd = self._step(k)
        turned = self._turned(y)
        log_share = self._shares(turned, above)
        h, share = self._features(y, log_share, above)
        return ReverseKernel(
            log_share=log_share,
            middle=gain[:, None] * turned,
            sd=sd,
            turns=self.turns,
            means=self.means,
            h=h,
            share=share,
        )

    def control_maps(self) -> np.ndarray:
        r"""From gradients in h to shifts of the kernels, shape (K, G, d, d).

        A potential moves the mean of a step by the variance that its noise added times the
        gradient (Tweedie), here in units of the kernel's root of a group's own Gaussian.
        """
        levels, added = self.noising.levels**2, self.noising.added
        maps = []
        for k in range(self.noising.steps):
            # The kernel's deviation is the root of gain times the variance added.
            gain = (self._group_variances + levels[k]) / (self._group_variances + levels[k + 1])
            axis = np.sqrt(added[k] / gain / (self._group_variances + levels[k + 1]))
            maps.append((self._group_turns * axis[:, None]) @ self._group_turns.swapaxes(1, 2))
        return np.stack(maps)

    def group_roots(self, level: float) -> np.ndarray:
        """Inverse symmetric roots of the groups' noised covariances, shape (G, d, d)."""
        root = np.sqrt(self._group_variances + level**2)
        return (self._group_turns / root[:, None]) @ self._group_turns.swapaxes(1, 2)

    def _step(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Gain and standard deviation of the step down to level k, shapes (J, d)."""
        below, above = self.noising.levels[k] ** 2, self.noising.levels[k + 1] ** 2
        gain = (self.variances + below) / (self.variances + above)
        return gain, np.sqrt(gain * (above - below))

    def _turned(self, x: np.ndarray) -> np.ndarray:
        return (x - self.means[:, None]) @ self.turns

    def _log_parts(self, turned: np.ndarray, level: float) -> np.ndarray:
        variance = self.variances + level**2
        square = (turned**2 / variance[:, None]).sum(axis=2).T
        constant = np.log(variance).sum(axis=1) + self.means.shape[1] * np.log(2 * np.pi)
        return self.log_weights - 0.5 * (square + constant)

    def _shares(self, turned: np.ndarray, level: float) -> np.ndarray:
        logs = self._log_parts(turned, level)
        return logs - np.logaddexp.reduce(logs, axis=1)[:, None]
