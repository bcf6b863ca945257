"""Optimisers of other libraries side by side: each asks for one point in every round."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

__all__ = ["Optimiser", "Stepwise", "lockstep"]

Optimiser: TypeAlias = Callable[[Callable[[np.ndarray], float]], bool]
"""Minimises the function that it is given, and tells whether it converged."""


class _Ended(BaseException):
    """Raised inside of an optimiser that is ended; no `Exception`: libraries let it pass."""


class Stepwise:
    """An optimiser that stops at every point whose cost it needs.

    It has a thread of its own, which runs only while `advance` waits for it: no two threads ever
    run at once, so what an optimiser does cannot depend on how threads are scheduled. Optimisers
    in pure Python would not be quicker side by side.

    Parameters
    ----------
    optimiser : callable
        See `Optimiser`.

    Attributes
    ----------
    point : array of shape (d,) or None
        The point whose cost is needed next; None if the optimiser has ended.
    converged : bool
        What the optimiser returned; False before.
    """

    def __init__(self, optimiser: Optimiser) -> None:
        self.point: np.ndarray | None = None
        self.converged = False
        self._optimiser = optimiser
        self._cost = np.nan
        self._error: BaseException | None = None
        self._ending = False
        self._asked, self._told = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="multimodal-climb", daemon=True)

    def begin(self) -> None:
        """Start the optimiser, and wait for its first point."""
        self._thread.start()
        self._wait()

    def advance(self, cost: float) -> None:
        """Tell the cost at `point`, and wait for the next point.

        Parameters
        ----------
        cost : float
            Finite.

        Raises
        ------
        Exception
            Whatever the optimiser raises.
        """
        self._cost = cost
        self._wait()

    def end(self) -> None:
        """Let the thread end, also after an interruption in the middle of a step."""
        self._ending = True
        self._told.release()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.is_alive():
            self._thread.join()

    def _wait(self) -> None:
        # The filters are those of the whole process, and may be changed while no other thread runs.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._told.release()
            self._asked.acquire()
        if self._error is not None:
            raise self._error

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        self._told.acquire()
        try:
            if not self._ending:
                # The state of NumPy's errors belongs to the thread.
                with np.errstate(all="ignore"):
                    self.converged = self._optimiser(self._ask)
        except _Ended:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.point = None
            self._asked.release()

    def _ask(self, point: np.ndarray) -> float:
        if self._ending:
            raise _Ended
        self.point = np.array(point, dtype=float)
        self._asked.release()
        self._told.acquire()
        if self._ending:
            raise _Ended
        return self._cost


@contextmanager
def lockstep(optimisers: list[Optimiser]) -> Iterator[list[Stepwise]]:
    """Begin optimisers; however the context ends, so do their threads.

    Parameters
    ----------
    optimisers : list of callable
        See `Optimiser`.
    """
    climbs = [Stepwise(optimiser) for optimiser in optimisers]
    try:
        for climb in climbs:
            climb.begin()
        yield climbs
    finally:
        # All are told before one is waited for: another interruption leaves no thread behind.
        for climb in climbs:
            climb.end()
        for climb in climbs:
            climb.join()
