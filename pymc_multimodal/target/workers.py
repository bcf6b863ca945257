"""Worker processes that evaluate batches of points.

Each worker has a pipe to the main process, and one batch at a time. A worker that dies, or does not
return in time, is therefore known together with its points.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any

import cloudpickle
import numpy as np

from pymc_multimodal.status import EvaluationHung, FitError, LimitReached, first_line
from pymc_multimodal.target.evaluation import (
    BatchFunction,
    Evaluation,
    evaluate,
    points_text,
    portable,
)
from pymc_multimodal.target.limits import CallTimes

__all__ = ["WorkerPool"]

# Seconds that a worker has to report that its evaluation did not return, before it is stopped:
# it looks for the point first (`evaluation.TRIAL_SECONDS`). Conventional.
REPORT_SECONDS = 1.0
# Seconds after the deadline at which evaluations under way are given up, whether they hang or are
# only slow. Conventional: a limit in seconds is kept within two of them.
LATE_SECONDS = 2.0
# Seconds that a worker has to end after it was told to. Conventional.
END_SECONDS = 2.0


class WorkerPool:
    """Spawned processes that evaluate batches of points; they start when they are needed.

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
        try:
            self._payload = cloudpickle.dumps((function, self.names))
        except Exception as error:
            raise FitError(
                f"The model cannot be sent to the workers={n_workers} processes "
                f"({type(error).__name__}: {first_line(error)}). It holds something that belongs "
                "to this process (an open file, a lock, a connection, an object of a compiled "
                "extension): make that inside of the function that needs it, or use workers=1."
            ) from error

    def evaluate(
        self, batches: Sequence[np.ndarray], times: CallTimes | None = None
    ) -> Generator[Evaluation, None, None]:
        """Evaluate batches in parallel; yield the results in order.

        Closing the generator leaves out the batches that no process has begun.

        Parameters
        ----------
        batches : sequence of arrays of shape (n, d)
        times : CallTimes, optional
            They tell how long each evaluation may take.

        Raises
        ------
        FitError
            If a process died.
        EvaluationHung
            If an evaluation did not return in time; the processes are then stopped.
        LimitReached
            If the deadline has passed and an evaluation is slow; the same holds.
        """
        times = CallTimes() if times is None else times
        waiting = deque(enumerate(batches, self._sent))
        first, self._sent = self._sent, self._sent + len(batches)
        results: dict[int, Evaluation | EvaluationHung] = {}
        for number in range(first, self._sent):
            try:
                self._start()
                while number not in results:
                    for worker in self._workers:
                        if waiting and worker.idle:
                            worker.send(*waiting.popleft(), times)
                    results.update(self._received(times))
            except BaseException:
                # A message may have been read or written in part.
                self.close()
                raise
            result = results.pop(number)
            if isinstance(result, EvaluationHung):
                raise result
            yield result

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
            with _interrupts_held():
                for _ in range(self.n_workers):
                    self._workers.append(_Worker(self._payload))

    def _received(self, times: CallTimes) -> dict[int, Evaluation | EvaluationHung]:
        """Wait until a worker has something to say, or is late; return the results."""
        late = times.deadline + LATE_SECONDS
        due = min((late, *(w.due for w in self._workers)))
        timeout = None if due == np.inf else max(due - time.monotonic(), 0.0)
        ready = connection.wait([w.pipe for w in self._workers], timeout)
        results: dict[int, Evaluation | EvaluationHung] = {}
        for worker in self._workers:
            if worker.pipe in ready:
                try:
                    number, found = worker.receive(times)
                except (EOFError, OSError) as error:
                    raise self._died(worker) from error
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

    def _died(self, worker: _Worker) -> FitError:
        worker.process.join(END_SECONDS)
        code = worker.process.exitcode
        if code is None:
            cause = "closed its connection"
        elif code < 0:
            cause = f"was ended by the signal {_signal_name(-code)}"
        else:
            cause = f"ended with exit code {code}"
        if worker.starting:
            why = (
                "before it was ready. Either the script lacks the `if __name__ == '__main__':` "
                "that spawned processes need, or the model crashed, or memory ran out: use fewer "
                "workers; with workers=1 a crash shows itself."
            )
        else:
            why = (
                f"while it evaluated {points_text(worker.points, self.names)}. If the model "
                "crashes there, mend it or exclude such points by its priors; if memory ran out, "
                "use fewer workers."
            )
        return FitError(f"One of the workers={self.n_workers} processes died: it {cause} {why}")


class _Worker:
    """One process, as the main process sees it.

    Attributes
    ----------
    starting, idle : bool
        Whether the process is not ready yet, and whether it waits for a batch.
    points : array of shape (n, d)
        The batch that it was given last.
    due : float
        Time of `time.monotonic` at which it is stopped.
    """

    def __init__(self, payload: bytes) -> None:
        context = get_context("spawn")
        self.pipe, remote = context.Pipe()
        # A daemon ends with the main process, however that ends in Python.
        self.process = context.Process(
            target=_work, args=(remote, payload), name="multimodal-worker", daemon=True
        )
        try:
            self.process.start()
        finally:
            # The process has a copy; without this one its death closes the connection.
            remote.close()
        self.starting, self.idle = True, False
        self.points = np.empty((0, 0))
        self.due, self._began = np.inf, 0.0

    def send(self, number: int, x: np.ndarray, times: CallTimes) -> None:
        """Give an idle worker a batch."""
        self.idle, self.points, self._began = False, x, time.monotonic()
        call = times.of_next_call()
        self.due = np.inf if call is None else self._began + call.seconds + REPORT_SECONDS
        self.pipe.send((number, x, call))

    def receive(self, times: CallTimes) -> tuple[int, Any]:
        """Return the number of a batch and what came of it; -1 and None if the worker is ready."""
        number, found = self.pipe.recv()
        # One that was given up says nothing of how long evaluations take.
        if isinstance(found, Evaluation):
            times.took(time.monotonic() - self._began)
        self.starting, self.idle, self.due = False, True, np.inf
        return number, found


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


def _work(pipe: connection.Connection, payload: bytes) -> None:
    """Evaluate batches until the main process ends or stops this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    try:
        function, names = cloudpickle.loads(payload)
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
        pipe.send((-1, FitError(
            f"A worker process could not load the model ({text}). A module, a file or a class "
            "that the model uses must be importable in other processes; or use workers=1."
        )))  # fmt: skip
        return
    pipe.send((-1, None))
    while True:
        try:
            number, x, limit = pipe.recv()
        except (EOFError, OSError):
            return  # the main process has ended
        try:
            found: Any = evaluate(function, x, limit, names)
            found = found._replace(error=portable(found.error))
        except EvaluationHung as error:
            found = error
        pipe.send((number, found))


def _end_with_parent() -> None:
    """End this process once the main process has ended, also in the middle of an evaluation."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
