"""The densities that units are proposed from at given hubs: a mixture over explanations each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from pymc_multimodal.structure.explanations import Explanations

__all__ = ["Conditional", "Guess", "UnitMixtures", "log_sum"]

# Shares of the normal of an explanation, of a t density with heavier tails around it, and of one
# density over all of them, which covers what no explanation describes. Conventional: as for the
# mixtures of the first answer (`approximation.mixture`).
NORMAL_SHARE, TAIL_SHARE, WIDE_SHARE = 0.9, 0.1, 0.03
TAIL_DF, TAIL_WIDTH = 5.0, 1.5
WIDE_DF, WIDE_WIDTH = 3.0, 1.5
# Least share of an explanation in its unit's mixture: its mass may be larger than that of the
# normal approximation. Conventional.
LEAST_SHARE = 0.005


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
        n, n_units = self.mean.shape[:2]
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
        for which, df, width in ((wide, WIDE_DF, 1.0), (heavy, TAIL_DF, TAIL_WIDTH)):
            radius = width * np.sqrt(df / rng.chisquare(df, size=int(which.sum())))
            noise[which] *= radius[:, None]
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
        out = np.empty((*z.shape[:3], 2 * k + 1))
        log_det = -np.log(np.diagonal(self.inverse, axis1=-2, axis2=-1)).sum(axis=-1)
        normal = self.log_share[..., :k] - log_det - 0.5 * size[:, None] * np.log(2 * np.pi)
        heavy = self.log_share[..., k : 2 * k] - log_det - size[:, None] * np.log(TAIL_WIDTH)
        heavy += _log_t_constant(TAIL_DF, size)[:, None]
        power = 0.5 * (TAIL_DF + size)
        for j in range(k):
            step = z - self.mean[:, None, :, j]
            if z.shape[3] == 1:
                r2 = np.square(step[..., 0] * self.inverse[:, None, :, j, 0, 0])
            else:
                r = np.einsum("nuij,nmuj->nmui", self.inverse[:, :, j], step)
                r2 = np.einsum("nmui,nmui->nmu", r, r)
            out[..., j] = normal[:, None, :, j] - 0.5 * r2
            out[..., k + j] = heavy[:, None, :, j] - power * np.log1p(
                r2 / (TAIL_DF * TAIL_WIDTH**2)
            )
        r = (z - self.wide[0]) / self.wide[1] * self.inside
        r2 = np.einsum("nmui,nmui->nmu", r, r)
        constant = _log_t_constant(WIDE_DF, size)
        constant -= np.sum(np.log(self.wide[1]), axis=1, where=self.inside)
        out[..., 2 * k] = self.log_share[:, None, :, 2 * k] + constant
        out[..., 2 * k] -= 0.5 * (WIDE_DF + size) * np.log1p(r2 / WIDE_DF)
        return out


def _normalised(log_mass: np.ndarray) -> np.ndarray:
    """Return logs of shares along the last axis; -inf where there is no mass at all."""
    total = log_sum(log_mass)[..., None]
    out: np.ndarray = log_mass - np.where(np.isfinite(total), total, 0.0)
    return out


def log_sum(parts: np.ndarray) -> np.ndarray:
    """Log of the sum of exponentials over the last axis; quicker than that of SciPy."""
    top = parts.max(axis=-1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        out: np.ndarray = np.log(np.exp(parts - top[..., None]).sum(axis=-1))
    out += top
    return out


def _log_t_constant(df: float, size: np.ndarray) -> np.ndarray:
    """Log of the constant of a standard multivariate t density, by the number of coordinates."""
    out: np.ndarray = gammaln(0.5 * (df + size)) - gammaln(0.5 * df)
    out -= 0.5 * size * np.log(df * np.pi)
    return out


@dataclass(frozen=True, eq=False)
class Guess:
    """Explanations at n values of the hubs.

    Attributes
    ----------
    mean : array of shape (n, N, K, b)
    scale : array of shape (n, N, K, b, b)
    log_mass : array of shape (n, N, K)
        Up to a constant for each unit; -inf where there is no explanation.
    """

    mean: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray


@dataclass(frozen=True, eq=False)
class UnitMixtures:
    """Mixtures over the explanations of N units at any hubs.

    The explanations are those at the nearest of some anchors.

    Attributes
    ----------
    anchors : Explanations
        Each explanation has the same place at all anchors.
    hub_scale : array of shape (H,)
        Unit of length of the hubs.
    wide : tuple of two arrays of shape (N, b)
        Centre and width of a density that covers what no explanation describes.
    inside : array of bool, shape (N, b)
    """

    anchors: Explanations
    hub_scale: np.ndarray
    wide: tuple[np.ndarray, np.ndarray]
    inside: np.ndarray

    @classmethod
    def at_anchors(
        cls,
        anchors: Explanations,
        hub_scale: np.ndarray,
        centre: np.ndarray,
        spread: np.ndarray,
        inside: np.ndarray,
    ) -> UnitMixtures:
        """Return mixtures; the wide density is by the prior (N, b)."""
        return cls(anchors, hub_scale, (centre, WIDE_WIDTH * spread), inside)

    @property
    def n_explanations(self) -> int:
        """Most explanations K of a unit."""
        return self.anchors.z.shape[2]

    def at(self, g: np.ndarray) -> Guess:
        """Return the explanations at the anchors nearest to hubs (n, H)."""
        own = self.anchors
        nearest = own.nearest(g, self.hub_scale)
        return Guess(own.z[nearest], own.scale[nearest], own.log_mass[nearest])

    def conditional(self, guess: Guess) -> Conditional:
        """Return the mixtures with given explanations.

        Parameters
        ----------
        guess : Guess
            At n values of the hubs.
        """
        scale, log_mass = guess.scale, guess.log_mass
        with np.errstate(divide="ignore"):
            floor = np.log(np.isfinite(log_mass) * LEAST_SHARE)
        log_share = np.logaddexp(_normalised(log_mass), floor)
        log_share = _normalised(log_share) + np.log1p(-WIDE_SHARE)
        # A unit without explanations has the wide density alone.
        none = ~np.isfinite(log_mass).any(axis=2, keepdims=True)
        wide = np.where(none, 0.0, np.log(WIDE_SHARE))
        shares = np.concatenate(
            [log_share + np.log(NORMAL_SHARE), log_share + np.log(TAIL_SHARE), wide], axis=2
        )
        inverse = 1.0 / scale if scale.shape[-1] == 1 else np.linalg.inv(scale)
        return Conditional(guess.mean, scale, inverse, shares, self.wide, self.inside)
