"""Chains inside the regions: each leaves the density restricted to its region invariant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pymc_multimodal.moves.adaptation import LEAST_DRAWS, Record, Warmup, fit_metric
from pymc_multimodal.moves.jumps import MixtureProposal
from pymc_multimodal.moves.local import MoveParameters, MoveState, move, state_at
from pymc_multimodal.regions.draws import (
    ChainDiagnostics,
    RegionDraws,
    convergence,
    watched_columns,
)
from pymc_multimodal.regions.pilot import starting_points
from pymc_multimodal.regions.settings import LocalSampling
from pymc_multimodal.status import LimitReached, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymc_multimodal.moves.jumps import JumpDensity
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.regions.pilot import Pilot
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["LocalSampler"]

FitJumps: TypeAlias = (
    "Callable[[RegionDraws, np.random.Generator, Sequence[Any]], Sequence[JumpDensity]]"
)

# Jumps accepted this often carry a chain through its region: no longer trajectories then.
JUMPS_WORK = 0.15
# Acceptance from which a guessed density stands for its whole region.
NEARLY_RIGHT = 0.85
# Autocorrelation times of the local moves that a chain with jumps has to last, and the leapfrog
# steps that are enough: the time is overestimated while chains have not mixed.
TIMES, MAX_STEPS = 20.0, 3200.0
# Effective draws that a better fit of the jump density has to be made from, and most shifts of
# a region: each has its jump density fitted again.
MIN_TO_LEARN, MAX_SHIFTS = 100, 4


class LocalSampler:
    """Runs the regions' chains and can go on with them; `result` is the frozen outcome.

    Parameters
    ----------
    density : LogDensity
    partition : Partition
    modes : Modes
    pilot : Pilot
    config : LocalSampling
    rng : numpy.random.Generator
    fit_jumps : callable, optional
        ``fit_jumps(local, rng, previous)`` fits one normalised density to each region of its
        first argument, given what it fitted to them before; the second gear proposes from
        them.
    first_jumps : sequence of JumpDensity, optional
        A guess for each region. Regions whose chains accept nearly all its draws begin in
        second gear, and are spared the long warm-up that chains without gradients need.
    visit : array of shape (n, d), optional
        Points that some chains of their regions start from.
    """

    def __init__(
        self,
        density: LogDensity,
        partition: Partition,
        modes: Modes,
        pilot: Pilot,
        config: LocalSampling,
        rng: np.random.Generator,
        fit_jumps: FitJumps | None = None,
        first_jumps: Sequence[JumpDensity] = (),
        visit: np.ndarray | None = None,
    ) -> None:
        self.density, self.partition, self.config, self.rng = density, partition, config, rng
        self._fit_jumps = fit_jumps
        self._jumps: dict[int, JumpDensity] = {}
        self._neighbours: dict[int, Sequence[JumpDensity]] = {}
        self.n_regions = len(modes)
        self.centre = modes.locations
        label = partition.label if partition.n_regions > 1 else None
        self._label = label
        self._warm = Warmup(density, config.target_accept, config.max_leapfrog, label)
        self._gear = np.zeros(self.n_regions, dtype=int)
        # Share of the jumps accepted, by gear; and how many draws go by between two local moves.
        self._accepted: list[list[float]] = [[] for _ in range(self.n_regions)]
        self._every = np.ones(self.n_regions, dtype=int)
        # Local moves that a record needs: jumps mix the bulk of a region so well that nothing
        # shows how slowly chains find tails which no jump proposes.
        self._least = np.zeros(self.n_regions)
        # Regions that hold too little to be worth more draws.
        self._light = np.zeros(self.n_regions, dtype=bool)
        # Where chains of other regions were turned back at a region's border.
        self._beyond: list[np.ndarray] = [np.empty((0, density.dim))] * self.n_regions
        self._records: list[list[tuple]] = [[] for _ in range(self.n_regions)]
        x = starting_points(density, partition, modes, pilot, config, rng, visit)
        region = np.repeat(np.arange(self.n_regions), config.chains)
        self._cloud = state_at(density, x.reshape(-1, density.dim), region)
        self._tuning = pilot.tuning
        self.r_hat = np.full(self.n_regions, np.inf)
        self.ess = np.zeros(self.n_regions)
        guessed = self._begin_with(first_jumps)
        self._warm_up(np.setdiff1d(np.arange(self.n_regions), guessed))

    def _begin_with(self, jumps: Sequence[JumpDensity]) -> np.ndarray:
        """Put regions into second gear whose guessed density is nearly right; which they are."""
        self._jumps = dict(enumerate(jumps))
        regions = np.arange(len(jumps))
        accepted = self._try_jumps(regions) if len(jumps) else np.empty(0)
        good = np.flatnonzero(accepted >= NEARLY_RIGHT)
        self._jumps = {int(k): jumps[int(k)] for k in good}
        self._gear[good] = 1
        for k in good:
            self._accepted[k].append(float(accepted[k]))
        self._least[good] = TIMES
        self._pace(good, accepted)
        return good

    def _pace(self, regions: np.ndarray, accepted: np.ndarray) -> None:
        """Set the rhythm of local moves: they shall not cost much more than jumps that work."""
        for k in regions:
            works = accepted[k] >= JUMPS_WORK
            self._every[k] = np.clip(round(self._tuning.leapfrog[k] / 5), 1, 8) if works else 1

    # ---------------------------------------------------------- running

    def run(
        self,
        *,
        proceed: Callable[[], bool] = lambda: True,
        tick: Callable = lambda text: None,
        until: int | None = None,
    ) -> None:
        """Run until every region passes its checks or reaches the most draws allowed.

        `until` sets that limit lower; no region shifts before it is lifted.
        """
        limit = self.config.max_draws if until is None else until
        drawn = np.array([self.draws_of(k) for k in range(self.n_regions)])
        self.extend(np.flatnonzero(drawn == 0), self.config.draws)
        while proceed():
            short = np.flatnonzero(~self._passes())
            drawn = np.array([self.draws_of(k) for k in range(self.n_regions)])
            short = short[drawn[short] < limit]
            if not len(short):
                break
            tick(f"{self.n_regions - len(short)}/{self.n_regions} regions converged")
            slow = [k for k in short if until is None and self._wants_shift(int(k), int(drawn[k]))]
            if slow:
                self._shift(np.array(slow))
            rest = np.setdiff1d(short, slow)
            for size in np.unique(drawn[rest]):
                self.extend(rest[drawn[rest] == size], int(size))

    def extend(self, regions: np.ndarray, draws: int) -> None:
        """Add `draws` draws to every chain of some regions, all in one batch."""
        rows = np.isin(self._cloud.region, regions)
        cloud = self._cloud.take(rows)
        records = []
        every = self._every[cloud.region]
        probability, crossed = np.ones(len(every)), np.zeros(len(every), dtype=bool)
        for t in range(draws):
            due = t % every == 0
            try:
                with self.density.limited(t >= LEAST_DRAWS):
                    moved, info = move(
                        self.density, cloud.take(due), self._tuning, self.rng, label=self._label
                    )
                    after, _ = self._jump(cloud.put(moved, due))
            except LimitReached:
                break
            cloud = after
            probability[due], crossed[due] = info.probability, info.crossed
            records.append((cloud.x, cloud.logp, cloud.grad, probability.copy(), crossed.copy()))
        self._cloud = self._cloud.put(cloud, rows)
        columns = [np.stack(column) for column in zip(*records, strict=True)]
        for k in regions:
            own = cloud.region == k
            self._records[k].append(tuple(column[:, own] for column in columns))
            self._check(k)

    def connect(self, pieces: Mapping[int, tuple[JumpDensity, Sequence[JumpDensity]]]) -> bool:
        """Let regions' chains jump to pieces of neighbours' shapes; False if all did before.

        `pieces` holds each region's own density and the neighbours'. What was recorded of a
        region is dropped, since it may hold such pieces in any proportion, and so is what is
        drawn while they fill up.
        """
        new = [k for k in pieces if k not in self._neighbours]
        for k in new:
            self._least[k] = self._slowness(k)
            own, self._neighbours[k] = pieces[k]
            self._jumps[k] = MixtureProposal(own, self._neighbours[k])
        if new:
            self.extend(np.array(new), self.config.draws)
        for k in new:
            self._records[k], self.r_hat[k], self.ess[k] = [], np.inf, 0.0
        return bool(new)

    def spare(self, light: np.ndarray) -> None:
        """Ask no more of regions that hold next to no mass, bool array of shape (K,)."""
        self._light = light

    def draws_of(self, k: int) -> int:
        """Draws per chain of region k so far."""
        return sum(len(r[0]) for r in self._records[k])

    def jumps(self) -> list[Any]:
        """Return what the second gear of each region proposes from; None in the first gear."""
        found = [self._jumps.get(k) for k in range(self.n_regions)]
        return [q.own if isinstance(q, MixtureProposal) else q for q in found]

    def unmixed(self) -> np.ndarray:
        """Regions whose R-hat is too large to be trusted, but for light ones."""
        return np.flatnonzero(~(self._mixed() | self._light))

    def _mixed(self) -> np.ndarray:
        return self.r_hat <= 1.0 + 2.0 * (self.config.max_rhat - 1.0)

    def positions(self, regions: np.ndarray) -> np.ndarray:
        """Where the chains of some regions are now, shape (n, d)."""
        return self._cloud.x[np.isin(self._cloud.region, regions)]

    def _passes(self) -> np.ndarray:
        moves = np.array([self.draws_of(k) for k in range(self.n_regions)]) / self._every
        converged = (self.r_hat <= self.config.max_rhat) & (self.ess >= self.config.min_ess)
        return converged & (moves >= self._least) | self._light

    def _slowness(self, k: int) -> float:
        """Return how many moves a chain has to last, by those that local moves alone need."""
        if self._accepted[k] and self._accepted[k][-1] >= JUMPS_WORK:
            return float(self._least[k])
        time = self.draws_of(k) * self.config.chains / max(self.ess[k], 1.0)
        return min(TIMES * time, MAX_STEPS / self._tuning.leapfrog[k])

    def _wants_shift(self, k: int, drawn: float) -> bool:
        """Tell whether a region that does not pass gains more by a shift than by more draws."""
        accepted = self._accepted[k]
        if len(accepted) < 2:
            far = self.r_hat[k] > 1.05 or self.ess[k] < 0.02 * drawn * self.config.chains
            return bool(far and drawn >= 2 * self.config.draws)
        # Jumps that fail often, or leave chains stuck, may be fitted better to draws that were
        # better themselves; once that has failed it is not tried again.
        learns = len(accepted) == 2 or accepted[-1] > 1.3 * accepted[-2]
        sticky = self.ess[k] < 0.15 * drawn * self.config.chains
        # Chains that are stuck never count as many effective draws: late, any will do.
        able = self.ess[k] >= MIN_TO_LEARN or 2 * drawn >= self.config.max_draws
        enough = drawn >= 2 * self.config.draws and able
        return bool(learns and sticky and enough and len(accepted) < MAX_SHIFTS)

    def _shift(self, regions: np.ndarray) -> None:
        """Shift up: metric and jumps from all draws, longer trajectories, a fresh record."""
        so_far = self.result().take(regions)
        scale, shortest = self._tuning.scale.copy(), self._tuning.shortest.copy()
        for i, k in enumerate(regions):
            flat = self.density.unroll(so_far.x[i], self.centre[k]).reshape(-1, self.density.dim)
            gradients = so_far.grad[i].reshape(len(flat), -1) if self.density.has_gradient else None
            scale[k] = fit_metric(flat, gradients, scale[k])
            # Curved regions are stiffer in their tails than where the step size was adapted:
            # chains that never shorten their steps do not enter them.
            shortest[k] = 0.1
            self._least[k] = self._slowness(k)
            self._records[k] = []
        if self._fit_jumps is not None:
            previous = self.jumps()
            fitted = self._fit_jumps(so_far, self.rng, [previous[k] for k in regions])
            for k, q in zip(regions, fitted, strict=True):
                beside = self._neighbours.get(int(k))
                self._jumps[int(k)] = MixtureProposal(q, beside) if beside else q
        self._tuning = replace(self._tuning, scale=scale, shortest=shortest)
        accepted = self._try_jumps(regions)
        for k in regions:
            self._accepted[k].append(accepted[k])
            # Where jumps work there is no need for longer trajectories.
            far = self._gear[k] == 1 and accepted[k] < JUMPS_WORK
            self._gear[k] += self._gear[k] == 0 or far
        self._warm_up(regions, windows=self.config.windows[-2:])
        self._pace(regions, accepted)
        self.extend(regions, 2 * self.config.draws)

    def _try_jumps(self, regions: np.ndarray) -> np.ndarray:
        """Share of the jumps that chains accept now, by region."""
        if not self._jumps:
            return np.zeros(self.n_regions)
        rounds = 2 if self.density.exhausted() else 10
        rows = np.isin(self._cloud.region, regions)
        cloud = self._cloud.take(rows)
        share = np.zeros(len(cloud.x))
        for _ in range(rounds):
            cloud, accepted = self._jump(cloud)
            share += accepted / rounds
        self._cloud = self._cloud.put(cloud, rows)
        total = np.bincount(cloud.region, share, minlength=self.n_regions)
        return total / np.maximum(np.bincount(cloud.region, minlength=self.n_regions), 1)

    def _jump(self, cloud: MoveState) -> tuple[MoveState, np.ndarray]:
        """Offer each chain of a region in second gear one draw of the region's own density.

        An independence Metropolis step on the density restricted to the region; what it
        proposes from was frozen before the record began. Returns which chains accepted too.
        """
        took = np.zeros(len(cloud.x), dtype=bool)
        rows = {k: np.flatnonzero(cloud.region == k) for k in self._jumps}
        rows = {k: own for k, own in rows.items() if len(own)}
        if not rows:
            return cloud, took
        row = np.concatenate(list(rows.values()))
        x = np.concatenate([self._jumps[k].sample(len(own), self.rng) for k, own in rows.items()])
        inside = np.isfinite(x).all(axis=1)
        if self._label is not None:
            # All regions at once: with a thousand of them this is what costs most.
            inside[inside] = self._label(x[inside]) == cloud.region[row[inside]]
        log_q = np.zeros(len(row))
        first = 0
        for k, own in rows.items():
            part = first + np.flatnonzero(inside[first : first + len(own)])
            first += len(own)
            q = self._jumps[k]
            log_q[part] = q.log_density(x[part]) - q.log_density(cloud.x[row[part]])
        row, x, log_q = row[inside], x[inside], log_q[inside]
        offered = state_at(self.density, x, cloud.region[row])
        with np.errstate(invalid="ignore"):
            # From outside of the support to outside: no gain, and not accepted.
            gain = offered.logp - cloud.logp[row] - log_q
        accepted = np.log(self.rng.random(len(row))) < gain
        took[row[accepted]] = True
        # By index: rows follow the order in which regions began to jump, not that of the chains.
        return cloud.put(offered.take(accepted), row[accepted]), took

    def _warm_up(self, regions: np.ndarray, windows: tuple[int, ...] | None = None) -> None:
        if not len(regions):
            return
        rows = np.isin(self._cloud.region, regions)
        cloud = self._cloud.take(rows)
        tuning = self._tuning
        windows = windows or self.config.windows
        for i, moves in enumerate(windows):
            if i and self.density.exhausted():
                break
            # Short steps free chains that start far out; the last windows set the real ones.
            shrink = 0.3 if i == 0 else 1.0
            cloud, record, tuning = self._warm.window(cloud, tuning, moves, self.rng, shrink)
            cloud = self._reseed(cloud)
            self._remember(record)
            if i + 1 < len(windows):
                cloud = self._cross(cloud)
                tuning = self._warm.refit(record, cloud, tuning, self.centre)
            for k in regions:
                lengths = self._warm.lengthen(tuning, int(self._gear[k])).leapfrog
                leapfrog = tuning.leapfrog.copy()
                leapfrog[k] = lengths[k]
                tuning = replace(tuning, leapfrog=leapfrog)
        self._tuning = tuning
        self._cloud = self._cloud.put(cloud, rows)

    def _remember(self, record: Record) -> None:
        """Keep the ends of moves that were turned back at a border, for the region beyond."""
        for k in range(self.n_regions):
            ends = record.end[record.into == k]
            self._beyond[k] = np.concatenate([self._beyond[k], ends])[-256:]

    def _cross(self, cloud: MoveState) -> MoveState:
        """Put some chains of each region where others were turned back at its border.

        Where a border cuts through a mode, the piece beyond belongs to a region whose own
        chains may never get there; R-hat then passes, unless one of them starts there.
        """
        rows, points = [], []
        for k in np.unique(cloud.region):
            own, ends = np.flatnonzero(cloud.region == k), self._beyond[k]
            n = min(len(own) // 4, len(ends))
            rows.append(self.rng.choice(own, size=n, replace=False))
            points.append(ends[self.rng.choice(len(ends), size=n, replace=False)])
        row, x = np.concatenate(rows), np.concatenate(points)
        if not len(row):
            return cloud
        return self._reseed(cloud.put(state_at(self.density, x, cloud.region[row]), row))

    def _reseed(self, cloud: MoveState) -> MoveState:
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
        return MoveState(x, logp, grad, cloud.region)

    # ---------------------------------------------------------- judging

    def _joined(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [np.concatenate([r[i] for r in self._records[k]]) for i in range(3)]
        return parts[0].swapaxes(0, 1), parts[1].T, parts[2].swapaxes(0, 1)

    def _check(self, k: int) -> None:
        watched = self._watched(k)
        self.r_hat[k], self.ess[k] = convergence(watched)
        if (
            self.r_hat[k] > self.config.max_rhat
            and (half := watched.shape[1] // 2) >= self.config.draws
        ):
            # Too short a warm-up leaves a transient: drop the first half if that mends it.
            r_hat, size = convergence(watched[:, half:])
            if r_hat <= self.config.max_rhat and size >= self.config.min_ess:
                joined = tuple(
                    np.concatenate([r[i] for r in self._records[k]])[half:] for i in range(5)
                )
                self._records[k] = [joined]
                self.r_hat[k], self.ess[k] = r_hat, size

    def _watched(self, k: int) -> np.ndarray:
        x, logp, _ = self._joined(k)
        x = self.density.unroll(x, self.centre[k])[:, :, watched_columns(self.density.dim)]
        return np.concatenate([x, logp[..., None]], axis=2)

    def result(self) -> RegionDraws:
        """Freeze what has been drawn so far."""
        x, logp, grad = zip(*(self._joined(k) for k in range(self.n_regions)), strict=True)
        return RegionDraws(x, logp, grad, self.centre, self.ess.copy())

    @property
    def tuning(self) -> MoveParameters:
        """Parameters of the local moves."""
        return self._tuning

    def diagnostics(self) -> ChainDiagnostics:
        """Say how the chains ran so far."""

        def mean(k: int, i: int) -> float:
            return float(np.mean(np.concatenate([r[i] for r in self._records[k]])))

        regions = range(self.n_regions)
        return ChainDiagnostics(
            r_hat=self.r_hat.copy(),
            acceptance=np.array([mean(k, 3) for k in regions]),
            crossings=np.array([mean(k, 4) for k in regions]),
            regime=self._gear.copy(),
            statuses=self._statuses(),
        )

    def _statuses(self) -> tuple[Status, ...]:
        statuses = []
        for k in self.unmixed():
            statuses.append(
                Status("r_hat", "local",
                       f"the chains of this region did not mix (R-hat {self.r_hat[k]:.2f}, "
                       f"effective draws {self.ess[k]:.0f}).",
                       "Its weight and shape are not to be trusted; raise "
                       "LocalSampling.max_draws or reparametrise.", mode=int(k))
            )  # fmt: skip
        for k in np.flatnonzero(self._light & ~self._mixed()):
            statuses.append(
                Status("light", "local",
                       "it holds next to no mass, and its chains were not run until they mix "
                       f"(R-hat {self.r_hat[k]:.2f}).",
                       "Lower target_se to have its evidence right.", mode=int(k), level="info")
            )  # fmt: skip
        return tuple(statuses)
