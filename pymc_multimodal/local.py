"""Chains inside the regions: each leaves the density restricted to its region invariant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from pymc_multimodal._compat import ess, rhat
from pymc_multimodal.status import Status
from pymc_multimodal.trajectory import Cloud, Tuning, cloud_at, move

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymc_multimodal.density import Density
    from pymc_multimodal.modes import Modes
    from pymc_multimodal.regions import Partition

__all__ = ["LocalDraws", "LocalSampler", "LocalSampling", "Pilot", "explore"]


class JumpDensity(Protocol):
    """A normalised density on R^d to propose from."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d); rows of NaN are no points."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density, shape (n,)."""
        ...


FitJumps: TypeAlias = "Callable[[LocalDraws, np.random.Generator], Sequence[JumpDensity]]"

# R-hat and ESS are watched on at most this many coordinates, spread evenly, and on the log
# density: the library computes them one by one.
MAX_WATCHED = 48


@dataclass(frozen=True)
class LocalSampling:
    """How the regions are sampled.

    Parameters
    ----------
    chains : int
        Chains in each region; divided between fitting, choosing and bridging.
    draws : int
        Draws a chain before the first check; doubled until the checks pass.
    max_draws : int
        Most draws a chain.
    windows : tuple of int
        Lengths of the warm-up windows; the metric is refitted after each but the last.
    target_accept : float
        Acceptance the step size is adapted to, at least 0.85 in the second gear; 0.3 where
        there is no gradient.
    max_rhat : float
        R-hat that every watched quantity of a region has to reach.
    min_ess : float
        Effective draws of a region's slowest quantity.
    max_leapfrog : int
        Most leapfrog steps of a trajectory. The first gear is Langevin where the step size
        allows it, and short trajectories otherwise. A region that stays far from `max_rhat`
        shifts to varied step sizes with independence jumps from a density fitted to its draws
        so far, and then to trajectories four times as long.
    explore_moves : int
        Moves of the unrestricted chains that shape the regions.
    """

    chains: int = 16
    draws: int = 100
    max_draws: int = 3200
    windows: tuple[int, ...] = (30, 40, 60, 40)
    target_accept: float = 0.75
    max_rhat: float = 1.01
    min_ess: float = 400.0
    max_leapfrog: int = 64
    explore_moves: int = 60

    def __post_init__(self) -> None:
        if self.chains < 8:
            raise ValueError(
                f"LocalSampling(chains={self.chains}): at least 8 are needed, since chains are "
                "divided between fitting, choosing and bridging."
            )
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept={self.target_accept} must lie between 0 and 1.")
        if len(self.windows) < 2:
            raise ValueError(f"windows={self.windows}: at least two warm-up windows are needed.")


@dataclass(frozen=True)
class Pilot:
    """Short unrestricted chains from every mode.

    Attributes
    ----------
    draws : array of shape (K, chains, moves, d)
    tuning : Tuning
    """

    draws: np.ndarray
    tuning: Tuning

    def merged(self, group: np.ndarray) -> Pilot:
        """Join the chains of modes of one group, thinned to as many as one mode has."""
        chains = self.draws.shape[1]
        draws, first = [], []
        for g in range(group.max() + 1):
            members = np.flatnonzero(group == g)
            pool = self.draws[members].swapaxes(0, 1).reshape(-1, *self.draws.shape[2:])
            draws.append(pool[:chains])
            first.append(members[0])
        tuning = self.tuning.permuted(np.array(first))
        return Pilot(np.stack(draws), tuning)


@dataclass(frozen=True)
class LocalDraws:
    """Draws inside each region.

    Attributes
    ----------
    x, logp, grad : tuples of K arrays of shape (chains, draws, d), (chains, draws), ...
        Circular coordinates wrapped; gradients have a last axis of length 0 without gradient.
    centre : array of shape (K, d)
        A point of each region about which circular coordinates are unrolled.
    tuning : Tuning
    r_hat, ess, acceptance, crossings : arrays of shape (K,)
        Largest R-hat, smallest effective sample size, mean acceptance, share of moves that
        were rejected for leaving the region.
    gears : array of int, shape (K,)
        How often trajectories were lengthened.
    statuses : tuple of Status
    """

    x: tuple[np.ndarray, ...]
    logp: tuple[np.ndarray, ...]
    grad: tuple[np.ndarray, ...]
    centre: np.ndarray
    tuning: Tuning
    r_hat: np.ndarray
    ess: np.ndarray
    acceptance: np.ndarray
    crossings: np.ndarray
    gears: np.ndarray
    statuses: tuple[Status, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def permuted(self, order: np.ndarray) -> LocalDraws:
        """Renumber the regions: new region i is old region ``order[i]``."""
        changes = {}
        for name, part in vars(self).items():
            if isinstance(part, np.ndarray):
                changes[name] = part[order]
            elif name in ("x", "logp", "grad"):
                changes[name] = tuple(part[i] for i in order)
        return replace(self, tuning=self.tuning.permuted(order), **changes)


def explore(
    density: Density, modes: Modes, config: LocalSampling, rng: np.random.Generator
) -> Pilot:
    """Run short unrestricted chains from every mode, to see how far its region reaches."""
    k, d, chains = len(modes), density.dim, config.chains
    region = np.repeat(np.arange(k), chains)
    if modes.runaway:
        finite = modes.points[np.isfinite(density.logp(modes.points))]
        cloud = cloud_at(density, finite[rng.integers(len(finite), size=chains)], region)
    else:
        cloud = _around_optima(density, modes, region, rng)
    steps = np.full(k, _first_step(density))
    tuning = Tuning(modes.scale, steps, np.full(k, 1), np.full(k, 0.75))
    warm = _Warmup(density, config, None)
    half = config.explore_moves // 2
    cloud, _, tuning = warm.window(cloud, tuning, half, rng, shrink=0.3)
    tuning = warm.lengthen(tuning, gear=0)
    cloud, record, tuning = warm.window(cloud, tuning, config.explore_moves - half, rng)
    draws = record.x.reshape(len(record.x), k, chains, d).transpose(1, 2, 0, 3)
    return Pilot(draws, tuning)


def _around_optima(
    density: Density, modes: Modes, region: np.ndarray, rng: np.random.Generator
) -> Cloud:
    """Points scattered about every optimum of each mode, no lower than its typical draws."""
    first = np.empty((len(region), density.dim))
    for k in range(len(modes)):
        rows = np.flatnonzero(region == k)
        own = modes.optima[modes.optimum_modes == k]
        # All optima in turn: a ring or a merged pair of summits must be entered everywhere.
        first[rows] = own[rng.permutation(len(own))[np.arange(len(rows)) % len(own)]]
    base = cloud_at(density, first, region)
    noise = np.einsum("nij,nj->ni", modes.scale[region], rng.standard_normal(first.shape))
    size = np.full(len(region), 0.7)
    cloud = base
    for _ in range(6):
        far = cloud_at(density, first + size[:, None] * noise, region)
        good = far.logp > base.logp - density.dim - 5.0
        keep = good[:, None]
        cloud = Cloud(
            np.where(keep, far.x, cloud.x),
            np.where(good, far.logp, cloud.logp),
            np.where(keep, far.grad, cloud.grad),
            region,
        )
        if good.all():
            break
        # Points already placed stay: their noise is spent.
        noise[good] = 0.0
        first[good] = far.x[good]
        size = size / 3
    return cloud


def _first_step(density: Density) -> float:
    d = density.dim
    return 1.4 * d ** (-1 / 6) if density.has_gradient else 2.4 / np.sqrt(d)


@dataclass(frozen=True)
class _Record:
    """What moves left behind: arrays of shape (moves, rows, ...)."""

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    probability: np.ndarray
    crossed: np.ndarray


class _Warmup:
    """Adapts step size and metric of all regions at once."""

    def __init__(
        self, density: Density, config: LocalSampling, label: Callable | None
    ) -> None:
        self.density, self.config, self.label = density, config, label
        self.target = config.target_accept if density.has_gradient else 0.3
        self.careful = max(self.target, 0.85) if density.has_gradient else self.target

    def window(
        self,
        cloud: Cloud,
        tuning: Tuning,
        moves: int,
        rng: np.random.Generator,
        shrink: float = 1.0,
    ) -> tuple[Cloud, _Record, Tuning]:
        """Move while adapting the step size; afterwards it is the average of the later ones."""
        log_step = np.log(tuning.step_size)
        history, records = [], []
        n_regions = len(log_step)
        count = np.maximum(np.bincount(cloud.region, minlength=n_regions), 1)
        for t in range(moves):
            tuning = replace(tuning, step_size=np.exp(log_step))
            cloud, info = move(
                self.density, cloud, tuning, rng, label=self.label, shrink=shrink
            )
            records.append((cloud.x, cloud.logp, cloud.grad, info.probability, info.crossed))
            mean = np.bincount(cloud.region, info.probability, minlength=n_regions) / count
            present = np.bincount(cloud.region, minlength=n_regions) > 0
            # Varied step sizes belong to the second gear, which wants them small on average.
            target = np.where(tuning.shortest < 0.5, self.careful, self.target)
            log_step = log_step + present * (mean - target) * 2.0 / (1 + t) ** 0.6
            history.append(log_step)
        later = np.mean(history[len(history) // 2 :], axis=0)
        tuning = replace(tuning, step_size=np.exp(later))
        return cloud, _stack(records), tuning

    def lengthen(self, tuning: Tuning, gear: int) -> Tuning:
        """Choose trajectory lengths: a quarter turn of a Gaussian, four times that in third gear."""
        if not self.density.has_gradient:
            steps = np.full(len(tuning.step_size), max(1, self.density.dim // 4) * 4 ** max(gear - 1, 0))
        else:
            steps = np.round(1.6 * 4 ** max(gear - 1, 0) / tuning.step_size)
        return replace(
            tuning, leapfrog=np.clip(steps, 1, self.config.max_leapfrog).astype(int)
        )

    def refit(
        self, record: _Record, cloud: Cloud, tuning: Tuning, centre: np.ndarray
    ) -> Tuning:
        """Fit each region's metric to its draws and gradients of a window."""
        scale = tuning.scale.copy()
        for k in np.unique(cloud.region):
            rows = cloud.region == k
            x = self.density.unroll(record.x[:, rows], centre[k]).reshape(-1, self.density.dim)
            ok = np.isfinite(record.logp[:, rows].ravel())
            grad = record.grad[:, rows].reshape(len(x), -1)[ok]
            scale[k] = fit_metric(x[ok], grad if grad.shape[1] else None, scale[k])
        return replace(tuning, scale=scale)


def _stack(records: list[tuple]) -> _Record:
    return _Record(*(np.stack(column) for column in zip(*records, strict=True)))


def fit_metric(x: np.ndarray, grad: np.ndarray | None, scale: np.ndarray) -> np.ndarray:
    """Factor of the covariance that draws and their gradients suggest together.

    The geometric mean of the draws' covariance and the inverse of the gradients' minimises
    the Fisher divergence between a Gaussian and the density; for a Gaussian it is exact from
    as many draws as dimensions. Both are regularised towards the current metric.

    Parameters
    ----------
    x, grad : arrays of shape (n, d); grad may be None
    scale : array of shape (d, d)
        Current lower-triangular factor.
    """
    d = x.shape[1]
    if len(x) < 8:
        return scale
    z = np.linalg.solve(scale, (x - x.mean(axis=0)).T)
    weight = d / (len(x) + d)
    ridge = max(1e-6, 1e-3 * weight)
    a = z @ z.T / len(x)
    if grad is None:
        a = (1 - weight) * a + weight * np.eye(d) * min(1.0, np.trace(a) / d)
        mean = a + ridge * np.eye(d)
    else:
        g = scale.T @ (grad - grad.mean(axis=0)).T
        b = g @ g.T / len(x) + ridge * np.eye(d)
        mean = _geometric_mean_with_inverse(a + ridge * np.eye(d), b)
    try:
        return np.linalg.cholesky(scale @ mean @ scale.T)
    except np.linalg.LinAlgError:
        return scale


def _geometric_mean_with_inverse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve S b S = a for the symmetric positive definite S."""
    values, vectors = np.linalg.eigh(b)
    root = vectors * np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    inner_values, inner_vectors = np.linalg.eigh(root @ a @ root)
    inner = inner_vectors * np.sqrt(np.maximum(inner_values, 0.0)) @ inner_vectors.T
    inverse = vectors / np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    result = inverse @ inner @ inverse
    return 0.5 * (result + result.T)


class LocalSampler:
    """Runs the regions' chains and can go on with them; `result` is the frozen outcome.

    Parameters
    ----------
    density : Density
    partition : Partition
    modes : Modes
    pilot : Pilot
    config : LocalSampling
    rng : numpy.random.Generator
    fit_jumps : callable, optional
        ``fit_jumps(local, rng)`` fits one normalised density to each region of its argument;
        the second gear proposes from them.
    """

    def __init__(
        self,
        density: Density,
        partition: Partition,
        modes: Modes,
        pilot: Pilot,
        config: LocalSampling,
        rng: np.random.Generator,
        fit_jumps: FitJumps | None = None,
    ) -> None:
        self.density, self.partition, self.config, self.rng = density, partition, config, rng
        self._fit_jumps = fit_jumps
        self._jumps: dict[int, JumpDensity] = {}
        self.n_regions = len(modes)
        self.centre = modes.locations
        label = partition.label if partition.n_regions > 1 else None
        self._label = label
        self._warm = _Warmup(density, config, label)
        self._gear = np.zeros(self.n_regions, dtype=int)
        self._records: list[list[tuple]] = [[] for _ in range(self.n_regions)]
        x = _starting_points(density, partition, modes, pilot, config, rng)
        region = np.repeat(np.arange(self.n_regions), config.chains)
        self._cloud = cloud_at(density, x.reshape(-1, density.dim), region)
        self._tuning = pilot.tuning
        self.r_hat = np.full(self.n_regions, np.inf)
        self.ess = np.zeros(self.n_regions)
        self._warm_up(np.arange(self.n_regions))

    # ---------------------------------------------------------- running

    def run(
        self, *, proceed: Callable[[], bool] = lambda: True, tick: Callable = lambda text: None
    ) -> None:
        """Run until every region passes its checks or reaches the most draws allowed."""
        self.extend(np.arange(self.n_regions), self.config.draws)
        while proceed():
            short = np.flatnonzero(~self._passes())
            drawn = np.array([self.draws_of(k) for k in range(self.n_regions)])
            short = short[drawn[short] < self.config.max_draws]
            if not len(short):
                break
            tick(f"{self.n_regions - len(short)}/{self.n_regions} regions converged")
            slow = [k for k in short if self._wants_gear(k, drawn[k])]
            if slow:
                self._shift(np.array(slow))
            rest = np.setdiff1d(short, slow)
            for size in np.unique(drawn[rest]):
                self.extend(rest[drawn[rest] == size], int(size))

    def extend(self, regions: np.ndarray, draws: int) -> None:
        """Add `draws` draws to every chain of some regions, all in one batch."""
        rows = np.isin(self._cloud.region, regions)
        cloud = _take(self._cloud, rows)
        records = []
        for _ in range(draws):
            cloud, info = move(self.density, cloud, self._tuning, self.rng, label=self._label)
            cloud = self._jump(cloud)
            records.append((cloud.x, cloud.logp, cloud.grad, info.probability, info.crossed))
        self._put(cloud, rows)
        record = _stack(records)
        for k in regions:
            own = cloud.region == k
            self._records[k].append(tuple(part[:, own] for part in vars(record).values()))
            self._check(k)

    def draws_of(self, k: int) -> int:
        """Draws per chain of region k so far."""
        return sum(len(r[0]) for r in self._records[k])

    def unmixed(self) -> np.ndarray:
        """Regions whose R-hat is too large to be trusted."""
        return np.flatnonzero(~(self.r_hat <= 1.0 + 2.0 * (self.config.max_rhat - 1.0)))

    def positions(self, regions: np.ndarray) -> np.ndarray:
        """Where the chains of some regions are now, shape (n, d)."""
        return self._cloud.x[np.isin(self._cloud.region, regions)]

    def _passes(self) -> np.ndarray:
        return (self.r_hat <= self.config.max_rhat) & (self.ess >= self.config.min_ess)

    def _wants_gear(self, k: int, drawn: int) -> bool:
        far = self.r_hat[k] > 1.05 or self.ess[k] < 0.02 * drawn * self.config.chains
        return bool(far and self._gear[k] < 2 and drawn >= 2 * self.config.draws)

    def _shift(self, regions: np.ndarray) -> None:
        """Shift up: metric and jumps from all draws, longer trajectories, a fresh record."""
        so_far = self.result().permuted(regions)
        scale, shortest = self._tuning.scale.copy(), self._tuning.shortest.copy()
        for i, k in enumerate(regions):
            flat = self.density.unroll(so_far.x[i], self.centre[k]).reshape(-1, self.density.dim)
            gradients = so_far.grad[i].reshape(len(flat), -1) if self.density.has_gradient else None
            scale[k] = fit_metric(flat, gradients, scale[k])
            # Curved regions are stiffer in their tails than where the step size was adapted:
            # chains that never shorten their steps do not enter them.
            shortest[k] = 0.1
            self._records[k] = []
        if self._fit_jumps is not None:
            self._jumps.update(zip(regions, self._fit_jumps(so_far, self.rng), strict=True))
        self._gear[regions] += 1
        self._tuning = replace(self._tuning, scale=scale, shortest=shortest)
        self._warm_up(regions, windows=self.config.windows[-2:])
        self.extend(regions, 2 * self.config.draws)

    def _jump(self, cloud: Cloud) -> Cloud:
        """Offer each chain of a region in second gear one draw of the region's own density.

        An independence Metropolis step on the density restricted to the region; what it
        proposes from was frozen before the record began.
        """
        rows, xs, logqs, current = [], [], [], []
        for k, q in self._jumps.items():
            own = np.flatnonzero(cloud.region == k)
            if not len(own):
                continue
            x = q.sample(len(own), self.rng)
            inside = np.isfinite(x).all(axis=1)
            if self._label is not None:
                inside[inside] = self._label(x[inside]) == k
            own, x = own[inside], x[inside]
            rows.append(own)
            xs.append(x)
            logqs.append(q.log_density(x))
            current.append(q.log_density(cloud.x[own]))
        if not rows:
            return cloud
        row = np.concatenate(rows)
        offered = cloud_at(self.density, np.concatenate(xs), cloud.region[row])
        gain = offered.logp - np.concatenate(logqs) - cloud.logp[row] + np.concatenate(current)
        accepted = np.log(self.rng.random(len(row))) < gain
        x, logp, grad = cloud.x.copy(), cloud.logp.copy(), cloud.grad.copy()
        took = row[accepted]
        x[took], logp[took], grad[took] = (
            offered.x[accepted], offered.logp[accepted], offered.grad[accepted]
        )  # fmt: skip
        return Cloud(x, logp, grad, cloud.region)

    def _warm_up(self, regions: np.ndarray, windows: tuple[int, ...] | None = None) -> None:
        rows = np.isin(self._cloud.region, regions)
        cloud = _take(self._cloud, rows)
        tuning = self._tuning
        windows = windows or self.config.windows
        for i, moves in enumerate(windows):
            # Short steps free chains that start far out; the last windows set the real ones.
            shrink = 0.3 if i == 0 else 1.0
            cloud, record, tuning = self._warm.window(cloud, tuning, moves, self.rng, shrink)
            cloud = self._reseed(cloud)
            if i + 1 < len(windows):
                refitted = self._warm.refit(record, cloud, tuning, self.centre)
                tuning = refitted
            for k in regions:
                lengths = self._warm.lengthen(tuning, int(self._gear[k])).leapfrog
                leapfrog = tuning.leapfrog.copy()
                leapfrog[k] = lengths[k]
                tuning = replace(tuning, leapfrog=leapfrog)
        self._tuning = tuning
        self._put(cloud, rows)

    def _reseed(self, cloud: Cloud) -> Cloud:
        """Chains stranded outside the support or far below the others start again from one."""
        x, logp, grad = cloud.x.copy(), cloud.logp.copy(), cloud.grad.copy()
        for k in np.unique(cloud.region):
            rows = np.flatnonzero(cloud.region == k)
            level = np.median(logp[rows])
            stranded = rows[~(logp[rows] > level - 20.0 - 3.0 * self.density.dim)]
            healthy = np.setdiff1d(rows, stranded)
            if len(stranded) and len(healthy):
                source = self.rng.choice(healthy, size=len(stranded))
                x[stranded], logp[stranded], grad[stranded] = x[source], logp[source], grad[source]
        return Cloud(x, logp, grad, cloud.region)

    def _put(self, cloud: Cloud, rows: np.ndarray) -> None:
        old = self._cloud
        x, logp, grad = old.x.copy(), old.logp.copy(), old.grad.copy()
        x[rows], logp[rows], grad[rows] = cloud.x, cloud.logp, cloud.grad
        self._cloud = Cloud(x, logp, grad, old.region)

    # ---------------------------------------------------------- judging

    def _joined(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [np.concatenate([r[i] for r in self._records[k]]) for i in range(3)]
        return parts[0].swapaxes(0, 1), parts[1].T, parts[2].swapaxes(0, 1)

    def _check(self, k: int) -> None:
        watched = self._watched(k)
        self.r_hat[k], self.ess[k] = _worst(watched)
        half = watched.shape[1] // 2
        if self.r_hat[k] > self.config.max_rhat and half >= self.config.draws:
            # Too short a warm-up leaves a transient: drop the first half if that mends it.
            r_hat, size = _worst(watched[:, half:])
            if r_hat <= self.config.max_rhat and size >= self.config.min_ess:
                joined = tuple(
                    np.concatenate([r[i] for r in self._records[k]])[half:] for i in range(5)
                )
                self._records[k] = [joined]
                self.r_hat[k], self.ess[k] = r_hat, size

    def _watched(self, k: int) -> np.ndarray:
        x, logp, _ = self._joined(k)
        d = self.density.dim
        columns = np.unique(np.linspace(0, d - 1, min(d, MAX_WATCHED)).astype(int))
        x = self.density.unroll(x, self.centre[k])[:, :, columns]
        return np.concatenate([x, logp[..., None]], axis=2)

    def result(self) -> LocalDraws:
        """What has been drawn so far, with its diagnostics."""
        joined = [self._joined(k) for k in range(self.n_regions)]
        mean = lambda k, i: float(np.mean(np.concatenate([r[i] for r in self._records[k]])))  # noqa: E731
        statuses = []
        for k in self.unmixed():
            statuses.append(
                Status("r_hat", "local",
                       f"the chains of this region did not mix (R-hat {self.r_hat[k]:.2f}, "
                       f"effective draws {self.ess[k]:.0f}).",
                       "Its weight and shape are not to be trusted; raise "
                       "LocalSampling.max_draws or reparametrise.", mode=int(k))
            )  # fmt: skip
        return LocalDraws(
            x=tuple(j[0] for j in joined),
            logp=tuple(j[1] for j in joined),
            grad=tuple(j[2] for j in joined),
            centre=self.centre,
            tuning=self._tuning,
            r_hat=self.r_hat.copy(),
            ess=self.ess.copy(),
            acceptance=np.array([mean(k, 3) for k in range(self.n_regions)]),
            crossings=np.array([mean(k, 4) for k in range(self.n_regions)]),
            gears=self._gear.copy(),
            statuses=tuple(statuses),
        )


def _worst(watched: np.ndarray) -> tuple[float, float]:
    r_hat = rhat(watched)
    size = ess(watched)
    # A quantity that never moved has no R-hat; it has certainly not converged.
    return (
        float(np.max(np.where(np.isfinite(r_hat), r_hat, np.inf))),
        float(np.min(np.where(np.isfinite(size), size, 0.0))),
    )


def _take(cloud: Cloud, rows: np.ndarray) -> Cloud:
    return Cloud(cloud.x[rows], cloud.logp[rows], cloud.grad[rows], cloud.region[rows])


def _starting_points(
    density: Density,
    partition: Partition,
    modes: Modes,
    pilot: Pilot,
    config: LocalSampling,
    rng: np.random.Generator,
) -> np.ndarray:
    """Starts spread across each region, shape (K, chains, d).

    Half are ends of the unrestricted chains, half points that the optimisers passed: R-hat
    is blind for chains that all start in one place.
    """
    k, chains, _, d = pilot.draws.shape
    label = partition.label
    path = modes.points
    path_label = label(path) if len(path) else np.empty(0, dtype=int)
    path_logp = density.logp(path) if len(path) else np.empty(0)
    x = np.empty((k, chains, d))
    for mode in range(k):
        ends = pilot.draws[mode, :, -1]
        inside = label(ends) == mode
        near = ends[inside] if inside.any() else modes.locations[mode][None]
        # A point hundreds of nats below the mode is no start for a chain of this region.
        floor = modes.log_density[mode] - 25.0 - 2.0 * d
        far = path[(path_label == mode) & (modes.point_modes == mode) & (path_logp > floor)]
        if label(near[:1])[0] != mode:
            # The classifier gives this mode's own summit away: its region may be elsewhere.
            near = far if len(far) else near
        x[mode] = near[rng.integers(len(near), size=chains)]
        if len(far):
            half = chains // 2
            x[mode, ::2][:half] = far[rng.integers(len(far), size=half)]
    return x
