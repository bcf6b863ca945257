"""A fit that is killed goes on from its checkpoint, and gives what it would have given."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from densities import Banana, Mixture, WideNormal, two_modes
from hierarchy import Hierarchy
from killed import Killed, killing
from same import assert_same
from simulators_numpy import parabola
from structured import wells
from unit_targets import pairs

import pymc_multimodal as mm
from pymc_multimodal import kernel
from pymc_multimodal.emulation import Emulation
from pymc_multimodal.fit import Checkpoint, FitConfig, checkpoint, checkpoint_file, fit_density
from pymc_multimodal.fit.codec import decode, encode
from pymc_multimodal.fit.saving import classes_of, names_of
from pymc_multimodal.model import density_of
from pymc_multimodal.search import screening
from pymc_multimodal.status import FitError
from pymc_multimodal.target import Density

TARGET = two_modes(dim=2, distance=6.0, weights=(0.4, 0.6))
MIRRORED = Mixture([[-3.0, 3.0], [3.0, -3.0]], [np.eye(2)] * 2, [0.5, 0.5])
FORCED = Emulation(min_seconds=0)
LOOSE = FitConfig(target_se=0.05)


def raising(x):
    """The target, which raises in a part of the space."""
    if (x[:, 0] > 5.5).any():
        raise ArithmeticError("too far")
    return TARGET(x)


def stepped(x):
    """A normal density that falls at a step, where most climbs end."""
    logp = 2.0 * x[:, 0] - 0.5 * (x**2).sum(axis=1) - 3.0 * (x[:, 0] > 0.4)
    return logp, np.stack([2.0 - x[:, 0], -x[:, 1]], axis=1)


def left(n, rng):
    return rng.normal(-3.0, 1.5, (n, 2))


# Climbs without the gradient take most of the time of two cases.
FEW = {"modes": mm.ModeSearch(starts=32), "challenge": False}
STEPPED = {"modes": mm.ModeSearch(screening=0, starts=16), "challenge": False}
CASES = {
    "first answer": (TARGET.density, {}),
    "symmetric": (MIRRORED.density, {"symmetry": mm.Symmetry((-np.eye(2),))}),
    "chains": (TARGET.density, {"first_answer": False}),
    "banana": (Banana(2, bend=1.0, noise=0.3).density, {"challenge": False}),
    "no gradient": (lambda: TARGET.density(gradient=False), FEW),
    "raising": (lambda: Density(raising, 2, prior=WideNormal(2)), {}),
    "steps": (lambda: Density(stepped, 2, prior=left), STEPPED),
    "limit": (TARGET.density, {"max_evals": 3000}),
    "lrds": (TARGET.density, {"generator": "lrds", "max_evals": 30_000}),
    "units": (lambda: density_of(wells()), {"structure": mm.Structure(units=["d", "v"])}),
    "outputs": (parabola().density, {"emulation": FORCED}),
    "surface": (lambda: parabola().density(visible=False), {"emulation": FORCED}),
}
# Cases with parts that are no step: an interruption begins them again.
OF_PARTS = {"units", "outputs", "surface"}


def draws_of(density, fit):
    """A few draws of some chains, shape (n, d)."""
    rng, target = np.random.default_rng(5), fit.target(density)
    state = kernel.init(target, fit.kernel, fit.starts(8, rng), rng)
    for i in range(3):
        offered = kernel.propose(target, fit.kernel, 8 * fit.kernel.jumps, rng)
        state, _ = kernel.step(target, fit.kernel, state, offered, rng, i)
    return state.points.x


def without_times(fit):
    """The fit without what a clock has measured."""
    seen = None if fit.screening is None else replace(fit.screening, seconds=0.0)
    return replace(fit, seconds=dict.fromkeys(fit.seconds, 0.0), screening=seen)


class Dying(Checkpoint):
    """A checkpoint whose process ends when something was written."""

    def save(self, run, state):
        super().save(run, state)
        raise Killed


class Recording(Checkpoint):
    """A checkpoint that also keeps the states in memory."""

    def __init__(self, path):
        super().__init__(path, write_share=np.inf)
        self.states = []

    def save(self, run, state):
        self.states.append(state)
        super().save(run, state)


# ------------------------------------------------------------------ the same answer


@pytest.mark.parametrize("name", CASES)
def test_a_fit_that_is_ended_after_every_step_gives_the_same(name, tmp_path):
    make, settings = CASES[name]
    config = replace(LOOSE, **settings)
    density = make()
    whole = fit_density(density, config)
    expected = draws_of(density, whole)
    for n in range(100):
        density = make()
        kept = Checkpoint(tmp_path / "fit.checkpoint", write_share=np.inf)
        report = killing(n + 1 if name in OF_PARTS else 2)
        try:
            fit = fit_density(density, config, report=report, checkpoint=kept)
        except Killed:
            continue
        break
    assert n >= (2 if name in OF_PARTS else 7)
    assert_same(without_times(fit), without_times(whole))
    np.testing.assert_array_equal(draws_of(density, fit), expected)
    # Once the fit has ended it is returned at once.
    density, told = make(), []
    kept = Checkpoint(tmp_path / "fit.checkpoint")
    again = fit_density(density, config, report=lambda *a: told.append(a[0]), checkpoint=kept)
    assert told == ["plan"]
    assert_same(again, fit)
    np.testing.assert_array_equal(draws_of(density, again), expected)
    assert os.listdir(tmp_path) == ["fit.checkpoint"]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (partial(pairs, n_units=8), 9),
        (partial(pairs, n_units=8, hub=False), 5),
        (lambda: Hierarchy().density, 5),
    ],
    ids=["units with a hub", "units", "hubs"],
)
def test_a_fit_that_is_ended_after_every_part_gives_the_same(make, parts, tmp_path):
    """Units, and regressions by their hubs: each attempt makes the part after the last one."""
    density, path = make(), tmp_path / "fit.checkpoint"
    whole = fit_density(density, LOOSE)
    assert {"structure", "conditional"} & {*whole.evals_by_step}
    expected, attempts = draws_of(density, whole), 0
    while True:
        density = make()
        try:
            fit = fit_density(density, LOOSE, checkpoint=Dying(path, write_share=np.inf))
        except Killed:
            attempts += 1
            continue
        break
    assert attempts >= parts
    assert_same(without_times(fit), without_times(whole))
    np.testing.assert_array_equal(draws_of(density, fit), expected)


@pytest.mark.parametrize("name", ["symmetric", "chains", "lrds"])
def test_every_state_survives_the_file(name, tmp_path):
    make, settings = CASES[name]
    kept = Recording(tmp_path / "fit.checkpoint")
    fit_density(make(), replace(LOOSE, **settings), checkpoint=kept)
    assert len(kept.states) > 9
    known = checkpoint_file.STATE_CLASSES
    names, classes = names_of(known), classes_of(known)
    for state in kept.states:
        node, arrays = encode(state, names)
        # As a file does: whole arrays, in the order of their axes.
        arrays = [np.array(a, order="K") for a in arrays]
        assert_same(state, decode(json.loads(json.dumps(node)), arrays, classes), "state")


def test_a_write_that_is_left_out_changes_nothing(tmp_path):
    """Killed at random evaluations, with the default part of the time for writing."""
    whole = fit_density(TARGET.density(), replace(LOOSE, first_answer=False))
    rng = np.random.default_rng(1)
    for _ in range(4):
        density = TARGET.density()
        function, left = density.function, int(rng.integers(50, 1200))

        def dying(x, function=function, left=[left]):  # noqa: B006
            left[0] -= 1
            if not left[0]:
                raise Killed
            return function(x)

        density.function = dying
        kept = Checkpoint(tmp_path / "fit.checkpoint")
        try:
            fit_density(density, replace(LOOSE, first_answer=False), checkpoint=kept)
        except Killed:
            continue
    kept = Checkpoint(tmp_path / "fit.checkpoint")
    fit = fit_density(TARGET.density(), replace(LOOSE, first_answer=False), checkpoint=kept)
    assert_same(without_times(fit), without_times(whole))


def _fit_in_a_process(path, moves):
    """Fit with a checkpoint, and write what came of it."""
    density = TARGET.density()
    kept = Checkpoint(path, write_share=np.inf)
    fit = fit_density(density, replace(LOOSE, first_answer=False), checkpoint=kept)
    np.savez(moves, draws=draws_of(density, fit), weights=fit.weights.weight)


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed")


def _kill_and_go_on(tmp_path, n, seconds, rng):
    """Kill a fit n times, let it end, and compare."""
    context = multiprocessing.get_context("fork")
    density = TARGET.density()
    whole = fit_density(density, replace(LOOSE, first_answer=False))
    killed = 0
    while True:
        arguments = (tmp_path / "fit.checkpoint", tmp_path / "result.npz")
        process = context.Process(target=_fit_in_a_process, args=arguments)
        process.start()
        if killed < n:
            process.join(rng.uniform(0.0, seconds))
        if killed < n and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            with np.load(tmp_path / "result.npz") as result:
                np.testing.assert_array_equal(result["weights"], whole.weights.weight)
                np.testing.assert_array_equal(result["draws"], draws_of(density, whole))
            if killed == n:
                return
            os.unlink(tmp_path / "fit.checkpoint")


@needs_fork
def test_a_fit_that_is_killed_goes_on(tmp_path, rng):
    _kill_and_go_on(tmp_path, 3, 0.6, rng)


@pytest.mark.slow  # twenty processes are killed
@needs_fork
def test_a_fit_that_is_killed_at_twenty_random_moments_goes_on(tmp_path, rng):
    _kill_and_go_on(tmp_path, 20, 1.0, rng)


# ------------------------------------------------------------------ what is not paid again


@pytest.mark.parametrize("visible", [True, False])
def test_no_point_of_an_expensive_density_is_paid_twice(visible, tmp_path):
    simulator, config = parabola(), replace(LOOSE, emulation=FORCED)
    fit_density(simulator.density(visible=visible), config)
    needed, attempts, killed = simulator.calls, 0, parabola()
    for n in range(2, 20):
        kept = Checkpoint(tmp_path / "fit.checkpoint")
        try:
            fit_density(killed.density(visible=visible), config, report=killing(n), checkpoint=kept)
        except Killed:
            attempts += 1
            continue
        break
    assert attempts >= 2
    # One evaluation of each attempt shows that the model is the same. The four by which the price
    # is measured are quick here: they are made again if the first file was written too recently.
    assert killed.calls <= needed + 5 * attempts


def test_expensive_evaluations_with_a_gradient_are_kept_within_a_step(tmp_path, stopped_clock):
    target, paid = TARGET, []

    def density(most):
        def slow(x):
            paid.append(len(x))
            if len(paid) > most:
                raise Killed
            stopped_clock.skip(0.011 * len(x))
            return target(x)

        made = target.density()
        made.function = slow
        return made

    config = FitConfig(max_evals=250, modes=mm.ModeSearch(max_starts=16))
    whole = fit_density(density(10**9), config)
    needed, most, attempts = sum(paid), 5, 0
    paid.clear()
    while True:
        try:
            kept = Checkpoint(tmp_path / "fit.checkpoint")
            fit = fit_density(density(most), config, checkpoint=kept)
        except Killed:
            attempts, most = attempts + 1, len(paid) + 5
            continue
        break
    assert attempts > 2
    assert_same(fit.weights, whole.weights)
    assert fit.n_logp_evals == whole.n_logp_evals
    # The chunk that was under way is lost, and a point is looked at again.
    assert sum(paid) <= needed + attempts * (32 + checkpoint.CHECKED_DEAR)
    assert sum(paid) < 1.5 * needed


def test_the_number_of_points_that_a_clock_decides_is_not_decided_again(
    tmp_path, monkeypatch, stopped_clock
):
    """The second process is slower: its screening has as many points."""
    monkeypatch.setattr(screening, "MAX_POINTS", 2**12)
    points, seconds_each = [0], [1e-6]

    class Values:
        def __init__(self, most):
            self.most = most

        def __call__(self, x):
            return TARGET(x)

        def values(self, x):
            points[0] += len(x)
            if points[0] > self.most:
                raise Killed
            stopped_clock.skip(seconds_each[0] * len(x))
            return TARGET(x)[0]

    def fitted(most):
        density = TARGET.density()
        density.function = Values(most)
        return fit_density(density, LOOSE, checkpoint=Checkpoint(tmp_path / "fit.checkpoint"))

    with pytest.raises(Killed):
        # After the 512 points by which the price is measured.
        fitted(700)
    seconds_each[0], points[0] = 7e-4, 0
    fit = fitted(10**9)
    # Two seconds would pay for 2048 points; the quick process had planned the most.
    assert fit.screening.n_points == 2**12


def test_limits_count_what_earlier_runs_have_spent(tmp_path):
    config = replace(LOOSE, max_seconds=60.0, first_answer=False)
    with pytest.raises(Killed):
        fit_density(
            TARGET.density(), config, report=killing(8),
            checkpoint=Checkpoint(tmp_path / "fit.checkpoint", write_share=np.inf),
        )  # fmt: skip
    evals = []

    class Look(Checkpoint):
        def save(self, run, state):
            evals.append((run.evals, run.seconds_left))
            raise Killed

    with pytest.raises(Killed):
        fit_density(TARGET.density(), config, checkpoint=Look(tmp_path / "fit.checkpoint"))
    assert evals[0][0] > 1000
    assert evals[0][1] < 59.95


def test_an_interruption_leaves_the_fit_unfinished(tmp_path):
    """Ctrl-C gives what there is; a second call goes on to the whole answer."""
    config = replace(LOOSE, first_answer=False)
    whole = fit_density(TARGET.density(), config)

    def report(stage, text):
        if stage == "challenge":
            raise KeyboardInterrupt

    path = tmp_path / "fit.checkpoint"
    kept = Checkpoint(path, write_share=np.inf)
    first = fit_density(TARGET.density(), config, report=report, checkpoint=kept)
    assert "interrupted" in {s.code for s in first.statuses}
    again = fit_density(TARGET.density(), config, checkpoint=Checkpoint(path))
    assert_same(without_times(again).weights, whole.weights)
    assert again.challenge is not None


# ------------------------------------------------------------------ faults of writing


class Full(Checkpoint):
    """A checkpoint on a disk that is full from the n-th writing to the m-th."""

    def __init__(self, path, monkeypatch, n, m=10**9):
        super().__init__(path, write_share=np.inf)
        real, calls = checkpoint.write_archive, []

        def write(*args, **kwargs):
            calls.append(None)
            if n <= len(calls) < m:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(*args, **kwargs)

        monkeypatch.setattr(checkpoint, "write_archive", write)


def test_a_full_disk_stops_no_fit(tmp_path, monkeypatch, caplog):
    path, whole = tmp_path / "fit.checkpoint", fit_density(TARGET.density(), LOOSE)
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        fit = fit_density(TARGET.density(), LOOSE, checkpoint=Full(path, monkeypatch, 4))
    [said] = [r.getMessage() for r in caplog.records if "could not be written" in r.getMessage()]
    assert "No space left on device" in said
    assert [s.code for s in fit.statuses if s.code == "checkpoint"] == ["checkpoint"]
    assert_same(fit.weights, whole.weights)
    monkeypatch.undo()
    # The earlier file is whole, and the fit goes on from it.
    again = fit_density(TARGET.density(), LOOSE, checkpoint=Checkpoint(path))
    assert_same(again.weights, whole.weights)
    assert "checkpoint" not in {s.code for s in again.statuses}


def test_room_that_comes_back_is_used(tmp_path, monkeypatch):
    path = tmp_path / "fit.checkpoint"
    fit = fit_density(TARGET.density(), LOOSE, checkpoint=Full(path, monkeypatch, 4, 6))
    assert "checkpoint" in {s.code for s in fit.statuses}
    assert_same(fit_density(TARGET.density(), LOOSE, checkpoint=Checkpoint(path)), fit)


def _fit_with_small_files(path, moves):
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    kept = Checkpoint(path, write_share=np.inf)
    fit = fit_density(TARGET.density(), LOOSE, checkpoint=kept)
    moves.send(([s.code for s in fit.statuses], fit.weights.weight))


@needs_fork
def test_a_file_that_may_grow_no_further_stops_no_fit(tmp_path):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    path = tmp_path / "fit.checkpoint"
    process = context.Process(target=_fit_with_small_files, args=(path, there))
    process.start()
    there.close()
    codes, weight = here.recv()
    process.join()
    assert "checkpoint" in codes
    assert {*os.listdir(tmp_path)} <= {"fit.checkpoint", "fit.checkpoint.log"}
    again = fit_density(TARGET.density(), LOOSE, checkpoint=Checkpoint(path))
    np.testing.assert_array_equal(again.weights.weight, weight)


def test_settings_that_cannot_be_written_stop_no_fit(tmp_path, caplog):
    search = mm.ModeSearch()
    object.__setattr__(search, "locations", ({"x": TARGET},))
    object.__setattr__(search, "locations", None)
    config = replace(LOOSE, modes=search)
    object.__setattr__(config, "evaluations", TARGET)
    density = TARGET.density()
    with caplog.at_level(logging.WARNING, "pymc.multimodal"):
        kept = Checkpoint(tmp_path / "fit.checkpoint", write_share=np.inf)
        fit = fit_density(density, config, checkpoint=kept)
    assert sum("could not be written" in r.getMessage() for r in caplog.records) == 1
    assert "checkpoint" in {s.code for s in fit.statuses}
    assert_same(fit.weights, fit_density(TARGET.density(), LOOSE).weights)


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        (5, TypeError, r"checkpoint=5 must be the name of a file"),
        (".", IsADirectoryError, "is a folder: give the name of a file"),
        ("nowhere/a", FileNotFoundError, "there is no folder 'nowhere'"),
    ],
)
def test_what_is_no_name_of_a_file_is_refused(path, kind, said):
    with pytest.raises(kind, match=said):
        Checkpoint(path)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder in which nothing is written")
def test_a_path_that_cannot_be_written_is_said_before_any_evaluation():
    density = TARGET.density()
    with pytest.raises(
        OSError, match=r"checkpoint='/proc/self/a' cannot be written.*a folder that"
    ):
        fit_density(density, LOOSE, checkpoint=Checkpoint("/proc/self/a"))
    assert density.n_logp_evals == 0


def test_files_that_a_kill_left_unfinished_are_removed(tmp_path):
    path, rest = tmp_path / "fit.checkpoint", tmp_path / "fit.checkpoint.12345.tmp"
    for _ in range(2):
        rest.write_text("half of a")
        with pytest.raises(Killed):
            fit_density(TARGET.density(), LOOSE, report=killing(4), checkpoint=Checkpoint(path))
        assert not rest.exists()


def test_two_fits_cannot_share_a_file(tmp_path):
    path = tmp_path / "fit.checkpoint"

    def report(stage, text):
        with pytest.raises(FitError, match="Two fits cannot share a file"):
            fit_density(TARGET.density(), LOOSE, checkpoint=Checkpoint(path))
        raise Killed

    with pytest.raises(Killed):
        fit_density(TARGET.density(), LOOSE, report=report, checkpoint=Checkpoint(path))


# ------------------------------------------------------------------ a limit that is raised


def ended_at_a_limit(path, make=TARGET.density, config=LOOSE, **limits):
    """Fit up to a limit."""
    kept = Checkpoint(path, write_share=np.inf)
    return fit_density(make(), replace(config, **limits), checkpoint=kept)


@pytest.mark.parametrize(
    ("name", "max_evals"),
    [("chains", 400), ("chains", 12_000), ("banana", 3000), ("symmetric", 3000), ("units", 9000)],
)
def test_a_fit_that_a_limit_has_ended_goes_on_with_a_larger_one(name, max_evals, tmp_path):
    """Weights are those of a fit without the limit, and what was spent counts."""
    make, settings = CASES[name]
    config, path = replace(LOOSE, **{**settings, "max_evals": None}), tmp_path / "fit.checkpoint"
    first = ended_at_a_limit(path, make, config, max_evals=max_evals)
    assert first.n_logp_evals <= max_evals
    again = ended_at_a_limit(path, make, config)
    whole = fit_density(make(), config)
    assert again.config.max_evals is None
    assert not {"budget", "unfinished", "laplace"} & {s.code for s in again.statuses}
    # Batches of the search are smaller under a limit, so that what follows is not the same.
    assert again.n_logp_evals > max(first.n_logp_evals, 0.7 * whole.n_logp_evals)
    assert again.n_logp_evals <= first.n_logp_evals + 1.2 * whole.n_logp_evals
    assert again.evals_by_step["cut off"] > 0
    counted, of_whole = (sum(fit.evals_by_step.values()) for fit in (again, whole))
    assert again.n_logp_evals - counted == whole.n_logp_evals - of_whole
    apart = again.weights.weight - whole.weights.weight
    assert (np.abs(apart) <= 4 * np.hypot(again.weights.weight_se, whole.weights.weight_se)).all()


def test_a_limit_that_has_cut_nothing_leaves_the_fit_as_it_is(tmp_path):
    path = tmp_path / "fit.checkpoint"
    first = ended_at_a_limit(path, max_evals=50_000)
    again = ended_at_a_limit(path, max_evals=60_000, max_seconds=None)
    assert again.n_logp_evals == first.n_logp_evals
    assert again.config.max_evals == 60_000
    assert_same(again.weights, first.weights)


def test_a_fit_that_was_killed_goes_on_with_a_larger_limit(tmp_path):
    """Nothing is cut yet: what is known stays. The file then has the larger limit."""
    config, path = replace(LOOSE, first_answer=False, challenge=False), tmp_path / "fit.checkpoint"
    with pytest.raises(Killed):
        fit_density(
            TARGET.density(), replace(config, max_evals=50_000), report=killing(8),
            checkpoint=Checkpoint(path, write_share=np.inf),
        )  # fmt: skip
    more = replace(config, max_evals=80_000)
    again = fit_density(TARGET.density(), more, checkpoint=Checkpoint(path))
    whole = fit_density(TARGET.density(), more)
    assert again.n_logp_evals < 1.2 * whole.n_logp_evals
    assert "cut off" not in again.evals_by_step
    with pytest.raises(FitError, match=r"another max_evals: 80000 then, 50000 now.*a larger limit"):
        fit_density(
            TARGET.density(), replace(config, max_evals=50_000), checkpoint=Checkpoint(path)
        )


def test_a_fit_that_was_killed_beyond_a_cut_goes_back_behind_it(tmp_path):
    config, path = replace(LOOSE, first_answer=False), tmp_path / "fit.checkpoint"
    stages = []

    def report(stage, text):
        stages.append(stage)
        if stage == "bridge":
            raise Killed

    with pytest.raises(Killed):
        fit_density(
            TARGET.density(), replace(config, max_evals=9000), report=report,
            checkpoint=Checkpoint(path, write_share=np.inf),
        )  # fmt: skip
    # With the same limit it goes on from there; with a larger one the chains go on first.
    same, larger = [], []
    copy = tmp_path / "copy.checkpoint"
    copy.write_bytes(path.read_bytes())
    fit_density(
        TARGET.density(), replace(config, max_evals=9000), checkpoint=Checkpoint(copy),
        report=lambda stage, text: same.append(stage),
    )  # fmt: skip
    again = fit_density(
        TARGET.density(), config, checkpoint=Checkpoint(path),
        report=lambda stage, text: larger.append(stage),
    )  # fmt: skip
    assert same[:2] == ["plan", "bridge"]
    assert larger[1] in stages[: stages.index("proposals")]
    assert again.evals_by_step["cut off"] > 0
    assert "budget" not in {s.code for s in again.statuses}


def test_a_limit_in_seconds_can_be_raised(tmp_path, stopped_clock):
    def density():
        made = TARGET.density()
        made.function = slow
        return made

    def slow(x):
        stopped_clock.skip(1e-3 * len(x))
        return TARGET(x)

    config, path = replace(LOOSE, first_answer=False), tmp_path / "fit.checkpoint"
    first = fit_density(density(), replace(config, max_seconds=3.0), checkpoint=Checkpoint(path))
    assert "budget" in {s.code for s in first.statuses}
    again = fit_density(density(), config, checkpoint=Checkpoint(path))
    assert "budget" not in {s.code for s in again.statuses}
    assert sum(again.seconds.values()) > sum(first.seconds.values())


def test_expensive_evaluations_after_a_cut_are_not_paid_again(tmp_path, stopped_clock):
    """What a larger limit makes again is read from the log as far as it is the same."""
    paid = []

    def slow(x):
        paid.append(len(x))
        stopped_clock.skip(0.011 * len(x))
        return TARGET(x)

    def density():
        made = TARGET.density()
        made.function = slow
        return made

    path = tmp_path / "fit.checkpoint"
    config = FitConfig(modes=mm.ModeSearch(max_starts=16), first_answer=False, max_evals=2500)
    fit_density(density(), config, checkpoint=Checkpoint(path))
    before = sum(paid)
    assert sorted(os.listdir(tmp_path)) == ["fit.checkpoint", "fit.checkpoint.log"]
    paid.clear()
    larger = replace(config, max_evals=5000)
    again = fit_density(density(), larger, checkpoint=Checkpoint(path))
    redone = again.evals_by_step["cut off"]
    assert before + sum(paid) < again.n_logp_evals - 0.3 * redone
