"""How a log density falls apart: units that share nothing but a few coordinates, the hubs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from pymc_multimodal.status import ModelError

__all__ = ["MAX_HUBS", "MAX_UNIT", "MIN_UNITS", "Place", "Units", "find_units", "given_units"]

# Fewer units have few combinations of modes: those are found without the structure. Conventional.
MIN_UNITS = 3
# Coordinates of a unit and hubs in all, at most: each unit gets a mixture of its own, whose
# components have an optimum at each of the hubs' values. Measured: a prototype's figures pay "from
# about three units of up to eight coordinates, up to ten hubs".
MAX_UNIT = 8
MAX_HUBS = 10
# Terms of a unit up to which they are added one by one. Measured: twice as quick as sums of runs
# for one or two terms, and as quick for eight.
FEW_TERMS = 8
# Coordinates that the name of a unit shows, and units or hubs that a text lists. Conventional.
SHOWN = 3
LISTED = 6


@dataclass(frozen=True)
class Place:
    """Where a coordinate stands in a model.

    Attributes
    ----------
    variable : str
        Name of the model's variable.
    value : str
        Name of its unconstrained value.
    index : tuple of int
        Index in the unconstrained value.
    at : tuple of pairs of str
        The named dimensions of its axes, each with the coordinate along it.
    """

    variable: str
    value: str = ""
    index: tuple[int, ...] = ()
    at: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.value + _bracket(self.index)

    @property
    def element(self) -> str:
        """Name of the variable with the index."""
        return self.variable + _bracket(self.index)


@dataclass(frozen=True, eq=False)
class Units:
    """Coordinates in units; given the hubs, the log density is a sum of one part for each unit.

    Attributes
    ----------
    hubs : array of int, shape (H,)
        Coordinates that units share.
    members : array of int, shape (N, b)
        Coordinates of each unit, padded with -1.
    unit_of_term : array of int, shape (T,)
        Unit that each term of the log density belongs to; -1 for a term of hubs only.
    names : tuple of N str
        A name for each unit.
    dim : str or None
        The model's named dimension that all units are along, if there is one.
    hub_names : tuple of str
        Variables of the hubs.
    """

    hubs: np.ndarray
    members: np.ndarray
    unit_of_term: np.ndarray
    names: tuple[str, ...]
    dim: str | None = None
    hub_names: tuple[str, ...] = field(default=())

    @property
    def n_units(self) -> int:
        """Number of units, N."""
        return len(self.members)

    @property
    def n_hubs(self) -> int:
        """Number of hubs, H."""
        return len(self.hubs)

    @cached_property
    def inside(self) -> np.ndarray:
        """Which places of `members` hold a coordinate, bool (N, b)."""
        return self.members >= 0

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of coordinates of each unit, (N,)."""
        return self.inside.sum(axis=1)

    def gather(self, x: np.ndarray) -> np.ndarray:
        """Return the coordinates of each unit: (n, d) to (n, N, b), zero where padded."""
        return np.where(self.inside, x[:, self.members], 0.0)

    def scatter(self, g: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return points with given hubs (n, H) and units (n, N, b): an array (n, d)."""
        x = np.empty((len(z), self.n_hubs + int(self.sizes.sum())))
        x[:, self.hubs] = g
        x[:, self.members[self.inside]] = z[:, self.inside]
        return x

    def by_unit(self, terms: np.ndarray) -> np.ndarray:
        """Sum the terms of each unit: (n, T) to (n, N)."""
        order, starts, filled = self._runs
        out = np.zeros((len(terms), self.n_units))
        if not len(order) or not len(terms):
            return out
        if len(self._columns):
            for own, column in self._columns:
                out[:, own] += terms[:, column]
        else:
            out[:, filled] = np.add.reduceat(terms[:, order], starts, axis=1)
        return out

    def of_hubs(self, terms: np.ndarray) -> np.ndarray:
        """Sum the terms of hubs only: (n, T) to (n,)."""
        total: np.ndarray = terms[:, self.unit_of_term < 0].sum(axis=1)
        return total

    def __str__(self) -> str:
        hubs = f"hubs {_listed(self.hub_names)}" if self.hub_names else "no hubs"
        return f"{self._counted}, {hubs}"

    @property
    def described(self) -> str:
        """Units and hubs in words."""
        if not self.hub_names:
            return f"{self._counted} share nothing"
        hubs = "hub" if len(self.hub_names) == 1 else "hubs"
        return f"{self._counted} share nothing but the {hubs} {_listed(self.hub_names)}"

    @property
    def _counted(self) -> str:
        sizes = sorted(set(self.sizes.tolist()))
        few, most = str(sizes[0]), str(sizes[-1])
        size = few if few == most else f"{few} {'or' if len(sizes) == 2 else 'to'} {most}"
        along = f" (dim {self.dim})" if self.dim else ""
        plural = "" if size == "1" else "s"
        return f"{self.n_units} units of {size} coordinate{plural}{along}"

    @cached_property
    def _columns(self) -> list[tuple[slice | np.ndarray, slice | np.ndarray]]:
        """Units that have a first, second, ... term, and which it is; empty if these are many."""
        order, starts, filled = self._runs
        count = np.diff(np.append(starts, len(order)))
        if count.max(initial=0) > FEW_TERMS:
            return []
        several = [np.flatnonzero(count > j) for j in range(int(count.max(initial=0)))]
        return [
            (_slice(filled[own]), _slice(order[starts[own] + j])) for j, own in enumerate(several)
        ]

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The order of terms by unit, where each unit begins in it, and units that have terms."""
        order = np.argsort(self.unit_of_term, kind="stable")
        order = order[np.count_nonzero(self.unit_of_term < 0) :]
        filled, starts = np.unique(self.unit_of_term[order], return_index=True)
        return order, starts, filled


def _slice(index: np.ndarray) -> slice | np.ndarray:
    """Return a slice where indices follow one another: it needs no copy."""
    first = int(index[0])
    if np.array_equal(index, np.arange(first, first + len(index))):
        return slice(first, first + len(index))
    return index


def find_units(depends: np.ndarray, places: Sequence[Place]) -> Units | None:
    """Choose few hubs so that the other coordinates fall apart into small units.

    The coordinate that shares terms with the most others becomes a hub, one after the other, until
    no group of the others is larger than `MAX_UNIT`. Hubs that are not needed are given back.
    Coordinates beside units that are all along one named dimension become hubs too.

    Parameters
    ----------
    depends : array of bool, shape (T, d)
        Which coordinates each term of the log density depends on.
    places : sequence of d Place
        Where each coordinate stands in the model.

    Returns
    -------
    Units or None
        None without at least `MIN_UNITS` units and at most `MAX_HUBS` hubs, each of which is shared
        by that many units: a hub that only two share is a link of a chain.
    """
    graph = sp.csr_matrix(depends, dtype=np.int32)
    counts = np.diff(graph.indptr)
    if depends.shape[1] < MIN_UNITS or counts.max(initial=0) > MAX_UNIT + MAX_HUBS:
        return None
    shared = (graph.T @ graph).tocsr()
    shared.setdiag(0)
    shared.eliminate_zeros()
    hubs = _few_hubs(shared)
    if hubs is None:
        return None
    unit = _components(shared, hubs)
    for h in hubs:
        around = unit[shared.indices[shared.indptr[h] : shared.indptr[h + 1]]]
        if len(np.unique(around[around >= 0])) < MIN_UNITS:
            return None
    unit = _without_strays(unit, hubs, places)
    return _units(graph, unit, places)


def given_units(
    depends: np.ndarray, places: Sequence[Place], groups: Sequence[np.ndarray]
) -> Units:
    """Take the coordinates of each unit as they are given; all others are hubs.

    Parameters
    ----------
    depends : array of bool, shape (T, d)
        Which coordinates each term of the log density depends on.
    places : sequence of d Place
        Where each coordinate stands in the model.
    groups : sequence of N arrays of int
        Coordinates of each unit.

    Returns
    -------
    Units

    Raises
    ------
    ModelError
        If a unit is empty, or a coordinate is in two units or is none of the density's, or a term
        of the log density depends on two units.
    """
    unit = np.full(len(places), -1)
    for k, group in enumerate(groups):
        group = np.asarray(group)
        if group.ndim != 1 or group.dtype.kind not in "iu" or not group.size:
            raise ModelError(
                f"Unit {k} of structure= is {group.tolist()}, which is no sequence of coordinates. "
                "Give at least one integer for each unit."
            )
        for i in group.tolist():
            if not 0 <= i < len(unit):
                raise ModelError(
                    f"Unit {k} of structure= has the coordinate {i}, and the density has the "
                    f"coordinates 0 to {len(unit) - 1}."
                )
            if unit[i] >= 0:
                raise ModelError(
                    f"structure= gives {places[i]} to the units {unit[i]} and {k}: each coordinate "
                    "is in one unit, or a hub. Leave it out of one of them."
                )
            unit[i] = k
    if len(groups) < 2:
        raise ModelError(
            f"structure= gives {len(groups)} units, and fewer than two are no structure. Name a "
            "variable or dimension with an element for each unit."
        )
    return _units(sp.csr_matrix(depends, dtype=np.int32), unit, places)


def components(depends: np.ndarray, hubs: np.ndarray) -> list[np.ndarray]:
    """Return groups of coordinates that share no term once some coordinates are hubs.

    Parameters
    ----------
    depends : array of bool, shape (T, d)
    hubs : array of int, shape (H,)
    """
    graph = sp.csr_matrix(depends, dtype=np.int32)
    return _members(_components((graph.T @ graph).tocsr(), hubs.tolist()))


def _members(unit: np.ndarray) -> list[np.ndarray]:
    """Return the coordinates of each unit, from the unit of each coordinate."""
    order = np.argsort(unit, kind="stable")[np.count_nonzero(unit < 0) :]
    if not len(order):
        return []
    parts: list[np.ndarray] = np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)
    return parts


def _components(shared: sp.csr_matrix, hubs: Sequence[int]) -> np.ndarray:
    """Return the component of each coordinate, (d,), in the order of their first; -1 for hubs."""
    rest = np.setdiff1d(np.arange(shared.shape[0]), np.asarray(hubs, dtype=int))
    unit = np.full(shared.shape[0], -1)
    if len(rest):
        unit[rest] = connected_components(shared[rest][:, rest], directed=False)[1]
    return unit


def _fits(unit: np.ndarray) -> bool:
    sizes = np.bincount(unit[unit >= 0])
    return len(sizes) >= MIN_UNITS and sizes.max() <= MAX_UNIT


def _few_hubs(shared: sp.csr_matrix) -> list[int] | None:
    """Return hubs without which the rest falls apart; None if there are too many."""
    hubs: list[int] = []
    while not _fits(unit := _components(shared, hubs)):
        sizes = np.bincount(unit[unit >= 0], minlength=1)
        # Where all groups are small and too few, the largest is divided.
        large = np.flatnonzero(sizes > min(MAX_UNIT, sizes.max() - 1))
        candidates = np.flatnonzero(np.isin(unit, large))
        if sizes.max() < 2 or len(hubs) == MAX_HUBS:
            return None
        rest = np.flatnonzero(unit >= 0)
        neighbours = np.diff(shared[candidates][:, rest].indptr)
        hubs.append(int(candidates[np.argmax(neighbours)]))
    for hub in list(hubs):
        fewer = [h for h in hubs if h != hub]
        if _fits(_components(shared, fewer)):
            hubs = fewer
    return hubs


def _without_strays(unit: np.ndarray, hubs: Sequence[int], places: Sequence[Place]) -> np.ndarray:
    """Make hubs of the units beside those along one named dimension, if there is room for them."""
    members = _members(unit)
    at = [_common([places[i] for i in m]) for m in members]
    dims = [d for labels in at for d in labels]
    for dim in sorted(set(dims), key=dims.count, reverse=True):
        strays = [m for m, labels in zip(members, at, strict=True) if dim not in labels]
        if not strays or len(members) - len(strays) < max(MIN_UNITS, len(strays) + 1):
            continue
        more = np.concatenate(strays)
        if any(dim in dict(places[i].at) for i in more) or len(hubs) + len(more) > MAX_HUBS:
            continue
        unit = unit.copy()
        unit[more] = -1
        unit[unit >= 0] = np.unique(unit[unit >= 0], return_inverse=True)[1]
        return unit
    return unit


def _units(graph: sp.csr_matrix, unit: np.ndarray, places: Sequence[Place]) -> Units:
    """Make the record, and raise if a term depends on two units."""
    of_term = np.full(graph.shape[0], -1)
    term = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    owner = unit[graph.indices]
    np.maximum.at(of_term, term, owner)
    wrong = np.flatnonzero((owner >= 0) & (owner != of_term[term]))
    members = _members(unit)
    names, dim = _names([[places[i] for i in m] for m in members])
    if len(wrong):
        coupled = graph.indices[graph.indptr[term[wrong[0]]] : graph.indptr[term[wrong[0]] + 1]]
        both = coupled[unit[coupled] >= 0].tolist()
        one, two, *_ = dict.fromkeys(unit[both].tolist())
        remedy = (
            "It depends on all coordinates, as that of a black box does or of a covariance between "
            "all units: use structure=False."
            if len(coupled) == len(unit)
            else "Make one unit of the two, or leave out of the units the variable that couples "
            "them."
        )
        elements = _listed([places[i].element for i in both])
        raise ModelError(
            f"structure= contradicts the model: a term of its log density depends on the units "
            f"{names[one]} and {names[two]} together (through {elements}). Units "
            f"share hubs only. {remedy}"
        )
    padded = np.full((len(members), max(map(len, members))), -1)
    for row, m in zip(padded, members, strict=True):
        row[: len(m)] = m
    hubs = np.flatnonzero(unit < 0)
    return Units(hubs, padded, of_term, names, dim, _variables(hubs, places))


def _common(places: Sequence[Place]) -> dict[str, str]:
    """Return the named dimensions along which some coordinates all have one place."""
    common = dict(places[0].at)
    for place in places[1:]:
        at = dict(place.at)
        common = {dim: label for dim, label in common.items() if at.get(dim) == label}
    return common


def _names(units: Sequence[Sequence[Place]]) -> tuple[tuple[str, ...], str | None]:
    """Name each unit, by its coordinate along the dimension that all are along if there is one."""
    at = [_common(places) for places in units]
    for dim in at[0]:
        labels = [labels.get(dim) for labels in at]
        if None not in labels and len(set(labels)) == len(labels):
            return tuple(f"{dim}={label}" for label in labels), dim
    names = []
    for places in units:
        more = ", ..." if len(places) > SHOWN else ""
        names.append(", ".join(p.element for p in places[:SHOWN]) + more)
    return tuple(names), None


def _variables(hubs: np.ndarray, places: Sequence[Place]) -> tuple[str, ...]:
    """Name the hubs, a variable of which all elements are hubs by its name alone."""
    of = [place.variable for place in places]
    chosen = [of[i] for i in hubs]
    out: dict[str, None] = {}
    for i in hubs.tolist():
        whole = chosen.count(of[i]) == of.count(of[i])
        out[of[i] if whole else places[i].element] = None
    return tuple(out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _bracket(index: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, index))}]" if index else ""
