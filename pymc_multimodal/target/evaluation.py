"""One batch of points, evaluated by a function that may raise or not return."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from pymc_multimodal.status import EvaluationHung
from pymc_multimodal.target.watchdog import Expired, call_until

__all__ = [
    "BatchFunction",
    "CallLimit",
    "Evaluation",
    "evaluate",
    "evaluate_calls",
    "points_text",
    "portable",
]

_log = logging.getLogger("pymc.multimodal")

BatchFunction: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Maps points, shape (n, d), to log densities, (n,), and gradients, (n, d) or None."""

# Seconds in which the points of a batch that did not return are tried one by one, and seconds
# (beside three times the longest evaluation so far) after which one of them is the culprit.
# Conventional: together with the grace of `EvaluationLimit` less than two seconds.
TRIAL_SECONDS, ROW_SECONDS, ROW_EVALUATIONS = 0.7, 0.1, 3.0
# Coordinates of a point that a message shows. Conventional.
SHOWN_COORDINATES = 8


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


class CallLimit(NamedTuple):
    """The time that one evaluation may take.

    Attributes
    ----------
    seconds : float
        Seconds after which it is given up.
    slowest : float
        Seconds of the longest evaluation before it.
    """

    seconds: float
    slowest: float


def evaluate(
    function: BatchFunction,
    x: np.ndarray,
    limit: CallLimit | None = None,
    names: Sequence[str] = (),
) -> Evaluation:
    """Evaluate points; where the function raises, one by one.

    Parameters
    ----------
    function : callable
        See `BatchFunction`.
    x : array of shape (n, d)
    limit : CallLimit, optional
    names : sequence of str
        Names of the coordinates, for messages.

    Returns
    -------
    Evaluation

    Raises
    ------
    EvaluationHung
        If the function has not returned in time.
    """
    if limit is None:
        return _evaluate(function, x)
    due = time.monotonic() + limit.seconds
    try:
        return call_until(due, lambda: f"The log density at {points_text(x, names)}",
                          _evaluate, function, x)  # fmt: skip
    except Expired:
        row = _hanging(function, x, ROW_SECONDS + ROW_EVALUATIONS * limit.slowest)
        points = x if row is None else x[row : row + 1]
        raise EvaluationHung(
            f"The log density did not return within {limit.seconds:.3g} seconds, which went beyond "
            f"max_seconds, at {points_text(points, names)}. Mend the model there, or exclude such "
            "points by its priors; a slow model needs a larger max_seconds."
        ) from None


def evaluate_calls(
    function: BatchFunction,
    calls: Sequence[np.ndarray],
    limit: CallLimit | None = None,
    names: Sequence[str] = (),
) -> tuple[list[Evaluation], float]:
    """Evaluate the points of several calls in another process than that of the fit.

    Parameters
    ----------
    function : callable
        See `BatchFunction`.
    calls : sequence of arrays of shape (n, d)
        Points of each call of the function.
    limit : CallLimit, optional
        Of all calls together.
    names : sequence of str
        Names of the coordinates, for messages.

    Returns
    -------
    evaluations : list of Evaluation
        With errors that can be pickled.
    slowest : float
        Seconds of the longest call.

    Raises
    ------
    EvaluationHung
        If the function has not returned in time.
    """
    found, slowest, due = [], 0.0, np.inf if limit is None else time.monotonic() + limit.seconds
    for x in calls:
        began = time.monotonic()
        left = None if limit is None else limit._replace(seconds=max(due - began, ROW_SECONDS))
        one = evaluate(function, x, left, names)
        found.append(one._replace(error=portable(one.error)))
        slowest = max(slowest, time.monotonic() - began)
    return found, slowest


def _evaluate(function: BatchFunction, x: np.ndarray) -> Evaluation:
    try:
        logp, grad = function(x)
        return Evaluation(np.asarray(logp), np.asarray([] if grad is None else grad), 0, None)
    except (Exception, SystemExit) as raised:
        # An error of the user's model, or its `sys.exit`: counted, and told by a status.
        error = raised if isinstance(raised, Exception) else RuntimeError(f"SystemExit: {raised}")
        if len(x) == 1:
            return Evaluation(np.array([-np.inf]), np.zeros_like(x), 1, error)
    rows = [_evaluate(function, row[None]) for row in x]
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


def _hanging(function: BatchFunction, x: np.ndarray, seconds: float) -> int | None:
    """Find the first row whose evaluation takes longer than it should; None if none was found."""
    if len(x) == 1:
        return 0
    end = time.monotonic() + TRIAL_SECONDS
    for i, row in enumerate(x):
        due = time.monotonic() + seconds
        try:
            call_until(min(due, end), lambda: "A single point", _evaluate, function, row[None])
        except Expired:
            return i if due <= end else None
    return None


def points_text(x: np.ndarray, names: Sequence[str]) -> str:
    """Name a point by its coordinates, or several points by their number and the first.

    Parameters
    ----------
    x : array of shape (n, d)
    names : sequence of str
        Names of the coordinates; without names they are counted.
    """
    named = zip(names or [f"x[{i}]" for i in range(x.shape[1])], x[0], strict=True)
    shown = [f"{name}={value:.17g}" for name, value in named][:SHOWN_COORDINATES]
    left_out = ", ..." if x.shape[1] > SHOWN_COORDINATES else ""
    point = f"the unconstrained point ({', '.join(shown)}{left_out})"
    return point if len(x) == 1 else f"one of {len(x)} points, of which the first is {point}"


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
