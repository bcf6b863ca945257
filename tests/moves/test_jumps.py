"""Mixtures that chains propose from."""

from __future__ import annotations

from densities import Mixture, assert_covers, z_scores
from regional import PAIR, elliptical

from pymc_multimodal.moves import MixtureProposal


def test_a_mixture_draws_from_its_density(rng):
    others = (elliptical([-3.0, 0.0], size=1.5), elliptical([0.0, 4.0], 5.0))
    q = MixtureProposal(elliptical([3.0, 0.0], 8.0, size=1.5), others)
    target = Mixture(PAIR.means, PAIR.covariances, PAIR.weights)
    assert_covers(target, q.sample, q.log_density, rng)
    x = q.sample(20_000, rng)
    parts = zip((0.75, 0.125, 0.125), (q.own, *others), strict=True)
    share = sum(s * (part.sample(10**6, rng)[:, 1] > 2).mean() for s, part in parts)
    # The share that is expected is itself known within an eighth of an error.
    assert abs(z_scores(x[:, 1:] > 2, share)[0]) < 4
