"""The fit of a posterior that falls apart into units, which are summed out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    FirstAnswer,
    Verdict,
    WeightedSample,
    approximate,
    error_factor,
    evidence_bounds,
    judge,
    region_draws,
    region_of_draws,
    systematic_rows,
    weights_of_sample,
)
from pymc_multimodal.evidence import Weights
from pymc_multimodal.fit.result import fit_without_chains
from pymc_multimodal.kernel import Kernel, jump_acceptance
from pymc_multimodal.search import Modes, begin_search
from pymc_multimodal.status import LimitReached, ModelError, Status, counted
from pymc_multimodal.structure import (
    ClusterPartition,
    Clusters,
    Explained,
    UnbiasedMarginal,
    UnitGenerator,
    UnitMixtures,
    UnitModes,
    UnitMove,
    UnitProposals,
    UnitSample,
    choose_points,
    cluster,
    density_of_hubs,
    draw_units,
    explain_hubs,
    missing_explanations,
    several_explanations,
    unit_modes,
)
from pymc_multimodal.target.circle import is_circular
from pymc_multimodal.target.structure import Structure, chosen_units
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.search import StartDistribution
    from pymc_multimodal.target.units import Units

__all__ = ["refuse_units", "structured_fit"]

# Part of a limit that a fit by units may use: the rest is for the steps, if it ends there.
# Conventional.
SHARE = 0.7
# Combinations of explanations (logarithm, base 2) from which on units are treated apart: fewer are
# found as modes. Conventional: `MAX_MODES` of the first answer is 64.
MIN_LOG2_COMBINATIONS = 6.0
# Draws of the hubs by which the number of points of each unit is chosen. Conventional.
TRIAL_HUBS = 64
# Draws at most, and where regions of the hubs are weighed; and shares of explanations that are kept
# (256 MB of float32). Conventional.
DRAWS, DRAWS_OF_REGIONS, MAX_SHARES = 4000, 12_000, 64_000_000
# Rules for the hubs' weighted sample, which units' noise makes less even. Measured:
# examples/benchmarks/structure.py
RULES = FirstAnswer(min_ess=0.3, min_mode_ess=0.25)
# Log ratio at the end of a climb above the largest of the sample that forbids an answer. Measured
# for chains: `MAX_EXCESS` of `approximation.rounds`.
MAX_EXCESS = 2.0
# Points of each unit of a first sample. Conventional.
FIRST_POINTS = 16
# Times that the hubs are described anew by weighted draws, and the number of these. Conventional.
REFITS, CLUSTERED = 2, 512
# Hubs at which missing explanations are looked for, the share from which on one is added, and told
# if it is found late, and how often they are looked for. Conventional: the error asked for.
CHALLENGED_HUBS, MISSING_SHARE, ATTEMPTS = 4, 0.01, 3
# Probability that no jump of one draw is accepted, at the mean acceptance, and most jumps. As for
# other kernels, with fewer jumps, since each costs some tens of evaluations. Conventional.
REPEATED_SHARE, MAX_ATTEMPTS = 0.25, 4


@dataclass(frozen=True, eq=False)
class _Found:
    """Weighted draws of hubs and units.

    Attributes
    ----------
    proposals : UnitProposals
    clusters : Clusters or None
    drawn : UnitSample
    sample : WeightedSample or None
        Of the hubs; None where there are none.
    hubs : Approximation or None
    verdict : Verdict
    missing : array of shape (N,)
        Share of explanations that a challenge has found.
    """

    proposals: UnitProposals
    clusters: Clusters | None
    drawn: UnitSample
    sample: WeightedSample | None
    hubs: Approximation | None
    verdict: Verdict
    missing: np.ndarray


def structured_fit(run: Run, optima: np.ndarray | None = None) -> Fit | None:
    """Fit by units, if the density has them and that pays.

    Parameters
    ----------
    run : Run
    optima : array of shape (p, d), optional
        The optima of the search, where importance sampling from the modes was not precise: then few
        combinations of explanations pay, too, but not an answer that is not precise either.

    Returns
    -------
    Fit or None
        None if there are no units, or few combinations of explanations, or a limit is reached.

    Raises
    ------
    ModelError
        If units are given that the density does not have.
    """
    units = _units(run)
    if units is None:
        return None
    density, rng = run.density, run.rng("structure")
    asked = optima is not None or isinstance(run.settings.structure, Structure)
    try:
        with run.recorded("structure"), run.limits(SHARE, refuse=True):
            starts = begin_search(density, run.settings.modes, False, rng).distribution
            few = several_explanations(density, units, starts, rng) < MIN_LOG2_COMBINATIONS
            if few and not asked:
                return None
            run.report("structure", f"explanations of {units}")
            explained = explain_hubs(density, units, starts, rng, optima)
            combinations = float(np.log2(np.maximum(explained.n_explanations, 1)).sum())
            if combinations < MIN_LOG2_COMBINATIONS and not asked:
                return None
            explained = _challenged(run, units, starts, explained, rng)
            run.report("weigh", f"weighing hubs and units ({explained.described})")
            found = _draw(run, units, starts, explained, rng)
            if optima is not None and found.verdict.reasons:
                return None
            found = _judged(run, found, rng)
    except LimitReached:
        return None
    # The seconds of the stage are known when it has ended.
    return _fit_of(run, found, rng)


def refuse_units(run: Run) -> None:
    """Raise if units are given for a density of which each evaluation is expensive.

    Raises
    ------
    ModelError
    """
    if isinstance(run.settings.structure, Structure):
        raise ModelError(
            f"structure={run.settings.structure} cannot be used: each evaluation is expensive, and "
            "emulated. Use structure=True, or emulation=False."
        )


def _units(run: Run) -> Units | None:
    """Return the units of a density that can be treated apart."""
    settings, density = run.settings, run.density
    if settings.structure is False or not settings.may_end_early:
        return None
    units = chosen_units(density, settings.structure)
    if units is None:
        return None
    asked = isinstance(settings.structure, Structure)
    why = ""
    if density.prior is None:
        why = "there is no prior to draw starts from"
    elif is_circular(density.period[units.members[units.inside]]).any():
        why = "circular coordinates of units are not supported"
    elif density.history is not None:
        why = "each evaluation is expensive, and emulated"
    if not why:
        return units
    if asked:
        raise ModelError(
            f"structure={settings.structure} cannot be used: {why}. Use structure=False."
        )
    return None


def _challenged(
    run: Run,
    units: Units,
    starts: StartDistribution,
    explained: Explained,
    rng: np.random.Generator,
) -> Explained:
    """Add the explanations that wider climbs find, until they find none that matters."""
    for _ in range(ATTEMPTS):
        proposals = _proposals(run, units, starts, explained)
        # Without hubs one look is all there is to see.
        n_hubs = CHALLENGED_HUBS if explained.clusters is not None else 1
        g = _some_hubs(explained.clusters, n_hubs, rng)
        missing, more = missing_explanations(run.density, proposals, g, rng)
        if missing.max() < MISSING_SHARE:
            break
        explained = explained.with_more(run.density, units, more)
    return explained


def _proposals(
    run: Run, units: Units, starts: StartDistribution, explained: Explained
) -> UnitProposals:
    centre, spread = units.gather(starts.centre[None])[0], explained.spread
    mixtures = UnitMixtures.at_anchors(
        explained.anchors, explained.hub_scale, centre, spread, units.inside
    )
    return UnitProposals(units, mixtures, spread, FIRST_POINTS)


def _some_hubs(clusters: Clusters | None, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw typical hubs, shape (n, H)."""
    return np.zeros((n, 0)) if clusters is None else clusters.sample(n, rng)


def _draw(
    run: Run,
    units: Units,
    starts: StartDistribution,
    explained: Explained,
    rng: np.random.Generator,
) -> _Found:
    density = run.density
    proposals, clusters = _proposals(run, units, starts, explained), explained.clusters
    trial = _some_hubs(clusters, TRIAL_HUBS, rng)
    proposals = replace(proposals, points=choose_points(density, proposals, trial, rng))
    mixtures = proposals.mixtures
    most = DRAWS if clusters is None or clusters.n_regions == 1 else DRAWS_OF_REGIONS
    n = int(min(most, MAX_SHARES // (units.n_units * mixtures.n_explanations)))
    if clusters is None:
        drawn = draw_units(density, proposals, np.zeros((n // 4, 0)), rng)
        verdict = Verdict((), 1.0, 1.0, float("nan"), 1.0)
        return _Found(proposals, None, drawn, None, None, verdict, np.zeros(units.n_units))
    marginal = UnbiasedMarginal(density, proposals, rng)
    target = Target(density_of_hubs(density, units, marginal, proposals.rows))
    for refits_left in reversed(range(REFITS + 1)):
        hubs = approximate(
            target, _modes_of(clusters), explained.starts, RULES, run.settings.target_se, rng
        )
        weighted, may_refit = hubs.sample, refits_left and hubs.sample.ratio.any()
        if hubs.verdict.ess >= RULES.min_ess or not may_refit:
            found = _weighed(run, proposals, clusters, hubs, n, rng)
            found = _met(found, marginal(explained.ends)[0], explained.ends)
            if not (found.verdict.reasons and refits_left):
                break
            weighted = found.sample
        # The particles had described the hubs badly; the weighted draws do it better.
        rows = systematic_rows(weighted.ratio, CLUSTERED, rng)
        clusters = cluster(weighted.x[rows], target.period, rng)
    return found


def _weighed(
    run: Run,
    proposals: UnitProposals,
    clusters: Clusters,
    hubs: Approximation,
    n: int,
    rng: np.random.Generator,
) -> _Found:
    """Draw at most n hubs and their units from what describes the hubs, and judge the weights."""
    n = int(np.clip(len(hubs.sample), 1, n))
    counts = np.maximum((hubs.sample.counts * (n / len(hubs.sample))).astype(int), 2)
    mixture = replace(hubs.mixture, shares=counts / counts.sum())
    g, stratum = mixture.stratified(counts, rng)
    inside = np.isfinite(g).all(axis=1)
    drawn = draw_units(run.density, proposals, np.where(inside[:, None], g, 0.0), rng)
    logp, log_q = np.where(inside, drawn.log_marginal, -np.inf), np.full(len(g), -np.inf)
    log_q[inside] = mixture.log_density(g[inside])
    sample = WeightedSample(g, logp, log_q, stratum, counts)
    partition = ClusterPartition(clusters)
    now, before = (region_of_draws(partition, s) for s in (sample, hubs.sample))
    verdict = judge(sample, hubs.sample, now, before, RULES, run.settings.target_se)
    missing = np.zeros(proposals.units.n_units)
    return _Found(proposals, clusters, drawn, sample, hubs, verdict, missing)


def _met(found: _Found, log_marginal: np.ndarray, g: np.ndarray) -> _Found:
    """Compare the draws with hubs at which climbs have ended: a mode of the hubs may be missing.

    Parameters
    ----------
    found : _Found
        With hubs.
    log_marginal : array of shape (p,)
    g : array of shape (p, H)
    """
    if found.hubs is None or found.sample is None:
        return found
    ratio = log_marginal - found.hubs.mixture.log_density(g)
    excess = float(np.max(ratio[np.isfinite(ratio)], initial=-np.inf)) - found.sample.shift
    if excess < MAX_EXCESS:
        return found
    reason = f"a climb has ended at a log ratio {excess:.1f} above the largest of the sample"
    verdict = replace(found.verdict, reasons=(*found.verdict.reasons, reason))
    return replace(found, verdict=verdict)


def _judged(run: Run, found: _Found, rng: np.random.Generator) -> _Found:
    """Look once more for explanations that are missing."""
    g = np.zeros((1, 0))
    if found.sample is not None:
        ratio = found.sample.ratio
        rows = rng.choice(len(ratio), size=CHALLENGED_HUBS, p=ratio / ratio.sum())
        g = found.sample.x[rows]
    missing, _ = missing_explanations(run.density, found.proposals, g, rng)
    return replace(found, missing=missing)


def _modes_of(clusters: Clusters) -> Modes:
    """Return the normals as modes, from which the hubs are approximated."""
    return _modes(clusters.centre, np.log(clusters.share), clusters.scale)


def _modes(x: np.ndarray, logp: np.ndarray, scale: np.ndarray) -> Modes:
    """Return points as modes that no search has found."""
    k, unknown = len(x), float("nan")
    return Modes(
        locations=x,
        log_density=logp,
        scale=scale,
        hits=np.ones(k, dtype=int),
        optima=x,
        optimum_modes=np.arange(k),
        optimum_ids=np.arange(k),
        points=x[:0],
        point_modes=np.zeros(0, dtype=int),
        spread=np.ones(x.shape[1]),
        n_starts=0,
        unseen_start_mass_upper=unknown,
        seen_basin_mass=unknown,
        singletons=np.zeros(k, dtype=bool),
    )


# ------------------------------------------------------------------ the result


def _fit_of(run: Run, found: _Found, rng: np.random.Generator) -> Fit:
    density, proposals = run.density, found.proposals
    units = proposals.units
    of_hubs = ClusterPartition(found.clusters)
    partition = of_hubs.of_points(units.hubs)
    if found.sample is None:
        of_units = unit_modes(proposals, found.drawn, None)
        weights = _independent_weights(found.drawn)
        n = len(found.drawn)
        # One draw of each row: all have the weight of the whole.
        weighted = WeightedSample(
            _independent_draws(units, found.drawn, rng),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n, dtype=int),
            np.array([n]),
        )
        region = np.zeros(n, dtype=int)
    else:
        factor = error_factor(found.sample)
        of_units = unit_modes(proposals, found.drawn, found.sample.ratio, factor)
        region = region_of_draws(of_hubs, found.sample)
        weights = weights_of_sample(found.sample, region, partition.n_regions)
        weighted = replace(found.sample, x=found.drawn.x)
    if found.verdict.reasons:
        weights = weights.without_errors()
    n_grad = density.dim if density.has_gradient else 0
    best = _best_points(weighted, region, partition.n_regions)
    draws = region_draws(weighted, region, best, n_grad, rng)
    modes = _located(run, best, draws.x)
    kernel = _kernel(found, partition, rng)
    statuses = (_status(found, of_units), *_missing_status(found))
    return fit_without_chains(run, modes, draws, weights, kernel, statuses, units=of_units)


def _independent_weights(drawn: UnitSample) -> Weights:
    """Weights of the one region where units are independent: the evidence is a product."""
    top = drawn.log_mean.max(axis=0)
    mean = np.exp(drawn.log_mean - top)
    n = len(mean)
    log_hubs = float(drawn.log_marginal[0] - drawn.log_mean[0].sum())
    log_z = log_hubs + float((np.log(mean.mean(axis=0)) + top).sum())
    relative = mean.var(axis=0, ddof=1) / n / mean.mean(axis=0) ** 2
    se = float(np.sqrt(relative.sum()))
    one, zero = np.ones(1), np.zeros(1)
    return Weights(
        weight=one,
        weight_se=zero,
        log_evidence=np.array([log_z]),
        log_evidence_se=np.array([se]),
        interval=np.ones((1, 2)),
        total=log_z,
        total_se=se,
        pareto_k=np.full(1, np.nan),
        from_draws=zero,
        from_proposals=np.array([se**2]),
        bounds=evidence_bounds(np.array([log_z]), np.array([se])),
        iterations=(np.array([log_z]),),
    )


def _independent_draws(units: Units, drawn: UnitSample, rng: np.random.Generator) -> np.ndarray:
    """Resample each unit's points by the unit's own mean weights: independent draws, (n, d)."""
    z = units.gather(drawn.x)
    weight = np.exp(drawn.log_mean - drawn.log_mean.max(axis=0))
    out = np.empty_like(z)
    for i in range(units.n_units):
        rows = rng.choice(len(z), size=len(z), p=weight[:, i] / weight[:, i].sum())
        out[:, i] = z[rows, i]
    return units.scatter(drawn.x[:, units.hubs], out)


def _best_points(weighted: WeightedSample, region: np.ndarray, k: int) -> np.ndarray:
    """Return the draw of the largest log density of each region, shape (K, d)."""
    best = np.empty((k, weighted.x.shape[1]))
    for r in range(k):
        rows = np.flatnonzero((region == r) & (weighted.ratio > 0))
        rows = rows if len(rows) else np.flatnonzero(weighted.ratio > 0)
        best[r] = weighted.x[rows[np.argmax(weighted.logp[rows])]]
    return best


def _located(run: Run, best: np.ndarray, draws: tuple[np.ndarray, ...]) -> Modes:
    """Return the highest draw of each region as its mode, as wide as the draws."""
    flat = [x.reshape(-1, x.shape[-1]) for x in draws]
    scale = np.stack([np.diag(np.maximum(x.std(axis=0), 1e-12)) for x in flat])
    return _modes(best, run.density.logp(best), scale)


def _kernel(found: _Found, partition: ClusterPartition, rng: np.random.Generator) -> Kernel:
    if found.hubs is None or found.sample is None:
        generator = UnitGenerator(None, found.proposals)
        return Kernel(partition, generator, (UnitMove(partition, generator, 0),), (1,))
    hubs = found.hubs.generator
    generator = UnitGenerator(hubs, found.proposals)
    sample = found.sample
    rows = np.flatnonzero(np.isfinite(sample.logp))
    ratio = sample.logp[rows] + hubs.minus_log_q(sample.x[rows], rng)
    share = sample.ratio[rows]
    draws = ratio[rng.choice(len(rows), size=500, p=share / share.sum())]
    proposed = found.hubs.proposed_ratios(500, rng)
    a = float(np.clip(jump_acceptance(draws, proposed).mean(), 1e-3, 0.999))
    attempts = int(np.clip(np.ceil(np.log(REPEATED_SHARE) / np.log1p(-a)), 1, MAX_ATTEMPTS))
    return Kernel(partition, generator, (UnitMove(partition, generator, attempts),), (1,))


def _status(found: _Found, of_units: UnitModes) -> Status:
    units, v = found.proposals.units, found.verdict
    text = f"{units}, by the model's graph: {of_units.described}"
    if found.sample is not None:
        text += (
            f". Importance sampling of the hubs: effective size {v.ess:.0%} of "
            f"{counted(len(found.sample), 'draw')}, largest ratio {v.largest:.1f} times the mean"
        )
    remedy = "structure=False does without the units."
    if v.reasons:
        text += (
            f". It is not precise ({v.reasons[0]}): errors of weights and log evidence are not "
            "known."
        )
        return Status("units", "structure", text, remedy)
    return Status("units", "structure", f"{text}. No chains were run.", remedy, level="info")


def _missing_status(found: _Found) -> list[Status]:
    worst = int(np.argmax(found.missing))
    if found.missing[worst] < MISSING_SHARE:
        return []
    n = int((found.missing >= MISSING_SHARE).sum())
    text = (
        f"wider climbs found explanations that the search had missed in {counted(n, 'unit')}: the "
        f"largest, in {found.proposals.units.names[worst]}, has a share of "
        f"{found.missing[worst]:.3f}. Others may be missing."
    )
    return [Status("unit_modes", "structure", text, "Give priors nearer to the posterior.")]
