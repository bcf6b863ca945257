"""Points that were evaluated, for densities of which each evaluation is dear."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Evaluations", "History"]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluations:
    """Points at which a density was evaluated.

    Attributes
    ----------
    names : tuple of str
        Unconstrained coordinates.
    x : array of shape (n, d)
    logp : array of shape (n,)
        Log densities; -inf outside of the support, and where the model raised.
    outputs : array of shape (n, m)
        What the simulator gave, or no columns where its outputs are not known.
    """

    names: tuple[str, ...]
    x: np.ndarray
    logp: np.ndarray
    outputs: np.ndarray

    def __repr__(self) -> str:
        n, m = self.outputs.shape
        return f"<Evaluations of {n} points{f' with {m} outputs' if m else ''}>"

    def __len__(self) -> int:
        return len(self.logp)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the points to a NumPy archive (.npz), which `load` and ``numpy.load`` read.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with open(path, "wb") as file:
            np.savez_compressed(
                file, names=np.array(self.names), x=self.x, logp=self.logp, outputs=self.outputs
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluations:
        """Read what `save` has written; nothing in the file is executed.

        Raises
        ------
        ValueError
            If the file is no such archive.
        OSError
            If it cannot be read.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                names, x, logp, outputs = (file[n] for n in ("names", "x", "logp", "outputs"))
            if x.shape != (len(logp), len(names)) or outputs.shape[:1] != x.shape[:1]:
                raise ValueError("its arrays do not belong together")
        except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"Evaluations.load({os.fspath(path)!r}): the file holds no evaluations ({error}). "
                "Give a file that `Evaluations.save` has written."
            ) from None
        return cls(tuple(map(str, names)), x, logp, outputs)


class History:
    """All evaluations so far, each found again by its point.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._row: dict[bytes, int] = {}
        self._x: list[np.ndarray] = []
        self._logp: list[float] = []
        self._second: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._x)

    def unknown(self, x: np.ndarray) -> np.ndarray:
        """Rows of points (n, d) that were not evaluated, each point once."""
        seen: set[bytes] = set()
        rows = []
        for i, point in enumerate(x):
            key = point.tobytes()
            if key not in self._row and key not in seen:
                seen.add(key)
                rows.append(i)
        return np.array(rows, dtype=int)

    def add(self, x: np.ndarray, logp: np.ndarray, second: np.ndarray) -> None:
        """Keep points (n, d) with log densities (n,) and gradients or outputs (n, m)."""
        for point, value, row in zip(x, logp, second, strict=True):
            self._row[point.tobytes()] = len(self._x)
            self._x.append(point.copy())
            self._logp.append(float(value))
            self._second.append(row.copy())

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (n,), and gradients or outputs (n, m), of points that are known."""
        rows = [self._row[point.tobytes()] for point in x]
        width = len(self._second[0]) if self._second else 0
        second = np.array([self._second[i] for i in rows]).reshape(len(rows), width)
        return np.array([self._logp[i] for i in rows]), second

    def contents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `add` has taken: points (n, d), log densities (n,), the rest (n, m)."""
        n, width = len(self._x), len(self._second[0]) if self._second else 0
        x = np.array(self._x).reshape(n, self._dim)
        return x, np.array(self._logp), np.array(self._second).reshape(n, width)

    def evaluations(self, names: Sequence[str], *, outputs: bool) -> Evaluations:
        """Return all of them.

        Parameters
        ----------
        names : sequence of str
        outputs : bool
            Whether what was kept beside the log densities are outputs.
        """
        n = len(self._x)
        x = np.array(self._x).reshape(n, self._dim)
        second = np.array(self._second).reshape(n, -1) if outputs and n else np.empty((n, 0))
        return Evaluations(tuple(names), x, np.array(self._logp), second)
