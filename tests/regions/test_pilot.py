import numpy as np

from pymc_multimodal.moves import MoveParameters
from pymc_multimodal.regions import LocalSampling, prolonged
from pymc_multimodal.regions.pilot import Pilot
from pymc_multimodal.target.density import Density


def test_continued_chains_come_down_from_where_they_were(rng):
    def normal(x):
        return -0.5 * (x**2).sum(axis=1), -x

    d, chains = 40, 16
    # All chains stand at the summit, which no draw in 40 dimensions comes near.
    begun = Pilot(
        np.zeros((1, chains, 4, d)),
        np.zeros((1, chains, 4)),
        MoveParameters(np.ones((1, d)), np.full(1, 0.5), np.full(1, 4), np.full(1, 0.75)),
    )
    settings = LocalSampling(chains=chains)
    found = prolonged(Density(normal, d), begun, settings, rng)
    assert found.draws.shape[:2] == (1, chains)
    assert found.draws.shape[2] >= 2 * settings.explore_moves
    late = found.logp[0, :, found.logp.shape[2] // 2 :].mean(axis=1)
    se = late.std(ddof=1) / np.sqrt(chains)
    assert abs(late.mean() + d / 2) < 4 * se
