"""Linear maps that may be symmetries of a density, from names of coordinates and from optima."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from pymc_multimodal.target.errors import equal_logp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Candidate", "Variable", "coordinates_of", "named_families", "optima_families"]

_T = TypeVar("_T")

# Numbers in the matrices of all candidates: 0.8 GB in double precision, of which one family is
# held at a time. Conventional.
MAX_NUMBERS = 1e8
# Variables with axes of one length whose subsets are all tried (2^6 - 1 subsets); of more
# variables, single ones and all together. Conventional.
MAX_SUBSETS = 6
# Optima that are compared, and pairs of them. Conventional: bounds of the cost.
MAX_OPTIMA, MAX_PAIRS = 256, 1000
# Two optima may be images of one another if their log densities differ by less than this (nats)
# and their coordinates by less than this (spreads of the starts). The climbs end with errors of
# 1e-5 nats. Measured: examples/benchmarks/constants.py
SAME_LOGP, SAME_COORDINATE = 1e-3, 0.05
# Cost of moving a coordinate, so that coordinates stay where they are unless there is a reason.
# Conventional: far below `SAME_COORDINATE`, far above rounding errors.
MOVE_COST = 1e-4
# Coordinates that a description names. Conventional.
NAMED_COORDINATES = 6


@dataclass(frozen=True)
class Candidate:
    """A linear map that may be a symmetry.

    Attributes
    ----------
    element : array of shape (d, d)
    description : str
    parts : frozenset of str
        The variables that take part.
    """

    element: np.ndarray
    description: str
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Variable:
    """A variable with an axis of components.

    Attributes
    ----------
    name : str
    where : array of int
        The coordinates of its entries.
    axis : int
    size : int
        Number of components; for a simplex it is the length of the axis plus one.
    simplex : bool
    """

    name: str
    where: np.ndarray
    axis: int
    size: int
    simplex: bool

    @property
    def label(self) -> str:
        """Name of the variable and its axis."""
        return f"{self.name} axis {self.axis}"

    def exchanged(self, d: int, i: int, j: int) -> np.ndarray:
        """Return the map that exchanges components i and j, shape (d, d).

        PyMC's simplex transform is ``y = log x - mean(log x)`` without its last entry. So
        an exchange of entries of x is linear in y.
        """
        order = np.arange(self.size)
        order[[i, j]] = j, i
        swap = np.eye(self.size)[order]
        if self.simplex:
            whole = np.vstack([np.eye(self.size - 1), -np.ones(self.size - 1)])
            swap = (swap @ whole)[:-1]
        out = np.eye(d)
        for line in np.moveaxis(self.where, self.axis, -1).reshape(-1, self.where.shape[self.axis]):
            out[np.ix_(line, line)] = swap
        return out

    def moved_with(self, optima: np.ndarray, least: np.ndarray, i: int) -> np.ndarray:
        """Tell with which components an exchange of component i moves optima: shape (size,).

        Parameters
        ----------
        optima : array of shape (p, d)
        least : array of shape (d,)
            A coordinate has moved if it has changed by more than this.
        i : int
        """
        where = np.moveaxis(self.where, self.axis, -1).reshape(-1, self.where.shape[self.axis])
        value, bound = optima[:, where], least[where]
        if self.simplex:
            # The last component has no coordinate: it is minus the sum of the others.
            value = np.concatenate([value, -value.sum(axis=-1, keepdims=True)], axis=-1)
            bound = np.concatenate([bound, np.full((len(bound), 1), np.inf)], axis=-1)
        step = np.abs(value - value[..., i : i + 1])
        return (step > np.minimum(bound, bound[:, i : i + 1])).any(axis=(0, 1))

    def negated(self, d: int, i: int) -> np.ndarray:
        """Return the map that changes the sign of component i, shape (d, d)."""
        return _negated(d, np.take(self.where, i, axis=self.axis))


def _negated(d: int, where: np.ndarray) -> np.ndarray:
    """Return the map that changes the sign of some coordinates, shape (d, d)."""
    sign = np.ones(d)
    sign[where] = -1.0
    return np.diag(sign)


# ---------------------------------------------------------- candidates by name


def coordinates_of(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the coordinates of each variable in its own shape.

    Parameters
    ----------
    names : sequence of str
        Of the coordinates, such as ``mu[0,1]``. Variables of which entries are missing are left
        out.
    """
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for coordinate, name in enumerate(names):
        match = re.fullmatch(r"(.*)\[([\d,]+)\]", name)
        base, index = (match[1], match[2]) if match else (name, "")
        found.setdefault(base, {})[tuple(int(i) for i in index.split(",") if i)] = coordinate
    out = {}
    for base, entries in found.items():
        shape = tuple(np.max(list(entries), axis=0).astype(int) + 1) if () not in entries else ()
        if len(entries) != int(np.prod(shape)):
            continue
        where = np.empty(shape, dtype=int)
        for index, coordinate in entries.items():
            where[index] = coordinate
        out[base] = where
    return out


def _by_size(coordinates: dict[str, np.ndarray]) -> dict[int, list[Variable]]:
    """Return variables with an axis of components, by the number of components."""
    out: dict[int, list[Variable]] = {}
    for name, where in coordinates.items():
        for axis, length in enumerate(where.shape):
            simplex = name.endswith("_simplex__") and axis == where.ndim - 1
            size = length + simplex
            if size > 1:
                out.setdefault(size, []).append(Variable(name, where, axis, size, simplex))
    return out


def named_families(
    names: Sequence[str], optima: np.ndarray | None = None, least: np.ndarray | float = 0.0
) -> Iterator[list[Candidate]]:
    """Yield families of maps that the names of the coordinates suggest.

    A family holds one kind of map, such as the exchange of two components, for each set of
    variables that may take part, the smallest sets first. A set that contains a smaller set which
    is a symmetry by itself need not be tried. Families end when their matrices have taken
    `MAX_NUMBERS` numbers.

    Parameters
    ----------
    names : sequence of str
        Of the coordinates.
    optima : array of shape (p, d), optional
        Families that move none of these are left out before their matrices are made: a vector of
        d entries has d (d - 1) / 2 exchanges.
    least : array of shape (d,) or float
        A coordinate has moved if it has changed by more than this.
    """
    d, left = len(names), MAX_NUMBERS
    least = np.broadcast_to(least, d)
    for maps, what in _all_families(names, optima, least):
        left -= sum(1 for _ in _subsets(maps)) * d**2
        if left < 0:
            return
        yield _family([(name, make()) for name, make in maps], what)


_Maps: TypeAlias = "list[tuple[str, Callable[[], np.ndarray]]]"


def _all_families(
    names: Sequence[str], optima: np.ndarray | None, least: np.ndarray
) -> Iterator[tuple[_Maps, str]]:
    """Yield the maps of each family, not made yet, and what they do."""
    d, coordinates = len(names), coordinates_of(names)
    every = np.ones(d, dtype=bool)
    # A change of sign moves a coordinate by twice its size.
    turned = every if optima is None else (2 * np.abs(optima) > least).any(axis=0)
    whole: dict[str, Callable[[], np.ndarray]] = {
        name: partial(_negated, d, where.ravel()) for name, where in coordinates.items()
    }
    if turned.any():
        yield list(whole.items()), "sign of"
    scalars = [name for name, where in coordinates.items() if where.size == 1]
    # Short axes come first: components are few, and long vectors have too many pairs.
    for size, variables in sorted(_by_size(coordinates).items()):
        plain = [v for v in variables if not v.simplex]
        for i in range(size):
            if any(turned[np.take(v.where, i, axis=v.axis)].any() for v in plain):
                signs: _Maps = [(v.label, partial(v.negated, d, i)) for v in plain]
                yield signs, f"sign of component {i} of"
        named = {v.name for v in variables}
        # The log odds of two components change sign when these are exchanged.
        odds = [name for name in scalars if size == 2 and name not in named]
        by_odds = any(turned[coordinates[name]].any() for name in odds)
        for i in range(size):
            moved = np.ones(size, dtype=bool)
            if optima is not None and not by_odds:
                moved = np.any([v.moved_with(optima, least, i) for v in variables], axis=0)
            for j in (np.flatnonzero(moved[i + 1 :]) + i + 1).tolist():
                swaps: _Maps = [(v.label, partial(v.exchanged, d, i, j)) for v in variables]
                swaps += [(name, whole[name]) for name in odds]
                yield swaps, f"exchange of {i} and {j} in"


def _subsets(maps: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    """Yield all subsets that are not empty, or single ones and all if they are many."""
    sizes = range(1, len(maps) + 1) if len(maps) <= MAX_SUBSETS else (1, len(maps))
    return chain.from_iterable(combinations(maps, size) for size in sizes)


def _family(maps: list[tuple[str, np.ndarray]], what: str) -> list[Candidate]:
    """Return products of the maps of the subsets."""
    out = []
    for subset in _subsets(maps):
        several = len(subset) > 1
        product = np.linalg.multi_dot([m for _, m in subset]) if several else subset[0][1]
        parts = [name for name, _ in subset]
        out.append(Candidate(product, f"{what} {', '.join(parts)}", frozenset(parts)))
    return out


# ---------------------------------------------------------- candidates by optima


def optima_families(
    names: tuple[str, ...],
    optima: np.ndarray,
    height: np.ndarray,
    spread: np.ndarray,
    resolution: float,
) -> Iterator[list[Candidate]]:
    """Yield maps that take one optimum to another of the same height, the simplest first.

    The maps rearrange coordinates and change signs in any way: those of a triangular matrix of
    loadings, or of components that are variables of their own.

    Parameters
    ----------
    names : tuple of str
    optima : array of shape (p, d)
    height : array of shape (p,)
        Their log densities.
    spread : array of shape (d,)
    resolution : float
        Relative rounding error of the log densities.

    Yields
    ------
    list of Candidate
        Families of one map each.
    """
    d = len(spread)
    # Distances in the mean spread of the two coordinates.
    apart = 0.5 * (spread[:, None] + spread)
    move_cost = MOVE_COST * (1.0 - np.eye(d))
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for p, q in _similar_pairs(optima, height, spread, resolution):
        cost = np.abs(np.abs(q)[:, None] - np.abs(p)) / apart + move_cost
        target, source = linear_sum_assignment(cost)
        if cost[target, source].max() <= SAME_COORDINATE:
            turned = (q * p[source] < 0) & (np.abs(q) > SAME_COORDINATE * spread)
            found[source.tobytes() + turned.tobytes()] = source, turned
    identity = np.arange(d)
    for source, turned in sorted(found.values(), key=lambda e: np.sum((e[0] != identity) | e[1])):
        element = np.zeros((d, d))
        element[identity, source] = np.where(turned, -1.0, 1.0)
        moved = [names[i] for i in np.flatnonzero((source != identity) | turned)]
        what = "sign of" if (source == identity).all() else "exchange among"
        left = len(moved) - NAMED_COORDINATES
        more = f" and {left} more" if left > 0 else ""
        yield [Candidate(element, f"{what} {', '.join(moved[:NAMED_COORDINATES])}{more}")]


def _similar_pairs(
    optima: np.ndarray, height: np.ndarray, spread: np.ndarray, resolution: float
) -> np.ndarray:
    """Return pairs of optima of one height with the same sizes of coordinates, shape (m, 2, d)."""
    d = len(spread)
    top = np.argsort(-height, kind="stable")[:MAX_OPTIMA]
    optima, height = optima[top], height[top]
    sizes = np.sort(np.abs(optima), axis=1)
    level = equal_logp(height[:, None], height, resolution, SAME_LOGP)
    first, second = np.nonzero(np.triu(level, 1))
    alike = np.abs(sizes[first] - sizes[second]).max(axis=1) <= SAME_COORDINATE * spread.max()
    most = min(MAX_PAIRS, int(MAX_NUMBERS / d**2))
    return optima[np.stack([first, second], axis=1)[alike][:most]]
