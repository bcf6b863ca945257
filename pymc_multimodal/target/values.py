"""Log densities without gradients, for ranking many points: in chunks that grow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from pymc_multimodal.target.evaluation import BatchFunction

__all__ = ["growing_chunks", "values_of"]

# Points of the largest chunk, and seconds of a chunk up to which the next one is twice as long.
# Measured: a call of a compiled model costs about 25 us, and a point of a small model 0.1 us.
MAX_CHUNK, QUICK_SECONDS = 1024, 0.02


def values_of(function: BatchFunction) -> BatchFunction:
    """Return a function that gives log densities and no gradients.

    Parameters
    ----------
    function : callable
        See `BatchFunction`. Where it has an attribute `values`, a callable from points of shape
        (n, d) to log densities of shape (n,), that is called, otherwise the function itself.
    """
    values = getattr(function, "values", None)
    if values is not None:
        return lambda x: (values(x), None)
    return lambda x: (function(x)[0], None)


def growing_chunks(x: np.ndarray, first: int) -> Iterator[np.ndarray]:
    """Cut points into chunks, each of which is twice as long as the last one if that was quick.

    The rounding of a value may depend on the length of its chunk.

    Parameters
    ----------
    x : array of shape (n, d)
    first : int
        Points of the first chunk.
    """
    done, size = 0, first
    while done < len(x):
        began = time.monotonic()
        yield x[done : done + size]
        done += size
        if time.monotonic() - began < QUICK_SECONDS:
            size = max(size, min(2 * size, MAX_CHUNK))
