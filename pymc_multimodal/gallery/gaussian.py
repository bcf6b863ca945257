"""Mixtures of Gaussians."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pymc_multimodal.gallery.base import GalleryTarget, check_choice, mixture_target, stack_maps


def gaussian_mixture(
    name: str,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    *,
    scale: float,
    note: str,
) -> GalleryTarget:
    """Mixture of Gaussians with given parameters.

    Parameters
    ----------
    name : str
        Name of the target.
    weights : numpy.ndarray
        Shape (K,), in any order and on any scale; components are sorted by weight.
    means : numpy.ndarray
        Shape (K, d).
    covariances : numpy.ndarray
        Variances, shape (K, d), or full matrices, shape (K, d, d).
    scale : float
        Prior standard deviation of the model.
    note : str
        Where the reference comes from.
    """
    order = np.argsort(-weights, kind="stable")
    weights, means, covariances = weights[order] / weights.sum(), means[order], covariances[order]
    dim = means.shape[1]
    full = covariances.ndim == 3
    roots = np.linalg.cholesky(covariances) if full else np.sqrt(covariances)
    diagonals = np.diagonal(roots, axis1=1, axis2=2) if full else roots
    constant = -0.5 * dim * np.log(2 * np.pi) - np.log(diagonals).sum(axis=1)
    if full:
        joint, offset, sums = stack_maps(np.linalg.inv(roots).swapaxes(1, 2), means)
    else:
        # The expanded square costs 2 d K operations a point, with no array of length d K.
        square, linear = -0.5 / covariances.T, (means / covariances).T
        constant_diagonal = constant - 0.5 * (means**2 / covariances).sum(axis=1)

    def log_components(x: Any, xp: Any) -> Any:
        if full:
            return constant - 0.5 * ((x @ joint - offset) ** 2) @ sums
        return constant_diagonal + (x * x) @ square + x @ linear

    def draw_component(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((n, dim))
        return means[k] + (noise @ roots[k].T if full else noise * roots[k])

    return mixture_target(
        name=name,
        weights=weights,
        log_components=log_components,
        draw_component=draw_component,
        dim=dim,
        scale=scale,
        note=note,
    )


def _orthogonal(rng: np.random.Generator, dim: int) -> np.ndarray:
    """Random orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


def two_modes(
    dim: int = 16,
    conditioning: Literal["none", "medium", "hard"] = "none",
    *,
    rotated: bool = False,
    separation: float = 1.0,
) -> GalleryTarget:
    """Two Gaussians of weights 2/3 and 1/3 at ``-a 1`` and ``+a 1`` with the same covariance.

    Parameters
    ----------
    dim : int
        Dimension; the source uses 8 to 128.
    conditioning : {"none", "medium", "hard"}
        Variances ``0.05 * logspace(-e, 0, dim)`` with e = 0, 1 or 2.
    rotated : bool
        Turn the covariance by the orthogonal factor of a seeded uniform matrix.
    separation : float
        The half distance a, in each coordinate.

    Notes
    -----
    TwoModes, TwoModesFull and the distance study of Noble et al. (2025), arXiv 2410.19449.
    """
    check_choice("conditioning", conditioning, ("none", "medium", "hard"))
    exponent = {"none": 0.0, "medium": 1.0, "hard": 2.0}[conditioning]
    covariance = 0.05 * np.logspace(-exponent, 0.0, dim)
    if rotated:
        turn = np.linalg.qr(5.0 * np.random.default_rng(42).random((dim, dim)))[0]
        covariance = (turn * covariance) @ turn.T
    name = f"two_modes_{dim}"
    name += "" if conditioning == "none" else f"_{conditioning}"
    name += "_rotated" if rotated else ""
    name += "" if separation == 1.0 else f"_apart_{separation:g}"
    return gaussian_mixture(
        name,
        np.array([2.0, 1.0]),
        separation * np.stack([-np.ones(dim), np.ones(dim)]),
        np.stack([covariance, covariance]),
        scale=2.0 * separation,
        note="exact: Gaussian mixture, TwoModes of arXiv 2410.19449",
    )


def many_modes(n_modes: int = 16) -> GalleryTarget:
    """Gaussians of variance 0.5 in 8-D, weights log-spaced over a factor of 3.

    Parameters
    ----------
    n_modes : int
        Number of components; means are uniform in ``[-n_modes, n_modes]^8``.

    Notes
    -----
    ManyModes of Noble et al. (2025), arXiv 2410.19449, with other random means.
    """
    means = np.random.default_rng(42).uniform(-n_modes, n_modes, size=(n_modes, 8))
    return gaussian_mixture(
        f"many_modes_{n_modes}",
        np.logspace(0.0, 1.0, n_modes, base=3.0),
        means,
        np.full((n_modes, 8), 0.5),
        scale=1.5 * n_modes,
        note="exact: Gaussian mixture, ManyModes of arXiv 2410.19449",
    )


def _distant_means(n: int, dim: int, half: float, least: float) -> np.ndarray:
    """Points uniform in a cube, those closer than `least` to an earlier one drawn again."""
    rng = np.random.default_rng(42)
    means = rng.uniform(-half, half, size=(1, dim))
    while len(means) < n:
        trial = rng.uniform(-half, half, size=dim)
        if np.linalg.norm(means - trial, axis=1).min() > least:
            means = np.vstack([means, trial])
    return means


def forty_modes(dim: int = 2, ratio: float = 1.0) -> GalleryTarget:
    """Forty unit Gaussians with means uniform in ``[-40, 40]^dim``, no two closer than 5.

    Parameters
    ----------
    dim : int
        Dimension.
    ratio : float
        Largest weight over the smallest, weights log-spaced between; 1 makes them equal.

    Notes
    -----
    After GMM40 of Midgley et al. (2023), arXiv 2208.01893, with other means and unit variances,
    and without its overlapping pairs, so that there are forty modes to count.
    """
    if ratio < 1.0:
        raise ValueError(
            f"ratio={ratio} must be at least 1: it is the largest weight over the smallest."
        )
    name = "forty_modes" if dim == 2 else f"forty_modes_{dim}"
    return gaussian_mixture(
        name if ratio == 1.0 else f"{name}_unequal",
        np.geomspace(1.0, ratio, 40),
        _distant_means(40, dim, 40.0, 5.0),
        np.ones((40, dim)),
        scale=60.0,
        note="exact: Gaussian mixture after GMM40, arXiv 2208.01893",
    )


def mixture_2d(separation: Literal["well", "weak", "overlap"] = "well") -> GalleryTarget:
    """Four Gaussians in 2-D with unequal weights and different covariances.

    Parameters
    ----------
    separation : {"well", "weak", "overlap"}
        "well": barriers of 18 to 30 nats between neighbours, chains never cross; "weak": 3 to 6
        nats; "overlap": about 1 nat or less, so four maxima that count as one region.

    Notes
    -----
    In the manner of Figure 3 of Tran et al. (2025), arXiv 2505.07825, parameters ours.
    """
    check_choice("separation", separation, ("well", "weak", "overlap"))
    distance = {"well": 6.0, "weak": 2.8, "overlap": 1.5}[separation]
    means = distance * np.array([[-1.0, -0.8], [1.0, -1.0], [0.9, 1.0], [-1.0, 0.9]])
    covariances = np.array(
        [
            [[1.0, 0.5], [0.5, 0.8]],
            [[0.6, -0.3], [-0.3, 1.2]],
            [[1.5, 0.0], [0.0, 0.4]],
            [[0.5, 0.2], [0.2, 0.5]],
        ]
    )
    return gaussian_mixture(
        f"mixture_2d_{separation}",
        np.array([0.4, 0.3, 0.2, 0.1]),
        means,
        covariances,
        scale=2.0 * distance,
        note="exact: Gaussian mixture in the manner of arXiv 2505.07825, Figure 3",
    )


def gaussian_mixture_100d() -> GalleryTarget:
    """Five Gaussians in 100-D with full covariances of condition number 30.

    Notes
    -----
    Weights 0.35 to 0.08, means about 14 units apart, standard deviations 0.35 to 1.9. In the
    manner of the 100-D mixture of Tran et al. (2025), arXiv 2505.07825, parameters ours.
    """
    dim, rng = 100, np.random.default_rng(100)
    means = rng.standard_normal((5, dim))
    turns = np.stack([_orthogonal(rng, dim) for _ in range(5)])
    eigenvalues = 0.12 * np.geomspace(1.0, 30.0, dim)
    return gaussian_mixture(
        "gaussian_mixture_100d",
        np.array([0.35, 0.25, 0.2, 0.12, 0.08]),
        means,
        (turns * eigenvalues) @ turns.swapaxes(1, 2),
        scale=5.0,
        note="exact: Gaussian mixture in the manner of arXiv 2505.07825, Table 2",
    )


def unimodal_gaussian(dim: int = 5) -> GalleryTarget:
    """One Gaussian with correlation ``0.7^|i - j|`` and standard deviations 1 to 2.

    Parameters
    ----------
    dim : int
        Dimension.
    """
    lags = np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))
    sd = np.linspace(1.0, 2.0, dim)
    return gaussian_mixture(
        f"unimodal_gaussian_{dim}",
        np.ones(1),
        np.linspace(-1.0, 1.0, dim)[None],
        (0.7**lags * np.outer(sd, sd))[None],
        scale=5.0,
        note="exact: one Gaussian, for sanity",
    )
