"""A tempered search: particles carried from a wide reference to the posterior, knowing no fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, logsumexp

from pymc_multimodal.moves.local import MoveParameters, MoveState, move

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = ["Particles", "Reference", "TemperatureSchedule", "tempered_smc"]

# Moves at each temperature, and leapfrog (or random-walk) steps of a move.
MOVES, LEAPFROG = 4, 2
# Effective share of the particles that a step in temperature shall leave.
KEEP = 0.5
# Particles of each temperature that are kept on the way, and points kept of a whole search.
ON_THE_WAY, MAX_TRAIL = 64, 2048


class Reference:
    """Independent Student-t on the line, uniform on circles: where the particles begin.

    Parameters
    ----------
    centre, scale, period : arrays of shape (d,)
        Median and robust spread of the prior, or of the user's starts where there is no
        prior; period of circular coordinates, ``inf`` elsewhere.
    """

    DF = 5.0

    def __init__(self, centre: np.ndarray, scale: np.ndarray, period: np.ndarray) -> None:
        self.centre, self.scale, self.period = centre, scale, period
        self._line = ~np.isfinite(period)
        df = self.DF
        one = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi)
        self._constant = np.sum(one - np.log(scale[self._line])) - np.sum(
            np.log(period[~self._line])
        )

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d)."""
        x = self.centre + self.scale * rng.standard_t(self.DF, (n, len(self.centre)))
        circle = ~self._line
        half = self.period[circle] / 2
        x[:, circle] = rng.uniform(-half, half, (n, int(circle.sum())))
        return x

    def log_density(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and its gradient, shape (n, d)."""
        z = np.where(self._line, (x - self.centre) / self.scale, 0.0)
        logp = self._constant - 0.5 * (self.DF + 1) * np.log1p(z**2 / self.DF).sum(axis=1)
        return logp, -(self.DF + 1) * z / (self.DF + z**2) / self.scale


class _Bridged:
    """``reference^(1 - beta) posterior^beta`` with the parts of `Density` that a move uses."""

    def __init__(self, density: Density, reference: Reference, beta: float) -> None:
        self.density, self.reference, self.beta = density, reference, beta
        self.dim, self.has_gradient, self.wrap = density.dim, density.has_gradient, density.wrap

    def logp(self, x: np.ndarray) -> np.ndarray:
        return self._blend(self.density.logp(x), self.reference.log_density(x)[0])

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logp, grad = self.density.logp_and_grad(x)
        wide, slope = self.reference.log_density(x)
        return self._blend(logp, wide), self._blend(grad, slope)

    def _blend(self, narrow: np.ndarray, wide: np.ndarray) -> np.ndarray:
        return (1 - self.beta) * wide + self.beta * narrow

    def cloud(self, x: np.ndarray, logp: np.ndarray, grad: np.ndarray) -> MoveState:
        """Points whose posterior log density and gradient are known."""
        wide, slope = self.reference.log_density(x)
        grad = self._blend(grad, slope) if self.has_gradient else grad
        return MoveState(x, self._blend(logp, wide), grad, np.zeros(len(x), dtype=int))

    def posterior(self, cloud: MoveState) -> tuple[np.ndarray, np.ndarray]:
        """Log density and gradient of the posterior alone: what `cloud` blended."""
        wide, slope = self.reference.log_density(cloud.x)
        logp = (cloud.logp - (1 - self.beta) * wide) / self.beta
        if not self.has_gradient:
            return logp, cloud.grad
        return logp, (cloud.grad - (1 - self.beta) * slope) / self.beta


@dataclass(frozen=True)
class TemperatureSchedule:
    """Temperatures and the moves at each, learned from particles of the search itself.

    Attributes
    ----------
    beta : array of shape (T,)
        Powers of the posterior, rising to 1.
    scale : array of shape (T, d)
        Diagonal metrics.
    step_size : array of shape (T,)
    """

    beta: np.ndarray
    scale: np.ndarray
    step_size: np.ndarray


@dataclass(frozen=True)
class Particles:
    """Particles that reached the posterior.

    Attributes
    ----------
    x, logp : arrays of shape (n, d) and (n,)
    log_weight : array of shape (n,)
        ``sum(exp(log_weight) f(x))`` over one island estimates the integral of f times the
        unnormalised posterior, without bias where the ladder was given.
    island : array of int, shape (n,)
        Islands share no random numbers.
    root : array of int, shape (n,)
        The particle each descends from: endpoints of one root are not independent.
    ladder : TemperatureSchedule
    trail : array of shape (m, d)
        Where particles were at the colder two thirds of the temperatures: from there climbs
        lead to modes that few or none of the endpoints are left in.
    arrived : bool
        Whether the posterior itself was reached.
    """

    x: np.ndarray
    logp: np.ndarray
    log_weight: np.ndarray
    island: np.ndarray
    root: np.ndarray
    ladder: TemperatureSchedule
    trail: np.ndarray
    arrived: bool = True

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_islands(self) -> int:
        """Number of islands."""
        return int(self.island.max()) + 1

    @property
    def share(self) -> np.ndarray:
        """Share of each particle in the estimate of the whole integral, shape (n,)."""
        return np.exp(self.log_weight - logsumexp(self.log_weight))

    def joined(self, other: Particles) -> Particles:
        """Pool the islands of two runs."""
        return replace(
            self,
            x=np.concatenate([self.x, other.x]),
            logp=np.concatenate([self.logp, other.logp]),
            log_weight=np.concatenate([self.log_weight, other.log_weight]),
            island=np.concatenate([self.island, other.island + self.n_islands]),
            root=np.concatenate([self.root, other.root + self.root.max() + 1]),
            trail=np.concatenate([self.trail, other.trail]),
        )


def tempered_smc(
    density: Density,
    reference: Reference,
    islands: int,
    size: int,
    rng: np.random.Generator,
    ladder: TemperatureSchedule | None = None,
    max_temperatures: int = 100,
    moves: int = MOVES,
    leapfrog: int = LEAPFROG,
    keep: float = KEEP,
) -> Particles:
    r"""Carry particles from the reference to the posterior, island by island.

    Sequential Monte Carlo along :math:`r^{1-\beta} \gamma^\beta` (Neal 2001; Del Moral, Doucet
    and Jasra 2006): weigh, resample within each island, move.

    Parameters
    ----------
    density : Density
    reference : Reference
    islands, size : int
        Independent populations, and particles of each.
    rng : numpy.random.Generator
    ladder : TemperatureSchedule, optional
        Learned by an earlier run; otherwise it is learned on the way from all islands
        together, whose evidences then are neither independent nor free of bias.
    max_temperatures : int
        Of a ladder to be learned; the search ends early if they do not suffice.
    moves, leapfrog : int
        Moves at each temperature, and steps of each move (one evaluation of every particle).
    keep : float
        Effective share of the particles that a step in temperature shall leave.
    """
    n = islands * size
    island = np.repeat(np.arange(islands), size)
    x = density.wrap(reference.sample(n, rng))
    if density.has_gradient:
        logp, grad = density.logp_and_grad(x)
    else:
        logp, grad = density.logp(x), np.empty((n, 0))
    root, log_z, beta = np.arange(n), np.zeros(islands), 0.0
    rungs: list[tuple[float, np.ndarray, float]] = []
    trail: list[np.ndarray] = []
    if density.has_gradient:
        step, aim = 1.4 * density.dim ** (-1 / 6), 0.7
    else:
        step, aim = 2.4 / np.sqrt(density.dim), 0.3
    while beta < 1.0:
        gain = logp - reference.log_density(x)[0]
        t = len(rungs)
        if ladder is None:
            if t == max_temperatures or not np.isfinite(gain).any():
                break
            after = _next_beta(gain, beta, keep)
        elif t < len(ladder.beta):
            after = float(ladder.beta[t])
        else:
            break
        log_w = (after - beta) * gain
        chosen, mean = _resample(log_w.reshape(islands, size), rng)
        log_z, beta = log_z + mean, after
        bridged = _Bridged(density, reference, beta)
        cloud = bridged.cloud(x[chosen], logp[chosen], grad[chosen])
        root = root[chosen]
        scale = _local_scale(cloud, reference.scale) if ladder is None else ladder.scale[t]
        step = step if ladder is None else float(ladder.step_size[t])
        for i in range(moves):
            cloud, accepted = _move(bridged, cloud, scale, step, leapfrog, rng)
            if ladder is None:
                step *= float(np.exp((accepted - aim) * 2.0 / (1 + i) ** 0.6))
        x, (logp, grad) = cloud.x, bridged.posterior(cloud)
        rungs.append((beta, scale, step))
        trail.append(x[:: max(1, n // ON_THE_WAY)])
    way = np.concatenate([x[:0], *trail[len(trail) // 3 :]])
    return Particles(
        x=x,
        logp=logp,
        log_weight=log_z[island] - np.log(size),
        island=island,
        root=root,
        ladder=ladder or _ladder(rungs, density.dim),
        trail=way[:: 1 + len(way) // MAX_TRAIL],
        arrived=beta == 1.0,
    )


def _ladder(rungs: list[tuple[float, np.ndarray, float]], d: int) -> TemperatureSchedule:
    """Freeze the rungs that were taken; none, where no particle was inside the support."""
    if not rungs:
        return TemperatureSchedule(np.empty(0), np.empty((0, d)), np.empty(0))
    return TemperatureSchedule(*(np.array(part) for part in zip(*rungs, strict=True)))


def _move(
    bridged: _Bridged,
    cloud: MoveState,
    scale: np.ndarray,
    step: float,
    leapfrog: int,
    rng: np.random.Generator,
) -> tuple[MoveState, float]:
    """Move every particle once; also the mean probability of acceptance."""
    # Basins differ in width: short and long steps are mixed.
    tuning = MoveParameters(
        np.diag(scale)[None], np.array([step]), np.array([leapfrog]), np.array([0.3])
    )
    # `move` needs of a density no more than `_Bridged` has.
    cloud, info = move(bridged, cloud, tuning, rng, label=None)  # type: ignore[arg-type]
    return cloud, float(info.probability.mean())


def _next_beta(gain: np.ndarray, beta: float, keep: float) -> float:
    """Find the power that leaves the effective share `keep` of all particles."""

    def share(after: float) -> float:
        log_w = (after - beta) * gain
        return float(np.exp(2 * logsumexp(log_w) - logsumexp(2 * log_w)) / len(gain))

    # Particles outside the support are lost at the first step, whatever its size.
    alive = np.mean(np.isfinite(gain))
    low, high = beta, 1.0
    if share(high) >= keep * alive:
        return 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) >= keep * alive else (low, middle)
    return max(low, beta + 1e-9)


def _resample(log_w: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Resample systematically within islands; indices (n,) and mean log weights (islands,)."""
    islands, size = log_w.shape
    total = logsumexp(log_w, axis=1)
    dead = ~np.isfinite(total)
    share = np.exp(
        np.where(dead[:, None], -np.log(size), log_w - np.where(dead, 0, total)[:, None])
    )
    edges = np.cumsum(share, axis=1)
    edges[:, -1] = 1.0
    at = (np.arange(size) + rng.random((islands, 1))) / size
    chosen = [
        np.searchsorted(e, a) + i * size for i, (e, a) in enumerate(zip(edges, at, strict=True))
    ]
    # An island without a living particle has weight zero from here on.
    return np.concatenate(chosen), np.where(dead, -np.inf, total - np.log(size))


def _local_scale(cloud: MoveState, spread: np.ndarray) -> np.ndarray:
    """Width of the basins that particles are in, by their gradients: not the way between them."""
    alive = np.isfinite(cloud.logp)
    if cloud.grad.shape[1]:
        slope = 1.4826 * np.median(np.abs(cloud.grad[alive]), axis=0)
        with np.errstate(divide="ignore"):
            scale = np.where(slope > 0, 1.0 / slope, spread)
    else:
        scale = cloud.x[alive].std(axis=0)
    return np.clip(scale, 1e-6 * spread, 3.0 * spread)
