"""Diffusion samplers from settings and local draws: exactness, statuses, the whole pipeline."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from densities import HalfSpace, VonMises, assert_covers, exact_local, two_modes

from pymc_multimodal.challenge.settings import Challenge
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import LRDS, ControlNetwork, EnergyNetwork


def test_a_good_reference_is_left_alone(learn, rng):
    target = two_modes(log_z=0.0)
    q = learn(LRDS(), target, HalfSpace().label, 2)
    assert q.training is None
    assert q.fallbacks == ()
    assert not q.auxiliary
    x = q.generate(20_000, rng)
    share = np.mean(HalfSpace().label(x) == 0)
    assert abs(share - target.weights[0]) < 4 * np.sqrt(0.25 / 20_000) + 1e-3


@pytest.mark.parametrize("reference", ["gmm", "ebm"])
def test_a_torus_through_both_references(reference, learn, rng):
    target = VonMises([np.pi, 1.0], [4.0, 6.0], [0.7, 0.3])
    energy = EnergyNetwork(hidden=16, steps=20, batch=8, chains=8)
    config = LRDS(reference=reference, train=False, energy=energy, steps=8)
    q = learn(config, target, lambda x: (np.cos(x[:, 0] - 1.0) > 0.2) * 1, 2)

    def propose(n, rng):
        drawn = q.propose(n, rng)
        return drawn.x, -drawn.minus_log_q

    assert_covers(target, propose, lambda x: -q.minus_log_q(x, rng), rng)


def test_published_proposals_are_exact_with_their_corrections(learn, rng):
    target = two_modes(log_z=0.0)
    q = learn(LRDS.published(steps=10, train=False), target, HalfSpace().label, 2)

    def propose(n, rng):
        drawn = q.propose(n, rng)
        return drawn.x, -drawn.minus_log_q

    assert_covers(target, propose, lambda x: -q.minus_log_q(x, rng), rng)


def test_a_reference_that_misses_a_mode_says_so(learn, rng):
    """One component for two modes, one of which hardly counts; draws stay exact."""
    target = two_modes(distance=12.0, weights=(0.9995, 0.0005), log_z=0.0)
    q = learn(LRDS(components=1, train=False), target, HalfSpace().label, 2)
    assert [(s.code, s.mode) for s in q.fallbacks] == [("reference", 1)]
    x = q.propose(20_000, rng).x
    assert np.any(HalfSpace().label(x) == 1), "the defensive share reaches it"


def test_degenerate_draws_do_not_break_the_reference(rng):
    """A coordinate that does not vary: covariances are singular."""
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    flat = tuple(np.concatenate([x, np.ones_like(x[..., :1])], axis=2) for x in local.x)
    centre = np.concatenate([local.centre, np.ones((2, 1))], axis=1)
    local = replace(local, x=flat, centre=centre, grad=tuple(x[..., :0] for x in local.x))
    config = LRDS(train=False)
    fitted = config.regional.fit_regions(local, np.full(3, np.inf), rng)
    q = config.build(fitted, local, target.weights, rng)
    x = q.generate(1_000, rng)
    np.testing.assert_allclose(x[:, 2], 1.0, atol=1e-2)
    assert np.isfinite(q.minus_log_q(x, rng)).all()


@pytest.mark.parametrize("reference", ["gmm", "ebm"])
def test_a_training_that_fails_leaves_the_mixture(reference, learn, rng, monkeypatch, caplog):
    """The cause is in the status, and where it was raised in the log."""
    import pymc_multimodal.proposals.torch_setup as setup

    def broken(name, work):
        raise RuntimeError("the device is gone.\nA page about it follows.")

    monkeypatch.setattr(setup, "device_of", broken)
    config = LRDS(reference=reference, network=ControlNetwork(min_acceptance=2.0))
    with caplog.at_level(logging.DEBUG, logger="pymc.multimodal"):
        q = learn(config, two_modes(log_z=0.0), HalfSpace().label, 2)
    assert {s.code for s in q.fallbacks} == {"control"}
    assert all("the device is gone." in s.cause for s in q.fallbacks)
    assert any(record.exc_info for record in caplog.records)
    assert q.training is None
    assert np.isfinite(q.generate(100, rng)).all()


def test_no_training_is_begun_beyond_a_limit(learn):
    class Closed:
        def __init__(self, target):
            self.target = target

        def __getattr__(self, name):
            return getattr(self.target, name)

        def __call__(self, x):
            return self.target(x)

        def density(self, gradient):
            density = self.target.density(gradient=gradient)
            density.exhausted = lambda: True
            return density

    config = LRDS(reference="ebm", network=ControlNetwork(min_acceptance=2.0))
    q = learn(config, Closed(two_modes(log_z=0.0)), HalfSpace().label, 2)
    assert [s.code for s in q.fallbacks] == ["control"]
    assert "a limit of the fit was reached" in q.fallbacks[0].cause
    assert q.training is None


def test_models_without_gradients_never_meet_one(rng):
    """The whole pipeline, with LRDS by default, from densities alone."""
    target = two_modes(log_z=0.0)
    density = target.density(gradient=False)

    def forbidden(x):
        raise AssertionError("a gradient was asked for")

    density.logp_and_grad = forbidden
    challenge = Challenge(share=0.01, min_evals=4000, climbs=16)
    fit = fit_density(density, FitConfig(random_seed=3, challenge=challenge))
    assert density.n_grad_evals == 0
    assert fit.config.generator_for(density) == LRDS()
    order = np.argsort(-target.weights)
    error = (fit.weights.weight - target.weights[order]) / fit.weights.weight_se
    assert np.abs(error).max() < 4
