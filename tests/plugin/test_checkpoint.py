"""The keyword `checkpoint`, through PyMC models."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import models
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from killed import Killed
from pytensor.compile.ops import wrap_py

import pymc_multimodal as mm
from pymc_multimodal import FitError, MultimodalDiffusion
from pymc_multimodal._compat import get_dataset
from pymc_multimodal.plugin.progress import FitProgress

QUIET = {"progressbar": False, "quiet": True, "target_se": 0.05}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.checkpoint"


@pytest.fixture(scope="module")
def model():
    return models.one_dimensional("x")


def killed_at(monkeypatch, n):
    """Let fits end at the n-th stage; undo it with ``monkeypatch.undo()``."""
    heard = []

    def report(self, stage, text):
        heard.append(stage)
        if len(heard) == n:
            raise Killed

    monkeypatch.setattr(FitProgress, "report", report)


def draws_of(idata):
    return get_dataset(idata, "posterior")["x"].to_numpy()


def test_a_second_call_of_sample_gives_the_same_draws(model, path, monkeypatch):
    settings = {"draws": 50, "model": model, "compute_convergence_checks": False, **QUIET}
    whole = draws_of(mm.sample(random_seed=4, **settings))
    killed_at(monkeypatch, 3)
    with pytest.raises(Killed):
        mm.sample(random_seed=4, checkpoint=path, **settings)
    monkeypatch.undo()
    assert path.exists()
    for _ in range(2):
        again = mm.sample(random_seed=4, checkpoint=str(path), **settings)
        np.testing.assert_array_equal(draws_of(again), whole)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_call_without_a_seed_takes_that_of_the_file(model, path):
    first = mm.fit(model, checkpoint=path, **QUIET)
    again = mm.fit(model, checkpoint=path, **QUIET)
    assert again.config.random_seed == first.config.random_seed
    np.testing.assert_array_equal(again.weights.weight, first.weights.weight)
    with pytest.raises(FitError, match="another random_seed"):
        mm.fit(model, checkpoint=path, random_seed=1, **QUIET)


def test_the_step_goes_on(model, path, monkeypatch):
    killed_at(monkeypatch, 3)
    with pytest.raises(Killed):
        MultimodalDiffusion(model=model, random_seed=2, checkpoint=path, **QUIET)
    monkeypatch.undo()
    step = MultimodalDiffusion(model=model, random_seed=2, checkpoint=path, **QUIET)
    whole = mm.fit(model, random_seed=2, **QUIET)
    np.testing.assert_array_equal(step.fit.weights.weight, whole.weights.weight)


def test_other_data_are_refused(path):
    mm.fit(models.four_modes(), random_seed=1, checkpoint=path, **QUIET)
    changed = models.four_modes()
    with changed:
        pm.set_data({"noise": 1.1})
    with pytest.raises(FitError, match="model or its data changed"):
        mm.fit(changed, random_seed=1, checkpoint=path, **QUIET)


def test_a_checkpoint_beside_a_fit_is_refused(model, path):
    fit = mm.fit(model, random_seed=1, **QUIET)
    for call in (mm.sample, MultimodalDiffusion):
        with pytest.raises(TypeError, match="checkpoint= cannot be given together with fit="):
            call(model=model, fit=fit, checkpoint=path)


@pytest.mark.parametrize("function", [mm.fit, mm.sample, MultimodalDiffusion])
def test_what_cannot_be_a_file_is_refused_before_the_model_is_compiled(
    function, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("pymc_multimodal.plugin.fitting.density_of", pytest.fail)
    for path, kind in ((5, TypeError), (tmp_path, IsADirectoryError), ("no/a", FileNotFoundError)):
        with pytest.raises(kind, match="checkpoint="):
            function(model=model, checkpoint=path)


def test_expensive_draws_are_not_paid_for_again(path, clock):
    """A draw costs an evaluation of 15 ms. Killed amid them, the second call pays for the rest."""
    runs, most = [0], [10**9]

    def slow(x):
        runs[0] += 1
        if runs[0] > most[0]:
            raise Killed
        clock.skip(0.015)
        return np.array([x**2 - 1.0, 0.5 * x])

    op = wrap_py([pt.dscalar], [pt.dvector])(slow)

    def built():
        with pm.Model() as model:
            x = pm.Normal("x", 0, 1)
            pm.Normal("y", op(x), [0.3, 0.5], observed=[0.2, 0.1])
        return model

    settings = {
        "draws": 12, "chains": 2, "random_seed": 3, "compute_convergence_checks": False,
        "emulation": mm.Emulation(budget=60), **QUIET,
        "compile_kwargs": {"mode": "FAST_COMPILE"},
    }  # fmt: skip
    sample_only = ("draws", "chains", "compute_convergence_checks")
    whole = draws_of(mm.sample(model=built(), **settings))
    needed, runs[0] = runs[0], 0
    most[0] = needed - 8
    with pytest.raises(Killed):
        mm.sample(model=built(), checkpoint=path, **settings)
    most[0] = 10**9
    before = runs[0]
    again = mm.sample(model=built(), checkpoint=path, **settings)
    np.testing.assert_array_equal(draws_of(again), whole)
    paid, before = runs[0] - before, runs[0]
    # Compiling runs the simulator, and so does the look whether the model is the same.
    fit_settings = {k: v for k, v in settings.items() if k not in sample_only}
    mm.fit(built(), checkpoint=path, **fit_settings)
    overhead = runs[0] - before
    assert overhead < needed / 3
    assert 7 <= paid - overhead <= 9


SCRIPT = """
import sys
import models
import numpy as np
import pymc_multimodal as mm
if __name__ == "__main__":
    idata = mm.sample(20, model=models.four_modes(), random_seed=5, checkpoint=sys.argv[1],
                      first_answer=False, progressbar=False, quiet=True, target_se=0.05,
                      compute_convergence_checks=False)
    np.save(sys.argv[2], idata.posterior["x"].to_numpy())
"""


@pytest.mark.slow  # processes are killed and begin again
@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by a signal")
def test_processes_that_are_killed_give_the_draws_of_one_that_is_not(path, rng):
    tests, out = Path(__file__).parents[1], path.with_name("draws.npy")
    places = os.pathsep.join([str(tests), str(tests.parent)])
    environment = {**os.environ, "PYTHONPATH": places}

    def started(file):
        arguments = [sys.executable, "-c", SCRIPT, str(file), str(out)]
        return subprocess.Popen(arguments, env=environment)

    assert started(path.with_name("whole")).wait() == 0
    whole = np.load(out)
    killed = 0
    while killed < 4:
        process = started(path)
        while not path.exists() and process.poll() is None:
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Importing and compiling take most of the time after the first attempt.
            process.wait(rng.uniform(0.0, 2.0) + (8.0 if killed else 0.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        ended = process.wait()
        killed += ended == -signal.SIGKILL
        if ended == 0:
            break
    assert killed
    out.unlink(missing_ok=True)
    assert started(path).wait() == 0
    np.testing.assert_array_equal(np.load(out), whole)
