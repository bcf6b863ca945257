"""Langevin paths as proposals inside a fit: the score proposes, a log ratio on paths corrects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.base import Proposals, RegionalMixture, split_chains
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.score.score_function import GaussianParts
from pymc_multimodal.proposals.score.stored import Stored
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.proposals.score.score_function import Frame, LearnedScore
    from pymc_multimodal.proposals.score.score_generator import ScoreGenerator
    from pymc_multimodal.regions.draws import RegionDraws

__all__ = ["LangevinPath", "Pooled", "ScoreProposals", "pooled"]

# Local draws that a score is learned from, the share held out, and draws that judge proposals.
MAX_DRAWS, SHARE, MAX_TEST = 5000, 0.2, 2000
# Lengths of paths and rates of the start's forgetting that are tried.
TIMES, RATES = (0.1, 0.3), (1.0, 4.0)
# Gain in expected acceptance from which paths are used.
WORTH_IT = 0.02


@dataclass(frozen=True)
class LangevinPath:
    r"""Langevin steps from a regional density, with a way back of known density.

    Forward ``z -> z + h P s(z)`` plus noise of covariance ``2 h P``; backward, with the same
    noise, ``z -> z + h P (2 g_i(z) - s(z))``, where g_i stands for the score of the forward
    run's marginal: :math:`g_i = (1 - \lambda_i) \nabla \log q + \lambda_i s` with
    :math:`\lambda_i = 1 - \exp(-r h (i + 1))`, between the score of the start and the learned
    one. Any g_i is valid; a good one makes the log ratio vary little.

    Attributes
    ----------
    score : LearnedScore
    frame : Frame
    densities : tuple of EllipticalMixture
        Where paths start, by region.
    factors : array of shape (K, d, d)
        Factors of P in each region.
    step, rate : float
        h and r.
    steps : int
    """

    score: LearnedScore
    frame: Frame
    densities: tuple[EllipticalMixture, ...]
    factors: np.ndarray
    step: float
    rate: float
    steps: int

    def forward(self, x: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Paths from points x, shape (n, d): array of shape (steps + 1, n, d) in the frame."""
        path = [self.frame.to_z(x)]
        for _ in range(self.steps):
            pull = self.score(path[-1])
            path.append(self._move(path[-1], pull, region, rng))
        return np.stack(path)

    def backward(self, x: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Paths that end in x, drawn from their end; in the order of time."""
        path = [self.frame.to_z(x)]
        for i in reversed(range(self.steps)):
            pull = self._back_pull(path[-1], self.score(path[-1]), region, i)
            path.append(self._move(path[-1], pull, region, rng))
        return np.stack(path[::-1])

    def log_ratio(self, path: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Log density of the steps back less that of the steps forth, shape (n,)."""
        total = np.zeros(path.shape[1])
        scores = [self.score(z) for z in path]
        for i in range(self.steps):
            back = self._back_pull(path[i + 1], scores[i + 1], region, i)
            for sign, a, b, pull in (
                (1.0, path[i], path[i + 1], scores[i]),
                (-1.0, path[i + 1], path[i], back),
            ):
                miss = self._whiten(b - a, region) - self.step * self._by_metric(pull, region)
                total += sign * np.einsum("ni,ni->n", miss, miss) / (4.0 * self.step)
        return total

    def _move(
        self, z: np.ndarray, pull: np.ndarray, region: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        noise = np.sqrt(2 * self.step) * rng.standard_normal(z.shape)
        step = self.step * self._by_metric(pull, region) + noise
        return z + self._each(self.factors, step, region)

    def _back_pull(
        self, z: np.ndarray, score: np.ndarray, region: np.ndarray, i: int
    ) -> np.ndarray:
        share = np.exp(-self.rate * self.step * (i + 1))
        x = self.frame.to_x(z)
        start = np.empty_like(z)
        for k in np.unique(region):
            inside = region == k
            start[inside] = self.densities[k].score(x[inside]) @ self.frame.basis
        return 2 * (share * start + (1 - share) * score) - score

    def _by_metric(self, pull: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Factor transposed times gradient."""
        return self._each(self.factors.swapaxes(1, 2), pull, region)

    def _whiten(self, gap: np.ndarray, region: np.ndarray) -> np.ndarray:
        return self._each(np.linalg.inv(self.factors), gap, region)

    def _each(self, matrices: np.ndarray, rows: np.ndarray, region: np.ndarray) -> np.ndarray:
        out = np.empty_like(rows)
        for k in np.unique(region):
            inside = region == k
            out[inside] = rows[inside] @ matrices[k].T
        return out


class ScoreProposals(RegionalMixture):
    """Proposals by Langevin paths of a learned score, or by the regional mixture alone.

    A path starts in the regional mixture; its target is ``pi(x) R(path | x)`` with R the path
    drawn back from x. With the share `defensive` a proposal is a draw x of the mixture q with a
    path from R, so that the density of path and end over R is ``(1 - eps) Q / R + eps q(x)`` and
    the ratio of target to proposal is bounded by that of target to ``eps q``.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
    path : LangevinPath, optional
    defensive : float
    runs : ScoreGenerator, optional
        What `generate` runs; the mixture without it.
    fallbacks : tuple of Status
    """

    def __init__(
        self,
        densities: tuple[RegionDensity, ...],
        weights: np.ndarray,
        path: LangevinPath | None = None,
        defensive: float = 0.1,
        runs: ScoreGenerator | None = None,
        fallbacks: tuple[Status, ...] = (),
    ) -> None:
        super().__init__(densities, weights)
        self.path, self.defensive, self.runs = path, defensive, runs
        self.fallbacks = tuple(fallbacks)
        self.auxiliary = path is not None

    @classmethod
    def best(
        cls,
        densities: tuple[RegionDensity, ...],
        weights: np.ndarray,
        runs: ScoreGenerator,
        data: Pooled,
        rng: np.random.Generator,
    ) -> ScoreProposals:
        """Choose the paths, or none, whose jumps held-out draws expect to be accepted most."""
        config = runs.config
        found = tuple(s for s in runs.statuses if s.stage != "draws")
        best = cls(densities, weights, None, config.defensive, runs, found)
        if not config.path_steps:
            return best
        alone = _acceptance(best, data, rng)
        value = alone + WORTH_IT
        cores = [q.undefended for q in densities]
        assert all(isinstance(q, EllipticalMixture) for q in cores)
        factors = np.stack(
            [np.linalg.cholesky(_covariance(q, runs.frame.inverse)) for q in cores]  # type: ignore[arg-type]
        )
        for time in TIMES:
            for rate in RATES:
                path = LangevinPath(
                    runs.learned, runs.frame, densities, factors,  # type: ignore[arg-type]
                    time / config.path_steps, rate, config.path_steps,
                )  # fmt: skip
                trial = cls(densities, weights, path, config.defensive, runs, found)
                if (accepted := _acceptance(trial, data, rng)) > value:
                    best, value = trial, accepted
        does = "are Langevin paths" if best.path else "start and end in the regional mixture"
        status = Status(
            "paths", "generator", f"corrected proposals {does}: held-out draws expect jumps to be "
            f"accepted with probability {value if best.path else alone:.2f}, {alone:.2f} without "
            "paths.", level="info",
        )  # fmt: skip
        best.fallbacks = (*best.fallbacks, status)
        return best

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uncorrected draws: early-stopped Langevin from local draws allocated by weight."""
        return super().generate(n, rng) if self.runs is None else self.runs.generate(n, rng)

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with their corrections."""
        if self.path is None:
            return super().propose(n, rng)
        region = rng.choice(len(self.weights), size=n, p=self.weights)
        x = np.empty((n, self.dim))
        for k in np.unique(region):
            x[region == k] = self.densities[k].sample(int(np.sum(region == k)), rng)
        paths = self.path.forward(x, region, rng)
        back = rng.random(n) < self.defensive
        if back.any():
            # A draw of the mixture is a regional one with the region forgotten.
            region[back] = self._pick(x[back], rng)
            paths[:, back] = self.path.backward(x[back], region[back], rng)
        end = np.where(back[:, None], x, self.path.frame.to_x(paths[-1]))
        return Proposals(end, self._correction(end, paths, region))

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrections of given points, the path that leads there drawn afresh."""
        if self.path is None:
            return super().minus_log_q(x, rng)
        region = self._pick(x, rng)
        return self._correction(x, self.path.backward(x, region, rng), region)

    def _parts(self, x: np.ndarray) -> np.ndarray:
        """Weighted log density of each region at x, shape (n, K)."""
        logs = np.stack([q.log_density(x) for q in self.densities], axis=1)
        return logs + np.log(self.weights)

    def _pick(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a region for each x, in proportion to its density there."""
        logs = self._parts(x)
        noise = rng.gumbel(size=logs.shape)
        picked: np.ndarray = np.argmax(logs + noise, axis=1)
        return picked

    def _correction(self, x: np.ndarray, paths: np.ndarray, region: np.ndarray) -> np.ndarray:
        assert self.path is not None
        rows = np.arange(len(x))
        at_end = self._parts(x)
        whole = np.logaddexp.reduce(at_end, axis=1)
        at_start = self._parts(self.path.frame.to_x(paths[0]))[rows, region]
        log_back = at_end[rows, region] - whole + self.path.log_ratio(paths, region)
        return -np.logaddexp(
            np.log1p(-self.defensive) + at_start - log_back, np.log(self.defensive) + whole
        )


@dataclass(frozen=True)
class Pooled:
    """Local draws in proportion to the regions' weights.

    Attributes
    ----------
    stored : Stored
    held_out : array of bool, shape (n,)
        Rows of the chains by which families are chosen.
    gradient : array of shape (n, d) or None
    parts : GaussianParts
        Of all regions' densities.
    test_x, test_logp : arrays of shape (m, d) and (m,)
        Of the held-out rows.
    """

    stored: Stored
    held_out: np.ndarray
    gradient: np.ndarray | None
    parts: GaussianParts
    test_x: np.ndarray
    test_logp: np.ndarray


def pooled(
    fitted: RegionFit, local: RegionDraws, weights: np.ndarray, rng: np.random.Generator
) -> Pooled:
    """Take draws of every region by weight, those to fit on and those to choose by."""
    share = np.where(np.isfinite(weights), weights, 0.0)
    share = share / share.sum()
    xs, logps, grads, held = [], [], [], []
    for which, part in enumerate(split_chains(len(local.x[0]))[:2]):
        room = min(x[part].shape[0] * x.shape[1] for x in local.x)
        total = min(MAX_DRAWS * (SHARE if which else 1 - SHARE), room * len(local))
        for k, count in enumerate(np.round(share * total).astype(int)):
            d = local.x[k].shape[-1]
            own = local.x[k][part].reshape(-1, d)
            # Regions with more weight than draws give some of them twice.
            rows = np.concatenate([rng.permutation(len(own)) for _ in range(-(-count // len(own)))]
                                  or [np.empty(0, dtype=int)])[:count]  # fmt: skip
            xs.append(own[rows])
            logps.append(local.logp[k][part].ravel()[rows])
            grads.append(local.grad[k][part].reshape(len(own), -1)[rows])
            held.append(np.full(count, bool(which)))
    x, held_out, logp = np.concatenate(xs), np.concatenate(held), np.concatenate(logps)
    grad = np.concatenate(grads)
    return Pooled(
        stored=Stored(x, {"x": (x.shape[1],)}, {}, 0),
        held_out=held_out,
        gradient=grad if grad.shape[1] else None,
        parts=_parts_of(fitted, share),
        test_x=x[held_out][:: max(1, int(held_out.sum()) // MAX_TEST)],
        test_logp=logp[held_out][:: max(1, int(held_out.sum()) // MAX_TEST)],
    )


def _parts_of(fitted: RegionFit, weights: np.ndarray) -> GaussianParts:
    w, means, covariances = [], [], []
    for q, share in zip(fitted.densities, np.maximum(weights, 1e-6), strict=True):
        core = q.undefended
        assert isinstance(core, EllipticalMixture)
        w.append(share * core.weights / core.weights.sum())
        means.append(core.means)
        widen = np.where(core.df > 2, 1.0, 3.0)
        heavy = np.isfinite(core.df) & (core.df > 2)
        widen[heavy] = core.df[heavy] / (core.df[heavy] - 2)
        inner = core.scales @ core.scales.swapaxes(1, 2)
        covariances.append(widen[:, None, None] * inner)
    total = np.concatenate(w)
    return GaussianParts(total / total.sum(), np.concatenate(means), np.concatenate(covariances))


def _covariance(q: EllipticalMixture, inverse: np.ndarray) -> np.ndarray:
    """Covariance of a regional density's scales and means, in the frame's coordinates."""
    step = q.means - q.weights @ q.means
    inner = np.einsum("j,jik,jlk->il", q.weights, q.scales, q.scales)
    inner += np.einsum("j,ji,jk->ik", q.weights, step, step)
    out: np.ndarray = inverse @ inner @ inverse.T
    return out


def _acceptance(q: ScoreProposals, data: Pooled, rng: np.random.Generator) -> float:
    return expected_acceptance(data.test_logp + q.minus_log_q(data.test_x, rng))
