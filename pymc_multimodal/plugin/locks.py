"""One lock for what belongs to the whole process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["globally_locked"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_lock = threading.RLock()


def globally_locked(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let only one thread at a time run a function, and all functions decorated in this way.

    PyTensor's compiler and a model's random streams, torch's seed, warning filters, the number
    of BLAS threads and a terminal's progress bar belong to the whole process. A thread that holds
    the lock may call such functions again.
    """

    @wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _lock:
            return function(*args, **kwargs)

    return locked
