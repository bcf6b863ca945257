"""Weights, evidences and draws of regions from a weighted sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.sample import rows_of_groups
from pymc_multimodal.approximation.verdict import error_factor, mode_errors, tail_index
from pymc_multimodal.evidence import (
    NORMAL_QUANTILE,
    SMALLEST_WEIGHT,
    Weights,
    logit_interval,
)
from pymc_multimodal.regions import RegionDraws

if TYPE_CHECKING:
    from pymc_multimodal.approximation.sample import WeightedSample
    from pymc_multimodal.regions import Partition

__all__ = [
    "evidence_bounds",
    "region_draws",
    "region_of_draws",
    "region_weights",
    "systematic_rows",
    "weight_intervals",
    "weights_of_sample",
]

# Draws of each region that are resampled, in as many chains as regions have by default.
# Conventional.
CHAINS, DRAWS = 16, 50


def weights_of_sample(sample: WeightedSample, region: np.ndarray, k: int) -> Weights:
    r"""Estimate weights and evidences by importance sampling.

    With ratios :math:`r_i`, region k has the weight :math:`w_k = \sum_{i \in k} r_i / \sum_i r_i`.
    Its standard error is that of the mean of :math:`r_i (1[i \in k] - w_k)` within the strata (the
    delta method), divided by the mean of r. Errors are doubled if a ratio is more than 5 times the
    mean.

    Parameters
    ----------
    sample : WeightedSample
    region : array of int, shape (n,)
        Region of each draw, -1 where the target is zero.
    k : int
        Number of regions.

    Returns
    -------
    Weights
    """
    ratio, shift = sample.ratio, sample.shift
    share, se = mode_errors(sample, region, k)
    mean = ratio.mean()
    mass = sample.group_means(region, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_z = np.log(mass) + shift
        log_se = sample.group_errors(region, np.zeros(k)) / mass
    factor = error_factor(sample.ratio)
    log_se = np.where(mass > 0, log_se * factor, np.inf)
    total_se = float(sample.standard_error(ratio)[0] / mean * factor)
    if k == 1:
        share, se = np.ones(1), np.zeros(1)
    return Weights(
        weight=share,
        weight_se=se,
        log_evidence=log_z,
        log_evidence_se=log_se,
        interval=weight_intervals(share, se),
        total=sample.log_evidence,
        total_se=total_se,
        pareto_k=np.array(
            [tail_index(sample.log_ratio[rows]) for rows in rows_of_groups(region, k)]
        ),
        from_draws=np.zeros(k),
        from_proposals=log_se**2,
        bounds=evidence_bounds(log_z, log_se),
        iterations=tuple(np.array([value]) for value in log_z),
    )


def weight_intervals(share: np.ndarray, se: np.ndarray) -> np.ndarray:
    """95 % intervals of weights by their standard errors, shape (K, 2); one region has no error."""
    if len(share) == 1:
        return np.ones((1, 2))
    interval = logit_interval(share, se / np.maximum(share * (1 - share), SMALLEST_WEIGHT))
    return np.where((share > 0)[:, None], interval, [0.0, 1.0])


def evidence_bounds(log_z: np.ndarray, log_se: np.ndarray) -> np.ndarray:
    """95 % bounds of log evidences, shape (K, 2); NaN for a region without a draw."""
    reach = np.where(np.isfinite(log_se), NORMAL_QUANTILE * log_se, np.nan)
    return np.stack([log_z - reach, log_z + reach], axis=1)


def region_of_draws(partition: Partition, sample: WeightedSample) -> np.ndarray:
    """Region of each draw, shape (n,); -1 where the target is zero."""
    region = np.full(len(sample), -1)
    inside = np.flatnonzero(np.isfinite(sample.log_ratio))
    region[inside] = partition.label(sample.x[inside])
    return region


def systematic_rows(ratio: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Resample n rows by their ratios (systematic resampling), in increasing order, shape (n,)."""
    cumulative = np.cumsum(ratio)
    place = (np.arange(n) + rng.random()) / n * cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, place), len(ratio) - 1)


def region_weights(partition: Partition, sample: WeightedSample) -> tuple[np.ndarray, Weights]:
    """Label a sample by region, and weigh the regions.

    Parameters
    ----------
    partition : Partition
    sample : WeightedSample

    Returns
    -------
    region : array of int, shape (n,)
        Region of each draw, -1 where the target is zero.
    weights : Weights
    """
    region = region_of_draws(partition, sample)
    return region, weights_of_sample(sample, region, partition.n_regions)


def region_draws(
    sample: WeightedSample,
    region: np.ndarray,
    centre: np.ndarray,
    n_grad: int,
    rng: np.random.Generator,
) -> RegionDraws:
    """Resample draws of each region by their ratios (systematic resampling).

    Parameters
    ----------
    sample : WeightedSample
    region : array of int, shape (n,)
        Region of each draw, -1 where the target is zero.
    centre : array of shape (K, d)
        A point of each region.
    n_grad : int
        Length of the last axis of the gradients, which are not known: NaN.
    rng : numpy.random.Generator

    Returns
    -------
    RegionDraws
        16 chains of 50 draws of each region, in random order.
    """
    x, logp, ess = [], [], []
    d, n = centre.shape[1], CHAINS * DRAWS
    for k, rows in enumerate(rows_of_groups(region, len(centre))):
        rows = rows[sample.ratio[rows] > 0]
        if not len(rows):
            # A limit has left the region without a draw: its centre stands for it.
            x.append(np.tile(centre[k], (CHAINS, DRAWS, 1)))
            logp.append(np.full((CHAINS, DRAWS), np.nan))
            ess.append(0.0)
            continue
        ratio = sample.ratio[rows]
        picked = rng.permutation(rows[systematic_rows(ratio, n, rng)])
        x.append(sample.x[picked].reshape(CHAINS, DRAWS, d))
        logp.append(sample.logp[picked].reshape(CHAINS, DRAWS))
        ess.append(ratio.sum() ** 2 / np.sum(ratio**2))
    grad = tuple(np.full((CHAINS, DRAWS, n_grad), np.nan) for _ in centre)
    return RegionDraws(tuple(x), tuple(logp), grad, centre, np.array(ess))
