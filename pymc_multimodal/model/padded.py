"""Functions of rows in batches of a few fixed sizes, for compilers that compile for each shape."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from pytensor.compile.mode import get_mode

from pymc_multimodal.status import FitError

__all__ = ["PaddedFunction", "is_jax"]

# Rows of a batch. A batch of another size is cut into batches of these sizes, the largest first,
# and the rest is padded. Measured: examples/benchmarks/jax_batches.py; more than 4,096 rows are no
# quicker on a CPU.
SIZES = (4096, 512, 64, 8)
# Seconds that a batch may take: limits and Ctrl-C are looked at between two. Conventional.
MAX_SECONDS = 1.0


def is_jax(mode: Any) -> bool:
    """Whether a mode of ``pytensor.function`` compiles with JAX.

    Parameters
    ----------
    mode : str, Mode or None
    """
    return type(get_mode(mode).linker).__name__ == "JAXLinker"


class PaddedFunction:
    """A compiled function of rows that meets a few shapes only; picklable.

    JAX compiles a function anew for each shape of its arguments, which takes seconds.

    Parameters
    ----------
    function : compiled function
        Of arrays with n rows each. Its outputs have n rows, or one where they depend on none.
    sizes : tuple of int
        Rows of a batch, in decreasing order.
    """

    def __init__(self, function: Any, sizes: tuple[int, ...] = SIZES) -> None:
        self.function, self.sizes = function, sizes
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the process: another one that loads the function compiles it anew."""
        return {"function": self.function, "sizes": self.sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Belong to the process that loads the function."""
        self.__init__(**state)  # type: ignore[misc]

    @property
    def trust_input(self) -> bool:
        """Whether arguments are passed on unchecked."""
        return bool(self.function.trust_input)

    @trust_input.setter
    def trust_input(self, trusted: bool) -> None:
        self.function.trust_input = trusted

    def __call__(self, *arguments: np.ndarray) -> list[np.ndarray]:
        """Evaluate rows."""
        n = len(arguments[0])
        parts = [
            [
                _rows(out, rows.stop - rows.start)
                for out in self.function(*(_padded(a[rows], size) for a in arguments))
            ]
            for rows, size in self._batches(n)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _batches(self, n: int) -> Iterator[tuple[slice, int]]:
        """Rows of each batch, and its size with what is padded; there is at least one."""
        done = 0
        for size in self.sizes:
            while n - done >= size:
                yield slice(done, done + size), size
                done += size
        if done < n or not n:
            yield slice(done, n), self.sizes[-1]

    def limit_sizes(self, *arguments: np.ndarray) -> None:
        """Keep the sizes of which a batch is quick, by the time of a small one."""
        began = time.monotonic()
        self(*arguments)
        each = (time.monotonic() - began) / SIZES[-1]
        self.sizes = tuple(n for n in SIZES if n * each <= MAX_SECONDS) or SIZES[-1:]

    def check_process(self) -> None:
        """Refuse to run in a copy of the process that was made by ``fork``.

        Raises
        ------
        FitError
            There JAX, which has threads, would wait for ever.
        """
        if os.getpid() != self._process:
            raise FitError(
                "The model was compiled with JAX, which does not run in processes that were made "
                "by fork: pm.sample(cores=...) would wait for ever. Use cores=1, or "
                'mp_ctx="spawn", or mm.sample, which runs all chains in one process.'
            )


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row until there are `size` rows; zeros if there is none."""
    missing = size - len(x)
    if not missing:
        return x
    last = x[-1:] if len(x) else np.zeros((1, *x.shape[1:]), x.dtype)
    return np.concatenate([x, np.repeat(last, missing, axis=0)])


def _rows(out: Any, n: int) -> np.ndarray:
    """Return the first n rows of an output; one row stands for all."""
    out = np.asarray(out)
    return np.broadcast_to(out, (n, *out.shape[1:])) if len(out) == 1 else out[:n]
