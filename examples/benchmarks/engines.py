"""Fits and draws by an engine of another library: the same draws, and what travels.

A model is sampled by one process, by two and three of the fit's own, and by an engine with two
workers: the draws have to be the same bit for bit. Printed are the tasks, the times that the model
was sent, its size, the bytes of a task without it, and what a task of one point costs the main
process. Run it with::

    python examples/benchmarks/engines.py --engine futures
    python examples/benchmarks/engines.py --engine dask
    python examples/benchmarks/engines.py --engine ray
    mpiexec -n 3 python -m mpi4py.futures examples/benchmarks/engines.py --engine mpi

Engines: futures, pool, joblib, loky, dask, ray, mpi.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm

import pymc_multimodal as mm
from pymc_multimodal._compat import get_dataset
from pymc_multimodal.target import Density
from pymc_multimodal.target.engines import JoblibBackend, following_joblib
from pymc_multimodal.target.tasks import Answer, Task

N_WORKERS = 2
# Points by which the cost of a task is measured.
POINTS = 500


class Measured:
    """An engine, with the sizes of the tasks that it is given.

    Parameters
    ----------
    engine : object
    """

    def __init__(self, engine: Any) -> None:
        self.engine, self.n_workers = engine, N_WORKERS
        self.tasks, self.models, self.task_bytes, self.model_bytes = 0, 0, 0, 0
        for name in ("submit", "apply_async", "map"):
            if callable(getattr(engine, name, None)):
                setattr(self, name, getattr(self, f"_{name}"))
                break

    def _count(self, task: Task) -> None:
        size = len(pickle.dumps(task))
        if task.content is None:
            self.tasks, self.task_bytes = self.tasks + 1, self.task_bytes + size
        else:
            self.models, self.model_bytes = self.models + 1, self.model_bytes + size

    def _submit(self, function: Callable[[Task], Answer], task: Task) -> Any:
        self._count(task)
        return self.engine.submit(function, task)

    def _apply_async(self, function, arguments, **callbacks) -> Any:
        self._count(*arguments)
        return self.engine.apply_async(function, arguments, **callbacks)

    def _map(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        for task in tasks:
            self._count(task)
        return self.engine.map(function, tasks)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Any]:
    """Open an engine with two workers."""
    if name == "futures":
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(
            N_WORKERS, mp_context=multiprocessing.get_context("spawn")
        ) as pool:
            yield pool
    elif name == "pool":
        with multiprocessing.get_context("spawn").Pool(N_WORKERS) as pool:
            yield pool
    elif name == "joblib":
        import joblib

        with joblib.parallel_config("loky", n_jobs=N_WORKERS):
            backend = following_joblib()
            assert isinstance(backend, JoblibBackend)
            yield backend
    elif name == "loky":
        from joblib.externals.loky import get_reusable_executor

        yield get_reusable_executor(N_WORKERS)
    elif name == "dask":
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client.get_executor(pure=False)
    elif name == "ray":
        import ray
        from ray.util.multiprocessing import Pool

        ray.init(num_cpus=N_WORKERS, include_dashboard=False, log_to_driver=False)
        with Pool(N_WORKERS) as pool:
            yield pool
        ray.shutdown()
    elif name == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as pool:
            yield pool
    else:
        sys.exit(f"--engine {name}: it is none of futures, pool, joblib, loky, dask, ray, mpi.")


def model_of(n: int) -> pm.Model:
    """Return a model with two modes and n observations, whose log density has a matrix product."""
    rng = np.random.default_rng(1)
    design = rng.standard_normal((n, 4))
    seen = np.abs(design @ np.ones(4)) + 0.5 * rng.standard_normal(n)
    with pm.Model() as model:
        slope = pm.Normal("slope", 0.0, 2.0, shape=4)
        pm.Normal("y", pm.math.abs(design @ slope), 0.5, observed=seen)
    return model


def draws(model: pm.Model, workers: Any) -> np.ndarray:
    idata = mm.sample(
        200, chains=2, model=model, random_seed=3, workers=workers, progressbar=False, quiet=True,
        compute_convergence_checks=False, modes=mm.ModeSearch(screening=0),
    )  # fmt: skip
    return get_dataset(idata, "posterior")["slope"].values


def quick(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a normal log density, and its gradient."""
    return -0.5 * np.sum(x**2, axis=1), -x


def seconds_of_a_task(engine: Any) -> float:
    """CPU seconds of the main process for a task of one point."""
    density = Density(quick, 6, chunk=1, workers=Unjoined(engine))
    density.start_workers()
    x = np.random.default_rng(1).standard_normal((POINTS, 6))
    began = time.process_time()
    density.logp(x)
    return (time.process_time() - began) / POINTS


class Unjoined(Measured):
    """An engine with so many workers that calls are not joined to tasks, as where each is dear."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.n_workers = POINTS

    def _count(self, task: Task) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True)
    parser.add_argument("--observations", type=int, default=1_000)
    args = parser.parse_args()
    logging.getLogger("pymc.multimodal").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    model = model_of(args.observations)
    alone = draws(model, 1)
    for n in (2, 3):
        print(
            f"{n} own processes, same draws: {np.array_equal(draws(model, n), alone)}", flush=True
        )
    with opened(args.engine) as engine:
        measured = Measured(engine)
        same = np.array_equal(draws(model, measured), alone)
        cost = seconds_of_a_task(engine)
    print(f"{args.engine}, {N_WORKERS} workers, same draws: {same}")
    print(
        f"{measured.tasks} tasks of {measured.task_bytes / max(measured.tasks, 1):.0f} bytes each; "
        f"the model was sent {measured.models} times, "
        f"{measured.model_bytes / max(measured.models, 1):.0f} bytes each"
    )
    print(f"a task of one point costs the main process {1e3 * cost:.2f} CPU ms")
    sys.exit(not same)


if __name__ == "__main__":
    main()
