"""Sets of coordinates, numbered, so that arrays of them are arrays of integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Sets"]


class Sets:
    """Sets of coordinates that occur in a graph; number 0 is the empty set.

    Parameters
    ----------
    dim : int
        Number of coordinates, d.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        # A set is an integer whose bit i says whether coordinate i is in it.
        self._masks = [0]
        self._number = {0: 0}

    def singletons(self) -> np.ndarray:
        """Return the numbers of the sets of one coordinate, shape (d,)."""
        return np.array([self._of(1 << i) for i in range(self.dim)], dtype=np.int64)

    def union(self, *ids: np.ndarray) -> np.ndarray:
        """Unite arrays of sets element by element; their shapes are broadcast."""
        shape = np.broadcast_shapes(*(np.shape(a) for a in ids))
        out = np.zeros((), dtype=np.int64)
        for a in ids:
            if not a.any():
                continue
            if not out.any():
                out = a
                continue
            first, second = np.broadcast_arrays(out, a)
            key = first.astype(np.int64) * len(self._masks) + second
            pairs, inverse = np.unique(key, return_inverse=True)
            of = [divmod(int(p), len(self._masks)) for p in pairs]
            united = [self._of(self._masks[i] | self._masks[j]) for i, j in of]
            out = np.array(united, dtype=np.int64)[inverse].reshape(key.shape)
        return np.broadcast_to(out, shape)

    def union_of(self, ids: Sequence[np.ndarray]) -> int:
        """Return the number of the union of all sets in some arrays."""
        mask = 0
        for a in ids:
            for i in np.unique(a):
                mask |= self._masks[i]
        return self._of(mask)

    def union_over(
        self, ids: np.ndarray, axes: int | Sequence[int] | None, keep: bool = False
    ) -> np.ndarray:
        """Unite the sets along some axes, or along all; ``keep`` leaves these with length one."""
        given = range(ids.ndim) if axes is None else np.atleast_1d(axes).tolist()
        over = sorted(int(a) % ids.ndim for a in given)
        shape = tuple(n for k, n in enumerate(ids.shape) if k not in over)
        size = (int(np.prod(shape)), int(np.prod([ids.shape[k] for k in over])))
        rows = np.moveaxis(ids, over, range(-len(over), 0)).reshape(size)
        out = self.grouped(np.repeat(np.arange(len(rows)), rows.shape[1]), rows.ravel(), len(rows))
        if keep:
            shape = tuple(1 if k in over else n for k, n in enumerate(ids.shape))
        return out.reshape(shape)

    def grouped(self, group: np.ndarray, ids: np.ndarray, n_groups: int) -> np.ndarray:
        """Unite the sets of each group: arrays (m,) and (m,) to (n_groups,)."""
        out = np.zeros(n_groups, dtype=np.int64)
        full = ids > 0
        if not full.any():
            return out
        size = len(self._masks)
        pairs = np.unique(group[full].astype(np.int64) * size + ids[full])
        owner, one = pairs // size, pairs % size
        owners, first = np.unique(owner, return_index=True)
        found: dict[bytes, int] = {}
        for g, members in zip(owners.tolist(), np.split(one, first[1:]), strict=True):
            key = members.tobytes()
            if key not in found:
                mask = 0
                for i in members.tolist():
                    mask |= self._masks[i]
                found[key] = self._of(mask)
            out[g] = found[key]
        return out

    def product(
        self, a: np.ndarray, b: np.ndarray, left: np.ndarray | None, right: np.ndarray | None
    ) -> np.ndarray:
        """Unite sets as a matrix product does.

        Parameters
        ----------
        a : array of int, shape (..., n, k) or (k,)
        b : array of int, shape (..., k, m) or (k,)
        left, right : array, optional
            Values of the factors, if they are known: nothing depends on what is multiplied by zero.

        Returns
        -------
        array of int, shape (..., n, m), without the axes that a vector does not have
        """
        row, column = a.ndim == 1, b.ndim == 1
        left = None if left is None else (np.asarray(left)[None] if row else np.asarray(left))
        right = None if right is None else (right[:, None] if column else np.asarray(right))
        a, b = a[None] if row else a, b[:, None] if column else b
        if left is not None and not np.all(left):
            out = self._sparse(np.asarray(left) != 0, b)
        elif right is not None and not np.all(right):
            flipped = self._sparse(np.swapaxes(right, -1, -2) != 0, np.swapaxes(a, -1, -2))
            out = np.swapaxes(flipped, -1, -2)
        else:
            out = self.union(
                self.union_over(a, (-1,), keep=True), self.union_over(b, (-2,), keep=True)
            )
        out = out[..., 0, :] if row else out
        return out[..., 0] if column else out

    def _sparse(self, used: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Unite over k where ``used`` (..., n, k), the sets (..., k, m), to (..., n, m)."""
        batch = np.broadcast_shapes(used.shape[:-2], ids.shape[:-2])
        n, (k, m) = used.shape[-2], ids.shape[-2:]
        uses = np.broadcast_to(used, (*batch, n, k)).reshape(-1, n, k)
        sets = np.broadcast_to(ids, (*batch, k, m)).reshape(-1, k, m)
        g, i, j = np.nonzero(uses)
        group = ((g * n + i) * m)[:, None] + np.arange(m)
        out = self.grouped(group.ravel(), sets[g, j].ravel(), len(uses) * n * m)
        return out.reshape(*batch, n, m)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the coordinates of each set: an array (T,) to bools of shape (T, d)."""
        numbers, inverse = np.unique(ids, return_inverse=True)
        width = (self.dim + 7) // 8
        packed = b"".join(self._masks[i].to_bytes(width, "little") for i in numbers.tolist())
        bits = np.unpackbits(
            np.frombuffer(packed, np.uint8).reshape(len(numbers), width), axis=1, bitorder="little"
        )
        out: np.ndarray = bits[:, : self.dim].astype(bool)[inverse.ravel()]
        return out

    def _of(self, mask: int) -> int:
        """Return the number of a set, and keep it if it is new."""
        number = self._number.setdefault(mask, len(self._masks))
        if number == len(self._masks):
            self._masks.append(mask)
        return number
