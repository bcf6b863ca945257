"""Networks of regions: exact transports, their training, and their densities."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from densities import (
    Banana,
    SkewNormals,
    Target,
    gaussian,
    random_layer,
    z_scores,
)
from hypothesis import settings

from pymc_multimodal.proposals import (
    EllipticalMixture,
    FlowDensity,
    Network,
    RegionalMixture,
)
from pymc_multimodal.proposals.elliptical import defensive_mixture, student_t
from pymc_multimodal.proposals.elliptical_fit import fit_gaussian
from pymc_multimodal.proposals.flow import FlowDraws, FlowError, fit_flow

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SMALL = Network(steps=250, hidden=(32, 32))


class NealFunnel(Target):
    """Effects whose log standard deviation is the first coordinate."""

    def __init__(self, dim=4, sd=0.7):
        self.dim, self.sd = dim, sd

    def __call__(self, x):
        v, effects = x[:, 0], x[:, 1:]
        squares = (effects**2).sum(axis=1) * np.exp(-2 * v)
        logp = -0.5 * (v / self.sd) ** 2 - (self.dim - 1) * v - 0.5 * squares
        logp -= np.log(self.sd) + 0.5 * self.dim * np.log(2 * np.pi)
        slope = -v / self.sd**2 - (self.dim - 1) + squares
        return logp, np.column_stack([slope, -effects * np.exp(-2 * v)[:, None]])

    def draws(self, n, rng):
        x = rng.standard_normal((n, self.dim))
        x[:, 0] *= self.sd
        x[:, 1:] *= np.exp(x[:, :1])
        return x


def line(d):
    return np.full(d, np.inf)


def trained(target, n, seed, network=SMALL, *, gradient=True, previous=None, held_out=400):
    """A flow fitted to n exact draws; its draws and the network's seed follow from `seed`."""
    rng = np.random.default_rng(seed)
    x, other = target.draws(n, rng), target.draws(held_out, rng)
    grad = target(x)[1] if gradient is True else gradient
    defensive = student_t(x, line(target.dim), np.zeros(target.dim))
    draws = FlowDraws(x, None if gradient is False else grad, other)
    q = fit_flow(draws, defensive, 0.05, network, rng, previous)
    return q, x, other


def everywhere(x):
    return np.zeros(len(x), dtype=int)


@pytest.fixture(scope="module")
def banana():
    """A banana and a flow that was fitted to 2,000 of its draws."""
    target = Banana(2)
    return target, *trained(target, 2_000, 1, replace(SMALL, steps=400))


def untrained(d, rng, *, share=0.05, wide=0.05, far=0.0):
    """A transport of random weights, its heavy-tailed part `far` away."""
    defensive = EllipticalMixture.single(np.full(d, far), np.eye(d), 4.0, line(d), np.zeros(d))
    z, layers = rng.standard_normal((1_000, d)), []
    for _ in range(2):
        layers.append(random_layer(d, rng, size=0.5).bounded(z))
        z = layers[-1].forward(z)[0]
    return FlowDensity(np.zeros(d), np.eye(d), tuple(layers), defensive, share, wide)


# ------------------------------------------------------------------ torch and NumPy


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("d", [2, 7, 20])
def test_numpy_has_the_density_that_torch_trains(d, torch, rng):
    from pymc_multimodal.proposals.flow import training

    settings_ = Network(hidden=(16, 8), transforms=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        flow = training.make_flow(d, settings_, None)
        with torch.no_grad():
            for p in flow.parameters():
                p.add_(0.3 * torch.randn_like(p))
    layers = tuple(training.layers_of(flow))
    q = untrained(d, rng)
    q = FlowDensity(q.mean, q.scale, layers, q.defensive, 0.0, 0.0)
    x = 1.5 * rng.standard_normal((200, d))
    single = flow().log_prob(torch.as_tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(q.log_flow(x), single, rtol=1e-4, atol=1e-4)
    double = flow.double()().log_prob(torch.as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(q.log_flow(x), double, rtol=1e-9, atol=1e-9)
    z = rng.standard_normal((50, d))
    theirs = flow().transform.inv(torch.as_tensor(z)).detach().numpy()
    ours = z
    for layer in reversed(layers):
        ours = layer.inverse(ours)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)
    again = training.make_flow(d, settings_, layers)
    for one, two in zip(layers, training.layers_of(again), strict=True):
        np.testing.assert_allclose(one.forward(x)[0], two.forward(x)[0], rtol=1e-6, atol=1e-6)


def test_training_leaves_torch_as_it_was(torch):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    try:
        trained(Banana(2), 200, 0, Network(steps=5, hidden=(8,)))
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)


def test_seeds_of_gpus_are_left_alone_on_the_cpu(torch, monkeypatch, rng):
    """fork_rng would not put them back, and a GPU may be in use by others."""
    from pymc_multimodal.proposals.torch_setup import seeded

    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, lambda seed: pytest.fail("a GPU was seeded"))
    before = torch.get_rng_state()
    with seeded(rng, torch.device("cpu")):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(np.random.default_rng(0), torch.device("cpu")):
        one = torch.rand(3)
    with seeded(np.random.default_rng(0), torch.device("cpu")):
        assert torch.equal(torch.rand(3), one)
    assert not torch.equal(first, one)


# ------------------------------------------------------------------ training


def test_a_flow_learns_a_banana(banana):
    target, q, x, held_out = banana
    test = target.draws(5_000, np.random.default_rng(7))
    base = fit_gaussian(x, target(x)[1], held_out, line(2), np.zeros(2))
    gain = q.log_density(test) - base.log_density(test)
    assert z_scores(gain, 0.4) > 0, "four tenths of a nat"
    lost = target.logp(test) - q.undefended.log_density(test)
    assert z_scores(lost, 0.05) < 0, "the transport itself is within a twentieth"
    # The heavy-tailed and the wide part take a twentieth each.
    assert np.mean(target.logp(test) - q.log_density(test)) < 0.05 - 2 * np.log(0.95)


@pytest.mark.parametrize(
    "target",
    [
        NealFunnel(4),
        # A second training.
        pytest.param(SkewNormals(4, 5.0), marks=pytest.mark.slow),
    ],
    ids=["funnel", "skew_normals"],
)
def test_gradients_make_few_draws_go_a_long_way(target):
    test = target.draws(4_000, np.random.default_rng(8))
    gains = []
    for seed in (1, 2):
        plain, score = (
            trained(target, 250, seed, replace(SMALL, steps=150, score_weight=w), held_out=120)[0]
            for w in (0.0, 1.5)
        )
        gains.append(score.log_density(test) - plain.log_density(test))
    assert z_scores(np.mean(gains, axis=0), 0.0) > 4


def test_the_same_seed_gives_the_same_density(rng):
    x = rng.standard_normal((50, 3))
    brief = replace(SMALL, steps=20)
    a, b, c = (trained(Banana(3), 300, seed, brief)[0].log_density(x) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_a_networks_seed_alone_changes_it(banana, rng):
    _, _, x, held_out = banana
    defensive = student_t(x, line(2), np.zeros(2))
    a, b = (
        fit_flow(
            FlowDraws(x, None, held_out),
            defensive,
            0.05,
            replace(SMALL, steps=10),
            np.random.default_rng(seed),
        )
        for seed in (1, 2)
    )
    assert np.abs(a.log_density(x) - b.log_density(x)).max() > 1e-6


def test_a_warm_start_goes_on_from_where_it_was(banana):
    target, before, *_ = banana
    q, _, held_out = trained(target, 1_000, 5, replace(SMALL, steps=60), previous=before)
    assert q.mean is before.mean
    assert q.scale is before.scale
    # Held-out draws choose among the course and its start; bounds are set afterwards.
    was, now = (np.mean(part.undefended.log_density(held_out)) for part in (before, q))
    assert now > was - 1e-2
    test = target.draws(5_000, np.random.default_rng(9))
    assert (
        z_scores(q.undefended.log_density(test) - before.undefended.log_density(test), -0.01) > -4
    )


def test_what_cannot_be_trained_is_said(rng):
    with pytest.raises(FlowError, match="one coordinate"):
        trained(gaussian([0.0], np.eye(1)), 200, 0)
    with pytest.raises(FlowError, match="99 draws are too few"):
        trained(Banana(2), 99, 0)
    with pytest.raises(FlowError, match="119 draws are too few"):
        trained(gaussian(np.zeros(60), np.eye(60)), 119, 0)


class Broken(Banana):
    """One of its draws is no number."""

    def draws(self, n, rng):
        x = super().draws(n, rng)
        x[3, 1] = np.nan
        return x


def test_draws_that_are_no_numbers_are_no_start():
    x = Broken(2).draws(300, np.random.default_rng(0))
    good = Banana(2).draws(300, np.random.default_rng(0))
    defensive = student_t(good, line(2), np.zeros(2))
    with pytest.raises((FlowError, ValueError)):
        fit_flow(FlowDraws(x, None, good), defensive, 0.05, SMALL, np.random.default_rng(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_whose_gradients_are_no_numbers_are_left_out(bad, rng):
    target, brief = Banana(2), replace(SMALL, steps=30)
    x, draws = rng.standard_normal((20, 2)), target.draws(300, rng)
    grad, kept = target(draws)[1], np.arange(300) != 7
    defensive = student_t(draws, line(2), np.zeros(2))

    def fitted(rows, grad):
        rng = np.random.default_rng(0)
        part = FlowDraws(draws[rows], grad[rows], draws[:99])
        q = fit_flow(part, defensive, 0.05, brief, rng)
        return q.log_density(x)

    without = fitted(kept, grad)
    grad[7] = bad
    np.testing.assert_array_equal(fitted(np.full(300, True), grad), without)


# ------------------------------------------------------------------ what a flow density is


def test_undefended_is_the_transport_alone(banana):
    _, q, *_ = banana
    core = q.undefended
    assert core.share == core.wide == 0
    assert q.share > 0
    assert q.wide > 0
    axis = np.arange(-12, 12, 0.04)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.isclose(np.exp(core.log_density(x)).sum() * 0.04**2, 1.0, atol=2e-3)
    np.testing.assert_allclose(core.log_density(x[:100]), core.log_flow(x[:100]))


def test_generate_leaves_the_heavy_tails_out(rng):
    parts = (
        untrained(2, rng, far=1e6),
        with_defence_at(1e6),
    )
    q = RegionalMixture(parts, np.array([0.5, 0.5]))
    n = 4_000
    assert np.abs(q.generate(n, rng)).max() < 1e3
    far = (np.abs(q.propose(n, rng).x) > 1e5).any(axis=1)
    assert abs(far.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / n)


def with_defence_at(far):
    one = EllipticalMixture.single(np.zeros(2), np.eye(2), np.inf, line(2), np.zeros(2))
    q = defensive_mixture(one)
    q.means[-1] += far
    return q


def test_a_pickled_flow_is_the_same(banana, rng):
    _, q, x, _ = banana
    again = pickle.loads(pickle.dumps(q))
    np.testing.assert_array_equal(again.log_density(x), q.log_density(x))
    np.testing.assert_array_equal(
        again.sample(500, np.random.default_rng(1)), q.sample(500, np.random.default_rng(1))
    )


def test_draws_stay_near_the_data_in_many_dimensions():
    """Regression: what one coordinate got wrong the next ones amplified, up to 1e30."""
    target = SkewNormals(20, 4.0)
    q, x, _ = trained(target, 300, 4, replace(SMALL, steps=200), held_out=150)
    drawn = q.undefended.sample(50_000, np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    spread = np.abs(x - x.mean(axis=0)).max()
    assert np.abs(drawn - x.mean(axis=0)).max() < 10 * spread
