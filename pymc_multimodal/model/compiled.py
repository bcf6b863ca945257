"""A model's log density and gradient as one compiled function of a batch of points."""

from __future__ import annotations

import copyreg
import io
import logging
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import join_nonshared_inputs, rewrite_graph
from pytensor.compile.ops import FromFunctionOp
from pytensor.gradient import DisconnectedInputError, NullTypeGradError
from pytensor.graph.replace import vectorize_graph

from pymc_multimodal.model.layout import flatten
from pymc_multimodal.model.padded import PaddedFunction, is_jax
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import DEAR_SECONDS

__all__ = [
    "CompiledDensity",
    "CompiledFunction",
    "compile_density",
    "compile_rows",
    "compiling",
    "log_density_graph",
    "lowered",
    "rewritten",
]

_log = logging.getLogger("pymc.multimodal")

# Calls by which an evaluation is priced, of which the quickest counts, and seconds beyond which a
# call is not repeated. Conventional: what else the machine does takes less.
PRICED_CALLS, LONG_SECONDS = 3, 0.1
# Points of a call where they share work, as in products of matrices: where a call of so many takes
# less than `SHARED_WORK` times as long as so many calls. Conventional.
BLOCK, SHARED_WORK = 8, 0.7

_REWRITES = ("canonicalize", "stabilize", "local_check_parameter_to_ninf_switch")


class CompiledDensity:
    """A compiled function of points, (n, d) -> (n,) and (n, d); picklable.

    Parameters
    ----------
    function : compiled function
        It takes one row, or a matrix of rows.
    has_gradient : bool
        Whether the second output of the function is the gradient.
    dtype : str
        Type of the function's input.
    rowwise : bool
        Whether the function takes one row.
    example : array of shape (n, d)
        Points at which the function can be evaluated. A copy in another process is evaluated there
        when it is made, because PyTensor compiles for Numba in the first call.

    Attributes
    ----------
    price : float
        Seconds of the evaluation of one point, as `measure` found; 0 before.
    """

    def __init__(
        self, function: Any, has_gradient: bool, dtype: str, rowwise: bool, example: np.ndarray
    ) -> None:
        self.price, self._dear_chunk = 0.0, 1
        self.function = function
        self.has_gradient = has_gradient
        self.dtype = dtype
        self.rowwise = rowwise
        self.example = example
        # A PyTensor function is not safe for threads: it stores input and results in itself.
        self._lock = threading.Lock()

    @property
    def chunk(self) -> int | None:
        """Points of one call; None where the number makes no difference."""
        if self.price >= DEAR_SECONDS:
            return self._dear_chunk
        return self.function.sizes[0] if isinstance(self.function, PaddedFunction) else None

    def check_process(self) -> None:
        """Raise `FitError` in a process in which the function cannot run."""
        if isinstance(self.function, PaddedFunction):
            self.function.check_process()

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Evaluate rows of shape (n, d)."""
        with self._lock:
            return self._evaluate(np.ascontiguousarray(x, dtype=self.dtype))

    def measure(self) -> None:
        """Measure the price of a point, at the example, and how many are best evaluated in a call.

        It is measured in the process of the fit, however many workers there are: the same points
        are then evaluated in the same calls.
        """
        try:
            if isinstance(self.function, PaddedFunction):
                # A call for fewer points takes as long.
                self._dear_chunk = self.function.sizes[-1]
                least = np.repeat(self.example[:1], self._dear_chunk, axis=0)
                self.price = _quickest(self, least) / self._dear_chunk
                return
            self.price = _quickest(self, self.example[:1])
            if DEAR_SECONDS <= self.price < LONG_SECONDS and not self.rowwise:
                block = np.repeat(self.example[:1], BLOCK, axis=0)
                work = _quickest(self, block) / (BLOCK * self.price)
                self._dear_chunk = BLOCK if work < SHARED_WORK else 1
        except (Exception, SystemExit):
            _log.debug("The model raised where its price was measured.", exc_info=True)

    def __reduce__(self) -> tuple:
        payload = io.BytesIO()
        _Pickler(payload).dump(self.function)
        arguments = (self.has_gradient, self.dtype, self.rowwise, self.example)
        return _loaded, (payload.getvalue(), *arguments)

    def _evaluate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if self.rowwise:
            results = [self.function(row) for row in x]
            logp = np.array([float(r[0]) for r in results])
            return logp, np.array([r[1] for r in results]) if self.has_gradient else None
        out = self.function(x)
        # An output that does not depend on the input has one row.
        logp = np.broadcast_to(np.asarray(out[0], dtype=float), (len(x),))
        if not self.has_gradient:
            return logp, None
        return logp, np.broadcast_to(np.asarray(out[1], dtype=float), x.shape)


def _quickest(function: Callable[[np.ndarray], Any], x: np.ndarray) -> float:
    """Seconds of the quickest of a few calls."""
    least = np.inf
    for _ in range(PRICED_CALLS):
        began = time.perf_counter()
        function(x)
        least = min(least, time.perf_counter() - began)
        if least > LONG_SECONDS:
            break
    return least


class _Pickler(cloudpickle.Pickler):
    """Pickles Ops that ``wrap_py`` (``as_op``) makes of functions, wherever these were defined.

    PyTensor pickles such an Op by the name of its function, which works for names of a module only.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Reduce such an Op to its attributes, among them the function."""
        if isinstance(obj, FromFunctionOp):
            return copyreg.__newobj__, (type(obj),), dict(vars(obj))  # type: ignore[attr-defined]
        return super().reducer_override(obj)


def _loaded(payload: bytes, *arguments: Any) -> CompiledDensity:
    """Make the copy of a compiled density in another process."""
    with compiling():
        density = CompiledDensity(pickle.loads(payload), *arguments)
        try:
            density(density.example)
        except (Exception, SystemExit):
            # The model raises at this point: it was evaluated when it was compiled, too.
            _log.debug("A copy of the model raised at its example.", exc_info=True)
    return density


class CompiledFunction:
    """A compiled function of one row, or of rows, with a lock; picklable.

    Parameters
    ----------
    function : compiled function
    rowwise : bool
        Whether the function takes one row of each argument.
    """

    def __init__(self, function: Any, rowwise: bool) -> None:
        self.function = function
        self.rowwise = rowwise
        self._warm = False
        # A PyTensor function is not safe for threads: it stores input and results in itself.
        self._lock = threading.Lock()

    def __call__(self, *arguments: np.ndarray) -> list[np.ndarray]:
        """Evaluate rows, or one row."""
        with self._lock:
            if self._warm:
                return list(self.function(*arguments))
            # PyTensor compiles for Numba in the first call.
            with compiling():
                self._warm = True
                return list(self.function(*arguments))

    def __reduce__(self) -> tuple:
        payload = io.BytesIO()
        _Pickler(payload).dump(self.function)
        return _loaded_function, (payload.getvalue(), self.rowwise)


def _loaded_function(payload: bytes, rowwise: bool) -> CompiledFunction:
    """Make the copy of a compiled function in another process."""
    with compiling():
        return CompiledFunction(pickle.loads(payload), rowwise)


@contextmanager
def compiling() -> Iterator[None]:
    """Leave out warnings of Numba about what a user cannot change.

    Numba warns of Ops that it runs in Python, and of products of arrays whose memory layout
    PyTensor has chosen.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numba will use object mode")
        warnings.filterwarnings("ignore", message=r".*is faster on contiguous arrays")
        yield


def compile_density(
    model: pm.Model,
    point: Mapping[str, np.ndarray],
    graph: tuple[Any, Any],
    compile_kwargs: Mapping[str, Any],
    *,
    gradient: bool = True,
) -> CompiledDensity:
    """Compile the log density and, where there is one, its gradient.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`.
    graph : tuple of variables
        The model's `log_density_graph`.
    compile_kwargs : mapping
        Passed to ``pymc.compile``. The mode is Numba's by default: the default linker of PyMC 5 has
        no fast matrix product without an external BLAS.
    gradient : bool
        Whether the gradient is wanted.

    Returns
    -------
    CompiledDensity

    Raises
    ------
    ModelError
        If the log density does not depend on the variables.
    """
    logp, joined = graph
    outputs = _with_gradient(model, logp, joined) if gradient else [logp]
    has_gradient = len(outputs) == 2
    example = flatten(model, point).astype(joined.dtype)
    kwargs = {"mode": "NUMBA", **compile_kwargs}
    with compiling():
        function, batched = compile_rows(outputs, {joined: example}, kwargs)
    if batched is not None:
        function.trust_input = True
    rows = np.stack([example, example])
    density = CompiledDensity(function, has_gradient, joined.dtype, batched is None, rows)
    with compiling():
        density.measure()
    return density


def compile_rows(
    graphs: Sequence[Any], examples: Mapping[Any, np.ndarray], kwargs: Mapping[str, Any]
) -> tuple[Any, list[Any] | None]:
    """Compile graphs of vectors as a function of rows, or of one row where that is not possible.

    Parameters
    ----------
    graphs : sequence of variables
    examples : mapping
        A value of each vector that the graphs depend on, in the order of the arguments.
    kwargs : mapping
        Passed to ``pymc.compile``.

    Returns
    -------
    function : compiled function
    batched : list of variables, or None
        The graphs of many rows; None if the function takes one row of each vector.
    """
    rows = {
        v: pt.matrix(f"{v.name or 'x'}_rows", shape=(None, len(x)), dtype=v.dtype)
        for v, x in examples.items()
    }
    try:
        batched = vectorize_graph(list(graphs), rows)
        function = pm.compile(list(rows.values()), batched, **kwargs)
        if is_jax(kwargs.get("mode")):
            function = PaddedFunction(function)
        two = [np.stack([x, x]).astype(v.dtype) for v, x in examples.items()]
        function(*two)
        if isinstance(function, PaddedFunction):
            function.limit_sizes(*two)
        return function, list(batched)
    except (Exception, SystemExit):
        # Some Ops (IfElse) cannot be vectorised.
        _log.debug("A graph is evaluated point by point.", exc_info=True)
        return pm.compile(list(rows), list(graphs), **kwargs), None


def rewritten(graphs: Sequence[Any], *more: str) -> list[Any]:
    """Rewrite graphs of a log density, in place, until they can be vectorised.

    Parameter checks become -inf here, before a graph is vectorised. In a vectorised graph one row
    with a bad parameter would raise for the whole batch.

    Parameters
    ----------
    graphs : sequence of variables
    more : str
        Further sets of PyTensor's rewrites.
    """
    include = (*more, *_lowering(), *_REWRITES)
    rewritten_graphs: list[Any] = rewrite_graph(list(graphs), include=include)
    return rewritten_graphs


def lowered(graphs: Sequence[Any]) -> list[Any]:
    """Turn arrays with named dimensions in graphs into plain ones, in place."""
    lowering = _lowering()
    return list(rewrite_graph(list(graphs), include=lowering) if lowering else graphs)


def _lowering() -> tuple[str, ...]:
    """Return the rewrites of arrays with named dimensions, if a model can have any.

    PyTensor registers them when xtensor is imported. That fails if they were asked for before.
    """
    return ("lower_xtensor",) if "pytensor.xtensor" in sys.modules else ()


def log_density_graph(model: pm.Model, point: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    """Build the log density of one row of coordinates.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        The model's `layout`.

    Returns
    -------
    logp : variable
        The log density, rewritten (`rewritten`).
    row : variable
        The row of coordinates that it depends on.
    """
    [logp] = rewritten([model.logp()])
    [logp], joined = join_nonshared_inputs(
        point=point, inputs=model.value_vars, outputs=[logp], make_inputs_shared=False
    )
    [logp] = lowered([logp])
    return logp, joined


def _with_gradient(model: pm.Model, logp: Any, joined: Any) -> list[Any]:
    """Return the log density and, if possible, its gradient."""
    try:
        return [logp, pytensor.grad(logp, joined)]
    except (NotImplementedError, NullTypeGradError):
        return [logp]
    except DisconnectedInputError as error:
        names = ", ".join(v.name for v in model.value_vars)
        raise ModelError(
            f"The log density does not depend on the model's variables ({names}): it is constant, "
            "and its integral infinite. Give proper priors."
        ) from error
