"""The evidence from stored draws is right within its error, and says so where it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import loggamma, norm

from pymc_multimodal.evidence import evidence_of_draws
from pymc_multimodal.target import Density

LOG_Z = 3.0
# With 60 seeds, 54 to 59 intervals of 95 % hold the truth with a probability of 92 %.
SEEDS = 60


def density_of(logpdf, dim):
    return Density(lambda x: (logpdf(x) + LOG_Z, None), dim, has_gradient=False)


def skewed(dim=3):
    """Logarithms of exponential variables."""
    density = density_of(lambda x: loggamma.logpdf(x, 1.0).sum(axis=1), dim)
    return density, lambda n, rng: np.log(rng.exponential(size=(n, dim)))


def bimodal(share=0.3, distance=10.0, width=0.3):
    """Two normal modes in two dimensions, the heavier one narrow."""
    narrow, wide = norm(0.0, width), norm(distance, 1.0)

    def logpdf(x):
        return np.logaddexp(
            np.log(share) + wide.logpdf(x).sum(axis=1),
            np.log1p(-share) + narrow.logpdf(x).sum(axis=1),
        )

    def draw(n, rng):
        z, first = rng.standard_normal((n, 2)), rng.random(n) < share
        return np.where(first[:, None], distance + z, width * z)

    return density_of(logpdf, 2), draw


def lazy_chains(draw, chains, n, stay, rng):
    """Stationary chains that stay where they are with a given probability."""
    x = draw(chains * n, rng).reshape(chains, n, -1)
    for t in range(1, n):
        staying = rng.random(chains) < stay
        x[staying, t] = x[staying, t - 1]
    return x


@pytest.mark.parametrize(
    ("make", "stay"),
    [
        pytest.param(bimodal, 0.6, id="bimodal-autocorrelated"),
        # Slow: each case is hundreds of bridges.
        pytest.param(bimodal, 0.0, id="bimodal-independent", marks=pytest.mark.slow),
        pytest.param(skewed, 0.6, id="skewed-autocorrelated", marks=pytest.mark.slow),
        pytest.param(skewed, 0.0, id="skewed-independent", marks=pytest.mark.slow),
    ],
)
def test_errors_cover_the_truth_as_often_as_they_say(make, stay):
    density, draw = make()
    z, covered = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 1])
        found = evidence_of_draws(density, lazy_chains(draw, 4, 400, stay, rng), rng)
        if np.isfinite(found.log_evidence_se):
            z.append((found.log_evidence - LOG_Z) / found.log_evidence_se)
            covered.append(found.interval[0] < LOG_Z < found.interval[1])
    # A few runs of chains that stay are honest about too few effective draws.
    assert len(z) >= 0.9 * SEEDS
    assert 0.9 <= np.mean(covered) <= 0.995
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.25


def test_each_draw_and_each_proposal_is_evaluated_once(rng):
    density, draw = skewed()
    found = evidence_of_draws(density, draw(1_001 * 2, rng).reshape(2, 1_001, 3), rng, 500)
    assert (found.n_draws, found.n_proposals) == (2_000, 500)
    assert found.n_logp_evals == density.n_logp_evals == 2_500
    assert found.method == "bridge sampling"
    assert not found.statuses


def test_a_constant_of_the_log_density_is_found_to_rounding(rng):
    density, draw = bimodal()
    raised = Density(lambda x: (density.logp(x) + 1e5, None), 2, has_gradient=False)
    x = draw(800, rng).reshape(4, 200, 2)
    a, b = (evidence_of_draws(d, x, np.random.default_rng(1)) for d in (density, raised))
    assert b.log_evidence - a.log_evidence == pytest.approx(1e5, abs=1e-6)
    assert b.log_evidence_se == pytest.approx(a.log_evidence_se, rel=1e-4)


@pytest.mark.parametrize("in_first", [1, 2, 3])
def test_chains_that_stay_in_their_mode_have_no_error(in_first, rng):
    """The share of the chains in a mode says nothing; the proposals alone do not depend on it."""
    density, draw = bimodal()
    pool = draw(40_000, rng)
    modes = [pool[pool[:, 0] < 5.0], pool[pool[:, 0] >= 5.0]]
    chains = [modes[int(c >= in_first)][500 * c : 500 * (c + 1)] for c in range(4)]
    found = evidence_of_draws(density, np.stack(chains), rng)
    assert np.isnan(found.log_evidence_se)
    assert [s.code for s in found.statuses] == ["r_hat"]
    assert found.method == "importance sampling"
    assert abs(found.log_evidence - LOG_Z) < 4 * found.importance_se
    assert found.interval[0] < LOG_Z
    assert found.interval[1] == np.inf


def test_few_effective_draws_have_no_error(rng):
    density, draw = skewed()
    found = evidence_of_draws(density, lazy_chains(draw, 4, 200, 0.98, rng), rng)
    assert np.isnan(found.log_evidence_se)
    assert {s.code for s in found.statuses} & {"evidence_error", "r_hat"}


def test_two_estimates_agree(rng):
    density, draw = skewed()
    found = evidence_of_draws(density, draw(4_000, rng).reshape(4, 1_000, 3), rng)
    joint = np.hypot(found.log_evidence_se, found.importance_se)
    assert abs(found.log_evidence - found.importance) < 4 * joint


def test_circular_coordinates_are_cut_where_no_draws_are(rng):
    """Modes on both sides of the seam at pi; the density of a von Mises distribution."""
    kappa = 4.0
    log_norm = np.log(2 * np.pi * np.i0(kappa))
    density = Density(
        lambda x: (kappa * np.cos(x[:, 0] - np.pi) - log_norm + LOG_Z, None),
        1,
        has_gradient=False,
        period=np.array([2 * np.pi]),
    )
    x = rng.vonmises(np.pi, kappa, size=(4, 500, 1))
    found = evidence_of_draws(density, x, rng)
    assert abs(found.log_evidence - LOG_Z) < 4 * found.log_evidence_se
    assert found.log_evidence_se < 0.02
    assert found.r_hat < 1.02


def test_draws_without_density_are_those_of_another_model(rng):
    density = Density(lambda x: (np.where(x[:, 0] > 0, 0.0, -np.inf), None), 1, has_gradient=False)
    with pytest.raises(ValueError, match="density is zero at"):
        evidence_of_draws(density, rng.standard_normal((4, 100, 1)), rng)


def test_the_text_says_what_is_known(rng):
    density, draw = skewed()
    text = repr(evidence_of_draws(density, draw(800, rng).reshape(4, 200, 3), rng))
    assert "±" in text
    assert "800 draws of 4 chains" in text
    stuck = np.concatenate([draw(400, rng), draw(400, rng) - 4.0]).reshape(4, 200, 3)
    text = repr(evidence_of_draws(density, stuck, rng))
    assert "error not known" in text
    assert "warning: the chains disagree" in text
