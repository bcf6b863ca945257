"""Mixtures of Gaussians, Student-t densities, and densities of independent coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from pymc_multimodal.proposals.mixture import GaussianMixture, normalised
from pymc_multimodal.target.blocks import Blocks
from pymc_multimodal.target.circle import into_window, is_circular, unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.margins import Margins

__all__ = [
    "DEFENSIVE_DF",
    "DEFENSIVE_SHARE",
    "DEFENSIVE_WIDTH",
    "LEAST_VARIANCE",
    "RELATIVE_RIDGE",
    "EllipticalMixture",
    "defensive_mixture",
    "factor",
    "joined",
    "laplace",
    "student_t",
]

# The defensive component (Hesterberg 1995, "Weighted average importance sampling and defensive
# mixture distributions"): its share, its degrees of freedom (the variance is finite, the fourth
# moment is not), and its standard deviations relative to those of the density.
# Measured: examples/benchmarks/constants.py
DEFENSIVE_SHARE, DEFENSIVE_DF, DEFENSIVE_WIDTH = 0.05, 4.0, 1.2

# Ridge relative to each variance: 1e7 times the rounding error (2.2e-16), so that a covariance of
# linearly dependent coordinates has a factor.
RELATIVE_RIDGE = 1e-9
# Least variance where the draws do not vary at all, far above the smallest double (2e-308) so that
# a ridge relative to it does not underflow.
LEAST_VARIANCE = 1e-290


@dataclass(frozen=True, eq=False)
class EllipticalMixture:
    r"""Mixture of Gaussian and Student-t densities with full scale matrices.

    Component j is, with mean :math:`\mu_j` and factor :math:`L_j` of `gaussian`, the distribution
    of :math:`\mu_j + L_j z / \sqrt{c / \nu_j}`, z standard normal and c chi-squared with
    :math:`\nu_j` degrees of freedom; the Gaussian itself where :math:`\nu_j = \infty`. Where a
    component has margins, z is drawn from these.

    Parameters
    ----------
    gaussian : GaussianMixture
        Weights, means and factors of the scale matrices.
    df : array of shape (J,)
        Degrees of freedom, ``inf`` for a Gaussian.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    centre : array of shape (d,)
        Middle of the window on circular coordinates.
    base : EllipticalMixture, optional
        The density that this one adds a defensive component to.
    margins : tuple of J Margins or None
        Of the components that have some; empty where none has.
    """

    gaussian: GaussianMixture
    df: np.ndarray
    period: np.ndarray
    centre: np.ndarray
    base: EllipticalMixture | None = None
    margins: tuple[Margins | None, ...] = ()

    @classmethod
    def single(
        cls, mean: np.ndarray, scale: np.ndarray, df: float, period: np.ndarray, centre: np.ndarray
    ) -> EllipticalMixture:
        """One Gaussian (``df=inf``) or Student-t density; `scale` is a lower-triangular factor."""
        return cls(GaussianMixture.single(mean, scale), np.array([df]), period, centre)

    @classmethod
    def independent(
        cls, mean: np.ndarray, scale: np.ndarray, margins: Margins, period: np.ndarray
    ) -> EllipticalMixture:
        """One density of independent coordinates, those of ``inv(scale) @ (x - mean)``."""
        one = cls.single(mean, scale, np.inf, period, mean)
        return replace(one, margins=(margins,))

    @property
    def weights(self) -> np.ndarray:
        """Weights of the components, shape (J,)."""
        return self.gaussian.weights

    @property
    def means(self) -> np.ndarray:
        """Locations of the components, shape (J, d)."""
        return self.gaussian.means

    @property
    def scales(self) -> np.ndarray:
        """Lower-triangular factors of the scale matrices, shape (J, d, d)."""
        return self.gaussian.factors

    @property
    def undefended(self) -> EllipticalMixture:
        """The density without its defensive component, if it has one."""
        return self if self.base is None else self.base

    @property
    def family(self) -> str:
        """Family of the undefended density: "gaussian" (or Student-t) or "mixture"."""
        return "gaussian" if len(self.undefended.df) == 1 else "mixture"

    @cached_property
    def log_constants(self) -> np.ndarray:
        """Log of weight times peak density of each component, shape (J,)."""
        d = self.gaussian.dim
        with np.errstate(invalid="ignore"):
            heavy = gammaln(0.5 * (self.df + d)) - gammaln(0.5 * self.df)
            heavy -= 0.5 * d * np.log(self.df * np.pi)
        norm = np.where(np.isfinite(self.df), heavy, -0.5 * d * np.log(2 * np.pi))
        norm[list(self._independent)] = 0.0
        out: np.ndarray = np.log(self.weights) + norm - self.gaussian.log_volumes
        return out

    @cached_property
    def _independent(self) -> dict[int, Margins]:
        """Margins of the components that have some."""
        return {j: own for j, own in enumerate(self.margins) if own is not None}

    @cached_property
    def _shares(self) -> np.ndarray:
        """The weights, whose sum is one but for rounding."""
        out: np.ndarray = self.weights / self.weights.sum()
        return out

    @cached_property
    def _circular(self) -> bool:
        """Whether a coordinate is circular."""
        return bool(is_circular(self.period).any())

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d), wrapped; rows outside the window are NaN."""
        out = self._sample(rng.multinomial(n, self._shares), rng)
        # Rows must be exchangeable: callers give row i to chain i.
        out = rng.permutation(out)
        return into_window(out, self.centre, self.period) if self._circular else out

    def sample_evenly(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw from each component its share of n, rounded up or down at random.

        Returns
        -------
        x : array of shape (n, d)
            One component after the other; rows outside the window are NaN.
        component : array of int, shape (n,)
        """
        ends = np.floor(n * np.cumsum(self._shares) + rng.random()).astype(int)
        ends[-1] = n
        counts = np.diff(ends, prepend=0)
        x = self._sample(counts, rng)
        x = into_window(x, self.centre, self.period) if self._circular else x
        return x, np.repeat(np.arange(len(counts)), counts)

    def _sample(self, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw given numbers from the components, one after the other."""
        n, d, first = int(counts.sum()), self.gaussian.dim, 0
        out = np.empty((n, d))
        for j, count in enumerate(counts):
            if not count:
                continue
            own = self._independent.get(j)
            z = rng.standard_normal((count, d)) if own is None else own.sample(int(count), rng)
            step = z @ self.scales[j].T
            if np.isfinite(self.df[j]):
                step /= np.sqrt(rng.chisquare(self.df[j], count) / self.df[j])[:, None]
            out[first : first + count] = self.means[j] + step
            first += count
        return out

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the copy of each row inside the window, shape (n,)."""
        return np.logaddexp.reduce(self.log_parts(unroll(x, self.centre, self.period)), axis=0)

    @staticmethod
    def log_density_of_each(
        densities: Sequence[EllipticalMixture], x: np.ndarray, which: np.ndarray
    ) -> np.ndarray:
        """Log density of a density of its own at each row.

        Parameters
        ----------
        densities : sequence of EllipticalMixture
            On the same space.
        x : array of shape (n, d)
        which : array of int, shape (n,)
            Index of the density of each row.

        Returns
        -------
        array of shape (n,)
        """
        out = np.empty(len(x))
        if any(q.margins for q in densities):
            for i, q in enumerate(densities):
                rows = np.flatnonzero(which == i)
                out[rows] = q.log_density(x[rows])
            return out
        sizes = np.array([len(q.df) for q in densities])
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes[which] == size)
            own = np.flatnonzero(sizes == size)
            members = [densities[i] for i in own.tolist()]
            group = np.searchsorted(own, which[rows])
            centre = np.stack([q.centre for q in members])[group]
            there = unroll(x[rows], centre, members[0].period)
            blocks, d = Blocks(group, len(members)), x.shape[1]
            means = np.stack([q.means for q in members])
            inverse = np.stack([q.gaussian.inverse_factors for q in members])
            df = np.stack([q.df for q in members])
            constant = np.stack([q.log_constants for q in members])
            logs = np.empty((size, len(rows)))
            for j in range(size):
                z = blocks.times(there - means[group, j], inverse[:, j].swapaxes(1, 2))
                radius, nu = np.einsum("ni,ni->n", z, z), df[group, j]
                heavy = np.isfinite(nu)
                logs[j] = -0.5 * radius
                nu = nu[heavy]
                logs[j, heavy] = -0.5 * (nu + d) * np.log1p(radius[heavy] / nu)
                logs[j] += constant[group, j]
            out[rows] = np.logaddexp.reduce(logs, axis=0)
        return out

    def score(self, x: np.ndarray) -> np.ndarray:
        """Gradient of `log_density` at points of shape (n, d), shape (n, d)."""
        x = unroll(x, self.centre, self.period)
        d = self.gaussian.dim
        share = normalised(self.log_parts(x).T)
        out = np.zeros((len(x), d))
        for j, (mean, inverse, df) in enumerate(
            zip(self.means, self.gaussian.inverse_factors, self.df, strict=True)
        ):
            z = (x - mean) @ inverse.T
            slope = share[:, j]
            if j in self._independent:
                out += slope[:, None] * (self._independent[j].score(z) @ inverse)
                continue
            if np.isfinite(df):
                slope = slope * (df + d) / (df + np.einsum("ni,ni->n", z, z))
            out -= slope[:, None] * (z @ inverse)
        return out

    def log_parts(self, x: np.ndarray) -> np.ndarray:
        """Log of weight times density of each component at unrolled points (n, d), shape (J, n)."""
        d = self.gaussian.dim
        radii = self.gaussian.squared_radii(x)
        logs = -0.5 * radii
        for j in np.flatnonzero(np.isfinite(self.df)):
            logs[j] = -0.5 * (self.df[j] + d) * np.log1p(radii[j] / self.df[j])
        for k, own in self._independent.items():
            z = (x - self.means[k]) @ self.gaussian.inverse_factors[k].T
            logs[k] = own.log_density(z)
        out: np.ndarray = logs + self.log_constants[:, None]
        return out


def factor(covariance: np.ndarray) -> np.ndarray:
    """Lower-triangular factor of a covariance, also where coordinates do not vary."""
    variance = np.maximum(np.diag(covariance), LEAST_VARIANCE)
    return np.linalg.cholesky(covariance + RELATIVE_RIDGE * np.diag(variance))


def joined(
    parts: Sequence[EllipticalMixture],
    shares: Sequence[float] | np.ndarray,
    base: EllipticalMixture | None = None,
) -> EllipticalMixture:
    """Mixture of densities on the same space, in the window of the first.

    Parameters
    ----------
    parts : sequence of EllipticalMixture
    shares : sequence of float
        One for each part; their sum is one.
    base : EllipticalMixture, optional
        What the mixture adds a defensive component to.
    """
    weights = [share * part.weights for share, part in zip(shares, parts, strict=True)]
    gaussian = GaussianMixture(
        np.concatenate(weights),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.scales for part in parts]),
    )
    df = np.concatenate([part.df for part in parts])
    margins = _joined_margins(parts)
    return EllipticalMixture(gaussian, df, parts[0].period, parts[0].centre, base, margins)


def _joined_margins(parts: Sequence[EllipticalMixture]) -> tuple[Margins | None, ...]:
    """Margins of the components of several densities, empty where none has any."""
    if not any(part.margins for part in parts):
        return ()
    return tuple(own for part in parts for own in part.margins or (None,) * len(part.df))


def laplace(location: np.ndarray, scale: np.ndarray, period: np.ndarray) -> EllipticalMixture:
    """Laplace's approximation at a mode, with a defensive component.

    Parameters
    ----------
    location : array of shape (d,)
    scale : array of shape (d, d)
        Lower-triangular factor of the covariance.
    period : array of shape (d,)
    """
    return defensive_mixture(EllipticalMixture.single(location, scale, np.inf, period, location))


def student_t(
    x: np.ndarray,
    period: np.ndarray,
    centre: np.ndarray,
    df: float = DEFENSIVE_DF,
    width: float = DEFENSIVE_WIDTH,
) -> EllipticalMixture:
    """One Student-t density whose factor is `width` times that of draws.

    Parameters
    ----------
    x : array of shape (n, d)
        Unrolled draws.
    period, centre : arrays of shape (d,)
    df : float
    width : float
    """
    scale = width * factor(np.atleast_2d(np.cov(x.T)))
    return EllipticalMixture.single(x.mean(axis=0), scale, df, period, centre)


def defensive_mixture(
    density: EllipticalMixture,
    share: float = DEFENSIVE_SHARE,
    df: float = DEFENSIVE_DF,
    width: float = DEFENSIVE_WIDTH,
) -> EllipticalMixture:
    """Add a heavy-tailed component with the mean and the widened covariance of the density.

    Its tails bound the ratio of target to proposal wherever the target decays like a Student-t of
    at least as many degrees of freedom, or faster (Hesterberg 1995).

    Parameters
    ----------
    density : EllipticalMixture
    share : float
        Weight of the component.
    df : float
        Its degrees of freedom.
    width : float
        Its standard deviations relative to those of the density.
    """
    mean, covariance = density.gaussian.moments()
    heavy = EllipticalMixture.single(
        mean, width * factor(covariance), df, density.period, density.centre
    )
    return joined([density, heavy], [1.0 - share, share], base=density)
