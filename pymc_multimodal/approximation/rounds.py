"""The first answer: a mixture over the modes, fitted to weighted samples and judged by fresh ones.

Population Monte Carlo (Cappe et al. 2008, doi:10.1007/s11222-008-9059-x) from Laplace's
approximations, with an exit if a sample that nothing was fitted to is precise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.mixture import (
    LEFT_OUT_SHARE,
    STARTS_SHARE,
    LeftOut,
    ModeMixture,
    first_mixture,
)
from pymc_multimodal.approximation.patches import patched
from pymc_multimodal.approximation.pool import Pool
from pymc_multimodal.approximation.refit import refitted, with_draws
from pymc_multimodal.approximation.sample import WeightedSample, draw_sample, mode_of_draws
from pymc_multimodal.approximation.verdict import Verdict, judge, mode_errors
from pymc_multimodal.approximation.weigh import weights_of_sample
from pymc_multimodal.proposals import RegionalMixture
from pymc_multimodal.status import LimitReached, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.approximation.settings import FirstAnswer
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import Modes, StartDistribution
    from pymc_multimodal.target.target import Target

__all__ = ["MAX_GROWTH", "Approximation", "approximate", "approximate_again"]

# Draws of the first sample and of the later ones: at least, for each mode, and for each dimension.
# Measured: examples/benchmarks/exits.py
FIRST_DRAWS, FIRST_PER_MODE, FIRST_PER_DIMENSION = 1000, 60, 10
DRAWS, PER_MODE, PER_DIMENSION = 2000, 150, 20
# Part of the evaluations that a limit leaves for the first sample, and the least size of a sample.
# Conventional: a quarter; two hundred ratios have a tail of thirty.
FIRST_SHARE, LEAST_DRAWS = 0.25, 200
# Draws of each mode at least, so that its own ratios can be judged. Conventional: a tail index
# needs 25 ratios.
LEAST_OF_MODE = 50
# Part of a sample by which it is made larger than the error asked for needs, since that is
# estimated. Conventional.
SURPLUS = 1.15
# Largest sample, in units of the smallest: beyond it chains are cheaper. Measured:
# examples/benchmarks/exits.py
MAX_GROWTH = 20.0
# Log ratio of a draw of the chains above the largest of the sample that forbids an exit: it is
# 7 times as large. Measured: examples/benchmarks/exits.py
MAX_EXCESS = 2.0
# Share of the wide density among the proposals of the kept draws. Conventional: next to nothing.
WIDE_PROPOSALS = 0.01
# Rounds before chains have explored the modes' surroundings, which give better densities than more
# rounds do. Measured: examples/benchmarks/exits.py
FIRST_ROUNDS = 3
# Growth of the samples from round to round: later mixtures have more parts to be fitted. Measured:
# examples/benchmarks/exits.py
GROWTH = 1.25
# Gain in effective size, as a share of a sample, that is expected of each round in the mean; no
# further sample is drawn where it is less. Measured: examples/benchmarks/exits.py; of 14 models
# this ended 7 that would not have come to an exit, and none that would.
GAIN_PER_ROUND = 0.08


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
    """

    modes: Modes
    mixture: ModeMixture
    sample: WeightedSample
    verdict: Verdict
    pool: Pool
    rounds: int

    @property
    def weights(self) -> Weights:
        """Weights of the modes, if each draw belongs to the mode of the largest density."""
        mode = mode_of_draws(self.mixture, self.sample)
        return weights_of_sample(self.sample, mode, self.mixture.n_modes)

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

    def enlarged(
        self,
        target: Target,
        factor: float,
        before: WeightedSample,
        settings: FirstAnswer,
        target_se: float,
        rng: np.random.Generator,
    ) -> Approximation:
        """Return the approximation with a larger sample, judged anew.

        Parameters
        ----------
        target : Target
        factor : float
            By which the sample is too small.
        before : WeightedSample
            An earlier sample to compare with.
        settings : FirstAnswer
        target_se : float
        rng : numpy.random.Generator
        """
        n = int(len(self.sample) * (SURPLUS * factor - 1.0))
        more, more_mixture = _draw(target, self.mixture, n, rng)
        sample, mixture = _joined(more_mixture, self.sample, more)
        verdict = _judged(mixture, sample, before, settings, target_se)
        pool = self.pool.with_sample(more, more_mixture)
        return replace(self, mixture=mixture, sample=sample, verdict=verdict, pool=pool)

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
        sample, mixture = _draw(target, self.mixture, n, rng)
        verdict = _judged(mixture, sample, self.sample, settings, target_se)
        pool = self.pool.with_sample(sample, mixture)
        return replace(self, mixture=mixture, sample=sample, verdict=verdict, pool=pool)

    @property
    def status(self) -> Status:
        """What ended the fit, in numbers."""
        v = self.verdict
        tail = "" if np.isnan(v.pareto_k) else f", tail index {v.pareto_k:.2f}"
        return Status(
            "first_answer",
            "approximation",
            f"importance sampling from densities at the modes was precise: effective size "
            f"{v.ess:.0%} of {counted(len(self.sample), 'draw')}{tail}, largest ratio "
            f"{v.largest:.1f} times the mean. No chains were run in the regions.",
            "first_answer=False runs them, and the challenge.",
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
            cause += ": a part of the posterior that hides beside a mode may be missing."
        else:
            cause += ": weights and log evidence are its estimates, and their errors are not known."
        return Status("first_answer", "approximation", cause, "Raise the limit.")


def approximate(
    target: Target,
    modes: Modes,
    starts: StartDistribution,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
    left_out: LeftOut | None = None,
) -> Approximation:
    """Fit a mixture over the modes, and judge it by importance sampling.

    Parameters
    ----------
    target : Target
        With the cells of its modes, if it is symmetric.
    modes : Modes
        One of each orbit.
    starts : StartDistribution
        What the starts of the search were drawn from.
    settings : FirstAnswer
    target_se : float
        Standard error asked for of every weight.
    rng : numpy.random.Generator
    left_out : LeftOut, optional
        Modes that hold next to no mass, besides `modes`.

    Returns
    -------
    Approximation

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before a sample was judged.
    """
    k, d = modes.locations.shape
    images = np.ones(k) if target.cells is None else target.cells.images
    log_mass = modes.log_mass + np.log(images)
    mixture = first_mixture(modes, log_mass, starts, target.period, left_out)
    n = max(FIRST_DRAWS, FIRST_PER_MODE * k, FIRST_PER_DIMENSION * d)
    room = max(target.density.room() * FIRST_SHARE, LEAST_DRAWS)
    sample, mixture = _draw(target, mixture, int(min(n, room)), rng)
    pool = Pool.begun(sample, mixture)
    mixture = refitted(mixture, sample, rng, parts=False)
    rounds = min(FIRST_ROUNDS, settings.rounds)
    begun = Approximation(modes, mixture, sample, Verdict.unknown(), pool, 0)
    return _rounds(begun, target, replace(settings, rounds=rounds), target_se, rng)


def approximate_again(
    found: Approximation,
    target: Target,
    draws: np.ndarray,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Go on with a mixture that also describes draws of chains from the modes.

    Parameters
    ----------
    found : Approximation
        That was not precise.
    target : Target
    draws : array of shape (K, n, d)
        Of short chains from each mode; they need not have mixed.
    settings : FirstAnswer
    target_se : float
    rng : numpy.random.Generator

    Returns
    -------
    Approximation

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before a further sample was judged.
    """
    if found.rounds >= settings.rounds:
        return found
    mixture = with_draws(found.mixture, draws, rng)
    return _rounds(replace(found, mixture=mixture), target, settings, target_se, rng)


def _rounds(
    found: Approximation,
    target: Target,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Draw, judge and refit until a sample is precise, or rounds no longer help."""
    mixture, first, best = found.mixture, found.rounds, 0.0
    k, d = found.modes.locations.shape
    n = max(DRAWS, PER_MODE * k, PER_DIMENSION * d)
    for i in range(first, settings.rounds):
        before = found.sample
        room = max(target.density.room() - LEAST_OF_MODE * k, LEAST_DRAWS)
        try:
            sample, mixture = _draw(target, mixture, int(min(n * GROWTH**i, room)), rng)
        except LimitReached:
            if i == first:
                raise
            break
        verdict = _judged(mixture, sample, before, settings, target_se)
        pool = found.pool.with_sample(sample, mixture)
        found = Approximation(found.modes, mixture, sample, verdict, pool, i + 1)
        if not verdict.reasons and 1.0 < verdict.missing <= MAX_GROWTH:
            with suppress(LimitReached):
                found = found.enlarged(target, verdict.missing, before, settings, target_se, rng)
        best = max(best, found.verdict.ess)
        if found.verdict.precise or best < GAIN_PER_ROUND * (i + 1 - first):
            break
        joint = found.pool.joint()
        mixture = patched(refitted(mixture, joint, rng, parts=True), joint)
    return found


def _judged(
    mixture: ModeMixture,
    sample: WeightedSample,
    before: WeightedSample,
    settings: FirstAnswer,
    target_se: float,
) -> Verdict:
    return judge(
        sample,
        before,
        mode_of_draws(mixture, sample),
        mode_of_draws(mixture, before),
        settings,
        target_se,
    )


def _draw(
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
