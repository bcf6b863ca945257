"""The state of one chain of the step method between two draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pymc_multimodal import kernel
from pymc_multimodal.fit import Fit, confirm_images
from pymc_multimodal.plugin.foresight import foreseeable, foreseen
from pymc_multimodal.plugin.record import record
from pymc_multimodal.target import Target

__all__ = ["Chain", "advance"]

# Proposals that a chain evaluates in one batch, at least; each is used for one jump. A batch costs
# little more than one evaluation. Conventional: two chunks of `Density`.
PROPOSALS_AT_ONCE = 64
# Moves other than jumps that are made at once, where the density has a gradient: what they evaluate
# is lost if no further draw is asked for. Conventional; black boxes, which may be dear, make one.
MOVES_AT_ONCE = 8


@dataclass(frozen=True)
class Draws:
    """Draws of one chain that were made at once.

    Attributes
    ----------
    x : array of shape (n, d)
        Images of the kernel's points where the posterior is symmetric.
    stats : dict of lists of length n
        See `record`.
    """

    x: np.ndarray
    stats: dict[str, list[float] | list[int]]


@dataclass(frozen=True)
class Chain:
    """State of one chain between two draws.

    Attributes
    ----------
    state : kernel.ChainState or None
        Where the kernel is after the draws that were made; None before the first one.
    proposals : kernel.ChainState or None
        Proposals evaluated in one batch.
    n_used : int
        Of these, how many were used for jumps.
    n_draws : int
        Draws made, for the rhythm of the moves.
    draws : Draws or None
        Draws that were made at once.
    n_shown : int
        Of these, how many were returned.
    known : Target or None
        What knows the points that draws before number `known_until` are likely to need.
    known_until : int
    """

    state: kernel.ChainState | None = None
    proposals: kernel.ChainState | None = None
    n_used: int = 0
    n_draws: int = 0
    draws: Draws | None = None
    n_shown: int = 0
    known: Target | None = None
    known_until: int = 0

    @property
    def shown(self) -> np.ndarray | None:
        """The last draw that was returned, shape (d,); None before the first one."""
        return None if self.draws is None else self.draws.x[self.n_shown - 1]


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

    Raises
    ------
    SymmetryBroken
        If the density is not symmetric where the fit takes it to be.
    """
    shown = chain.shown
    # The comparison is in the type of the variables, to which PyMC has rounded the draw.
    if shown is not None and not np.array_equal(shown.astype(point.dtype), point):
        state = kernel.init(target, fit.kernel, point[None], rng)
        chain = replace(chain, state=state, draws=None, known=None)
    if chain.draws is None or chain.n_shown == len(chain.draws.x):
        chain = _make_draws(fit, target, chain, rng, alone)
    assert chain.draws is not None
    stats = {name: values[chain.n_shown] for name, values in chain.draws.stats.items()}
    return replace(chain, n_shown=chain.n_shown + 1), stats


def _make_draws(
    fit: Fit, target: Target, chain: Chain, rng: np.random.Generator, alone: bool
) -> Chain:
    """Make the next draws, as many as need few evaluations beside those of the proposals."""
    step, state = fit.kernel, chain.state
    if state is None:
        state = kernel.init(target, step, fit.starts(1, rng), rng)
    m = step.jumps
    batch = m * max(1, PROPOSALS_AT_ONCE // max(m, 1))
    if chain.proposals is None or chain.n_used >= batch:
        chain = replace(chain, proposals=kernel.propose(target, step, batch, rng), n_used=0)
    proposals = chain.proposals
    assert proposals is not None
    left, n = (batch - chain.n_used) // max(m, 1), 0
    for _ in range(MOVES_AT_ONCE if target.has_gradient else 1):
        if n < left:
            n += kernel.draws_ahead(step, chain.n_draws + n, left - n)
    n = max(n, 1)
    used = target
    if alone and foreseeable(fit, target.density):
        if chain.known is None or chain.n_draws >= chain.known_until:
            until = chain.n_draws + PROPOSALS_AT_ONCE
            known = foreseen(fit, target, state, range(chain.n_draws, until), rng)
            chain = replace(chain, known=known, known_until=until)
        assert chain.known is not None
        used = chain.known
    taken = kernel.rows(proposals, slice(chain.n_used, chain.n_used + n * m))
    states, accepted = kernel.chain_draws(used, step, state, taken, rng, chain.n_draws)
    x, stats = record(fit, states, accepted, rng)
    confirm_images(target, states.points.x, x, stats["lp"], taken.points)
    return replace(
        chain,
        state=kernel.rows(states, slice(-1, None)),
        n_used=chain.n_used + n * m,
        n_draws=chain.n_draws + n,
        draws=Draws(x, {name: values.tolist() for name, values in stats.items()}),
        n_shown=0,
    )
