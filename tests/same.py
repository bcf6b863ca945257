"""Objects that hold the same, bit for bit."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cached_property

import numpy as np
from scipy import sparse


def assert_same(a, b, path="fit"):
    """All that two objects hold is the same, bit for bit, and lies alike in memory."""
    assert type(a) is type(b), path
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, path
        assert a.flags.forc == b.flags.forc, path
        assert a.flags.forc or a.strides == b.strides, path
        np.testing.assert_array_equal(a, b, err_msg=path)
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{path}[{i}]")
    elif a is None or isinstance(a, int | str):
        assert a == b, path
    elif isinstance(a, float):
        assert a == b or (np.isnan(a) and np.isnan(b)), path
    elif isinstance(a, sparse.csr_matrix):
        assert (a != b).nnz == 0, path
    elif is_dataclass(a):
        for f in fields(a):
            if not f.metadata.get("not stored"):
                assert_same(getattr(a, f.name), getattr(b, f.name), f"{path}.{f.name}")
    elif type(a).__module__.startswith("pymc_multimodal"):
        for name, value in vars(a).items():
            if not isinstance(getattr(type(a), name, None), cached_property):
                assert_same(value, getattr(b, name), f"{path}.{name}")
