"""A PyMC model's log density and its prior draws, as compiled functions."""

from __future__ import annotations

import logging
import threading
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.initial_point import make_initial_point_expression
from pymc.pytensorf import join_nonshared_inputs, rewrite_graph
from pytensor.compile.mode import Mode
from pytensor.gradient import DisconnectedInputError, NullTypeGradError
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType

from pymc_multimodal.status import ModelError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "PriorDraws",
    "check_model",
    "compile_model",
    "flatten",
    "globally_locked",
    "layout",
    "unflatten",
]

_log = logging.getLogger("pymc.multimodal")

_P = ParamSpec("_P")
_R = TypeVar("_R")
_turn = threading.RLock()


def globally_locked(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let threads wait for each other that call such functions at the same time.

    PyTensor's compiler and a model's random streams, torch's seed, warning filters, the number
    of BLAS threads and a terminal's progress bar belong to the whole process.
    """

    @wraps(function)
    def one_at_a_time(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _turn:
            return function(*args, **kwargs)

    return one_at_a_time


def flatten(model: pm.Model, point: Mapping[str, np.ndarray]) -> np.ndarray:
    """Join a point's unconstrained values into one row, in the order of ``model.value_vars``."""
    return np.concatenate([np.ravel(point[v.name]) for v in model.value_vars]).astype(float)


def layout(model: pm.Model) -> dict[str, np.ndarray]:
    """Unconstrained values of one point, by name: shapes and types for `unflatten`.

    PyMC compiles a function for it, so that it is to be asked for once.
    """
    point = model.initial_point()
    return {v.name: np.asarray(point[v.name]) for v in model.value_vars}


def unflatten(like: Mapping[str, np.ndarray], x: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Turn rows of shape (n, d) back into points of unconstrained values, by their `layout`."""
    points = []
    for row in x:
        point, at = {}, 0
        for name, p in like.items():
            # PyTensor's functions take nothing but a variable's own type.
            point[name] = row[at : at + p.size].reshape(p.shape).astype(p.dtype)
            at += p.size
        points.append(point)
    return points


def check_model(model: pm.Model) -> None:
    """Raise a `ModelError` if the model cannot be sampled by this package."""
    if not model.free_RVs:
        raise ModelError("The model has no free variables: there is nothing to sample.")
    if model.discrete_value_vars:
        names = ", ".join(v.name for v in model.discrete_value_vars)
        raise ModelError(
            f"The model has discrete variables ({names}), and modes are searched for on a "
            "continuous space. Marginalise them first, with pymc_extras.marginalize or by a "
            "pm.Mixture."
        )
    random = [
        node
        for node in ancestors([model.logp()])
        if isinstance(node.type, RandomType)
        or (node.owner is not None and isinstance(node.owner.op, RandomVariable))
    ]
    if random:
        named = sorted({str(n.name) for n in random if n.name})
        raise ModelError(
            "The model's log density is random: two evaluations at one point differ"
            + (f" (through {', '.join(named)})" if named else "")
            + ". pm.Minibatch and pm.Simulator give such densities; use the full data, or a "
            "likelihood that can be evaluated."
        )


def compile_model(
    model: pm.Model, point: Mapping[str, np.ndarray], compile_kwargs: dict[str, Any]
) -> tuple[Callable, bool]:
    """Compile logp and, where there is one, its gradient as one function of a batch.

    `point` is the model's `layout`.
    """
    dim = sum(int(np.prod(np.shape(point[v.name]))) for v in model.value_vars)
    # Parameter checks must become -inf of their own row before the graph is vectorised:
    # afterwards one bad row would condemn the whole batch.
    logp = rewrite_graph(
        model.logp(),
        include=(
            "lower_xtensor",
            "canonicalize",
            "stabilize",
            "local_check_parameter_to_ninf_switch",
        ),
    )
    [logp], joined = join_nonshared_inputs(
        point=point, inputs=model.value_vars, outputs=[logp], make_inputs_shared=False
    )
    logp = rewrite_graph(logp, include=("lower_xtensor",))
    try:
        outputs = [logp, pytensor.grad(logp, joined)]
    except (NotImplementedError, NullTypeGradError):
        outputs = [logp]
    except DisconnectedInputError as error:
        names = ", ".join(v.name for v in model.value_vars)
        raise ModelError(
            f"The log density does not depend on the model's variables ({names}): it is flat, "
            "and its integral infinite. Give proper priors."
        ) from error
    has_gradient = len(outputs) == 2
    rows = pt.matrix("rows", shape=(None, dim), dtype=joined.dtype)
    # PyMC 5's default linker has no fast matrix product without an external BLAS; Numba has.
    compile_kwargs.setdefault("mode", "NUMBA")
    with warnings.catch_warnings():
        # Numba announces every Op that it has to run in Python, which is the fallback we want,
        # and every product of arrays whose memory layout is not ours to choose.
        warnings.filterwarnings("ignore", message="Numba will use object mode")
        warnings.filterwarnings("ignore", message=r".*is faster on contiguous arrays")
        try:
            batched = pm.compile([rows], vectorize_graph(outputs, {joined: rows}), **compile_kwargs)
            batched.trust_input = True
            batched(np.stack([flatten(model, point)] * 2).astype(joined.dtype))
        except Exception:
            # Some Ops (IfElse) cannot be vectorised: one row at a time then.
            single = pm.compile([joined], outputs, **compile_kwargs)
            return _Compiled(single, has_gradient, joined.dtype, rowwise=True), has_gradient
    return _Compiled(batched, has_gradient, joined.dtype, rowwise=False), has_gradient


class _Compiled:
    """A compiled function as (n, d) -> (logp, grad); picklable."""

    def __init__(self, function: Any, has_gradient: bool, dtype: str, rowwise: bool) -> None:
        self.function = function
        self.has_gradient = has_gradient
        self.dtype = dtype
        self.rowwise = rowwise
        self._lock = threading.Lock()

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        # A function of PyTensor keeps its input and what it computes in one place for all calls.
        with self._lock:
            return self._call(np.ascontiguousarray(x, dtype=self.dtype))

    def __reduce__(self) -> tuple:
        return _Compiled, (self.function, self.has_gradient, self.dtype, self.rowwise)

    def _call(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if self.rowwise:
            results = [self.function(row) for row in x]
            logp = np.array([float(r[0]) for r in results])
            return logp, np.array([r[1] for r in results]) if self.has_gradient else None
        out = self.function(x)
        logp = np.broadcast_to(np.asarray(out[0], dtype=float), (len(x),))
        if not self.has_gradient:
            return logp, None
        return logp, np.broadcast_to(np.asarray(out[1], dtype=float), x.shape)


class PriorDraws:
    """Prior draws by forward sampling, compiled when first asked for.

    Parameters
    ----------
    model : pymc.Model
    point : mapping
        Its `layout`; draws without a value are replaced by ones about this point.
    """

    def __init__(self, model: pm.Model, point: Mapping[str, np.ndarray]) -> None:
        self.model, self.point = model, point
        self._function: Any = None
        self._rngs: list[Any] = []

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points of the unconstrained space, shape (n, d).

        Raises
        ------
        ModelError
            If the prior is improper, or no draw has a value in the unconstrained space.
        """
        if self._function is None:
            self._compile()
        for shared, child in zip(self._rngs, rng.spawn(len(self._rngs)), strict=True):
            shared.set_value(child, borrow=True)
        error: Exception | None = None
        centre = flatten(self.model, self.point)
        x = np.full((n, len(centre)), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            for i in range(n):
                # A parent that was drawn outside of the child's parameter space.
                try:
                    x[i] = np.concatenate([np.ravel(v) for v in self._function()])
                except Exception as raised:
                    error = raised
        # A prior that ignores its own transform (draws that are not ordered) has no value in
        # the unconstrained space either: such draws are replaced by ones about the initial point.
        lost = ~np.isfinite(x).all(axis=1)
        if lost.any():
            if not np.isfinite(centre).all() and not lost.all():
                centre = np.median(x[~lost], axis=0)
            if not np.isfinite(centre).all() or (lost.all() and error is not None):
                self._refuse(error)
            x[lost] = centre + rng.standard_normal((int(lost.sum()), len(centre)))
        return x

    def _refuse(self, error: Exception | None) -> None:
        names = [name for name, value in self.point.items() if not np.isfinite(value).all()]
        raise ModelError(
            "No draw from the prior has finite unconstrained values"
            + (f" (it raised {type(error).__name__}: {first_line(error)})" if error else "")
            + (f", and neither has the initial point of {', '.join(names)}" if names else "")
            + ". Give the variable an initval= inside its support, or give starting points: "
            "modes=ModeSearch(starts=array of shape (n, d))."
        ) from error

    def _compile(self) -> None:
        model = self.model
        expressions = make_initial_point_expression(
            free_rvs=model.free_RVs,
            rvs_to_transforms=model.rvs_to_transforms,
            initval_strategies={},
            default_strategy="prior",
            return_transformed=True,
        )
        by_value = {
            model.rvs_to_values[rv].name: e
            for rv, e in zip(model.free_RVs, expressions, strict=True)
        }
        outputs = [by_value[v.name] for v in model.value_vars]
        # A few hundred draws do not pay for a compiler: plain Python is quicker in total.
        mode = Mode(linker="py", optimizer="fast_compile")
        self._rngs = [
            node
            for node in ancestors(outputs)
            if isinstance(node.type, RandomType) and hasattr(node, "set_value")
        ]
        try:
            function = pm.compile([], outputs, mode=mode)
            try:
                function()
            except NotImplementedError:
                raise
            except Exception as error:
                # One draw says little of the others, which are asked for one by one.
                _log.debug("A prior draw raised %r.", error)
            # Not before: asked a second time, an improper prior shall be refused again.
            self._function = function
        except NotImplementedError as error:
            flat = [rv.name for rv in model.free_RVs if "flat" in str(rv.owner.op).lower()]
            raise ModelError(
                f"The prior of {', '.join(flat) or 'a variable'} cannot be drawn from "
                "(pm.Flat and the like are improper), so there are no starting points. Give a "
                "proper prior, or starting points: modes=ModeSearch(starts=...)."
            ) from error
