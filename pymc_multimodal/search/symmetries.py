"""Symmetries of a density: exchanges of components and changes of sign, found by tests."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.candidates import named_families, optima_families
from pymc_multimodal.target.circle import is_circular
from pymc_multimodal.target.errors import equal_logp
from pymc_multimodal.target.group import Symmetry, generate

if TYPE_CHECKING:
    from pymc_multimodal.search.candidates import Candidate
    from pymc_multimodal.target.density import Density

__all__ = ["check_symmetry", "find_symmetry"]

# Evaluations that the tests of candidates may cost. Measured: examples/benchmarks/constants.py
MAX_TESTS = 600
# Difference of log densities (nats) up to which a map leaves them unchanged, where rounding is less
# than that. It is far below the difference that breaks a symmetry later (`target.errors`), because
# few points are tested. Conventional.
SAME_NATS = 1e-6
# A map is of use if it moves a coordinate of some optimum by more than this (spreads of the
# starts). Measured: examples/benchmarks/constants.py
MIN_MOVE = 1e-2
# Two maps are the same if their entries differ by less than this. Conventional: entries are small
# fractions, known to rounding errors.
SAME_MAP = 1e-6
# Points at which a symmetry is tested: half near optima, half at starts; and how far each point is
# moved (spreads of the starts), because a start may be symmetric itself. Conventional.
TEST_POINTS, TEST_NOISE = 8, 0.05


def _leave_unchanged(
    density: Density, elements: np.ndarray, x: np.ndarray, logp: np.ndarray
) -> np.ndarray:
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
    return np.all(equal_logp(there, logp, density.resolution, SAME_NATS), axis=1)


def check_symmetry(symmetry: Symmetry, density: Density, x: np.ndarray) -> None:
    """Check that given maps leave the log density of points unchanged.

    Parameters
    ----------
    symmetry : Symmetry
    density : Density
    x : array of shape (n, d)
        The first 8 points are used.

    Raises
    ------
    ValueError
        If a map changes the log density or has the wrong shape, or if a coordinate is circular.
    """
    d = density.dim
    if symmetry.generators[0].shape != (d, d):
        raise ValueError(
            f"symmetry has maps of shape {symmetry.generators[0].shape}, but the model has {d} "
            f"unconstrained coordinates: shape ({d}, {d}) is needed."
        )
    if is_circular(density.period).any():
        raise ValueError(
            "symmetry was given for a model with circular coordinates, for which folding is not "
            "defined; use symmetry=False."
        )
    x = x[:TEST_POINTS]
    good = _leave_unchanged(density, np.stack(symmetry.generators), x, density.logp(x))
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

    Candidates come from the names of the coordinates (components are entries along axes of one
    length, of several variables together) and from pairs of optima that look like images of one
    another. Each candidate is tested at one random point. Those that pass are tested at up to 8
    points: some near the optima, some at starts.

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
    if not len(optima) or is_circular(density.period).any():
        return None
    x, logp = _test_points(density, optima, starts, spread, rng)
    if len(x) < 2:
        return None
    accepted: list[Candidate] = []
    known = np.eye(density.dim)[None]
    spent = 0
    by_name = named_families(density.names, optima, MIN_MOVE * spread)
    by_optima = optima_families(density.names, optima, height, spread, density.resolution)
    for family in chain(by_name, by_optima):
        if spent >= MAX_TESTS or density.exhausted():
            break
        family = [c for c in family if _is_new(c.element, known, optima, spread)]
        if not family or spent + len(family) > MAX_TESTS:
            continue
        maps = np.stack([c.element for c in family])
        passed = np.flatnonzero(_leave_unchanged(density, maps, x[:1], logp[:1]))
        spent += len(family)
        smaller: list[frozenset[str]] = []
        for candidate in (family[k] for k in passed):
            if any(parts < candidate.parts for parts in smaller):
                continue
            spent += len(x)
            if _leave_unchanged(density, candidate.element[None], x, logp)[0]:
                smaller.append(candidate.parts)
                elements = (*(c.element for c in accepted), candidate.element)
                if len(group := generate(elements)):
                    known = group
                    accepted.append(candidate)
    if not accepted:
        return None
    return Symmetry(tuple(c.element for c in accepted), tuple(c.description for c in accepted))


def _test_points(
    density: Density,
    optima: np.ndarray,
    starts: np.ndarray,
    spread: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return random points near optima and starts with finite log densities, and these."""
    half = TEST_POINTS // 2
    near = optima[rng.integers(len(optima), size=half)]
    far = starts[rng.integers(len(starts), size=half)]
    noise = rng.standard_normal((TEST_POINTS, density.dim))
    x = np.concatenate([near, far]) + TEST_NOISE * spread * noise
    logp = density.logp(x)
    finite = np.isfinite(logp)
    return x[finite], logp[finite]


def _is_new(element: np.ndarray, known: np.ndarray, optima: np.ndarray, spread: np.ndarray) -> bool:
    """Tell whether a map moves some optimum, and is not among the known ones, shape (m, d, d)."""
    if not (np.abs(optima @ element.T - optima) > MIN_MOVE * spread).any():
        return False
    return not (np.abs(known - element).max(axis=(1, 2)) < SAME_MAP).any()
