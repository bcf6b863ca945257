"""Training of controls: what it gains, what it may cost, and what it reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from densities import Banana, SkewNormals, assert_covers

from pymc_multimodal.gallery import skew_normal_mixture
from pymc_multimodal.proposals import LRDS, ControlNetwork
from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.lrds import path_ess
from pymc_multimodal.proposals.torch_setup import seeded
from pymc_multimodal.target.density import Density

# A minimum above 1 trains whatever the reference.
QUICK = ControlNetwork(
    hidden=16, regression_steps=50, steps=5, rounds=2, evaluations=3000, min_acceptance=2.0
)


def whole(x):
    """One region."""
    return np.zeros(len(x), int)


def test_training_gains_on_a_banana(learn, rng):
    """From one Gaussian: fresh draws of the target show it, and the log ratios stay exact."""
    target = Banana(2)
    network = ControlNetwork(
        hidden=32, regression_steps=800, steps=200, rounds=3, evaluations=20_000,
        min_acceptance=2.0,
    )  # fmt: skip
    config = LRDS(reference="gaussian", steps=6, network=network)
    q = learn(config, target, whole, 1, draws=200)
    training = q.training
    assert training.kept
    assert q.auxiliary
    assert training.evaluations <= 20_000
    assert training.finite_share == 1.0
    x = target.draws(20_000, rng)

    def acceptance(chain):
        return expected_acceptance(chain.log_ratio(x, target.logp(x), rng))

    assert acceptance(q.chain) > 1.15 * acceptance(q.chain.with_control(None))

    def propose(n, rng):
        drawn = q.propose(n, rng)
        return drawn.x, -drawn.minus_log_q

    assert_covers(target, propose, lambda x: -q.minus_log_q(x, rng), rng)


def test_training_on_skewed_draws_raises_the_acceptance(learn):
    """One Gaussian as reference; skewness is what it has wrong."""
    network = ControlNetwork(
        regression_steps=300, steps=40, hidden=32, regression_batch=256, min_acceptance=2.0
    )
    q = learn(LRDS(components=1, network=network), SkewNormals(6), whole, 1, draws=400)
    assert q.training.kept
    assert q.chain.control is not None
    before, after = q.training.acceptance
    assert after > before + 0.03


@pytest.mark.parametrize("loss", ["stepwise", "log-variance", "kl"])
def test_every_loss_runs_and_keeps_only_what_is_better(loss, learn):
    q = learn(LRDS(reference="gaussian", loss=loss, steps=3, network=QUICK), Banana(2), whole, 1)
    before, after = q.training.path_ess if q.training.kept else (0, 0)
    assert after >= before
    assert (q.chain.control is not None) == q.training.kept
    assert 0 < len(q.training.loss) <= QUICK.steps
    assert q.training.evaluations <= QUICK.evaluations
    # The banana has a density everywhere, whichever paths were drawn.
    assert q.training.finite_share == 1.0
    if not q.training.kept:
        assert [s.code for s in q.fallbacks] == ["control"]


def test_the_same_seed_gives_the_same_control(learn):
    config = LRDS(reference="gaussian", steps=3, network=QUICK)
    made = [learn(config, Banana(2), whole, 1, stream=np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(made[0].training.loss, made[1].training.loss)


def test_without_a_density_the_draws_serve(learn, rng):
    config = LRDS(reference="gaussian", steps=3, network=QUICK)
    q = learn(config, Banana(2), whole, 1, density=False)
    assert q.training.evaluations == 0
    assert np.isfinite(q.generate(100, rng)).all()


def test_ends_without_density_are_counted(learn):
    class Half(Banana):
        def __call__(self, x):
            logp, grad = super().__call__(x)
            return np.where(x[:, 0] > 0.4, logp, np.nan), grad

        def draws(self, n, rng):
            x = super().draws(4 * n, rng)
            return x[x[:, 0] > 0.4][:n]

    for loss in ("stepwise", "kl"):
        config = LRDS(reference="gaussian", steps=3, loss=loss, network=replace(QUICK, steps=2))
        q = learn(config, Half(2), whole, 1)
        assert 0.0 < q.training.finite_share < 1.0
        assert np.isfinite(q.training.loss).all()


def test_training_does_not_depend_on_what_is_set_globally(rng):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.set_grad_enabled(False):
            with seeded(rng, torch.device("cpu")) as outside:
                x = torch.ones(2, requires_grad=True)
                assert x.dtype == torch.float32
                (x**2).sum().backward()
                # The user's own code finds everything as it left it, and changes nothing here.
                state = torch.get_rng_state()
                with outside():
                    assert torch.rand(1).dtype == torch.float64
                    assert not torch.is_grad_enabled()
                assert torch.equal(torch.get_rng_state(), state)
                assert torch.get_default_dtype() == torch.float32
                assert torch.is_grad_enabled()
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow  # trains networks on thousands of draws
def test_training_doubles_the_path_ess_of_skew_normals(learn):
    target = skew_normal_mixture()

    class Simple:
        dim, weights, period = target.dim, target.weights, None

        def __call__(self, x):
            return target.log_density(x), np.zeros_like(x)

        def draws(self, n, rng):
            return target.draws(n, rng)

        def density(self, gradient):
            return Density(
                lambda x: (target.log_density(x), None), target.dim, has_gradient=gradient
            )

    rng = np.random.default_rng(0)
    label = lambda x: target.membership(x).argmax(axis=1)  # noqa: E731
    q = learn(LRDS(), Simple(), label, 3, draws=250, stream=rng)
    assert q.training.kept

    def share(chain):
        drawn = chain.draw(40_000, rng)
        return path_ess(target.log_density(drawn.x) - drawn.log_density)

    assert share(q.chain) > 1.6 * share(q.chain.with_control(None))
