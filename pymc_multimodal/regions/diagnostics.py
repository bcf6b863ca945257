"""Which chains have mixed, and what is reported of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.regions.chains import largest_r_hat, n_draws
from pymc_multimodal.regions.draws import ChainDiagnostics
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.regions.chains import Chains
    from pymc_multimodal.regions.settings import LocalSampling

__all__ = ["diagnostics_of", "stuck", "unknown_spread", "unmixed"]

# A region is flagged where R-hat - 1 is more than so many times what was asked: R-hat itself is
# uncertain. Measured: examples/benchmarks/constants.py
FLAGGED_EXCESS = 2.0
# Effective draws of each chain below which the chains may still be where they began, so that no
# error can be told from them: R-hat is then above 1.1. Measured: with 10 for each chain errors were
# right (product of Student-t densities in 50 dimensions), with 1 an evidence was 14 errors too
# small.
MIN_EFFECTIVE_DRAWS = 4.0
# R-hat from which on chains are apart rather than slow, and batches of draws that tell: each piece
# then varies less than the pieces do. Measured: a planar arm of ten links, of which one of eight
# regions stayed at 1.53 to 1.55 from 200 to 3,200 draws of each chain.
STUCK_RHAT, STUCK_BATCHES = 1.5, 4


def _mixed(chains: Chains, settings: LocalSampling) -> np.ndarray:
    """Whether the R-hat of each region can be trusted: bool array of shape (K,)."""
    return chains.r_hat <= 1.0 + FLAGGED_EXCESS * (largest_r_hat(chains, settings) - 1.0)


def unmixed(chains: Chains, settings: LocalSampling) -> np.ndarray:
    """Regions whose R-hat is too large to be trusted, without the negligible ones: int array."""
    return np.flatnonzero(~(_mixed(chains, settings) | chains.negligible))


def stuck(chains: Chains, settings: LocalSampling) -> np.ndarray:
    """Regions whose chains stay apart however many draws they make: int array."""
    apart = (chains.r_hat > STUCK_RHAT) & ~chains.negligible
    return np.flatnonzero(apart & (n_draws(chains) >= STUCK_BATCHES * settings.draws))


def unknown_spread(chains: Chains) -> np.ndarray:
    """Tell of which regions the chains may not have left where they began: bool, shape (K,).

    Negligible regions are left out.
    """
    n_chains = np.array([record.logp.shape[1] for record in chains.records])
    return (chains.ess < MIN_EFFECTIVE_DRAWS * n_chains) & ~chains.negligible


def diagnostics_of(chains: Chains, settings: LocalSampling) -> ChainDiagnostics:
    """Diagnostics of the chains so far.

    Parameters
    ----------
    chains : Chains
    settings : LocalSampling

    Returns
    -------
    ChainDiagnostics
    """
    return ChainDiagnostics(
        r_hat=chains.r_hat,
        acceptance=np.array([float(np.mean(record.acceptance)) for record in chains.records]),
        crossings=np.array([float(np.mean(record.crossed)) for record in chains.records]),
        regime=chains.regime,
        statuses=_statuses(chains, settings),
    )


def _statuses(chains: Chains, settings: LocalSampling) -> tuple[Status, ...]:
    statuses = []
    for k in unmixed(chains, settings):
        statuses.append(
            Status("r_hat", "regions",
                   f"the chains of this region did not mix (R-hat {chains.r_hat[k]:.2f}, "
                   f"effective draws {chains.ess[k]:.0f}).",
                   "Its weight and shape are not to be trusted; raise "
                   "LocalSampling.max_draws or reparametrise.", mode=int(k))
        )  # fmt: skip
    for k in np.flatnonzero(chains.negligible & ~_mixed(chains, settings)):
        statuses.append(
            Status("negligible_region", "regions",
                   "the region holds next to no mass, and its chains were not run until they mix "
                   f"(R-hat {chains.r_hat[k]:.2f}).",
                   "Lower target_se to have its evidence estimated.", mode=int(k), level="info")
        )  # fmt: skip
    return tuple(statuses)
