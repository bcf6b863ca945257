"""Steps that find the modes and divide the space into their regions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import mode_of_draws, rows_of_groups, systematic_rows
from pymc_multimodal.fit.images import fold_pilot
from pymc_multimodal.fit.state import Division, Exploration, known, matching_modes, region_of_modes
from pymc_multimodal.fit.steps.base import NeededStep, Step
from pymc_multimodal.fit.steps.common import FEW_MODES, new_modes_of_mass
from pymc_multimodal.regions import (
    MIN_CHAINS,
    LabelledPoints,
    divide,
    explore,
    mixing_groups,
)
from pymc_multimodal.search import climb_from, find_modes, modes_of
from pymc_multimodal.status import GradientMisleads

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.regions import LocalSampling

__all__ = ["MAX_EXPLORATIONS", "Divide", "Explore", "FindModes"]

# Most explorations of the space. New modes and misplaced chains that are found later are left to
# the challenge. Conventional.
MAX_EXPLORATIONS = 3
# Share of the climbs that end at steps of the density from which on its gradient is not used.
# Conventional: half.
MAX_STEP_SHARE = 0.5
# Draws from which the classifier of the regions is trained: its cost grows with their square.
MAX_TRAINING_DRAWS = 4000


class FindModes(Step):
    """Climb from one batch of starts."""

    name = "search"
    text = "searching for modes"
    share = 0.25

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True until a batch brings no new mode and every mode was found often."""
        return not state.search.settled

    def needed(self, state: State) -> bool:
        """Return True until a climb has ended, if limits have cut climbs off."""
        search = state.search
        begun = search.counts.starts > 0
        return not begun or (not len(search.optima) and search.counts.unfinished > 0)

    def __call__(self, state: State, run: Run) -> State:
        """Make one batch; `GradientMisleads` is raised where most climbs end at steps."""
        settings, rng = run.settings.modes, run.rng(self.name)
        search = find_modes(run.density, state.search, settings, rng)
        if run.density.has_gradient and settings.optimiser is None:
            counts = search.counts
            if counts.steps > MAX_STEP_SHARE * (counts.starts - counts.unfinished):
                raise GradientMisleads
        return replace(state, search=search)


def _exploring(state: State, k: int, settings: LocalSampling) -> LocalSampling:
    """Return the settings of the chains that explore k modes.

    Where a precise first answer has many modes, half of the chains are run from each: they are to
    refute the answer, in which each mode holds little, and cost more than the answer does.

    Parameters
    ----------
    state : State
    k : int
    settings : LocalSampling
    """
    if not state.ends_early or k <= FEW_MODES:
        return settings
    return replace(settings, chains=max(MIN_CHAINS, settings.chains // 2))


class Explore(NeededStep):
    """Run short unrestricted chains from every mode, and climb from where they end."""

    name = "explore"
    text = "short chains from each mode"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True until the chains reach no unknown mode."""
        return state.exploration is None

    def __call__(self, state: State, run: Run) -> State:
        """Explore once."""
        density, settings, rng = run.density, run.settings, run.rng(self.name)
        modes = modes_of(density, state.search, settings.modes)
        pilot = explore(density, modes, _exploring(state, len(modes), settings.local), rng)
        ends = pilot.draws[:, :, -1].reshape(-1, density.dim)
        points = np.concatenate([ends, state.misplaced])
        search, labels = climb_from(density, state.search, settings.modes, points)
        search = new_modes_of_mass(search, modes, run, rng)
        same = matching_modes(modes_of(density, search, settings.modes), modes)
        state = replace(state, search=search, explorations=state.explorations + 1)
        if same is None and state.explorations < MAX_EXPLORATIONS and not density.exhausted():
            # A first answer describes the modes that it knew.
            return state.with_further_modes()
        every = np.arange(len(modes))
        misplaced = region_of_modes(labels[len(ends) :], same, every)
        return replace(state, exploration=Exploration(modes, pilot, misplaced))


class Divide(NeededStep):
    """Divide the space into one region for each mode, or for several among which chains move."""

    name = "divide"
    text = "dividing the space into regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the space was explored and not yet divided."""
        return state.division is None

    def __call__(self, state: State, run: Run) -> State:
        """Fold the density where it is symmetric, join modes, and train the classifier."""
        exploration = known(state.exploration)
        target, found, pilot = fold_pilot(
            run.density, state.search.optima, exploration.modes, exploration.pilot
        )
        group = mixing_groups(target, pilot.draws)
        modes = found
        if group.max() + 1 < len(found):
            modes, pilot = found.merged(group), pilot.merged(group)
        where = exploration.misplaced_modes
        region = np.where(where >= 0, group[where], -1)
        training = _training_draws(pilot.draws)
        if state.ends_early:
            sampled = _sampled_draws(known(state.approximation), group, training.shape[1], run)
            training = training if sampled is None else sampled
        partition = divide(
            target,
            training,
            run.settings.regions,
            extra=LabelledPoints(modes.points, modes.point_modes),
            corrections=LabelledPoints(target.fold(state.misplaced), region),
        )
        division = Division(target.cells, found, modes, group, pilot, partition)
        return replace(state, division=division)


def _sampled_draws(found: Approximation, group: np.ndarray, m: int, run: Run) -> np.ndarray | None:
    """Resample m draws of each region from a precise sample, shape (K, m, d).

    Short chains may not have come down from where they began, and regions that are learned from
    them cut through the mass. None if the sample has no draw of a region, or knows other modes.
    """
    if found.mixture.n_modes != len(group):
        return None
    mode = mode_of_draws(found.mixture, found.sample)
    region = np.where(mode >= 0, group[mode], -1)
    rng, out = run.rng("divide"), []
    for rows in rows_of_groups(region, int(group.max()) + 1):
        ratio = found.sample.ratio[rows]
        if not ratio.any():
            return None
        out.append(found.sample.x[rows[systematic_rows(ratio, m, rng)]])
    return np.stack(out)


def _training_draws(draws: np.ndarray) -> np.ndarray:
    """Thin the second half of the short chains, (K, chains, moves, d), to (K, m, d)."""
    late = draws[:, :, draws.shape[2] // 2 :]
    stride = max(1, int(np.ceil(late[..., 0].size / MAX_TRAINING_DRAWS)))
    return late[:, :, ::stride].reshape(len(draws), -1, draws.shape[3])
