"""What elements of a graph depend on, compared with what changes when a coordinate moves."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph

from pymc_multimodal.model.dependence import depends_on

try:
    from pytensor.tensor.linalg import cholesky, solve_triangular
except ImportError:
    from pytensor.tensor.slinalg import cholesky, solve_triangular

D = 6
LOWER = np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.2, 0.3, 1.0]])
HOLES = np.array([[1.0, 0.0, 2.0, 0, 0, 0], [0, 3.0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0, 0]])


def _inner(x):
    a, b = pt.vector("a", shape=(3,)), pt.vector("b", shape=(3,))
    return OpFromGraph([a, b], [a * b, a.sum() + b])(x[:3], x[3:])[1]


def _parts(x):
    return pt.concatenate(pt.split(x, [1, 2, 3], n_splits=3)[1:])


EXACT = {
    "elements": lambda x: pt.exp(x[::2]) * x[1] + 1.0,
    "broadcast": lambda x: x[:2, None] - x[None, 2:],
    "known condition": lambda x: pt.switch(np.arange(D) > 2, x, x[0]),
    "own condition": lambda x: pt.switch(x > 0, x[0], 1.0 - x[::-1]),
    "zeros": lambda x: (HOLES * x).sum(axis=1),
    "sparse product": lambda x: pt.dot(HOLES, x),
    "product from the left": lambda x: pt.dot(x[:3], HOLES),
    "matrix product": lambda x: pt.dot(HOLES[:, :3], x.reshape((3, 2))),
    "inner product": lambda x: pt.dot(x[:3], x[1:4]),
    "two products": lambda x: pt.dot(x[:4].reshape((2, 2)), x[2:].reshape((2, 2))),
    "batched product": lambda x: pt.matmul(HOLES[:2, None, :3], x.reshape((2, 3, 1))),
    "places": lambda x: x[pt.as_tensor([3, 0, 3])],
    "mask": lambda x: x[np.arange(D) % 2 == 1],
    "matrix places": lambda x: x.reshape((2, 3))[np.array([0, 1]), np.array([2, 0])],
    "always true": lambda x: pt.switch(pt.all(0.5 + pt.exp(x[1:])[:2] > 0), x[:2], 0.0),
    "set": lambda x: pt.set_subtensor(x[1:3], x[4] * 2.0),
    "set at places": lambda x: pt.set_subtensor(pt.zeros(4)[np.array([2, 0])], x[:2]),
    "add": lambda x: pt.inc_subtensor(x[1:3], x[4:]),
    "add at places": lambda x: pt.inc_subtensor(x[np.array([0, 0, 5])], x[1:4]),
    "join": lambda x: pt.concatenate([x[3:], [0.0], x[:1]]),
    "stack": lambda x: pt.stack([x[0], x[2] * x[3], 1.0]),
    "rows": lambda x: pt.stack([x[:3], x[3:]], axis=1).sum(axis=1),
    "split": _parts,
    "sum": lambda x: x.reshape((2, 3)).sum(axis=0),
    "largest": lambda x: x.reshape((2, 3)).max(axis=1),
    "cumulated": lambda x: pt.cumsum(x.reshape((2, 3)), axis=1),
    "softmax": lambda x: pt.special.softmax(x.reshape((2, 3)), axis=1),
    "log softmax": lambda x: pt.special.log_softmax(x.reshape((3, 2)), axis=0),
    "log sum": lambda x: pt.logsumexp(x.reshape((2, 3)), axis=1),
    "diagonal": lambda x: pt.diagonal(x[:4].reshape((2, 2))),
    "to a diagonal": lambda x: pt.diag(x[:2]),
    "repeat": lambda x: pt.repeat(x[:2], 2),
    "fill": lambda x: pt.alloc(x[0] + x[1], 3),
    "tile": lambda x: pt.tile(x[:2], (2, 2)),
    "shape": lambda x: x[:2] * x[:3].shape[0],
    "transpose": lambda x: x.reshape((2, 3)).T,
    "columns": lambda x: solve_triangular(np.eye(3), x.reshape((3, 2)), lower=True).sum(axis=0),
    "inner graph": _inner,
}
# Some dependence that is told is not there.
OPAQUE = {
    "triangle": lambda x: solve_triangular(LOWER, x[:3], lower=True),
    "batched": lambda x: cholesky(pt.eye(2) * (1 + x[:3, None, None] ** 2)),
    "sorted": lambda x: pt.sort(x[:3]),
    "place that depends": lambda x: x[:4][pt.cast(x[5] > 0, "int64")],
    "inverse": lambda x: pt.linalg.inv(pt.eye(2) + pt.diag(x[:2] ** 2)),
    "steps": lambda x: pt.cumprod(x),
}


@pytest.mark.parametrize("name", [*EXACT, *OPAQUE])
def test_dependence_is_what_changes(name, rng):
    x = pt.vector("x", shape=(D,))
    out = pt.as_tensor({**EXACT, **OPAQUE}[name](x))
    told = depends_on([out], x, D)
    function = pytensor.function([x], out.ravel(), mode="FAST_COMPILE")
    seen = np.zeros_like(told)
    for at in rng.normal(size=(30, D)):
        before = function(at)
        for i in range(D):
            moved = at.copy()
            moved[i] += rng.normal()
            seen[:, i] |= function(moved) != before
    assert told.shape == (len(before), D)
    assert not (seen & ~told).any()
    if name in EXACT:
        np.testing.assert_array_equal(told, seen)


def test_batches_do_not_mix():
    x = pt.vector("x", shape=(D,))
    matrices = pt.eye(2) * (1 + x[:3, None, None] ** 2)
    told = depends_on([cholesky(matrices)], x, D).reshape(3, 4, D)
    for k in range(3):
        np.testing.assert_array_equal(told[k], np.tile(np.arange(D) == k, (4, 1)))
    rows = solve_triangular(pt.eye(2), x.reshape((3, 2, 1)), lower=True)
    told = depends_on([rows], x, D).reshape(3, 2, D)
    for k in range(3):
        np.testing.assert_array_equal(told[k], np.tile(np.arange(D) // 2 == k, (2, 1)))


def test_shared_values_are_constants():
    x = pt.vector("x")
    places, matrix = pytensor.shared(np.array([2, 0])), pytensor.shared(HOLES)
    told = depends_on([x[places], pt.dot(matrix, x)], x, D)
    np.testing.assert_array_equal(told, np.concatenate([np.eye(D)[[2, 0]], HOLES]) != 0)
    places.set_value(np.array([1]))
    np.testing.assert_array_equal(depends_on([x[places]], x, D), np.eye(D)[[1]] != 0)


def test_a_shape_that_depends_on_the_vector_cannot_be_told():
    x = pt.vector("x", shape=(D,))
    assert depends_on([x[x > 0]], x, D) is None
    assert depends_on([x[: pt.cast(x[0], "int64")]], x, D) is None
    # Their sum is one number that depends on all.
    total = depends_on([x[pt.as_tensor([1, 2])].sum()], x, D)
    np.testing.assert_array_equal(total, [[False, True, True, False, False, False]])
