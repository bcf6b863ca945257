"""Chains inside the regions: each leaves the density restricted to its region invariant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from pymc_multimodal._compat import ess, rhat
from pymc_multimodal.adaptation import LocalSampling, Warmup, fit_metric, stack
from pymc_multimodal.status import Status
from pymc_multimodal.trajectory import Cloud, Tuning, cloud_at, move

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymc_multimodal.density import Density
    from pymc_multimodal.modes import Modes
    from pymc_multimodal.pilot import Pilot
    from pymc_multimodal.regions import Partition

__all__ = ["JumpDensity", "LocalDraws", "LocalSampler"]


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
        self._warm = Warmup(density, config, label)
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
            slow = [k for k in short if self._wants_gear(int(k), int(drawn[k]))]
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
        record = stack(records)
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

    def _wants_gear(self, k: int, drawn: float) -> bool:
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
                tuning = self._warm.refit(record, cloud, tuning, self.centre)
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
        """Freeze what has been drawn so far, with its diagnostics."""
        joined = [self._joined(k) for k in range(self.n_regions)]

        def mean(k: int, i: int) -> float:
            return float(np.mean(np.concatenate([r[i] for r in self._records[k]])))

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
    """Spread starting points across each region, shape (K, chains, d).

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
