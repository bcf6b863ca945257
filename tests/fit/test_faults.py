"""Interruptions, limits and threads: what there is comes out, and nothing is left behind."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from dataclasses import replace

import models
import numpy as np
import pymc as pm
import pytest
from densities import WideNormal, two_modes
from own_workers import own_workers
from simulators_numpy import parabola
from unit_targets import pairs

import pymc_multimodal as mm
from pymc_multimodal.challenge import Challenge, rounds
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.model.build import density_of
from pymc_multimodal.status import FitError
from pymc_multimodal.target.density import Density

TARGET = two_modes(dim=2, distance=8.0, weights=(0.4, 0.6))
WEIGHTS = np.array([0.6, 0.4])


class Watched:
    """The target, counting its calls; Ctrl-C is pressed at some of them, and time passes."""

    def __init__(self, *interrupted, seconds=0.0, passes=time.sleep):
        self.interrupted, self.seconds, self.passes, self.calls = interrupted, seconds, passes, 0

    def __call__(self, x):
        self.calls += 1
        if self.calls in self.interrupted:
            raise KeyboardInterrupt
        if self.seconds:
            self.passes(self.seconds * len(x))
        return TARGET(x)

    def density(self, **kwargs):
        return Density(self, 2, prior=WideNormal(2), **kwargs)


def warnings_of(fit):
    return [s.code for s in fit.statuses if s.level == "warning"]


def assert_right(fit):
    """A result that is good for everything that one has."""
    assert fit.n_modes == 2
    assert np.all(np.abs(fit.weights.weight - WEIGHTS) < 4 * fit.weights.weight_se + 1e-3)
    assert abs(fit.weights.total - TARGET.log_z) < 4 * fit.weights.total_se
    again = pickle.loads(pickle.dumps(fit))
    assert np.isfinite(again.generate(20, np.random.default_rng(1))).all()
    assert np.isfinite(again.starts(20, np.random.default_rng(1))).all()


@pytest.fixture(scope="module")
def calls():
    """Calls of the density at which each step began, and those of the whole fit."""
    watched, begun = Watched(), {}
    fit_density(
        watched.density(),
        FitConfig(first_answer=False),
        report=lambda stage, _: begun.setdefault(stage, watched.calls),
    )
    return {**begun, "end": watched.calls}


# ------------------------------------------------------------------ Ctrl-C


@pytest.mark.parametrize("stage", ["search", "explore", "begin chains", "bridge"])
def test_an_interruption_before_the_first_weights_is_raised_at_once(stage, calls):
    watched = Watched(calls[stage] + 5)
    density = watched.density()
    with pytest.raises(KeyboardInterrupt):
        fit_density(density, FitConfig(first_answer=False))
    assert watched.calls == calls[stage] + 5
    # The density is as it was, and a new fit is that of a fresh one.
    assert not density.exhausted()
    if stage == "explore":
        again, fresh = (
            fit_density(d, FitConfig(first_answer=False)) for d in (density, TARGET.density())
        )
        np.testing.assert_array_equal(again.weights.weight, fresh.weights.weight)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95, 1.0])
def test_an_interruption_of_the_challenge_or_the_kernel_gives_what_there_is(part, calls):
    at = calls["challenge"] + int(part * (calls["end"] - calls["challenge"]))
    watched = Watched(at)
    fit = fit_density(watched.density(), FitConfig(first_answer=False))
    assert_right(fit)
    assert warnings_of(fit) == ["interrupted"]
    # The result needs no further evaluation.
    assert watched.calls == at


def test_an_interruption_while_weights_are_refined_gives_what_there_is():
    def press(stage, text):
        if stage == "refine":
            raise KeyboardInterrupt

    fit = fit_density(TARGET.density(), FitConfig(first_answer=False, target_se=1e-4), report=press)
    assert_right(fit)
    assert warnings_of(fit) == ["interrupted"]


def test_an_interruption_amid_refinement_leaves_the_round_before(calls):
    """Draws had been added and the bridge not yet made."""
    watched = Watched(calls["challenge"] + 40)
    fit = fit_density(watched.density(), FitConfig(first_answer=False, target_se=1e-4))
    assert_right(fit)
    assert warnings_of(fit) == ["interrupted"]


def test_an_interruption_of_a_second_fit_leaves_the_first():
    """The challenge has proved a mode missing: the fit that knows it is not complete."""
    begun = []

    def press(stage, text):
        begun.append(stage)
        if begun.count("begin chains") == 2:
            raise KeyboardInterrupt

    settings = FitConfig(first_answer=False, modes=mm.ModeSearch(starts=TARGET.means[:1]))
    fit = fit_density(TARGET.density(), settings, report=press)
    assert fit.n_modes == 1
    assert {"challenge", "interrupted"} < set(warnings_of(fit))
    assert len(fit.challenge.counterexamples)


@pytest.mark.parametrize("step", ["kernel", "generator"])
def test_an_interruption_of_the_last_steps_leaves_a_plain_kernel(step):
    def press(stage, text):
        if stage == step:
            raise KeyboardInterrupt

    fit = fit_density(
        TARGET.density(), FitConfig(first_answer=False, generator="lrds"), report=press
    )
    assert_right(fit)
    assert warnings_of(fit) == ["interrupted"]


def test_pymc_draws_from_a_fit_that_was_interrupted(monkeypatch, caplog):
    def press(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "tempered_smc", press)
    with models.unequal(), caplog.at_level(logging.WARNING):
        step = mm.MultimodalDiffusion(
            random_seed=1, first_answer=False, progressbar=False, quiet=True
        )
        idata = pm.sample(
            50, tune=0, step=step, chains=2, cores=1, progressbar=False, random_seed=1,
            compute_convergence_checks=False,
        )  # fmt: skip
    assert idata.posterior["x"].shape == (2, 50)
    assert "interrupted" in warnings_of(step.fit)
    assert "the user interrupted the fit" in caplog.text


@pytest.mark.slow  # a process of its own starts workers
def test_no_worker_outlives_an_interruption():
    """Workers sleep for minutes when it comes."""
    density = Watched(seconds=5.0).density(workers=2)
    pressed = threading.Timer(8.0, os.kill, (os.getpid(), signal.SIGINT))
    pressed.start()
    with pytest.raises(KeyboardInterrupt):
        fit_density(density, FitConfig(first_answer=False))
    began = time.monotonic()
    density.close()
    assert time.monotonic() - began < 5
    assert not own_workers()


def crash(x):
    os._exit(1)


@pytest.mark.slow  # workers are started, and die
def test_a_worker_that_dies_is_an_error_that_says_so():
    density = Density(crash, 2, prior=WideNormal(2), workers=2)
    with pytest.raises(FitError, match="workers=2 processes died"):
        fit_density(density, FitConfig(first_answer=False))
    assert not own_workers()


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("max_evals", [1, 100, 1000, 5000])
def test_a_small_budget_gives_a_result_and_is_kept(max_evals, gradient):
    density = TARGET.density(gradient=gradient)
    fit = fit_density(density, FitConfig(first_answer=False, max_evals=max_evals))
    assert "budget" in warnings_of(fit)
    assert fit.n_logp_evals <= max_evals
    assert fit.n_modes == 2 or "unfinished" in warnings_of(fit)
    assert np.isclose(fit.weights.weight.sum(), 1.0)
    assert np.isfinite(fit.generate(20, np.random.default_rng(1))).all()


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_a_slow_density_is_stopped_in_time(seconds, clock):
    """A millisecond a point: whole stages take several seconds."""
    watched = Watched(seconds=1e-3, passes=clock.skip)
    began = time.monotonic()
    fit = fit_density(watched.density(), FitConfig(first_answer=False, max_seconds=seconds))
    assert "budget" in warnings_of(fit)
    assert time.monotonic() - began < seconds + 6
    assert fit.n_modes == 2 or "unfinished" in warnings_of(fit)


@pytest.mark.parametrize("what", ["prior", "terms", "outputs"])
def test_functions_that_are_compiled_within_a_fit_do_not_count(what, clock):
    """Before, a limit of some seconds could be over before the first evaluation."""
    if what == "outputs":
        simulator = parabola()
        density = simulator.density()
        density.function = price_of(density.function, clock)
        density.split = lambda names: clock.skip(LONG) or simulator
    else:
        density = pairs(n_units=10)
        once = CompiledOnce(density.prior, lambda: clock.skip(LONG))
        if what == "prior":
            density.prior = once
        else:
            density.term_model.prepare = once.prepare
    fit = fit_density(density, FitConfig(random_seed=1, max_seconds=LONG))
    assert clock.skipped >= LONG
    assert not warnings_of(fit)
    assert sum(fit.seconds.values()) < LONG


@pytest.mark.parametrize("good", [True, False])
def test_workers_that_load_the_outputs_of_a_simulator_do_not_count(good, clock):
    """Nor do they where these are of no use, and the workers load the model again."""
    simulator, starts = parabola(), []
    density = simulator.density()
    density.function = price_of(density.function, clock)
    density.start_workers = lambda: starts.append(density.outputs) or clock.skip(LONG)
    if not good:
        # Nothing comes of a simulator that fails nearly everywhere.
        everywhere = simulator.f
        simulator.f = lambda x: np.where(x[:, 1:] < 2.0, np.nan, everywhere(x))
    fit = fit_density(density, FitConfig(random_seed=1, max_seconds=LONG, max_evals=400))
    assert starts == ([simulator] if good else [simulator, None])
    assert sum(fit.seconds.values()) < LONG


# Seconds that a compilation takes: far more than the fits in which it happens.
LONG = 300.0


class CompiledOnce:
    """A prior whose function is compiled before its first draw."""

    def __init__(self, draw, compile_it):
        self.draw, self.left = draw, [compile_it]

    def prepare(self):
        while self.left:
            self.left.pop()()

    def __call__(self, n, rng):
        self.prepare()
        return self.draw(n, rng)


def price_of(function, clock):
    """A function whose points take a tenth of a second each."""

    def priced(x):
        clock.skip(0.1 * len(x))
        return function(x)

    return priced


# Seconds of a fit in which a step hangs, and those that pass at once before it: what comes before
# takes a second, on a machine that does nothing else, and a step is not left out as long as less
# than seven tenths have passed.
HUNG_SECONDS, PASSED = 10.0, 0.65


class Hanging(Watched):
    """While a step of a fit is under way, each call takes a minute. The clock runs from there."""

    def __init__(self, step, clock, hang=lambda: time.sleep(60.0)):
        super().__init__()
        self.step, self.clock, self.hang, self.hanging = step, clock, hang, step == "begin"
        self.began = time.monotonic()

    def report(self, step, text):
        self.hanging = step == self.step
        if self.hanging:
            self.clock.run()
            passed = time.monotonic() - self.began
            self.clock.skip(max(PASSED * HUNG_SECONDS - passed, 0.0))

    def __call__(self, x):
        if self.hanging:
            self.hang()
        return TARGET(x)


def test_an_evaluation_that_hangs_before_there_are_weights_leaves_the_modes(stopped_clock):
    target = Hanging("begin chains", stopped_clock)
    density = target.density()
    settings = FitConfig(first_answer=False, max_seconds=HUNG_SECONDS)
    fit = fit_density(density, settings, report=target.report)
    assert time.monotonic() - target.began < HUNG_SECONDS + 6
    assert {"hung", "laplace", "budget"} <= set(warnings_of(fit))
    assert fit.n_modes == 2
    assert not density.limits.any
    assert not density.exhausted()


def test_an_evaluation_that_hangs_at_the_first_point_is_an_error(clock):
    target = Hanging("begin", clock)
    with pytest.raises(FitError, match=r"did not return .* max_seconds, at .*x\[0\]=.*Mend"):
        fit_density(target.density(), FitConfig(first_answer=False, max_seconds=0.3))


def spin():
    """Python code, which is ended in every thread."""
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_evaluation_that_hangs_later_leaves_the_fit_so_far(in_thread, stopped_clock):
    how = (spin,) if in_thread else ()
    target, fits = Hanging("challenge", stopped_clock, *how), []

    def run():
        settings = FitConfig(first_answer=False, max_seconds=HUNG_SECONDS)
        fits.append(fit_density(target.density(), settings, report=target.report))

    if in_thread:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    assert time.monotonic() - target.began < HUNG_SECONDS + 6
    [fit] = fits
    assert_right(fit)
    assert {"hung", "budget"} <= set(warnings_of(fit))
    [hung] = [s for s in fit.statuses if s.code == "hung"]
    assert "x[0]=" in hung.cause
    assert hung.remedy.startswith("Mend the model")


def test_a_limit_in_the_midst_of_the_challenge_leaves_it_out(calls):
    challenge = Challenge(climbs=0)
    whole = fit_density(TARGET.density(), FitConfig(first_answer=False, challenge=challenge))
    limit = whole.n_logp_evals - 3000
    fit = fit_density(
        TARGET.density(), FitConfig(first_answer=False, challenge=challenge, max_evals=limit)
    )
    assert warnings_of(fit) == ["budget"]
    assert_right(fit)
    assert fit.challenge is None
    assert fit.n_logp_evals <= limit


def test_a_limit_in_the_midst_of_its_climbs_keeps_the_result_and_what_they_found():
    settings = FitConfig(first_answer=False, modes=mm.ModeSearch(screening=0))
    whole = fit_density(TARGET.density(), settings)
    assert whole.challenge.n_climbs > 500
    limited = replace(settings, max_evals=whole.n_logp_evals - 1000)
    fit = fit_density(TARGET.density(), limited)
    assert 0 < fit.challenge.n_climbs < whole.challenge.n_climbs
    assert fit.challenge.missed_by_search == whole.challenge.missed_by_search
    assert warnings_of(fit) == ["budget"]
    assert_right(fit)


def test_a_limit_in_a_second_fit_leaves_a_whole_fit():
    """The challenge of a fit of one region does not belong to a fit of two."""
    search = mm.ModeSearch(starts=TARGET.means[:1])
    whole = fit_density(TARGET.density(), FitConfig(first_answer=False, modes=search))
    found = set()
    for part in (0.5, 0.7, 0.9):
        limited = FitConfig(
            first_answer=False, modes=search, max_evals=int(part * whole.n_logp_evals)
        )
        fit = fit_density(TARGET.density(), limited)
        found.add(fit.n_modes)
        assert "budget" in warnings_of(fit)
        if fit.n_modes == 1:
            # The second fit was not weighed: the first one is the result, and proved incomplete.
            assert len(fit.challenge.counterexamples)
            assert "challenge" in warnings_of(fit)
        else:
            assert fit.challenge is None or not len(fit.challenge.counterexamples)
    assert 2 in found


# ------------------------------------------------------------------ threads


def test_threads_take_turns_and_agree_with_a_run_alone():
    model, fits, draws = models.four_modes(), {}, {}
    settings = {"random_seed": 1, "progressbar": False, "quiet": True}

    def run(i):
        fits[i] = mm.fit(model, target_se=0.05, **settings)
        drawn = mm.sample(20, chains=2, model=model, fit=fits[0], **settings)
        draws[i] = drawn.posterior["x"].values

    run(0)
    threads = [threading.Thread(target=run, args=(i,)) for i in (1, 2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for i in (1, 2):
        np.testing.assert_array_equal(fits[i].draws.x[0], fits[0].draws.x[0])
        np.testing.assert_array_equal(draws[i], draws[0])


def test_a_compiled_density_serves_several_threads(rng):
    """PyTensor's functions keep input and results in one place for all calls."""
    density = density_of(models.four_modes())
    points = [rng.normal(0, 3, (2000, 2)) for _ in range(4)]
    alone, together = [density.function(x)[0].copy() for x in points], {}

    def run(i):
        together[i] = [density.function(points[i])[0].copy() for _ in range(20)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for i in range(4):
        np.testing.assert_array_equal(together[i], np.broadcast_to(alone[i], (20, 2000)))
