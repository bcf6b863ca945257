"""Steps of the first answer, with which a fit may end early."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    MAX_GROWTH,
    FirstAnswer,
    LeftOut,
    approximate_again,
    approximate_further,
    approximate_met,
    begin_mixture,
    first_mixture,
    first_round,
    negligible_in_sample,
    region_draws,
    region_weights,
)
from pymc_multimodal.fit.state import Exploration, known, matching_modes
from pymc_multimodal.fit.steps.base import NeededStep, Step
from pymc_multimodal.fit.steps.common import (
    FEW_MODES,
    leaving_out,
    new_modes_of_mass,
    without_negligible,
)
from pymc_multimodal.regions import prolonged
from pymc_multimodal.search import climb_from, modes_of, screen
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation, ModeMixture
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.search import Modes, Search
    from pymc_multimodal.target.density import Density

__all__ = ["Approximate", "CompareWithChains", "Screen", "WeighSample"]

# Screenings at most: each follows new modes that the one before has found. Conventional.
MAX_SCREENINGS = 3
# What speaks against a first answer that does not have all modes.
FURTHER_MODES = "modes were found after it"
# Modes up to which there is a first answer. Conventional: as many as the search has starts.
MAX_MODES = 4096
# Climbs at most from draws of a first answer that weigh too much, and samples at most that follow
# new modes which such climbs found. Conventional.
MAX_CLIMBS, MAX_FURTHER_CLIMBS = 16, 3
# Share of the modes that a sample shows to hold next to no mass from which on they are left out,
# and the others approximated anew: chains from each mode cost 2,000 evaluations, draws of it a few
# hundred. Conventional: half.
MANY_NEGLIGIBLE = 0.5


class Approximate(Step):
    """Fit a mixture over the modes, and judge it by importance sampling."""

    name = "approximate"
    text = "importance sampling from the modes"
    share = 0.9

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once for each set of modes, unless other generators are asked for."""
        if state.exploration is not None or state.must_visit.size or state.approximated:
            return False
        return isinstance(settings.first_answer, FirstAnswer) and settings.may_end_early

    def share_of(self, state: State) -> float:
        """Return nearly all of a limit: the sample gives weights where no other step can."""
        return self.share

    def __call__(self, state: State, run: Run) -> State:
        """Approximate; a model without proper optima is left to the chains."""
        assert isinstance(run.settings.first_answer, FirstAnswer)
        density, rng = run.density, run.rng(self.name)
        search, modes = state.search, modes_of(density, state.search, run.settings.modes)
        if len(modes) > FEW_MODES:
            search = without_negligible(search, modes, np.ones(len(modes), dtype=bool), run, rng)
            modes = modes_of(density, search, run.settings.modes)
        before = state.former
        state = replace(state, search=search, approximated=True, former=None)
        for i in range(MAX_FURTHER_CLIMBS + 1):
            modes = modes_of(density, state.search, run.settings.modes)
            if modes.runaway or len(modes) > MAX_MODES:
                return replace(state, approximation=None)
            try:
                found, more = self._sample(state.search, modes, before, run, rng)
            except LimitReached:
                if state.approximation is None:
                    raise
                break
            before, state = found, replace(state, approximation=found)
            if more is None:
                more = _without_small(found, state.search, run)
            if more is None or i == MAX_FURTHER_CLIMBS:
                break
            state = replace(state, search=more)
        return state

    @staticmethod
    def _sample(
        search: Search,
        modes: Modes,
        before: Approximation | None,
        run: Run,
        rng: np.random.Generator,
    ) -> tuple[Approximation, Search | None]:
        """Approximate, from what was known of the modes before, and climb from the heaviest draws.

        Returns the approximation, and the search with new modes, if climbs have led to any.
        """
        assert isinstance(run.settings.first_answer, FirstAnswer)
        target = Target(run.density, run.cells(search.optima, modes))
        settings, target_se = run.settings.first_answer, run.settings.target_se
        mixture = begin_mixture(
            target, modes, search.distribution, LeftOut.of(search.optima), before
        )
        found = first_round(mixture, target, modes, settings, target_se, rng)
        more = _with_climbs(found, search, run, rng)
        if more is None and not found.verdict.precise:
            found = approximate_further(found, target, settings, target_se, rng)
            more = _with_climbs(found, search, run, rng)
        return found, more


def _without_small(found: Approximation, search: Search, run: Run) -> Search | None:
    """Leave out what a sample shows to hold next to no mass; None unless that is half of the modes.

    A few draws of each had told it of fewer.
    """
    k = len(found.modes)
    if k <= FEW_MODES or not found.verdict.precise:
        return None
    every, target_se = np.ones(k, dtype=bool), run.settings.target_se
    small = negligible_in_sample(found.mixture, found.sample, every, target_se)
    if small.sum() < MANY_NEGLIGIBLE * k:
        return None
    return leaving_out(search, found.modes, small)


def _with_climbs(
    found: Approximation, search: Search, run: Run, rng: np.random.Generator
) -> Search | None:
    """Climb from the heavy draws of a sample: return the search with new modes; None without."""
    points = found.heavy_draws[:MAX_CLIMBS]
    if not len(points):
        return None
    with suppress(LimitReached), run.density.limited():
        search, _ = climb_from(run.density, search, run.settings.modes, points)
        search = new_modes_of_mass(search, found.modes, run, rng)
    modes = modes_of(run.density, search, run.settings.modes)
    return search if matching_modes(modes, found.modes) is None else None


class CompareWithChains(NeededStep):
    """Compare the first answer with the draws of the exploring chains, and go on from them."""

    name = "approximate again"
    text = "importance sampling from the modes and from short chains"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once, when chains have explored the modes of the first answer."""
        return (
            state.exploration is not None
            and state.approximation is not None
            and not state.compared
            and state.division is None
        )

    def __call__(self, state: State, run: Run) -> State:
        """Compare; approximate again what is not precise, or not what the chains have met."""
        assert isinstance(run.settings.first_answer, FirstAnswer)
        exploration, found = known(state.exploration), known(state.approximation)
        modes, pilot = exploration.modes, exploration.pilot
        target = Target(run.density, run.cells(state.search.optima, modes))
        late, logp = _late(pilot.draws), _late(pilot.logp[..., None])[..., 0]
        k, _, d = late.shape
        x, logp = late.reshape(-1, d), logp.ravel()
        left_out = LeftOut.of(state.search.optima)
        before, found = found, found.met(target, x, logp, left_out)
        same = matching_modes(modes, before.modes)
        if same is None:
            # A limit came between the search for further modes and their approximation.
            reasons = (*found.verdict.reasons, FURTHER_MODES)
            found = replace(found, verdict=replace(found.verdict, reasons=reasons))
            return replace(state, approximation=found, compared=True)
        if not before.verdict.precise:
            folded = target.fold(x).reshape(k, -1, d)[np.argsort(same)]
            settings, target_se = run.settings.first_answer, run.settings.target_se
            # Near a limit the answer stays refuted.
            with suppress(LimitReached), run.density.limited():
                before = approximate_again(
                    before, target, folded, settings, target_se, run.rng(self.name)
                )
                found = before.met(target, x, logp, left_out)
        if before.verdict.precise and not found.verdict.precise:
            refuted = _Refuted(before, found, exploration)
            # Samples cost less than chains that are continued.
            for again in (_with_parts, _with_longer_chains, _with_parts):
                # Near a limit the answer stays refuted.
                with suppress(LimitReached), run.density.limited():
                    refuted = again(refuted, target, left_out, run)
                if refuted.found.verdict.precise:
                    break
            found, exploration = refuted.found, refuted.exploration
        return replace(
            state,
            exploration=exploration,
            approximation=found,
            compared=True,
        )


@dataclass(frozen=True)
class _Refuted:
    """A precise answer, what chains have made of it, and these chains."""

    before: Approximation
    found: Approximation
    exploration: Exploration

    def met(self, target: Target, left_out: LeftOut) -> _Refuted:
        """Compare the answer with the chains."""
        return replace(self, found=self.before.met(target, *self.draws(), left_out))

    def draws(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the late draws of all chains, shape (n, d), and their log densities."""
        pilot = self.exploration.pilot
        late, logp = _late(pilot.draws), _late(pilot.logp[..., None])
        return late.reshape(-1, late.shape[-1]), logp.ravel()


def _with_longer_chains(refuted: _Refuted, target: Target, left_out: LeftOut, run: Run) -> _Refuted:
    """Continue the chains, and compare again.

    In many dimensions chains need longer to come down from a place of next to no mass: what holds
    part of the posterior holds chains that go on as well.
    """
    exploration, rng = refuted.exploration, run.rng("approximate again")
    pilot = prolonged(target, exploration.pilot, run.settings.local, rng)
    refuted = replace(refuted, exploration=replace(exploration, pilot=pilot))
    return refuted.met(target, left_out)


def _with_parts(refuted: _Refuted, target: Target, left_out: LeftOut, run: Run) -> _Refuted:
    """Approximate again with parts where the chains are too heavy, and compare again.

    Where these places hold more than next to nothing, the answer stays refuted until chains have
    gone on.
    """
    settings, rng = run.settings.first_answer, run.rng("approximate again")
    assert isinstance(settings, FirstAnswer)
    target_se = run.settings.target_se
    found = approximate_met(refuted.before, target, *refuted.draws(), settings, target_se, rng)
    if not found.verdict.precise:
        return refuted
    again = replace(refuted, before=found)
    # Places that hold more may be larger than their parts: draws that nothing was fitted to tell.
    little = found.adds_next_to_nothing(refuted.before, target_se)
    return again.met(target, left_out) if little else again


def _late(draws: np.ndarray) -> np.ndarray:
    """Second halves of the chains, (K, chains, moves, m), as one: (K, n, m)."""
    k, _, moves, m = draws.shape
    return draws[:, :, moves // 2 :].reshape(k, -1, m)


class Screen(Step):
    """Look for modes that climbs have missed, by the values of many points and further climbs."""

    name = "screen"
    text = "searching for narrow modes"
    share = 0.35

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the search is settled, and again after a screening with new modes."""
        if state.exploration is not None or state.must_visit.size:
            return False
        return not state.screened and state.screenings < MAX_SCREENINGS

    def __call__(self, state: State, run: Run) -> State:
        """Screen; new modes are approximated anew."""
        density, settings = run.density, run.settings.modes
        state = replace(state, screened=True, screenings=state.screenings + 1)
        modes = modes_of(density, state.search, settings)
        if modes.runaway:
            return state
        known_modes = self._described(state, modes, density)
        rng = run.rng(self.name)
        search, seen = screen(density, state.search, settings, known_modes, rng)
        if seen.new_modes:
            search = new_modes_of_mass(search, modes, run, rng)
        state = replace(state, search=search, screening=seen)
        if matching_modes(modes_of(density, search, settings), modes) is not None:
            return state
        return replace(state.with_further_modes(), screened=False)

    @staticmethod
    def _described(state: State, modes: Modes, density: Density) -> ModeMixture:
        """Return the mixture of the first answer, or that of Laplace's approximations."""
        if state.approximation is not None:
            return state.approximation.mixture
        distribution, left_out = state.search.distribution, LeftOut.of(state.search.optima)
        return first_mixture(modes, modes.log_mass, distribution, density.period, left_out)


class WeighSample(NeededStep):
    """Weigh the regions by the weighted sample, if it is precise: no chains are run."""

    name = "weigh"
    text = "weighing the regions by importance sampling"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the space is divided and the sample is precise."""
        return state.ends_early and state.weights is None

    def __call__(self, state: State, run: Run) -> State:
        """Label the sample by region; resample draws of each.

        The sample was large enough for the weights of the modes. Where regions have other borders,
        it is enlarged; a larger sample may turn out not to be precise.
        """
        division, found, rng = known(state.division), known(state.approximation), run.rng(self.name)
        region, weights = region_weights(division.partition, found.sample)
        factor = float(np.max(weights.weight_se) / run.settings.target_se) ** 2
        if factor > 1.0:
            assert isinstance(run.settings.first_answer, FirstAnswer)
            found = found.enlarged(
                state.target(run.density),
                min(factor, MAX_GROWTH),
                found.sample,
                run.settings.first_answer,
                run.settings.target_se,
                rng,
            )
            state = replace(state, approximation=found)
            if not state.ends_early:
                return state
            region, weights = region_weights(division.partition, found.sample)
        n_grad = run.density.dim if run.density.has_gradient else 0
        draws = region_draws(found.sample, region, division.modes.locations, n_grad, rng)
        return replace(state, draws=draws, weights=weights)
