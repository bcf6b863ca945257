"""Targets that papers on multimodal sampling use, with truths by exact sums or quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from physics_problems import PHYSICS
from problems import (
    Box,
    Normal,
    Problem,
    aliases,
    of_gallery,
    on_vector,
    over_prior,
    slow_plume,
)
from scipy.special import gammaln, logsumexp
from scipy.stats import loggamma, norm, t

from pymc_multimodal import gallery

LOG_2PI = float(np.log(2 * np.pi))
# Points of an axis of a quadrature in one dimension, and in two. Conventional.
LINE, PLANE = 200_001, 1_000
# Draws that measure the mass of heavy-tailed modes outside of the prior; the standard error of the
# log evidence is a few 1e-5.
EXACT_DRAWS = 300_000


def one_hot(labels: np.ndarray, k: int) -> np.ndarray:
    return (labels[:, None] == np.arange(k)).astype(float)


def midpoints(low: float, high: float, n: int) -> np.ndarray:
    return low + (high - low) * (np.arange(n) + 0.5) / n


def on_plane(
    name: str, sides: tuple[tuple[float, float], ...], log_likelihood: Callable, events: Callable
) -> tuple[Callable, np.ndarray, float]:
    """Answer of a problem in two dimensions with a uniform prior, by midpoints."""
    x, y = (midpoints(*side, PLANE) for side in sides)
    total, sums = [], []
    for some in np.array_split(x, 50):
        points = np.stack(np.meshgrid(some, y, indexing="ij"), axis=-1).reshape(-1, 2)
        logs = log_likelihood(points, np)
        total.append(logsumexp(logs))
        sums.append(np.exp(logs - total[-1]) @ events(points))
    log_z = logsumexp(total)
    truth = np.exp(np.array(total) - log_z) @ np.array(sums)
    return events, truth, float(log_z - 2 * np.log(PLANE))


def eggbox() -> Problem:
    """Eighteen peaks, some on borders (Feroz, Hobson and Bridges 2009, arXiv:0809.3437, 6.1)."""
    at = 2 * np.pi * np.array([(i, j) for i in range(6) for j in range(6) if (i + j) % 2 == 0])

    def log_likelihood(x: Any, xp: Any) -> Any:
        return (2.0 + xp.cos(x[..., 0] / 2) * xp.cos(x[..., 1] / 2)) ** 5

    def events(x: np.ndarray) -> np.ndarray:
        return one_hot(((x[:, None] - at) ** 2).sum(axis=2).argmin(axis=1), len(at))

    side = (0.0, 10 * np.pi)
    answer = on_plane("eggbox", (side, side), log_likelihood, events)
    return on_vector("eggbox", 2, Box(*side), log_likelihood, answer)


def shells(dim: int) -> Problem:
    """Two thin shells (Feroz, Hobson and Bridges 2009, arXiv:0809.3437, 6.2)."""
    radius, width, half = 2.0, 0.1, 6.0
    centres = np.zeros((2, dim))
    centres[:, 0] = -3.5, 3.5

    def log_likelihood(x: Any, xp: Any) -> Any:
        # The tiny constant keeps the gradient finite at the centres.
        parts = [
            -0.5 * ((xp.sqrt(xp.sum((x - c) ** 2, axis=-1) + 1e-20) - radius) / width) ** 2
            for c in centres
        ]
        return gallery.base.logsumexp(xp.stack(parts, axis=-1), xp) - np.log(width) - LOG_2PI / 2

    r = np.linspace(1e-6, radius + 30 * width, LINE)
    log_area = np.log(2.0) + 0.5 * dim * np.log(np.pi) - gammaln(0.5 * dim)
    logs = log_area + (dim - 1) * np.log(r) + norm.logpdf(r, radius, width)
    log_z = float(np.log(2.0) + logsumexp(logs) + np.log(r[1] - r[0]) - dim * np.log(2 * half))

    def events(x: np.ndarray) -> np.ndarray:
        return one_hot((x[:, 0] > 0).astype(int), 2)

    answer = (events, np.array([0.5, 0.5]), log_z)
    return on_vector(f"shells_{dim}", dim, Box(-half, half), log_likelihood, answer)


def log_gammas(dim: int) -> Problem:
    """Four modes by two log-gammas and two normals (Beaujean and Caldwell 2013, arXiv:1304.7808).

    All other coordinates have one mode; half of them are log-gammas.
    """
    width, ends = 1 / 30, (1 / 3, 2 / 3)
    skewed = max(0, (dim + 2) // 2 - 2)

    def log_gamma(x: Any, place: float, xp: Any) -> Any:
        z = (x - place) / width
        return z - xp.exp(z) - np.log(width)

    def log_normal(x: Any, place: float, xp: Any) -> Any:
        return -0.5 * ((x - place) / width) ** 2 - np.log(width) - LOG_2PI / 2

    def log_likelihood(x: Any, xp: Any) -> Any:
        total = 0.0
        for column, kind in enumerate((log_gamma, log_normal)):
            parts = [kind(x[..., column], place, xp) - np.log(2.0) for place in ends]
            total = total + gallery.base.logsumexp(xp.stack(parts, axis=-1), xp)
        if dim > 2:
            total = total + xp.sum(log_gamma(x[..., 2 : 2 + skewed], ends[1], xp), axis=-1)
            total = total + xp.sum(log_normal(x[..., 2 + skewed :], ends[1], xp), axis=-1)
        return total

    kinds = [loggamma(1.0, place, width) for place in ends], [norm(p, width) for p in ends]
    mass = np.array([[np.mean([k.cdf(b) - k.cdf(a) for k in kind])
                      for a, b in ((0, 0.5), (0.5, 1))] for kind in kinds])  # fmt: skip
    truth = np.outer(*mass).ravel()
    log_z = np.log(truth.sum())
    for kind, count in ((kinds[0][1], skewed), (kinds[1][1], dim - 2 - skewed)):
        log_z += count * np.log(kind.cdf(1) - kind.cdf(0))

    def events(x: np.ndarray) -> np.ndarray:
        upper = (x[:, :2] > 0.5).astype(int)
        return one_hot(2 * upper[:, 0] + upper[:, 1], 4)

    answer = (events, truth / truth.sum(), float(log_z))
    return on_vector(f"log_gammas_{dim}", dim, Box(0.0, 1.0), log_likelihood, answer)


def many_wells(dim: int) -> Problem:
    """Product of double wells and normals (Midgley et al. 2023, arXiv:2208.01893): 2^(d/2) modes.

    The events are that a coordinate is in its upper well.
    """
    pairs, prior = dim // 2, Normal(2.0)

    def density(x: Any, xp: Any) -> Any:
        a, b = x[..., :pairs], x[..., pairs:]
        return xp.sum(-(a**4) + 6 * a**2 + 0.5 * a, axis=-1) - 0.5 * xp.sum(b**2, axis=-1)

    x = np.linspace(-6, 6, LINE)
    logs = -(x**4) + 6 * x**2 + 0.5 * x
    total = logsumexp(logs)
    upper = np.exp(logsumexp(logs[x > 0]) - total)
    log_z = pairs * float(total + np.log(x[1] - x[0]) + 0.5 * LOG_2PI)
    answer = (lambda x: (x[:, :pairs] > 0).astype(float), np.full(pairs, upper), log_z)
    return on_vector(f"many_wells_{dim}", dim, prior, over_prior(density, prior), answer)


def mixture(logs: Callable, weights: np.ndarray) -> tuple[Callable, Callable]:
    """Return density and memberships of a mixture of normalised components ``logs(x, xp)``."""

    def density(x: Any, xp: Any) -> Any:
        return gallery.base.logsumexp(np.log(weights) + logs(x, xp), xp)

    def events(x: np.ndarray) -> np.ndarray:
        parts = np.log(weights) + logs(x, np)
        return np.exp(parts - logsumexp(parts, axis=1, keepdims=True))

    return density, events


def squares(x: Any, xp: Any, means: np.ndarray, scales: np.ndarray) -> Any:
    """Squared distances (..., k) from each mean, in units of its scale."""
    parts = [xp.sum(((x - m) / s) ** 2, axis=-1) for m, s in zip(means, scales, strict=True)]
    return xp.stack(parts, axis=-1)


def students(x: Any, xp: Any, means: np.ndarray, scales: np.ndarray, df: np.ndarray) -> Any:
    """Log densities of multivariate Student-t components with spherical scale matrices."""
    dim = means.shape[1]
    square = squares(x, xp, means, scales)
    constant = gammaln(0.5 * (df + dim)) - gammaln(0.5 * df) - 0.5 * dim * np.log(df * np.pi)
    return constant - dim * np.log(scales) - 0.5 * (df + dim) * xp.log1p(square / df)


def student_t_modes_10() -> Problem:
    """Return the target of the gallery with a uniform prior: that of a normal would be unbounded.

    A likelihood that is a Student density over a normal prior grows without bound.
    """
    half, target = 40.0, gallery.student_t_modes(10)
    assert target.weights is not None
    assert target.draws is not None
    means = np.stack([np.full(10, -3.0), np.full(10, 3.0)])
    logs = partial(students, means=means, scales=np.array([0.4, 2.0]), df=np.array([5.0, 4.0]))
    density, events = mixture(logs, target.weights)
    x = target.draws(EXACT_DRAWS, np.random.default_rng(0))
    within, share = np.abs(x).max(axis=1) < half, events(x)
    inside = target.weights * share[within].sum(axis=0) / share.sum(axis=0)
    log_z = np.log(inside.sum()) - 10 * np.log(2 * half)
    answer = (events, inside / inside.sum(), float(log_z))
    return on_vector("student_t_modes_10", 10, Box(-half, half), density, answer)


def product_t_50() -> Problem:
    """Ten products of Student-t densities, 2 degrees of freedom (Blessing et al. 2024, MoS).

    arXiv:2406.07423, with other means. The prior is uniform.
    """
    dim, half, df = 50, 40.0, 2.0
    means = np.random.default_rng(42).uniform(-10, 10, (10, dim))
    weights = np.full(10, 0.1)
    constant = float(gammaln(1.5) - gammaln(1.0) - 0.5 * np.log(df * np.pi))

    def logs(x: Any, xp: Any) -> Any:
        parts = [xp.sum(xp.log1p((x - m) ** 2 / df), axis=-1) for m in means]
        return dim * constant - 0.5 * (df + 1) * xp.stack(parts, axis=-1)

    density, events = mixture(logs, weights)
    inside = (t.cdf(half - means, df) - t.cdf(-half - means, df)).prod(axis=1) * weights
    log_z = float(np.log(inside.sum()) - dim * np.log(2 * half))
    # A component's share of a draw differs from one only where components overlap.
    answer = (events, inside / inside.sum(), log_z)
    return on_vector("product_t_50", dim, Box(-half, half), density, answer)


def normals(x: Any, xp: Any, means: np.ndarray, sd: np.ndarray) -> Any:
    """Log densities of spherical normal components."""
    dim = means.shape[1]
    return -dim * np.log(sd) - 0.5 * dim * LOG_2PI - 0.5 * squares(x, xp, means, sd)


def spike_in_slab() -> Problem:
    """Put a spike inside a slab in 20 dimensions (Skilling 2006, doi:10.1214/06-BA127).

    There is one maximum. Skilling's spike weighs a hundred times as much; here both matter.
    """
    sd, weights, half = np.array([0.01, 0.1]), np.array([0.6, 0.4]), 0.5
    density, events = mixture(partial(normals, means=np.zeros((2, 20)), sd=sd), weights)
    inside = weights * (norm.cdf(half / sd) - norm.cdf(-half / sd)) ** 20
    answer = (events, inside / inside.sum(), float(np.log(inside.sum())))
    return on_vector("spike_in_slab_20", 20, Box(-half, half), density, answer)


def two_widths() -> Problem:
    """Return a normal ten times as narrow as another, in four dimensions."""
    means, sd, weights = np.zeros((2, 4)), np.array([1.0, 0.1]), np.array([0.4, 0.6])
    means[:, 0] = -4.0, 4.0
    density, events = mixture(partial(normals, means=means, sd=sd), weights)
    prior = Normal(5.0)
    answer = (events, weights, 0.0)
    return on_vector("two_widths_4", 4, prior, over_prior(density, prior), answer)


def mueller_brown() -> Problem:
    """Mueller and Brown's potential (1979, doi:10.1007/BF00547608) at kT = 20: bent minima."""
    height = np.array([-200.0, -100.0, -170.0, 15.0])
    aa, ab, bb = np.array([[-1, 0, -10], [-1, 0, -10], [-6.5, 11, -6.5], [0.7, 0.6, 0.7]]).T
    at = np.array([[1.0, 0.0], [0.0, 0.5], [-0.5, 1.5], [-1.0, 1.0]])
    minima = np.array([[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]])
    scale, sides = np.array([2.7, 2.2]), np.array([-1.5, -0.2])

    def place(u: Any) -> tuple[Any, Any]:
        return sides[0] + scale[0] * u[..., 0], sides[1] + scale[1] * u[..., 1]

    def log_likelihood(u: Any, xp: Any) -> Any:
        x, y = place(u)
        total = 0.0
        for h, a, b, c, (p, q) in zip(height, aa, ab, bb, at, strict=True):
            dx, dy = x - p, y - q
            total = total + h * xp.exp(a * dx**2 + b * dx * dy + c * dy**2)
        return -total / 20.0

    def events(u: np.ndarray) -> np.ndarray:
        x = np.stack(place(u), axis=1)
        near = ((x[:, None] - minima) ** 2).sum(axis=2).argmin(axis=1)
        # Two of the three minima are hardly apart: one basin.
        return one_hot((near > 0).astype(int), 2)

    side = (0.0, 1.0)
    answer = on_plane("mueller_brown", (side, side), log_likelihood, events)
    return on_vector("mueller_brown", 2, Box(*side), log_likelihood, answer)


def funnel() -> Problem:
    """Neal's funnel in ten dimensions (2003, doi:10.1214/aos/1056562461), with a uniform prior."""
    half, sd = 30.0, 3.0

    def density(x: Any, xp: Any) -> Any:
        v, rest = x[..., 0], x[..., 1:]
        square = xp.sum(rest**2, axis=-1)
        first = -0.5 * (v / sd) ** 2 - np.log(sd) - 0.5 * LOG_2PI
        return first - 4.5 * v - 4.5 * LOG_2PI - 0.5 * square * xp.exp(-v)

    v = np.linspace(-half, half, LINE)
    logs = norm.logpdf(v, 0, sd) + 9 * np.log(1 - 2 * norm.cdf(-half * np.exp(-v / 2)))
    total = logsumexp(logs)
    truth = [np.exp(logsumexp(logs[v > 0]) - total), np.exp(logsumexp(logs[v < -3]) - total)]
    log_z = float(total + np.log(v[1] - v[0]) - 10 * np.log(2 * half))

    def events(x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0] > 0, x[:, 0] < -3], axis=1).astype(float)

    return on_vector("funnel_10", 10, Box(-half, half), density, (events, np.array(truth), log_z))


def two_modes(dim: int) -> Problem:
    return of_gallery(gallery.two_modes(dim), 2.0)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    **{f"two_modes_{dim}": partial(two_modes, dim) for dim in (8, 16, 32, 64, 128)},
    "skew_normal_mixture_20": lambda: of_gallery(gallery.skew_normal_mixture(), 8.0),
    "forty_modes": lambda: of_gallery(gallery.forty_modes(), 60.0),
    "two_bananas_10": lambda: of_gallery(gallery.two_bananas(), 6.0),
    "student_t_modes_10": student_t_modes_10,
    "gaussian_mixture_100d": lambda: of_gallery(gallery.gaussian_mixture_100d(), 5.0),
    "slow_plume": slow_plume,
    "rv_aliases": aliases,
    "eggbox": eggbox,
    "shells_2": partial(shells, 2),
    "shells_10": partial(shells, 10),
    "shells_30": partial(shells, 30),
    "log_gammas_2": partial(log_gammas, 2),
    "log_gammas_10": partial(log_gammas, 10),
    "log_gammas_30": partial(log_gammas, 30),
    "many_wells_8": partial(many_wells, 8),
    "many_wells_12": partial(many_wells, 12),
    "many_wells_32": partial(many_wells, 32),
    "forty_normals_50": lambda: replace(
        of_gallery(gallery.forty_modes(50), 60.0), name="forty_normals_50"
    ),
    "product_t_50": product_t_50,
    "spike_in_slab_20": spike_in_slab,
    "two_widths_4": two_widths,
    "mueller_brown": mueller_brown,
    "funnel_10": funnel,
    **PHYSICS,
}
