"""A log density as a batched, counted function on R^d."""

from __future__ import annotations

import pickle
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from pymc_multimodal.status import FitError, LimitReached, ModelError
from pymc_multimodal.target.circle import unroll
from pymc_multimodal.target.errors import EvaluationErrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Density"]

# Rows per call of the compiled function. Fixed, so that a row's value cannot depend on how
# many workers share the batch: matrix products may round differently for other batch shapes.
CHUNK = 32


class Density:
    """Log density and gradient, for many points at once, with every evaluation counted.

    Parameters
    ----------
    function : callable
        Takes an array of shape (n, d) and returns the log densities, shape (n,), and the
        gradients, shape (n, d), or None in place of the gradients where there are none.
    dim : int
        Number of unconstrained coordinates, d.
    has_gradient : bool
        Whether `function` returns gradients.
    period : array of shape (d,), optional
        Period of each coordinate; ``inf`` (the default) for a coordinate that does not wrap.
    names : sequence of str, optional
        A name for each coordinate.
    prior : callable, optional
        ``prior(n, rng)`` returns n prior draws of shape (n, d).
    points_by_name : callable, optional
        ``points_by_name(points)`` turns points in the model's own variables (mappings from names to
        values) into rows, shape (n, d).
    workers : int
        Processes that share a batch.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]],
        dim: int,
        *,
        has_gradient: bool = True,
        period: np.ndarray | None = None,
        names: Sequence[str] | None = None,
        prior: Callable[[int, np.random.Generator], np.ndarray] | None = None,
        points_by_name: Callable[[Sequence[Mapping[str, Any]]], np.ndarray] | None = None,
        workers: int = 1,
    ) -> None:
        self._function = function
        # Of the precision that the model is evaluated in.
        self.resolution = float(np.finfo(getattr(function, "dtype", float)).eps)
        self.dim = dim
        self.has_gradient = has_gradient
        self.period = np.full(dim, np.inf) if period is None else np.asarray(period, float)
        self.names = tuple(names) if names is not None else tuple(f"x[{i}]" for i in range(dim))
        self._prior = prior
        self.workers = workers
        self.n_logp_evals = 0
        self.n_grad_evals = 0
        self.tally = EvaluationErrors()
        self.last_error: Exception | None = None
        self._pool: ProcessPoolExecutor | None = None
        # ``to_unconstrained(points)`` turns points by variable name into rows.
        self.points_by_name = points_by_name
        # Set by the fit under way: tells whether its limits have been reached.
        self.limit: Callable[[], bool] | None = None
        self._refuses = False

    # -------------------------------------------------------------- evaluation

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row; -inf where the model gives NaN or raises.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        array of shape (n,)
        """
        return self._evaluate(x)[0]

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d), of each row.

        Gradients that are not finite are returned as zero: a proposal built on them stays
        valid, since it remains a deterministic function of the point.
        """
        if not self.has_gradient:
            raise TypeError("logp_and_grad was asked of a density that has no gradient")
        logp, grad = self._evaluate(x)
        return logp, grad

    def _evaluate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.ascontiguousarray(x, dtype=float)
        n = len(x)
        results = list(self._results([x[i : i + CHUNK] for i in range(0, n, CHUNK)]))
        logp = np.concatenate([r[0] for r in results]) if results else np.empty(0)
        raised = sum(r[2] for r in results)
        self.last_error = next((r[3] for r in reversed(results) if r[3]), self.last_error)
        grad = np.empty((n, self.dim if self.has_gradient else 0))
        if self.has_gradient and results:
            grad = np.concatenate([r[1] for r in results])
        self.tally.count(raised, logp, grad)
        # +inf cannot be sampled, and a NaN says nothing: both count as outside the support.
        logp = np.where(np.isfinite(logp), logp, -np.inf)
        return logp, np.where(np.isfinite(grad), grad, 0.0)

    def _results(self, chunks: list[np.ndarray]) -> Iterator[tuple]:
        results: Any = (_guarded(self._function, chunk) for chunk in chunks)
        try:
            if self.workers > 1 and len(chunks) > 1:
                results = self._executor().map(_remote, chunks)
            for chunk in chunks:
                if self._refuses and self.exhausted():
                    raise LimitReached
                yield next(results)
                self.n_logp_evals += len(chunk)
                self.n_grad_evals += len(chunk) if self.has_gradient else 0
        except BrokenProcessPool as error:
            self.close()
            raise FitError(
                f"One of the workers={self.workers} processes died: the model crashed in it, or it "
                "ran out of memory, or the script lacks the `if __name__ == '__main__':` that "
                "spawned processes need. Use fewer workers; with workers=1 a crash shows "
                "itself."
            ) from error
        finally:
            # Workers are not to begin what nobody waits for any more.
            results.close()

    # -------------------------------------------------------------- limits

    def spent(self) -> int:
        """Return how many points have been evaluated."""
        return self.n_logp_evals

    def exhausted(self) -> bool:
        """Tell whether a limit of the fit under way is reached: stages then do their least."""
        return self.limit is not None and self.limit()

    @contextmanager
    def limited(self, refuse: bool = True) -> Iterator[None]:
        """Refuse evaluations within, by raising `LimitReached`, from a limit of the fit on.

        For work that can be left out or cut short; a batch is refused between its chunks.
        """
        before, self._refuses = self._refuses, refuse
        try:
            yield
        finally:
            self._refuses = before

    # -------------------------------------------------------------- worker processes

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=get_context("spawn"),
                initializer=_initialise_worker,
                initargs=(cloudpickle.dumps(self._function),),
            )
        return self._pool

    def close(self) -> None:
        """Stop the worker processes, if any; the density can be used again afterwards."""
        if self._pool is None:
            return
        # After an interruption workers may be in the midst of long evaluations.
        for process in list(self._pool._processes.values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_pool", "_prior", "points_by_name", "last_error", "limit")
        return {**self.__dict__, **dict.fromkeys(dropped)}

    # -------------------------------------------------------------- geometry of circular variables

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into one period around zero."""
        return self.unroll(x, 0.0)

    def unroll(self, x: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        """Choose for each circular coordinate the copy nearest to `centre`."""
        return unroll(x, centre, self.period)

    # -------------------------------------------------------------- prior

    def prior_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Prior draws in the unconstrained space, shape (n, d); potentials are ignored.

        Raises
        ------
        ModelError
            If the prior cannot be drawn from (improper priors).
        """
        if self._prior is None:
            raise ModelError(
                "This density has no prior to draw starting points from. "
                "Give them: modes=ModeSearch(starts=array of shape (n, d))."
            )
        return self.wrap(np.asarray(self._prior(n, rng), dtype=float))

    def to_unconstrained(self, points: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Turn points in the model's own variables into rows of shape (n, d).

        Raises
        ------
        TypeError
            If the density was not made from a model.
        ModelError
            If a point names a variable that the model does not have.
        """
        if self.points_by_name is None:
            raise TypeError("points by variable name need a density made from a PyMC model")
        return self.wrap(self.points_by_name(points).reshape(-1, self.dim))


def _guarded(
    function: Callable, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, Exception | None]:
    """Evaluate; rows on which the model raises get -inf instead of ending the run."""
    try:
        logp, grad = function(x)
        return np.asarray(logp), np.asarray(grad if grad is not None else []), 0, None
    except Exception as error:
        if len(x) == 1:
            return np.array([-np.inf]), np.zeros_like(x), 1, error
        parts = [_guarded(function, row[None]) for row in x]
        grads = [np.atleast_2d(p[1]) for p in parts]
        # A row that raised has zeros for a gradient, whether or not the others have one.
        grad = np.concatenate(grads) if all(g.size for g in grads) else np.empty(0)
        failed = [p[3] for p in parts if p[3] is not None]
        return (
            np.concatenate([p[0] for p in parts]),
            grad,
            len(failed),
            failed[-1] if failed else None,
        )


_worker_function: Callable | None = None


def _initialise_worker(payload: bytes) -> None:
    global _worker_function
    # Ctrl-C is the main process's to answer, which then stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_function = cloudpickle.loads(payload)


def _remote(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, Exception | None]:
    assert _worker_function is not None
    logp, grad, raised, error = _guarded(_worker_function, x)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        # A class of the user's script, or one whose arguments are not those of its parent.
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return logp, grad, raised, error
