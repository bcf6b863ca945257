"""The fit of a posterior that falls apart into units, which are summed out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.approximation import (
    MAX_ENLARGED,
    MAX_EXCESS,
    SURPLUS,
    FirstAnswer,
    Verdict,
    WeightedSample,
    approximate,
    fitted_to_samples,
    judge,
    region_of_draws,
    systematic_rows,
    tail_index,
)
from pymc_multimodal.fit.structured_fit import (
    MISSING_SHARE,
    WeightedUnits,
    fit_of_units,
)
from pymc_multimodal.search import Modes, begin_search
from pymc_multimodal.status import LimitReached, ModelError
from pymc_multimodal.structure import (
    MOST_POINTS,
    ClusterPartition,
    Clusters,
    Explained,
    UnbiasedMarginal,
    UnitMixtures,
    UnitProposals,
    UnitSample,
    choose_points,
    cluster,
    density_of_hubs,
    draw_units,
    explain_hubs,
    look_at_borders,
    lost_explanations,
    missing_explanations,
    several_explanations,
    shares,
    with_parts,
)
from pymc_multimodal.target.circle import is_circular
from pymc_multimodal.target.structure import Structure, chosen_units
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.approximation import Approximation, ModeMixture
    from pymc_multimodal.fit.parts import Once
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.search import StartDistribution
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["SHARE_AFTER_SEARCH", "refuse_units", "structured_fit"]

# Part of a limit that a fit by units may use: the rest is for the steps, if it ends there. After a
# search less is left for them. Conventional.
SHARE, SHARE_AFTER_SEARCH = 0.7, 0.5
# Combinations of explanations (logarithm, base 2) from which on units are treated apart: fewer are
# found as modes. Conventional: `MAX_MODES` of the first answer is 64.
MIN_LOG2_COMBINATIONS = 6.0
# Draws of the hubs by which the number of points of each unit is chosen. Conventional.
TRIAL_HUBS = 64
# Draws of hubs with their units, at first and at most, and shares of explanations that are kept
# (256 MB of float32). Conventional: there are as many as the errors asked for need.
DRAWS, MOST_DRAWS, MAX_SHARES = 2000, 12_000, 64_000_000
# Draws of units that are independent. Measured: examples/benchmarks/structure.py
DRAWS_WITHOUT_HUBS = 2000
# Part of the error asked for that is asked of the units' shares: the worst of many units counts.
# Measured: examples/benchmarks/structure.py (with 2,000 draws the shares of `population_20` were
# off by up to 0.024).
SHARE_SE = 0.6
# Rules for the hubs' weighted sample, which units' noise makes less even. Measured:
# examples/benchmarks/structure.py
RULES = FirstAnswer(min_ess=0.3, min_mode_ess=0.25)
# Factor of the error asked for in the samples that the hubs' density is fitted to: the draws that
# are kept are fresh ones, and as many as the error asks for. Conventional.
LOOSER = 4.0
# Points of each unit of a first sample. Conventional.
FIRST_POINTS = 16
# Times that the hubs are described anew by weighted draws, and the number of these. Conventional.
REFITS, CLUSTERED = 2, 512
# Hubs at which missing explanations are looked for, and how often at most. Conventional.
CHALLENGED_HUBS, ATTEMPTS = 4, 3
# Draws of the hubs at which explanations are looked for that are not followed from the anchors.
# They become anchors where more than this share of some unit is lost, at most some times.
# Conventional.
FOLLOWED_HUBS, LOST_SHARE, FOLLOWED = 16, 0.03, 2
# Looks at other hubs that must find a missing explanation at the end. Conventional.
LATE_LOOKS = 2


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
    share = SHARE if optima is None else SHARE_AFTER_SEARCH
    asked = optima is not None or isinstance(run.settings.structure, Structure)
    try:
        with run.recorded("structure"), run.limits(share, refuse=True):
            once = run.parts.drawing(rng)
            starts = once("starts", partial(_starts, run, rng))
            look = partial(several_explanations, density, units, starts, rng)
            seen = once("look", look)
            few = seen < MIN_LOG2_COMBINATIONS
            if few and not asked:
                return None
            run.report("structure", f"explanations of {units}")
            explain = partial(explain_hubs, density, units, starts, rng, optima)
            explained: Explained = once("explained", partial(explain, once))
            combinations = float(np.log2(np.maximum(explained.n_explanations, 1)).sum())
            if combinations < MIN_LOG2_COMBINATIONS and not asked:
                return None
            found = _draw(run, units, starts, explained, once, rng)
            if explained.by_modes and found.verdict.reasons:
                # Normals around modes do not describe the hubs: tempering may.
                anew = partial(_anew, once)
                explained = anew("explained", partial(explain, anew, by_modes=False))
                found = _draw(run, units, starts, explained, anew, rng)
            if optima is not None and found.verdict.reasons:
                return None
            found = _judged(run, found, rng)
    except LimitReached:
        run.note_cut()
        return None
    # The seconds of the stage are known when it has ended.
    return fit_of_units(run, found, rng)


def _anew(once: Once, name: str, make: Callable[[], Any]) -> Any:
    """Make a part for the second time: it has another name."""
    return once(f"{name} anew", make)


def _starts(run: Run, rng: np.random.Generator) -> StartDistribution:
    return begin_search(run.density, run.settings.modes, False, rng).distribution


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
    with run.uncounted():
        units = chosen_units(density, settings.structure)
        if units is None:
            return None
        assert density.term_model is not None
        density.term_model.prepare()
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


def _followed(
    run: Run,
    units: Units,
    explained: Explained,
    proposals: UnitProposals,
    hubs: WeightedSample,
    rng: np.random.Generator,
) -> Explained:
    """Add anchors at draws of the hubs, where explanations are lost on the way from the others."""
    for _ in range(FOLLOWED):
        rows = np.unique(systematic_rows(hubs.ratio, FOLLOWED_HUBS, rng))
        share, more = lost_explanations(run.density, proposals, hubs.x[rows], rng)
        if share.max() < LOST_SHARE:
            break
        used = replace(explained, anchors=explained.used(hubs.x, hubs.ratio))
        explained = used.with_more(run.density, units, more)
        proposals = proposals.with_anchors(explained.anchors)
    return explained


def _proposals(
    run: Run, units: Units, starts: StartDistribution, explained: Explained
) -> UnitProposals:
    centre, spread = units.gather(starts.centre[None])[0], explained.spread
    mixtures = UnitMixtures.at_anchors(
        explained.anchors, explained.hub_scale, centre, spread, units.inside
    )
    return UnitProposals(units, mixtures, spread, FIRST_POINTS)


def _with_points(
    density: Density,
    proposals: UnitProposals,
    g: np.ndarray,
    rng: np.random.Generator,
    once: Once,
    name: str,
) -> UnitProposals:
    """Give parts to explanations that need them, and choose the number of points, at some hubs."""
    proposals = once(f"{name}, parts", partial(with_parts, density, proposals, g, rng))
    points, steps = once(name, partial(choose_points, density, proposals, g, rng))
    return replace(proposals, points=points, steps=steps)


def _some_hubs(clusters: Clusters | None, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw typical hubs, shape (n, H)."""
    return np.zeros((n, 0)) if clusters is None else clusters.sample(n, rng)


def _draw(
    run: Run,
    units: Units,
    starts: StartDistribution,
    explained: Explained,
    once: Once,
    rng: np.random.Generator,
) -> WeightedUnits:
    """Weigh hubs and units, once no explanation of the units is missing."""
    density = run.density
    challenge = partial(_challenged, run, units, starts, explained, rng)
    explained = once("challenged", challenge)
    run.report("weigh", f"weighing hubs and units ({explained.described})")
    proposals, clusters = _proposals(run, units, starts, explained), explained.clusters
    trial = _some_hubs(clusters, TRIAL_HUBS, rng)
    proposals = _with_points(density, proposals, trial, rng, once, "points")
    mixtures = proposals.mixtures
    n = int(min(MOST_DRAWS, MAX_SHARES // (units.n_units * mixtures.n_explanations)))
    if clusters is None:
        drawn = draw_units(density, proposals, np.zeros((min(n, DRAWS_WITHOUT_HUBS), 0)), rng)
        verdict = _verdict_without_hubs(units, drawn)
        return WeightedUnits(proposals, None, drawn, None, None, verdict, np.zeros(units.n_units))
    for refits_left in reversed(range(REFITS + 1)):
        marginal = UnbiasedMarginal(density, proposals, rng)
        target = Target(density_of_hubs(density, units.hubs, marginal, proposals.rows))
        modes, target_se = _modes_of(clusters), LOOSER * run.settings.target_se
        hubs = once(
            f"hubs {refits_left}",
            partial(approximate, target, modes, explained.starts, RULES, target_se, rng),
        )
        if hubs.sample.ratio.any():
            follow = partial(_followed, run, units, explained, proposals, hubs.sample, rng)
            followed = once(f"followed {refits_left}", follow)
            if followed is not explained:
                explained = followed
                proposals = proposals.with_anchors(explained.anchors)
                name = f"points {refits_left}"
                proposals = _with_points(density, proposals, trial, rng, once, name)
        weighted: WeightedSample | None = hubs.sample
        may_refit = refits_left and hubs.sample.ratio.any()
        if hubs.verdict.ess >= RULES.min_ess or not may_refit:
            weigh = partial(_weighed, run, proposals, clusters, hubs, n, rng)
            found: WeightedUnits = once(
                f"weighed {refits_left}", partial(_compared, weigh, marginal, explained.ends)
            )
            if not (found.verdict.reasons and refits_left):
                break
            weighted = found.sample
        assert weighted is not None
        # The particles had described the hubs badly, or units add too much noise: weighted draws
        # and more points do better.
        proposals = replace(proposals, points=min(2 * proposals.points, MOST_POINTS))
        rows = systematic_rows(weighted.ratio, CLUSTERED, rng)
        clusters = cluster(weighted.x[rows], target.period, rng)
    return found


def _verdict_without_hubs(units: Units, drawn: UnitSample) -> Verdict:
    """Judge the mean weights of each unit: their product is the evidence."""
    reasons, ess, largest, tails = [], 1.0, 1.0, []
    for name, log_mean in zip(units.names, drawn.log_mean.T, strict=True):
        ratio = np.exp(log_mean - np.maximum(log_mean.max(), -1e300))
        mean = max(float(ratio.mean()), 1e-300)
        own, tail = float(mean**2 / max(np.mean(ratio**2), 1e-300)), tail_index(log_mean)
        ess, largest = min(ess, own), max(largest, float(ratio.max()) / mean)
        tails.append(tail)
        if own < RULES.min_ess:
            reasons.append(f"the effective sample size of unit {name} is {own:.2f} of the sample")
        elif tail >= RULES.max_pareto_k:
            reasons.append(f"the tail index of the ratios of unit {name} is {tail:.2f}")
    known = [tail for tail in tails if np.isfinite(tail)]
    return Verdict(tuple(reasons), 1.0, ess, max(known, default=float("nan")), largest)


def _weighed(
    run: Run,
    proposals: UnitProposals,
    clusters: Clusters,
    hubs: Approximation,
    most: int,
    rng: np.random.Generator,
) -> WeightedUnits:
    """Draw hubs and their units, as many as the error asked for needs, and judge the weights.

    The density of the hubs is fitted to all earlier samples. At most about `most` draws are made.
    """
    partition, target_se = ClusterPartition(clusters), run.settings.target_se
    before = region_of_draws(partition, hubs.sample)
    mixture = fitted_to_samples(hubs, rng)
    n = min(max(len(hubs.sample), DRAWS), most)
    counts = np.maximum((mixture.shares * n).astype(int), 2)
    drawn, sample = _drawn(run.density, proposals, mixture, counts, rng)
    for _ in range(MAX_ENLARGED):
        now = region_of_draws(partition, sample)
        verdict = judge(sample, hubs.sample, now, before, RULES, target_se)
        room = most - len(sample)
        assert verdict.missing_of is not None
        _, se, _ = shares(drawn, sample.ratio)
        of_units = (float(se.max()) / (SHARE_SE * target_se)) ** 2
        if verdict.reasons or max(verdict.missing, of_units) <= 1.0 or room <= 0:
            break
        wanted = sample.counts * (SURPLUS * np.maximum(verdict.missing_of, of_units) - 1.0)
        counts = np.ceil(wanted * min(1.0, room / wanted.sum())).astype(int)
        more_drawn, more = _drawn(run.density, proposals, mixture, counts, rng)
        total = sample.counts + more.counts
        mixture = replace(mixture, shares=total / total.sum())
        # The order of `WeightedSample.joined`.
        order = np.argsort(np.concatenate([sample.stratum, more.stratum]), kind="stable")
        drawn = UnitSample.joined([drawn, more_drawn]).take(order)
        sample = sample.joined(more, mixture)
    now = region_of_draws(partition, sample)
    verdict = judge(sample, hubs.sample, now, before, RULES, target_se)
    hubs = replace(hubs, mixture=mixture, sample=sample, verdict=verdict)
    none = np.zeros(proposals.units.n_units)
    return WeightedUnits(proposals, clusters, drawn, sample, hubs, verdict, none)


def _drawn(
    density: Density,
    proposals: UnitProposals,
    mixture: ModeMixture,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> tuple[UnitSample, WeightedSample]:
    """Draw given numbers of hubs from the members of a mixture, with their units."""
    mixture = replace(mixture, shares=counts / counts.sum())
    g, stratum = mixture.stratified(counts, rng)
    inside = np.isfinite(g).all(axis=1)
    drawn = draw_units(density, proposals, np.where(inside[:, None], g, 0.0), rng)
    logp, log_q = np.where(inside, drawn.log_marginal, -np.inf), np.full(len(g), -np.inf)
    log_q[inside] = mixture.log_density(g[inside])
    return drawn, WeightedSample(g, logp, log_q, stratum, counts)


def _compared(
    weigh: Callable[[], WeightedUnits], marginal: UnbiasedMarginal, ends: np.ndarray
) -> WeightedUnits:
    """Weigh, and compare the draws with hubs (p, H) at which climbs have ended."""
    found = weigh()
    return _met(found, marginal(ends)[0], ends)


def _met(found: WeightedUnits, log_marginal: np.ndarray, g: np.ndarray) -> WeightedUnits:
    """Compare the draws with hubs at which climbs have ended: a mode of the hubs may be missing.

    Parameters
    ----------
    found : WeightedUnits
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


def _judged(run: Run, found: WeightedUnits, rng: np.random.Generator) -> WeightedUnits:
    """Look once more for explanations that are missing, and at those that overlap.

    The largest share of many units at few hubs may be that of rare hubs, where the sample has its
    draws as elsewhere: what is found counts if it is found at other hubs, too.
    """
    missing = np.ones(found.proposals.units.n_units)
    for _ in range(LATE_LOOKS):
        g = np.zeros((1, 0))
        if found.sample is not None:
            ratio = found.sample.ratio
            rows = rng.choice(len(ratio), size=CHALLENGED_HUBS, p=ratio / ratio.sum())
            g = found.sample.x[rows]
        share, _ = missing_explanations(run.density, found.proposals, g, rng)
        missing = np.minimum(missing, share)
        if missing.max() < MISSING_SHARE:
            break
    target_se, weights = (
        run.settings.target_se,
        None if found.sample is None else found.sample.ratio,
    )
    overlap = look_at_borders(run.density, found.proposals, found.drawn, weights, target_se, rng)
    return replace(found, missing=missing, overlap=overlap)


def _modes_of(clusters: Clusters) -> Modes:
    """Return the normals as modes, from which the hubs are approximated."""
    return Modes.described(clusters.centre, np.log(clusters.share), clusters.scale)
