"""The state of one chain of the step method between two draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pymc_multimodal import kernel
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.foresight import foreseeable, foreseen
from pymc_multimodal.plugin.record import record
from pymc_multimodal.target import Target

__all__ = ["Chain", "advance"]

# Proposals that a chain evaluates in one batch, at least; each is used for one jump. A batch costs
# little more than one evaluation. Conventional: two chunks of `Density`.
PROPOSALS_AT_ONCE = 64


@dataclass(frozen=True)
class Chain:
    """State of one chain between two draws.

    Attributes
    ----------
    state : kernel.ChainState or None
        Where the kernel is; None before the first draw.
    shown : array of shape (d,) or None
        The last draw: an image of the kernel's point where the posterior is symmetric.
    proposals : kernel.ChainState or None
        Proposals evaluated in one batch.
    n_used : int
        Of these, how many were used for jumps.
    n_draws : int
        Draws made.
    known : Target or None
        What knows the points that draws before number `known_until` are likely to need.
    known_until : int
    """

    state: kernel.ChainState | None = None
    shown: np.ndarray | None = None
    proposals: kernel.ChainState | None = None
    n_used: int = 0
    n_draws: int = 0
    known: Target | None = None
    known_until: int = 0


def advance(
    fit: Fit,
    target: Target,
    chain: Chain,
    point: np.ndarray,
    rng: np.random.Generator,
    *,
    alone: bool = True,
) -> tuple[Chain, dict[str, float | int]]:
    """Make one draw.

    Parameters
    ----------
    fit : Fit
    target : Target
        What the fit's kernel samples (`Fit.target`).
    chain : Chain
    point : array of shape (d,)
        PyMC's current point. A chain begins at a draw inside of a mode and not at PyMC's initial
        point; later it continues from another point than its own last draw if PyMC gives one.
    rng : numpy.random.Generator
    alone : bool
        Whether nothing else takes numbers from `rng`: draws can then be foreseen.

    Returns
    -------
    chain : Chain
        Its `shown` is the draw.
    stats : dict
        See `record`.
    """
    state = chain.state
    if state is None:
        state = kernel.init(target, fit.kernel, fit.starts(1, rng), rng)
    elif chain.shown is None or not np.array_equal(chain.shown.astype(point.dtype), point):
        # The comparison is in the type of the variables, to which PyMC has rounded the draw.
        state = kernel.init(target, fit.kernel, point[None], rng)
    chain, proposed = _take_proposals(fit, target, chain, rng)
    if alone and foreseeable(fit, target.density):
        if chain.known is None or chain.n_draws >= chain.known_until:
            until = chain.n_draws + PROPOSALS_AT_ONCE
            known = foreseen(fit, target, state, range(chain.n_draws, until), rng)
            chain = replace(chain, known=known, known_until=until)
        assert chain.known is not None
        target = chain.known
    state, accepted = kernel.step(target, fit.kernel, state, proposed, rng, chain.n_draws)
    x, stats = record(fit, state, accepted, rng)
    chain = replace(chain, state=state, shown=x[0], n_draws=chain.n_draws + 1)
    return chain, {name: values[0].item() for name, values in stats.items()}


def _take_proposals(
    fit: Fit, target: Target, chain: Chain, rng: np.random.Generator
) -> tuple[Chain, kernel.ChainState]:
    """Take the proposals of one draw; where none are left, evaluate a new batch."""
    n = fit.kernel.jumps
    batch = n * max(1, PROPOSALS_AT_ONCE // max(n, 1))
    if chain.proposals is None or chain.n_used >= batch:
        chain = replace(chain, proposals=kernel.propose(target, fit.kernel, batch, rng), n_used=0)
    assert chain.proposals is not None
    taken = kernel.rows(chain.proposals, slice(chain.n_used, chain.n_used + n))
    return replace(chain, n_used=chain.n_used + n), taken
