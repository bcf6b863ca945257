"""Engines of other libraries: the same values, and what is said where they fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
import pytest
from clocks import wait_until
from engines import Here, alive

from pymc_multimodal.status import FitError, LimitReached
from pymc_multimodal.target import Density, Limits
from pymc_multimodal.target.engines import (
    JoblibBackend,
    check_workers,
    engine_size,
    following_joblib,
)
from pymc_multimodal.target.tasks import THREAD_VARIABLES, capped_environment
from pymc_multimodal.target.workers import bundled

SPAWN = get_context("spawn")


def normal(x):
    return -0.5 * np.sum(x**2, axis=1), -x


class Single(Executor):
    """An executor that does a task when it is submitted."""

    def submit(self, function, *args):
        future = Future()
        future.set_result(function(*args))
        return future


def points(rng, n=100):
    return rng.standard_normal((n, 3))


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("chunk", [1, 32])
@pytest.mark.parametrize("kind", ["map", "submit", "threads"])
def test_values_are_those_of_one_process(kind, chunk, rng):
    x = points(rng)
    expected = Density(normal, 3, chunk=chunk).logp_and_grad(x)
    with ThreadPoolExecutor(3) as threads:
        engine = {"map": Here(), "submit": Single(), "threads": threads}[kind]
        density = Density(normal, 3, workers=engine, chunk=chunk)
        density.start_workers()
        for _ in range(2):
            for ours, theirs in zip(density.logp_and_grad(x), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert density.n_logp_evals == density.n_grad_evals == 2 * len(x)


def test_a_model_travels_once_to_a_worker(rng):
    shift = rng.standard_normal(3)

    def function(x):
        return normal(x - shift)

    engine = Here(n_workers=1)
    density = Density(function, 3, workers=engine, chunk=1)
    density.start_workers()
    for _ in range(3):
        density.logp(points(rng))
    assert sum(task.content is not None for task in engine.tasks) == 1
    assert len(engine.tasks) >= 100


def test_a_first_request_is_one_request(rng):
    """Also where workers were not started before, as after the outputs of a model are exposed."""
    engine, shift = Here(n_workers=3), rng.standard_normal(3)
    density = Density(lambda x: normal(x - shift), 3, workers=engine, chunk=1)
    density.logp(points(rng))
    sizes = [sum(map(len, t.calls)) for t in engine.tasks]
    # Three that ask for the function, three that get it, and the points.
    assert sizes == [0] * 6 + [1] * 100
    assert sum(task.content is not None for task in engine.tasks) == 3


def test_errors_of_the_model_are_those_of_points(rng):
    def function(x):
        if (x[:, 0] > 0).any():
            raise ArithmeticError("no solution")
        return normal(x)

    x = points(rng)
    alone, shared = Density(function, 3), Density(function, 3, workers=Here())
    np.testing.assert_array_equal(shared.logp(x), alone.logp(x))
    assert shared.tally.raised == alone.tally.raised > 0
    assert "no solution" in str(shared.last_error)


def test_values_of_a_dear_function_are_asked_of_workers(rng):
    class Function:
        def __call__(self, x):
            return normal(x)

        def values(self, x):
            assert len(x) == 1
            return normal(x)[0]

    x = points(rng, 20)
    alone, shared = (Density(Function(), 3, chunk=1, workers=w) for w in (1, Here()))
    np.testing.assert_array_equal(shared.values(x), alone.values(x))
    assert shared.n_values == 20
    assert shared.n_grad_evals == 0


def test_few_points_of_a_dear_function_go_to_as_many_workers():
    class Function:
        price = 1.0

        def __call__(self, x):
            return normal(x)

    engine = Here(n_workers=16)
    density = Density(Function(), 3, workers=engine)
    assert density.chunk == 1
    density.start_workers()
    engine.tasks.clear()
    density.logp(np.zeros((16, 3)))
    assert [len(task.calls) for task in engine.tasks] == [1] * 16


def test_quick_calls_are_joined_to_tasks_and_dear_ones_are_not():
    calls = [np.zeros((1, 2))] * 1000
    assert [len(b) for b in bundled(calls, 10, 1e-3)] == [25] * 40
    assert [len(b) for b in bundled(calls, 10, 0.05)] == [2] * 500
    assert len(bundled(calls, 10, 1.0)) == len(bundled(calls, 10, 0.0)) == 1000
    assert bundled([], 10, 0.0) == []


# ------------------------------------------------------------------ what users pass


@pytest.mark.parametrize(
    "value", [None, 0, 1.5, True, "dask", object(), [1, 2], {"map": 1}, ThreadPoolExecutor]
)
def test_what_is_neither_a_number_nor_an_engine_is_refused(value):
    with pytest.raises((TypeError, ValueError), match=r"^fit\(workers="):
        check_workers("fit", value)


def test_numbers_and_engines_are_taken():
    for value in (1, np.int64(3), Here(), Single()):
        check_workers("fit", value)
    with ThreadPoolExecutor(5) as threads:
        assert engine_size(threads) == 5
    assert engine_size(Single()) >= 1


def test_a_closed_executor_is_said_before_any_evaluation():
    threads = ThreadPoolExecutor(2)
    threads.shutdown()
    density = Density(normal, 3, workers=threads)
    with pytest.raises(FitError, match=r"workers=ThreadPoolExecutor takes no tasks.*closed\?"):
        density.start_workers()
    assert density.n_logp_evals == 0


def test_another_version_is_said_before_any_evaluation():
    engine = Here(change=lambda task: task._replace(versions="9.9.9, Python 3.99"))
    density = Density(normal, 3, workers=engine)
    with pytest.raises(FitError, match=r"this process has 9\.9\.9.*install the same"):
        density.start_workers()
    assert density.n_logp_evals == 0


def test_what_cannot_travel_is_named():
    guard = threading.Lock()

    def inner(x):
        with guard:
            return normal(x)

    def function(x):
        return inner(x)

    with pytest.raises(FitError, match=r"cannot be sent to workers=Here.*'inner\.guard', of type"):
        Density(function, 3, workers=Here()).start_workers()


def unloadable():
    raise ImportError("no module of that name")


class NotThere:
    def __call__(self, x):
        return normal(x)

    def __reduce__(self):
        return unloadable, ()


def test_what_a_worker_cannot_load_is_said():
    with pytest.raises(FitError, match=r"could not load the model.*ImportError: no module"):
        Density(NotThere(), 3, workers=Here()).start_workers()


# ------------------------------------------------------------------ joblib


def test_joblib_is_followed_where_a_backend_is_active(rng):
    assert following_joblib() == 1
    with joblib.parallel_config("threading", n_jobs=2):
        backend = following_joblib()
        assert backend == JoblibBackend("ThreadingBackend", 2)
        x = points(rng)
        density = Density(normal, 3, workers=backend, chunk=1)
        np.testing.assert_array_equal(density.logp(x), Density(normal, 3, chunk=1).logp(x))
    assert following_joblib() == 1


def test_workers_of_joblib_start_no_workers():
    """A user's loop over models in joblib has as many processes as were asked for."""
    calls = [joblib.delayed(following_joblib)() for _ in range(2)]
    assert joblib.Parallel(n_jobs=2, backend="threading")(calls) == [1, 1]


# ------------------------------------------------------------------ faults


def test_a_lost_task_is_done_again(rng, caplog):
    x, engine = points(rng), Here()
    density = Density(normal, 3, workers=engine)
    density.start_workers()
    engine.failures = 1
    np.testing.assert_array_equal(density.logp(x), Density(normal, 3).logp(x))
    assert "done again" in caplog.text


def test_a_task_that_is_lost_twice_is_given_up_with_its_point(rng):
    engine = Here()
    density = Density(normal, 3, workers=engine)
    density.start_workers()
    engine.failures = 100
    with pytest.raises(FitError, match=r"lost the task twice.*point \(x\[0\]=.*connection is gone"):
        density.logp(points(rng, 1))


def test_a_call_that_hangs_is_given_up(rng):
    def function(x):
        while x[0, 0] > 10:
            pass
        return normal(x)

    with ThreadPoolExecutor(2) as threads:
        density = Density(function, 3, workers=threads)
        density.start_workers()
        with (
            density.within(Limits(last_time=time.monotonic() + 0.1)),
            pytest.raises(LimitReached),
        ):
            density.logp(np.full((1, 3), 11.0))
    assert "x[0]=11" in str(density.hung)


def crash(x, path):
    """Crash at a point: once where a path is given, and always without one."""
    if (x[:, 0] == 14.0).any() and not (path and os.path.exists(path)):
        if path:
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return normal(x)


class Crashing:
    def __init__(self, path):
        self.path = path

    def __call__(self, x):
        return crash(x, self.path)


def opened(kind):
    if kind == "own":
        return 2
    if kind == "futures":
        return ProcessPoolExecutor(2, mp_context=SPAWN)
    return SPAWN.Pool(2)


def closed(engine):
    if isinstance(engine, ProcessPoolExecutor):
        engine.shutdown()
    elif engine != 2:
        engine.terminate()
        engine.join()


@pytest.mark.slow  # workers die and are started again
@pytest.mark.parametrize("kind", ["own", "futures", "pool"])
def test_a_worker_that_dies_costs_its_task_once(kind, tmp_path, rng, caplog):
    x, engine = points(rng, 40), opened(kind)
    x[17, 0] = 14.0
    try:
        density = Density(Crashing(str(tmp_path / "crashed")), 3, workers=engine, chunk=1)
        np.testing.assert_array_equal(density.logp(x), normal(x)[0])
        assert "again" in caplog.text
        density.close()
        density = Density(Crashing(""), 3, workers=engine, chunk=1)
        with pytest.raises(FitError, match=r"x\[0\]=14"):
            density.logp(x)
    finally:
        density.close()
        closed(engine)


@pytest.mark.slow  # a worker process imports PyMC
def test_workers_of_our_own_have_few_threads(monkeypatch):
    def function(x):
        import os

        return np.full(len(x), float(os.environ["OMP_NUM_THREADS"])), -x

    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    n = os.cpu_count() or 1
    density = Density(function, 3, workers=max(n, 2), chunk=1)
    try:
        assert (density.logp(np.zeros((4, 3))) == 1.0).all()
    finally:
        density.close()


def test_a_number_of_threads_that_the_user_has_set_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    before = dict(os.environ)
    with capped_environment(1):
        assert dict(os.environ) == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with capped_environment(2):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert dict(os.environ) == before


SCRIPT = """
import multiprocessing, sys, time
import numpy as np
from concurrent.futures import ProcessPoolExecutor
from pymc_multimodal.target import Density

def slow(x):
    time.sleep(0.05 if x[0, 0] < 1 else 600.0)
    return -0.5 * np.sum(x**2, axis=1), -x

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, mp_context=context)
    density = Density(slow, 2, workers=pool, chunk=1)
    density.logp(np.zeros((8, 2)))
    print("workers", *(p.pid for p in multiprocessing.active_children()), flush=True)
    density.logp(np.full((8, 2), 2.0))
"""


@pytest.mark.slow  # a process of its own starts workers
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")
def test_workers_of_an_executor_end_with_a_main_process_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    workers = [int(n) for n in re.findall(r"\d+", process.stdout.readline())]
    assert len(workers) == 2
    process.kill()
    process.communicate()
    assert wait_until(lambda: not any(alive(pid) for pid in workers))


# ------------------------------------------------------------------ real engines


@pytest.fixture(params=["loky", "joblib", "dask", "ray"])
def real(request):
    """An engine of another library with two processes; skipped where the library is missing."""
    if request.param == "loky":
        executor = joblib.externals.loky.get_reusable_executor(2)
        yield executor
        # joblib itself cannot use it: it has none of joblib's folders.
        executor.shutdown()
    elif request.param == "joblib":
        with joblib.parallel_config("loky", n_jobs=2):
            yield following_joblib()
    elif request.param == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as client:
            yield client
    else:
        ray = pytest.importorskip("ray")
        pool = pytest.importorskip("ray.util.multiprocessing")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield pool.Pool(2)
        ray.shutdown()


@pytest.mark.slow  # engines of other packages start workers
@pytest.mark.filterwarnings("ignore")
def test_real_engines_give_the_values_of_one_process(real, rng):
    x = points(rng, 300)
    expected = Density(normal, 3, chunk=1).logp_and_grad(x)
    density = Density(normal, 3, workers=real, chunk=1)
    density.start_workers()
    for _ in range(2):
        for ours, theirs in zip(density.logp_and_grad(x), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
