"""Independence proposals of chains that are confined to regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pymc_multimodal.moves.local import moved_labels, state_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymc_multimodal.moves.local import MoveState
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["JumpDensity", "MixtureProposal", "jump"]

# Share of the proposals of a `MixtureProposal` that come from neighbours' densities.
# Measured: examples/benchmarks/constants.py
NEIGHBOUR_SHARE = 0.25
# Densities up to which each is computed by itself: together they are copied into one array first.
# Conventional.
FEW_DENSITIES = 8


class JumpDensity(Protocol):
    """A normalised density on R^d to propose from."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d); rows of NaN are no points."""
        ...

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row, shape (n,)."""
        ...


class MixtureProposal:
    """Mixture of a region's own density and those of its neighbours.

    Parameters
    ----------
    own : JumpDensity
    others : sequence of JumpDensity
        Densities of neighbours. A quarter of the proposals comes from them, in equal parts.
    """

    def __init__(self, own: JumpDensity, others: Sequence[JumpDensity]) -> None:
        self.own, self.others = own, tuple(others)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d); rows of NaN are no points."""
        x = self.own.sample(n, rng)
        which = rng.integers(len(self.others), size=n)
        which[rng.random(n) >= NEIGHBOUR_SHARE] = -1
        for j, q in enumerate(self.others):
            rows = which == j
            x[rows] = q.sample(int(rows.sum()), rng)
        return x

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row, shape (n,)."""
        others = np.logaddexp.reduce([q.log_density(x) for q in self.others], axis=0)
        return np.logaddexp(
            np.log1p(-NEIGHBOUR_SHARE) + self.own.log_density(x),
            np.log(NEIGHBOUR_SHARE / len(self.others)) + others,
        )


def jump(
    density: LogDensity,
    state: MoveState,
    jumps: Mapping[int, JumpDensity],
    rng: np.random.Generator,
    *,
    label: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[MoveState, np.ndarray]:
    """Offer each point of a region that has a jump density one draw of that density.

    An independence Metropolis step (Tierney 1994) on the density restricted to the
    point's region: a draw outside of the region is rejected without an evaluation.

    Parameters
    ----------
    density : LogDensity
    state : MoveState
    jumps : mapping of int to JumpDensity
        Jump density of each region that has one. They have to stay the same while draws count.
    rng : numpy.random.Generator
    label : callable or None
        ``label(x)`` gives each row's region; None where there is one region.

    Returns
    -------
    state : MoveState
    accepted : array of bool, shape (n,)
    """
    took = np.zeros(len(state.x), dtype=bool)
    # In the order of the regions: the draws shall not depend on when a jump density was fitted.
    order = np.argsort(state.region, kind="stable")
    present, first = np.unique(state.region[order], return_index=True)
    split = zip(present.tolist(), np.split(order, first[1:]), strict=True)
    rows = {k: own for k, own in split if k in jumps}
    if not rows:
        return state, took
    row = np.concatenate(list(rows.values()))
    x = np.concatenate([jumps[k].sample(len(own), rng) for k, own in rows.items()])
    inside = np.isfinite(x).all(axis=1)
    if label is not None:
        # One call for all regions: with a thousand regions the labels are what costs most.
        expected = state.region[row[inside]]
        inside[inside] = moved_labels(label, x[inside], expected) == expected
    row, x = row[inside], x[inside]
    which = np.searchsorted(list(rows), state.region[row])
    densities = [jumps[k] for k in rows]
    log_q = _log_density_of_each(densities, x, which)
    log_q -= _log_density_of_each(densities, state.x[row], which)
    offered = state_at(density, x, state.region[row])
    with np.errstate(invalid="ignore"):
        # From outside of the support to outside of it the ratio is NaN, which is not accepted.
        log_ratio = offered.logp - state.logp[row] - log_q
    accepted = np.log(rng.random(len(row))) < log_ratio
    took[row[accepted]] = True
    # Rows are in the order of the regions, not in that of the points.
    return state.put(offered.take(accepted), row[accepted]), took


def _log_density_of_each(
    densities: Sequence[JumpDensity], x: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """Log density of density ``which[i]`` at row i, shape (n,).

    Densities of one kind that has a method `log_density_of_each` are computed together.
    """
    out = np.empty(len(x))
    kinds: dict[Any, list[int]] = {}
    for i, q in enumerate(densities):
        together = getattr(type(q), "log_density_of_each", None)
        kinds.setdefault(together or i, []).append(i)
    for kind, members in kinds.items():
        if len(members) > FEW_DENSITIES:
            rows = np.flatnonzero(np.isin(which, members))
            own = [densities[i] for i in members]
            out[rows] = kind(own, x[rows], np.searchsorted(members, which[rows]))
        else:
            for i in members:
                rows = np.flatnonzero(which == i)
                out[rows] = densities[i].log_density(x[rows])
    return out
