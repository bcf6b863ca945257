"""Engines of other libraries that evaluate points: executors, clients of clusters, pools.

There is no scheduler here: an engine is given tasks (`target.tasks`), and returns their answers.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.status import EvaluationHung, FitError, LimitReached, first_line
from pymc_multimodal.target.evaluation import BatchFunction, Evaluation, points_text
from pymc_multimodal.target.limits import CallTimes
from pymc_multimodal.target.tasks import VERSIONS, Answer, Home, Task, packed, run_task
from pymc_multimodal.target.workers import LATE_SECONDS, WorkerPool, bundled

__all__ = ["EnginePool", "check_workers", "engine_name", "engine_size", "following_joblib"]

_log = logging.getLogger("pymc.multimodal")

# Tasks that are with an engine at a time, for each of its workers: one is done and one waits.
# Conventional.
IN_FLIGHT = 2
# Seconds between two looks at the processes of a pool: a multiprocessing.Pool replaces a worker
# that died, and says nothing of its task. Conventional.
LOOK_SECONDS = 1.0
# Times that a task is given to an engine whose worker died. The issue of a task that kills each
# worker is known after two. Conventional.
MAX_TRIES = 2
# Attributes that hold the number of workers: of concurrent.futures and loky, of pools, of mpi4py.
SIZE_ATTRIBUTES = ("_max_workers", "_processes", "num_workers", "n_workers", "n_jobs")


# ------------------------------------------------------------------ what users pass


def check_workers(owner: str, value: object) -> None:
    """Raise unless a value is a number of processes, or an engine.

    Parameters
    ----------
    owner : str
        Class or function that the argument belongs to.
    value : object

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the number is smaller than 1.
    """
    if isinstance(value, Real) or value is None:
        checks.count(owner, "workers", value)
        return
    if _is_engine(value):
        return
    kind = type(value).__name__
    raise TypeError(
        f"{owner}(workers=...) was given a {kind}, which has none of `submit`, `apply_async` and "
        "`map`. Give a number of processes, or an engine that takes tasks: a "
        "concurrent.futures.ProcessPoolExecutor, a dask.distributed.Client, a "
        "multiprocessing.Pool, a ray.util.multiprocessing.Pool, an mpi4py.futures.MPIPoolExecutor."
    )


def _is_engine(value: object) -> bool:
    if isinstance(value, type) or isinstance(value, (str, bytes, dict, Iterable)):
        return False
    return any(callable(getattr(value, n, None)) for n in ("submit", "apply_async", "map"))


def engine_name(workers: Any) -> str:
    """Name what a user gave as `workers`, for messages."""
    return f"workers={workers}" if isinstance(workers, int) else f"workers={type(workers).__name__}"


def engine_size(workers: Any) -> int:
    """Return how many workers an engine has; the number of cores where that is not known."""
    if callable(getattr(workers, "nthreads", None)):
        return max(1, sum(workers.nthreads().values()))
    for name in SIZE_ATTRIBUTES:
        n = getattr(workers, name, None)
        if isinstance(n, int) and not isinstance(n, bool) and n > 0:
            return n
    return os.cpu_count() or 1


@dataclass(frozen=True)
class JoblibBackend:
    """The backend that ``joblib.parallel_config`` has made the active one.

    Attributes
    ----------
    name : str
    n_workers : int
    """

    name: str
    n_workers: int

    def map(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        """Do tasks by the active backend, in order."""
        import joblib

        done: list[Answer] = joblib.Parallel()(joblib.delayed(function)(task) for task in tasks)
        return done


def following_joblib() -> JoblibBackend | int:
    """Return the backend of an active ``joblib.parallel_config``; 1 where none is active."""
    joblib = sys.modules.get("joblib.parallel")
    if joblib is None:
        return 1
    backend, n_jobs = joblib.get_active_backend()
    if backend.nesting_level:
        # A worker of joblib, in which nobody has asked for more.
        return 1
    default = type(backend).__name__ == "LokyBackend"
    if n_jobs is None:
        if default:
            return 1
        # As joblib does: a backend that was chosen uses all that it has.
        n_jobs = -1
    n = backend.effective_n_jobs(n_jobs)
    return JoblibBackend(type(backend).__name__, n) if n > 1 or not default else 1


# ------------------------------------------------------------------ adapters


class _Outcome(NamedTuple):
    """An answer of a task, or the error of the engine."""

    number: int
    answer: Answer | None
    error: Exception | None


class _Futures:
    """An engine that takes single tasks, and tells when each is done.

    Parameters
    ----------
    engine : object
        With `submit`, as of concurrent.futures, or `apply_async`, as of multiprocessing.Pool.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        if callable(getattr(engine, "get_executor", None)):
            # dask: a task that is the same as an earlier one is done again.
            self.engine = engine.get_executor(pure=False)

    def send(self, number: int, task: Task) -> None:
        done = self.done
        if callable(getattr(self.engine, "submit", None)):
            future = self.engine.submit(run_task, task)
            future.add_done_callback(lambda future: done.put(_outcome(number, future)))
            return
        self.engine.apply_async(
            run_task,
            (task,),
            callback=lambda answer: done.put(_Outcome(number, answer, None)),
            error_callback=lambda error: done.put(_Outcome(number, None, error)),
        )

    def processes(self) -> frozenset[int]:
        """Return the processes of a multiprocessing.Pool; other engines tell of a death."""
        pool = getattr(self.engine, "_pool", None)
        if not isinstance(pool, list):
            return frozenset()
        return frozenset(p.pid for p in list(pool) if isinstance(getattr(p, "pid", None), int))


def _outcome(number: int, future: Any) -> _Outcome:
    try:
        return _Outcome(number, future.result(), None)
    except Exception as error:
        return _Outcome(number, None, error)
    except BaseException as error:
        # A task that was cancelled.
        return _Outcome(number, None, RuntimeError(f"{type(error).__name__}: {error}"))


class _Map:
    """An engine that has `map` alone: it is given as many tasks as there are.

    Parameters
    ----------
    engine : object
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()

    def send_all(self, numbered: Sequence[tuple[int, Task]]) -> None:
        try:
            answers = list(self.engine.map(run_task, [task for _, task in numbered]))
        except Exception as error:
            for number, _ in numbered:
                self.done.put(_Outcome(number, None, error))
            return
        for (number, _), answer in zip(numbered, answers, strict=True):
            self.done.put(_Outcome(number, answer, None))

    def processes(self) -> frozenset[int]:
        """Return none: such an engine tells of a death by an error."""
        return frozenset()


# ------------------------------------------------------------------ the pool


@dataclass
class _Given:
    """A task that an engine has, or shall have.

    Attributes
    ----------
    calls : tuple of arrays of shape (n, d)
    tries : int
        Times that it was lost with a worker.
    content : bytes or None
        The function, if the worker has asked for it.
    """

    calls: tuple[np.ndarray, ...]
    tries: int = 0
    content: bytes | None = None


class EnginePool:
    """Evaluates batches of points by an engine of another library.

    Parameters
    ----------
    function : callable
        See `BatchFunction`; it travels once to each worker.
    engine : object
        With `submit`, `apply_async` or `map`.
    names : sequence of str
        Names of the coordinates, for messages.

    Raises
    ------
    FitError
        If the function cannot be sent to another process.
    """

    def __init__(self, function: BatchFunction, engine: Any, names: Sequence[str] = ()) -> None:
        self.engine, self.names = engine, tuple(names)
        self.n_workers, self.name = engine_size(engine), engine_name(engine)
        self._function, self._payload = function, packed(function, names, self.name)
        self._home = Home.here()
        single = any(callable(getattr(engine, n, None)) for n in ("submit", "apply_async"))
        self._adapter: _Futures | _Map = _Futures(engine) if single else _Map(engine)
        self._sent, self._ready = 0, False
        self._own: WorkerPool | None = None

    def wait_until_ready(self) -> None:
        """Let workers load the function, as far as the engine spreads tasks.

        Raises
        ------
        FitError
            If the engine takes no tasks, or a worker has another version, or cannot load the
            function.
        """
        given = {self._sent + i: _Given(()) for i in range(self.n_workers)}
        self._sent += len(given)
        for _ in self._answers(given, CallTimes(), values=False):
            pass
        self._ready = True

    def evaluate(
        self,
        calls: Sequence[np.ndarray],
        times: CallTimes | None = None,
        *,
        values: bool = False,
    ) -> Generator[Evaluation, None, None]:
        """Evaluate points in parallel; yield the results of calls in order.

        Parameters
        ----------
        calls : sequence of arrays of shape (n, d)
            Points of each call of the function.
        times : CallTimes, optional
            They tell how long each evaluation may take.
        values : bool
            Whether log densities alone are wanted.

        Raises
        ------
        FitError
            If a task was lost twice with the worker that did it, or the engine does not go on.
        EvaluationHung
            If an evaluation did not return in time.
        LimitReached
            If the deadline has passed and an evaluation is slow.
        """
        times = CallTimes() if times is None else times
        if self._own is not None:
            yield from self._own.evaluate(calls, times, values=values)
            return
        if not self._ready:
            # Else each task of the first request would ask for the function.
            self.wait_until_ready()
        bundles = bundled(calls, self.n_workers, times.slowest)
        first, self._sent = self._sent, self._sent + len(bundles)
        given = {first + i: _Given(tuple(bundle)) for i, bundle in enumerate(bundles)}
        results: dict[int, list[Evaluation]] = {}
        due = first
        for number, found in self._answers(given, times, values=values):
            results[number] = found
            while due in results:
                yield from results.pop(due)
                due += 1

    def close(self) -> None:
        """Stop processes of our own; the engine belongs to the user."""
        if self._own is not None:
            self._own.close()

    # ------------------------------------------------------------ tasks

    def _answers(
        self, given: dict[int, _Given], times: CallTimes, *, values: bool
    ) -> Generator[tuple[int, list[Evaluation]], None, None]:
        """Yield the evaluations of tasks as they come; `given` is emptied."""
        waiting, flying = deque(given), set[int]()
        suspects: deque[int] = deque()
        adapter, before = self._adapter, self._adapter.processes()
        while given:
            self._send(given, waiting, suspects, flying, times, values=values)
            outcome = self._received(times, [given[n] for n in flying])
            if outcome is None:
                now = adapter.processes()
                if before - now:
                    # Any task that is under way may be the one that was lost.
                    lost, before = sorted(flying), now
                    _log.warning(
                        "A worker of %s ended before its task was done: the task is done again.",
                        self.name,
                    )
                    if len(lost) == 1:
                        # Copies of other tasks may still wait in the pool: those do not count.
                        self._lose(given[lost[0]], "a process of the pool ended")
                    flying.clear()
                    suspects.extend(lost)
                continue
            number, answer, error = outcome
            if number not in flying:
                # Of an earlier request that was given up, or done twice.
                continue
            flying.discard(number)
            task = given[number]
            if isinstance(error, BrokenExecutor):
                yield from self._by_own_processes(given, times, error, values=values)
                return
            if error is not None:
                self._lose(task, f"{type(error).__name__}: {first_line(error)}", error)
                suspects.append(number)
                continue
            assert answer is not None
            if answer.kind == "refused":
                raise FitError(answer.found)
            if answer.kind == "hung":
                raise answer.found
            if answer.kind == "asks":
                task.content = self._payload.content
                waiting.appendleft(number)
                continue
            times.took(answer.slowest)
            del given[number]
            yield number, answer.found

    def _send(
        self,
        given: dict[int, _Given],
        waiting: deque[int],
        suspects: deque[int],
        flying: set[int],
        times: CallTimes,
        *,
        values: bool,
    ) -> None:
        """Give the engine as many tasks as it can do now.

        Tasks that were lost are given one at a time, when no other is under way: if one is lost
        again it is known.
        """
        if isinstance(self._adapter, _Map) and flying:
            # All answers are there: what is to be done again makes one request.
            return
        batch: list[tuple[int, Task]] = []
        most = np.inf if isinstance(self._adapter, _Map) else IN_FLIGHT * self.n_workers
        numbers: list[int] = []
        if suspects and not flying:
            numbers.append(suspects.popleft())
        while not suspects and waiting and len(flying) + len(numbers) < most:
            numbers.append(waiting.popleft())
        limit = times.of_next_call()
        for number in numbers:
            flying.add(number)
            one = given[number]
            batch.append(
                (number, Task(self._payload.key, VERSIONS, self._home, one.content, one.calls,
                              values, limit))
            )  # fmt: skip
            one.content = None
        if isinstance(self._adapter, _Map):
            if batch:
                self._adapter.send_all(batch)
            return
        for number, task in batch:
            try:
                self._adapter.send(number, task)
            except BrokenExecutor as error:
                self._adapter.done.put(_Outcome(number, None, error))
            except Exception as error:
                raise FitError(
                    f"{self.name} takes no tasks ({type(error).__name__}: {first_line(error)}). "
                    "Is it closed? Give an executor, client or pool that is open until the draws "
                    "are made."
                ) from error

    def _received(self, times: CallTimes, flying: list[_Given]) -> _Outcome | None:
        """Wait for an outcome; None after a while.

        Raises
        ------
        LimitReached
            If the deadline has passed some time ago.
        """
        late = times.deadline + LATE_SECONDS + 2.0 * times.slowest
        left = max(late - time.monotonic(), 0.0)
        try:
            return self._adapter.done.get(timeout=min(LOOK_SECONDS, left))
        except queue.Empty:
            pass
        if time.monotonic() >= late:
            if not flying:
                raise LimitReached
            raise EvaluationHung(
                "The log density did not return after max_seconds was reached, at "
                f"{_points(flying[0].calls, self.names)}: {self.name} still evaluates it. Mend the "
                "model there, or exclude such points by its priors; a slow model needs a larger "
                "max_seconds."
            )
        return None

    def _lose(self, task: _Given, cause: str, error: Exception | None = None) -> None:
        """Count that a task was lost with its worker.

        Raises
        ------
        FitError
            If it was lost before.
        """
        task.tries += 1
        if task.tries < MAX_TRIES:
            if error is not None:
                _log.warning("A task of %s was lost (%s): it is done again.", self.name, cause)
            return
        raise FitError(
            f"{self.name} lost the task twice in which it evaluated "
            f"{_points(task.calls, self.names)} ({cause}). If the model crashes there, mend it or "
            "exclude such points by its priors; if memory ran out, use fewer workers."
        ) from error

    def _by_own_processes(
        self,
        given: dict[int, _Given],
        times: CallTimes,
        error: Exception,
        *,
        values: bool,
    ) -> Generator[tuple[int, list[Evaluation]], None, None]:
        """Do what is left by processes of our own: the engine is broken as a whole.

        A worker that dies again is known with its point.
        """
        _log.warning(
            "%s is broken since a worker died (%s): the tasks are done again by %d processes of "
            "the fit's own.", self.name, first_line(error), self.n_workers,
        )  # fmt: skip
        n = min(self.n_workers, os.cpu_count() or 1)
        self._own = WorkerPool(self._function, n, self.names)
        left = list(given.items())
        given.clear()
        found = self._own.evaluate([x for _, t in left for x in t.calls], times, values=values)
        for number, task in left:
            yield number, list(islice(found, len(task.calls)))


def _points(calls: Sequence[np.ndarray], names: Sequence[str]) -> str:
    return points_text(np.concatenate(calls), names) if calls else "no points yet"
