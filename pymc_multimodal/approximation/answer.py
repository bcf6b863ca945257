"""A first answer: a mixture over the modes with a weighted sample, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.mixture import LEFT_OUT_SHARE, STARTS_SHARE
from pymc_multimodal.approximation.sample import draw_sample, mode_of_draws
from pymc_multimodal.approximation.verdict import (
    BOUNDED_RATIO,
    judge,
    mode_errors,
    tail_index,
)
from pymc_multimodal.approximation.weigh import weights_of_sample
from pymc_multimodal.proposals import RegionalMixture
from pymc_multimodal.status import RAISE_LIMIT, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import LeftOut, ModeMixture
    from pymc_multimodal.approximation.pool import Pool
    from pymc_multimodal.approximation.sample import WeightedSample
    from pymc_multimodal.approximation.settings import FirstAnswer
    from pymc_multimodal.approximation.verdict import Verdict
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.target import Target

__all__ = ["LEAST_OF_MODE", "MAX_EXCESS", "SURPLUS", "Approximation", "draw", "judged"]

# Draws of each mode at least, so that its own ratios can be judged. Conventional: a tail index
# needs 25 ratios.
LEAST_OF_MODE = 50
# Part of a sample by which it is made larger than the error asked for needs, since that is
# estimated. Conventional.
SURPLUS = 1.15
# Log ratio of a draw of the chains above the largest of the sample that forbids an exit: it is
# 7 times as large. Measured: examples/benchmarks/exits.py
MAX_EXCESS = 2.0
# Part of the error asked for that places which an answer did not describe may hold, times the
# largest weight, and standard errors that are added. Conventional: as for modes that are left out.
NEGLIGIBLE, NEGLIGIBLE_ERRORS = 0.3, 3.0
# Perplexity of a sample from which on its mixture describes most of the target. Measured:
# examples/benchmarks/hard_kinds.py
PROMISING = 0.45
# Share of the wide density among the proposals of the kept draws. Conventional: next to nothing.
WIDE_PROPOSALS = 0.01


@dataclass(frozen=True, eq=False)
class Approximation:
    """A mixture over the modes, and a weighted sample of it.

    Attributes
    ----------
    modes : Modes
    mixture : ModeMixture
        Fitted to earlier samples than the last.
    sample : WeightedSample
        The last one.
    verdict : Verdict
        On this sample.
    pool : Pool
        All samples.
    rounds : int
        Samples that were judged.
    by_chains : bool
        Whether the densities were fitted to draws of chains inside of the regions.
    """

    modes: Modes
    mixture: ModeMixture
    sample: WeightedSample
    verdict: Verdict
    pool: Pool
    rounds: int
    by_chains: bool = False

    @property
    def weights(self) -> Weights:
        """Weights of the modes, if each draw belongs to the mode of the largest density."""
        mode = mode_of_draws(self.mixture, self.sample)
        return weights_of_sample(self.sample, mode, self.mixture.n_modes)

    @property
    def promising(self) -> bool:
        """Whether the mixture describes most of the target: further rounds may make it precise."""
        return self.sample.perplexity > PROMISING

    @cached_property
    def generator(self) -> RegionalMixture:
        """Mixture of the same members by their estimated masses; the wide one has a small share."""
        mode = mode_of_draws(self.mixture, self.sample)
        share, _ = mode_errors(self.sample, mode, self.mixture.n_modes)
        # Some mass may be in modes that are left out.
        share = share / max(share.sum(), 1e-300)
        shares = np.append((1.0 - WIDE_PROPOSALS) * share, WIDE_PROPOSALS)
        return RegionalMixture(self.mixture.densities, shares)

    def proposed_ratios(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Log ratios of the target to `generator` at draws of it, shape (n,).

        The draws are those of the sample: rows of one member are independent draws of it.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        """
        generator = self.generator
        first = np.append(0, np.cumsum(self.sample.counts)[:-1])
        member = rng.choice(len(first), size=n, p=generator.weights)
        rows = first[member] + rng.integers(self.sample.counts[member])
        logp, out = self.sample.logp[rows], np.full(n, -np.inf)
        inside = np.flatnonzero(np.isfinite(logp))
        out[inside] = logp[inside] + generator.minus_log_q(self.sample.x[rows[inside]], rng)
        return out

    def drawn_ratios(self, sample: WeightedSample, n: int, rng: np.random.Generator) -> np.ndarray:
        """Log ratios of the target to `generator` at n draws of the target, shape (n,).

        Parameters
        ----------
        sample : WeightedSample
            The draws are resampled from it by weight.
        n : int
        rng : numpy.random.Generator
        """
        rows = np.flatnonzero(np.isfinite(sample.logp))
        ratio = sample.logp[rows] + self.generator.minus_log_q(sample.x[rows], rng)
        share = sample.ratio[rows]
        out: np.ndarray = ratio[rng.choice(len(rows), size=n, p=share / share.sum())]
        return out

    def met(
        self, target: Target, x: np.ndarray, logp: np.ndarray, left_out: LeftOut | None = None
    ) -> Approximation:
        """Return the approximation with what chains have found that the sample had not.

        A part of the posterior that hides beside a mode, without an optimum of its own, is not
        reached by a mixture over the modes; chains that begin at the modes walk there.

        Parameters
        ----------
        target : Target
        x : array of shape (n, d)
            Draws of chains of the density.
        logp : array of shape (n,)
            Log densities there.
        left_out : LeftOut, optional
            Modes of which a sample has shown that they hold next to no mass: draws there are no
            news.
        """
        y = target.fold(x)
        log_q = self.mixture.log_density(y)
        if left_out is not None and len(left_out):
            wide = self.mixture.densities[-1]
            more = left_out.density(wide.period, wide.centre)
            log_share = np.log(LEFT_OUT_SHARE * STARTS_SHARE)
            log_q = np.logaddexp(log_q, log_share + more.log_density(y))
        ratio = logp + target.log_multiplicity(y) - log_q
        excess = float(np.max(ratio[np.isfinite(ratio)], initial=-np.inf)) - self.sample.shift
        if excess < MAX_EXCESS:
            return self
        reason = f"chains met a log ratio {excess:.1f} above the largest of the sample"
        reasons = (*self.verdict.reasons, reason)
        return replace(self, verdict=replace(self.verdict, reasons=reasons))

    def adds_next_to_nothing(self, before: Approximation, target_se: float) -> bool:
        """Whether places that an earlier answer did not describe hold next to no mass.

        Those are the draws whose log ratio to the earlier mixture is as far above the largest of
        its sample as forbids an exit. Their mass, with three standard errors, is to be below 0.3 of
        the error asked for, times the largest weight: of a place of more, parts that were added
        at a few points may describe a part only.

        Parameters
        ----------
        before : Approximation
        target_se : float
        """
        rows = np.flatnonzero(np.isfinite(self.sample.logp))
        ratio = self.sample.logp[rows] - before.mixture.log_density(self.sample.x[rows])
        group = np.full(len(self.sample), -1)
        group[rows[ratio > before.sample.shift + MAX_EXCESS]] = 0
        share, se = mode_errors(self.sample, group, 1)
        limit = NEGLIGIBLE * target_se * float(self.weights.weight.max())
        return bool(share[0] + NEGLIGIBLE_ERRORS * se[0] < limit)

    def enlarged(
        self,
        target: Target,
        factor: float | np.ndarray,
        before: WeightedSample,
        settings: FirstAnswer,
        target_se: float,
        rng: np.random.Generator,
    ) -> Approximation:
        """Return the approximation with a larger sample, judged anew.

        Parameters
        ----------
        target : Target
        factor : float or array of shape (K + 1,)
            By which the draws of each member of the mixture are too few.
        before : WeightedSample
            An earlier sample to compare with.
        settings : FirstAnswer
        target_se : float
        rng : numpy.random.Generator
        """
        wanted = self.sample.counts * (SURPLUS * np.asarray(factor) - 1.0)
        counts = np.maximum(np.ceil(wanted), 1).astype(int)
        more_mixture = replace(self.mixture, shares=counts / counts.sum())
        more = draw_sample(target, more_mixture, counts, rng)
        sample, mixture = _joined(more_mixture, self.sample, more)
        verdict = judged(mixture, sample, before, settings, target_se)
        pool = self.pool.with_sample(more, more_mixture)
        return replace(self, mixture=mixture, sample=sample, verdict=verdict, pool=pool)

    def confirmed(
        self,
        target: Target,
        before: WeightedSample,
        settings: FirstAnswer,
        target_se: float,
        rng: np.random.Generator,
    ) -> Approximation:
        """Return the approximation with as many draws again, judged anew.

        Of many samples one looks precise at last if its draws happen to miss what is too heavy:
        further draws, which nothing was chosen by, do not miss the same.

        Parameters
        ----------
        target : Target
        before : WeightedSample
            An earlier sample to compare with.
        settings : FirstAnswer
        target_se : float
        rng : numpy.random.Generator
        """
        return self.enlarged(target, 2.0 / SURPLUS, before, settings, target_se, rng)

    def redrawn(
        self,
        target: Target,
        n: int,
        settings: FirstAnswer,
        target_se: float,
        rng: np.random.Generator,
    ) -> Approximation:
        """Return the approximation with a fresh sample of about n draws, and a verdict on it.

        Nothing was chosen by this sample: its estimates are free of the bias of a sample that was
        taken since it looked precise.

        Parameters
        ----------
        target : Target
        n : int
        settings : FirstAnswer
        target_se : float
        rng : numpy.random.Generator
        """
        sample, mixture = draw(target, self.mixture, n, rng)
        verdict = judged(mixture, sample, self.sample, settings, target_se)
        pool = self.pool.with_sample(sample, mixture)
        return replace(self, mixture=mixture, sample=sample, verdict=verdict, pool=pool)

    @property
    def heavy_draws(self) -> np.ndarray:
        """Draws that weigh more than 5 times the mean, one for each mode that they belong to.

        The target is higher there than the mixture knows: the tail of a mode, or a mode that no
        climb has led to. Shape (m, d), the heaviest first.
        """
        sample = self.sample
        rows = np.flatnonzero(sample.ratio > BOUNDED_RATIO * sample.ratio.mean())
        rows = rows[np.argsort(-sample.ratio[rows], kind="stable")]
        if not len(rows):
            return sample.x[:0]
        first = np.unique(self.mixture.label(sample.x[rows]), return_index=True)[1]
        out: np.ndarray = sample.x[rows[np.sort(first)]]
        return out

    @property
    def status(self) -> Status:
        """What ended the fit, in numbers."""
        v, index = self.verdict, tail_index(self.sample.log_ratio)
        tail = "" if np.isnan(index) else f", tail index {index:.2f}"
        where, chains = "at the modes", "No chains were run in the regions."
        if self.by_chains:
            where, chains = (
                "of the regions",
                "For this the chains in the regions need not have mixed.",
            )
        return Status(
            "first_answer",
            "approximation",
            f"importance sampling from densities {where} was precise: effective size "
            f"{v.ess:.0%} of {counted(len(self.sample), 'draw')}{tail}, largest ratio "
            f"{v.largest:.1f} times the mean. {chains}",
            "first_answer=False runs the chains until they mix, and the challenge.",
            level="info",
        )

    @property
    def unconfirmed_status(self) -> Status:
        """What a sample is worth that no chain has confirmed, since a limit was reached."""
        cause = (
            "a limit was reached before chains could confirm the importance sampling from "
            f"densities at the modes (effective size {self.verdict.ess:.0%} of "
            f"{counted(len(self.sample), 'draw')})"
        )
        if self.verdict.precise:
            cause += ": a part of the posterior near a mode may be missing."
        else:
            cause += ": weights and log evidence are its estimates, and their errors are not known."
        return Status("first_answer", "approximation", cause, RAISE_LIMIT)


def judged(
    mixture: ModeMixture,
    sample: WeightedSample,
    before: WeightedSample,
    settings: FirstAnswer,
    target_se: float,
) -> Verdict:
    """Judge a sample; `before` is an earlier one."""
    return judge(
        sample,
        before,
        mode_of_draws(mixture, sample),
        mode_of_draws(mixture, before),
        settings,
        target_se,
    )


def draw(
    target: Target, mixture: ModeMixture, n: int, rng: np.random.Generator
) -> tuple[WeightedSample, ModeMixture]:
    """Draw about n points, at least 50 of each mode; the mixture gets the shares of the counts."""
    counts = np.ceil(n * mixture.shares).astype(int)
    counts[:-1] = np.maximum(counts[:-1], LEAST_OF_MODE)
    mixture = replace(mixture, shares=counts / counts.sum())
    return draw_sample(target, mixture, counts, rng), mixture


def _joined(
    mixture: ModeMixture, sample: WeightedSample, more: WeightedSample
) -> tuple[WeightedSample, ModeMixture]:
    counts = sample.counts + more.counts
    mixture = replace(mixture, shares=counts / counts.sum())
    return sample.joined(more, mixture), mixture
