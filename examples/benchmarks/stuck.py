"""How long points of the tails hold chains after fits that a limit ended.

Two bananas in 4-D with ``max_evals=60_000``, several seeds: the share of the heavier mode (weight
0.7) in each of 48 chains of 1,000 draws, the ESS that its variance between the chains implies, the
smallest ESS of a coordinate per chain, the longest run of draws without an accepted jump, and
evaluations per draw.
"""

from __future__ import annotations

import argparse

import numpy as np

from pymc_multimodal import gallery, kernel
from pymc_multimodal._compat import ess
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.model import density_of

CHAINS, DRAWS, WEIGHT = 48, 1_000, 0.7


def study(seed: int) -> str:
    """Fit, run the chains, and return one row."""
    density = density_of(gallery.two_bananas(4).model)
    fit = fit_density(density, FitConfig(max_evals=60_000, random_seed=seed))
    target, rng = fit.target(density), np.random.default_rng([seed, 1])
    before = density.n_logp_evals
    state = kernel.init(target, fit.kernel, fit.starts(CHAINS, rng), rng)
    x, accepted = np.empty((CHAINS, DRAWS, 4)), np.empty((CHAINS, DRAWS))
    for t in range(DRAWS):
        offered = kernel.propose(target, fit.kernel, CHAINS * fit.kernel.jumps, rng)
        state, accepted[:, t] = kernel.step(target, fit.kernel, state, offered, rng, t)
        x[:, t] = state.points.x
    share = np.mean(x.mean(axis=2) < 0, axis=1)
    implied = WEIGHT * (1 - WEIGHT) / np.mean((share - WEIGHT) ** 2)
    evals = (density.n_logp_evals - before) / (CHAINS * DRAWS)
    return (
        f"{seed:4d} {fit.kernel.jumps:5d} {share.min():6.3f} {share.max():6.3f} {implied:8.0f} "
        f"{np.min(ess(x)) / CHAINS:8.0f} {_longest(accepted):8d} {evals:6.1f}"
    )


def _longest(accepted: np.ndarray) -> int:
    run, longest = np.zeros(len(accepted), dtype=int), 0
    for column in accepted.T:
        run = np.where(column > 0, 0, run + 1)
        longest = max(longest, int(run.max()))
    return longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="*", type=int, default=[1, 2, 3, 4, 5], help="of the fits")
    options = parser.parse_args()
    print("seed jumps lowest highest ESS(share) ESS(x)  longest  evals")
    for seed in options.seeds:
        print(study(seed), flush=True)


if __name__ == "__main__":
    main()
