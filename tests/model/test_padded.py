"""Batches of fixed sizes, and models that are compiled with JAX."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_multimodal.model.padded import SIZES, PaddedFunction, is_jax

CHECKS = Path(__file__).parents[1] / "jax_checks.py"


class Squares:
    """Squares and the sum of rows, and a constant; it keeps the shapes that it has met."""

    trust_input = False

    def __init__(self):
        self.met = set()

    def __call__(self, x, y):
        self.met.add(len(x))
        return [x**2, x.sum(axis=1) + y, np.ones(1)]


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_rows_are_those_of_the_function(n):
    inner = Squares()
    function = PaddedFunction(inner)
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(1.0 * n)
    square, total, one = function(x, y)
    np.testing.assert_array_equal(square, x**2)
    np.testing.assert_array_equal(total, x.sum(axis=1) + y)
    np.testing.assert_array_equal(one, np.ones(n))
    assert inner.met <= set(SIZES)


def test_batches_of_a_slow_function_are_small(monkeypatch):
    clock = iter(np.arange(0.0, 10.0, 0.08))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    function = PaddedFunction(Squares())
    function.limit_sizes(np.zeros((2, 2)), np.zeros(2))
    # Of 0.01 seconds for each row.
    assert function.sizes == (64, 8)


def test_a_copy_belongs_to_the_process_that_loads_it():
    function = pickle.loads(pickle.dumps(PaddedFunction(Squares(), (64, 8))))
    assert function.sizes == (64, 8)
    function.check_process()


def test_modes_of_jax_are_told_from_others():
    assert not is_jax("NUMBA")
    assert not is_jax(None)


@pytest.mark.skipif(find_spec("jax") is None, reason="needs jax")
def test_a_model_compiled_with_jax():
    where = [str(CHECKS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CHECKS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(where)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.strip().endswith("passed"), done.stderr
