"""A log density as a batched, counted function on R^d."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from pymc_multimodal.status import EvaluationHung, LimitReached, ModelError
from pymc_multimodal.target.circle import unroll, wrap
from pymc_multimodal.target.engines import EnginePool, engine_size
from pymc_multimodal.target.errors import EvaluationErrors, equal_logp
from pymc_multimodal.target.evaluation import BatchFunction, Evaluation, evaluate
from pymc_multimodal.target.functions import SplitFunction, TermFunction, same_outputs
from pymc_multimodal.target.history import Evaluations, History
from pymc_multimodal.target.limits import CallTimes, Limits
from pymc_multimodal.target.protocol import OutputModel, TermModel
from pymc_multimodal.target.run_log import KEPT_SECONDS, RunLog, Stored
from pymc_multimodal.target.values import growing_chunks, values_of
from pymc_multimodal.target.workers import WorkerPool

__all__ = ["CHUNK", "Density"]

# Points per call of the function where it is quick, unless a caller asks for less. The number does
# not depend on the workers, because matrix products may round differently for another number of
# rows: the value of a point must not depend on how many workers share a batch. The value 32 is
# conventional.
CHUNK = 32
# Seconds of one evaluation from which on the function is called for each point by itself, so that
# 16 points occupy 16 workers. Conventional: to send a point to a process takes 0.1 ms, to a cluster
# about 1 ms.
DEAR_SECONDS = 2e-3
# Points per call of the terms, which are values only: a larger number costs less for each.
# Conventional.
TERM_CHUNK = 512


def _chunk_of(function: BatchFunction) -> int:
    """Return how many points the function is called for at a time."""
    if getattr(function, "price", 0.0) < DEAR_SECONDS:
        return CHUNK
    return int(getattr(function, "chunk", 1))


class Density:
    """Log density and gradient of many points at once; every evaluation is counted.

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
    split : callable, optional
        ``split(names)`` returns the log density split at the outputs of a simulator, or at the
        variables of these names; None if there is no such simulator.
    terms : callable, optional
        ``terms()`` returns the log density as a sum of terms; None if they cannot be told apart.
    workers : int or object
        Processes that share a batch, or an engine with `submit`, `apply_async` or `map`.
    chunk : int, optional
        Points of one call of the function. By default `CHUNK`; where the function has an attribute
        `price`, seconds of one evaluation, of at least `DEAR_SECONDS`, what its attribute `chunk`
        says, or 1.

    Attributes
    ----------
    chunk : int
        Points of one call of the function.
    n_logp_evals, n_grad_evals : int
        Points at which the log density, and its gradient with it, were computed.
    n_values : int
        Points of `values`, which `n_logp_evals` counts as well.
    tally : EvaluationErrors
        Points at which the function raised, or gave values that cannot be sampled.
    last_error : Exception or None
        The last error that the function raised.
    limits : Limits
        Those of the fit under way.
    cut : bool
        Whether a limit was near or reached when work asked for it: such work does less, or is left
        out. A fit sets it to False when it begins.
    hung : EvaluationHung or None
        The last evaluation that was given up, since it had not returned when a limit in seconds was
        reached.
    seconds, value_seconds : float
        Wall-clock time of all evaluations, and of those by `values`.
    history : History or None
        All evaluations, where each is dear (`keep_history`).
    outputs : OutputModel or None
        The simulator whose outputs are evaluated with the log density (`expose_outputs`).
    log : RunLog
        What the fit under way has measured, and evaluated since its last checkpoint.
    resolution : float
        Relative rounding error of the floating-point type that `function` computes in.
    """

    def __init__(
        self,
        function: BatchFunction,
        dim: int,
        *,
        has_gradient: bool = True,
        period: np.ndarray | None = None,
        names: Sequence[str] | None = None,
        prior: Callable[[int, np.random.Generator], np.ndarray] | None = None,
        points_by_name: Callable[[Sequence[Mapping[str, Any]]], np.ndarray] | None = None,
        split: Callable[[Sequence[str] | None], OutputModel | None] | None = None,
        terms: Callable[[], TermModel | None] | None = None,
        workers: Any = 1,
        chunk: int | None = None,
    ) -> None:
        self.function = function
        self.dim = dim
        self.has_gradient = has_gradient
        self.period = np.full(dim, np.inf) if period is None else np.asarray(period, float)
        self.names = tuple(names) if names is not None else tuple(f"x[{i}]" for i in range(dim))
        self.prior = prior
        self.points_by_name = points_by_name
        self.split = split
        self.workers = int(workers) if isinstance(workers, Integral) else workers
        self.resolution = float(np.finfo(getattr(function, "dtype", float)).eps)
        self.n_logp_evals = 0
        self.n_grad_evals = 0
        self.n_values = 0
        self.tally = EvaluationErrors()
        self.last_error: Exception | None = None
        self.limits = Limits()
        self.cut = False
        self.hung: EvaluationHung | None = None
        self.seconds = 0.0
        self.value_seconds = 0.0
        self.history: History | None = None
        self.outputs: OutputModel | None = None
        self.log = RunLog()
        self._terms_of = terms
        self._term_model: TermModel | None = None
        self.chunk = _chunk_of(function) if chunk is None else chunk
        self._times = CallTimes()
        self._pool: WorkerPool | EnginePool | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process, and the model behind prior and point names."""
        dropped = ("prior", "points_by_name", "split", "last_error", "hung", "history", "_pool",
                   "_terms_of", "_term_model")  # fmt: skip
        # An engine belongs to this process, too, and another one starts no processes of its own.
        fresh = {"limits": Limits(), "_times": CallTimes(), "log": RunLog(), "workers": 1}
        return {**self.__dict__, **dict.fromkeys(dropped), **fresh}

    @property
    def dear(self) -> bool:
        """Whether each evaluation is dear: the function is called for few points at a time."""
        return self.chunk < CHUNK

    @property
    def last_seconds(self) -> float:
        """Seconds of the last call of the function, where it was made: sending is left out."""
        return self._times.last

    @property
    def shared(self) -> bool:
        """Whether other processes than this one evaluate."""
        # A process that was forked has neither the pipes nor the engine.
        here = self._process == os.getpid()
        return here and (not isinstance(self.workers, int) or self.workers > 1)

    @property
    def n_workers(self) -> int:
        """Number of processes that evaluate; of an engine the number that it has now."""
        return self.workers if isinstance(self.workers, int) else engine_size(self.workers)

    # -------------------------------------------------------------- evaluation

    def logp(self, x: np.ndarray, *, chunk: int | None = None) -> np.ndarray:
        """Log density of each row; -inf where the function gives NaN or +inf, or raises.

        Parameters
        ----------
        x : array of shape (n, d)
        chunk : int, optional
            Points per call of the function. With one, workers share even a few points; such calls
            cost more where the function is quick.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        LimitReached
            Once a limit of the fit is reached, also if the function has not returned by then
            (`hung`); inside of `limited`, once the early bound is.
        FitError
            If a worker process died.
        """
        return self._evaluate(x, chunk)[0]

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density and gradient of each row.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        logp : array of shape (n,)
        grad : array of shape (n, d)
            Zero where it is not finite. A Metropolis proposal that uses it stays valid, because
            the gradient remains a deterministic function of the point.

        Raises
        ------
        TypeError
            If the density has no gradient.
        LimitReached, FitError
            As in `logp`.
        """
        if not self.has_gradient:
            raise TypeError("logp_and_grad was asked of a density that has no gradient: use logp.")
        return self._evaluate(x)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row, for ranking: as `logp`, but for rounding, and cheaper.

        Where the function offers `values` (`target.values.values_of`), no gradient is computed.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        LimitReached, FitError
            As in `logp`.
        """
        if self.history is not None or (self.shared and not self.dear):
            return self.logp(x)
        seconds, before = self.seconds, self.n_logp_evals
        x = np.ascontiguousarray(x, dtype=float)
        try:
            results: list[Evaluation] = []
            if self.dear:
                self._in_chunks(x, self.chunk, results, values=True)
            else:
                function = values_of(self.function)
                for chunk in growing_chunks(x, max(self.chunk, CHUNK)):
                    here = partial(self._here, chunk, function)
                    results.append(self._counted(chunk, here, False, "values"))
        finally:
            self.n_values += self.n_logp_evals - before
            self.value_seconds += self.seconds - seconds
        return self._tallied(results)

    @property
    def term_model(self) -> TermModel | None:
        """The log density as a sum of terms; None if they are not known."""
        if self._terms_of is not None:
            self._term_model, self._terms_of = self._terms_of(), None
        return self._term_model

    def terms(self, x: np.ndarray) -> np.ndarray:
        """Terms of the log density, which sum to it; counted as evaluations of it.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        array of shape (n, T)
            -inf where the function gives NaN or an infinite value, and in all terms where it
            raises.

        Raises
        ------
        TypeError
            If the terms are not known.
        LimitReached
            As in `logp`.
        """
        model = self.term_model
        if model is None:
            raise TypeError("terms was asked of a density whose terms are not known: use logp.")
        # The time that this takes is none of an evaluation.
        model.prepare()
        x, function = np.ascontiguousarray(x, dtype=float), TermFunction(model)
        parts = [x[i : i + TERM_CHUNK] for i in range(0, len(x), TERM_CHUNK)]
        results = [
            self._counted(
                p, self.log.take("terms", p) or partial(self._here, p, function), False, "terms"
            )
            for p in parts
        ]
        self._tallied(results)
        if len(results) == 1:
            return results[0].grad
        none = np.empty((0, len(model.depends)))
        return np.concatenate([none, *(r.grad for r in results)])

    def logp_and_outputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density of each row, and the outputs of the simulator.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        logp : array of shape (n,)
        outputs : array of shape (n, m)
            NaN where the simulator raised or gave NaN.

        Raises
        ------
        TypeError
            If the outputs are not exposed.
        LimitReached, FitError
            As in `logp`.
        """
        if self.outputs is None:
            raise TypeError("logp_and_outputs was asked of a density without outputs: use logp.")
        return self._evaluate(x)

    def expose_outputs(self, model: OutputModel) -> None:
        """Evaluate from now on the outputs of a simulator with the log density, and no gradient."""
        self.close()
        self._pool, self.has_gradient = None, False
        self.outputs, self.function = model, SplitFunction(model)
        self.history = None if self.history is None else History(self.dim)

    def hide_outputs(self, function: BatchFunction, *, has_gradient: bool) -> None:
        """Return to the function before `expose_outputs`; log densities that are known are kept."""
        self.close()
        known = self.history
        self._pool, self.outputs, self.function = None, None, function
        self.has_gradient = has_gradient
        self.history = None
        if known is not None:
            self.history = History(self.dim)
            if not has_gradient:
                given = known.evaluations(self.names, outputs=False)
                self.history.add(given.x, given.logp, given.outputs)

    def recall(self, given: Evaluations) -> None:
        """Take earlier evaluations of the same density into the history.

        Where outputs are exposed, evaluations with other outputs are of no use, and left out.

        Raises
        ------
        ValueError
            If they are of other coordinates, or the density has another value at the first of them.
        """
        if given.names != self.names:
            raise ValueError(
                f"evaluations= are of the coordinates {given.names[:8]}, this model has "
                f"{self.names[:8]}. Leave them out."
            )
        width = 0 if self.outputs is None else self.outputs.n_outputs
        if self.history is None or not len(given) or given.outputs.shape[1] < width:
            return
        first = int(np.argmax(given.logp))
        logp, outputs = self._evaluate(given.x[first : first + 1])
        now = float(logp[0])
        if not equal_logp(np.array([now]), given.logp[first : first + 1], self.resolution).all():
            raise ValueError(
                f"evaluations= were made before the model or its data changed: the log density at "
                f"one of the points was {given.logp[first]:.6f} and is {now:.6f} now. Leave them "
                "out."
            )
        if width and not same_outputs(outputs[0], given.outputs[first]):
            return
        rows = self.history.unknown(given.x)
        self.history.add(given.x[rows], given.logp[rows], given.outputs[rows, :width])

    def keep_history(self) -> None:
        """Keep each evaluation from now on, so that no point is evaluated twice.

        Points go to the workers one by one.
        """
        self.history, self.chunk = History(self.dim), 1

    def _evaluate(self, x: np.ndarray, chunk: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        x = np.ascontiguousarray(x, dtype=float)
        if self.history is None:
            chunk = self.chunk if chunk is None else min(chunk, self.chunk)
            done: list[Evaluation] = []
            self._in_chunks(x, chunk, done)
            return self._joined(done)
        new, done = x[self.history.unknown(x)], []
        try:
            self._in_chunks(new, self.chunk, done)
        finally:
            # What a limit cuts off is kept as far as it was evaluated.
            logp, second = self._joined(done)
            self.history.add(new[: len(logp)], logp, second)
        return self.history.at(x)

    def _in_chunks(
        self, x: np.ndarray, chunk: int, done: list[Evaluation], *, values: bool = False
    ) -> None:
        """Evaluate points in calls of the function of so many; add the results to `done`."""
        chunks = [x[i : i + chunk] for i in range(0, len(x), chunk)]
        kind = "values" if values else "function" if self.outputs is None else "outputs"
        known = [self.log.take(kind, part) for part in chunks]
        new = [part for part, stored in zip(chunks, known, strict=True) if stored is None]
        # Closing the results stops workers from beginning chunks that nobody waits for.
        with closing(self._results(new, values=values)) as pending:
            following = partial(next, pending)
            gradient = self.has_gradient and not values
            for part, stored in zip(chunks, known, strict=True):
                done.append(self._counted(part, stored or following, gradient, kind))

    def _joined(self, results: list[Evaluation]) -> tuple[np.ndarray, np.ndarray]:
        """Return the log densities, and the gradients or outputs, of all results."""
        width = self.dim if self.has_gradient else 0
        width = width if self.outputs is None else self.outputs.n_outputs
        second = np.empty((sum(len(r.logp) for r in results), width))
        if width and results:
            second = np.concatenate([r.grad for r in results])
        if self.outputs is not None:
            return self._tallied(results), second
        return self._tallied(results, second), np.where(np.isfinite(second), second, 0.0)

    def _tallied(self, results: list[Evaluation], grad: np.ndarray | None = None) -> np.ndarray:
        """Count the faults of a batch, and return its log densities."""
        logp = np.concatenate([r.logp for r in results]) if results else np.empty(0)
        grad = np.empty((len(logp), 0)) if grad is None else grad
        self.tally.count(sum(r.n_raised for r in results), logp, grad)
        self.last_error = next((r.error for r in reversed(results) if r.error), self.last_error)
        # +inf cannot be sampled and NaN is no value: both points count as outside the support.
        return np.where(np.isfinite(logp), logp, -np.inf)

    def _counted(
        self,
        chunk: np.ndarray,
        evaluated: Callable[[], Evaluation] | Stored,
        gradient: bool,
        kind: str,
    ) -> Evaluation:
        """Evaluate a chunk, unless it is stored, and count it; the limits are checked before."""
        self.check_limits(len(chunk))
        began = time.monotonic()
        if isinstance(evaluated, Stored):
            evaluation, seconds = evaluated.evaluation, evaluated.seconds
            self._times.last = evaluated.call_seconds
        else:
            try:
                evaluation = evaluated()
            except EvaluationHung as error:
                self.hung, self.cut = error, True
                raise LimitReached from error
            except LimitReached:
                self.cut = True
                raise
            seconds = time.monotonic() - began
        self.seconds += seconds
        self.n_logp_evals += len(chunk)
        self.n_grad_evals += len(chunk) if gradient else 0
        # Some engines ask their cluster for the number of workers: not without need.
        if self.log.writes and not isinstance(evaluated, Stored):
            dear = self.n_workers * self.seconds >= KEPT_SECONDS * self.n_logp_evals
            if dear or self.history is not None:
                self.log.add(kind, chunk, evaluation, (seconds, self.last_seconds))
        return evaluation

    def _results(
        self, chunks: list[np.ndarray], *, values: bool
    ) -> Generator[Evaluation, None, None]:
        # A single chunk goes to a worker, too: a model that crashes must not end this process.
        if self.shared:
            return self._workers_pool().evaluate(chunks, self._times, values=values)
        function = values_of(self.function) if values else self.function
        return (self._here(chunk, function) for chunk in chunks)

    def _here(self, chunk: np.ndarray, function: BatchFunction) -> Evaluation:
        began = time.monotonic()
        result = evaluate(function, chunk, self._times.of_next_call(), self.names)
        self._times.took(time.monotonic() - began)
        return result

    def start_workers(self) -> None:
        """Start the worker processes, if any, and wait until they can evaluate.

        Raises
        ------
        FitError
            If the function cannot be sent to them, a process died, or an engine takes no tasks, or
            its workers have another version of the package.
        """
        if self.shared:
            self._workers_pool().wait_until_ready()

    def _workers_pool(self) -> WorkerPool | EnginePool:
        if self._pool is None:
            make = WorkerPool if isinstance(self.workers, int) else EnginePool
            self._pool = make(self.function, self.workers, self.names)
        return self._pool

    def check_process(self) -> None:
        """Raise `FitError` if the function cannot run in this process, a copy of its own."""
        check = getattr(self.function, "check_process", None)
        if check is not None:
            check()

    def close(self) -> None:
        """Stop the worker processes, if any; the density can be used again afterwards.

        An engine that was given belongs to the user, and stays open.
        """
        if self._pool is not None:
            self._pool.close()

    # -------------------------------------------------------------- limits

    def spent(self) -> int:
        """Return how many points have been evaluated."""
        return self.n_logp_evals

    def exhausted(self) -> bool:
        """Tell whether the early bound of the fit's limits is reached."""
        early = self.limits.early(self.n_logp_evals)
        self.cut |= early
        return early

    def room(self, *, early: bool = True) -> float:
        """Return how many more points can be evaluated, by the limits and the time of a point."""
        # Values are cheaper than the evaluations that most work needs.
        n, seconds = self.n_logp_evals - self.n_values, self.seconds - self.value_seconds
        each = seconds / n if n else 0.0
        room = self.limits.room(self.n_logp_evals, each, early=early)
        self.cut |= room < 1
        return room

    def check_limits(self, more: int = 0) -> None:
        """Raise `LimitReached` if `more` evaluations are refused."""
        if self.limits.refuses(self.n_logp_evals, more):
            self.cut = True
            raise LimitReached

    @contextmanager
    def limited(self, refuse: bool = True) -> Iterator[None]:
        """Raise `LimitReached` inside of the context once the early bound of a limit is reached.

        It is for work that can be left out or cut short. A batch is refused between its chunks of
        `CHUNK` points. With ``refuse=False`` only the last bound refuses.
        """
        with self.within(replace(self.limits, refusing=refuse)):
            yield

    @contextmanager
    def within(self, limits: Limits) -> Iterator[None]:
        """Set the limits for the length of the context."""
        before, self.limits = self.limits, limits
        self._times.deadline = limits.last_time
        try:
            yield
        finally:
            self.limits, self._times.deadline = before, before.last_time

    # -------------------------------------------------------------- circular coordinates

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates of points, shape (..., d), into the period around zero."""
        return wrap(x, self.period)

    def unroll(self, x: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        """Choose for each circular coordinate of points, (..., d), the copy nearest to `centre`."""
        return unroll(x, centre, self.period)

    # -------------------------------------------------------------- points

    def prepare(self) -> None:
        """Compile what draws from the prior, where that has to be compiled.

        A prior that cannot be drawn from is no error before it is.
        """
        prepare = getattr(self.prior, "prepare", None)
        if prepare is not None:
            with suppress(ModelError):
                prepare()

    def prior_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points from the prior in the unconstrained space, shape (n, d).

        The terms that ``pm.Potential`` adds to a model are left out.

        Raises
        ------
        ModelError
            If there is no prior, or it is improper.
        """
        if self.prior is None:
            raise ModelError(
                "This density has no prior to draw starting points from. "
                "Give them: modes=ModeSearch(starts=array of shape (n, d))."
            )
        return self.wrap(np.asarray(self.prior(n, rng), dtype=float))

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
            raise TypeError(
                "Points by variable name need a density made from a PyMC model: give an array of "
                "shape (n, d)."
            )
        return self.wrap(self.points_by_name(points).reshape(-1, self.dim))
