"""Score matching in torch: its trace, and what every objective finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from densities import z_scores
from learned_scores import separated, some_network

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.score_function import LearnedScore
from pymc_multimodal.proposals.score.score_training import TorchPerceptron, train_score


def test_the_trace_in_torch(rng):
    """Exact it is NumPy's, and Hutchinson's estimate is unbiased."""
    network = some_network(4, rng)
    made = TorchPerceptron(network, "cpu")
    z = rng.standard_normal((10, 4))
    out, divergence = (t.detach().numpy() for t in made(made.tensor(z), None))
    np.testing.assert_allclose(out, network(z), atol=1e-5)
    np.testing.assert_allclose(divergence, network.divergence(z), atol=1e-5)
    many = np.repeat(z[:1], 20_000, axis=0)
    probe = made.tensor(rng.choice([-1.0, 1.0], many.shape))
    estimate = made(made.tensor(many), probe)[1].detach().numpy()
    assert abs(z_scores(estimate, network.divergence(z[:1])[0])) < 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trace": "hutchinson"},
        {"objective": "denoising", "noise_sd": 0.2},
        {"objective": "exact"},
    ],
)
def test_every_objective_finds_the_score(settings, rng):
    """From a single Gaussian as the start, on a distribution with two modes."""
    target = separated(2, distance=4.0)
    x, held_out, test = (target.draws(n, rng) for n in (4_000, 1_000, 4_000))
    one = GaussianMixture.from_covariances(np.ones(1), x.mean(axis=0)[None], np.cov(x.T)[None])
    config = ScoreLangevin(training_steps=600, **settings)
    learned = train_score(LearnedScore(one), x, held_out, config, rng, target(x)[1])
    assert learned.network is not None
    exact = target(test)[1]
    before, after = (np.mean((s(test) - exact) ** 2) for s in (one.score, learned))
    assert after < 0.3 * before


def test_few_draws_do_not_spoil_the_score(rng):
    """Without held-out draws the implicit objective falls without end on a few draws."""
    target = separated(8)
    x, held_out, test = (target.draws(n, rng) for n in (60, 20, 4_000))
    mixture = GaussianMixture.from_covariances(target.weights, target.means, target.covariances)
    learned = train_score(
        LearnedScore(mixture), x, held_out, ScoreLangevin(training_steps=2_000), rng
    )
    error = np.mean((learned(test) - target(test)[1]) ** 2)
    assert error < 0.3, "mixture alone are exact here"


@pytest.mark.parametrize("objective", ["implicit", "denoising", "exact"])
def test_the_seed_says_what_is_learned(objective, rng):
    """Batches are drawn by a torch generator of its own; torch's global one is not touched."""
    target = separated(2, distance=4.0)
    x, held_out = target.draws(2_000, rng), target.draws(500, rng)
    one = GaussianMixture.from_covariances(np.ones(1), x.mean(axis=0)[None], np.cov(x.T)[None])
    config = ScoreLangevin(
        training_steps=100,
        objective=objective,
        trace="hutchinson",
        noise_sd=0.3,
        learning_rate=0.02,
    )
    before = torch.get_rng_state()

    def learned(seed):
        stream = np.random.default_rng(seed)
        found = train_score(LearnedScore(one), x, held_out, config, stream, target(x)[1])
        assert found.network is not None
        return found(x)

    first = learned(5)
    torch.manual_seed(8)
    np.testing.assert_array_equal(learned(5), first)
    assert not np.array_equal(learned(6), first)
    torch.set_rng_state(before)
    learned(5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("objective", ["implicit", "denoising", "exact"])
def test_the_device_is_read_in_checks_alone(objective, looks, rng):
    """The number of readings is that of the checks, however many steps there are."""
    target = separated(2, distance=4.0)
    x, held_out = target.draws(400, rng), target.draws(100, rng)
    one = GaussianMixture.from_covariances(np.ones(1), x.mean(axis=0)[None], np.cov(x.T)[None])
    counts = []
    for steps in (25, 100):
        config = ScoreLangevin(
            training_steps=steps, objective=objective, trace="hutchinson", learning_rate=1e-6
        )
        looks.clear()
        train_score(LearnedScore(one), x, held_out, config, rng, target(x)[1])
        counts.append(len(looks))
    assert 0 < counts[1] <= counts[0]
