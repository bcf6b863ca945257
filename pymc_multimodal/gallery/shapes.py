"""Mixtures that no Gaussian fits: rings, squares, bananas, skewed, heavy-tailed and circular."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import erfc, gammaln, ive

from pymc_multimodal.gallery.base import (
    DensityExpression,
    GalleryTarget,
    log_ndtr,
    mixture_target,
    softplus,
    stack_maps,
)


def rings() -> GalleryTarget:
    """Three concentric rings in 2-D, each holding mass in proportion to its radius.

    Notes
    -----
    Rings of Noble et al. (2025), arXiv 2410.19449: radii 1, 3 and 5, radial deviation 0.1. The
    density of a ring is proportional to ``exp(-(r - R)^2 / (2 s^2))``.
    """
    radii, sd = np.array([5.0, 3.0, 1.0]), 0.1
    # 2 pi times the integral of r exp(-(r - R)^2 / (2 s^2)) over r > 0, in closed form.
    bulk = radii * np.sqrt(np.pi / 2) * erfc(-radii / (sd * np.sqrt(2)))
    log_norm = np.log(2 * np.pi * sd * (sd * np.exp(-0.5 * (radii / sd) ** 2) + bulk))

    def log_components(x: Any, xp: Any) -> Any:
        # The tiny constant keeps the gradient finite at the origin, PyMC's initial point.
        radius = xp.sqrt(xp.sum(x * x, axis=-1) + 1e-20)
        return -0.5 * ((radius[..., None] - radii) / sd) ** 2 - log_norm

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        # The radius R + s z has density (1 + s z / R) phi(z), a normal whose sign is tilted; that
        # is exact but for |z| > R / s >= 10, which never happens.
        size = np.abs(rng.standard_normal(n))
        outward = rng.random(n) < 0.5 * (1.0 + sd * size / radii[k])
        radius = radii[k] + sd * np.where(outward, size, -size)
        angle = rng.uniform(0.0, 2 * np.pi, n)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return mixture_target(
        name="rings",
        weights=radii / radii.sum(),
        log_components=log_components,
        draw_component=draw_component,
        dim=2,
        scale=6.0,
        note="exact: radii in closed form, Rings of arXiv 2410.19449",
    )


def checkerboard(edge: float = 0.05) -> GalleryTarget:
    """Eight squares of side 2 on ``[-4, 4]^2`` with weights 3:1 in turn and soft edges.

    Parameters
    ----------
    edge : float
        Scale of the logistic noise that softens the edges: a component is a uniform draw in
        its square plus that noise in each coordinate.

    Notes
    -----
    Checkerboard of Noble et al. (2025), arXiv 2410.19449, which has hard edges.
    """
    cells = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    # Every second square is heavy; the heavy ones come first.
    corners = -4.0 + 2.0 * np.array(cells[::2] + cells[1::2], dtype=float)
    weights = np.repeat([3.0, 1.0], 4) / 16.0
    maps = np.repeat(np.eye(2)[None] / edge, 8, axis=0)
    joint, lower, sums = stack_maps(maps, corners)
    width = 2.0 / edge
    # The difference of two logistic functions is F(a) (1 - F(b)) (1 - exp(b - a)).
    constant = 2.0 * (np.log1p(-np.exp(-width)) - np.log(2.0))

    def log_components(x: Any, xp: Any) -> Any:
        inside = x @ joint - lower
        return constant - (softplus(-inside, xp) + softplus(inside - width, xp)) @ sums

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return corners[k] + rng.uniform(0.0, 2.0, (n, 2)) + rng.logistic(0.0, edge, (n, 2))

    return mixture_target(
        name="checkerboard",
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=2,
        scale=6.0,
        note="exact: uniform plus logistic noise, Checkerboard of arXiv 2410.19449",
    )


def skew_normal_mixture(dim: int = 20) -> GalleryTarget:
    """Three rotated skew-normal components, ``mu_k + R_k (s_k * e)``.

    Parameters
    ----------
    dim : int
        Dimension.

    Notes
    -----
    The entries of e are independent skew-normals with shapes between 3 and 8, s_k is between 0.5
    and 1.5, weights are 0.5, 0.3 and 0.2. In the manner of the 20-D mixture of Tran et al.
    (2025), arXiv 2505.07825, parameters ours.
    """
    rng = np.random.default_rng(20)
    weights = np.array([0.5, 0.3, 0.2])
    means = rng.normal(0.0, 2.0, (3, dim))
    turns = np.stack([np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(3)])
    spread = rng.uniform(0.5, 1.5, (3, dim))
    shape = rng.uniform(3.0, 8.0, (3, dim))
    joint, offset, sums = stack_maps(turns / spread[:, None, :], means)
    constant = dim * np.log(2.0 / np.sqrt(2 * np.pi)) - np.log(spread).sum(axis=1)

    def log_components(x: Any, xp: Any) -> Any:
        z = x @ joint - offset
        return constant + (log_ndtr(shape.ravel() * z, xp) - 0.5 * z**2) @ sums

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        delta = shape[k] / np.sqrt(1.0 + shape[k] ** 2)
        noise = rng.standard_normal((2, n, dim))
        skewed = delta * np.abs(noise[0]) + np.sqrt(1.0 - delta**2) * noise[1]
        return means[k] + (spread[k] * skewed) @ turns[k].T

    return mixture_target(
        name=f"skew_normal_mixture_{dim}",
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=dim,
        scale=8.0,
        note="exact: skew-normals in the manner of arXiv 2505.07825",
    )


def _banana_mixture(
    name: str,
    weights: np.ndarray,
    means: np.ndarray,
    bend: np.ndarray,
    thin: np.ndarray,
    *,
    scale: float,
    note: str,
) -> GalleryTarget:
    """Mixture of products of curved pairs ``a = u``, ``b = bend (u^2 - 1) + thin e``.

    Here u and e are standard normal; `bend` and `thin` have shape (K, pairs), `means`
    shape (K, 2 pairs), and a pair whose bend is 0 is Gaussian.
    """
    n_components, pairs = bend.shape
    picks = np.repeat(np.eye(2 * pairs)[None], n_components, axis=0)
    along, along_offset, sums = stack_maps(picks[:, :, 0::2], means)
    across, across_offset, _ = stack_maps(picks[:, :, 1::2] / thin[:, None, :], means)
    curve = (bend / thin).ravel()
    constant = -pairs * np.log(2 * np.pi) - np.log(thin).sum(axis=1)

    def log_components(x: Any, xp: Any) -> Any:
        a = x @ along - along_offset
        e = x @ across - across_offset - curve * (a**2 - 1.0)
        return constant - 0.5 * (a**2 + e**2) @ sums

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        x = np.empty((n, 2 * pairs))
        u = rng.standard_normal((n, pairs))
        x[:, 0::2] = u
        x[:, 1::2] = bend[k] * (u**2 - 1.0) + thin[k] * rng.standard_normal((n, pairs))
        return x + means[k]

    return mixture_target(
        name=name,
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=2 * pairs,
        scale=scale,
        note=note,
    )


def _check_pairs(dim: int, least: int) -> int:
    """Half of an even dimension that is large enough."""
    if dim < least or dim % 2:
        raise ValueError(
            f"dim={dim} does not split into pairs: give an even number of at least {least}."
        )
    return dim // 2


def two_bananas(dim: int = 10) -> GalleryTarget:
    """Two components of weights 0.7 and 0.3, each with one curved pair, the rest Gaussian.

    Parameters
    ----------
    dim : int
        Even dimension of at least 4; the components curve different pairs.

    Notes
    -----
    A curved pair is ``x1 ~ N(0, 1)``, ``x2 = c (x1^2 - 1) + 0.4 e`` with c = 0.8 or -0.8, which is
    the usual banana after Haario, Saksman and Tamminen (1999).
    """
    pairs = _check_pairs(dim, 4)
    bend, thin = np.zeros((2, pairs)), np.ones((2, pairs))
    bend[0, 0], bend[1, 1] = 0.8, -0.8
    thin[0, 0] = thin[1, 1] = 0.4
    return _banana_mixture(
        f"two_bananas_{dim}",
        np.array([0.7, 0.3]),
        np.stack([-np.full(dim, 2.5), np.full(dim, 2.5)]),
        bend,
        thin,
        scale=6.0,
        note="exact: sheared Gaussians",
    )


def five_bananas(ratio: float = 5.0) -> GalleryTarget:
    """Two components of weights 0.65 and 0.35 in 10-D, each a product of five thin bananas.

    Parameters
    ----------
    ratio : float
        Length over thickness of a banana, 3 to 7: pairs are ``a ~ N(0, 1)``,
        ``b = c (a^2 - 1) + e / ratio`` with c = 1 or -1, of opposite signs in the two components.

    Notes
    -----
    Each component has one maximum, yet neither one metric nor a small Gaussian mixture fits it.
    """
    if not ratio > 0.0:
        raise ValueError(f"ratio={ratio} must be positive: it is length over thickness, 3 to 7.")
    bend = np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    return _banana_mixture(
        "five_bananas" if ratio == 5.0 else f"five_bananas_{ratio:g}",
        np.array([0.65, 0.35]),
        np.stack([-np.full(10, 2.0), np.full(10, 2.0)]),
        np.stack([bend, -bend]),
        np.full((2, 5), 1.0 / ratio),
        scale=6.0,
        note="exact: sheared Gaussians",
    )


def student_t_modes(dim: int = 10, *, concentric: bool = False) -> GalleryTarget:
    """Two multivariate Student-t components of very different width, on 5 and 4 degrees of freedom.

    Parameters
    ----------
    dim : int
        Dimension.
    concentric : bool
        False: scales 0.4 and 2, weights 0.7 (narrow) and 0.3 (wide), centres at -3 and 3 in
        each coordinate. True: scales 0.1 and 2, weights 0.5 each, a narrow spike inside a wide
        slab: one local maximum, two scales.

    Notes
    -----
    The narrow basin is a ball whose volume falls steeply with its scale: at scale 0.1 in 10-D no
    practical number of starts would fall into it.
    """
    scales, freedom = np.array([0.1 if concentric else 0.4, 2.0]), np.array([5.0, 4.0])
    weights = np.array([0.5, 0.5]) if concentric else np.array([0.7, 0.3])
    half = 0.0 if concentric else 3.0
    means = np.stack([np.full(dim, -half), np.full(dim, half)])
    joint, offset, sums = stack_maps(np.eye(dim) / scales[:, None, None], means)
    power = 0.5 * (freedom + dim)
    constant = gammaln(power) - gammaln(0.5 * freedom) - dim * np.log(scales)
    constant -= 0.5 * dim * np.log(np.pi * freedom)

    def log_components(x: Any, xp: Any) -> Any:
        square = ((x @ joint - offset) ** 2) @ sums
        return constant - power * xp.log1p(square / freedom)

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        stretch = np.sqrt(freedom[k] / rng.chisquare(freedom[k], (n, 1)))
        return means[k] + scales[k] * stretch * rng.standard_normal((n, dim))

    return mixture_target(
        name=f"student_t_{'concentric' if concentric else 'modes'}_{dim}",
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=dim,
        scale=10.0 if concentric else 3.0,
        note="exact: multivariate Student-t components",
    )


def torus() -> GalleryTarget:
    """Two modes on the torus, weights 0.7 and 0.3, the second across the seam at ``+-pi``.

    Notes
    -----
    Each component is a product of two von Mises densities. The variable ``phi`` has PyMC's
    circular transform, so the density is periodic in the unconstrained space: draws lie in
    ``[-pi, pi)``, and `log_z` and the prior draws refer to one period.
    """
    weights = np.array([0.7, 0.3])
    centres = np.array([[0.5, -1.0], [np.pi, np.pi - 0.1]])
    kappa = np.array([[4.0, 6.0], [8.0, 5.0]])
    # kappa cos(phi - centre) is linear in cos(phi) and sin(phi).
    cosine, sine = (kappa * np.cos(centres)).T, (kappa * np.sin(centres)).T
    constant = -(np.log(2 * np.pi * ive(0, kappa)) + kappa).sum(axis=1)

    def log_components(x: Any, xp: Any) -> Any:
        return constant + xp.cos(x) @ cosine + xp.sin(x) @ sine

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        phi = rng.vonmises(centres[k], kappa[k], (n, 2))
        return np.mod(phi + np.pi, 2 * np.pi) - np.pi

    def make_model(density: DensityExpression) -> pm.Model:
        flat = 1e-3
        with pm.Model() as model:
            phi = pm.VonMises("phi", 0.0, flat, shape=2)
            prior = pm.logp(pm.VonMises.dist(0.0, flat, shape=2), phi).sum()
            pm.Potential("target", density(phi, pt) - prior)
        return model

    return mixture_target(
        name="torus",
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=2,
        make_model=make_model,
        note="exact: products of von Mises densities, over one period",
    )
