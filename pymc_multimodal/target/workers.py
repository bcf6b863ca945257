"""Worker processes that evaluate batches of points.

Each worker has a pipe to the main process, and one task at a time. A worker that dies, or does not
return in time, is therefore known together with its points.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing import connection, get_context, resource_tracker
from typing import Any

import numpy as np

from pymc_multimodal.status import EvaluationHung, FitError, LimitReached
from pymc_multimodal.target.evaluation import (
    BatchFunction,
    Evaluation,
    evaluate_calls,
    points_text,
)
from pymc_multimodal.target.limits import CallTimes
from pymc_multimodal.target.tasks import capped_environment, end_with_parent, packed, unpacked
from pymc_multimodal.target.values import values_of

__all__ = ["LATE_SECONDS", "WorkerPool", "bundled"]

_log = logging.getLogger("pymc.multimodal")

# Seconds that a worker has to report that its evaluation did not return, before it is stopped:
# it looks for the point first (`evaluation.TRIAL_SECONDS`). Conventional.
REPORT_SECONDS = 1.0
# Seconds after the deadline at which evaluations under way are given up, whether they hang or are
# only slow. Conventional: a limit in seconds is kept within two of them.
LATE_SECONDS = 2.0
# Seconds that a worker has to end after it was told to. Conventional.
END_SECONDS = 2.0
# Tasks of a request for each worker, so that quick points wait for slow ones only a little, and
# seconds that a task of several calls may take. Conventional: to send one takes less than a
# hundredth of that.
TASKS_PER_WORKER, BUNDLE_SECONDS = 4, 0.1


def bundled(
    calls: Sequence[np.ndarray], n_workers: int, seconds: float
) -> list[Sequence[np.ndarray]]:
    """Join calls to tasks where calls are many and quick.

    The values do not depend on it: each call of the function has the points that it had.

    Parameters
    ----------
    calls : sequence of arrays of shape (n, d)
    n_workers : int
    seconds : float
        Of the longest call so far; 0 if none was made.
    """
    size = -(-len(calls) // (TASKS_PER_WORKER * n_workers))
    size = max(1, min(size, int(BUNDLE_SECONDS / seconds) if seconds else 1))
    return [calls[i : i + size] for i in range(0, len(calls), size)]


class WorkerPool:
    """Spawned processes that evaluate batches of points; they start when they are needed.

    A process that dies is replaced, and its task is done once more.

    Parameters
    ----------
    function : callable
        See `BatchFunction`; it is sent to the processes by cloudpickle.
    n_workers : int
    names : sequence of str
        Names of the coordinates, for messages.

    Raises
    ------
    FitError
        If the function cannot be sent to another process.
    """

    def __init__(self, function: BatchFunction, n_workers: int, names: Sequence[str] = ()) -> None:
        self.n_workers, self.names = n_workers, tuple(names)
        self._workers: list[_Worker] = []
        self._sent = 0
        self._content = packed(function, names, f"the workers={n_workers} processes").content
        self._lost: set[int] = set()
        self._process = os.getpid()

    def __del__(self) -> None:
        """Stop the processes; not those of the process that this one was forked from."""
        if getattr(self, "_workers", None) and self._process == os.getpid():
            self.close()

    def evaluate(
        self,
        calls: Sequence[np.ndarray],
        times: CallTimes | None = None,
        *,
        values: bool = False,
    ) -> Generator[Evaluation, None, None]:
        """Evaluate points in parallel; yield the results of calls in order.

        Closing the generator leaves out the calls that no process has begun.

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
            If a process died, and another one that did its task again.
        EvaluationHung
            If an evaluation did not return in time; the processes are then stopped.
        LimitReached
            If the deadline has passed and an evaluation is slow; the same holds.
        """
        times = CallTimes() if times is None else times
        tasks = bundled(calls, self.n_workers, times.slowest)
        waiting = deque(enumerate(tasks, self._sent))
        first, self._sent = self._sent, self._sent + len(tasks)
        results: dict[int, list[Evaluation] | EvaluationHung] = {}
        self._lost.clear()
        for number in range(first, self._sent):
            try:
                self._start()
                while number not in results:
                    for worker in self._workers:
                        if waiting and worker.idle:
                            worker.send(*waiting.popleft(), values, times)
                    results.update(self._received(times))
            except BaseException:
                # A message may have been read or written in part.
                self.close()
                raise
            result = results.pop(number)
            if isinstance(result, EvaluationHung):
                raise result
            yield from result

    def wait_until_ready(self) -> None:
        """Start the processes and wait until each has loaded the function.

        Raises
        ------
        FitError
            If a process died, or could not load the function.
        """
        try:
            self._start()
            while any(worker.starting for worker in self._workers):
                self._received(CallTimes())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the processes, also in the middle of long evaluations."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(END_SECONDS)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _start(self) -> None:
        if not self._workers:
            for _ in range(self.n_workers):
                self._workers.append(self._new())

    def _new(self) -> _Worker:
        threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        with _interrupts_held(), capped_environment(threads):
            return _Worker(self._content)

    def _received(self, times: CallTimes) -> dict[int, list[Evaluation] | EvaluationHung]:
        """Wait until a worker has something to say, or is late; return the results."""
        late = times.deadline + LATE_SECONDS
        due = min((late, *(w.due for w in self._workers)))
        timeout = None if due == np.inf else max(due - time.monotonic(), 0.0)
        ready = connection.wait([w.pipe for w in self._workers], timeout)
        results: dict[int, list[Evaluation] | EvaluationHung] = {}
        for i, worker in enumerate(self._workers):
            if worker.pipe in ready:
                try:
                    number, found = worker.receive(times)
                except (EOFError, OSError) as error:
                    self._workers[i] = self._replaced(worker, error)
                    continue
                if number >= 0:
                    results[number] = found
                elif found is not None:
                    raise found
            elif time.monotonic() > worker.due:
                raise EvaluationHung(
                    "The log density did not return after max_seconds was reached, at "
                    f"{points_text(worker.points, self.names)}: its worker process was stopped. "
                    "Mend the model there, or exclude such points by its priors; a slow model "
                    "needs a larger max_seconds."
                )
        if not results and time.monotonic() > late:
            raise LimitReached
        return results

    def _replaced(self, worker: _Worker, error: BaseException) -> _Worker:
        """Start a process that does the task of a dead one again.

        Raises
        ------
        FitError
            If the process died before it was ready, or the task was done again already.
        """
        worker.process.join(END_SECONDS)
        if worker.starting or worker.task is None or worker.task[0] in self._lost:
            raise self._died(worker) from error
        self._lost.add(worker.task[0])
        _log.warning(
            "A worker process died while it evaluated %s: it %s. A fresh one does that again.",
            points_text(worker.points, self.names), _cause(worker),
        )  # fmt: skip
        worker.pipe.close()
        fresh = self._new()
        fresh.task = worker.task
        return fresh

    def _died(self, worker: _Worker) -> FitError:
        died, cause = f"One of the workers={self.n_workers} processes died", _cause(worker)
        if worker.task is None:
            return FitError(
                f"{died}: it {cause} before it was ready. Either the script lacks the "
                "`if __name__ == '__main__':` that spawned processes need, or the model crashed, "
                "or memory ran out: use fewer workers; with workers=1 a crash shows itself."
            )
        return FitError(
            f"{died}, and the one that did its task again: it {cause} while it evaluated "
            f"{points_text(worker.points, self.names)}. If the model crashes there, mend it or "
            "exclude such points by its priors; if memory ran out, use fewer workers."
        )


class _Worker:
    """One process, as the main process sees it.

    Attributes
    ----------
    starting, idle : bool
        Whether the process is not ready yet, and whether it waits for a task.
    task : tuple or None
        Number, calls, and whether log densities alone are wanted, of the task that it does, or is
        to do when it is ready.
    due : float
        Time of `time.monotonic` at which it is stopped.
    """

    def __init__(self, content: bytes) -> None:
        context = get_context("spawn")
        self.pipe, remote = context.Pipe()
        # A daemon ends with the main process, however that ends in Python.
        self.process = context.Process(
            target=_work, args=(remote, content), name="multimodal-worker", daemon=True
        )
        try:
            self.process.start()
        finally:
            # The process has a copy; without this one its death closes the connection.
            remote.close()
        self.starting, self.idle = True, False
        self.task: tuple[int, Sequence[np.ndarray], bool] | None = None
        self.due = np.inf

    @property
    def points(self) -> np.ndarray:
        """Points of its task, shape (n, d)."""
        return np.empty((0, 0)) if self.task is None else np.concatenate(self.task[1])

    def send(
        self, number: int, calls: Sequence[np.ndarray], values: bool, times: CallTimes
    ) -> None:
        """Give an idle worker a task."""
        self.idle, self.task = False, (number, calls, values)
        call = times.of_next_call()
        self.due = np.inf if call is None else time.monotonic() + call.seconds + REPORT_SECONDS
        self.pipe.send((*self.task, call))

    def receive(self, times: CallTimes) -> tuple[int, Any]:
        """Return the number of a task and what came of it; -1 and None if the worker is ready."""
        number, found = self.pipe.recv()
        if number < 0:
            self.starting, self.idle = False, True
            if found is None and self.task is not None:
                self.send(*self.task, times)
            return number, found
        # One that was given up says nothing of how long evaluations take.
        if not isinstance(found, EvaluationHung):
            found, slowest = found
            times.took(slowest)
        self.idle, self.task, self.due = True, None, np.inf
        return number, found


def _cause(worker: _Worker) -> str:
    """Say how a process ended."""
    code = worker.process.exitcode
    if code is None:
        return "closed its connection"
    if code < 0:
        return f"was ended by the signal {_signal_name(-code)}"
    return f"ended with exit code {code}"


@contextlib.contextmanager
def _interrupts_held() -> Generator[None, None, None]:
    """Let processes that start inside of the context never see Ctrl-C.

    The main process gets it and stops its workers. A process inherits the blocked signals of the
    thread that starts it, so that not even its first moments are interrupted.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where the tracker does not run yet, starting it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


# ------------------------------------------------------------------ in the worker


def _work(pipe: connection.Connection, content: bytes) -> None:
    """Do tasks until the main process ends or stops this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        function, names = unpacked(content)
    except FitError as error:
        pipe.send((-1, error))
        return
    only_values = values_of(function)
    pipe.send((-1, None))
    while True:
        try:
            number, calls, values, limit = pipe.recv()
        except (EOFError, OSError):
            return  # the main process has ended
        try:
            found: Any = evaluate_calls(only_values if values else function, calls, limit, names)
        except EvaluationHung as error:
            found = error
        pipe.send((number, found))
