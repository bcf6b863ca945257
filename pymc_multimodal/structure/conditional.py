"""The densities that units are proposed from at given hubs: a mixture over explanations each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.structure.explanations import Explanations

__all__ = ["Conditional", "Guess", "Parts", "UnitMixtures", "log_sum"]

# Scale of the t density around an explanation, in widths of it. Conventional: 0.9 would be best for
# a normal, and others have heavier tails.
WIDTH = 1.0
# Width of the density over all explanations, in spreads of the prior. Conventional.
WIDE_WIDTH = 1.5
# Number of points that this density has a share of, so that it always gets one: a number that
# varied would add to the variance.
WIDE_POINTS = 1.0
# Least uniform number: the rounding of one.
LEAST_UNIFORM = 1.2e-16
# Least share of an explanation in its unit's mixture: its mass may be larger than that of the
# normal approximation. Conventional.
LEAST_SHARE = 0.005


@dataclass(frozen=True, eq=False)
class Parts:
    """Mixtures of P parts in place of K explanations of N units, in the units of their scales.

    Attributes
    ----------
    mean : array of shape (N, K, P, b)
    scale : array of shape (N, K, P, b, b)
        Lower-triangular factors.
    log_share : array of shape (N, K, P)
        -inf where there are fewer parts.
    """

    mean: np.ndarray
    scale: np.ndarray
    log_share: np.ndarray

    @classmethod
    def none(cls, n_units: int, k: int, b: int, p: int) -> Parts:
        """Return one part for each explanation, itself, and room for others."""
        log_share = np.full((n_units, k, p), -np.inf)
        log_share[..., 0] = 0.0
        scale = np.broadcast_to(np.eye(b), (n_units, k, p, b, b)).copy()
        return cls(np.zeros((n_units, k, p, b)), scale, log_share)

    def copied(self) -> Parts:
        """Return a copy."""
        return Parts(self.mean.copy(), self.scale.copy(), self.log_share.copy())

    def put(
        self,
        place: tuple[int, int],
        inside: np.ndarray,
        parts: tuple[np.ndarray, np.ndarray, np.ndarray],
        kept: float,
    ) -> None:
        """Set the parts of one explanation beside itself, which keeps a share.

        Parameters
        ----------
        place : tuple of int
            Unit and explanation.
        inside : array of bool, shape (b,)
            Which coordinates the unit has.
        parts : tuple of three arrays
            Means, scales and shares of P - 1 or fewer parts, in these coordinates.
        kept : float
        """
        mean, scale, share = parts
        columns, end = np.flatnonzero(inside), 1 + len(share)
        self.mean[place][1:end, columns] = mean
        self.scale[place][1:end, columns[:, None], columns] = scale
        self.log_share[place][:end] = np.log(np.append(kept, (1.0 - kept) * share))


@dataclass(frozen=True, eq=False)
class Conditional:
    """The mixtures of all units at n values of the hubs.

    An explanation, or a part of one, has t densities with four degrees of freedom along the axes of
    its scale, whose quantiles have a closed form (Shaw 2006, doi:10.21314/JCF.2006.150).

    Attributes
    ----------
    mean : array of shape (n, N, K, b)
    scale, inverse : arrays of shape (n, N, K, b, b)
        Lower-triangular factors of the explanations' covariances, and their inverses.
    log_share : array of shape (n, N, K + 1)
        Of the explanations, and of a wide density.
    wide : tuple of two arrays of shape (N, b)
        Centre and width of the wide density, which covers what no explanation describes.
    inside : array of bool, shape (N, b)
    whole : Conditional or None
        The explanations, where K counts parts of them.
    """

    mean: np.ndarray
    scale: np.ndarray
    inverse: np.ndarray
    log_share: np.ndarray
    wide: tuple[np.ndarray, np.ndarray]
    inside: np.ndarray
    whole: Conditional | None = None

    @property
    def explanations(self) -> Conditional:
        """The mixtures with one density for each explanation."""
        return self if self.whole is None else self.whole

    def in_parts(self, parts: Parts) -> Conditional:
        """Return the mixtures with parts in place of the explanations."""
        n, n_units, k, b = self.mean.shape
        moved = self.mean[..., None, :] + np.einsum("nukij,ukpj->nukpi", self.scale, parts.mean)
        scale = self.scale[:, :, :, None] @ parts.scale
        with np.errstate(invalid="ignore"):
            share = self.log_share[..., :k, None] + parts.log_share
        flat = k * parts.mean.shape[2]
        scale = scale.reshape(n, n_units, flat, b, b)
        return Conditional(
            moved.reshape(n, n_units, flat, b),
            scale,
            1.0 / scale if b == 1 else np.linalg.inv(scale),
            np.concatenate([share.reshape(n, n_units, flat), self.log_share[..., k:]], axis=2),
            self.wide,
            self.inside,
            self,
        )

    @cached_property
    def _edges(self) -> np.ndarray:
        """Borders between the components on the way from 0 to 1, shape (n, N, K + 2)."""
        total = np.cumsum(np.exp(self.log_share), axis=2)
        return np.concatenate([np.zeros((*total.shape[:2], 1)), total / total[..., -1:]], axis=2)

    @property
    def sizes(self) -> np.ndarray:
        """Coordinates of each unit, shape (N,)."""
        out: np.ndarray = self.inside.sum(axis=1)
        return out

    def sample(
        self, m: int, rng: np.random.Generator, given: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw m points for each unit: images of a lattice that is shifted at random.

        Each point has the density of the mixture, and their mean a smaller variance than that of
        independent points (Cranley and Patterson 1976, doi:10.1137/0713071).

        Parameters
        ----------
        m : int
        rng : numpy.random.Generator
        given : array of shape (p, N, b), optional
            One of the points of the first p rows; the others of these are drawn as if it had been
            drawn with them.

        Returns
        -------
        array of shape (n, m, N, b)
        """
        n, n_units, _, b = self.mean.shape
        lattice, shift = _lattice(m, b), rng.random((n, n_units, b))
        if given is None or not len(given):
            return self._points((shift[:, None] + lattice[:, None]) % 1.0)
        place = rng.integers(m, size=given.shape[:2])
        shift[: len(given)] = self._first(len(given))._uniform_of(given, rng) - lattice[place]
        z = self._points((shift[:, None] + lattice[:, None]) % 1.0)
        row, unit = np.indices(place.shape)
        z[row, place, unit] = given
        return z

    def _first(self, p: int) -> Conditional:
        """Return the mixtures at the first p values of the hubs."""
        if p == len(self.mean):
            return self
        names = ("mean", "scale", "inverse", "log_share")
        return replace(self, **{name: getattr(self, name)[:p] for name in names})

    def _points(self, u: np.ndarray) -> np.ndarray:
        """Map uniform numbers (n, m, N, b) to points; the first of each also tells the component.

        The array u is written over.
        """
        n, _, n_units, b = u.shape
        k = self.mean.shape[2]
        component = np.zeros(u.shape[:3], dtype=int)
        for c in range(k):
            component += u[..., 0] >= self._edges[:, None, :, c + 1]
        row, unit = np.arange(n)[:, None, None], np.arange(n_units)
        low, high = self._edges[row, unit, component], self._edges[row, unit, component + 1]
        u[..., 0] = (u[..., 0] - low) / np.maximum(high - low, LEAST_UNIFORM)
        noise = _t_quantile(np.clip(u, LEAST_UNIFORM, 1.0 - LEAST_UNIFORM))
        wide = component == k
        which = np.where(wide, 0, component)
        if b == 1:
            step = self.scale[row, unit, which][..., 0] * noise
        else:
            step = np.einsum("nmuij,nmuj->nmui", self.scale[row, unit, which], noise)
        z = self.mean[row, unit, which] + WIDTH * step
        z = np.where(wide[..., None], self.wide[0] + self.wide[1] * noise, z)
        return z * self.inside

    def _uniform_of(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw uniform numbers that `_points` maps to points (n, N, b): the component is random."""
        n, n_units, _ = z.shape
        k = self.mean.shape[2]
        parts = self.log_parts(z[:, None])[:, :, 0]
        share = np.cumsum(np.exp(parts - parts.max(axis=0)), axis=0)
        component = (rng.random((n, n_units)) * share[-1] >= share).sum(axis=0)
        component = np.minimum(component, k)
        row, unit = np.indices((n, n_units))
        which = np.where(component == k, 0, component)
        step = (z - self.mean[row, unit, which]) / WIDTH
        noise = np.einsum("nuij,nuj->nui", self.inverse[row, unit, which], step)
        wide = (z - self.wide[0]) / self.wide[1] * self.inside
        u = _t_distribution(np.where((component == k)[..., None], wide, noise))
        low, high = self._edges[row, unit, component], self._edges[row, unit, component + 1]
        u[..., 0] = low + (high - low) * u[..., 0]
        return u

    def log_parts(self, z: np.ndarray) -> np.ndarray:
        """Log of share times density of each component at points (n, m, N, b).

        Returns
        -------
        array of shape (K + 1, n, m, N)
        """
        k, size = self.mean.shape[2], self.sizes
        out = np.empty((k + 1, *z.shape[:3]))
        constant = self._log_scale + (size * np.log(0.375 / WIDTH))[:, None]
        for j in range(k):
            out[j] = constant[:, None, :, j] + _log_t(self._apart(z, j) / WIDTH)
        r = (z - self.wide[0]) / self.wide[1] * self.inside
        of_wide = size * np.log(0.375) - np.sum(np.log(self.wide[1]), axis=1, where=self.inside)
        out[k] = (self.log_share[:, None, :, k] + of_wide) + _log_t(r)
        return out

    def log_normals(self, z: np.ndarray) -> np.ndarray:
        """Log of share times normal density of each explanation at points (n, m, N, b).

        These are the normal approximations of the units' densities, up to one factor for all
        explanations of a unit: they tell to which one a point belongs, where the t densities, and
        the parts of explanations, only cover it.

        Returns
        -------
        array of shape (K, n, m, N)
        """
        if self.whole is not None:
            return self.whole.log_normals(z)
        out = np.empty((self.mean.shape[2], *z.shape[:3]))
        for j in range(len(out)):
            r = self._apart(z, j)
            out[j] = self._log_scale[:, None, :, j] - 0.5 * np.einsum("nmui,nmui->nmu", r, r)
        return out

    @cached_property
    def _log_scale(self) -> np.ndarray:
        """Log of the share of each explanation, relative to its volume, shape (n, N, K)."""
        log_det = np.log(np.diagonal(self.inverse, axis1=-2, axis2=-1)).sum(axis=-1)
        out: np.ndarray = self.log_share[..., : log_det.shape[2]] + log_det
        return out

    def _apart(self, z: np.ndarray, j: int) -> np.ndarray:
        """Distances of points (n, m, N, b) from explanation j along the axes of its scale."""
        step = z - self.mean[:, None, :, j]
        if z.shape[3] == 1:
            return step * self.inverse[:, None, :, j, 0]
        out: np.ndarray = np.einsum("nuij,nmuj->nmui", self.inverse[:, :, j], step)
        return out


def _t_quantile(u: np.ndarray) -> np.ndarray:
    """Quantiles of the t distribution with four degrees of freedom (Shaw 2006, section 2.3)."""
    root = np.sqrt(4.0 * u * (1.0 - u))
    square = np.cos(np.arccos(root) / 3.0) / root - 1.0
    return np.copysign(2.0 * np.sqrt(np.maximum(square, 0.0)), u - 0.5)


def _t_distribution(x: np.ndarray) -> np.ndarray:
    """Distribution function of the t distribution with four degrees of freedom."""
    square = 1.0 + 0.25 * x**2
    out: np.ndarray = 0.5 + 0.375 * x / np.sqrt(square) * (1.0 - x**2 / (12.0 * square))
    return out


def _log_t(r: np.ndarray) -> np.ndarray:
    """Sum over coordinates of the log density of t variables, but for ``log(3 / 8)`` of each."""
    out: np.ndarray = np.log1p(0.25 * r**2)
    out = out[..., 0] if out.shape[-1] == 1 else out.sum(axis=-1)
    out *= -2.5
    return out


@lru_cache
def _lattice(m: int, b: int) -> np.ndarray:
    """Return m points of the unit cube in b dimensions that are spread evenly, shape (m, b).

    The first coordinate is divided evenly, the others by powers of the inverse of the root of
    x^b = x + 1, which is the golden ratio for b = 2.
    """
    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / b) if b > 1 else root
    step = np.append(1.0 / m, root ** -np.arange(1.0, b))
    return np.arange(m)[:, None] * step % 1.0


def _normalised(log_mass: np.ndarray) -> np.ndarray:
    """Return logs of shares along the last axis; -inf where there is no mass at all."""
    total = log_sum(log_mass, axis=-1)[..., None]
    out: np.ndarray = log_mass - np.where(np.isfinite(total), total, 0.0)
    return out


def log_sum(parts: np.ndarray, axis: int = 0) -> np.ndarray:
    """Log of the sum of exponentials over one axis; quicker than that of SciPy."""
    top = parts.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    out = np.exp(parts - top).sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        np.log(out, out=out)
    out += top
    result: np.ndarray = out.squeeze(axis)
    return result


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
    parts : Parts or None
        Of the explanations at all hubs, where some are not normal.
    """

    anchors: Explanations
    hub_scale: np.ndarray
    wide: tuple[np.ndarray, np.ndarray]
    inside: np.ndarray
    parts: Parts | None = None

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

    @property
    def n_densities(self) -> int:
        """Most densities of a unit: explanations or their parts, and a wide one."""
        n_parts = 1 if self.parts is None else self.parts.mean.shape[2]
        return self.n_explanations * n_parts + 1

    def at(self, g: np.ndarray) -> Guess:
        """Return the explanations at the anchors nearest to hubs (n, H)."""
        own = self.anchors
        nearest, z, log_mass = own.expected(g, self.hub_scale)
        return Guess(z, own.scale[nearest], log_mass)

    def at_anchor(self, g: np.ndarray) -> np.ndarray:
        """Return where explanations are at the anchors nearest to hubs (n, H): (n, N, K, b)."""
        return self.anchors.z[self.anchors.nearest(g, self.hub_scale)]

    def conditional(self, guess: Guess, points: int) -> Conditional:
        """Return the mixtures with given explanations.

        Parameters
        ----------
        guess : Guess
            At n values of the hubs.
        points : int
            Points that are drawn of each unit.
        """
        scale, log_mass = guess.scale, guess.log_mass
        with np.errstate(divide="ignore"):
            floor = np.log(np.isfinite(log_mass) * LEAST_SHARE)
        log_share = np.logaddexp(_normalised(log_mass), floor)
        share = WIDE_POINTS / points
        log_share = _normalised(log_share) + np.log1p(-share)
        # A unit without explanations has the wide density alone.
        none = ~np.isfinite(log_mass).any(axis=2, keepdims=True)
        wide = np.where(none, 0.0, np.log(share))
        inverse = 1.0 / scale if scale.shape[-1] == 1 else np.linalg.inv(scale)
        shares = np.concatenate([log_share, wide], axis=2)
        found = Conditional(guess.mean, scale, inverse, shares, self.wide, self.inside)
        return found if self.parts is None else found.in_parts(self.parts)
