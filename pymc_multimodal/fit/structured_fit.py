"""The fit that weighted draws of hubs and units give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    Verdict,
    WeightedSample,
    error_factor,
    evidence_bounds,
    region_draws,
    region_of_draws,
    weights_of_sample,
)
from pymc_multimodal.evidence import Weights
from pymc_multimodal.fit.result import fit_without_chains
from pymc_multimodal.kernel import Kernel, jump_acceptance
from pymc_multimodal.search import Modes
from pymc_multimodal.status import Status, counted
from pymc_multimodal.structure import (
    Borders,
    ClusterPartition,
    Clusters,
    UnitGenerator,
    UnitModes,
    UnitMove,
    UnitProposals,
    UnitSample,
    unit_modes,
)

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.target.units import Units

__all__ = ["MISSING_SHARE", "WeightedUnits", "fit_of_units"]

# Share from which on an explanation that a challenge finds is added, and told if it is found late.
# Conventional: the error asked for.
MISSING_SHARE = 0.01
# Probability that no jump of one draw is accepted, at the mean acceptance, and most jumps. As for
# other kernels, with fewer jumps, since each costs some tens of evaluations. Conventional.
REPEATED_SHARE, MAX_ATTEMPTS = 0.25, 4
# Draws whose acceptance gives the number of jumps. Conventional.
TRIALS = 500


@dataclass(frozen=True, eq=False)
class WeightedUnits:
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
    overlap : Borders or None
        None until they are looked at.
    """

    proposals: UnitProposals
    clusters: Clusters | None
    drawn: UnitSample
    sample: WeightedSample | None
    hubs: Approximation | None
    verdict: Verdict
    missing: np.ndarray
    overlap: Borders | None = None

    @property
    def share_factor(self) -> float:
        """Factor of the errors of shares.

        A single large ratio, for which `error_factor` is, moves a share by no more than its own
        weight: with a tail index that is reliable the errors were too large.
        """
        if self.sample is None or not self.verdict.reasons:
            return 1.0
        return error_factor(self.sample.ratio)


def fit_of_units(run: Run, found: WeightedUnits, rng: np.random.Generator) -> Fit:
    """Return the fit: weights, draws of each region of the hubs, a kernel, statuses.

    Parameters
    ----------
    run : Run
    found : WeightedUnits
    rng : numpy.random.Generator

    Returns
    -------
    Fit
    """
    density, proposals = run.density, found.proposals
    units = proposals.units
    of_hubs = ClusterPartition(found.clusters)
    partition = of_hubs.of_points(units.hubs)
    assert found.overlap is not None
    ratio = None if found.sample is None else found.sample.ratio
    of_units = unit_modes(proposals, found.drawn, ratio, found.overlap, found.share_factor)
    if found.sample is None:
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
    # Where no unit has several explanations, the modes are those of the hubs.
    several = of_units if (of_units.n_explanations > 1).any() else None
    return fit_without_chains(run, modes, draws, weights, kernel, statuses, units=several)


def _independent_weights(drawn: UnitSample) -> Weights:
    """Weights of the one region where units are independent: the evidence is a product."""
    top = drawn.log_mean.max(axis=0)
    mean = np.exp(drawn.log_mean - top)
    n = len(mean)
    log_hubs = float(drawn.log_marginal[0] - drawn.log_mean[0].sum())
    log_z = log_hubs + float((np.log(mean.mean(axis=0)) + top).sum())
    factor = np.array([error_factor(own) for own in mean.T])
    relative = factor * mean.std(axis=0, ddof=1) / np.sqrt(n) / mean.mean(axis=0)
    se = float(np.linalg.norm(relative))
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
    return Modes.described(best, run.density.logp(best), scale)


def _kernel(found: WeightedUnits, partition: ClusterPartition, rng: np.random.Generator) -> Kernel:
    if found.hubs is None or found.sample is None:
        generator = UnitGenerator(None, found.proposals)
        return Kernel(partition, generator, (UnitMove(partition, generator, 0),), (1,))
    generator = UnitGenerator(found.hubs.generator, found.proposals)
    draws = found.hubs.drawn_ratios(found.sample, TRIALS, rng)
    proposed = found.hubs.proposed_ratios(TRIALS, rng)
    a = float(np.clip(jump_acceptance(draws, proposed).mean(), 1e-3, 0.999))
    attempts = int(np.clip(np.ceil(np.log(REPEATED_SHARE) / np.log1p(-a)), 1, MAX_ATTEMPTS))
    return Kernel(partition, generator, (UnitMove(partition, generator, attempts),), (1,))


def _status(found: WeightedUnits, of_units: UnitModes) -> Status:
    units, v = found.proposals.units, found.verdict
    text = f"by the model's graph, {units.described}: {of_units.described}"
    if found.sample is not None:
        text += (
            f". Importance sampling of the hubs: effective size {v.ess:.0%} of "
            f"{counted(len(found.sample), 'draw')}, largest ratio {v.largest:.1f} times the mean"
        )
    remedy = "structure=False fits without the units."
    if v.reasons:
        text += (
            f". It is not precise ({v.reasons[0]}): errors of weights and log evidence are not "
            "known."
        )
        return Status("units", "structure", text, remedy)
    return Status("units", "structure", f"{text}. No chains were run.", remedy, level="info")


def _missing_status(found: WeightedUnits) -> list[Status]:
    worst = int(np.argmax(found.missing))
    if found.missing[worst] < MISSING_SHARE:
        return []
    n = int((found.missing >= MISSING_SHARE).sum())
    text = (
        "climbs that began farther out found explanations that the search had missed, in "
        f"{counted(n, 'unit')}: the largest, in {found.proposals.units.names[worst]}, has a "
        f"share of {found.missing[worst]:.3f}. Others may be missing."
    )
    return [Status("unit_modes", "structure", text, "Give priors nearer to the posterior.")]
