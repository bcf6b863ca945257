"""What a worker does: it loads a function once, and evaluates points with it.

A task of an engine that is not ours (`target.engines`) carries points and the hash of a function.
A worker that does not have the function asks for it, and gets it with the task sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from multiprocessing import parent_process
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal._version import __version__
from pymc_multimodal.status import EvaluationHung, FitError, first_line
from pymc_multimodal.target.evaluation import BatchFunction, CallLimit, evaluate_calls
from pymc_multimodal.target.values import values_of

__all__ = [
    "Answer",
    "Home",
    "Payload",
    "Task",
    "capped_environment",
    "end_with_parent",
    "limit_threads",
    "packed",
    "run_task",
    "unpacked",
]

# Functions that a worker keeps. Conventional: a model is compared with a few others.
KEPT_FUNCTIONS = 4
# Seconds between two looks at the main process. Conventional.
PARENT_SECONDS = 1.0
# What libraries read when they are imported: numbers of threads. Each of BLAS, OpenMP, Numba and
# numexpr has its own; torch takes OpenMP's.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# What the values of a model depend on, beside the model.
VERSIONS = (
    f"{__version__}, Python {sys.version_info.major}.{sys.version_info.minor}, "
    f"NumPy {np.__version__}"
)


class Payload(NamedTuple):
    """A function that travels.

    Attributes
    ----------
    key : str
        Hash of the content.
    content : bytes
        The function and the names of the coordinates, pickled.
    """

    key: str
    content: bytes


class Home(NamedTuple):
    """The process of the fit.

    Attributes
    ----------
    host : str
    process : int
    """

    host: str
    process: int

    @classmethod
    def here(cls) -> Home:
        """Return this process."""
        return cls(platform.node(), os.getpid())


class Task(NamedTuple):
    """Points to evaluate.

    Attributes
    ----------
    key : str
        Hash of the function.
    versions : str
        Those of the main process; a worker with others refuses.
    home : Home
    content : bytes or None
        The function, for a worker that has asked for it.
    calls : tuple of arrays of shape (n, d)
        Points of each call of the function.
    values : bool
        Whether log densities alone are wanted.
    limit : CallLimit or None
    """

    key: str
    versions: str
    home: Home
    content: bytes | None
    calls: tuple[np.ndarray, ...]
    values: bool = False
    limit: CallLimit | None = None


class Answer(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    kind : {"done", "asks", "hung", "refused"}
        "asks" where the worker does not have the function.
    found : object
        Evaluations; an `EvaluationHung`, or the text of a refusal.
    slowest : float
        Seconds of the longest call.
    """

    kind: str
    found: Any = None
    slowest: float = 0.0


_functions: OrderedDict[str, tuple[BatchFunction, tuple[str, ...]]] = OrderedDict()
_lock = threading.Lock()
_settled = False


def packed(function: BatchFunction, names: Sequence[str], workers: str) -> Payload:
    """Pickle a function for other processes.

    Parameters
    ----------
    function : callable
        See `BatchFunction`.
    names : sequence of str
        Names of the coordinates.
    workers : str
        What the user gave, for the message.

    Raises
    ------
    FitError
        If it cannot be pickled; the part that cannot is named.
    """
    try:
        content = cloudpickle.dumps((function, tuple(names)))
    except Exception as error:
        where = _unpicklable(function)
        raise FitError(
            f"The model cannot be sent to {workers} ({type(error).__name__}: "
            f"{first_line(error)}){f', because of {where}' if where else ''}. It holds something "
            "that belongs to this process (an open file, a lock, a connection, an object of a "
            "compiled extension): make that inside of the function that needs it, or use "
            "workers=1."
        ) from error
    return Payload(hashlib.sha256(content).hexdigest()[:32], content)


def unpacked(content: bytes) -> tuple[BatchFunction, tuple[str, ...]]:
    """Load a function in a worker, with the names of the coordinates.

    Raises
    ------
    FitError
        If that fails.
    """
    try:
        function, names = cloudpickle.loads(content)
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
        raise FitError(
            f"A worker process could not load the model ({text}). A module, a file or a class "
            "that the model uses must be importable in other processes; or use workers=1."
        ) from None
    return function, names


def run_task(task: Task) -> Answer:
    """Do a task in a worker of any engine; whatever the model does is part of the answer.

    Parameters
    ----------
    task : Task

    Returns
    -------
    Answer
    """
    if task.versions != VERSIONS:
        return Answer(
            "refused",
            f"a worker on {platform.node()} has pymc-multimodal {VERSIONS}, and this process has "
            f"{task.versions}. Values may differ between versions: install the same on all "
            "machines.",
        )
    _settle(task.home)
    with _lock:
        known = _functions.get(task.key)
        if known is None and task.content is None:
            return Answer("asks")
        if known is None:
            assert task.content is not None
            try:
                known = unpacked(task.content)
            except FitError as error:
                return Answer("refused", str(error))
            _functions[task.key] = known
            while len(_functions) > KEPT_FUNCTIONS:
                _functions.popitem(last=False)
        _functions.move_to_end(task.key)
    function, names = known
    try:
        chosen = values_of(function) if task.values else function
        found, slowest = evaluate_calls(chosen, task.calls, task.limit, names)
    except EvaluationHung as error:
        return Answer("hung", error)
    return Answer("done", found, slowest)


def _settle(home: Home) -> None:
    """Cap the threads of a worker, and let it end with the main process, once."""
    global _settled
    if _settled or Home.here() == home:
        return
    _settled = True
    limit_threads(1)
    # Engines on other machines, and those that outlive the fit, end their workers themselves.
    child = parent_process() is not None or os.getppid() == home.process
    if home.host == platform.node() and child:
        end_with_parent()


# ------------------------------------------------------------------ threads and processes


def limit_threads(n: int) -> None:
    """Cap the threads of BLAS, OpenMP, Numba and torch in this process.

    Nothing is capped where the user has set ``OMP_NUM_THREADS``.

    Parameters
    ----------
    n : int
    """
    if THREAD_VARIABLES[0] in os.environ:
        return
    # The limits stay: nothing ends them.
    threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)
    if "numba" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["numba"].set_num_threads(n)


@contextlib.contextmanager
def capped_environment(n: int) -> Iterator[None]:
    """Let processes that start inside of the context have so many threads each.

    Nothing is capped where the user has set ``OMP_NUM_THREADS``.

    Parameters
    ----------
    n : int
    """
    given = THREAD_VARIABLES[0] in os.environ
    added = [] if given else [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(n)))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def end_with_parent() -> None:
    """Let this process end once the process that started it has, also amid an evaluation."""
    threading.Thread(target=_watch_parent, name="parent-watch", daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    # Those that loky starts know of no parent to wait for.
    if parent is not None and parent.sentinel is not None:
        parent.join()
    else:
        before = os.getppid()
        while os.getppid() == before:
            time.sleep(PARENT_SECONDS)
    os._exit(1)


# ------------------------------------------------------------------ what cannot travel


def _unpicklable(what: Any, path: str = "", depth: int = 6) -> str:
    """Name the innermost part of an object that cannot be pickled; an empty text if unknown."""
    for name, part in _parts(what):
        try:
            cloudpickle.dumps(part)
        except Exception:
            here = f"{path}.{name}" if path else name
            inner = _unpicklable(part, here, depth - 1) if depth else ""
            return inner or f"{here!r}, of type {type(part).__name__}"
    return ""


def _parts(what: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts of an object that are pickled with it, by name."""
    code, closure = getattr(what, "__code__", None), getattr(what, "__closure__", None)
    if code is not None:
        for name, cell in zip(code.co_freevars, closure or (), strict=False):
            with contextlib.suppress(ValueError):
                yield name, cell.cell_contents
        names = set(code.co_names) & set(what.__globals__)
        yield from ((name, what.__globals__[name]) for name in sorted(names))
        return
    graph = getattr(getattr(getattr(what, "function", None), "maker", None), "fgraph", None)
    if graph is not None:
        for node in graph.apply_nodes:
            yield f"the Op {type(node.op).__name__}", node.op
    if isinstance(what, dict):
        yield from ((str(key), value) for key, value in what.items())
    elif isinstance(what, (tuple, list)):
        yield from ((f"[{i}]", value) for i, value in enumerate(what))
    else:
        yield from ((key, v) for key, v in vars(what).items()) if hasattr(what, "__dict__") else ()
