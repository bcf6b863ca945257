"""Whether a first answer is precise, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, ndtri

from pymc_multimodal._compat import MIN_RATIOS, pareto_k, tail_size
from pymc_multimodal.approximation.sample import rows_of_groups
from pymc_multimodal.evidence import LOG_EVIDENCE_FACTOR, MAX_LOG_EVIDENCE_SE
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.approximation.sample import WeightedSample
    from pymc_multimodal.approximation.settings import FirstAnswer

__all__ = ["Verdict", "error_factor", "judge", "mode_errors", "tail_index"]

# Ratios below this many times their mean are bounded: a tail index says nothing of them, and
# above it a standard error of the sample is doubled. Measured: examples/benchmarks/exits.py
BOUNDED_RATIO, ERROR_FACTOR = 5.0, 2.0
# Largest difference between two samples, in standard errors of the difference: of the log
# evidence, and of the largest of K shares. Conventional: 3.5 is exceeded once in 2,000 times.
MAX_DIFFERENCE, MAX_SHARE_DIFFERENCE = 3.5, 4.0
# What shares differ by through rounding alone, where one mode holds all.
ROUNDING = 1e-9
# Draws of a sample for which the limits of `FirstAnswer` on single draws and single modes hold. A
# draw of 20 times the mean is a hundredth of such a sample, and a smaller part of a larger one:
# these limits are wider by the square root of the sample's size, which leaves the draw a smaller
# part still. Measured: examples/benchmarks/exits.py
USUAL_DRAWS = 2000
# A mode that holds less than this part of the error asked for, with three standard errors, is not
# judged. Conventional.
NEGLIGIBLE = 0.1
# Tail index from which on ratios have no mean (Vehtari et al. 2024). That is all that is asked of
# modes which hold less than the error asked for, with three standard errors, and of all of them
# together, since of many indices of few ratios some are large by chance: a part of their mass that
# their draws have not met is smaller still, and the errors of weights allow for the rest.
NO_MEAN = 1.0
# Tail index up to which an importance sampling estimate of n ratios is reliable: the smaller of
# this and 1 - 1 / log10(n) (Vehtari et al. 2024, section 3.2.4). No mode may have a larger one.
RELIABLE = 0.7


@dataclass(frozen=True)
class Verdict:
    """What a sample says of its own precision.

    Attributes
    ----------
    reasons : tuple of str
        What forbids to end the fit here; empty if nothing does.
    missing : float
        By how much the sample is too small for the errors asked for; 1 if it is large enough.
    missing_of : array of shape (K + 1,) or None
        The same for the draws of each member of the mixture.
    ess : float
        Effective sample size, as a share of the sample.
    pareto_k : float
        Tail index of the importance ratios.
    largest : float
        Largest ratio relative to the mean.
    doubted : tuple of int
        Modes whose own draws speak against them, if nothing else forbids to end the fit.
    """

    reasons: tuple[str, ...]
    missing: float
    ess: float
    pareto_k: float
    largest: float
    missing_of: np.ndarray | None = None
    doubted: tuple[int, ...] = ()

    @classmethod
    def unknown(cls) -> Verdict:
        """Return the verdict on no sample."""
        return cls((), np.inf, 0.0, np.nan, np.inf)

    @property
    def precise(self) -> bool:
        """Whether the fit can be ended here."""
        return not self.reasons and self.missing <= 1.0

    @property
    def reliable(self) -> bool:
        """Whether the tail index of the whole sample is one of a reliable estimate."""
        return self.pareto_k < RELIABLE


def judge(
    sample: WeightedSample,
    before: WeightedSample,
    mode: np.ndarray,
    mode_before: np.ndarray,
    settings: FirstAnswer,
    target_se: float,
) -> Verdict:
    """Judge a sample that no density was fitted to.

    Parameters
    ----------
    sample, before : WeightedSample
        The sample, and an earlier one.
    mode, mode_before : arrays of int, shape (n,)
        Mode that each draw belongs to, -1 for none.
    settings : FirstAnswer
    target_se : float
        Standard error asked for of every weight.

    Returns
    -------
    Verdict
    """
    ratio = sample.ratio
    mean = ratio.mean()
    if not mean > 0:
        return replace(Verdict.unknown(), reasons=("no draw has a positive density",))
    # Limits on single draws and single modes.
    wider = float(np.sqrt(max(len(sample) / USUAL_DRAWS, 1.0)))
    single = replace(
        settings,
        max_ratio=wider * settings.max_ratio,
        min_mode_ess=settings.min_mode_ess / wider,
    )
    reasons = []
    ess = float(mean**2 / np.mean(ratio**2))
    largest, tail = float(ratio.max() / mean), pareto_k(sample.log_ratio)
    if ess < settings.min_ess:
        reasons.append(f"the effective sample size is {ess:.2f} of the sample")
    if largest > single.max_ratio:
        reasons.append(f"one draw weighs {largest:.0f} times the mean")
    if largest > BOUNDED_RATIO and not tail < settings.max_pareto_k:
        reasons.append(f"the tail index of the importance ratios is {tail:.2f}")
    k = len(sample.counts) - 1
    share, se = mode_errors(sample, mode, k)
    rows, most = rows_of_groups(mode, k), share + 3 * se
    reasons += _differences(sample, before, (share, se), mode_errors(before, mode_before, k))
    of_modes, doubted = _of_modes(sample, rows, most, single, target_se)
    doubted = () if reasons else doubted
    missing_of = _missing(sample, share, se, mode, target_se)
    missing = float(missing_of @ sample.counts) / len(sample)
    return Verdict((*reasons, *of_modes), missing, ess, tail, largest, missing_of, doubted)


def _of_modes(
    sample: WeightedSample,
    rows: list[np.ndarray],
    most: np.ndarray,
    settings: FirstAnswer,
    target_se: float,
) -> tuple[list[str], tuple[int, ...]]:
    """Return what speaks against single modes, and which these are.

    `rows` are the draws of each mode, `most` the share that it may hold.
    """
    reasons: list[str] = []
    doubted: list[int] = []
    heavy = np.flatnonzero(most >= target_se).tolist()
    for i in heavy:
        limit = _largest_index(settings.max_pareto_k, len(rows[i]), len(heavy))
        limits = replace(settings, max_pareto_k=limit)
        own = _of_mode(sample.log_ratio[rows[i]], i, int(sample.counts[i]), limits)
        reasons += own
        doubted += [i] if own else []
    small = np.flatnonzero((most >= NEGLIGIBLE * target_se) & (most < target_se)).tolist()
    own = _of_small_modes([sample.log_ratio[rows[i]] for i in small], sample.log_evidence)
    return reasons + own, tuple(doubted + small if own else doubted)


def mode_errors(sample: WeightedSample, mode: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mass of each of k modes, and its standard error; two arrays of shape (k,).

    The errors are doubled if a ratio is more than 5 times the mean.
    """
    mean = max(float(sample.ratio.mean()), 1e-300)
    share = sample.group_means(mode, k) / mean
    se = sample.group_errors(mode, share) / mean
    return share, se * error_factor(sample.ratio)


def tail_index(log_ratio: np.ndarray) -> float:
    """Tail index of ratios; NaN where none is more than 5 times the mean: it then says nothing."""
    high = log_ratio.max(initial=-np.inf)
    if not np.isfinite(high) or np.exp(log_ratio - high).mean() * BOUNDED_RATIO >= 1.0:
        return float("nan")
    return pareto_k(log_ratio)


def error_factor(ratio: np.ndarray) -> float:
    """Factor of the standard errors by ratios: 2 if one is more than 5 times the mean."""
    return ERROR_FACTOR if ratio.max() > BOUNDED_RATIO * ratio.mean() else 1.0


def _largest_index(limit: float, n: int, k: int) -> float:
    """Limit of one of k estimated tail indices, of n ratios.

    The largest of k estimates of one index exceeds it by chance: in half of all cases by more than
    this does, which is no more than the limit for k = 1. An estimate by m tail ratios has the
    standard error (1 + index) / sqrt(m), that of maximum likelihood (Smith 1987,
    doi:10.1214/aos/1176350499).
    """
    reliable = min(1.0 - 1.0 / np.log10(max(n, MIN_RATIOS)), RELIABLE)
    standard_error = (1.0 + limit) / np.sqrt(max(tail_size(n), 1.0))
    by_chance = ndtri(1.0 - 0.5 / max(k, 1)) * standard_error
    return max(limit, min(limit + float(by_chance), float(reliable)))


def _of_small_modes(log_ratios: list[np.ndarray], log_mean: float) -> list[str]:
    """Return what speaks against modes of little mass, by the log ratios of the draws of each.

    Of few draws there is no tail index: none of them may weigh more than a draw of a large mode,
    with the log of the mean ratio `log_mean`. Modes of little mass have more draws than their mass
    asks for, so that the ratios of most are far below the mean.
    """
    # Each relative to its mean: one mode may have more draws for its mass than another.
    centred = [r - logsumexp(r) + np.log(len(r)) for r in log_ratios if np.isfinite(r).any()]
    if not centred or (tail := pareto_k(np.concatenate(centred))) < NO_MEAN:
        return []
    largest = max(float(r.max()) for r in log_ratios if len(r))
    if np.isnan(tail) and largest <= log_mean + np.log(BOUNDED_RATIO):
        return []
    return [f"the tail index in {counted(len(centred), 'small mode')} is {tail:.2f}"]


def _of_mode(log_ratio: np.ndarray, i: int, n: int, settings: FirstAnswer) -> list[str]:
    """Return what speaks against one mode, by the log ratios of its draws.

    `n` draws are of the density of the mode. Further ones are of the wide density: where that has
    none of the mass, they say nothing of the mode.
    """
    ratio = np.exp(log_ratio - log_ratio.max(initial=-np.inf)) if len(log_ratio) else np.zeros(0)
    if not ratio.sum() > 0:
        return [f"mode {i} has no draw"]
    n, out = min(n, len(ratio)), []
    ess, largest = float(ratio.sum() ** 2 / np.sum(ratio**2)) / n, float(n / ratio.sum())
    if ess < settings.min_mode_ess:
        out.append(f"the effective sample size in mode {i} is {ess:.2f} of its draws")
    if largest > settings.max_ratio:
        out.append(f"one draw in mode {i} weighs {largest:.0f} times the mean")
    if largest > BOUNDED_RATIO and not (tail := pareto_k(log_ratio)) < settings.max_pareto_k:
        out.append(f"the tail index in mode {i} is {tail:.2f}")
    return out


def _differences(
    sample: WeightedSample,
    before: WeightedSample,
    now: tuple[np.ndarray, np.ndarray],
    then: tuple[np.ndarray, np.ndarray],
) -> list[str]:
    """Compare the evidences and the shares of two samples."""
    out = []
    gap = abs(sample.log_evidence - before.log_evidence)
    errors = [float(s.standard_error(s.ratio)[0]) / max(s.ratio.mean(), 1e-300)
              for s in (sample, before)]  # fmt: skip
    if not gap <= MAX_DIFFERENCE * np.hypot(*errors):
        out.append(f"two samples differ by {gap:.2g} nats in log evidence")
    difference = np.abs(now[0] - then[0])
    error = MAX_SHARE_DIFFERENCE * np.hypot(now[1], then[1])
    if (difference > error + ROUNDING).any():
        out.append(f"two samples differ by {difference.max():.2g} in the mass of a mode")
    return out


def _missing(
    sample: WeightedSample,
    share: np.ndarray,
    se: np.ndarray,
    mode: np.ndarray,
    target_se: float,
) -> np.ndarray:
    """Return by which factors the draws of each member are too few for the errors asked for."""
    mean = sample.ratio.mean()
    factor = error_factor(sample.ratio)
    total = factor * float(sample.standard_error(sample.ratio)[0]) / mean
    worst = max(float(se.max()) / target_se, total / (LOG_EVIDENCE_FACTOR * target_se))
    rows = np.flatnonzero(share > NEGLIGIBLE * target_se)
    each = sample.group_errors(mode, np.zeros(len(share)))[rows] / mean / share[rows]
    out = np.full(len(share) + 1, max(1.0, worst**2))
    # The evidence of one mode needs more draws of this mode only.
    out[rows] = np.maximum(out[rows], (each * factor / MAX_LOG_EVIDENCE_SE) ** 2)
    return out
