"""The diffusion sampler as a generator: proposals with their paths as auxiliary variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.proposals.base import Generator, Proposals
from pymc_multimodal.proposals.lrds.control import draw_paths, log_path_density
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionalMixture
    from pymc_multimodal.proposals.lrds.control import Control
    from pymc_multimodal.proposals.lrds.reference import Reference
    from pymc_multimodal.status import Status

__all__ = ["Frame", "PathGenerator", "Training"]

# Numbers in the largest array of one pass over paths.
CHUNK = 2_000_000


@dataclass(frozen=True)
class Frame:
    """Affine coordinates z in which the diffusion runs: ``x = middle + root z``.

    Attributes
    ----------
    middle : array of shape (d,)
    root : array of shape (d, d)
        Lower-triangular.
    """

    middle: np.ndarray
    root: np.ndarray

    def into(self, x: np.ndarray) -> np.ndarray:
        """Coordinates z of points x, both of shape (n, d)."""
        return solve_triangular(self.root, (x - self.middle).T, lower=True).T

    def back(self, z: np.ndarray) -> np.ndarray:
        """Points x of coordinates z."""
        return self.middle + z @ self.root.T

    def covariance(self, scale: np.ndarray) -> np.ndarray:
        """Covariances in z of factors in x, shape (J, d, d)."""
        inner = np.stack([solve_triangular(self.root, s, lower=True) for s in scale])
        return inner @ inner.swapaxes(1, 2)

    @property
    def log_volume(self) -> float:
        """Log of the volume in x of a unit of volume in z."""
        return float(np.log(np.abs(np.diag(self.root))).sum())


@dataclass(frozen=True)
class Training:
    """What training the control came to.

    Attributes
    ----------
    kept : bool
        Whether the control is used; otherwise the reference serves as it was.
    acceptance : tuple of float
        Expected acceptance of independence jumps before and after, from held-out draws.
    path_ess : tuple of float
        Effective share of proposals before and after.
    finite : float
        Share of the chain's ends at which the target is finite.
    evaluations : int
    seconds : float
    loss : array of shape (steps,)
        Loss of each step on paths.
    """

    kept: bool
    acceptance: tuple[float, float]
    path_ess: tuple[float, float]
    finite: float
    evaluations: int
    seconds: float
    loss: np.ndarray = field(repr=False)


class PathGenerator(Generator):
    r"""A controlled reverse diffusion, exact on the space of its paths.

    A proposal carries the path :math:`y_{0:K}` by which it came; the target is extended by
    noising, :math:`\gamma(y_0) F(y_{1:K} \mid y_0)`. With the share :math:`\epsilon` of a
    defensive density t, which is noised likewise,

    .. math:: Q = (1 - \epsilon) \, q(y_{0:K}) + \epsilon \, t(y_0) F(y_{1:K} \mid y_0),

    so that the ratio is bounded where that of t is, however the control was learned. On
    circular coordinates the chain lives on the unrolled line, and which copy of a point it ends
    at is one more auxiliary variable, drawn among the copies next to each centre in proportion
    to the reference.

    Parameters
    ----------
    reference : Reference
    control : Control, optional
        None for the reference alone.
    frame : Frame
    defence : RegionalMixture
    share : float
        Of the defence.
    centres : array of shape (C, d)
        Middles of the windows that the reference was made in.
    period : array of shape (d,)
    fallbacks : tuple of Status
    training : Training, optional

    Notes
    -----
    Noble, Grenioux, Gabrié and Durmus (2025), arXiv 2410.19449. Their weights take the reference
    for the law of its own discretised chain; these are ratios of the kernels really used.
    """

    def __init__(
        self,
        reference: Reference,
        control: Control | None,
        frame: Frame,
        defence: RegionalMixture,
        share: float,
        centres: np.ndarray,
        period: np.ndarray,
        fallbacks: tuple[Status, ...] = (),
        training: Training | None = None,
    ) -> None:
        self.reference, self.control, self.frame = reference, control, frame
        self.defence, self.share, self.centres = defence, share, centres
        self.period, self.fallbacks, self.training = period, fallbacks, training
        self.dim = len(period)
        # A reference that goes back exactly, and is left alone, is a mixture with a density.
        self.auxiliary = control is not None or not reference.exact

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of the controlled chain, without correction and without the defence."""
        x = np.empty((0, self.dim))
        while len(x) < n:
            y = self.frame.back(self._ends(n - len(x), rng))
            x = np.concatenate([x, unroll(y[np.isfinite(self._log_copy(y))], 0.0, self.period)])
        return x

    def _ends(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of paths, shape (n, d), without keeping the other levels."""
        if not self.auxiliary:
            return self.reference.sample(n, rng)
        parts = [
            draw_paths(self.reference, self.control, len(range(n)[rows]), rng)[0][0]
            for rows in self._chunks(n)
        ]
        return np.concatenate(parts)

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with their corrections, paths drawn along."""
        m = int(rng.binomial(n, self.share))
        path, log_q = self._draw(n - m, rng)
        y = self.frame.back(path[0])
        log_copy = self._log_copy(y)
        own = unroll(y, 0.0, self.period)
        own[~np.isfinite(log_copy)] = np.nan
        rows = np.isfinite(log_copy)
        correction = np.full(n, -np.inf)
        correction[: n - m][rows] = self._correction(
            own[rows], path[:, rows], log_q[rows], log_copy[rows]
        )
        other = self.defence.propose(m, rng)
        correction[n - m :][other.inside] = self.minus_log_q(other.x[other.inside], rng)
        order = rng.permutation(n)
        return Proposals(np.concatenate([own, other.x])[order], correction[order])

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrections of given points, their paths drawn afresh by noising."""
        parts = []
        for rows in self._chunks(len(x)):
            y, log_copy = self._copy(x[rows], rng)
            path = self._noised(self.frame.into(y), rng)
            log_q = self._log_density(path)
            parts.append(self._correction(x[rows], path, log_q, log_copy))
        return np.concatenate(parts) if parts else np.empty(0)

    def path_log_ratio(
        self, x: np.ndarray, logp: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Log ratios of the chain alone, without defence, at draws x with log densities logp."""
        parts = []
        for rows in self._chunks(len(x)):
            y, log_copy = self._copy(x[rows], rng)
            path = self._noised(self.frame.into(y), rng)
            own = self._log_own(path, self._log_density(path), log_copy)
            parts.append(logp[rows] - own)
        return np.concatenate(parts)

    def chain(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw from the chain alone.

        Returns
        -------
        path : array of shape (K + 1, n, d)
            In the frame; its ends, the first row, unrolled.
        x : array of shape (n, d)
            The ends in the space of the model.
        log_own : array of shape (n,)
            Log density in x; the log ratio is the target's log density minus this. -inf
            outside of all windows.
        """
        path, log_q = self._draw(n, rng)
        y = self.frame.back(path[0])
        log_copy = self._log_copy(y)
        log_own = np.where(np.isfinite(log_copy), self._log_own(path, log_q, log_copy), -np.inf)
        return path, unroll(y, 0.0, self.period), log_own

    def controlled(self, control: Control | None) -> PathGenerator:
        """Return the same generator with another control."""
        return PathGenerator(
            self.reference, control, self.frame, self.defence, self.share, self.centres,
            self.period, self.fallbacks, self.training,
        )  # fmt: skip

    # ---------------------------------------------------------- paths

    def _chunks(self, n: int) -> list[slice]:
        rows = max(64, CHUNK // (self.reference.n_components * self.dim))
        return [slice(i, i + rows) for i in range(0, n, rows)]

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Paths, shape (K + 1, n, d), and their log densities; without auxiliary K = 0."""
        if not self.auxiliary:
            z = self.reference.sample(n, rng)
            return z[None], self._log_density(z[None])
        parts = [
            draw_paths(self.reference, self.control, len(range(n)[rows]), rng)
            for rows in self._chunks(n)
        ] or [draw_paths(self.reference, self.control, 0, rng)]
        return np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts])

    def _noised(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.reference.noising.forward(z, rng) if self.auxiliary else z[None]

    def _log_density(self, path: np.ndarray) -> np.ndarray:
        if not self.auxiliary:
            levels = [self.reference.log_level(0, path[0, r]) for r in self._chunks(path.shape[1])]
            return np.concatenate([*levels, np.empty(0)])
        return log_path_density(self.reference, self.control, path)

    def _log_own(self, path: np.ndarray, log_q: np.ndarray, log_copy: np.ndarray) -> np.ndarray:
        """Log of ``q(y, path) / [F(path | y) r(y | x)]``, in units of volume of x."""
        noise = self.reference.noising.log_density(path) if self.auxiliary else 0.0
        return log_q - noise - log_copy - self.frame.log_volume

    def _correction(
        self, x: np.ndarray, path: np.ndarray, log_q: np.ndarray, log_copy: np.ndarray
    ) -> np.ndarray:
        own = self._log_own(path, log_q, log_copy)
        defence = np.log(self.share) + self.defence.log_density(x)
        return -np.logaddexp(np.log1p(-self.share) + own, defence)

    # ---------------------------------------------------------- copies on circles

    def _copies(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """List the copies of points next to each centre, (C, n, d), with log shares (C, n)."""
        copies = np.stack([unroll(x, centre, self.period) for centre in self.centres])
        logs = np.stack([self.reference.log_level(0, self.frame.into(y)) for y in copies])
        for c in range(1, len(copies)):
            again = (np.abs(copies[:c] - copies[c]) < 1e-6).all(axis=2).any(axis=0)
            logs[c, again] = -np.inf
        return copies, logs - np.logaddexp.reduce(logs, axis=0)

    def _copy(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw a copy of each point, shape (n, d), and its log probability (n,)."""
        if not np.isfinite(self.period).any():
            return x, np.zeros(len(x))
        copies, logs = self._copies(x)
        level = np.exp(logs).cumsum(axis=0)
        chosen = (level < level[-1] * rng.random(len(x))).sum(axis=0)
        rows = np.arange(len(x))
        return copies[chosen, rows], logs[chosen, rows]

    def _log_copy(self, y: np.ndarray) -> np.ndarray:
        """Log probability that a copy is drawn as it is; -inf outside of all windows."""
        if not np.isfinite(self.period).any():
            return np.zeros(len(y))
        copies, logs = self._copies(y)
        same = (np.abs(copies - y) < 1e-6).all(axis=2)
        return np.where(same, logs, -np.inf).max(axis=0)
