"""The rounds of emulation: a design of the prior, then points where the posterior is uncertain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pymc_multimodal.challenge import Reference, TemperedSettings, tempered_smc
from pymc_multimodal.emulation.features import Features, prior_design
from pymc_multimodal.emulation.outputs import emulate_outputs
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target import Density

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.challenge import Particles
    from pymc_multimodal.emulation.plan import Plan
    from pymc_multimodal.search import StartDistribution

__all__ = [
    "Emulated",
    "Emulator",
    "emulate",
    "emulated_density",
    "posterior_sd",
    "refine",
    "tempered_draws",
]

# Particles of the emulated posterior among which points are chosen, and their moves at each
# temperature. Conventional.
PARTICLES, MOVES = 256, TemperedSettings(moves=2, steps=2, keep=0.5)
# Largest standard deviation that counts. Conventional: points of which nothing is known are alike.
MAX_SD = 3.0
# Evaluations of an earlier fit from which the emulator begins, at most: the first ones fill the
# prior and refine the emulator. Conventional.
MAX_KNOWN = 400
# Points of the emulator for each one that is chosen at a time, or a batch if that is more.
# Conventional.
POINTS_PER_CHOICE = 8
# Points of one call of the emulated density. Conventional.
EMULATED_CHUNK = 256
# Growth of the number of points after which lengths are fitted anew. Conventional.
REFIT_GROWTH = 1.3
# Effective share of the particles down to which they are weighted by the next emulator in place of
# being drawn anew, and rounds after which they are drawn anew. Conventional: a mode that appears is
# seen some rounds later; the last look is at fresh particles.
KEPT_SHARE, KEPT_ROUNDS = 0.5, 4


class Emulator(Protocol):
    """A cheap stand-in for a log density."""

    @property
    def described(self) -> str:
        """What is emulated, in words."""
        ...

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log of the mean density and its error at points (n, d), shapes (n,) and (n,)."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log of the mean density at points (n, d), shape (n,)."""
        ...

    def uncertainty(self, x: np.ndarray) -> Uncertainty:
        """Return the uncertainty of the log density at candidates (n, d), to be reduced."""
        ...

    def updated(self, x: np.ndarray, y: np.ndarray, logp: np.ndarray, *, refit: bool) -> Emulator:
        """Return the emulator of more points, with their outputs (n, m) and log densities (n,)."""
        ...


class Uncertainty(Protocol):
    """Uncertainty of the log density at candidates, which falls as candidates are chosen."""

    def variance(self) -> np.ndarray:
        """Variance at each candidate, shape (n,)."""
        ...

    def choose(self, i: int) -> None:
        """Count candidate i as known."""
        ...


@dataclass(frozen=True, eq=False)
class Emulated:
    """An emulator, and how uncertain it is.

    Attributes
    ----------
    emulator : Emulator
    sd : float
        Root mean square of the log density's standard deviation over the emulated posterior.
    rounds : int
        Batches that were evaluated.
    data : tuple of arrays of shape (n, d), (n, m) and (n,)
        Points, their outputs and log densities; outputs may be NaN.
    """

    emulator: Emulator
    sd: float
    rounds: int
    data: tuple[np.ndarray, np.ndarray, np.ndarray]

    def with_points(self, x: np.ndarray, y: np.ndarray, logp: np.ndarray) -> Emulated:
        """Return the emulator of more points, those with judged draws among them."""
        data = (
            np.concatenate([self.data[0], x]),
            np.concatenate([self.data[1], y]),
            np.append(self.data[2], logp),
        )
        return replace(self, emulator=self.emulator.updated(*data, refit=True), data=data)


def emulated_density(density: Density, emulator: Emulator) -> Density:
    """Return the emulated log density, with the coordinates and the prior of the true one."""

    def function(x: np.ndarray) -> tuple[np.ndarray, None]:
        return emulator.log_density(x), None

    return Density(
        function,
        density.dim,
        has_gradient=False,
        period=density.period,
        names=density.names,
        chunk=EMULATED_CHUNK,
    )


def tempered_draws(
    cheap: Density,
    starts: StartDistribution,
    n: int,
    settings: TemperedSettings,
    rng: np.random.Generator,
) -> Particles:
    """Draw n points of a cheap density by tempered sequential Monte Carlo."""
    reference = Reference(starts.centre, starts.spread, cheap.period)
    return tempered_smc(cheap, reference, 1, n, rng, settings=settings)


def emulate(
    density: Density,
    starts: StartDistribution,
    plan: Plan,
    rng: np.random.Generator,
    report: Callable[[str], None] = lambda text: None,
) -> Emulated | None:
    """Evaluate a design of the prior, then points where the posterior is dense and uncertain.

    Parameters
    ----------
    density : Density
        With outputs (`Density.logp_and_outputs`).
    starts : StartDistribution
        Centre and spread of the prior.
    plan : Plan
    rng : numpy.random.Generator
    report : callable
        It is told how far the rounds are.

    Returns
    -------
    Emulated or None
        None if the simulator has outputs at fewer points than twice the number of its inputs.

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before the design was evaluated.
    """
    model = density.outputs
    assert model is not None
    features = Features(model.inputs, starts.centre, starts.spread, density.period)
    x, logp, y = _known(density)
    design = prior_design(density, plan.design, rng)[: max(0, plan.design - len(x))]
    # The design does not depend on what it shows: workers get as much of it as they can do at once.
    size = max(plan.batch, density.n_workers)
    batches = np.split(design, range(size, len(design), size)) if len(design) else []
    x = np.concatenate([x, design])
    for batch in batches:
        report(f"{len(logp)} of {plan.total} evaluations")
        more, outputs = evaluated(density, batch)
        logp, y = np.append(logp, more), np.concatenate([y, outputs])
    if np.isfinite(y).all(axis=1).sum() < 2 * len(model.inputs):
        return None
    emulator = emulate_outputs(model, features, x, y, logp)
    begun = Emulated(emulator, np.inf, -(-len(design) // plan.batch), (x, y, logp))
    return refine(density, begun, starts, plan, rng, report)


def _known(density: Density) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return evaluations of an earlier fit: points, log densities and outputs (n, m)."""
    assert density.outputs is not None
    assert density.history is not None
    known = density.history.evaluations(density.names, outputs=True)
    if not len(known):
        return np.empty((0, density.dim)), np.empty(0), np.empty((0, density.outputs.n_outputs))
    return known.x[:MAX_KNOWN], known.logp[:MAX_KNOWN], known.outputs[:MAX_KNOWN]


def evaluated(density: Density, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate points (n, d): log densities (n,), and outputs (n, m), possibly none."""
    if density.outputs is not None:
        return density.logp_and_outputs(x)
    return density.logp(x), np.empty((len(x), 0))


def refine(
    density: Density,
    found: Emulated,
    starts: StartDistribution,
    plan: Plan,
    rng: np.random.Generator,
    report: Callable[[str], None] = lambda text: None,
) -> Emulated:
    """Add points where the posterior is dense and uncertain, until it is no longer uncertain.

    Parameters
    ----------
    density, starts, rng, report
        As for `emulate`.
    found : Emulated
    plan : Plan
        At most `Plan.refinement` points are added.

    Returns
    -------
    Emulated
    """
    emulator, (x, y, logp), rounds = found.emulator, found.data, found.rounds
    first = fitted = len(x)
    cloud: Cloud | None = None
    while True:
        cloud = _cloud(density, emulator, starts, cloud, rng)
        left = plan.refinement - (len(x) - first)
        rows = np.empty(0, dtype=int)
        if cloud.sd > plan.precise_sd and left > 0:
            # Processes on many points take longer, and change less by a few more.
            n = min(left, max(plan.batch, len(x) // POINTS_PER_CHOICE))
            rows = _choose(emulator, cloud, n, rng)
        if not len(rows):
            if cloud.age == 0:
                break
            cloud = None
            continue
        chosen = cloud.x[rows]
        report(f"{len(x)} of {plan.total} evaluations, log density known to {cloud.sd:.2g}")
        try:
            more, outputs = evaluated(density, chosen)
        except LimitReached:
            break
        cloud = cloud.without(rows)
        x, y, logp = (
            np.concatenate([x, chosen]),
            np.concatenate([y, outputs]),
            np.append(logp, more),
        )
        rounds += -(-len(chosen) // plan.batch)
        refit = len(x) >= REFIT_GROWTH * fitted
        emulator = emulator.updated(x, y, logp, refit=refit)
        fitted = len(x) if refit else fitted
    return Emulated(emulator, cloud.sd, rounds, (x, y, logp))


@dataclass(frozen=True, eq=False)
class Cloud:
    """Weighted particles of the emulated posterior.

    Attributes
    ----------
    x : array of shape (n, d)
        No two are the same.
    weight, log_density : arrays of shape (n,)
        Weights when the particles were drawn, and the emulated log density then.
    share : array of shape (n,)
        Weights now; their sum is one.
    error : array of shape (n,)
        Standard deviation of the log density now.
    age : int
        Rounds since the particles were drawn.
    """

    x: np.ndarray
    weight: np.ndarray
    log_density: np.ndarray
    share: np.ndarray
    error: np.ndarray
    age: int

    @property
    def sd(self) -> float:
        """Root mean square of the errors."""
        return float(np.sqrt(self.share @ np.minimum(self.error, MAX_SD) ** 2))

    @property
    def effective_share(self) -> float:
        """Effective number of the particles, in units of that when they were drawn."""
        drawn = self.weight.sum() ** 2 / np.sum(self.weight**2)
        return float(1.0 / np.sum(self.share**2) / drawn)

    def without(self, rows: np.ndarray) -> Cloud:
        """Return the particles that are not yet known."""
        left = np.setdiff1d(np.arange(len(self.x)), rows)
        return Cloud(
            self.x[left],
            self.weight[left],
            self.log_density[left],
            self.share[left],
            self.error[left],
            self.age,
        )

    def weighted(self, emulator: Emulator) -> Cloud | None:
        """Return the particles with the weights of another emulator; None if all are zero."""
        value, error = emulator.predict(self.x)
        with np.errstate(invalid="ignore", divide="ignore"):
            log_weight = np.nan_to_num(
                np.log(self.weight) + value - self.log_density, nan=-np.inf, neginf=-np.inf
            )
        high = log_weight.max(initial=-np.inf)
        if not np.isfinite(high):
            return None
        weight = np.exp(log_weight - high)
        return replace(self, share=weight / weight.sum(), error=error, age=self.age + 1)


def _cloud(
    density: Density,
    emulator: Emulator,
    starts: StartDistribution,
    before: Cloud | None,
    rng: np.random.Generator,
) -> Cloud:
    """Weigh the particles of the round before, or draw others."""
    if before is not None and len(before.x) and before.age < KEPT_ROUNDS:
        again = before.weighted(emulator)
        if again is not None and again.effective_share >= KEPT_SHARE:
            return again
    cheap = emulated_density(density, emulator)
    drawn = tempered_draws(cheap, starts, PARTICLES, MOVES, rng)
    x, counts = np.unique(drawn.x, axis=0, return_counts=True)
    value, error = emulator.predict(x)
    return Cloud(x, counts * 1.0, value, counts / counts.sum(), error, 0)


def posterior_sd(
    density: Density, emulator: Emulator, starts: StartDistribution, rng: np.random.Generator
) -> float:
    """Return how uncertain an emulator is where its own posterior lies (nats), as in `Emulated`.

    Parameters
    ----------
    density : Density
        For its coordinates; it is not evaluated.
    emulator : Emulator
    starts : StartDistribution
    rng : numpy.random.Generator
    """
    return _cloud(density, emulator, starts, None, rng).sd


def _choose(emulator: Emulator, cloud: Cloud, n: int, rng: np.random.Generator) -> np.ndarray:
    """Choose particles at random, those with an uncertain log density more often: rows, shape (n,).

    After each choice the uncertainty of the others is what it will be when that point is known.
    """
    left = emulator.uncertainty(cloud.x)
    chosen: list[int] = []
    for _ in range(min(n, len(cloud.x))):
        score = -np.expm1(-left.variance()) * cloud.share
        score[chosen] = 0.0
        total = score.sum()
        if not total > 0:
            break
        i = int(rng.choice(len(score), p=score / total))
        chosen.append(i)
        left.choose(i)
    return np.array(chosen, dtype=int)
