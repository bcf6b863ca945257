"""The search for symmetries: exchangeable components and changes of sign, by testing them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.optimize import linear_sum_assignment

from pymc_multimodal.target.group import Symmetry, generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymc_multimodal.target.density import Density

__all__ = ["candidates", "check_symmetry", "find_symmetry", "holds", "suggested"]

# Evaluations that the search may cost, numbers in the matrices that it looks at, and relative
# difference of log densities that counts as rounding.
MAX_TESTS, MAX_NUMBERS, TOLERANCE = 600, 1e8, 1e-9
# Variables of one length whose subsets are all tried.
MAX_SUBSETS = 6
# Distance (in spreads of the starts) by which a map has to move some optimum to be of use.
MOVES = 1e-2
# Optima that are compared with one another, how much their log densities and (in spreads) their
# coordinates may differ where one may be the image of the other, and pairs that are looked at.
COMPARED, LEVEL, ALIKE, MAX_PAIRS = 256, 1e-3, 0.05, 1000
# Coordinates that a description names.
NAMED = 6

# A map, what it does, and the variables that take part.
Candidate: TypeAlias = tuple[frozenset[str], np.ndarray, str]


@dataclass(frozen=True)
class Block:
    """A variable with an axis of components.

    Attributes
    ----------
    name : str
    where : array of int
        Its coordinates.
    axis : int
    size : int
        Number of components; one more than the axis has where it is that of a simplex.
    simplex : bool
    """

    name: str
    where: np.ndarray
    axis: int
    size: int
    simplex: bool

    def exchanged(self, d: int, i: int, j: int) -> np.ndarray:
        """Map that exchanges components i and j, shape (d, d).

        PyMC's simplex transform is ``y = log x - mean(log x)`` without its last entry, so that
        exchanging entries of x is linear in y.
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

    def negated(self, d: int, i: int) -> np.ndarray:
        """Map that changes the sign of component i, shape (d, d)."""
        return _negated(d, np.take(self.where, i, axis=self.axis))


def _negated(d: int, where: np.ndarray) -> np.ndarray:
    sign = np.ones(d)
    sign[where] = -1.0
    return np.diag(sign)


def variables(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Coordinates of each variable in its own shape, read from names like ``mu[0,1]``."""
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for at, name in enumerate(names):
        match = re.fullmatch(r"(.*)\[([\d,]+)\]", name)
        base, index = (match[1], match[2]) if match else (name, "")
        found.setdefault(base, {})[tuple(int(i) for i in index.split(",") if i)] = at
    out = {}
    for base, entries in found.items():
        shape = tuple(np.max(list(entries), axis=0).astype(int) + 1) if () not in entries else ()
        if len(entries) != int(np.prod(shape)):
            continue
        where = np.empty(shape, dtype=int)
        for index, at in entries.items():
            where[index] = at
        out[base] = where
    return out


def _blocks(shaped: dict[str, np.ndarray]) -> dict[int, list[Block]]:
    """Variables with axes of components, by the number of components."""
    out: dict[int, list[Block]] = {}
    for name, where in shaped.items():
        for axis, length in enumerate(where.shape):
            simplex = name.endswith("_simplex__") and axis == where.ndim - 1
            size = length + simplex
            if size > 1:
                out.setdefault(size, []).append(Block(name, where, axis, size, simplex))
    return out


def candidates(names: tuple[str, ...]) -> Iterator[list[Candidate]]:
    """Families of maps that may be symmetries: one family for each thing that may be done.

    A family holds one map for each set of variables that take part, smallest sets first; a
    set that contains one which is a symmetry by itself need not be tried.
    """
    d, shaped = len(names), variables(names)
    whole = [(name, _negated(d, where.ravel())) for name, where in shaped.items()]
    yield _family(whole, "sign of")
    scalars = [(n, m) for (n, m), where in zip(whole, shaped.values(), strict=True)
               if where.size == 1]  # fmt: skip
    # Short axes first: components are few, and long vectors have too many pairs for all.
    for size, blocks in sorted(_blocks(shaped).items()):
        labels = [f"{b.name} axis {b.axis}" for b in blocks]
        for i in range(size):
            signs = [(t, b.negated(d, i)) for t, b in zip(labels, blocks, strict=True)
                     if not b.simplex]  # fmt: skip
            yield _family(signs, f"sign of component {i} of")
        for i, j in combinations(range(size), 2):
            swaps = [(t, b.exchanged(d, i, j)) for t, b in zip(labels, blocks, strict=True)]
            # The log odds of two components change sign with their exchange.
            named = {b.name for b in blocks}
            swaps += [s for s in scalars if size == 2 and s[0] not in named]
            yield _family(swaps, f"exchange of {i} and {j} in")


def _within(families: Iterator[list[Candidate]], d: int) -> Iterator[list[Candidate]]:
    """Yield families until their matrices have taken too many numbers."""
    left = MAX_NUMBERS
    for family in families:
        left -= len(family) * d**2
        if left < 0:
            return
        yield family


def _family(parts: list[tuple[str, np.ndarray]], what: str) -> list[Candidate]:
    """Products of the maps of all subsets; of all and of single ones where they are many."""
    sizes = range(1, len(parts) + 1) if len(parts) <= MAX_SUBSETS else (1, len(parts))
    out = []
    for size in sizes:
        for subset in combinations(parts, size):
            product = np.linalg.multi_dot([m for _, m in subset]) if size > 1 else subset[0][1]
            taking = [name for name, _ in subset]
            out.append((frozenset(taking), product, f"{what} {', '.join(taking)}"))
    return out


def suggested(
    names: tuple[str, ...], optima: np.ndarray, height: np.ndarray, spread: np.ndarray
) -> Iterator[list[Candidate]]:
    """List maps that take one optimum to another of the same height, the simplest first.

    They rearrange coordinates and change signs in any way: of a triangular matrix of loadings,
    say, or of components that are variables of their own.

    Parameters
    ----------
    names : tuple of str
    optima : array of shape (p, d)
    height : array of shape (p,)
        Their log densities.
    spread : array of shape (d,)

    Yields
    ------
    list of Candidate
        Families of one map each.
    """
    d = len(spread)
    top = np.argsort(-height, kind="stable")[:COMPARED]
    optima, height = optima[top], height[top]
    size = np.sort(np.abs(optima), axis=1)
    first, second = np.nonzero(np.triu(np.abs(height[:, None] - height) <= LEVEL, 1))
    alike = np.abs(size[first] - size[second]).max(axis=1) <= ALIKE * spread.max()
    pairs = np.stack([first, second], axis=1)[alike][: min(MAX_PAIRS, int(MAX_NUMBERS / d**2))]
    # Coordinates stay where they are unless there is a reason for them to move.
    apart = 0.5 * (spread[:, None] + spread)
    reluctance = 1e-4 * (1.0 - np.eye(d))
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for p, q in optima[pairs]:
        cost = np.abs(np.abs(q)[:, None] - np.abs(p)) / apart + reluctance
        to, source = linear_sum_assignment(cost)
        if cost[to, source].max() <= ALIKE:
            turned = (q * p[source] < 0) & (np.abs(q) > ALIKE * spread)
            found[source.tobytes() + turned.tobytes()] = source, turned
    whole = np.arange(d)
    for source, turned in sorted(found.values(), key=lambda e: np.sum((e[0] != whole) | e[1])):
        element = np.zeros((d, d))
        element[whole, source] = np.where(turned, -1.0, 1.0)
        moved = [names[i] for i in np.flatnonzero((source != whole) | turned)]
        what = "sign of" if (source == whole).all() else "exchange among"
        more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
        yield [(frozenset(), element, f"{what} {', '.join(moved[:NAMED])}{more}")]


def holds(density: Density, elements: np.ndarray, x: np.ndarray, logp: np.ndarray) -> np.ndarray:
    """Tell which maps leave the log density of all points unchanged.

    Parameters
    ----------
    density : Density
    elements : array of shape (m, d, d)
    x, logp : arrays of shape (n, d) and (n,)
        Points with finite log densities.

    Returns
    -------
    array of bool, shape (m,)
    """
    moved = np.einsum("mij,nj->mni", elements, x)
    there = density.logp(moved.reshape(-1, x.shape[1])).reshape(len(elements), len(x))
    with np.errstate(invalid="ignore"):
        return (np.abs(there - logp) <= TOLERANCE * (1.0 + np.abs(logp))).all(axis=1)


def check_symmetry(symmetry: Symmetry, density: Density, x: np.ndarray) -> None:
    """Raise a ValueError if given maps do not leave the density of points unchanged."""
    d = density.dim
    if symmetry.generators[0].shape != (d, d):
        raise ValueError(
            f"symmetry has maps of shape {symmetry.generators[0].shape}, but the model has {d} "
            f"unconstrained coordinates: shape ({d}, {d}) is needed."
        )
    if np.isfinite(density.period).any():
        raise ValueError(
            "symmetry was given for a model with circular coordinates, for which folding is not "
            "defined; use symmetry=False."
        )
    good = holds(density, np.stack(symmetry.generators), x[:8], density.logp(x[:8]))
    if not good.all():
        raise ValueError(
            f"symmetry: generator {int(np.argmin(good))} changes the log density, so it is not a "
            "symmetry of this model. Leave it out, or let symmetry=True search."
        )


def find_symmetry(
    density: Density,
    optima: np.ndarray,
    height: np.ndarray,
    starts: np.ndarray,
    spread: np.ndarray,
    rng: np.random.Generator,
) -> Symmetry | None:
    """Find the exchangeable components and changes of sign that move some optimum.

    Candidates come from the coordinates' names (components are entries along axes of one
    length, of several variables together) and from pairs of optima that look like images of one
    another. Each is tested at one random point, and those that pass at more: a few about the
    optima, and starts far away.

    Parameters
    ----------
    density : Density
    optima : array of shape (p, d)
    height : array of shape (p,)
        Log densities of the optima.
    starts : array of shape (n, d)
        Points at which the density is finite.
    spread : array of shape (d,)
        Standard deviations of the starts.
    rng : numpy.random.Generator

    Returns
    -------
    Symmetry or None
        None if there is no symmetry that moves an optimum, or if a coordinate is circular.
        Generators that would make the group too large are left out.
    """
    if not len(optima) or np.isfinite(density.period).any():
        return None
    near = optima[rng.integers(len(optima), size=4)]
    far = starts[rng.integers(len(starts), size=4)]
    # A start may happen to be symmetric itself: every point is moved a little.
    x = np.concatenate([near, far]) + 0.05 * spread * rng.standard_normal((8, density.dim))
    logp = density.logp(x)
    x, logp = x[np.isfinite(logp)], logp[np.isfinite(logp)]
    if len(x) < 2:
        return None
    found: list[np.ndarray] = []
    descriptions: list[str] = []
    known = np.eye(density.dim)[None]
    spent = 0
    pairs = suggested(density.names, optima, height, spread)
    for family in chain(_within(candidates(density.names), density.dim), pairs):
        if spent >= MAX_TESTS or density.exhausted():
            break
        # Useless: what moves no optimum, and what is known already.
        family = [c for c in family if _moves(c[1], optima, spread)]
        family = [c for c in family if not (np.abs(known - c[1]).max(axis=(1, 2)) < 1e-6).any()]
        if not family or spent + len(family) > MAX_TESTS:
            continue
        maps = np.stack([c[1] for c in family])
        passed = np.flatnonzero(holds(density, maps, x[:1], logp[:1]))
        spent += len(family)
        taken: list[frozenset[str]] = []
        for k in passed:
            taking, element, text = family[k]
            if any(small < taking for small in taken):
                continue
            spent += len(x)
            if holds(density, element[None], x, logp)[0]:
                taken.append(taking)
                if len(larger := generate((*found, element))):
                    known = larger
                    found.append(element)
                    descriptions.append(text)
    return Symmetry(tuple(found), tuple(descriptions)) if found else None


def _moves(element: np.ndarray, optima: np.ndarray, spread: np.ndarray) -> bool:
    return bool((np.abs(optima @ element.T - optima) > MOVES * spread).any())
