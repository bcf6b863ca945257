"""Hamiltonian moves with delayed rejection: a trajectory that failed is tried with finer steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import accept, move, step_factors, trajectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.moves.local import MoveInfo, MoveParameters, MoveState
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["delayed_move"]

# Metropolis ratio up to which a trajectory is tried again: well-chosen steps seldom have less.
# Measured on the fit of seed 5 of examples/benchmarks/stuck.py, with two jumps: 0.1, 0.3 and 1 give
# an ESS of 249, 249 and 263 per 1,000 draws at 8.7, 9.3 and 11.0 evaluations per draw.
MAX_FIRST = 0.1
# The finer step size relative to the first one, log-uniform. Modi, Barnett and Carpenter (2024)
# have factors of 2 to 10. On the fits of seeds 2 and 3, 1/16 to 1/4 gives the same ESS for a fifth
# to a quarter more evaluations.
FINER = (0.1, 0.5)
# Most leapfrog steps of a finer trajectory, unless the first has more: a bound on the cost of a
# move. Conventional.
MAX_FINER_STEPS = 64


def delayed_move(
    density: LogDensity,
    state: MoveState,
    parameters: MoveParameters,
    rng: np.random.Generator,
    *,
    label: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[MoveState, MoveInfo]:
    r"""Move every point once; a trajectory whose ratio is small is tried again with finer steps.

    In the tails of curved modes the step size of the bulk is unstable. All trajectories fail
    there, and a chain stays where it is. The second trajectory has the length of the first.

    Parameters
    ----------
    density : LogDensity
        Without a gradient the move is that of `move`.
    state : MoveState
    parameters : MoveParameters
    rng : numpy.random.Generator
    label : callable or None
        See `move`.

    Returns
    -------
    state : MoveState
    info : MoveInfo
        Its `probability`, `crossed`, `end` and `into` are those of the first trajectory.

    Notes
    -----
    The density :math:`\pi(z)` of point and momentum, restricted to the region, is left invariant
    (Tierney and Mira 1999; Modi, Barnett and Carpenter 2024, "Delayed rejection Hamiltonian Monte
    Carlo for sampling multiscale distributions"). Given the step sizes, which do not depend on z,
    both trajectories with the momentum turned at their end are volume-preserving maps
    :math:`\varphi_1, \varphi_2` that are their own inverses. The first is accepted with probability
    :math:`\alpha_1(z) = \min(1, \pi(\varphi_1 z) / \pi(z))`. With :math:`r(z) = 1` where that
    ratio, the region aside, is at most `MAX_FIRST`, and 0 elsewhere, the second is accepted with
    probability

    .. math::
        \alpha_2(z) = \min\Bigl(1, \frac{\pi(z_2) r(z_2) (1 - \alpha_1(z_2))}
                                        {\pi(z) r(z) (1 - \alpha_1(z))}\Bigr),
        \qquad z_2 = \varphi_2 z.

    The flow :math:`\pi(z) (1 - \alpha_1(z)) r(z) \alpha_2(z)` from z to :math:`z_2` is symmetric in
    the two, since :math:`\varphi_2 z_2 = z`: detailed balance holds.
    """
    if not density.has_gradient:
        return move(density, state, parameters, rng, label=label)
    step = parameters.step_size[state.region] * step_factors(state, parameters, rng)
    # Diverging trajectories overflow before they are rejected.
    with np.errstate(over="ignore", invalid="ignore"):
        momentum = rng.standard_normal(state.x.shape)
        log_u = np.log(rng.random(len(momentum)))
        steps = parameters.leapfrog[state.region]
        end, _, log_ratio = trajectory(density, state, momentum, parameters.scale, step, steps)
        new, info = accept(state, end, log_ratio, log_u, label)
        failed = np.flatnonzero(~info.accepted & (log_ratio <= np.log(MAX_FIRST)))
        if not len(failed):
            return new, info
        rejected = _log_rejection(end.take(failed), log_ratio[failed], label)
        begin, h = state.take(failed), step[failed]
        second, moved = _second(
            density, begin, momentum[failed], rejected, (parameters, h), rng, label
        )
    rows = failed[moved]
    accepted = info.accepted.copy()
    accepted[rows] = True
    return new.put(second, rows), replace(info, accepted=accepted)


def _second(
    density: LogDensity,
    begin: MoveState,
    momentum: np.ndarray,
    log_rejection: np.ndarray,
    tuning: tuple[MoveParameters, np.ndarray],
    rng: np.random.Generator,
    label: Callable | None,
) -> tuple[MoveState, np.ndarray]:
    """Follow the finer trajectories.

    Parameters
    ----------
    density : LogDensity
    begin : MoveState
    momentum : array of shape (n, d)
    log_rejection : array of shape (n,)
        Log probability that the first trajectory of each point is rejected.
    tuning : (MoveParameters, array of shape (n,))
        Parameters, and the step sizes of the first trajectories.
    rng : numpy.random.Generator
    label : callable or None

    Returns
    -------
    end : MoveState
        Ends of the trajectories that are accepted.
    rows : array of int
        Their rows of `begin`.
    """
    parameters, step = tuning
    log_v = np.log(rng.random(len(step)))
    finest, coarsest = np.log(FINER)
    finer = np.exp(rng.uniform(finest, coarsest, len(step)))
    first_steps = parameters.leapfrog[begin.region]
    steps = np.ceil(first_steps / finer).astype(int)
    steps = np.minimum(steps, np.maximum(first_steps, MAX_FINER_STEPS))
    end, p, log_ratio = trajectory(density, begin, momentum, parameters.scale, step * finer, steps)
    log_ratio -= log_rejection
    # The factor that is missing is at most 1: what is refused without it needs no evaluations.
    rows = np.flatnonzero(log_v < log_ratio)
    if label is not None and len(rows):
        rows = rows[label(end.x[rows]) == end.region[rows]]
    if not len(rows):
        return begin.take(rows), rows
    end = end.take(rows)
    # The first trajectory of the second's end, with the momentum turned.
    back, _, ratio_back = trajectory(
        density, end, -p[rows], parameters.scale, step[rows], first_steps[rows]
    )
    log_ratio = log_ratio[rows] + _log_rejection(back, ratio_back, label)
    accepted = (log_v[rows] < log_ratio) & (ratio_back <= np.log(MAX_FIRST))
    return end.take(accepted), rows[accepted]


def _log_rejection(end: MoveState, log_ratio: np.ndarray, label: Callable | None) -> np.ndarray:
    """Log probability that trajectories of these ends are rejected, shape (n,)."""
    probability = np.exp(np.minimum(log_ratio, 0.0))
    possible = probability > 0
    if label is not None and possible.any():
        probability[possible] *= label(end.x[possible]) == end.region[possible]
    with np.errstate(divide="ignore"):
        out: np.ndarray = np.log1p(-probability)
    return out
