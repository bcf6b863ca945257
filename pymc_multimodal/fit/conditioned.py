"""The fit of a posterior of many coordinates that are nearly normal given a few hubs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    MAX_EXCESS,
    FirstAnswer,
    WeightedSample,
    approximate,
    judge,
    region_draws,
    weights_of_sample,
)
from pymc_multimodal.conditional import (
    AnchorMixture,
    AnchorPartition,
    HubGenerator,
    UnbiasedHubs,
    climb_hubs,
    find_anchors,
    find_split,
)
from pymc_multimodal.fit.result import fit_without_chains
from pymc_multimodal.kernel import MAX_JUMPS, Jump, Kernel, choose_jumps, jump_acceptance
from pymc_multimodal.moves import Window, adapt_step_sizes, state_at
from pymc_multimodal.regions import first_parameters
from pymc_multimodal.search import Modes, StartDistribution, begin_search
from pymc_multimodal.status import LimitReached, Status, counted
from pymc_multimodal.structure import density_of_hubs
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation, Verdict
    from pymc_multimodal.conditional import Anchor, Split
    from pymc_multimodal.fit.parts import Once
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.target import Density

__all__ = ["conditioned_fit"]

# Part of a limit that such a fit may use: the rest is for the steps, if it ends there.
# Conventional.
SHARE = 0.7
# Climbs of one batch, and batches at most: another one follows where one climb alone has ended at a
# mode. Conventional.
CLIMBS, BATCHES = 16, 2
# Rules for the sample: each of the hubs has one draw of the rest, whose noise makes ratios uneven.
# Conventional: as for units (`fit.structured`).
RULES = FirstAnswer(min_ess=0.3, min_mode_ess=0.25)
# Chains from draws of each mode, their moves, the leapfrog steps of a move and the acceptance that
# step sizes are adapted to. Conventional.
CHAINS, MOVES, LEAPFROG, ACCEPT = 8, 20, 8, 0.8
# Least standard deviation of a coordinate in its region. Conventional.
LEAST_SCALE = 1e-12
# Hubs of one call. Conventional.
CHUNK = 1024
# Draws whose acceptance gives the number of jumps. Conventional.
TRIALS = 500


@dataclass(frozen=True, eq=False)
class _Found:
    """Weighted draws.

    Attributes
    ----------
    mixture : AnchorMixture
    hits : array of int
        Climbs that ended at each anchor.
    hubs : Approximation
    sample : WeightedSample
        Of the hubs.
    x : array of shape (n, d)
        With a draw of the rest for each.
    verdict : Verdict
    """

    mixture: AnchorMixture
    hits: np.ndarray
    hubs: Approximation
    sample: WeightedSample
    x: np.ndarray
    verdict: Verdict


def conditioned_fit(run: Run) -> Fit | None:
    """Fit by hubs, with the rest described by normal densities given these, if that is precise.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Fit or None
        None if the density has no such hubs, or the answer is not precise, or a limit is reached.
    """
    density, settings = run.density, run.settings
    if settings.structure is not True or not settings.may_end_early or density.prior is None:
        return None
    if density.history is not None or not isinstance(settings.first_answer, FirstAnswer):
        return None
    split = find_split(density)
    if split is None:
        return None
    rng = run.rng("conditional")
    try:
        with run.recorded("conditional"), run.limits(SHARE, refuse=True):
            run.report("conditional", f"normal densities of {split}")
            found = _found(run, split, rng)
            if found is None or found.verdict.reasons or _refuted(density, found, rng):
                return None
    except LimitReached:
        run.note_cut()
        return None
    return _fit_of(run, split, found, rng)


def _found(run: Run, split: Split, rng: np.random.Generator) -> _Found | None:
    density, search = run.density, run.settings.modes
    once = run.parts.drawing(rng)
    starts = once("starts", lambda: begin_search(density, search, False, rng).distribution)
    anchors, hits = _anchors(density, split, starts, rng, once)
    # Where modes were found by one climb alone there may be others: the search looks for them.
    if not len(hits) or (hits < 2).any():
        return None
    mixture = AnchorMixture(split, anchors)
    marginal = UnbiasedHubs(density, mixture, rng)
    of_hubs = density_of_hubs(density, split.hubs, marginal, CHUNK)
    modes = _modes_of(anchors, hits)
    around = StartDistribution(starts.centre[split.hubs], starts.spread[split.hubs])
    target_se = run.settings.target_se
    hubs = once("hubs", partial(approximate, Target(of_hubs), modes, around, RULES, target_se, rng))
    if hubs.verdict.ess < RULES.min_ess:
        return None
    # A fresh sample, of which the draws of the rest are kept.
    counts = hubs.sample.counts
    u, stratum = hubs.mixture.stratified(counts, rng)
    drawn = once("draws", partial(mixture.complete, density, u, rng))
    log_q = hubs.mixture.log_density(u)
    sample = WeightedSample(u, drawn.logp + drawn.minus_log_q, log_q, stratum, counts)
    partition = AnchorPartition(mixture)
    region = partition.label(drawn.x)
    before = np.where(np.isfinite(hubs.sample.log_ratio), hubs.mixture.label(hubs.sample.x), -1)
    verdict = judge(sample, hubs.sample, region, before, RULES, target_se)
    return _Found(mixture, hits, hubs, sample, drawn.x, verdict)


def _anchors(
    density: Density,
    split: Split,
    starts: StartDistribution,
    rng: np.random.Generator,
    once: Once,
) -> tuple[list[Anchor], np.ndarray]:
    """Climb from prior draws, until no mode was hit by one climb alone."""
    climbed = None
    for i in range(BATCHES):
        x = density.prior_draws(CLIMBS, rng)
        climb = partial(climb_hubs, density, split, (x, starts.spread), rng)
        more = once(f"climbs {i}", climb)
        climbed = more if climbed is None else climbed.joined(more)
        find = partial(find_anchors, density, split, climbed, starts.spread, rng)
        anchors, hits = once(f"anchors {i}", find)
        if len(anchors) and (hits > 1).all():
            break
    return anchors, hits


def _modes_of(anchors: list[Anchor], hits: np.ndarray) -> Modes:
    return Modes.described(
        np.stack([a.mode for a in anchors]),
        np.array([a.value for a in anchors]),
        np.stack([a.scale for a in anchors]),
        hits,
    )


def _refuted(density: Density, found: _Found, rng: np.random.Generator) -> bool:
    """Tell whether short chains from draws meet ratios far above the largest of the sample."""
    sample, k = found.sample, len(found.mixture.anchors)
    generator = HubGenerator(found.hubs.generator, found.mixture)
    partition = AnchorPartition(found.mixture)
    share = sample.ratio / sample.ratio.sum()
    region = np.where(sample.ratio > 0, partition.label(found.x), -1)
    starts, scale = [], []
    for r in range(k):
        own = np.flatnonzero((region == r) & (share > 0))
        if len(own):
            p = share[own] / share[own].sum()
            starts.append(found.x[rng.choice(own, size=CHAINS, p=p)])
            variance = p @ (found.x[own] - p @ found.x[own]) ** 2
            scale.append(np.maximum(np.sqrt(variance), LEAST_SCALE))
    chain_of = np.repeat(np.arange(len(starts)), CHAINS)
    parameters = first_parameters(density, np.stack(scale))
    parameters = replace(parameters, leapfrog=np.full(len(starts), LEAPFROG))
    state, window = state_at(density, np.concatenate(starts), chain_of), Window(MOVES, ACCEPT)
    _, record, _ = adapt_step_sizes(density, state, parameters, window, rng, label=None)
    half = len(record.x) // 2
    late, logp = record.x[half:].reshape(-1, density.dim), record.logp[half:].ravel()
    excess = logp + generator.minus_log_q(late, rng)
    before = sample.logp + found.hubs.generator.minus_log_q(sample.x, rng)
    return bool(excess.max() > before[sample.ratio > 0].max() + MAX_EXCESS)


# ------------------------------------------------------------------ the result


def _fit_of(run: Run, split: Split, found: _Found, rng: np.random.Generator) -> Fit:
    density, anchors = run.density, found.mixture.anchors
    partition = AnchorPartition(found.mixture)
    k = partition.n_regions
    region = np.where(np.isfinite(found.sample.log_ratio), partition.label(found.x), -1)
    weights = weights_of_sample(found.sample, region, k)
    weighted = replace(found.sample, x=found.x)
    at = np.stack([split.join(a.mode[None], a.optimum(a.mode[None]))[0] for a in anchors])
    draws = region_draws(weighted, region, at, density.dim, rng)
    flat = [x.reshape(-1, density.dim) for x in draws.x]
    scale = np.stack([np.diag(np.maximum(x.std(axis=0), LEAST_SCALE)) for x in flat])
    modes = Modes.described(at, density.logp(at), scale, found.hits)
    kernel = _kernel(found, partition, rng)
    statuses = (_status(split, found),)
    return fit_without_chains(run, modes, draws, weights, kernel, statuses)


def _kernel(found: _Found, partition: AnchorPartition, rng: np.random.Generator) -> Kernel:
    """Jumps alone: they are to hubs and rest together, and independent of where a chain is."""
    draws = found.hubs.drawn_ratios(found.sample, TRIALS, rng)
    proposed = found.hubs.proposed_ratios(TRIALS, rng)
    kernel = Kernel(
        partition, HubGenerator(found.hubs.generator, found.mixture), (Jump(MAX_JUMPS),), (1,)
    )
    return choose_jumps(kernel, jump_acceptance(draws, proposed))


def _status(split: Split, found: _Found) -> Status:
    v, k = found.verdict, len(found.mixture.anchors)
    text = (
        f"{split}, by normal densities around {counted(k, 'mode')} of these hubs. Importance "
        f"sampling: effective size {v.ess:.0%} of {counted(len(found.sample), 'draw')}, largest "
        f"ratio {v.largest:.1f} times the mean."
    )
    remedy = "structure=False fits without this structure."
    return Status("conditional", "conditional", text, remedy, level="info")
