import numpy as np
import pytest
from hierarchy import Hierarchy

from pymc_multimodal.conditional import AnchorMixture, climb_hubs, find_anchors, find_split


@pytest.fixture(scope="module")
def described():
    rng = np.random.default_rng(5)
    model = Hierarchy()
    density = model.density
    split = find_split(density)
    draws = density.prior_draws(400, rng)
    spread = draws.std(axis=0)
    climbed = climb_hubs(density, split, (draws[:12], spread), rng)
    anchors, hits = find_anchors(density, split, climbed, spread, rng)
    return model, density, split, anchors, hits


def test_both_signs_are_found(described):
    _, _, _, anchors, hits = described
    assert len(anchors) == 2
    assert hits.sum() <= 12
    assert sorted(np.sign([a.mode[0] for a in anchors])) == [-1.0, 1.0]


def test_the_marginal_density_of_the_hubs_is_exact_where_the_rest_is_normal(described, rng):
    model, density, split, anchors, _ = described
    for anchor in anchors:
        u = anchor.mode + rng.standard_normal((20, 3)) @ anchor.scale.T
        # Terms of the third degree are left: with three standard deviations some tenths of a nat.
        gap = anchor.marginal(density, split, u) - model.marginal(u)
        np.testing.assert_allclose(gap, 0.0, atol=0.3)
        np.testing.assert_allclose(anchor.value, model.marginal(anchor.mode[None])[0], atol=0.02)


def test_weights_of_the_rest_vary_little_and_have_the_marginal_as_their_mean(described, rng):
    model, density, split, anchors, _ = described
    mixture = AnchorMixture(split, anchors)
    u = anchors[0].mode + rng.standard_normal((500, 3)) @ anchors[0].scale.T
    drawn = mixture.complete(density, u, rng)
    ratio = np.exp(drawn.logp + drawn.minus_log_q - model.marginal(u))
    assert ratio.std() < 0.3
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_the_density_of_the_rest_is_normalised(described, rng):
    _, _, split, anchors, _ = described
    mixture = AnchorMixture(split, anchors)
    # Halfway between the anchors both have a share.
    u = np.tile(0.5 * (anchors[0].mode + anchors[1].mode), (4000, 1))
    one, other = anchors
    v = other.sample(u, rng)
    ratio = np.exp(
        mixture.log_density(u, v)
        - np.logaddexp(other.log_density(u, v) + np.log(0.5), one.log_density(u, v) + np.log(0.5))
    )
    share = np.exp(mixture.log_shares(u[:1]))[0]
    assert share.sum() == pytest.approx(1.0)
    expected = share / 0.5
    assert ratio.max() <= expected.max() * (1 + 1e-9)
    assert ratio.min() >= expected.min() * (1 - 1e-9)
