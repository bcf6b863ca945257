"""The densities that units are proposed from at given hubs: a mixture over explanations each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, logsumexp

if TYPE_CHECKING:
    from pymc_multimodal.structure.explanations import Explanations
    from pymc_multimodal.target.units import Units

__all__ = ["Conditional", "UnitMixtures", "features", "fit_mixtures", "n_features"]

# Shares of the normal of an explanation, of a t density with heavier tails around it, and of one
# density over all of them, which covers what no explanation describes. Conventional: as for the
# mixtures of the first answer (`approximation.mixture`).
NORMAL_SHARE, TAIL_SHARE, WIDE_SHARE = 0.9, 0.1, 0.03
TAIL_DF, TAIL_WIDTH = 5.0, 1.5
WIDE_DF, WIDE_WIDTH = 3.0, 1.5
# Least share of an explanation in its unit's mixture: its mass may be larger than that of the
# normal approximation. Conventional.
LEAST_SHARE = 0.005
# Penalty of the regression's coefficients but the constant, relative to the number of anchors.
# Conventional: small, against anchors that hardly differ along a direction.
RIDGE = 1e-4


def n_features(h: int) -> int:
    """Number of features of h hubs: a constant, linear and quadratic terms."""
    return 1 + h + h * (h + 1) // 2


def features(u: np.ndarray) -> np.ndarray:
    """Constant, linear and quadratic terms of points (n, H), shape (n, F)."""
    i, j = np.triu_indices(u.shape[1])
    return np.concatenate([np.ones((len(u), 1)), u, u[:, i] * u[:, j]], axis=1)


@dataclass(frozen=True, eq=False)
class Conditional:
    """The mixtures of all units at n values of the hubs.

    Attributes
    ----------
    mean : array of shape (n, N, K, b)
    scale, inverse : arrays of shape (n, N, K, b, b)
        Lower-triangular factors of the explanations' covariances, and their inverses.
    log_share : array of shape (n, N, 2 K + 1)
        Of the normals, of the t densities, and of the wide one.
    wide : tuple of two arrays of shape (N, b)
        Centre and width of the wide density.
    inside : array of bool, shape (N, b)
    """

    mean: np.ndarray
    scale: np.ndarray
    inverse: np.ndarray
    log_share: np.ndarray
    wide: tuple[np.ndarray, np.ndarray]
    inside: np.ndarray

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Sums of the shares, shape (n, N, 2 K + 1)."""
        out: np.ndarray = np.cumsum(np.exp(self.log_share), axis=2)
        out /= out[..., -1:]
        return out

    @property
    def sizes(self) -> np.ndarray:
        """Coordinates of each unit, shape (N,)."""
        out: np.ndarray = self.inside.sum(axis=1)
        return out

    def sample(
        self, m: int, rng: np.random.Generator, given: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw m points for each unit, by systematic sampling of the components.

        Parameters
        ----------
        m : int
        rng : numpy.random.Generator
        given : array of shape (n, N, b), optional
            One of the points; the others are drawn as if it had been drawn with them.

        Returns
        -------
        array of shape (n, m, N, b)
        """
        n, n_units, _, b = self.mean.shape
        offset, place = rng.random((n, n_units)), None
        if given is not None:
            at = self._uniform_of(given, rng) * m
            place = np.minimum(at.astype(int), m - 1)
            offset = at - place
        v = (offset[:, None] + np.arange(m)[:, None]) / m
        component = np.zeros((n, m, n_units), dtype=int)
        for c in range(self.cumulative.shape[2] - 1):
            component += v >= self.cumulative[:, None, :, c]
        z = self._points(component, rng)
        if given is not None and place is not None:
            row, unit = np.indices(place.shape)
            z[row, place, unit] = given
        return z

    def _uniform_of(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the uniform number that has chosen the component of each point, shape (n, N)."""
        parts = self.log_parts(z[:, None])[:, 0]
        share = np.exp(parts - parts.max(axis=2, keepdims=True))
        share = np.cumsum(share, axis=2)
        u = rng.random(share.shape[:2]) * share[..., -1]
        component = np.minimum((u[..., None] >= share).sum(axis=2), share.shape[2] - 1)
        last = np.take_along_axis(self.cumulative, component[..., None], axis=2)[..., 0]
        before = np.take_along_axis(
            np.concatenate([np.zeros((*last.shape, 1)), self.cumulative], axis=2),
            component[..., None],
            axis=2,
        )[..., 0]
        out: np.ndarray = before + (last - before) * rng.random(last.shape)
        return np.minimum(out, np.nextafter(1.0, 0.0))

    def _points(self, component: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, m, n_units = component.shape
        k, b = self.mean.shape[2:]
        wide, heavy = component == 2 * k, (component >= k) & (component < 2 * k)
        noise = rng.standard_normal((n, m, n_units, b))
        df = np.where(wide, WIDE_DF, TAIL_DF)
        radius = np.sqrt(df / rng.chisquare(df)) * np.where(heavy, TAIL_WIDTH, 1.0)
        noise *= np.where(wide | heavy, radius, 1.0)[..., None]
        which = np.where(wide, 0, component % k)
        row, unit = np.arange(n)[:, None, None], np.arange(n_units)
        if b == 1:
            step = self.scale[row, unit, which][..., 0] * noise
        else:
            step = np.einsum("nmuij,nmuj->nmui", self.scale[row, unit, which], noise)
        z = np.where(
            wide[..., None],
            self.wide[0] + self.wide[1] * noise,
            self.mean[row, unit, which] + step,
        )
        return z * self.inside

    def log_parts(self, z: np.ndarray) -> np.ndarray:
        """Log of share times density of each component at points (n, m, N, b).

        Returns
        -------
        array of shape (n, m, N, 2 K + 1)
        """
        k, size = self.mean.shape[2], self.sizes
        r2 = np.empty((*z.shape[:3], k))
        for j in range(k):
            step = z - self.mean[:, None, :, j]
            if z.shape[3] == 1:
                r2[..., j] = (step[..., 0] * self.inverse[:, None, :, j, 0, 0]) ** 2
            else:
                r = np.einsum("nuij,nmuj->nmui", self.inverse[:, :, j], step)
                r2[..., j] = np.einsum("nmui,nmui->nmu", r, r)
        log_det = -np.log(np.diagonal(self.inverse, axis1=-2, axis2=-1)).sum(axis=-1)[:, None]
        r = (z - self.wide[0]) / self.wide[1] * self.inside
        wide = np.einsum("nmui,nmui->nmu", r, r)
        wide_det = np.sum(np.log(self.wide[1]), axis=1, where=self.inside)
        size_k = size[:, None]
        normal = -0.5 * (r2 + size_k * np.log(2 * np.pi)) - log_det
        heavy = _log_t(r2 / TAIL_WIDTH**2, TAIL_DF, size_k) - log_det - size_k * np.log(TAIL_WIDTH)
        parts = [normal, heavy, (_log_t(wide, WIDE_DF, size) - wide_det)[..., None]]
        out: np.ndarray = np.concatenate(parts, axis=3) + self.log_share[:, None]
        return out

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Log density of each unit at points (n, m, N, b), shape (n, m, N)."""
        out: np.ndarray = logsumexp(self.log_parts(z), axis=3)
        return out

    def label(self, z: np.ndarray) -> np.ndarray:
        """Explanation of largest density at each point (n, m, N, b), shape (n, m, N)."""
        k = self.mean.shape[2]
        parts = self.log_parts(z)
        out: np.ndarray = np.argmax(
            np.logaddexp(parts[..., :k], parts[..., k : 2 * k]), axis=3
        )
        return out


def _log_t(r2: np.ndarray, df: float, size: np.ndarray) -> np.ndarray:
    """Log density of a standard multivariate t at squared radii."""
    constant = gammaln(0.5 * (df + size)) - gammaln(0.5 * df) - 0.5 * size * np.log(df * np.pi)
    out: np.ndarray = constant - 0.5 * (df + size) * np.log1p(r2 / df)
    return out


@dataclass(frozen=True, eq=False)
class UnitMixtures:
    """Mixtures over the explanations of N units, whose parameters are polynomials in the hubs.

    There is one set for each of R regions of the hubs. Beyond the anchors of a regression the
    polynomials are continued by constants.

    Attributes
    ----------
    centre, low, high : arrays of shape (R, H)
        Mean of the anchors, and their range in whitened coordinates.
    whiten : array of shape (R, H, H)
        Whitened coordinates are ``whiten @ (g - centre)``.
    mean : array of shape (R, F, N, K, b)
        Coefficients of the features (`features`).
    scale : array of shape (R, F, N, K, b (b + 1) / 2)
        Of the lower triangles of the factors, with logarithms on the diagonal.
    log_mass : array of shape (R, F, N, K)
        Of the explanations' log masses; the constant is -inf where there is none.
    wide : tuple of two arrays of shape (N, b)
    inside : array of bool, shape (N, b)
    """

    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whiten: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    wide: tuple[np.ndarray, np.ndarray]
    inside: np.ndarray

    @property
    def n_explanations(self) -> int:
        """Most explanations K of a unit."""
        return self.mean.shape[3]

    def at(self, g: np.ndarray, region: np.ndarray) -> Conditional:
        """Return the mixtures at hubs.

        Parameters
        ----------
        g : array of shape (n, H)
        region : array of int, shape (n,)
            Region of each of the hubs.
        """
        n, (_, _, n_units, k, b) = len(g), self.mean.shape
        mean = np.empty((n, n_units, k, b))
        packed = np.empty((n, n_units, k, self.scale.shape[-1]))
        log_mass = np.empty((n, n_units, k))
        for r in np.unique(region):
            rows = np.flatnonzero(region == r)
            u = (g[rows] - self.centre[r]) @ self.whiten[r].T
            f = features(np.clip(u, self.low[r], self.high[r]))
            mean[rows] = np.tensordot(f, self.mean[r], 1)
            packed[rows] = np.tensordot(f, self.scale[r], 1)
            with np.errstate(invalid="ignore"):
                log_mass[rows] = np.tensordot(f, self.log_mass[r], 1)
        there = np.isfinite(log_mass)
        log_mass[~there] = -np.inf
        scale = _unpacked(packed, b)
        log_share = log_mass - logsumexp(log_mass, axis=2, keepdims=True)
        with np.errstate(divide="ignore"):
            floor = np.log(there * LEAST_SHARE)
            log_share = np.logaddexp(log_share, floor)
            log_share -= logsumexp(log_share, axis=2, keepdims=True)
        log_share += np.log1p(-WIDE_SHARE)
        wide = np.full((n, n_units, 1), np.log(WIDE_SHARE))
        shares = np.concatenate(
            [log_share + np.log(NORMAL_SHARE), log_share + np.log(TAIL_SHARE), wide], axis=2
        )
        inverse = 1.0 / scale if b == 1 else np.linalg.inv(scale)
        return Conditional(mean, scale, inverse, shares, self.wide, self.inside)

    def corrected(self, shift: np.ndarray, factor: np.ndarray, log_mass: np.ndarray) -> UnitMixtures:
        """Return mixtures with other constants.

        Parameters
        ----------
        shift : array of shape (R, N, K, b)
            Added to the means.
        factor : array of shape (R, N, K, b (b + 1) / 2)
            Added to the packed factors.
        log_mass : array of shape (R, N, K)
            Added to the log masses.
        """
        mean, scale, mass = self.mean.copy(), self.scale.copy(), self.log_mass.copy()
        mean[:, 0] += shift
        scale[:, 0] += factor
        mass[:, 0] += log_mass
        return replace(self, mean=mean, scale=scale, log_mass=mass)


def _packed(scale: np.ndarray) -> np.ndarray:
    """Lower triangles of factors (..., b, b), logarithms on the diagonal: (..., b (b + 1) / 2)."""
    b = scale.shape[-1]
    i, j = np.tril_indices(b)
    out: np.ndarray = scale[..., i, j]
    out[..., i == j] = np.log(out[..., i == j])
    return out


def _unpacked(packed: np.ndarray, b: int) -> np.ndarray:
    i, j = np.tril_indices(b)
    values = packed.copy()
    values[..., i == j] = np.exp(values[..., i == j])
    out = np.zeros((*packed.shape[:-1], b, b))
    out[..., i, j] = values
    return out


def fit_mixtures(
    units: Units,
    anchors: list[Explanations],
    wide: tuple[np.ndarray, np.ndarray],
) -> UnitMixtures:
    """Fit the polynomials to explanations at anchors.

    Parameters
    ----------
    units : Units
    anchors : list of R Explanations
        Of each region, in the same order at all anchors; the first anchor knows all of them.
    wide : tuple of two arrays of shape (N, b)
        Centre and spread of the prior.

    Returns
    -------
    UnitMixtures
    """
    k = max(a.z.shape[2] for a in anchors)
    fits = [_fit_region(a, k) for a in anchors]
    arrays = (np.stack(parts) for parts in zip(*fits, strict=True))
    centre, width = wide
    return UnitMixtures(
        *arrays, wide=(centre, WIDE_WIDTH * np.where(units.inside, width, 1.0)), inside=units.inside
    )


def _fit_region(anchors: Explanations, k: int) -> tuple[np.ndarray, ...]:
    g = anchors.g
    m, h = g.shape
    centre = g.mean(axis=0)
    if h and m > 1:
        covariance = np.atleast_2d(np.cov(g.T)) + 1e-12 * np.eye(h)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    else:
        whiten = np.eye(h)
    u = (g - centre) @ whiten.T
    f = features(u)
    penalty = RIDGE * m * np.eye(f.shape[1])
    penalty[0, 0] = 0.0
    solve = np.linalg.solve(f.T @ f + penalty, f.T)
    there = np.isfinite(anchors.log_mass)
    known = there[0]
    # Where an explanation has vanished, its values at the first anchor stand for it.
    z = np.where(there[..., None], anchors.z, anchors.z[:1])
    scale = np.where(there[..., None, None], anchors.scale, anchors.scale[:1])
    log_mass = np.where(there, anchors.log_mass, -np.inf)
    top = log_mass.max(axis=2, keepdims=True)
    relative = np.where(there, log_mass - top, np.log(1e-3))
    mass = np.tensordot(solve, relative, 1)
    mass[0][~known] = -np.inf
    mass[1:][:, ~known] = 0.0
    mean, packed = np.tensordot(solve, z, 1), np.tensordot(solve, _packed(scale), 1)
    more = k - z.shape[2]

    def padded(a: np.ndarray) -> np.ndarray:
        return np.concatenate([a, np.repeat(a[:, :, :1], more, axis=2)], axis=2)

    mass = np.pad(mass, ((0, 0), (0, 0), (0, more)))
    mass[0, :, k - more :] = -np.inf
    low, high = (u.min(axis=0), u.max(axis=0)) if m else (np.zeros(h), np.zeros(h))
    return centre, low, high, whiten, padded(mean), padded(packed), mass
