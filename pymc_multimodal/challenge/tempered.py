"""Tempered sequential Monte Carlo: particles from a wide reference to the posterior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

from pymc_multimodal.challenge.reference import TemperedDensity
from pymc_multimodal.moves import (
    MoveParameters,
    MoveState,
    first_step,
    log_step_change,
    move,
)
from pymc_multimodal.moves.adaptation import RANDOM_WALK_ACCEPTANCE

if TYPE_CHECKING:
    from pymc_multimodal.challenge.reference import Reference
    from pymc_multimodal.target.density import Density

__all__ = ["Particles", "TemperatureSchedule", "TemperedSettings", "next_beta", "tempered_smc"]

# Acceptance that step sizes are adapted to where there is a gradient: between 0.574, the optimum of
# Langevin moves (Roberts and Rosenthal 1998), and 0.8 of long trajectories (Hoffman and Gelman
# 2014), because a move has two leapfrog steps.
ACCEPTANCE = 0.7
# Smallest random factor of the step size: basins differ in width, so that short and long steps are
# mixed. Measured: examples/benchmarks/constants.py
SHORTEST_STEP = 0.3
# Particles of each temperature that are kept as intermediate particles, and intermediate particles
# of a whole search at most. Measured: examples/benchmarks/constants.py
KEPT_PER_TEMPERATURE, MAX_INTERMEDIATE = 64, 2048
# Inverse of the share of the first temperatures of which no intermediate particles are kept: there
# particles still spread as the reference does. Measured: examples/benchmarks/constants.py
HOT_TEMPERATURES = 3
# Smallest and largest width of a basin, in units of the reference's scale. Conventional.
MIN_WIDTH, MAX_WIDTH = 1e-6, 3.0
# Standard deviation of a normal distribution in units of its median absolute deviation.
MAD_TO_SD = 1.4826
# Error of the next inverse temperature, and its smallest increase. Conventional.
ROOT_ERROR, MIN_INCREASE = 1e-14, 1e-9


@dataclass(frozen=True)
class TemperedSettings:
    """How particles move from one temperature to the next.

    Parameters
    ----------
    moves : int
        Moves at each temperature.
    steps : int
        Leapfrog (or random-walk) steps of a move; each evaluates every particle once.
    keep : float
        Effective share of the particles that a change of temperature leaves. One half is
        conventional (Del Moral, Doucet and Jasra 2006).
    max_temperatures : int
        Temperatures of a schedule that is learned, at most.
    """

    moves: int = 4
    steps: int = 2
    keep: float = 0.5
    max_temperatures: int = 100


@dataclass(frozen=True)
class TemperatureSchedule:
    """Temperatures with the moves at each, learned from particles of the search itself.

    Attributes
    ----------
    beta : array of shape (T,)
        Inverse temperatures, rising to 1: powers of the posterior.
    scale : array of shape (T, d)
        Square roots of diagonal inverse mass matrices.
    step_size : array of shape (T,)
    """

    beta: np.ndarray
    scale: np.ndarray
    step_size: np.ndarray


@dataclass(frozen=True)
class Particles:
    """Particles at the end of a tempered search.

    Attributes
    ----------
    x, logp : arrays of shape (n, d) and (n,)
    log_weight : array of shape (n,)
        ``sum(exp(log_weight) f(x))`` over one island estimates the integral of f times the
        unnormalised posterior, without bias if the schedule was given.
    island : array of int, shape (n,)
        Islands share no random numbers.
    root : array of int, shape (n,)
        The particle that each descends from: particles of one root are not independent.
    schedule : TemperatureSchedule
    intermediate : array of shape (m, d)
        Particles at the colder two thirds of the temperatures. Climbs from there reach modes that
        few or none of the particles are left in.
    arrived : bool
        Whether the posterior itself was reached.
    """

    x: np.ndarray
    logp: np.ndarray
    log_weight: np.ndarray
    island: np.ndarray
    root: np.ndarray
    schedule: TemperatureSchedule
    intermediate: np.ndarray
    arrived: bool = True

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_islands(self) -> int:
        """Number of islands."""
        return int(self.island.max()) + 1

    @property
    def island_sizes(self) -> np.ndarray:
        """Number of particles of each island."""
        return np.bincount(self.island, minlength=self.n_islands)

    @property
    def share(self) -> np.ndarray:
        """Share of each particle in the estimate of the whole integral, shape (n,).

        The estimate is the mean over the islands by their sizes: a large island is more precise.
        """
        log_share = self.log_weight + np.log(self.island_sizes)[self.island]
        return np.exp(log_share - logsumexp(log_share))

    def joined(self, other: Particles) -> Particles:
        """Return the islands of both searches, with the schedule of this one."""
        return replace(
            self,
            x=np.concatenate([self.x, other.x]),
            logp=np.concatenate([self.logp, other.logp]),
            log_weight=np.concatenate([self.log_weight, other.log_weight]),
            island=np.concatenate([self.island, other.island + self.n_islands]),
            root=np.concatenate([self.root, other.root + self.root.max() + 1]),
            intermediate=np.concatenate([self.intermediate, other.intermediate]),
        )


def tempered_smc(
    density: Density,
    reference: Reference,
    islands: int,
    size: int,
    rng: np.random.Generator,
    schedule: TemperatureSchedule | None = None,
    settings: TemperedSettings | None = None,
) -> Particles:
    r"""Move particles from the reference to the posterior, island by island.

    Sequential Monte Carlo along :math:`r^{1-\beta} \gamma^\beta` (Neal 2001; Del Moral, Doucet and
    Jasra 2006): at each inverse temperature particles are weighted, resampled within their island,
    and moved.

    Parameters
    ----------
    density : Density
    reference : Reference
    islands, size : int
        Independent populations, and particles of each.
    rng : numpy.random.Generator
    schedule : TemperatureSchedule, optional
        Learned by an earlier run. Without one it is learned from all islands together, whose
        evidences then are neither independent nor free of bias.
    settings : TemperedSettings, optional

    Returns
    -------
    Particles

    Raises
    ------
    LimitReached
        If the density refuses evaluations and a limit of the fit is reached.
    """
    settings = settings or TemperedSettings()
    n, kept = islands * size, []
    learned: list[tuple[float, np.ndarray, float]] = []
    x = density.wrap(reference.sample(n, rng))
    logp, grad = _evaluate(density, x)
    root, log_z = np.arange(n), np.zeros(islands)
    beta, step = 0.0, first_step(density)
    while beta < 1.0:
        # Log ratio of the posterior to the reference.
        ratio = logp - reference.log_density(x)[0]
        after = _following(ratio, beta, schedule, len(learned), settings)
        if after is None:
            break
        chosen, log_mean = _resample(((after - beta) * ratio).reshape(islands, size), rng)
        log_z, root, beta = log_z + log_mean, root[chosen], after
        tempered = TemperedDensity(density, reference, beta)
        state = tempered.state(x[chosen], logp[chosen], grad[chosen])
        if schedule is None:
            scale = _basin_widths(state, reference.scale)
        else:
            scale, step = schedule.scale[len(learned)], float(schedule.step_size[len(learned)])
        for t in range(settings.moves):
            state, acceptance = _move(tempered, state, scale, step, settings.steps, rng)
            if schedule is None:
                step *= _step_factor(acceptance, t, density.has_gradient)
        x, (logp, grad) = state.x, tempered.posterior(state)
        learned.append((beta, scale, step))
        kept.append(x[:: max(1, n // KEPT_PER_TEMPERATURE)])
    intermediate = np.concatenate([x[:0], *kept[len(kept) // HOT_TEMPERATURES :]])
    return Particles(
        x=x,
        logp=logp,
        log_weight=log_z[np.repeat(np.arange(islands), size)] - np.log(size),
        island=np.repeat(np.arange(islands), size),
        root=root,
        schedule=schedule or _schedule(learned, density.dim),
        intermediate=intermediate[:: 1 + len(intermediate) // MAX_INTERMEDIATE],
        arrived=beta == 1.0,
    )


def _evaluate(density: Density, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if density.has_gradient:
        return density.logp_and_grad(x)
    return density.logp(x), np.empty((len(x), 0))


def _following(
    ratio: np.ndarray,
    beta: float,
    schedule: TemperatureSchedule | None,
    t: int,
    settings: TemperedSettings,
) -> float | None:
    """Return inverse temperature number t; None where the search ends before the posterior."""
    if schedule is not None:
        return float(schedule.beta[t]) if t < len(schedule.beta) else None
    if t == settings.max_temperatures or not np.isfinite(ratio).any():
        return None
    return next_beta(ratio, beta, settings.keep)


def _schedule(learned: list[tuple[float, np.ndarray, float]], d: int) -> TemperatureSchedule:
    """Return what was learned; no temperature if no particle was inside of the support."""
    if not learned:
        return TemperatureSchedule(np.empty(0), np.empty((0, d)), np.empty(0))
    return TemperatureSchedule(*(np.array(part) for part in zip(*learned, strict=True)))


def _move(
    tempered: TemperedDensity,
    state: MoveState,
    scale: np.ndarray,
    step: float,
    steps: int,
    rng: np.random.Generator,
) -> tuple[MoveState, float]:
    """Move every particle once; also return the mean probability of acceptance."""
    parameters = MoveParameters(
        scale[None], np.array([step]), np.array([steps]), np.array([SHORTEST_STEP])
    )
    # A move needs no more of a density than `TemperedDensity` has.
    state, info = move(tempered, state, parameters, rng, label=None)  # type: ignore[arg-type]
    return state, float(info.probability.mean())


def _step_factor(acceptance: float, t: int, has_gradient: bool) -> float:
    target = ACCEPTANCE if has_gradient else RANDOM_WALK_ACCEPTANCE
    return float(np.exp(log_step_change(acceptance, target, t)))


def next_beta(ratio: np.ndarray, beta: float, keep: float) -> float:
    """Return the inverse temperature that leaves an effective share of all particles.

    Parameters
    ----------
    ratio : array of shape (n,)
        Log ratios of the last density to the first; some have to be finite.
    beta : float
        The present inverse temperature.
    keep : float
        The share, in (0, 1).
    """
    # Particles outside of the support are lost at the first change, however small. With the others'
    # largest ratio subtracted no exponential overflows.
    alive = ratio[np.isfinite(ratio)]
    alive = alive - alive.max()

    def excess(after: float) -> float:
        weight = np.exp((after - beta) * alive)
        return float(weight.sum() ** 2 / (weight @ weight) / len(alive) - keep)

    if excess(1.0) >= 0.0:
        return 1.0
    # The share falls from 1 as the temperature does. Where it is flat in between, any root will do.
    root = brentq(excess, beta, 1.0, xtol=ROOT_ERROR, rtol=ROOT_ERROR)
    return max(float(root), beta + MIN_INCREASE)


def _resample(log_w: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Resample systematically within islands.

    Returns indices, shape (islands * size,), and log mean weights, shape (islands,).
    """
    islands, size = log_w.shape
    total = logsumexp(log_w, axis=1)
    # An island without a particle inside of the support has weight zero from here on.
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
    return np.concatenate(chosen), np.where(dead, -np.inf, total - np.log(size))


def _basin_widths(state: MoveState, spread: np.ndarray) -> np.ndarray:
    """Return the width of the basins that particles are in, shape (d,), from their gradients.

    The spread of the particles would be that of the basins' centres.
    """
    alive = np.isfinite(state.logp)
    if state.grad.shape[1]:
        slope = MAD_TO_SD * np.median(np.abs(state.grad[alive]), axis=0)
        with np.errstate(divide="ignore"):
            width = np.where(slope > 0, 1.0 / slope, spread)
    else:
        width = state.x[alive].std(axis=0)
    return np.clip(width, MIN_WIDTH * spread, MAX_WIDTH * spread)
