"""The loop of a fit: order of the steps, limits, interruptions, broken symmetries, streams."""

from __future__ import annotations

import time

import numpy as np
import pytest
from densities import Mixture, two_modes

from pymc_multimodal.fit import STEPS, FitConfig, fit_density
from pymc_multimodal.fit.loop import next_step, run_step
from pymc_multimodal.fit.run import Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.search import begin_search, modes_of
from pymc_multimodal.status import LimitReached

TARGET = two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3)
QUICK = {"target_se": 0.05, "challenge": False}


def silent(stage, text):
    pass


def begun(density, settings):
    run = Run(density, settings, silent)
    rng = np.random.default_rng(0)
    return State.begun(begin_search(density, settings.modes, False, rng)), run


def states(settings):
    """All states of a fit, with the step that made each."""
    state, run = begun(TARGET.density(), settings)
    found = [(None, state)]
    while (step := next_step(state, run)) is not None:
        state = run_step(step, state, run)
        found.append((step, state))
    return found, run


def test_every_step_is_made_and_none_is_due_at_the_end():
    found, run = states(FitConfig(first_answer=False, target_se=0.05))
    made = {step.name for step, _ in found if step is not None}
    # Normal modes need no more draws than the first ones, and have no symmetry here.
    assert {step.name for step in STEPS} - made <= {
        "chains", "confirm symmetry", "refine", "begin again", "approximate", "weigh",
        "approximate again", "approximate regions", "emulate", "units", "screen by values",
        "check stuck chains",
    }  # fmt: skip
    assert [entry.step for entry in run.journal] == [s.name for s, _ in found[1:]]
    assert sum(entry.evals for entry in run.journal) == run.evals


def test_whether_a_step_is_due_costs_no_evaluation():
    found, run = states(FitConfig(first_answer=False, **QUICK))
    before = run.density.n_logp_evals
    for _, state in found:
        for step in STEPS:
            step.due(state, run.settings)
            step.needed(state)
    assert run.density.n_logp_evals == before


def test_a_state_is_never_changed_by_a_step():
    """The same state gives the same next state again, though the fit has gone on since."""
    found, run = states(FitConfig(first_answer=False, **QUICK))
    journal = run.journal
    for i in range(len(found) - 1):
        (_, state), (step, after) = found[i], found[i + 1]
        run.journal = journal[:i]
        again = step(state, run)
        if after.weights is not None:
            np.testing.assert_array_equal(again.weights.weight, after.weights.weight)
        if after.chains is not None:
            np.testing.assert_array_equal(again.chains.state.x, after.chains.state.x)


def test_cells_of_the_same_modes_are_made_once():
    """Those of hundreds of modes take seconds, which a limit does not leave for the result."""
    means = np.array([[4.0, 1.0], [-4.0, -1.0], [1.0, -5.0], [-1.0, 5.0]])
    target = Mixture(means, [0.3 * np.eye(2)] * 4, [0.1, 0.1, 0.4, 0.4])
    settings = FitConfig()
    run = Run(target.density(), settings, silent)
    state = State.begun(begin_search(run.density, settings.modes, True, np.random.default_rng(0)))
    while next_step(state, run).name == "search":
        state = run_step(next_step(state, run), state, run)
    optima, modes = state.search.optima, modes_of(run.density, state.search, settings.modes)
    first = run.cells(optima, modes)
    np.testing.assert_array_equal(first.images, [2, 2])
    assert run.cells(optima, modes) is first
    one = modes.take(np.array([1, 0]))
    assert run.cells(optima, one) is not first
    assert run.cells(optima, modes) is first


def test_work_that_evaluates_nothing_is_ended_at_a_limit_in_seconds():
    run, began = Run(TARGET.density(), FitConfig(max_seconds=0.3), silent), time.monotonic()

    def work():
        with run.ended("The integration", 0.0):
            while time.monotonic() < began + 60:
                pass

    with pytest.raises(LimitReached):
        work()
    assert 0.3 <= time.monotonic() - began < 30
    with Run(TARGET.density(), FitConfig(), silent).ended("The integration"):
        pass


def test_streams_are_named_by_step_and_by_how_often_it_was_made():
    run = Run(TARGET.density(), FitConfig(first_answer=False, random_seed=5), silent)
    first = run.rng("bridge").random(3)
    np.testing.assert_array_equal(run.rng("bridge").random(3), first)
    assert not np.array_equal(run.rng("chains").random(3), first)
    with run.recorded("bridge"):
        pass
    assert not np.array_equal(run.rng("bridge").random(3), first)


def test_a_step_inside_of_another_is_counted_once():
    density = TARGET.density()
    run = Run(density, FitConfig(random_seed=5), silent)
    with run.recorded("emulate"):
        density.logp(np.zeros((3, density.dim)))
        with run.recorded("judge"):
            density.logp(np.zeros((5, density.dim)))
    assert run.evals_by_step() == {"judge": 5, "emulate": 3}


class Interrupter:
    """Raises KeyboardInterrupt when the n-th step begins."""

    def __init__(self, n):
        self.n, self.count = n, 0

    def __call__(self, stage, text):
        self.count += 1
        if self.count == self.n:
            raise KeyboardInterrupt


def test_an_interruption_at_any_step_gives_a_result_or_is_raised():
    settings = FitConfig(first_answer=False, target_se=0.05)
    names = []
    whole = fit_density(TARGET.density(), settings, report=lambda stage, _: names.append(stage))
    assert not {"interrupted", "budget"} & {s.code for s in whole.statuses}
    weighed = names.index("bridge") + 1
    for n in {1, weighed, weighed + 1, len(names)}:
        density = TARGET.density()
        if n <= weighed:
            with pytest.raises(KeyboardInterrupt):
                fit_density(density, settings, report=Interrupter(n))
            continue
        fit = fit_density(density, settings, report=Interrupter(n))
        assert "interrupted" in {s.code for s in fit.statuses}
        assert fit.n_modes == 2
        assert abs(fit.weights.total - TARGET.log_z) < 4 * fit.weights.total_se
        assert not density.limits.any


@pytest.mark.parametrize("max_evals", [1, 500, 3_000, 8_000, 20_000])
def test_a_limit_anywhere_gives_a_result_that_says_so(max_evals):
    density = TARGET.density()
    fit = fit_density(density, FitConfig(first_answer=False, target_se=0.003, max_evals=max_evals))
    assert "budget" in {s.code for s in fit.statuses}
    assert np.isclose(fit.weights.weight.sum(), 1.0)
    assert fit.n_logp_evals == density.n_logp_evals
    assert np.isfinite(fit.generate(10, 1)).all()


def test_a_symmetry_that_breaks_is_given_up_once():
    """Mirror images at first sight; the third mode, met by the chains, has no image."""
    target = Mixture(
        [[-4.0, 4.0], [4.0, -4.0], [4.5, 1.0]],
        [np.eye(2), np.eye(2), 0.05 * np.eye(2)],
        [0.35, 0.35, 0.3],
    )
    fit = fit_density(target.density(), FitConfig(first_answer=False, target_se=0.05))
    assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
    assert fit.orbits is None
    assert sum(s.code == "symmetry" for s in fit.statuses) <= 1


def test_a_search_that_its_share_of_a_limit_ends_is_no_fit_that_stopped():
    """The search may use a quarter of a limit; the fit then ends below the limit."""
    fit = fit_density(TARGET.density(), FitConfig(max_evals=7_000, **QUICK))
    codes = {s.code for s in fit.statuses}
    assert fit.n_logp_evals < 7_000
    assert "unfinished" in codes
    assert "budget" not in codes
