"""A Gaussian mixture fitted to draws, and coordinates in which its components have unit spread."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from pymc_multimodal.proposals.mixture import GaussianMixture, MixtureError, fit_em
from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
from pymc_multimodal.status import Status, counted

__all__ = ["component_counts", "fit_components", "whiten_components"]

Shape: TypeAlias = Literal["diag", "tied", "full"]

# Shapes of the covariances that are tried for each number of components, from few parameters to
# many.
SHAPES: tuple[Shape, ...] = get_args(Shape)
# Draws that expectation maximisation works on at most. Measured: examples/benchmarks/constants.py.
MAX_EM_DRAWS = 4000
# Numbers of components that are tried in turn: steps of at most 1.34, from 6 on. Conventional.
COMPONENT_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 52, 64, 80, 100)
# Ratio of the numbers that follow.
COUNT_RATIO = 1.25
# Numbers that are tried in turn without a gain before the search ends. Measured:
# examples/benchmarks/constants.py.
MAX_COUNTS_WITHOUT_GAIN = 3
# Fewest draws for each component of a mixture that is tried. Measured:
# examples/benchmarks/constants.py.
MIN_DRAWS_PER_COMPONENT = 10
# Fewest draws, by weight, of a component in a fit that is used: one has no covariance.
MIN_COMPONENT_DRAWS = 2
# Standard errors by which held-out draws have to gain. Conventional: as many mixtures are tried,
# one would let in components that are not there.
MIN_GAIN_SE = 2.0
# Floor of the variances of standardised draws. Conventional.
VARIANCE_FLOOR = 1e-5
# Iterations of expectation maximisation at most. Conventional.
MAX_EM_ITERATIONS = 200
# Number of components up to which a fit starts from k-means, and from k-means++ beyond it, which is
# quicker. Conventional.
MAX_KMEANS_COMPONENTS = 8
# Largest share of the identity in a shrunk covariance. Conventional.
MAX_SHRINKAGE = 0.5
# Singular value, relative to the largest, below which draws do not vary in a direction, and the
# standard deviation, relative to a coordinate's size, below which it is constant. Conventional:
# the roots of rounding are 1e-8.
MIN_SINGULAR_VALUE, MIN_RELATIVE_SD = 1e-7, 1e-12


def fit_components(
    x: np.ndarray, held_out: np.ndarray, max_components: int, rng: np.random.Generator
) -> tuple[AffineCoordinates, GaussianMixture, list[Status]]:
    """Fit Gaussian mixtures of growing size, and keep the one that held-out draws prefer.

    Parameters
    ----------
    x, held_out : arrays of shape (n, d) and (m, d)
    max_components : int
    rng : numpy.random.Generator

    Returns
    -------
    coordinates : AffineCoordinates
        Whitened by the covariance within components.
    mixture : GaussianMixture
        In these coordinates.
    statuses : list of Status
    """
    coordinates, statuses = _standardise(x)
    z, other = coordinates.to_z(x), coordinates.to_z(held_out)
    z = z[rng.permutation(len(z))[:MAX_EM_DRAWS]]
    # Rows come chain after chain: the first ones would be the first chains'.
    other = other[rng.permutation(len(other))[:MAX_EM_DRAWS]]
    best, best_log_density = None, np.full(len(other), -np.inf)
    without_gain = 0
    affordable = [
        count
        for count in component_counts(max_components)
        if count * MIN_DRAWS_PER_COMPONENT <= len(z)
    ]
    for count in affordable or [1]:
        without_gain += 1
        for shape in SHAPES:
            mixture = _fit_mixture(z, count, shape, rng)
            if mixture is None:
                continue
            log_density = mixture.log_density(other)
            if best is None or _clearly_positive(log_density - best_log_density):
                best, best_log_density, without_gain = mixture, log_density, 0
        if without_gain >= MAX_COUNTS_WITHOUT_GAIN:
            break
    assert best is not None
    if len(best.weights) >= max_components > 1:
        statuses.append(
            Status("max_components", "proposals",
                   f"held-out draws would take more than max_components={max_components}.",
                   "Raise it, lest neighbouring modes share one component.")
        )  # fmt: skip
    mean, factor = best.weights @ best.means, _factor_within(best)
    return coordinates.moved(mean, factor), best.in_coordinates(mean, factor), statuses


def whiten_components(
    x: np.ndarray, mixture: GaussianMixture
) -> tuple[AffineCoordinates, GaussianMixture]:
    """Whiten by the covariance within the components of a given mixture.

    Parameters
    ----------
    x : array of shape (n, d)
        Draws, whose mean is the origin of the coordinates.
    mixture : GaussianMixture
        In the coordinates of x.

    Returns
    -------
    coordinates : AffineCoordinates
    mixture : GaussianMixture
        In these coordinates.
    """
    coordinates = AffineCoordinates(x.mean(axis=0), _factor_within(mixture))
    return coordinates, mixture.in_coordinates(coordinates.centre, coordinates.basis)


def component_counts(max_components: int) -> list[int]:
    """Numbers of components to try in turn, the last one being `max_components`."""
    counts = list(COMPONENT_COUNTS)
    while counts[-1] < max_components:
        counts.append(int(COUNT_RATIO * counts[-1]))
    return [*(count for count in counts if count < max_components), max_components]


def _factor_within(mixture: GaussianMixture) -> np.ndarray:
    """Factor of the mean covariance of the components, shape (d, d)."""
    return np.linalg.cholesky(np.einsum("k,kij->ij", mixture.weights, mixture.covariances))


def _clearly_positive(gain: np.ndarray) -> bool:
    return bool(gain.mean() > MIN_GAIN_SE * gain.std() / np.sqrt(len(gain)))


def _standardise(x: np.ndarray) -> tuple[AffineCoordinates, list[Status]]:
    """Standardise the draws, and leave out directions in which they do not vary."""
    mean, sd = x.mean(axis=0), x.std(axis=0)
    varying = sd > MIN_RELATIVE_SD * (1.0 + np.abs(x).max(axis=0))
    scale = np.where(varying, sd, 0.0)
    y = (x[:, varying] - mean[varying]) / sd[varying]
    _, size, axes = np.linalg.svd(y, full_matrices=False)
    keep = size > MIN_SINGULAR_VALUE * size[0]
    rank = int(keep.sum())
    if rank == int(varying.sum()):
        return AffineCoordinates(mean, np.diag(scale)[:, varying]), []
    basis = np.zeros((x.shape[1], rank))
    basis[varying] = sd[varying][:, None] * (axes[keep].T * size[keep] / np.sqrt(len(x)))
    status = Status(
        "dependent", "proposals",
        f"the draws vary in {counted(rank, 'direction')} of {varying.sum()} coordinates: the "
        "others are linear functions of them, and stay so.", "", level="info",
    )  # fmt: skip
    return AffineCoordinates(mean, basis), [status]


def _fit_mixture(
    z: np.ndarray, count: int, shape: Shape, rng: np.random.Generator
) -> GaussianMixture | None:
    """Fit a mixture of `count` components; None where one of them has no draws to itself."""
    init: Literal["kmeans", "k-means++"] = (
        "k-means++" if count > MAX_KMEANS_COMPONENTS else "kmeans"
    )
    try:
        mixture = fit_em(
            z, count, floor=VARIANCE_FLOOR, init=init, iterations=MAX_EM_ITERATIONS, rng=rng,
            shape=shape,
        )  # fmt: skip
    except MixtureError:
        return None
    n, d = z.shape
    if np.min(mixture.weights) * n < MIN_COMPONENT_DRAWS:
        return None
    if shape != "full":
        return mixture
    # The off-diagonal entries of a covariance of few draws are mostly noise.
    share = np.minimum(MAX_SHRINKAGE, d / (2.0 * n * mixture.weights))[:, None, None]
    covariances = (1 - share) * mixture.covariances + share * mixture.covariances * np.eye(d)
    return GaussianMixture.from_covariances(mixture.weights, mixture.means, covariances)
