"""Parts of a distribution found in its draws, and coordinates in which they have unit spread."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from pymc_multimodal.proposals.score.score_function import Frame, GaussianParts
from pymc_multimodal.status import Status

__all__ = ["find_parts", "make_frame"]

# Draws that expectation maximisation works on at most.
MAX_DRAWS = 4000
# Numbers of parts that are tried in turn, and tries without a gain after which the search ends.
SIZES, PATIENCE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 52, 64, 80, 100), 3
# Relative singular value under which draws do not vary in a direction.
RANK = 1e-7


def find_parts(
    x: np.ndarray, held_out: np.ndarray, max_components: int, rng: np.random.Generator
) -> tuple[Frame, GaussianParts, list[Status]]:
    """Fit Gaussian mixtures of growing size; keep the one that held-out draws prefer.

    Parameters
    ----------
    x, held_out : arrays of shape (n, d) and (m, d)
    max_components : int
    rng : numpy.random.Generator

    Returns
    -------
    frame : Frame
        Whitens by the covariance within parts.
    parts : GaussianParts
        In the frame's coordinates.
    statuses : list of Status
    """
    frame, statuses = _standard(x)
    z, other = frame.to_z(x), frame.to_z(held_out)
    z = z[rng.permutation(len(z))[:MAX_DRAWS]]
    # Rows come chain after chain: the first ones would be the first chains'.
    other = other[rng.permutation(len(other))[:MAX_DRAWS]]
    best, best_logs, since = None, np.full(len(other), -np.inf), 0
    for size in [s for s in _sizes(max_components) if s * 10 <= len(z)] or [1]:
        since += 1
        for kind in ("diag", "tied", "full"):
            parts = _mixture(z, size, kind, rng)
            if parts is None:
                continue
            logs = parts.log_mixture(other)
            # Many are tried: less than two standard errors of gain make spurious parts.
            if best is None or _clearly_positive(logs - best_logs):
                best, best_logs, since = parts, logs, 0
        if since >= PATIENCE:
            break
    assert best is not None
    if len(best.weights) >= max_components > 1:
        statuses.append(
            Status("max_components", "generator",
                   f"held-out draws would take more than max_components={max_components}.",
                   "Raise it, lest neighbouring modes share one component.")
        )  # fmt: skip
    within = np.einsum("k,kij->ij", best.weights, best.covariances)
    mean, factor = best.weights @ best.means, np.linalg.cholesky(within)
    return frame.moved(mean, factor), best.moved(mean, factor), statuses


def make_frame(x: np.ndarray, parts: GaussianParts) -> tuple[Frame, GaussianParts, list[Status]]:
    """Whiten by the covariance within given parts, which are in the coordinates of x."""
    within = np.einsum("k,kij->ij", parts.weights, parts.covariances)
    frame = Frame(x.mean(axis=0), np.linalg.cholesky(within))
    return frame, parts.moved(frame.centre, frame.basis), []


def _sizes(most: int) -> list[int]:
    """Numbers of parts to try in turn: those of the list, what would follow, and the most."""
    sizes = list(SIZES)
    while sizes[-1] < most:
        sizes.append(int(1.25 * sizes[-1]))
    return [*(s for s in sizes if s < most), most]


def _clearly_positive(gain: np.ndarray) -> bool:
    return bool(gain.mean() > 2.0 * gain.std() / np.sqrt(len(gain)))


def _standard(x: np.ndarray) -> tuple[Frame, list[Status]]:
    """Standardise, leaving out directions in which the draws do not vary."""
    mean, sd = x.mean(axis=0), x.std(axis=0)
    varying = sd > 1e-12 * (1.0 + np.abs(x).max(axis=0))
    scale = np.where(varying, sd, 0.0)
    y = (x[:, varying] - mean[varying]) / sd[varying]
    _, size, axes = np.linalg.svd(y, full_matrices=False)
    keep = size > RANK * size[0]
    rank = int(keep.sum())
    if rank == int(varying.sum()):
        return Frame(mean, np.diag(scale)[:, varying]), []
    basis = np.zeros((x.shape[1], rank))
    basis[varying] = sd[varying][:, None] * (axes[keep].T * size[keep] / np.sqrt(len(x)))
    status = Status(
        "dependent", "draws",
        f"the draws vary in {rank} directions of {varying.sum()} coordinates: the others are "
        "linear functions of them, and stay so.", "", level="info",
    )  # fmt: skip
    return Frame(mean, basis), [status]


def _mixture(z: np.ndarray, size: int, kind: str, rng: np.random.Generator) -> GaussianParts | None:
    n, d = z.shape
    model = GaussianMixture(
        size,
        covariance_type=kind,
        reg_covar=1e-5,
        max_iter=200,
        init_params="k-means++" if size > 8 else "kmeans",
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(z)
        except ValueError:
            return None
    if np.min(model.weights_) * n < 2:
        return None
    full = model.covariances_
    if kind == "tied":
        full = np.stack([full] * size)
    elif kind == "diag":
        full = full[:, :, None] * np.eye(d)
    else:
        # Off-diagonals of few draws are mostly noise.
        share = np.minimum(0.5, d / (2.0 * n * model.weights_))[:, None, None]
        full = (1 - share) * full + share * full * np.eye(d)
    return GaussianParts(model.weights_, model.means_, full)
