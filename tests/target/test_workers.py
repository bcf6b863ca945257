"""Worker processes that crash, hang or are left alone."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clocks import wait_until
from engines import alive
from own_workers import own_workers

from pymc_multimodal.status import FitError, LimitReached
from pymc_multimodal.target.density import CHUNK, Density
from pymc_multimodal.target.limits import CallTimes, Limits
from pymc_multimodal.target.workers import WorkerPool


def troubled(x):
    """A normal density with a fault of each kind where its first coordinate is large."""
    first = x[:, 0].max()
    if first == 11.0:
        sys.exit(3)
    if first == 12.0:
        while True:
            pass
    if first == 13.0:
        # Compiled code that lets no other thread run, and that no signal ends.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        ctypes.PyDLL(None).sleep(60)
    if first == 14.0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if first == 15.0:
        time.sleep(2.0)
    return -0.5 * np.sum(x**2, axis=1), -x


def at(*first):
    return np.array([[value, 0.5] for value in first])


@pytest.fixture(scope="module")
def shared():
    """One pool for all faults; a fault that ends it lets it start again."""
    density = Density(troubled, 2, workers=2, names=("a", "b"))
    yield density
    density.close()


# Workers are slow to start: each imports PyMC.
@pytest.fixture(params=["here", pytest.param("workers", marks=pytest.mark.slow)])
def density(request):
    """A density that is evaluated in this process, and one that workers evaluate."""
    if request.param == "here":
        return Density(troubled, 2, names=("a", "b"))
    return request.getfixturevalue("shared")


def test_exit_is_an_error_of_the_point(density):
    np.testing.assert_array_equal(density.logp(at(1.0, 11.0, 2.0)), [-0.625, -np.inf, -2.125])
    assert density.tally.raised == 1
    assert "SystemExit: 3" in str(density.last_error)


@pytest.mark.slow  # worker processes import PyMC
def test_a_small_batch_is_evaluated_by_a_worker_too(shared):
    """A crash must not end the main process; with a single chunk nothing would be shared."""
    shared.start_workers()
    assert len(own_workers()) == 2
    shared.logp(at(1.0))


def hangs(density, x):
    began = time.monotonic()
    with density.within(Limits(last_time=began + 0.2)), pytest.raises(LimitReached):
        density.logp(x)
    # One second of grace; the point is then looked for. It would take for ever.
    assert 1.0 < time.monotonic() - began < 20
    return str(density.hung)


def test_python_that_hangs_is_given_up_and_the_point_named(density):
    density.logp(at(1.0))
    before = own_workers()
    said = hangs(density, at(*np.linspace(0, 1, CHUNK + 3), 12.0, 1.0))
    assert "(a=12, b=0.5)" in said
    assert "max_seconds" in said
    np.testing.assert_array_equal(density.logp(at(1.0)), [-0.625])
    # The time that was lost does not count as the time that an evaluation takes.
    hangs(density, at(12.0))
    # The worker was interrupted and goes on.
    assert own_workers() == before


def test_an_evaluation_as_slow_as_those_before_is_no_hang(stopped_clock):
    times = CallTimes(deadline=time.monotonic())
    assert times.of_next_call().seconds == pytest.approx(1.0)
    times.took(2.0)
    times.took(1.0)
    assert times.of_next_call().seconds == pytest.approx(5.0)
    times.deadline = time.monotonic() + 10
    assert times.of_next_call().seconds == pytest.approx(15.0)
    times.deadline = float("inf")
    assert times.of_next_call() is None


def test_what_cannot_be_sent_to_workers_is_said_before_any_evaluation():
    lock = threading.Lock()

    def function(x):
        with lock:
            return -0.5 * np.sum(x**2, axis=1), -x

    with pytest.raises(FitError, match=r"cannot be sent to the workers=2 processes.*lock"):
        Density(function, 2, workers=2).logp(at(1.0))


def unloadable():
    raise ImportError("no module of that name")


class NotThere:
    """Pickles, but not back in another process."""

    def __call__(self, x):
        return -0.5 * np.sum(x**2, axis=1), -x

    def __reduce__(self):
        return unloadable, ()


@pytest.mark.slow  # a worker process imports PyMC
def test_what_a_worker_cannot_load_is_said():
    before = own_workers()
    density = Density(NotThere(), 2, workers=2)
    with pytest.raises(FitError, match=r"could not load the model.*ImportError: no module"):
        density.logp(at(1.0))
    assert own_workers() == before


@pytest.mark.slow  # a worker process is awaited until it is stopped
def test_compiled_code_that_hangs_is_stopped_with_its_worker(shared):
    shared.logp(at(1.0))
    said = hangs(shared, at(1.0, 13.0))
    assert "(a=1, b=0.5)" in said
    assert "2 points" in said
    assert not own_workers()
    np.testing.assert_array_equal(shared.logp(at(1.0)), [-0.625])


@pytest.mark.slow  # worker processes are killed and started again
def test_a_crash_names_its_signal_and_its_point(shared):
    with pytest.raises(FitError, match=r"SIGSEGV.*a=14, b=0\.5"):
        shared.logp(at(14.0))
    assert not own_workers()
    np.testing.assert_array_equal(shared.logp(at(1.0)), [-0.625])


@pytest.mark.slow  # worker processes import PyMC
def test_results_that_nobody_waits_for_do_not_return_later():
    pool = WorkerPool(troubled, 2)
    try:
        batches = [at(float(i)) for i in range(4)]
        results = pool.evaluate([*batches, at(15.0)])
        next(results)
        results.close()
        for batch, result in zip(batches, pool.evaluate(batches), strict=True):
            np.testing.assert_array_equal(result.logp, troubled(batch)[0])
    finally:
        pool.close()


# ------------------------------------------------------------------ the main process

SCRIPT = """
import multiprocessing, sys, threading, time
import numpy as np
from pymc_multimodal.target.density import Density

def slow(x):
    if x[0, 0] > 1:
        while True:
            pass
    return -0.5 * np.sum(x**2, axis=1), -x

if __name__ == "__main__":
    density = Density(slow, 2, workers=2)
    kind = sys.argv[1]
    if kind == "busy":
        density.logp(np.zeros((64, 2)))
    def tell():
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.05)
        time.sleep(0.5)
        print("workers", *(w.pid for w in workers), flush=True)
    threading.Thread(target=tell, daemon=True).start()
    density.logp(np.full((64, 2), 2.0))
"""


def begun(kind, folder):
    """Start the script, and return it with its workers once they exist."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(script), kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": root}, start_new_session=True,
    )  # fmt: skip
    line = process.stdout.readline()
    return process, [int(n) for n in re.findall(r"\d+", line)]


@pytest.mark.slow  # a process of its own starts workers
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")
@pytest.mark.parametrize("kind", ["busy", "starting"])
def test_workers_end_with_a_main_process_that_was_killed(kind, tmp_path):
    """As `kill -9` does, or the kernel where memory runs out."""
    process, workers = begun(kind, tmp_path)
    assert len(workers) == 2
    assert all(alive(pid) for pid in workers)
    process.kill()
    process.communicate()
    # A process that starts looks at the main process when it has imported everything.
    assert wait_until(lambda: not any(alive(pid) for pid in workers))


@pytest.mark.slow  # a process of its own starts workers
@pytest.mark.parametrize("kind", ["busy", "starting"])
def test_ctrl_c_shows_one_traceback_alone(kind, tmp_path):
    """A terminal sends Ctrl-C to all processes, also to those that start."""
    process, workers = begun(kind, tmp_path)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.count("Traceback (most recent call last)") == 1, said
    assert said.rstrip().endswith("KeyboardInterrupt")
