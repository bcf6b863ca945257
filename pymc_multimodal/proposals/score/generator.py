"""Fresh draws from stored ones: the record of what was learned, and its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.proposals.on_device import draw_on
from pymc_multimodal.proposals.score.clusters import cluster_labels
from pymc_multimodal.proposals.score.diagnostics import describe_run
from pymc_multimodal.proposals.score.langevin import run_langevin
from pymc_multimodal.proposals.score.score_function import LearnedScore
from pymc_multimodal.status import FitError, Status, counted

if TYPE_CHECKING:
    import torch

    from pymc_multimodal.proposals.mixture import GaussianMixture
    from pymc_multimodal.proposals.score.clusters import ClusterAnalysis
    from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
    from pymc_multimodal.proposals.score.score_function import ExactScore
    from pymc_multimodal.proposals.score.settings import ScoreSettings
    from pymc_multimodal.proposals.score.stored import StoredDraws
    from pymc_multimodal.proposals.score.trial_run import TrialRun

__all__ = ["ScoreGenerator"]

# Points that are run together: bounds the memory. Conventional; the random numbers follow it.
CHUNK_POINTS = 10_000
# Of runs that begin in noise: times at which the points are kept, width of the noise in standard
# deviations of the draws, and shortest time, in relaxation times of a Gaussian mode. Conventional.
DIFFUSED, NOISE_WIDTH, MIN_DIFFUSION = 20, 2.0, 3.0


@dataclass(frozen=True, repr=False)
class ScoreGenerator:
    """Early-stopped Langevin dynamics from stored draws; made by `ScoreLangevin.from_draws`.

    Attributes
    ----------
    config : ScoreLangevin
    stored : StoredDraws
        The draws, with the names and shapes of their variables.
    coordinates : AffineCoordinates
        Coordinates in which the score is learned.
    learned : LearnedScore or ExactScore
    mixture : GaussianMixture
        The Gaussian mixture behind the cluster analysis.
    factors : array of shape (C, r, r)
        Factor of the run's preconditioner in each cluster.
    clusters : ClusterAnalysis
        Clusters of overlapping components, and the passages between them.
    trial : TrialRun
        What a trial run did over time, and the time to stop.
    step_size : float
    objective : float
        Held-out implicit objective: the squared score error up to a constant of the draws, in
        the learned coordinates. NaN for a given score.
    statuses : tuple of Status
    """

    config: ScoreSettings
    stored: StoredDraws
    coordinates: AffineCoordinates
    learned: LearnedScore | ExactScore
    mixture: GaussianMixture
    factors: np.ndarray
    clusters: ClusterAnalysis
    trial: TrialRun
    step_size: float
    objective: float
    statuses: tuple[Status, ...]

    def __repr__(self) -> str:
        """Say in one line what was learned."""
        n, d = self.stored.x.shape
        return (
            f"<ScoreGenerator of {counted(n, 'draw')} of {counted(d, 'coordinate')}: "
            f"{counted(len(self.clusters), 'cluster')}, stop at {self.trial.stop_time:.3g}>"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return self.stored.names

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before using the draws."""
        return tuple(str(s) for s in self.statuses if s.level == "warning")

    def generate(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Fresh draws, each from its own run; every stored draw starts as many as any other.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator or int, optional

        Returns
        -------
        array of shape (n, d)
            On the scale that was learned on, see `to_dict`.

        Raises
        ------
        FitError
            If a run diverged.
        TypeError, ValueError
            If n is no whole number, or negative.
        """
        checks.count("generate", "n", n, 0)
        rng = checks.generator("generate", "rng", rng)
        n_stored = len(self.stored.x)
        rounds = [rng.permutation(n_stored) for _ in range(-(-n // n_stored))]
        rows = np.concatenate([*rounds, np.empty(0, dtype=int)])[:n]
        x = np.empty((n, self.stored.x.shape[1]))
        for first in range(0, n, CHUNK_POINTS):
            chunk = slice(first, first + CHUNK_POINTS)
            x[chunk] = self._run(self.stored.x[rows[chunk]], rng)
        return x

    def refresh(self, x: np.ndarray, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Run from given points instead of the stored draws.

        Parameters
        ----------
        x : array of shape (n, d)
        rng : numpy.random.Generator or int, optional

        Returns
        -------
        array of shape (n, d)

        Raises
        ------
        FitError
            If a run diverged.
        ValueError
            If x has another shape, or holds NaN or infinity.
        """
        x = np.asarray(x, dtype=float)
        if x.ndim != 2 or x.shape[1] != len(self.names) or not np.isfinite(x).all():
            raise ValueError(
                f"refresh(x=...) of shape {x.shape} holds no points: give finite ones, of shape "
                f"(n, {len(self.names)})."
            )
        return self._run(x, checks.generator("refresh", "rng", rng))

    def diffuse(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Run from normal noise, twice as wide as the draws, in place of stored draws.

        They end in the modes, but with the shares of the noise near each, not with the weights:
        that is why `generate` begins at stored draws.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator

        Returns
        -------
        array of shape (DIFFUSED + 1, n, d)
            At equal times, from 0 to the time to stop at, or to `MIN_DIFFUSION` if that is longer.
        """
        z = self.coordinates.to_z(self.stored.x)
        points = z.mean(axis=0) + NOISE_WIDTH * z.std(axis=0) * rng.standard_normal((n, z.shape[1]))
        steps = max(DIFFUSED, round(max(self.trial.stop_time, MIN_DIFFUSION) / self.step_size))
        marks = np.linspace(0, steps, DIFFUSED + 1).round().astype(int)
        cluster = self.label_z(points)
        out = np.empty((len(marks), *points.shape))
        for c in np.unique(cluster):
            inside = cluster == c
            run = run_langevin(
                self.learned, points[inside], self.factors[c], self.step_size, marks.tolist(), rng,
                averaged=self.config.integrator == "averaged",
            )  # fmt: skip
            for i, at in enumerate(run):
                out[i, inside] = at
        return np.stack([self.coordinates.to_x(at) for at in out])

    def _run(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Run from each point until the stop, with the preconditioner of its cluster."""
        z = self.coordinates.to_z(x)
        cluster = self.label_z(z)
        for c in np.unique(cluster):
            inside = cluster == c
            z[inside] = self._run_cluster(z[inside], self.factors[c], rng)
        if not np.isfinite(z).all():
            raise FitError(
                f"The Langevin run with step_size={self.step_size:.3g} diverged. Use a smaller "
                "step_size, or more draws."
            )
        return self.coordinates.to_x(z)

    def _run_cluster(
        self, z: np.ndarray, factor: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Run from points z, shape (n, d), on the device where that is worth it."""
        learned, step = self.learned, self.step_size
        steps = round(self.trial.stop_time / step)
        averaged = self.config.integrator == "averaged"

        def by_numpy() -> np.ndarray:
            [end] = run_langevin(learned, z, factor, step, [steps], rng, averaged=averaged)
            return end

        if not isinstance(learned, LearnedScore):
            # A score that is given is a function of NumPy arrays.
            return by_numpy()

        def by_torch(device: torch.device) -> np.ndarray:
            from pymc_multimodal.proposals.score.torch_langevin import (
                TorchScore,
                langevin_with_torch,
            )

            score = TorchScore(learned, device)
            return langevin_with_torch(score, z, factor, step, steps, rng, averaged=averaged)

        # The precisions of all components, and the preconditioner twice.
        weights = (learned.mixture.n_components + 2) * z.shape[1] ** 2
        return draw_on(self.config.device, 2.0 * len(z) * steps * weights, rng, by_numpy, by_torch)

    def to_dict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of shape (n, ...) by variable, transforms undone; x has shape (n, d)."""
        return self.stored.to_dict(np.asarray(x, dtype=float))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Learned score at points of shape (n, d), in their coordinates; shape (n, d)."""
        z = self.coordinates.to_z(np.asarray(x, dtype=float))
        return self.learned(z) @ self.coordinates.inverse

    def label(self, x: np.ndarray) -> np.ndarray:
        """Cluster of each row, shape (n,), numbered as in `clusters`."""
        return self.label_z(self.coordinates.to_z(np.asarray(x, dtype=float)))

    def label_z(self, z: np.ndarray) -> np.ndarray:
        """Cluster of rows in the learned coordinates, shape (n,)."""
        return cluster_labels(self.clusters, self.mixture, z)

    def report(self) -> str:
        """Say in words what is and what is not guaranteed."""
        return describe_run(self.stored, self.clusters, self.trial, self.step_size, self.warnings)
