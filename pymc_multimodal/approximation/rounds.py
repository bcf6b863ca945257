"""The first answer: a mixture over the modes, fitted to weighted samples and judged by fresh ones.

Population Monte Carlo (Cappe et al. 2008, doi:10.1007/s11222-008-9059-x) from Laplace's
approximations, with an exit if a sample that nothing was fitted to is precise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation.answer import LEAST_OF_MODE, Approximation, draw, judged
from pymc_multimodal.approximation.expansions import Expansions
from pymc_multimodal.approximation.mixture import first_mixture, with_densities
from pymc_multimodal.approximation.patches import patched, patched_at
from pymc_multimodal.approximation.pool import Pool
from pymc_multimodal.approximation.products import product_densities
from pymc_multimodal.approximation.refit import refitted, with_draws
from pymc_multimodal.approximation.surroundings import with_surroundings
from pymc_multimodal.approximation.verdict import Verdict
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import LeftOut, ModeMixture
    from pymc_multimodal.approximation.sample import WeightedSample
    from pymc_multimodal.approximation.settings import FirstAnswer
    from pymc_multimodal.search import Modes, StartDistribution
    from pymc_multimodal.target.target import Target

__all__ = [
    "MAX_ENLARGED",
    "MAX_GROWTH",
    "approximate",
    "approximate_again",
    "approximate_further",
    "approximate_met",
    "approximate_regions",
    "begin_mixture",
    "first_round",
    "fitted_to_samples",
]

# Draws of the first sample and of the later ones: at least, for each mode, and for each dimension.
# Measured: examples/benchmarks/exits.py
FIRST_DRAWS, FIRST_PER_MODE, FIRST_PER_DIMENSION = 1000, 60, 10
DRAWS, PER_MODE, PER_DIMENSION = 2000, 150, 20
# Part of the evaluations that a limit leaves for the first sample, and the least size of a sample.
# Conventional: a quarter; two hundred ratios have a tail of thirty.
FIRST_SHARE, LEAST_DRAWS = 0.25, 200
# Largest sample, in units of the smallest: beyond it chains are cheaper. Measured:
# examples/benchmarks/exits.py
MAX_GROWTH = 20.0
# Times that a sample is enlarged, since the errors are estimates: after one enlargement they are
# often larger than those asked for by a few per cent. Conventional.
MAX_ENLARGED = 3
# Rounds before chains have explored the modes' surroundings, which give better densities than more
# rounds do. There are more, up to a number, where the mixture is promising. Measured:
# examples/benchmarks/exits.py; examples/benchmarks/hard_kinds.py
FIRST_ROUNDS, MAX_FIRST_ROUNDS = 3, 10
# Growth of the samples from round to round, up to a number of draws if there are no more modes than
# need more: later mixtures have more parts to be fitted. Measured: examples/benchmarks/exits.py
GROWTH, MAX_DRAWS = 1.25, 15_000
# Rounds go on while the perplexity of one of the last three samples exceeds those of all before by
# this factor, or this part of a sample: its parts then describe the modes, and fewer and fewer
# draws are too heavy. Measured: examples/benchmarks/hard_kinds.py
PATIENCE, MIN_PROGRESS, NEARLY_PRECISE = 3, 1.1, 0.6
# Rounds at most with parts where chains have met what a precise sample had not. Conventional: two
# to learn what these parts weigh, and one to judge.
MET_ROUNDS = 3
# Rounds at most with densities of the chains inside of the regions. Conventional: half of all.
REGION_ROUNDS = 8
# Perplexity of the first sample below which no further one is drawn before chains have explored.
# Measured: examples/benchmarks/hard_kinds.py
MIN_FIRST_PERPLEXITY = 0.08


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

    This is `begin_mixture` with `first_round` and `approximate_further`.
    """
    mixture = begin_mixture(target, modes, starts, left_out)
    found = first_round(mixture, target, modes, settings, target_se, rng)
    return approximate_further(found, target, settings, target_se, rng)


def begin_mixture(
    target: Target,
    modes: Modes,
    starts: StartDistribution,
    left_out: LeftOut | None = None,
    before: Approximation | None = None,
) -> ModeMixture:
    """Return Laplace's approximations of the modes, with wider densities.

    Parameters
    ----------
    target : Target
        With the cells of its modes, if it is symmetric.
    modes : Modes
        One of each orbit.
    starts : StartDistribution
        What the starts of the search were drawn from.
    left_out : LeftOut, optional
        Modes that hold next to no mass, besides `modes`.
    before : Approximation, optional
        Of fewer modes, or of others: the densities of those that are among `modes` are kept.

    Returns
    -------
    ModeMixture
    """
    images = np.ones(len(modes)) if target.cells is None else target.cells.images
    log_mass = modes.log_mass + np.log(images)
    mixture = first_mixture(modes, log_mass, starts, target.period, left_out)
    mixture = with_surroundings(mixture, modes, log_mass, starts)
    if before is None:
        return mixture
    counterpart = modes.counterparts(before.modes)
    # Another image of a mode lies elsewhere: its density is not that of this one.
    same = (modes.locations == before.modes.locations[counterpart]).all(axis=1)
    return with_densities(mixture, before.mixture, np.where(same, counterpart, -1))


def first_round(
    mixture: ModeMixture,
    target: Target,
    modes: Modes,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Fit a mixture over the modes, and judge it by importance sampling once.

    Parameters
    ----------
    mixture : ModeMixture
        To begin with (`begin_mixture`).
    target : Target
        With the cells of its modes, if it is symmetric.
    modes : Modes
        One of each orbit.
    settings : FirstAnswer
    target_se : float
        Standard error asked for of every weight.
    rng : numpy.random.Generator

    Returns
    -------
    Approximation

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before a sample was judged.
    """
    k, d = modes.locations.shape
    # A density that was fitted before may have parts.
    parts = max(len(q.undefended.df) for q in mixture.densities[:-1]) > 1
    n = max(FIRST_DRAWS, FIRST_PER_MODE * k, FIRST_PER_DIMENSION * d)
    room = max(target.density.room() * FIRST_SHARE, LEAST_DRAWS)
    sample, mixture = draw(target, mixture, int(min(n, room)), rng)
    pool = Pool.begun(sample, mixture)
    mixture = refitted(mixture, sample, rng, parts=parts)
    begun = Approximation(modes, mixture, sample, Verdict.unknown(), pool, 0)
    return _rounds(begun, target, replace(settings, rounds=1), target_se, rng)


def approximate_further(
    found: Approximation,
    target: Target,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Make the other rounds that come before chains explore; at a limit the last one stands.

    Parameters
    ----------
    found : Approximation
    target : Target
    settings : FirstAnswer
    target_se : float
    rng : numpy.random.Generator

    Returns
    -------
    Approximation
    """
    found, gained = _with_products(found, target, settings, target_se, rng)
    if found.sample.perplexity < MIN_FIRST_PERPLEXITY and not gained:
        return found
    for rounds in (FIRST_ROUNDS, MAX_FIRST_ROUNDS):
        rounds = min(rounds, settings.rounds)
        promising = rounds <= FIRST_ROUNDS or found.promising
        if found.verdict.precise or found.rounds >= rounds or not promising:
            break
        mixture = fitted_to_samples(found, rng, target)
        begun, few = replace(found, mixture=mixture), replace(settings, rounds=rounds)
        with suppress(LimitReached):
            found = _rounds(begun, target, few, target_se, rng)
    return found


def _with_products(
    found: Approximation,
    target: Target,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> tuple[Approximation, bool]:
    """Make a round with densities of independent coordinates, if a mode gains by one."""
    if found.verdict.precise or found.rounds >= settings.rounds:
        return found, False
    products = product_densities(found, target, _sample_size(found.modes), rng)
    if not products:
        return found, False
    refit = refitted(found.mixture, found.pool.joint(), rng, parts=True)
    densities = tuple(products.get(k, q) for k, q in enumerate(refit.densities))
    begun = replace(found, mixture=replace(refit, densities=densities))
    with suppress(LimitReached):
        one = replace(settings, rounds=found.rounds + 1)
        found = _rounds(begun, target, one, target_se, rng)
    return found, True


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


def approximate_met(
    found: Approximation,
    target: Target,
    x: np.ndarray,
    logp: np.ndarray,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Go on with parts where draws of chains are too heavy for the mixture (see `met`).

    Such a place may hold much mass or next to none, as a mode does that is far smaller than the
    error asked for: draws of the parts tell.

    Parameters
    ----------
    found : Approximation
        That was precise.
    target : Target
    x : array of shape (n, d)
        Draws of chains of the density.
    logp : array of shape (n,)
        Log densities there.
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
    y = target.fold(x)
    log_p = logp + target.log_multiplicity(y) - found.sample.log_evidence
    mixture = patched_at(found.mixture, y, log_p, _expansions(target, found))
    settings = replace(settings, rounds=found.rounds + min(MET_ROUNDS, settings.rounds))
    return _rounds(replace(found, mixture=mixture), target, settings, target_se, rng)


def approximate_regions(
    modes: Modes,
    regions: ModeMixture,
    target: Target,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Begin anew with densities that were fitted to chains inside of the regions.

    Parameters
    ----------
    modes : Modes
        One of each region.
    regions : ModeMixture
        Of the densities of the regions.
    target : Target
    settings : FirstAnswer
    target_se : float
    rng : numpy.random.Generator

    Returns
    -------
    Approximation

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before a sample was judged.
    """
    n = min(_sample_size(modes), max(target.density.room(), 1))
    sample, mixture = draw(target, regions, int(n), rng)
    pool = Pool.begun(sample, mixture)
    begun = Approximation(modes, mixture, sample, Verdict.unknown(), pool, 0, by_chains=True)
    begun = replace(begun, mixture=fitted_to_samples(begun, rng, target))
    settings = replace(settings, rounds=min(settings.rounds, REGION_ROUNDS))
    return _rounds(begun, target, settings, target_se, rng)


def _rounds(
    found: Approximation,
    target: Target,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Draw, judge and refit until a sample is precise, or rounds no longer help."""
    mixture, first, perplexities = found.mixture, found.rounds, []
    k, n = len(found.modes), _sample_size(found.modes)
    for i in range(found.rounds, settings.rounds):
        before = found.sample
        room = max(target.density.room() - LEAST_OF_MODE * k, LEAST_DRAWS)
        try:
            size = min(max(n, min(n * GROWTH**i, MAX_DRAWS)), room)
            sample, mixture = draw(target, mixture, int(size), rng)
        except LimitReached:
            if i == first:
                raise
            break
        verdict = judged(mixture, sample, before, settings, target_se)
        pool = found.pool.with_sample(sample, mixture)
        found = replace(
            found, mixture=mixture, sample=sample, verdict=verdict, pool=pool, rounds=i + 1
        )
        found = _large_enough(found, target, before, settings, target_se, rng)
        if found.verdict.precise and (found.by_chains or i >= FIRST_ROUNDS):
            with suppress(LimitReached):
                found = found.confirmed(target, before, settings, target_se, rng)
        perplexities.append(sample.perplexity)
        if found.verdict.precise or i + 1 == settings.rounds or not _progress(perplexities):
            break
        mixture = fitted_to_samples(found, rng, target)
    return found


def _large_enough(
    found: Approximation,
    target: Target,
    before: WeightedSample,
    settings: FirstAnswer,
    target_se: float,
    rng: np.random.Generator,
) -> Approximation:
    """Enlarge a sample that is too small for the errors asked for, if nothing else is wrong."""
    most = MAX_GROWTH * len(found.sample)
    for _ in range(MAX_ENLARGED):
        verdict = found.verdict
        if verdict.reasons or not 1.0 < verdict.missing <= most / len(found.sample):
            break
        assert verdict.missing_of is not None
        try:
            found = found.enlarged(target, verdict.missing_of, before, settings, target_se, rng)
        except LimitReached:
            break
    return found


def _sample_size(modes: Modes) -> int:
    """Draws of a sample, at least."""
    k, d = modes.locations.shape
    return max(DRAWS, PER_MODE * k, PER_DIMENSION * d)


def fitted_to_samples(
    found: Approximation, rng: np.random.Generator, target: Target | None = None
) -> ModeMixture:
    """Return the mixture fitted anew to all samples, with parts where it is too thin.

    Parameters
    ----------
    found : Approximation
    rng : numpy.random.Generator
    target : Target, optional
        What the curvature at single draws is measured of.
    """
    joint = found.pool.joint()
    mixture = refitted(found.mixture, joint, rng, parts=True)
    return patched(mixture, joint, None if target is None else _expansions(target, found))


def _expansions(target: Target, found: Approximation) -> Expansions:
    """Expansions of the log density, as many as improve a sample like the last one."""
    wide = found.mixture.densities[-1]
    spread = np.sqrt((wide.scales[-1] ** 2).sum(axis=1))
    return Expansions(target, len(found.sample), spread)


def _progress(perplexities: list[float]) -> bool:
    """Tell whether the last rounds have come nearer to a precise sample."""
    last = max(perplexities[-PATIENCE:])
    before = max(perplexities[:-PATIENCE], default=0.0)
    return last > MIN_PROGRESS * before or last > NEARLY_PRECISE
