"""Batches of points evaluated by a function that may raise, here or in worker processes."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple, TypeAlias

import cloudpickle
import numpy as np

from pymc_multimodal.status import FitError

__all__ = ["BatchFunction", "Evaluation", "WorkerPool", "evaluate", "portable"]

_log = logging.getLogger("pymc.multimodal")

BatchFunction: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Maps points, shape (n, d), to log densities, (n,), and gradients, (n, d) or None."""


class Evaluation(NamedTuple):
    """What a function gave for n points.

    Attributes
    ----------
    logp : array of shape (n,)
        As the function gave them; -inf where it raised.
    grad : array of shape (n, d), or empty
        As the function gave them; zero where it raised.
    n_raised : int
        Points at which the function raised.
    error : Exception or None
        The last error.
    """

    logp: np.ndarray
    grad: np.ndarray
    n_raised: int
    error: Exception | None


def evaluate(function: BatchFunction, x: np.ndarray) -> Evaluation:
    """Evaluate points; where the function raises, one by one.

    Parameters
    ----------
    function : callable
        See `BatchFunction`.
    x : array of shape (n, d)

    Returns
    -------
    Evaluation
    """
    try:
        logp, grad = function(x)
        return Evaluation(np.asarray(logp), np.asarray([] if grad is None else grad), 0, None)
    except Exception as error:  # An error of the user's model: counted, and told by a status.
        if len(x) == 1:
            return Evaluation(np.array([-np.inf]), np.zeros_like(x), 1, error)
    rows = [evaluate(function, row[None]) for row in x]
    grads = [np.atleast_2d(row.grad) for row in rows]
    # A row that raised has a gradient of zeros, also where the function gives no gradients.
    complete = all(grad.size for grad in grads)
    errors = [row.error for row in rows if row.error is not None]
    return Evaluation(
        np.concatenate([row.logp for row in rows]),
        np.concatenate(grads) if complete else np.empty(0),
        len(errors),
        errors[-1] if errors else None,
    )


def portable(error: Exception | None) -> Exception | None:
    """Return an error that can be pickled and unpickled: the error itself, or its text.

    Classes of the user's script cannot be unpickled in another process, nor can classes whose
    ``__init__`` takes other arguments than those of the parent class.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        _log.debug("An error of the model cannot be pickled: its text is kept.", exc_info=True)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class WorkerPool:
    """Spawned processes that evaluate batches of points; they start when they are needed.

    Parameters
    ----------
    function : callable
        See `BatchFunction`; it is sent to the processes by cloudpickle.
    n_workers : int
    """

    def __init__(self, function: BatchFunction, n_workers: int) -> None:
        self.function, self.n_workers = function, n_workers
        self._executor: ProcessPoolExecutor | None = None

    def evaluate(self, batches: Sequence[np.ndarray]) -> Generator[Evaluation, None, None]:
        """Evaluate batches in parallel; yield the results in order.

        Closing the generator cancels the batches that no process has begun.

        Raises
        ------
        FitError
            If a process died.
        """
        if self._executor is None:
            self._executor = self._started()
        try:
            # `yield from` closes the results with the generator.
            yield from self._executor.map(_evaluate_in_worker, batches)
        except BrokenProcessPool as error:
            self.close()
            raise FitError(
                f"One of the workers={self.n_workers} processes died. Either the model crashed in "
                "it, or it ran out of memory, or the script lacks the "
                "`if __name__ == '__main__':` that spawned processes need. Use fewer workers; "
                "with workers=1 a crash shows itself."
            ) from error

    def close(self) -> None:
        """Stop the processes, also in the middle of long evaluations."""
        if self._executor is None:
            return
        # The executor has no public way to stop a process at work (Python 3.14 adds one).
        for process in list(self._executor._processes.values()):
            process.terminate()
        self._executor.shutdown(cancel_futures=True)
        self._executor = None

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.n_workers,
            mp_context=get_context("spawn"),
            initializer=_initialise,
            initargs=(cloudpickle.dumps(self.function),),
        )


_worker_function: BatchFunction | None = None
"""In a worker process: the function that the pool was made for."""


def _initialise(payload: bytes) -> None:
    global _worker_function
    # Ctrl-C interrupts the main process, which stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_function = cloudpickle.loads(payload)


def _evaluate_in_worker(x: np.ndarray) -> Evaluation:
    assert _worker_function is not None
    evaluation = evaluate(_worker_function, x)
    return evaluation._replace(error=portable(evaluation.error))
