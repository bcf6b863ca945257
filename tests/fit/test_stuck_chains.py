"""Chains that stay apart are climbed from before they use up their draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from densities import two_modes

from pymc_multimodal import LocalSampling
from pymc_multimodal.fit import FitConfig
from pymc_multimodal.fit.loop import next_step, run_step
from pymc_multimodal.fit.run import Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.regions import PermutedPartition, stuck
from pymc_multimodal.search import begin_search

NAME = "check stuck chains"


@pytest.fixture(scope="module")
def sampled():
    """A fit of two modes whose chains have made four batches of draws."""
    local = LocalSampling(draws=10, max_rhat=1.0001, min_ess=1e6)
    config = FitConfig(random_seed=1, first_answer=False, local=local)
    run = Run(two_modes().density(), config, lambda stage, text: None)
    state = State.begun(begin_search(run.density, config.modes, False, run.rng("begin")))
    while state.chains is None or min(len(r) for r in state.chains.records) < 40:
        step = next_step(state, run)
        assert step.name != NAME
        state = run_step(step, state, run)
    return run, state


def apart(state, r_hat):
    return replace(state, chains=replace(state.chains, r_hat=np.array(r_hat)))


def test_only_long_records_of_regions_that_matter_are_stuck(sampled):
    run, state = sampled
    local = run.settings.local
    chains = replace(state.chains, r_hat=np.array([1.4, 1.6]))
    assert stuck(chains, local).tolist() == [1]
    assert not len(stuck(replace(chains, negligible=np.array([False, True])), local))
    assert not len(stuck(chains, replace(local, draws=11)))


def test_chains_of_right_labels_go_on(sampled):
    run, state = sampled
    state = apart(state, [1.0, 2.0])
    step = next_step(state, run)
    assert step.name == NAME
    after = run_step(step, state, run)
    assert after.chains is state.chains
    # Once for each division.
    assert next_step(after, run).name != NAME


def test_the_space_is_divided_again_where_labels_are_wrong(sampled):
    run, state = sampled
    division = state.division
    wrong = replace(division, partition=PermutedPartition(division.partition, np.array([1, 0])))
    state = apart(replace(state, division=wrong), [1.0, 2.0])
    after = run_step(next_step(state, run), state, run)
    assert after.division is None
    # These points correct the next division.
    np.testing.assert_array_equal(
        after.misplaced, state.chains.state.x[state.chains.state.region == 1]
    )
