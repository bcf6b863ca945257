"""Chains inside the regions: each leaves the density restricted to its region invariant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pymc_multimodal.moves.jumps import MixtureProposal, jump
from pymc_multimodal.moves.local import move
from pymc_multimodal.regions.draws import RegionDraws, convergences, watched_columns
from pymc_multimodal.regions.partition import label_of
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.moves.jumps import JumpDensity
    from pymc_multimodal.moves.local import MoveParameters, MoveState
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.regions.settings import LocalSampling
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "ChainRecord",
    "Chains",
    "FitJumps",
    "RegionSampler",
    "ask_of_regions",
    "draws_of",
    "extend_chains",
    "jumps_of",
    "largest_r_hat",
    "n_draws",
    "positions",
    "skip_regions",
]

FitJumps: TypeAlias = (
    "Callable[[RegionDraws, np.ndarray, np.random.Generator, Sequence[Any]], Sequence[JumpDensity]]"
)

# Draws of a batch that are made even after a limit of the fit, so that every region has some.
# Conventional: R-hat and ESS have something to say of twice eight draws.
MIN_BATCH_DRAWS = 16


@dataclass(frozen=True)
class RegionSampler:
    """What stays the same while the chains of the regions run.

    Attributes
    ----------
    target : LogDensity
    partition : Partition
    settings : LocalSampling
    centre : array of shape (K, d)
        A point of each region about which circular coordinates are unrolled.
    fit_jumps : callable, optional
        ``fit_jumps(draws, regions, rng, previous)`` fits one normalised density to each region of
        its `RegionDraws`; `regions` holds their numbers, and `previous` what was fitted to them
        before, or None. Chains propose from the densities in regimes 1 and 2.
    """

    target: LogDensity
    partition: Partition
    settings: LocalSampling
    centre: np.ndarray
    fit_jumps: FitJumps | None = None

    @property
    def n_regions(self) -> int:
        """Number of regions, K."""
        return len(self.centre)

    @property
    def label(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """The partition's labels; None where there is one region."""
        return label_of(self.partition) if self.partition.n_regions > 1 else None


@dataclass(frozen=True)
class ChainRecord:
    """Draws of the chains of one region, and how the local move before each draw went.

    Attributes
    ----------
    x, logp, grad : arrays of shape (draws, chains, d), (draws, chains), (draws, chains, d)
    acceptance, crossed : arrays of shape (draws, chains)
        Acceptance probability of the last local move, and whether it was rejected because it
        ended outside of the region.
    """

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    acceptance: np.ndarray
    crossed: np.ndarray

    @classmethod
    def empty(cls, state: MoveState) -> ChainRecord:
        """Return a record without draws of the chains of a state."""
        x, logp, grad = (part[None][:0] for part in (state.x, state.logp, state.grad))
        return cls(x, logp, grad, logp, logp.astype(bool))

    def __len__(self) -> int:
        return len(self.x)

    def chains(self, rows: np.ndarray) -> ChainRecord:
        """Return the draws of some chains."""
        return ChainRecord(*(part[:, rows] for part in vars(self).values()))

    def since(self, draw: int) -> ChainRecord:
        """Return the draws from number `draw` on."""
        return ChainRecord(*(part[draw:] for part in vars(self).values()))

    def joined(self, later: ChainRecord) -> ChainRecord:
        """Return the draws of this record and those of a later one."""
        if not len(self):
            return later
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return ChainRecord(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Chains:
    """State of the chains of all regions.

    Attributes
    ----------
    state : MoveState
        Where each of the K times `chains` chains is.
    parameters : MoveParameters
        Of the local moves.
    records : tuple of K ChainRecord
        Draws since the region's moves were last changed.
    r_hat, ess : arrays of shape (K,)
        Largest R-hat and smallest ESS of a watched quantity of each record.
    regime : array of int, shape (K,)
        See `ChainDiagnostics`.
    jumps : mapping of int to JumpDensity
        What the chains of a region propose from; regions that do not jump are left out.
    jump_acceptance : tuple of K tuples of float
        Share of the jumps that chains accepted, each time a jump density was fitted.
    draws_per_move : array of int, shape (K,)
        Draws between two local moves: a local move costs more than a jump.
    min_moves : array of shape (K,)
        Local moves that a record needs. Jumps mix the bulk of a region so well that no
        diagnostic shows how slowly chains find tails that no jump proposes.
    negligible : array of bool, shape (K,)
        Regions that are known to hold next to no mass, and need no more draws.
    required : array of shape (K,)
        Part of `LocalSampling.min_ess` that is asked of each region, in (0, 1].
    border_ends : tuple of K arrays of shape (n, d)
        Points of each region at which moves of other regions' chains were turned back.
    lowest : array of shape (K,)
        Log density of the lowest point that chains of the region have to visit, ``inf`` if there
        is none. Chains as low as this are not stranded.
    """

    state: MoveState
    parameters: MoveParameters
    records: tuple[ChainRecord, ...]
    r_hat: np.ndarray
    ess: np.ndarray
    regime: np.ndarray
    jumps: Mapping[int, JumpDensity]
    jump_acceptance: tuple[tuple[float, ...], ...]
    draws_per_move: np.ndarray
    min_moves: np.ndarray
    negligible: np.ndarray
    required: np.ndarray
    border_ends: tuple[np.ndarray, ...]
    lowest: np.ndarray

    def without_records(self, regions: np.ndarray) -> Chains:
        """Drop the records of some regions; their chains stay where they are."""
        records, r_hat, ess = list(self.records), self.r_hat.copy(), self.ess.copy()
        for k in regions:
            records[k] = self.records[k].since(len(self.records[k]))
            r_hat[k], ess[k] = np.inf, 0.0
        return replace(self, records=tuple(records), r_hat=r_hat, ess=ess)


# ------------------------------------------------------------------ draws


def extend_chains(
    sampler: RegionSampler,
    chains: Chains,
    regions: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> Chains:
    """Add draws to every chain of some regions, all in one batch.

    Parameters
    ----------
    sampler : RegionSampler
    chains : Chains
    regions : array of int
    draws : int
        Draws of each chain. A limit of the fit ends the batch early, after 16 draws at least;
        the draws made so far are kept.
    rng : numpy.random.Generator

    Returns
    -------
    Chains
    """
    if not len(regions):
        return chains
    regions = np.sort(regions)
    rows = np.isin(chains.state.region, regions)
    state, batch = _batch(sampler, chains, chains.state.take(rows), draws, rng)
    records, r_hat, ess = list(chains.records), chains.r_hat.copy(), chains.ess.copy()
    order = np.argsort(state.region, kind="stable")
    own = np.split(order, np.searchsorted(state.region[order], regions[1:]))
    longer = [records[k].joined(batch.chains(r)) for k, r in zip(regions, own, strict=True)]
    checked = _checked(sampler, longer, sampler.centre[regions])
    for k, (record, worst, size) in zip(regions, checked, strict=True):
        records[k], r_hat[k], ess[k] = record, worst, size
    state = chains.state.put(state, rows)
    return replace(chains, state=state, records=tuple(records), r_hat=r_hat, ess=ess)


def _batch(
    sampler: RegionSampler,
    chains: Chains,
    state: MoveState,
    draws: int,
    rng: np.random.Generator,
) -> tuple[MoveState, ChainRecord]:
    """Run chains: a local move where one is due, then a jump where the region jumps."""
    target, label = sampler.target, sampler.label
    per_move = chains.draws_per_move[state.region]
    acceptance, crossed = np.ones(len(per_move)), np.zeros(len(per_move), dtype=bool)
    columns = []
    for t in range(draws):
        due = t % per_move == 0
        try:
            with target.limited(t >= MIN_BATCH_DRAWS):
                moved, info = move(target, state.take(due), chains.parameters, rng, label=label)
                after, _ = jump(target, state.put(moved, due), chains.jumps, rng, label=label)
        except LimitReached:
            if t < MIN_BATCH_DRAWS:
                raise
            break
        state = after
        acceptance[due], crossed[due] = info.probability, info.crossed
        columns.append((state.x, state.logp, state.grad, acceptance.copy(), crossed.copy()))
    return state, ChainRecord(*(np.stack(column) for column in zip(*columns, strict=True)))


def _checked(
    sampler: RegionSampler, records: list[ChainRecord], centre: np.ndarray
) -> list[tuple[ChainRecord, float, float]]:
    """Compute R-hat and ESS; drop the first halves of records that are sound without these.

    A warm-up that was too short leaves a transient there.
    """
    settings = sampler.settings
    watched = [_watched(sampler, r, c) for r, c in zip(records, centre, strict=True)]
    r_hat, ess = convergences(watched)
    half = np.array([len(record) // 2 for record in records])
    doubtful = np.flatnonzero((r_hat > settings.max_rhat) & (half >= settings.draws))
    later_r_hat, later_ess = convergences([watched[i][:, half[i] :] for i in doubtful])
    records = list(records)
    for i, worst, size in zip(doubtful, later_r_hat, later_ess, strict=True):
        if worst <= settings.max_rhat and size >= settings.min_ess:
            records[i], r_hat[i], ess[i] = records[i].since(half[i]), worst, size
    return list(zip(records, r_hat.tolist(), ess.tolist(), strict=True))


def _watched(sampler: RegionSampler, record: ChainRecord, centre: np.ndarray) -> np.ndarray:
    """Watched coordinates, unrolled, and the log density: (chains, draws, quantities)."""
    x = sampler.target.unroll(record.x.swapaxes(0, 1), centre)
    x = x[:, :, watched_columns(x)]
    return np.concatenate([x, record.logp.T[..., None]], axis=2)


# ------------------------------------------------------------------ what chains hold


def n_draws(chains: Chains) -> np.ndarray:
    """Draws of each chain of every region so far: int array of shape (K,)."""
    return np.array([len(record) for record in chains.records])


def positions(chains: Chains, regions: np.ndarray) -> np.ndarray:
    """Points at which the chains of some regions are, shape (n, d)."""
    return chains.state.x[np.isin(chains.state.region, regions)]


def jumps_of(chains: Chains) -> list[Any]:
    """Density fitted to each region that its chains propose from; None where they do not jump."""
    found = [chains.jumps.get(k) for k in range(len(chains.records))]
    return [q.own if isinstance(q, MixtureProposal) else q for q in found]


def draws_of(sampler: RegionSampler, chains: Chains) -> RegionDraws:
    """Draws of all regions so far."""
    return RegionDraws(
        tuple(record.x.swapaxes(0, 1) for record in chains.records),
        tuple(record.logp.T for record in chains.records),
        tuple(record.grad.swapaxes(0, 1) for record in chains.records),
        sampler.centre,
        chains.ess,
    )


def largest_r_hat(chains: Chains, settings: LocalSampling) -> np.ndarray:
    """R-hat that is asked of each region, shape (K,): its excess is inverse to the draws asked for.

    R-hat is about ``1 + m / (2 n)`` with n effective draws of m chains (Vats and Knudson 2021,
    doi:10.1214/20-STS812).
    """
    return 1.0 + (settings.max_rhat - 1.0) / chains.required


def ask_of_regions(chains: Chains, required: np.ndarray) -> Chains:
    """Ask a part of the effective draws of the settings of each region.

    Parameters
    ----------
    chains : Chains
    required : array of shape (K,)
        In (0, 1].

    Returns
    -------
    Chains
    """
    return replace(chains, required=np.asarray(required, dtype=float))


def skip_regions(chains: Chains, negligible: np.ndarray) -> Chains:
    """Ask no more draws of regions that hold next to no mass.

    Parameters
    ----------
    chains : Chains
    negligible : array of bool, shape (K,)
        Replaces what was said before.

    Returns
    -------
    Chains
    """
    return replace(chains, negligible=np.asarray(negligible, dtype=bool))
