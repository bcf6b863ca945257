"""The attempt to prove a fit wrong, by a tempered search that knows nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp
from scipy.stats import poisson

from pymc_multimodal.challenge.climbs import beginnings, climb_from, lacking_of, news_of
from pymc_multimodal.challenge.tempered import Particles, Reference, tempered_smc
from pymc_multimodal.moves.local import move, state_at
from pymc_multimodal.search import start_distribution
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.challenge.candidate import FitCandidate
    from pymc_multimodal.challenge.settings import Challenge
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import ModeSearch
    from pymc_multimodal.target.density import Density

__all__ = ["ChallengeResult", "Challenger"]

# Posterior-side draws whose log ratio lies above what counts as a surprise.
TAIL = 1e-3
# Surprises of a region that chance brings with this probability are believed.
BY_CHANCE = 1e-4
# Surprises of a region that are looked at more closely, and moves made from each.
LOOKED_AT, MOVES = 16, 40
# Islands of the search where there are particles enough, and most particles of all.
ISLANDS, MAX_PARTICLES = 8, 4096
# Independent endpoints from which on a verdict is worth something.
MIN_EFFECTIVE = 10.0


@dataclass(frozen=True)
class ChallengeResult:
    """What the tempered search says of a fit.

    Attributes
    ----------
    starts : array of shape (n, d)
        Points at which the fit was proved wrong; empty if it was not.
    log_mass, log_mass_se : arrays of shape (K,)
        Log evidence of each region by the search, and its standard error; ``-inf`` and NaN
        where it has not been. It can be far too small (a mode that the search missed), hardly
        ever too large: so it contradicts the bridge only where it is larger.
    gap : array of shape (K,)
        By how much it is larger (nats), 0 where that is within 4 joint standard errors; or
        what the endpoints amount to that lie where the region's chains have not been, or what
        modes found by the climbs alone would add, by Laplace's approximation.
    effective : float
        Independent endpoints that the masses rest on.
    missed_by_fit : float
        Share of the search's mass in places of which the fit knew nothing, before it was told.
    missed_by_search : float
        Weight of the regions in which no particle ended.
    missed_mass : float
        Estimated posterior mass that both missed; NaN where the search is too poor to say, or
        climbs found modes that the fit lacks.
    missed_by_fit_upper : float
        Upper 95 % bound of what the fit alone missed, were the particles posterior draws.
    inconclusive : str
        Why the search is too poor to say what was missed; empty if it is not.
    n_climbs : int
        Climbs to modes that were made beside the search, in all rounds.
    statuses : tuple of Status

    Notes
    -----
    `missed_mass` is the capture-recapture estimate of Lincoln (1930) and Petersen (1896) with the
    correction of Chapman (1951). It assumes
    that the two searches miss independently of one another. They do not where both are blind,
    for spikes far narrower than the way between particles: nobody's estimate holds for those.
    """

    starts: np.ndarray
    log_mass: np.ndarray
    log_mass_se: np.ndarray
    gap: np.ndarray
    effective: float
    missed_by_fit: float
    missed_by_search: float
    missed_mass: float
    missed_by_fit_upper: float
    inconclusive: str
    n_climbs: int
    statuses: tuple[Status, ...]

    def take(self, order: np.ndarray) -> ChallengeResult:
        """Renumber the regions: new region i is old region ``order[i]``."""
        names = ("log_mass", "log_mass_se", "gap")
        return replace(self, **{name: getattr(self, name)[order] for name in names})


class Challenger:
    """Holds the endpoints of a tempered search and judges fits by them.

    Parameters
    ----------
    density : Density
    search : ModeSearch
        Where there is no prior, its starting points say how wide the reference is.
    config : Challenge
    rng : numpy.random.Generator

    Notes
    -----
    The search depends on a fit by its number of particles alone.
    """

    def __init__(
        self, density: Density, search: ModeSearch, config: Challenge, rng: np.random.Generator
    ) -> None:
        self.density, self.config = density, config
        self._search_rng, self._judge_rng, self._climb_rng = rng.spawn(3)
        starts = start_distribution(density, search, self._search_rng)
        self.reference = Reference(starts.centre, starts.spread, density.period)
        self.pilot: Particles | None = None
        self.ends: Particles | None = None
        self.cost = 0.0
        self._missed_first: float | None = None

    def seek(self, budget: float) -> None:
        """Search with about `budget` evaluations more."""
        before = self.density.n_logp_evals
        rng = self._search_rng
        if self.pilot is None:
            # In many dimensions the ladder is long, and the pilot alone costs the budget.
            size = 32 if budget < 12_000 else 64 if budget < 20_000 else 128
            self.pilot = tempered_smc(self.density, self.reference, 1, size, rng)
            self.cost = (self.density.n_logp_evals - before) / len(self.pilot)
        left = budget - (self.density.n_logp_evals - before)
        particles = int(min(left / self.cost, MAX_PARTICLES))
        islands = ISLANDS if particles >= 32 * ISLANDS else ISLANDS // 2
        if particles < 8 * islands or not self.pilot.arrived:
            return
        size = particles // islands
        more = tempered_smc(self.density, self.reference, islands, size, rng, self.pilot.ladder)
        if not np.isfinite(more.log_weight).any():
            # Not one particle was inside the support.
            return
        self.ends = more if self.ends is None else self.ends.joined(more)

    def judge(self, case: FitCandidate) -> ChallengeResult:
        """Compare a fit with the endpoints, and climb from those that are a surprise."""
        density = case.density
        assert self.pilot is not None
        runs = [run for run in (self.pilot, self.ends) if run is not None and run.arrived]
        k = len(case.local)
        if not runs:
            return self._inconclusive(k, "its particles did not reach the posterior")
        x, logp = (np.concatenate([getattr(r, name) for r in runs]) for name in ("x", "logp"))
        alive = np.isfinite(logp)
        x[alive] = density.fold(x[alive])
        density.confirm(x[alive], logp[alive])
        logp[alive] += density.log_multiplicity(x[alive])
        label = np.full(len(x), -1)
        label[alive] = case.partition.label(x[alive])
        root = np.concatenate([r.root + 10**9 * i for i, r in enumerate(runs)])
        excess = _excess(x, logp, label, case)
        surprise = excess > 0
        starts, statuses, proved = [], [], np.zeros(len(x), dtype=bool)
        picked = np.concatenate([_pick(excess, label, root, j) for j in range(k)])
        fresh, lacking = np.zeros(len(picked), dtype=bool), np.zeros(k)
        if len(picked) and not case.searched.runaway:
            found, climbed = case.finder.extend(x[picked])
            news = news_of(case, found)
            fresh = (climbed >= 0) & news[climbed]
            lacking = lacking_of(case, found, news)
        if fresh.any():
            starts.append(x[picked[fresh]])
            for j in np.unique(label[picked[fresh]]):
                # Those as far beyond what the region's draws show are taken to be alike.
                of, yes = picked[label[picked] == j], fresh[label[picked] == j]
                least = 0.0 if yes.all() else excess[of[yes]].min()
                proved |= (label == j) & surprise & (excess >= least)
            statuses.append(_proved_incomplete())
        stays, unvisited = np.zeros(len(x), dtype=bool), np.zeros(k)
        rest = picked[~fresh]
        stays[rest] = self._stays(x[rest], label[rest], case)
        for j in range(k):
            own = (label == j) & surprise
            of = picked[label[picked] == j]
            # Of the surprises only some were looked at: the others are taken to be alike.
            share = stays[of].mean() if len(of) else 0.0
            count = share * len(np.unique(root[own]))
            expected = TAIL * np.sum(label == j)
            if count < 2 or poisson.sf(np.floor(count) - 1, expected) > BY_CHANCE:
                continue
            starts.append(x[of[stays[of]]])
            proved |= own
            unvisited[j] = min(count / np.sum(label == j), 0.99)
            statuses.append(
                Status("challenge", "challenge",
                       f"{unvisited[j]:.1%} of the endpoints of a tempered search "
                       "lie where this region's chains have not been.",
                       "Its weight and shape are off by about as much; raise Challenge.rounds.",
                       mode=j)
            )  # fmt: skip
        verdict = self._verdict(x, label, proved, starts, statuses, case.weights)
        gap = np.maximum(verdict.gap, np.maximum(-np.log1p(-unvisited), lacking))
        return replace(verdict, gap=gap)

    def climb(self, case: FitCandidate, verdict: ChallengeResult, budget: float) -> ChallengeResult:
        """Climb from where the search has been, and from between the modes that are known.

        Parameters
        ----------
        case : FitCandidate
        verdict : ChallengeResult
            What the endpoints said.
        budget : float
            Evaluations after which no further climbs are begun.
        """
        if case.searched.runaway or not self.config.climbs:
            return verdict
        runs = [run for run in (self.pilot, self.ends) if run is not None]
        trail = np.concatenate([run.trail for run in runs])
        points = beginnings(
            self.density, case.finder.search.optima.images(), trail, self.reference,
            self.config.climbs, self._climb_rng,
        )  # fmt: skip
        done, found = climb_from(case.finder, case.searched, points, budget)
        news = news_of(case, found)
        statuses = verdict.statuses
        if verdict.inconclusive:
            poor = _poor(verdict.inconclusive, done)
            statuses = tuple(poor if s == _poor(verdict.inconclusive) else s for s in statuses)
        if news.any() and _proved_incomplete() not in statuses:
            statuses = (_proved_incomplete(), *statuses)
        return replace(
            verdict,
            starts=np.concatenate([verdict.starts, found.locations[news]]),
            gap=np.maximum(verdict.gap, lacking_of(case, found, news)),
            # An estimate that did not see these modes is worth nothing.
            missed_mass=float("nan") if news.any() else verdict.missed_mass,
            n_climbs=done,
            statuses=statuses,
        )

    # ---------------------------------------------------------- looking closely

    def _stays(self, x: np.ndarray, label: np.ndarray, case: FitCandidate) -> np.ndarray:
        """Tell from which points the region's own moves do not return to its draws.

        Where they do, the region's chains would have come as easily: the search was only not
        quite in equilibrium.
        """
        if not len(x):
            return np.zeros(0, dtype=bool)
        cloud = state_at(case.density, x, label)
        within = case.partition.label if case.partition.n_regions > 1 else None
        for _ in range(MOVES):
            cloud, _ = move(case.density, cloud, case.tuning, self._judge_rng, label=within)
        return _excess(cloud.x, cloud.logp, label, case) > 0

    # ---------------------------------------------------------- the verdict

    def _verdict(
        self,
        x: np.ndarray,
        label: np.ndarray,
        proved: np.ndarray,
        starts: list[np.ndarray],
        statuses: list[Status],
        weights: Weights,
    ) -> ChallengeResult:
        k, ends = len(weights.weight), self.ends
        if ends is None:
            verdict = self._inconclusive(k, "the fit was too short for a share of it to reach far")
            joined = np.concatenate([x[:0], *starts])
            return replace(verdict, starts=joined, statuses=(*statuses, *verdict.statuses))
        n = len(ends)
        # The pilot's particles, which come first, count by their number.
        assert self.pilot is not None
        first = float(self.pilot.share[proved[:-n]].sum()) * len(self.pilot)
        label, proved = label[-n:], proved[-n:]
        effective = 1.0 / float(np.sum(np.bincount(ends.root, ends.share) ** 2))
        log_mass, log_mass_se = _masses(ends, label, k)
        able = effective >= MIN_EFFECTIVE and ends.n_islands >= ISLANDS
        gap = _gaps(log_mass, log_mass_se, weights) if able else np.zeros(k)
        for j in np.flatnonzero(gap):
            own = np.flatnonzero(label == j)
            apart = own[np.unique(ends.root[own], return_index=True)[1]]
            starts.append(ends.x[apart[:LOOKED_AT]])
            statuses.append(
                Status("challenge", "challenge",
                       f"a tempered search puts its evidence {np.expm1(gap[j]):+.0%} off what its "
                       "own chains say: they miss a piece of it.",
                       "Its weight and evidence are off by about as much; raise "
                       "Challenge.rounds.", mode=int(j))
            )  # fmt: skip
        by_fit = (first + n * float(ends.share[proved].sum())) / (len(self.pilot) + n)
        if self._missed_first is None:
            self._missed_first = by_fit
        by_search = float(weights.weight[~np.isin(np.arange(k), label)].sum())
        poor = ""
        if effective < MIN_EFFECTIVE:
            poor = f"its endpoints count as {effective:.0f} independent ones"
            statuses.append(_poor(poor))
        u = effective * self._missed_first
        both = (u + 1) * (effective * by_search + 1) / (effective + 1) ** 2
        return ChallengeResult(
            starts=np.concatenate([x[:0], *starts]),
            log_mass=log_mass,
            log_mass_se=log_mass_se,
            gap=gap,
            effective=effective,
            missed_by_fit=self._missed_first,
            missed_by_search=by_search,
            missed_mass=both if effective >= MIN_EFFECTIVE else float("nan"),
            missed_by_fit_upper=min(1.0, (u + 2 * np.sqrt(u) + 3) / effective),
            inconclusive=poor,
            n_climbs=0,
            statuses=tuple(statuses),
        )

    def _inconclusive(self, k: int, cause: str) -> ChallengeResult:
        nan = float("nan")
        return ChallengeResult(
            starts=np.empty((0, self.density.dim)),
            log_mass=np.full(k, -np.inf),
            log_mass_se=np.full(k, nan),
            gap=np.zeros(k),
            effective=0.0,
            missed_by_fit=nan,
            missed_by_search=nan,
            missed_mass=nan,
            missed_by_fit_upper=1.0,
            inconclusive=cause,
            n_climbs=0,
            statuses=(_poor(cause),),
        )


def _poor(cause: str, climbs: int = 0) -> Status:
    return Status(
        "challenge",
        "challenge",
        f"the challenge by a tempered search was inconclusive: {cause}."
        + (f" {climbs:,} more climbs to modes were made." if climbs else ""),
        "Raise Challenge.share for a better one, and Challenge.climbs for more climbs.",
        level="info",
    )


def _proved_incomplete() -> Status:
    return Status(
        "challenge",
        "challenge",
        "the search for what was missed reached modes that the fit does not have.",
        "Raise Challenge.rounds, or give more starts (ModeSearch.starts).",
    )


def _excess(x: np.ndarray, logp: np.ndarray, label: np.ndarray, case: FitCandidate) -> np.ndarray:
    """Nats by which log ratios exceed those of all but a `TAIL` of their region's draws, (n,)."""
    excess = np.full(len(x), -np.inf)
    local = case.local
    for k, q in enumerate(case.densities):
        own = np.flatnonzero(label == k)
        if len(own):
            draws = local.x[k].reshape(-1, x.shape[1])
            limit = np.quantile(local.logp[k].ravel() - q.log_density(draws), 1.0 - TAIL)
            excess[own] = logp[own] - q.log_density(x[own]) - limit
    return excess


def _pick(excess: np.ndarray, label: np.ndarray, root: np.ndarray, k: int) -> np.ndarray:
    """Surprising endpoints of region k with roots of their own, the most surprising first."""
    own = np.flatnonzero((label == k) & (excess > 0))
    own = own[np.argsort(-excess[own], kind="stable")]
    first = np.sort(np.unique(root[own], return_index=True)[1])
    return own[first[:LOOKED_AT]]


def _masses(ends: Particles, label: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Log evidence of each region with its standard error, islands being independent."""
    m, top = ends.n_islands, ends.log_weight.max()
    size = np.bincount(ends.island, minlength=m)
    mass = np.zeros((m, k))
    some = label >= 0
    np.add.at(mass, (ends.island[some], label[some]), np.exp(ends.log_weight[some] - top))
    # Islands of a longer search are larger, and count by their size.
    weight = size / size.sum()
    mean = weight @ mass
    error = np.sqrt((weight**2 @ (mass - mean) ** 2) * m / (m - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(mean) + top, error / mean


def _gaps(log_mass: np.ndarray, log_mass_se: np.ndarray, weights: Weights) -> np.ndarray:
    """By how many nats the search finds more mass than the bridge, beyond chance."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = log_mass - weights.log_evidence
        # On the scale of the mass, where the search's mean has its error.
        excess = 1.0 - np.exp(-difference)
        joint = np.hypot(log_mass_se, weights.log_evidence_se * np.exp(-difference))
        share = excess * np.exp(log_mass - logsumexp(weights.log_evidence))
        return np.where((excess > 4.0 * joint) & (share > 1e-3), difference, 0.0)
