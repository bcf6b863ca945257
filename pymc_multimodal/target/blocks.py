"""Rows of many groups as blocks of one size, for products with one matrix for each group."""

from __future__ import annotations

import numpy as np

__all__ = ["Blocks"]

# Blocks are used where they hold at most so many times the rows: beyond that the padding costs more
# than a loop over the groups. Conventional.
MAX_PADDING = 4


class Blocks:
    """Places of rows in an array with one block for each group, padded with zeros.

    Parameters
    ----------
    group : array of int, shape (n,)
        Group of each row.
    n_groups : int
    """

    def __init__(self, group: np.ndarray, n_groups: int) -> None:
        count = np.bincount(group, minlength=n_groups)
        # Groups without rows have no block.
        self.present = np.flatnonzero(count)
        count = count[self.present]
        self.size = int(count.max(initial=0))
        self.compact = len(count) * self.size <= MAX_PADDING * len(group)
        self._order = np.argsort(group, kind="stable")
        self._ends = np.cumsum(count)
        index = np.repeat(np.arange(len(count)), count)
        # The block of each row, and its place in the block.
        self._block, self._place = np.empty((2, len(group)), dtype=int)
        self._block[self._order] = index
        self._place[self._order] = np.arange(len(group)) - (self._ends - count)[index]

    def times(self, v: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Multiply each row by the matrix of its group: (n, d) and (g, d, e) to (n, e)."""
        if len(self.present) < len(matrices):
            matrices = matrices[self.present]
        if self.compact:
            blocks = np.zeros((len(matrices), self.size, v.shape[1]))
            blocks[self._block, self._place] = v
            out: np.ndarray = (blocks @ matrices)[self._block, self._place]
            return out
        out = np.empty((len(v), matrices.shape[2]))
        first = 0
        for last, matrix in zip(self._ends.tolist(), matrices, strict=True):
            rows = self._order[first:last]
            out[rows] = v[rows] @ matrix
            first = last
        return out
