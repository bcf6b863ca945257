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
        self.group, self.n_groups = group, n_groups
        count = np.bincount(group, minlength=n_groups)
        self.size = int(count.max(initial=0))
        self.compact = n_groups * self.size <= MAX_PADDING * len(group)
        order = np.argsort(group, kind="stable")
        first = np.cumsum(count) - count
        self._order, self._bounds = order, np.cumsum(count)[:-1]
        self._place = np.empty(len(group), dtype=int)
        self._place[order] = np.arange(len(group)) - first[group[order]]

    def times(self, v: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Multiply each row by the matrix of its group: (n, d) and (g, d, e) to (n, e)."""
        if self.compact:
            blocks = np.zeros((self.n_groups, self.size, v.shape[1]))
            blocks[self.group, self._place] = v
            out: np.ndarray = (blocks @ matrices)[self.group, self._place]
            return out
        out = np.empty((len(v), matrices.shape[2]))
        for rows, matrix in zip(np.split(self._order, self._bounds), matrices, strict=True):
            out[rows] = v[rows] @ matrix
        return out
